//! What can be wrong with a loss.

use surprisal_kernels::cross_entropy::RowError;

/// Why a loss could not be built or computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// An option outside its range.
    #[error("{option} must be {range}, got {value}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What it may be.
        range: &'static str,
        /// What it was.
        value: f64,
    },
    /// An element of a vector option outside its range.
    #[error("{option}[{index}] must be {range}, got {value}")]
    Element {
        /// The option's name.
        option: &'static str,
        /// Which element.
        index: usize,
        /// What it may be.
        range: &'static str,
        /// What it was.
        value: f64,
    },
    /// Two lengths that must agree.
    #[error("{what} must have {expected} elements, got {got}")]
    Length {
        /// Whose length.
        what: &'static str,
        /// What it must be.
        expected: usize,
        /// What it was.
        got: usize,
    },
    /// A class that does not exist.
    #[error(
        "target of row {row} is class {target}, but there are {classes} classes (0..{classes}); rows to skip need ignore_index = {target}"
    )]
    Target {
        /// Which row.
        row: usize,
        /// The class given.
        target: i64,
        /// `V`.
        classes: usize,
    },
    /// A probability target that is not a finite number of at least zero.
    #[error(
        "target distribution of row {row} gives class {class} the mass {value}; it must be finite and at least 0"
    )]
    Mass {
        /// Which row.
        row: usize,
        /// Which class.
        class: usize,
        /// The mass given.
        value: f64,
    },
    /// Logits without a cross-entropy.
    #[error("{0}; -inf masks a class, but a row needs one finite logit and no NaN")]
    Row(#[from] RowError),
    /// Options that exclude each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// A tensor of the wrong shape or type.
    #[error("{what} must be {expected}, got {got}")]
    Tensor {
        /// Which tensor.
        what: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it was.
        got: String,
    },
    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Shorthand.
pub type Result<T> = std::result::Result<T, LossError>;
