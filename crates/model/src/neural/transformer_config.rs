//! The sizes and switches of a transformer.

use serde::{Deserialize, Serialize};

use super::config::Kind;
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

/// How the model knows where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionKind {
    /// A learned embedding of every position.
    #[default]
    Learned,
    /// Queries and keys are turned by their position (Su et al. 2021).
    Rope,
}

/// What stands between the matrices of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationKind {
    /// GELU in its tanh form.
    #[default]
    Gelu,
    /// max(x, 0)² (So et al. 2021).
    Relu2,
    /// A gate: silu(g) · v (Shazeer 2020).
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
    /// Attention heads a block.
    pub n_head: usize,
    /// Heads of keys and values, each shared by `n_head / n_kv_head` heads; 0: as many as `n_head`.
    pub n_kv_head: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the MLP; 0: 4 · `n_embd`, or what has the same number of weights with a gate.
    pub n_hidden: usize,
    /// Share of activations dropped in training, after the embeddings, the attention and the MLP.
    pub dropout: f64,
    /// Biases in linear layers and layer norms.
    pub bias: bool,
    /// The token embedding is the head, too.
    pub tied: bool,
    /// Which norm.
    pub norm: NormKind,
    /// Its ε.
    pub norm_eps: f64,
    /// Which positions.
    pub position: PositionKind,
    /// θ of the turned positions.
    pub rope_theta: f64,
    /// Queries and keys have unit mean square.
    pub qk_norm: bool,
    /// Which activation.
    pub activation: ActivationKind,
    /// The projections back to the stream start at zero.
    pub zero_init: bool,
    /// Logits stay within ± this; 0: no limit.
    pub softcap: f64,
    /// Rows of a table that embeds each token with the one before it; 0: none.
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
    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("vocab_size", self.vocab_size),
            ("block_size", self.block_size),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_embd", self.n_embd),
        ]
    }

    fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::Config(message));
        let (n_head, n_embd, kv) = (self.n_head, self.n_embd, self.kv_heads());
        if !n_embd.is_multiple_of(n_head) {
            return wrong(format!("n_embd = {n_embd} cannot be shared evenly by n_head = {n_head}"));
        }
        if !n_head.is_multiple_of(kv) {
            return wrong(format!("n_head = {n_head} cannot share n_kv_head = {kv} evenly"));
        }
        if self.position == PositionKind::Rope && !(n_embd / n_head).is_multiple_of(2) {
            return wrong(format!(
                "position = \"rope\" needs an even head width (n_embd / n_head), not {}",
                n_embd / n_head
            ));
        }
        check_dropout(self.dropout)?;
        let real = |x: f64, low: f64| x.is_finite() && x >= low;
        if !real(self.norm_eps, 0.0) || !real(self.rope_theta, 1.0) || !real(self.softcap, 0.0) {
            return wrong("norm_eps, rope_theta or softcap is out of range".into());
        }
        if self.n_hidden > 1 << 24 || self.bigram_rows > 1 << 31 {
            return wrong("n_hidden or bigram_rows is too large".into());
        }
        Ok(())
    }

    fn parameters(&self) -> u64 {
        let Self { vocab_size, block_size, n_layer, n_embd, .. } = *self;
        let embedded = (if self.tied { 1 } else { 2 } * vocab_size as u128
            + self.bigram_rows as u128
            + if self.position == PositionKind::Learned { block_size as u128 } else { 0 })
        .min(u128::from(u64::MAX)) as usize;
        // Without the division, which n_head = 0 would make impossible: at most what as many heads of keys have.
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

/// Dropout is a probability less than one.
pub(super) fn check_dropout(dropout: f64) -> Result<()> {
    if (0.0..1.0).contains(&dropout) {
        return Ok(());
    }
    Err(Error::Config(format!("dropout = {dropout} is not in [0, 1)")))
}

/// A product that saturates.
pub(super) fn saturating_product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| product.saturating_mul(factor as u64))
}
