//! One row, a token at a time or its first tokens at once, on plain slices, for sampling: a graph of tensors would cost more than the arithmetic.

use candle_core::{Result, Tensor, bail};
use surprisal_kernels::matmul::matrix_vector;
use surprisal_kernels::norm;

use crate::block::{AttentionBlock, Cache, MlpBlock};
use crate::inplace::read;
use crate::layers::{Linear, Norm};

/// `x += table[row]`.
///
/// # Errors
/// A row that the table has not.
pub fn add_row(table: &Tensor, row: usize, x: &mut [f32]) -> Result<()> {
    let found = read(table, |values| {
        let Some(row) = values.chunks_exact(x.len()).nth(row) else { return false };
        x.iter_mut().zip(row).for_each(|(x, r)| *x += r);
        true
    })?;
    if found { Ok(()) } else { bail!("embedding: there is no row {row} in a table of {:?}", table.dims()) }
}

/// `W x + b` for `weight` (Out, In).
///
/// # Errors
/// Shapes that do not fit together, or a failure of the tensor library.
pub fn linear(weight: &Tensor, bias: Option<&Tensor>, x: &[f32]) -> Result<Vec<f32>> {
    let (out, width) = weight.dims2()?;
    if width != x.len() {
        bail!("linear: an input of {} and a weight of {:?} do not fit", x.len(), weight.dims());
    }
    let mut y = match bias {
        Some(bias) => read(bias, <[f32]>::to_vec)?,
        None => vec![0.0; out],
    };
    read(weight, |weight| matrix_vector(weight, x, true, &mut y))?;
    Ok(y)
}

impl Linear {
    fn single(&self, x: &[f32]) -> Result<Vec<f32>> {
        linear(&self.weight, self.bias.as_ref(), x)
    }
}

impl Norm {
    /// One row normalised.
    ///
    /// # Errors
    /// A failure of the tensor library.
    pub fn single(&self, x: &[f32]) -> Result<Vec<f32>> {
        let mut y = vec![0.0; x.len()];
        let mut run = |weight: &[f32], bias: Option<&[f32]>| {
            let norm = norm::Norm { centre: self.centre, weight, bias, eps: self.eps as f32 };
            norm.forward(x, &mut y);
        };
        read(&self.weight, |weight| match &self.bias {
            None => {
                run(weight, None);
                Ok(())
            }
            Some(bias) => read(bias, |bias| run(weight, Some(bias))),
        })??;
        Ok(y)
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

impl AttentionBlock {
    /// [`Self::forward`] for the token at `position` of one row, whose earlier tokens are in `cache`; `x` (C) in place.
    ///
    /// # Errors
    /// Shapes that do not fit together, or a failure of the tensor library.
    pub fn next(&self, x: &mut [f32], position: usize, cache: &mut Cache) -> Result<()> {
        let qkv = self.qkv.single(&self.norm.single(x)?)?;
        let mut y = Vec::new();
        crate::attend_next(&self.attention, &qkv, position, &mut cache.keys, &mut cache.values, &mut y)?;
        add(x, &self.proj.single(&y)?);
        Ok(())
    }
}

impl AttentionBlock {
    /// The first tokens of one row at once: `x` (T, C) in place, into an empty `cache`.
    ///
    /// # Errors
    /// Shapes that do not fit together, or a failure of the tensor library.
    pub fn fill(&self, x: &mut [f32], cache: &mut Cache) -> Result<()> {
        crate::fused::attention_fill(self, x, cache)
    }
}

impl MlpBlock {
    /// [`Self::forward`] for tokens of one row: `x` (T, C) in place.
    ///
    /// # Errors
    /// Shapes that do not fit together, or a failure of the tensor library.
    pub fn fill(&self, x: &mut [f32]) -> Result<()> {
        crate::fused::mlp_fill(self, x)
    }

    /// [`Self::forward`] for one token; `x` (C) in place.
    ///
    /// # Errors
    /// Shapes that do not fit together, or a failure of the tensor library.
    pub fn next(&self, x: &mut [f32]) -> Result<()> {
        let u = self.fc.single(&self.norm.single(x)?)?;
        let hidden = self.proj.weight.dim(1)?;
        if u.len() != self.activation.inputs(hidden) {
            bail!("mlp: {} inputs of an activation with {hidden} outputs", u.len());
        }
        let mut a = vec![0.0; hidden];
        self.activation.forward(&u, hidden, &mut a);
        add(x, &self.proj.single(&a)?);
        Ok(())
    }
}
