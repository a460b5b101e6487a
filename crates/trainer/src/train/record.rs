//! The events of a run: JSON lines in `metrics.jsonl`, and on standard output with `--json`.

use serde::Serialize;
use surprisal_store::run::Metrics;

use super::logs::Logs;
use crate::failure::Result;
use crate::output::Output;

/// Where the events of a run go.
#[derive(Debug)]
pub(crate) struct Record {
    metrics: Metrics,
    logs: Logs,
}

impl Record {
    pub(crate) fn new(metrics: Metrics, logs: Logs) -> Self {
        Self { metrics, logs }
    }

    /// Appends one event.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub(crate) fn event(&mut self, event: &impl Serialize, output: &Output) -> Result<()> {
        self.metrics.append(&serde_json::to_string(event)?)?;
        if self.logs.listens() {
            self.logs.event(&serde_json::to_value(event)?)?;
        }
        output.tell(event)
    }

    /// Ends the record: what is made of all of it.
    ///
    /// # Errors
    /// As [`Self::event`].
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.metrics.sync()?;
        self.logs.finish()
    }

    /// Makes the lines durable and says how long the file is: what a checkpoint keeps.
    pub(crate) fn sync(&mut self) -> Result<u64> {
        self.metrics.sync()?;
        Ok(self.metrics.offset())
    }
}
