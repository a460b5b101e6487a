//! Layer normalisation (Ba, Kiros & Hinton 2016), row by row:
//!
//! ```text
//! y = (x − mean) · r · w + b      r = 1/√(variance + ε)
//! ```
//!
//! Backward, with n = (x − mean) · r and u = dy · w: dx = r (u − mean(u) − n · mean(u n)), dw = Σ_rows dy n, db = Σ_rows dy.

use pulp::{Simd, WithSimd};

use crate::reduce;
use crate::simd::Isa;

/// Shapes: `x` and `y` (N, C), `weight` and `bias` (C). Returns (mean, r) of each row for the backward pass.
///
/// # Panics
/// If the lengths do not fit together.
pub fn layer_norm(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
) -> Vec<(f32, f32)> {
    struct Forward<'a> {
        x: &'a [f32],
        weight: &'a [f32],
        bias: Option<&'a [f32]>,
        eps: f32,
        y: &'a mut [f32],
    }
    impl WithSimd for Forward<'_> {
        type Output = Vec<(f32, f32)>;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let c = self.weight.len();
            let mut statistics = Vec::with_capacity(self.x.len() / c);
            for (x, y) in self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c)) {
                let mean = reduce::sum(simd, x) / c as f32;
                for (y, x) in y.iter_mut().zip(x) {
                    *y = (x - mean) * (x - mean);
                }
                let r = 1.0 / (reduce::sum(simd, y) / c as f32 + self.eps).sqrt();
                for ((y, x), w) in y.iter_mut().zip(x).zip(self.weight) {
                    *y = (x - mean) * r * w;
                }
                if let Some(bias) = self.bias {
                    for (y, b) in y.iter_mut().zip(bias) {
                        *y += b;
                    }
                }
                statistics.push((mean, r));
            }
            statistics
        }
    }
    assert!(x.len() == y.len() && x.len().is_multiple_of(weight.len()));
    assert!(bias.is_none_or(|bias| bias.len() == weight.len()));
    Isa::current().run(Forward { x, weight, bias, eps, y })
}

/// The gradients: `dx` is written, `dw` and `db` (C) are added to.
#[derive(Debug)]
pub struct LayerNormGradients<'a> {
    /// (N, C).
    pub dx: &'a mut [f32],
    /// (C).
    pub dw: &'a mut [f32],
    /// (C).
    pub db: &'a mut [f32],
}

/// From `dy` (N, C) and what [`layer_norm`] returned.
///
/// # Panics
/// If the lengths do not fit together.
pub fn layer_norm_backward(
    x: &[f32],
    weight: &[f32],
    statistics: &[(f32, f32)],
    dy: &[f32],
    gradients: LayerNormGradients<'_>,
) {
    struct Backward<'a> {
        x: &'a [f32],
        weight: &'a [f32],
        statistics: &'a [(f32, f32)],
        dy: &'a [f32],
        gradients: LayerNormGradients<'a>,
    }
    impl WithSimd for Backward<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let c = self.weight.len();
            let LayerNormGradients { dx, dw, db } = self.gradients;
            let mut n = vec![0.0; c];
            let mut un = vec![0.0; c];
            let rows = self.x.chunks_exact(c).zip(self.dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c));
            for (((x, dy), dx), &(mean, r)) in rows.zip(self.statistics) {
                for i in 0..c {
                    n[i] = (x[i] - mean) * r;
                    dw[i] += dy[i] * n[i];
                    db[i] += dy[i];
                    dx[i] = dy[i] * self.weight[i];
                    un[i] = dx[i] * n[i];
                }
                let mean_u = reduce::sum(simd, dx) / c as f32;
                let mean_un = reduce::sum(simd, &un) / c as f32;
                for (dx, n) in dx.iter_mut().zip(&n) {
                    *dx = r * (*dx - mean_u - n * mean_un);
                }
            }
        }
    }
    let c = weight.len();
    assert!(x.len() == dy.len() && x.len() == gradients.dx.len() && x.len() == statistics.len() * c);
    assert!(gradients.dw.len() == c && gradients.db.len() == c);
    Isa::current().run(Backward { x, weight, statistics, dy, gradients });
}
