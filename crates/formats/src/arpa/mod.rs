//! ARPA files: the text in which n-gram programs hand each other back-off models, at any order up to 16.
//!
//! ```text
//! \data\
//! ngram 1=3
//! ngram 2=1
//!
//! \1-grams:
//! log10 q(w)   w   log10 of the back-off weight of w as a context
//! \2-grams:
//! log10 q(w | h)   h w
//! \end\
//! ```
//!
//! What is written: tabs between columns, spaces between words, every gram of an order sorted by the ids of its words,
//! numbers as the shortest decimals that are the same 32-bit float, a weight for every gram below the highest order (0
//! where it is no context). `<s>` has probability 1, as KenLM writes it, although it is never predicted. The logarithm of
//! zero is `-inf`. Logarithms closer to 0 than 2^-20 are rounded to multiples of 2^-44, which
//! is finer than a 64-bit probability near 1 can tell apart: so a file that is read and written again stays the same,
//! byte for byte.
//!
//! Words (in line mode) are written as they are. Other tokens may hold what separates words in this format, so all of
//! them are escaped: a backslash becomes two, and white space, control characters and bytes that are no UTF-8 become
//! `\xHH`. The names of special tokens stay. A line before `\data\`, where most programs skip what begins with `#`, says
//! what such tokens are, and by it they are read back:
//!
//! ```text
//! # tokenizer = char, unit = stream
//! ```
//!
//! Another says of the scores of stupid backoff, which no other program has in such files, that they are no probabilities:
//! [`SCORES_DECLARATION`].
//!
//! What is read is more than what is written: see [`read`].

mod build;
mod parse;
mod write;

pub use write::{Written, write};

use std::path::Path;

use surprisal_model::ngram::NgramModel;
use surprisal_text::{TextMode, Tokenizer, TokenizerKind};

use crate::{Error, Result, ngram};

/// What it is called where its bytes came from no file.
const WHAT: &str = "the ARPA file";
/// The logarithm of zero, as it is written.
const LOG_ZERO: &str = "-inf";
/// The logarithm of zero in SRILM's files (ngram-format(5)).
const SRILM_LOG_ZERO: f32 = -99.0;
/// log10 q(`<unk>`) where a file has none: KenLM's.
const LOG_UNKNOWN: f32 = -100.0;

/// Reads the ARPA file `path`.
///
/// # Errors
/// As [`read`], and [`Io`](surprisal_store::Error::Io).
pub fn open(path: impl AsRef<Path>) -> Result<(NgramModel, Tokenizer)> {
    let path = path.as_ref();
    let bytes = ngram::map(path)?;
    read(bytes.as_slice()).map_err(|error| error.in_file(path))
}

/// The model in an ARPA file's bytes, and a word tokenizer in line mode with its words: `<unk>`, `<s>`, `</s>`, then the
/// others in the order of the file. Another tokenizer where the file says so.
///
/// Whatever else stands before `\data\` and after `\end\` is skipped. Columns and words are separated by tabs
/// and spaces; lines may end in CRLF. Without `<unk>`, that is `<UNK>`; without either, unknown words have
/// log10 q = -100. A missing weight is 0. `-inf`, and -99 as SRILM has it, are the logarithm of zero. The
/// grams of an order may stand in any order. A gram whose context is no gram (which pruning by others can
/// leave) gets it, with the probability that backing off gives it. Numbers are read as 32-bit floats.
///
/// # Errors
/// [`Error::Line`] with the line and what would be right; [`Malformed`](surprisal_store::Error::Malformed) for what no line is to blame for.
pub fn read(bytes: &[u8]) -> Result<(NgramModel, Tokenizer)> {
    build::model(parse::parse(bytes)?)
}

/// How the line starts that says what the tokens are.
pub const DECLARATION_PREFIX: &str = "# tokenizer = ";

/// The line that says that the file's numbers are scores, which do not sum to one.
pub const SCORES_DECLARATION: &str = "# scores = stupid_backoff";

/// The line that says what the tokens are, unless they are words in sentences.
fn declaration(kind: TokenizerKind, unit: TextMode) -> Option<String> {
    let unit = match (kind, unit) {
        (TokenizerKind::Word, TextMode::Line) => return None,
        (_, TextMode::Line) => "line",
        (_, TextMode::Stream) => "stream",
    };
    Some(format!("{DECLARATION_PREFIX}{kind}, unit = {unit}"))
}

fn line(line: u64, problem: impl Into<String>, hint: &'static str) -> Error {
    Error::Line { what: WHAT.into(), line, problem: problem.into(), hint }
}

#[cfg(test)]
mod tests;
