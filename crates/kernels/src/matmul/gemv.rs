//! Matrix–vector product, for generating one token. Limited by memory, so nothing is packed.

use pulp::{Simd, WithSimd};

use crate::simd::Isa;

/// Rows computed together, so that each part of the vector is loaded once for all.
const ROWS: usize = 4;

/// Adds `W x` to `y`, for a row-major `weight` (out, in).
///
/// # Panics
/// If the lengths do not match.
pub fn gemv(weight: &[f32], x: &[f32], y: &mut [f32]) {
    assert_eq!(weight.len(), x.len() * y.len());
    if x.is_empty() {
        return;
    }
    Isa::current().run(Gemv { weight, x, y });
}

struct Gemv<'a> {
    weight: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Gemv<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.x.len();
        let rows = self.weight.chunks(ROWS * width).zip(self.y.chunks_mut(ROWS));
        for (weight, y) in rows {
            if y.len() == ROWS {
                dot_rows::<S, ROWS>(simd, weight, self.x, y);
            } else {
                for (weight, y) in weight.chunks_exact(width).zip(y.chunks_exact_mut(1)) {
                    dot_rows::<S, 1>(simd, weight, self.x, y);
                }
            }
        }
    }
}

/// Adds the dot products of `R` rows with `x` to `y`.
#[inline(always)]
fn dot_rows<S: Simd, const R: usize>(simd: S, weight: &[f32], x: &[f32], y: &mut [f32]) {
    let width = x.len();
    let (vectors, tail) = S::as_simd_f32s(x);
    let rows: [(&[S::f32s], &[f32]); R] =
        std::array::from_fn(|i| S::as_simd_f32s(&weight[i * width..(i + 1) * width]));
    let mut sums = [simd.splat_f32s(0.0); R];
    for (k, &x) in vectors.iter().enumerate() {
        for (sum, row) in sums.iter_mut().zip(&rows) {
            *sum = simd.mul_add_e_f32s(row.0[k], x, *sum);
        }
    }
    if !tail.is_empty() {
        let x = simd.partial_load_f32s(tail);
        for (sum, row) in sums.iter_mut().zip(&rows) {
            *sum = simd.mul_add_e_f32s(simd.partial_load_f32s(row.1), x, *sum);
        }
    }
    for (y, sum) in y.iter_mut().zip(sums) {
        *y += simd.reduce_sum_f32s(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_definition_on_every_instruction_set() {
        for isa in Isa::available() {
            for (out, width) in [(1, 1), (3, 7), (4, 16), (9, 37), (6, 130)] {
                let weight: Vec<f32> = (0..out * width).map(|i| (i as f32 * 0.7).sin()).collect();
                let x: Vec<f32> = (0..width).map(|i| (i as f32 * 0.3).cos()).collect();
                let mut y = vec![5.0; out];
                crate::simd::with_isa(isa, || gemv(&weight, &x, &mut y));
                for (row, y) in weight.chunks_exact(width).zip(y) {
                    let exact: f64 = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    assert!((f64::from(y) - 5.0 - exact).abs() < 1e-5 * width as f64, "{}", isa.name());
                }
            }
        }
    }
}
