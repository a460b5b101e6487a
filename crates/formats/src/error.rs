//! What can go wrong between bytes and objects, each with the path or the name at fault and, where one helps, a hint.

use std::path::Path;

use surprisal_store::Error as StoreError;

/// What to do about a model whose training ran away before it was saved.
pub const DIVERGED_HINT: &str =
    "it diverged: train it again with a lower optim.lr, or use an earlier one of its run's checkpoints/";

/// An error of reading or writing a file that this crate knows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file itself: it cannot be read or written, or is not what it claims to be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A weight that is NaN or infinite.
    #[error("{what} holds {value} in tensor `{tensor}`, at index {index}")]
    NonFinite {
        /// The file.
        what: String,
        /// The tensor's name.
        tensor: String,
        /// The flat index of the first such element.
        index: usize,
        /// NaN, inf or -inf.
        value: f64,
    },
    /// A tensor of a type that was not asked for.
    #[error("tensor `{tensor}` is of type {found}, {expected} is wanted")]
    DType {
        /// The tensor's name.
        tensor: String,
        /// Its type in the file.
        found: String,
        /// What the reader accepts.
        expected: &'static str,
    },
    /// A line of a text file that is not what it should be.
    #[error("{what}, line {line}: {problem}")]
    Line {
        /// The file, or the format where the bytes came from no file.
        what: String,
        /// From 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// Something that the format has no way to say.
    #[error("{what} cannot hold this: {problem}")]
    Unsupported {
        /// The format.
        what: &'static str,
        /// What cannot be said.
        problem: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// A model refused what was read.
    #[error(transparent)]
    Model(#[from] surprisal_model::Error),
    /// A tokenizer refused what was read.
    #[error(transparent)]
    Text(#[from] surprisal_text::Error),
    /// The tensor library failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A result whose error is this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn malformed(what: impl Into<String>, problem: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self::Store(StoreError::malformed(what, problem))
    }

    /// The same, naming the file that the bytes came from.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Store(error) => Self::Store(error.in_file(path)),
            Self::Line { line, problem, hint, .. } => {
                Self::Line { what: surprisal_store::atomic_dir::quoted(path), line, problem, hint }
            }
            other => other,
        }
    }

    /// What a person can do about it, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Line { hint, .. } | Self::Unsupported { hint, .. } => Some(hint),
            Self::NonFinite { .. } => Some(DIVERGED_HINT),
            _ => None,
        }
    }
}
