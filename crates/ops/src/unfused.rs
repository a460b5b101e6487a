//! Operations composed of candle's differentiable ones, for any device and float type.
//!
//! Slow; the oracle of the fused operations.

use candle_core::{D, DType, Device, Result, Tensor, bail};

use surprisal_kernels::dropout::is_kept;
use surprisal_kernels::norm::NormType;
use surprisal_kernels::recurrent::Cell;
use surprisal_kernels::rotary;

use crate::layers::RecurrentWeights;
use crate::{Activation, Attention, DropoutKey};

/// See [`crate::linear`].
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// See [`crate::embedding`].
pub(crate) fn embedding(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    table.index_select(ids, 0)
}

/// See [`crate::layers::Norm`].
pub(crate) fn norm(
    kind: NormType,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let centred = match kind {
        NormType::LayerNorm => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
        NormType::RmsNorm => x.clone(),
    };
    let y = to_unit(&centred, eps)?.broadcast_mul(weight)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// x / √(mean(x²) + ε), along the last dimension.
fn to_unit(x: &Tensor, eps: f64) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)
}

/// See [`crate::causal_attention`].
pub(crate) fn causal_attention(qkv: &Tensor, attention: &Attention) -> Result<Tensor> {
    let (b, t, _) = qkv.dims3()?;
    let (weights, v) = attention_weights(qkv, attention)?;
    weights.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((b, t, ())) // (B, T, C)
}

/// The attention weights (B, H, T, T) of causal attention, and the values (B, H, T, d) that they
/// weigh.
pub(crate) fn attention_weights(qkv: &Tensor, attention: &Attention) -> Result<(Tensor, Tensor)> {
    let (b, t, packed) = qkv.dims3()?;
    let &Attention { n_head, n_kv_head, ref rotary, qk_norm } = attention;
    let heads = n_head + 2 * n_kv_head;
    if n_kv_head == 0 || n_head % n_kv_head != 0 || packed % heads != 0 {
        bail!(
            "attention: a row of {packed} elements is not divisible into {n_head} query heads and {n_kv_head} key and value heads"
        );
    }
    let d = packed / heads;
    // (B, T, heads · d) -> (B, heads, T, d); contiguous, as candle's matmul requires.
    let part = |first: usize, heads: usize| -> Result<Tensor> {
        let part = qkv.narrow(2, first * d, heads * d)?.contiguous()?;
        part.reshape((b, t, heads, d))?.transpose(1, 2)?.contiguous()
    };
    let prepared = |x: Tensor| -> Result<Tensor> {
        let x = if qk_norm { to_unit(&x, f64::from(rotary::EPS))? } else { x };
        let Some(rotary) = rotary else { return Ok(x) };
        let (cos, sin) = rotary.tables();
        let table = |values: &[f32]| -> Result<Tensor> {
            let rows = values.get(..t * d / 2).unwrap_or_default();
            Tensor::from_slice(rows, (1, 1, t, d / 2), x.device())?.to_dtype(x.dtype())
        };
        let (cos, sin) = (table(cos)?, table(sin)?);
        let (low, high) = (x.narrow(3, 0, d / 2)?, x.narrow(3, d / 2, d / 2)?);
        let first = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
        let second = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
        Tensor::cat(&[&first, &second], 3)?.contiguous()
    };
    // Repeats keys and values for every query head of a group.
    let repeat_kv = |x: Tensor| -> Result<Tensor> {
        let times = n_head / n_kv_head;
        let x = x.unsqueeze(2)?.expand((b, n_kv_head, times, t, d))?;
        x.contiguous()?.reshape((b, n_head, t, d))
    };
    let q = prepared(part(0, n_head)?)?;
    let k = repeat_kv(prepared(part(n_head, n_kv_head)?)?)?;
    let v = repeat_kv(part(n_head + n_kv_head, n_kv_head)?)?;
    let scores = (q.matmul(&k.t()?)? * (1.0 / (d as f64).sqrt()))?; // (B, H, T, T)
    let scores = scores.broadcast_add(&causal_mask(t, qkv.dtype(), qkv.device())?)?;
    Ok((candle_nn::ops::softmax(&scores, D::Minus1)?, v))
}

/// Causal mask (T, T): 0 where a query may attend to a key, else −∞.
fn causal_mask(t: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> =
        (0..t).flat_map(|i| (0..t).map(move |j| if j <= i { 0.0 } else { f32::NEG_INFINITY })).collect();
    Tensor::from_vec(mask, (t, t), device)?.to_dtype(dtype)
}

/// See [`crate::activation`].
pub(crate) fn activation(u: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Gelu => {
            // Not candle's GELU, whose gradient has constants of six digits.
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            let cubic = ((u.sqr()? * 0.044715)? + 1.0)?; // (u + 0.044715 u³) / u
            let inner = ((u * cubic)? * scale)?;
            (u * 0.5)? * (inner.tanh()? + 1.0)?
        }
        Activation::Relu2 => u.relu()?.sqr(),
        Activation::SwiGlu => {
            let inputs = u.dim(D::Minus1)?;
            let (gate, value) =
                (u.narrow(D::Minus1, 0, inputs / 2)?, u.narrow(D::Minus1, inputs / 2, inputs / 2)?);
            // g / (1 + e^(−g))
            (&gate / (gate.neg()?.exp()? + 1.0)?)? * value
        }
    }
}

/// See [`crate::softcap`].
pub(crate) fn softcap(x: &Tensor, cap: f64) -> Result<Tensor> {
    (x / cap)?.tanh()? * cap
}

/// See [`crate::recurrent::recurrent`]; `state` as there.
pub(crate) fn recurrent(
    cell: Cell,
    x: &Tensor,
    rows: usize,
    weights: &RecurrentWeights,
    state: Option<&[f32]>,
) -> Result<(Tensor, Vec<f32>)> {
    let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh } = weights;
    let (width, steps) = (weight_hh.dim(1)?, x.dim(0)? / rows);
    let all = linear(x, weight_ih, Some(bias_ih))?.reshape((rows, steps, ()))?;
    let sigmoid = |x: Tensor| ((x * 0.5)?.tanh()? + 1.0)? * 0.5; // bounded, so that no gradient is ∞ · 0
    let state = match state {
        Some(state) => Tensor::from_slice(state, (rows, cell.states() * width), x.device())?,
        None => Tensor::zeros((rows, cell.states() * width), DType::F32, x.device())?,
    };
    let mut states = state.to_dtype(x.dtype())?.chunk(cell.states(), 1)?;
    let mut outputs = Vec::with_capacity(steps);
    for t in 0..steps {
        let inputs = all.narrow(1, t, 1)?.squeeze(1)?.chunk(cell.gates(), 1)?;
        let shares = linear(&states[0].contiguous()?, weight_hh, Some(bias_hh))?.chunk(cell.gates(), 1)?;
        let a = |gate: usize| &inputs[gate] + &shares[gate];
        match cell {
            Cell::Lstm => {
                let (i, f, g, o) = (sigmoid(a(0)?)?, sigmoid(a(1)?)?, a(2)?.tanh()?, sigmoid(a(3)?)?);
                let c = ((f * &states[1])? + (i * g)?)?;
                states = vec![(o * c.tanh()?)?, c];
            }
            Cell::Gru => {
                let (r, z) = (sigmoid(a(0)?)?, sigmoid(a(1)?)?);
                let n = (&inputs[2] + (r * &shares[2])?)?.tanh()?;
                states = vec![(&n + (z * (&states[0] - &n)?)?)?];
            }
        }
        outputs.push(states[0].clone());
    }
    let after = Tensor::cat(&states, 1)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    Ok((Tensor::stack(&outputs, 1)?.reshape((rows * steps, width))?, after))
}

/// See [`crate::dropout`].
pub(crate) fn dropout(x: &Tensor, p: f64, key: DropoutKey) -> Result<Tensor> {
    let rows = x.dim(0)?;
    let threshold = DropoutKey::threshold(p);
    let scale = (1.0 / (1.0 - p)) as f32;
    let mask: Vec<f32> = (0..rows)
        .flat_map(|row| {
            let row = key.row(row);
            (0..x.elem_count() / rows).map(move |i| if is_kept(row, i, threshold) { scale } else { 0.0 })
        })
        .collect();
    x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
}

#[cfg(test)]
mod tests;
