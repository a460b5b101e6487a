//! Reasons why a KenLM binary cannot be read.

use surprisal_model::ngram::MAX_ORDER;
use surprisal_store::read::TO_UTF8;

/// The version that is read.
pub(crate) const VERSION: &str = "5";

/// A reason why a KenLM binary cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The first bytes of another format.
    #[error("its first bytes are not those of the format")]
    Magic,
    /// The mark of a file whose writing was cut off.
    #[error("the program that built it did not finish")]
    Unfinished,
    /// Another version of the format.
    #[error("it has version {0} of the format, but version {VERSION} is read")]
    Version(
        /// The version as the file has it.
        String,
    ),
    /// Numbers written by a machine of another kind.
    #[error("its test values are not those of a little-endian machine of 64 bits")]
    Machine,
    /// An unknown data structure.
    #[error("its data structure has number {0}, which is unknown")]
    Structure(
        /// The number.
        u32,
    ),
    /// Another version of the data structure or of one of its parts.
    #[error("{part} has version {found}, but version {expected} is read")]
    PartVersion {
        /// The part.
        part: &'static str,
        /// The version in the file.
        found: u32,
        /// The version that is read.
        expected: u32,
    },
    /// An order outside the range.
    #[error("its order is {0}, but orders from 2 to {MAX_ORDER} are read")]
    Order(
        /// The order.
        u8,
    ),
    /// A hash table that is smaller than its content.
    #[error("its hash tables have {0} buckets for an n-gram, which is no number from 1 on")]
    Multiplier(
        /// Buckets per n-gram.
        f32,
    ),
    /// Bits of quantised numbers outside the range.
    #[error("it has {prob} bits for probabilities and {backoff} for weights, but 1 to 25 are possible")]
    Bits {
        /// Bits of a probability.
        prob: u8,
        /// Bits of a back-off weight.
        backoff: u8,
    },
    /// A file that is shorter than its header says.
    #[error("its header describes at least {needed} bytes, but it has {len}")]
    TooShort {
        /// The size that the header describes.
        needed: usize,
        /// The size of the file.
        len: usize,
    },
    /// A file with hashes of words only.
    #[error("it was built without its words: it has their hashes only")]
    NoWords,
    /// Another number of words than of hashes.
    #[error("it has {found} words at its end, but {expected} hashes of words")]
    WordCount {
        /// The number of words.
        found: usize,
        /// The number of words that the vocabulary has.
        expected: u64,
    },
    /// Words that are more than the 1-grams.
    #[error("it has {words} words, but {unigrams} 1-grams")]
    Unigrams {
        /// The number of words.
        words: u64,
        /// The number of 1-grams.
        unigrams: u64,
    },
    /// A word that is not the one of its hash.
    #[error("word {0} is not the one of its hash")]
    WordHash(
        /// The id of the word.
        usize,
    ),
    /// A word in another encoding.
    #[error("word {0} is not UTF-8")]
    WordEncoding(
        /// The id of the word.
        usize,
    ),
    /// No sentence ends.
    #[error("there is no </s>, so the probability of a sentence end is unknown")]
    NoEnd,
}

impl Problem {
    /// Advice for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Magic => "give a file that build_binary has written",
            Self::NoWords => "build it again without -v, or use its ARPA file",
            Self::WordEncoding(_) => TO_UTF8,
            Self::NoEnd => "estimate it again from sentences with their ends",
            Self::TooShort { .. } | Self::WordCount { .. } => {
                "it may be cut off: copy it again, or build it from its ARPA file"
            }
            Self::Unfinished
            | Self::Version(_)
            | Self::Machine
            | Self::Structure(_)
            | Self::PartVersion { .. }
            | Self::Order(_)
            | Self::Multiplier(_)
            | Self::Bits { .. }
            | Self::Unigrams { .. }
            | Self::WordHash(_) => "build it again from its ARPA file, or use that",
        }
    }
}

/// Refuses another version of `part` than `expected`.
pub(crate) fn check_version(part: &'static str, found: u32, expected: u32) -> Result<(), Problem> {
    if found == expected { Ok(()) } else { Err(Problem::PartVersion { part, found, expected }) }
}
