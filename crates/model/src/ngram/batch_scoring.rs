//! Point queries in batches, which hides cache misses.
//!
//! A block of queries advances order by order, since the (k + 1)-grams that end at each position
//! need only the k-grams that end there. Each step of a binary search prefetches its next probe
//! before the next query has its turn.

use std::hint;
use std::ops::Range;

use super::header::BackoffScheme;
use super::packed::Packed;
use super::view::{Log10Sum, NONE, State, View, narrowed_range, possible_range, sparse_range};

/// Words per block.
const BLOCK: usize = 512;
/// Prefetch distance of unigrams, in words.
const PREFETCH_DISTANCE: usize = 8;
/// A model of at most so many bytes is mostly in a cache, so that there are no misses to hide:
/// word by word is faster, by a third at 4 MB, and slower from about 20 MB on.
const CACHED_BYTES: usize = 8 << 20;
/// A range of at most so many words is mostly in the cache lines of its first and last word: those
/// are prefetched, and then it is searched to the end.
const LINEAR_LEN: u32 = 9;

/// A search among the continuations of a context.
#[derive(Debug, Clone, Copy, Default)]
struct Search {
    /// The index in the block.
    index: u32,
    word: u32,
    /// The range that remains.
    low: u32,
    len: u32,
}

impl Search {
    fn range(&self) -> Range<usize> {
        self.low as usize..(self.low + self.len) as usize
    }

    /// Starts a search of `words` in the range `among`.
    fn search(&mut self, among: Range<usize>, words: Packed<'_>) {
        (self.low, self.len) = (among.start as u32, among.len() as u32);
        self.prefetch(words);
    }

    /// Prefetches what the next step reads.
    #[inline]
    fn prefetch(&self, words: Packed<'_>) {
        if self.len <= LINEAR_LEN {
            words.prefetch(self.low as usize);
            words.prefetch((self.low + self.len).saturating_sub(1) as usize);
        } else {
            words.prefetch(self.middle());
        }
    }

    #[inline]
    fn middle(&self) -> usize {
        (self.low + self.len / 2) as usize
    }

    /// Halves the range, without a branch; from the second on, `words` ascend.
    #[inline]
    fn halve(&mut self, words: Packed<'_>) {
        let middle = self.middle();
        let right = words.get(middle) <= u64::from(self.word);
        self.low = hint::select_unpredictable(right, middle as u32, self.low);
        self.len -= self.len / 2;
    }
}

/// Halves the ranges of `open` in turn. A range of one word is passed to `done`: the last whose
/// word is at most the query's, or the first.
#[inline]
fn search(mut open: &mut [Search], words: Packed<'_>, mut done: impl FnMut(&Search)) {
    while !open.is_empty() {
        let mut i = 0;
        while i < open.len() {
            let search = &mut open[i];
            if search.len > LINEAR_LEN {
                search.halve(words);
                search.prefetch(words);
                i += 1;
                continue;
            }
            while search.len > 1 {
                search.halve(words);
            }
            done(search);
            let last = open.len() - 1;
            open.swap(i, last);
            open = &mut open[..last];
        }
    }
}

impl View<'_> {
    /// ln q of each of `words` after `state`, with the same bits as [`Self::advance`] word by word.
    pub fn log_probs(&self, state: &mut State, words: &[u32]) -> Vec<f64> {
        self.scores(state, words, &[])
    }

    /// Visits the index of each sequence and ln q of its words from index `from` on, each sequence
    /// with a context of its own. Sequences shorter than `from` have none.
    pub fn each_log_probs(&self, sequences: &[&[u32]], from: usize, mut visit: impl FnMut(usize, &[f64])) {
        let words = sequences.concat();
        let mut starts = Vec::with_capacity(sequences.len());
        let mut len = 0;
        for sequence in sequences {
            starts.push(len);
            len += sequence.len();
        }
        let scores = self.scores(&mut State::EMPTY.clone(), &words, &starts);
        for (i, (sequence, &start)) in sequences.iter().zip(&starts).enumerate() {
            visit(i, scores[start..start + sequence.len()].get(from..).unwrap_or_default());
        }
    }

    /// Visits what [`Self::advance_log10`] gives for each of `words` after `state`, with misses of
    /// caches hidden.
    pub fn each_log10(
        &self,
        block: &mut QueryBlock,
        state: &mut State,
        words: &[u32],
        mut visit: impl FnMut(f32, usize),
    ) {
        if words.len() > 1 && self.bytes() > CACHED_BYTES {
            return self.each_log10_in_blocks(block, state, words, visit);
        }
        for &word in words {
            let (log10, matched) = self.advance_log10(state, word);
            visit(log10, matched);
        }
    }

    pub(super) fn each_log10_in_blocks(
        &self,
        block: &mut QueryBlock,
        state: &mut State,
        words: &[u32],
        mut visit: impl FnMut(f32, usize),
    ) {
        for words in words.chunks(BLOCK) {
            block.start(self, state, words, std::iter::empty());
            for len in 1..self.order() {
                block.find_ngrams(self, len, words);
            }
            for (position, &word) in words.iter().enumerate() {
                if Some(word) == self.header.bos {
                    visit(Log10Sum::UNPREDICTED.0, Log10Sum::UNPREDICTED.1);
                    continue;
                }
                let context_len = block.context_lens[position];
                let mut sum = Log10Sum::new(self, context_len, word);
                for len in 1..=context_len {
                    sum.add(len, block.nodes[len - 1][position], block.nodes[len][position + 1]);
                }
                let (log10, matched) = sum.finish();
                visit(log10, matched);
            }
            block.end(state, words.len());
        }
    }

    /// ln q of each of `words`, where the context is reset at each of the indices `starts`.
    fn scores(&self, state: &mut State, words: &[u32], starts: &[usize]) -> Vec<f64> {
        if self.bytes() > CACHED_BYTES {
            return self.scores_in_blocks(state, words, starts);
        }
        let mut starts = starts.iter().peekable();
        let scored = words.iter().enumerate().map(|(position, &word)| {
            while starts.next_if_eq(&&position).is_some() {
                *state = State::EMPTY;
            }
            self.advance(state, word).ln()
        });
        scored.collect()
    }

    /// The same, with misses of caches hidden.
    pub(super) fn scores_in_blocks(
        &self,
        state: &mut State,
        words: &[u32],
        mut starts: &[usize],
    ) -> Vec<f64> {
        let mut block = QueryBlock::default();
        let mut scores = Vec::with_capacity(words.len());
        for (number, words) in words.chunks(BLOCK).enumerate() {
            let first = number * BLOCK;
            let here = starts.partition_point(|&start| start < first + words.len());
            let (now, later) = starts.split_at(here);
            starts = later;
            block.score(self, state, words, now.iter().map(|start| start - first));
            scores.extend(block.probabilities[..words.len()].iter().map(|probability| probability.ln()));
        }
        scores
    }
}

/// The state of a block of queries.
#[derive(Debug, Default)]
pub struct QueryBlock {
    probabilities: Vec<f64>,
    /// The context length of each word; one more than words, the last is the state after the block.
    context_lens: Vec<usize>,
    /// For k from 1: the k-grams that end before each word, and after the last.
    nodes: Vec<Vec<u32>>,
    searches: Vec<Search>,
    sparse_searches: Vec<Search>,
}

impl QueryBlock {
    /// Makes room for a block of so many words.
    fn reserve(&mut self, order: usize, words: usize) {
        if self.probabilities.len() < words || self.nodes.len() < order {
            self.probabilities.resize(words, 0.0);
            self.context_lens.resize(words + 1, 0);
            self.nodes.resize_with(order, Vec::new);
            self.nodes.iter_mut().for_each(|nodes| nodes.resize(words + 1, NONE));
        }
    }

    fn score(
        &mut self,
        view: &View<'_>,
        state: &mut State,
        words: &[u32],
        starts: impl Iterator<Item = usize>,
    ) {
        let order = view.order();
        self.start(view, state, words, starts);
        for len in 1..order {
            self.find_ngrams(view, len, words);
            self.add_order(view, len, words);
        }
        self.end(state, words.len());
    }

    /// Makes `state` that after the `end` words of the block.
    fn end(&self, state: &mut State, end: usize) {
        *state = State::EMPTY;
        state.len = self.context_lens[end];
        for (node, nodes) in state.nodes[..state.len].iter_mut().zip(&self.nodes) {
            *node = nodes[end];
        }
    }

    /// Sets unigram probabilities and context lengths.
    fn start(&mut self, view: &View<'_>, state: &State, words: &[u32], starts: impl Iterator<Item = usize>) {
        self.reserve(view.order(), words.len());
        let most = view.order() - 1;
        let longest_only = view.header.scheme == BackoffScheme::LongestOnly;
        self.context_lens[0] = state.len;
        for (nodes, &node) in self.nodes.iter_mut().zip(&state.nodes) {
            nodes[0] = node;
        }
        let mut starts = starts.peekable();
        let prefetch = |word: &u32| view.levels[0].child_offsets.prefetch(*word as usize);
        words.iter().take(PREFETCH_DISTANCE).for_each(prefetch);
        for (position, &word) in words.iter().enumerate() {
            words.get(position + PREFETCH_DISTANCE).map(prefetch);
            // A sequence without words starts at the same index as the next one.
            while starts.next_if_eq(&position).is_some() {
                self.context_lens[position] = 0;
            }
            self.nodes[0][position + 1] = word;
            let begins = Some(word) == view.header.bos;
            self.probabilities[position] = if begins {
                0.0
            } else if longest_only && self.context_lens[position] > 0 {
                view.uniform()
            } else {
                view.unigram(word)
            };
            self.context_lens[position + 1] =
                (if begins { 1 } else { self.context_lens[position] + 1 }).min(most);
        }
    }

    /// Finds the n-grams of `len` + 1 words.
    fn find_ngrams(&mut self, view: &View<'_>, len: usize, words: &[u32]) {
        let (level, higher) = (&view.levels[len - 1], &view.levels[len]);
        let (shorter, longer) = self.nodes.split_at_mut(len);
        let (contexts, found) = (&shorter[len - 1], &mut longer[0]);
        self.searches.clear();
        for (position, &word) in words.iter().enumerate() {
            found[position + 1] = NONE;
            let context = contexts[position];
            // A word unseen after a shorter context is unseen after a longer one.
            let unseen = view.header.suffix_closed && contexts[position + 1] == NONE;
            if self.context_lens[position] < len || context == NONE || unseen || Some(word) == view.header.bos
            {
                continue;
            }
            let among = possible_range(level.children(context as usize), word);
            if !among.is_empty() {
                let mut search = Search { index: position as u32, word, ..Search::default() };
                search.search(among, higher.words);
                self.searches.push(search);
            }
        }
        // Long ranges are searched in the sparse index first.
        self.sparse_searches.clear();
        for (index, search) in self.searches.iter().enumerate() {
            if let Some(range) = sparse_range(&search.range()) {
                let mut sparse = Search { index: index as u32, ..*search };
                sparse.search(range, higher.sparse_index);
                self.sparse_searches.push(sparse);
            }
        }
        let searches = &mut self.searches;
        search(&mut self.sparse_searches, higher.sparse_index, |sparse| {
            let search = &mut searches[sparse.index as usize];
            search.search(narrowed_range(sparse.low as usize, &search.range()), higher.words);
        });
        search(searches, higher.words, |search| {
            if higher.words.get(search.low as usize) == u64::from(search.word) {
                found[search.index as usize + 1] = search.low;
                higher.prefetch_values(search.low as usize);
                higher.child_offsets.prefetch(search.low as usize);
            }
        });
    }

    /// Combines the weights of contexts of `len` words with the lower order.
    fn add_order(&mut self, view: &View<'_>, len: usize, words: &[u32]) {
        let scheme = view.header.scheme;
        let (level, higher) = (&view.levels[len - 1], &view.levels[len]);
        for (position, &word) in words.iter().enumerate() {
            if self.context_lens[position] < len || Some(word) == view.header.bos {
                continue;
            }
            let probability = &mut self.probabilities[position];
            let context = self.nodes[len - 1][position];
            if context == NONE {
                *probability *= view.header.unseen_context_factor;
            } else if scheme != BackoffScheme::LongestOnly || self.context_lens[position] == len {
                let gram = self.nodes[len][position + 1];
                let value = (gram != NONE).then(|| higher.value(gram as usize));
                *probability = scheme.combine(value, level.weight(context as usize), *probability);
            }
        }
    }
}
