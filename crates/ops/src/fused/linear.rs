//! Linear layer, `x Wᵀ + b`.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use surprisal_kernels::matmul::{Matrix, MatrixMut, Precision, matmul_with_precision};

use super::{InputWeightBiasGrads, apply_with_bias, result, slice, with2};
use crate::Context;
use crate::profile::{OpKind, time};

/// Y = X Wᵀ + b for `weight` (Out, In).
pub(super) fn forward(
    precision: Precision,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    out: usize,
) {
    if let Some(bias) = bias {
        y.chunks_exact_mut(out).for_each(|row| row.copy_from_slice(bias));
    }
    add_matmul(precision, x, weight, bias.is_some(), y, out);
}

/// Y = X Wᵀ, or Y += X Wᵀ if `accumulate`.
pub(super) fn add_matmul(
    precision: Precision,
    x: &[f32],
    weight: &[f32],
    accumulate: bool,
    y: &mut [f32],
    out: usize,
) {
    let width = weight.len() / out;
    let rows = x.len() / width;
    time(OpKind::Forward, || {
        let weight = Matrix::new(weight, out, width).transposed();
        let (x, y) = (Matrix::new(x, rows, width), MatrixMut::new(y, rows, out));
        matmul_with_precision(precision, y, accumulate, x, weight, None);
    });
}

/// dX = dY W.
pub(super) fn input_gradient(precision: Precision, weight: &[f32], dy: &[f32], dx: &mut [f32], out: usize) {
    let width = weight.len() / out;
    let rows = dy.len() / out;
    time(OpKind::InputGradient, || {
        let weight = Matrix::new(weight, out, width);
        let dy = Matrix::new(dy, rows, out);
        matmul_with_precision(precision, MatrixMut::new(dx, rows, width), false, dy, weight, None);
    });
}

/// dW = dYᵀ X and db = Σ dY; returns those that are not accumulated.
pub(super) fn weight_gradient(
    context: &Context,
    weight: &Tensor,
    bias: Option<&Tensor>,
    x: &[f32],
    dy: &[f32],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (out, width) = weight.dims2()?;
    let rows = dy.len() / out;
    let dw = context.accumulate_grad(weight, |dw, accumulate| {
        time(OpKind::WeightGradient, || {
            let (dy, x) = (Matrix::new(dy, rows, out).transposed(), Matrix::new(x, rows, width));
            matmul_with_precision(context.precision, MatrixMut::new(dw, out, width), accumulate, dy, x, None);
        });
    })?;
    let db = match bias {
        None => None,
        Some(bias) => context.add_to_grad(bias, |db| {
            time(OpKind::Residual, || {
                for row in dy.chunks_exact(out) {
                    db.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
            });
        })?,
    };
    Ok((dw, db))
}

struct LinearOp {
    context: Context,
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        bias: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, out) = (xl.shape().dims2()?.0, wl.shape().dims2()?.0);
        let (x, weight, bias) = (slice(x, xl)?, slice(weight, wl)?, slice(bias, bl)?);
        let mut y = vec![0.0; rows * out];
        forward(self.context.precision, x, weight, (!bias.is_empty()).then_some(bias), &mut y, out);
        result(y, (rows, out))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<InputWeightBiasGrads> {
        let (out, bias) = (weight.dim(0)?, (bias.elem_count() > 0).then_some(bias));
        let (dw, db) = with2(x, dy, |x, dy| weight_gradient(&self.context, weight, bias, x, dy))??;
        let mut dx = vec![0.0; x.elem_count()];
        with2(weight, dy, |weight, dy| input_gradient(self.context.precision, weight, dy, &mut dx, out))?;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), dw, db))
    }
}

/// See [`crate::linear`].
pub(crate) fn linear(
    context: &Context,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let ((_, width), (out, inner)) = (x.dims2()?, weight.dims2()?);
    if width != inner || bias.is_some_and(|bias| bias.dims() != [out]) {
        bail!("linear: shapes of input {:?}, weight {:?} and bias do not match", x.dims(), weight.dims());
    }
    apply_with_bias(LinearOp { context: context.clone() }, x, weight, bias)
}
