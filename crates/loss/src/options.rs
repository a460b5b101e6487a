//! The options of a cross-entropy and their checks.

use std::sync::Arc;

use surprisal_kernels::cross_entropy::{SmoothingTarget as KernelToward, Spec};
use surprisal_platform::threads::Pool;

use crate::error::{LossError, Result};

/// The class that marks a row to skip, unless [`CrossEntropy::ignore_index`] says otherwise.
pub const IGNORE: u32 = u32::MAX;

/// How rows become one number.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Reduction {
    /// One loss a row; 0 for ignored rows.
    None,
    /// The sum over rows.
    Sum,
    /// The sum over rows divided by their number, ignored rows not counted. With class weights and class targets it is
    /// divided by the sum of the true classes' weights instead, as PyTorch does; the z-loss part always by the number
    /// of rows. When nothing is left to divide by (every row ignored), loss and gradient are 0.
    #[default]
    Mean,
    /// The sum over rows times this factor: what one shard of a larger batch needs.
    Scaled(f64),
}

/// Where label smoothing moves its mass `ε`.
///
/// ```
/// # use surprisal_loss::{CrossEntropy, Targets, Toward};
/// # fn main() -> surprisal_loss::Result<()> {
/// let unigram = vec![0.7, 0.2, 0.1];
/// let loss = CrossEntropy::new().label_smoothing(0.1)?.smooth_toward(Toward::Prior(unigram.into()))?;
/// let value = loss.evaluate(&[0.0, 0.0, 0.0], 3, Targets::Classes(&[1]), None)?;
/// assert!((value.loss - 3f64.ln()).abs() < 1e-6); // of equal logits, whatever is asked for
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub enum Toward {
    /// `ε / V` to every class, the true one included: PyTorch's, optax's and Liger's convention.
    #[default]
    Uniform,
    /// `ε / (V − 1)` to every class but the true one: fairseq's and Megatron's convention.
    Others,
    /// `ε / V'` to each of the `V'` classes of the row whose logit is not −∞. With [`Toward::Uniform`] a masked class
    /// still gets mass, which makes the loss infinite.
    Unmasked,
    /// `ε · prior`: `V` probabilities for all rows (a unigram model), or `N · V` for one distribution a row (an n-gram
    /// model's rows).
    Prior(Numbers),
}

/// Numbers in both precisions, shared between clones: made of a `Vec`, as [`Toward`] shows.
#[derive(Clone, Debug)]
pub struct Numbers {
    pub(crate) exact: Arc<[f64]>,
    pub(crate) single: Arc<[f32]>,
}

impl From<Vec<f64>> for Numbers {
    fn from(values: Vec<f64>) -> Self {
        Self { single: values.iter().map(|&v| v as f32).collect(), exact: values.into() }
    }
}

impl From<Vec<f32>> for Numbers {
    fn from(values: Vec<f32>) -> Self {
        Self { exact: values.iter().map(|&v| v as f64).collect(), single: values.into() }
    }
}

/// Softmax cross-entropy and everything that modifies it. Build it once, apply it to every batch.
///
/// ```
/// use surprisal_loss::{CrossEntropy, Reduction};
/// # fn main() -> Result<(), surprisal_loss::LossError> {
/// let loss = CrossEntropy::new().label_smoothing(0.1)?.z_loss(1e-4)?.reduction(Reduction::Mean);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    pub(crate) label_smoothing: f64,
    pub(crate) toward: Toward,
    pub(crate) ignore_index: i64,
    pub(crate) class_weights: Option<Numbers>,
    pub(crate) z_loss: f64,
    pub(crate) scale: f64,
    pub(crate) softcap: f64,
    pub(crate) reduction: Reduction,
    pub(crate) pool: Option<Arc<Pool>>,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            toward: Toward::Uniform,
            ignore_index: IGNORE as i64,
            class_weights: None,
            z_loss: 0.0,
            scale: 1.0,
            softcap: 0.0,
            reduction: Reduction::Mean,
            pool: None,
        }
    }
}

impl CrossEntropy {
    /// Plain cross-entropy, mean over the rows, [`IGNORE`] ignored, on the calling thread.
    pub fn new() -> Self {
        Self::default()
    }

    /// Label smoothing: the target keeps `1 − ε` of its mass, `ε` goes where [`Self::smooth_toward`] says.
    ///
    /// # Errors
    /// When `epsilon` is not in `[0, 1]`.
    pub fn label_smoothing(mut self, epsilon: f64) -> Result<Self> {
        in_range("label_smoothing", epsilon, "in [0, 1]", (0.0..=1.0).contains(&epsilon))?;
        self.label_smoothing = epsilon;
        Ok(self)
    }

    /// Where label smoothing moves its mass.
    ///
    /// # Errors
    /// When a prior holds a negative or non-finite number.
    pub fn smooth_toward(mut self, toward: Toward) -> Result<Self> {
        if let Toward::Prior(prior) = &toward {
            nonnegative("prior", prior)?;
        }
        self.toward = toward;
        Ok(self)
    }

    /// Rows with this target are skipped: loss 0, gradient 0, logits never read. It may be a class, negative, or
    /// anything else; the ignored class stays in the softmax of the other rows. Class targets only: with probability
    /// targets no row is skipped.
    pub fn ignore_index(mut self, index: impl Into<i64>) -> Self {
        self.ignore_index = index.into();
        self
    }

    /// A weight for each class: the term of class `j` in every row is multiplied by `w_j`.
    ///
    /// # Errors
    /// When a weight is negative or not finite.
    pub fn class_weights(mut self, weights: impl Into<Numbers>) -> Result<Self> {
        let weights = weights.into();
        nonnegative("class_weights", &weights)?;
        self.class_weights = Some(weights);
        Ok(self)
    }

    /// Adds `coefficient · (ln Σ e^u)²` to every row, which keeps logits from drifting (PaLM's auxiliary loss).
    ///
    /// # Errors
    /// When `coefficient` is negative or not finite.
    pub fn z_loss(mut self, coefficient: f64) -> Result<Self> {
        in_range(
            "z_loss",
            coefficient,
            "finite and at least 0",
            coefficient.is_finite() && coefficient >= 0.0,
        )?;
        self.z_loss = coefficient;
        Ok(self)
    }

    /// Multiplies the logits by `scale` (an inverse temperature) before the softmax.
    ///
    /// # Errors
    /// When `scale` is not positive and finite.
    pub fn scale(mut self, scale: f64) -> Result<Self> {
        in_range("scale", scale, "positive and finite", positive(scale))?;
        self.scale = scale;
        Ok(self)
    }

    /// Squashes the scaled logits into `(−cap, cap)`: `u = cap · tanh(scale · z / cap)`, Gemma 2's final soft cap.
    /// A mask (−∞) stays a mask.
    ///
    /// # Errors
    /// When `cap` is not positive and finite.
    pub fn softcap(mut self, cap: f64) -> Result<Self> {
        in_range("softcap", cap, "positive and finite", positive(cap))?;
        self.softcap = cap;
        Ok(self)
    }

    /// How rows become one number; [`Reduction::Mean`] unless set.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Works on the threads of `pool` instead of the calling thread. The result is the same, bit for bit.
    pub fn pool(mut self, pool: Arc<Pool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// What the kernels need to know, for `vocab` classes.
    pub(crate) fn spec(&self, vocab: usize) -> Spec<'_> {
        Spec {
            vocab,
            label_smoothing: self.label_smoothing,
            smoothing_target: match &self.toward {
                Toward::Uniform => KernelToward::Uniform,
                Toward::Others => KernelToward::Others,
                Toward::Unmasked => KernelToward::Unmasked,
                Toward::Prior(prior) => KernelToward::Prior(&prior.single),
            },
            class_weights: self.class_weights.as_ref().map(|weights| &*weights.single),
            z_loss: self.z_loss,
            scale: self.scale as f32,
            softcap: self.softcap as f32,
            ignore_index: self.ignored_class(),
        }
    }

    /// The class number that the ignore index has in `u32` targets; one outside `u32` is spelt [`IGNORE`] there.
    pub(crate) fn ignored_class(&self) -> u32 {
        u32::try_from(self.ignore_index).unwrap_or(IGNORE)
    }
}

/// Also as `f32`, which the kernels compute in.
fn positive(value: f64) -> bool {
    (value as f32) > 0.0 && (value as f32).is_finite()
}

fn in_range(option: &'static str, value: f64, range: &'static str, inside: bool) -> Result<()> {
    if inside { Ok(()) } else { Err(LossError::Option { option, range, value }) }
}

/// And finite, also as `f32`.
pub(crate) fn is_nonnegative(value: f64) -> bool {
    value >= 0.0 && (value as f32).is_finite()
}

fn nonnegative(option: &'static str, numbers: &Numbers) -> Result<()> {
    match numbers.exact.iter().position(|&value| !is_nonnegative(value)) {
        None => Ok(()),
        Some(index) => {
            let value = numbers.exact[index];
            Err(LossError::Element { option, index, range: "finite and at least 0", value })
        }
    }
}
