//! What can be wrong with a source, or with a text that is said to come from it.

/// A source's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A source file that is not well formed.
    #[error("line {line} of the source: {problem}")]
    Parse {
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A text that the source cannot have written.
    #[error(
        "the source cannot have written this: at byte {offset}, after `{before}`, it does not go on with `{found}`"
    )]
    Impossible {
        /// The first impossible byte, counted from the beginning of the prefix.
        offset: usize,
        /// The text before it.
        before: String,
        /// The character that cannot come.
        found: char,
    },
    /// A source whose next characters are asked for, and that writes characters of several bytes.
    #[error("next characters are known for sources that write ASCII only")]
    NotAscii,
    /// A text that could have come about in too many ways to be followed.
    #[error("at byte {offset} the text could have been written in more than {limit} ways")]
    Ambiguous {
        /// Where, in bytes from the beginning of the prefix.
        offset: usize,
        /// How many ways are followed.
        limit: usize,
    },
}

/// A result whose error is a source's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(super) fn parse(line: usize, problem: impl Into<String>) -> Self {
        Self::Parse { line, problem: problem.into() }
    }

    /// The byte at `offset` of `prefix` and `text` together cannot come.
    pub(super) fn impossible(prefix: &str, text: &str, offset: usize) -> Self {
        // Only the neighbourhood is copied: the texts may be large.
        let (whole, base) = if offset < prefix.len() { (prefix, 0) } else { (text, prefix.len()) };
        let boundary =
            |index: usize| (0..=index).rev().find(|index| whole.is_char_boundary(*index)).unwrap_or(0);
        let end = boundary(offset - base);
        let start = boundary((offset - base).saturating_sub(40));
        let found = whole[end..].chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
        Self::Impossible { offset, before: whole[start..end].escape_debug().to_string(), found }
    }
}
