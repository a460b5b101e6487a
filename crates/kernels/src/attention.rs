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
