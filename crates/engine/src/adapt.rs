//! Evaluation by a model that learns from a text while it reads it.
//!
//! Every token is scored before anything is learnt from it, but the model changes over the text, so
//! such a loss is another number than that of [`evaluate`](crate::evaluate::evaluate).

use surprisal_model::adaptive::{Online, Settings};
use surprisal_platform::threads::Pool;
use surprisal_text::{Granularity, TokenText, Tokenizer};

use crate::dynamic::DynamicEvaluation;
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, of_parts, part};
use crate::interval::BlockSums;
use crate::models::{LoadedModel, Model};
use crate::spelling::Spelling;

/// For each token of characters or bytes, whether it is part of a word; empty for other tokens.
pub(crate) fn letters(tokenizer: &Tokenizer) -> Vec<bool> {
    if !matches!(tokenizer.granularity(), Granularity::Char | Granularity::Byte) {
        return Vec::new();
    }
    let is_letter = |token| {
        let bytes = tokenizer.token_bytes(token);
        // A byte above ASCII is part of a letter more often than not.
        std::str::from_utf8(&bytes).map_or(true, |text| text.chars().all(char::is_alphanumeric))
    };
    (0..tokenizer.vocab_size() as u32).map(is_letter).collect()
}

impl LoadedModel {
    /// Refuses a model whose scores are no probabilities.
    pub(crate) fn check_distribution(&self) -> Result<()> {
        if self.model.is_distribution() {
            return Ok(());
        }
        Err(Error::usage("the scores of this model do not sum to one, so they cannot be mixed or coded")
            .hint("count the text again with another smoothing"))
    }

    /// Whether its distributions say more than that all tokens are equally likely.
    pub(crate) fn has_opinion(&self) -> bool {
        !matches!(self.model, Model::Uniform(_))
    }

    /// The evaluation on `text` by a model that learns from it while it reads, with this model
    /// beside it, which does not change unless it is a network and `rate` is above 0: then it takes
    /// a step of gradient descent of this learning rate after each half of its window, and has its
    /// own weights again at the end. The other reads `before` first, without this model: that may
    /// know those texts too well.
    ///
    /// # Errors
    /// A failure of the model; scores that do not sum to one.
    pub fn evaluate_adaptive(
        &self,
        text: &TokenText,
        before: &[&TokenText],
        rate: f64,
        source_nats: Option<f64>,
        pool: &Pool,
    ) -> Result<Evaluation> {
        self.check_distribution()?;
        let vocab_size = self.tokenizer.vocab_size();
        let mut weights = vec![0; if before.is_empty() { 0 } else { vocab_size }];
        for &token in before.iter().flat_map(|text| text.ids.iter()) {
            weights[token as usize] += 1;
        }
        let tokens = before.iter().chain([&text]).map(|text| text.ids.len()).sum();
        let letters = letters(&self.tokenizer);
        let mut online = Online::new(Settings { vocab_size, weights, letters, tokens });
        for text in before {
            for &token in &text.ids[..] {
                if Some(token) == text.bos() {
                    online.skip(token);
                } else {
                    online.read(token, None);
                }
            }
        }
        let from = usize::from(text.bos().is_some());
        let piece = BlockSums::piece(text.scored());
        let mut sums = Default::default();
        let mut dynamic = match &self.model {
            Model::Neural(lm) => DynamicEvaluation::new(lm, rate, pool)?,
            _ => None,
        };
        let mut read = |tokens: &[u32], dynamic: &mut Option<DynamicEvaluation<'_>>| -> Result<()> {
            let mut log_probs = Vec::with_capacity(tokens.len());
            tokens[..from].iter().for_each(|&token| online.skip(token));
            if self.has_opinion() {
                let mut visit = |i: usize, row: &[f64]| log_probs.push(online.read(tokens[i], Some(row)));
                match dynamic {
                    Some(dynamic) => dynamic.each_distribution(tokens, from, &mut visit)?,
                    None => pool.install(|| self.model.for_each_distribution(tokens, from, &mut visit))?,
                }
            } else {
                log_probs.extend(tokens[from..].iter().map(|&token| online.read(token, None)));
            }
            part(&mut sums, &tokens[from..], &log_probs, self.tokenizer.unk(), piece);
            Ok(())
        };
        let done = text.sequences().try_for_each(|tokens| read(tokens, &mut dynamic));
        dynamic.map_or(Ok(()), DynamicEvaluation::end)?;
        done?;
        let evaluation = of_parts(vec![sums], text, source_nats).checked()?;
        Ok(Evaluation { spelling: Some(Spelling::of(&self.tokenizer, text, pool)?), ..evaluation })
    }
}
