//! The neural model of a config.

use std::sync::Arc;

use surprisal_formats::hf::{self, HuggingFaceModel};
use surprisal_model::neural::{NeuralConfig, TransformerConfig, Windows};
use surprisal_text::{Batches, TokenText};

use crate::config::{self, Config};
use crate::error::{Error, Result};

/// The neural model that `config` describes.
pub(crate) fn neural_config(config: &Config, vocab_size: usize) -> Result<NeuralConfig> {
    let model = &config.model;
    let block_size = config.train.block_size;
    if model.init_from.is_some() {
        let start = start(config)?;
        let dropout = model.transformer().map_or(0.0, |transformer| transformer.dropout);
        let transformer = start.config.transformer();
        if transformer.vocab_size < vocab_size {
            return Err(Error::usage(format!(
                "model.init_from has a vocabulary of {}, and the tokenizer one of {vocab_size}",
                transformer.vocab_size
            ))
            .hint("choose the tokenizer it was trained with; one without <s> and </s> needs data.unit = \"stream\""));
        }
        // Rows after those of the tokenizer's ids are padding.
        let transformer = TransformerConfig { dropout, vocab_size, ..transformer };
        if block_size > transformer.block_size {
            return Err(Error::usage(format!(
                "train.block_size is {block_size}, and the model of model.init_from takes at most {}",
                transformer.block_size
            )));
        }
        return Ok(NeuralConfig::Transformer(transformer));
    }
    let neural = model.neural().ok_or_else(|| Error::failed(format!("a {} is counted", model.kind())))?;
    Ok(neural.clone().sized(vocab_size, block_size))
}

/// The batches of a text for a model trained in windows of the kind `windows`.
pub(crate) fn batches(text: &Arc<TokenText>, train: &config::Train, windows: Windows) -> Result<Batches> {
    let (text, streams) = (text.clone(), train.batch_size * train.grad_accumulation);
    Ok(match windows {
        Windows::Shuffled => Batches::new(text, train.block_size, train.seed)?,
        Windows::Following { .. } => Batches::following(text, train.block_size, streams, train.seed)?,
    })
}

/// The model of `model.init_from`, which a run starts from.
pub(crate) fn start(config: &Config) -> Result<HuggingFaceModel> {
    let Some(path) = &config.model.init_from else {
        return Err(Error::failed("there is no model.init_from"));
    };
    hf::read(path).map_err(|error| Error::from(error).within("model.init_from"))
}
