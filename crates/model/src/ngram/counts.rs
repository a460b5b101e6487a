//! Counting n-grams by sorting positions.
//!
//! An n-gram is a place in the text, so a level is counted by sorting the places by the n tokens that end there and
//! walking over equal runs: no hash table of n-grams, eight bytes a place, and the result is already the sorted table
//! that queries search.

use crate::{Error, Result};

/// The n-grams of one length: contexts in order, and the words that followed each, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    /// Tokens a context has.
    pub context_len: usize,
    /// The contexts, `context_len` tokens each, sorted.
    pub contexts: Vec<u32>,
    /// Where each context's words start, and the end.
    pub starts: Vec<u64>,
    /// The words that followed, sorted within their context.
    pub words: Vec<u32>,
    /// How often each did.
    pub counts: Vec<u64>,
    /// How often each context was followed by anything.
    pub totals: Vec<u64>,
}

impl Level {
    /// Words, counts and total after `context`, if it was ever followed by anything.
    pub fn continuations(&self, context: &[u32]) -> Option<(&[u32], &[u64], u64)> {
        let len = self.context_len;
        let (mut low, mut high) = (0, self.totals.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.contexts[middle * len..(middle + 1) * len].cmp(context) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    let range = self.starts[middle] as usize..self.starts[middle + 1] as usize;
                    return Some((&self.words[range.clone()], &self.counts[range], self.totals[middle]));
                }
            }
        }
        None
    }
}

/// The n-grams of every length from one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Index i holds the n-grams of i + 1 tokens.
    pub levels: Vec<Level>,
}

impl Counts {
    /// Counts `sequences` up to `order`. With `bos`, the first token of each is context only.
    pub fn of(sequences: &[&[u32]], order: usize, bos: bool) -> Self {
        Self { levels: (0..order).map(|len| level(sequences, len, usize::from(bos))).collect() }
    }

    /// Whether these are well-formed counts of an n-gram model over `vocab_size` tokens: for those read from a file.
    ///
    /// # Errors
    /// [`Error::Config`] with what is wrong.
    pub fn check(&self, order: usize, vocab_size: usize) -> Result<()> {
        let wrong = |message: String| Err(Error::Config { message });
        if self.levels.len() != order {
            return wrong(format!("counts of {} orders for a model of order {order}", self.levels.len()));
        }
        for (len, level) in self.levels.iter().enumerate() {
            let contexts = level.totals.len();
            let shapes = level.context_len == len
                && level.contexts.len() == contexts * len
                && level.starts.len() == contexts + 1
                && level.words.len() == level.counts.len()
                && level.starts.first() == Some(&0)
                && level.starts.last() == Some(&(level.words.len() as u64))
                && level.starts.is_sorted();
            if !shapes || (len == 0 && contexts > 1) {
                return wrong(format!("the counts of order {} do not fit together", len + 1));
            }
            if level.words.iter().chain(&level.contexts).any(|&token| token as usize >= vocab_size) {
                return wrong(format!("the counts of order {} have a token outside the vocabulary", len + 1));
            }
            let ordered = (1..contexts).all(|i| {
                len == 0 || level.contexts[(i - 1) * len..i * len] < level.contexts[i * len..(i + 1) * len]
            });
            let runs = (0..contexts).all(|i| {
                let range = level.starts[i] as usize..level.starts[i + 1] as usize;
                let total =
                    level.counts[range.clone()].iter().try_fold(0u64, |sum, &count| sum.checked_add(count));
                level.words[range.clone()].is_sorted_by(|a, b| a < b)
                    && level.counts[range].iter().all(|&count| count > 0)
                    && total == Some(level.totals[i])
                    && level.totals[i] > 0
            });
            if !ordered || !runs {
                return wrong(format!("the counts of order {} are not in order", len + 1));
            }
        }
        Ok(())
    }
}

/// Counts the n-grams with contexts of `len` tokens.
fn level(sequences: &[&[u32]], len: usize, first: usize) -> Level {
    // A place: the sequence and the position of the predicted word.
    let mut places: Vec<(u32, u32)> = Vec::new();
    for (s, sequence) in sequences.iter().enumerate() {
        places.extend((len.max(first)..sequence.len()).map(|i| (s as u32, i as u32)));
    }
    let gram = |&(s, i): &(u32, u32)| &sequences[s as usize][i as usize - len..=i as usize];
    places.sort_unstable_by(|a, b| gram(a).cmp(gram(b)));
    let mut level = Level { context_len: len, starts: vec![0], ..Level::default() };
    let mut at = 0;
    while at < places.len() {
        let context = &gram(&places[at])[..len];
        let mut total = 0;
        while at < places.len() && &gram(&places[at])[..len] == context {
            let word = gram(&places[at])[len];
            let run = places[at..]
                .iter()
                .take_while(|place| {
                    let gram = gram(place);
                    &gram[..len] == context && gram[len] == word
                })
                .count();
            level.words.push(word);
            level.counts.push(run as u64);
            total += run as u64;
            at += run;
        }
        level.contexts.extend_from_slice(context);
        level.totals.push(total);
        level.starts.push(level.words.len() as u64);
    }
    level
}
