//! Language models: distributions over the next token given all the tokens before it.
//!
//! Counting and gradient descent are two ways to minimise the same cross-entropy, so a bigram table of counts and a
//! transformer implement one trait, [`LanguageModel`], and pass through one evaluation. This crate knows no
//! objective, no file, no clock and no global random generator.

mod config;
mod error;
mod mixture;
pub mod neural;
pub mod ngram;
mod vocab_map;

pub use config::ModelConfig;
pub use error::{Error, Result};
pub use mixture::{Mixture, best_weights};
pub use vocab_map::{MappedModel, VocabMap};

/// A distribution over the next token given all the tokens before it.
///
/// All log-probabilities are natural logarithms (nats). An impossible token has `f64::NEG_INFINITY`, which an
/// evaluation counts and reports, never drops.
pub trait LanguageModel: Send + Sync {
    /// |V|: tokens are `0..vocab_size`.
    fn vocab_size(&self) -> usize;

    /// Whether q sums to one. A model whose scores do not (stupid backoff) has no perplexity, and an evaluation gives none.
    fn is_distribution(&self) -> bool {
        true
    }

    /// ln q(`tokens[i]` | `tokens[..i]`) for every i in `from..tokens.len()`.
    ///
    /// # Errors
    /// A token outside the vocabulary, `from` past the end, or a failure of the tensor library.
    fn log_probs(&self, tokens: &[u32], from: usize) -> Result<Vec<f64>>;

    /// ln q(· | `context`): the whole next-token distribution, of length [`Self::vocab_size`]; its exponentials sum
    /// to one.
    ///
    /// # Errors
    /// As [`Self::log_probs`].
    fn next_log_probs(&self, context: &[u32]) -> Result<Vec<f64>>;

    /// ln q(· | `tokens[..i]`) for every i in `from..tokens.len()`, in order: [`Self::log_probs`] with all that did not come,
    /// too. `visit` is given i and the distribution.
    ///
    /// The default reads the text as a session does; a model that scores in windows overrides it, so that both see the same
    /// contexts.
    ///
    /// # Errors
    /// As [`Self::log_probs`].
    fn for_each_distribution(
        &self,
        tokens: &[u32],
        from: usize,
        visit: &mut dyn FnMut(usize, &[f64]),
    ) -> Result<()> {
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

    /// [`Self::log_probs`] of many independent sequences (the lines of a text), handed to `visit` in order, each with its number.
    ///
    /// The default scores them one by one; a model that computes in batches overrides it.
    ///
    /// # Errors
    /// As [`Self::log_probs`].
    fn each_log_probs(
        &self,
        sequences: &[&[u32]],
        from: usize,
        visit: &mut dyn FnMut(usize, &[f64]),
    ) -> Result<()> {
        for (i, tokens) in sequences.iter().enumerate() {
            visit(i, &self.log_probs(tokens, from)?);
        }
        Ok(())
    }

    /// Starts reading a text from its beginning, for sampling token by token.
    ///
    /// The default keeps the tokens and calls [`Self::next_log_probs`]; a transformer keeps keys and values instead.
    ///
    /// # Errors
    /// As [`Self::next_log_probs`].
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(RecomputeSession { model: self, tokens: Vec::new() }))
    }
}

/// A text being read (or written) token by token.
pub trait Session {
    /// Appends `tokens` and returns ln q(· | everything so far).
    ///
    /// # Errors
    /// As [`LanguageModel::next_log_probs`].
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>>;
}

/// The session of a model that has nothing to remember but its context.
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

/// Refuses tokens outside the vocabulary, naming the first.
///
/// # Errors
/// [`Error::TokenOutOfRange`].
pub fn check_tokens(tokens: &[u32], vocab_size: usize) -> Result<()> {
    match tokens.iter().position(|&token| token as usize >= vocab_size) {
        Some(index) => Err(Error::TokenOutOfRange { token: tokens[index], index, vocab_size }),
        None => Ok(()),
    }
}

/// The `tokens` from place `from` on, all of which are in the vocabulary.
fn scored(tokens: &[u32], from: usize, vocab_size: usize) -> Result<&[u32]> {
    check_tokens(tokens, vocab_size)?;
    tokens.get(from..).ok_or(Error::FromOutOfRange { from, len: tokens.len() })
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
