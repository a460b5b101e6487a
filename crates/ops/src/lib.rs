//! Differentiable candle operations for the neural models.
//!
//! Every function here maps tensors to tensors and propagates gradients to all floating-point
//! arguments. Operations with parameters also take a [`Context`]: precision and where gradients go.
//! Each operation is a fused kernel (CPU, f32) and a composition of candle's own differentiable
//! operations, which works on any device and float type and is the oracle in tests. candle's layer
//! norm, last-dimension softmax and rotary embedding drop the gradient silently, and are not used.

pub mod block;
mod buffer_pool;
mod context;
pub mod decode;
mod dropout_key;
mod fused;
pub mod grad_accumulator;
pub mod layers;
pub mod profile;
pub mod recurrent;
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

/// Options of causal attention.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Query heads.
    pub n_head: usize,
    /// Key-value heads, each shared by `n_head / n_kv_head` query heads.
    pub n_kv_head: usize,
    /// Tables of rotary embedding (RoPE), if it is used.
    pub rotary: Option<Arc<RotaryTables>>,
    /// Whether queries and keys are scaled to unit mean square (QK-norm).
    pub qk_norm: bool,
}

impl Attention {
    /// Multi-head attention without shared key-value heads, rotary embedding or QK-norm.
    pub fn plain(n_head: usize) -> Self {
        Self { n_head, n_kv_head: n_head, rotary: None, qk_norm: false }
    }
}

/// Whether the fused kernels support this tensor: f32 on the CPU.
fn fusable(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// Linear layer `x Wᵀ + b`: `x` (N, In), `weight` (Out, In), `bias` (Out) → (N, Out).
///
/// # Errors
/// Shapes that do not match, or an error of candle.
pub fn linear(context: &Context, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if fusable(x) { fused::linear(context, x, weight, bias) } else { unfused::linear(x, weight, bias) }
}

/// Embedding lookup: `ids` (N) u32, `table` (V, C) → (N, C).
///
/// # Errors
/// An id of V or more, or an error of candle.
pub fn embedding(context: &Context, ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    if fusable(table) { fused::embedding(context, ids, table) } else { unfused::embedding(ids, table) }
}

/// Multi-head causal self-attention: `qkv` (B, T, C + 2·G·d), concatenated queries, keys and values
/// → (B, T, C), with G key-value heads of width d.
///
/// # Errors
/// A width that is not divisible by the number of heads, or an error of candle.
pub fn causal_attention(qkv: &Tensor, attention: &Attention) -> Result<Tensor> {
    if fusable(qkv) {
        fused::causal_attention(qkv, attention)
    } else {
        unfused::causal_attention(qkv, attention)
    }
}

/// Activation along the last dimension. GELU (tanh form, GPT-2's `gelu_new`) and ReLU² keep the
/// width; SwiGLU takes concatenated gates and up-projections and halves it.
///
/// # Errors
/// An odd width for SwiGLU, or an error of candle.
pub fn activation(u: &Tensor, activation: Activation) -> Result<Tensor> {
    if fusable(u) { fused::activation(u, activation) } else { unfused::activation(u, activation) }
}

/// Soft cap `cap · tanh(x / cap)`, which keeps logits within ± `cap` (Gemma 2).
///
/// # Errors
/// An error of candle.
pub fn softcap(x: &Tensor, cap: f64) -> Result<Tensor> {
    if fusable(x) { fused::softcap(x, cap) } else { unfused::softcap(x, cap) }
}

/// Elementwise `tanh x`.
///
/// # Errors
/// An error of candle.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    if fusable(x) && Isa::current().is_portable() { fused::softcap(x, 1.0) } else { x.tanh() }
}

/// Log-softmax along the last dimension, without a gradient.
///
/// # Errors
/// An error of candle.
pub fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    if fusable(logits) && Isa::current().is_portable() {
        fused::log_softmax(logits)
    } else {
        candle_nn::ops::log_softmax(&logits.detach(), D::Minus1)
    }
}

/// Dropout: sets an element to 0 with probability `p` and divides the others by 1 − `p`.
///
/// The mask depends only on (seed, site, row of the whole batch, position in the row), so it does
/// not depend on the shards of a batch. It is not stored: the backward pass regenerates it.
///
/// # Errors
/// `p` outside [0, 1), or an error of candle.
pub fn dropout(x: &Tensor, p: f64, key: DropoutKey) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        bail!("dropout: the probability {p} is not in [0, 1)");
    }
    if p == 0.0 || x.elem_count() == 0 {
        return Ok(x.clone());
    }
    if fusable(x) { fused::dropout(x, p, key) } else { unfused::dropout(x, p, key) }
}
