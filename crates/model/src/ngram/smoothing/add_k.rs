//! Additive smoothing (Lidstone; Laplace for k = 1).

use super::{Smoother, Tuning, backing_off};
use crate::ngram::{BackoffScheme, ContextStats, ContextWeights, Heldout, OrderStats, Report};
use crate::{Error, Result};

/// q(w | h) = (c(hw) + k) / (c(h) + k |V|), of the longest context alone.
pub(in crate::ngram) struct AddK {
    pub(in crate::ngram) k: f64,
}

impl Smoother for AddK {
    fn name(&self) -> &'static str {
        "add_k"
    }

    fn weight(&self, _: usize, context: &ContextStats, vocab: f64) -> ContextWeights {
        backing_off(self.k * vocab, context.total as f64 + self.k * vocab)
    }

    fn check(&self, _order: usize) -> Result<()> {
        if (1e-12..=1e12).contains(&self.k) {
            return Ok(());
        }
        Err(Error::Config(format!("k must be from 1e-12 to 1e12, not {}", self.k)))
    }

    fn tuning(&self) -> Tuning {
        Tuning::OnRequest
    }

    fn fit(&mut self, heldout: Option<&Heldout>, report: &mut Report) {
        if let Some(heldout) = heldout {
            self.k = best_k(heldout);
        }
        report.k = Some(self.k);
    }

    fn scheme(&self) -> BackoffScheme {
        BackoffScheme::LongestOnly
    }

    fn prunes_by_entropy(&self) -> bool {
        false
    }
}

/// The k with the least −Σ ln q over held-out text: golden-section search over ln k.
fn best_k(heldout: &Heldout) -> f64 {
    let vocab = 1.0 / heldout.uniform();
    let loss = |log_k: f64| {
        let k = log_k.exp();
        let nats = |orders: &[OrderStats]| {
            let longest = orders[orders.len() - 1];
            ((longest.context.total as f64 + k * vocab) / (f64::from(longest.count) + k)).ln()
        };
        heldout.tokens().map(nats).sum::<f64>()
    };
    let (mut low, mut high) = (1e-7_f64.ln(), 100_f64.ln());
    let golden = (5_f64.sqrt() - 1.0) / 2.0;
    let (mut a, mut b) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_a, mut at_b) = (loss(a), loss(b));
    while high - low > 1e-3 {
        if at_a < at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - golden * (high - low);
            at_a = loss(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + golden * (high - low);
            at_b = loss(b);
        }
    }
    f64::midpoint(low, high).exp()
}
