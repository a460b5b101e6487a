//! Suffix links: the index of each n-gram without its first word.

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use super::order_counts::OrderCounts;

/// The longest common prefix with the preceding suffix, and the suffix length, in tokens, at most
/// `order`. A suffix ends before the next `<s>`.
#[derive(Clone, Copy, Default)]
pub(super) struct LcpEntry {
    pub(super) lcp: u8,
    pub(super) len: u8,
}

/// The suffixes that begin with some range of words; their LCPs once they are sorted.
pub(super) struct Bucket<'a> {
    pub(super) positions: &'a mut [u32],
    pub(super) lcps: &'a mut [LcpEntry],
}

impl Bucket<'_> {
    #[inline]
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, LcpEntry)> {
        self.positions.iter().zip(&*self.lcps).map(|(&position, &entry)| (position as usize, entry))
    }
}

/// The suffix array with its LCPs.
pub(super) struct SortedSuffixes {
    pub(super) positions: Vec<u32>,
    pub(super) lcps: Vec<LcpEntry>,
    /// Number of suffixes in each bucket.
    pub(super) sizes: Vec<usize>,
    /// Per order, the number of n-grams before each bucket.
    pub(super) before: Vec<Vec<u32>>,
}

impl SortedSuffixes {
    /// Replaces a position of each n-gram by its suffix link: the suffix begins at the next
    /// position, so the n-grams of each order by position are the links of the next order. `memory`
    /// has one element per position, of any value.
    pub(super) fn build_links(mut self, levels: &mut [OrderCounts], memory: Vec<u32>) {
        if let Some(level) = levels.get_mut(1) {
            level.suffix_links.clone_from(&level.words);
        }
        let ids: Vec<AtomicU32> = memory.into_iter().map(AtomicU32::new).collect();
        let buckets = cut_buckets(&mut self.positions, &mut self.lcps, &self.sizes);
        for len in 1..levels.len().saturating_sub(1) {
            buckets.par_iter().zip(&self.before[len]).for_each(|(bucket, &before)| {
                let mut id = before.wrapping_sub(1);
                for (position, entry) in bucket.entries().filter(|(_, entry)| usize::from(entry.len) > len) {
                    id = id.wrapping_add(u32::from(usize::from(entry.lcp) <= len));
                    ids[position].store(id, Ordering::Relaxed);
                }
            });
            levels[len + 1]
                .suffix_links
                .par_iter_mut()
                .for_each(|suffix| *suffix = ids[*suffix as usize + 1].load(Ordering::Relaxed));
        }
    }
}

/// The buckets of these sizes.
pub(super) fn cut_buckets<'a>(
    positions: &'a mut [u32],
    lcps: &'a mut [LcpEntry],
    sizes: &[usize],
) -> Vec<Bucket<'a>> {
    let parts = cut(positions, sizes).into_iter().zip(cut(lcps, sizes));
    parts.map(|(positions, lcps)| Bucket { positions, lcps }).collect()
}

/// Splits an array into parts of these sizes.
pub(super) fn cut<'a, T>(mut array: &'a mut [T], sizes: &[usize]) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(sizes.len());
    for &size in sizes {
        let (part, rest) = array.split_at_mut(size);
        parts.push(part);
        array = rest;
    }
    parts
}
