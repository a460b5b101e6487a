//! The events of a run: JSON lines in `metrics.jsonl`, and on standard output with `--json`.

use serde::Serialize;
use surprisal_formats::run::Metrics;

use crate::failure::Result;
use crate::output::Output;

/// Where the events of a run go.
#[derive(Debug)]
pub(crate) struct Record {
    metrics: Metrics,
}

impl Record {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { metrics }
    }

    /// Appends one event.
    ///
    /// # Errors
    /// When the file or standard output cannot be written to.
    pub(crate) fn event(&mut self, event: &impl Serialize, output: &Output) -> Result<()> {
        self.metrics.append(&serde_json::to_string(event)?)?;
        output.event(event)
    }

    /// Makes the lines durable and says how long the file is: what a checkpoint keeps.
    pub(crate) fn sync(&mut self) -> Result<u64> {
        self.metrics.sync()?;
        Ok(self.metrics.offset())
    }
}
