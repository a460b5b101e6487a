//! Elementwise operations: activations, dropout and soft cap; and log-softmax.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};
use surprisal_kernels::activation::Activation;
use surprisal_kernels::elementary::Elementary;
use surprisal_kernels::{dropout, softcap};

use super::{result, slice, with2};
use crate::DropoutKey;
use crate::profile::{OpKind, time};
use crate::tensor_slice::read;

struct ActivationOp {
    activation: Activation,
    width: usize,
}

impl CustomOp1 for ActivationOp {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, u: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let u = slice(u, layout)?;
        let mut a = vec![0.0; u.len() / self.activation.inputs(1)];
        time(OpKind::Activation, || self.activation.forward(u, self.width, &mut a));
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.width;
        }
        result(a, dims)
    }

    fn bwd(&self, u: &Tensor, _: &Tensor, da: &Tensor) -> Result<Option<Tensor>> {
        let du = with2(u, da, |u, da| {
            let (mut da, mut du) = (da.to_vec(), vec![0.0; u.len()]);
            time(OpKind::Activation, || self.activation.backward(u, self.width, &mut da, &mut du));
            du
        })?;
        Ok(Some(Tensor::from_vec(du, u.shape(), u.device())?))
    }
}

/// See [`crate::activation`].
pub(crate) fn activation(u: &Tensor, activation: Activation) -> Result<Tensor> {
    let inputs = u.dims().last().copied().unwrap_or(0);
    let width = inputs / activation.inputs(1);
    if width == 0 || inputs != activation.inputs(width) {
        bail!("activation: a row of {inputs} elements is not divisible into gates and up-projections");
    }
    u.contiguous()?.apply_op1(ActivationOp { activation, width })
}

/// Dropout in place; `x` has `rows` rows along the first dimension.
pub(super) fn drop_in_place(x: &mut [f32], rows: usize, p: f64, key: DropoutKey) {
    time(OpKind::Residual, || {
        let keys: Vec<u64> = (0..rows).map(|row| key.row(row)).collect();
        dropout::apply(x, &keys, DropoutKey::threshold(p), (1.0 / (1.0 - p)) as f32);
    });
}

struct DropoutOp {
    p: f64,
    key: DropoutKey,
}

impl CustomOp1 for DropoutOp {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = slice(x, layout)?.to_vec();
        drop_in_place(&mut y, layout.dims()[0], self.p, self.key);
        result(y, layout.shape().clone())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = read(dy, <[f32]>::to_vec)?;
        drop_in_place(&mut dx, x.dim(0)?, self.p, self.key);
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

/// See [`crate::dropout`].
pub(crate) fn dropout(x: &Tensor, p: f64, key: DropoutKey) -> Result<Tensor> {
    x.contiguous()?.apply_op1(DropoutOp { p, key })
}

/// `y = cap · tanh(x / cap)`.
struct SoftcapOp {
    cap: f32,
}

impl CustomOp1 for SoftcapOp {
    fn name(&self) -> &'static str {
        "softcap"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = slice(x, layout)?.to_vec();
        time(OpKind::Head, || softcap::softcap_in_place(&mut y, self.cap));
        result(y, layout.shape().clone())
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = with2(y, dy, |y, dy| softcap::softcap_backward(y, dy, self.cap))?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

/// See [`crate::softcap`].
pub(crate) fn softcap(x: &Tensor, cap: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op1(SoftcapOp { cap: cap as f32 })
}

/// See [`crate::log_softmax`].
pub(crate) fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let by = Elementary::current();
    let mut values = read(logits, <[f32]>::to_vec)?;
    for row in values.chunks_mut(logits.dim(D::Minus1)?.max(1)) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_sum = by.ln(row.iter().map(|z| by.exp(f64::from(z - max))).sum());
        for z in row {
            *z = (f64::from(*z - max) - log_sum) as f32;
        }
    }
    Tensor::from_vec(values, logits.shape(), logits.device())
}
