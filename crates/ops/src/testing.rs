//! Helpers of this crate's tests.

use candle_core::{DType, Device, Tensor, Var};

/// Pseudo-random numbers in [−1, 1), the same on every machine.
pub(crate) fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// A variable of [`numbers`].
pub(crate) fn var(shape: &[usize], seed: u32) -> Var {
    let values = numbers(shape.iter().product(), seed);
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// The same numbers as another variable, in f64.
pub(crate) fn double(var: &Var) -> Var {
    Var::from_tensor(&var.to_dtype(DType::F64).unwrap()).unwrap()
}

/// The elements of a tensor of any float type.
pub(crate) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Compares f32 results with those in f64.
pub(crate) fn close(a: &[f64], b: &[f64], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() < 5e-6 * y.abs().max(1.0), "{what}: {x} and {y}");
    }
}
