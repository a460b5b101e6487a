//! The tables that smoothing makes, and the probabilities that follow from them.

use rayon::prelude::*;
use surprisal_platform::prefetch::prefetch;

use super::header::BackoffScheme;
use super::trie::UnpackedLevel;

/// A model before it is packed: tables with suffix links.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// |V|.
    pub vocab_size: u32,
    /// `<s>`.
    pub bos: Option<u32>,
    /// Combination of values with lower orders.
    pub scheme: BackoffScheme,
    /// The factor of the lower order where a context was never seen.
    pub unseen_context_factor: f64,
    /// One table per order.
    pub tables: Vec<UnpackedLevel>,
    /// The index of each n-gram without its first word, in the order below; empty for order 1.
    pub suffix_links: Vec<Vec<u32>>,
}

impl Estimate {
    /// The probabilities of the n-grams of order `len` + 1, from those of the order below.
    pub fn level<'a>(&'a self, len: usize, lower: &'a [f64]) -> Probabilities<'a> {
        let uniform = 1.0 / f64::from(self.vocab_size - u32::from(self.bos.is_some())).max(1.0);
        let suffixes = if len > 0 && self.scheme == BackoffScheme::Interpolate {
            self.suffix_links[len].as_slice()
        } else {
            &[]
        };
        let parents = len.checked_sub(1).map(|parent| &self.tables[parent]);
        Probabilities {
            table: &self.tables[len],
            parents,
            suffix_links: suffixes,
            scheme: self.scheme,
            lower,
            uniform,
        }
    }

    /// Removes n-grams. The prefix and the suffix of a kept n-gram are kept.
    pub(super) fn retain(&mut self, keep: &[Option<Vec<bool>>]) {
        let mut lower_ids: Option<Vec<u32>> = None;
        for (len, kept) in keep.iter().enumerate() {
            let Some(kept) = kept else { continue };
            let mut renumbered = vec![0_u32; kept.len()];
            let mut next = 0;
            for (number, &kept) in renumbered.iter_mut().zip(kept) {
                *number = next;
                next += u32::from(kept);
            }
            let filter = |values: &mut Vec<u32>| {
                let mut kept = kept.iter();
                values.retain(|_| kept.next().copied().unwrap_or(false));
            };
            let table = &mut self.tables[len];
            filter(&mut table.words);
            filter(&mut table.value_ids);
            if !table.weight_ids.is_empty() {
                filter(&mut table.weight_ids);
            }
            if !table.child_offsets.is_empty() {
                let end = table.child_offsets.pop();
                filter(&mut table.child_offsets);
                // A removed node has no kept children, so the next node's offset is where they
                // would end.
                table.child_offsets.extend(end);
            }
            filter(&mut self.suffix_links[len]);
            if let Some(lower_ids) = &lower_ids {
                self.suffix_links[len].iter_mut().for_each(|suffix| *suffix = lower_ids[*suffix as usize]);
            }
            if let Some(parents) = len.checked_sub(1).map(|parent| &mut self.tables[parent].child_offsets) {
                for start in parents {
                    *start = renumbered.get(*start as usize).copied().unwrap_or(next);
                }
            }
            lower_ids = Some(renumbered);
        }
    }
}

/// The probabilities of the n-grams of one order.
#[derive(Debug, Clone, Copy)]
pub struct Probabilities<'a> {
    table: &'a UnpackedLevel,
    parents: Option<&'a UnpackedLevel>,
    suffix_links: &'a [u32],
    scheme: BackoffScheme,
    lower: &'a [f64],
    uniform: f64,
}

impl Probabilities<'_> {
    /// That of n-gram `gram`, a continuation of context `node` (0 for a single word).
    #[inline]
    pub fn probability(&self, node: usize, gram: usize) -> f64 {
        /// Prefetch distance of the probability of a suffix, in n-grams.
        const PREFETCH_DISTANCE: usize = 16;
        let value = self.table.distinct_values[self.table.value_ids[gram] as usize];
        let Some(parents) = self.parents else { return value };
        let lower = match self.scheme {
            BackoffScheme::BackOff => 0.0,
            BackoffScheme::Interpolate => {
                if let Some(&suffix) = self.suffix_links.get(gram + PREFETCH_DISTANCE) {
                    prefetch(self.lower, suffix as usize);
                }
                self.lower[self.suffix_links[gram] as usize]
            }
            BackoffScheme::LongestOnly => self.uniform,
        };
        self.scheme.combine(Some(value), parents.distinct_weights[parents.weight_ids[node] as usize], lower)
    }

    /// Those of all n-grams.
    pub fn all(&self) -> Vec<f64> {
        let starts = self.parents.map_or(&[][..], |parents| &parents.child_offsets);
        let grams = (0..self.table.value_ids.len()).into_par_iter();
        // Each task finds the context of its first n-gram and advances from there.
        let of = |node: &mut Option<usize>, gram: usize| {
            let found = || starts.partition_point(|&start| start as usize <= gram).saturating_sub(1);
            let mut at = node.unwrap_or_else(found);
            while starts.get(at + 1).is_some_and(|&end| end as usize <= gram) {
                at += 1;
            }
            *node = Some(at);
            self.probability(at, gram)
        };
        grams.with_min_len(1 << 12).map_init(|| None, of).collect()
    }
}
