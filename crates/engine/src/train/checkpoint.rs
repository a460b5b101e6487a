//! Checkpoints of a training run: the state that the next steps depend on, saved and loaded.
//!
//! The order of batches and the dropout masks are functions of seed, epoch and step, so only
//! positions are saved. A resumed run ends in the same bits as one without interruption.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use surprisal_formats::weights::to_safetensors;
use surprisal_model::neural::{Neural, NeuralConfig, Parameter};
use surprisal_store::checkpoint::{self, Checkpoint};
use surprisal_store::run_dir::RunWriter;

use super::length::Position;
use super::loss_spikes::SpikeDetector;
use super::state::{Best, TrainState};
use super::step::Sums;
use super::weights::{restore, weights};
use crate::config;
use crate::error::{Error, Result};
use crate::fingerprint::RunFingerprint;
use crate::saved::{self, read};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedState {
    step: usize,
    position: Position,
    recent: Sums,
    best: Option<(f64, usize)>,
    stale: usize,
    train_seconds: f64,
    tokens: u64,
    metrics: u64,
    #[serde(default)]
    spikes: SpikeDetector,
    /// Fingerprint of the run; missing in the oldest checkpoints.
    #[serde(default)]
    identity: Option<RunFingerprint>,
    /// Config of the model; where it is missing, config.toml has it.
    #[serde(default)]
    model: Option<NeuralConfig>,
}

pub(crate) struct Checkpointer<'a> {
    folder: &'a RunWriter,
    settings: &'a config::Checkpoint,
    identity: &'a RunFingerprint,
    saved_at: Instant,
    saved_step: Option<usize>,
}

/// The states of a recurrent network, (streams · width).
const HIDDEN: &str = "hidden";

/// Least age of a run at its first checkpoint.
const SOON: Duration = Duration::from_secs(5);

impl<'a> Checkpointer<'a> {
    pub(crate) fn new(
        folder: &'a RunWriter,
        settings: &'a config::Checkpoint,
        identity: &'a RunFingerprint,
    ) -> Self {
        Self { folder, settings, identity, saved_at: Instant::now(), saved_step: None }
    }

    /// Whether checkpoints are made at all.
    pub(crate) fn is_on(&self) -> bool {
        self.settings.every_steps > 0 || self.settings.every_minutes > 0.0
    }

    /// Whether a checkpoint is due after `step`. The first one is made soon after the first
    /// evaluation, so that other processes can open the run.
    pub(crate) fn due(&self, step: usize, judged: bool) -> bool {
        let steps = self.settings.every_steps;
        let minutes = self.settings.every_minutes;
        if judged && minutes > 0.0 && self.saved_step.is_none() && self.saved_at.elapsed() >= SOON {
            return true;
        }
        (steps > 0 && step.is_multiple_of(steps))
            || (minutes > 0.0 && self.saved_at.elapsed() >= Duration::from_secs_f64(minutes * 60.0))
    }

    /// Saves `state`, unless it was saved before; gives whether it was saved. `metrics` is the
    /// length of metrics.jsonl, which is synced.
    ///
    /// # Errors
    /// A file that cannot be written; earlier checkpoints stay complete.
    pub(crate) fn save(&mut self, state: &TrainState, metrics: u64) -> Result<bool> {
        let step = state.optimiser.step;
        if self.saved_step == Some(step) {
            return Ok(false);
        }
        let neural = &state.lm.neural;
        let kept = SavedState {
            step,
            position: state.position,
            recent: state.recent,
            best: state.best.as_ref().map(|best| (best.nats_per_token, best.step)),
            stale: state.evals_since_best,
            train_seconds: state.train_seconds,
            tokens: state.tokens,
            metrics,
            spikes: state.spikes,
            identity: Some(self.identity.clone()),
            model: Some(neural.config().clone()),
        };
        let current = weights(neural)?;
        let model = pack(neural, current.iter().map(|values| vec![("", values)]))?;
        let optimizer = pack(neural, state.optimiser.slots.iter().map(|slot| slot.state().to_vec()))?;
        let state_json = serde_json::to_vec_pretty(&kept)?;
        // The best weights are usually older than the current ones.
        let best = state
            .best
            .as_ref()
            .map(|best| pack(neural, best.weights.iter().map(|values| vec![("", values)])));
        let best = best.transpose()?;
        let mut parts: Vec<(&str, &[u8])> = vec![
            ("model.safetensors", &model),
            ("optimizer.safetensors", &optimizer),
            ("state.json", &state_json),
        ];
        let hidden = Tensor::from_slice(&state.hidden.values, state.hidden.values.len(), &Device::Cpu)?;
        let hidden = to_safetensors(&BTreeMap::from([(HIDDEN.to_owned(), hidden)]))?;
        if !state.hidden.values.is_empty() {
            parts.push(("hidden.safetensors", &hidden));
        }
        parts.extend(best.as_deref().map(|best| ("best.safetensors", best)));
        checkpoint::save(&self.folder.checkpoints(), step as u64, &parts)?;
        checkpoint::prune_old(&self.folder.checkpoints(), self.settings.keep, None)?;
        (self.saved_at, self.saved_step) = (Instant::now(), Some(step));
        Ok(true)
    }
}

pub(crate) fn resume(state: &mut TrainState, checkpoint: &Checkpoint) -> Result<()> {
    let kept: SavedState = saved::state(checkpoint)?;
    let neural = &state.lm.neural;
    restore(neural, &unpack_weights(neural, checkpoint, "model.safetensors")?)?;
    let mut tensors = read(checkpoint, "optimizer.safetensors")?;
    for (parameter, slot) in neural.parameters().iter().zip(&mut state.optimiser.slots) {
        for (prefix, values) in slot.state_mut() {
            if !values.is_empty() {
                *values = take(&mut tensors, prefix, parameter)?;
            }
        }
    }
    if !state.hidden.values.is_empty() {
        let hidden = read(checkpoint, "hidden.safetensors")?.remove(HIDDEN);
        let hidden = hidden.filter(|it| it.elem_count() == state.hidden.values.len());
        let missing = || Error::failed("the checkpoint has no hidden state of this run's batches");
        state.hidden.values = hidden.ok_or_else(missing)?.flatten_all()?.to_vec1::<f32>()?;
    }
    state.optimiser.step = kept.step;
    state.position = kept.position;
    state.recent = kept.recent;
    state.best = match kept.best {
        Some((nats_per_token, step)) => {
            let weights = unpack_weights(neural, checkpoint, "best.safetensors")?;
            Some(Best { nats_per_token, step, weights, evaluation: None })
        }
        None => None,
    };
    state.evals_since_best = kept.stale;
    state.train_seconds = kept.train_seconds;
    state.tokens = kept.tokens;
    state.spikes = kept.spikes;
    Ok(())
}

/// Values of every parameter as safetensors, with name prefixes; empty ones are left out.
fn pack<'a>(
    neural: &Neural,
    groups: impl Iterator<Item = Vec<(&'static str, &'a Vec<f32>)>>,
) -> Result<Vec<u8>> {
    let mut tensors = BTreeMap::new();
    for (parameter, group) in neural.parameters().iter().zip(groups) {
        for (prefix, values) in group.into_iter().filter(|(_, values)| !values.is_empty()) {
            let tensor = Tensor::from_slice(values, parameter.var.shape(), &Device::Cpu)?;
            tensors.insert(format!("{prefix}{}", parameter.name), tensor);
        }
    }
    Ok(to_safetensors(&tensors)?)
}

/// The values of `parameter` with a name prefix, in its shape.
fn take(tensors: &mut BTreeMap<String, Tensor>, prefix: &str, parameter: &Parameter) -> Result<Vec<f32>> {
    let name = format!("{prefix}{}", parameter.name);
    let missing = || Error::failed(format!("the checkpoint has no `{name}` of this model's shape"));
    let tensor = tensors.remove(&name).filter(|tensor| tensor.shape() == parameter.var.shape());
    Ok(tensor.ok_or_else(missing)?.flatten_all()?.to_vec1::<f32>()?)
}

fn unpack_weights(neural: &Neural, checkpoint: &Checkpoint, part: &str) -> Result<Vec<Vec<f32>>> {
    let mut tensors = read(checkpoint, part)?;
    neural.parameters().iter().map(|parameter| take(&mut tensors, "", parameter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_checkpoint_comes_soon_after_the_first_evaluation_and_the_others_in_their_time() {
        let base = tempfile::tempdir().unwrap();
        let folder = RunWriter::create(base.path().join("run")).unwrap();
        let identity = serde_json::from_str(r#"{ "settings": "", "texts": "" }"#).unwrap();
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let settings = config::Checkpoint { every_steps: 0, every_minutes: 0.5, keep: 2 };
        let mut saver = Checkpointer::new(&folder, &settings, &identity);
        assert!(!saver.due(7, true), "too soon");
        saver.saved_at = ago(5);
        assert_eq!([false, true].map(|judged| saver.due(7, judged)), [false, true]);
        saver.saved_step = Some(3);
        assert!(!saver.due(7, true), "the second keeps to the settings");
        saver.saved_at = ago(30);
        assert!(saver.due(7, false));
        let by_steps = config::Checkpoint { every_steps: 4, every_minutes: 0.0, keep: 2 };
        saver = Checkpointer { settings: &by_steps, saved_step: None, ..saver };
        assert_eq!([7, 8].map(|step| saver.due(step, true)), [false, true], "no clock counts");
    }
}
