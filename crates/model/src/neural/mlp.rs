//! A neural n-gram: Bengio, Ducharme, Vincent & Jauvin (2003).
//!
//! ```text
//! h = tanh([e(w_{t−1}), …, e(w_{t−n+1})] H + d)      logits = h Uᵀ + b
//! ```
//!
//! Inside a window of text, positions before its start have an embedding of their own, row V of the table.

use candle_core::Tensor;
use surprisal_ops::{Context, embedding, linear, tanh};

use super::init::{Init, Source};
use super::{NeuralConfig, Output};
use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct Mlp {
    vocab_size: usize,
    context: usize,
    wte: Tensor,         // (V + 1, C)
    hidden: Tensor,      // (H, n · C)
    hidden_bias: Tensor, // (H)
    head: Tensor,        // (V, H)
    head_bias: Tensor,   // (V)
}

impl Mlp {
    pub(super) fn new(config: &NeuralConfig, source: &mut Source<'_>) -> Result<Self> {
        let &NeuralConfig::Mlp { vocab_size, context, n_embd, n_hidden, .. } = config else {
            return Err(Error::Config("not an MLP".into()));
        };
        // Variance kept from layer to layer: 1/√(inputs), and the gain of tanh, 5/3.
        let fan_in = |inputs: usize, gain: f64| Init::Normal(gain / (inputs as f64).sqrt());
        Ok(Self {
            vocab_size,
            context,
            wte: source.get("wte.weight", &[vocab_size + 1, n_embd], Init::Normal(1.0))?,
            hidden: source.get(
                "hidden.weight",
                &[n_hidden, context * n_embd],
                fan_in(context * n_embd, 5.0 / 3.0),
            )?,
            hidden_bias: source.get("hidden.bias", &[n_hidden], Init::Constant(0.0))?,
            // Small, so that the first predictions are nearly uniform.
            head: source.get("head.weight", &[vocab_size, n_hidden], fan_in(n_hidden, 0.1))?,
            head_bias: source.get("head.bias", &[vocab_size], Init::Constant(0.0))?,
        })
    }

    pub(super) fn forward(&self, context: &Context, ids: &Tensor) -> Result<Output> {
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
        Ok(Output::Head { hidden, weight: self.head.clone(), bias: Some(self.head_bias.clone()) })
    }
}
