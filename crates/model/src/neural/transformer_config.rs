//! Sizes and switches of a transformer.

use serde::{Deserialize, Serialize};

/// The norm before each branch and before the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Layer norm (Ba et al. 2016).
    #[default]
    Layer,
    /// RMS norm (Zhang & Sennrich 2019): no mean, no bias.
    Rms,
}

/// Position encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionKind {
    /// A learned embedding of every position.
    #[default]
    Learned,
    /// Rotary embedding (RoPE) of queries and keys (Su et al. 2021).
    Rope,
}

/// Activation function of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationKind {
    /// GELU in its tanh form.
    #[default]
    Gelu,
    /// max(x, 0)² (So et al. 2021).
    Relu2,
    /// SwiGLU: silu(gate) · up (Shazeer 2020).
    Swiglu,
}

/// A decoder-only, pre-norm transformer. The defaults of the switches are GPT-2's.
///
/// ```
/// # use surprisal_model::neural::{NeuralConfig, TransformerConfig};
/// let shape = TransformerConfig { vocab_size: 65, n_layer: 2, n_embd: 32, ..TransformerConfig::default() };
/// assert!(NeuralConfig::Transformer(shape).check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct TransformerConfig {
    /// |V|.
    pub vocab_size: usize,
    /// The longest context.
    pub block_size: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Attention heads per block.
    pub n_head: usize,
    /// Heads of keys and values, each for `n_head / n_kv_head` heads of queries; 0: `n_head`.
    pub n_kv_head: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the MLP; 0: 4 · `n_embd`, or with SwiGLU the width of as many weights.
    pub n_hidden: usize,
    /// Dropout probability after the embeddings, the attention and the MLP.
    pub dropout: f64,
    /// Biases in linear layers and layer norms.
    pub bias: bool,
    /// Weight tying: the token embedding is the head.
    pub tied: bool,
    /// Kind of norm.
    pub norm: NormKind,
    /// ε of the norm.
    pub norm_eps: f64,
    /// Position encoding.
    pub position: PositionKind,
    /// Base θ of the rotary embedding's angles.
    pub rope_theta: f64,
    /// QK-norm: queries and keys scaled to unit mean square.
    pub qk_norm: bool,
    /// Activation of the MLP.
    pub activation: ActivationKind,
    /// Zero initial weights of the projections back to the residual stream.
    pub zero_init: bool,
    /// Soft cap of the logits, which stay within ± this; 0: none.
    pub softcap: f64,
    /// Rows of the hashed bigram embedding; 0: none.
    pub bigram_rows: usize,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            vocab_size: 256,
            block_size: 64,
            n_layer: 4,
            n_head: 4,
            n_kv_head: 0,
            n_embd: 128,
            n_hidden: 0,
            dropout: 0.0,
            bias: false,
            tied: true,
            norm: NormKind::Layer,
            norm_eps: 1e-5,
            position: PositionKind::Learned,
            rope_theta: 10_000.0,
            qk_norm: false,
            activation: ActivationKind::Gelu,
            zero_init: false,
            softcap: 0.0,
            bigram_rows: 0,
        }
    }
}

impl TransformerConfig {
    /// Heads of keys and values.
    pub fn kv_heads(&self) -> usize {
        if self.n_kv_head == 0 { self.n_head } else { self.n_kv_head }
    }

    /// Width of the MLP.
    pub fn mlp_width(&self) -> usize {
        match (self.n_hidden, self.activation) {
            // 8/3 C: three matrices have the weights of two with 4 C; rounded up to cache lines.
            (0, ActivationKind::Swiglu) => self.n_embd.saturating_mul(8).div_ceil(3).next_multiple_of(16),
            (0, _) => self.n_embd.saturating_mul(4),
            (n_hidden, _) => n_hidden,
        }
    }
}
