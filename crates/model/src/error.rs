//! Errors of models.

/// A model's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A token id that the vocabulary does not have.
    #[error("token {token} at position {index} is outside the vocabulary of {vocab_size}")]
    TokenOutOfRange {
        /// The token id.
        token: u32,
        /// Its index in the sequence.
        index: usize,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// `from` is past the end of the tokens.
    #[error("cannot score from position {from}: there are {len} tokens")]
    FromOutOfRange {
        /// The first position to score.
        from: usize,
        /// The number of tokens.
        len: usize,
    },
    /// A configuration or other input from which no model can be built.
    #[error("{0}")]
    Config(
        /// The problem, and what is expected.
        String,
    ),
    /// An invalid setting.
    #[error("{key} {problem}")]
    Setting {
        /// Its key in a config.
        key: &'static str,
        /// The problem, as the predicate of a sentence with the key as subject.
        problem: String,
        /// Advice.
        hint: Option<String>,
    },
    /// A failure of what n-grams are read from or written to.
    #[error("{0}")]
    Stream(
        /// That failure.
        Box<dyn std::error::Error + Send + Sync>,
    ),
    /// The work was stopped on request.
    #[error("it was stopped")]
    Stopped,
    /// An error of candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A result with a model's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn setting(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Setting { key, problem: problem.into(), hint: None }
    }

    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Setting { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }
}
