//! Tests of the fused operations against the unfused ones in f64: values and all gradients.

use std::sync::Arc;

use candle_core::{D, DType, Device, Var};
use surprisal_kernels::simd::{Isa, with_isa};

use super::*;
use crate::layers::{KvCache, NormType};
use crate::testing::{self, double, numbers, values, var};
use crate::{Activation, Attention, Context, DropoutKey, RotaryTables, unfused};

/// Compares `f` in f32 with `oracle` in f64: outputs, and gradients of a weighted sum of them.
fn agree(
    shapes: &[&[usize]],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    oracle: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let single: Vec<Var> = shapes.iter().zip(1..).map(|(shape, seed)| var(shape, seed)).collect();
    let double: Vec<Var> = single.iter().map(double).collect();
    let tensors = |vars: &[Var]| vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>();
    let (y, z) = (f(&tensors(&single)).unwrap(), oracle(&tensors(&double)).unwrap());
    close(&y, &z, "value");
    let weights = Tensor::from_vec(numbers(y.elem_count(), 99), y.shape(), &Device::Cpu).unwrap();
    let one = (&y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    let two = (&z * weights.to_dtype(DType::F64).unwrap()).unwrap().sum_all().unwrap().backward().unwrap();
    for (i, (s, d)) in single.iter().zip(&double).enumerate() {
        close(one.get(s).unwrap(), two.get(d).unwrap(), &format!("gradient {i}"));
    }
}

fn close(a: &Tensor, b: &Tensor, what: &str) {
    assert_eq!(a.dims(), b.dims(), "{what}");
    testing::close(&values(a), &values(b), what);
}

#[test]
fn linear_agrees() {
    for (n, i, o) in [(1, 1, 1), (5, 7, 3), (33, 17, 40)] {
        for arguments in [2, 3] {
            agree(
                &[&[n, i][..], &[o, i], &[o]][..arguments],
                |a| crate::linear(&Context::default(), &a[0], &a[1], a.get(2)),
                |a| unfused::linear(&a[0], &a[1], a.get(2)),
            );
        }
    }
}

#[test]
fn embedding_agrees() {
    let ids = Tensor::new(&[3u32, 0, 3, 1], &Device::Cpu).unwrap();
    agree(
        &[&[5, 9]],
        |a| crate::embedding(&Context::default(), &ids, &a[0]),
        |a| unfused::embedding(&ids, &a[0]),
    );
    let table = Tensor::zeros((3, 2), DType::F32, &Device::Cpu).unwrap();
    assert!(crate::embedding(&Context::default(), &ids, &table).is_err());
}

#[test]
fn norms_agree() {
    for (n, c) in [(1, 2), (4, 19), (9, 64)] {
        for (kind, bias) in
            [(NormType::LayerNorm, false), (NormType::LayerNorm, true), (NormType::RmsNorm, false)]
        {
            let shapes = [&[n, c][..], &[c], &[c]];
            agree(
                &shapes[..if bias { 3 } else { 2 }],
                |a| norm(&Context::default(), kind, &a[0], &a[1], a.get(2), 1e-5),
                |a| unfused::norm(kind, &a[0], &a[1], a.get(2), 1e-5),
            );
        }
    }
}

#[test]
fn attention_agrees() {
    for (b, t, n_head, n_kv_head, d) in
        [(1, 1, 1, 1, 2), (2, 5, 3, 3, 4), (3, 17, 2, 1, 8), (1, 70, 4, 2, 6), (1, 150, 2, 2, 4)]
    {
        let rotary = Some(Arc::new(RotaryTables::new(t + 3, d, 100.0)));
        for (rotary, qk_norm) in [(None, false), (rotary.clone(), false), (None, true), (rotary, true)] {
            let attention = Attention { n_head, n_kv_head, rotary, qk_norm };
            agree(
                &[&[b, t, (n_head + 2 * n_kv_head) * d]],
                |a| crate::causal_attention(&a[0], &attention),
                |a| unfused::causal_attention(&a[0], &attention),
            );
        }
    }
    let qkv = Tensor::zeros((1, 2, 10), DType::F32, &Device::Cpu).unwrap();
    assert!(crate::causal_attention(&qkv, &Attention::plain(2)).is_err());
}

#[test]
fn attention_token_by_token_is_attention() {
    let (t, d) = (9, 4);
    let rotary = Some(Arc::new(RotaryTables::new(t, d, 100.0)));
    let attention = Attention { n_head: 4, n_kv_head: 2, rotary, qk_norm: true };
    let qkv = Tensor::from_vec(numbers(t * 32, 5), (1, t, 32), &Device::Cpu).unwrap();
    let whole: Vec<f32> =
        crate::causal_attention(&qkv, &attention).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let qkv: Vec<f32> = qkv.flatten_all().unwrap().to_vec1().unwrap();
    let mut cache = KvCache::default();
    for i in 0..t {
        let y = causal_attention_step(&attention, &qkv[i * 32..(i + 1) * 32], i, &mut cache).unwrap();
        for (a, b) in y.iter().zip(&whole[i * 16..(i + 1) * 16]) {
            assert!((a - b).abs() < 1e-5, "token {i}: {a} and {b}");
        }
    }
}

#[test]
fn activations_agree() {
    for activation in [Activation::Gelu, Activation::Relu2, Activation::SwiGlu] {
        agree(
            &[&[7, 34]],
            |a| crate::activation(&(&a[0] * 4.0)?, activation),
            |a| unfused::activation(&(&a[0] * 4.0)?, activation),
        );
    }
    let odd = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(crate::activation(&odd, Activation::SwiGlu).is_err());
}

#[test]
fn dropout_and_softcap_agree() {
    let key = DropoutKey { seed: 5, site: 2, first_row: 3 };
    agree(&[&[3, 5, 7]], |a| crate::dropout(&a[0], 0.3, key), |a| unfused::dropout(&a[0], 0.3, key));
    agree(
        &[&[4, 9]],
        |a| crate::softcap(&(&a[0] * 20.0)?, 15.0),
        |a| unfused::softcap(&(&a[0] * 20.0)?, 15.0),
    );
}

#[test]
fn portable_replacements_of_candle_operations_agree_with_them() {
    let portable = |f: fn(&Tensor) -> Result<Tensor>, x: &Tensor| with_isa(Isa::PORTABLE, || f(x));
    agree(&[&[4, 9]], |a| portable(crate::tanh, &a[0]), |a| a[0].tanh());
    let x = (Tensor::from_vec(numbers(36, 3), (2, 2, 9), &Device::Cpu).unwrap() * 9.0).unwrap();
    let oracle = candle_nn::ops::log_softmax(&x.to_dtype(DType::F64).unwrap(), D::Minus1).unwrap();
    close(&portable(crate::log_softmax, &x).unwrap(), &oracle, "log-softmax");
}
