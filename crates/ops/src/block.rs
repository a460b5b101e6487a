//! Residual half-blocks of a transformer: x + attention(norm(x)) or x + mlp(norm(x)).
//!
//! Half-blocks are one fused operation if `Context::can_fuse`, else a composition with the same
//! numbers.

use candle_core::{Result, Tensor};

use crate::layers::{Branch, BranchKind, DropoutConfig, Linear, Norm};
use crate::{Context, activation, causal_attention, dropout, fusable, fused, unfused};

impl Linear {
    /// `x Wᵀ + b`.
    ///
    /// # Errors
    /// As [`crate::linear`].
    pub fn forward(&self, context: &Context, x: &Tensor) -> Result<Tensor> {
        crate::linear(context, x, &self.weight, self.bias.as_ref())
    }
}

impl Norm {
    /// Normalises each row of `x` (N, C).
    ///
    /// # Errors
    /// Shapes that do not match, or an error of candle.
    pub fn forward(&self, context: &Context, x: &Tensor) -> Result<Tensor> {
        let Self { kind, weight, bias, eps } = self;
        if fusable(x) {
            fused::norm(context, *kind, x, weight, bias.as_ref(), *eps)
        } else {
            unfused::norm(*kind, x, weight, bias.as_ref(), *eps)
        }
    }
}

impl Branch {
    /// `x` (B·T, C) of `batch` sequences → (B·T, C), through one branch after another. `drop` gives
    /// the dropout of the branch with an index.
    ///
    /// # Errors
    /// Shapes that do not match, or an error of candle.
    pub fn forward_all(
        branches: &[Self],
        context: &Context,
        x: &Tensor,
        batch: usize,
        drop: impl Fn(usize) -> Option<DropoutConfig>,
    ) -> Result<Tensor> {
        let parts = branches.iter().enumerate().map(|(i, branch)| (branch, drop(i)));
        if fusable(x) && branches.iter().all(|branch| branch.can_fuse(context)) {
            let parts = parts.map(|(branch, drop)| (branch.clone(), drop)).collect();
            return fused::branches(parts, context, x, batch);
        }
        let mut x = x.clone();
        for (branch, drop) in parts {
            x = branch.unfused(context, &x, batch, drop)?;
        }
        Ok(x)
    }

    fn can_fuse(&self, context: &Context) -> bool {
        let Self { norm, inner, proj, .. } = self;
        let weights = [&norm.weight, &inner.weight, &proj.weight];
        let biases = [&norm.bias, &inner.bias, &proj.bias];
        context.can_fuse(weights.into_iter().chain(biases.into_iter().flatten()))
    }

    fn unfused(
        &self,
        context: &Context,
        x: &Tensor,
        batch: usize,
        drop: Option<DropoutConfig>,
    ) -> Result<Tensor> {
        let rows = x.dim(0)?;
        let u = self.inner.forward(context, &self.norm.forward(context, x)?)?; // (B·T, U)
        let y = match &self.kind {
            BranchKind::Attention(attention) => {
                causal_attention(&u.reshape((batch, rows / batch, ()))?, attention)?.reshape((rows, ()))?
            }
            BranchKind::Activation(kind) => activation(&u, *kind)?,
        }; // (B·T, F)
        x + apply_dropout(self.proj.forward(context, &y)?, batch, drop)?
    }

    /// The attention weights (`batch`, H, T, T) for the same input: row t of a head is the share of
    /// each earlier token in the mean that token t reads. `None` for another half-block.
    ///
    /// # Errors
    /// As [`Self::forward_all`].
    pub fn attention_weights(&self, context: &Context, x: &Tensor, batch: usize) -> Result<Option<Tensor>> {
        let BranchKind::Attention(attention) = &self.kind else { return Ok(None) };
        let u = self.inner.forward(context, &self.norm.forward(context, x)?)?; // (B·T, U)
        let qkv = u.reshape((batch, x.dim(0)? / batch, ()))?;
        unfused::attention_weights(&qkv, attention).map(|(weights, _)| Some(weights))
    }
}

/// Dropout of `x` (B·T, C), whose rows are `batch` sequences.
///
/// # Errors
/// As [`dropout`].
pub fn apply_dropout(x: Tensor, batch: usize, drop: Option<DropoutConfig>) -> Result<Tensor> {
    let Some(DropoutConfig { p, key }) = drop else { return Ok(x) };
    let shape = x.shape().clone();
    dropout(&x.reshape((batch, shape.dims()[0] / batch, shape.dims()[1]))?, p, key)?.reshape(shape)
}

#[cfg(test)]
mod tests;
