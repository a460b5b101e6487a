//! Strings and their ids: a byte arena and an index over it, so that a vocabulary of millions of words is three
//! allocations, and a look-up allocates nothing.

use std::sync::OnceLock;

use surprisal_platform::prefetch::prefetch;

use super::arena::Words;
use super::key::{BATCH, Key, SHORT, fold};
use super::{BOS, EOS, MAX_VOCABULARY, UNK};
use crate::Unit;
use crate::error::Result;

/// The special tokens of a table, whose ids come first.
pub(crate) fn specials(unit: Unit) -> &'static [&'static str] {
    match unit {
        Unit::Stream => &[UNK],
        Unit::Line => &[UNK, BOS, EOS],
    }
}

/// A vocabulary.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    words: Words,
    /// Made when something is looked up for the first time.
    index: OnceLock<Index>,
}

impl Table {
    /// One with the special tokens, and room for `words` words.
    pub(crate) fn new(unit: Unit, words: usize) -> Result<Self> {
        let room = words.min(MAX_VOCABULARY);
        let index = OnceLock::from(Index::with_capacity(room));
        let mut table = Self { words: Words::with_capacity(room, 8 * room), index };
        for name in specials(unit) {
            table.add(name)?;
        }
        Ok(table)
    }

    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    /// Whether looking a word up would make the index first.
    pub(crate) fn is_indexed(&self) -> bool {
        self.index.get().is_some()
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of(&self.words).0)
    }

    /// The first word that was there before.
    pub(crate) fn first_repeated(&self) -> Option<&str> {
        let (index, again) = Index::of(&self.words);
        self.index.get_or_init(|| index);
        again.and_then(|id| self.words.get(id))
    }

    /// Has the memory fetched that [`Self::find`] will look at: looking up a word is waiting for it, and looking up those that
    /// are on their way is waiting once.
    #[inline]
    pub(crate) fn prefetch(&self, keys: impl Iterator<Item = Key>) {
        let index = self.index();
        keys.for_each(|key| index.prefetch(key));
    }

    #[inline]
    pub(crate) fn find(&self, key: Key, word: &[u8]) -> Option<u32> {
        self.index().find(&self.words, key, word)
    }

    /// Adds a word that [`Self::find`] did not find.
    #[cold]
    pub(crate) fn insert(&mut self, key: Key, word: &str) -> Result<u32> {
        let id = self.words.push(word)?;
        if let Some(index) = self.index.get_mut() {
            index.add(key, id);
        }
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

/// Ids of words: known ones, or new ones as well.
pub(crate) trait Vocabulary {
    fn table(&self) -> &Table;

    /// The id of a word, the piece's token number `at`, if it has one.
    fn id(&mut self, key: Key, word: &[u8], at: usize) -> Result<Option<u32>>;
}

impl Vocabulary for &Table {
    fn table(&self) -> &Table {
        self
    }

    #[inline]
    fn id(&mut self, key: Key, word: &[u8], _: usize) -> Result<Option<u32>> {
        Ok(self.find(key, word))
    }
}

/// Of words that are all different.
impl From<Words> for Table {
    fn from(words: Words) -> Self {
        Self { words, index: OnceLock::new() }
    }
}

/// The ids of [`Words`], by word: linear probing, at most two thirds full.
#[derive(Debug, Clone)]
struct Index {
    slots: Vec<Slot>,
}

/// The bits of a word's key, its length, and one more than its id. Without a word all is zero, as new memory is without being
/// touched.
type Slot = [u64; 2];

fn slot(key: Key, id: u32) -> Slot {
    [key.bits, length(key) << 32 | u64::from(id + 1)]
}

/// As slots hold it, in 32 bits.
fn length(key: Key) -> u64 {
    key.len.min(u32::MAX as usize) as u64
}

impl Index {
    /// Room for `words` words.
    fn with_capacity(words: usize) -> Self {
        Self { slots: vec![[0; 2]; (words + words / 2 + 1).next_power_of_two().max(1 << 10)] }
    }

    /// The index of `words`, where a word that is there again has the id of the first; and the first id of such a word.
    fn of(words: &Words) -> (Self, Option<usize>) {
        let mut index = Self::with_capacity(words.len());
        let mut again = None;
        let mut ahead = words.keyed().skip(BATCH);
        for (id, (key, word)) in words.keyed().enumerate() {
            if let Some((key, _)) = ahead.next() {
                index.prefetch(key);
            }
            if index.find(words, key, word.as_bytes()).is_none() {
                index.put(slot(key, id as u32));
            } else {
                again = again.or(Some(id));
            }
        }
        (index, again)
    }

    /// Where the search for a key begins.
    #[inline]
    fn start(&self, bits: u64) -> usize {
        (fold(bits) >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    #[inline]
    fn prefetch(&self, key: Key) {
        prefetch(&self.slots, self.start(key.bits));
    }

    #[inline]
    fn find(&self, words: &Words, key: Key, word: &[u8]) -> Option<u32> {
        let mut at = self.start(key.bits);
        loop {
            let [bits, rest] = self.slots[at];
            let id = (rest as u32).checked_sub(1)?;
            if bits == key.bits
                && rest >> 32 == length(key)
                && (key.len <= SHORT || words.get(id as usize).is_some_and(|other| other.as_bytes() == word))
            {
                return Some(id);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Adds a word that is not there yet, of which there are now `id` + 1.
    fn add(&mut self, key: Key, id: u32) {
        if (id as usize + 1) * 3 > self.slots.len() * 2 {
            let bigger = Self { slots: vec![[0; 2]; self.slots.len() * 2] };
            for slot in std::mem::replace(self, bigger).slots.into_iter().filter(|slot| *slot != [0; 2]) {
                self.put(slot);
            }
        }
        self.put(slot(key, id));
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.start(slot[0]);
        while self.slots[at] != [0; 2] {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_are_those_of_first_appearance(words in proptest::collection::vec("[ab]{0,3}|[a-c]{7,9}|é{3,20}", 0..300)) {
            let mut table = Table::new(Unit::Line, 0).unwrap();
            let mut expected: Vec<String> = [UNK, BOS, EOS].map(str::to_owned).into();
            for word in &words {
                let known = expected.iter().position(|w| w == word);
                let id = known.unwrap_or(expected.len());
                prop_assert_eq!(table.add(word).unwrap(), (id as u32, known.is_none()));
                if known.is_none() {
                    expected.push(word.clone());
                }
            }
            prop_assert_eq!(table.words().iter().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
            let rebuilt = Table::from(table.words().clone());
            for (id, word) in expected.iter().enumerate() {
                let key = Key::of(word.as_bytes());
                prop_assert_eq!(rebuilt.find(key, word.as_bytes()), Some(id as u32));
                prop_assert_eq!(table.find(key, word.as_bytes()), Some(id as u32));
            }
            prop_assert_eq!(rebuilt.find(Key::of(b"unheard of"), b"unheard of"), None);
        }
    }

    #[test]
    fn an_index_has_all_words_and_finds_one_that_is_there_twice() {
        let spell =
            |n: u32| if n.is_multiple_of(3) { format!("a longer word, {n}") } else { format!("w{n}") };
        let mut words = Words::default();
        for n in 0..50_000 {
            words.push(&spell(n)).unwrap();
        }
        let table = Table::from(words.clone());
        for n in 0..50_000 {
            let word = spell(n);
            assert_eq!(table.find(Key::of(word.as_bytes()), word.as_bytes()), Some(n));
        }
        words.push(&spell(49_999)).unwrap();
        words.push(&spell(3)).unwrap();
        assert_eq!(Table::from(words).first_repeated(), Some(spell(49_999).as_str()));
    }

    #[test]
    fn an_index_grows_without_losing_words() {
        let mut table = Table::new(Unit::Stream, 0).unwrap();
        for n in 0..20_000 {
            assert_eq!(table.add(&format!("w{n}")).unwrap(), (2 * n + 1, true));
            assert_eq!(table.add(&format!("a longer word, {n}")).unwrap(), (2 * n + 2, true));
        }
        for n in 0..20_000 {
            assert_eq!(table.add(&format!("w{n}")).unwrap(), (2 * n + 1, false));
            assert_eq!(table.add(&format!("a longer word, {n}")).unwrap(), (2 * n + 2, false));
        }
    }
}
