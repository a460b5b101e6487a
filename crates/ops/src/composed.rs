//! The operations made of the tensor library's own differentiable ones.
//!
//! Slow and plain: any device, any float type, and exact gradients. The oracle of the fused operations.

use candle_core::{D, DType, Device, Result, Tensor, bail};

use crate::DropoutStream;

/// See [`crate::linear`].
///
/// # Errors
/// As [`crate::linear`].
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// See [`crate::embedding`].
///
/// # Errors
/// As [`crate::embedding`].
pub fn embedding(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    table.index_select(ids, 0)
}

/// See [`crate::layer_norm`].
///
/// # Errors
/// As [`crate::layer_norm`].
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    let y = normed.broadcast_mul(weight)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// See [`crate::causal_attention`].
///
/// # Errors
/// As [`crate::causal_attention`].
pub fn causal_attention(qkv: &Tensor, n_head: usize) -> Result<Tensor> {
    let (b, t, width) = qkv.dims3()?;
    if n_head == 0 || width % (3 * n_head) != 0 {
        bail!(
            "attention: a width of {width} does not divide into queries, keys and values of {n_head} heads"
        );
    }
    let c = width / 3;
    let d = c / n_head;
    // (B, T, C) -> (B, H, T, D); contiguous, because the matrix product takes no other batch strides.
    let heads = |i: usize| -> Result<Tensor> {
        qkv.narrow(2, i * c, c)?.contiguous()?.reshape((b, t, n_head, d))?.transpose(1, 2)?.contiguous()
    };
    let (q, k, v) = (heads(0)?, heads(1)?, heads(2)?);
    let scores = (q.matmul(&k.t()?)? * (1.0 / (d as f64).sqrt()))?; // (B, H, T, T)
    let scores = scores.broadcast_add(&causal_mask(t, qkv.dtype(), qkv.device())?)?;
    let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
    weights.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((b, t, c)) // (B, T, C)
}

/// Zero where a position may look, −∞ where it would see the future: (T, T).
fn causal_mask(t: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> =
        (0..t).flat_map(|i| (0..t).map(move |j| if j <= i { 0.0 } else { f32::NEG_INFINITY })).collect();
    Tensor::from_vec(mask, (t, t), device)?.to_dtype(dtype)
}

/// See [`crate::gelu`].
///
/// # Errors
/// As [`crate::gelu`].
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    // From tanh: the gradient of the tensor library's own GELU rounds its constants to six digits.
    let scale = (2.0 / std::f64::consts::PI).sqrt();
    let cubic = ((x.sqr()? * 0.044715)? + 1.0)?; // (x + 0.044715 x³) / x
    let inner = ((x * cubic)? * scale)?;
    (x * 0.5)? * (inner.tanh()? + 1.0)?
}

/// See [`crate::dropout`].
///
/// # Errors
/// As [`crate::dropout`].
pub fn dropout(x: &Tensor, p: f64, stream: DropoutStream) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        bail!("dropout: a probability of {p} is not in [0, 1)");
    }
    if p == 0.0 || x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let rows = x.dim(0)?;
    let threshold = DropoutStream::threshold(p);
    let scale = (1.0 / (1.0 - p)) as f32;
    let mask: Vec<f32> = (0..rows)
        .flat_map(|row| {
            let row = stream.row(row);
            (0..x.elem_count() / rows)
                .map(move |i| if DropoutStream::keeps(row, i, threshold) { scale } else { 0.0 })
        })
        .collect();
    x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
}

#[cfg(test)]
mod tests;
