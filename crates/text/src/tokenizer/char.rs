//! Characters as tokens, by code point.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::json;

use super::TokenizerKind;
use super::codec::{Codec, SpecialIds, TrainingText};
use super::json::{JsonFile, WordLevel, refuse, write_file};
use super::key::Key;
use super::vocab::{Vocab, special_tokens};
use crate::TextMode;
use crate::error::Result;
use crate::parallel::for_each_chunk;

/// The length in words of a bit set with one bit per code point.
const SET_WORDS: usize = (char::MAX as usize + 1).div_ceil(64);

/// The character tokenizer: special tokens, then characters by code point.
#[derive(Debug, Clone)]
pub(crate) struct CharCodec {
    vocab: Vocab,
    mode: TextMode,
}

impl CharCodec {
    pub(super) fn new(mode: TextMode) -> Self {
        Self { vocab: Vocab::default(), mode }
    }

    pub(super) fn from_json(file: &mut JsonFile<'_>) -> Result<Option<Arc<dyn Codec>>> {
        if !file.is("WordLevel", &["FixedLength"]) {
            return Ok(None);
        }
        if file.pre_tokenizer()["length"] != 1 {
            return refuse("a FixedLength pre-tokenizer must have length 1");
        }
        let mut codec = Self::new(file.mode);
        codec.set_vocab(std::mem::take(&mut file.vocab))?;
        Ok(Some(Arc::new(codec)))
    }
}

impl Codec for CharCodec {
    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Char
    }

    fn mode(&self) -> TextMode {
        self.mode
    }

    fn vocab_size(&self) -> usize {
        self.vocab.words().len()
    }

    fn special_ids(&self) -> SpecialIds {
        SpecialIds { unk: Some(0), ..SpecialIds::marks(self.mode, 1) }
    }

    fn learn(&mut self, text: &TrainingText<'_>) -> Result<()> {
        let (sets, _) = for_each_chunk(
            text.spans,
            text.threads,
            || Ok(vec![0u64; SET_WORDS]),
            |set, _, chunk| {
                for c in chunk.text()?.chars() {
                    set[c as usize / 64] |= 1 << (c as u32 % 64);
                }
                Ok(())
            },
        )?;
        self.vocab = Vocab::new(self.mode, 0)?;
        let mut buffer = [0; 4];
        for code in 0..=u32::from(char::MAX) {
            let c = char::from_u32(code).filter(|&c| self.mode.keeps_newlines() || c != '\n');
            let Some(c) = c else { continue };
            if sets.iter().any(|set| set[code as usize / 64] >> (code % 64) & 1 == 1) {
                self.vocab.add(c.encode_utf8(&mut buffer))?;
            }
        }
        Ok(())
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let find = |c: char| {
            let mut buffer = [0; 4];
            let bytes = c.encode_utf8(&mut buffer).as_bytes();
            self.vocab.find(Key::new(bytes), bytes).unwrap_or(0)
        };
        for c in text.chars().filter(|&c| self.mode.keeps_newlines() || c != '\n') {
            ids.push(find(c));
        }
        Ok(())
    }

    fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        self.vocab.words().get(id as usize).unwrap_or_default().as_bytes().into()
    }

    fn save(&self) -> Result<Vec<u8>> {
        let pre_tokenizer = json!({ "type": "FixedLength", "length": 1 });
        let decoder = json!({ "type": "Fuse" });
        write_file(special_tokens(self.mode), 0, pre_tokenizer, decoder, WordLevel::new(&self.vocab))
    }

    fn vocab(&self) -> Option<&Vocab> {
        Some(&self.vocab)
    }

    fn set_vocab(&mut self, vocab: Vocab) -> Result<()> {
        if let Some(word) = vocab.first_invalid(self.mode, |word| word.chars().count() == 1)? {
            return refuse(format!("{word:?} is not one character"));
        }
        self.vocab = vocab;
        Ok(())
    }
}
