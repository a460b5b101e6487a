//! The sections of binary files, made while the streams are read.

use rayon::prelude::*;

use super::{Gram, GramReader, Layout, Merged, Smoothed};
use crate::ngram::header::SPARSE_INDEX_STEP;
use crate::ngram::packed::{BASE_BITS, BASE_STEP, BitWriter, bits_for};
use crate::ngram::{ContextStats, Header, LevelHeader, SECTIONS};
use crate::{Error, Result};

/// The bytes that are passed on at a time.
const PIECE_BYTES: usize = 1 << 16;
/// The counts and single counts after a context that are looked up in a table.
const SMALL: usize = 1 << 10;

/// The streams of all n-grams.
pub trait GramStreams: Sync {
    /// The partitions of the n-grams.
    fn layout(&self) -> &Layout;

    /// The n-grams of `len` + 1 words of a partition.
    fn grams(&self, partition: usize, len: usize) -> GramReader;
}

/// A receiver of bytes.
pub type Put<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Calls `visit` with all n-grams of `len` + 1 words in order; of single words, also with those
/// that do not occur.
fn each_gram(
    streams: &dyn GramStreams,
    len: usize,
    visit: &mut dyn FnMut(&Gram) -> Result<()>,
) -> Result<()> {
    let layout = streams.layout();
    let mut unseen = 0;
    for partition in 0..layout.partitions() {
        let mut grams = streams.grams(partition, len);
        while let Some(gram) = grams.read()? {
            if len == 0 {
                (unseen..gram.words()[0]).try_for_each(|word| visit(&Gram::of_word(word)))?;
                unseen = gram.words()[0] + 1;
            }
            visit(gram)?;
        }
    }
    let end = if len == 0 { layout.vocab_size as u32 } else { unseen };
    (unseen..end).try_for_each(|word| visit(&Gram::of_word(word)))
}

/// [`each_gram`] without those that are pruned.
fn each_kept(
    streams: &dyn GramStreams,
    smoothed: &Smoothed,
    len: usize,
    visit: &mut dyn FnMut(&Gram) -> Result<()>,
) -> Result<()> {
    // A word stays in the vocabulary.
    let threshold = if len == 0 { 0 } else { smoothed.config.prune_threshold(len + 1) };
    each_gram(streams, len, &mut |gram| if gram.count > threshold || len == 0 { visit(gram) } else { Ok(()) })
}

/// A writer of bits that passes on its bytes.
struct BitStream<'a, 'b> {
    bits: BitWriter,
    put: &'a mut Put<'b>,
}

impl<'a, 'b> BitStream<'a, 'b> {
    fn new(put: &'a mut Put<'b>) -> Self {
        Self { bits: BitWriter::with_capacity(8, PIECE_BYTES + 16), put }
    }

    #[inline]
    fn push(&mut self, value: u64, bits: u32) -> Result<()> {
        self.bits.push(value, bits);
        if self.bits.bytes_mut().len() >= PIECE_BYTES {
            (self.put)(self.bits.bytes_mut())?;
            self.bits.bytes_mut().clear();
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        (self.put)(&self.bits.finish())
    }
}

/// The last words of the n-grams of `len` + 1 words, each in `bits` bits.
///
/// # Errors
/// Those of the streams and of `put`.
pub fn pack_words(streams: &dyn GramStreams, len: usize, bits: u32, put: &mut Put<'_>) -> Result<()> {
    let mut out = BitStream::new(put);
    each_gram(streams, len, &mut |gram| out.push(gram.words()[len].into(), bits))?;
    out.finish()
}

/// Their numbers of occurrences.
///
/// # Errors
/// As [`pack_words`].
pub fn pack_counts(streams: &dyn GramStreams, len: usize, bits: u32, put: &mut Put<'_>) -> Result<()> {
    let mut out = BitStream::new(put);
    each_gram(streams, len, &mut |gram| out.push(gram.count.into(), bits))?;
    out.finish()
}

/// Their numbers of different words after them, in unary as
/// [`pack_unary`](crate::ngram::packed::pack_unary).
///
/// # Errors
/// As [`pack_words`].
pub fn pack_children(streams: &dyn GramStreams, len: usize, put: &mut Put<'_>) -> Result<()> {
    let mut out = BitStream::new(put);
    let partitions = streams.layout().partitions();
    let (mut partition, mut next) = (0, streams.grams(0, len + 1));
    let mut is_read = next.read()?.is_some();
    each_gram(streams, len, &mut |gram| {
        if gram.after.total > 0 {
            while !is_read && partition + 1 < partitions {
                partition += 1;
                next = streams.grams(partition, len + 1);
                is_read = next.read()?.is_some();
            }
            // Those that follow this context have it in common.
            let mut first = true;
            while is_read && (first || next.gram().lcp > len) {
                out.push(1, 1)?;
                first = false;
                is_read = next.read()?.is_some();
            }
        }
        out.push(0, 1)
    })?;
    out.finish()
}

/// The different values and weights of one order, by the counts that they follow from.
#[derive(Default)]
struct Distinct {
    used: Vec<u32>,
    after: Vec<ContextStats>,
    /// The places of small counts, and of contexts that one word follows a few times.
    small_used: Vec<u32>,
    small_after: Vec<u32>,
    delta_bits: u32,
}

/// Removes duplicates.
fn compact<T: Ord>(values: &mut Vec<T>) {
    values.sort_unstable();
    values.dedup();
}

/// Whether one word at most follows a context, a few times.
#[inline]
fn is_small(after: &ContextStats) -> bool {
    after.types() <= 1 && after.pruned == 0 && after.total < SMALL as u64
}

impl Distinct {
    fn collect(streams: &dyn GramStreams, smoothed: &Smoothed, len: usize, top: bool) -> Result<Self> {
        let mut distinct = Self::default();
        let (mut small_used, mut small_after) = (vec![false; SMALL], vec![None; SMALL]);
        let (mut used_limit, mut after_limit) = (1 << 16, 1 << 16);
        let (mut offset, mut base, mut widest, mut index) = (0_u64, 0, 0, 0_usize);
        each_gram(streams, len, &mut |gram| {
            match small_used.get_mut(gram.used as usize) {
                Some(small) => *small = true,
                None => {
                    distinct.used.push(gram.used);
                    if distinct.used.len() >= used_limit {
                        compact(&mut distinct.used);
                        used_limit = 2 * distinct.used.len().max(1 << 15);
                    }
                }
            }
            if top {
                return Ok(());
            }
            if is_small(&gram.after) {
                small_after[gram.after.total as usize] = Some(gram.after);
            } else {
                distinct.after.push(gram.after);
                if distinct.after.len() >= after_limit {
                    compact(&mut distinct.after);
                    after_limit = 2 * distinct.after.len().max(1 << 15);
                }
            }
            Ok(())
        })?;
        if !top {
            each_kept(streams, smoothed, len, &mut |gram| {
                if index.is_multiple_of(BASE_STEP) {
                    base = offset;
                }
                widest = widest.max(offset - base);
                offset += gram.after.types();
                index += 1;
                Ok(())
            })?;
            // The end of the last continuations.
            widest = widest.max(if index.is_multiple_of(BASE_STEP) { 0 } else { offset - base });
        }
        distinct.delta_bits = bits_for(widest);
        distinct.used.extend((0..).zip(&small_used).filter(|(_, seen)| **seen).map(|(count, _)| count));
        distinct.after.extend(small_after.into_iter().flatten());
        compact(&mut distinct.used);
        compact(&mut distinct.after);
        let place = |count: u32| distinct.used.binary_search(&count).unwrap_or(0) as u32;
        distinct.small_used = (0..SMALL as u32).map(place).collect();
        distinct.small_after = vec![0; SMALL];
        for (place, after) in (0..).zip(&distinct.after).filter(|(_, after)| is_small(after)) {
            distinct.small_after[after.total as usize] = place;
        }
        Ok(distinct)
    }

    #[inline]
    fn value_id(&self, used: u32) -> u32 {
        let small = self.small_used.get(used as usize).copied();
        small.unwrap_or_else(|| self.used.binary_search(&used).unwrap_or(0) as u32)
    }

    #[inline]
    fn weight_id(&self, after: &ContextStats) -> u32 {
        if is_small(after) {
            return self.small_after[after.total as usize];
        }
        self.after.binary_search(after).unwrap_or(0) as u32
    }
}

/// A [`Trie`](crate::ngram::Trie) whose n-grams are in streams.
pub struct StreamedTrie<'a> {
    /// The header.
    pub header: Header,
    smoothed: &'a Smoothed,
    streams: &'a dyn GramStreams,
    distinct: Vec<Distinct>,
}

impl<'a> StreamedTrie<'a> {
    /// Finds the different values and weights, in one pass over the streams.
    ///
    /// # Errors
    /// Those of the streams; more than 2³² n-grams of an order.
    pub fn new(smoothed: &'a Smoothed, streams: &'a dyn GramStreams, merged: &Merged) -> Result<Self> {
        let layout = streams.layout();
        let collect = |len: usize| Distinct::collect(streams, smoothed, len, len + 1 == layout.order);
        let distinct: Result<Vec<Distinct>> =
            (0..layout.order).into_par_iter().with_max_len(1).map(collect).collect();
        let distinct = distinct?;
        let level = |(len, distinct): (usize, &Distinct)| {
            let grams = if len == 0 { layout.vocab_size as u64 } else { merged.orders[len].kept };
            let values = if len == 0 { smoothed.unigrams.distinct_values.len() } else { distinct.used.len() };
            Ok(LevelHeader {
                grams: u32::try_from(grams).map_err(|_| {
                    Error::Config(format!("{grams} n-grams of {} words are too many for one file", len + 1))
                })?,
                values: values as u32,
                weights: distinct.after.len() as u32,
                delta_bits: distinct.delta_bits,
            })
        };
        let levels: Result<Vec<LevelHeader>> = distinct.iter().enumerate().map(level).collect();
        let header = Header {
            vocab_size: layout.vocab_size as u32,
            bos: layout.bos,
            scheme: smoothed.scheme(),
            unseen_context_factor: smoothed.unseen_context_factor(),
            suffix_closed: true,
            levels: levels?,
        };
        header.check()?;
        Ok(Self { header, smoothed, streams, distinct })
    }

    /// The number of sections.
    pub fn sections(&self) -> usize {
        self.header.levels.len() * SECTIONS
    }

    /// Passes the bytes of a section to `put`, as [`Trie::sections`](crate::ngram::Trie::sections)
    /// has them.
    ///
    /// # Errors
    /// Those of the streams and of `put`.
    pub fn section(&self, number: usize, put: &mut Put<'_>) -> Result<()> {
        let (len, distinct) = (number / SECTIONS, &self.distinct[number / SECTIONS]);
        let (bits, top) = (self.header.bits(len), len + 1 == self.header.levels.len());
        let floats =
            |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (mut offset, mut base, mut index) = (0_u64, 0, 0_usize);
        match number % SECTIONS {
            0 => {
                let mut out = BitStream::new(put);
                each_kept(self.streams, self.smoothed, len, &mut |gram| {
                    if index.is_multiple_of(BASE_STEP) {
                        base = offset;
                    }
                    let value = match len {
                        0 => self.smoothed.unigrams.value_ids[gram.words()[0] as usize],
                        _ => distinct.value_id(gram.used),
                    };
                    out.push(if len == 0 { 0 } else { gram.words()[len].into() }, bits.word)?;
                    out.push(value.into(), bits.value)?;
                    if !top {
                        out.push(distinct.weight_id(&gram.after).into(), bits.context)?;
                        out.push(offset - base, bits.delta)?;
                        offset += gram.after.types();
                    }
                    index += 1;
                    Ok(())
                })?;
                if !top {
                    for bits in [bits.word, bits.value, bits.context] {
                        out.push(0, bits)?;
                    }
                    out.push(if index.is_multiple_of(BASE_STEP) { 0 } else { offset - base }, bits.delta)?;
                }
                out.finish()
            }
            1 if len == 0 => put(&floats(&self.smoothed.unigrams.distinct_values)),
            1 => {
                let values = distinct.used.iter().map(|&used| self.smoothed.value(len, used));
                put(&floats(&values.collect::<Vec<f64>>()))
            }
            2 => {
                let weight = |after| {
                    let weight = self.smoothed.weight(len + 1, after);
                    [weight.scale, weight.backoff]
                };
                put(&floats(&distinct.after.iter().flat_map(weight).collect::<Vec<f64>>()))
            }
            3 if top => Ok(()),
            3 => {
                let mut out = BitStream::new(put);
                each_kept(self.streams, self.smoothed, len, &mut |gram| {
                    if index.is_multiple_of(BASE_STEP) {
                        out.push(offset, BASE_BITS)?;
                    }
                    offset += gram.after.types();
                    index += 1;
                    Ok(())
                })?;
                if index.is_multiple_of(BASE_STEP) {
                    out.push(offset, BASE_BITS)?;
                }
                out.finish()
            }
            _ => {
                let mut out = BitStream::new(put);
                if len > 0 {
                    each_kept(self.streams, self.smoothed, len, &mut |gram| {
                        if index.is_multiple_of(SPARSE_INDEX_STEP) {
                            out.push(gram.words()[len].into(), bits.word)?;
                        }
                        index += 1;
                        Ok(())
                    })?;
                }
                out.finish()
            }
        }
    }
}
