//! Errors of a cross-entropy.

use surprisal_kernels::cross_entropy::RowError;

/// An error in the options or the arguments of a loss.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// An option outside its range.
    #[error("{option} must be {range}, got {value}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its range.
        range: &'static str,
        /// Its value.
        value: f64,
    },
    /// An element of a vector option outside its range.
    #[error("{option}[{index}] must be {range}, got {value}")]
    Element {
        /// The option's name.
        option: &'static str,
        /// The element's index.
        index: usize,
        /// Its range.
        range: &'static str,
        /// Its value.
        value: f64,
    },
    /// Two lengths that must agree.
    #[error("{what} must have {expected} elements, got {got}")]
    Length {
        /// The argument.
        what: &'static str,
        /// The length it must have.
        expected: usize,
        /// Its length.
        got: usize,
    },
    /// A class that does not exist.
    #[error(
        "target of row {row} is class {target}, but there are {classes} classes (0..{classes}); rows to skip need ignore_index = {target}"
    )]
    Target {
        /// The row.
        row: usize,
        /// The class.
        target: i64,
        /// The number of classes.
        classes: usize,
    },
    /// A probability target that is not a finite number of at least zero.
    #[error(
        "target distribution of row {row} gives class {class} the mass {value}; it must be finite and at least 0"
    )]
    Mass {
        /// The row.
        row: usize,
        /// The class.
        class: usize,
        /// Its mass.
        value: f64,
    },
    /// A row of logits without a cross-entropy.
    #[error("{0}; -inf masks a class, but a row needs one finite logit and no NaN")]
    Row(#[from] RowError),
    /// Options that exclude each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// A tensor of the wrong shape or type.
    #[error("{what} must be {expected}, got {got}")]
    Tensor {
        /// The tensor.
        what: &'static str,
        /// The shape or type it must have.
        expected: &'static str,
        /// Its shape or type.
        got: String,
    },
    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Result of a loss.
pub type Result<T> = std::result::Result<T, LossError>;
