//! Normalisation of rows: layer norm (Ba, Kiros & Hinton 2016) and RMS norm (Zhang & Sennrich 2019).
//!
//! ```text
//! y = (x − mean) · rstd · w + b      rstd = 1/√(mean of (x − mean)² + ε)
//! ```
//!
//! RMS norm is the same with a mean of zero. Backward, with x_hat = (x − mean) · rstd and dx_hat = dy · w:
//! dx = rstd (dx_hat − mean(dx_hat) − x_hat · mean(dx_hat x_hat)), dw = Σ_rows dy x_hat, db = Σ_rows dy; RMS norm drops mean(dx_hat).

use pulp::{Simd, WithSimd};

use crate::reduce;
use crate::simd::Isa;

/// What is subtracted before the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormType {
    /// The row's mean: layer norm.
    LayerNorm,
    /// Nothing: RMS norm.
    RmsNorm,
}

/// A normalisation and its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// Which of the two.
    pub norm_type: NormType,
    /// w, (C).
    pub weight: &'a [f32],
    /// b, (C).
    pub bias: Option<&'a [f32]>,
    /// ε.
    pub eps: f32,
}

impl Norm<'_> {
    /// `x` and `y` (N, C). Returns (mean, rstd) of each row for the backward pass.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) -> Vec<(f32, f32)> {
        let mut statistics = vec![(0.0, 0.0); x.len() / self.weight.len()];
        assert!(x.len() == y.len() && x.len().is_multiple_of(self.weight.len()));
        assert!(self.bias.is_none_or(|bias| bias.len() == self.weight.len()));
        Isa::current().run(Forward { norm: *self, x, y, statistics: &mut statistics });
        statistics
    }

    /// y again, from what [`Self::forward`] returned.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn recompute(&self, x: &[f32], statistics: &[(f32, f32)], y: &mut [f32]) {
        assert!(x.len() == y.len() && x.len() == statistics.len() * self.weight.len());
        Isa::current().run(Recompute { norm: *self, x, y, statistics });
    }

    /// The gradients, from `dy` (N, C) and what [`Self::forward`] returned.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn backward(&self, x: &[f32], statistics: &[(f32, f32)], dy: &[f32], gradients: NormGradients<'_>) {
        let c = self.weight.len();
        assert!(x.len() == dy.len() && x.len() == gradients.dx.len() && x.len() == statistics.len() * c);
        assert!(gradients.dw.len() == c && gradients.db.as_ref().is_none_or(|db| db.len() == c));
        Isa::current().run(Backward { norm: *self, x, statistics, dy, gradients });
    }
}

/// The gradients: all are added to.
#[derive(Debug)]
pub struct NormGradients<'a> {
    /// (N, C).
    pub dx: &'a mut [f32],
    /// (C).
    pub dw: &'a mut [f32],
    /// (C).
    pub db: Option<&'a mut [f32]>,
}

struct Forward<'a> {
    norm: Norm<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
    statistics: &'a mut [(f32, f32)],
}

impl WithSimd for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Norm { norm_type, weight, bias, eps } = self.norm;
        let c = weight.len();
        let rows = self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c)).zip(self.statistics);
        for ((x, y), statistics) in rows {
            let mean = if norm_type == NormType::LayerNorm { reduce::sum(simd, x) / c as f32 } else { 0.0 };
            for (y, x) in y.iter_mut().zip(x) {
                *y = (x - mean) * (x - mean);
            }
            let rstd = 1.0 / (reduce::sum(simd, y) / c as f32 + eps).sqrt();
            normalise(x, mean, rstd, weight, bias, y);
            *statistics = (mean, rstd);
        }
    }
}

#[inline(always)]
fn normalise(x: &[f32], mean: f32, rstd: f32, weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = (x - mean) * rstd * w;
    }
    if let Some(bias) = bias {
        for (y, b) in y.iter_mut().zip(bias) {
            *y += b;
        }
    }
}

struct Recompute<'a> {
    norm: Norm<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
    statistics: &'a [(f32, f32)],
}

impl WithSimd for Recompute<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Norm { weight, bias, .. } = self.norm;
        let c = weight.len();
        let rows = self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c)).zip(self.statistics);
        for ((x, y), &(mean, rstd)) in rows {
            normalise(x, mean, rstd, weight, bias, y);
        }
    }
}

struct Backward<'a> {
    norm: Norm<'a>,
    x: &'a [f32],
    statistics: &'a [(f32, f32)],
    dy: &'a [f32],
    gradients: NormGradients<'a>,
}

impl WithSimd for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Norm { norm_type, weight, .. } = self.norm;
        let c = weight.len();
        let NormGradients { dx, dw, mut db } = self.gradients;
        let mut rows = vec![0.0; 3 * c];
        let (x_hat, rest) = rows.split_at_mut(c);
        let (dx_hat, dx_hat_x_hat) = rest.split_at_mut(c);
        // Lengths that the compiler can see to be equal: no bounds are checked within the loops.
        let (x_hat, dx_hat, dx_hat_x_hat, dw, weight) =
            (&mut x_hat[..c], &mut dx_hat[..c], &mut dx_hat_x_hat[..c], &mut dw[..c], &weight[..c]);
        let rows = self.x.chunks_exact(c).zip(self.dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c));
        for (((x, dy), dx), &(mean, rstd)) in rows.zip(self.statistics) {
            let (x, dy, dx) = (&x[..c], &dy[..c], &mut dx[..c]);
            for i in 0..c {
                x_hat[i] = (x[i] - mean) * rstd;
                dw[i] += dy[i] * x_hat[i];
                dx_hat[i] = dy[i] * weight[i];
                dx_hat_x_hat[i] = dx_hat[i] * x_hat[i];
            }
            if let Some(db) = &mut db {
                for (db, dy) in db.iter_mut().zip(dy) {
                    *db += dy;
                }
            }
            let mean_dx_hat =
                if norm_type == NormType::LayerNorm { reduce::sum(simd, dx_hat) / c as f32 } else { 0.0 };
            let mean_dx_hat_x_hat = reduce::sum(simd, dx_hat_x_hat) / c as f32;
            for i in 0..c {
                dx[i] += rstd * (dx_hat[i] - mean_dx_hat - x_hat[i] * mean_dx_hat_x_hat);
            }
        }
    }
}
