//! Precision of operations and destination of gradients. Each operation stores its context.

use candle_core::{Result, Tensor};
use surprisal_kernels::matmul::Precision;

use crate::grad_accumulator::GradAccumulator;

/// Options of operations. The default is f32, with gradients in candle's `GradStore`.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Input precision of linear layers, in both passes. Attention and norms are f32.
    pub precision: Precision,
    /// Where gradients of parameters go.
    pub backward: Backward,
}

/// The destination of the gradients of parameters.
#[derive(Debug, Clone, Default)]
pub enum Backward {
    /// The store that candle's `backward` returns.
    #[default]
    Store,
    /// Added to the buffers of an accumulator; the store for a parameter without one.
    Accumulate(GradAccumulator),
    /// None: fused operations save nothing for backward, and a backward pass is an error.
    Never,
}

impl Context {
    /// The same context without a backward pass.
    pub fn inference_mode(&self) -> Self {
        Self { backward: Backward::Never, ..*self }
    }

    /// Whether there is no backward pass.
    pub(crate) fn is_inference(&self) -> bool {
        matches!(self.backward, Backward::Never)
    }

    /// Whether one fused operation can have all `parameters` without candle's graph: there is no
    /// backward pass, or their gradients are accumulated.
    pub(crate) fn can_fuse<'a>(&self, parameters: impl IntoIterator<Item = &'a Tensor>) -> bool {
        match &self.backward {
            Backward::Store => false,
            Backward::Accumulate(gradients) => parameters.into_iter().all(|p| gradients.contains(p)),
            Backward::Never => true,
        }
    }

    /// Computes the gradient of `parameter` by `f(slice, add)`, which adds to the slice if `add`,
    /// else overwrites it. Returns the gradient if it does not go to an accumulator.
    pub(crate) fn accumulate_grad(
        &self,
        parameter: &Tensor,
        f: impl FnOnce(&mut [f32], bool),
    ) -> Result<Option<Tensor>> {
        if let Backward::Accumulate(gradients) = &self.backward
            && let Some(mut buffer) = gradients.buffer(parameter)
        {
            buffer.accumulate(f);
            return Ok(None);
        }
        let mut values = vec![0.0; parameter.elem_count()];
        f(&mut values, false);
        Ok(Some(Tensor::from_vec(values, parameter.shape(), parameter.device())?))
    }

    /// [`Self::accumulate_grad`] for an `f` that only adds.
    pub(crate) fn add_to_grad(
        &self,
        parameter: &Tensor,
        f: impl FnOnce(&mut [f32]),
    ) -> Result<Option<Tensor>> {
        self.accumulate_grad(parameter, |values, add| {
            if !add {
                values.fill(0.0);
            }
            f(values);
        })
    }
}
