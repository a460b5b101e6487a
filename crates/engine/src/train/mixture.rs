//! A network mixed with an n-gram model of the same text, with weights by context.

use std::sync::Arc;

use surprisal_model::neural::NeuralLm;
use surprisal_model::ngram::{Counts, NgramConfig, NgramModel};
use surprisal_model::{LanguageModel, MappedModel};
use surprisal_store::run_dir::RunWriter;
use surprisal_text::TokenText;

use super::event_log::EventLog;
use crate::config::Config;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::events::{Context, Event, Mixed, Note, RunSummary};
use crate::models::mixture::{self, MixtureWeights, fit, merge_vocabularies, mix};
use crate::models::{LoadedModel, Model};
use crate::wording::many;

/// Fewer held-out tokens give weights that depend on their choice.
const FEW_TOKENS: u64 = 4096;

/// The n-gram model of the mixture that `config` describes.
fn ngram(config: &Config, data: &Dataset) -> Option<NgramConfig> {
    let (bos, unk) = (data.val.bos(), data.tokenizer.unk());
    config.mixture.as_ref().map(|mixture| mixture.ngram(config.tokenizer.kind, bos, unk))
}

/// Bytes that counting needs.
pub(super) fn memory(config: &Config, data: &Dataset) -> u64 {
    let order = ngram(config, data).map(|ngram| ngram.order);
    order.map_or(0, |order| Counts::memory(data.train.ids.len(), data.tokenizer.vocab_size(), order))
}

/// The training text in two: what the network trains on, and what the weights are fitted to.
pub(super) struct Parts {
    pub(super) network: Dataset,
    heldout: TokenText,
}

impl Parts {
    /// The parts of a run with a mixture.
    ///
    /// # Errors
    /// A text that is too short.
    pub(super) fn new(config: &Config, data: &Dataset, ctx: &Context<'_>) -> Result<Option<Self>> {
        let Some(mixture) = &config.mixture else { return Ok(None) };
        let tokens = data.train.ids.len();
        let (first, heldout) = data.train.hold_out(mixture.heldout, data.tokenizer.unk());
        let is_stream = first.mode.keeps_newlines();
        if heldout.scored() == 0
            || first.scored() == 0
            || is_stream && first.ids.len() <= config.train.block_size
        {
            let text = many(tokens as u64, "token");
            let message = format!("the training text has {text}, too few to hold out a part for a mixture");
            return Err(Error::failed(message).hint("give more text, or leave out [mixture]"));
        }
        if heldout.scored() < FEW_TOKENS {
            ctx.note(Note::Text(format!(
                "the weights of the mixture are fitted to {} only: another part of the text would give others",
                many(heldout.scored(), "token")
            )))?;
        }
        let network = Dataset {
            tokenizer: data.tokenizer.clone(),
            train: Arc::new(first),
            val: data.val.clone(),
            source_nats: data.source_nats,
            spelling: data.spelling,
            corpus: None,
            min_count: data.min_count,
        };
        Ok(Some(Self { network, heldout }))
    }

    /// Counts a model of the same text as `lm`, fits the weights of the two to the held-out part,
    /// counts the whole text, and saves and evaluates the mixture.
    ///
    /// # Errors
    /// A failure of a model; a folder that cannot be written.
    pub(super) fn mix(
        &self,
        (lm, summary): (NeuralLm, RunSummary),
        (config, data): (&Config, &Dataset),
        folder: &RunWriter,
        ctx: &Context<'_>,
        record: &mut EventLog<'_>,
    ) -> Result<(Box<dyn LanguageModel>, RunSummary)> {
        let (pool, tokenizer) = (ctx.pool, &data.tokenizer);
        let Some(settings) = ngram(config, data) else {
            return Err(Error::failed("the config has no [mixture]"));
        };
        let estimate = |text: &TokenText| -> Result<LoadedModel> {
            let count = || NgramModel::estimate(&text.ids, tokenizer.vocab_size(), &settings);
            let model = Model::Ngram(Box::new(pool.install(count)?));
            Ok(LoadedModel::of_file(model, tokenizer.clone(), "ngram"))
        };
        let network = LoadedModel {
            config: config.clone(),
            ..LoadedModel::of_file(Model::Neural(Box::new(lm)), tokenizer.clone(), config.model.kind())
        };
        let mut models = vec![network, estimate(&self.network.train)?];
        let names = [config.model.kind().to_owned(), format!("{}-gram", settings.order)];
        let (_, maps) = merge_vocabularies(&names, &models)?;
        let parts: Vec<_> = models
            .iter()
            .zip(&maps)
            .map(|(loaded, map)| MappedModel::new(&*loaded.model, map))
            .collect::<Result<_, _>>()?;
        let weights = fit(&parts, &self.heldout, Some(1), pool)?;
        drop(parts);
        models[1] = estimate(&data.train)?;
        let counted = &models[1].model;
        ctx.notes(&counted.ngram().map_or_else(Vec::new, |model| model.report().notices.clone()))?;
        let parameters = counted.parameters();
        let counted = data.evaluate(&**counted, pool)?;
        mixture::save(&folder.model(), &models, &names, tokenizer, weights.clone())?;
        let parts = models.into_iter().zip(maps).map(|(loaded, map)| {
            Ok(Box::new(MappedModel::new(loaded.model, map)?) as Box<dyn LanguageModel>)
        });
        let mixture = mix(parts.collect::<Result<_>>()?, &weights)?;
        let eval = data.evaluate(&mixture, pool)?;
        let share = match &weights {
            MixtureWeights::Static { weights } | MixtureWeights::Context { weights, .. } => weights[0],
        };
        let mixed = Mixed {
            names,
            network: summary.eval,
            counted,
            eval,
            share,
            heldout_tokens: self.heldout.scored(),
            ngrams: parameters,
        };
        record.event(&Event::Mixed(Box::new(mixed)))?;
        Ok((Box::new(mixture), RunSummary { eval, parameters: summary.parameters + parameters, ..summary }))
    }
}
