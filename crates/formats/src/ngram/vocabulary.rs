//! Binary encoding of tokenizers: 300,000 words as JSON would take longer to read than the model.

use serde::{Deserialize, Serialize};
use surprisal_model::Error as ModelError;
use surprisal_model::ngram::external::Put;
use surprisal_text::{TextMode, Tokenizer, TokenizerKind};

use crate::{Error, Result};

/// The bytes that are passed on at a time.
const PIECE_BYTES: usize = 1 << 16;

/// The description of an encoded tokenizer.
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
    /// A `tokenizer.json`.
    Json,
    /// The strings of a vocabulary that is a list of them.
    #[serde(untagged)]
    List(TokenizerKind),
}

impl Vocabulary {
    /// The description of a tokenizer.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        let form = if tokenizer.words().is_some() { Form::List(tokenizer.kind()) } else { Form::Json };
        Self { form, unit: tokenizer.mode(), tokens: tokenizer.vocab_size() as u32 }
    }

    /// Passes the bytes of a tokenizer to `put`.
    pub(crate) fn emit(tokenizer: &Tokenizer, put: &mut Put<'_>) -> Result<(), ModelError> {
        let Some(words) = tokenizer.words() else {
            let json = tokenizer.to_json().map_err(|error| ModelError::Stream(Box::new(error)))?;
            return put(&json);
        };
        let mut bytes = Vec::new();
        for word in words {
            push_len(word.len(), &mut bytes);
            bytes.extend_from_slice(word.as_bytes());
            if bytes.len() >= PIECE_BYTES {
                put(&bytes)?;
                bytes.clear();
            }
        }
        put(&bytes)
    }

    /// Encodes a tokenizer into a description and bytes.
    pub(crate) fn encode(tokenizer: &Tokenizer) -> Result<(Self, Vec<u8>)> {
        let mut bytes = Vec::new();
        Self::emit(tokenizer, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok((Self::of(tokenizer), bytes))
    }

    /// Decodes the tokenizer.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Tokenizer> {
        let kind = match self.form {
            Form::List(kind) => kind,
            Form::Json => return Ok(Tokenizer::from_json(bytes)?),
        };
        let mut words = Words { rest: bytes, wrong: false, declared_count: self.tokens as usize };
        let tokenizer = Tokenizer::from_stored_words(kind, self.unit, words.by_ref());
        if words.wrong || !words.rest.is_empty() {
            return Err(Error::malformed("the vocabulary", "it is not a list of words"));
        }
        let tokenizer = tokenizer?;
        if tokenizer.vocab_size() != self.tokens as usize {
            return Err(Error::malformed(
                "the vocabulary",
                "its number of words differs from the declared one",
            ));
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

/// An iterator over encoded words, which ends at the first mistake.
struct Words<'a> {
    rest: &'a [u8],
    wrong: bool,
    /// The declared number of words.
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

    /// The declared number, but at most as many as `rest` can contain: a word has a length and a
    /// byte.
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
