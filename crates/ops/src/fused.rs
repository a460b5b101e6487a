//! Operations as fused kernels on the CPU in f32, each with its backward pass.
//!
//! Values saved for backward are stored in the operation, which lives as long as the graph. The
//! [`Context`](crate::Context) determines where gradients of parameters go.

mod attention;
mod block;
mod elementwise;
mod embedding;
mod linear;
mod norm;
mod recurrent;

pub(crate) use attention::{causal_attention, causal_attention_step};
pub(crate) use block::branches;
pub(crate) use elementwise::{activation, dropout, log_softmax, softcap};
pub(crate) use embedding::embedding;
pub(crate) use linear::linear;
pub(crate) use norm::norm;
pub(crate) use recurrent::recurrent;

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use crate::tensor_slice::read;

/// The elements of a contiguous f32 argument.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("a fused operation needs contiguous f32"),
    }
}

fn result(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// Gradients of input, weight and bias; `None` for an accumulated gradient.
type InputWeightBiasGrads = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// Applies an operation of an input, a weight and a bias; an empty tensor stands for no bias.
fn apply_with_bias<T>(op: T, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor>
where
    T: CustomOp3 + Send + Sync + 'static,
{
    let bias = bias.map_or_else(|| Tensor::zeros(0, DType::F32, x.device()), Tensor::contiguous)?;
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, op)
}

/// Calls `f` with the elements of three tensors.
fn with3<R>(a: &Tensor, b: &Tensor, c: &Tensor, f: impl FnOnce(&[f32], &[f32], &[f32]) -> R) -> Result<R> {
    read(a, |a| read(b, |b| read(c, |c| f(a, b, c))))??
}

/// Calls `f` with the elements of two tensors.
fn with2<R>(a: &Tensor, b: &Tensor, f: impl FnOnce(&[f32], &[f32]) -> R) -> Result<R> {
    read(a, |a| read(b, |b| f(a, b)))?
}

/// Calls `f` with the elements of an optional tensor.
fn with_option<R>(a: Option<&Tensor>, f: impl FnOnce(Option<&[f32]>) -> R) -> Result<R> {
    match a {
        None => Ok(f(None)),
        Some(a) => read(a, |a| f(Some(a))),
    }
}

#[cfg(test)]
mod tests;
