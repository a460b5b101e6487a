//! LSTM and GRU layers.
//!
//! In f32 on the CPU, a layer is one fused operation if there is no backward pass or the context
//! accumulates the gradients of all four parameters; W_ih x + b_ih of all steps is one matmul.
//! Otherwise it is composed of candle's operations.

use candle_core::{Result, Tensor, bail};

pub use surprisal_kernels::recurrent::Cell;

pub use crate::layers::RecurrentWeights;
use crate::{Context, fusable, fused, unfused};

/// One layer over B rows of T steps, as PyTorch's `nn.LSTM` and `nn.GRU`: `x` (B·T, In), row by row
/// → the states h (B·T, H) after each step, and the state after the last one.
///
/// A state (B, states·H) has h, and for an LSTM c, side by side; `None` is all zeros. It carries no
/// gradient from one call to the next (truncated back-propagation through time). Padding at the end
/// of a row is read like any step.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use surprisal_ops::Context;
/// use surprisal_ops::recurrent::{Cell, RecurrentWeights, recurrent};
/// # fn main() -> candle_core::Result<()> {
/// let zeros = |rows: usize, columns: usize| Tensor::zeros((rows, columns), DType::F32, &Device::Cpu);
/// let weights = RecurrentWeights {
///     weight_ih: zeros(3 * 5, 2)?,
///     weight_hh: zeros(3 * 5, 5)?,
///     bias_ih: zeros(1, 3 * 5)?.flatten_all()?,
///     bias_hh: zeros(1, 3 * 5)?.flatten_all()?,
/// };
/// // Four rows of three steps. All gates are ½ and all candidates 0, so each step halves the state.
/// let start = [1.0; 4 * 5];
/// let (h, after) = recurrent(&Context::default(), Cell::Gru, &zeros(4 * 3, 2)?, 4, &weights, Some(&start))?;
/// assert_eq!((h.dims(), after), (&[12, 5][..], vec![0.125; 4 * 5]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Shapes that do not fit together, or a failure of candle.
pub fn recurrent(
    context: &Context,
    cell: Cell,
    x: &Tensor,
    rows: usize,
    weights: &RecurrentWeights,
    state: Option<&[f32]>,
) -> Result<(Tensor, Vec<f32>)> {
    let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh } = weights;
    let ((n, inputs), (all, width)) = (x.dims2()?, weight_hh.dims2()?);
    if rows == 0 || n == 0 || !n.is_multiple_of(rows) {
        bail!("recurrent: {n} rows of inputs are not {rows} rows of steps");
    }
    let fits = all == cell.gates() * width
        && weight_ih.dims() == [all, inputs]
        && [bias_ih, bias_hh].iter().all(|bias| bias.dims() == [all])
        && state.is_none_or(|state| state.len() == rows * cell.states() * width);
    if !fits {
        bail!("recurrent: an input of {:?}, weights and a state that do not fit: {weights:?}", x.dims());
    }
    if fusable(x) && context.can_fuse([weight_ih, weight_hh, bias_ih, bias_hh]) {
        fused::recurrent(context, cell, x, rows, weights, state)
    } else {
        unfused::recurrent(cell, x, rows, weights, state)
    }
}

#[cfg(test)]
mod tests;
