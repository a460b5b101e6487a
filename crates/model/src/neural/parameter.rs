//! Trainable tensors.

use candle_core::Var;

use crate::Result;

/// A trainable tensor of f32.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// GPT-2's names: `wte.weight`, `h.0.attn.c_attn.weight`, ….
    pub name: String,
    /// The tensor.
    pub var: Var,
    /// Whether weight decay applies: to matrices and embeddings, not to biases and norms.
    pub decay: bool,
    /// Rows of each hidden matrix stacked in this tensor, for optimisers of matrices (Muon); empty
    /// for embeddings, heads, biases and norms.
    pub hidden_matrix_rows: Vec<usize>,
}

impl Parameter {
    /// Calls `f` with the values, row-major, to change them in place.
    ///
    /// # Errors
    /// A failure of candle.
    pub fn update(&self, f: impl FnOnce(&mut [f32])) -> Result<()> {
        Ok(surprisal_ops::tensor_slice::update(&self.var, f)?)
    }

    /// Calls `f` with the values, row-major.
    ///
    /// # Errors
    /// A failure of candle.
    pub fn read<R>(&self, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
        Ok(surprisal_ops::tensor_slice::read(&self.var, f)?)
    }
}
