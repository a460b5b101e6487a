//! Models found by gradient descent: a table of logits, Bengio's MLP, recurrent networks, and a
//! transformer; or an architecture from outside ([`Blueprint`]).
//!
//! A network is device-agnostic candle code over the differentiable operations of `surprisal_ops`.
//! Its output is hidden states with the weights of its head, or logits, and never a loss: the
//! objective is the caller's.

mod architecture;
mod bigram;
mod config;
mod custom;
mod init;
mod kind;
mod mlp;
mod neural_lm;
mod parameter;
mod recurrent;
mod state_session;
mod transformer;
mod transformer_config;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use surprisal_ops::Context;

pub use architecture::{Architecture, Windows};
pub use bigram::BigramConfig;
pub use config::NeuralConfig;
pub use custom::{Blueprint, CustomConfig, Reader, Registry};
pub use init::{Init, ParameterBuilder};
pub use mlp::MlpConfig;
pub use neural_lm::NeuralLm;
pub use parameter::Parameter;
pub use recurrent::RecurrentConfig;
pub use transformer_config::{ActivationKind, NormKind, PositionKind, TransformerConfig};

use crate::{Error, Result};

/// Training or evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No dropout, and nothing saved for backward.
    Evaluate,
    /// With dropout.
    Train {
        /// Seed of this step's dropout masks.
        dropout_seed: u64,
        /// Index of the first given row in the whole batch, so that masks do not depend on shards.
        first_row: usize,
    },
}

/// Output for a batch: logits, or hidden states and head, so that a loss need not store logits.
#[derive(Debug, Clone)]
pub enum Output {
    /// (B·T, V).
    Logits(Tensor),
    /// logits = hidden · weightᵀ + bias.
    Head {
        /// (B·T, C).
        hidden: Tensor,
        /// (V, C).
        weight: Tensor,
        /// (V).
        bias: Option<Tensor>,
    },
}

impl Output {
    /// The output of some of the positions (B·T).
    pub(crate) fn rows(&self, first: usize, count: usize) -> Result<Self> {
        let rows = |x: &Tensor| x.narrow(0, first, count)?.contiguous();
        Ok(match self {
            Self::Logits(logits) => Self::Logits(rows(logits)?),
            Self::Head { hidden, weight, bias } => {
                Self::Head { hidden: rows(hidden)?, weight: weight.clone(), bias: bias.clone() }
            }
        })
    }

    /// (B·T, V).
    ///
    /// # Errors
    /// A failure of candle.
    pub fn logits(&self) -> Result<Tensor> {
        self.logits_in(&Context::default())
    }

    /// [`Self::logits`] with the precision and gradient sink of `context`.
    ///
    /// # Errors
    /// As [`Self::logits`].
    pub fn logits_in(&self, context: &Context) -> Result<Tensor> {
        match self {
            Self::Logits(logits) => Ok(logits.clone()),
            Self::Head { hidden, weight, bias } => {
                Ok(surprisal_ops::linear(context, hidden, weight, bias.as_ref())?)
            }
        }
    }
}

/// The result of a forward pass: the output, and the state after the last column.
pub type Pass = (Output, Vec<f32>);

/// A neural language model and its parameters.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// # use rand::SeedableRng;
/// use surprisal_model::neural::{MlpConfig, Mode, Neural, NeuralConfig};
/// # fn main() -> surprisal_model::Result<()> {
/// let config = NeuralConfig::Mlp(MlpConfig { vocab_size: 5, block_size: 8, context: 3, n_embd: 4, n_hidden: 16 });
/// let neural = Neural::new(&config, &mut rand_chacha::ChaCha8Rng::seed_from_u64(1))?;
/// let ids = Tensor::new(&[[0u32, 3, 1, 4]], &Device::Cpu)?; // one row
/// assert_eq!(neural.forward(&ids, &Mode::Evaluate)?.logits()?.dims(), [4, 5]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Neural {
    config: NeuralConfig,
    architecture: Box<dyn Architecture>,
    parameters: Vec<Parameter>,
    stop: Arc<AtomicBool>,
}

impl Neural {
    /// Once `stop` is set, scoring ends in [`crate::Error::Stopped`].
    pub fn stop_when(&mut self, stop: Arc<AtomicBool>) {
        self.stop = stop;
    }

    /// A model with the initial weights that `init` draws.
    ///
    /// # Errors
    /// An invalid configuration; a failure of candle.
    pub fn new(config: &NeuralConfig, init: &mut ChaCha8Rng) -> Result<Self> {
        Self::build(config, ParameterBuilder::random(init))
    }

    /// A model with the given weights, which must have the names and shapes of its parameters.
    ///
    /// # Errors
    /// A missing, unknown or wrongly shaped tensor, by name.
    pub fn from_tensors(config: &NeuralConfig, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        Self::build(config, ParameterBuilder::loaded(tensors))
    }

    fn build(config: &NeuralConfig, mut parameters: ParameterBuilder<'_>) -> Result<Self> {
        config.check()?;
        let architecture = config.build(&mut parameters)?;
        let parameters = parameters.finish()?;
        Ok(Self { config: config.clone(), architecture, parameters, stop: Arc::default() })
    }

    /// Kind and sizes.
    pub fn config(&self) -> &NeuralConfig {
        &self.config
    }

    /// Parameters, always in the same order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Whether all parameters and the logits of a short text are finite: weights of a diverged run
    /// may be finite and too large to add up.
    ///
    /// # Errors
    /// A failure of candle.
    pub fn is_finite(&self) -> Result<bool> {
        const MAX_TOKENS: usize = 16;
        for parameter in &self.parameters {
            if !parameter.read(|values| values.iter().all(|value| value.is_finite()))? {
                return Ok(false);
            }
        }
        let (t, vocab_size) = (self.config.block_size().min(MAX_TOKENS), self.config.vocab_size());
        let ids: Vec<u32> = (0..t).map(|place| (place * vocab_size / t) as u32).collect();
        let ids = Tensor::from_vec(ids, (1, t), &Device::Cpu)?;
        let scores: Vec<f32> = self.forward(&ids, &Mode::Evaluate)?.logits()?.flatten_all()?.to_vec1()?;
        Ok(scores.iter().all(|score| score.is_finite()))
    }

    /// Kind of windows that training cuts the text into, and the width of the state between them.
    pub fn windows(&self) -> Windows {
        self.config.windows()
    }

    /// The output for each of `ids` (B, T), T ≤ `block_size`: each position sees itself and those
    /// before it in its row, and a network with a state ([`Windows::Following`]) starts from none
    /// and takes rows of any length.
    ///
    /// # Errors
    /// Rows that are too long; a failure of candle.
    pub fn forward(&self, ids: &Tensor, mode: &Mode) -> Result<Output> {
        self.forward_in(&Context::default(), ids, None, mode).map(|(output, _)| output)
    }

    /// [`Self::forward`], computed as `context` requires, from the `state` (B, `state_width`) after
    /// earlier windows; also the state after this one. In an evaluation nothing is saved for
    /// gradients, whatever the context.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_in(
        &self,
        context: &Context,
        ids: &Tensor,
        state: Option<&[f32]>,
        mode: &Mode,
    ) -> Result<Pass> {
        let ((_, t), block_size) = (ids.dims2()?, self.config.block_size());
        if t > block_size && self.windows() == Windows::Shuffled {
            return Err(Error::Config(format!("{t} tokens do not fit a block of {block_size}")));
        }
        let context = match mode {
            Mode::Evaluate => &context.inference_mode(),
            Mode::Train { .. } => context,
        };
        self.architecture.forward(context, ids, state, mode)
    }

    /// The attention weights of each layer, (B, H, T, T), for each of `ids` (B, T), T ≤
    /// `block_size`; none of a network without attention.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn attention_weights(&self, ids: &Tensor) -> Result<Vec<Tensor>> {
        let ((_, t), block_size) = (ids.dims2()?, self.config.block_size());
        if t > block_size && self.windows() == Windows::Shuffled {
            return Err(Error::Config(format!("{t} tokens do not fit a block of {block_size}")));
        }
        self.architecture.attention_weights(&Context::default().inference_mode(), ids)
    }
}
