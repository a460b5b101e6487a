//! Witten-Bell smoothing (1991, method C).

use super::{Smoother, backing_off};
use crate::ngram::{ContextStats, ContextWeights};

/// q(w | h) = (c(hw) + T(h) q(w | h')) / (c(h) + T(h)), T(h) being the number of different words
/// after h.
pub(in crate::ngram) struct WittenBell;

impl Smoother for WittenBell {
    fn name(&self) -> &'static str {
        "witten_bell"
    }

    fn weight(&self, _: usize, context: &ContextStats, _: f64) -> ContextWeights {
        let (total, types) = (context.total as f64, context.types() as f64);
        backing_off(types, total + types)
    }
}
