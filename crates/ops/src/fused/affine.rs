//! One interface for candle operations with an input, a weight and an optional bias: candle has one
//! trait for two arguments and another for three.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::{result, slice};

/// Gradients of input, weight and bias; `None` for an accumulated gradient.
pub(super) type InputWeightBiasGrads = (Tensor, Option<Tensor>, Option<Tensor>);

/// An operation of an input, a weight and an optional bias.
pub(super) trait InputWeightBiasOp: Send + Sync {
    const NAME: &'static str;

    /// The output and its shape, from contiguous slices.
    fn forward(
        &self,
        x: (&[f32], &Shape),
        weight: (&[f32], &Shape),
        bias: Option<&[f32]>,
    ) -> Result<(Vec<f32>, Shape)>;

    fn backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        dy: &Tensor,
    ) -> Result<InputWeightBiasGrads>;
}

struct OpAdapter<T>(T);

/// A storage and its layout.
type Argument<'a> = (&'a CpuStorage, &'a Layout);

impl<T: InputWeightBiasOp> OpAdapter<T> {
    fn run(
        &self,
        (x, xl): Argument<'_>,
        (w, wl): Argument<'_>,
        bias: Option<Argument<'_>>,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = bias.map(|(b, bl)| slice(b, bl)).transpose()?;
        let (y, shape) = self.0.forward((slice(x, xl)?, xl.shape()), (slice(w, wl)?, wl.shape()), bias)?;
        result(y, shape)
    }
}

impl<T: InputWeightBiasOp> CustomOp2 for OpAdapter<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run((x, xl), (w, wl), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, _) = self.0.backward(x, w, None, dy)?;
        Ok((Some(dx), dw))
    }
}

impl<T: InputWeightBiasOp> CustomOp3 for OpAdapter<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run((x, xl), (w, wl), Some((b, bl)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, db) = self.0.backward(x, w, Some(b), dy)?;
        Ok((Some(dx), dw, db))
    }
}

/// Applies `op` to candle tensors.
pub(super) fn apply(
    op: impl InputWeightBiasOp + 'static,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        None => x.apply_op2(&weight, OpAdapter(op)),
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, OpAdapter(op)),
    }
}
