//! Back-off: log10 q(w | h) is that of the longest n-gram of h and w that the model has, plus the
//! weights of the longer contexts.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use surprisal_model::ngram::MAX_ORDER;

/// An n-gram below the highest order.
#[derive(Clone, Copy)]
pub(super) struct Gram<N> {
    pub(super) log10_prob: f32,
    pub(super) log10_backoff: f32,
    /// Where longer n-grams that end with this one are looked up, if there are any.
    pub(super) longer: Option<N>,
}

/// Tables of n-grams, which are looked up from their last word back.
pub(super) trait Lookup: Send + Sync {
    /// The place of an n-gram.
    type Node: Copy;

    fn order(&self) -> usize;

    fn unigram(&self, word: u32) -> Gram<Self::Node>;

    /// The n-gram of `len` words (below the order) that is `word` before a `shorter` one.
    fn middle(&self, len: usize, shorter: Self::Node, word: u32) -> Option<Gram<Self::Node>>;

    /// log10 q of the n-gram of the highest order that is `word` before a `shorter` one.
    fn longest(&self, shorter: Self::Node, word: u32) -> Option<f32>;

    /// Prefetches what the scores of `words` after `state` need, as far as their places are known.
    fn prefetch(&self, state: &State, words: &[u32]) {
        let _ = (state, words);
    }
}

/// The context of the next word: the words of the longest n-gram with which another may begin.
#[derive(Debug, Clone, Copy)]
pub struct State {
    /// The last word first.
    words: [u32; MAX_ORDER - 1],
    /// log10 of the back-off weight of the last word, of the last two words, …
    log10_backoffs: [f32; MAX_ORDER - 1],
    len: usize,
}

impl State {
    /// Before any text.
    pub const EMPTY: Self = Self { words: [0; MAX_ORDER - 1], log10_backoffs: [0.0; MAX_ORDER - 1], len: 0 };

    /// The length of the context.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The words of the context, the last first.
    pub fn words(&self) -> &[u32] {
        &self.words[..self.len]
    }

    fn key(&self) -> (usize, &[u32]) {
        (self.len, self.words())
    }
}

// The weights follow from the words.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for State {}

impl PartialOrd for State {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for State {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.key().hash(hasher);
    }
}

/// The score of a word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scored {
    pub(super) log10: f64,
    /// The same summed in 32 bits, as KenLM does.
    pub(super) log10_f32: f32,
    /// The length of the longest n-gram that ends with the word.
    pub(super) matched: usize,
}

/// Whether an n-gram with this weight is a context: files mark others with −0.
#[inline]
pub(super) fn is_context(log10_backoff: f32) -> bool {
    log10_backoff.to_bits() != (-0.0_f32).to_bits()
}

/// [`Lookup`] without its type of nodes.
pub(super) trait Score: Send + Sync {
    /// log10 q without context, and log10 of the back-off weight.
    fn unigram(&self, word: u32) -> (f32, f32);

    /// The state after the first word of a text, which has its weight even if it is no context.
    fn begun(&self, word: u32) -> State;

    /// The score of `word` after `state`, and the state after it.
    fn score(&self, state: &State, word: u32) -> (Scored, State);

    /// As in [`Lookup`].
    fn prefetch(&self, state: &State, words: &[u32]);
}

impl<L: Lookup> Score for L {
    fn unigram(&self, word: u32) -> (f32, f32) {
        let gram = Lookup::unigram(self, word);
        (gram.log10_prob, gram.log10_backoff)
    }

    fn begun(&self, word: u32) -> State {
        let mut state = State { len: 1, ..State::EMPTY };
        (state.words[0], state.log10_backoffs[0]) = (word, Lookup::unigram(self, word).log10_backoff);
        state
    }

    fn prefetch(&self, state: &State, words: &[u32]) {
        Lookup::prefetch(self, state, words);
    }

    #[inline]
    fn score(&self, state: &State, word: u32) -> (Scored, State) {
        let mut gram = Lookup::unigram(self, word);
        let mut next = State::EMPTY;
        (next.words[0], next.log10_backoffs[0]) = (word, gram.log10_backoff);
        next.len = usize::from(is_context(gram.log10_backoff));
        let (mut log10_prob, mut matched) = (gram.log10_prob, 1);
        for (before, len) in state.words[..state.len].iter().zip(2..) {
            let Some(shorter) = gram.longer else { break };
            if len == self.order() {
                if let Some(found) = self.longest(shorter, *before) {
                    (log10_prob, matched) = (found, len);
                }
                break;
            }
            let Some(found) = self.middle(len, shorter, *before) else { break };
            gram = found;
            (log10_prob, matched) = (gram.log10_prob, len);
            next.log10_backoffs[len - 1] = gram.log10_backoff;
            if is_context(gram.log10_backoff) {
                next.len = len;
            }
        }
        if next.len > 1 {
            next.words[1..next.len].copy_from_slice(&state.words[..next.len - 1]);
        }
        let weights = state.log10_backoffs[..state.len].iter().skip(matched - 1);
        let log10_f32 = weights.clone().fold(log10_prob, |sum, weight| sum + weight);
        let log10 = weights.map(|&weight| f64::from(weight)).sum::<f64>() + f64::from(log10_prob);
        (Scored { log10, log10_f32, matched }, next)
    }
}
