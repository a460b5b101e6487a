//! Causal multi-head attention (Vaswani et al. 2017) over packed queries, keys and values.
//!
//! ```text
//! P = softmax(Q Kᵀ / √d), causal      Y = P V
//! dV = Pᵀ dY      dP = dY Vᵀ      dS = P ∘ (dP − rowsum(dY ∘ Y)) / √d      dQ = dS K      dK = dSᵀ Q
//! ```
//!
//! Processes one query block of one head against all visible keys, so no T × T matrix is stored
//! (Dao et al. 2022). Saves only the log-sum-exp (B, H, T); backward recomputes P. Groups of query
//! heads may share keys and values (Ainslie et al. 2023).

use pulp::{Simd, WithSimd};

use crate::elementary::Elementary;
use crate::exp::exp_nonpositive;
use crate::matmul::{Matrix, MatrixMut, matmul};
use crate::reduce;
use crate::simd::Isa;

/// Sizes of an attention call. The width of a head is d = C / H.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// B, sequences.
    pub batch: usize,
    /// T, tokens per sequence.
    pub seq_len: usize,
    /// C, the width of the model.
    pub n_embd: usize,
    /// H, query heads.
    pub n_head: usize,
    /// G, key-value heads; a divisor of H.
    pub n_kv_head: usize,
}

impl AttentionShape {
    /// d, the width of a head.
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// C + 2·G·d, the width of a row of concatenated queries, keys and values.
    pub fn packed_width(&self) -> usize {
        self.n_embd + 2 * self.n_kv_head * self.head_dim()
    }

    /// B · H · T, the length of the log-sum-exp.
    pub fn lse_len(&self) -> usize {
        self.batch * self.n_head * self.seq_len
    }

    /// Queries per block. Smaller blocks waste less on masked keys within the block.
    fn block(&self) -> usize {
        if self.seq_len > 128 { 64 } else { 32 }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim() as f32).sqrt()
    }

    /// Offsets within a row of the query, key and value of head `h`.
    fn offsets(&self, h: usize) -> [usize; 3] {
        let d = self.head_dim();
        let group = h / (self.n_head / self.n_kv_head);
        [h * d, self.n_embd + group * d, self.n_embd + (self.n_kv_head + group) * d]
    }

    fn check(&self, qkv: &[f32], y: &[f32], lse: &[f32]) {
        assert!(self.n_embd.is_multiple_of(self.n_head) && self.n_head.is_multiple_of(self.n_kv_head));
        assert!(qkv.len() == self.batch * self.seq_len * self.packed_width());
        assert!(y.len() == self.batch * self.seq_len * self.n_embd && lse.len() == self.lse_len());
    }
}

/// Forward pass: `qkv` (B, T, C + 2·G·d) → `y` (B, T, C) and the log-sum-exp `lse` (B, H, T).
///
/// # Panics
/// If the lengths do not match.
pub fn causal_attention(shape: AttentionShape, qkv: &[f32], y: &mut [f32], lse: &mut [f32]) {
    shape.check(qkv, y, lse);
    let AttentionShape { batch, seq_len: t, n_embd: c, n_head, .. } = shape;
    let (d, packed) = (shape.head_dim(), shape.packed_width());
    let mut scores = vec![0.0; shape.block() * t];
    for b in 0..batch {
        let qkv = &qkv[b * t * packed..(b + 1) * t * packed];
        let y = &mut y[b * t * c..(b + 1) * t * c];
        for h in 0..n_head {
            let [q, k, v] = shape.offsets(h);
            let lse = &mut lse[(b * n_head + h) * t..][..t];
            for query_start in (0..t).step_by(shape.block()) {
                let key_end = t.min(query_start + shape.block());
                let rows = key_end - query_start;
                let part = |at: usize, rows: usize| Matrix::strided(&qkv[at..], rows, d, packed);
                let scores = &mut scores[..rows * key_end];
                let keys = part(k, key_end).transposed();
                let queries = part(query_start * packed + q, rows);
                matmul(MatrixMut::new(scores, rows, key_end), false, queries, keys, None);
                let lse = &mut lse[query_start..key_end];
                Isa::current().run(Softmax { scores, key_end, query_start, scale: shape.scale(), lse });
                let into = MatrixMut::strided(&mut y[query_start * c + h * d..], rows, d, c);
                matmul(into, false, Matrix::new(scores, rows, key_end), part(v, key_end), None);
            }
        }
    }
}

/// Causal softmax of a block of scores, in place: row i attends to columns 0..=query_start + i.
struct Softmax<'a> {
    scores: &'a mut [f32],
    key_end: usize,
    query_start: usize,
    scale: f32,
    lse: &'a mut [f32],
}

impl WithSimd for Softmax<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.scores.chunks_exact_mut(self.key_end).zip(self.lse);
        for (i, (row, lse)) in rows.enumerate() {
            let (visible, future) = row.split_at_mut(self.query_start + i + 1);
            let max = reduce::max(simd, visible);
            let sum = reduce::exp_sum_in_place(simd, visible, max, self.scale);
            reduce::scale_add_in_place(simd, visible, 1.0 / sum, 0.0);
            future.fill(0.0);
            *lse = max * self.scale + Elementary::new(simd).ln_f32(sum);
        }
    }
}

/// Backward pass: writes `dqkv`, shaped as `qkv`, from `dy` and the forward pass's results.
///
/// # Panics
/// If the lengths do not match.
pub fn causal_attention_backward(
    shape: AttentionShape,
    qkv: &[f32],
    y: &[f32],
    lse: &[f32],
    dy: &[f32],
    dqkv: &mut [f32],
) {
    shape.check(qkv, y, lse);
    assert!(dqkv.len() == qkv.len() && dy.len() == y.len());
    let AttentionShape { batch, seq_len: t, n_embd: c, n_head, n_kv_head } = shape;
    let (d, packed, block, scale) = (shape.head_dim(), shape.packed_width(), shape.block(), shape.scale());
    let (mut probabilities, mut ds) = (vec![0.0; block * t], vec![0.0; block * t]);
    for b in 0..batch {
        let qkv = &qkv[b * t * packed..(b + 1) * t * packed];
        let dqkv = &mut dqkv[b * t * packed..(b + 1) * t * packed];
        let (y, dy) = (&y[b * t * c..(b + 1) * t * c], &dy[b * t * c..(b + 1) * t * c]);
        for h in 0..n_head {
            let [q, k, v] = shape.offsets(h);
            let lse = &lse[(b * n_head + h) * t..][..t];
            // The last query block sees every key, so it goes first and overwrites dK and dV,
            // unless an earlier head of the group did; the other blocks add to them.
            let mut accumulate = !h.is_multiple_of(n_head / n_kv_head);
            for query_start in (0..t).step_by(block).rev() {
                let key_end = t.min(query_start + block);
                let rows = key_end - query_start;
                let part = |at: usize, rows: usize| Matrix::strided(&qkv[at..], rows, d, packed);
                let (queries, keys) = (part(query_start * packed + q, rows), part(k, key_end));
                let dy_part = Matrix::strided(&dy[query_start * c + h * d..], rows, d, c);
                let (p, ds) = (&mut probabilities[..rows * key_end], &mut ds[..rows * key_end]);
                matmul(MatrixMut::new(p, rows, key_end), false, queries, keys.transposed(), None);
                let values = part(v, key_end).transposed();
                matmul(MatrixMut::new(ds, rows, key_end), false, dy_part, values, None);
                Isa::current().run(SoftmaxBackward {
                    p,
                    ds,
                    key_end,
                    query_start,
                    scale,
                    lse: &lse[query_start..key_end],
                    y: &y[query_start * c + h * d..],
                    dy: &dy[query_start * c + h * d..],
                    head_dim: d,
                    n_embd: c,
                });
                let (p, ds) = (Matrix::new(p, rows, key_end), Matrix::new(ds, rows, key_end));
                let mut out = |at: usize, rows: usize, accumulate: bool, a: Matrix<'_>, b: Matrix<'_>| {
                    matmul(MatrixMut::strided(&mut dqkv[at..], rows, d, packed), accumulate, a, b, None);
                };
                out(query_start * packed + q, rows, false, ds, keys);
                out(k, key_end, accumulate, ds.transposed(), queries);
                out(v, key_end, accumulate, p.transposed(), dy_part);
                accumulate = true;
            }
        }
    }
}

/// Turns scores into P, and dP into dS, in place.
struct SoftmaxBackward<'a> {
    p: &'a mut [f32],
    ds: &'a mut [f32],
    key_end: usize,
    query_start: usize,
    scale: f32,
    lse: &'a [f32],
    /// Starts at this head's columns; the row stride is `n_embd`.
    y: &'a [f32],
    dy: &'a [f32],
    head_dim: usize,
    n_embd: usize,
}

impl WithSimd for SoftmaxBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut products = vec![0.0; self.head_dim];
        let rows = self.p.chunks_exact_mut(self.key_end).zip(self.ds.chunks_exact_mut(self.key_end));
        for (i, ((p, ds), &lse)) in rows.zip(self.lse).enumerate() {
            let at = i * self.n_embd..i * self.n_embd + self.head_dim;
            for ((product, y), dy) in products.iter_mut().zip(&self.y[at.clone()]).zip(&self.dy[at]) {
                *product = y * dy;
            }
            let delta = simd.splat_f32s(reduce::sum(simd, &products));
            let (scale, lse) = (simd.splat_f32s(self.scale), simd.splat_f32s(lse));
            let step = {
                #[inline(always)]
                |p: S::f32s, ds: S::f32s| {
                    // At most 0, except for rounding errors.
                    let x = simd.sub_f32s(simd.mul_f32s(p, scale), lse);
                    let p = exp_nonpositive(simd, simd.min_f32s(x, simd.splat_f32s(0.0)));
                    (p, simd.mul_f32s(simd.mul_f32s(p, simd.sub_f32s(ds, delta)), scale))
                }
            };
            let ((p, p_future), (ds, ds_future)) =
                (p.split_at_mut(self.query_start + i + 1), ds.split_at_mut(self.query_start + i + 1));
            let ((p, p_tail), (ds, ds_tail)) = (S::as_mut_simd_f32s(p), S::as_mut_simd_f32s(ds));
            for (p, ds) in p.iter_mut().zip(ds) {
                (*p, *ds) = step(*p, *ds);
            }
            if !p_tail.is_empty() {
                let (a, b) = step(simd.partial_load_f32s(p_tail), simd.partial_load_f32s(ds_tail));
                simd.partial_store_f32s(p_tail, a);
                simd.partial_store_f32s(ds_tail, b);
            }
            p_future.fill(0.0);
            ds_future.fill(0.0);
        }
    }
}

/// Attention of one query over cached keys and values, those of its own token included.
///
/// `q` and `y` (C), `keys` and `values` (T, G·d).
///
/// # Panics
/// If the lengths do not match, or T = 0.
pub fn causal_attention_step(
    (n_head, n_kv_head): (usize, usize),
    q: &[f32],
    keys: &[f32],
    values: &[f32],
    y: &mut [f32],
) {
    struct Step<'a> {
        n_head: usize,
        n_kv_head: usize,
        q: &'a [f32],
        keys: &'a [f32],
        values: &'a [f32],
        y: &'a mut [f32],
    }
    impl WithSimd for Step<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let d = self.q.len() / self.n_head;
            let c = self.n_kv_head * d;
            let mut product = vec![0.0; d];
            let mut p = vec![0.0; self.keys.len() / c];
            for (h, y) in self.y.chunks_exact_mut(d).enumerate() {
                let q = &self.q[h * d..(h + 1) * d];
                let group = h / (self.n_head / self.n_kv_head);
                for (p, key) in p.iter_mut().zip(self.keys.chunks_exact(c)) {
                    for ((product, q), k) in product.iter_mut().zip(q).zip(&key[group * d..]) {
                        *product = q * k;
                    }
                    *p = reduce::sum(simd, &product);
                }
                let max = reduce::max(simd, &p);
                let sum = reduce::exp_sum_in_place(simd, &mut p, max, 1.0 / (d as f32).sqrt());
                y.fill(0.0);
                for (p, value) in p.iter().zip(self.values.chunks_exact(c)) {
                    let p = p / sum;
                    for (y, v) in y.iter_mut().zip(&value[group * d..]) {
                        *y += p * v;
                    }
                }
            }
        }
    }
    let c = q.len();
    assert!(c.is_multiple_of(n_head) && n_head.is_multiple_of(n_kv_head) && y.len() == c && !keys.is_empty());
    assert!(keys.len() == values.len() && keys.len().is_multiple_of(n_kv_head * (c / n_head)));
    Isa::current().run(Step { n_head, n_kv_head, q, keys, values, y });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_isa;
    use crate::testing::numbers;

    /// The definition in f64.
    fn reference(shape: AttentionShape, qkv: &[f32]) -> Vec<f64> {
        let AttentionShape { batch, seq_len: t, n_embd: c, n_head, .. } = shape;
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
        let shape = AttentionShape { batch: 2, seq_len: 9, n_embd: 12, n_head: 3, n_kv_head: 3 };
        let qkv = numbers(2 * 9 * 36, 7);
        let expected = reference(shape, &qkv);
        for isa in Isa::available() {
            with_isa(isa, || {
                let mut y = vec![0.0; 2 * 9 * 12];
                let mut p = vec![0.0; shape.lse_len()];
                causal_attention(shape, &qkv, &mut y, &mut p);
                for (a, b) in y.iter().zip(&expected) {
                    assert!((f64::from(*a) - b).abs() < 1e-5, "{a} and {b} ({})", isa.name());
                }
                // The last token of the first sequence, from a cache.
                let column = |which: usize| -> Vec<f32> {
                    (0..9).flat_map(|i| qkv[(i * 3 + which) * 12..][..12].to_vec()).collect()
                };
                let mut last = vec![0.0; 12];
                causal_attention_step((3, 3), &qkv[8 * 36..][..12], &column(1), &column(2), &mut last);
                for (a, b) in last.iter().zip(&expected[8 * 12..9 * 12]) {
                    assert!((f64::from(*a) - b).abs() < 1e-5, "{a} and {b} ({})", isa.name());
                }
            });
        }
    }
}
