//! Parameters that belong together: of a layer, of half a block.

use candle_core::Tensor;
pub use surprisal_kernels::norm::NormType;

use crate::{Activation, Attention, DropoutKey};

/// Weight (out, in) and bias (out).
#[derive(Debug, Clone)]
pub struct Linear {
    /// (out, in).
    pub weight: Tensor,
    /// (out).
    pub bias: Option<Tensor>,
}

/// A layer norm or an RMS norm.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Which of the two.
    pub norm_type: NormType,
    /// (C).
    pub weight: Tensor,
    /// (C).
    pub bias: Option<Tensor>,
    /// ε.
    pub eps: f64,
}

/// Dropout of what a branch adds.
#[derive(Debug, Clone, Copy)]
pub struct DropoutConfig {
    /// The probability, not zero.
    pub p: f64,
    /// Where the bits come from; rows are sequences.
    pub key: DropoutKey,
}

/// Half a transformer block: x + proj(between(inner(norm(x)))).
#[derive(Debug, Clone)]
pub struct Branch {
    /// Before the branch.
    pub norm: Norm,
    /// (U, C): queries, keys and values, or the inputs of an activation.
    pub inner: Linear,
    /// What stands between the two linear layers.
    pub between: Between,
    /// (C, F), back to the stream.
    pub proj: Linear,
}

/// From U inputs to F outputs a token.
#[derive(Debug, Clone)]
pub enum Between {
    /// U = C + 2·G·d, F = C.
    Attention(Attention),
    /// U = F, or 2·F for gates and values.
    Activation(Activation),
}

/// The keys and values (T, G·d) of the tokens that one attention block has read, for sampling.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}
