//! Divergence: saves the batch of the failed update, and a checkpoint from before it.

use serde_json::json;
use surprisal_store::{atomic, checkpoint, run_dir::RunWriter};
use surprisal_text::{Batch, Tokenizer};

use super::checkpoint::Checkpointer;
use super::event_log::EventLog;
use super::state::TrainState;
use crate::error::{Error, ExitKind, Result};

/// The file of the batch in the run's folder.
pub(super) const NAME: &str = "diverged.json";

/// An update that led to divergence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Update {
    /// Number of updates before it.
    pub(crate) done: usize,
    /// Objective in nats per token.
    pub(crate) objective: f64,
    /// Norm of the gradient before clipping.
    pub(crate) norm: f64,
    pub(crate) lr: f64,
}

impl Update {
    pub(crate) fn failure(self) -> Error {
        let Self { done, objective, norm, lr } = self;
        // A finite loss can still lead to parameters that are not finite.
        let is_number = objective.is_finite() && norm.is_finite();
        let then = if is_number { ", and then parameters that are not finite" } else { "" };
        let message = format!(
            "training diverged at step {}: objective {objective} nats per token, gradient norm {norm}, learning rate \
             {lr:.3e}{then}",
            done + 1
        );
        Error { kind: ExitKind::Diverged, ..Error::failed(message) }
    }

    /// Writes the batches of this update, as tokens and as text, into the run's folder.
    pub(crate) fn keep(self, batches: &[Batch], tokenizer: &Tokenizer, folder: &RunWriter) -> Result<()> {
        let mut rows = Vec::new();
        for batch in batches {
            let targets = batch.targets.chunks(batch.cols.max(1));
            for (inputs, targets) in batch.inputs.chunks(batch.cols.max(1)).zip(targets) {
                rows.push(json!({ "text": tokenizer.decode(inputs), "inputs": inputs, "targets": targets }));
            }
        }
        // NaN and infinity become null in JSON.
        let kept = json!({
            "step": self.done + 1, "objective": self.objective, "gradient_norm": self.norm, "lr": self.lr, "rows": rows,
        });
        let mut bytes = serde_json::to_vec_pretty(&kept)?;
        bytes.push(b'\n');
        Ok(atomic::write(folder.root().join(NAME), &bytes)?)
    }
}

/// Saves a checkpoint if there is none, and names the newest one in words.
///
/// The parameters are those before the failed update. They are saved only if there is no earlier
/// checkpoint, and if they are finite or there are best weights to save with them.
pub(crate) fn last_good(
    state: &TrainState,
    saver: &mut Checkpointer,
    record: &mut EventLog<'_>,
    folder: &RunWriter,
) -> Result<String> {
    if checkpoint::list(&folder.checkpoints())?.is_empty() && (state.best.is_some() || state.is_finite()?) {
        record.save(state, saver)?;
    }
    let kept = match checkpoint::list(&folder.checkpoints())?.first() {
        Some((step, path)) => format!("the checkpoint of step {step} is {}", path.display()),
        None => "there was no checkpoint yet".to_owned(),
    };
    Ok(format!("{kept}, the batch in {}", folder.root().join(NAME).display()))
}
