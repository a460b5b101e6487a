//! The kind and the sizes of a neural model.

use serde::{Deserialize, Serialize};

use surprisal_ops::recurrent::Cell;

use super::kind::{Kind, within};
use super::transformer::bigram_row;
use super::{
    Architecture, BigramConfig, CustomConfig, MlpConfig, ParameterBuilder, RecurrentConfig, Registry,
    TransformerConfig, Windows,
};
use crate::{Error, Result};

/// A neural model's kind and sizes.
///
/// As JSON or TOML it is one flat object with a `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NeuralConfig {
    /// A table of logits: row w holds the logits of what follows w.
    Bigram(BigramConfig),
    /// Bengio et al. (2003): the embeddings of the last tokens side by side, a tanh layer, a
    /// softmax.
    Mlp(MlpConfig),
    /// Decoder-only, pre-norm.
    Transformer(TransformerConfig),
    /// Long short-term memory.
    Lstm(RecurrentConfig),
    /// Gated recurrent units.
    Gru(RecurrentConfig),
    /// An architecture from outside this crate.
    Custom(CustomConfig),
}

impl NeuralConfig {
    /// Calls `f` with the config as [`Kind`].
    fn with<R>(&self, f: impl FnOnce(&dyn Kind) -> R) -> R {
        match self {
            Self::Bigram(config) => f(config),
            Self::Mlp(config) => f(config),
            Self::Transformer(config) => f(config),
            Self::Lstm(config) => f(&(Cell::Lstm, config)),
            Self::Gru(config) => f(&(Cell::Gru, config)),
            Self::Custom(config) => f(config),
        }
    }

    /// The value of `kind` in a config.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bigram(_) => "bigram",
            Self::Mlp(_) => "mlp",
            Self::Transformer(_) => "transformer",
            Self::Lstm(_) => "lstm",
            Self::Gru(_) => "gru",
            Self::Custom(_) => "custom",
        }
    }

    /// Finds the blueprint of a custom architecture in `registry`, if the config is from a file.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that the registered reader refuses.
    pub fn resolve(&mut self, registry: &Registry) -> Result<()> {
        if let Self::Custom(custom) = self { custom.resolve(registry) } else { Ok(()) }
    }

    /// |V|.
    pub fn vocab_size(&self) -> usize {
        self.with(|kind| kind.sizes()[0].1)
    }

    /// Tokens per window: the most that a network without a state can see.
    pub fn block_size(&self) -> usize {
        self.with(|kind| kind.sizes()[1].1)
    }

    /// Whether it has hidden matrices, which Muon can update.
    pub fn has_hidden_matrices(&self) -> bool {
        match self {
            Self::Bigram(_) | Self::Mlp(_) => false,
            Self::Transformer(_) | Self::Lstm(_) | Self::Gru(_) | Self::Custom(_) => true,
        }
    }

    /// Tokens before the predicted one that it sees, in windows of `block_size` tokens; `None`
    /// where their number is not fixed.
    pub fn context(&self, block_size: usize) -> Option<usize> {
        match self {
            Self::Bigram(_) => Some(1),
            Self::Mlp(mlp) => Some(mlp.context),
            Self::Transformer(_) => Some(block_size),
            Self::Lstm(_) | Self::Gru(_) | Self::Custom(_) => None,
        }
    }

    /// The same kind for |V| = `vocab_size` and windows of `block_size` tokens.
    #[must_use]
    pub fn sized(mut self, vocab_size: usize, block_size: usize) -> Self {
        let (v, t) = match &mut self {
            Self::Bigram(config) => (&mut config.vocab_size, &mut config.block_size),
            Self::Mlp(config) => (&mut config.vocab_size, &mut config.block_size),
            Self::Transformer(config) => (&mut config.vocab_size, &mut config.block_size),
            Self::Lstm(config) | Self::Gru(config) => (&mut config.vocab_size, &mut config.block_size),
            Self::Custom(config) => (&mut config.vocab_size, &mut config.block_size),
        };
        (*v, *t) = (vocab_size, block_size);
        self
    }

    /// The dropout probability, where the kind has one.
    pub fn dropout_mut(&mut self) -> Option<&mut f64> {
        match self {
            Self::Transformer(config) => Some(&mut config.dropout),
            Self::Lstm(config) | Self::Gru(config) => Some(&mut config.dropout),
            Self::Bigram(_) | Self::Mlp(_) | Self::Custom(_) => None,
        }
    }

    /// Rows of the hashed bigram embedding; 0: none.
    pub fn bigram_rows(&self) -> usize {
        if let Self::Transformer(config) = self { config.bigram_rows } else { 0 }
    }

    /// Row of the hashed bigram embedding for the bigram (`before`, `id`), if there is one.
    /// `before` is `None` for the first token of a row.
    pub fn bigram_row(&self, before: Option<u32>, id: u32) -> Option<u32> {
        let (rows, tokens) = (self.bigram_rows() as u64, self.vocab_size() as u64);
        (rows > 0).then(|| bigram_row(rows, tokens, before, id))
    }

    /// Kind of windows that training cuts the text into, and the width of the state between them.
    pub fn windows(&self) -> Windows {
        self.with(|kind| kind.windows())
    }

    /// Whether this describes a model.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first setting that is impossible; [`Error::Config`] where all of
    /// them together are too much.
    pub fn check(&self) -> Result<()> {
        for (key, size, range) in self.with(|kind| kind.sizes()) {
            within(key, size, range)?;
        }
        self.with(|kind| kind.check())?;
        if self.with(|kind| kind.parameters()) > 2_f64.powi(40) {
            return Err(Error::Config("a model of more than 2^40 parameters is too large".into()));
        }
        Ok(())
    }

    /// The network, with its parameters.
    pub(super) fn build(&self, parameters: &mut ParameterBuilder<'_>) -> Result<Box<dyn Architecture>> {
        self.with(|kind| kind.build(parameters))
    }

    /// Estimated peak memory of a training step in bytes: weights, two moments, copies of the best
    /// weights and of those being saved, gradients of each of `shards`, and activations of
    /// `batch_size` rows of `block_size` tokens. Checked before allocating.
    pub fn estimate_bytes(&self, batch_size: usize, block_size: usize, shards: usize) -> u64 {
        let tokens = batch_size as f64 * block_size as f64;
        let copies = 5.0 + shards as f64;
        let floats = self.with(|kind| copies * kind.parameters() + kind.activations() * tokens);
        (4.0 * floats) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::transformer_config::{ActivationKind, NormKind, PositionKind};
    use super::*;

    #[test]
    fn impossible_sizes_are_refused() {
        let shape = TransformerConfig { vocab_size: 65, ..TransformerConfig::default() };
        let good = NeuralConfig::Transformer(shape.clone());
        assert!(good.check().is_ok());
        // nanoGPT's count for this shape, 0.80 M without and 8,192 positions.
        assert_eq!(good.with(|kind| kind.parameters()), f64::from((65 + 64) * 128 + 12 * 4 * 128 * 128));
        let estimate = good.estimate_bytes(12, 64, 2);
        assert!((20_000_000..300_000_000).contains(&estimate), "{estimate}");
        for bad in [
            TransformerConfig { n_head: 3, ..shape.clone() },
            TransformerConfig { n_head: 0, ..shape.clone() },
            TransformerConfig { n_kv_head: 3, ..shape.clone() },
            TransformerConfig { dropout: 1.0, ..shape.clone() },
            TransformerConfig { dropout: f64::NAN, ..shape.clone() },
            TransformerConfig { softcap: -1.0, ..shape.clone() },
            TransformerConfig { n_head: 128, position: PositionKind::Rope, ..shape.clone() },
            TransformerConfig { n_embd: usize::MAX, ..shape.clone() },
        ] {
            let bad = NeuralConfig::Transformer(bad);
            assert!(matches!(bad.check(), Err(Error::Setting { .. })), "{bad:?}");
        }
        let gated = TransformerConfig { activation: ActivationKind::Swiglu, ..shape };
        assert_eq!(gated.mlp_width(), 352);
        let huge = NeuralConfig::Bigram(BigramConfig { vocab_size: usize::MAX, block_size: 8 });
        assert!(huge.check().is_err());
        assert_eq!(huge.estimate_bytes(usize::MAX, usize::MAX, 1), u64::MAX);
    }

    #[test]
    fn a_config_is_tagged_by_kind() {
        let json = serde_json::to_value(NeuralConfig::Bigram(BigramConfig { vocab_size: 3, block_size: 8 }))
            .unwrap();
        assert_eq!(json, serde_json::json!({ "kind": "bigram", "vocab_size": 3, "block_size": 8 }));
        // What an older run wrote: the switches keep their defaults, and nothing unknown is passed
        // over.
        let old = serde_json::json!({ "kind": "transformer", "vocab_size": 9, "block_size": 8, "n_layer": 2, "n_head": 2,
            "n_embd": 8, "dropout": 0.0, "bias": true, "tied": false });
        let config: NeuralConfig = serde_json::from_value(old.clone()).unwrap();
        let NeuralConfig::Transformer(shape) = &config else { panic!("{config:?}") };
        assert!(shape.norm == NormKind::Layer && shape.bias && shape.n_layer == 2);
        let again: NeuralConfig = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        let mut unknown = old;
        unknown["n_haed"] = 3.into();
        assert!(serde_json::from_value::<NeuralConfig>(unknown).is_err());
    }
}
