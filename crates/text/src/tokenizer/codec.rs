//! The trait of tokenizers, and the registry that loads tokenizers defined outside this crate.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{TokenizerKind, Vocab};
use crate::TextMode;
use crate::chunks::{Span, TextChunks};
use crate::error::{Error, Result};

/// The amount of text in one token. Spacing, wording and memory estimates depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// A byte.
    Byte,
    /// A character.
    Char,
    /// A word; words of a line are separated by spaces.
    Word,
    /// Any other string; the tokens alone do not determine how a text is cut.
    Subword,
}

/// The ids of the special tokens that a tokenizer has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// `<unk>`, the token of everything outside the vocabulary.
    pub unk: Option<u32>,
    /// `<s>`, before each line in line mode.
    pub bos: Option<u32>,
    /// `</s>`, after each line in line mode and after each document in document mode.
    pub eos: Option<u32>,
}

impl SpecialIds {
    /// The marks that `mode` has, `<s>` and then `</s>`, with ids from `first` on, and no `<unk>`.
    pub fn marks(mode: TextMode, first: u32) -> Self {
        let (bos, eos) = match mode {
            TextMode::Stream => (None, None),
            TextMode::Line => (Some(first), Some(first + 1)),
            TextMode::Document => (None, Some(first)),
        };
        Self { unk: None, bos, eos }
    }
}

/// The text that a codec learns its vocabulary from.
#[derive(Debug, Clone, Copy)]
pub struct TrainingText<'a> {
    pub(crate) spans: &'a [Span],
    /// The maximum number of threads that read it.
    pub(crate) threads: usize,
}

impl TrainingText<'_> {
    /// The text in order, in chunks of about 256 KiB, nearly all of which end with a line.
    ///
    /// # Errors
    /// An item is an error where the text is not UTF-8 or cannot be read; it is the last one.
    pub fn chunks(&self) -> impl Iterator<Item = Result<String>> + Send + use<> {
        TextChunks::new(self.spans).map(|chunk| chunk?.text().map(str::to_owned))
    }
}

/// A kind of tokenizer: its vocabulary, and the rules that cut text into tokens.
///
/// Ids are 0..`vocab_size`, special tokens included. [`crate::Tokenizer`] adds `<s>` and `</s>`
/// around lines, so no other method sees or makes them. A codec of another crate is used with
/// [`crate::Tokenizer::custom`] or [`crate::Corpus::train_codec`].
pub trait Codec: Any + fmt::Debug + Send + Sync {
    /// The kind; [`TokenizerKind::Custom`] with its name for a codec of another crate.
    fn kind(&self) -> TokenizerKind;

    /// The way texts are read.
    fn mode(&self) -> TextMode;

    /// The amount of text in one token.
    fn granularity(&self) -> Granularity {
        self.kind().granularity()
    }

    /// |V|, the number of tokens.
    fn vocab_size(&self) -> usize;

    /// The special tokens: `<s>` in line mode alone, `</s>` in line and document mode.
    fn special_ids(&self) -> SpecialIds;

    /// Replaces the vocabulary with that of `text`.
    ///
    /// # Errors
    /// Text that is not UTF-8 or cannot be read; a vocabulary that is too large.
    fn learn(&mut self, text: &TrainingText<'_>) -> Result<()>;

    /// Appends the ids of `text`. In line mode newlines are no tokens and are left out.
    ///
    /// Long texts are passed in chunks, which end between lines where possible.
    ///
    /// # Errors
    /// A failure of the codec.
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()>;

    /// [`Self::encode`] of a text that follows `before`, the end of the text so far.
    ///
    /// # Errors
    /// A failure of the codec.
    fn encode_after(&self, before: &str, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let _ = before;
        self.encode(text, ids)
    }

    /// Appends the ids of each of `lines`, each by itself, and to `ends` where each ends in `ids`.
    ///
    /// # Errors
    /// A failure of the codec.
    fn encode_lines(
        &self,
        lines: &mut dyn Iterator<Item = Cow<'_, str>>,
        ids: &mut Vec<u32>,
        ends: &mut Vec<usize>,
    ) -> Result<()> {
        for line in lines {
            self.encode_after("", &line, ids)?;
            ends.push(ids.len());
        }
        Ok(())
    }

    /// Whether a text may be cut between `before` and `after`: its tokens are those of the two
    /// parts. `None` if it may be cut wherever a line ends and the next starts without white space.
    fn can_cut(&self, before: &str, after: &str) -> Option<bool> {
        let _ = (before, after);
        None
    }

    /// A description of the first difference between `text`, which follows `before`, and the text
    /// that its `ids` decode to. `None` if there is none, or if the kind of codec does not check
    /// it.
    ///
    /// Where there is one, other texts have the same tokens, and their probability is not the
    /// text's.
    fn round_trip_error(&self, before: &str, text: &str, ids: &[u32]) -> Option<String> {
        let _ = (before, text, ids);
        None
    }

    /// The number of names of special tokens in `text`, which it reads as characters; without those
    /// of a sentence's marks.
    fn special_names_in(&self, text: &str) -> usize {
        let _ = text;
        0
    }

    /// The number of ids that no text has.
    fn unused_ids(&self) -> usize {
        0
    }

    /// The name of a token, which no other token has; as in the file of a tokenizer from outside.
    fn token_name(&self, id: u32) -> Cow<'_, [u8]> {
        self.token_bytes(id)
    }

    /// The bytes of a token without special meaning; empty for an id outside the vocabulary.
    fn token_bytes(&self, id: u32) -> Cow<'_, [u8]>;

    /// Prefetches what [`Self::token_bytes`] reads: where the bytes are; in a second call, those.
    fn prefetch(&self, _id: u32, _is_second: bool) {}

    /// Appends the text of `ids`; bytes that are not UTF-8 become U+FFFD.
    fn decode(&self, ids: &[u32], text: &mut String) {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.token_bytes(id).into_owned()).collect();
        text.push_str(&String::from_utf8_lossy(&bytes));
    }

    /// The state as JSON, the same bytes for the same state. Its [`CodecLoader`] reads them back.
    ///
    /// # Errors
    /// A failure of the codec.
    fn save(&self) -> Result<Vec<u8>>;

    /// The vocabulary of a built-in codec whose tokens are a list of strings.
    #[doc(hidden)]
    fn vocab(&self) -> Option<&Vocab> {
        None
    }

    /// Replaces the vocabulary of a built-in codec whose tokens are a list of strings.
    #[doc(hidden)]
    fn set_vocab(&mut self, _: Vocab) -> Result<()> {
        Err(Error::Tokenizer(format!("a {} vocabulary is not a list of words", self.kind())))
    }
}

/// Makes a codec from the bytes of [`Codec::save`] (up to the JSON's spacing) and its mode.
pub type CodecLoader = fn(&[u8], TextMode) -> Result<Arc<dyn Codec>>;

/// The loaders of custom codecs, by the names in their [`TokenizerKind::Custom`].
#[derive(Debug, Clone, Default)]
pub struct CodecRegistry(BTreeMap<&'static str, CodecLoader>);

impl CodecRegistry {
    /// Adds or replaces the loader of the codec `name`.
    pub fn register(&mut self, name: &'static str, loader: CodecLoader) {
        self.0.insert(name, loader);
    }

    pub(super) fn get(&self, name: &str) -> Option<CodecLoader> {
        self.0.get(name).copied()
    }
}
