//! Stupid backoff (Brants et al. 2007).

use super::{Smoother, backing_off};
use crate::ngram::{BackoffScheme, ContextStats, ContextWeights};

const FACTOR: f64 = 0.4;

/// c(hw) / c(h) where hw was seen, else 0.4 times the score of the shorter context.
pub(in crate::ngram) struct StupidBackoff;

impl Smoother for StupidBackoff {
    fn name(&self) -> &'static str {
        "stupid_backoff"
    }

    fn weight(&self, context_len: usize, context: &ContextStats, _: f64) -> ContextWeights {
        let total = context.total as f64;
        match context_len {
            0 => backing_off(0.0, total),
            _ => ContextWeights { scale: 1.0 / total, backoff: FACTOR },
        }
    }

    fn scheme(&self) -> BackoffScheme {
        BackoffScheme::BackOff
    }

    fn unseen_context_factor(&self) -> f64 {
        FACTOR
    }

    fn prunes_by_entropy(&self) -> bool {
        false
    }
}
