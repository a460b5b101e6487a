//! Strings in one allocation.

use std::ops::Range;

use super::MAX_VOCABULARY;
use super::key::Key;
use crate::error::{Error, Result};
use surprisal_platform::prefetch::prefetch;

/// Strings by id, concatenated.
#[derive(Debug, Clone, Default)]
pub(crate) struct StringArena {
    text: String,
    ends: Vec<u32>,
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

    /// Prefetches the end of word `id`.
    #[inline]
    pub(super) fn prefetch_end(&self, id: usize) {
        prefetch(&self.ends, id);
    }

    /// Prefetches the bytes of word `id`.
    #[inline]
    pub(super) fn prefetch_word(&self, id: usize) {
        if let Some(range) = self.range(id) {
            prefetch(self.text.as_bytes(), range.start);
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: usize) -> Option<&str> {
        self.text.get(self.range(id)?)
    }

    /// The bytes of word `id`.
    #[inline]
    pub(super) fn get_bytes(&self, id: usize) -> Option<&[u8]> {
        self.text.as_bytes().get(self.range(id)?)
    }

    #[inline]
    fn range(&self, id: usize) -> Option<Range<usize>> {
        let end = *self.ends.get(id)? as usize;
        Some(if id == 0 { 0 } else { self.ends[id - 1] as usize }..end)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|id| self.get(id))
    }

    /// The lookup key of word `id`.
    #[inline]
    pub(crate) fn key(&self, id: usize) -> Option<Key> {
        Some(Key::at(self.text.as_bytes(), self.range(id)?))
    }

    /// All words with their keys.
    pub(crate) fn keyed(&self) -> impl Iterator<Item = (Key, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let word = std::mem::replace(&mut start, end as usize)..end as usize;
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
            ends.push(offset(bytes.len())?);
        }
        match String::from_utf8(bytes) {
            Ok(text) if ends.iter().all(|&end| text.is_char_boundary(end as usize)) => {
                Ok(Self { text, ends })
            }
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
        let end = offset(self.text.len() + word.len())?;
        self.text.push_str(word);
        self.ends.push(end);
        Ok(id as u32)
    }
}

/// A position in the bytes of all words.
#[inline]
fn offset(bytes: usize) -> Result<u32> {
    u32::try_from(bytes).map_err(|_| Error::Tokenizer("its words have more than 4 GiB together".into()))
}
