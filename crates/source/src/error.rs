//! Errors of sources and of texts scored under them.

/// An error of a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A malformed source file.
    #[error("line {line} of the source: {problem}")]
    Parse {
        /// The line, from 1.
        line: usize,
        /// The problem, and what is expected.
        problem: String,
    },
    /// A text of probability zero under the source.
    #[error(
        "the source cannot generate this text: at byte {offset}, after `{before}`, `{found}` has probability zero"
    )]
    Impossible {
        /// The position of the first impossible byte, from the start of the prefix.
        offset: usize,
        /// The text before it.
        before: String,
        /// The impossible character.
        found: char,
    },
    /// Next-character probabilities of a source with characters of several bytes.
    #[error("next-character probabilities need a source of ASCII characters only")]
    NotAscii,
    /// A text with too many possible states of the grammar.
    #[error("at byte {offset} the text has more than {limit} possible derivations")]
    Ambiguous {
        /// The position in bytes from the start of the prefix.
        offset: usize,
        /// The maximum number of states.
        limit: usize,
    },
}

/// A result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(super) fn parse(line: usize, problem: impl Into<String>) -> Self {
        Self::Parse { line, problem: problem.into() }
    }

    /// The error for an impossible byte at `offset` of `prefix` and `text` together.
    pub(super) fn impossible(prefix: &str, text: &str, offset: usize) -> Self {
        // Only the last bytes before it are copied: the texts may be large.
        let (whole, base) = if offset < prefix.len() { (prefix, 0) } else { (text, prefix.len()) };
        let boundary =
            |index: usize| (0..=index).rev().find(|index| whole.is_char_boundary(*index)).unwrap_or(0);
        let end = boundary(offset - base);
        let start = boundary((offset - base).saturating_sub(40));
        let found = whole[end..].chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
        Self::Impossible { offset, before: whole[start..end].escape_debug().to_string(), found }
    }
}
