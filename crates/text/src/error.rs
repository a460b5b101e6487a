//! What can be wrong with a text or a tokenizer.

use std::path::PathBuf;

use surprisal_source::Source;

/// A text's error. [`Error::hint`] says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read {}: {reason}", .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// A directory (with everything below it) that holds no text file.
    #[error("{} has no text file in it", .0.display())]
    NoText(PathBuf),
    /// Neither a file nor a directory.
    #[error("{} is neither a plain file nor a directory", .0.display())]
    NotAFile(PathBuf),
    /// Bytes that are no characters.
    #[error("{} is not valid UTF-8: byte {byte:#04x} at offset {offset} (line {line})", .name)]
    InvalidUtf8 {
        /// The file.
        name: String,
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// The byte.
        byte: u8,
        /// On which line, from 1.
        line: u64,
    },
    /// A word that is spelled like a special token, where that was to be an error.
    #[error("{name} has the word {token} on line {line}, which is the name of a special token")]
    LiteralSpecial {
        /// The file.
        name: String,
        /// On which line, from 1.
        line: u64,
        /// The word.
        token: String,
    },
    /// Too little text to do anything with.
    #[error("{0} is empty")]
    Empty(String),
    /// Too little text to train and to validate.
    #[error("{name} is too short: {message}")]
    TooShort {
        /// The text.
        name: String,
        /// What it is too short for.
        message: String,
        /// Whether a share of it was held out for validation.
        split: bool,
    },
    /// The texts changed while they were being read.
    #[error("{} was changed while it was being read", .0.display())]
    Changed(PathBuf),
    /// A tokenizer.json that cannot be used.
    #[error("unusable tokenizer: {0}")]
    Tokenizer(String),
    /// More tokens than ids.
    #[error("the vocabulary has {size} tokens, more than {limit}")]
    VocabularyTooLarge {
        /// How many there are.
        size: usize,
        /// How many there may be.
        limit: usize,
    },
    /// An embedded corpus that does not exist.
    #[error("there is no embedded corpus named \"{0}\"")]
    NoSuchCorpus(String),
    /// A setting that means nothing.
    #[error("{0}")]
    Setting(String),
    /// A source of known entropy failed.
    #[error("the embedded source failed: {0}")]
    Source(#[from] surprisal_source::Error),
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, .. } if path.is_symlink() && !path.exists() => {
                Some("the link is broken or points to itself: ls -l shows its target".into())
            }
            Self::Read { .. } => {
                Some("give text files, directories of them, or nothing for the embedded corpus".into())
            }
            Self::NotAFile(_) => {
                Some("pipes and devices are not read: write the text to a file first".into())
            }
            Self::Changed(_) => {
                Some("run it again when nothing writes to the file, or on a copy of it".into())
            }
            Self::NoText(_) => Some("text files are those without NUL bytes at their start".into()),
            Self::InvalidUtf8 { .. } => {
                Some("tokenizer.kind = \"byte\" reads any bytes; or convert the file to UTF-8".into())
            }
            Self::Empty(_) => Some("give a text that has something in it".into()),
            Self::TooShort { split: true, .. } => {
                Some("give more text, or hold out another share of it (data.val_fraction)".into())
            }
            Self::TooShort { .. } => Some("give more text".into()),
            Self::NoSuchCorpus(_) => Some(format!("there are: {}", Source::names().join(", "))),
            Self::VocabularyTooLarge { .. } => {
                Some("tokenizer.kind = \"bpe\" has a size of your choice".into())
            }
            _ => None,
        }
    }
}

/// A result whose error is a text's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
