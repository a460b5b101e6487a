//! QK-norm without weights (Henry et al. 2020) and rotary embedding (RoPE, Su et al. 2021).
//!
//! ```text
//! n = x · rstd       rstd = 1/√(mean(x²) + ε)
//! y_i = n_i cos − n_{i + d/2} sin       y_{i + d/2} = n_{i + d/2} cos + n_i sin
//! ```
//!
//! The angle is t θ^(−2i/d) at position t, with Llama's pairing of halves. The rotation R is
//! orthogonal, so backward needs only y and rstd: dx = rstd · Rᵀ(dy − y · mean(dy y)).

use pulp::{Simd, WithSimd};

use crate::elementary::Elementary;
use crate::reduce;
use crate::simd::Isa;

/// ε of QK-norm.
pub const EPS: f32 = 1e-6;

/// Tables of cos and sin for every position and pair of a rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryTables {
    /// d/2.
    half: usize,
    /// (T, d/2).
    cos: Vec<f32>,
    /// (T, d/2).
    sin: Vec<f32>,
}

impl RotaryTables {
    /// Tables for `seq_len` positions, an even `head_dim`, and base θ.
    pub fn new(seq_len: usize, head_dim: usize, theta: f64) -> Self {
        let (half, by) = (head_dim / 2, Elementary::current());
        let angle = |t: usize, i: usize| t as f64 * by.powf(theta, -2.0 * i as f64 / head_dim as f64);
        let table = |f: fn(Elementary, f64) -> f64| {
            (0..seq_len).flat_map(|t| (0..half).map(move |i| f(by, angle(t, i)) as f32)).collect()
        };
        Self { half, cos: table(Elementary::cos), sin: table(Elementary::sin) }
    }

    /// cos and sin, each (T, d/2).
    pub fn tables(&self) -> (&[f32], &[f32]) {
        (&self.cos, &self.sin)
    }
}

/// QK-norm and rotary embedding.
#[derive(Debug, Clone, Copy)]
pub struct QkNormRope<'a> {
    /// Applies rotary embedding if present.
    pub rotary: Option<&'a RotaryTables>,
    /// Scales each head to unit mean square.
    pub qk_norm: bool,
}

/// Layout of rows of `stride` elements, whose first `n_heads · head_dim` elements are the heads.
#[derive(Debug, Clone, Copy)]
pub struct HeadLayout {
    /// Row stride.
    pub stride: usize,
    /// Query heads and key heads.
    pub n_heads: usize,
    /// d, the width of a head.
    pub head_dim: usize,
    /// T: row i is at position `start_pos + i mod T`.
    pub seq_len: usize,
    /// Position of a sequence's first row.
    pub start_pos: usize,
}

impl QkNormRope<'_> {
    /// Transforms `x` in place; returns rstd of each head of each row, or nothing without QK-norm.
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn forward(&self, layout: HeadLayout, x: &mut [f32]) -> Vec<f32> {
        let mut rstd = vec![0.0; if self.qk_norm { x.len() / layout.stride * layout.n_heads } else { 0 }];
        assert!(layout.n_heads * layout.head_dim <= layout.stride && x.len().is_multiple_of(layout.stride));
        Isa::current().run(Forward { rope: *self, layout, x, rstd: &mut rstd });
        rstd
    }

    /// Turns `dy` into `dx` in place, from the `y` and `rstd` of [`Self::forward`].
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn backward(&self, layout: HeadLayout, y: &[f32], rstd: &[f32], dy: &mut [f32]) {
        assert!(y.len() == dy.len() && layout.n_heads * layout.head_dim <= layout.stride);
        assert!(!self.qk_norm || rstd.len() == y.len() / layout.stride * layout.n_heads);
        Isa::current().run(Backward { rope: *self, layout, y, rstd, dy });
    }
}

struct Forward<'a> {
    rope: QkNormRope<'a>,
    layout: HeadLayout,
    x: &'a mut [f32],
    rstd: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let HeadLayout { stride, n_heads, head_dim: d, seq_len, start_pos } = self.layout;
        let mut squares = vec![0.0; d];
        for (i, row) in self.x.chunks_exact_mut(stride).enumerate() {
            for (h, x) in row[..n_heads * d].chunks_exact_mut(d).enumerate() {
                if self.rope.qk_norm {
                    for (square, x) in squares.iter_mut().zip(&*x) {
                        *square = x * x;
                    }
                    let r = 1.0 / (reduce::sum(simd, &squares) / d as f32 + EPS).sqrt();
                    for x in x.iter_mut() {
                        *x *= r;
                    }
                    self.rstd[i * n_heads + h] = r;
                }
                if let Some(tables) = self.rope.rotary {
                    apply_rotary(tables, start_pos + i % seq_len, x, 1.0);
                }
            }
        }
    }
}

/// Rotates a head by the angles of position `t`, times `sign`: 1 forward, −1 backward.
#[inline(always)]
fn apply_rotary(tables: &RotaryTables, t: usize, x: &mut [f32], sign: f32) {
    let half = tables.half;
    let (low, high) = x.split_at_mut(half);
    let (cos, sin) = (&tables.cos[t * half..(t + 1) * half], &tables.sin[t * half..(t + 1) * half]);
    for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(cos.iter().zip(sin)) {
        let (a, b, sin) = (*low, *high, sin * sign);
        *low = a * cos - b * sin;
        *high = b * cos + a * sin;
    }
}

struct Backward<'a> {
    rope: QkNormRope<'a>,
    layout: HeadLayout,
    y: &'a [f32],
    rstd: &'a [f32],
    dy: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let HeadLayout { stride, n_heads, head_dim: d, seq_len, start_pos } = self.layout;
        let mut products = vec![0.0; d];
        let rows = self.dy.chunks_exact_mut(stride).zip(self.y.chunks_exact(stride));
        for (i, (dy, y)) in rows.enumerate() {
            let both = dy[..n_heads * d].chunks_exact_mut(d).zip(y.chunks_exact(d));
            for (h, (dy, y)) in both.enumerate() {
                if self.rope.qk_norm {
                    for ((product, dy), y) in products.iter_mut().zip(&*dy).zip(y) {
                        *product = dy * y;
                    }
                    let mean = reduce::sum(simd, &products) / d as f32;
                    let r = self.rstd[i * n_heads + h];
                    for (dy, y) in dy.iter_mut().zip(y) {
                        *dy = r * (*dy - y * mean);
                    }
                }
                if let Some(tables) = self.rope.rotary {
                    apply_rotary(tables, start_pos + i % seq_len, dy, -1.0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_products_depend_on_the_distance_alone() {
        let tables = RotaryTables::new(10, 6, 10_000.0);
        let layout = |start_pos| HeadLayout { stride: 6, n_heads: 1, head_dim: 6, seq_len: 1, start_pos };
        let product = |a: usize, b: usize| -> f32 {
            let (mut x, mut y) = ([0.3, -1.0, 0.5, 0.7, 0.2, -0.4], [1.0, 0.1, -0.6, 0.2, 0.9, 0.3]);
            let rope = QkNormRope { rotary: Some(&tables), qk_norm: false };
            rope.forward(layout(a), &mut x);
            rope.forward(layout(b), &mut y);
            x.iter().zip(&y).map(|(x, y)| x * y).sum()
        };
        assert!((product(7, 4) - product(3, 0)).abs() < 1e-5);
        assert!((product(7, 4) - product(7, 3)).abs() > 1e-3);
    }
}
