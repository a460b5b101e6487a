//! The cross-entropy of a linear head in candle tensors, without all logits in memory at once.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Shape, Tensor};
use surprisal_kernels::cross_entropy::{GradOutput, Totals};
use surprisal_kernels::linear_cross_entropy::{Head, HeadGradients, linear_cross_entropy};

use crate::error::{LossError, Result};
use crate::options::{CrossEntropy, Reduction};
use crate::tensor::{Loss, OwnedTargets, reduced, scaled, stored, with_f32};

impl CrossEntropy {
    /// Loss of the logits `hidden · weightᵀ + bias`, which are never all in memory: `hidden` has
    /// shape `(N, D)`, `weight` `(V, D)`, `bias` `(V)`; `targets` are those of
    /// [`CrossEntropy::apply`].
    ///
    /// The gradients of all three are made with the loss; under [`Reduction::None`], where they
    /// depend on the upstream gradient, in the backward pass from recomputed logits.
    ///
    /// # Errors
    /// Wrong shapes or types, a target out of range, logits that hold a NaN, +∞ or nothing but −∞
    /// in a row.
    pub fn apply_linear(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        targets: &Tensor,
    ) -> Result<Loss> {
        let (rows, width) = matrix("hidden", hidden)?;
        let (vocab, weight_width) = matrix("weight", weight)?;
        crate::slices::check_length("a row of weight", weight_width, width)?;
        if let Some(bias) = bias {
            crate::slices::check_length("bias", bias.elem_count(), vocab)?;
        }
        if hidden.dtype() == DType::F64 || !hidden.device().is_cpu() {
            let logits = hidden.matmul(&weight.t()?)?;
            let logits = bias.map_or(Ok(logits.clone()), |bias| logits.broadcast_add(bias))?;
            return self.apply(&logits, targets);
        }
        let single = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.contiguous();
        let (hidden, weight) = (single(hidden)?, single(weight)?);
        let bias = bias.map(single).transpose()?;
        let targets = OwnedTargets::read(self, targets, rows, vocab)?;
        self.check(rows * vocab, vocab, targets.view())?;
        let call =
            LinearCrossEntropy { options: self.clone(), targets, rows, vocab, width, biased: bias.is_some() };
        call.run(&hidden, &weight, bias.as_ref())
    }
}

fn matrix(what: &'static str, tensor: &Tensor) -> Result<(usize, usize)> {
    match tensor.dims() {
        &[rows, columns] if tensor.dtype().is_float() => Ok((rows, columns)),
        dims => {
            let got = format!("{:?} of shape {dims:?}", tensor.dtype());
            Err(LossError::Tensor { what, expected: "floats of rank 2", got })
        }
    }
}

/// One application without its tensors.
struct LinearCrossEntropy {
    options: CrossEntropy,
    targets: OwnedTargets<f32>,
    rows: usize,
    vocab: usize,
    width: usize,
    biased: bool,
}

/// Gradients with respect to hidden states, weights and bias.
struct GradTensors {
    hidden: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
}

impl LinearCrossEntropy {
    fn run(self, hidden: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Loss> {
        let factors = self.options.factors(self.targets.view(), self.vocab);
        let tracked = hidden.track_op() || weight.track_op() || bias.is_some_and(Tensor::track_op);
        let per_row = self.options.reduction == Reduction::None;
        let mut losses = per_row.then(|| vec![0.0; self.rows]);
        let upstream = (tracked && !per_row).then(|| factors.upstream());
        let (totals, made) = self.compute(hidden, weight, bias, upstream, losses.as_deref_mut())?;
        let sums = factors.value(totals);
        let value = reduced(losses, sums.loss as f32, hidden.device())?;
        if !tracked {
            return Ok(Loss::new(value, sums));
        }
        // The op always has three arguments: a missing bias is an empty tensor.
        let empty = Tensor::zeros(0, DType::F32, hidden.device())?;
        let op = LinearCrossEntropyOp { value, made, call: self };
        Ok(Loss::new(hidden.apply_op3(weight, bias.unwrap_or(&empty), op)?, sums))
    }

    fn compute(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        upstream: Option<GradOutput<'_>>,
        losses: Option<&mut [f32]>,
    ) -> Result<(Totals, Option<GradTensors>)> {
        let spec = self.options.spec(self.vocab);
        let (targets, pool) = (self.targets.view(), self.options.pool.as_deref());
        let bias = bias.map(|bias| bias.flatten_all()?.to_vec1::<f32>()).transpose()?;
        let need = |n: usize| vec![0.0; if upstream.is_some() { n } else { 0 }];
        let mut over_hidden = need(self.rows * self.width);
        let mut over_weight = need(self.vocab * self.width);
        let mut over_bias = bias.as_ref().map(|_| need(self.vocab));
        let gradients = upstream.map(|upstream| {
            let bias = over_bias.as_deref_mut();
            (upstream, HeadGradients { hidden: &mut over_hidden, weight: &mut over_weight, bias })
        });
        let totals = with_f32(hidden, |hidden| {
            with_f32(weight, |weight| {
                let head = Head { hidden, weight, bias: bias.as_deref(), width: self.width };
                Ok(linear_cross_entropy(&head, targets, &spec, gradients, losses, pool)?)
            })
        })?;
        if upstream.is_none() {
            return Ok((totals, None));
        }
        let device = hidden.device();
        let made = GradTensors {
            hidden: Tensor::from_vec(over_hidden, hidden.shape(), device)?,
            weight: Tensor::from_vec(over_weight, weight.shape(), device)?,
            bias: over_bias.map(|b| Tensor::from_vec(b, self.vocab, device)).transpose()?,
        };
        Ok((totals, Some(made)))
    }
}

/// The loss as a node of the graph, with its gradients unless they depend on the upstream gradient.
struct LinearCrossEntropyOp {
    call: LinearCrossEntropy,
    value: Tensor,
    made: Option<GradTensors>,
}

impl CustomOp3 for LinearCrossEntropyOp {
    fn name(&self) -> &'static str {
        "linear-cross-entropy"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        stored(&self.value)
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        if let Some(GradTensors { hidden, weight, bias }) = &self.made {
            let bias = bias.as_ref().map(|bias| scaled(bias, upstream)).transpose()?;
            return Ok((Some(scaled(hidden, upstream)?), Some(scaled(weight, upstream)?), bias));
        }
        // Under `Reduction::None` the upstream gradient has one number per row.
        let factors = upstream.to_vec1::<f32>()?;
        let bias = self.call.biased.then_some(bias);
        let made = self.call.compute(hidden, weight, bias, Some(GradOutput::PerRow(&factors)), None);
        let (_, made) = made.map_err(candle_core::Error::wrap)?;
        let GradTensors { hidden, weight, bias } =
            made.ok_or_else(|| candle_core::Error::msg("no gradient was made"))?;
        Ok((Some(hidden), Some(weight), bias))
    }
}
