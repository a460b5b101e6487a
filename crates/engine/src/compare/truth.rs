//! What is known of a text whose source is known: the probability of every next token, and the best that a family of
//! models could do.

use std::collections::BTreeMap;
use std::sync::Mutex;

use surprisal_model::LanguageModel;
use surprisal_model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_platform::threads::Pool;
use surprisal_source::Source;
use surprisal_text::{TokenText, Tokenizer, TokenizerKind};

use crate::config::Config;
use crate::data;
use crate::error::Result;

/// The best member of a family that the source is not in is counted on so many bytes of fresh text from the source.
const FRESH_BYTES: usize = 8_000_000;
/// The seed of that text; the embedded corpora have 1.
const FRESH_SEED: u64 = 2;
/// The highest order for which that text is long enough.
const HIGHEST_ORDER: usize = 6;

/// p(· | everything before) at each token of the validation text.
#[derive(Debug)]
pub struct Truth {
    /// Where the entries of a token start; one more than there are tokens.
    starts: Vec<u32>,
    tokens: Vec<u32>,
    probabilities: Vec<f64>,
    name: String,
    markov_order: Option<usize>,
    /// By order: ln q* of each token.
    best: Mutex<BTreeMap<usize, Option<Best>>>,
}

/// How well the best member of a family does on the validation text.
#[derive(Debug, Clone, Copy)]
pub struct Best {
    /// Σ −ln q*(w).
    pub nats: f64,
    /// How far off that may be, as it was counted on finite text: parameters / (2 tokens), in nats a token. Zero: exact.
    pub uncertainty: f64,
}

impl Truth {
    /// `None` where the source is not known, or its characters are not the tokens.
    ///
    /// # Errors
    /// A failure of the source.
    pub fn of(config: &Config, tokenizer: &Tokenizer, val: &TokenText) -> Result<Option<Self>> {
        if !matches!(tokenizer.kind(), TokenizerKind::Byte | TokenizerKind::Char)
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
            starts: vec![0],
            tokens: Vec::new(),
            probabilities: Vec::new(),
            name: config.data.embedded.clone(),
            markov_order: corpus.source().and_then(Source::markov_order),
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
            truth.starts.push(truth.tokens.len() as u32);
        });
        // A source that does not write ASCII has no predictions; one whose text is cut elsewhere has others.
        if !known.unwrap_or(false) || outside || truth.starts.len() != val.ids.len() + 1 {
            return Ok(None);
        }
        Ok(Some(truth))
    }

    /// The tokens that can come at place `index`, with their probabilities.
    pub fn at(&self, index: usize) -> impl Iterator<Item = (u32, f64)> + Clone {
        let span = self.starts[index] as usize..self.starts[index + 1] as usize;
        self.tokens[span.clone()].iter().copied().zip(self.probabilities[span].iter().copied())
    }

    /// The best of all models that see `order − 1` tokens back, where it can be known: the source itself where that sees
    /// no further; else, for low orders, what counting fresh text from the source converges to.
    ///
    /// # Errors
    /// A failure of the source.
    pub fn best(
        &self,
        order: usize,
        tokenizer: &Tokenizer,
        val: &TokenText,
        pool: &Pool,
    ) -> Result<Option<Best>> {
        // Held while it is counted: whoever asks for the same waits instead of counting again.
        let mut known = self.best.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(best) = known.get(&order) {
            return Ok(*best);
        }
        let best = if self.markov_order.is_some_and(|back| order > back) {
            let nats = (0..val.ids.len()).map(|index| self.nats(index, val.ids[index])).sum();
            Some(Best { nats, uncertainty: 0.0 })
        } else if (1..=HIGHEST_ORDER).contains(&order) {
            self.count(order, tokenizer, val, pool)?
        } else {
            None
        };
        known.insert(order, best);
        Ok(best)
    }

    /// −ln p of `token` at place `index`.
    pub fn nats(&self, index: usize, token: u32) -> f64 {
        let p = self.at(index).filter(|(other, _)| *other == token).map(|(_, p)| p).sum::<f64>();
        -p.ln()
    }

    fn count(
        &self,
        order: usize,
        tokenizer: &Tokenizer,
        val: &TokenText,
        pool: &Pool,
    ) -> Result<Option<Best>> {
        let Some(source) = Source::embedded(&self.name) else { return Ok(None) };
        let text = source.sample(FRESH_SEED, FRESH_BYTES);
        let Ok(ids) = tokenizer.encode(&text) else { return Ok(None) };
        // Nothing is impossible under it, and at this size smoothing moves next to nothing.
        let config = NgramConfig { order, smoothing: Smoothing::WittenBell, ..NgramConfig::default() };
        let model = pool.install(|| NgramModel::estimate(&ids, tokenizer.vocab_size(), &config))?;
        let highest = model.report().orders.last().map_or(0, |order| order.grams);
        let log_probs = pool.install(|| model.log_probs(&val.ids, 0))?;
        Ok(Some(Best {
            nats: -log_probs.iter().sum::<f64>(),
            uncertainty: highest as f64 / (2.0 * ids.len() as f64),
        }))
    }
}
