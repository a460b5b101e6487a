//! A tokenizer as a list of strings, for files that store vocabularies in their own way.

use std::borrow::Cow;

use super::arena::Words;
use super::scan::{PAD, scan};
use super::table::{Table, specials};
use super::{BOS, Codec, EOS, Tokenizer, TokenizerKind, bytes, json};
use crate::Unit;
use crate::error::Result;

impl Tokenizer {
    /// The strings of a vocabulary that is a list of them (char and word) by id, special tokens included.
    pub fn words(&self) -> Option<impl Iterator<Item = &str>> {
        match &self.codec {
            Codec::Char(table) | Codec::Word(table) => Some(table.words().iter()),
            Codec::Byte | Codec::Bpe(_) => None,
        }
    }

    /// The char or word tokenizer whose [`Self::words`] these are.
    ///
    /// # Errors
    /// Another kind, words that do not start with the special tokens, that are not all different, not one character
    /// where they should be, or too many.
    pub fn from_words<'a>(
        kind: TokenizerKind,
        unit: Unit,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        let words = words.into_iter().map(str::as_bytes);
        let tokenizer = Self::from_stored_words(kind, unit, words)?;
        if let Codec::Char(table) | Codec::Word(table) = &tokenizer.codec
            && let Some(word) = table.first_repeated()
        {
            return Err(json::twice(word));
        }
        Ok(tokenizer)
    }

    /// The byte tokenizer.
    pub fn of_bytes(unit: Unit) -> Self {
        Self { codec: Codec::Byte, unit }
    }

    /// [`Self::from_words`] of words that were written as all different and have a checksum since: an index of them is
    /// not made before it is needed, and never for one short text. A word that is there twice all the same is the first of
    /// the two.
    ///
    /// # Errors
    /// The others of [`Self::from_words`]; bytes that are no UTF-8 text.
    pub fn from_stored_words<'a>(
        kind: TokenizerKind,
        unit: Unit,
        words: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self> {
        Self::of_table(kind, unit, Words::from_bytes(words)?.into())
    }

    pub(super) fn of_table(kind: TokenizerKind, unit: Unit, table: Table) -> Result<Self> {
        let specials = specials(unit);
        if !table.words().iter().take(specials.len()).eq(specials.iter().copied()) {
            return json::refuse(format!("its first tokens are not {}", specials.join(", ")));
        }
        let is_char = kind == TokenizerKind::Char;
        let wrong = |word: &&str| word.is_empty() || is_char && word.chars().nth(1).is_some();
        if let Some(word) = table.words().iter().skip(specials.len()).find(wrong) {
            return json::refuse(format!(
                "{word:?} is not one {}",
                if is_char { "character" } else { "word" }
            ));
        }
        let codec = match kind {
            TokenizerKind::Char => Codec::Char(table),
            TokenizerKind::Word => Codec::Word(table),
            other => return json::refuse(format!("a {other} vocabulary is no list of words")),
        };
        Ok(Self { codec, unit })
    }

    /// The bytes that a token stands for; the name of a special one. Nothing for an id that is none.
    pub fn spelling(&self, id: u32) -> Cow<'_, [u8]> {
        let special =
            [(self.bos(), BOS), (self.eos(), EOS)].into_iter().find(|&(special, _)| special == Some(id));
        if let Some((_, name)) = special {
            return name.as_bytes().into();
        }
        match &self.codec {
            Codec::Byte => u8::try_from(id).into_iter().collect::<Vec<u8>>().into(),
            Codec::Char(table) | Codec::Word(table) => {
                table.words().get(id as usize).unwrap_or_default().as_bytes().into()
            }
            Codec::Bpe(bpe) => bytes::spelling(bpe, id).into(),
        }
    }
}

/// Appends the ids of the words of `text`. The names of special tokens are ordinary, unknown words of a text.
pub(super) fn encode(table: &Table, unit: Unit, text: &str, ids: &mut Vec<u32>) -> Result<()> {
    let padded = [text.as_bytes(), &PAD].concat();
    scan(&padded, |parts| {
        let wanted = parts.iter().filter(|part| unit == Unit::Stream || !part.is_newline());
        ids.extend(wanted.map(|part| {
            let id = table.find(part.key, part.bytes(&padded));
            id.filter(|&id| id as usize >= specials(unit).len()).unwrap_or(0)
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
        let tokenizer = Tokenizer::from_words(TokenizerKind::Word, Unit::Line, words).unwrap();
        assert_eq!(tokenizer.words().unwrap().collect::<Vec<_>>(), words);
        assert_eq!(tokenizer.encode("a b c").unwrap(), [4, 3, 0]);
        assert_eq!([1, 3].map(|id| tokenizer.spelling(id)), [&b"<s>"[..], b"b"]);
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
            let error = Tokenizer::from_words(kind, Unit::Line, wrong.iter().copied());
            assert!(error.is_err(), "{wrong:?}");
        }
        Tokenizer::from_words(TokenizerKind::Char, Unit::Stream, ["<unk>", "é"]).unwrap();
    }

    #[test]
    fn bytes_are_spelt_as_themselves() {
        let tokenizer = Tokenizer { codec: Codec::Byte, unit: Unit::Line };
        assert!(tokenizer.words().is_none());
        assert_eq!(*tokenizer.spelling(0xFF), [0xFF]);
        assert_eq!(*tokenizer.spelling(257), *b"</s>");
        assert!(tokenizer.spelling(258).is_empty());
    }
}
