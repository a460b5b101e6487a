//! The record of a run: its events as JSON lines in `metrics.jsonl`, and on to whoever listens.

use surprisal_store::run_dir::MetricsLog;

use super::checkpoint::Saver;
use super::state::State;
use crate::error::Result;
use crate::events::{Context, Event};

pub(crate) struct Record<'a> {
    metrics: MetricsLog,
    ctx: &'a Context<'a>,
}

impl<'a> Record<'a> {
    pub(crate) fn new(metrics: MetricsLog, ctx: &'a Context<'a>) -> Self {
        Self { metrics, ctx }
    }

    /// Appends one event, if it is for the record, and tells it.
    pub(crate) fn event(&mut self, event: &Event) -> Result<()> {
        if event.is_recorded() {
            // By way of a value, whose keys are in order.
            let line = serde_json::to_value(event)?;
            self.metrics.append(&line.to_string())?;
        }
        if matches!(event, Event::Finished(_)) {
            // Who makes something of all of it finds all of it.
            self.metrics.sync()?;
        }
        self.ctx.tell(event)
    }

    /// Makes a checkpoint of `state`, which keeps how long the record is: its lines are made durable first.
    pub(crate) fn save(&mut self, state: &State, saver: &mut Saver<'_>) -> Result<()> {
        self.metrics.sync()?;
        if saver.save(state, self.metrics.offset())? {
            self.event(&Event::Checkpointed { step: state.optimiser.step })?;
        }
        Ok(())
    }
}
