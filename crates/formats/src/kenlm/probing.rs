//! Hash tables with linear probing: the key is the hash of an n-gram, from its last word back.
//!
//! The highest bit of a probability, which is never positive, says that no longer n-gram ends with
//! this one. A weight of −0 says that no longer n-gram begins with it.

use surprisal_model::ngram::packed::Bytes;
use surprisal_platform::prefetch::prefetch;

use super::header::{Header, Structure};
use super::score::{Gram, Lookup, State};
use super::{Sections, bytes_at, f32_at};
use crate::Error;
use crate::kenlm_problem::Problem;

/// Bytes of a key.
pub(super) const KEY: usize = 8;
/// The key of empty buckets.
const EMPTY: u64 = 0;
/// Bytes of a float.
pub(super) const FLOAT: usize = 4;

/// The sections of a file.
pub(super) struct Tables {
    /// Bytes of the values of an n-gram below the highest order: probability, weight, rest cost.
    values: usize,
    unigrams: Bytes,
    middle: Vec<Bytes>,
    longest: Bytes,
}

impl Tables {
    pub(super) fn new(sections: &mut Sections<'_>, header: &Header) -> Result<Self, Problem> {
        let values = if header.structure == Structure::RestProbing { 3 * FLOAT } else { 2 * FLOAT };
        let [unigrams, middle @ .., longest] = header.counts.as_slice() else {
            return Err(Problem::Order(0));
        };
        // One more for `<unk>`, which may not be counted.
        let unigrams = sections.take((unigrams + 1).checked_mul(values as u64))?;
        let mut table = |count, entry| sections.take(table_len(count, header.multiplier, entry));
        Ok(Self {
            values,
            unigrams,
            middle: middle.iter().map(|&count| table(count, KEY + values)).collect::<Result<_, _>>()?,
            longest: table(*longest, KEY + FLOAT)?,
        })
    }

    pub(super) fn view(&self) -> View<'_> {
        let middle = self.middle.iter().map(|bytes| Table::new(bytes.as_slice(), KEY + self.values));
        View {
            values: self.values,
            unigrams: self.unigrams.as_slice(),
            middle: middle.collect(),
            longest: Table::new(self.longest.as_slice(), KEY + FLOAT),
        }
    }
}

/// The bytes of a table of `count` entries of `entry` bytes.
pub(super) fn table_len(count: u64, multiplier: f32, entry: usize) -> Option<u64> {
    // In 32-bit floats, as the program computes that writes the files.
    let buckets = (multiplier * count as f32) as u64;
    buckets.max(count.checked_add(1)?).checked_mul(entry as u64)
}

/// A hash table.
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    entry: usize,
    buckets: usize,
}

impl<'a> Table<'a> {
    pub(super) fn new(bytes: &'a [u8], entry: usize) -> Self {
        Self { bytes, entry, buckets: bytes.len() / entry }
    }

    /// Prefetches where the search for `key` starts.
    #[inline]
    pub(super) fn prefetch(&self, key: u64) {
        let at = key.checked_rem(self.buckets as u64).unwrap_or(0) as usize;
        prefetch(self.bytes, at * self.entry);
    }

    /// Where the bucket of `key` is and true, or the empty one where it belongs and false.
    #[inline]
    fn bucket(&self, key: u64) -> Option<(usize, bool)> {
        let mut at = key.checked_rem(self.buckets as u64)? as usize;
        // A damaged table may have no empty bucket.
        for _ in 0..self.buckets {
            let bucket = self.bytes.get(at * self.entry..(at + 1) * self.entry)?;
            match u64::from_le_bytes(*bucket.first_chunk()?) {
                EMPTY => return Some((at * self.entry, false)),
                found if found == key => return Some((at * self.entry, true)),
                _ => at = if at + 1 == self.buckets { 0 } else { at + 1 },
            }
        }
        None
    }

    /// The value of `key`.
    #[inline]
    pub(super) fn find(&self, key: u64) -> Option<&'a [u8]> {
        let (at, is_found) = self.bucket(key)?;
        if is_found { self.bytes.get(at + KEY..at + self.entry) } else { None }
    }
}

/// A hash table that is being filled.
pub(super) struct TableMut<'a> {
    bytes: &'a mut [u8],
    entry: usize,
}

impl<'a> TableMut<'a> {
    pub(super) fn new(bytes: &'a mut [u8], entry: usize) -> Self {
        Self { bytes, entry }
    }

    pub(super) fn as_table(&self) -> Table<'_> {
        Table::new(self.bytes, self.entry)
    }

    /// Puts the value of `key` into the table.
    pub(super) fn insert(&mut self, key: u64, value: &[u8]) -> Result<(), Error> {
        let full = || Error::malformed("the model", &"too many of its n-grams lack their suffix");
        let (at, _) = self.as_table().bucket(key).ok_or_else(full)?;
        let (place, values) = self.bytes[at..at + self.entry].split_at_mut(KEY);
        place.copy_from_slice(&key.to_le_bytes());
        values.copy_from_slice(value);
        Ok(())
    }

    /// The value of `key`.
    pub(super) fn find(self, key: u64) -> Option<&'a mut [u8]> {
        let (at, is_found) = self.as_table().bucket(key)?;
        if is_found { self.bytes.get_mut(at + KEY..at + self.entry) } else { None }
    }
}

/// The tables for queries.
pub(super) struct View<'a> {
    values: usize,
    unigrams: &'a [u8],
    middle: Vec<Table<'a>>,
    longest: Table<'a>,
}

/// The hash of an n-gram with `word` before it.
#[inline]
pub(super) fn extended(hash: u64, word: u32) -> u64 {
    let word = u64::from(word.wrapping_add(1));
    hash.wrapping_mul(8_978_948_897_894_561_157) ^ word.wrapping_mul(17_894_857_484_156_487_943)
}

#[inline]
fn gram(values: &[u8], hash: u64) -> Gram<u64> {
    let prob = f32_at(values, 0);
    Gram {
        log10_prob: -prob.abs(),
        log10_backoff: f32_at(values, FLOAT),
        longer: prob.is_sign_positive().then_some(hash),
    }
}

impl Lookup for View<'_> {
    /// The hash of the n-gram.
    type Node = u64;

    fn order(&self) -> usize {
        self.middle.len() + 2
    }

    #[inline]
    fn unigram(&self, word: u32) -> Gram<u64> {
        let at = word as usize * self.values;
        gram(self.unigrams.get(at..).unwrap_or_default(), word.into())
    }

    #[inline]
    fn middle(&self, len: usize, shorter: u64, word: u32) -> Option<Gram<u64>> {
        let hash = extended(shorter, word);
        self.middle.get(len - 2)?.find(hash).map(|values| gram(values, hash))
    }

    /// The key of an n-gram follows from its words alone.
    fn prefetch(&self, state: &State, words: &[u32]) {
        for (i, &word) in words.iter().enumerate() {
            prefetch(self.unigrams, word as usize * self.values);
            let mut hash = u64::from(word);
            let before = words[..i].iter().rev().chain(state.words());
            for (&before, table) in before.zip(self.middle.iter().chain([&self.longest])) {
                hash = extended(hash, before);
                table.prefetch(hash);
            }
        }
    }

    #[inline]
    fn longest(&self, shorter: u64, word: u32) -> Option<f32> {
        let values = self.longest.find(extended(shorter, word))?;
        Some(-f32::from_le_bytes(bytes_at(values, 0)).abs())
    }
}
