//! Temperature scaling (Guo et al. 2017): one number that divides all logits.
//!
//! With `β = 1/T`, the negative log likelihood `Σ lse(β z) − β z_y` is convex in `β`, with
//! derivative `Σ E_p[z] − z_y`, whose zero is found by bisection.

use super::{BINS, Calibration, Report};
use crate::error::{LossError, Result};
use crate::information::log_softmax;

/// Fitted temperatures are between `1 / LIMIT` and `LIMIT`.
pub const LIMIT: f64 = 100.0;

/// A temperature fitted on the first half of the rows, and its effect on the second half.
#[derive(Clone, Debug)]
pub struct HeldOutFit {
    /// The temperature; above 1 for an over-confident model.
    pub temperature: f64,
    /// Mean negative log likelihood without the temperature, in nats.
    pub nll_before: f64,
    /// Mean negative log likelihood with the temperature, in nats.
    pub nll_after: f64,
    /// Calibration without the temperature.
    pub before: Report,
    /// Calibration with the temperature.
    pub after: Report,
}

/// The temperature that minimises the negative log likelihood of `targets` under `logits` (or
/// log-probabilities), row-major `N · vocab`.
///
/// # Errors
/// When there is nothing to fit, lengths disagree, a target is no class, or a logit is NaN or +∞.
pub fn fit(logits: &[f32], vocab: usize, targets: &[u32]) -> Result<f64> {
    check(logits, vocab, targets)?;
    // Bisection in ln β, where the interval is symmetric.
    let (mut low, mut high) = (-LIMIT.ln(), LIMIT.ln());
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if nll_derivative(logits, vocab, targets, middle.exp()) > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok((-f64::midpoint(low, high)).exp())
}

/// Fits on the first half of the rows and reports on the second. The halves are not shuffled,
/// because neighbouring tokens of a text are correlated.
///
/// # Errors
/// As [`fit`]; fewer than two rows.
pub fn fit_held_out(logits: &[f32], vocab: usize, targets: &[u32]) -> Result<HeldOutFit> {
    check(logits, vocab, targets)?;
    let half = targets.len() / 2;
    let (fit_logits, logits) = logits.split_at(half * vocab);
    let (fit_targets, targets) = targets.split_at(half);
    let temperature = fit(fit_logits, vocab, fit_targets)?;
    let (nll_before, before) = assess(logits, vocab, targets, 1.0)?;
    let (nll_after, after) = assess(logits, vocab, targets, temperature)?;
    Ok(HeldOutFit { temperature, nll_before, nll_after, before, after })
}

/// Mean negative log likelihood and calibration at a temperature.
fn assess(logits: &[f32], vocab: usize, targets: &[u32], temperature: f64) -> Result<(f64, Report)> {
    let mut calibration = Calibration::new();
    let mut nll = 0.0;
    for (row, &target) in logits.chunks_exact(vocab).zip(targets) {
        let scaled: Vec<f64> = row.iter().map(|&z| z as f64 / temperature).collect();
        let log_probs = log_softmax(&scaled);
        nll -= log_probs[target as usize];
        calibration.push(&log_probs, target)?;
    }
    Ok((nll / targets.len() as f64, calibration.report(BINS)?))
}

/// Derivative `Σ E_p[z] − z_y` of the negative log likelihood at `β`.
fn nll_derivative(logits: &[f32], vocab: usize, targets: &[u32], beta: f64) -> f64 {
    let rows = logits.chunks_exact(vocab).zip(targets);
    rows.map(|(row, &target)| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
        let (mut sum, mut mean) = (0.0, 0.0);
        for z in row.iter().map(|&z| z as f64).filter(|z| z.is_finite()) {
            let e = (beta * (z - max)).exp();
            sum += e;
            mean += e * (z - max);
        }
        mean / sum - (row[target as usize] as f64 - max)
    })
    .sum()
}

fn check(logits: &[f32], vocab: usize, targets: &[u32]) -> Result<()> {
    if vocab == 0 || targets.is_empty() {
        return Err(LossError::Conflict("a temperature needs rows to be fitted on"));
    }
    crate::slices::check_length("logits", logits.len(), targets.len() * vocab)?;
    if let Some(row) = targets.iter().position(|&target| target as usize >= vocab) {
        return Err(LossError::Target { row, target: targets[row] as i64, classes: vocab });
    }
    let unusable = |&z: &f32| z.is_nan() || z == f32::INFINITY;
    if let Some(index) = logits.iter().position(unusable) {
        let value = logits[index] as f64;
        return Err(LossError::Element { option: "logits", index, range: "a number or -inf", value });
    }
    let masked = |(row, &target): (&[f32], &u32)| row[target as usize] == f32::NEG_INFINITY;
    if logits.chunks_exact(vocab).zip(targets).any(masked) {
        return Err(LossError::Conflict("a true class has probability zero: no temperature can help"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of three classes whose true class is drawn, by a fixed low-discrepancy rule, from
    /// softmax(z).
    fn sample(n: usize) -> (Vec<f32>, Vec<u32>) {
        let (mut logits, mut targets) = (Vec::new(), Vec::new());
        for i in 0..n {
            let z = [0.0_f32, (i % 7) as f32 * 0.4, (i % 5) as f32 * 0.5 - 1.0];
            let p = log_softmax(&z.map(f64::from));
            let u = (i as f64 * 0.618_033_988_749_895).fract();
            let first = p[0].exp();
            targets.push(if u < first { 0 } else { 1 + u32::from(u >= first + p[1].exp()) });
            logits.extend(z);
        }
        (logits, targets)
    }

    #[test]
    fn finds_the_temperature_that_was_put_in() {
        let (logits, targets) = sample(20_000);
        assert!((fit(&logits, 3, &targets).unwrap() - 1.0).abs() < 0.03);
        for t in [0.25_f32, 3.0] {
            let scaled: Vec<f32> = logits.iter().map(|z| z * t).collect();
            let found = fit(&scaled, 3, &targets).unwrap();
            assert!((found / t as f64 - 1.0).abs() < 0.03, "{found} for {t}");
        }
    }

    #[test]
    fn repairs_the_other_half() {
        let (logits, targets) = sample(8000);
        let bold: Vec<f32> = logits.iter().map(|z| z * 4.0).collect();
        let split = fit_held_out(&bold, 3, &targets).unwrap();
        assert!(split.temperature > 3.0 && split.nll_after < split.nll_before);
        assert!(split.after.ece_equal_width < 0.2 * split.before.ece_equal_width, "{split:?}");
        assert_eq!(split.after.count, 4000);
    }

    #[test]
    fn perfect_predictions_go_to_the_end_of_the_range() {
        let t = fit(&[3.0, 0.0, 0.0, 3.0], 2, &[0, 1]).unwrap();
        assert!((t * LIMIT - 1.0).abs() < 1e-6, "{t}");
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(fit(&[], 2, &[]).is_err());
        assert!(fit(&[1.0, 2.0], 2, &[2]).is_err());
        assert!(fit(&[1.0, f32::NAN], 2, &[0]).is_err());
        assert!(fit(&[1.0, f32::NEG_INFINITY], 2, &[1]).is_err());
        assert!(fit(&[1.0], 2, &[1]).is_err());
        assert!(fit_held_out(&[1.0, 2.0], 2, &[1]).is_err());
    }
}
