//! The bigram as a neural network: one row of logits per token.
//!
//! Trained to convergence without weight decay, it equals the maximum-likelihood bigram from
//! counts; with label smoothing ε it is (1 − ε) · MLE + ε/|V|.

use std::ops::RangeInclusive;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use surprisal_ops::Context;

use super::kind::{Kind, text_sizes};
use super::{Architecture, Init, Mode, Output, ParameterBuilder, Pass};
use crate::Result;

/// The sizes of a bigram table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BigramConfig {
    /// |V|.
    pub vocab_size: usize,
    /// Tokens per window of text.
    pub block_size: usize,
}

impl Kind for BigramConfig {
    fn sizes(&self) -> Vec<(&'static str, usize, RangeInclusive<usize>)> {
        text_sizes(self.vocab_size, self.block_size).into()
    }

    fn parameters(&self) -> f64 {
        (self.vocab_size as f64).powi(2)
    }

    fn activations(&self) -> f64 {
        4.0 * self.vocab_size as f64
    }

    fn build(&self, parameters: &mut ParameterBuilder<'_>) -> Result<Box<dyn Architecture>> {
        // All zero is the uniform distribution, and the problem is convex: no symmetry to break.
        let shape = [self.vocab_size, self.vocab_size];
        Ok(Box::new(Bigram { table: parameters.get("table.weight", &shape, Init::Constant(0.0))? }))
    }
}

/// logits = table\[w\].
#[derive(Debug)]
struct Bigram {
    table: Tensor, // (V, V)
}

impl Architecture for Bigram {
    fn forward(&self, context: &Context, ids: &Tensor, _state: Option<&[f32]>, _mode: &Mode) -> Result<Pass> {
        let logits = surprisal_ops::embedding(context, &ids.flatten_all()?, &self.table)?; // (B·T, V)
        Ok((Output::Logits(logits), Vec::new()))
    }
}
