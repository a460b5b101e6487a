//! Power laws of learning curves, L(N) = L∞ + A·N^−α, and their extrapolation.
//!
//! The loss of models of language falls about as a power of the training text (Hestness et al.
//! 2017, "Deep learning scaling is predictable, empirically"). For each exponent α the other two
//! are linear least squares; intervals are by profile likelihood: all values that some power law
//! reaches whose squared error is within the bound of Student's t.

use serde::Serialize;

use super::statistics::t_quantile_95;

/// Exponents that are tried, evenly by their logarithm.
const EXPONENTS: usize = 400;
const SMALLEST_EXPONENT: f64 = 0.02;
const LARGEST_EXPONENT: f64 = 4.0;
/// The number of fitted numbers: L∞, A and α.
const FITTED: usize = 3;

/// A number with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// A fitted power law.
#[derive(Debug, Clone)]
pub struct PowerLaw {
    /// Largest number of tokens, the unit of N.
    largest: f64,
    /// Greatest lower bound of any loss.
    floor: f64,
    candidates: Vec<Candidate>,
    best: usize,
    /// Squared error up to which a power law is possible.
    bound: f64,
}

/// The best power law with one exponent.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    exponent: f64,
    limit: f64,
    factor: f64,
    squared_error: f64,
    /// Whether the limit is the floor, so that only the factor was fitted.
    at_floor: bool,
    n: f64,
    mean_x: f64,
    /// Σ(x − x̄)², or Σx² where the limit is the floor.
    spread: f64,
}

impl Candidate {
    fn new(exponent: f64, points: &[(f64, f64)], floor: f64) -> Self {
        let n = points.len() as f64;
        let x = |tokens: f64| tokens.powf(-exponent);
        let mean_x = points.iter().map(|point| x(point.0)).sum::<f64>() / n;
        let mean_y = points.iter().map(|point| point.1).sum::<f64>() / n;
        let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|&(at, y)| of(x(at), y)).sum::<f64>();
        let spread = sum(&|x, _| (x - mean_x).powi(2));
        let factor = sum(&|x, y| (x - mean_x) * (y - mean_y)) / spread;
        let limit = mean_y - factor * mean_x;
        let mut found =
            Self { exponent, limit, factor, squared_error: 0.0, at_floor: false, n, mean_x, spread };
        if limit < floor {
            found.spread = sum(&|x, _| x * x);
            found.factor = sum(&|x, y| x * (y - floor)) / found.spread;
            (found.limit, found.at_floor) = (floor, true);
        }
        found.squared_error = sum(&|x, y| (y - found.limit - found.factor * x).powi(2));
        found
    }

    fn at(&self, tokens: f64) -> f64 {
        self.limit + self.factor * tokens.powf(-self.exponent)
    }

    /// Variance of the value at `tokens` for errors of variance one.
    fn variance(&self, tokens: f64) -> f64 {
        let x = tokens.powf(-self.exponent);
        if self.at_floor {
            x * x / self.spread
        } else {
            1.0 / self.n + (x - self.mean_x).powi(2) / self.spread
        }
    }
}

impl PowerLaw {
    /// Fits losses by numbers of tokens. `floor` is a lower bound of any loss, such as the source's
    /// entropy or 0; `noise` the standard error of a loss, in its unit. `None` for fewer than four
    /// points, whose error is not known.
    pub fn fit(points: &[(f64, f64)], floor: f64, noise: f64) -> Option<Self> {
        let freedom = points.len().checked_sub(FITTED).filter(|freedom| *freedom > 0)? as f64;
        let largest = points.iter().map(|point| point.0).fold(0.0, f64::max);
        let scaled: Vec<(f64, f64)> = points.iter().map(|&(tokens, loss)| (tokens / largest, loss)).collect();
        let step = (LARGEST_EXPONENT / SMALLEST_EXPONENT).powf(1.0 / (EXPONENTS - 1) as f64);
        let exponents = (0..EXPONENTS).map(|index| SMALLEST_EXPONENT * step.powi(index as i32));
        let candidates: Vec<_> = exponents.map(|exponent| Candidate::new(exponent, &scaled, floor)).collect();
        let error = |index: &usize| candidates[*index].squared_error;
        let best = (0..EXPONENTS).min_by(|a, b| error(a).total_cmp(&error(b)))?;
        let variance = (error(&best) / freedom).max(noise * noise);
        let bound = error(&best) + t_quantile_95(freedom).powi(2) * variance;
        Some(Self { largest, floor, candidates, best, bound })
    }

    /// The loss at a number of tokens, which may be infinite.
    pub fn at(&self, tokens: f64) -> Estimate {
        let tokens = tokens / self.largest;
        let value = self.candidates[self.best].at(tokens);
        let (mut low, mut high) = (value, value);
        for candidate in &self.candidates {
            if candidate.squared_error <= self.bound {
                let (middle, room) = (candidate.at(tokens), self.bound - candidate.squared_error);
                let half = (candidate.variance(tokens) * room).sqrt();
                (low, high) = (low.min(middle - half), high.max(middle + half));
            }
        }
        Estimate { value, low: low.max(self.floor), high }
    }

    /// The exponent α.
    pub fn exponent(&self) -> f64 {
        self.candidates[self.best].exponent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{RngStream, rng_for};
    use rand::Rng;

    const SIZES: [f64; 6] = [1e4, 3e4, 1e5, 3e5, 1e6, 3e6];

    fn law(tokens: f64) -> f64 {
        1.5 + 40.0 * tokens.powf(-0.4)
    }

    #[test]
    fn an_exact_power_law_is_found() {
        let points = SIZES.map(|tokens| (tokens, law(tokens)));
        let fit = PowerLaw::fit(&points, 0.0, 0.0).unwrap();
        assert!((fit.exponent() - 0.4).abs() < 0.01, "{}", fit.exponent());
        for tokens in [3e6, 3e7, f64::INFINITY] {
            let exact = if tokens.is_infinite() { 1.5 } else { law(tokens) };
            assert!((fit.at(tokens).value - exact).abs() < 2e-3, "{tokens}: {:?} {exact}", fit.at(tokens));
        }
        assert!(PowerLaw::fit(&points[..3], 0.0, 0.0).is_none());
        // No loss is below the entropy of the source.
        let fit = PowerLaw::fit(&points, 1.6, 0.01).unwrap();
        assert!(fit.at(f64::INFINITY).low >= 1.6);
    }

    #[test]
    fn intervals_contain_the_true_loss_about_as_often_as_they_say() {
        let mut rng = rng_for(5, RngStream::Sampling(0));
        let mut noise = || 0.01 * ((0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0);
        let contained = |tokens: f64, exact: f64, noise: &mut dyn FnMut() -> f64| {
            let points = SIZES.map(|tokens| (tokens, law(tokens) + noise()));
            let found = PowerLaw::fit(&points, 0.0, 0.0).unwrap().at(tokens);
            (found.low..=found.high).contains(&exact)
        };
        for (tokens, exact) in [(3e7, law(3e7)), (f64::INFINITY, 1.5)] {
            let count = (0..400).filter(|_| contained(tokens, exact, &mut noise)).count();
            assert!((368..=398).contains(&count), "{count} of 400 at {tokens}");
        }
    }
}
