//! Smoothers: what a count is worth, and how much of the probability a context leaves to the shorter one.
//!
//! Each is one file with an `impl` of [`Smoother`], a variant of [`Smoothing`](super::Smoothing) and its match arm.

pub(super) mod add_k;
pub(super) mod dirichlet;
pub(super) mod discounting;
pub(super) mod jelinek_mercer;
pub(super) mod katz;
pub(super) mod mle;
mod newton;
pub(super) mod stupid_backoff;
pub(super) mod witten_bell;

use super::estimate::Estimate;
use super::header::{BackoffScheme, ContextWeights};
use super::heldout::Heldout;
use super::report::Report;
use super::statistics::ContextStats;
use crate::Result;

/// A smoothing method as its formula: with c the count, h the context and h' the context without its first word,
///
/// ```text
/// q(w | h) = value(c(hw)) · scale(h) + backoff(h) · q(w | h')
/// ```
///
/// and the uniform distribution as the lower order of single words. [`Self::weight`] gives (scale, backoff), which must make
/// q sum to one. The other methods have defaults. Values are computed once per different count and weights once per
/// different [`ContextStats`], so that calls through this trait cost no time.
pub trait Smoother: Sync {
    /// The name in configurations, reports and model files.
    fn name(&self) -> &'static str;

    /// The share of one context in its own counts and in the lower order; it was followed by at least one word.
    ///
    /// `context_len` is the number of words of the context, 0 for single words; `vocab` the number of predictable words.
    fn weight(&self, context_len: usize, context: &ContextStats, vocab: f64) -> ContextWeights;

    /// The value of an n-gram of `context_len` + 1 words with this count: by default the count.
    fn value(&self, _context_len: usize, count: u32) -> f64 {
        f64::from(count)
    }

    /// Checks the parameters for a model of this order.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with what would be right.
    fn check(&self, _order: usize) -> Result<()> {
        Ok(())
    }

    /// Whether [`Self::fit`] reads held-out text.
    fn tuning(&self) -> Tuning {
        Tuning::Never
    }

    /// Sets the parameters from the counts of counts in `report` and, where there is some, from held-out text; writes them
    /// into `report`.
    fn fit(&mut self, _heldout: Option<&Heldout>, _report: &mut Report) {}

    /// How the value of an n-gram and the lower order combine.
    fn scheme(&self) -> BackoffScheme {
        BackoffScheme::Interpolate
    }

    /// Whether orders below the highest count the different words before an n-gram (Kneser-Ney) instead of its occurrences.
    fn uses_continuation_counts(&self) -> bool {
        false
    }

    /// The factor of the lower order where a context of one word or more was never seen: 1 in every distribution. With
    /// another factor the scores do not sum to one.
    fn unseen_context_factor(&self) -> f64 {
        1.0
    }

    /// Whether [`Self::weight`] gives the counts in [`ContextStats::pruned`] to the lower order.
    fn prunes_by_count(&self) -> bool {
        false
    }

    /// Whether every context leaves something to the lower order, so that n-grams can be pruned by relative entropy.
    fn prunes_by_entropy(&self) -> bool {
        true
    }

    /// Changes the whole estimate, for formulas that need the probabilities of the lower order (Katz).
    fn finish(&self, _estimate: &mut Estimate, _report: &mut Report) {}
}

/// When a smoother reads held-out text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tuning {
    /// Never.
    Never,
    /// Where the configuration has `tune = true`.
    OnRequest,
    /// Always: it has no formula for its parameters.
    Always,
}

/// The weight of a context that gives `left` of `total` to the lower order.
fn backing_off(left: f64, total: f64) -> ContextWeights {
    ContextWeights { scale: 1.0 / total, backoff: left / total }
}
