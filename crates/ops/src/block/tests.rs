//! Tests of half-blocks: one fused operation against a composition.

use std::sync::Arc;

use candle_core::{Device, Var};

use super::*;
use crate::grad_accumulator::GradAccumulator;
use crate::layers::NormType;
use crate::testing::{numbers, var};
use crate::{Activation, Attention, Backward, DropoutKey, Precision, RotaryTables};

struct Made {
    vars: Vec<Var>,
}

impl Made {
    fn get(&mut self, shape: &[usize]) -> Tensor {
        let var = var(shape, self.vars.len() as u32 + 1);
        self.vars.push(Var::from_tensor(&(var.as_tensor() * 0.5).unwrap()).unwrap());
        self.vars.last().unwrap().as_tensor().clone()
    }

    fn linear(&mut self, out: usize, width: usize, bias: bool) -> Linear {
        Linear { weight: self.get(&[out, width]), bias: bias.then(|| self.get(&[out])) }
    }

    fn norm(&mut self, kind: NormType, width: usize, bias: bool) -> Norm {
        Norm { kind, weight: self.get(&[width]), bias: bias.then(|| self.get(&[width])), eps: 1e-5 }
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Compares the value and the gradients of the input and all parameters.
fn agree(made: &Made, x: &Var, precision: Precision, forward: impl Fn(&Context, &Tensor) -> Result<Tensor>) {
    let weights = Tensor::from_vec(numbers(x.elem_count(), 99), x.shape(), &Device::Cpu).unwrap();
    let run = |backward: Backward| {
        // The block's input is the output of another operation, as in a model.
        let y = forward(&Context { precision, backward }, &(x.as_tensor() * 1.0).unwrap()).unwrap();
        let store = (&y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
        (values(&y), store)
    };
    let (apart, store) = run(Backward::Store);
    let gradients = GradAccumulator::new(made.vars.iter().map(Var::as_tensor));
    let (one, rest) = run(Backward::Accumulate(gradients.clone()));
    let near = |a: &[f32], b: &[f32], what: &str| {
        assert_eq!(a.len(), b.len());
        let scale = b.iter().fold(1.0f32, |m, x| m.max(x.abs()));
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 2e-6 * scale, "{what}: {worst} of {scale}");
    };
    near(&one, &apart, "value");
    near(&values(rest.get(x).unwrap()), &values(store.get(x).unwrap()), "input");
    for (i, var) in made.vars.iter().enumerate() {
        near(&gradients.get(i).unwrap(), &values(store.get(var).unwrap()), &format!("parameter {i}"));
    }
    let y = forward(&Context::default().inference_mode(), &(x.as_tensor() * 1.0).unwrap()).unwrap();
    let (inference, none) = (values(&y), y.sum_all().unwrap().backward());
    if precision == Precision::F32 {
        near(&inference, &apart, "inference");
    }
    assert!(none.is_err(), "no activations are saved in inference mode");
}

#[test]
fn the_fused_operation_agrees_with_the_composition() {
    let (b, t, c) = (3, 5, 8);
    let key = DropoutKey { seed: 1, site: 4, first_row: 2 };
    for precision in [Precision::F32, Precision::Bf16] {
        for (norm, bias, drop, modern) in [
            (NormType::LayerNorm, true, None, false),
            (NormType::RmsNorm, false, Some(DropoutConfig { p: 0.25, key }), true),
            (NormType::LayerNorm, true, Some(DropoutConfig { p: 0.5, key }), true),
        ] {
            let x = var(&[b * t, c], 7);
            let rotary = modern.then(|| Arc::new(RotaryTables::new(t, 4, 10.0)));
            let attention = Attention { n_head: 2, n_kv_head: 1, rotary, qk_norm: modern };
            let activations = [Activation::Gelu, Activation::Relu2, Activation::SwiGlu];
            let mlp = activations.map(|kind| (kind.inputs(12), BranchKind::Activation(kind), 12));
            for (inputs, kind, outputs) in
                [(c + 8, BranchKind::Attention(attention), c)].into_iter().chain(mlp)
            {
                let mut made = Made { vars: Vec::new() };
                let branch = Branch {
                    norm: made.norm(norm, c, bias),
                    inner: made.linear(inputs, c, bias),
                    kind,
                    proj: made.linear(c, outputs, bias),
                };
                let both = [branch.clone(), branch];
                for branches in [&both[..1], &both] {
                    agree(&made, &x, precision, |context, x| {
                        Branch::forward_all(branches, context, x, b, |_| drop)
                    });
                }
            }
        }
    }
}
