//! Half a transformer block, a branch added to the stream: x + attention(norm(x)) or x + mlp(norm(x)).
//!
//! Written here from the operations of this crate. Where the context collects all gradients of the parameters, or there is no
//! backward pass, a half is one fused operation with the same numbers.

use candle_core::{Result, Tensor};

use crate::layers::{Between, Branch, DropoutConfig, Linear, Norm};
use crate::{Context, activation, causal_attention, dropout, fusable, fused, unfused};

impl Linear {
    /// x Wᵀ + b.
    ///
    /// # Errors
    /// As [`crate::linear`].
    pub fn forward(&self, context: &Context, x: &Tensor) -> Result<Tensor> {
        crate::linear(context, x, &self.weight, self.bias.as_ref())
    }
}

impl Norm {
    /// Each row of `x` (N, C) normalised.
    ///
    /// # Errors
    /// Shapes that do not fit together, or a failure of the tensor library.
    pub fn forward(&self, context: &Context, x: &Tensor) -> Result<Tensor> {
        let Self { norm_type: centre, weight, bias, eps } = self;
        if fusable(x) {
            fused::norm(context, *centre, x, weight, bias.as_ref(), *eps)
        } else {
            unfused::norm(*centre, x, weight, bias.as_ref(), *eps)
        }
    }
}

impl Branch {
    /// `x` (B·T, C) of `batch` sequences → (B·T, C).
    ///
    /// # Errors
    /// Shapes that do not fit together, or a failure of the tensor library.
    pub fn forward(
        &self,
        context: &Context,
        x: &Tensor,
        batch: usize,
        drop: Option<DropoutConfig>,
    ) -> Result<Tensor> {
        if fusable(x) && (context.is_inference() || self.is_collected(context)) {
            return fused::branch(self, context, x, batch, drop);
        }
        let rows = x.dim(0)?;
        let u = self.inner.forward(context, &self.norm.forward(context, x)?)?; // (B·T, U)
        let y = match &self.between {
            Between::Attention(attention) => {
                causal_attention(&u.reshape((batch, rows / batch, ()))?, attention)?.reshape((rows, ()))?
            }
            Between::Activation(kind) => activation(&u, *kind)?,
        }; // (B·T, F)
        x + apply_dropout(self.proj.forward(context, &y)?, batch, drop)?
    }

    /// Whether the gradients of all parameters are collected.
    fn is_collected(&self, context: &Context) -> bool {
        let Self { norm, inner, proj, .. } = self;
        let weights = [&norm.weight, &inner.weight, &proj.weight].into_iter();
        let biases = [&norm.bias, &inner.bias, &proj.bias].into_iter().flatten();
        weights.chain(biases).all(|parameter| context.is_accumulated(parameter))
    }
}

/// `x` (B·T, C), some of it dropped sequence by sequence.
///
/// # Errors
/// As [`dropout`].
pub fn apply_dropout(x: Tensor, batch: usize, drop: Option<DropoutConfig>) -> Result<Tensor> {
    let Some(DropoutConfig { p, key: stream }) = drop else { return Ok(x) };
    let shape = x.shape().clone();
    dropout(&x.reshape((batch, shape.dims()[0] / batch, shape.dims()[1]))?, p, stream)?.reshape(shape)
}

#[cfg(test)]
mod tests;
