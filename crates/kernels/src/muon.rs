//! Muon (Jordan et al. 2024): momentum, orthogonalised by Newton–Schulz, for hidden matrices.
//!
//! ```text
//! m = β m + (1 − β) g        u = (1 − β) g + β m           (Nesterov)
//! O = NewtonSchulz(u)        θ = (1 − lr · decay) θ − lr · √max(1, rows/columns) · O
//! ```
//!
//! Five steps X ← a X + (b A + c A²) X with A = X Xᵀ, starting from u/‖u‖, bring all singular
//! values to between 0.7 and 1.2; the coefficients are tuned for speed, not for convergence to 1.

use crate::matmul::{Matrix, MatrixMut, Precision, matmul_with_precision};
use crate::optim::sum_of_squares;

/// Newton–Schulz steps.
const NS_STEPS: usize = 5;
/// The coefficients a, b and c of the iteration.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Muon for one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Learning rate of this step.
    pub lr: f64,
    /// β, the decay of the momentum.
    pub momentum: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Factor on the gradient, for clipping.
    pub grad_scale: f64,
    /// Input precision of the iteration's matmuls.
    pub precision: Precision,
}

impl Muon {
    /// Updates `weights`, a row-major matrix with `columns` columns, and the momentum `m`. `parts`
    /// are the rows of stacked matrices, such as queries and keys, each orthogonalised by itself.
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn update(
        &self,
        weights: &mut [f32],
        gradient: &[f32],
        m: &mut [f32],
        columns: usize,
        parts: &[usize],
    ) {
        assert!(weights.len() == gradient.len() && weights.len() == m.len());
        assert_eq!(parts.iter().sum::<usize>() * columns, weights.len());
        let (beta, scale) = (self.momentum as f32, self.grad_scale as f32);
        for (m, g) in m.iter_mut().zip(gradient) {
            *m = beta * *m + (1.0 - beta) * (g * scale);
        }
        let mut at = 0;
        for &rows in parts {
            let here = at..at + rows * columns;
            at = here.end;
            let mut u: Vec<f32> = gradient[here.clone()]
                .iter()
                .zip(&m[here.clone()])
                .map(|(g, m)| (1.0 - beta) * (g * scale) + beta * m)
                .collect();
            newton_schulz(&mut u, rows, columns, self.precision);
            let decay_factor = (1.0 - self.lr * self.weight_decay) as f32;
            let step_size = (self.lr * (rows as f64 / columns as f64).max(1.0).sqrt()) as f32;
            for (w, u) in weights[here].iter_mut().zip(&u) {
                *w = decay_factor * *w - step_size * u;
            }
        }
    }
}

/// Newton–Schulz iteration on a (rows, columns) matrix, in place. A zero matrix stays zero.
fn newton_schulz(x: &mut [f32], rows: usize, columns: usize, precision: Precision) {
    let norm = sum_of_squares(x).sqrt() as f32 + 1e-7;
    for x in x.iter_mut() {
        *x /= norm;
    }
    // The smaller of X Xᵀ and Xᵀ X, and the factor on that side.
    let wide = rows <= columns;
    let n = rows.min(columns);
    let (mut a, mut square, mut next) = (vec![0.0; n * n], vec![0.0; n * n], vec![0.0; x.len()]);
    let [first, second, third] = COEFFICIENTS;
    for _ in 0..NS_STEPS {
        let view = Matrix::new(x, rows, columns);
        let (left, right) = if wide { (view, view.transposed()) } else { (view.transposed(), view) };
        matmul_with_precision(precision, MatrixMut::new(&mut a, n, n), false, left, right, None);
        let side = Matrix::new(&a, n, n);
        matmul_with_precision(precision, MatrixMut::new(&mut square, n, n), false, side, side, None);
        for (square, a) in square.iter_mut().zip(&a) {
            *square = second * a + third * *square;
        }
        let side = Matrix::new(&square, n, n);
        let (left, right) = if wide { (side, view) } else { (view, side) };
        matmul_with_precision(precision, MatrixMut::new(&mut next, rows, columns), false, left, right, None);
        for (x, next) in x.iter_mut().zip(&next) {
            *x = first * *x + next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn the_result_is_nearly_orthogonal_and_points_the_same_way() {
        for (rows, columns) in [(6, 20), (20, 6), (8, 8)] {
            for precision in [Precision::F32, Precision::Bf16] {
                let start = numbers(rows * columns, 3);
                let mut x = start.clone();
                newton_schulz(&mut x, rows, columns, precision);
                let n = rows.min(columns);
                let at = |i: usize, j: usize| {
                    if rows <= columns { x[i * columns + j] } else { x[j * columns + i] }
                };
                for i in 0..n {
                    let square: f32 = (0..rows.max(columns)).map(|j| at(i, j) * at(i, j)).sum();
                    // A row's square is a mean of squared singular values between 0.7 and 1.2.
                    assert!((0.3..1.6).contains(&square), "{rows} x {columns}: row {i} has {square}");
                    for other in 0..i {
                        let product: f32 = (0..rows.max(columns)).map(|j| at(i, j) * at(other, j)).sum();
                        assert!(product.abs() < 0.45, "{rows} x {columns}: rows {i} and {other}: {product}");
                    }
                }
                // The inner product with the start is a weighted sum of all singular values.
                let along: f32 = x.iter().zip(&start).map(|(x, s)| x * s).sum();
                let norm = (sum_of_squares(&start) as f32).sqrt();
                assert!(along > norm, "{along} for {norm}");
            }
        }
    }

    #[test]
    fn parts_are_matrices_of_their_own_and_decay_is_decoupled() {
        let muon =
            Muon { lr: 0.1, momentum: 0.9, weight_decay: 0.5, grad_scale: 2.0, precision: Precision::F32 };
        let gradient = numbers(12 * 5, 3);
        let start = vec![1.0; 12 * 5];
        let (mut whole, mut m) = (start.clone(), vec![0.0; 60]);
        muon.update(&mut whole, &gradient, &mut m, 5, &[4, 8]);
        for (m, g) in m.iter().zip(&gradient) {
            assert!((m - 0.1 * 2.0 * g).abs() < 1e-6);
        }
        let (mut first, mut m) = (start[..20].to_vec(), vec![0.0; 20]);
        muon.update(&mut first, &gradient[..20], &mut m, 5, &[4]);
        assert_eq!(whole[..20], first);
        let (mut second, mut m) = (start[20..].to_vec(), vec![0.0; 40]);
        muon.update(&mut second, &gradient[20..], &mut m, 5, &[8]);
        assert_eq!(whole[20..], second);
        let (mut still, mut m) = (start, vec![0.0; 60]);
        muon.update(&mut still, &[0.0; 60], &mut m, 5, &[12]);
        assert!(still.iter().all(|w| (w - 0.95).abs() < 1e-6), "{still:?}");
    }
}
