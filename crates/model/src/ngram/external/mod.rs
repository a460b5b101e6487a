//! Counting a text that does not fit into memory, by external sorting.
//!
//! The text comes in parts that fit. Each is sorted into a *run* ([`TextPart::sort`]); the runs are
//! merged ([`merge()`]) into streams of the n-grams of every order, with the statistics of what
//! follows them; [`Smoothed`] has the weights that follow from the sums of those; and
//! [`Smoothed::level`] gives the probabilities of an order from those of the order below. Memory
//! holds the vocabulary, a part, and a block of each stream.
//!
//! All streams are cut by the first word of an n-gram into *partitions*, which threads take one by
//! one. An n-gram needs the probability of its suffix. The suffixes of the n-grams that begin with
//! one word are in the order of those n-grams, so each probability is handed to the partitions of
//! the words before it, and a partition only sorts what it gets by that word. Nothing else is
//! sorted twice.
//!
//! This module knows no files: blocks of bytes come from [`Blocks`] and go to functions.

mod codec;
mod level;
mod merge;
mod pack;
mod part;
mod rows;
mod smoothed;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use codec::Blocks;
pub use level::{Gram, GramReader, LowerReader, WeightReader, sort_lower};
pub use merge::{MergeOptions, Merged, OrderTotals, merge, merge_runs};
pub use pack::{GramStreams, Put, StreamedTrie, pack_children, pack_counts, pack_words};
pub use part::TextPart;
pub use rows::Rows;
pub use smoothed::{LevelOutput, LevelStreams, Smoothed, put_lower};

use codec::{StreamReader, malformed, put};

use super::ContextStats;
use crate::{Error, Result};

/// The largest number of partitions.
const MAX_PARTITIONS: usize = 1 << 12;

/// The n-grams that are counted, and the words that begin those of each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The largest number of words of an n-gram, at least 2.
    pub order: usize,
    /// |V|.
    pub vocab_size: usize,
    /// `<s>`, where lines are sentences.
    pub bos: Option<u32>,
    /// The first word of each partition, and |V|.
    starts: Vec<u32>,
    /// The partition of each word.
    partition_of: Vec<u16>,
}

impl Layout {
    /// About `partitions` partitions of about the same number of the words that occur
    /// `frequencies` times; a word that is more frequent has its own.
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid order.
    pub fn new(order: usize, bos: Option<u32>, frequencies: &[u32], partitions: usize) -> Result<Self> {
        super::counts::check_order(order)?;
        if order < 2 {
            return Err(Error::Config("single words are counted in memory".into()));
        }
        let total: u64 = frequencies.iter().map(|&frequency| u64::from(frequency)).sum();
        let share = total.div_ceil(partitions.clamp(1, MAX_PARTITIONS / 2) as u64).max(1);
        let (mut starts, mut filled) = (vec![0], 0);
        let mut partition_of = Vec::with_capacity(frequencies.len());
        for (word, &frequency) in frequencies.iter().enumerate() {
            let frequency = u64::from(frequency);
            if filled > 0 && filled + frequency > share {
                starts.push(word as u32);
                filled = 0;
            }
            filled += frequency;
            partition_of.push(starts.len() as u16 - 1);
        }
        starts.push(frequencies.len() as u32);
        Ok(Self { order, vocab_size: frequencies.len(), bos, starts, partition_of })
    }

    /// The number of partitions.
    pub fn partitions(&self) -> usize {
        self.starts.len() - 1
    }

    /// The words that begin the n-grams of a partition.
    pub fn words(&self, partition: usize) -> Range<u32> {
        self.starts[partition]..self.starts[partition + 1]
    }

    /// The partition of the n-grams that begin with `word`.
    #[inline]
    pub fn partition_of(&self, word: u32) -> usize {
        self.partition_of[word as usize].into()
    }

    /// The number of streams of a partition after merging.
    pub fn streams(&self) -> usize {
        2 * self.order
    }
}

/// A stream of a partition after merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The n-grams of this many words and one more, in order.
    Grams(usize),
    /// The words before each of them; empty at the highest order.
    Before(usize),
}

impl Stream {
    /// The number of the stream, below [`Layout::streams`].
    pub fn index(self, layout: &Layout) -> usize {
        match self {
            Self::Grams(len) => len,
            Self::Before(len) => layout.order + len,
        }
    }
}

/// Appends the statistics of the words after a context: most contexts have none, or one.
fn put_stats(after: &ContextStats, bytes: &mut Vec<u8>) {
    match (after.types(), after.total, after.pruned) {
        (0, 0, 0) => put(0, bytes),
        (1, total, 0) => put(total + 1, bytes),
        (_, total, pruned) => {
            put(1, bytes);
            after.n.iter().for_each(|&n| put(n.into(), bytes));
            put(total, bytes);
            put(pruned, bytes);
        }
    }
}

/// Reads what [`put_stats`] wrote.
#[inline]
fn get_stats(reader: &mut StreamReader) -> Result<ContextStats> {
    let mut after = ContextStats::default();
    match reader.get()? {
        0 => {}
        1 => {
            for n in &mut after.n {
                *n = reader.get_u32()?;
            }
            (after.total, after.pruned) = (reader.get()?, reader.get()?);
        }
        code => {
            after.total = code - 1;
            after.n[after.total.min(3) as usize - 1] = 1;
        }
    }
    Ok(after)
}
