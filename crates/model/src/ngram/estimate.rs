//! What smoothing makes: the tables of all orders, and the probabilities that follow from them.

use rayon::prelude::*;
use surprisal_platform::prefetch::prefetch;

use super::header::Combine;
use super::trie::Table;

/// A model on its way to a trie: tables, and the suffix of every gram.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// |V|.
    pub vocab_size: u32,
    /// `<s>`.
    pub bos: Option<u32>,
    /// How values and lower orders combine.
    pub combine: Combine,
    /// The factor for contexts that were never seen.
    pub missing: f64,
    /// One table an order.
    pub tables: Vec<Table>,
    /// Each gram without its first word, as its index in the order below; none for order 1.
    pub suffixes: Vec<Vec<u32>>,
}

impl Estimate {
    /// The probabilities of the grams of order `len` + 1, from those of the order below.
    pub fn level<'a>(&'a self, len: usize, lower: &'a [f64]) -> Probabilities<'a> {
        let uniform = 1.0 / f64::from(self.vocab_size - u32::from(self.bos.is_some())).max(1.0);
        let suffixes =
            if len > 0 && self.combine == Combine::Interpolate { self.suffixes[len].as_slice() } else { &[] };
        let parents = len.checked_sub(1).map(|parent| &self.tables[parent]);
        Probabilities { table: &self.tables[len], parents, suffixes, combine: self.combine, lower, uniform }
    }

    /// Drops the grams that are not kept. What is kept has its prefixes and suffixes kept.
    pub(super) fn retain(&mut self, keep: &[Option<Vec<bool>>]) {
        let mut below: Option<Vec<u32>> = None;
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
            filter(&mut table.values);
            if !table.contexts.is_empty() {
                filter(&mut table.contexts);
            }
            if !table.starts.is_empty() {
                let end = table.starts.pop();
                filter(&mut table.starts);
                // A node that is dropped has no kept children, so the next node's start is where they would end.
                table.starts.extend(end);
            }
            filter(&mut self.suffixes[len]);
            if let Some(below) = &below {
                self.suffixes[len].iter_mut().for_each(|suffix| *suffix = below[*suffix as usize]);
            }
            if let Some(parents) = len.checked_sub(1).map(|parent| &mut self.tables[parent].starts) {
                for start in parents {
                    *start = renumbered.get(*start as usize).copied().unwrap_or(next);
                }
            }
            below = Some(renumbered);
        }
    }
}

/// The probabilities of the grams of one order.
#[derive(Debug, Clone, Copy)]
pub struct Probabilities<'a> {
    table: &'a Table,
    parents: Option<&'a Table>,
    suffixes: &'a [u32],
    combine: Combine,
    lower: &'a [f64],
    uniform: f64,
}

impl Probabilities<'_> {
    /// Of `gram`, a continuation of context `node` (0 for a single word).
    #[inline]
    pub fn of(&self, node: usize, gram: usize) -> f64 {
        /// How many grams ahead the probability of a suffix is asked for.
        const AHEAD: usize = 16;
        let value = self.table.numerators[self.table.values[gram] as usize];
        let Some(parents) = self.parents else { return value };
        let lower = match self.combine {
            Combine::BackOff => 0.0,
            Combine::Interpolate => {
                if let Some(&suffix) = self.suffixes.get(gram + AHEAD) {
                    prefetch(self.lower, suffix as usize);
                }
                self.lower[self.suffixes[gram] as usize]
            }
            Combine::Longest => self.uniform,
        };
        self.combine.with(Some(value), parents.weights[parents.contexts[node] as usize], lower)
    }

    /// Of all grams.
    pub fn all(&self) -> Vec<f64> {
        let starts = self.parents.map_or(&[][..], |parents| &parents.starts);
        let grams = (0..self.table.values.len()).into_par_iter();
        // Each task finds the context of its first gram, and walks on from there.
        let of = |node: &mut Option<usize>, gram: usize| {
            let found = || starts.partition_point(|&start| start as usize <= gram).saturating_sub(1);
            let mut at = node.unwrap_or_else(found);
            while starts.get(at + 1).is_some_and(|&end| end as usize <= gram) {
                at += 1;
            }
            *node = Some(at);
            self.of(at, gram)
        };
        grams.with_min_len(1 << 12).map_init(|| None, of).collect()
    }
}
