//! A neural n-gram: Bengio, Ducharme, Vincent & Jauvin (2003).
//!
//! ```text
//! h = tanh([e(w_{t−1}), …, e(w_{t−n+1})] H + d)      logits = h Uᵀ + b
//! ```
//!
//! Inside a window of text, positions before its start have an embedding of their own, row V of the
//! table.

use std::ops::RangeInclusive;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use surprisal_ops::{Context, embedding, linear, tanh};

use super::kind::{Kind, MAX_WIDTH, text_sizes};
use super::{Architecture, Init, Mode, Output, ParameterBuilder, Pass};
use crate::Result;

/// The sizes of an MLP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpConfig {
    /// |V|.
    pub vocab_size: usize,
    /// Tokens per window of text.
    pub block_size: usize,
    /// Width of an embedding.
    pub n_embd: usize,
    /// tanh units.
    pub n_hidden: usize,
    /// Tokens before the predicted one that it sees: n − 1 of a neural n-gram.
    pub context: usize,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { vocab_size: 0, block_size: 0, n_embd: 32, n_hidden: 256, context: 8 }
    }
}

impl Kind for MlpConfig {
    fn sizes(&self) -> Vec<(&'static str, usize, RangeInclusive<usize>)> {
        let mut sizes = Vec::from(text_sizes(self.vocab_size, self.block_size));
        sizes.extend([
            ("context", self.context, 1..=4096),
            ("n_embd", self.n_embd, 1..=MAX_WIDTH),
            ("n_hidden", self.n_hidden, 1..=1 << 24),
        ]);
        sizes
    }

    fn parameters(&self) -> f64 {
        let [v, c, h, n] =
            [self.vocab_size, self.n_embd, self.n_hidden, self.context].map(|size| size as f64);
        (v + 1.0) * c + n * c * h + h * v
    }

    fn activations(&self) -> f64 {
        let [v, c, h, n] =
            [self.vocab_size, self.n_embd, self.n_hidden, self.context].map(|size| size as f64);
        3.0 * n * c + 6.0 * h + 2.0 * v
    }

    fn build(&self, parameters: &mut ParameterBuilder<'_>) -> Result<Box<dyn Architecture>> {
        let Self { vocab_size, n_embd, n_hidden, context, .. } = *self;
        // Variance kept from layer to layer: 1/√(inputs), and the gain of tanh, 5/3.
        let fan_in = |inputs: usize, gain: f64| Init::Normal(gain / (inputs as f64).sqrt());
        let inputs = context * n_embd;
        Ok(Box::new(Mlp {
            vocab_size,
            context,
            wte: parameters.get("wte.weight", &[vocab_size + 1, n_embd], Init::Normal(1.0))?,
            hidden: parameters.get("hidden.weight", &[n_hidden, inputs], fan_in(inputs, 5.0 / 3.0))?,
            hidden_bias: parameters.get("hidden.bias", &[n_hidden], Init::Constant(0.0))?,
            // Small, so that the first predictions are nearly uniform.
            head: parameters.get("head.weight", &[vocab_size, n_hidden], fan_in(n_hidden, 0.1))?,
            head_bias: parameters.get("head.bias", &[vocab_size], Init::Constant(0.0))?,
        }))
    }
}

#[derive(Debug)]
struct Mlp {
    vocab_size: usize,
    context: usize,
    wte: Tensor,         // (V + 1, C)
    hidden: Tensor,      // (H, n · C)
    hidden_bias: Tensor, // (H)
    head: Tensor,        // (V, H)
    head_bias: Tensor,   // (V)
}

impl Architecture for Mlp {
    fn forward(&self, context: &Context, ids: &Tensor, _state: Option<&[f32]>, _mode: &Mode) -> Result<Pass> {
        let (b, t) = ids.dims2()?;
        let n = self.context;
        let rows = ids.to_vec2::<u32>()?;
        // Each position's last n tokens, oldest first.
        let mut windows = Vec::with_capacity(b * t * n);
        for row in &rows {
            for position in 0..t {
                for back in (0..n).rev() {
                    windows.push(if back > position { self.vocab_size as u32 } else { row[position - back] });
                }
            }
        }
        let windows = Tensor::from_vec(windows, b * t * n, ids.device())?;
        let x = embedding(context, &windows, &self.wte)?; // (B·T·n, C)
        let x = x.reshape((b * t, ()))?; // (B·T, n·C)
        let hidden = tanh(&linear(context, &x, &self.hidden, Some(&self.hidden_bias))?)?; // (B·T, H)
        let output = Output::Head { hidden, weight: self.head.clone(), bias: Some(self.head_bias.clone()) };
        Ok((output, Vec::new()))
    }
}
