//! The sections of binary files, made while the streams are read.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{Gram, GramReader, Layout, Merged, Smoothed, WeightReader, malformed};
use crate::ngram::header::SPARSE_INDEX_STEP;
use crate::ngram::packed::{BASE_BITS, BASE_STEP, BitWriter, bits_for};
use crate::ngram::{BackoffScheme, ContextStats, ContextWeights, Header, LevelHeader, SECTIONS, quantize};
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

    /// The weights of these as contexts, if each has its own.
    fn weights(&self, partition: usize, len: usize) -> Option<WeightReader>;
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

/// A model and its n-grams.
#[derive(Clone, Copy)]
struct Model<'a> {
    smoothed: &'a Smoothed,
    streams: &'a dyn GramStreams,
}

impl<'a> Model<'a> {
    /// [`each_gram`] without those that are pruned.
    fn each_kept(self, len: usize, visit: &mut dyn FnMut(&Gram) -> Result<()>) -> Result<()> {
        // A word stays in the vocabulary.
        let threshold = if len == 0 { 0 } else { self.smoothed.config.prune_threshold(len + 1) };
        each_gram(self.streams, len, &mut |gram| {
            if gram.count > threshold || len == 0 { visit(gram) } else { Ok(()) }
        })
    }

    /// Whether each n-gram of `len` + 1 words has its own weights as a context.
    fn has_own_weights(self, len: usize) -> bool {
        self.smoothed.needs_lower_mass() && len + 1 < self.streams.layout().order
    }

    /// Passes their bytes to `put`.
    fn put_own_weights(self, len: usize, put: &mut Put<'_>) -> Result<()> {
        let (mut weights, mut partition, mut bytes) = (None, usize::MAX, Vec::new());
        each_gram(self.streams, len, &mut |gram| {
            let mut weight = ContextWeights::NONE;
            if gram.count > 0 {
                let own = self.streams.layout().partition_of(gram.words()[0]);
                if partition != own {
                    (weights, partition) = (self.streams.weights(own, len), own);
                }
                weight = weights.as_mut().ok_or_else(malformed)?.next()?;
            }
            bytes.extend([weight.scale, weight.backoff].map(f64::to_le_bytes).as_flattened());
            if bytes.len() >= PIECE_BYTES {
                put(&bytes)?;
                bytes.clear();
            }
            Ok(())
        })?;
        put(&bytes)
    }

    /// The rounded weights of the n-grams of `len` + 1 words as contexts of those of `next`; none
    /// where words and back-off need not sum to one.
    fn rounded(self, len: usize, next: &'a Distinct) -> Option<Rounded<'a>> {
        let interpolates = self.smoothed.scheme() == BackoffScheme::Interpolate;
        let grams = || self.streams.grams(0, len + 1);
        interpolates.then(|| Rounded { model: self, len, next, partition: 0, grams: grams() })
    }
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
    /// The tables, and if they are quantised the number in them of each of `used` and of `after`.
    values: Vec<f64>,
    weights: Vec<ContextWeights>,
    value_codes: Vec<u32>,
    weight_codes: Vec<u32>,
    /// Instead of `after`: weights that make contexts with quantised values sum to one.
    rounded: Vec<(i64, i64)>,
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
    fn collect(model @ Model { smoothed, streams }: Model<'_>, len: usize) -> Result<Self> {
        let top = len + 1 == streams.layout().order;
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
            model.each_kept(len, &mut |gram| {
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
        distinct.values = match len {
            0 => smoothed.unigrams.distinct_values.clone(),
            _ => distinct.used.iter().map(|&used| smoothed.value(len, used)).collect(),
        };
        distinct.weights = distinct.after.iter().map(|after| smoothed.weight(len + 1, after)).collect();
        Ok(distinct)
    }

    /// Replaces the values of the n-grams of `len` + 1 words by at most `codes`.
    fn quantize_values(&mut self, model: Model<'_>, len: usize, codes: usize) -> Result<()> {
        let mut frequencies = vec![0.0; self.values.len()];
        model.each_kept(len, &mut |gram| {
            frequencies[self.value_id(gram.used) as usize] += 1.0;
            Ok(())
        })?;
        if let Some((codes, values)) = quantize::quantize_values(&self.values, &frequencies, codes) {
            (self.value_codes, self.values) = (codes, values);
        }
        Ok(())
    }

    /// Replaces the weights of these n-grams as contexts by at most `codes`, given the values of
    /// `next`.
    fn quantize_weights(&mut self, next: &Self, model: Model<'_>, len: usize, codes: usize) -> Result<()> {
        let mut frequencies = vec![0.0; self.weights.len()];
        if let Some(mut rounded) = model.rounded(len, next) {
            let mut different = BTreeMap::<(i64, i64), f64>::new();
            model.each_kept(len, &mut |gram| {
                *different.entry(rounded.weight(gram)?).or_default() += 1.0;
                Ok(())
            })?;
            (self.rounded, frequencies) = different.into_iter().unzip();
            self.weights = self.rounded.iter().copied().map(quantize::unrounded).collect();
        } else {
            model.each_kept(len, &mut |gram| {
                frequencies[self.weight_id(gram, &mut None)? as usize] += 1.0;
                Ok(())
            })?;
        }
        if let Some((codes, weights)) = quantize::quantize_weights(&self.weights, &frequencies, codes) {
            (self.weight_codes, self.weights) = (codes, weights);
        }
        Ok(())
    }

    #[inline]
    fn value_id(&self, used: u32) -> u32 {
        let small = self.small_used.get(used as usize).copied();
        let place = small.unwrap_or_else(|| self.used.binary_search(&used).unwrap_or(0) as u32);
        self.value_codes.get(place as usize).copied().unwrap_or(place)
    }

    /// The number of the weights of a context; `rounded` gives them if they follow from its words.
    #[inline]
    fn weight_id(&self, context: &Gram, rounded: &mut Option<Rounded<'_>>) -> Result<u32> {
        let after = &context.after;
        let place = match rounded {
            Some(rounded) => self.rounded.binary_search(&rounded.weight(context)?).unwrap_or(0) as u32,
            None if is_small(after) => self.small_after[after.total as usize],
            None => self.after.binary_search(after).unwrap_or(0) as u32,
        };
        Ok(self.weight_codes.get(place as usize).copied().unwrap_or(place))
    }
}

/// Makes the rounded weights of contexts, which come in order, from their quantised words.
struct Rounded<'a> {
    model: Model<'a>,
    len: usize,
    next: &'a Distinct,
    partition: usize,
    grams: GramReader,
}

impl Rounded<'_> {
    fn weight(&mut self, context: &Gram) -> Result<(i64, i64)> {
        let threshold = self.model.smoothed.config.prune_threshold(self.len + 2);
        let (mut mass, mut left) = (0.0, context.after.types());
        while left > 0 {
            match self.grams.read()? {
                Some(gram) if gram.count > threshold => {
                    mass += self.next.values[self.next.value_id(gram.used) as usize];
                    left -= 1;
                }
                Some(_) => {}
                None if self.partition + 1 < self.model.streams.layout().partitions() => {
                    self.partition += 1;
                    self.grams = self.model.streams.grams(self.partition, self.len + 1);
                }
                None => return Err(malformed()),
            }
        }
        Ok(quantize::rounded(self.model.smoothed.weight(self.len + 1, &context.after), mass))
    }
}

/// A [`Trie`](crate::ngram::Trie) whose n-grams are in streams.
pub struct StreamedTrie<'a> {
    /// The header.
    pub header: Header,
    model: Model<'a>,
    quantize: bool,
    distinct: Vec<Distinct>,
}

impl<'a> StreamedTrie<'a> {
    /// Finds the different values and weights, in one pass over the streams; in three more they are
    /// quantised to `quantize` bits as [`Trie::quantized`](crate::ngram::Trie::quantized).
    ///
    /// # Errors
    /// Those of the streams; more than 2³² n-grams of an order; another number of bits than there.
    pub fn new(
        smoothed: &'a Smoothed,
        streams: &'a dyn GramStreams,
        merged: &Merged,
        quantize: Option<u32>,
    ) -> Result<Self> {
        if let Some(problem) = Smoothed::refusal(&smoothed.config, quantize.is_some(), false)? {
            return Err(Error::Config(problem));
        }
        let (layout, model) = (streams.layout(), Model { smoothed, streams });
        let collect = |len: usize| Distinct::collect(model, len);
        let distinct: Result<Vec<Distinct>> =
            (0..layout.order).into_par_iter().with_max_len(1).map(collect).collect();
        let mut distinct = distinct?;
        if let Some(codes) = quantize.map(quantize::codes).transpose()? {
            for (len, distinct) in distinct.iter_mut().enumerate().skip(1) {
                distinct.quantize_values(model, len, codes)?;
            }
            for len in 1..layout.order {
                let (lower, upper) = distinct.split_at_mut(len);
                lower[len - 1].quantize_weights(&upper[0], model, len - 1, codes)?;
            }
        }
        let level = |(len, distinct): (usize, &Distinct)| {
            let grams = if len == 0 { layout.vocab_size as u64 } else { merged.orders[len].kept };
            Ok(LevelHeader {
                grams: u32::try_from(grams).map_err(|_| {
                    Error::Config(format!("{grams} n-grams of {} words are too many for one file", len + 1))
                })?,
                values: distinct.values.len() as u32,
                weights: if model.has_own_weights(len) {
                    grams as u32
                } else {
                    distinct.weights.len() as u32
                },
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
        Ok(Self { header, model, quantize: quantize.is_some(), distinct })
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
        let own = self.model.has_own_weights(len);
        let (mut offset, mut base, mut index) = (0_u64, 0, 0_usize);
        match number % SECTIONS {
            0 => {
                let mut out = BitStream::new(put);
                let mut rounded = match self.distinct.get(len + 1) {
                    Some(next) if self.quantize => self.model.rounded(len, next),
                    _ => None,
                };
                self.model.each_kept(len, &mut |gram| {
                    if index.is_multiple_of(BASE_STEP) {
                        base = offset;
                    }
                    let value = match len {
                        0 => self.model.smoothed.unigrams.value_ids[gram.words()[0] as usize],
                        _ => distinct.value_id(gram.used),
                    };
                    out.push(if len == 0 { 0 } else { gram.words()[len].into() }, bits.word)?;
                    out.push(value.into(), bits.value)?;
                    if !top {
                        let weight =
                            if own { index as u32 } else { distinct.weight_id(gram, &mut rounded)? };
                        out.push(weight.into(), bits.context)?;
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
            1 => put(&floats(&distinct.values)),
            2 if own => self.model.put_own_weights(len, put),
            2 => {
                let weights = distinct.weights.iter().flat_map(|weight| [weight.scale, weight.backoff]);
                put(&floats(&weights.collect::<Vec<f64>>()))
            }
            3 if top => Ok(()),
            3 => {
                let mut out = BitStream::new(put);
                self.model.each_kept(len, &mut |gram| {
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
                    self.model.each_kept(len, &mut |gram| {
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
