//! How operations are computed, and what becomes of gradients: said by the caller, kept by each operation as long as the graph lives.

use candle_core::{Result, Tensor};
use surprisal_kernels::matmul::Precision;

use crate::grad_accumulator::GradAccumulator;

/// How operations are to be computed. The default is f32, with gradients where the tensor library keeps them.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// How products of linear layers read their inputs, in both passes. Attention and norms stay f32.
    pub precision: Precision,
    /// What there is of a backward pass.
    pub backward: Backward,
}

/// Whether there will be a backward pass, and where it leaves the gradients of parameters.
#[derive(Debug, Clone, Default)]
pub enum Backward {
    /// In the store that the tensor library's `backward` returns.
    #[default]
    Store,
    /// In these buffers, added to what they hold, where they have one for the parameter; else in the store.
    Accumulate(GradAccumulator),
    /// There will be none: a fused operation keeps nothing for it, and trying one is an error.
    Never,
}

impl Context {
    /// The same, without a backward pass.
    pub fn inference_mode(&self) -> Self {
        Self { backward: Backward::Never, ..*self }
    }

    /// Whether nothing asks for gradients.
    pub(crate) fn is_inference(&self) -> bool {
        matches!(self.backward, Backward::Never)
    }

    /// Whether the gradient of `parameter` is collected.
    pub(crate) fn is_accumulated(&self, parameter: &Tensor) -> bool {
        matches!(&self.backward, Backward::Accumulate(gradients) if gradients.contains(parameter))
    }

    /// Lets `f` make the gradient of `parameter`: it adds to the slice if it is told so, else overwrites it. Where the gradient
    /// is collected there is nothing more to hand on; else it is returned.
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

    /// [`Self::make`] for an `f` that only adds.
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
