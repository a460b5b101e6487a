//! Causal multi-head attention (Vaswani et al. 2017) over packed queries, keys and values.
//!
//! ```text
//! P = softmax(Q Kᵀ / √d) over the positions not in the future      Y = P V
//! dV = Pᵀ dY      dP = dY Vᵀ      dS = P ∘ (dP − rowsum(dP ∘ P)) / √d      dQ = dS K      dK = dSᵀ Q
//! ```
//!
//! One row of the batch and one head at a time; the probabilities are kept for the backward pass.

use pulp::{Simd, WithSimd};

use crate::matmul::{Matrix, MatrixMut, multiply};
use crate::reduce;
use crate::simd::Isa;

/// B rows of T tokens of width C = `n_head` · d.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// B.
    pub batch: usize,
    /// T.
    pub tokens: usize,
    /// C.
    pub width: usize,
    /// Heads.
    pub n_head: usize,
}

impl Shape {
    fn head(&self) -> usize {
        self.width / self.n_head
    }

    /// Elements of the kept probabilities: B · heads · T · T.
    pub fn probabilities(&self) -> usize {
        self.batch * self.n_head * self.tokens * self.tokens
    }
}

/// `qkv` (B, T, 3C): queries, keys, values side by side; writes `y` (B, T, C) and `probabilities` (B, heads, T, T).
///
/// # Panics
/// If the lengths do not fit together.
pub fn causal_attention(shape: Shape, qkv: &[f32], y: &mut [f32], probabilities: &mut [f32]) {
    let Shape { batch, tokens: t, width: c, n_head } = shape;
    assert!(c.is_multiple_of(n_head) && qkv.len() == batch * t * 3 * c && y.len() == batch * t * c);
    assert_eq!(probabilities.len(), shape.probabilities());
    if t == 0 {
        return;
    }
    let d = shape.head();
    let scale = 1.0 / (d as f32).sqrt();
    for b in 0..batch {
        let qkv = &qkv[b * t * 3 * c..(b + 1) * t * 3 * c];
        let y = &mut y[b * t * c..(b + 1) * t * c];
        for h in 0..n_head {
            let part = |which: usize| Matrix::part(&qkv[which * c + h * d..], t, d, 3 * c);
            let p = &mut probabilities[(b * n_head + h) * t * t..][..t * t];
            multiply(MatrixMut::new(p, t, t), false, part(0), part(1).transposed(), None);
            Isa::current().run(Softmax { p, t, scale });
            multiply(MatrixMut::part(&mut y[h * d..], t, d, c), false, Matrix::new(p, t, t), part(2), None);
        }
    }
}

/// Scores to probabilities, row i over columns 0..=i.
struct Softmax<'a> {
    p: &'a mut [f32],
    t: usize,
    scale: f32,
}

impl WithSimd for Softmax<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (i, row) in self.p.chunks_exact_mut(self.t).enumerate() {
            let (seen, future) = row.split_at_mut(i + 1);
            let max = reduce::max(simd, seen);
            let sum = reduce::exp_sum_in_place(simd, seen, max, self.scale);
            reduce::scale_add_in_place(simd, seen, 1.0 / sum, 0.0);
            future.fill(0.0);
        }
    }
}

/// Writes `dqkv` (B, T, 3C) from `dy` (B, T, C) and the kept probabilities.
///
/// # Panics
/// If the lengths do not fit together.
pub fn causal_attention_backward(
    shape: Shape,
    qkv: &[f32],
    probabilities: &[f32],
    dy: &[f32],
    dqkv: &mut [f32],
) {
    let Shape { batch, tokens: t, width: c, n_head } = shape;
    assert!(qkv.len() == batch * t * 3 * c && dqkv.len() == qkv.len() && dy.len() == batch * t * c);
    assert_eq!(probabilities.len(), shape.probabilities());
    if t == 0 {
        return;
    }
    let d = shape.head();
    let scale = 1.0 / (d as f32).sqrt();
    let mut ds = vec![0.0; t * t];
    for b in 0..batch {
        let qkv = &qkv[b * t * 3 * c..(b + 1) * t * 3 * c];
        let dqkv = &mut dqkv[b * t * 3 * c..(b + 1) * t * 3 * c];
        let dy = &dy[b * t * c..(b + 1) * t * c];
        for h in 0..n_head {
            let part = |which: usize| Matrix::part(&qkv[which * c + h * d..], t, d, 3 * c);
            let p = &probabilities[(b * n_head + h) * t * t..][..t * t];
            let dy = Matrix::part(&dy[h * d..], t, d, c);
            multiply(MatrixMut::new(&mut ds, t, t), false, dy, part(2).transposed(), None);
            Isa::current().run(SoftmaxBackward { ds: &mut ds, p, t, scale });
            let ds = Matrix::new(&ds, t, t);
            let mut out = |which: usize, a: Matrix<'_>, b: Matrix<'_>| {
                multiply(MatrixMut::part(&mut dqkv[which * c + h * d..], t, d, 3 * c), false, a, b, None);
            };
            out(0, ds, part(1));
            out(1, ds.transposed(), part(0));
            out(2, Matrix::new(p, t, t).transposed(), dy);
        }
    }
}

/// dP to dS in place.
struct SoftmaxBackward<'a> {
    ds: &'a mut [f32],
    p: &'a [f32],
    t: usize,
    scale: f32,
}

impl WithSimd for SoftmaxBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut product = vec![0.0; self.t];
        for (i, (ds, p)) in self.ds.chunks_exact_mut(self.t).zip(self.p.chunks_exact(self.t)).enumerate() {
            let (seen, future) = ds.split_at_mut(i + 1);
            for ((product, ds), p) in product.iter_mut().zip(&*seen).zip(p) {
                *product = ds * p;
            }
            let dot = reduce::sum(simd, &product[..=i]);
            for (ds, p) in seen.iter_mut().zip(p) {
                *ds = p * (*ds - dot) * self.scale;
            }
            future.fill(0.0);
        }
    }
}

/// One query over the keys and values of all tokens so far, itself included: what sampling needs with a cache.
///
/// `q` and `y` (C), `keys` and `values` (T, C).
///
/// # Panics
/// If the lengths do not fit together, or there is no token.
pub fn attend(n_head: usize, q: &[f32], keys: &[f32], values: &[f32], y: &mut [f32]) {
    struct Attend<'a> {
        n_head: usize,
        q: &'a [f32],
        keys: &'a [f32],
        values: &'a [f32],
        y: &'a mut [f32],
    }
    impl WithSimd for Attend<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let c = self.q.len();
            let d = c / self.n_head;
            let mut product = vec![0.0; d];
            let mut p = vec![0.0; self.keys.len() / c];
            for (h, y) in self.y.chunks_exact_mut(d).enumerate() {
                let q = &self.q[h * d..(h + 1) * d];
                for (p, key) in p.iter_mut().zip(self.keys.chunks_exact(c)) {
                    for ((product, q), k) in product.iter_mut().zip(q).zip(&key[h * d..]) {
                        *product = q * k;
                    }
                    *p = reduce::sum(simd, &product);
                }
                let max = reduce::max(simd, &p);
                let sum = reduce::exp_sum_in_place(simd, &mut p, max, 1.0 / (d as f32).sqrt());
                y.fill(0.0);
                for (p, value) in p.iter().zip(self.values.chunks_exact(c)) {
                    let share = p / sum;
                    for (y, v) in y.iter_mut().zip(&value[h * d..]) {
                        *y += share * v;
                    }
                }
            }
        }
    }
    let c = q.len();
    assert!(c.is_multiple_of(n_head) && y.len() == c && !keys.is_empty());
    assert!(keys.len() == values.len() && keys.len().is_multiple_of(c));
    Isa::current().run(Attend { n_head, q, keys, values, y });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_isa;

    fn numbers(count: usize) -> Vec<f32> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// The definition, in f64.
    fn reference(shape: Shape, qkv: &[f32]) -> Vec<f64> {
        let Shape { batch, tokens: t, width: c, n_head } = shape;
        let d = c / n_head;
        let at =
            |b: usize, i: usize, which: usize, j: usize| f64::from(qkv[((b * t + i) * 3 + which) * c + j]);
        let mut y = vec![0.0; batch * t * c];
        for b in 0..batch {
            for h in 0..n_head {
                for i in 0..t {
                    let score = |k: usize| -> f64 {
                        (h * d..(h + 1) * d).map(|j| at(b, i, 0, j) * at(b, k, 1, j)).sum::<f64>()
                            / (d as f64).sqrt()
                    };
                    let e: Vec<f64> = (0..=i).map(|k| score(k).exp()).collect();
                    let sum: f64 = e.iter().sum();
                    for j in h * d..(h + 1) * d {
                        y[(b * t + i) * c + j] = (0..=i).map(|k| e[k] / sum * at(b, k, 2, j)).sum();
                    }
                }
            }
        }
        y
    }

    #[test]
    fn follows_the_definition_on_every_instruction_set() {
        let shape = Shape { batch: 2, tokens: 9, width: 12, n_head: 3 };
        let qkv = numbers(2 * 9 * 36);
        let expected = reference(shape, &qkv);
        for isa in Isa::available() {
            with_isa(isa, || {
                let mut y = vec![0.0; 2 * 9 * 12];
                let mut p = vec![0.0; shape.probabilities()];
                causal_attention(shape, &qkv, &mut y, &mut p);
                for (a, b) in y.iter().zip(&expected) {
                    assert!((f64::from(*a) - b).abs() < 1e-5, "{a} and {b} ({})", isa.name());
                }
                // The last token of the first row, by way of a cache.
                let column = |which: usize| -> Vec<f32> {
                    (0..9).flat_map(|i| qkv[(i * 3 + which) * 12..][..12].to_vec()).collect()
                };
                let mut last = vec![0.0; 12];
                attend(3, &qkv[8 * 36..][..12], &column(1), &column(2), &mut last);
                for (a, b) in last.iter().zip(&expected[8 * 12..9 * 12]) {
                    assert!((f64::from(*a) - b).abs() < 1e-5, "{a} and {b} ({})", isa.name());
                }
            });
        }
    }
}
