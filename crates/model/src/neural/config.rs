//! The sizes of a neural model.

use serde::{Deserialize, Serialize};

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
    /// Decoder-only, pre-norm, GPT-2's flavour (Radford et al. 2019).
    Transformer {
        /// |V|.
        vocab_size: usize,
        /// The longest context.
        block_size: usize,
        /// Blocks.
        n_layer: usize,
        /// Attention heads a block.
        n_head: usize,
        /// Width of the residual stream.
        n_embd: usize,
        /// Share of activations dropped in training, after the embeddings, the attention and the MLP.
        dropout: f64,
        /// Biases in linear layers and norms.
        bias: bool,
        /// The token embedding is the head, too.
        tied: bool,
    },
}

impl NeuralConfig {
    /// |V|.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Bigram { vocab_size, .. }
            | Self::Mlp { vocab_size, .. }
            | Self::Transformer { vocab_size, .. } => *vocab_size,
        }
    }

    /// The most tokens a row may have.
    pub fn block_size(&self) -> usize {
        match self {
            Self::Bigram { block_size, .. }
            | Self::Mlp { block_size, .. }
            | Self::Transformer { block_size, .. } => *block_size,
        }
    }

    /// Whether this describes a model.
    ///
    /// # Errors
    /// [`Error::Config`] with the first size that does not.
    pub fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::Config { message });
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
            Self::Transformer { vocab_size, block_size, n_layer, n_head, n_embd, .. } => &[
                ("vocab_size", *vocab_size),
                ("block_size", *block_size),
                ("n_layer", *n_layer),
                ("n_head", *n_head),
                ("n_embd", *n_embd),
            ],
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
        if let Self::Transformer { n_head, n_embd, dropout, .. } = self {
            if n_embd % n_head != 0 {
                return wrong(format!("n_embd = {n_embd} cannot be shared evenly by n_head = {n_head}"));
            }
            if !(0.0..1.0).contains(dropout) {
                return wrong(format!("dropout = {dropout} is not in [0, 1)"));
            }
        }
        Ok(())
    }

    /// How many parameters such a model has (biases of a transformer aside), saturating.
    fn parameters(&self) -> u64 {
        let mul =
            |factors: &[usize]| factors.iter().fold(1u64, |product, &f| product.saturating_mul(f as u64));
        let sum = |parts: &[u64]| parts.iter().fold(0u64, |sum, &part| sum.saturating_add(part));
        match *self {
            Self::Bigram { vocab_size, .. } => mul(&[vocab_size, vocab_size]),
            Self::Mlp { vocab_size, context, n_embd, n_hidden, .. } => sum(&[
                mul(&[vocab_size.saturating_add(1), n_embd]),
                mul(&[context, n_embd, n_hidden]),
                mul(&[n_hidden, vocab_size]),
            ]),
            Self::Transformer { vocab_size, block_size, n_layer, n_embd, tied, .. } => sum(&[
                mul(&[if tied { 1 } else { 2 }, vocab_size, n_embd]),
                mul(&[block_size, n_embd]),
                mul(&[12, n_layer, n_embd, n_embd]),
            ]),
        }
    }

    /// About how many bytes one training step takes at its peak: weights, gradients, two moments, a copy of the best,
    /// and the activations of `batch_size` rows of `block_size`. For refusing what cannot fit before it is allocated.
    pub fn estimate_bytes(&self, batch_size: usize, block_size: usize) -> u64 {
        let mul =
            |factors: &[usize]| factors.iter().fold(1u64, |product, &f| product.saturating_mul(f as u64));
        let activations = match *self {
            Self::Bigram { vocab_size, .. } => mul(&[4, vocab_size]),
            Self::Mlp { vocab_size, context, n_embd, n_hidden, .. } => mul(&[3, context, n_embd])
                .saturating_add(mul(&[6, n_hidden]))
                .saturating_add(mul(&[2, vocab_size])),
            Self::Transformer { vocab_size, n_layer, n_head, n_embd, .. } => mul(&[40, n_layer, n_embd])
                .saturating_add(mul(&[2, n_layer, n_head, block_size]))
                .saturating_add(mul(&[2, vocab_size])),
        };
        let cells = mul(&[batch_size, block_size]);
        self.parameters()
            .saturating_mul(6)
            .saturating_add(activations.saturating_mul(cells))
            .saturating_mul(4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_sizes_are_refused() {
        let good = NeuralConfig::Transformer {
            vocab_size: 65,
            block_size: 64,
            n_layer: 4,
            n_head: 4,
            n_embd: 128,
            dropout: 0.0,
            bias: false,
            tied: true,
        };
        assert!(good.check().is_ok());
        // nanoGPT's count for this shape, 0.80 M without and 8,192 positions.
        assert_eq!(good.parameters(), 65 * 128 + 64 * 128 + 12 * 4 * 128 * 128);
        let estimate = good.estimate_bytes(12, 64);
        assert!((30_000_000..300_000_000).contains(&estimate), "{estimate}");
        let NeuralConfig::Transformer { vocab_size, block_size, n_layer, n_embd, .. } = good else { return };
        for (n_head, dropout) in [(3, 0.0), (0, 0.0), (4, 1.0), (4, f64::NAN)] {
            let bad = NeuralConfig::Transformer {
                vocab_size,
                block_size,
                n_layer,
                n_head,
                n_embd,
                dropout,
                bias: false,
                tied: true,
            };
            assert!(matches!(bad.check(), Err(Error::Config { .. })), "{bad:?}");
        }
        let huge = NeuralConfig::Bigram { vocab_size: usize::MAX, block_size: 8 };
        assert!(huge.check().is_err());
        assert_eq!(huge.estimate_bytes(usize::MAX, usize::MAX), u64::MAX);
    }

    #[test]
    fn a_config_is_tagged_by_kind() {
        let json = serde_json::to_value(NeuralConfig::Bigram { vocab_size: 3, block_size: 8 }).unwrap();
        assert_eq!(json, serde_json::json!({ "kind": "bigram", "vocab_size": 3, "block_size": 8 }));
    }
}
