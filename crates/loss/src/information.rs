//! Entropy and its relatives, in nats unless a name says otherwise.
//!
//! For distributions `p` (the truth) and `q` (the model), with `0 ln 0 = 0`:
//!
//! ```text
//! H(p)      = −Σ p ln p            entropy
//! H(p, q)   = −Σ p ln q            cross-entropy, never below H(p)
//! KL(p‖q)   =  Σ p ln (p / q)      = H(p, q) − H(p)
//! ```
//!
//! ```
//! use surprisal_loss::information::{cross_entropy, entropy, kl, perplexity};
//! let (truth, model) = ([0.5, 0.25, 0.25], [0.25, 0.25, 0.5]);
//! let (entropy, divergence) = (entropy(&truth)?, kl(&truth, &model)?);
//! assert!((cross_entropy(&truth, &model)? - (entropy + divergence)).abs() < 1e-12);
//! assert!((perplexity(entropy) - 8f64.sqrt()).abs() < 1e-12);
//! # Ok::<(), surprisal_loss::LossError>(())
//! ```

use surprisal_kernels::elementary::Elementary;

use crate::error::{LossError, Result};

/// `H(p) = −Σ p ln p`.
///
/// # Errors
/// When `p` is not a distribution.
pub fn entropy(p: &[f64]) -> Result<f64> {
    distribution("p", p)?;
    Ok(-p.iter().filter(|&&p| p > 0.0).map(|&p| p * p.ln()).sum::<f64>())
}

/// `H(p, q) = −Σ p ln q`; infinite where `q` is zero and `p` is not.
///
/// # Errors
/// When `p` or `q` is not a distribution, or their lengths differ.
pub fn cross_entropy(p: &[f64], q: &[f64]) -> Result<f64> {
    pair(p, q)?;
    Ok(-p.iter().zip(q).filter(|&(&p, _)| p > 0.0).map(|(&p, &q)| p * q.ln()).sum::<f64>())
}

/// `KL(p‖q) = Σ p ln (p / q)`, at least 0, and 0 only for `p = q`; infinite where `q` is zero and
/// `p` is not.
///
/// # Errors
/// When `p` or `q` is not a distribution, or their lengths differ.
pub fn kl(p: &[f64], q: &[f64]) -> Result<f64> {
    pair(p, q)?;
    // The terms p ln(p/q) − p + q are never negative, and −p + q sums to 0: rounding gives no sum
    // below 0.
    let term = |(&p, &q): (&f64, &f64)| if p > 0.0 { p * (p / q).ln() - p + q } else { q };
    Ok(p.iter().zip(q).map(term).sum::<f64>().max(0.0))
}

/// Perplexity, `e^nats`: the number of equally likely choices with this entropy.
pub fn perplexity(nats: f64) -> f64 {
    Elementary::current().exp(nats)
}

/// Bits of an amount of nats.
pub fn bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

/// Nats of an amount of bits.
pub fn nats(bits: f64) -> f64 {
    bits * std::f64::consts::LN_2
}

/// Bits per byte: a text's total surprisal over its length in bytes, comparable between tokenizers.
/// NaN for no bytes.
pub fn bits_per_byte(total_nats: f64, bytes: u64) -> f64 {
    if bytes == 0 { f64::NAN } else { bits(total_nats) / bytes as f64 }
}

/// Minimum of a uniformly smoothed objective: the entropy of the target, `H((1 − ε) δ + ε / V)`.
///
/// # Errors
/// When `epsilon` is not in `[0, 1]` or there are no classes.
pub fn smoothed_floor(epsilon: f64, vocab: usize) -> Result<f64> {
    if !(0.0..=1.0).contains(&epsilon) {
        return Err(LossError::Option { option: "epsilon", range: "in [0, 1]", value: epsilon });
    }
    if vocab == 0 {
        return Err(LossError::Option { option: "vocab", range: "at least 1", value: 0.0 });
    }
    let each = epsilon / vocab as f64;
    let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    Ok(term(1.0 - epsilon + each) + (vocab - 1) as f64 * term(each))
}

/// `ln Σ e^x`; −∞ for no numbers.
pub fn log_sum_exp(xs: &[f64]) -> f64 {
    let max = xs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max.is_infinite() { max } else { max + xs.iter().map(|x| (x - max).exp()).sum::<f64>().ln() }
}

/// Log-probabilities of logits.
pub fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let total = log_sum_exp(logits);
    logits.iter().map(|z| z - total).collect()
}

fn pair(p: &[f64], q: &[f64]) -> Result<()> {
    crate::slices::check_length("q", q.len(), p.len())?;
    distribution("p", p)?;
    distribution("q", q)
}

/// Checks that `p` is non-negative and sums to 1 within 10⁻⁶.
fn distribution(option: &'static str, p: &[f64]) -> Result<()> {
    if let Some(index) = p.iter().position(|&p| !(p.is_finite() && p >= 0.0)) {
        return Err(LossError::Element { option, index, range: "finite and at least 0", value: p[index] });
    }
    let sum: f64 = p.iter().sum();
    if (sum - 1.0).abs() > 1e-6 {
        return Err(LossError::Option { option: "the sum of a distribution", range: "1", value: sum });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * (1.0 + b.abs())
    }

    fn infinite(x: f64) -> bool {
        x.is_infinite() && x > 0.0
    }

    #[test]
    fn known_values() {
        assert!(close(entropy(&[0.25; 4]).unwrap(), 4.0_f64.ln()));
        assert!(close(bits(entropy(&[0.5, 0.25, 0.25, 0.0]).unwrap()), 1.5));
        assert!(close(kl(&[1.0, 0.0], &[0.5, 0.5]).unwrap(), 2.0_f64.ln()));
        assert!(close(perplexity(4.585_f64.ln()), 4.585));
        assert!(close(bits_per_byte(nats(24.0), 8), 3.0));
        assert!(close(nats(bits(1.25)), 1.25));
        assert!(bits_per_byte(1.0, 0).is_nan());
    }

    #[test]
    fn a_zero_in_the_model_costs_everything() {
        assert!(infinite(cross_entropy(&[0.5, 0.5], &[1.0, 0.0]).unwrap()));
        assert!(infinite(kl(&[0.5, 0.5], &[1.0, 0.0]).unwrap()));
        assert!(close(cross_entropy(&[1.0, 0.0], &[1.0, 0.0]).unwrap(), 0.0));
    }

    #[test]
    fn cross_entropy_is_entropy_and_divergence() {
        let (p, q) = ([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]);
        let divergence = kl(&p, &q).unwrap();
        assert!(close(entropy(&p).unwrap() + divergence, cross_entropy(&p, &q).unwrap()));
        assert!(divergence > 0.0);
        assert_eq!(kl(&p, &p).unwrap().to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn floor_is_the_entropy_of_the_smoothed_target() {
        let target = [0.1 / 5.0, 0.9 + 0.1 / 5.0, 0.1 / 5.0, 0.1 / 5.0, 0.1 / 5.0];
        assert!(close(smoothed_floor(0.1, 5).unwrap(), entropy(&target).unwrap()));
        assert!(close(smoothed_floor(0.0, 5).unwrap(), 0.0));
        assert!(close(smoothed_floor(1.0, 5).unwrap(), 5.0_f64.ln()));
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(entropy(&[0.5, 0.4]).is_err());
        assert!(entropy(&[1.5, -0.5]).is_err());
        assert!(kl(&[1.0], &[0.5, 0.5]).is_err());
        assert!(smoothed_floor(1.1, 5).is_err());
        assert!(smoothed_floor(0.1, 0).is_err());
    }

    #[test]
    fn log_softmax_sums_to_one() {
        let q: f64 = log_softmax(&[1000.0, 999.0, f64::NEG_INFINITY]).iter().map(|l| l.exp()).sum();
        assert!(close(q, 1.0));
        assert!(infinite(-log_sum_exp(&[])));
    }
}
