//! Token-by-token inference for one sequence, on slices, without candle's graph.

use candle_core::{Result, Tensor, bail};
use surprisal_kernels::matmul::gemv;

use crate::fused::causal_attention_step;
use crate::layers::{Branch, BranchKind, KvCache, Linear, Norm};
use crate::tensor_slice::read;

/// Embedding lookup added to a slice: `x += table[row]`.
///
/// # Errors
/// A row out of range.
pub fn add_row(table: &Tensor, row: usize, x: &mut [f32]) -> Result<()> {
    let found = read(table, |values| {
        let Some(row) = values.chunks_exact(x.len()).nth(row) else { return false };
        x.iter_mut().zip(row).for_each(|(x, r)| *x += r);
        true
    })?;
    if found { Ok(()) } else { bail!("embedding: row {row} is not in a table of shape {:?}", table.dims()) }
}

impl Linear {
    /// `W x + b` for one row.
    ///
    /// # Errors
    /// Shapes that do not match, or an error of candle.
    pub fn forward_row(&self, x: &[f32]) -> Result<Vec<f32>> {
        let (out, width) = self.weight.dims2()?;
        if width != x.len() {
            bail!("linear: input length {} does not match weight {:?}", x.len(), self.weight.dims());
        }
        let mut y = match &self.bias {
            Some(bias) => read(bias, <[f32]>::to_vec)?,
            None => vec![0.0; out],
        };
        read(&self.weight, |weight| gemv(weight, x, &mut y))?;
        Ok(y)
    }
}

impl Norm {
    /// Normalises one row.
    ///
    /// # Errors
    /// An error of candle.
    pub fn forward_row(&self, x: &[f32]) -> Result<Vec<f32>> {
        Ok(self.run(x)?.0.to_vec())
    }
}

impl Branch {
    /// The branch of [`Self::forward_all`] for the token at `position` of one sequence: changes `x`
    /// (C) in place. `cache` has the keys and values of the earlier tokens.
    ///
    /// # Errors
    /// Shapes that do not match, or an error of candle.
    pub fn decode_step(&self, x: &mut [f32], position: usize, cache: &mut KvCache) -> Result<()> {
        let u = self.inner.forward_row(&self.norm.forward_row(x)?)?;
        let y = match &self.kind {
            BranchKind::Attention(attention) => causal_attention_step(attention, &u, position, cache)?,
            BranchKind::Activation(activation) => {
                let hidden = u.len() / activation.inputs(1);
                let mut a = vec![0.0; hidden];
                activation.forward(&u, hidden, &mut a);
                a
            }
        };
        x.iter_mut().zip(self.proj.forward_row(&y)?).for_each(|(x, y)| *x += y);
        Ok(())
    }
}
