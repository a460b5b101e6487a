//! The options of a cross-entropy and their checks.

use std::sync::Arc;

use surprisal_kernels::cross_entropy::{SmoothingTarget as KernelTarget, Spec};
use surprisal_platform::threads::Pool;

use crate::error::{LossError, Result};

/// The class of rows to skip, unless [`CrossEntropy::ignore_index`] sets another.
pub const IGNORE_INDEX: u32 = u32::MAX;

/// The reduction of the rows' losses to one number.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Reduction {
    /// One loss per row; 0 for ignored rows.
    None,
    /// The sum over rows.
    Sum,
    /// The sum over rows divided by the number of rows that are not ignored. With class weights and
    /// class targets it is divided by the sum of the true classes' weights instead, as in PyTorch;
    /// the z-loss always by the number of rows. Where every row is ignored, loss and gradient are
    /// 0.
    #[default]
    Mean,
    /// The sum over rows times this factor: for one shard of a larger batch.
    Scaled(f64),
}

/// The distribution that label smoothing moves the mass `ε` to.
///
/// ```
/// # use surprisal_loss::{CrossEntropy, SmoothingTarget, Targets};
/// # fn main() -> surprisal_loss::Result<()> {
/// let unigram = vec![0.7, 0.2, 0.1];
/// let prior = SmoothingTarget::Prior(unigram.into());
/// let loss = CrossEntropy::new().label_smoothing(0.1)?.smooth_toward(prior)?;
/// let value = loss.evaluate(&[0.0, 0.0, 0.0], 3, Targets::Classes(&[1]), None)?;
/// assert!((value.loss - 3f64.ln()).abs() < 1e-6); // equal logits: ln |V| for every target
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub enum SmoothingTarget {
    /// `ε / V` to every class, the true one included: the convention of PyTorch, optax and Liger.
    #[default]
    Uniform,
    /// `ε / (V − 1)` to every class but the true one: the convention of fairseq and Megatron.
    Others,
    /// `ε / V'` to each of the row's `V'` classes whose logit is not −∞. [`Self::Uniform`] gives
    /// mass to masked classes, too, which makes the loss infinite.
    Unmasked,
    /// `ε · prior`: `V` probabilities for all rows (a unigram model), or `N · V`, one distribution
    /// per row (an n-gram model's predictions).
    Prior(DualPrecision),
}

/// Numbers in `f64` and `f32`, shared between clones; made from a `Vec`.
#[derive(Clone, Debug)]
pub struct DualPrecision {
    pub(crate) f64s: Arc<[f64]>,
    pub(crate) f32s: Arc<[f32]>,
}

impl From<Vec<f64>> for DualPrecision {
    fn from(values: Vec<f64>) -> Self {
        Self { f32s: values.iter().map(|&v| v as f32).collect(), f64s: values.into() }
    }
}

impl From<Vec<f32>> for DualPrecision {
    fn from(values: Vec<f32>) -> Self {
        Self { f64s: values.iter().map(|&v| v as f64).collect(), f32s: values.into() }
    }
}

/// Softmax cross-entropy with its options: built once, applied to every batch.
///
/// ```
/// use surprisal_loss::{CrossEntropy, Reduction};
/// # fn main() -> Result<(), surprisal_loss::LossError> {
/// let loss = CrossEntropy::new().label_smoothing(0.1)?.z_loss(1e-4)?.reduction(Reduction::Mean);
/// // Rare classes count more, and logits stay within ±30 after a temperature of 2.
/// let weighted = CrossEntropy::new().class_weights(vec![1.0, 1.0, 5.0])?.scale(0.5)?.softcap(30.0)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    pub(crate) label_smoothing: f64,
    pub(crate) toward: SmoothingTarget,
    pub(crate) ignore_index: i64,
    pub(crate) class_weights: Option<DualPrecision>,
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
            toward: SmoothingTarget::Uniform,
            ignore_index: IGNORE_INDEX as i64,
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
    /// Plain cross-entropy: the mean over the rows but those of class [`IGNORE_INDEX`], on the
    /// calling thread.
    pub fn new() -> Self {
        Self::default()
    }

    /// Label smoothing (Szegedy et al. 2016): the target keeps `1 − ε` of its mass, and `ε` goes to
    /// the distribution of [`Self::smooth_toward`].
    ///
    /// # Errors
    /// When `epsilon` is not in `[0, 1]`.
    pub fn label_smoothing(mut self, epsilon: f64) -> Result<Self> {
        in_range("label_smoothing", epsilon, "in [0, 1]", (0.0..=1.0).contains(&epsilon))?;
        self.label_smoothing = epsilon;
        Ok(self)
    }

    /// The distribution that label smoothing moves mass to; uniform unless set.
    ///
    /// # Errors
    /// When a prior holds a negative or non-finite number.
    pub fn smooth_toward(mut self, toward: SmoothingTarget) -> Result<Self> {
        if let SmoothingTarget::Prior(prior) = &toward {
            nonnegative("prior", prior)?;
        }
        self.toward = toward;
        Ok(self)
    }

    /// The target of rows to skip: their loss and gradient are 0, their logits are never read. It
    /// may be a class (which stays in the softmax of the other rows) or any other integer. Only for
    /// class targets: with probability targets no row is skipped.
    pub fn ignore_index(mut self, index: impl Into<i64>) -> Self {
        self.ignore_index = index.into();
        self
    }

    /// Weights of the classes: in every row the term of class `j` is multiplied by `w_j`.
    ///
    /// # Errors
    /// When a weight is negative or not finite.
    pub fn class_weights(mut self, weights: impl Into<DualPrecision>) -> Result<Self> {
        let weights = weights.into();
        nonnegative("class_weights", &weights)?;
        self.class_weights = Some(weights);
        Ok(self)
    }

    /// Z-loss (Chowdhery et al. 2022, PaLM): adds `coefficient · (ln Σ e^u)²` to every row, which
    /// keeps logits from drifting.
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

    /// Scale of the logits before the softmax: an inverse temperature.
    ///
    /// # Errors
    /// When `scale` is not positive and finite.
    pub fn scale(mut self, scale: f64) -> Result<Self> {
        in_range("scale", scale, "positive and finite", positive(scale))?;
        self.scale = scale;
        Ok(self)
    }

    /// Soft cap of the scaled logits (Gemma 2): `u = cap · tanh(scale · z / cap)`, within `(−cap,
    /// cap)`. A mask (−∞) stays a mask.
    ///
    /// # Errors
    /// When `cap` is not positive and finite.
    pub fn softcap(mut self, cap: f64) -> Result<Self> {
        in_range("softcap", cap, "positive and finite", positive(cap))?;
        self.softcap = cap;
        Ok(self)
    }

    /// The reduction of the rows; [`Reduction::Mean`] unless set.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Pool whose threads compute, instead of the calling thread. The result is the same, bit for
    /// bit.
    pub fn pool(mut self, pool: Arc<Pool>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// The options as the kernels take them, for `vocab` classes.
    pub(crate) fn spec(&self, vocab: usize) -> Spec<'_> {
        Spec {
            vocab,
            label_smoothing: self.label_smoothing,
            smoothing_target: match &self.toward {
                SmoothingTarget::Uniform => KernelTarget::Uniform,
                SmoothingTarget::Others => KernelTarget::Others,
                SmoothingTarget::Unmasked => KernelTarget::Unmasked,
                SmoothingTarget::Prior(prior) => KernelTarget::Prior(&prior.f32s),
            },
            class_weights: self.class_weights.as_ref().map(|weights| &*weights.f32s),
            z_loss: self.z_loss,
            scale: self.scale as f32,
            softcap: self.softcap as f32,
            ignore_index: self.ignored_class(),
        }
    }

    /// The ignore index in `u32` targets; one that `u32` cannot hold becomes [`IGNORE_INDEX`].
    pub(crate) fn ignored_class(&self) -> u32 {
        u32::try_from(self.ignore_index).unwrap_or(IGNORE_INDEX)
    }
}

/// Whether `value` is positive and finite, also as the `f32` that the kernels compute with.
fn positive(value: f64) -> bool {
    (value as f32) > 0.0 && (value as f32).is_finite()
}

fn in_range(option: &'static str, value: f64, range: &'static str, inside: bool) -> Result<()> {
    if inside { Ok(()) } else { Err(LossError::Option { option, range, value }) }
}

/// Whether `value` is at least 0 and finite, also as `f32`.
pub(crate) fn is_nonnegative(value: f64) -> bool {
    value >= 0.0 && (value as f32).is_finite()
}

fn nonnegative(option: &'static str, numbers: &DualPrecision) -> Result<()> {
    match numbers.f64s.iter().position(|&value| !is_nonnegative(value)) {
        None => Ok(()),
        Some(index) => {
            let value = numbers.f64s[index];
            Err(LossError::Element { option, index, range: "finite and at least 0", value })
        }
    }
}
