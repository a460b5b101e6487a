//! The surprisal of a text, token by token, and the computation of one token's loss.

use serde::Serialize;
use surprisal_loss::information;
use surprisal_model::LanguageModel;
use surprisal_platform::threads::Pool;
use surprisal_text::{Granularity, InputOptions, TokenText, encode_text};

use crate::error::Result;
use crate::evaluate::{self, Evaluation};
use crate::events::Context;
use crate::models::{LoadedModel, Model};
use crate::sampling::ranking;

/// A token with its surprisal.
#[derive(Debug, Clone, Serialize)]
pub struct ScoredToken {
    /// The token as in the text.
    pub token: String,
    /// Whether it is unknown: then the numbers are those of `<unk>`.
    pub unknown: bool,
    /// Surprisal; infinite for probability zero, which is null in JSON.
    pub nats: f64,
    /// The same in bits.
    pub bits: f64,
    /// Its rank by probability, from 1.
    pub rank: usize,
    /// The likeliest tokens in its place.
    pub likeliest: Vec<Guess>,
}

/// A token with its probability.
#[derive(Debug, Clone, Serialize)]
pub struct Guess {
    /// The token.
    pub token: String,
    /// Its probability.
    pub probability: f64,
}

/// The surprisals of a text under a model.
pub struct Explanation {
    /// Every scored token.
    pub tokens: Vec<ScoredToken>,
    /// The evaluation, the same as of a file with this text.
    pub evaluation: Evaluation,
    /// Whether tokens are words, shown with spaces in between.
    pub words: bool,
    /// Whether the first token has no context, which the model was not trained on.
    pub starts_uniform: bool,
}

/// A text, encoded as for an evaluation of a model.
pub struct EncodedText {
    /// Its tokens.
    pub tokens: TokenText,
    /// Every scored token as in the text, and whether it is unknown.
    pub shown: Vec<(String, bool)>,
}

impl EncodedText {
    /// Encodes `text` for the model.
    ///
    /// # Errors
    /// A text that cannot be read; a subscriber's error.
    pub fn new(loaded: &LoadedModel, text: &str, ctx: &Context<'_>) -> Result<Self> {
        let tokenizer = &loaded.tokenizer;
        let inputs = loaded.inputs(InputOptions::default());
        let (read, mut unknown) = encode_text("the text", text, tokenizer, &inputs, loaded.reading())?;
        ctx.notes(&read.notices)?;
        let tokens = read.tokens;
        let scored = (0..).zip(tokens.ids.iter()).filter(|(_, id)| Some(**id) != tokens.bos());
        let shown = scored.map(|(position, &id)| match unknown.remove(&position) {
            Some(word) => (word, true),
            None => (tokenizer.token(id), false),
        });
        Ok(Self { shown: shown.collect(), tokens })
    }

    /// The number of tokens at the start of each sequence that are not scored.
    pub fn from(&self) -> usize {
        usize::from(self.tokens.bos().is_some())
    }

    /// The sequence and the position in it of scored token `number`, from 0.
    pub fn position(&self, number: usize) -> Option<(&[u32], usize)> {
        let from = self.from();
        let mut scored =
            self.tokens.sequences().flat_map(|ids| (from..ids.len()).map(move |position| (ids, position)));
        scored.nth(number)
    }
}

/// The surprisal of every token of `text`, with the `top` likeliest tokens in its place.
///
/// # Errors
/// A failure of the model.
pub fn explain(loaded: &LoadedModel, text: &EncodedText, top: usize, pool: &Pool) -> Result<Explanation> {
    let (model, tokenizer): (&dyn LanguageModel, _) = (&*loaded.model, &loaded.tokenizer);
    let evaluation = loaded.evaluate(&text.tokens, None, pool)?;
    // These are bit-identical to those of the evaluation.
    let log_probs = evaluate::log_probs(model, &text.tokens, pool)?;
    let mut scored = text.shown.iter().zip(&log_probs);
    let mut tokens = Vec::new();
    for ids in text.tokens.sequences() {
        model.for_each_distribution(ids, text.from(), &mut |i, row| {
            let Some(((token, unknown), log_prob)) = scored.next() else { return };
            let guess = |&id: &u32| Guess { token: tokenizer.token(id), probability: row[id as usize].exp() };
            tokens.push(ScoredToken {
                token: token.clone(),
                unknown: *unknown,
                nats: -log_prob,
                bits: information::bits(-log_prob),
                rank: 1 + row.iter().filter(|other| **other > row[ids[i] as usize]).count(),
                likeliest: ranking(row, 0..row.len() as u32).iter().take(top).map(guess).collect(),
            });
        })?;
    }
    let starts_uniform = text.from() == 0 && loaded.model.neural().is_some();
    let words = tokenizer.granularity() == Granularity::Word;
    Ok(Explanation { tokens, evaluation, words, starts_uniform })
}

/// The logits at `position` of a sequence whose first `from` tokens are not scored, and true; or
/// ln q and false for a model without logits.
///
/// # Errors
/// A failure of the model.
pub fn scores(loaded: &LoadedModel, ids: &[u32], from: usize, position: usize) -> Result<(Vec<f64>, bool)> {
    Ok(match &loaded.model {
        Model::Neural(lm) if position > 0 => {
            (lm.logits(&ids[lm.context(ids.len(), from, position)..position])?, true)
        }
        model => (model.next_log_probs(&ids[..position])?, false),
    })
}
