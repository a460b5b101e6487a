//! Texts: reading, tokenizers, train/validation splits, batches.
//!
//! Files are streamed: memory holds the token ids and a bounded buffer, never the text. No other
//! crate uses the `tokenizers` library.

mod batches;
mod chunks;
mod clean;
mod common_text;
mod compression;
mod corpus;
mod encode;
mod encode_options;
mod error;
mod inputs;
mod numbers;
mod parallel;
mod read_ahead;
mod records;
mod selection;
mod split;
mod split_checks;
mod stream;
mod token_text;
mod tokenizer;
mod utf16;
mod warnings;
mod word_vocabulary;

use serde::{Deserialize, Serialize};

pub use batches::{Batch, Batches, IGNORE_INDEX};
pub use clean::{InvalidBytes, NormalForm};
pub use common_text::CommonText;
pub use compression::{Compression, Compressor};
pub use corpus::{Corpus, DataOptions, EvaluationText, Texts, encode_files, encode_text};
pub use encode::{UnknownText, WordMemory};
pub use encode_options::{EncodeOptions, LastLine, LiteralSpecials};
pub use error::{Error, Result};
pub use inputs::{InputOptions, NoText, NoTexts, is_pipe, is_standard_input, open_converted};
pub use numbers::{many, thousands};
pub use split::{Split, TrainPart};
pub use split_checks::{SharedPassages, TailDifference};
pub use token_text::{TokenCounts, TokenIds, TokenText};
pub use tokenizer::{
    Codec, CodecLoader, CodecRegistry, Granularity, SpecialIds, Tokenizer, TokenizerKind, TrainingText,
    printable_bytes,
};
pub use warnings::TextWarnings;
pub use word_vocabulary::{MinCount, WordChoice, WordList, WordVocabulary};

/// The way a text becomes sequences of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextMode {
    /// One sequence of tokens, newlines included.
    #[default]
    Stream,
    /// Each line is a sequence between `<s>` and `</s>`; contexts do not cross lines.
    Line,
    /// One sequence of tokens, newlines included, with `</s>` after each document.
    Document,
}

impl TextMode {
    /// Whether newlines are tokens, not ends of sequences.
    pub fn keeps_newlines(self) -> bool {
        match self {
            Self::Stream | Self::Document => true,
            Self::Line => false,
        }
    }
}
