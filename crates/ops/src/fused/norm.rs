//! Layer norm and RMS norm; saves mean and rstd per row.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use surprisal_kernels::norm::{self, NormGradients, NormType};

use super::{InputWeightBiasGrads, apply_with_bias, result, slice, with3};
use crate::Context;
use crate::profile::{OpKind, time};

struct NormOp {
    context: Context,
    kind: NormType,
    eps: f32,
    statistics: OnceLock<Vec<(f32, f32)>>,
}

impl CustomOp3 for NormOp {
    fn name(&self) -> &'static str {
        "norm"
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
        let (x, weight, bias) = (slice(x, xl)?, slice(weight, wl)?, slice(bias, bl)?);
        let bias = (!bias.is_empty()).then_some(bias);
        let mut y = vec![0.0; x.len()];
        let norm = norm::Norm { kind: self.kind, weight, bias, eps: self.eps };
        let statistics = time(OpKind::Norm, || norm.forward(x, &mut y));
        // `set` cannot fail: forward runs once per operation.
        let _ = self.statistics.set(statistics);
        result(y, xl.shape().clone())
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<InputWeightBiasGrads> {
        let Some(statistics) = self.statistics.get() else { bail!("norm: backward before forward") };
        let bias = (bias.elem_count() > 0).then_some(bias);
        let mut dx = vec![0.0; x.elem_count()];
        let (dw, db) = with3(x, weight, dy, |x, values, dy| {
            let (context, parameters) = (&self.context, (weight, values));
            gradient(context, self.kind, self.eps, parameters, bias, statistics, x, dy, &mut dx)
        })??;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), dw, db))
    }
}

/// Adds to `dx`; returns those of dw and db that are not accumulated.
#[expect(clippy::too_many_arguments, reason = "the inputs of a norm's gradient")]
pub(super) fn gradient(
    context: &Context,
    kind: NormType,
    eps: f32,
    (weight, values): (&Tensor, &[f32]),
    bias: Option<&Tensor>,
    statistics: &[(f32, f32)],
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let norm = norm::Norm { kind, weight: values, bias: None, eps };
    let mut sums = vec![0.0; if bias.is_some() { values.len() } else { 0 }];
    let dw = context.add_to_grad(weight, |dw| {
        let db = bias.map(|_| sums.as_mut_slice());
        time(OpKind::Norm, || norm.backward(x, statistics, dy, NormGradients { dx, dw, db }));
    })?;
    let db = match bias {
        None => None,
        Some(bias) => context.add_to_grad(bias, |db| surprisal_kernels::optim::accumulate(db, &sums))?,
    };
    Ok((dw, db))
}

/// See [`crate::layers::Norm`].
pub(crate) fn norm(
    context: &Context,
    kind: NormType,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let width = x.dims2()?.1;
    if weight.dims() != [width] || bias.is_some_and(|bias| bias.dims() != [width]) {
        bail!("norm: shapes of input {:?}, weight {:?} and bias do not match", x.dims(), weight.dims());
    }
    let op = NormOp { context: context.clone(), kind, eps: eps as f32, statistics: OnceLock::new() };
    apply_with_bias(op, x, weight, bias)
}
