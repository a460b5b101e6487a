//! Calibration: are predictions with probability 0.8 right in 80 % of cases?
//!
//! A [`Calibration`] collects predictions and their true classes. Its [`Report`] has the expected
//! calibration error (Naeini et al. 2015; Guo et al. 2017) over bins of equal width and of equal
//! mass, with their reliability tables, and the Brier score (Brier 1950). [`temperature`] fits the
//! number that corrects most over-confidence.
//!
//! ```
//! use surprisal_loss::calibration::Calibration;
//! let mut calibration = Calibration::new();
//! for true_class in [0, 0, 0, 1] {
//!     calibration.push(&[0.75_f64.ln(), 0.25_f64.ln()], true_class)?;
//! }
//! let report = calibration.report(15)?;
//! assert!(report.ece_equal_width < 1e-12);
//! assert!((report.brier - 0.375).abs() < 1e-12);
//! # Ok::<(), surprisal_loss::LossError>(())
//! ```

pub mod temperature;

use crate::error::{LossError, Result};

/// The usual number of bins.
pub const BINS: usize = 15;

/// Predictions with their true classes, reduced to confidences and successes.
#[derive(Clone, Debug, Default)]
pub struct Calibration {
    predictions: Vec<Prediction>,
    brier_sum: f64,
}

/// The likeliest class's probability, and 1 if it is the true class, else 0.
type Prediction = (f64, f64);

/// Predictions of similar confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The lowest confidence, excluded but in the first bin.
    pub from: f64,
    /// The highest confidence, included.
    pub to: f64,
    /// Number of predictions.
    pub count: usize,
    /// Their mean confidence; NaN when empty.
    pub confidence: f64,
    /// The share of them that is right; NaN when empty.
    pub accuracy: f64,
}

/// A calibration report: confidence against accuracy.
#[derive(Clone, Debug)]
pub struct Report {
    /// Number of predictions.
    pub count: usize,
    /// The share whose likeliest class is the true one.
    pub accuracy: f64,
    /// The mean probability of the likeliest class.
    pub confidence: f64,
    /// `Σ_bins count/N · |accuracy − confidence|` over bins of equal width.
    pub ece_equal_width: f64,
    /// The same over bins of equally many predictions, sorted by confidence.
    pub ece_equal_mass: f64,
    /// Brier score, the mean of `Σ_classes (p − [true])²`: from 0, perfect, to 2, certain and
    /// wrong.
    pub brier: f64,
    /// The reliability table, equal width.
    pub equal_width: Vec<Bin>,
    /// The reliability table, equal mass.
    pub equal_mass: Vec<Bin>,
}

impl Calibration {
    /// A collection without predictions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a prediction: the natural logarithms of all classes' probabilities, and the true class.
    /// Of equally likely classes the first one is predicted.
    ///
    /// # Errors
    /// When `target` is no class, or the probabilities do not sum to one within 10⁻³.
    pub fn push(&mut self, log_probs: &[f64], target: u32) -> Result<()> {
        let row = self.predictions.len();
        if target as usize >= log_probs.len() {
            return Err(LossError::Target { row, target: target as i64, classes: log_probs.len() });
        }
        let (mut best, mut confidence, mut sum, mut squares) = (0, f64::NEG_INFINITY, 0.0, 0.0);
        for (class, log_prob) in log_probs.iter().enumerate() {
            let p = log_prob.exp();
            let truth = f64::from(u8::from(class == target as usize));
            sum += p;
            squares += (p - truth) * (p - truth);
            if p > confidence {
                (best, confidence) = (class, p);
            }
        }
        // Written so that NaN fails, too.
        if (sum - 1.0).abs() <= 1e-3 {
            self.predictions.push((confidence.min(1.0), f64::from(u8::from(best == target as usize))));
            self.brier_sum += squares;
            Ok(())
        } else {
            Err(LossError::Option { option: "the sum of the probabilities", range: "1", value: sum })
        }
    }

    /// Number of predictions.
    pub fn len(&self) -> usize {
        self.predictions.len()
    }

    /// Whether there are no predictions.
    pub fn is_empty(&self) -> bool {
        self.predictions.is_empty()
    }

    /// Report over `bins` bins, usually [`BINS`].
    ///
    /// # Errors
    /// When there are no predictions or no bins.
    pub fn report(&self, bins: usize) -> Result<Report> {
        if bins == 0 || self.is_empty() {
            return Err(LossError::Conflict("a calibration report needs predictions and bins"));
        }
        let all = Bin::from_predictions(0.0, 1.0, &self.predictions);
        let (equal_width, equal_mass) = (self.equal_width(bins), self.equal_mass(bins));
        Ok(Report {
            count: all.count,
            accuracy: all.accuracy,
            confidence: all.confidence,
            ece_equal_width: expected_error(&equal_width, all.count),
            ece_equal_mass: expected_error(&equal_mass, all.count),
            brier: self.brier_sum / all.count as f64,
            equal_width,
            equal_mass,
        })
    }

    fn equal_width(&self, bins: usize) -> Vec<Bin> {
        let mut parts = vec![Vec::new(); bins];
        for &prediction in &self.predictions {
            // (k/bins, (k+1)/bins] is bin k.
            let k = (prediction.0 * bins as f64).ceil() as usize;
            parts[k.saturating_sub(1).min(bins - 1)].push(prediction);
        }
        let edge = |k: usize| k as f64 / bins as f64;
        parts.iter().enumerate().map(|(k, part)| Bin::from_predictions(edge(k), edge(k + 1), part)).collect()
    }

    fn equal_mass(&self, bins: usize) -> Vec<Bin> {
        let mut sorted = self.predictions.clone();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Predictions of equal confidence may be in two bins: each has the mean accuracy of all of
        // them, so that the report does not depend on their order.
        let mut shares = Vec::with_capacity(sorted.len());
        for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
            let right: f64 = equal.iter().map(|prediction| prediction.1).sum();
            shares.extend(equal.iter().map(|prediction| (prediction.0, right / equal.len() as f64)));
        }
        let n = shares.len();
        let mut from = 0.0;
        let parts = (0..bins).map(|k| &shares[k * n / bins..(k + 1) * n / bins]);
        parts
            .filter(|part| !part.is_empty())
            .map(|part| {
                let bin = Bin::from_predictions(from, part[part.len() - 1].0, part);
                from = bin.to;
                bin
            })
            .collect()
    }
}

impl Bin {
    fn from_predictions(from: f64, to: f64, predictions: &[Prediction]) -> Self {
        let count = predictions.len();
        let mean = |sum: f64| sum / count as f64;
        let confidence = mean(predictions.iter().map(|prediction| prediction.0).sum());
        let accuracy = mean(predictions.iter().map(|prediction| prediction.1).sum());
        Self { from, to, count, confidence, accuracy }
    }
}

fn expected_error(bins: &[Bin], count: usize) -> f64 {
    let filled = bins.iter().filter(|bin| bin.count > 0);
    filled.map(|bin| bin.count as f64 / count as f64 * (bin.accuracy - bin.confidence).abs()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds `n` predictions of two classes, the first with probability `p`; it is true `right`
    /// times.
    fn push(calibration: &mut Calibration, p: f64, n: usize, right: usize) {
        for i in 0..n {
            let target = u32::from(i >= right);
            calibration.push(&[p.ln(), (1.0 - p).ln()], target).unwrap();
        }
    }

    #[test]
    fn errors_are_the_weighted_gaps() {
        let mut calibration = Calibration::new();
        push(&mut calibration, 0.9, 10, 9);
        push(&mut calibration, 0.6, 30, 12);
        let report = calibration.report(BINS).unwrap();
        // Gaps 0 over 10 and |0.4 − 0.6| over 30.
        assert!((report.ece_equal_width - 0.75 * 0.2).abs() < 1e-12, "{report:?}");
        assert!((report.accuracy - 21.0 / 40.0).abs() < 1e-12);
        assert!((report.confidence - 0.675).abs() < 1e-12);
        let brier = (9.0 * 0.02 + 1.62 + 12.0 * 0.32 + 18.0 * 0.72) / 40.0;
        assert!((report.brier - brier).abs() < 1e-12, "{} not {brier}", report.brier);
        let filled: Vec<_> = report.equal_width.iter().filter(|bin| bin.count > 0).collect();
        assert_eq!(filled.iter().map(|bin| bin.count).collect::<Vec<_>>(), [30, 10]);
        assert!(filled.iter().all(|bin| bin.from < bin.confidence && bin.confidence <= bin.to));
    }

    #[test]
    fn equal_mass_bins_hold_equally_many_whatever_the_order() {
        let mut forward = Calibration::new();
        let mut backward = Calibration::new();
        let steps: Vec<usize> = (0..100).collect();
        let p = |i: usize| 0.5 + 0.004 * (i / 2) as f64;
        for &i in &steps {
            push(&mut forward, p(i), 1, i % 3 % 2);
        }
        for &i in steps.iter().rev() {
            push(&mut backward, p(i), 1, i % 3 % 2);
        }
        let (a, b) = (forward.report(7).unwrap(), backward.report(7).unwrap());
        assert_eq!(
            a.equal_mass.iter().map(|bin| bin.count).collect::<Vec<_>>(),
            [14, 14, 14, 15, 14, 14, 15]
        );
        assert!((a.ece_equal_mass - b.ece_equal_mass).abs() < 1e-12);
        assert!(a.ece_equal_mass > 0.0);
        // More bins than predictions: only filled ones are listed.
        let mut one = Calibration::new();
        push(&mut one, 0.8, 1, 1);
        assert_eq!(one.report(15).unwrap().equal_mass.len(), 1);
    }

    #[test]
    fn equal_confidences_are_not_sorted_by_their_luck() {
        let mut calibration = Calibration::new();
        push(&mut calibration, 0.75, 120, 90);
        push(&mut calibration, 0.5, 80, 40);
        let report = calibration.report(BINS).unwrap();
        assert!(report.ece_equal_mass < 1e-12, "{report:?}");
        assert_eq!(report.equal_mass.iter().map(|bin| bin.count).sum::<usize>(), 200);
    }

    #[test]
    fn certainty_falls_into_the_last_bin() {
        let mut calibration = Calibration::new();
        calibration.push(&[0.0, f64::NEG_INFINITY], 0).unwrap();
        let report = calibration.report(15).unwrap();
        assert_eq!(report.equal_width[14].count, 1);
        assert!(report.ece_equal_width.abs() < 1e-12 && report.brier.abs() < 1e-12);
    }

    #[test]
    fn bad_input_is_refused() {
        let mut calibration = Calibration::new();
        assert!(calibration.push(&[0.5_f64.ln(); 2], 2).is_err());
        assert!(calibration.push(&[0.0, 0.0], 0).is_err());
        assert!(calibration.push(&[f64::NAN, 0.0], 0).is_err());
        assert!(calibration.report(15).is_err());
        calibration.push(&[0.0], 0).unwrap();
        assert!(calibration.report(0).is_err());
    }
}
