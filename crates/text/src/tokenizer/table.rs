//! Strings and their ids: a byte arena and an open-addressed index, so that a look-up allocates nothing and a
//! vocabulary of millions of words is three allocations.

use std::sync::{Mutex, OnceLock};

use super::scan::{BATCH, Part};
use super::{BOS, EOS, MAX_VOCABULARY, UNK};
use crate::Unit;
use crate::error::{Error, Result};
use crate::workers::{lock, on_threads};

/// How many ids the special tokens of a table take.
pub(crate) fn specials(unit: Unit) -> u32 {
    match unit {
        Unit::Stream => 1,
        Unit::Line => 3,
    }
}

/// Strings by number, one behind the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words {
    text: String,
    ends: Vec<usize>,
}

impl Words {
    pub(crate) fn with_capacity(words: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(words) }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all of them together.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn get(&self, id: usize) -> Option<&str> {
        let end = *self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        self.text.get(start..end)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|id| self.get(id))
    }

    /// # Errors
    /// More than [`MAX_VOCABULARY`].
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

/// What a word is looked up by: its own bytes if it has eight or fewer (zeros behind them), otherwise a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) bits: u64,
    /// Of the word, in bytes.
    pub(crate) len: usize,
}

/// Words up to this long are their own key.
const SHORT: usize = 8;

impl Key {
    pub(crate) fn of(word: &[u8]) -> Self {
        let part = |bytes: &[u8]| {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(eight)
        };
        if word.len() <= SHORT {
            return Self { bits: part(word), len: word.len() };
        }
        let mut chunks = word.chunks_exact(8);
        let mut bits = word.len() as u64;
        for chunk in &mut chunks {
            bits = fold(bits ^ part(chunk));
        }
        Self { bits: fold(bits ^ part(chunks.remainder())), len: word.len() }
    }

    /// The length as slots hold it.
    fn short_len(self) -> u32 {
        u32::try_from(self.len).unwrap_or(u32::MAX)
    }
}

/// Both halves of a product with the golden ratio's digits: every bit of `x` reaches every bit of the hash.
#[inline]
fn fold(x: u64) -> u64 {
    let product = u128::from(x ^ 0x243F_6A88_85A3_08D3) * u128::from(0x9E37_79B9_7F4A_7C15_u64);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A key and its id.
#[derive(Debug, Clone, Copy)]
struct Slot {
    bits: u64,
    /// At most `u32::MAX`.
    len: u32,
    id: u32,
}

const EMPTY: Slot = Slot { bits: 0, len: 0, id: u32::MAX };

impl Slot {
    fn new(key: Key, id: u32) -> Self {
        Self { bits: key.bits, len: key.short_len(), id }
    }

    /// As the index holds it, four to a cache line: an empty one is all zeros, which new memory is without being touched.
    fn pack(self) -> [u64; 2] {
        [self.bits, u64::from(self.len) << 32 | u64::from(self.id.wrapping_add(1))]
    }

    #[inline]
    fn unpack([bits, rest]: [u64; 2]) -> Self {
        Self { bits, len: (rest >> 32) as u32, id: (rest as u32).wrapping_sub(1) }
    }
}

/// A batch of slots.
pub(crate) struct Slots([Slot; BATCH + 2]);

/// The ids of [`Words`], by word: linear probing, at most two thirds full.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    slots: Vec<[u64; 2]>,
}

impl Default for Index {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Index {
    /// Room for `words` words.
    fn with_capacity(words: usize) -> Self {
        Self { slots: vec![[0; 2]; (words + words / 2 + 1).next_power_of_two().max(1 << 10)] }
    }

    /// The index of `words`, or the id of one that stood there before. Two threads share the work where it is much: each
    /// fills a part of the index.
    fn of(words: &Words) -> std::result::Result<Self, usize> {
        let mut index = Self::with_capacity(words.len());
        let parts = if words.len() < 1 << 14 { 1 } else { 2 };
        let len = index.slots.len() / parts;
        let shift = 64 - index.slots.len().trailing_zeros();
        let shares = Mutex::new(index.slots.chunks_mut(len).enumerate());
        let filled = on_threads(parts, |_| {
            let share = lock(&shares).next();
            share.map_or_else(|| (Vec::new(), None), |(part, slots)| fill(slots, part * len, shift, words))
        });
        let mut again: Vec<usize> = filled.iter().filter_map(|(_, again)| *again).collect();
        // What ran over the end of its part.
        for id in filled.into_iter().flat_map(|(over, _)| over) {
            let word = words.get(id).unwrap_or_default().as_bytes();
            let key = Key::of(word);
            if index.find(words, key, || word).is_some() {
                again.push(id);
            } else {
                index.insert(Slot::new(key, id as u32));
            }
        }
        again.into_iter().min().map_or(Ok(index), Err)
    }

    /// Where the search for a key begins: words lie in the order of their hashes, whatever the size of the index.
    #[inline]
    fn start(&self, bits: u64) -> usize {
        (fold(bits) >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    /// Whether `slot` holds the word.
    #[inline]
    fn holds<'a>(slot: Slot, words: &Words, key: Key, word: impl Fn() -> &'a [u8]) -> bool {
        slot.bits == key.bits
            && slot.len == key.short_len()
            && slot.id != EMPTY.id
            && (key.len <= SHORT || words.get(slot.id as usize).is_some_and(|w| w.as_bytes() == word()))
    }

    #[inline]
    fn find<'a>(&self, words: &Words, key: Key, word: impl Fn() -> &'a [u8]) -> Option<u32> {
        let mut at = self.start(key.bits);
        loop {
            let slot = Slot::unpack(self.slots[at]);
            if Self::holds(slot, words, key, &word) {
                return Some(slot.id);
            }
            if slot.id == EMPTY.id {
                return None;
            }
            at = self.after(at);
        }
    }

    /// The slots where the searches for `parts` begin: loads that do not wait for each other.
    #[inline]
    fn first_slots(&self, parts: &[Part]) -> Slots {
        let mut slots = Slots([EMPTY; BATCH + 2]);
        for (slot, part) in slots.0.iter_mut().zip(parts) {
            *slot = Slot::unpack(self.slots[self.start(part.key.bits)]);
        }
        slots
    }

    /// Adds what is not there yet.
    fn insert(&mut self, slot: Slot) {
        let mut at = self.start(slot.bits);
        while self.slots[at] != [0; 2] {
            at = self.after(at);
        }
        self.slots[at] = slot.pack();
    }

    /// Makes room for one more than `words`.
    fn make_room(&mut self, words: usize) {
        if (words + 1) * 3 > self.slots.len() * 2 {
            let bigger = Self { slots: vec![[0; 2]; self.slots.len() * 2] };
            for slot in std::mem::replace(self, bigger).slots {
                if slot != [0; 2] {
                    self.insert(Slot::unpack(slot));
                }
            }
        }
    }
}

/// Puts those of `words` into `slots`, a part of an index from place `first` on, whose searches begin there. Gives the ids
/// of those that run over its end, and the first that stands there already.
fn fill(slots: &mut [[u64; 2]], first: usize, shift: u32, words: &Words) -> (Vec<usize>, Option<usize>) {
    let len = slots.len();
    let mut over = Vec::new();
    let mut again = None;
    let mut batch: Vec<(usize, Key, usize)> = Vec::with_capacity(BATCH);
    let mut put = |batch: &mut Vec<(usize, Key, usize)>| {
        // Waiting for all their memory at once.
        std::hint::black_box(batch.iter().fold(0, |all, &(at, ..)| all | slots[at][1]));
        for (mut at, key, id) in batch.drain(..) {
            loop {
                let Some(slot) = slots.get_mut(at) else {
                    over.push(id);
                    break;
                };
                if *slot == [0; 2] {
                    *slot = Slot::new(key, id as u32).pack();
                    break;
                }
                let word = || words.get(id).unwrap_or_default().as_bytes();
                if Index::holds(Slot::unpack(*slot), words, key, word) {
                    again = again.or(Some(id));
                    break;
                }
                at += 1;
            }
        }
    };
    for (id, word) in words.iter().enumerate() {
        let key = Key::of(word.as_bytes());
        let start = (fold(key.bits) >> shift) as usize;
        if (first..first + len).contains(&start) {
            batch.push((start - first, key, id));
            if batch.len() == BATCH {
                put(&mut batch);
            }
        }
    }
    put(&mut batch);
    (over, again)
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
        let mut interner = Self { words: Words::with_capacity(words, 0), index: Index::with_capacity(words) };
        for name in &[UNK, BOS, EOS][..specials(unit) as usize] {
            interner.add(name)?;
        }
        Ok(interner)
    }

    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    #[inline]
    pub(crate) fn find(&self, key: Key, word: &[u8]) -> Option<u32> {
        self.index.find(&self.words, key, || word)
    }

    /// Where to begin to look for `parts`, for [`Self::find_from`].
    #[inline]
    pub(crate) fn first_slots(&self, parts: &[Part]) -> Slots {
        self.index.first_slots(parts)
    }

    /// [`Self::find`] of part `n` of a batch; words may have been added since its slots were taken.
    #[inline]
    pub(crate) fn find_from(&self, slots: &Slots, n: usize, key: Key, word: &[u8]) -> Option<u32> {
        if Index::holds(slots.0[n], &self.words, key, || word) {
            Some(slots.0[n].id)
        } else {
            self.find(key, word)
        }
    }

    /// Calls `take` with the ids, here and there, of every word that `other` has, too. Both are walked in the order of
    /// hashes, so that nearly all of memory is read in order.
    pub(crate) fn common(&self, other: &Self, mut take: impl FnMut(u32, u32)) {
        for slot in self.index.slots.iter().filter(|slot| **slot != [0; 2]).map(|slot| Slot::unpack(*slot)) {
            let word = || self.words.get(slot.id as usize).unwrap_or_default().as_bytes();
            let len = if slot.len == u32::MAX { word().len() } else { slot.len as usize };
            if let Some(id) = other.index.find(&other.words, Key { bits: slot.bits, len }, word) {
                take(slot.id, id);
            }
        }
    }

    /// Adds a word that [`Self::find`] did not find.
    #[cold]
    pub(crate) fn insert(&mut self, key: Key, word: &str) -> Result<u32> {
        self.index.make_room(self.words.len());
        let id = self.words.push(word)?;
        self.index.insert(Slot::new(key, id));
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
        self.index.get_or_init(|| Index::of(&self.words).unwrap_or_default())
    }

    #[inline]
    pub(crate) fn find(&self, key: Key, word: &[u8]) -> Option<u32> {
        self.index().find(&self.words, key, || word)
    }

    /// Where to begin to look for `parts`, for [`Self::find_from`].
    #[inline]
    pub(crate) fn first_slots(&self, parts: &[Part]) -> Slots {
        self.index().first_slots(parts)
    }

    /// [`Self::find`] of part `n` of a batch.
    #[inline]
    pub(crate) fn find_from(&self, slots: &Slots, n: usize, key: Key, word: &[u8]) -> Option<u32> {
        if Index::holds(slots.0[n], &self.words, key, || word) {
            Some(slots.0[n].id)
        } else {
            self.find(key, word)
        }
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
