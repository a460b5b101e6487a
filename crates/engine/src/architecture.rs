//! The model that a config asks for.

use surprisal_formats::hf::{self, HuggingFaceModel};
use surprisal_model::neural::{NeuralConfig, NormKind, TransformerConfig};

use crate::config::Config;
use crate::error::{Error, Result};

/// The neural model that `config` asks for.
pub(crate) fn neural_config(config: &Config, vocab_size: usize) -> Result<NeuralConfig> {
    let model = &config.model;
    let block_size = config.train.block_size;
    // `config::check` has filled in what belongs to the kind.
    let size = |value: Option<usize>| value.unwrap_or(1);
    match model.kind.as_str() {
        "bigram" => Ok(NeuralConfig::Bigram { vocab_size, block_size }),
        "mlp" => Ok(NeuralConfig::Mlp {
            vocab_size,
            block_size,
            context: size(model.context),
            n_embd: size(model.n_embd),
            n_hidden: size(model.n_hidden),
        }),
        "transformer" if model.init_from.is_some() => {
            let start = start(config)?;
            let transformer =
                TransformerConfig { dropout: model.dropout.unwrap_or(0.0), ..start.config.transformer() };
            if transformer.vocab_size != vocab_size {
                return Err(Error::usage(format!(
                    "model.init_from has a vocabulary of {}, and the tokenizer one of {vocab_size}",
                    transformer.vocab_size
                ))
                .hint(
                    "put its tokenizer.json into the folder, or choose the tokenizer it was trained with",
                ));
            }
            if block_size > transformer.block_size {
                return Err(Error::usage(format!(
                    "train.block_size is {block_size}, and the model of model.init_from takes at most {}",
                    transformer.block_size
                )));
            }
            Ok(NeuralConfig::Transformer(transformer))
        }
        "transformer" => {
            let defaults = TransformerConfig::default();
            let norm = model.norm.unwrap_or(defaults.norm);
            Ok(NeuralConfig::Transformer(TransformerConfig {
                vocab_size,
                block_size,
                n_layer: size(model.n_layer),
                n_head: size(model.n_head),
                n_kv_head: model.n_kv_head.unwrap_or(defaults.n_kv_head),
                n_embd: size(model.n_embd),
                n_hidden: model.n_hidden.unwrap_or(defaults.n_hidden),
                dropout: model.dropout.unwrap_or(defaults.dropout),
                bias: model.bias.unwrap_or(defaults.bias),
                tied: model.tied.unwrap_or(defaults.tied),
                norm,
                // Each the ε of its first model: GPT-2 and Llama.
                norm_eps: if norm == NormKind::Rms { 1e-6 } else { defaults.norm_eps },
                position: model.position.unwrap_or(defaults.position),
                rope_theta: model.rope_theta.unwrap_or(defaults.rope_theta),
                qk_norm: model.qk_norm.unwrap_or(defaults.qk_norm),
                activation: model.activation.unwrap_or(defaults.activation),
                zero_init: model.zero_init.unwrap_or(defaults.zero_init),
                softcap: model.softcap.unwrap_or(defaults.softcap),
                bigram_rows: model.bigram_rows.unwrap_or(defaults.bigram_rows),
            }))
        }
        kind => Err(Error::usage(format!("a model of kind \"{kind}\" is not trained by gradient descent"))),
    }
}

/// The model that a run is to start from.
///
/// # Errors
/// A folder that is no model that can be read.
pub fn start(config: &Config) -> Result<HuggingFaceModel> {
    let Some(path) = &config.model.init_from else {
        return Err(Error::failed("there is no model.init_from"));
    };
    let failed =
        |failure: Error| Error { message: format!("model.init_from: {}", failure.message), ..failure };
    hf::read(path).map_err(|error| failed(error.into()))
}
