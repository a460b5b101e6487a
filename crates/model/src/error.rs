//! What can go wrong in a model.

/// A model's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A token id that the vocabulary does not have.
    #[error("token {token} at position {index} is outside the vocabulary of {vocab_size}")]
    TokenOutOfRange {
        /// The token id.
        token: u32,
        /// Where in the sequence it stands.
        index: usize,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// `from` lies past the end of the tokens.
    #[error("cannot score from position {from}: there are {len} tokens")]
    FromOutOfRange {
        /// The first position asked for.
        from: usize,
        /// How many tokens there are.
        len: usize,
    },
    /// A configuration that describes no model.
    #[error("{0}")]
    Config(
        /// What is wrong and what would be right.
        String,
    ),
    /// A setting that is impossible.
    #[error("{key} {problem}")]
    Setting {
        /// Its key in a config.
        key: &'static str,
        /// What is wrong, to be read after the key.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Somebody asked for an end.
    #[error("it was stopped")]
    Stopped,
    /// The tensor library failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A result whose error is a model's [`enum@Error`].
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
