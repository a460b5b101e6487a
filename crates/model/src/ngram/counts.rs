//! Counts of the n-grams of all orders, from one truncated suffix array.
//!
//! Where the longest common prefix with the previous suffix is k words, new (k + 1)-grams and
//! longer ones begin. The result is already the trie: the continuations of a context are adjacent.
//! The *suffix link* of an n-gram (the n-gram without its first word) is found without a search: it
//! begins at the next position of the text.

use std::borrow::Cow;

use rayon::prelude::*;

use super::MAX_ORDER;
use super::order_counts::OrderCounts;
use super::suffix_array::{SuffixSorter, zeros};
use crate::{Error, Result, check_tokens};

/// The number of occurrences of every n-gram.
///
/// ```
/// # use surprisal_model::ngram::{Counts, NgramConfig, from_counts};
/// # fn main() -> surprisal_model::Result<()> {
/// let counts = Counts::new(&[0, 1, 0, 1, 0], 2, 2, None)?;
/// let pair = counts.find(&[0, 1]).expect("it occurs");
/// assert_eq!(counts.levels[1].counts[pair], 2);
/// let (model, _) = from_counts(counts, &NgramConfig::default(), None)?; // maximum likelihood
/// assert_eq!(model.into_trie()?.header().levels.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// |V|.
    pub vocab_size: u32,
    /// `<s>`, where lines are sentences: it begins every sequence and is context only.
    pub bos: Option<u32>,
    /// Index i has the n-grams of i + 1 words.
    pub levels: Vec<OrderCounts>,
    /// Without `<s>`: the first order − 1 words of the text, which nothing precedes.
    pub text_prefix: Vec<u32>,
}

impl Counts {
    /// Counts n-grams of up to `order` words of `tokens`: one text, or lines that each begin with
    /// `bos`.
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid order or a text that is too long; a token outside the
    /// vocabulary.
    pub fn new(tokens: &[u32], vocab_size: usize, order: usize, bos: Option<u32>) -> Result<Self> {
        Self::new_with_progress(tokens, vocab_size, order, bos, &|_| ())
    }

    /// [`Self::new`] with progress: each thread calls `done` with the number of positions it
    /// finished. All calls sum to [`Self::PASSES`] times the length of `tokens`. The memory of
    /// owned tokens is reused.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn new_with_progress<'a>(
        tokens: impl Into<Cow<'a, [u32]>>,
        vocab_size: usize,
        order: usize,
        bos: Option<u32>,
        done: &(dyn Fn(u64) + Sync),
    ) -> Result<Self> {
        let tokens = tokens.into();
        check_order(order)?;
        check_tokens(&tokens, vocab_size)?;
        if tokens.len() >= u32::MAX as usize || vocab_size >= u32::MAX as usize {
            let message = format!("{} tokens are too many to count at once; count shards", tokens.len());
            return Err(Error::Config(message));
        }
        let text = SuffixSorter::new(&tokens, vocab_size, order, bos, done);
        let (mut levels, sorted) = text.levels();
        drop(text);
        let text_prefix = match bos {
            Some(_) => Vec::new(),
            None => tokens[..tokens.len().min(order - 1)].to_vec(),
        };
        let memory = match tokens {
            Cow::Owned(tokens) => tokens,
            Cow::Borrowed(tokens) => zeros(if order > 2 { tokens.len() } else { 0 }),
        };
        sorted.build_links(&mut levels, memory);
        Ok(Self { vocab_size: vocab_size as u32, bos, levels, text_prefix })
    }

    /// The counts of single words, which occur `frequencies` times.
    pub fn of_words(frequencies: Vec<u32>, bos: Option<u32>) -> Self {
        Self {
            vocab_size: frequencies.len() as u32,
            bos,
            levels: vec![OrderCounts { counts: frequencies, ..OrderCounts::default() }],
            text_prefix: Vec::new(),
        }
    }

    /// Passes over the text: to sort its positions, and to store the n-grams that begin there.
    pub const PASSES: u64 = 2;

    /// The peak memory of counting `tokens` tokens up to `order`, in bytes.
    pub fn memory(tokens: usize, vocab_size: usize, order: usize) -> u64 {
        // Per position: itself, its LCP entry, its n-gram, and one new n-gram of every order from 2
        // (word, count, child offset, suffix link); and sort keys of the most frequent word, at
        // most at every other position.
        let grams = (order as u64 - 1) * tokens as u64;
        tokens as u64 * (4 + 2 + 4 + 16 / 2) + grams * 16 + vocab_size as u64 * 12
    }

    /// The length of the longest n-gram.
    pub fn order(&self) -> usize {
        self.levels.len()
    }

    /// The number of different n-grams of all orders.
    pub fn grams(&self) -> u64 {
        let seen = self.levels[0].counts.iter().filter(|&&count| count > 0).count();
        seen as u64 + self.levels[1..].iter().map(|level| level.words.len() as u64).sum::<u64>()
    }

    /// The index of `gram` among the n-grams of its length.
    pub fn find(&self, gram: &[u32]) -> Option<usize> {
        let (&first, rest) = gram.split_first()?;
        let mut node = (first < self.vocab_size).then_some(first as usize)?;
        for (len, &word) in rest.iter().enumerate() {
            node = find_child(&self.levels[len], self.levels.get(len + 1)?, node, word)?;
        }
        Some(node)
    }

    /// The words of n-gram `index` of order `order`.
    pub fn words(&self, order: usize, index: usize) -> Vec<u32> {
        let mut words = vec![0; order];
        let mut node = index;
        for len in (1..order).rev() {
            words[len] = self.levels[len].words[node];
            let starts = &self.levels[len - 1].child_offsets;
            node = starts.partition_point(|&start| start as usize <= node) - 1;
        }
        words[0] = node as u32;
        words
    }

    /// Finds all suffix links by search: for counts that were not made from a text and pass
    /// [`Self::check`].
    ///
    /// # Errors
    /// [`Error::Config`] for an n-gram whose suffix is missing.
    pub fn build_suffix_links(&mut self) -> Result<()> {
        for len in 1..self.order() {
            let (lower_levels, rest) = self.levels.split_at_mut(len);
            let (parents, level) = (&lower_levels[len - 1], &mut rest[0]);
            if len == 1 {
                level.suffix_links = level.words.clone();
                continue;
            }
            let suffix_of = |node: usize| -> Result<Vec<u32>> {
                let shorter = parents.suffix_links[node] as usize;
                let found = parents.children(node).map(|gram| {
                    let found = find_child(&lower_levels[len - 2], parents, shorter, level.words[gram]);
                    found.map(|found| found as u32).ok_or_else(|| {
                        Error::Config(format!("the last {len} words of a {}-gram are not counted", len + 1))
                    })
                });
                found.collect()
            };
            let nodes: Result<Vec<Vec<u32>>> =
                (0..parents.child_offsets.len() - 1).into_par_iter().map(suffix_of).collect();
            level.suffix_links = nodes?.concat();
        }
        Ok(())
    }

    /// Without `<s>`, the first order − 1 words of the text: of the n-grams of each length, only
    /// the occurrence at the beginning is not preceded by a word.
    pub fn first_words(&self) -> Vec<u32> {
        let mut first = Vec::new();
        for len in 1..self.order() {
            let mut preceded = vec![0_u64; self.levels[len - 1].counts.len()];
            for (&suffix, &count) in self.levels[len].suffix_links.iter().zip(&self.levels[len].counts) {
                preceded[suffix as usize] += u64::from(count);
            }
            let counts = self.levels[len - 1].counts.iter().zip(preceded);
            if let Some(gram) =
                counts.map(|(&count, preceded)| u64::from(count) > preceded).position(|first| first)
            {
                first = self.words(len, gram);
            }
        }
        first
    }

    /// Checks counts from a file, suffix links aside.
    ///
    /// # Errors
    /// [`Error::Config`] with what is wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::Config(message));
        check_order(self.order())?;
        let room = if self.bos.is_some() { 0 } else { self.order() - 1 };
        if self.text_prefix.len() > room || self.text_prefix.iter().any(|&word| word >= self.vocab_size) {
            return wrong("the first words of the text are invalid".into());
        }
        let vocab = self.vocab_size as usize;
        let first = &self.levels[0];
        if first.counts.len() != vocab
            || !first.words.is_empty()
            || self.bos.is_some_and(|bos| bos >= self.vocab_size)
        {
            return wrong("the number of single words is not that of the vocabulary".into());
        }
        for (len, level) in self.levels.iter().enumerate() {
            let grams = level.counts.len();
            let next = self.levels.get(len + 1).map(|next| next.counts.len() as u32);
            let shapes = (len == 0 || level.words.len() == grams)
                && match next {
                    Some(next) => {
                        level.child_offsets.len() == grams + 1
                            && level.child_offsets[0] == 0
                            && level.child_offsets[grams] == next
                            && level.child_offsets.is_sorted()
                    }
                    None => level.child_offsets.is_empty(),
                };
            if !shapes {
                return wrong(format!("the arrays of order {} have inconsistent lengths", len + 1));
            }
            if len > 0 && level.counts.contains(&0) {
                return wrong(format!("a {}-gram has count 0", len + 1));
            }
            if level.words.iter().any(|&word| word >= self.vocab_size) {
                return wrong(format!("the counts of order {} have a word outside the vocabulary", len + 1));
            }
            if let Some(next) = self.levels.get(len + 1) {
                for i in 0..grams {
                    let children = level.children(i);
                    let total: u64 =
                        next.counts[children.clone()].iter().map(|&count| u64::from(count)).sum();
                    if !next.words[children].is_sorted_by(|a, b| a < b) {
                        return wrong(format!("the {}-grams are not in order", len + 2));
                    }
                    if total > u64::from(level.counts[i]) {
                        return wrong(format!(
                            "a {}-gram is counted less often than its continuations",
                            len + 1
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

pub(super) fn check_order(order: usize) -> Result<()> {
    if (1..=MAX_ORDER).contains(&order) {
        return Ok(());
    }
    Err(Error::Config(format!("an n-gram has from 1 to {MAX_ORDER} tokens, not {order}")))
}

/// The child `word` of `node`: `node` is in `level`, the child in `next`.
pub(super) fn find_child(level: &OrderCounts, next: &OrderCounts, node: usize, word: u32) -> Option<usize> {
    let children = level.children(node);
    let at = next.words[children.clone()].binary_search(&word).ok()?;
    Some(children.start + at)
}
