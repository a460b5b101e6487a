//! From a trie back to tables with suffix links, from which models are written.

use rayon::prelude::*;

use super::estimate::Estimate;
use super::header::BackoffScheme;
use super::trie::{Trie, UnpackedLevel};
use crate::{Error, Result};

impl Trie {
    /// The tables of this model, with suffix links found by search.
    ///
    /// A model that backs off needs no links, and some n-grams may lack one: it gets none.
    ///
    /// # Errors
    /// [`Error::Config`] for inconsistent contents, which may come from a file.
    pub fn to_estimate(&self) -> Result<Estimate> {
        self.estimate(self.header().scheme == BackoffScheme::Interpolate)
    }

    /// [`Self::to_estimate`] with links in every model.
    ///
    /// # Errors
    /// The same; an n-gram without a suffix.
    pub(super) fn to_linked_estimate(&self) -> Result<Estimate> {
        self.estimate(true)
    }

    fn estimate(&self, linked: bool) -> Result<Estimate> {
        let header = self.header();
        let tables = self.tables()?;
        let mut suffixes: Vec<Vec<u32>> = Vec::with_capacity(tables.len());
        for len in 0..tables.len() {
            suffixes.push(match len {
                _ if !linked => Vec::new(),
                0 => Vec::new(),
                1 => tables[1].words.clone(),
                _ => find_suffix_links(&tables, &suffixes[len - 1], len)?,
            });
        }
        Ok(Estimate {
            vocab_size: header.vocab_size,
            bos: header.bos,
            scheme: header.scheme,
            unseen_context_factor: header.unseen_context_factor,
            tables,
            suffix_links: suffixes,
        })
    }

    /// The tables of this model, with valid indices.
    pub(super) fn tables(&self) -> Result<Vec<UnpackedLevel>> {
        let tables = self.unpack();
        for (len, table) in tables.iter().enumerate() {
            check(table, tables.get(len + 1), self.header().vocab_size)
                .map_err(|problem| Error::Config(format!("the n-grams of order {} {problem}", len + 1)))?;
        }
        Ok(tables)
    }
}

/// Checks every index of `table`.
fn check(table: &UnpackedLevel, higher: Option<&UnpackedLevel>, vocab_size: u32) -> Result<(), &'static str> {
    let within = |indices: &[u32], len: usize| indices.par_iter().all(|&i| (i as usize) < len);
    if !within(&table.words, vocab_size as usize) {
        return Err("have a word outside the vocabulary");
    }
    if !within(&table.value_ids, table.distinct_values.len()) {
        return Err("have no value");
    }
    let Some(higher) = higher else { return Ok(()) };
    if !within(&table.weight_ids, table.distinct_weights.len()) {
        return Err("have no weight");
    }
    let end = table.child_offsets.last().map_or(0, |&end| end as usize);
    if end != higher.value_ids.len() || !table.child_offsets.is_sorted() {
        return Err("have inconsistent continuations");
    }
    Ok(())
}

/// The suffix links of order `len` + 1: the link of hw is the child w of h's link.
fn find_suffix_links(tables: &[UnpackedLevel], parents: &[u32], len: usize) -> Result<Vec<u32>> {
    const SHARE: usize = 1 << 14;
    let (lower, shorter, words) = (&tables[len - 2], &tables[len - 1], &tables[len].words);
    let parts = (0..parents.len().div_ceil(SHARE)).into_par_iter().map(|share| {
        let nodes = share * SHARE..parents.len().min((share + 1) * SHARE);
        let mut part = Vec::new();
        for node in nodes {
            let mut range = lower.children(parents[node] as usize);
            for &word in &words[shorter.children(node)] {
                let at = shorter.words[range.clone()]
                    .binary_search(&word)
                    .map_err(|_| Error::Config(format!("a {}-gram has no suffix", len + 1)))?;
                part.push((range.start + at) as u32);
                // The next word is larger.
                range.start += at + 1;
            }
        }
        Ok(part)
    });
    let parts: Result<Vec<Vec<u32>>> = parts.collect();
    Ok(parts?.concat())
}

#[cfg(test)]
mod tests {
    use super::super::{NgramConfig, Smoothing, estimate};

    #[test]
    fn searched_suffixes_are_those_of_the_text() {
        let text: Vec<u32> = (0..3000_u32).map(|i| i * i % 101 * i % 13).collect();
        for smoothing in Smoothing::ALL {
            let config = NgramConfig { heldout: 0.2, ..NgramConfig::new(4, smoothing) };
            let (estimate, _) = estimate(&text, 13, &config).unwrap();
            let back = estimate.clone().into_trie().unwrap().to_estimate().unwrap();
            let (mut lower, mut lower_back) = (Vec::new(), Vec::new());
            for len in 0..4 {
                lower = estimate.level(len, &lower).all();
                lower_back = back.level(len, &lower_back).all();
                assert_eq!(lower, lower_back, "{smoothing:?} {len}");
            }
        }
    }
}
