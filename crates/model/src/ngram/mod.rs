//! N-gram models: the next token's probability from how often it followed the same context.
//!
//! Maximum likelihood is a ratio of counts, q(w | h) = c(hw) / c(h), and minimises the
//! cross-entropy of the training text in closed form. A [`Smoother`] moves some of that probability
//! to the shorter context, and so on down to the uniform distribution.
//!
//! [`Counts`] come from a suffix array, [`Estimate`] turns them into a model, and [`Trie`] answers
//! queries. At the beginning of a text, contexts are as short as the text so far. Instead of a
//! context that was never seen, the longest of its suffixes that was seen is used; add-k gives the
//! uniform distribution, as its formula says.
//!
//! When lines are sentences, `<s>` is context only: it has probability zero, and |V| does not count
//! it.

mod batch_scoring;
mod config;
mod counts;
mod entropy_pruning;
mod estimate;
mod estimator;
mod export;
pub mod external;
mod header;
mod heldout;
mod merge_counts;
mod order_counts;
pub mod packed;
mod prefix_code;
mod quantize;
pub mod reference;
mod report;
mod smoothing;
mod static_mixture;
mod statistics;
mod suffix_array;
mod suffix_links;
mod trie;
mod uniform;
mod view;

use std::sync::OnceLock;

use rayon::prelude::*;

pub use batch_scoring::QueryBlock;
pub use config::{Compat, NgramConfig, Smoothing};
pub use counts::Counts;
pub use estimate::{Estimate, Probabilities};
pub use header::{BackoffScheme, ContextWeights, Header, LevelHeader};
pub use heldout::{Heldout, OrderStats};
pub use merge_counts::Shard;
pub use order_counts::OrderCounts;
pub use report::{OrderReport, Report};
pub use smoothing::{Smoother, Tuning};
pub use static_mixture::{MixtureComponent, static_mixture, static_mixture_memory};
pub use statistics::{ContextStats, Discounts};
pub use trie::{SECTIONS, Trie, UnpackedLevel};
pub use uniform::Uniform;
pub use view::{State, View};

use crate::{ContextBin, Error, LanguageModel, Result, Session, Visit, check_tokens, scored};
use statistics::Statistics;

/// The notice on parameters that are not fitted.
const NO_HELDOUT: &str = "there is no held-out text to tune on; formulas and defaults are used";

/// The highest order.
pub const MAX_ORDER: usize = 16;

/// An n-gram model.
///
/// ```
/// # use surprisal_model::{LanguageModel, ngram::{NgramConfig, NgramModel, Smoothing}};
/// # fn main() -> surprisal_model::Result<()> {
/// // After 0, 1 occurs twice. Add-1 with a vocabulary of 3 makes that (2 + 1) / (2 + 3).
/// let config = NgramConfig { smoothing: Smoothing::AddK, k: 1.0, ..NgramConfig::default() };
/// let model = NgramModel::estimate(&[0, 1, 0, 1, 0], 3, &config)?;
/// assert!((model.log_probs(&[0, 1], 1)?[0] - 0.6f64.ln()).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct NgramModel {
    config: NgramConfig,
    report: Report,
    trie: Trie,
    log_unigrams: OnceLock<Vec<f64>>,
}

/// Counts `tokens` (one text, or lines that each begin with `config.bos`) and smooths the counts.
///
/// # Errors
/// [`Error::Config`]; a token outside the vocabulary.
pub fn estimate(tokens: &[u32], vocab_size: usize, config: &NgramConfig) -> Result<(Estimate, Report)> {
    estimate_with(tokens, vocab_size, config, config.smoother()?.as_mut())
}

/// Smooths `counts`. `tuning` is held-out text with the counts of the text before it.
///
/// # Errors
/// [`Error::Config`].
pub fn from_counts(
    counts: Counts,
    config: &NgramConfig,
    tuning: Option<(&Counts, &[u32])>,
) -> Result<(Estimate, Report)> {
    config.check()?;
    from_counts_with(counts, config, config.smoother()?.as_mut(), tuning)
}

/// [`estimate`] with any smoother.
fn estimate_with(
    tokens: &[u32],
    vocab_size: usize,
    config: &NgramConfig,
    smoother: &mut dyn Smoother,
) -> Result<(Estimate, Report)> {
    config.check_with(smoother)?;
    let counts = Counts::new(tokens, vocab_size, config.order, config.bos)?;
    let part = if config.tunes(smoother) {
        let at = config.heldout_from(tokens);
        Some((Counts::new(&tokens[..at], vocab_size, config.order, config.bos)?, &tokens[at..]))
    } else {
        None
    };
    from_counts_with(counts, config, smoother, part.as_ref().map(|(part, heldout)| (part, *heldout)))
}

/// [`from_counts`] with any smoother.
fn from_counts_with(
    counts: Counts,
    config: &NgramConfig,
    smoother: &mut dyn Smoother,
    tuning: Option<(&Counts, &[u32])>,
) -> Result<(Estimate, Report)> {
    if counts.order() != config.order {
        let message = format!("counts up to order {} for a model of order {}", counts.order(), config.order);
        return Err(Error::Config(message));
    }
    let continuation = smoother.uses_continuation_counts();
    let statistics = Statistics::new(&counts, continuation, config.compat == Some(Compat::Kenlm));
    let mut report = Report { orders: estimator::report(&counts, &statistics), ..Report::default() };
    let heldout = tuning.map(|(part, tokens)| {
        let statistics = Statistics::new(part, continuation, false);
        let words = counts.vocab_size - u32::from(config.bos.is_some());
        Heldout::new(tokens, part, &statistics, 1.0 / f64::from(words.max(1)))
    });
    let heldout = heldout.filter(|heldout| !heldout.is_empty());
    if config.tunes(smoother) && heldout.is_none() {
        report.notices.push(NO_HELDOUT.into());
    }
    smoother.fit(heldout.as_ref(), &mut report);
    smoother.discount(&statistics.count_of_counts, &mut report);
    let estimate = estimator::smooth(counts, statistics, config, smoother, &mut report);
    Ok((estimate, report))
}

impl Estimate {
    /// Packs the model for queries.
    ///
    /// # Errors
    /// [`Error::Config`] when the tables do not fit together.
    pub fn into_trie(self) -> Result<Trie> {
        Trie::pack(self.vocab_size, self.bos, self.scheme, self.unseen_context_factor, true, self.tables)
    }
}

impl NgramModel {
    /// Counts and smooths `tokens`; see [`estimate`].
    ///
    /// # Errors
    /// As [`estimate`].
    pub fn estimate(tokens: &[u32], vocab_size: usize, config: &NgramConfig) -> Result<Self> {
        let (estimate, report) = estimate(tokens, vocab_size, config)?;
        Ok(Self::new(config.clone(), report, estimate.into_trie()?))
    }

    /// Counts `tokens` and smooths them with a smoother from outside of [`Smoothing`], instead of
    /// `config.smoothing`.
    ///
    /// The model is saved as [`Smoothing::Given`], with the smoother's name in its [`Report`];
    /// afterwards `smoother` has the fitted parameters.
    ///
    /// # Errors
    /// As [`estimate`]; a smoother that gives a negative value or weight, or one that is no number.
    pub fn estimate_with(
        tokens: &[u32],
        vocab_size: usize,
        config: &NgramConfig,
        smoother: &mut dyn Smoother,
    ) -> Result<Self> {
        let (estimate, mut report) = estimate_with(tokens, vocab_size, config, smoother)?;
        report.smoother = Some(smoother.name().into());
        let config = NgramConfig { smoothing: Smoothing::Given, ..config.clone() };
        let trie = estimate.into_trie()?;
        trie.check_values().map_err(|error| Error::Config(format!("{}: {error}", smoother.name())))?;
        Ok(Self::new(config, report, trie))
    }

    /// A model from its parts.
    pub fn new(config: NgramConfig, report: Report, trie: Trie) -> Self {
        Self { config, report, trie, log_unigrams: OnceLock::new() }
    }

    /// The same model with values and weights of at most `bits` bits; see [`Trie::quantized`].
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn quantized(&self, bits: u32) -> Result<Self> {
        Ok(Self::new(self.config.clone(), self.report.clone(), self.trie.quantized(bits)?))
    }

    /// The same model without the n-grams whose removal raises perplexity by less than the fraction
    /// `threshold` (Stolcke 1998), with weights that make it sum to one again.
    ///
    /// # Errors
    /// [`Error::Config`] for a model that does not back off, one whose probabilities do not sum to
    /// one, or one without the suffix of an n-gram, as other programs' pruning leaves it.
    pub fn pruned(&self, threshold: f64) -> Result<Self> {
        let config = NgramConfig { prune_entropy: threshold, ..self.config.clone() };
        let smoother = config.smoother().ok();
        let backs_off = smoother.as_ref().is_none_or(|smoother| smoother.prunes_by_entropy());
        let backs_off = backs_off && self.trie.header().scheme != BackoffScheme::LongestOnly;
        config.check_entropy_pruning(backs_off, config.smoothing.name())?;
        let mut estimate = self.trie.to_linked_estimate()?;
        entropy_pruning::check_sums(&estimate)?;
        entropy_pruning::prune(&mut estimate, threshold);
        let mut report = self.report.clone();
        for (order, table) in report.orders.iter_mut().zip(&estimate.tables).skip(1) {
            order.grams = table.value_ids.len() as u64;
        }
        Ok(Self::new(config, report, estimate.into_trie()?))
    }

    /// The configuration it was estimated with.
    pub fn config(&self) -> &NgramConfig {
        &self.config
    }

    /// The parameters and statistics that the estimator found.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The n-grams with their weights.
    pub fn trie(&self) -> &Trie {
        &self.trie
    }

    /// The number of n-grams of all orders.
    pub fn parameters(&self) -> u64 {
        self.report.orders.iter().map(|order| order.grams).sum()
    }

    /// Whether an n-gram of two words begins with `word`; `None` in a model without any.
    pub fn is_context(&self, word: u32) -> Option<bool> {
        let view = self.trie.view();
        (view.order() > 1).then(|| !view.levels[0].children(word as usize).is_empty())
    }

    fn log_unigrams(&self, view: &View<'_>) -> &[f64] {
        self.log_unigrams
            .get_or_init(|| (0..self.trie.header().vocab_size).map(|word| view.unigram(word).ln()).collect())
    }
}

/// Tokens per task: constant, so that nothing depends on the number of threads.
const TOKENS_PER_TASK: usize = 1 << 14;

impl LanguageModel for NgramModel {
    fn vocab_size(&self) -> usize {
        self.trie.header().vocab_size as usize
    }

    fn is_distribution(&self) -> bool {
        self.trie.header().unseen_context_factor == 1.0
    }

    fn log_probs(&self, tokens: &[u32], from: usize) -> Result<Vec<f64>> {
        let scored = scored(tokens, from, self.vocab_size())?;
        let view = self.trie.view();
        let parts = scored.par_chunks(TOKENS_PER_TASK).enumerate().map(|(i, part)| {
            let mut state = view.state_after(&tokens[..from + i * TOKENS_PER_TASK]);
            view.log_probs(&mut state, part)
        });
        let parts: Vec<Vec<f64>> = parts.collect();
        Ok(parts.concat())
    }

    fn next_log_probs(&self, context: &[u32]) -> Result<Vec<f64>> {
        check_tokens(context, self.vocab_size())?;
        let view = self.trie.view();
        let mut distribution = vec![0.0; self.vocab_size()];
        view.distribution(&view.state_after(context), self.log_unigrams(&view), &mut distribution);
        Ok(distribution)
    }

    fn each_log_probs(&self, sequences: &[&[u32]], from: usize, visit: &mut Visit<'_>) -> Result<()> {
        for tokens in sequences {
            scored(tokens, from, self.vocab_size())?;
        }
        self.trie.view().each_log_probs(sequences, from, visit);
        Ok(())
    }

    fn matched_orders(&self, tokens: &[u32], from: usize) -> Result<Option<Vec<usize>>> {
        scored(tokens, from, self.vocab_size())?;
        let view = self.trie.view();
        let ends = (from + 1..=tokens.len()).into_par_iter();
        Ok(Some(ends.map(|end| view.matched_order(&tokens[..end])).collect()))
    }

    fn context_bins(&self, tokens: &[u32], from: usize) -> Result<Option<Vec<ContextBin>>> {
        let scored = scored(tokens, from, self.vocab_size())?;
        let view = self.trie.view();
        let parts = scored.par_chunks(TOKENS_PER_TASK).enumerate().map(|(i, part)| {
            let mut state = view.state_after(&tokens[..from + i * TOKENS_PER_TASK]);
            let bin = |&token| {
                let bin = view.context_bin(&state);
                view.advance(&mut state, token);
                bin
            };
            part.iter().map(bin).collect::<Vec<_>>()
        });
        let mut bins = parts.collect::<Vec<_>>().concat();
        bins.push(view.context_bin(&view.state_after(tokens)));
        Ok(Some(bins))
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(NgramSession { model: self, view: self.trie.view(), state: State::EMPTY }))
    }
}

/// A text that an n-gram model reads token by token.
struct NgramSession<'a> {
    model: &'a NgramModel,
    view: View<'a>,
    state: State,
}

impl Session for NgramSession<'_> {
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        check_tokens(tokens, self.model.vocab_size())?;
        for &token in tokens {
            self.view.advance(&mut self.state, token);
        }
        let mut distribution = vec![0.0; self.model.vocab_size()];
        self.view.distribution(&self.state, self.model.log_unigrams(&self.view), &mut distribution);
        Ok(distribution)
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
