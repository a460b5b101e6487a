//! The n-grams of a part of a text that fits into memory, sorted and coded as a run.
//!
//! A record of a run is a *context*, an n-gram of order − 1 words or a shorter one at the end of a
//! text, with the words after it and the words before it. So one sort of the positions gives both
//! the counts of the longest n-grams and what Kneser-Ney counts, the words before the shorter ones.

use rayon::prelude::*;
use surprisal_platform::prefetch::prefetch;

use super::Layout;
use super::codec::{BLOCK_BYTES, StreamReader, malformed, put};
use crate::ngram::MAX_ORDER;
use crate::ngram::suffix_array::SuffixSorter;
use crate::ngram::suffix_links::LcpEntry;
use crate::{Result, check_tokens};

/// Prefetch distance of tokens, in positions.
const PREFETCH_DISTANCE: usize = 16;

/// A context with what was before and after it.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) words: [u32; MAX_ORDER],
    pub(super) len: usize,
    /// The number of times that the text or a sentence ends with it.
    pub(super) ends: u64,
    /// The words after it and how often, in order.
    pub(super) after: Vec<(u32, u64)>,
    /// The different words before it, in order.
    pub(super) before: Vec<u32>,
}

impl Record {
    pub(super) fn words(&self) -> &[u32] {
        &self.words[..self.len]
    }

    /// Appends the record, of which the first `lcp` words are those of the record before.
    pub(super) fn put(&self, lcp: usize, bytes: &mut Vec<u8>) {
        put((lcp << 4 | self.len) as u64, bytes);
        for &word in &self.words[lcp..self.len] {
            put(word.into(), bytes);
        }
        put((self.after.len() as u64) << 1 | u64::from(self.ends > 0), bytes);
        if self.ends > 0 {
            put(self.ends, bytes);
        }
        let mut last = 0;
        for &(word, count) in &self.after {
            put(u64::from(word - last) << 1 | u64::from(count > 1), bytes);
            if count > 1 {
                put(count, bytes);
            }
            last = word;
        }
        put(self.before.len() as u64, bytes);
        let mut last = 0;
        for &word in &self.before {
            put((word - last).into(), bytes);
            last = word;
        }
    }

    /// Reads the next record over this one, which is the one before; false at the end.
    pub(super) fn read(&mut self, reader: &mut StreamReader) -> Result<bool> {
        if !reader.more()? {
            return Ok(false);
        }
        let head = reader.get()? as usize;
        let lcp = head >> 4;
        if lcp > self.len || lcp > head & 15 {
            return Err(malformed());
        }
        self.len = head & 15;
        for word in &mut self.words[lcp..self.len] {
            *word = reader.get_u32()?;
        }
        let head = reader.get()?;
        self.ends = if head & 1 > 0 { reader.get()? } else { 0 };
        self.after.clear();
        let mut last = 0_u64;
        for _ in 0..head >> 1 {
            let code = reader.get()?;
            last += code >> 1;
            self.after.push((last as u32, if code & 1 > 0 { reader.get()? } else { 1 }));
        }
        self.before.clear();
        let mut last = 0_u64;
        for _ in 0..reader.get()? {
            last += reader.get()?;
            self.before.push(last as u32);
        }
        Ok(true)
    }
}

/// A part of a text.
#[derive(Debug)]
pub struct TextPart {
    /// Its tokens, and up to order − 1 tokens of the text after it.
    pub tokens: Vec<u32>,
    /// The number of its own tokens.
    pub own: usize,
    /// The token before it, if it is not the start of the text.
    pub before: Option<u32>,
}

impl TextPart {
    /// The memory in bytes of sorting a token; of the text, the most frequent words are the share
    /// `frequent`, one per thread.
    pub fn memory(frequent: f64) -> f64 {
        // The token, its position, its LCP entry; sort keys of one bucket per thread, in arrays
        // that have grown.
        4.0 + 4.0 + 2.0 + 24.0 * frequent
    }

    /// The memory in bytes of each different word of a part: its id, its frequency, its bucket, and
    /// the sum of frequencies for its code.
    pub const BYTES_PER_WORD: f64 = 4.0 + 4.0 + 2.0 + 8.0;

    /// Sorts the part; passes blocks of the records of each partition to `put`, those of a
    /// partition in order. With `before`, records have the words before them.
    ///
    /// # Errors
    /// A token outside the vocabulary; the first error of `put`.
    pub fn sort(
        mut self,
        layout: &Layout,
        before: bool,
        put: &(dyn Fn(usize, &[u8]) -> Result<()> + Sync),
    ) -> Result<()> {
        check_tokens(&self.tokens, layout.vocab_size)?;
        // The words of the part have numbers of their own, in the same order, so that the memory of
        // sorting is that of these words.
        let words = PartWords::new(&self.tokens, layout.vocab_size);
        self.tokens.par_iter_mut().for_each(|token| *token = words.number(*token));
        let bos = layout.bos.filter(|&bos| words.has(bos)).map(|bos| words.number(bos));
        let words = words.words();
        let sorter = SuffixSorter::new(&self.tokens, words.len(), layout.order, bos, &|_| ());
        let (positions, lcps, frequencies) = sorter.sorted();
        // The suffixes of a partition are adjacent.
        let mut ends = Vec::with_capacity(layout.partitions());
        let mut end = 0;
        let mut counts = words.iter().zip(&frequencies).peekable();
        for partition in 0..layout.partitions() {
            let last = layout.words(partition).end;
            while let Some((_, &count)) = counts.next_if(|(word, _)| **word < last) {
                end += count as usize;
            }
            ends.push(end);
        }
        drop(frequencies);
        (0..ends.len()).into_par_iter().with_max_len(1).try_for_each(|partition| {
            let range = partition.checked_sub(1).map_or(0, |last| ends[last])..ends[partition];
            let suffixes = (&positions[range.clone()], &lcps[range]);
            self.records(layout, bos, &words, before, suffixes, |block| put(partition, block))
        })
    }

    fn records(
        &self,
        layout: &Layout,
        bos: Option<u32>,
        words: &[u32],
        before: bool,
        (positions, lcps): (&[u32], &[LcpEntry]),
        mut put: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let context = layout.order - 1;
        let mut bytes = Vec::with_capacity(BLOCK_BYTES + (BLOCK_BYTES >> 2));
        let mut record = Record::default();
        // The words that the current record has in common with the one before, and a suffix with
        // the own suffix before it.
        let (mut record_lcp, mut lcp) = (0, usize::MAX);
        let mut is_first = true;
        let mut flush = |record: &mut Record, lcp: usize| -> Result<()> {
            record.before.sort_unstable();
            record.before.dedup();
            record.put(lcp, &mut bytes);
            record.ends = 0;
            record.after.clear();
            record.before.clear();
            if bytes.len() >= BLOCK_BYTES {
                put(&bytes)?;
                bytes.clear();
            }
            Ok(())
        };
        for (i, (&position, entry)) in positions.iter().zip(lcps).enumerate() {
            if let Some(&position) = positions.get(i + PREFETCH_DISTANCE) {
                prefetch(&self.tokens, position as usize);
            }
            let position = position as usize;
            lcp = lcp.min(entry.lcp.into());
            if position >= self.own {
                continue;
            }
            let len = usize::from(entry.len);
            let context_len = len.min(context);
            if is_first || lcp < context_len || record.len != context_len {
                if !is_first {
                    flush(&mut record, record_lcp)?;
                }
                record_lcp = if is_first { 0 } else { lcp.min(record.len).min(context_len) };
                record.len = context_len;
                let tokens = &self.tokens[position..position + context_len];
                for (word, &token) in record.words.iter_mut().zip(tokens) {
                    *word = words[token as usize];
                }
                is_first = false;
            }
            lcp = usize::MAX;
            if len > context {
                let word = words[self.tokens[position + context] as usize];
                match record.after.last_mut() {
                    Some((last, count)) if *last == word => *count += 1,
                    _ => record.after.push((word, 1)),
                }
            } else {
                record.ends += 1;
            }
            if before && Some(self.tokens[position]) != bos {
                let own = |at: usize| Some(words[self.tokens[at] as usize]);
                let before = position.checked_sub(1).map_or(self.before, own);
                record.before.extend(before);
            }
        }
        if !is_first {
            flush(&mut record, record_lcp)?;
        }
        if bytes.is_empty() { Ok(()) } else { put(&bytes) }
    }
}

/// The words that occur in a part, as a bit each, with the number of those before every 64.
struct PartWords(Vec<(u64, u32)>);

impl PartWords {
    fn new(tokens: &[u32], vocab_size: usize) -> Self {
        let mut blocks = vec![(0_u64, 0_u32); vocab_size.div_ceil(64)];
        for &token in tokens {
            blocks[token as usize / 64].0 |= 1 << (token % 64);
        }
        let mut before = 0;
        for (bits, rank) in &mut blocks {
            *rank = before;
            before += bits.count_ones();
        }
        Self(blocks)
    }

    fn has(&self, word: u32) -> bool {
        self.0[word as usize / 64].0 >> (word % 64) & 1 == 1
    }

    /// The number of words of the part below `word`.
    #[inline]
    fn number(&self, word: u32) -> u32 {
        let (bits, rank) = self.0[word as usize / 64];
        rank + (bits & ((1 << (word % 64)) - 1)).count_ones()
    }

    /// The words by their numbers.
    fn words(self) -> Vec<u32> {
        let bits = self.0.into_iter().zip((0..).step_by(64));
        let of = |((mut bits, _), first): ((u64, u32), u32)| {
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros());
                bits &= bits.wrapping_sub(1);
                bit.map(|bit| first + bit)
            })
        };
        bits.flat_map(of).collect()
    }
}
