//! The definition of the cross-entropy, in `f64`, written to be read: every other path is tested
//! against it.
//!
//! With `u_j = cap(s z_j)`, `lse = ln Σ e^{u_j}` and `p_j = e^{u_j − lse}`, a row with target
//! distribution `t` (after smoothing), class weights `w` and z-loss coefficient `ζ` has
//!
//! ```text
//! ℓ       = Σ_j w_j t_j (lse − u_j) + ζ lse²
//! ∂ℓ/∂z_j = ((Σ_k w_k t_k + 2 ζ lse) p_j − w_j t_j) · ∂u_j/∂z_j
//! ```
//!
//! where `0 · ∞ = 0`, so that masked classes (`z_j = −∞`) without mass cost nothing. Smoothing
//! replaces `t` by `(1 − ε) t + ε π`, with `π` a [`SmoothingTarget`].

use surprisal_kernels::cross_entropy::{self, RowDefect, RowError};

use crate::error::Result;
use crate::options::{CrossEntropy, Reduction, SmoothingTarget};

/// Targets whose probabilities are `f64`.
pub type Targets<'a> = cross_entropy::Targets<'a, f64>;

/// Loss, gradient and sums, as defined.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The reduced loss; under [`Reduction::None`] the sum.
    pub loss: f64,
    /// Each row's objective; 0 where ignored.
    pub losses: Vec<f64>,
    /// Each row's negative log likelihood, neither smoothed nor weighted; 0 where ignored.
    pub nll: Vec<f64>,
    /// Rows that are not ignored.
    pub count: usize,
    /// Gradient of the loss with respect to the logits, row-major, times the upstream gradient.
    pub gradient: Vec<f64>,
}

/// Loss and gradient of `logits`, row-major `N · vocab`. `upstream`, the gradient of the result,
/// has `N` numbers under [`Reduction::None`], else one.
///
/// # Errors
/// Wrong lengths, a target out of range, a row that holds a NaN, +∞ or nothing but −∞.
pub fn cross_entropy(
    options: &CrossEntropy,
    logits: &[f64],
    vocab: usize,
    targets: Targets<'_>,
    upstream: &[f64],
) -> Result<Reference> {
    let rows = options.check(logits.len(), vocab, targets)?;
    let per_row = options.reduction == Reduction::None;
    crate::slices::check_length("upstream", upstream.len(), if per_row { rows } else { 1 })?;
    let weight = |j: usize| options.class_weights.as_ref().map_or(1.0, |weights| weights.f64s[j]);
    let valid = |i: usize| match targets {
        Targets::Classes(classes) => classes[i] != options.ignored_class(),
        Targets::Probabilities(_) => true,
    };

    // Factors of the sums over rows.
    let count = (0..rows).filter(|&i| valid(i)).count();
    let (main_factor, z_factor) = match options.reduction {
        Reduction::None | Reduction::Sum => (1.0, 1.0),
        Reduction::Scaled(factor) => (factor, factor),
        Reduction::Mean => {
            let total = match targets {
                Targets::Classes(classes) => {
                    (0..rows).filter(|&i| valid(i)).map(|i| weight(classes[i] as usize)).sum()
                }
                Targets::Probabilities(_) => rows as f64,
            };
            let inverse = |n: f64| if n > 0.0 { 1.0 / n } else { 0.0 };
            (inverse(total), inverse(count as f64))
        }
    };

    let mut out = Reference {
        loss: 0.0,
        losses: vec![0.0; rows],
        nll: vec![0.0; rows],
        count,
        gradient: vec![0.0; rows * vocab],
    };
    for i in (0..rows).filter(|&i| valid(i)) {
        let z = &logits[i * vocab..(i + 1) * vocab];
        let u: Vec<f64> = z.iter().map(|&z| capped(options, z)).collect();
        let plain: Vec<f64> = match targets {
            Targets::Classes(classes) => {
                (0..vocab).map(|j| f64::from(u8::from(j == classes[i] as usize))).collect()
            }
            Targets::Probabilities(q) => q[i * vocab..(i + 1) * vocab].to_vec(),
        };
        let smooth = smoothed(options, &plain, i, z);
        let softmax = softmax(&u).map_err(|what| RowError { row: i, what })?;

        let mass: f64 = (0..vocab).map(|j| weight(j) * smooth[j]).sum();
        let main: f64 = (0..vocab).map(|j| times(weight(j) * smooth[j], softmax.surprisal(&u, j))).sum();
        let lse = softmax.lse;
        let z_loss = options.z_loss * lse * lse;
        out.nll[i] = (0..vocab).map(|j| times(plain[j], softmax.surprisal(&u, j))).sum();
        out.losses[i] = main + z_loss;
        out.loss += main_factor * main + z_factor * z_loss;

        let g = if per_row { upstream[i] } else { upstream[0] };
        for j in 0..vocab {
            let p = (u[j] - softmax.max).exp() / softmax.sum;
            let over_u = main_factor * softmax.centred(&u, p, mass, weight(j) * smooth[j], j)
                + z_factor * 2.0 * options.z_loss * lse * p;
            let slope = if options.softcap == 0.0 {
                options.scale
            } else if u[j] == f64::NEG_INFINITY {
                0.0
            } else {
                options.scale * (1.0 - (u[j] / options.softcap).powi(2))
            };
            out.gradient[i * vocab + j] = g * over_u * slope;
        }
    }
    Ok(out)
}

/// `mass · surprisal` with `0 · ∞ = 0`.
fn times(mass: f64, surprisal: f64) -> f64 {
    if mass == 0.0 { 0.0 } else { mass * surprisal }
}

fn capped(options: &CrossEntropy, z: f64) -> f64 {
    let scaled = options.scale * z;
    if options.softcap == 0.0 || z.is_infinite() {
        scaled
    } else {
        options.softcap * (scaled / options.softcap).tanh()
    }
}

/// The smoothed target of a row: `(1 − ε) t + ε π`.
pub(crate) fn smoothed(options: &CrossEntropy, t: &[f64], row: usize, z: &[f64]) -> Vec<f64> {
    let (epsilon, vocab) = (options.label_smoothing, t.len());
    if epsilon == 0.0 {
        return t.to_vec();
    }
    let total: f64 = t.iter().sum();
    let open = z.iter().filter(|&&z| z != f64::NEG_INFINITY).count().max(1);
    (0..vocab)
        .map(|j| {
            let toward = match &options.toward {
                SmoothingTarget::Uniform => 1.0 / vocab as f64,
                SmoothingTarget::Others => (total - t[j]) / (vocab - 1) as f64,
                SmoothingTarget::Unmasked if z[j] == f64::NEG_INFINITY => 0.0,
                SmoothingTarget::Unmasked => 1.0 / open as f64,
                SmoothingTarget::Prior(prior) if prior.f64s.len() == vocab => prior.f64s[j],
                SmoothingTarget::Prior(prior) => prior.f64s[row * vocab + j],
            };
            (1.0 - epsilon) * t[j] + epsilon * toward
        })
        .collect()
}

struct Softmax {
    max: f64,
    /// `Σ e^{u − max}`.
    sum: f64,
    lse: f64,
}

fn softmax(u: &[f64]) -> std::result::Result<Softmax, RowDefect> {
    if u.iter().any(|u| u.is_nan()) {
        return Err(RowDefect::Nan);
    }
    let max = u.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::INFINITY {
        return Err(RowDefect::PositiveInfinity);
    }
    if max == f64::NEG_INFINITY {
        return Err(RowDefect::AllMasked);
    }
    let sum: f64 = u.iter().map(|u| (u - max).exp()).sum();
    Ok(Softmax { max, sum, lse: max + sum.ln() })
}

impl Softmax {
    /// `Σ_{k ≠ j} e^{u_k − max}`, summed without `j` instead of subtracting it, which would cancel.
    fn others(&self, u: &[f64], j: usize) -> f64 {
        u.iter().enumerate().filter(|&(k, _)| k != j).map(|(_, u)| (u - self.max).exp()).sum()
    }

    /// `lse − u_j`; for the likeliest class as `ln(1 + Σ others)`, which is accurate near 0.
    fn surprisal(&self, u: &[f64], j: usize) -> f64 {
        if u[j] >= self.max { self.others(u, j).ln_1p() } else { (self.max - u[j]) + self.sum.ln() }
    }

    /// `mass · p_j − d`, without cancellation where `p_j` is near 1.
    fn centred(&self, u: &[f64], p: f64, mass: f64, d: f64, j: usize) -> f64 {
        if p > 0.5 { (mass - d) * p - d * (self.others(u, j) / self.sum) } else { mass * p - d }
    }
}
