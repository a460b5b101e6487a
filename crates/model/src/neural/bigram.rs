//! The bigram as a neural network: one row of logits a token.
//!
//! Trained to the end without decay it is the counted maximum-likelihood bigram; with label smoothing ε it is
//! (1 − ε) · MLE + ε/|V|.

use candle_core::Tensor;
use surprisal_ops::Context;

use super::Output;
use super::init::{Init, Source};
use crate::Result;

/// logits = table\[w\].
#[derive(Debug)]
pub(super) struct Bigram {
    table: Tensor, // (V, V)
}

impl Bigram {
    pub(super) fn new(vocab_size: usize, source: &mut Source<'_>) -> Result<Self> {
        // All zero is the uniform distribution, and the problem is convex: nothing has to be broken by chance.
        Ok(Self { table: source.get("table.weight", &[vocab_size, vocab_size], Init::Constant(0.0))? })
    }

    pub(super) fn forward(&self, context: &Context, ids: &Tensor) -> Result<Output> {
        let logits = surprisal_ops::embedding(context, &ids.flatten_all()?, &self.table)?; // (B·T, V)
        Ok(Output::Logits(logits))
    }
}
