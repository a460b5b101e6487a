//! What happens to queries and keys before they meet: each head's vector may be scaled to unit mean square (QK-norm, Henry et
//! al. 2020, without weights), then turned by its position (RoPE, Su et al. 2021).
//!
//! ```text
//! n = x / √(mean(x²) + ε)       y_i = n_i cos − n_{i + d/2} sin       y_{i + d/2} = n_{i + d/2} cos + n_i sin
//! ```
//!
//! with the angle t θ^(−2i/d) at position t: Llama's pairing of halves. Turning keeps lengths and products, so the gradient
//! needs only y and 1/√…: dx = r Rᵀ(dy − y · mean(dy y)).

use pulp::{Simd, WithSimd};

use crate::elementary::Elementary;
use crate::reduce;
use crate::simd::Isa;

/// ε under the root.
pub const EPS: f32 = 1e-6;

/// cos and sin of every position and pair.
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
    /// For `tokens` positions of heads `width` wide (even), with base θ.
    pub fn new(tokens: usize, width: usize, theta: f64) -> Self {
        let (half, by) = (width / 2, Elementary::current());
        let angle = |t: usize, i: usize| t as f64 * by.powf(theta, -2.0 * i as f64 / width as f64);
        let table = |f: fn(Elementary, f64) -> f64| {
            (0..tokens).flat_map(|t| (0..half).map(move |i| f(by, angle(t, i)) as f32)).collect()
        };
        Self { half, cos: table(Elementary::cos), sin: table(Elementary::sin) }
    }

    /// cos and sin, each (T, d/2).
    pub fn tables(&self) -> (&[f32], &[f32]) {
        (&self.cos, &self.sin)
    }
}

/// Both steps, each of which may be missing.
#[derive(Debug, Clone, Copy)]
pub struct QkNormRope<'a> {
    /// Turn by position.
    pub rotary: Option<&'a RotaryTables>,
    /// Scale to unit mean square.
    pub qk_norm: bool,
}

/// The rows that are worked on: of `stride` elements each, the first `heads · width` of which are heads.
#[derive(Debug, Clone, Copy)]
pub struct HeadLayout {
    /// From one row to the next.
    pub stride: usize,
    /// Queries and keys together.
    pub n_heads: usize,
    /// d.
    pub head_dim: usize,
    /// T: row i stands at position `start_pos + i mod T`.
    pub seq_len: usize,
    /// The position of a sequence's first row.
    pub start_pos: usize,
}

impl QkNormRope<'_> {
    /// In place; returns r of each head of each row if there is a norm.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn forward(&self, rows: HeadLayout, x: &mut [f32]) -> Vec<f32> {
        let mut rstd = vec![0.0; if self.qk_norm { x.len() / rows.stride * rows.n_heads } else { 0 }];
        assert!(rows.n_heads * rows.head_dim <= rows.stride && x.len().is_multiple_of(rows.stride));
        Isa::current().run(Forward { rope: *self, rows, x, rstd: &mut rstd });
        rstd
    }

    /// `dy` becomes `dx`, from the `y` that [`Self::forward`] left and the rstd it returned.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn backward(&self, rows: HeadLayout, y: &[f32], rstd: &[f32], dy: &mut [f32]) {
        assert!(y.len() == dy.len() && rows.n_heads * rows.head_dim <= rows.stride);
        assert!(!self.qk_norm || rstd.len() == y.len() / rows.stride * rows.n_heads);
        Isa::current().run(Backward { rope: *self, rows, y, rstd, dy });
    }
}

struct Forward<'a> {
    rope: QkNormRope<'a>,
    rows: HeadLayout,
    x: &'a mut [f32],
    rstd: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let HeadLayout { stride, n_heads: heads, head_dim: width, seq_len: tokens, start_pos } = self.rows;
        let mut squares = vec![0.0; width];
        for (i, row) in self.x.chunks_exact_mut(stride).enumerate() {
            for (h, x) in row[..heads * width].chunks_exact_mut(width).enumerate() {
                if self.rope.qk_norm {
                    for (square, x) in squares.iter_mut().zip(&*x) {
                        *square = x * x;
                    }
                    let r = 1.0 / (reduce::sum(simd, &squares) / width as f32 + EPS).sqrt();
                    for x in x.iter_mut() {
                        *x *= r;
                    }
                    self.rstd[i * heads + h] = r;
                }
                if let Some(tables) = self.rope.rotary {
                    apply_rotary(tables, start_pos + i % tokens, x, 1.0);
                }
            }
        }
    }
}

/// By the angles of position `t` if `sign` is 1, back if it is −1.
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
    rows: HeadLayout,
    y: &'a [f32],
    rstd: &'a [f32],
    dy: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let HeadLayout { stride, n_heads: heads, head_dim: width, seq_len: tokens, start_pos } = self.rows;
        let mut products = vec![0.0; width];
        let rows = self.dy.chunks_exact_mut(stride).zip(self.y.chunks_exact(stride));
        for (i, (dy, y)) in rows.enumerate() {
            let both = dy[..heads * width].chunks_exact_mut(width).zip(y.chunks_exact(width));
            for (h, (dy, y)) in both.enumerate() {
                if self.rope.qk_norm {
                    for ((product, dy), y) in products.iter_mut().zip(&*dy).zip(y) {
                        *product = dy * y;
                    }
                    let mean = reduce::sum(simd, &products) / width as f32;
                    let r = self.rstd[i * heads + h];
                    for (dy, y) in dy.iter_mut().zip(y) {
                        *dy = r * (*dy - y * mean);
                    }
                }
                if let Some(tables) = self.rope.rotary {
                    apply_rotary(tables, start_pos + i % tokens, dy, -1.0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_keeps_products_at_equal_distances() {
        let tables = RotaryTables::new(10, 6, 10_000.0);
        let rows = |start_pos| HeadLayout { stride: 6, n_heads: 1, head_dim: 6, seq_len: 1, start_pos };
        let product = |a: usize, b: usize| -> f32 {
            let (mut x, mut y) = ([0.3, -1.0, 0.5, 0.7, 0.2, -0.4], [1.0, 0.1, -0.6, 0.2, 0.9, 0.3]);
            let rope = QkNormRope { rotary: Some(&tables), qk_norm: false };
            rope.forward(rows(a), &mut x);
            rope.forward(rows(b), &mut y);
            x.iter().zip(&y).map(|(x, y)| x * y).sum()
        };
        assert!((product(7, 4) - product(3, 0)).abs() < 1e-5);
        assert!((product(7, 4) - product(7, 3)).abs() > 1e-3);
    }
}
