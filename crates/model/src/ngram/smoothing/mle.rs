//! Maximum likelihood.

use super::{Smoother, backing_off};
use crate::ngram::{ContextStats, ContextWeights};

/// q(w | h) = c(hw) / c(h).
pub(in crate::ngram) struct Mle;

impl Smoother for Mle {
    fn name(&self) -> &'static str {
        "mle"
    }

    fn weight(&self, _: usize, context: &ContextStats, _: f64) -> ContextWeights {
        backing_off(0.0, context.total as f64)
    }

    fn prunes_by_entropy(&self) -> bool {
        false
    }
}
