//! Half a transformer block as one operation of the graph: the stream in, the stream with what was added out.
//!
//! Every edge of the tensor library's graph costs a tensor of zeros, a sum and a new tensor for its gradient, so the fewer edges
//! the better. Parameters are no arguments here: the [`Context`] has to collect all their gradients. What is cheap to make again (norms, activations) is not kept.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use surprisal_kernels::norm;

use super::attention::Kept;
use super::{linear, result, rows, slice, with_option, with2};
use crate::inplace::read;
use crate::layers::{AttentionBlock, Cache, Drop, Linear, MlpBlock, Norm};
use crate::profile::{Part, time};
use crate::scratch::Scratch;
use crate::{Context, Precision};

impl Norm {
    fn view<'a>(&self, weight: &'a [f32], bias: Option<&'a [f32]>) -> norm::Norm<'a> {
        norm::Norm { centre: self.centre, weight, bias, eps: self.eps as f32 }
    }

    fn run(&self, x: &[f32]) -> Result<(Scratch, Vec<(f32, f32)>)> {
        let mut y = Scratch::dirty(x.len());
        let statistics = read(&self.weight, |weight| {
            with_option(self.bias.as_ref(), |bias| {
                time(Part::Norm, || self.view(weight, bias).forward(x, &mut y))
            })
        })??;
        Ok((y, statistics))
    }

    fn again(&self, x: &[f32], statistics: &[(f32, f32)]) -> Result<Scratch> {
        let mut y = Scratch::dirty(x.len());
        read(&self.weight, |weight| {
            with_option(self.bias.as_ref(), |bias| {
                time(Part::Norm, || self.view(weight, bias).again(x, statistics, &mut y));
            })
        })??;
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
            super::norm::gradient(context, self.centre, eps, (weight, values), bias, statistics, x, dy, dx)
        })??;
        Ok(())
    }
}

impl Linear {
    fn run(&self, precision: Precision, x: &[f32]) -> Result<Scratch> {
        let (out, width) = self.weight.dims2()?;
        let mut y = Scratch::dirty(x.len() / width * out);
        with_option(self.bias.as_ref(), |bias| {
            read(&self.weight, |weight| linear::forward(precision, x, weight, bias, &mut y, out))
        })??;
        Ok(y)
    }

    /// `into += x Wᵀ + b`, with dropout of what is added.
    fn add_to(
        &self,
        precision: Precision,
        x: &[f32],
        drop: Option<Drop>,
        rows: usize,
        into: &mut [f32],
    ) -> Result<()> {
        if let Some(Drop { p, stream }) = drop {
            let mut y = self.run(precision, x)?;
            rows::drop_in_place(&mut y, rows, p, stream);
            time(Part::Residual, || surprisal_kernels::optim::accumulate(into, &y));
            return Ok(());
        }
        let out = self.weight.dim(0)?;
        read(&self.weight, |weight| linear::add_product(precision, x, weight, true, into, out))?;
        match &self.bias {
            None => Ok(()),
            Some(bias) => time(Part::Residual, || linear::add_bias(into, bias)),
        }
    }

    /// dx; the parameters' gradients go where they are collected.
    fn gradient(&self, context: &Context, x: &[f32], dy: &[f32]) -> Result<Scratch> {
        self.weight_gradient(context, x, dy)?;
        self.input_gradient(context.precision, dy)
    }

    fn weight_gradient(&self, context: &Context, x: &[f32], dy: &[f32]) -> Result<()> {
        linear::weight_gradient(context, &self.weight, self.bias.as_ref(), x, dy).map(|_| ())
    }

    fn input_gradient(&self, precision: Precision, dy: &[f32]) -> Result<Scratch> {
        let (out, width) = self.weight.dims2()?;
        let mut dx = Scratch::dirty(dy.len() / out * width);
        read(&self.weight, |weight| linear::input_gradient(precision, weight, dy, &mut dx, out))?;
        Ok(dx)
    }
}

/// What comes back to the branch: the stream's gradient, less what dropout took.
fn dropped(dy: &[f32], rows: usize, drop: Option<Drop>) -> std::borrow::Cow<'_, [f32]> {
    match drop {
        None => dy.into(),
        Some(Drop { p, stream }) => {
            let mut dy = dy.to_vec();
            rows::drop_in_place(&mut dy, rows, p, stream);
            dy.into()
        }
    }
}

/// How a block is applied.
struct Call {
    context: Context,
    batch: usize,
    tokens: usize,
    drop: Option<Drop>,
}

impl Call {
    fn new(context: &Context, x: &Tensor, batch: usize, drop: Option<Drop>) -> Result<Self> {
        let rows = x.dim(0)?;
        if batch == 0 || !rows.is_multiple_of(batch) {
            bail!("block: {rows} rows are not {batch} sequences");
        }
        Ok(Self { context: context.clone(), batch, tokens: rows / batch, drop })
    }
}

struct Attend {
    block: AttentionBlock,
    call: Call,
    kept: OnceLock<AttendKept>,
}

struct AttendKept {
    statistics: Vec<(f32, f32)>,
    qkv: Scratch,
    y: Scratch,
    kept: Kept,
}

impl CustomOp1 for Attend {
    fn name(&self) -> &'static str {
        "attention-block"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let AttentionBlock { norm, qkv: to_qkv, proj, attention } = &self.block;
        let Call { ref context, batch, tokens, drop } = self.call;
        let precision = context.precision;
        let x = slice(x, layout)?;
        let (normed, statistics) = norm.run(x)?;
        let mut qkv = to_qkv.run(precision, &normed)?;
        std::mem::drop(normed);
        let shape = attention.shape(batch, tokens, qkv.len() / (batch * tokens))?;
        let mut y = Scratch::dirty(batch * tokens * shape.width);
        let kept = attention.run(shape, &mut qkv, &mut y);
        let mut out = time(Part::Residual, || x.to_vec());
        proj.add_to(precision, &y, drop, batch, &mut out)?;
        if !context.is_inference() {
            let _ = self.kept.set(AttendKept { statistics, qkv, y, kept });
        }
        result(out, layout.shape().clone())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dout: &Tensor) -> Result<Option<Tensor>> {
        let AttentionBlock { norm, qkv: to_qkv, proj, attention } = &self.block;
        let Call { ref context, batch, tokens, drop } = self.call;
        let Some(AttendKept { statistics, qkv, y, kept }) = self.kept.get() else {
            bail!("attention block: nothing was kept for a backward pass")
        };
        let dx = with2(x, dout, |x, dout| -> Result<Vec<f32>> {
            let dy = proj.gradient(context, y, &dropped(dout, batch, drop))?;
            let shape = attention.shape(batch, tokens, qkv.len() / (batch * tokens))?;
            let mut dqkv = Scratch::dirty(qkv.len());
            attention.gradient(shape, qkv, y, kept, &dy, &mut dqkv);
            std::mem::drop(dy);
            let normed = norm.again(x, statistics)?;
            let dnormed = to_qkv.gradient(context, &normed, &dqkv)?;
            let mut dx = time(Part::Residual, || dout.to_vec());
            norm.gradient(context, x, statistics, &dnormed, &mut dx)?;
            Ok(dx)
        })??;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

/// The first tokens of one row, `x` (T, C) in place; their keys and values go into the empty `cache`.
pub(crate) fn attention_fill(block: &AttentionBlock, x: &mut [f32], cache: &mut Cache) -> Result<()> {
    let AttentionBlock { norm, qkv: to_qkv, proj, attention } = block;
    let precision = Precision::F32;
    let (normed, _) = norm.run(x)?;
    let mut qkv = to_qkv.run(precision, &normed)?;
    let tokens = x.len() / norm.weight.elem_count();
    let packed = qkv.len() / tokens.max(1);
    let shape = attention.shape(1, tokens, packed)?;
    let mut y = Scratch::dirty(tokens * shape.width);
    attention.run(shape, &mut qkv, &mut y);
    let width = shape.n_kv_head * shape.head();
    for row in qkv.chunks_exact(packed) {
        cache.keys.extend_from_slice(&row[shape.width..shape.width + width]);
        cache.values.extend_from_slice(&row[shape.width + width..]);
    }
    proj.add_to(precision, &y, None, 1, x)
}

/// The same of an MLP.
pub(crate) fn mlp_fill(block: &MlpBlock, x: &mut [f32]) -> Result<()> {
    let MlpBlock { norm, fc, proj, activation } = block;
    let precision = Precision::F32;
    let (normed, _) = norm.run(x)?;
    let u = fc.run(precision, &normed)?;
    let hidden = proj.weight.dim(1)?;
    let mut a = Scratch::dirty(u.len() / activation.inputs(1));
    activation.forward(&u, hidden, &mut a);
    proj.add_to(precision, &a, None, 1, x)
}

struct Mlp {
    block: MlpBlock,
    call: Call,
    /// The norm's statistics, and what goes into the activation.
    kept: OnceLock<(Vec<(f32, f32)>, Scratch)>,
}

impl Mlp {
    fn hidden(&self) -> Result<usize> {
        self.block.proj.weight.dim(1)
    }
}

impl CustomOp1 for Mlp {
    fn name(&self) -> &'static str {
        "mlp-block"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let MlpBlock { norm, fc, proj, activation } = &self.block;
        let Call { ref context, batch, tokens, drop } = self.call;
        let precision = context.precision;
        let (x, hidden) = (slice(x, layout)?, self.hidden()?);
        let (normed, statistics) = norm.run(x)?;
        let u = fc.run(precision, &normed)?;
        std::mem::drop(normed);
        let mut a = Scratch::dirty(batch * tokens * hidden);
        time(Part::Activation, || activation.forward(&u, hidden, &mut a));
        let mut out = time(Part::Residual, || x.to_vec());
        proj.add_to(precision, &a, drop, batch, &mut out)?;
        if !context.is_inference() {
            let _ = self.kept.set((statistics, u));
        }
        result(out, layout.shape().clone())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dout: &Tensor) -> Result<Option<Tensor>> {
        let MlpBlock { norm, fc, proj, activation } = &self.block;
        let Call { ref context, batch, drop, .. } = self.call;
        let Some((statistics, u)) = self.kept.get() else {
            bail!("mlp block: nothing was kept for a backward pass")
        };
        let hidden = self.hidden()?;
        let dx = with2(x, dout, |x, dout| -> Result<Vec<f32>> {
            let dbranch = dropped(dout, batch, drop);
            let mut a = proj.input_gradient(context.precision, &dbranch)?;
            let mut du = Scratch::dirty(u.len());
            // The gradient of the activation's value becomes the value itself.
            time(Part::Activation, || activation.backward(u, hidden, &mut a, &mut du));
            proj.weight_gradient(context, &a, &dbranch)?;
            std::mem::drop(a);
            let normed = norm.again(x, statistics)?;
            let dnormed = fc.gradient(context, &normed, &du)?;
            let mut dx = time(Part::Residual, || dout.to_vec());
            norm.gradient(context, x, statistics, &dnormed, &mut dx)?;
            Ok(dx)
        })??;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

/// See [`AttentionBlock::forward`].
pub(crate) fn attention_block(
    block: &AttentionBlock,
    context: &Context,
    x: &Tensor,
    batch: usize,
    drop: Option<Drop>,
) -> Result<Tensor> {
    let call = Call::new(context, x, batch, drop)?;
    x.contiguous()?.apply_op1(Attend { block: block.clone(), call, kept: OnceLock::new() })
}

/// See [`MlpBlock::forward`].
pub(crate) fn mlp_block(
    block: &MlpBlock,
    context: &Context,
    x: &Tensor,
    batch: usize,
    drop: Option<Drop>,
) -> Result<Tensor> {
    let call = Call::new(context, x, batch, drop)?;
    x.contiguous()?.apply_op1(Mlp { block: block.clone(), call, kept: OnceLock::new() })
}
