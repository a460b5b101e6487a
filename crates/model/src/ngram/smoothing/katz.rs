//! Katz's back-off (1987): Good-Turing discounts for small counts.

use super::{Smoother, backing_off};
use crate::ngram::{BackoffScheme, ContextStats, ContextWeights, Report};

/// Good-Turing discounts for counts up to [`GT_MAX`]; the back-off mass is shared over unseen words
/// as in the shorter context.
#[derive(Default)]
pub(in crate::ngram) struct Katz {
    /// By order and count.
    ratios: Vec<[f64; GT_MAX]>,
}

impl Smoother for Katz {
    fn name(&self) -> &'static str {
        "katz"
    }

    /// Single words keep their counts, and unseen ones get Witten-Bell's share. The back-off
    /// weights of longer contexts are computed in [`Self::finish`].
    fn weight(&self, context_len: usize, context: &ContextStats, _: f64) -> ContextWeights {
        let (total, types) = (context.total as f64, context.types() as f64);
        match context_len {
            0 => backing_off(types, total + types),
            _ => ContextWeights { scale: 1.0 / total, backoff: 0.0 },
        }
    }

    fn value(&self, context_len: usize, count: u32) -> f64 {
        let ratio = self.ratios[context_len].get((count as usize).wrapping_sub(1));
        f64::from(count) * ratio.unwrap_or(&1.0)
    }

    fn scheme(&self) -> BackoffScheme {
        BackoffScheme::BackOff
    }

    fn needs_lower_mass(&self) -> bool {
        true
    }

    fn discount(&mut self, count_of_counts: &[[u64; GT_MAX + 1]], report: &mut Report) {
        self.ratios = vec![[1.0; GT_MAX]; count_of_counts.len()];
        for (len, n) in count_of_counts.iter().enumerate().skip(1) {
            let (ratios, good) = discount_ratios(n);
            if !good {
                report.notices.push(format!(
                    "order {}: some Good-Turing discounts are impossible (counts of counts {n:?}); those counts are \
                     believed",
                    len + 1
                ));
            }
            self.ratios[len] = ratios;
        }
    }

    /// α(h) = (1 − Σ seen q(w | h)) / (1 − Σ seen q(w | h')), given 1/c(h), Σ discounted counts and
    /// Σ seen q(w | h').
    fn finish(&self, scale: f64, mass: f64, seen_lower_mass: f64) -> ContextWeights {
        const LEAST: f64 = 1e-9;
        let rest = 1.0 - seen_lower_mass;
        if rest < LEAST {
            // Every word that can follow was seen: there is no back-off mass.
            return ContextWeights { scale: 1.0 / mass, backoff: 0.0 };
        }
        let backoff_mass = 1.0 - mass * scale;
        if backoff_mass >= LEAST {
            return ContextWeights { scale, backoff: backoff_mass / rest };
        }
        // No count was discounted: unseen words get the share of one more occurrence.
        let scale = 1.0 / (mass + 1.0);
        ContextWeights { scale, backoff: (1.0 - mass * scale) / rest }
    }
}

/// Counts above this are not discounted (Katz's k).
const GT_MAX: usize = 7;

/// The discount ratio d_c of counts 1 to K: ((c*/c) − A)/(1 − A) with c* = (c + 1) n_{c+1}/n_c and
/// A = (K + 1) n_{K+1}/n₁. A ratio outside (0, 1] or without a formula is 1.
fn discount_ratios(n: &[u64; GT_MAX + 1]) -> ([f64; GT_MAX], bool) {
    let mut factors = [1.0; GT_MAX];
    let n = n.map(|n| n as f64);
    let a = (GT_MAX as f64 + 1.0) * n[GT_MAX] / n[0];
    if !(0.0..1.0).contains(&a) {
        return (factors, false);
    }
    let mut good = true;
    for (i, factor) in factors.iter_mut().enumerate() {
        let c = (i + 1) as f64;
        let d = ((c + 1.0) * n[i + 1] / n[i] / c - a) / (1.0 - a);
        if d > 0.0 && d <= 1.0 {
            *factor = d;
        } else {
            good = false;
        }
    }
    (factors, good)
}
