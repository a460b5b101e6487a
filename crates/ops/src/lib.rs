//! Differentiable operations of the neural models.
//!
//! Every function here takes and returns tensors and passes gradients on to all its floating-point arguments.
//! [`composed`] holds the same functions made of the tensor library's own differentiable operations: they run on
//! any device and in any float type, and are the oracle of every faster version. Several ready-made layers of the
//! tensor library (its layer norm, its last-dimension softmax, its rotary embedding) have no backward pass and cut
//! the gradient without a word; nothing here uses them.

pub mod composed;
mod fused;
pub mod inplace;
mod stream;

pub use stream::DropoutStream;

use candle_core::{DType, Result, Tensor};

/// Whether the fused kernels take this tensor: they are for the CPU and f32.
fn fusable(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// `x Wᵀ + b`: `x` (N, In), `weight` (Out, In), `bias` (Out) → (N, Out).
///
/// # Errors
/// Shapes that do not fit together, or a failure of the tensor library.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if fusable(x) { fused::linear(x, weight, bias) } else { composed::linear(x, weight, bias) }
}

/// Rows of a table: `ids` (N) u32, `table` (V, C) → (N, C).
///
/// # Errors
/// An id of V or more, or a failure of the tensor library.
pub fn embedding(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    if fusable(table) { fused::embedding(ids, table) } else { composed::embedding(ids, table) }
}

/// Layer normalisation of each row (Ba et al. 2016): `x` (N, C) → (N, C), with `weight` (C) and `bias` (C).
///
/// # Errors
/// Shapes that do not fit together, or a failure of the tensor library.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    if fusable(x) {
        fused::layer_norm(x, weight, bias, eps)
    } else {
        composed::layer_norm(x, weight, bias, eps)
    }
}

/// Multi-head causal self-attention: `qkv` (B, T, 3·C) holds queries, keys and values side by side → (B, T, C).
///
/// # Errors
/// A width that is no multiple of 3 · `n_head`, or a failure of the tensor library.
pub fn causal_attention(qkv: &Tensor, n_head: usize) -> Result<Tensor> {
    if fusable(qkv) { fused::causal_attention(qkv, n_head) } else { composed::causal_attention(qkv, n_head) }
}

/// [`causal_attention`] for one more token of one row: `qkv` (3·C) of the new token; its key and value are appended to
/// `keys` and `values` (T, C), which hold those of the tokens before it. Returns (C). No gradient: for sampling.
///
/// # Errors
/// A width that is no multiple of 3 · `n_head`.
pub fn attend_next(
    qkv: &[f32],
    n_head: usize,
    keys: &mut Vec<f32>,
    values: &mut Vec<f32>,
) -> Result<Vec<f32>> {
    if n_head == 0 || qkv.is_empty() || !qkv.len().is_multiple_of(3 * n_head) {
        candle_core::bail!("attention: a width of {} does not divide among {n_head} heads", qkv.len());
    }
    let c = qkv.len() / 3;
    keys.extend_from_slice(&qkv[c..2 * c]);
    values.extend_from_slice(&qkv[2 * c..]);
    let mut y = vec![0.0; c];
    surprisal_kernels::attention::attend(n_head, &qkv[..c], keys, values, &mut y);
    Ok(y)
}

/// GELU in its tanh form (Hendrycks & Gimpel 2016), GPT-2's `gelu_new`; any shape.
///
/// # Errors
/// A failure of the tensor library.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if fusable(x) { fused::gelu(x) } else { composed::gelu(x) }
}

/// Dropout: zeroes an element with probability `p` and divides what it keeps by 1 − `p`.
///
/// The mask depends on (seed, site, row in the whole batch, position in the row) alone, so it does not change with
/// the way a batch is cut into shards.
///
/// # Errors
/// `p` outside [0, 1), or a failure of the tensor library.
pub fn dropout(x: &Tensor, p: f64, stream: DropoutStream) -> Result<Tensor> {
    composed::dropout(x, p, stream)
}
