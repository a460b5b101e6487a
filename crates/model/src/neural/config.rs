//! The sizes of a neural model.

use serde::{Deserialize, Serialize};

use super::shape::{TransformerConfig, product};
use crate::{Error, Result};

/// A neural model's kind and sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum NeuralConfig {
    /// A table of logits: row w holds the logits of what follows w.
    Bigram {
        /// |V|.
        vocab_size: usize,
        /// Tokens a window of text.
        block_size: usize,
    },
    /// Bengio et al. (2003): the embeddings of the last tokens side by side, a tanh layer, a softmax.
    Mlp {
        /// |V|.
        vocab_size: usize,
        /// Tokens a window of text.
        block_size: usize,
        /// How many tokens before the predicted one it sees: n − 1 of a neural n-gram.
        context: usize,
        /// Width of an embedding.
        n_embd: usize,
        /// tanh units.
        n_hidden: usize,
    },
    /// Decoder-only, pre-norm.
    Transformer(TransformerConfig),
}

impl NeuralConfig {
    /// |V|.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Bigram { vocab_size, .. } | Self::Mlp { vocab_size, .. } => *vocab_size,
            Self::Transformer(config) => config.vocab_size,
        }
    }

    /// The most tokens a row may have.
    pub fn block_size(&self) -> usize {
        match self {
            Self::Bigram { block_size, .. } | Self::Mlp { block_size, .. } => *block_size,
            Self::Transformer(config) => config.block_size,
        }
    }

    /// Whether this describes a model.
    ///
    /// # Errors
    /// [`Error::Config`] with the first size that does not.
    pub fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::Config(message));
        let sizes: &[(&str, usize)] = match self {
            Self::Bigram { vocab_size, block_size } => {
                &[("vocab_size", *vocab_size), ("block_size", *block_size)]
            }
            Self::Mlp { vocab_size, block_size, context, n_embd, n_hidden } => &[
                ("vocab_size", *vocab_size),
                ("block_size", *block_size),
                ("context", *context),
                ("n_embd", *n_embd),
                ("n_hidden", *n_hidden),
            ],
            Self::Transformer(config) => &config.sizes(),
        };
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return wrong(format!("{name} must be at least 1"));
        }
        if self.vocab_size() > u32::MAX as usize {
            return wrong(format!("a vocabulary of {} is too large", self.vocab_size()));
        }
        if self.parameters() > 1 << 40 {
            return wrong("a model of more than 2^40 parameters is too large".into());
        }
        if let Self::Transformer(config) = self {
            config.check()?;
        }
        Ok(())
    }

    /// How many parameters such a model has (biases of a transformer aside), saturating.
    fn parameters(&self) -> u64 {
        match *self {
            Self::Bigram { vocab_size, .. } => product(&[vocab_size, vocab_size]),
            Self::Mlp { vocab_size, context, n_embd, n_hidden, .. } => {
                product(&[vocab_size.saturating_add(1), n_embd])
                    .saturating_add(product(&[context, n_embd, n_hidden]))
                    .saturating_add(product(&[n_hidden, vocab_size]))
            }
            Self::Transformer(ref config) => config.parameters(),
        }
    }

    /// About how many bytes one training step takes at its peak: weights, gradients, two moments, a copy of the best,
    /// and the activations of `batch_size` rows of `block_size`. For refusing what cannot fit before it is allocated.
    pub fn estimate_bytes(&self, batch_size: usize, block_size: usize) -> u64 {
        let activations = match *self {
            Self::Bigram { vocab_size, .. } => product(&[4, vocab_size]),
            Self::Mlp { vocab_size, context, n_embd, n_hidden, .. } => product(&[3, context, n_embd])
                .saturating_add(product(&[6, n_hidden]))
                .saturating_add(product(&[2, vocab_size])),
            Self::Transformer(ref config) => config.activations(),
        };
        let cells = product(&[batch_size, block_size]);
        self.parameters()
            .saturating_mul(6)
            .saturating_add(activations.saturating_mul(cells))
            .saturating_mul(4)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::{ActivationKind, NormKind, PositionKind};
    use super::*;

    #[test]
    fn impossible_sizes_are_refused() {
        let shape = TransformerConfig { vocab_size: 65, ..TransformerConfig::default() };
        let good = NeuralConfig::Transformer(shape.clone());
        assert!(good.check().is_ok());
        // nanoGPT's count for this shape, 0.80 M without and 8,192 positions.
        assert_eq!(good.parameters(), 65 * 128 + 64 * 128 + 12 * 4 * 128 * 128);
        let estimate = good.estimate_bytes(12, 64);
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
            assert!(matches!(bad.check(), Err(Error::Config { .. })), "{bad:?}");
        }
        let gated = TransformerConfig { activation: ActivationKind::Swiglu, ..shape };
        assert_eq!(gated.hidden(), 352);
        let huge = NeuralConfig::Bigram { vocab_size: usize::MAX, block_size: 8 };
        assert!(huge.check().is_err());
        assert_eq!(huge.estimate_bytes(usize::MAX, usize::MAX), u64::MAX);
    }

    #[test]
    fn a_config_is_tagged_by_kind() {
        let json = serde_json::to_value(NeuralConfig::Bigram { vocab_size: 3, block_size: 8 }).unwrap();
        assert_eq!(json, serde_json::json!({ "kind": "bigram", "vocab_size": 3, "block_size": 8 }));
        // What an older run wrote: the switches keep their defaults, and nothing unknown is passed over.
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
