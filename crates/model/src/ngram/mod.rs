//! Counted models: the next token's probability from how often it followed the same context.
//!
//! Maximum likelihood is a ratio of counts, q(w | h) = c(hw) / c(h): it is what minimises the cross-entropy of the
//! training text, in closed form. Add-k (Lidstone) adds k to every count,
//! q(w | h) = (c(hw) + k) / (c(h) + k |V|), so that nothing is impossible.
//!
//! A context that was never seen has no ratio. Then the longest of its suffixes that was seen is used instead, down to
//! the empty one (maximum likelihood); add-k answers with the uniform distribution, as its formula says. Where a text
//! begins, contexts are as short as the text so far.
//!
//! When lines are sentences, `<s>` is context and never predicted: it has probability zero, and |V| does not count it.

mod counts;
mod uniform;

use serde::{Deserialize, Serialize};

pub use counts::{Counts, Level};
pub use uniform::Uniform;

use crate::{Error, LanguageModel, Result, check_tokens};

/// The longest n-gram.
pub const MAX_ORDER: usize = 16;

/// How counts become probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Smoothing {
    /// c(hw) / c(h): maximum likelihood.
    #[default]
    Mle,
    /// (c(hw) + k) / (c(h) + k |V|).
    AddK,
}

/// What to count and how to smooth it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NgramConfig {
    /// How many tokens an n-gram has, from 1.
    pub order: usize,
    /// How counts become probabilities.
    pub smoothing: Smoothing,
    /// What add-k adds.
    pub k: f64,
    /// `<s>`, where lines are sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
}

impl Default for NgramConfig {
    fn default() -> Self {
        Self { order: 2, smoothing: Smoothing::Mle, k: 1.0, bos: None }
    }
}

impl NgramConfig {
    fn check(&self) -> Result<()> {
        if !(1..=MAX_ORDER).contains(&self.order) {
            let message = format!("an n-gram has from 1 to {MAX_ORDER} tokens, not {}", self.order);
            return Err(Error::Config { message });
        }
        if self.smoothing == Smoothing::AddK && !(self.k.is_finite() && self.k > 0.0) {
            return Err(Error::Config { message: format!("add-k needs a finite k above 0, not {}", self.k) });
        }
        Ok(())
    }
}

/// An n-gram model.
#[derive(Debug, Clone, PartialEq)]
pub struct NgramModel {
    config: NgramConfig,
    vocab_size: usize,
    counts: Counts,
}

impl NgramModel {
    /// Counts `sequences`: the whole text, or its lines from `<s>` to `</s>`.
    ///
    /// # Errors
    /// [`Error::Config`]; a token outside the vocabulary.
    pub fn estimate<'a>(
        sequences: impl Iterator<Item = &'a [u32]>,
        vocab_size: usize,
        config: &NgramConfig,
    ) -> Result<Self> {
        config.check()?;
        let sequences: Vec<&[u32]> = sequences.collect();
        for sequence in &sequences {
            check_tokens(sequence, vocab_size)?;
        }
        let counts = Counts::of(&sequences, config.order, config.bos.is_some());
        Ok(Self { config: config.clone(), vocab_size, counts })
    }

    /// A model from counts that were saved.
    ///
    /// # Errors
    /// [`Error::Config`] when the counts are not those of such a model.
    pub fn from_counts(config: NgramConfig, vocab_size: usize, counts: Counts) -> Result<Self> {
        config.check()?;
        counts.check(config.order, vocab_size)?;
        Ok(Self { config, vocab_size, counts })
    }

    /// What it was told.
    pub fn config(&self) -> &NgramConfig {
        &self.config
    }

    /// What it counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many n-grams of all orders it holds.
    pub fn parameters(&self) -> u64 {
        self.counts.levels.iter().map(|level| level.words.len() as u64).sum()
    }

    /// How many tokens can be predicted: all but `<s>`.
    fn predictable(&self) -> usize {
        self.vocab_size - usize::from(self.config.bos.is_some())
    }

    /// The counts that answer for `context`, and their total.
    fn answer(&self, context: &[u32]) -> (&[u32], &[u64], u64) {
        let longest = context.len().min(self.config.order - 1);
        let shortest = match self.config.smoothing {
            Smoothing::Mle => 0,
            Smoothing::AddK => longest,
        };
        for len in (shortest..=longest).rev() {
            let found = self.counts.levels[len].continuations(&context[context.len() - len..]);
            if let Some(found) = found {
                return found;
            }
        }
        (&[], &[], 0)
    }

    fn log_prob(&self, context: &[u32], word: u32) -> f64 {
        if Some(word) == self.config.bos {
            return f64::NEG_INFINITY;
        }
        let (words, counts, total) = self.answer(context);
        let count = words.binary_search(&word).map_or(0, |at| counts[at]);
        self.ratio(count, total)
    }

    /// ln of the smoothed ratio.
    fn ratio(&self, count: u64, total: u64) -> f64 {
        let size = self.predictable() as f64;
        match self.config.smoothing {
            // Nothing at all was counted.
            Smoothing::Mle if total == 0 => -size.ln(),
            Smoothing::Mle => (count as f64 / total as f64).ln(),
            Smoothing::AddK => ((count as f64 + self.config.k) / (total as f64 + self.config.k * size)).ln(),
        }
    }
}

impl LanguageModel for NgramModel {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn log_probs(&self, tokens: &[u32], from: usize) -> Result<Vec<f64>> {
        check_tokens(tokens, self.vocab_size)?;
        if from > tokens.len() {
            return Err(Error::FromOutOfRange { from, len: tokens.len() });
        }
        Ok((from..tokens.len()).map(|i| self.log_prob(&tokens[..i], tokens[i])).collect())
    }

    fn next(&self, context: &[u32]) -> Result<Vec<f64>> {
        check_tokens(context, self.vocab_size)?;
        let (words, counts, total) = self.answer(context);
        let mut distribution = vec![self.ratio(0, total); self.vocab_size];
        for (&word, &count) in words.iter().zip(counts) {
            distribution[word as usize] = self.ratio(count, total);
        }
        if let Some(bos) = self.config.bos {
            distribution[bos as usize] = f64::NEG_INFINITY;
        }
        Ok(distribution)
    }
}

#[cfg(test)]
mod tests;
