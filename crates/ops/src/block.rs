//! The two halves of a transformer block, each a branch added to the stream: x + attention(norm(x)), x + mlp(norm(x)).
//!
//! Written here from the operations of this crate. Where the context collects all gradients of the parameters, or there is no
//! backward pass, a half is one fused operation with the same numbers.

use candle_core::{Result, Tensor};

pub use crate::layers::{AttentionBlock, Cache, Drop, MlpBlock};
use crate::layers::{Linear, Norm};
use crate::{Context, activation, causal_attention, composed, dropout, fusable, fused};

/// Whether half a block can be one operation.
fn whole(context: &Context, x: &Tensor, norm: &Norm, layers: [&Linear; 2]) -> bool {
    let linear = layers.into_iter().flat_map(|l| [Some(&l.weight), l.bias.as_ref()]);
    let mut parameters = linear.chain([Some(&norm.weight), norm.bias.as_ref()]).flatten();
    fusable(x) && (context.is_inference() || parameters.all(|parameter| context.collects(parameter)))
}

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
        let Self { centre, weight, bias, eps } = self;
        if fusable(x) {
            fused::norm(context, *centre, x, weight, bias.as_ref(), *eps)
        } else {
            composed::norm(*centre, x, weight, bias.as_ref(), *eps)
        }
    }
}

impl AttentionBlock {
    /// `x` (B·T, C) of `batch` sequences → (B·T, C).
    ///
    /// # Errors
    /// Shapes that do not fit together, or a failure of the tensor library.
    pub fn forward(&self, context: &Context, x: &Tensor, batch: usize, drop: Option<Drop>) -> Result<Tensor> {
        if whole(context, x, &self.norm, [&self.qkv, &self.proj]) {
            return fused::attention_block(self, context, x, batch, drop);
        }
        let rows = x.dim(0)?;
        let qkv = self.qkv.forward(context, &self.norm.forward(context, x)?)?; // (B·T, C + 2·G·d)
        let y = causal_attention(&qkv.reshape((batch, rows / batch, ()))?, &self.attention)?; // (B, T, C)
        x + dropped(self.proj.forward(context, &y.reshape((rows, ()))?)?, batch, drop)?
    }
}

impl MlpBlock {
    /// `x` (B·T, C) of `batch` sequences → (B·T, C).
    ///
    /// # Errors
    /// Shapes that do not fit together, or a failure of the tensor library.
    pub fn forward(&self, context: &Context, x: &Tensor, batch: usize, drop: Option<Drop>) -> Result<Tensor> {
        if whole(context, x, &self.norm, [&self.fc, &self.proj]) {
            return fused::mlp_block(self, context, x, batch, drop);
        }
        let hidden =
            activation(&self.fc.forward(context, &self.norm.forward(context, x)?)?, self.activation)?; // (B·T, F)
        x + dropped(self.proj.forward(context, &hidden)?, batch, drop)?
    }
}

/// `x` (B·T, C), some of it dropped sequence by sequence.
///
/// # Errors
/// As [`dropout`].
pub fn dropped(x: Tensor, batch: usize, drop: Option<Drop>) -> Result<Tensor> {
    let Some(Drop { p, stream }) = drop else { return Ok(x) };
    let shape = x.shape().clone();
    dropout(&x.reshape((batch, shape.dims()[0] / batch, shape.dims()[1]))?, p, stream)?.reshape(shape)
}

#[cfg(test)]
mod tests;
