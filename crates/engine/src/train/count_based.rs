//! Count-based models: the baselines of every run, and runs of such models.

use std::time::Instant;

use serde_json::json;
use surprisal_formats::model_dir::Weights;
use surprisal_formats::{infinigram, ngram};
use surprisal_model::infinigram::Infinigram;
use surprisal_model::ngram::packed::Bytes;
use surprisal_model::ngram::{Counts, NgramConfig, NgramModel, Uniform};
use surprisal_model::{LanguageModel, ModelConfig};
use surprisal_platform::memory;
use surprisal_store::run_dir::RunWriter;

use super::event_log::EventLog;
use crate::config::Config;
use crate::count;
use crate::data::Dataset;
use crate::error::Result;
use crate::events::{Context, Event, Note, RunSummary};
use crate::memory::{Room, limit};
use crate::models::save;
use crate::wording::many;

/// The half-width of a loss, in nats per token, from which a validation text is too small: 10 % of
/// the perplexity.
const MAX_HALF_WIDTH: f64 = 0.1;

/// The tokens of a text that is not in memory, from its start, that the baselines are counted on.
const BASELINE_TOKENS: usize = 1 << 24;

/// The least number of tokens that they are counted on.
const MIN_BASELINE_TOKENS: usize = 1 << 16;

/// Evaluates uniform, unigram and bigram baselines on the validation text.
pub(super) fn baselines(
    data: &Dataset,
    room: Option<&Room>,
    ctx: &Context<'_>,
    record: &mut EventLog<'_>,
) -> Result<()> {
    let pool = ctx.pool;
    let vocab_size = data.tokenizer.vocab_size();
    let bos = data.val.bos();
    let all = &data.train.ids[..];
    let is_in_memory = data.train.ids.key().is_none();
    let mut count = if is_in_memory { all.len() } else { all.len().min(BASELINE_TOKENS) };
    // They are no reason to run out of memory.
    let free = memory::available().unwrap_or(u64::MAX);
    let free = room.and_then(|room| room.memory).unwrap_or(free).min(free) / 2;
    while count > MIN_BASELINE_TOKENS && Counts::memory(count, vocab_size, 2) > free {
        count /= 2;
    }
    let ids = &all[..count];
    if count < all.len() {
        ctx.note(Note::Text(format!(
            "the baselines are counted on the first {} of the training text",
            many(count as u64, "token")
        )))?;
    }
    let uniform: Box<dyn LanguageModel> = Box::new(Uniform::new(vocab_size, bos));
    let counted = |order| -> Result<Box<dyn LanguageModel>> {
        let config = NgramConfig { order, bos, ..NgramConfig::default() };
        Ok(Box::new(pool.install(|| NgramModel::estimate(ids, vocab_size, &config))?))
    };
    for (name, model) in [("uniform", uniform), ("unigram", counted(1)?), ("bigram MLE", counted(2)?)] {
        let evaluation = data.evaluate(model.as_ref(), pool)?;
        record.event(&Event::Baseline { model: name, eval: evaluation })?;
        if name == "unigram" && evaluation.half_width() > MAX_HALF_WIDTH {
            let (tokens, half_width) = (evaluation.tokens, evaluation.half_width());
            ctx.note(Note::SmallValidation { tokens, half_width })?;
        }
    }
    Ok(())
}

/// Whether an n-gram model is counted in the memory of `room`.
pub(super) fn fits(data: &Dataset, config: &NgramConfig, room: &Room) -> bool {
    let needed = Counts::memory(data.train.ids.len(), data.tokenizer.vocab_size(), config.order);
    needed <= limit(room)
}

pub(super) fn train(
    config: &Config,
    data: &Dataset,
    room: Option<&Room>,
    folder: &RunWriter,
    ctx: &Context<'_>,
    record: &mut EventLog<'_>,
) -> Result<(Box<dyn LanguageModel>, RunSummary)> {
    let (started, pool) = (Instant::now(), ctx.pool);
    let vocab_size = data.tokenizer.vocab_size();
    let bos = data.val.bos();
    let (model, parameters, name): (Box<dyn LanguageModel>, u64, String) = match config
        .model
        .ngram(bos, data.tokenizer.unk())
    {
        None if config.model.config == ModelConfig::Infinigram => {
            let tokens = &data.train.ids;
            let model = pool.install(|| Infinigram::new(tokens, vocab_size as u32, bos))?;
            let weights = Weights::Infinigram(infinigram::to_bytes(&model, &data.tokenizer)?);
            save(folder, &data.tokenizer, json!({ "kind": "infinigram" }), weights)?;
            (Box::new(model), tokens.len() as u64, "∞-gram".into())
        }
        None => {
            save(folder, &data.tokenizer, json!({ "kind": "uniform" }), Weights::Ngram(Vec::new().into()))?;
            (Box::new(Uniform::new(vocab_size, bos)), 0, "uniform".into())
        }
        Some(settings) => {
            let mut description = serde_json::to_value(&settings)?;
            description["kind"] = json!("ngram");
            let keep = |bytes: Bytes| save(folder, &data.tokenizer, description, Weights::Ngram(bytes));
            let model = match room.filter(|room| !fits(data, &settings, room)) {
                Some(room) => {
                    let text = (&*data.train, &data.tokenizer);
                    // The validation text stays in memory, with a loss per token.
                    let held = 12 * data.val.ids.len() as u64;
                    count::model(text, &settings, (room, held), ctx, keep)?;
                    ngram::open(folder.model().join("model.ngram"))?.0
                }
                None => {
                    if room.is_some() {
                        let note = "no temporary files are needed: counting fits into memory";
                        ctx.note(Note::Text(note.into()))?;
                    }
                    let estimate = || NgramModel::estimate(&data.train.ids, vocab_size, &settings);
                    let model = pool.install(estimate)?;
                    ctx.notes(&model.report().notices)?;
                    keep(ngram::to_bytes(&model, &data.tokenizer)?.into())?;
                    model
                }
            };
            let parameters = model.parameters();
            let name = format!("{}-gram {}", settings.order, settings.smoothing.name());
            (Box::new(model), parameters, name)
        }
    };
    let train_seconds = started.elapsed().as_secs_f64();
    let evaluation = data.evaluate(model.as_ref(), pool)?;
    record.event(&Event::Counted { name, parameters, eval: evaluation })?;
    let summary = RunSummary {
        eval: evaluation,
        parameters,
        train_seconds,
        wall_seconds: train_seconds,
        tokens_per_second: data.train.scored() as f64 / train_seconds,
        epochs: 1.0,
        steps: 0,
        run: folder.root().to_owned(),
    };
    Ok((model, summary))
}
