//! Sizes and switches of a transformer.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::config::{Kind, text_sizes, within};
use super::transformer::Transformer;
use super::{Architecture, ParameterBuilder};
use crate::{Error, Result};

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
            // 8/3: three matrices of it have the weights of two of 4 C; whole cache lines of them.
            (0, ActivationKind::Swiglu) => (8 * self.n_embd).div_ceil(3).next_multiple_of(16),
            (0, _) => 4 * self.n_embd,
            (n_hidden, _) => n_hidden,
        }
    }

    fn hidden_saturating(&self) -> usize {
        if self.n_embd > 1 << 40 { usize::MAX } else { self.mlp_width() }
    }
}

impl Kind for TransformerConfig {
    fn sizes(&self) -> Vec<(&'static str, usize, RangeInclusive<usize>)> {
        let mut sizes = Vec::from(text_sizes(self.vocab_size, self.block_size));
        sizes.extend([
            ("n_layer", self.n_layer, 1..=MAX_LAYERS),
            ("n_head", self.n_head, 1..=1024),
            ("n_embd", self.n_embd, 1..=MAX_WIDTH),
            ("n_hidden", self.n_hidden, 0..=1 << 24),
            ("n_kv_head", self.n_kv_head, 0..=1024),
            ("bigram_rows", self.bigram_rows, 0..=1 << 24),
        ]);
        sizes
    }

    fn check(&self) -> Result<()> {
        let (n_head, n_embd, n_kv_head) = (self.n_head, self.n_embd, self.kv_heads());
        if !n_embd.is_multiple_of(n_head) {
            let below = (n_embd / n_head * n_head).max(n_head);
            let divisors = (1..=n_embd).filter(|divisor| n_embd.is_multiple_of(*divisor));
            let divisor = divisors.min_by_key(|divisor| divisor.abs_diff(n_head)).unwrap_or(1);
            let problem =
                format!("does not fit: n_embd = {n_embd} is no multiple of n_head = {n_head} heads");
            return Err(Error::setting("n_embd", problem).hint(format!(
                "take n_head = {divisor}, or n_embd = {below} or another multiple of n_head"
            )));
        }
        if !n_head.is_multiple_of(n_kv_head) {
            let problem = format!("is {n_kv_head}, which does not divide n_head = {n_head}");
            return Err(Error::setting("n_kv_head", problem).hint("take a divisor of n_head"));
        }
        let head_width = n_embd / n_head;
        if self.position == PositionKind::Rope && !head_width.is_multiple_of(2) {
            let problem = format!("= \"rope\" needs an even head width (n_embd / n_head), not {head_width}");
            return Err(Error::setting("position", problem).hint("take an even n_embd / n_head"));
        }
        check_dropout(self.dropout)?;
        within("norm_eps", self.norm_eps, 0.0..=1.0)?;
        within("rope_theta", self.rope_theta, 1.0..=1e12)?;
        within("softcap", self.softcap, 0.0..=1e6)
    }

    fn parameters(&self) -> u64 {
        let Self { vocab_size, block_size, n_layer, n_embd, .. } = *self;
        let embedded = (if self.tied { 1 } else { 2 } * vocab_size as u128
            + self.bigram_rows as u128
            + if self.position == PositionKind::Learned { block_size as u128 } else { 0 })
        .min(u128::from(u64::MAX)) as usize;
        // Without the division, which n_head = 0 would make impossible: at most what as many heads
        // of keys have.
        let mlp = if self.activation == ActivationKind::Swiglu { 3 } else { 2 };
        saturating_product(&[embedded, n_embd])
            .saturating_add(saturating_product(&[4, n_layer, n_embd, n_embd]))
            .saturating_add(saturating_product(&[mlp, n_layer, n_embd, self.hidden_saturating()]))
    }

    fn activations(&self) -> u64 {
        let gates = if self.activation == ActivationKind::Swiglu { 2 } else { 1 };
        saturating_product(&[10, self.n_layer, self.n_embd])
            .saturating_add(saturating_product(&[
                gates,
                self.n_layer.saturating_add(4),
                self.hidden_saturating(),
            ]))
            .saturating_add(saturating_product(&[2, self.n_layer, self.n_head]))
            .saturating_add(saturating_product(&[4, self.vocab_size]))
    }

    fn build(&self, parameters: &mut ParameterBuilder<'_>) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(Transformer::new(self, parameters)?))
    }
}

/// The most layers of a network.
pub(super) const MAX_LAYERS: usize = 256;
/// The widest embedding.
pub(super) const MAX_WIDTH: usize = 1 << 20;

/// Refuses a dropout outside [0, 0.99].
pub(super) fn check_dropout(dropout: f64) -> Result<()> {
    within("dropout", dropout, 0.0..=0.99)
}

/// Saturating product.
pub(super) fn saturating_product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| product.saturating_mul(factor as u64))
}
