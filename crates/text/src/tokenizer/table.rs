//! Strings and their ids: a byte arena and an index over it, so that a vocabulary of millions of words is three
//! allocations.

use std::sync::OnceLock;

use super::arena::Words;
use super::index::{Index, Slots};
use super::key::Key;
use super::scan::Part;
use super::{BOS, EOS, MAX_VOCABULARY, UNK};
use crate::Unit;
use crate::error::Result;

/// How many ids the special tokens of a table take.
pub(crate) fn specials(unit: Unit) -> u32 {
    match unit {
        Unit::Stream => 1,
        Unit::Line => 3,
    }
}

/// A table that words are added to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interner {
    words: Words,
    index: Index,
}

impl Interner {
    /// One with the special tokens.
    pub(crate) fn new(unit: Unit) -> Result<Self> {
        Self::with_room(unit, 0)
    }

    /// One with the special tokens, and room for `words` words.
    pub(crate) fn with_room(unit: Unit, words: usize) -> Result<Self> {
        let words = words.min(MAX_VOCABULARY);
        let mut interner =
            Self { words: Words::with_capacity(words, 8 * words), index: Index::with_capacity(words) };
        for name in &[UNK, BOS, EOS][..specials(unit) as usize] {
            interner.add(name)?;
        }
        Ok(interner)
    }

    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    pub(crate) fn into_words(self) -> Words {
        self.words
    }

    #[inline]
    pub(crate) fn find(&self, key: Key, word: &[u8]) -> Option<u32> {
        self.index.find(&self.words, key, || word)
    }

    /// Where to begin to look for `parts`, for [`Self::find_from`].
    #[inline]
    pub(crate) fn first_slots(&self, parts: &[Part]) -> Slots {
        self.index.first_slots(parts.iter().map(|part| part.key))
    }

    /// [`Self::find`] of part `n` of a batch; words may have been added since its slots were taken.
    #[inline]
    pub(crate) fn find_from(&self, slots: &Slots, n: usize, key: Key, word: &[u8]) -> Option<u32> {
        self.index.find_from(&self.words, slots, n, key, word)
    }

    /// Every word's key and id, in the order of their hashes.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Key, u32)> {
        self.index.entries(&self.words)
    }

    /// Calls `take` with the ids, here and there, of every word that `other` has, too. Both are walked in the order of
    /// hashes, so that nearly all of memory is read in order.
    pub(crate) fn common(&self, other: &Self, mut take: impl FnMut(u32, u32)) {
        for (key, here) in self.entries() {
            let word = || self.words.get(here as usize).unwrap_or_default().as_bytes();
            if let Some(there) = other.index.find(&other.words, key, word) {
                take(here, there);
            }
        }
    }

    /// Adds a word that [`Self::find`] did not find.
    #[cold]
    pub(crate) fn insert(&mut self, key: Key, word: &str) -> Result<u32> {
        self.index.make_room(self.words.len());
        let id = self.words.push(word)?;
        self.index.add(key, id);
        Ok(id)
    }

    /// The id of a word, added if need be; and whether it was.
    pub(crate) fn add(&mut self, word: &str) -> Result<(u32, bool)> {
        let key = Key::of(word.as_bytes());
        match self.find(key, word.as_bytes()) {
            Some(id) => Ok((id, false)),
            None => Ok((self.insert(key, word)?, true)),
        }
    }
}

/// A finished vocabulary. Its index is made when something is looked up for the first time.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    words: Words,
    index: OnceLock<Index>,
}

impl Table {
    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of(&self.words).unwrap_or_else(|_| Index::of_first(&self.words)))
    }

    /// Whether looking a word up would make the index first.
    pub(crate) fn is_indexed(&self) -> bool {
        self.index.get().is_some()
    }

    #[inline]
    pub(crate) fn find(&self, key: Key, word: &[u8]) -> Option<u32> {
        self.index().find(&self.words, key, || word)
    }

    /// Where to begin to look for `parts`, for [`Self::find_from`].
    #[inline]
    pub(crate) fn first_slots(&self, parts: &[Part]) -> Slots {
        self.index().first_slots(parts.iter().map(|part| part.key))
    }

    /// [`Self::find`] of part `n` of a batch.
    #[inline]
    pub(crate) fn find_from(&self, slots: &Slots, n: usize, key: Key, word: &[u8]) -> Option<u32> {
        self.index().find_from(&self.words, slots, n, key, word)
    }
}

impl Table {
    /// Of words that are all different.
    ///
    /// # Errors
    /// The first word that was there before.
    pub(crate) fn of_different(words: Words) -> std::result::Result<Self, String> {
        match Index::of(&words) {
            Ok(index) => Ok(Self { words, index: OnceLock::from(index) }),
            Err(again) => Err(words.get(again).unwrap_or_default().to_owned()),
        }
    }
}

/// Of words that are all different.
impl From<Words> for Table {
    fn from(words: Words) -> Self {
        Self { words, index: OnceLock::new() }
    }
}

impl From<Interner> for Table {
    fn from(interner: Interner) -> Self {
        Self { words: interner.words, index: OnceLock::from(interner.index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_are_those_of_first_appearance(words in proptest::collection::vec("[ab]{0,3}|[a-c]{7,9}|é{3,20}", 0..300)) {
            let mut interner = Interner::new(Unit::Line).unwrap();
            let mut expected: Vec<String> = [UNK, BOS, EOS].map(str::to_owned).into();
            for word in &words {
                let known = expected.iter().position(|w| w == word);
                let id = known.unwrap_or(expected.len());
                prop_assert_eq!(interner.add(word).unwrap(), (id as u32, known.is_none()));
                if known.is_none() {
                    expected.push(word.clone());
                }
            }
            prop_assert_eq!(interner.words().iter().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
            let rebuilt = Table::of_different(interner.words().clone()).unwrap();
            let kept = Table::from(interner);
            for (id, word) in expected.iter().enumerate() {
                let key = Key::of(word.as_bytes());
                prop_assert_eq!(rebuilt.find(key, word.as_bytes()), Some(id as u32));
                prop_assert_eq!(kept.find(key, word.as_bytes()), Some(id as u32));
            }
            prop_assert_eq!(rebuilt.find(Key::of(b"unheard of"), b"unheard of"), None);
        }
    }

    #[test]
    fn two_threads_index_what_one_would_and_find_a_word_that_is_there_twice() {
        let spell =
            |n: u32| if n.is_multiple_of(3) { format!("a longer word, {n}") } else { format!("w{n}") };
        let mut words = Words::default();
        for n in 0..50_000 {
            words.push(&spell(n)).unwrap();
        }
        let table = Table::of_different(words.clone()).unwrap();
        for n in 0..50_000 {
            let word = spell(n);
            assert_eq!(table.find(Key::of(word.as_bytes()), word.as_bytes()), Some(n));
        }
        words.push(&spell(49_999)).unwrap();
        words.push(&spell(3)).unwrap();
        assert_eq!(Table::of_different(words).unwrap_err(), spell(49_999));
    }

    #[test]
    fn an_index_grows_without_losing_words() {
        let mut interner = Interner::new(Unit::Stream).unwrap();
        for n in 0..20_000 {
            assert_eq!(interner.add(&format!("w{n}")).unwrap(), (2 * n + 1, true));
            assert_eq!(interner.add(&format!("a longer word, {n}")).unwrap(), (2 * n + 2, true));
        }
        for n in 0..20_000 {
            assert_eq!(interner.add(&format!("w{n}")).unwrap(), (2 * n + 1, false));
            assert_eq!(interner.add(&format!("a longer word, {n}")).unwrap(), (2 * n + 2, false));
        }
    }
}
