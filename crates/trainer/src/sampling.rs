//! Drawing a token from a distribution: temperature, top-k, nucleus.

use rand::Rng;

use crate::failure::{Failure, Result};

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// q'(w) ∝ q(w)^(1/T); 0 takes the most likely token.
    pub temperature: f64,
    /// Keep only so many of the most likely tokens.
    pub top_k: Option<usize>,
    /// Keep the fewest of the most likely tokens that reach this mass (Holtzman et al. 2020).
    pub top_p: Option<f64>,
}

impl Sampling {
    /// Checks the three settings.
    ///
    /// # Errors
    /// A negative or non-finite temperature, `top_k` of zero, `top_p` outside (0, 1].
    pub fn new(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> Result<Self> {
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(Failure::usage(format!("--temperature is {temperature}, but must be 0 or more"))
                .hint("0.8 is a good start; 1 samples the model as it is"));
        }
        if top_k == Some(0) {
            return Err(Failure::usage("--top-k is 0, which keeps no token"));
        }
        if let Some(p) = top_p
            && !(p > 0.0 && p <= 1.0)
        {
            return Err(Failure::usage(format!("--top-p is {p}, but must be above 0 and at most 1")));
        }
        Ok(Self { temperature, top_k, top_p })
    }

    /// Draws from `log_probs` (natural logarithms; −∞ is never drawn). Uses one random number whatever happens.
    ///
    /// `None` when no token is possible.
    pub fn draw(&self, log_probs: &[f64], rng: &mut impl Rng) -> Option<u32> {
        let uniform: f64 = rng.random();
        // Most likely first; equal ones by token, so that the order is always the same.
        let mut order: Vec<u32> = (0..log_probs.len() as u32)
            .filter(|&token| log_probs[token as usize] > f64::NEG_INFINITY)
            .collect();
        order.sort_by(|&a, &b| log_probs[b as usize].total_cmp(&log_probs[a as usize]).then(a.cmp(&b)));
        let best = *order.first()?;
        if self.temperature == 0.0 {
            return Some(best);
        }
        order.truncate(self.top_k.unwrap_or(usize::MAX));
        let peak = log_probs[best as usize];
        let mut mass: Vec<f64> = order
            .iter()
            .map(|&token| ((log_probs[token as usize] - peak) / self.temperature).exp())
            .collect();
        let mut total: f64 = mass.iter().sum();
        if let Some(p) = self.top_p {
            let mut reached = 0.0;
            let kept = mass.iter().take_while(|&&m| {
                let short = reached < p * total;
                reached += m;
                short
            });
            let kept = kept.count().max(1);
            mass.truncate(kept);
            total = mass.iter().sum();
        }
        let mut target = uniform * total;
        for (&token, m) in order.iter().zip(&mass) {
            target -= m;
            if target < 0.0 {
                return Some(token);
            }
        }
        Some(order[mass.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::{Purpose, stream};

    fn shares(sampling: Sampling, probs: &[f64]) -> Vec<f64> {
        let log_probs: Vec<f64> = probs.iter().map(|p| p.ln()).collect();
        let mut rng = stream(7, Purpose::Sampling);
        let mut counts = vec![0u32; probs.len()];
        for _ in 0..20_000 {
            counts[sampling.draw(&log_probs, &mut rng).unwrap() as usize] += 1;
        }
        counts.iter().map(|&c| f64::from(c) / 20_000.0).collect()
    }

    #[test]
    fn draws_in_proportion() {
        let plain = Sampling::new(1.0, None, None).unwrap();
        let got = shares(plain, &[0.5, 0.0, 0.3, 0.2]);
        for (share, p) in got.iter().zip([0.5, 0.0, 0.3, 0.2]) {
            assert!((share - p).abs() < 0.015, "{got:?}");
        }
    }

    #[test]
    fn temperature_sharpens_and_top_k_and_top_p_cut() {
        let cold = shares(Sampling::new(0.5, None, None).unwrap(), &[0.6, 0.4]);
        assert!((cold[0] - 0.36 / 0.52).abs() < 0.015, "{cold:?}");
        let two = shares(Sampling::new(1.0, Some(2), None).unwrap(), &[0.2, 0.5, 0.3]);
        assert!(two[0] == 0.0 && (two[1] - 0.625).abs() < 0.015, "{two:?}");
        let nucleus = shares(Sampling::new(1.0, None, Some(0.6)).unwrap(), &[0.2, 0.5, 0.3]);
        assert!(nucleus[0] == 0.0 && (nucleus[1] - 0.625).abs() < 0.015, "{nucleus:?}");
    }

    #[test]
    fn zero_temperature_is_greedy_and_the_impossible_stays_so() {
        let greedy = Sampling::new(0.0, None, None).unwrap();
        let mut rng = stream(1, Purpose::Sampling);
        assert_eq!(greedy.draw(&[-1.0, -0.5, -0.5], &mut rng), Some(1));
        assert_eq!(greedy.draw(&[f64::NEG_INFINITY; 3], &mut rng), None);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(Sampling::new(-1.0, None, None).is_err());
        assert!(Sampling::new(f64::NAN, None, None).is_err());
        assert!(Sampling::new(1.0, Some(0), None).is_err());
        assert!(Sampling::new(1.0, None, Some(0.0)).is_err());
        assert!(Sampling::new(1.0, None, Some(1.5)).is_err());
    }
}
