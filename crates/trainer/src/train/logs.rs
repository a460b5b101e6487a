//! The metrics in other forms: events for TensorBoard while a run goes on, a table for spreadsheets at its end.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use surprisal_formats::csv;
use surprisal_formats::events::EventWriter;
use surprisal_store::atomic;
use surprisal_store::read::regular_text;

use crate::cli::Log;
use crate::failure::{Failure, Result};

/// The folder of the event files in a run's.
pub(crate) const FOLDER: &str = "tensorboard";

/// What is logged beside metrics.jsonl.
#[derive(Debug)]
pub(crate) struct Logs {
    root: PathBuf,
    tensorboard: bool,
    csv: bool,
    /// The step of the checkpoint that the run goes on from.
    resumed_at: Option<u64>,
    writer: Option<EventWriter>,
}

/// Tag and place in the event.
const SCALARS: [(&str, &str); 8] = [
    ("loss/objective", "/objective"),
    ("loss/train_nll", "/train_nll"),
    ("loss/validation", "/eval/nats_per_token"),
    ("validation/perplexity", "/eval/perplexity"),
    ("validation/bits_per_byte", "/eval/bits_per_byte"),
    ("validation/source_entropy", "/eval/source_entropy"),
    ("validation/kl", "/eval/kl"),
    ("speed/tokens_per_second", "/tokens_per_second"),
];

impl Logs {
    pub(crate) fn new(root: &Path, formats: &[Log], resumed_at: Option<u64>) -> Self {
        let has = |format| formats.contains(&format);
        Self {
            root: root.to_owned(),
            tensorboard: has(Log::Tensorboard),
            csv: has(Log::Csv),
            resumed_at,
            writer: None,
        }
    }

    /// Whether there is anything to be told.
    pub(crate) fn listens(&self) -> bool {
        self.tensorboard
    }

    /// Takes what TensorBoard can show of an event: evaluations, and the result of a model that is counted at once.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn event(&mut self, event: &Value) -> Result<()> {
        let counted = event["event"] == "result" && event["steps"] == 0;
        if !(self.tensorboard && (event["event"] == "epoch" || counted)) {
            return Ok(());
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let step = event["step"].as_u64().unwrap_or(0);
        let values: Vec<(&str, f64)> =
            SCALARS.iter().filter_map(|(tag, place)| Some((*tag, event.pointer(place)?.as_f64()?))).collect();
        if self.writer.is_none() {
            let folder = self.root.join(FOLDER);
            std::fs::create_dir_all(&folder)
                .map_err(|error| Failure::failed(format!("cannot create {}: {error}", folder.display())))?;
            // TensorBoard counts what comes after the checkpoint's step as new.
            let resumed_at = self.resumed_at.map(|step| step + 1);
            self.writer = Some(EventWriter::create(&folder, seconds, resumed_at)?);
        }
        if let Some(writer) = &mut self.writer {
            writer.scalars(step, seconds, &values)?;
        }
        Ok(())
    }

    /// Writes the table, of a finished run.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub(crate) fn finish(&self) -> Result<()> {
        if !self.csv {
            return Ok(());
        }
        let metrics = self.root.join("metrics.jsonl");
        let text = csv::from_json_lines(&regular_text(&metrics)?)?;
        Ok(atomic::write(self.root.join("metrics.csv"), text.as_bytes())?)
    }
}
