//! Layers and half-blocks: parameters and options.

use candle_core::Tensor;
pub use surprisal_kernels::norm::NormType;

use crate::{Activation, Attention, DropoutKey};

/// A linear layer.
#[derive(Debug, Clone)]
pub struct Linear {
    /// W (out, in).
    pub weight: Tensor,
    /// b (out).
    pub bias: Option<Tensor>,
}

/// A layer norm or an RMS norm.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Layer norm or RMS norm.
    pub kind: NormType,
    /// Scale (C).
    pub weight: Tensor,
    /// Shift (C).
    pub bias: Option<Tensor>,
    /// ε.
    pub eps: f64,
}

/// Dropout of a branch's output.
#[derive(Debug, Clone, Copy)]
pub struct DropoutConfig {
    /// Probability, greater than 0.
    pub p: f64,
    /// Key of the mask; rows are sequences.
    pub key: DropoutKey,
}

/// The weights of an LSTM or GRU layer of width H, in PyTorch's order of gates and under its names.
#[derive(Debug, Clone)]
pub struct RecurrentWeights {
    /// (G·H, In).
    pub weight_ih: Tensor,
    /// (G·H, H).
    pub weight_hh: Tensor,
    /// (G·H).
    pub bias_ih: Tensor,
    /// (G·H).
    pub bias_hh: Tensor,
}

/// A residual half-block of a transformer: x + proj(kind(inner(norm(x)))).
#[derive(Debug, Clone)]
pub struct Branch {
    /// Pre-norm.
    pub norm: Norm,
    /// Weight (U, C): to queries, keys and values, or to the inputs of an activation.
    pub inner: Linear,
    /// The function between the two linear layers.
    pub kind: BranchKind,
    /// Output projection, weight (C, F).
    pub proj: Linear,
}

/// The function between the linear layers of a [`Branch`], from U inputs to F outputs per token.
#[derive(Debug, Clone)]
pub enum BranchKind {
    /// Causal attention: U = C + 2·G·d, F = C.
    Attention(Attention),
    /// An activation: U = F, or 2·F for SwiGLU.
    Activation(Activation),
}

/// Key-value cache of one attention block, each (T, G·d).
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}
