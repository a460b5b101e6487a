//! Texts: reading, tokenizers, train/validation splits, batches.
//!
//! Files are streamed: memory holds the token ids and a bounded buffer, never the text. No other
//! crate uses the `tokenizers` library.

mod batches;
mod chunks;
mod corpus;
mod encode;
mod encode_options;
mod error;
mod files;
mod numbers;
mod parallel;
mod token_text;
mod tokenizer;

use serde::{Deserialize, Serialize};

pub use batches::{Batch, Batches, IGNORE_INDEX};
pub use corpus::{Corpus, DataOptions, EvaluationText, encode_files, encode_text};
pub use encode_options::{EncodeOptions, LastLine, LiteralSpecials};
pub use error::{Error, Result};
pub use numbers::{many, thousands};
pub use token_text::TokenText;
pub use tokenizer::{
    Codec, CodecLoader, CodecRegistry, Granularity, SpecialIds, Tokenizer, TokenizerKind, TrainingText,
};

/// The way a text becomes sequences of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextMode {
    /// One sequence of tokens, newlines included.
    #[default]
    Stream,
    /// Each line is a sequence between `<s>` and `</s>`; contexts do not cross lines.
    Line,
}
