//! Which gram each gram is without its first word.

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use super::order_counts::OrderCounts;

/// How many words a sorted place shares with the one before it, and how many it has.
#[derive(Clone, Copy, Default)]
pub(super) struct LcpEntry {
    pub(super) lcp: u8,
    pub(super) len: u8,
}

/// The places of the words from one on; once they are sorted, with their shapes.
pub(super) struct Bucket<'a> {
    pub(super) positions: &'a mut [u32],
    pub(super) lcps: &'a mut [LcpEntry],
}

impl Bucket<'_> {
    #[inline]
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, LcpEntry)> {
        self.positions.iter().zip(&*self.lcps).map(|(&place, &shape)| (place as usize, shape))
    }
}

/// The places in the order of what begins there.
pub(super) struct SortedSuffixes {
    pub(super) positions: Vec<u32>,
    pub(super) lcps: Vec<LcpEntry>,
    /// Of the buckets.
    pub(super) sizes: Vec<usize>,
    /// For each order, how many grams stand in the buckets before each.
    pub(super) before: Vec<Vec<u32>>,
}

impl SortedSuffixes {
    /// A gram's suffix begins one place later: the grams of each order by place are those of the next order's suffixes. Until
    /// now there is a place of each gram instead. `memory` has an element a place, of any value.
    pub(super) fn build_links(mut self, levels: &mut [OrderCounts], memory: Vec<u32>) {
        if let Some(level) = levels.get_mut(1) {
            level.suffix_links.clone_from(&level.words);
        }
        let ids: Vec<AtomicU32> = memory.into_iter().map(AtomicU32::new).collect();
        let buckets = cut_buckets(&mut self.positions, &mut self.lcps, &self.sizes);
        for len in 1..levels.len().saturating_sub(1) {
            buckets.par_iter().zip(&self.before[len]).for_each(|(bucket, &before)| {
                let mut id = before.wrapping_sub(1);
                for (place, shape) in bucket.entries().filter(|(_, shape)| usize::from(shape.len) > len) {
                    id = id.wrapping_add(u32::from(usize::from(shape.lcp) <= len));
                    ids[place].store(id, Ordering::Relaxed);
                }
            });
            levels[len + 1]
                .suffix_links
                .par_iter_mut()
                .for_each(|suffix| *suffix = ids[*suffix as usize + 1].load(Ordering::Relaxed));
        }
    }
}

/// The parts of these sizes.
pub(super) fn cut_buckets<'a>(
    places: &'a mut [u32],
    shapes: &'a mut [LcpEntry],
    sizes: &[usize],
) -> Vec<Bucket<'a>> {
    let parts = cut(places, sizes).into_iter().zip(cut(shapes, sizes));
    parts.map(|(places, shapes)| Bucket { positions: places, lcps: shapes }).collect()
}

/// Cuts an array into parts of these sizes.
pub(super) fn cut<'a, T>(mut array: &'a mut [T], sizes: &[usize]) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(sizes.len());
    for &size in sizes {
        let (part, rest) = array.split_at_mut(size);
        parts.push(part);
        array = rest;
    }
    parts
}
