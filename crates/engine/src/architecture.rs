//! The neural model of a config.

use std::sync::Arc;

use surprisal_model::neural::{NeuralConfig, Windows};
use surprisal_text::{Batches, TokenText};

use crate::config::{self, Config};
use crate::error::{Error, Result};

/// The neural model that `config` describes.
pub(crate) fn neural_config(config: &Config, vocab_size: usize) -> Result<NeuralConfig> {
    let model = &config.model;
    let neural = model.neural().ok_or_else(|| Error::failed(format!("a {} is counted", model.kind())))?;
    // The sizes of a model to start from; otherwise 0, and the text decides.
    let (had, windows) = if model.adopted { (neural.vocab_size(), neural.block_size()) } else { (0, 0) };
    if had > 0 && had < vocab_size && !model.extend_vocab {
        return Err(Error::usage(format!(
            "model.init_from has a vocabulary of {had}, and the tokenizer one of {vocab_size}"
        ))
        .hint(
            "choose the tokenizer it was trained with; one without <s> and </s> needs data.unit = \"stream\"",
        ));
    }
    let mut sized = neural.clone().sized(vocab_size, windows.max(config.train.block_size));
    if let NeuralConfig::Transformer(transformer) = &mut sized {
        // A row for every pair stays that.
        let all = |tokens: usize| (tokens + 1) * tokens;
        if had > 0 && had < vocab_size && transformer.bigram_rows >= all(had) {
            transformer.bigram_rows = transformer.bigram_rows.max(all(vocab_size));
        }
    }
    Ok(sized)
}

/// The batches of a text for a model trained in windows of the kind `windows`.
pub(crate) fn batches(text: &Arc<TokenText>, train: &config::Train, windows: Windows) -> Result<Batches> {
    let (text, streams) = (text.clone(), train.batch_size * train.grad_accumulation);
    Ok(match windows {
        Windows::Shuffled => Batches::new(text, train.block_size, train.seed)?,
        Windows::Following { .. } => Batches::following(text, train.block_size, streams, train.seed)?,
    })
}
