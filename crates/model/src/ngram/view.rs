//! Queries of a [`super::Trie`]: one word after a text, and whole distributions.

use std::hint;

use super::MAX_ORDER;
use super::header::{BackoffScheme, ContextWeights, Header, SPARSE_INDEX_STEP};
use super::packed::{ChildOffsets, Packed};
use crate::ContextBin;
use surprisal_platform::prefetch::prefetch;

/// A [`Trie`](super::Trie) for queries.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub(super) header: &'a Header,
    pub(super) levels: Vec<LevelView<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct LevelView<'a> {
    pub(super) len: usize,
    pub(super) words: Packed<'a>,
    pub(super) value_ids: Packed<'a>,
    pub(super) distinct_values: &'a [f64],
    pub(super) weight_ids: Packed<'a>,
    pub(super) distinct_weights: &'a [ContextWeights],
    pub(super) child_offsets: ChildOffsets<'a>,
    pub(super) sparse_index: Packed<'a>,
    pub(super) next_len: usize,
}

impl LevelView<'_> {
    #[inline]
    pub(super) fn value(&self, gram: usize) -> f64 {
        self.distinct_values.get(self.value_ids.get(gram) as usize).copied().unwrap_or(0.0)
    }

    #[inline]
    pub(super) fn weight(&self, gram: usize) -> ContextWeights {
        self.distinct_weights.get(self.weight_ids.get(gram) as usize).copied().unwrap_or(ContextWeights::NONE)
    }

    /// Prefetches the value of n-gram `gram`, and its weights.
    #[inline]
    pub(super) fn prefetch_values(&self, gram: usize) {
        prefetch(self.distinct_values, self.value_ids.get(gram) as usize);
        prefetch(self.distinct_weights, self.weight_ids.get(gram) as usize);
    }

    #[inline]
    pub(super) fn children(&self, node: usize) -> std::ops::Range<usize> {
        let range = self.child_offsets.children(node);
        range.start.min(self.next_len)..range.end.min(self.next_len)
    }

    /// The n-gram of `word` in `range`.
    #[inline]
    pub(super) fn find(&self, range: std::ops::Range<usize>, word: u32) -> Option<usize> {
        let mut range = possible_range(range, word);
        if range.is_empty() {
            return None;
        }
        if let Some(sparse) = sparse_range(&range) {
            range = narrowed_range(predecessor(self.sparse_index, sparse, word), &range);
        }
        let found = predecessor(self.words, range, word);
        (self.words.get(found) == u64::from(word)).then_some(found)
    }
}

/// The part of `range` in which `word` can be: words ascend, so at most `word` n-grams precede it.
/// Ids follow first appearance, so that frequent words have low ones and searches are short.
#[inline]
pub(super) fn possible_range(range: std::ops::Range<usize>, word: u32) -> std::ops::Range<usize> {
    range.start..range.end.min(range.start + word as usize + 1)
}

/// The part of the sparse index for a search in `range`, if that is long.
#[inline]
pub(super) fn sparse_range(range: &std::ops::Range<usize>) -> Option<std::ops::Range<usize>> {
    (range.len() > 2 * SPARSE_INDEX_STEP)
        .then(|| range.start / SPARSE_INDEX_STEP..(range.end - 1) / SPARSE_INDEX_STEP + 1)
}

/// The part of `range` to search after index `index` of the sparse index was found.
#[inline]
pub(super) fn narrowed_range(index: usize, range: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    range.start.max(index * SPARSE_INDEX_STEP)..range.end.min((index + 1) * SPARSE_INDEX_STEP)
}

/// The last of `range` whose word is at most `word`, or the first: a branch-free binary search.
/// From the second on, `words` ascend.
#[inline]
fn predecessor(words: Packed<'_>, range: std::ops::Range<usize>, word: u32) -> usize {
    let (mut low, mut len) = (range.start, range.len());
    while len > 1 {
        let half = len / 2;
        let right = words.get(low + half) <= u64::from(word);
        // A plain `if` becomes a branch, which is mispredicted half the time.
        low = hint::select_unpredictable(right, low + half, low);
        len -= half;
    }
    low
}

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// The n-grams that a text ends with, shortest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    pub(super) len: usize,
    pub(super) nodes: [u32; MAX_ORDER - 1],
}

impl State {
    /// Before any text.
    pub const EMPTY: Self = Self { len: 0, nodes: [NONE; MAX_ORDER - 1] };

    /// The number of words that it has of the text.
    pub fn context_len(&self) -> usize {
        self.len
    }
}

/// log10 of a probability or weight as KenLM has it: in 32 bits, and −99 for zero.
#[inline]
fn log10_f32(x: f64) -> f32 {
    if x > 0.0 { x.log10() as f32 } else { -99.0 }
}

/// log10 of a probability, from the n-grams of all lengths.
pub(super) struct Log10Sum<'a> {
    view: &'a View<'a>,
    context_len: usize,
    probability: f64,
    /// The longest n-gram of a back-off model, its length, and its context: nothing else counts.
    longest: Option<(usize, u32, u32)>,
    matched: usize,
    /// The weights of the contexts that are longer than what matched.
    weights: [f64; MAX_ORDER],
    skipped: usize,
}

impl<'a> Log10Sum<'a> {
    /// Of a word that is not predicted.
    pub(super) const UNPREDICTED: (f32, usize) = (-99.0, 1);

    /// Of `word` after so many words.
    #[inline]
    pub(super) fn new(view: &'a View<'a>, context_len: usize, word: u32) -> Self {
        let probability = view.first(context_len, word);
        Self {
            view,
            context_len,
            probability,
            longest: None,
            matched: 1,
            weights: [1.0; MAX_ORDER],
            skipped: 0,
        }
    }

    /// Adds what [`View::step`] visits.
    #[inline]
    pub(super) fn add(&mut self, len: usize, context: u32, gram: u32) {
        let view = self.view;
        if gram != NONE {
            (self.matched, self.skipped) = (len + 1, 0);
            self.longest = Some((len, context, gram));
        }
        if view.header.scheme != BackoffScheme::BackOff {
            self.probability = view.combine(self.context_len, len, context, gram, self.probability);
        } else if gram == NONE {
            let weight = match context {
                NONE => view.header.unseen_context_factor,
                context => view.levels[len - 1].weight(context as usize).backoff,
            };
            (self.weights[self.skipped], self.skipped) = (weight, self.skipped + 1);
        }
    }

    /// log10 of the probability, and the length of the longest n-gram.
    #[inline]
    pub(super) fn finish(self) -> (f32, usize) {
        let weights = self.weights[..self.skipped].iter().filter(|weight| **weight != 1.0);
        let probability = match self.longest {
            Some((len, context, gram)) if self.view.header.scheme == BackoffScheme::BackOff => {
                self.view.combine(self.context_len, len, context, gram, self.probability)
            }
            _ => self.probability,
        };
        let sum = weights.fold(log10_f32(probability), |sum, weight| sum + log10_f32(*weight));
        (sum, self.matched)
    }
}

impl View<'_> {
    /// The length of the longest n-gram.
    pub fn order(&self) -> usize {
        self.levels.len()
    }

    /// The bytes of its n-grams.
    pub(super) fn bytes(&self) -> usize {
        self.levels.iter().map(|level| level.words.bytes().len()).sum()
    }

    /// q(`word`) without context.
    #[inline]
    pub fn unigram(&self, word: u32) -> f64 {
        self.levels[0].value(word as usize)
    }

    /// One over the number of predictable words.
    pub fn uniform(&self) -> f64 {
        1.0 / f64::from((self.header.vocab_size - u32::from(self.header.bos.is_some())).max(1))
    }

    /// q(`word` | the text that led to `state`); `state` becomes that after the word.
    #[inline]
    pub fn advance(&self, state: &mut State, word: u32) -> f64 {
        let context_len = state.len;
        let mut probability = self.first(context_len, word);
        let predicted = self.step(state, word, |len, context, gram| {
            probability = self.combine(context_len, len, context, gram, probability);
        });
        if predicted { probability } else { 0.0 }
    }

    /// log10 q(`word` | the text that led to `state`) and the length of the longest n-gram that the
    /// word ends; `state` becomes that after the word.
    ///
    /// Of a back-off model it is KenLM's number to the bit: the logarithm of the longest n-gram,
    /// to which those of the weights of longer contexts are added, in 32 bits.
    #[inline]
    pub fn advance_log10(&self, state: &mut State, word: u32) -> (f32, usize) {
        let mut sum = Log10Sum::new(self, state.len, word);
        let predicted = self.step(state, word, |len, context, gram| sum.add(len, context, gram));
        if predicted { sum.finish() } else { Log10Sum::UNPREDICTED }
    }

    /// Leaves out what no later word depends on, so that equal states are those with the same
    /// predictions.
    pub fn shorten(&self, state: &mut State) {
        let Header { scheme, unseen_context_factor, .. } = *self.header;
        let all_matter = scheme == BackoffScheme::LongestOnly || unseen_context_factor != 1.0;
        let matters = |len: usize, node: u32| {
            let level = &self.levels[len - 1];
            let has_children = || !level.children(node as usize).is_empty();
            node != NONE && (level.weight(node as usize).backoff != 1.0 || has_children())
        };
        while !all_matter && state.len > 0 && !matters(state.len, state.nodes[state.len - 1]) {
            state.len -= 1;
        }
        state.nodes[state.len..].fill(NONE);
    }

    /// q(`word`) before the weights of any context are in it.
    #[inline]
    fn first(&self, context_len: usize, word: u32) -> f64 {
        let longest_only = self.header.scheme == BackoffScheme::LongestOnly && context_len > 0;
        if longest_only { self.uniform() } else { self.unigram(word) }
    }

    /// `lower` with the weights of the `context` of `len` words, after which the n-gram `gram` was
    /// found, or [`NONE`].
    #[inline]
    fn combine(&self, context_len: usize, len: usize, context: u32, gram: u32, lower: f64) -> f64 {
        let Header { scheme, unseen_context_factor, .. } = *self.header;
        if context == NONE {
            return lower * unseen_context_factor;
        }
        if scheme == BackoffScheme::LongestOnly && len < context_len {
            return lower;
        }
        let value = (gram != NONE).then(|| self.levels[len].value(gram as usize));
        scheme.combine(value, self.levels[len - 1].weight(context as usize), lower)
    }

    /// Moves `state` over `word`, and visits the contexts, shortest first: the length, the
    /// context's n-gram and that of the context and the word, each or [`NONE`]. False for `<s>`,
    /// which begins a sentence and is not predicted.
    #[inline]
    fn step(&self, state: &mut State, word: u32, mut visit: impl FnMut(usize, u32, u32)) -> bool {
        let most = self.levels.len() - 1;
        if Some(word) == self.header.bos {
            // A sentence begins: the context before it is dropped.
            *state = State::EMPTY;
            if most > 0 {
                (state.nodes[0], state.len) = (word, 1);
            }
            return false;
        }
        let context_len = state.len;
        state.len = (context_len + 1).min(most);
        // The n-gram of `len` words that ends with this word.
        let mut gram = word;
        for len in 1..=context_len {
            let (level, higher) = (&self.levels[len - 1], &self.levels[len]);
            let context = std::mem::replace(&mut state.nodes[len - 1], gram);
            let unseen = self.header.suffix_closed && gram == NONE;
            gram = NONE;
            if context != NONE && !unseen {
                gram = higher.find(level.children(context as usize), word).map_or(NONE, |gram| gram as u32);
            }
            visit(len, context, gram);
        }
        if context_len < most {
            state.nodes[context_len] = gram;
        }
        true
    }

    /// The state after `context`, of which only the last order − 1 words are read.
    pub fn state_after(&self, context: &[u32]) -> State {
        let used = self.used(context, self.levels.len() - 1);
        let mut state = State::EMPTY;
        for len in 1..=used.len() {
            // The n-gram of the last `len` words.
            let gram = &used[used.len() - len..];
            state.nodes[len - 1] = self.find(gram).map_or(NONE, |node| node as u32);
        }
        state.len = used.len();
        state
    }

    /// The last words of a text, at most `len`, and none before the last `<s>`.
    fn used<'t>(&self, text: &'t [u32], len: usize) -> &'t [u32] {
        let used = &text[text.len() - text.len().min(len)..];
        let begun = used.iter().rposition(|&word| Some(word) == self.header.bos);
        &used[begun.unwrap_or(0)..]
    }

    /// The length of the longest n-gram with which `text` ends.
    pub fn matched_order(&self, text: &[u32]) -> usize {
        let used = self.used(text, self.levels.len());
        let found = (0..used.len()).find(|&at| self.find(&used[at..]).is_some());
        found.map_or(0, |at| used.len() - at)
    }

    /// The bin of the text that led to `state`: by the longest n-gram that it ends with and that is
    /// a context, and the number of different words after it.
    pub fn context_bin(&self, state: &State) -> ContextBin {
        for (len, &node) in state.nodes[..state.len].iter().enumerate().rev() {
            let words = if node == NONE { 0 } else { self.levels[len].children(node as usize).len() };
            if let Some(class) = words.checked_ilog2() {
                return ContextBin { length: len + 1, class: class as usize };
            }
        }
        ContextBin::default()
    }

    /// The index of `gram` among the n-grams of its length.
    pub fn find(&self, gram: &[u32]) -> Option<usize> {
        let (&first, rest) = gram.split_first()?;
        let mut node = (first < self.header.vocab_size).then_some(first as usize)?;
        for (len, &word) in rest.iter().enumerate() {
            node = self.levels.get(len + 1)?.find(self.levels[len].children(node), word)?;
        }
        Some(node)
    }

    /// Writes ln q(· | the text that led to `state`) to `out`, of length |V|; `log_unigrams` is ln
    /// q(·) without context.
    ///
    /// Unigrams are scaled once by the product B of all back-off weights (an addition to
    /// logarithms). Only words seen in one of the contexts are computed: each as q / B, to which a
    /// longer context adds.
    pub fn distribution(&self, state: &State, log_unigrams: &[f64], out: &mut [f64]) {
        let Header { scheme, unseen_context_factor, bos, .. } = *self.header;
        let uniform = (scheme == BackoffScheme::LongestOnly && state.len > 0).then(|| self.uniform());
        let mut factor = 1.0_f64;
        // Whether unseen words have probability left.
        let mut rest = true;
        // Seen words with q / factor. Until the end, `out` has the index of a word in this list,
        // plus one.
        let mut seen: Vec<(u32, f64)> = Vec::new();
        out.fill(0.0);
        for (len, &node) in state.nodes[..state.len].iter().enumerate() {
            if scheme == BackoffScheme::LongestOnly && len + 1 < state.len {
                continue;
            }
            if node == NONE {
                factor *= unseen_context_factor;
                continue;
            }
            let (level, higher) = (&self.levels[len], &self.levels[len + 1]);
            let weight = level.weight(node as usize);
            if weight.backoff > 0.0 {
                factor *= weight.backoff;
            } else {
                // Nothing goes to the lower orders: their values are dropped.
                seen.drain(..).for_each(|(word, _)| out[word as usize] = 0.0);
                (factor, rest) = (1.0, false);
            }
            for gram in level.children(node as usize) {
                let word = higher.words.get(gram) as u32;
                let Some(index) = out.get_mut(word as usize) else { continue };
                let share = higher.value(gram) * weight.scale / factor;
                if *index == 0.0 {
                    let lower = if rest { uniform.unwrap_or_else(|| self.unigram(word)) } else { 0.0 };
                    seen.push((word, lower));
                    *index = seen.len() as f64;
                }
                let ratio = &mut seen[*index as usize - 1].1;
                *ratio = if scheme == BackoffScheme::BackOff { share } else { *ratio + share };
            }
        }
        let log_factor = if rest { factor.ln() } else { f64::NEG_INFINITY };
        match uniform {
            Some(uniform) => out.fill(log_factor + uniform.ln()),
            None => out.iter_mut().zip(log_unigrams).for_each(|(out, unigram)| *out = log_factor + unigram),
        }
        for (word, ratio) in seen {
            out[word as usize] = (ratio * factor).ln();
        }
        if let Some(bos) = bos {
            out[bos as usize] = f64::NEG_INFINITY;
        }
    }
}
