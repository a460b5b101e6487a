//! Errors of texts and tokenizers.

use std::path::PathBuf;

use surprisal_source::Source;

/// An error of a text or a tokenizer. [`Error::hint`] gives advice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system cannot read a path.
    #[error("cannot read {}: {reason}", .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        reason: std::io::Error,
    },
    /// A directory without a text file in it or under it.
    #[error("{} contains no text file", .0.display())]
    NoText(PathBuf),
    /// Neither a file nor a directory.
    #[error("{} is neither a plain file nor a directory", .0.display())]
    NotAFile(PathBuf),
    /// Bytes that are not UTF-8.
    #[error("{} is not valid UTF-8: byte {byte:#04x} at offset {offset} (line {line})", .name)]
    InvalidUtf8 {
        /// The file.
        name: String,
        /// The position in bytes from the start of the file.
        offset: u64,
        /// The byte.
        byte: u8,
        /// The line, from 1.
        line: u64,
    },
    /// A word spelled like a special token, with `LiteralSpecials::Error`.
    #[error("{name} has the word {token} on line {line}, which is the name of a special token")]
    LiteralSpecial {
        /// The file.
        name: String,
        /// The line, from 1.
        line: u64,
        /// The word.
        token: String,
    },
    /// A text without content.
    #[error("{0} is empty")]
    Empty(String),
    /// A text that is too short to train or to validate.
    #[error("{name} is too short: {message}")]
    TooShort {
        /// The text.
        name: String,
        /// The reason.
        message: String,
        /// Whether a part of it was held out for validation.
        split: bool,
    },
    /// A file that changed while it was read.
    #[error("{} was changed while it was being read", .0.display())]
    Changed(PathBuf),
    /// A tokenizer.json, word list or codec that cannot be used.
    #[error("unusable tokenizer: {0}")]
    Tokenizer(String),
    /// A vocabulary with more than 2^24 tokens.
    #[error("the vocabulary has {size} tokens, more than {limit}")]
    VocabularyTooLarge {
        /// The number of tokens.
        size: usize,
        /// The maximum.
        limit: usize,
    },
    /// An embedded corpus that does not exist.
    #[error("there is no embedded corpus named \"{0}\"")]
    NoSuchCorpus(String),
    /// A setting with an invalid value.
    #[error("{0}")]
    Setting(String),
    /// A source of known entropy failed.
    #[error("the embedded source failed: {0}")]
    Source(#[from] surprisal_source::Error),
}

impl Error {
    /// Advice to the user.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, .. } if path.is_symlink() && !path.exists() => {
                Some("the link is broken or points to itself: ls -l shows its target".into())
            }
            Self::Read { .. } => {
                Some("give text files or directories, or nothing for the embedded corpus".into())
            }
            Self::NotAFile(_) => {
                Some("pipes and devices are not read: write the text to a file first".into())
            }
            Self::Changed(_) => {
                Some("run it again when no program writes to the file, or use a copy of it".into())
            }
            Self::NoText(_) => Some("a text file has no NUL bytes at its start".into()),
            Self::InvalidUtf8 { .. } => Some(
                "convert the file to UTF-8, or use tokenizer.kind = \"byte\", which reads any bytes".into(),
            ),
            Self::Empty(_) => Some("give a text that is not empty".into()),
            Self::TooShort { split: true, .. } => {
                Some("give more text, or hold out another part of it (data.val_fraction)".into())
            }
            Self::TooShort { .. } => Some("give more text".into()),
            Self::NoSuchCorpus(_) => Some(format!("there are: {}", Source::names().join(", "))),
            Self::VocabularyTooLarge { .. } => {
                Some("with tokenizer.kind = \"bpe\" you choose the size".into())
            }
            _ => None,
        }
    }
}

/// A result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
