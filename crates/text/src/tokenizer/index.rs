//! From a word to its id: an open-addressed index over a list of words, so that a look-up allocates nothing.

use rayon::prelude::*;

use super::arena::Words;
use super::key::{BATCH, Key, SHORT, fold};

/// Which keys may be in a set: a bit for each of 2²⁰ hashes, 128 KiB.
pub(crate) struct Hashes(Vec<u64>);

impl Default for Hashes {
    fn default() -> Self {
        Self(vec![0; 1 << 14])
    }
}

impl Hashes {
    fn place(key: Key) -> (usize, u64) {
        let hash = fold(key.bits) >> 44;
        ((hash >> 6) as usize, 1 << (hash & 63))
    }

    pub(super) fn insert(&mut self, key: Key) {
        let (word, bit) = Self::place(key);
        self.0[word] |= bit;
    }

    /// `false` for a key that was not inserted, but for a few that share their hash with one that was.
    #[inline]
    pub(super) fn may_have(&self, key: Key) -> bool {
        let (word, bit) = Self::place(key);
        self.0[word] & bit != 0
    }
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
    pub(super) fn with_capacity(words: usize) -> Self {
        Self { slots: vec![[0; 2]; (words + words / 2 + 1).next_power_of_two().max(1 << 10)] }
    }

    /// The index of `words`, or the id of one that stood there before. Two threads share the work where it is much: each
    /// fills a part of the index.
    pub(super) fn of(words: &Words) -> Result<Self, usize> {
        let mut index = Self::with_capacity(words.len());
        let parts = if words.len() < 1 << 14 { 1 } else { 2 };
        let len = index.slots.len() / parts;
        let shift = 64 - index.slots.len().trailing_zeros();
        let shares = index.slots.par_chunks_mut(len).enumerate();
        let filled: Vec<_> = shares.map(|(part, slots)| fill(slots, part * len, shift, words)).collect();
        let mut again: Vec<usize> = filled.iter().filter_map(|(_, again)| *again).collect();
        // What ran over the end of its part.
        for id in filled.into_iter().flat_map(|(over, _)| over) {
            let word = words.get(id).unwrap_or_default().as_bytes();
            let key = Key::of(word);
            if index.find(words, key, || word).is_some() {
                again.push(id);
            } else {
                index.add(key, id as u32);
            }
        }
        again.into_iter().min().map_or(Ok(index), Err)
    }

    /// The index of `words`, where a word that is there again has the id of the first.
    pub(super) fn of_first(words: &Words) -> Self {
        let mut index = Self::with_capacity(words.len());
        for (id, (key, word)) in words.keyed_from(0).enumerate() {
            if index.find(words, key, || word).is_none() {
                index.add(key, id as u32);
            }
        }
        index
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
    pub(super) fn find<'a>(&self, words: &Words, key: Key, word: impl Fn() -> &'a [u8]) -> Option<u32> {
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

    /// The slots where the searches for `keys` begin: loads that do not wait for each other.
    #[inline]
    pub(super) fn first_slots(&self, keys: impl Iterator<Item = Key>) -> Slots {
        let mut slots = Slots([EMPTY; BATCH + 2]);
        for (slot, key) in slots.0.iter_mut().zip(keys) {
            *slot = Slot::unpack(self.slots[self.start(key.bits)]);
        }
        slots
    }

    /// [`Self::find`] of part `n` of a batch; words may have been added since its slots were taken.
    #[inline]
    pub(super) fn find_from(
        &self,
        words: &Words,
        slots: &Slots,
        n: usize,
        key: Key,
        word: &[u8],
    ) -> Option<u32> {
        if Self::holds(slots.0[n], words, key, || word) {
            Some(slots.0[n].id)
        } else {
            self.find(words, key, || word)
        }
    }

    /// Every word's key and id, in the order of their hashes.
    pub(super) fn entries<'a>(&'a self, words: &'a Words) -> impl Iterator<Item = (Key, u32)> + 'a {
        self.slots.iter().filter(|slot| **slot != [0; 2]).map(|slot| {
            let Slot { bits, len, id } = Slot::unpack(*slot);
            // A length that its slot could not hold.
            let long = || words.get(id as usize).unwrap_or_default().len();
            (Key { bits, len: if len == u32::MAX { long() } else { len as usize } }, id)
        })
    }

    /// Adds a word that is not there yet.
    pub(super) fn add(&mut self, key: Key, id: u32) {
        self.insert(Slot::new(key, id));
    }

    fn insert(&mut self, slot: Slot) {
        let mut at = self.start(slot.bits);
        while self.slots[at] != [0; 2] {
            at = self.after(at);
        }
        self.slots[at] = slot.pack();
    }

    /// Makes room for one more than `words`.
    pub(super) fn make_room(&mut self, words: usize) {
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
