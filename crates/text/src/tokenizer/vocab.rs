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
}

impl Vocab {
    /// The special tokens alone, with a capacity for `words` words.
    pub(crate) fn new(mode: TextMode, words: usize) -> Result<Self> {
        let room = words.min(MAX_VOCABULARY);
        let index = OnceLock::from(HashIndex::with_capacity(room));
        let mut vocab = Self { words: StringArena::with_capacity(room, 8 * room), index };
        for name in special_tokens(mode) {
            vocab.add(name)?;
        }
        Ok(vocab)
    }

    pub(crate) fn words(&self) -> &StringArena {
        &self.words
    }

    /// Whether the index has been built.
    pub(crate) fn is_indexed(&self) -> bool {
        self.index.get().is_some()
    }

    fn index(&self) -> &HashIndex {
        self.index.get_or_init(|| HashIndex::from_arena(&self.words).0)
    }

    /// The first word that occurs a second time.
    pub(crate) fn first_duplicate(&self) -> Option<&str> {
        let (index, again) = HashIndex::from_arena(&self.words);
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
    pub(crate) fn restricted(&self, kept: &[bool]) -> Result<(Self, Vec<u32>)> {
        let mut words = StringArena::default();
        let of = |(word, &kept): (&str, &bool)| if kept { words.push(word) } else { Ok(0) };
        let map = self.words.iter().zip(kept).map(of).collect::<Result<_>>()?;
        Ok((words.into(), map))
    }

    /// Prefetches the index slots for [`Self::find`] of many words, to overlap their cache misses.
    #[inline]
    pub(crate) fn prefetch(&self, keys: impl Iterator<Item = Key>) {
        let index = self.index();
        keys.for_each(|key| index.prefetch(key));
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
            index.add(key, id);
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
    fn vocab(&self) -> &Vocab;

    /// The id of a word if it has one; `at` is the position of its token in the chunk.
    fn id(&mut self, key: Key, word: &[u8], at: usize) -> Result<Option<u32>>;
}

impl VocabLookup for &Vocab {
    fn vocab(&self) -> &Vocab {
        self
    }

    #[inline]
    fn id(&mut self, key: Key, word: &[u8], _: usize) -> Result<Option<u32>> {
        Ok(self.find(key, word))
    }
}

/// The words must be distinct.
impl From<StringArena> for Vocab {
    fn from(words: StringArena) -> Self {
        Self { words, index: OnceLock::new() }
    }
}

/// A hash index over a [`StringArena`]: linear probing, load at most 2/3.
#[derive(Debug, Clone)]
struct HashIndex {
    slots: Vec<Slot>,
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

impl HashIndex {
    /// An empty index with a capacity for `words` words.
    fn with_capacity(words: usize) -> Self {
        Self { slots: vec![[0; 2]; (words + words / 2 + 1).next_power_of_two().max(1 << 10)] }
    }

    /// The index of `words`, in which a duplicate has the id of its first occurrence, and the id of
    /// the first duplicate.
    fn from_arena(words: &StringArena) -> (Self, Option<usize>) {
        let mut index = Self::with_capacity(words.len());
        let mut again = None;
        let mut ahead = words.keyed().skip(LOOKUP_BATCH);
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

    /// The slot where the search for a key starts.
    #[inline]
    fn home_slot(&self, bits: u64) -> usize {
        (fold(bits) >> (64 - self.slots.len().trailing_zeros())) as usize
    }

    #[inline]
    fn prefetch(&self, key: Key) {
        prefetch(&self.slots, self.home_slot(key.bits));
    }

    #[inline]
    fn find(&self, words: &StringArena, key: Key, word: &[u8]) -> Option<u32> {
        let mut at = self.home_slot(key.bits);
        loop {
            let [bits, rest] = self.slots[at];
            let id = (rest as u32).checked_sub(1)?;
            if bits == key.bits
                && rest >> 32 == length(key)
                && (key.len <= MAX_INLINE
                    || words.get(id as usize).is_some_and(|other| other.as_bytes() == word))
            {
                return Some(id);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Adds a new word, the last of `id` + 1.
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
        let mut at = self.home_slot(slot[0]);
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
            for (id, word) in expected.iter().enumerate() {
                let key = Key::new(word.as_bytes());
                prop_assert_eq!(rebuilt.find(key, word.as_bytes()), Some(id as u32));
                prop_assert_eq!(vocab.find(key, word.as_bytes()), Some(id as u32));
            }
            prop_assert_eq!(rebuilt.find(Key::new(b"unheard of"), b"unheard of"), None);
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
        let mut vocab = Vocab::new(TextMode::Stream, 0).unwrap();
        for n in 0..20_000 {
            assert_eq!(vocab.add(&format!("w{n}")).unwrap(), (2 * n + 1, true));
            assert_eq!(vocab.add(&format!("a longer word, {n}")).unwrap(), (2 * n + 2, true));
        }
        for n in 0..20_000 {
            assert_eq!(vocab.add(&format!("w{n}")).unwrap(), (2 * n + 1, false));
            assert_eq!(vocab.add(&format!("a longer word, {n}")).unwrap(), (2 * n + 2, false));
        }
    }
}
