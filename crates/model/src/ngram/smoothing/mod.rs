//! The built-in smoothers.
//!
//! Each is one file with an `impl` of [`Smoother`], a variant of [`Smoothing`](super::Smoothing)
//! and its match arm.

pub(super) mod add_k;
pub(super) mod dirichlet;
pub(super) mod discounting;
pub(super) mod jelinek_mercer;
pub(super) mod katz;
pub(super) mod mle;
mod newton;
pub(super) mod stupid_backoff;
pub(super) mod witten_bell;

use super::{BackoffScheme, ContextStats, ContextWeights, Heldout, Report};
use crate::Result;

/// A smoothing method. With c the count, h the context and h' the context without its first word,
///
/// ```text
/// q(w | h) = value(c(hw)) · scale(h) + backoff(h) · q(w | h')
/// ```
///
/// and the lower order of single words is the uniform distribution. [`Self::weight`] returns
/// (scale, backoff), which must make q sum to one; the other methods have defaults. Values are
/// computed once per distinct count and weights once per distinct [`ContextStats`], so dynamic
/// dispatch costs no time.
pub trait Smoother: Sync {
    /// The name in configurations, reports and model files.
    fn name(&self) -> &'static str;

    /// The weights of a context that was followed by at least one word.
    ///
    /// `context_len` is its length, 0 for single words; `vocab` is the number of predictable words.
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

    /// Sets the parameters from the counts of counts in `report` and from held-out text, if there
    /// is any; writes them into `report`.
    fn fit(&mut self, _heldout: Option<&Heldout>, _report: &mut Report) {}

    /// Combination of the value of an n-gram with the lower order.
    fn scheme(&self) -> BackoffScheme {
        BackoffScheme::Interpolate
    }

    /// Whether lower orders count the different words before an n-gram (Kneser-Ney), not
    /// occurrences.
    fn uses_continuation_counts(&self) -> bool {
        false
    }

    /// The factor of the lower order where a context was never seen: 1 for a distribution. With
    /// another factor, scores do not sum to one.
    fn unseen_context_factor(&self) -> f64 {
        1.0
    }

    /// Whether [`Self::weight`] gives the counts in [`ContextStats::pruned`] to the lower order.
    fn prunes_by_count(&self) -> bool {
        false
    }

    /// Whether every context has back-off mass, so that n-grams can be pruned by relative entropy.
    fn prunes_by_entropy(&self) -> bool {
        true
    }

    /// Sets what follows from the number of n-grams of each order with counts from 1 to 8.
    fn discount(&mut self, _count_of_counts: &[[u64; 8]], _report: &mut Report) {}

    /// Whether [`Self::finish`] gives the weights of contexts, for formulas with probabilities of
    /// the lower order (Katz).
    fn needs_lower_mass(&self) -> bool {
        false
    }

    /// The weights of a context that was followed by at least one word, from its scale by
    /// [`Self::weight`], Σ values of those words and Σ q(w | h') of them.
    fn finish(&self, scale: f64, _mass: f64, _seen_lower_mass: f64) -> ContextWeights {
        ContextWeights { scale, backoff: 0.0 }
    }
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

/// The weights of a context that gives `backoff_mass` of `total` to the lower order.
fn backing_off(backoff_mass: f64, total: f64) -> ContextWeights {
    ContextWeights { scale: 1.0 / total, backoff: backoff_mass / total }
}
