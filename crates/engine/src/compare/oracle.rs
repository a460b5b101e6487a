//! The source of a text as an oracle: the probability of every next token, and the least loss of
//! any model with a given context length.

use std::collections::BTreeMap;
use std::sync::Mutex;

use surprisal_model::LanguageModel;
use surprisal_model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_platform::threads::Pool;
use surprisal_source::Source;
use surprisal_text::{Granularity, TokenText, Tokenizer};

use crate::config::Config;
use crate::data;
use crate::error::Result;

/// Bytes of the fresh text from the source that the best model of an order is counted on.
const FRESH_BYTES: usize = 8_000_000;
/// Seed of that text; the embedded corpora have 1.
const FRESH_SEED: u64 = 2;
/// The highest order that is counted on that text.
const MAX_ORDER: usize = 6;

/// The distribution p(· | all tokens before) at each token of the validation text.
#[derive(Debug)]
pub struct SourceOracle {
    /// Offset of each token's entries in `tokens` and `probabilities`; one more than there are
    /// tokens.
    offsets: Vec<u32>,
    tokens: Vec<u32>,
    probabilities: Vec<f64>,
    name: String,
    markov_order: Option<usize>,
    free_parameters: Option<usize>,
    /// By order.
    best: Mutex<BTreeMap<usize, Option<BestInClass>>>,
}

/// Loss on the validation text of the best model of an order.
#[derive(Debug, Clone, Copy)]
pub struct BestInClass {
    /// Σ −ln q*(w).
    pub total_nll: f64,
    /// Its uncertainty in nats per token, parameters / (2 tokens) of the text that it was counted
    /// on; 0 where it is exact.
    pub uncertainty: f64,
}

impl SourceOracle {
    /// Predictions of the source; `None` where it is not known, or its characters are not the
    /// tokens.
    ///
    /// # Errors
    /// A failure of the source.
    pub fn new(config: &Config, tokenizer: &Tokenizer, val: &TokenText) -> Result<Option<Self>> {
        if !matches!(tokenizer.granularity(), Granularity::Byte | Granularity::Char)
            || val.bos().is_some()
            || !config.data.train.is_empty()
        {
            return Ok(None);
        }
        let corpus = data::corpus(config)?;
        let ids: Vec<Option<u32>> = (0..128u8)
            .map(|byte| tokenizer.encode(char::from(byte).encode_utf8(&mut [0; 4])).ok()?.first().copied())
            .collect();
        let mut truth = Self {
            offsets: vec![0],
            tokens: Vec::new(),
            probabilities: Vec::new(),
            name: config.data.embedded.clone(),
            markov_order: corpus.source().and_then(Source::markov_order),
            free_parameters: corpus.source().and_then(Source::free_parameters),
            best: Mutex::default(),
        };
        let mut outside = false;
        let known = corpus.source_predictions_val(|next| {
            for &(character, probability) in next {
                match ids.get(character as usize).copied().flatten() {
                    Some(id) => truth.tokens.push(id),
                    None => outside = true,
                }
                truth.probabilities.push(probability);
            }
            truth.offsets.push(truth.tokens.len() as u32);
        });
        // Only sources of ASCII text have predictions, and only for their own validation text.
        if !known.unwrap_or(false) || outside || truth.offsets.len() != val.ids.len() + 1 {
            return Ok(None);
        }
        Ok(Some(truth))
    }

    /// The order of the source, if it is a Markov chain.
    pub fn markov_order(&self) -> Option<usize> {
        self.markov_order
    }

    /// The number of free parameters of the source, if it is a Markov chain.
    pub fn free_parameters(&self) -> Option<usize> {
        self.free_parameters
    }

    /// The possible tokens at position `index`, with their probabilities.
    pub fn next_tokens(&self, index: usize) -> impl Iterator<Item = (u32, f64)> + Clone {
        let span = self.offsets[index] as usize..self.offsets[index + 1] as usize;
        self.tokens[span.clone()].iter().copied().zip(self.probabilities[span].iter().copied())
    }

    /// The best of all models with a context of `order − 1` tokens: the source itself where its
    /// context is no longer; else, for low orders, an n-gram model of fresh text from the source;
    /// `None` for high orders.
    ///
    /// # Errors
    /// A failure of the source.
    pub fn best_in_class(
        &self,
        order: usize,
        tokenizer: &Tokenizer,
        val: &TokenText,
        pool: &Pool,
    ) -> Result<Option<BestInClass>> {
        // Locked while counting, so that other threads wait instead of counting again.
        let mut known = self.best.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(best) = known.get(&order) {
            return Ok(*best);
        }
        let best = if self.markov_order.is_some_and(|back| order > back) {
            let nats = (0..val.ids.len()).map(|index| self.surprisal(index, val.ids[index])).sum();
            Some(BestInClass { total_nll: nats, uncertainty: 0.0 })
        } else if (1..=MAX_ORDER).contains(&order) {
            self.count(order, tokenizer, val, pool)?
        } else {
            None
        };
        known.insert(order, best);
        Ok(best)
    }

    /// −ln p of `token` at position `index`.
    pub fn surprisal(&self, index: usize, token: u32) -> f64 {
        let p = self.next_tokens(index).filter(|(other, _)| *other == token).map(|(_, p)| p).sum::<f64>();
        -p.ln()
    }

    fn count(
        &self,
        order: usize,
        tokenizer: &Tokenizer,
        val: &TokenText,
        pool: &Pool,
    ) -> Result<Option<BestInClass>> {
        let Some(source) = Source::embedded(&self.name) else { return Ok(None) };
        let text = source.sample(FRESH_SEED, FRESH_BYTES);
        let Ok(ids) = tokenizer.encode(&text) else { return Ok(None) };
        // Witten-Bell gives every token a probability and hardly changes counts of this size.
        let config = NgramConfig::new(order, Smoothing::WittenBell);
        let model = pool.install(|| NgramModel::estimate(&ids, tokenizer.vocab_size(), &config))?;
        let highest = model.report().orders.last().map_or(0, |order| order.grams);
        let log_probs = pool.install(|| model.log_probs(&val.ids, 0))?;
        Ok(Some(BestInClass {
            total_nll: -log_probs.iter().sum::<f64>(),
            uncertainty: highest as f64 / (2.0 * ids.len() as f64),
        }))
    }
}
