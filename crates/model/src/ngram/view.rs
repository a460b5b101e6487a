//! Questions to a [`super::Trie`]: a word after a text, the words seen after a context, the whole distribution.

use super::MAX_ORDER;
use super::header::{BackoffScheme, ContextWeights, Header, SPARSE_INDEX_STEP};
use super::packed::{ChildOffsets, Packed};

/// A [`Trie`](super::Trie) with its sections at hand.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub(super) header: &'a Header,
    pub(super) levels: Vec<LevelView<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct LevelView<'a> {
    pub(super) len: usize,
    pub(super) words: Packed<'a>,
    pub(super) values: Packed<'a>,
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
        self.distinct_values.get(self.values.get(gram) as usize).copied().unwrap_or(0.0)
    }

    #[inline]
    pub(super) fn weight(&self, gram: usize) -> ContextWeights {
        self.distinct_weights.get(self.weight_ids.get(gram) as usize).copied().unwrap_or(ContextWeights::NONE)
    }

    #[inline]
    pub(super) fn children(&self, node: usize) -> std::ops::Range<usize> {
        let range = self.child_offsets.children(node);
        range.start.min(self.next_len)..range.end.min(self.next_len)
    }

    /// The gram of `word` among `range`.
    #[inline]
    pub(super) fn find(&self, range: std::ops::Range<usize>, word: u32) -> Option<usize> {
        let mut range = possible_range(range, word);
        if range.is_empty() {
            return None;
        }
        if let Some(places) = sparse_range(&range) {
            range = narrowed_range(predecessor(self.sparse_index, places, word), &range);
        }
        let found = predecessor(self.words, range, word);
        (self.words.get(found) == u64::from(word)).then_some(found)
    }
}

/// What can be `word` of the grams `range`: words ascend, so that before it come at most those whose numbers are lower. Words
/// are numbered as they appear, and frequent ones early: most of the searches that would be long are not.
#[inline]
pub(super) fn possible_range(range: std::ops::Range<usize>, word: u32) -> std::ops::Range<usize> {
    range.start..range.end.min(range.start + word as usize + 1)
}

/// The places of the guide from which a search among the grams `range` begins, if they are many.
#[inline]
pub(super) fn sparse_range(range: &std::ops::Range<usize>) -> Option<std::ops::Range<usize>> {
    (range.len() > 2 * SPARSE_INDEX_STEP)
        .then(|| range.start / SPARSE_INDEX_STEP..(range.end - 1) / SPARSE_INDEX_STEP + 1)
}

/// What is left of the grams `range` when `place` is the last of the guide that is not behind the word.
#[inline]
pub(super) fn narrowed_range(place: usize, range: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    range.start.max(place * SPARSE_INDEX_STEP)..range.end.min((place + 1) * SPARSE_INDEX_STEP)
}

/// The last of `places` whose word is not behind `word`, or the first of them: halving, without a branch that depends on
/// what is read. `words` ascend from the second place on.
#[inline]
fn predecessor(words: Packed<'_>, places: std::ops::Range<usize>, word: u32) -> usize {
    let (mut low, mut len) = (places.start, places.len());
    while len > 1 {
        let half = len / 2;
        let right = words.get(low + half) <= u64::from(word);
        low = if right { low + half } else { low };
        len -= half;
    }
    low
}

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// What a model remembers of the text so far: the grams that it ends with, shortest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub(super) nodes: [u32; MAX_ORDER - 1],
    pub(super) len: usize,
}

impl State {
    /// Before any text.
    pub const EMPTY: Self = Self { nodes: [NONE; MAX_ORDER - 1], len: 0 };
}

impl View<'_> {
    /// The longest gram.
    pub fn order(&self) -> usize {
        self.levels.len()
    }

    /// q(`word`) without context.
    #[inline]
    pub fn unigram(&self, word: u32) -> f64 {
        self.levels[0].value(word as usize)
    }

    /// 1 / (how many words can be predicted).
    pub fn uniform(&self) -> f64 {
        1.0 / f64::from((self.header.vocab_size - u32::from(self.header.bos.is_some())).max(1))
    }

    /// q(`word` | the text that led to `state`), and the state after the word.
    #[inline]
    pub fn score(&self, state: &State, word: u32) -> (f64, State) {
        let Header { scheme, unseen_context_factor, suffix_closed, .. } = *self.header;
        let order = self.levels.len();
        let mut next = State::EMPTY;
        // How many words the longest gram has that ends with this one.
        let mut ngram_length = 1;
        if order > 1 {
            next.nodes[0] = word;
        }
        if Some(word) == self.header.bos {
            // A sentence begins, and nothing before it counts.
            next.len = 1.min(order - 1);
            return (0.0, next);
        }
        next.len = (state.len + 1).min(order - 1);
        let longest = scheme == BackoffScheme::LongestOnly && state.len > 0;
        let mut probability = if longest { self.uniform() } else { self.unigram(word) };
        for (len, &node) in state.nodes[..state.len].iter().enumerate() {
            if node == NONE {
                if suffix_closed && unseen_context_factor == 1.0 {
                    break;
                }
                probability *= unseen_context_factor;
                continue;
            }
            let (level, above) = (&self.levels[len], &self.levels[len + 1]);
            let weight = level.weight(node as usize);
            let found = if suffix_closed && ngram_length <= len {
                None
            } else {
                above.find(level.children(node as usize), word)
            };
            let speaks = scheme != BackoffScheme::LongestOnly || len + 1 == state.len;
            if speaks {
                probability = scheme.combine(found.map(|gram| above.value(gram)), weight, probability);
            }
            if let Some(gram) = found {
                ngram_length = len + 2;
                if len + 1 < order - 1 {
                    next.nodes[len + 1] = gram as u32;
                }
            }
        }
        (probability, next)
    }

    /// The state after `context`, which needs no more than its last words.
    pub fn state_after(&self, context: &[u32]) -> State {
        let order = self.levels.len();
        let mut state = State::EMPTY;
        let mut used = &context[context.len() - context.len().min(order - 1)..];
        if let Some(bos) = self.header.bos
            && let Some(at) = used.iter().rposition(|&word| word == bos)
        {
            used = &used[at..];
        }
        for len in 1..=used.len() {
            // The gram of the last `len` words, from its first word on.
            let gram = &used[used.len() - len..];
            state.nodes[len - 1] = self.find(gram).map_or(NONE, |node| node as u32);
        }
        state.len = used.len();
        state
    }

    /// The index of `gram` among those of its length.
    pub fn find(&self, gram: &[u32]) -> Option<usize> {
        let (&first, rest) = gram.split_first()?;
        let mut node = (first < self.header.vocab_size).then_some(first as usize)?;
        for (len, &word) in rest.iter().enumerate() {
            node = self.levels.get(len + 1)?.find(self.levels[len].children(node), word)?;
        }
        Some(node)
    }

    /// Writes ln q(· | the text that led to `state`) to `out`, of length |V|; `log_unigrams` is ln q(·) without context.
    ///
    /// Instead of |V| point queries, the unigrams are scaled once by all that backs off (an addition to their logarithms),
    /// and only words that were seen in one of the contexts are computed: with B the product of the backoffs so far, each
    /// keeps q / B, to which a longer context only adds.
    pub fn distribution(&self, state: &State, log_unigrams: &[f64], out: &mut [f64]) {
        let Header { scheme, unseen_context_factor, bos, .. } = *self.header;
        let uniform = (scheme == BackoffScheme::LongestOnly && state.len > 0).then(|| self.uniform());
        let mut factor = 1.0_f64;
        // Whether words that no context has seen have any probability left.
        let mut rest = true;
        // Seen words with q / factor; until the end, `out` holds where in this list a word is, counted from 1.
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
            let (level, above) = (&self.levels[len], &self.levels[len + 1]);
            let weight = level.weight(node as usize);
            if weight.backoff > 0.0 {
                factor *= weight.backoff;
            } else {
                // Nothing of the lower orders is left: start anew.
                seen.drain(..).for_each(|(word, _)| out[word as usize] = 0.0);
                (factor, rest) = (1.0, false);
            }
            for gram in level.children(node as usize) {
                let word = above.words.get(gram) as u32;
                let Some(place) = out.get_mut(word as usize) else { continue };
                let share = above.value(gram) * weight.scale / factor;
                if *place == 0.0 {
                    let lower = if rest { uniform.unwrap_or_else(|| self.unigram(word)) } else { 0.0 };
                    seen.push((word, lower));
                    *place = seen.len() as f64;
                }
                let ratio = &mut seen[*place as usize - 1].1;
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
