//! Strings and their ids: a string arena with a hash index, so that a vocabulary of millions of
//! words has three allocations and a lookup allocates nothing.

use std::sync::OnceLock;

use surprisal_platform::prefetch::prefetch;

use super::arena::StringArena;
use super::key::{Key, LOOKUP_BATCH, MAX_INLINE, fold};
use super::{BOS, EOS, MAX_VOCABULARY, UNK};
use crate::TextMode;
use crate::error::{Error, Result};

/// The names of the special tokens, which have the first ids of a [`Vocab`].
pub(crate) fn special_tokens(mode: TextMode) -> &'static [&'static str] {
    match mode {
        TextMode::Stream => &[UNK],
        TextMode::Line => &[UNK, BOS, EOS],
        TextMode::Document => &[UNK, EOS],
    }
}

/// A vocabulary of strings.
#[derive(Debug, Clone, Default)]
pub struct Vocab {
    words: StringArena,
    /// Built at the first lookup.
    index: OnceLock<HashIndex>,
    /// Whether the index takes less memory and more time.
    is_compact: bool,
}

impl Vocab {
    /// The special tokens alone, with a capacity for `words` words.
    pub(crate) fn new(mode: TextMode, words: usize) -> Result<Self> {
        let room = words.min(MAX_VOCABULARY);
        let index = OnceLock::from(HashIndex::with_capacity(room, false));
        let words = StringArena::with_capacity(room, 8 * room);
        Self { words, index, is_compact: false }.with_special_tokens(mode)
    }

    /// The special tokens alone, with an index that takes less memory and more time.
    pub(crate) fn compact(mode: TextMode) -> Result<Self> {
        Self { is_compact: true, ..Self::default() }.with_special_tokens(mode)
    }

    fn with_special_tokens(mut self, mode: TextMode) -> Result<Self> {
        for name in special_tokens(mode) {
            self.add(name)?;
        }
        Ok(self)
    }

    /// The memory in bytes, with the index.
    pub(crate) fn memory(&self) -> u64 {
        let (words, bytes) = (self.words.len(), self.words.num_bytes() as u64);
        let compact = Self::compact_memory(words as u64, bytes);
        if self.is_compact { compact } else { compact + 12 * HashIndex::slots_for(words) as u64 }
    }

    /// The memory of a compact vocabulary of `words` words of `bytes` bytes together.
    pub(crate) fn compact_memory(words: u64, bytes: u64) -> u64 {
        bytes + 4 * words + 4 * HashIndex::slots_for(words as usize) as u64
    }

    pub(crate) fn words(&self) -> &StringArena {
        &self.words
    }

    /// Whether the index has been built.
    pub(crate) fn is_indexed(&self) -> bool {
        self.index.get().is_some()
    }

    fn index(&self) -> &HashIndex {
        self.index.get_or_init(|| HashIndex::from_arena(&self.words, self.is_compact).0)
    }

    /// The first word that occurs a second time.
    pub(crate) fn first_duplicate(&self) -> Option<&str> {
        let (index, again) = HashIndex::from_arena(&self.words, self.is_compact);
        self.index.get_or_init(|| index);
        again.and_then(|id| self.words.get(id))
    }

    /// The first word after the special tokens that is not `valid`.
    ///
    /// # Errors
    /// Words that do not start with the special tokens.
    pub(super) fn first_invalid(&self, mode: TextMode, valid: impl Fn(&str) -> bool) -> Result<Option<&str>> {
        let names = special_tokens(mode);
        if !self.words.iter().take(names.len()).eq(names.iter().copied()) {
            return Err(Error::Tokenizer(format!("its first tokens are not {}", names.join(", "))));
        }
        Ok(self.words.iter().skip(names.len()).find(|word| !valid(word)))
    }

    /// The words that are `kept`, among them the first, and for each word its new id, or 0.
    pub(crate) fn restricted(mut self, kept: &[bool]) -> Result<(Self, Vec<u32>)> {
        self.index.take();
        let mut words = StringArena::default();
        let of = |(word, &kept): (&str, &bool)| if kept { words.push(word) } else { Ok(0) };
        let map = self.words.iter().zip(kept).map(of).collect::<Result<_>>()?;
        Ok((Self { words, is_compact: self.is_compact, ..Self::default() }, map))
    }

    /// Prefetches the index slots for [`Self::find`] of many words, to overlap their cache misses.
    #[inline]
    pub(crate) fn prefetch(&self, keys: impl Iterator<Item = Key> + Clone) {
        let index = self.index();
        keys.clone().for_each(|key| index.prefetch(key));
        if self.is_compact {
            index.prefetch_words(&self.words, keys);
        }
    }

    #[inline]
    pub(crate) fn find(&self, key: Key, word: &[u8]) -> Option<u32> {
        self.index().find(&self.words, key, word)
    }

    /// Adds a word that [`Self::find`] does not find.
    #[cold]
    pub(crate) fn insert(&mut self, key: Key, word: &str) -> Result<u32> {
        let id = self.words.push(word)?;
        if let Some(index) = self.index.get_mut() {
            index.add(&self.words, key, id);
        }
        Ok(id)
    }

    /// The id of a word, which is added if it is new, and whether it was added.
    pub(crate) fn add(&mut self, word: &str) -> Result<(u32, bool)> {
        let key = Key::new(word.as_bytes());
        match self.find(key, word.as_bytes()) {
            Some(id) => Ok((id, false)),
            None => Ok((self.insert(key, word)?, true)),
        }
    }
}

/// A lookup of word ids, which may add new words.
pub(crate) trait VocabLookup {
    /// Prefetches what [`Self::id`] reads for many words.
    fn prefetch(&mut self, keys: impl Iterator<Item = Key> + Clone);

    /// The id of a word if it has one; `at` is the position of its token in the chunk.
    fn id(&mut self, key: Key, word: &[u8], at: usize) -> Result<Option<u32>>;
}

impl VocabLookup for &Vocab {
    #[inline]
    fn prefetch(&mut self, keys: impl Iterator<Item = Key> + Clone) {
        Vocab::prefetch(self, keys);
    }

    #[inline]
    fn id(&mut self, key: Key, word: &[u8], _: usize) -> Result<Option<u32>> {
        Ok(self.find(key, word))
    }
}

/// The words must be distinct.
impl From<StringArena> for Vocab {
    fn from(words: StringArena) -> Self {
        Self { words, ..Self::default() }
    }
}

/// A hash index over a [`StringArena`]: linear probing, load at most 2/3.
#[derive(Debug, Clone)]
struct HashIndex {
    /// Slots with the keys, of 16 bytes.
    wide: Vec<Slot>,
    /// Slots of 4 bytes instead, each with a tag of 8 bits and an id; the words are compared.
    compact: Vec<u32>,
}

/// The bits of a word's key; then its length << 32 | its id + 1. An empty slot is zero, like memory
/// that has never been written.
type Slot = [u64; 2];

fn slot(key: Key, id: u32) -> Slot {
    [key.bits, length(key) << 32 | u64::from(id + 1)]
}

/// The length as stored in a slot, in 32 bits.
fn length(key: Key) -> u64 {
    key.len.min(u32::MAX as usize) as u64
}

/// The bits of an id in a compact slot.
const ID_BITS: u32 = MAX_VOCABULARY.trailing_zeros();

/// The tag of a compact slot, which is never empty; other bits than those of its place.
#[inline]
fn tag(hash: u64) -> u32 {
    (hash as u32 & 0xFF).max(1)
}

impl HashIndex {
    /// The number of slots for `words` words.
    fn slots_for(words: usize) -> usize {
        (words + words / 2 + 1).next_power_of_two().max(1 << 10)
    }

    /// An empty index with a capacity for `words` words.
    fn with_capacity(words: usize, is_compact: bool) -> Self {
        let slots = Self::slots_for(words);
        if is_compact {
            return Self { wide: Vec::new(), compact: vec![0; slots] };
        }
        Self { wide: vec![[0; 2]; slots], compact: Vec::new() }
    }

    /// The index of `words`, in which a duplicate has the id of its first occurrence, and the id of
    /// the first duplicate.
    fn from_arena(words: &StringArena, is_compact: bool) -> (Self, Option<usize>) {
        let mut index = Self::with_capacity(words.len(), is_compact);
        let mut again = None;
        let mut ahead = words.keyed().skip(LOOKUP_BATCH);
        for (id, (key, word)) in words.keyed().enumerate() {
            if let Some((key, _)) = ahead.next() {
                index.prefetch(key);
            }
            if index.find(words, key, word.as_bytes()).is_none() {
                index.put(key, id as u32);
            } else {
                again = again.or(Some(id));
            }
        }
        (index, again)
    }

    fn len(&self) -> usize {
        self.wide.len().max(self.compact.len())
    }

    /// The slot of `slots` where the search for a hash starts.
    #[inline]
    fn home_slot(hash: u64, slots: usize) -> usize {
        (hash >> (64 - slots.trailing_zeros())) as usize
    }

    #[inline]
    fn prefetch(&self, key: Key) {
        if self.compact.is_empty() {
            prefetch(&self.wide, Self::home_slot(fold(key.bits), self.wide.len()));
        } else {
            prefetch(&self.compact, Self::home_slot(fold(key.bits), self.compact.len()));
        }
    }

    /// Prefetches the words that compact slots are compared with.
    #[inline]
    fn prefetch_words(&self, words: &StringArena, keys: impl Iterator<Item = Key> + Clone) {
        let slots = &self.compact;
        let ids = keys.filter_map(|key| {
            let hash = fold(key.bits);
            let slot = slots[Self::home_slot(hash, slots.len())];
            (slot >> ID_BITS == tag(hash)).then_some((slot & ((1 << ID_BITS) - 1)) as usize)
        });
        ids.clone().for_each(|id| words.prefetch_end(id));
        ids.for_each(|id| words.prefetch_word(id));
    }

    #[inline]
    fn find(&self, words: &StringArena, key: Key, word: &[u8]) -> Option<u32> {
        if !self.compact.is_empty() {
            return self.find_compact(words, key, word);
        }
        let mut at = Self::home_slot(fold(key.bits), self.wide.len());
        loop {
            let [bits, rest] = self.wide[at];
            let id = (rest as u32).checked_sub(1)?;
            if bits == key.bits
                && rest >> 32 == length(key)
                && (key.len <= MAX_INLINE
                    || words.get(id as usize).is_some_and(|other| other.as_bytes() == word))
            {
                return Some(id);
            }
            at = (at + 1) & (self.wide.len() - 1);
        }
    }

    fn find_compact(&self, words: &StringArena, key: Key, word: &[u8]) -> Option<u32> {
        let hash = fold(key.bits);
        let mut at = Self::home_slot(hash, self.compact.len());
        loop {
            let slot = self.compact[at];
            if slot == 0 {
                return None;
            }
            let id = slot & ((1 << ID_BITS) - 1);
            if slot >> ID_BITS == tag(hash) && words.get_bytes(id as usize) == Some(word) {
                return Some(id);
            }
            at = (at + 1) & (self.compact.len() - 1);
        }
    }

    /// Adds a new word, the last of `words`, with its id.
    fn add(&mut self, words: &StringArena, key: Key, id: u32) {
        if (id as usize + 1) * 3 <= self.len() * 2 {
            return self.put(key, id);
        }
        if !self.compact.is_empty() {
            // The old one is freed first.
            let slots = 2 * self.len();
            self.compact = Vec::new();
            self.compact = vec![0; slots];
            return words.keyed().enumerate().for_each(|(id, (key, _))| self.put(key, id as u32));
        }
        let bigger = vec![[0; 2]; 2 * self.len()];
        for slot in std::mem::replace(&mut self.wide, bigger).into_iter().filter(|slot| *slot != [0; 2]) {
            self.put_slot(slot);
        }
        self.put(key, id);
    }

    fn put(&mut self, key: Key, id: u32) {
        if self.compact.is_empty() {
            return self.put_slot(slot(key, id));
        }
        let hash = fold(key.bits);
        let mut at = Self::home_slot(hash, self.compact.len());
        while self.compact[at] != 0 {
            at = (at + 1) & (self.compact.len() - 1);
        }
        self.compact[at] = tag(hash) << ID_BITS | id;
    }

    fn put_slot(&mut self, slot: Slot) {
        let mut at = Self::home_slot(fold(slot[0]), self.wide.len());
        while self.wide[at] != [0; 2] {
            at = (at + 1) & (self.wide.len() - 1);
        }
        self.wide[at] = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_are_those_of_first_appearance(words in proptest::collection::vec("[ab]{0,3}|[a-c]{7,9}|é{3,20}", 0..300)) {
            let mut vocab = Vocab::new(TextMode::Line, 0).unwrap();
            let mut expected: Vec<String> = [UNK, BOS, EOS].map(str::to_owned).into();
            for word in &words {
                let known = expected.iter().position(|w| w == word);
                let id = known.unwrap_or(expected.len());
                prop_assert_eq!(vocab.add(word).unwrap(), (id as u32, known.is_none()));
                if known.is_none() {
                    expected.push(word.clone());
                }
            }
            prop_assert_eq!(vocab.words().iter().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
            let rebuilt = Vocab::from(vocab.words().clone());
            let mut compact = Vocab::compact(TextMode::Line).unwrap();
            for word in &words {
                compact.add(word).unwrap();
            }
            let again = Vocab { words: vocab.words().clone(), is_compact: true, ..Vocab::default() };
            let all = [&rebuilt, &vocab, &compact, &again];
            for (id, word) in expected.iter().enumerate() {
                let key = Key::new(word.as_bytes());
                prop_assert_eq!(all.map(|vocab| vocab.find(key, word.as_bytes())), [Some(id as u32); 4]);
            }
            prop_assert_eq!(all.map(|vocab| vocab.find(Key::new(b"unheard of"), b"unheard of")), [None; 4]);
        }
    }

    #[test]
    fn an_index_has_all_words_and_finds_one_that_is_there_twice() {
        let spell =
            |n: u32| if n.is_multiple_of(3) { format!("a longer word, {n}") } else { format!("w{n}") };
        let mut words = StringArena::default();
        for n in 0..50_000 {
            words.push(&spell(n)).unwrap();
        }
        let vocab = Vocab::from(words.clone());
        for n in 0..50_000 {
            let word = spell(n);
            assert_eq!(vocab.find(Key::new(word.as_bytes()), word.as_bytes()), Some(n));
        }
        words.push(&spell(49_999)).unwrap();
        words.push(&spell(3)).unwrap();
        assert_eq!(Vocab::from(words).first_duplicate(), Some(spell(49_999).as_str()));
    }

    #[test]
    fn an_index_grows_without_losing_words() {
        let wide = Vocab::new(TextMode::Stream, 0).unwrap();
        for mut vocab in [wide, Vocab::compact(TextMode::Stream).unwrap()] {
            for is_new in [true, false] {
                for n in 0..20_000 {
                    assert_eq!(vocab.add(&format!("w{n}")).unwrap(), (2 * n + 1, is_new));
                    assert_eq!(vocab.add(&format!("a longer word, {n}")).unwrap(), (2 * n + 2, is_new));
                }
            }
        }
    }
}
