//! Recurrent networks: the LSTM (Hochreiter & Schmidhuber 1997; with a forget gate, Gers et al.
//! 2000) and the GRU (Cho et al. 2014), as PyTorch's `nn.LSTM` and `nn.GRU` define them.
//!
//! ```text
//! x = wte[w]     x = cell_l(x, state_l)  for each layer l     logits = x Uᵀ + b
//! ```
//!
//! Training carries the state from window to window, but no gradient flows back across a window's
//! start (truncated back-propagation through time, Williams & Peng 1990).

use std::ops::RangeInclusive;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use surprisal_ops::recurrent::{Cell, RecurrentWeights, recurrent};
use surprisal_ops::{Context, DropoutKey, dropout, embedding};

use super::kind::{Kind, MAX_LAYERS, MAX_WIDTH, check_dropout, text_sizes};
use super::{Architecture, Init, Mode, Output, ParameterBuilder, Pass, Windows};
use crate::Result;

/// The sizes of an LSTM or a GRU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecurrentConfig {
    /// |V|.
    pub vocab_size: usize,
    /// Tokens per window in training: as far as gradients flow back.
    pub block_size: usize,
    /// Layers, each reading the outputs of the one below.
    pub n_layer: usize,
    /// Width of the token embeddings.
    pub n_embd: usize,
    /// Units per layer.
    pub n_hidden: usize,
    /// Share of activations dropped in training: of the embeddings and of each layer's outputs, not
    /// of the recurrent connections (Zaremba et al. 2014).
    pub dropout: f64,
}

impl Default for RecurrentConfig {
    fn default() -> Self {
        Self { vocab_size: 0, block_size: 0, n_layer: 2, n_embd: 128, n_hidden: 128, dropout: 0.0 }
    }
}

impl Kind for (Cell, &RecurrentConfig) {
    fn sizes(&self) -> Vec<(&'static str, usize, RangeInclusive<usize>)> {
        let config = self.1;
        let mut sizes = Vec::from(text_sizes(config.vocab_size, config.block_size));
        sizes.extend([
            ("n_layer", config.n_layer, 1..=MAX_LAYERS),
            ("n_embd", config.n_embd, 1..=MAX_WIDTH),
            ("n_hidden", config.n_hidden, 1..=1 << 24),
        ]);
        sizes
    }

    fn check(&self) -> Result<()> {
        check_dropout(self.1.dropout)
    }

    fn parameters(&self) -> f64 {
        let RecurrentConfig { vocab_size, n_layer, n_embd, n_hidden, .. } = *self.1;
        let [gates, v, l, c, h] =
            [self.0.gates(), vocab_size, n_layer, n_embd, n_hidden].map(|size| size as f64);
        v * (c + h) + gates * h * (c + h) + 2.0 * gates * (l - 1.0).max(0.0) * h * h
    }

    fn activations(&self) -> f64 {
        let RecurrentConfig { vocab_size, n_layer, n_embd, n_hidden, .. } = *self.1;
        let [gates, v, l, c, h] =
            [self.0.gates(), vocab_size, n_layer, n_embd, n_hidden].map(|size| size as f64);
        3.0 * gates * l * h + 2.0 * c + 4.0 * v
    }

    fn windows(&self) -> Windows {
        Windows::Following { state_width: self.0.states() * self.1.n_hidden * self.1.n_layer }
    }

    fn build(&self, parameters: &mut ParameterBuilder<'_>) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(Recurrent::new(self.0, self.1, parameters)?))
    }
}

#[derive(Debug)]
pub(super) struct Recurrent {
    cell: Cell,
    n_hidden: usize,
    dropout: f64,
    wte: Tensor, // (V, C)
    layers: Vec<RecurrentWeights>,
    head: Tensor,      // (V, H)
    head_bias: Tensor, // (V)
}

impl Recurrent {
    pub(super) fn new(
        cell: Cell,
        config: &RecurrentConfig,
        parameters: &mut ParameterBuilder<'_>,
    ) -> Result<Self> {
        let &RecurrentConfig { vocab_size, n_layer, n_embd, n_hidden, dropout, .. } = config;
        let gates = cell.gates() * n_hidden;
        let wte = parameters.get("wte.weight", &[vocab_size, n_embd], Init::Normal(1.0))?;
        // PyTorch draws from ± 1/√H uniformly; this has the same variance.
        let std = Init::Normal(1.0 / (3.0 * n_hidden as f64).sqrt());
        let per_gate = vec![n_hidden; cell.gates()];
        let mut layers = Vec::with_capacity(n_layer);
        for layer in 0..n_layer {
            let width = if layer == 0 { n_embd } else { n_hidden };
            let name = |part: &str| format!("rnn.{part}_l{layer}");
            layers.push(RecurrentWeights {
                weight_ih: parameters.hidden(&name("weight_ih"), [gates, width], std, &per_gate)?,
                weight_hh: parameters.hidden(&name("weight_hh"), [gates, n_hidden], std, &per_gate)?,
                bias_ih: parameters.get(&name("bias_ih"), &[gates], forget_bias(cell))?,
                bias_hh: parameters.get(&name("bias_hh"), &[gates], Init::Constant(0.0))?,
            });
        }
        // Small, so that the first predictions are nearly uniform.
        let head_std = Init::Normal(0.1 / (n_hidden as f64).sqrt());
        Ok(Self {
            cell,
            n_hidden,
            dropout,
            wte,
            layers,
            head: parameters.get("head.weight", &[vocab_size, n_hidden], head_std)?,
            head_bias: parameters.get("head.bias", &[vocab_size], Init::Constant(0.0))?,
        })
    }

    /// Numbers in one row of one layer's state.
    fn layer_width(&self) -> usize {
        self.cell.states() * self.n_hidden
    }
}

/// An LSTM starts with its forget gates open (Jozefowicz et al. 2015), or it could not learn to
/// remember; of its gates i, f, g, o they are the second.
fn forget_bias(cell: Cell) -> Init {
    match cell {
        Cell::Lstm => Init::Part { parts: 4, part: 1, value: 1.0 },
        Cell::Gru => Init::Constant(0.0),
    }
}

impl Architecture for Recurrent {
    fn forward(&self, context: &Context, ids: &Tensor, state: Option<&[f32]>, mode: &Mode) -> Result<Pass> {
        let (b, _) = ids.dims2()?;
        let (width, all) = (self.layer_width(), self.layers.len() * self.layer_width());
        let drop = |x: Tensor, site: u64| match *mode {
            Mode::Train { dropout_seed: seed, first_row } if self.dropout > 0.0 => {
                let shaped = x.reshape((b, ()))?;
                let dropped = dropout(&shaped, self.dropout, DropoutKey { seed, site, first_row })?;
                dropped.reshape(x.shape())
            }
            Mode::Train { .. } | Mode::Evaluate => Ok(x),
        };
        let mut x = drop(embedding(context, &ids.flatten_all()?, &self.wte)?, 0)?; // (B·T, C)
        let mut after = vec![0.0; b * all];
        for (l, weights) in self.layers.iter().enumerate() {
            let columns = l * width..(l + 1) * width;
            let before: Option<Vec<f32>> = state.map(|state| {
                state.chunks_exact(all).flat_map(|row| row[columns.clone()].iter().copied()).collect()
            });
            let (y, last) = recurrent(context, self.cell, &x, b, weights, before.as_deref())?; // (B·T, H)
            for (row, last) in after.chunks_exact_mut(all).zip(last.chunks_exact(width)) {
                row[columns.clone()].copy_from_slice(last);
            }
            x = drop(y, l as u64 + 1)?;
        }
        let output =
            Output::Head { hidden: x, weight: self.head.clone(), bias: Some(self.head_bias.clone()) };
        Ok((output, after))
    }
}
