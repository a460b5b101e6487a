//! Texts: reading, cutting into tokens, splitting, batching.
//!
//! Files are streamed: memory holds the token ids and a bounded buffer, never the text. This is the only crate that
//! sees the `tokenizers` library.

mod batches;
mod corpus;
mod encode;
mod error;
mod files;
mod numbers;
mod pieces;
mod reading;
mod token_text;
mod tokenizer;
mod workers;

use serde::{Deserialize, Serialize};

pub use batches::{Batch, Batches, IGNORE};
pub use corpus::{Corpus, DataOptions, EvaluationText, encode_files, encode_text};
pub use error::{Error, Result};
pub use numbers::{many, thousands};
pub use reading::{LastLine, LiteralSpecials, Reading};
pub use token_text::TokenText;
pub use tokenizer::{Tokenizer, TokenizerKind};

/// How a text is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// One sequence of tokens, newlines included.
    #[default]
    Stream,
    /// Each line is a sentence of its own between `<s>` and `</s>`; contexts do not cross lines.
    Line,
}
