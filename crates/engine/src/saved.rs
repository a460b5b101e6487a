//! Checkpoints as models: the weights of a run that is not finished, and its state.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use surprisal_formats::weights::{Accept, from_safetensors};
use surprisal_model::neural::NeuralConfig;
use surprisal_store::checkpoint::{self, Checkpoint};
use surprisal_store::run_dir::RunFolder;

use crate::config;
use crate::error::{Error, Result};
use crate::events::{Context, Note};
use crate::fingerprint::RunFingerprint;

/// The fields of `state.json` that are used here.
#[derive(Debug, Deserialize)]
struct SavedFields {
    step: usize,
    best: Option<(f64, usize)>,
    train_seconds: f64,
    metrics: u64,
    #[serde(default)]
    identity: Option<RunFingerprint>,
    #[serde(default)]
    model: Option<NeuralConfig>,
}

/// Origin of weights from a checkpoint.
#[derive(Debug, Serialize)]
pub struct Unfinished {
    /// Step of the weights.
    pub step: usize,
    /// Their validation loss in nats per token, if they were evaluated.
    pub validation: Option<f64>,
    /// Step that the run had reached.
    pub reached: usize,
    /// Training time until then.
    pub train_seconds: f64,
    /// The same in words.
    pub note: String,
}

/// The newest complete checkpoint; emits a note for each one skipped.
pub(crate) fn newest(folder: &RunFolder, ctx: &Context<'_>) -> Result<Option<Checkpoint>> {
    let found = checkpoint::load_newest(&folder.checkpoints())?;
    for skipped in &found.skipped {
        let (path, reason) = (skipped.path.clone(), skipped.reason.to_string());
        ctx.note(Note::SkippedCheckpoint { path, reason })?;
    }
    Ok(found.checkpoint)
}

/// Fingerprint of the run that made `checkpoint`, and the length of its metrics.jsonl then.
pub(crate) fn origin(checkpoint: &Checkpoint) -> Result<(Option<RunFingerprint>, u64)> {
    let kept: SavedFields = state(checkpoint)?;
    Ok((kept.identity, kept.metrics))
}

/// The architecture of the model of `checkpoint`; `None` in the oldest ones.
pub(crate) fn architecture(checkpoint: &Checkpoint) -> Result<Option<NeuralConfig>> {
    let kept: SavedFields = state(checkpoint)?;
    Ok(kept.model)
}

/// Number of steps that `checkpoint` was made after, and the training time until then.
pub(crate) fn reached(checkpoint: &Checkpoint) -> Result<(usize, f64)> {
    let kept: SavedFields = state(checkpoint)?;
    Ok((kept.step, kept.train_seconds))
}

/// The content of `state.json`, or a part of it.
pub(crate) fn state<T: DeserializeOwned>(checkpoint: &Checkpoint) -> Result<T> {
    serde_json::from_slice(checkpoint.part("state.json")?)
        .map_err(|error| Error::failed(format!("{}/state.json: {error}", checkpoint.path.display())))
}

/// The model that the run would end with at `checkpoint`, as `config.json` and tensors; without
/// `best`, the weights of that step.
pub(crate) fn model(
    checkpoint: &Checkpoint,
    config: &config::Config,
    vocab_size: usize,
    best: bool,
) -> Result<(Value, BTreeMap<String, Tensor>, Unfinished)> {
    let kept: SavedFields = state(checkpoint)?;
    let (selects, averages) = (config.train.select == config::Select::Best, config.optim.ema > 0.0);
    // Where weights are averaged, the averages were evaluated and stored.
    let fits = |step| if selects { best || step == kept.step } else { !averages && step == kept.step };
    let judged = kept.best.filter(|(_, step)| fits(*step));
    let tensors = match judged {
        Some(_) => read(checkpoint, "best.safetensors")?,
        None if selects && averages => {
            let tensors = read(checkpoint, "optimizer.safetensors")?.into_iter();
            let tensors = tensors.map(|(name, it)| Some((name.strip_prefix("average.")?.to_owned(), it)));
            tensors.flatten().collect()
        }
        None => read(checkpoint, "model.safetensors")?,
    };
    let model = match kept.model {
        Some(model) => model,
        None => crate::architecture::neural_config(config, vocab_size)?,
    };
    let step = judged.map_or(kept.step, |(_, step)| step);
    let validation = judged.map(|(nats, _)| nats);
    let (reached, train_seconds) = (kept.step, kept.train_seconds);
    let unfinished = Unfinished { step, validation, reached, train_seconds, note: String::new() };
    Ok((serde_json::to_value(model)?, tensors, unfinished))
}

pub(crate) fn read(checkpoint: &Checkpoint, part: &str) -> Result<BTreeMap<String, Tensor>> {
    let what = checkpoint.path.join(part).display().to_string();
    Ok(from_safetensors(&what, checkpoint.part(part)?, Accept::F32)?)
}
