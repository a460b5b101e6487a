//! The counts and context statistics that smoothers use.

use rayon::prelude::*;

use super::counts::Counts;

/// The discounts of counts of 1, 2, and 3 or more.
pub type Discounts = [f64; 3];

/// Adjusted counts, and counts of counts.
#[derive(Debug)]
pub(crate) struct Statistics {
    /// Kneser-Ney: below the highest order, the number of different words before an n-gram, N₁₊(·
    /// g).
    continuation_counts: Vec<Vec<u32>>,
    /// The unigram counts without `<s>`.
    unigrams: Vec<u32>,
    /// The number of n-grams of each order with counts from 1 to 8.
    pub(crate) count_of_counts: Vec<[u64; 8]>,
}

impl Statistics {
    /// Counts occurrences, or with `use_continuation` different words before; `lmplz`: as KenLM.
    pub(crate) fn new(counts: &Counts, use_continuation: bool, lmplz: bool) -> Self {
        let order = counts.order();
        let adjusted: Vec<Vec<u32>> = if use_continuation && order > 1 {
            (0..order - 1).into_par_iter().map(|len| continuation_counts(counts, len)).collect()
        } else {
            Vec::new()
        };
        let mut unigrams = adjusted.first().unwrap_or(&counts.levels[0].counts).clone();
        if let Some(bos) = counts.bos {
            unigrams[bos as usize] = 0;
        }
        let mut statistics = Self { continuation_counts: adjusted, unigrams, count_of_counts: Vec::new() };
        let count_of_counts = |len| {
            let mut n = [0; 8];
            for &count in statistics.adjusted_counts(counts, len) {
                if let Some(n) = (count as usize).checked_sub(1).and_then(|i| n.get_mut(i)) {
                    *n += 1;
                }
            }
            n
        };
        statistics.count_of_counts = (0..order).into_par_iter().map(count_of_counts).collect();
        if lmplz && use_continuation {
            statistics.lmplz_quirk(counts);
        }
        statistics
    }

    /// Those of single words alone.
    pub(super) fn of_unigrams(unigrams: Vec<u32>) -> Self {
        Self { continuation_counts: Vec::new(), unigrams, count_of_counts: Vec::new() }
    }

    /// The counts of order `len` + 1.
    pub(crate) fn adjusted_counts<'a>(&'a self, counts: &'a Counts, len: usize) -> &'a [u32] {
        match len {
            0 => &self.unigrams,
            _ => self.continuation_counts.get(len).unwrap_or(&counts.levels[len].counts),
        }
    }

    /// [`Self::adjusted_counts`], which moves those of this order out of `counts`.
    pub(super) fn take(&mut self, counts: &mut Counts, len: usize) -> Vec<u32> {
        let raw = std::mem::take(&mut counts.levels[len].counts);
        self.continuation_counts.get_mut(len).map_or(raw, std::mem::take)
    }

    /// Like lmplz, uses the raw counts of the suffixes of the last n-gram in suffix order: lmplz
    /// finishes those suffixes only after its statistics.
    fn lmplz_quirk(&mut self, counts: &Counts) {
        let order = counts.order();
        let Some(last) = last_in_suffix_order(counts) else { return };
        for len in 1..order.min(last.len() + 1) {
            let Some(gram) = counts.find(&last[last.len() - len..]) else { continue };
            let contexts = self.adjusted_counts(counts, len - 1)[gram];
            let raw = counts.levels[len - 1].counts[gram];
            let n = &mut self.count_of_counts[len - 1];
            let mut bump = |count: u32, by: i64| {
                if let Some(n) = (count as usize).checked_sub(1).and_then(|i| n.get_mut(i)) {
                    *n = n.saturating_add_signed(by);
                }
            };
            bump(contexts, -1);
            bump(raw, 1);
        }
    }
}

/// The continuation counts of order `len` + 1.
fn continuation_counts(counts: &Counts, len: usize) -> Vec<u32> {
    let level = &counts.levels[len];
    let mut adjusted = vec![0_u32; level.counts.len()];
    for &suffix in &counts.levels[len + 1].suffix_links {
        adjusted[suffix as usize] += 1;
    }
    match counts.bos {
        // Nothing precedes <s>: what begins with it keeps its occurrences.
        Some(bos) => {
            let mut range = bos as usize..bos as usize + 1;
            for level in &counts.levels[..len] {
                range = level.child_offsets[range.start] as usize..level.child_offsets[range.end] as usize;
            }
            adjusted[range.clone()].copy_from_slice(&level.counts[range]);
        }
        // The beginning of the text precedes its first words.
        None => {
            let beginning = counts.text_prefix.get(..=len).and_then(|gram| counts.find(gram));
            if let Some(gram) = beginning {
                adjusted[gram] += 1;
            }
        }
    }
    adjusted
}

/// The last in suffix order (compared from the end) of the longest n-grams and of those that begin
/// with `<s>`.
fn last_in_suffix_order(counts: &Counts) -> Option<Vec<u32>> {
    let order = counts.order();
    let highest = (0..counts.vocab_size)
        .rev()
        .find(|&word| Some(word) != counts.bos && counts.levels[0].counts[word as usize] > 0)?;
    let mut last: Option<Vec<u32>> = None;
    for len in 1..order {
        let level = &counts.levels[len];
        for (index, _) in level.words.iter().enumerate().filter(|&(_, &word)| word == highest) {
            let gram = counts.words(len + 1, index);
            if (len + 1 == order || Some(gram[0]) == counts.bos)
                && last.as_ref().is_none_or(|last| last.iter().rev().lt(gram.iter().rev()))
            {
                last = Some(gram);
            }
        }
    }
    last
}

/// The counts after one context, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContextStats {
    /// c(h) = Σ c(hw).
    pub total: u64,
    /// The number of words with counts of 1, 2, and 3 or more, pruned ones left out.
    pub n: [u32; 3],
    /// Σ counts of the pruned words.
    pub pruned: u64,
}

impl ContextStats {
    /// Sums up `counts`; words that are not kept are pruned.
    #[inline]
    pub(crate) fn new(counts: &[u32], keep: Option<&[bool]>) -> Self {
        let mut context = Self::default();
        for (i, &count) in counts.iter().enumerate() {
            context.add(count, keep.is_none_or(|keep| keep[i]));
        }
        context
    }

    /// Adds the count of a word, which is pruned unless it is `kept`.
    #[inline]
    pub(super) fn add(&mut self, count: u32, kept: bool) {
        self.total += u64::from(count);
        if !kept {
            self.pruned += u64::from(count);
        } else if count > 0 {
            self.n[count.min(3) as usize - 1] += 1;
        }
    }

    /// T(h), the number of different words.
    pub fn types(&self) -> u64 {
        self.n.iter().map(|&n| u64::from(n)).sum()
    }

    /// The back-off mass: Σ D_j N_j and the counts of pruned words.
    pub fn backoff_mass(&self, discounts: &Discounts) -> f64 {
        let subtracted: f64 = discounts.iter().zip(self.n).map(|(d, n)| d * f64::from(n)).sum();
        subtracted + self.pruned as f64
    }
}
