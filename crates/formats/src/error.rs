//! The error type of readers and writers, with paths, names and hints.

use std::path::Path;

use surprisal_store::Error as StoreError;

/// Advice for a model whose training had diverged before it was saved.
pub const DIVERGED_HINT: &str =
    "it diverged: train it again with a lower optim.lr, or use an earlier one of its run's checkpoints/";

/// An error of reading or writing a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be read or written, or that does not follow its format.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A weight that is NaN or infinite.
    #[error("{what} contains {value} in tensor `{tensor}`, at index {index}")]
    NonFinite {
        /// The file.
        what: String,
        /// The tensor's name.
        tensor: String,
        /// The flat index of the first non-finite element.
        index: usize,
        /// NaN, inf or -inf.
        value: f64,
    },
    /// A tensor of a type that the reader does not accept.
    #[error("tensor `{tensor}` is of type {found}, but {expected} is expected")]
    DType {
        /// The tensor's name.
        tensor: String,
        /// Its type in the file.
        found: String,
        /// The accepted types.
        expected: &'static str,
    },
    /// A mistake in a line of a text file.
    #[error("{what}, line {line}: {problem}")]
    Line {
        /// The file, or the format if the bytes do not come from a file.
        what: String,
        /// The line number, from 1.
        line: u64,
        /// The mistake.
        problem: String,
        /// The advice.
        hint: &'static str,
    },
    /// A KenLM binary that cannot be read.
    #[error("{what} cannot be read: {problem}")]
    Kenlm {
        /// The file, or the format if the bytes do not come from a file.
        what: String,
        /// The reason.
        problem: crate::kenlm_problem::Problem,
    },
    /// A model or counts that the format cannot represent.
    #[error("{what} cannot hold this: {problem}")]
    Unsupported {
        /// The format.
        what: &'static str,
        /// The part that cannot be represented.
        problem: String,
        /// The advice.
        hint: &'static str,
    },
    /// The model refused the data.
    #[error(transparent)]
    Model(#[from] surprisal_model::Error),
    /// The tokenizer refused the data.
    #[error(transparent)]
    Text(#[from] surprisal_text::Error),
    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A result whose error is this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn malformed(what: impl Into<String>, problem: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self::Store(StoreError::malformed(what, problem))
    }

    /// The same error, with `path` as the name of the file.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Store(error) => Self::Store(error.in_file(path)),
            Self::Line { line, problem, hint, .. } => {
                Self::Line { what: surprisal_store::atomic_dir::quoted(path), line, problem, hint }
            }
            Self::Kenlm { problem, .. } => {
                Self::Kenlm { what: surprisal_store::atomic_dir::quoted(path), problem }
            }
            other => other,
        }
    }

    /// Advice for the user, if there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Line { hint, .. } | Self::Unsupported { hint, .. } => Some(hint),
            Self::Kenlm { problem, .. } => Some(problem.hint()),
            Self::NonFinite { .. } => Some(DIVERGED_HINT),
            _ => None,
        }
    }
}
