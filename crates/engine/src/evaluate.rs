//! The evaluation of every model: each token is scored exactly once, without smoothing.

use surprisal_model::{ContextBin, LanguageModel};
use surprisal_platform::threads::Pool;
use surprisal_text::TokenText;

use crate::error::Result;
pub use crate::evaluation::Evaluation;
use crate::interval::{self, BlockSums};

/// Tokens per task, by where sequences begin. Fixed, so that sums do not depend on the number of
/// threads.
const TOKENS_PER_TASK: usize = 1 << 13;

/// Evaluation of `model` on `text`. `source_nats` is −ln p of the text under its source, where
/// known.
///
/// # Errors
/// A failure of the model.
pub fn evaluate(
    model: &dyn LanguageModel,
    text: &TokenText,
    unk: Option<u32>,
    source_nats: Option<f64>,
    pool: &Pool,
) -> Result<Evaluation> {
    let piece = BlockSums::piece(text.scored());
    let parts =
        batches(model, text, pool, |sums, tokens, log_probs| part(sums, tokens, log_probs, unk, piece))?;
    Ok(Evaluation { unnormalized: !model.is_distribution(), ..of_parts(parts, text, source_nats) })
}

/// Adds scored tokens and their ln q to a part of an evaluation.
pub(crate) fn part(
    (sums, blocks): &mut (Evaluation, BlockSums),
    tokens: &[u32],
    log_probs: &[f64],
    unk: Option<u32>,
    piece: u64,
) {
    sums.add(&sum(tokens, log_probs, unk));
    blocks.add(log_probs, piece);
}

/// The evaluation on `text` from its parts.
pub(crate) fn of_parts(
    parts: Vec<(Evaluation, BlockSums)>,
    text: &TokenText,
    source_nats: Option<f64>,
) -> Evaluation {
    let (bytes, lossy) = (text.bytes, text.lossy.is_some());
    let mut evaluation = Evaluation { bytes, source_nats, lossy, ..Evaluation::default() };
    let mut blocks = Vec::new();
    for (part, its) in parts {
        evaluation.add(&part);
        blocks.extend(its.pieces);
    }
    evaluation.interval = interval::of_mean(&blocks);
    evaluation
}

/// ln q of every token that [`evaluate`] scores, in order.
///
/// # Errors
/// A failure of the model.
pub fn log_probs(model: &dyn LanguageModel, text: &TokenText, pool: &Pool) -> Result<Vec<f64>> {
    let parts = batches(model, text, pool, |part: &mut Vec<f64>, _, log_probs| {
        part.extend_from_slice(log_probs);
    })?;
    Ok(parts.concat())
}

/// The bin of the context of every token that [`evaluate`] scores, in order, by a model with
/// n-grams; none from another.
///
/// # Errors
/// A failure of the model.
pub fn context_bins(model: &dyn LanguageModel, text: &TokenText, pool: &Pool) -> Result<Vec<ContextBin>> {
    let from = usize::from(text.bos().is_some());
    let sequences: Vec<&[u32]> = text.sequences().collect();
    let parts = pool.map(sequences.len(), |i| -> Result<_> {
        let mut bins = model.context_bins(sequences[i], from)?.unwrap_or_default();
        // The context after the last token.
        bins.pop();
        Ok(bins)
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

/// Scores `text` in batches; `add` receives the scored tokens of each sequence and their ln q.
fn batches<Part: Default + Send>(
    model: &dyn LanguageModel,
    text: &TokenText,
    pool: &Pool,
    add: impl Fn(&mut Part, &[u32], &[f64]) + Sync,
) -> Result<Vec<Part>> {
    // <s> is context, never scored.
    let from = usize::from(text.bos().is_some());
    let mut first = text.sequences();
    if let (Some(only), None) = (first.next(), first.next()) {
        let mut part = Part::default();
        add(&mut part, &only[from..], &pool.install(|| model.log_probs(only, from))?);
        return Ok(vec![part]);
    }
    let parts = pool.map(text.ids.len().div_ceil(TOKENS_PER_TASK), |task| {
        let first = task * TOKENS_PER_TASK;
        let batch: Vec<&[u32]> = text.sequences_in(first..first + TOKENS_PER_TASK).collect();
        let mut part = Part::default();
        model
            .each_log_probs(&batch, from, &mut |i, log_probs| add(&mut part, &batch[i][from..], log_probs))?;
        Ok(part)
    });
    parts.into_iter().collect()
}

fn sum(tokens: &[u32], log_probs: &[f64], unk: Option<u32>) -> Evaluation {
    let mut sum = Evaluation { tokens: tokens.len() as u64, ..Evaluation::default() };
    for (&token, &log_prob) in tokens.iter().zip(log_probs) {
        sum.total_nll -= log_prob;
        if log_prob == f64::NEG_INFINITY {
            sum.zero_probability += 1;
        } else {
            sum.nll_nonzero -= log_prob;
        }
        if Some(token) == unk {
            sum.oov += 1;
        } else {
            sum.nll_in_vocabulary -= log_prob;
        }
    }
    sum
}
