//! An n-gram model for queries: a forward trie in packed arrays, in memory or in a mapped file.
//!
//! Level k has the k-grams in order of their words, so that the continuations of a context are
//! adjacent: a point query searches them, and a distribution reads them in sequence. The formula is
//!
//! ```text
//! q(w | h) = value(hw) · scale(h) + backoff(h) · q(w | h')     hw seen, interpolated
//! q(w | h) = value(hw) · scale(h)                              hw seen, backing off
//! q(w | h) = backoff(h) · q(w | h')                            hw unseen, h a context
//! q(w | h) = unseen_context_factor · q(w | h')                 h never seen as a context
//! ```
//!
//! with h' the context without its first word, and q(w) itself in level 1. Counts are mostly small,
//! so values and (scale, backoff) pairs repeat: an n-gram stores an index, in as many bits as
//! needed, and a table has the f64. Nothing is rounded, so that sums over all words are one to the
//! last digits of an f64.

use rayon::prelude::*;

use super::MAX_ORDER;
use super::header::{BackoffScheme, ContextWeights, Header, LevelHeader, SPARSE_INDEX_STEP};
use super::packed::{
    BitWriter, Bytes, ChildOffsets, Packed, bases_len, bits_for, delta_bits, deltas, pack, pack_bases,
    packed_len,
};
use super::view::{LevelView, View};
use crate::{Error, Result};

/// One order, unpacked. Level 1 has an entry for every word of the vocabulary, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnpackedLevel {
    /// The last word of each n-gram; n-grams are sorted by all their words. Empty in level 1.
    pub words: Vec<u32>,
    /// The continuations of n-gram i are `child_offsets[i]..child_offsets[i + 1]` of the next
    /// level; empty at the highest order.
    pub child_offsets: Vec<u32>,
    /// The index into `distinct_values` of each n-gram.
    pub value_ids: Vec<u32>,
    /// The different values.
    pub distinct_values: Vec<f64>,
    /// The index into `distinct_weights` of each n-gram as a context; empty at the highest order.
    pub weight_ids: Vec<u32>,
    /// The different weights.
    pub distinct_weights: Vec<ContextWeights>,
}

impl UnpackedLevel {
    /// The continuations of n-gram `i` in the next order.
    pub(super) fn children(&self, i: usize) -> std::ops::Range<usize> {
        self.child_offsets[i] as usize..self.child_offsets[i + 1] as usize
    }

    /// Removes values and weights that are duplicate or unused.
    pub(super) fn compact(&mut self) {
        let used: Vec<u64> =
            self.value_ids.iter().map(|&value| self.distinct_values[value as usize].to_bits()).collect();
        let (values, different) = distinct(&used);
        self.value_ids = values;
        self.distinct_values = different.into_iter().map(f64::from_bits).collect();
        let bits = |weight: ContextWeights| (weight.scale.to_bits(), weight.backoff.to_bits());
        let used: Vec<_> =
            self.weight_ids.iter().map(|&context| bits(self.distinct_weights[context as usize])).collect();
        let (contexts, different) = distinct(&used);
        self.weight_ids = contexts;
        let weight = |(scale, backoff)| ContextWeights {
            scale: f64::from_bits(scale),
            backoff: f64::from_bits(backoff),
        };
        self.distinct_weights = different.into_iter().map(weight).collect();
    }
}

/// The index of each value among the distinct values, and those in order.
pub(super) fn distinct<T: Ord + Copy + Send + Sync>(values: &[T]) -> (Vec<u32>, Vec<T>) {
    let mut different = values.to_vec();
    different.par_sort_unstable();
    different.dedup();
    let place = |value: &T| different.binary_search(value).unwrap_or(0) as u32;
    (values.par_iter().map(place).collect(), different)
}

/// The sections of one order: n-grams, values, weights, bases of child offsets, sparse index.
pub const SECTIONS: usize = 5;

/// An n-gram model for queries.
#[derive(Debug, Clone)]
pub struct Trie {
    header: Header,
    levels: Vec<PackedLevel>,
}

#[derive(Debug, Clone)]
struct PackedLevel {
    /// Records of word, value, weights and the delta of the child offset, so that one cache miss
    /// gets all fields. Below the highest order, one more record has the end of the last
    /// continuations.
    grams: Bytes,
    distinct_values: Vec<f64>,
    distinct_weights: Vec<ContextWeights>,
    bases: Bytes,
    /// The word of every [`SPARSE_INDEX_STEP`]th n-gram, small enough for the cache, where long
    /// searches begin.
    sparse_index: Bytes,
}

impl Trie {
    /// Packs `tables`, one per order.
    ///
    /// # Errors
    /// [`Error::Config`] when the tables do not fit together.
    pub fn pack(
        vocab_size: u32,
        bos: Option<u32>,
        scheme: BackoffScheme,
        unseen_context_factor: f64,
        suffix_closed: bool,
        tables: Vec<UnpackedLevel>,
    ) -> Result<Self> {
        let header = Header {
            vocab_size,
            bos,
            scheme,
            unseen_context_factor,
            suffix_closed,
            levels: tables
                .iter()
                .map(|table| LevelHeader {
                    grams: table.value_ids.len() as u32,
                    values: table.distinct_values.len() as u32,
                    weights: table.distinct_weights.len() as u32,
                    delta_bits: delta_bits(&table.child_offsets),
                })
                .collect(),
        };
        header.check()?;
        let order = tables.len();
        let pack_level = |(index, table): (usize, UnpackedLevel)| {
            let (bits, top) = (header.bits(index), index + 1 == order);
            let records = header.records(index);
            let mut writer = BitWriter::with_capacity(bits.record(), records);
            let mut deltas = deltas(&table.child_offsets);
            for gram in 0..records {
                let field = |values: &[u32]| u64::from(values.get(gram).copied().unwrap_or(0));
                writer.push(field(&table.words), bits.word);
                writer.push(field(&table.value_ids), bits.value);
                writer.push(field(&table.weight_ids), bits.context);
                writer.push(u64::from(deltas.next().unwrap_or(0)), bits.delta);
            }
            let sparse_index = table.words.iter().step_by(SPARSE_INDEX_STEP).map(|&word| u64::from(word));
            PackedLevel {
                grams: writer.finish().into(),
                bases: if top { Vec::new() } else { pack_bases(&table.child_offsets) }.into(),
                sparse_index: pack(bits.word, sparse_index).into(),
                distinct_values: table.distinct_values,
                distinct_weights: table.distinct_weights,
            }
        };
        let levels = tables.into_par_iter().enumerate().map(pack_level).collect();
        Ok(Self { header, levels })
    }

    /// A trie from its header and the sections that [`Self::sections`] returned.
    ///
    /// # Errors
    /// [`Error::Config`] for a section of another length than the header's, and for values that are
    /// no probabilities. Other contents are not checked: no content makes a query panic.
    pub fn from_sections(header: Header, sections: &[Bytes]) -> Result<Self> {
        let wrong = |message: String| Err(Error::Config(message));
        header.check()?;
        let expected = header.section_lens()?;
        if expected.len() != sections.len() {
            return wrong(format!("there are {} sections, not {}", sections.len(), expected.len()));
        }
        if let Some(i) = (0..expected.len()).find(|&i| sections[i].as_slice().len() != expected[i]) {
            let got = sections[i].as_slice().len();
            return wrong(format!("section {i} has {got} bytes, not {}", expected[i]));
        }
        let level = |parts: &[Bytes]| PackedLevel {
            grams: parts[0].clone(),
            distinct_values: floats(parts[1].as_slice()),
            distinct_weights: floats(parts[2].as_slice())
                .chunks_exact(2)
                .map(|pair| ContextWeights { scale: pair[0], backoff: pair[1] })
                .collect(),
            bases: parts[3].clone(),
            sparse_index: parts[4].clone(),
        };
        let trie = Self { header, levels: sections.chunks_exact(SECTIONS).map(level).collect() };
        trie.check_values()?;
        Ok(trie)
    }

    /// Checks that no value or weight is negative, infinite or NaN.
    pub(super) fn check_values(&self) -> Result<()> {
        let usable = |x: f64| x.is_finite() && x >= 0.0;
        for (level, order) in self.levels.iter().zip(1..) {
            let weights = level.distinct_weights.iter().flat_map(|weight| [weight.scale, weight.backoff]);
            if !level.distinct_values.iter().copied().chain(weights).all(usable) {
                return Err(Error::Config(format!("order {order} has a value that is not a probability")));
            }
        }
        Ok(())
    }

    /// The sizes and the scheme.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes of every section, [`SECTIONS`] per order; large ones are shared, not copied.
    pub fn sections(&self) -> Vec<Bytes> {
        let little = |values: Vec<f64>| {
            Bytes::from(values.into_iter().flat_map(f64::to_le_bytes).collect::<Vec<u8>>())
        };
        self.levels
            .iter()
            .flat_map(|level| {
                let weights =
                    level.distinct_weights.iter().flat_map(|weight| [weight.scale, weight.backoff]).collect();
                [
                    level.grams.clone(),
                    little(level.distinct_values.clone()),
                    little(weights),
                    level.bases.clone(),
                    level.sparse_index.clone(),
                ]
            })
            .collect()
    }

    /// A view for queries.
    pub fn view(&self) -> View<'_> {
        let levels = self.levels.iter().enumerate().map(|(index, level)| {
            let bits = self.header.bits(index);
            let grams = self.header.levels[index].grams as usize;
            let next_len = self.header.levels.get(index + 1).map_or(0, |next| next.grams as usize);
            let field = |offset, width| Packed::field(level.grams.as_slice(), bits.record(), offset, width);
            LevelView {
                len: grams,
                words: field(0, bits.word),
                value_ids: field(bits.word, bits.value),
                distinct_values: &level.distinct_values,
                weight_ids: field(bits.word + bits.value, bits.context),
                distinct_weights: &level.distinct_weights,
                child_offsets: ChildOffsets::new(
                    level.bases.as_slice(),
                    field(bits.word + bits.value + bits.context, bits.delta),
                    grams,
                ),
                sparse_index: Packed::new(level.sparse_index.as_slice(), bits.word),
                next_len,
            }
        });
        View { header: &self.header, levels: levels.collect() }
    }

    /// The unpacked levels.
    pub fn unpack(&self) -> Vec<UnpackedLevel> {
        let view = self.view();
        let table = |index: usize| {
            let (level, top) = (&view.levels[index], index + 1 == view.levels.len());
            let all = |packed: Packed<'_>| (0..level.len).map(|i| packed.get(i) as u32).collect();
            let mut child_offsets = Vec::new();
            if !top {
                child_offsets.push(0);
                child_offsets.extend((0..level.len).map(|node| level.children(node).end as u32));
            }
            UnpackedLevel {
                words: if index == 0 { Vec::new() } else { all(level.words) },
                child_offsets,
                value_ids: all(level.value_ids),
                distinct_values: level.distinct_values.to_vec(),
                weight_ids: if top { Vec::new() } else { all(level.weight_ids) },
                distinct_weights: level.distinct_weights.to_vec(),
            }
        };
        (0..view.levels.len()).map(table).collect()
    }
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|&chunk| f64::from_le_bytes(chunk)).collect()
}

/// The bits of the fields of a record.
pub(super) struct Bits {
    pub(super) word: u32,
    pub(super) value: u32,
    pub(super) context: u32,
    pub(super) delta: u32,
}

impl Bits {
    fn record(&self) -> u32 {
        self.word + self.value + self.context + self.delta
    }
}

impl Header {
    pub(super) fn bits(&self, index: usize) -> Bits {
        let largest = |n: u32| bits_for(u64::from(n.saturating_sub(1)));
        let (level, top) = (self.levels[index], index + 1 == self.levels.len());
        Bits {
            word: if index == 0 { 0 } else { largest(self.vocab_size) },
            value: largest(level.values),
            context: if top { 0 } else { largest(level.weights) },
            delta: if top { 0 } else { level.delta_bits },
        }
    }

    /// The number of records of an order.
    fn records(&self, index: usize) -> usize {
        self.levels[index].grams as usize + usize::from(index + 1 < self.levels.len())
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::Config(message));
        if !(1..=MAX_ORDER).contains(&self.levels.len()) {
            return wrong(format!("an order of {}, not from 1 to {MAX_ORDER}", self.levels.len()));
        }
        if self.levels[0].grams != self.vocab_size {
            return wrong(format!("{} unigrams for {} words", self.levels[0].grams, self.vocab_size));
        }
        if self.bos.is_some_and(|bos| bos >= self.vocab_size) {
            return wrong("<s> is outside the vocabulary".into());
        }
        if self.levels.iter().any(|level| level.delta_bits > u32::BITS) {
            return wrong("child offsets of more than 32 bits".into());
        }
        if !(self.unseen_context_factor.is_finite() && self.unseen_context_factor >= 0.0) {
            return wrong(format!("a factor of {} for unseen contexts", self.unseen_context_factor));
        }
        Ok(())
    }

    /// The length of each section in bytes.
    ///
    /// # Errors
    /// [`Error::Config`] for sizes above any memory's.
    pub fn section_lens(&self) -> Result<Vec<usize>> {
        let too_large = || Error::Config("the sections are too large for this machine".into());
        let mut lens = Vec::new();
        for (index, level) in self.levels.iter().enumerate() {
            let grams = u64::from(level.grams);
            let bits = self.bits(index);
            let bases = if index + 1 == self.levels.len() { Some(0) } else { bases_len(grams) };
            let sparse_len = if index == 0 { 0 } else { grams.div_ceil(SPARSE_INDEX_STEP as u64) };
            lens.extend([
                packed_len(bits.record(), self.records(index) as u64).ok_or_else(too_large)?,
                level.values as usize * 8,
                level.weights as usize * 16,
                bases.ok_or_else(too_large)?,
                packed_len(bits.word, sparse_len).ok_or_else(too_large)?,
            ]);
        }
        Ok(lens)
    }
}
