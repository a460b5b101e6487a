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
    /// Somebody asked for an end.
    #[error("it was stopped")]
    Stopped,
    /// The tensor library failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// A result whose error is a model's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
