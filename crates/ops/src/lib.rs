//! Differentiable operations of the neural models.
//!
//! Every function here takes and returns tensors and passes gradients on to all its floating-point arguments. What has
//! parameters also takes a [`Context`]: how precisely to compute, and where gradients go.
//! Each is written a second time, of the tensor library's own differentiable operations: that runs on any device and in
//! any float type, and is the oracle of every faster version. Several ready-made layers of the
//! tensor library (its layer norm, its last-dimension softmax, its rotary embedding) have no backward pass and cut
//! the gradient without a word; nothing here uses them.

pub mod block;
mod buffer_pool;
mod context;
pub mod decode;
mod dropout_key;
mod fused;
pub mod grad_accumulator;
pub mod layers;
pub mod profile;
pub mod tensor_slice;
#[cfg(test)]
mod testing;
mod unfused;

use std::sync::Arc;

use candle_core::{D, DType, Result, Tensor, bail};

use surprisal_kernels::simd::Isa;

pub use context::{Backward, Context};
pub use dropout_key::DropoutKey;
pub use surprisal_kernels::activation::Activation;
pub use surprisal_kernels::matmul::Precision;
pub use surprisal_kernels::rotary::RotaryTables;

/// The heads of causal attention.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Heads of queries.
    pub n_head: usize,
    /// Heads of keys and values, each shared by `n_head / n_kv_head` heads of queries.
    pub n_kv_head: usize,
    /// Turns queries and keys by their position (RoPE).
    pub rotary: Option<Arc<RotaryTables>>,
    /// Scales queries and keys to unit mean square (QK-norm).
    pub qk_norm: bool,
}

impl Attention {
    /// Heads of their own keys and values, and nothing else.
    pub fn plain(n_head: usize) -> Self {
        Self { n_head, n_kv_head: n_head, rotary: None, qk_norm: false }
    }
}

/// Whether the fused kernels take this tensor: they are for the CPU and f32.
fn fusable(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// `x Wᵀ + b`: `x` (N, In), `weight` (Out, In), `bias` (Out) → (N, Out).
///
/// # Errors
/// Shapes that do not fit together, or a failure of the tensor library.
pub fn linear(context: &Context, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if fusable(x) { fused::linear(context, x, weight, bias) } else { unfused::linear(x, weight, bias) }
}

/// Rows of a table: `ids` (N) u32, `table` (V, C) → (N, C).
///
/// # Errors
/// An id of V or more, or a failure of the tensor library.
pub fn embedding(context: &Context, ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    if fusable(table) { fused::embedding(context, ids, table) } else { unfused::embedding(ids, table) }
}

/// Multi-head causal self-attention: `qkv` (B, T, C + 2·G·d) holds queries, keys and values side by side → (B, T, C), for
/// G heads of keys and values, d wide.
///
/// # Errors
/// A width that does not divide among the heads, or a failure of the tensor library.
pub fn causal_attention(qkv: &Tensor, attention: &Attention) -> Result<Tensor> {
    if fusable(qkv) {
        fused::causal_attention(qkv, attention)
    } else {
        unfused::causal_attention(qkv, attention)
    }
}

/// An activation along the last dimension: GELU in its tanh form (GPT-2's `gelu_new`) and ReLU² keep the width, SwiGLU takes gates
/// and values side by side and halves it.
///
/// # Errors
/// An odd width of gates and values, or a failure of the tensor library.
pub fn activation(u: &Tensor, activation: Activation) -> Result<Tensor> {
    if fusable(u) { fused::activation(u, activation) } else { unfused::activation(u, activation) }
}

/// `cap · tanh(x / cap)`: keeps logits within ± `cap` (Gemma 2).
///
/// # Errors
/// A failure of the tensor library.
pub fn softcap(x: &Tensor, cap: f64) -> Result<Tensor> {
    if fusable(x) { fused::softcap(x, cap) } else { unfused::softcap(x, cap) }
}

/// `tanh x`, element by element.
///
/// # Errors
/// A failure of the tensor library.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    if fusable(x) && Isa::current().is_portable() { fused::softcap(x, 1.0) } else { x.tanh() }
}

/// `ln softmax` along the last dimension, without a gradient.
///
/// # Errors
/// A failure of the tensor library.
pub fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    if fusable(logits) && Isa::current().is_portable() {
        fused::log_softmax(logits)
    } else {
        candle_nn::ops::log_softmax(&logits.detach(), D::Minus1)
    }
}

/// Dropout: zeroes an element with probability `p` and divides what it keeps by 1 − `p`.
///
/// The mask depends on (seed, site, row in the whole batch, position in the row) alone, so it does not change with
/// the way a batch is cut into shards. It is never stored: the backward pass draws it again.
///
/// # Errors
/// `p` outside [0, 1), or a failure of the tensor library.
pub fn dropout(x: &Tensor, p: f64, stream: DropoutKey) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        bail!("dropout: a probability of {p} is not in [0, 1)");
    }
    if p == 0.0 || x.elem_count() == 0 {
        return Ok(x.clone());
    }
    if fusable(x) { fused::dropout(x, p, stream) } else { unfused::dropout(x, p, stream) }
}
