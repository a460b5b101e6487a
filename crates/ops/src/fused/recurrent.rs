//! An LSTM or GRU layer as one operation of the graph.
//!
//! Arrays are ordered by time, so that each step, and the states before all steps, are contiguous:
//! the gradients of the weights and of the input are one matmul each. Parameters are not arguments
//! of the op, so the [`Context`] must accumulate all their gradients.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use surprisal_kernels::recurrent::{Cell, Recurrence};

use super::{linear, result};
use crate::Context;
use crate::buffer_pool::PooledBuffer;
use crate::layers::RecurrentWeights;
use crate::profile::{OpKind, time};
use crate::tensor_slice::read;

struct RecurrentOp {
    context: Context,
    weights: RecurrentWeights,
    sizes: Recurrence,
    /// The output, until the operation runs.
    y: Mutex<Vec<f32>>,
    saved: Option<SavedStates>,
}

/// Saved for backward: the arrays of [`Recurrence::forward`].
struct SavedStates {
    gates: PooledBuffer,
    h: PooledBuffer,
    inner: PooledBuffer,
}

/// The vectors of an array (`middle`, `outer`, C), in the order of its transpose (`outer`,
/// `middle`, C).
fn transposed(from: &[f32], outer: usize, middle: usize) -> impl Iterator<Item = &[f32]> {
    let c = from.len() / (outer * middle);
    (0..outer * middle).map(move |i| {
        let at = (i % middle * outer + i / middle) * c;
        &from[at..at + c]
    })
}

/// [`transposed`] as an array of its own, whose memory is written once.
fn transpose(from: &[f32], outer: usize, middle: usize) -> Vec<f32> {
    let mut into = Vec::with_capacity(from.len());
    transposed(from, outer, middle).for_each(|row| into.extend_from_slice(row));
    into
}

fn transpose_into(from: &[f32], outer: usize, middle: usize, into: &mut [f32]) {
    let c = from.len() / (outer * middle);
    into.chunks_exact_mut(c)
        .zip(transposed(from, outer, middle))
        .for_each(|(into, row)| into.copy_from_slice(row));
}

/// `x` (B·T, C) row by row → (T·B, C) step by step.
fn by_time(x: &Tensor, sizes: Recurrence) -> Result<PooledBuffer> {
    let mut y = PooledBuffer::take(x.elem_count());
    read(x, |x| time(OpKind::Recurrence, || transpose_into(x, sizes.steps, sizes.rows, &mut y)))?;
    Ok(y)
}

/// See [`crate::recurrent::recurrent`], which has checked the shapes.
pub(crate) fn recurrent(
    context: &Context,
    cell: Cell,
    x: &Tensor,
    rows: usize,
    weights: &RecurrentWeights,
    state: Option<&[f32]>,
) -> Result<(Tensor, Vec<f32>)> {
    let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh } = weights;
    let (steps, (all, width)) = (x.dim(0)? / rows, weight_hh.dims2()?);
    let sizes = Recurrence { cell, rows, steps, width };
    let block = rows * width;
    let mut gates = PooledBuffer::take(steps * rows * all);
    let inputs = by_time(x, sizes)?;
    read(weight_ih, |weight| {
        read(bias_ih, |bias| linear::forward(context.precision, &inputs, weight, Some(bias), &mut gates, all))
    })??;
    std::mem::drop(inputs);
    let [mut h, mut inner] = [(); 2].map(|()| PooledBuffer::take((steps + 1) * block));
    h[..block].fill(0.0);
    inner[..block].fill(0.0);
    for (row, state) in state.unwrap_or_default().chunks_exact(cell.states() * width).enumerate() {
        let of_row = row * width..(row + 1) * width;
        h[of_row.clone()].copy_from_slice(&state[..width]);
        inner[of_row].copy_from_slice(&state[state.len() - width..]);
    }
    super::with2(weight_hh, bias_hh, |weight, bias| {
        time(OpKind::Recurrence, || sizes.forward(weight, bias, &mut gates, &mut h, &mut inner));
    })?;
    let y = time(OpKind::Recurrence, || transpose(&h[block..], rows, steps));
    let mut after = Vec::with_capacity(rows * cell.states() * width);
    for row in 0..rows {
        let of_row = steps * block + row * width..steps * block + (row + 1) * width;
        after.extend_from_slice(&h[of_row.clone()]);
        if cell == Cell::Lstm {
            after.extend_from_slice(&inner[of_row]);
        }
    }
    let kept = (!context.is_inference()).then_some(SavedStates { gates, h, inner });
    let (context, weights) = (context.clone(), weights.clone());
    Ok((x.apply_op1(RecurrentOp { context, weights, sizes, y: Mutex::new(y), saved: kept })?, after))
}

impl CustomOp1 for RecurrentOp {
    fn name(&self) -> &'static str {
        "recurrent"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let Recurrence { rows, steps, width, .. } = self.sizes;
        let Ok(mut y) = self.y.lock() else { bail!("recurrent: a panic in another thread") };
        result(std::mem::take(&mut *y), (rows * steps, width))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let Self { ref context, sizes, saved: ref kept, .. } = *self;
        let Some(SavedStates { gates, h, inner }) = kept else {
            bail!("recurrent: nothing was kept for a backward pass")
        };
        let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh } = &self.weights;
        let Recurrence { cell, rows, steps, width } = sizes;
        let block = rows * width;
        let mut dh = PooledBuffer::take((steps + 1) * block);
        dh[..block].fill(0.0);
        read(dy, |dy| time(OpKind::Recurrence, || transpose_into(dy, steps, rows, &mut dh[block..])))?;
        let mut dgates = PooledBuffer::take(gates.len());
        let mut dshare = PooledBuffer::take(if cell == Cell::Gru { gates.len() } else { 0 });
        read(weight_hh, |weight| {
            time(OpKind::Recurrence, || {
                sizes.backward(weight, gates, h, inner, &mut dh, &mut dgates, &mut dshare);
            });
        })?;
        let dshare = if cell == Cell::Gru { &dshare } else { &dgates };
        linear::weight_gradient(context, weight_hh, Some(bias_hh), &h[..steps * block], dshare)?;
        let inputs = by_time(x, sizes)?;
        linear::weight_gradient(context, weight_ih, Some(bias_ih), &inputs, &dgates)?;
        let mut dinputs = inputs;
        let all = cell.gates() * width;
        read(weight_ih, |weight| {
            linear::input_gradient(context.precision, weight, &dgates, &mut dinputs, all);
        })?;
        let dx = time(OpKind::Recurrence, || transpose(&dinputs, rows, steps));
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
