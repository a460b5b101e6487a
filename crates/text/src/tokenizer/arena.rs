//! Strings in one allocation.

use super::MAX_VOCABULARY;
use super::key::Key;
use crate::error::{Error, Result};

/// Strings by id, concatenated.
#[derive(Debug, Clone, Default)]
pub(crate) struct StringArena {
    text: String,
    ends: Vec<usize>,
}

impl StringArena {
    pub(crate) fn with_capacity(words: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(words) }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn num_bytes(&self) -> usize {
        self.text.len()
    }

    #[inline]
    pub(crate) fn get(&self, id: usize) -> Option<&str> {
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        self.text.get(start..end)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|id| self.get(id))
    }

    /// The lookup key of word `id`.
    #[inline]
    pub(crate) fn key(&self, id: usize) -> Option<Key> {
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(Key::at(self.text.as_bytes(), start..end))
    }

    /// All words with their keys.
    pub(crate) fn keyed(&self) -> impl Iterator<Item = (Key, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let word = std::mem::replace(&mut start, end)..end;
            (Key::at(self.text.as_bytes(), word.clone()), &self.text[word])
        })
    }

    /// The strings of a list of bytes, checked to be UTF-8 all at once.
    ///
    /// # Errors
    /// More than [`MAX_VOCABULARY`] words; a word that is not UTF-8.
    pub(crate) fn from_bytes<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Self> {
        let count = words.size_hint().0.min(MAX_VOCABULARY);
        // Pages of the capacity that are not used are never faulted in.
        let (mut bytes, mut ends) = (Vec::with_capacity(16 * count), Vec::with_capacity(count));
        for word in words {
            if ends.len() >= MAX_VOCABULARY {
                return Err(Error::VocabularyTooLarge { size: ends.len() + 1, limit: MAX_VOCABULARY });
            }
            bytes.extend_from_slice(word);
            ends.push(bytes.len());
        }
        match String::from_utf8(bytes) {
            Ok(text) if ends.iter().all(|&end| text.is_char_boundary(end)) => Ok(Self { text, ends }),
            _ => Err(Error::Tokenizer("one of its words is not UTF-8".into())),
        }
    }

    /// # Errors
    /// More than [`MAX_VOCABULARY`] words.
    #[inline]
    pub(crate) fn push(&mut self, word: &str) -> Result<u32> {
        let id = self.len();
        if id >= MAX_VOCABULARY {
            return Err(Error::VocabularyTooLarge { size: id + 1, limit: MAX_VOCABULARY });
        }
        self.text.push_str(word);
        self.ends.push(self.text.len());
        Ok(id as u32)
    }
}
