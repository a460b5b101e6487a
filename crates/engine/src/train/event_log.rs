//! Event log of a run: events as JSON lines in `metrics.jsonl`, and to the subscriber.

use std::path::PathBuf;

use surprisal_store::run_dir::MetricsLog;

use super::checkpoint::Checkpointer;
use super::state::TrainState;
use crate::error::Result;
use crate::events::{Context, Event};

pub(crate) struct EventLog<'a> {
    metrics: MetricsLog,
    ctx: &'a Context<'a>,
}

impl<'a> EventLog<'a> {
    /// The log of a run that starts: an old file is replaced by the line of `first`, which is not
    /// emitted yet.
    pub(crate) fn begin(path: PathBuf, first: &Event, ctx: &'a Context<'a>) -> Result<Self> {
        Ok(Self { metrics: MetricsLog::begin(path, &line(first)?)?, ctx })
    }

    /// The log of a run that goes on, as it was when it had `offset` bytes.
    pub(crate) fn go_on(path: PathBuf, offset: u64, ctx: &'a Context<'a>) -> Result<Self> {
        Ok(Self { metrics: MetricsLog::open(path, offset)?, ctx })
    }

    /// Appends an event to the file, if it is recorded, and emits it.
    pub(crate) fn event(&mut self, event: &Event) -> Result<()> {
        if event.is_recorded() {
            self.metrics.append(&line(event)?)?;
        }
        if matches!(event, Event::Finished(_)) {
            // Subscribers of the last event may read the whole file.
            self.metrics.sync()?;
        }
        self.ctx.emit(event)
    }

    /// Makes a checkpoint of `state` with the length of the file, which is synced first.
    pub(crate) fn save(&mut self, state: &TrainState, saver: &mut Checkpointer<'_>) -> Result<()> {
        self.metrics.sync()?;
        if saver.save(state, self.metrics.offset())? {
            self.event(&Event::Checkpointed { step: state.optimiser.step })?;
        }
        Ok(())
    }
}

/// A `Value` has its keys in alphabetical order.
fn line(event: &Event) -> Result<String> {
    Ok(serde_json::to_value(event)?.to_string())
}
