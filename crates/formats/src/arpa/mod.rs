//! ARPA files: the common text format of back-off n-gram models, here of orders up to 16.
//!
//! ```text
//! \data\
//! ngram 1=3
//! ngram 2=1
//!
//! \1-grams:
//! log10 q(w)   w   log10 of the back-off weight of context w
//! \2-grams:
//! log10 q(w | h)   h w
//! \end\
//! ```
//!
//! Writing: columns are separated by tabs, words by spaces. The n-grams of an order are sorted by
//! word ids. Numbers are the shortest decimals that give the same 32-bit float. Every n-gram below
//! the highest order has a back-off weight (0 if it is not a context). `<s>` has probability 1, as
//! in KenLM's files, although it is never predicted. The logarithm of zero is `-inf`. Logarithms
//! closer to 0 than 2^-20 are rounded to multiples of 2^-44, which is finer than the spacing of
//! 64-bit probabilities near 1, so that reading and writing a file again gives the same bytes.
//!
//! Words (in line mode) are written unchanged. Other tokens may contain separators, so they are
//! escaped: a backslash is doubled; white space, control characters and bytes that are not UTF-8
//! become `\xHH`. Special tokens keep their names. A line before `\data\`, where most programs skip
//! lines that begin with `#`, declares the kind of tokens:
//!
//! ```text
//! # tokenizer = char, unit = stream
//! ```
//!
//! Tokens that are parts of words need rules as well, so a second line has their tokenizer, the
//! content of a `tokenizer.json`: in the file itself, as a file beside it would be lost. Its tokens
//! must be the 1-grams.
//!
//! ```text
//! # tokenizer = bpe, unit = stream
//! # tokenizer.json = {"version":"1.0",…}
//! ```
//!
//! Another line marks the scores of stupid backoff, which are not probabilities:
//! [`SCORES_DECLARATION`].
//!
//! Reading accepts more than writing produces: see [`read`].

mod build;
mod parse;
mod stream;
mod write;

pub use stream::{Lines, Spelling, StreamWriter};
pub(crate) use write::log10;
pub use write::{Written, write};

use std::path::Path;

use surprisal_model::ngram::NgramModel;
use surprisal_text::{TextMode, Tokenizer, TokenizerKind};

use crate::{Error, Result, file};

/// The name in errors if the bytes do not come from a file.
const WHAT: &str = "the ARPA file";
/// The spelling of log10 0.
const LOG_ZERO: &str = "-inf";
/// log10 0 in SRILM's files (ngram-format(5)).
pub(crate) const SRILM_LOG_ZERO: f32 = -99.0;
/// log10 q(`<unk>`) if a file has none, as in KenLM.
const LOG_UNKNOWN: f32 = -100.0;

/// Reads the ARPA file `path`.
///
/// # Errors
/// Those of [`read`]; [`Io`](surprisal_store::Error::Io).
pub fn open(path: impl AsRef<Path>) -> Result<(NgramModel, Tokenizer)> {
    let path = path.as_ref();
    let bytes = file::read(path)?;
    read(bytes.as_slice()).map_err(|error| error.in_file(path))
}

/// The model in the bytes of an ARPA file, and a word tokenizer in line mode: `<unk>`, `<s>`,
/// `</s>`, then the other words in the order of the file. A declaration in the file selects another
/// tokenizer.
///
/// Other text before `\data\` and after `\end\` is skipped. Columns and words are separated by tabs
/// and spaces; lines may end in CRLF. Without `<unk>`, `<UNK>` is used; without both, unknown words
/// have log10 q = -100. A missing back-off weight is 0. `-inf` and SRILM's -99 are log10 0. The
/// n-grams of an order may be in any order. A missing context of an n-gram (other programs' pruning
/// can remove it) is added, with its back-off probability. Numbers are read as 32-bit floats.
///
/// # Errors
/// [`Error::Line`] with the line and advice; [`Malformed`](surprisal_store::Error::Malformed) for
/// mistakes of the file as a whole.
pub fn read(bytes: &[u8]) -> Result<(NgramModel, Tokenizer)> {
    build::model(parse::parse(&parse::header(bytes)?)?)
}

/// The start of the line that declares the kind of tokens.
pub const DECLARATION_PREFIX: &str = "# tokenizer = ";

/// The start of the line with the tokenizer of tokens that are parts of words.
pub const TOKENIZER_PREFIX: &str = "# tokenizer.json = ";

/// The line that declares scores that do not sum to one.
pub const SCORES_DECLARATION: &str = "# scores = stupid_backoff";

/// The line that declares the kind of tokens; `None` for words in line mode.
fn declaration(kind: TokenizerKind, unit: TextMode) -> Option<String> {
    let unit = match (kind, unit) {
        (TokenizerKind::Word, TextMode::Line) => return None,
        (_, TextMode::Line) => "line",
        (_, TextMode::Stream) => "stream",
        (_, TextMode::Document) => "document",
    };
    Some(format!("{DECLARATION_PREFIX}{kind}, unit = {unit}"))
}

fn line(line: u64, problem: impl Into<String>, hint: &'static str) -> Error {
    Error::Line { what: WHAT.into(), line, problem: problem.into(), hint }
}

#[cfg(test)]
mod tests;
