use super::*;
use candle_core::Var;

/// Deterministic values in (−1, 1).
fn values(n: usize, salt: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f64 / 1001.5 - 1.0).collect()
}

fn var(shape: &[usize], salt: usize) -> Var {
    let n = shape.iter().product();
    Var::from_vec(values(n, salt), shape, &Device::Cpu).unwrap()
}

/// Compares the gradient of Σ r ⊙ f(inputs), r fixed, with central differences, in f64.
fn check_gradients(inputs: &[Var], f: impl Fn(&[Var]) -> Result<Tensor>) {
    let out = f(inputs).unwrap();
    let weights = Tensor::from_vec(values(out.elem_count(), 99), out.shape(), &Device::Cpu).unwrap();
    let loss = || (f(inputs).unwrap() * &weights).unwrap().sum_all().unwrap();
    let grads = loss().backward().unwrap();
    let h = 1e-5;
    for (k, input) in inputs.iter().enumerate() {
        let analytic = grads.get(input).expect("a gradient").flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let start = input.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for i in 0..start.len() {
            let at = |delta: f64| {
                let mut moved = start.clone();
                moved[i] += delta;
                input.set(&Tensor::from_vec(moved, input.shape(), &Device::Cpu).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            let numeric = (at(h) - at(-h)) / (2.0 * h);
            let error = (analytic[i] - numeric).abs() / (1.0 + numeric.abs());
            assert!(error < 1e-7, "input {k}, element {i}: {} beside {numeric}", analytic[i]);
        }
        input.set(&Tensor::from_vec(start, input.shape(), &Device::Cpu).unwrap()).unwrap();
    }
}

#[test]
fn gradients_agree_with_differences() {
    check_gradients(&[var(&[3, 4], 1), var(&[5, 4], 2), var(&[5], 3)], |v| linear(&v[0], &v[1], Some(&v[2])));
    check_gradients(&[var(&[3, 4], 1), var(&[4], 2), var(&[4], 3)], |v| {
        norm(NormType::LayerNorm, &v[0], &v[1], Some(&v[2]), 1e-5)
    });
    check_gradients(&[var(&[3, 4], 1), var(&[4], 2)], |v| norm(NormType::RmsNorm, &v[0], &v[1], None, 1e-5));
    check_gradients(&[var(&[2, 3, 12], 1)], |v| causal_attention(&v[0], &Attention::plain(2)));
    let rotary = Some(std::sync::Arc::new(crate::RotaryTables::new(3, 4, 10.0)));
    let modern = Attention { n_head: 2, n_kv_head: 1, rotary, qk_norm: true };
    check_gradients(&[var(&[2, 3, 16], 1)], |v| causal_attention(&v[0], &modern));
    for kind in [Activation::Gelu, Activation::Relu2, Activation::SwiGlu] {
        check_gradients(&[var(&[4, 6], 1)], |v| activation(&(v[0].as_tensor() * 3.0)?, kind));
    }
    check_gradients(&[var(&[2, 3], 1)], |v| softcap(&(v[0].as_tensor() * 3.0)?, 2.0));
    let ids = Tensor::new(&[1u32, 0, 1, 3], &Device::Cpu).unwrap();
    check_gradients(&[var(&[4, 3], 1)], |v| embedding(&ids, &v[0]));
    for cell in [Cell::Lstm, Cell::Gru] {
        let all = cell.gates() * 3;
        let inputs = [var(&[6, 2], 1), var(&[all, 2], 2), var(&[all, 3], 3), var(&[all], 4), var(&[all], 5)];
        let start = vec![0.25; 2 * cell.states() * 3];
        check_gradients(&inputs, |v| {
            let [weight_ih, weight_hh, bias_ih, bias_hh] = [1, 2, 3, 4].map(|i| v[i].as_tensor().clone());
            let weights = RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh };
            Ok(recurrent(cell, &v[0], 2, &weights, Some(&start))?.0)
        });
    }
    let key = DropoutKey { seed: 1, site: 2, first_row: 3 };
    check_gradients(&[var(&[2, 3, 4], 1)], |v| dropout(&v[0], 0.4, key));
}

#[test]
fn attention_never_looks_ahead() {
    let (t, c) = (5, 4);
    let start = values(t * 3 * c, 1);
    let run = |v: Vec<f64>| {
        let qkv = Tensor::from_vec(v, (1, t, 3 * c), &Device::Cpu).unwrap();
        causal_attention(&qkv, &Attention::plain(2)).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    let before = run(start.clone());
    let mut changed = start;
    for x in &mut changed[3 * 3 * c..] {
        *x += 1.0; // positions 3 and 4
    }
    let after = run(changed);
    assert_eq!(before[..3 * c], after[..3 * c]);
    assert_ne!(before[3 * c..], after[3 * c..]);
}

#[test]
fn gelu_at_known_points() {
    // 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), evaluated independently to ten digits.
    let x = Tensor::new(&[-1.0f64, 0.0, 1.0, 3.0], &Device::Cpu).unwrap();
    let y = activation(&x, Activation::Gelu).unwrap();
    let y = y.to_vec1::<f64>().unwrap();
    for (y, expected) in y.iter().zip([-0.158_808_009_4, 0.0, 0.841_191_990_6, 2.996_362_607]) {
        assert!((y - expected).abs() < 1e-8, "{y} beside {expected}");
    }
}

#[test]
fn dropout_does_not_depend_on_the_sharding() {
    let x = Tensor::ones((6, 3, 5), DType::F32, &Device::Cpu).unwrap();
    let at = |first_row| DropoutKey { seed: 11, site: 4, first_row };
    let whole = dropout(&x, 0.3, at(0)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut shards = Vec::new();
    for (first, rows) in [(0, 2), (2, 3), (5, 1)] {
        let shard = dropout(&x.narrow(0, first, rows).unwrap(), 0.3, at(first)).unwrap();
        shards.extend(shard.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }
    assert_eq!(whole, shards);
    let other = dropout(&x, 0.3, DropoutKey { site: 5, ..at(0) }).unwrap();
    assert_ne!(whole, other.flatten_all().unwrap().to_vec1::<f32>().unwrap());
}

#[test]
fn dropout_refuses_a_probability_of_one() {
    let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
    let key = DropoutKey { seed: 0, site: 0, first_row: 0 };
    assert!(crate::dropout(&x, 1.0, key).is_err());
    assert!(crate::dropout(&x, f64::NAN, key).is_err());
}
