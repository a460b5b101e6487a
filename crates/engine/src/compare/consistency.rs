//! Consistency and efficiency: how near a model comes to a Markov source of its own order.
//!
//! Maximum likelihood on N tokens from a source of k free parameters has an expected KL(p‖q) of
//! k / 2N nats per token (Wilks 1938: 2N·KL is asymptotically χ² with k degrees of freedom). The
//! interval q ± 1.96·√(q(1 − q)/n) of a token after a context that came n times contains the true
//! probability 95 % of the time (asymptotic normality). No unbiased estimate comes nearer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use surprisal_model::LanguageModel;

use super::oracle::SourceOracle;
use crate::data::Dataset;
use crate::error::Result;

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A model beside the Markov source of its training text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consistency {
    /// Number of training tokens.
    pub tokens: u64,
    /// Free parameters of the source.
    pub free_parameters: usize,
    /// Number of cells: tokens that may follow a context.
    pub cells: usize,
    /// Number of cells whose 95 % interval contains the true probability.
    pub covered: usize,
}

impl Consistency {
    /// Compares the predictions of `model` with the source's, for every context of the source's
    /// order that is in the validation text; `None` where the source is no Markov chain, or no
    /// context is there.
    ///
    /// # Errors
    /// A failure of the model.
    pub fn new(model: &dyn LanguageModel, oracle: &SourceOracle, data: &Dataset) -> Result<Option<Self>> {
        let (Some(order), Some(free_parameters)) = (oracle.markov_order(), oracle.free_parameters()) else {
            return Ok(None);
        };
        let val = &data.val.ids;
        let mut contexts: BTreeMap<&[u32], (usize, usize)> = BTreeMap::new();
        for next in order..val.len() {
            contexts.entry(&val[next - order..next]).or_insert((next, 0));
        }
        // The last context has no successor.
        for context in data.train.ids[..data.train.ids.len().saturating_sub(1)].windows(order) {
            if let Some((_, count)) = contexts.get_mut(context) {
                *count += 1;
            }
        }
        let mut found = Self { tokens: data.train.scored(), free_parameters, cells: 0, covered: 0 };
        for (context, (next, count)) in contexts {
            let log_probs = model.next_log_probs(context)?;
            let free = oracle.next_tokens(next).filter(|(_, p)| *p < 1.0);
            for (token, p) in free {
                let q = log_probs[token as usize].exp();
                found.cells += 1;
                found.covered += usize::from((q - p).abs() <= Z * (q * (1.0 - q) / count as f64).sqrt());
            }
        }
        Ok((found.cells > 0).then_some(found))
    }

    /// The expected KL(p‖q) of maximum likelihood, in nats per token.
    pub fn expected_kl(&self) -> f64 {
        self.free_parameters as f64 / (2.0 * self.tokens as f64)
    }
}
