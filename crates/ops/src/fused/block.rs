//! Residual half-blocks one after another, (B·T, C) → (B·T, C), as one autograd operation.
//!
//! candle allocates, clears and adds a gradient tensor per graph edge, so fewer edges are faster.
//! Parameters are not arguments of the operation: the [`Context`] must accumulate their gradients.
//! Norms and activations are recomputed in the backward pass.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use surprisal_kernels::norm;

use super::attention::SavedSoftmax;
use super::{elementwise, linear, result, slice, with_option, with2};
use crate::buffer_pool::PooledBuffer;
use crate::layers::{Branch, BranchKind, DropoutConfig, KvCache, Linear, Norm};
use crate::profile::{OpKind, time};
use crate::tensor_slice::read;
use crate::{Context, Precision};

impl Norm {
    /// Calls `f` with the kernel's norm.
    fn with<R>(&self, f: impl FnOnce(norm::Norm<'_>) -> R) -> Result<R> {
        let (kind, eps) = (self.kind, self.eps as f32);
        read(&self.weight, |weight| {
            with_option(self.bias.as_ref(), |bias| {
                time(OpKind::Norm, || f(norm::Norm { kind, weight, bias, eps }))
            })
        })?
    }

    pub(crate) fn run(&self, x: &[f32]) -> Result<(PooledBuffer, Vec<(f32, f32)>)> {
        let mut y = PooledBuffer::take(x.len());
        let statistics = self.with(|norm| norm.forward(x, &mut y))?;
        Ok((y, statistics))
    }

    fn recompute(&self, x: &[f32], statistics: &[(f32, f32)]) -> Result<PooledBuffer> {
        let mut y = PooledBuffer::take(x.len());
        self.with(|norm| norm.recompute(x, statistics, &mut y))?;
        Ok(y)
    }

    /// Adds to `dx`.
    fn gradient(
        &self,
        context: &Context,
        x: &[f32],
        statistics: &[(f32, f32)],
        dy: &[f32],
        dx: &mut [f32],
    ) -> Result<()> {
        let (weight, bias, eps) = (&self.weight, self.bias.as_ref(), self.eps as f32);
        read(weight, |values| {
            super::norm::gradient(context, self.kind, eps, (weight, values), bias, statistics, x, dy, dx)
        })??;
        Ok(())
    }
}

impl Linear {
    fn run(&self, precision: Precision, x: &[f32]) -> Result<PooledBuffer> {
        let (out, width) = self.weight.dims2()?;
        let mut y = PooledBuffer::take(x.len() / width * out);
        with_option(self.bias.as_ref(), |bias| {
            read(&self.weight, |weight| linear::forward(precision, x, weight, bias, &mut y, out))
        })??;
        Ok(y)
    }

    /// `into += dropout(x Wᵀ + b)`, where `x` is `rows` sequences.
    fn add_to(
        &self,
        precision: Precision,
        x: &[f32],
        drop: Option<DropoutConfig>,
        rows: usize,
        into: &mut [f32],
    ) -> Result<()> {
        if let Some(DropoutConfig { p, key }) = drop {
            let mut y = self.run(precision, x)?;
            elementwise::drop_in_place(&mut y, rows, p, key);
            time(OpKind::Residual, || surprisal_kernels::optim::accumulate(into, &y));
            return Ok(());
        }
        let out = self.weight.dim(0)?;
        read(&self.weight, |weight| linear::add_matmul(precision, x, weight, true, into, out))?;
        let Some(bias) = &self.bias else { return Ok(()) };
        read(bias, |bias| {
            time(OpKind::Residual, || {
                for row in into.chunks_exact_mut(bias.len()) {
                    row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                }
            });
        })
    }

    /// Returns dx and accumulates the parameters' gradients.
    fn gradient(&self, context: &Context, x: &[f32], dy: &[f32]) -> Result<PooledBuffer> {
        self.weight_gradient(context, x, dy)?;
        self.input_gradient(context.precision, dy)
    }

    fn weight_gradient(&self, context: &Context, x: &[f32], dy: &[f32]) -> Result<()> {
        linear::weight_gradient(context, &self.weight, self.bias.as_ref(), x, dy).map(|_| ())
    }

    fn input_gradient(&self, precision: Precision, dy: &[f32]) -> Result<PooledBuffer> {
        let (out, width) = self.weight.dims2()?;
        let mut dx = PooledBuffer::take(dy.len() / out * width);
        read(&self.weight, |weight| linear::input_gradient(precision, weight, dy, &mut dx, out))?;
        Ok(dx)
    }
}

/// The gradient of the branch's output, before dropout.
fn branch_gradient(dy: &[f32], rows: usize, drop: Option<DropoutConfig>) -> std::borrow::Cow<'_, [f32]> {
    match drop {
        None => dy.into(),
        Some(DropoutConfig { p, key }) => {
            let mut dy = dy.to_vec();
            elementwise::drop_in_place(&mut dy, rows, p, key);
            dy.into()
        }
    }
}

impl BranchKind {
    /// Output for `u`, rows of `inputs` elements of `batch` sequences, and the values that
    /// attention saves for backward. Attention changes `u` in place (QK-norm and rotary embedding).
    fn run(
        &self,
        batch: usize,
        inputs: usize,
        u: &mut [f32],
    ) -> Result<(PooledBuffer, Option<SavedSoftmax>)> {
        match self {
            Self::Attention(attention) => {
                let shape = attention.shape(batch, u.len() / (batch * inputs), inputs)?;
                let mut y = PooledBuffer::take(batch * shape.seq_len * shape.n_embd);
                let saved = attention.run(shape, u, &mut y);
                Ok((y, Some(saved)))
            }
            Self::Activation(activation) => {
                let gates = activation.inputs(1);
                let mut a = PooledBuffer::take(u.len() / gates);
                time(OpKind::Activation, || activation.forward(u, inputs / gates, &mut a));
                Ok((a, None))
            }
        }
    }
}

impl Branch {
    /// The branch of [`Self::forward_all`] for the first T tokens of one sequence: changes `x`
    /// (T, C) in place and appends attention's keys and values to `cache`, which must be empty.
    ///
    /// # Errors
    /// Shapes that do not match, or an error of candle.
    pub fn prefill(&self, x: &mut [f32], cache: &mut KvCache) -> Result<()> {
        let Self { norm, inner, kind, proj } = self;
        let (inputs, width) = (inner.weight.dim(0)?, proj.weight.dim(1)?);
        let (normed, _) = norm.run(x)?;
        let mut u = inner.run(Precision::F32, &normed)?;
        let (y, saved) = kind.run(1, inputs, &mut u)?;
        if saved.is_some() {
            for row in u.chunks_exact(inputs) {
                let (keys, values) = row[width..].split_at((inputs - width) / 2);
                cache.keys.extend_from_slice(keys);
                cache.values.extend_from_slice(values);
            }
        }
        proj.add_to(Precision::F32, &y, None, 1, x)
    }
}

/// Branches as a candle operation.
struct BranchesOp {
    parts: Vec<(Branch, Option<DropoutConfig>)>,
    context: Context,
    batch: usize,
    saved: OnceLock<Vec<SavedActivations>>,
}

struct SavedActivations {
    /// The input; that of the first branch is the operation's own.
    input: Option<PooledBuffer>,
    /// Mean and rstd per row, of the norm.
    statistics: Vec<(f32, f32)>,
    u: PooledBuffer,
    /// Output of attention and its saved values; an activation is recomputed.
    attended: Option<(PooledBuffer, SavedSoftmax)>,
}

impl Branch {
    /// Adds the branch of `x` to it. Returns what the backward pass needs, but for the input.
    fn add_to(
        &self,
        context: &Context,
        batch: usize,
        drop: Option<DropoutConfig>,
        x: &mut [f32],
    ) -> Result<SavedActivations> {
        let Self { norm, inner, kind, proj } = self;
        let (normed, statistics) = norm.run(x)?;
        let mut u = inner.run(context.precision, &normed)?;
        std::mem::drop(normed);
        let (y, saved) = kind.run(batch, inner.weight.dim(0)?, &mut u)?;
        proj.add_to(context.precision, &y, drop, batch, x)?;
        Ok(SavedActivations { input: None, statistics, u, attended: saved.map(|saved| (y, saved)) })
    }

    /// Adds to `dx`, the gradient of the output, that of `x` by way of the branch.
    fn add_gradient(
        &self,
        context: &Context,
        batch: usize,
        drop: Option<DropoutConfig>,
        x: &[f32],
        saved: &SavedActivations,
        dx: &mut [f32],
    ) -> Result<()> {
        let Self { norm, inner, kind, proj } = self;
        let SavedActivations { statistics, u, attended, .. } = saved;
        let inputs = inner.weight.dim(0)?;
        let dbranch = branch_gradient(dx, batch, drop);
        let mut du = PooledBuffer::take(u.len());
        match (kind, attended) {
            (BranchKind::Attention(attention), Some((y, saved))) => {
                let dy = proj.gradient(context, y, &dbranch)?;
                let shape = attention.shape(batch, u.len() / (batch * inputs), inputs)?;
                attention.gradient(shape, u, y, saved, &dy, &mut du);
            }
            (BranchKind::Attention(_), None) => bail!("block: attention saved no softmax"),
            (BranchKind::Activation(activation), _) => {
                let mut a = proj.input_gradient(context.precision, &dbranch)?;
                let hidden = inputs / activation.inputs(1);
                // Replaces the gradient of `a` by `a`.
                time(OpKind::Activation, || activation.backward(u, hidden, &mut a, &mut du));
                proj.weight_gradient(context, &a, &dbranch)?;
            }
        }
        let normed = norm.recompute(x, statistics)?;
        let dnormed = inner.gradient(context, &normed, &du)?;
        norm.gradient(context, x, statistics, &dnormed, dx)
    }
}

impl CustomOp1 for BranchesOp {
    fn name(&self) -> &'static str {
        "branches"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Self { ref parts, ref context, batch, .. } = *self;
        let mut out = time(OpKind::Residual, || slice(x, layout).map(<[f32]>::to_vec))?;
        let mut saved = Vec::with_capacity(parts.len());
        for (i, &(ref branch, drop)) in parts.iter().enumerate() {
            if context.is_inference() {
                branch.add_to(context, batch, drop, &mut out)?;
                continue;
            }
            let input = (i > 0).then(|| {
                time(OpKind::Residual, || {
                    let mut input = PooledBuffer::take(out.len());
                    input.copy_from_slice(&out);
                    input
                })
            });
            saved.push(SavedActivations { input, ..branch.add_to(context, batch, drop, &mut out)? });
        }
        // `set` cannot fail: forward runs once per operation.
        let _ = self.saved.set(saved);
        result(out, layout.shape().clone())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dout: &Tensor) -> Result<Option<Tensor>> {
        let Self { ref parts, ref context, batch, .. } = *self;
        let saved = self.saved.get().filter(|saved| saved.len() == parts.len());
        let Some(saved) = saved else { bail!("block: no activations were saved for the backward pass") };
        let dx = with2(x, dout, |x, dout| -> Result<Vec<f32>> {
            let mut dx = time(OpKind::Residual, || dout.to_vec());
            for (&(ref branch, drop), saved) in parts.iter().zip(saved).rev() {
                let input = saved.input.as_deref().unwrap_or(x);
                branch.add_gradient(context, batch, drop, input, saved, &mut dx)?;
            }
            Ok(dx)
        })??;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

/// See [`Branch::forward_all`].
pub(crate) fn branches(
    parts: Vec<(Branch, Option<DropoutConfig>)>,
    context: &Context,
    x: &Tensor,
    batch: usize,
) -> Result<Tensor> {
    let rows = x.dim(0)?;
    if batch == 0 || !rows.is_multiple_of(batch) {
        bail!("block: {rows} rows cannot be divided into {batch} sequences");
    }
    let context = context.clone();
    x.contiguous()?.apply_op1(BranchesOp { parts, context, batch, saved: OnceLock::new() })
}
