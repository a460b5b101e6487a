//! What is kept when training diverges: the batch that did it, and a checkpoint from before it.

use serde_json::json;
use surprisal_store::{atomic, checkpoint, run_dir::RunWriter};
use surprisal_text::{Batch, Tokenizer};

use super::checkpoint::Saver;
use super::record::Record;
use super::state::State;
use crate::error::{Error, Kind, Result};

/// The file in the run folder that holds the batch.
const NAME: &str = "diverged.json";

/// The update that was not made, or should not have been.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Update {
    /// Updates before it.
    pub(crate) done: usize,
    /// Nats a token.
    pub(crate) objective: f64,
    /// Of the gradient, before clipping.
    pub(crate) norm: f64,
    pub(crate) lr: f64,
}

impl Update {
    pub(crate) fn failure(self) -> Error {
        let Self { done, objective, norm, lr } = self;
        // The loss was a number; what it led to is none.
        let is_number = objective.is_finite() && norm.is_finite();
        let then = if is_number { ", and then a model that gives no numbers" } else { "" };
        let message = format!(
            "training diverged at step {}: objective {objective} nats a token, gradient norm {norm}, learning rate \
             {lr:.3e}{then}",
            done + 1
        );
        Error { kind: Kind::Diverged, ..Error::failed(message) }
    }

    /// Writes the batches of this update, as tokens and as text, beside the run's other files.
    pub(crate) fn keep(self, batches: &[Batch], tokenizer: &Tokenizer, folder: &RunWriter) -> Result<()> {
        let mut rows = Vec::new();
        for batch in batches {
            let targets = batch.targets.chunks(batch.cols.max(1));
            for (inputs, targets) in batch.inputs.chunks(batch.cols.max(1)).zip(targets) {
                rows.push(json!({ "text": tokenizer.decode(inputs), "inputs": inputs, "targets": targets }));
            }
        }
        // What is no number becomes null: JSON has no other word for it.
        let kept = json!({
            "step": self.done + 1, "objective": self.objective, "gradient_norm": self.norm, "lr": self.lr, "rows": rows,
        });
        let mut bytes = serde_json::to_vec_pretty(&kept)?;
        bytes.push(b'\n');
        Ok(atomic::write(folder.root().join(NAME), &bytes)?)
    }
}

/// Makes sure that there is a checkpoint to go back to, and says which.
///
/// The parameters are those from before the update that failed. They are saved only where no earlier checkpoint is, which
/// would be further from what went wrong, and only if they give numbers, or there are better ones to be saved with them.
pub(crate) fn last_good(
    state: &State,
    saver: &mut Saver,
    record: &mut Record<'_>,
    folder: &RunWriter,
) -> Result<String> {
    if checkpoint::list(&folder.checkpoints())?.is_empty() && (state.best.is_some() || state.is_finite()?) {
        record.save(state, saver)?;
    }
    let kept = match checkpoint::list(&folder.checkpoints())?.first() {
        Some((step, path)) => format!("the checkpoint of step {step} is in {}", path.display()),
        None => "there was no checkpoint yet".to_owned(),
    };
    Ok(format!("{kept}, the batch in {}", folder.root().join(NAME).display()))
}
