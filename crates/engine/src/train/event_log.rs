//! Event log of a run: events as JSON lines in `metrics.jsonl`, and to the subscriber.

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
    pub(crate) fn new(metrics: MetricsLog, ctx: &'a Context<'a>) -> Self {
        Self { metrics, ctx }
    }

    /// Appends an event to the file, if it is recorded, and emits it.
    pub(crate) fn event(&mut self, event: &Event) -> Result<()> {
        if event.is_recorded() {
            // A `Value` has its keys in alphabetical order.
            let line = serde_json::to_value(event)?;
            self.metrics.append(&line.to_string())?;
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
