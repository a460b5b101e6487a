//! Layer norm (Ba, Kiros & Hinton 2016) and RMS norm (Zhang & Sennrich 2019) of rows.
//!
//! ```text
//! y = x̂ · w + b      x̂ = (x − mean) · rstd      rstd = 1/√(mean((x − mean)²) + ε)
//! dx = rstd (dx̂ − mean(dx̂) − x̂ · mean(dx̂ x̂))      dx̂ = dy · w      dw = Σ dy x̂      db = Σ dy
//! ```
//!
//! RMS norm has mean = 0, and its dx has no mean(dx̂).

use pulp::{Simd, WithSimd};

use crate::reduce;
use crate::simd::Isa;

/// The kind of normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormType {
    /// Subtracts the row's mean, then divides by the standard deviation.
    LayerNorm,
    /// Divides by the root mean square.
    RmsNorm,
}

/// A normalisation and its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// Layer norm or RMS norm.
    pub kind: NormType,
    /// w, (C).
    pub weight: &'a [f32],
    /// b, (C).
    pub bias: Option<&'a [f32]>,
    /// ε.
    pub eps: f32,
}

impl Norm<'_> {
    /// Normalises `x` (N, C) to `y` (N, C); returns (mean, rstd) of each row for the backward pass.
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) -> Vec<(f32, f32)> {
        let mut statistics = vec![(0.0, 0.0); x.len() / self.weight.len()];
        assert!(x.len() == y.len() && x.len().is_multiple_of(self.weight.len()));
        assert!(self.bias.is_none_or(|bias| bias.len() == self.weight.len()));
        Isa::current().run(Forward { norm: *self, x, y, statistics: &mut statistics });
        statistics
    }

    /// Recomputes `y` from `x` and the statistics of [`Self::forward`].
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn recompute(&self, x: &[f32], statistics: &[(f32, f32)], y: &mut [f32]) {
        assert!(x.len() == y.len() && x.len() == statistics.len() * self.weight.len());
        Isa::current().run(Recompute { norm: *self, x, y, statistics });
    }

    /// Adds to the gradients, from `dy` (N, C) and the statistics of [`Self::forward`].
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn backward(&self, x: &[f32], statistics: &[(f32, f32)], dy: &[f32], gradients: NormGradients<'_>) {
        let c = self.weight.len();
        assert!(x.len() == dy.len() && x.len() == gradients.dx.len() && x.len() == statistics.len() * c);
        assert!(gradients.dw.len() == c && gradients.db.as_ref().is_none_or(|db| db.len() == c));
        Isa::current().run(Backward { norm: *self, x, statistics, dy, gradients });
    }
}

/// Gradients of a normalisation, which [`Norm::backward`] adds to.
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
        let Norm { kind, weight, bias, eps } = self.norm;
        let c = weight.len();
        let rows = self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c)).zip(self.statistics);
        for ((x, y), statistics) in rows {
            let mean = if kind == NormType::LayerNorm { reduce::sum(simd, x) / c as f32 } else { 0.0 };
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
        let Norm { kind, weight, .. } = self.norm;
        let c = weight.len();
        let NormGradients { dx, dw, mut db } = self.gradients;
        let mut rows = vec![0.0; 3 * c];
        let (x_hat, rest) = rows.split_at_mut(c);
        let (dx_hat, product) = rest.split_at_mut(c);
        // Slices of the same known length, so that the loops have no bounds checks.
        let (x_hat, dx_hat, product, dw, weight) =
            (&mut x_hat[..c], &mut dx_hat[..c], &mut product[..c], &mut dw[..c], &weight[..c]);
        let rows = self.x.chunks_exact(c).zip(self.dy.chunks_exact(c)).zip(dx.chunks_exact_mut(c));
        for (((x, dy), dx), &(mean, rstd)) in rows.zip(self.statistics) {
            let (x, dy, dx) = (&x[..c], &dy[..c], &mut dx[..c]);
            for i in 0..c {
                x_hat[i] = (x[i] - mean) * rstd;
                dw[i] += dy[i] * x_hat[i];
                dx_hat[i] = dy[i] * weight[i];
                product[i] = dx_hat[i] * x_hat[i];
            }
            if let Some(db) = &mut db {
                for (db, dy) in db.iter_mut().zip(dy) {
                    *db += dy;
                }
            }
            let mean_dx_hat =
                if kind == NormType::LayerNorm { reduce::sum(simd, dx_hat) / c as f32 } else { 0.0 };
            let mean_product = reduce::sum(simd, product) / c as f32;
            for i in 0..c {
                dx[i] += rstd * (dx_hat[i] - mean_dx_hat - x_hat[i] * mean_product);
            }
        }
    }
}
