//! Language models: distributions over the next token given all the tokens before it.
//!
//! Counting and gradient descent are two ways to minimise the same cross-entropy, so a table of
//! bigram counts and a transformer implement one trait, [`LanguageModel`], and are evaluated by the
//! same code. This crate knows no objective, no file, no clock and no global random generator.

pub mod adaptive;
mod bin_weights;
mod config;
mod error;
pub mod infinigram;
mod mixture;
pub mod neural;
pub mod ngram;
mod vocab_map;

pub use bin_weights::{BinWeights, ContextBin, LengthWeights};
pub use config::ModelConfig;
pub use error::{Error, Result};
pub use mixture::{Mixture, best_weights};
pub use vocab_map::{MappedModel, VocabMap};

/// A function that is called with the index of a position or a sequence, and log-probabilities.
pub type Visit<'a> = dyn FnMut(usize, &[f64]) + 'a;

/// A distribution over the next token given all the tokens before it.
///
/// All log-probabilities are natural logarithms (nats). A token of probability zero has
/// `f64::NEG_INFINITY`; an evaluation counts and reports it and never drops it.
pub trait LanguageModel: Send + Sync {
    /// |V|: tokens are `0..vocab_size`.
    fn vocab_size(&self) -> usize;

    /// Whether q sums to one. Scores that do not (stupid backoff) have no perplexity.
    fn is_distribution(&self) -> bool {
        true
    }

    /// ln q(`tokens[i]` | `tokens[..i]`) for every i in `from..tokens.len()`.
    ///
    /// # Errors
    /// A token outside the vocabulary, `from` past the end, or an error of candle.
    fn log_probs(&self, tokens: &[u32], from: usize) -> Result<Vec<f64>>;

    /// ln q(· | `context`): the next-token distribution, of length [`Self::vocab_size`]; its
    /// exponentials sum to one.
    ///
    /// # Errors
    /// As [`Self::log_probs`].
    fn next_log_probs(&self, context: &[u32]) -> Result<Vec<f64>>;

    /// Visits, for each i in `from..tokens.len()` in order, i and ln q(· | `tokens[..i]`), with the
    /// contexts of [`Self::log_probs`].
    ///
    /// The default reads the text with a session; a model that scores in windows overrides it.
    ///
    /// # Errors
    /// As [`Self::log_probs`].
    fn for_each_distribution(&self, tokens: &[u32], from: usize, visit: &mut Visit<'_>) -> Result<()> {
        let read = tokens.get(..from).ok_or(Error::FromOutOfRange { from, len: tokens.len() })?;
        if from == tokens.len() {
            return Ok(());
        }
        let mut session = self.session()?;
        let mut next = session.feed(read)?;
        for i in from..tokens.len() {
            visit(i, &next);
            if i + 1 < tokens.len() {
                next = session.feed(&tokens[i..=i])?;
            }
        }
        Ok(())
    }

    /// [`Self::log_probs`] of many independent sequences (the lines of a text): calls `visit` with
    /// the index of each sequence, in order, and its result.
    ///
    /// The default scores them one by one; a model that computes in batches overrides it.
    ///
    /// # Errors
    /// As [`Self::log_probs`].
    fn each_log_probs(&self, sequences: &[&[u32]], from: usize, visit: &mut Visit<'_>) -> Result<()> {
        for (i, tokens) in sequences.iter().enumerate() {
            visit(i, &self.log_probs(tokens, from)?);
        }
        Ok(())
    }

    /// For each i in `from..tokens.len()`, the length of the longest n-gram of the model that ends
    /// with `tokens[i]` after its context; `None` from a model without n-grams.
    ///
    /// # Errors
    /// As [`Self::log_probs`].
    fn matched_orders(&self, tokens: &[u32], from: usize) -> Result<Option<Vec<usize>>> {
        scored(tokens, from, self.vocab_size()).map(|_| None)
    }

    /// For each i in `from..=tokens.len()`, the bin of the context `tokens[..i]`, which no later
    /// token changes; `None` from a model without n-grams.
    ///
    /// # Errors
    /// As [`Self::log_probs`].
    fn context_bins(&self, tokens: &[u32], from: usize) -> Result<Option<Vec<ContextBin>>> {
        scored(tokens, from, self.vocab_size()).map(|_| None)
    }

    /// A session at the beginning of a text, for sampling token by token.
    ///
    /// The default stores the tokens and calls [`Self::next_log_probs`]; a transformer stores keys
    /// and values instead.
    ///
    /// # Errors
    /// As [`Self::next_log_probs`].
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(RecomputeSession { model: self, tokens: Vec::new() }))
    }
}

/// A text that is read (or generated) token by token.
pub trait Session {
    /// Appends `tokens` and returns ln q(· | all tokens so far).
    ///
    /// # Errors
    /// As [`LanguageModel::next_log_probs`].
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>>;
}

/// The session of a model without a state: it computes each distribution from all the tokens.
struct RecomputeSession<'a, M: ?Sized> {
    model: &'a M,
    tokens: Vec<u32>,
}

impl<M: LanguageModel + ?Sized> Session for RecomputeSession<'_, M> {
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        self.tokens.extend_from_slice(tokens);
        self.model.next_log_probs(&self.tokens)
    }
}

/// Checks that all tokens are in the vocabulary; the error has the first that is not.
///
/// # Errors
/// [`Error::TokenOutOfRange`].
pub fn check_tokens(tokens: &[u32], vocab_size: usize) -> Result<()> {
    match tokens.iter().position(|&token| token as usize >= vocab_size) {
        Some(index) => Err(Error::TokenOutOfRange { token: tokens[index], index, vocab_size }),
        None => Ok(()),
    }
}

/// The `tokens` from index `from` on, after a check that all are in the vocabulary.
fn scored(tokens: &[u32], from: usize, vocab_size: usize) -> Result<&[u32]> {
    check_tokens(tokens, vocab_size)?;
    tokens.get(from..).ok_or(Error::FromOutOfRange { from, len: tokens.len() })
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
