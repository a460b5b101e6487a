//! Layer norm and RMS norm; each keeps every row's mean and 1/σ.

use std::sync::OnceLock;

use candle_core::{Result, Shape, Tensor, bail};
use surprisal_kernels::norm::{self, Centre, NormGradients};

use super::affine::{self, Affine, ThreeGradients};
use super::with3;
use crate::Context;
use crate::profile::{Part, time};

struct Norm {
    context: Context,
    centre: Centre,
    eps: f32,
    statistics: OnceLock<Vec<(f32, f32)>>,
}

impl Affine for Norm {
    const NAME: &'static str = "norm";

    fn forward(
        &self,
        (x, shape): (&[f32], &Shape),
        (weight, _): (&[f32], &Shape),
        bias: Option<&[f32]>,
    ) -> Result<(Vec<f32>, Shape)> {
        let mut y = vec![0.0; x.len()];
        let norm = norm::Norm { centre: self.centre, weight, bias, eps: self.eps };
        let statistics = time(Part::Norm, || norm.forward(x, &mut y));
        // An operation runs forward once.
        let _ = self.statistics.set(statistics);
        Ok((y, shape.clone()))
    }

    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        dy: &Tensor,
    ) -> Result<ThreeGradients> {
        let Some(statistics) = self.statistics.get() else { bail!("norm: backward before forward") };
        let (dx, dw, db) = with3(x, weight, dy, |x, values, dy| -> Result<_> {
            let mut dx = vec![0.0; x.len()];
            let (context, parameters) = (&self.context, (weight, values));
            let (dw, db) =
                gradient(context, self.centre, self.eps, parameters, bias, statistics, x, dy, &mut dx)?;
            Ok((dx, dw, db))
        })??;
        Ok((Tensor::from_vec(dx, x.shape(), x.device())?, dw, db))
    }
}

/// Adds to `dx`; dw and db are returned where they are not collected.
#[expect(clippy::too_many_arguments, reason = "all that a norm's gradient is made of")]
pub(super) fn gradient(
    context: &Context,
    centre: Centre,
    eps: f32,
    (weight, values): (&Tensor, &[f32]),
    bias: Option<&Tensor>,
    statistics: &[(f32, f32)],
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let norm = norm::Norm { centre, weight: values, bias: None, eps };
    let mut sums = vec![0.0; if bias.is_some() { values.len() } else { 0 }];
    let dw = context.add_to(weight, |dw| {
        let db = bias.map(|_| sums.as_mut_slice());
        time(Part::Norm, || norm.backward(x, statistics, dy, NormGradients { dx, dw, db }));
    })?;
    let db = match bias {
        None => None,
        Some(bias) => context.add_to(bias, |db| surprisal_kernels::optim::accumulate(db, &sums))?,
    };
    Ok((dw, db))
}

/// See [`crate::layers::Norm`].
pub(crate) fn norm(
    context: &Context,
    centre: Centre,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let width = x.dims2()?.1;
    if weight.dims() != [width] || bias.is_some_and(|bias| bias.dims() != [width]) {
        bail!(
            "norm: an input of {:?} and a weight of {:?} (and its bias) do not fit",
            x.dims(),
            weight.dims()
        );
    }
    let op = Norm { context: context.clone(), centre, eps: eps as f32, statistics: OnceLock::new() };
    affine::apply(op, x, weight, bias)
}
