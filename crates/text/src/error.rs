//! Errors of texts and tokenizers.

use std::path::PathBuf;

use surprisal_source::Source;

use crate::compression::Compression;
use crate::numbers::many;

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
    /// A directory without a text file that is chosen, in it or under it.
    #[error("{} contains no text file{}", .path.display(), chosen(patterns))]
    NoText {
        /// The directory.
        path: PathBuf,
        /// The number of binary files in it.
        binaries: usize,
        /// The patterns by which its files were chosen; empty without any.
        patterns: String,
    },
    /// A pattern of files that is none.
    #[error("\"{pattern}\" is no pattern of files: {problem}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The problem.
        problem: String,
    },
    /// A disk or another special file that is not read.
    #[error("{} is neither a file, a directory nor a pipe", .0.display())]
    NotAFile(PathBuf),
    /// A compressed file that is damaged or cut off.
    #[error("{name} is a damaged {} file: {reason}", .format.name())]
    Damaged {
        /// The file.
        name: String,
        /// The compressed format.
        format: Compression,
        /// The decompressor's error.
        reason: String,
    },
    /// A failure to write a temporary copy.
    #[error("cannot write a temporary copy of {name} to {}: {reason}", .folder.display())]
    Spool {
        /// The text.
        name: String,
        /// The folder of temporary files.
        folder: PathBuf,
        /// The operating system's error.
        reason: std::io::Error,
    },
    /// A failure to write the tokens of a text.
    #[error("cannot write the tokens of {0}: {1}")]
    Write(String, std::io::Error),
    /// A record without the wanted text.
    #[error("{name}, line {line}: {problem}")]
    Record {
        /// The file.
        name: String,
        /// The line, from 1.
        line: u64,
        /// The problem.
        problem: String,
        /// Advice.
        hint: Option<String>,
    },
    /// A record with bytes that are not UTF-8, or NULs.
    #[error("{name}, line {line}: byte {byte:#04x} is not valid text")]
    InvalidRecord {
        /// The file.
        name: String,
        /// The line, from 1.
        line: u64,
        /// The byte.
        byte: u8,
    },
    /// A stream that is larger than the memory for it.
    #[error("{name} is too large for this machine's memory: {} were read and it has more", many(*.read, "byte"))]
    TooLarge {
        /// The stream.
        name: String,
        /// The number of bytes read.
        read: u64,
    },
    /// A code unit of UTF-16 that is no character.
    #[error("{name} is not valid UTF-16: half a character on line {line}")]
    InvalidUtf16 {
        /// The file.
        name: String,
        /// The line, from 1.
        line: u64,
    },
    /// A NUL in a text.
    #[error("{name} has a NUL on line {line}: it is binary, or a damaged text")]
    Nul {
        /// The file.
        name: String,
        /// The line, from 1.
        line: u64,
    },
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
    /// A wrong line of a word list.
    #[error("{name}:{line} {problem}")]
    WordList {
        /// The file.
        name: String,
        /// The line, from 1.
        line: u64,
        /// The problem, which continues "this line".
        problem: &'static str,
    },
    /// A word list without a word.
    #[error("{0} lists no word")]
    NoWords(String),
    /// A vocabulary with more than 2^24 tokens.
    #[error("the vocabulary has {size} tokens, more than {limit}")]
    VocabularyTooLarge {
        /// The number of tokens.
        size: usize,
        /// The maximum.
        limit: usize,
    },
    /// More words than fit into the memory for them.
    #[error("the text has more words than fit into {limit} bytes: {words} so far, which need {needed}")]
    TooManyWords {
        /// The number of words so far.
        words: u64,
        /// The memory that they need, in bytes.
        needed: u64,
        /// The memory that there is, in bytes.
        limit: u64,
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

/// The patterns that chose files, in an error.
fn chosen(patterns: &str) -> String {
    if patterns.is_empty() { String::new() } else { format!(" that is chosen by {patterns}") }
}

impl Error {
    /// The error of reading the text `name`: another of these, if a converter made it.
    pub fn of_io(name: impl Into<PathBuf>, reason: std::io::Error) -> Self {
        reason.downcast::<Self>().unwrap_or_else(|reason| Self::Read { path: name.into(), reason })
    }

    /// Advice to the user.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, .. } if path.is_symlink() && !path.exists() => {
                Some("the link is broken or points to itself: ls -l shows its target".into())
            }
            Self::Read { .. } => {
                Some("give text files or directories, or nothing for the embedded corpus".into())
            }
            Self::NotAFile(_) => Some("give files, directories, or - for standard input".into()),
            Self::Damaged { format, .. } => {
                let name = format.name();
                Some(format!("it may be cut off: {name} -t checks it; download or compress it again"))
            }
            Self::Spool { .. } => Some(
                "the environment variable TMPDIR names another folder for temporary files, with more space"
                    .into(),
            ),
            Self::Record { hint, .. } => hint.clone(),
            Self::TooLarge { .. } => Some(
                "read a part of it; counting can be done in shards (--shard), and training can keep the tokens in a \
                 file (data.token_cache = \"on\")"
                    .into(),
            ),
            Self::Changed(_) => {
                Some("run it again when no program writes to the file, or use a copy of it".into())
            }
            Self::NoText { patterns, .. } if !patterns.is_empty() => Some(
                "a pattern without a slash is for names, another for paths in the folder; \"**/\" is for any folders"
                    .into(),
            ),
            Self::Pattern { .. } => Some(
                "give a pattern, such as \"*.txt\", or the name of a folder; is a variable of the shell empty?".into(),
            ),
            Self::NoText { binaries: 0, .. } => Some("hidden and empty files are not read".into()),
            Self::NoText { binaries, .. } => {
                Some(format!("it has {}; a text has no NULs", many(*binaries as u64, "binary file")))
            }
            Self::InvalidUtf8 { .. }
            | Self::InvalidUtf16 { .. }
            | Self::InvalidRecord { .. }
            | Self::Nul { .. } => Some(
                "data.invalid = \"replace\" or \"skip-line\" reads the rest; tokenizer.kind = \"byte\" reads any bytes"
                    .into(),
            ),
            Self::Empty(_) => Some("give a text that is not empty".into()),
            Self::TooShort { split: true, .. } => {
                Some("give more text, or hold out another part of it (data.val_fraction)".into())
            }
            Self::TooShort { .. } => Some("give more text".into()),
            Self::WordList { .. } | Self::NoWords(_) => {
                Some("a list of words has one per line; what follows after a tab is ignored".into())
            }
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
