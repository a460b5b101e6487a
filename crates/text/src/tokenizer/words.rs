//! A tokenizer as a list of strings, for files that store vocabularies in their own way.

use std::borrow::Cow;

use super::arena::StringArena;
use super::pre_tokenizer::{LOAD_PADDING, pre_tokenize};
use super::vocab::{Vocab, special_tokens};
use super::{BOS, EOS, Tokenizer, TokenizerKind, TokenizerModel, byte_level, json};
use crate::TextMode;
use crate::error::Result;

impl Tokenizer {
    /// The strings of a vocabulary that is a list of them (char and word) by id, special tokens included.
    pub fn words(&self) -> Option<impl Iterator<Item = &str>> {
        match &self.model {
            TokenizerModel::Char(vocab) | TokenizerModel::Word(vocab) => Some(vocab.words().iter()),
            TokenizerModel::Byte | TokenizerModel::Bpe(_) => None,
        }
    }

    /// The char or word tokenizer whose [`Self::words`] these are.
    ///
    /// # Errors
    /// Another kind, words that do not start with the special tokens, that are not all different, not one character
    /// where they should be, or too many.
    pub fn from_words<'a>(
        kind: TokenizerKind,
        mode: TextMode,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        let words = words.into_iter().map(str::as_bytes);
        let tokenizer = Self::from_stored_words(kind, mode, words)?;
        if let TokenizerModel::Char(vocab) | TokenizerModel::Word(vocab) = &tokenizer.model
            && let Some(word) = vocab.first_duplicate()
        {
            return Err(json::duplicate(word));
        }
        Ok(tokenizer)
    }

    /// The byte tokenizer.
    pub fn new_bytes(mode: TextMode) -> Self {
        Self { model: TokenizerModel::Byte, mode }
    }

    /// [`Self::from_words`] of words that were written as all different and have a checksum since: an index of them is
    /// not made before it is needed, and never for one short text. A word that is there twice all the same is the first of
    /// the two.
    ///
    /// # Errors
    /// The others of [`Self::from_words`]; bytes that are no UTF-8 text.
    pub fn from_stored_words<'a>(
        kind: TokenizerKind,
        mode: TextMode,
        words: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self> {
        Self::from_vocab(kind, mode, StringArena::from_bytes(words)?.into())
    }

    pub(super) fn from_vocab(kind: TokenizerKind, mode: TextMode, vocab: Vocab) -> Result<Self> {
        let specials = special_tokens(mode);
        if !vocab.words().iter().take(specials.len()).eq(specials.iter().copied()) {
            return json::refuse(format!("its first tokens are not {}", specials.join(", ")));
        }
        let is_char = kind == TokenizerKind::Char;
        let wrong = |word: &&str| word.is_empty() || is_char && word.chars().nth(1).is_some();
        if let Some(word) = vocab.words().iter().skip(specials.len()).find(wrong) {
            return json::refuse(format!(
                "{word:?} is not one {}",
                if is_char { "character" } else { "word" }
            ));
        }
        let codec = match kind {
            TokenizerKind::Char => TokenizerModel::Char(vocab),
            TokenizerKind::Word => TokenizerModel::Word(vocab),
            other => return json::refuse(format!("a {other} vocabulary is no list of words")),
        };
        Ok(Self { model: codec, mode })
    }

    /// The bytes that a token stands for; the name of a special one. Nothing for an id that is none.
    pub fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        let special =
            [(self.bos(), BOS), (self.eos(), EOS)].into_iter().find(|&(special, _)| special == Some(id));
        if let Some((_, name)) = special {
            return name.as_bytes().into();
        }
        match &self.model {
            TokenizerModel::Byte => u8::try_from(id).into_iter().collect::<Vec<u8>>().into(),
            TokenizerModel::Char(vocab) | TokenizerModel::Word(vocab) => {
                vocab.words().get(id as usize).unwrap_or_default().as_bytes().into()
            }
            TokenizerModel::Bpe(bpe) => byte_level::token_bytes(bpe, id).into(),
        }
    }
}

/// Appends the ids of the words of `text`. The names of special tokens are ordinary, unknown words of a text.
pub(super) fn encode(vocab: &Vocab, mode: TextMode, text: &str, ids: &mut Vec<u32>) -> Result<()> {
    let padded = [text.as_bytes(), &LOAD_PADDING].concat();
    pre_tokenize(&padded, |parts| {
        let wanted = parts.iter().filter(|part| mode == TextMode::Stream || !part.is_newline());
        ids.extend(wanted.map(|part| {
            let id = vocab.find(part.key, part.bytes(&padded));
            id.filter(|&id| id as usize >= special_tokens(mode).len()).unwrap_or(0)
        }));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_words_is_a_tokenizer() {
        let words = ["<unk>", "<s>", "</s>", "b", "a"];
        let tokenizer = Tokenizer::from_words(TokenizerKind::Word, TextMode::Line, words).unwrap();
        assert_eq!(tokenizer.words().unwrap().collect::<Vec<_>>(), words);
        assert_eq!(tokenizer.encode("a b c").unwrap(), [4, 3, 0]);
        assert_eq!([1, 3].map(|id| tokenizer.token_bytes(id)), [&b"<s>"[..], b"b"]);
        let again = Tokenizer::from_json(&tokenizer.to_json().unwrap()).unwrap();
        assert_eq!(again.words().unwrap().collect::<Vec<_>>(), words);
        for (kind, wrong) in [
            (TokenizerKind::Word, &["<unk>", "a"][..]),
            (TokenizerKind::Word, &["<unk>", "<s>", "</s>", "a", "a"]),
            (TokenizerKind::Word, &["<unk>", "<s>", "</s>", ""]),
            (TokenizerKind::Word, &["<unk>", "<s>", "</s>", "<s>"]),
            (TokenizerKind::Char, &["<unk>", "<s>", "</s>", "ab"]),
            (TokenizerKind::Byte, &["<unk>", "<s>", "</s>"]),
        ] {
            let error = Tokenizer::from_words(kind, TextMode::Line, wrong.iter().copied());
            assert!(error.is_err(), "{wrong:?}");
        }
        Tokenizer::from_words(TokenizerKind::Char, TextMode::Stream, ["<unk>", "é"]).unwrap();
    }

    #[test]
    fn bytes_are_spelt_as_themselves() {
        let tokenizer = Tokenizer { model: TokenizerModel::Byte, mode: TextMode::Line };
        assert!(tokenizer.words().is_none());
        assert_eq!(*tokenizer.token_bytes(0xFF), [0xFF]);
        assert_eq!(*tokenizer.token_bytes(257), *b"</s>");
        assert!(tokenizer.token_bytes(258).is_empty());
    }
}
