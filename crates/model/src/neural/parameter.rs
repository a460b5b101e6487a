//! A named tensor that learns.

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
    /// The rows of each hidden matrix that lies in this tensor, one under another; none for embeddings, heads, biases and
    /// norms. Some optimisers treat hidden matrices as matrices.
    pub hidden_matrix_rows: Vec<usize>,
}

impl Parameter {
    /// Hands the values to `f` for changing in place, in row-major order.
    ///
    /// # Errors
    /// A failure of the tensor library.
    pub fn update(&self, f: impl FnOnce(&mut [f32])) -> Result<()> {
        Ok(surprisal_ops::tensor_slice::update(&self.var, f)?)
    }

    /// Hands the values to `f` for reading.
    ///
    /// # Errors
    /// A failure of the tensor library.
    pub fn read<R>(&self, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
        Ok(surprisal_ops::tensor_slice::read(&self.var, f)?)
    }
}
