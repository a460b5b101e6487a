//! Tokenizers: byte, char, word, and byte-level BPE.
//!
//! All four are saved as a `tokenizer.json` that Hugging Face `tokenizers` loads and that gives the same ids there. The
//! first three are encoded by code of our own, which is faster and reads bytes that are no UTF-8; a test holds it
//! against the library.
//!
//! Ids: special tokens first (`<unk>` = 0 for char and word; then `<s>`, `</s>` in line mode), then characters by code
//! point, words by first appearance, bytes by value. Byte ids are the bytes themselves, with the special tokens after
//! them.

mod arena;
mod byte_level;
mod chars;
mod json;
mod key;
mod merge;
mod pre_tokenizer;
mod vocab;
mod words;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::TextMode;
use crate::error::Result;

pub(crate) use byte_level::train_bpe;
pub(crate) use chars::train as train_chars;
pub(crate) use key::Key;
pub(crate) use merge::{LocalVocab, map_to_vocab, merge_vocabs};
pub(crate) use pre_tokenizer::{LOAD_PADDING, PreToken, is_separator, pre_tokenize};
pub(crate) use vocab::{Vocab, VocabLookup, special_tokens};

/// `<unk>`, `<s>`, `</s>`: the names of the special tokens.
pub(crate) const UNK: &str = "<unk>";
pub(crate) const BOS: &str = "<s>";
pub(crate) const EOS: &str = "</s>";

/// The largest vocabulary: what a model of toy size could use at all.
pub(crate) const MAX_VOCABULARY: usize = 1 << 24;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// A byte.
    Byte,
    /// A character.
    Char,
    /// What stands between white space (NUL, tab, newline, carriage return, space); in stream mode a newline is a
    /// token, too.
    Word,
    /// A chunk of a word, found by byte-pair encoding (Sennrich et al. 2016) over bytes.
    Bpe {
        /// How many tokens there are to be.
        vocab_size: usize,
    },
}

impl fmt::Display for TokenizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Byte => "byte",
            Self::Char => "char",
            Self::Word => "word",
            Self::Bpe { .. } => "bpe",
        })
    }
}

/// Cuts text into tokens and puts it together again.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pub(crate) model: TokenizerModel,
    pub(crate) mode: TextMode,
}

/// The four ways.
#[derive(Debug, Clone)]
pub(crate) enum TokenizerModel {
    Byte,
    Char(Vocab),
    Word(Vocab),
    Bpe(Box<tokenizers::Tokenizer>),
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// Only the components that these tokenizers are made of are accepted, and limits are checked first: the file may
    /// come from anywhere.
    ///
    /// # Errors
    /// [`crate::Error::Tokenizer`].
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        json::read(bytes)
    }

    /// The bytes of a `tokenizer.json`, the same for the same tokenizer.
    ///
    /// # Errors
    /// A failure of the library.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        json::write(self)
    }

    /// What its tokens are.
    pub fn kind(&self) -> TokenizerKind {
        match &self.model {
            TokenizerModel::Byte => TokenizerKind::Byte,
            TokenizerModel::Char(_) => TokenizerKind::Char,
            TokenizerModel::Word(_) => TokenizerKind::Word,
            TokenizerModel::Bpe(_) => TokenizerKind::Bpe { vocab_size: self.vocab_size() },
        }
    }

    /// How it reads texts.
    pub fn mode(&self) -> TextMode {
        self.mode
    }

    /// |V|.
    pub fn vocab_size(&self) -> usize {
        match &self.model {
            TokenizerModel::Byte => 256 + if self.mode == TextMode::Line { 2 } else { 0 },
            TokenizerModel::Char(vocab) | TokenizerModel::Word(vocab) => vocab.words().len(),
            TokenizerModel::Bpe(bpe) => bpe.get_vocab_size(true),
        }
    }

    /// `<unk>`: what stands for everything that the vocabulary lacks (char and word).
    pub fn unk(&self) -> Option<u32> {
        matches!(self.model, TokenizerModel::Char(_) | TokenizerModel::Word(_)).then_some(0)
    }

    /// `<s>`, in line mode.
    pub fn bos(&self) -> Option<u32> {
        (self.mode == TextMode::Line).then_some(match self.model {
            TokenizerModel::Byte => 256,
            TokenizerModel::Char(_) | TokenizerModel::Word(_) => 1,
            TokenizerModel::Bpe(_) => 0,
        })
    }

    /// `</s>`, in line mode.
    pub fn eos(&self) -> Option<u32> {
        self.bos().map(|bos| bos + 1)
    }

    /// The ids of `text`, without `<s>` and `</s>`. In line mode newlines are left out; they are what lines end with.
    ///
    /// # Errors
    /// A failure of the library.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// Appends what [`Self::encode`] gives.
    pub(crate) fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        match &self.model {
            TokenizerModel::Byte => self.encode_bytes(text.as_bytes(), ids),
            TokenizerModel::Char(vocab) => chars::encode(vocab, self.mode, text, ids),
            TokenizerModel::Word(vocab) => words::encode(vocab, self.mode, text, ids)?,
            TokenizerModel::Bpe(bpe) => byte_level::encode_bpe(bpe, self.mode, text, ids)?,
        }
        Ok(())
    }

    /// [`Self::encode_into`] of bytes that need not be text (byte tokenizer only).
    pub(crate) fn encode_bytes(&self, bytes: &[u8], ids: &mut Vec<u32>) {
        let wanted = bytes.iter().filter(|&&byte| self.mode == TextMode::Stream || byte != b'\n');
        ids.extend(wanted.map(|&byte| u32::from(byte)));
    }

    /// The text of `ids`. `<s>` is left out and `</s>` becomes a newline; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        let mut start = 0;
        for (i, &id) in ids.iter().enumerate() {
            if Some(id) == self.bos() || Some(id) == self.eos() {
                self.decode_plain(&ids[start..i], &mut text);
                if Some(id) == self.eos() {
                    text.push('\n');
                }
                start = i + 1;
            }
        }
        self.decode_plain(&ids[start..], &mut text);
        text
    }

    /// [`Self::decode`] of ids without `<s>` and `</s>`.
    fn decode_plain(&self, ids: &[u32], text: &mut String) {
        if let TokenizerModel::Word(vocab) = &self.model {
            for &id in ids {
                let word = vocab.words().get(id as usize).unwrap_or("\u{FFFD}");
                if !(text.is_empty() || text.ends_with('\n') || word == "\n") {
                    text.push(' ');
                }
                text.push_str(word);
            }
            return;
        }
        let mut bytes = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(&self.token_bytes(id));
        }
        text.push_str(&String::from_utf8_lossy(&bytes));
    }

    /// How a token is shown to a person: newlines and spaces made visible.
    pub fn token(&self, id: u32) -> String {
        if Some(id) == self.bos() {
            return BOS.into();
        }
        if Some(id) == self.eos() {
            return EOS.into();
        }
        if let TokenizerModel::Byte = self.model
            && (128..256).contains(&id)
        {
            return format!("0x{id:02X}");
        }
        self.decode(&[id]).replace('\n', "⏎").replace('\t', "⇥").replace(' ', "␣")
    }
}

#[cfg(test)]
mod tests;
