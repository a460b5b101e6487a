//! Parameters that belong together.

use candle_core::{Result, Tensor};
pub use surprisal_kernels::norm::Centre;

use crate::{composed, fusable, fused};

/// Weight (out, in) and bias (out).
#[derive(Debug, Clone)]
pub struct Linear {
    /// (out, in).
    pub weight: Tensor,
    /// (out).
    pub bias: Option<Tensor>,
}

impl Linear {
    /// x Wᵀ + b.
    ///
    /// # Errors
    /// As [`crate::linear`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::linear(x, &self.weight, self.bias.as_ref())
    }
}

/// A layer norm or an RMS norm.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Which of the two.
    pub centre: Centre,
    /// (C).
    pub weight: Tensor,
    /// (C).
    pub bias: Option<Tensor>,
    /// ε.
    pub eps: f64,
}

impl Norm {
    /// Each row of `x` (N, C) normalised.
    ///
    /// # Errors
    /// Shapes that do not fit together, or a failure of the tensor library.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Self { centre, weight, bias, eps } = self;
        if fusable(x) {
            fused::norm(*centre, x, weight, bias.as_ref(), *eps)
        } else {
            composed::norm(*centre, x, weight, bias.as_ref(), *eps)
        }
    }
}
