//! A tokenizer as bytes that are read at the speed of memory: 300,000 words as JSON would take longer than the model.

use serde::{Deserialize, Serialize};
use surprisal_text::{TextMode, Tokenizer, TokenizerKind};

use crate::{Error, Result};

/// What the bytes are.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vocabulary {
    form: Form,
    unit: TextMode,
    tokens: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// Characters.
    Char,
    /// Words.
    Word,
    /// A `tokenizer.json`.
    Json,
}

impl Vocabulary {
    /// The description of a tokenizer, and its bytes.
    pub(crate) fn encode(tokenizer: &Tokenizer) -> Result<(Self, Vec<u8>)> {
        let form = match tokenizer.kind() {
            TokenizerKind::Char => Form::Char,
            TokenizerKind::Word => Form::Word,
            TokenizerKind::Byte | TokenizerKind::Bpe { .. } => Form::Json,
        };
        let bytes = match tokenizer.words() {
            Some(words) => {
                let mut bytes = Vec::new();
                for word in words {
                    push_len(word.len(), &mut bytes);
                    bytes.extend_from_slice(word.as_bytes());
                }
                bytes
            }
            None => tokenizer.to_json()?,
        };
        let tokens = tokenizer.vocab_size() as u32;
        Ok((Self { form, unit: tokenizer.mode(), tokens }, bytes))
    }

    /// The tokenizer that was described.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Tokenizer> {
        let kind = match self.form {
            Form::Char => TokenizerKind::Char,
            Form::Word => TokenizerKind::Word,
            Form::Json => return Ok(Tokenizer::from_json(bytes)?),
        };
        let mut words = Words { rest: bytes, wrong: false, declared_count: self.tokens as usize };
        let tokenizer = Tokenizer::from_stored_words(kind, self.unit, words.by_ref());
        if words.wrong || !words.rest.is_empty() {
            return Err(Error::malformed("the vocabulary", "it is no list of words"));
        }
        let tokenizer = tokenizer?;
        if tokenizer.vocab_size() != self.tokens as usize {
            return Err(Error::malformed("the vocabulary", "it does not have as many words as it says"));
        }
        Ok(tokenizer)
    }
}

fn push_len(mut len: usize, bytes: &mut Vec<u8>) {
    while len >= 0x80 {
        bytes.push(len as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
}

/// Reads words until something is wrong or nothing is left.
struct Words<'a> {
    rest: &'a [u8],
    wrong: bool,
    /// How many there are said to be.
    declared_count: usize,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() || self.wrong {
            return None;
        }
        let word = self.word();
        self.wrong = word.is_none();
        word
    }

    /// So that room is made at once, but for no more than there can be: a word has a length and a byte.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.declared_count.min(self.rest.len() / 2), None)
    }
}

impl<'a> Words<'a> {
    fn word(&mut self) -> Option<&'a [u8]> {
        let (mut len, mut shift) = (0_usize, 0);
        loop {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            len |= usize::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                break;
            }
            shift += 7;
            if shift > 28 {
                return None;
            }
        }
        let (word, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_any_length_come_back() {
        let long = "x".repeat(70_000);
        let words = ["<unk>", "<s>", "</s>", "é", "a\0b", &long];
        let tokenizer = Tokenizer::from_words(TokenizerKind::Word, TextMode::Line, words).unwrap();
        let (vocabulary, bytes) = Vocabulary::encode(&tokenizer).unwrap();
        let back = vocabulary.decode(&bytes).unwrap();
        assert_eq!(back.words().unwrap().collect::<Vec<_>>(), words);
        for len in 0..30 {
            assert!(vocabulary.decode(&bytes[..len]).is_err(), "{len}");
        }
        for wrong in [&[0xFF; 9][..], &[1, 0xFF], &[0x80]] {
            assert!(vocabulary.decode(wrong).is_err(), "{wrong:?}");
        }
    }
}
