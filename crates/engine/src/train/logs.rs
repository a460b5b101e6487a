//! The metrics in other forms: events for TensorBoard while a run goes on, a table for spreadsheets at its end.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use surprisal_formats::csv;
use surprisal_formats::events::EventWriter;
use surprisal_store::atomic;
use surprisal_store::read::regular_text;

use crate::error::{Error, Result};
use crate::events::{Event, Events, Opened, RunId};

/// The folder of the event files in a run's.
pub(crate) const FOLDER: &str = "tensorboard";

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

/// What a subscriber knows of the run that it follows: the one that was opened first.
#[derive(Debug)]
struct Follows<T>(Mutex<Option<(RunId, Opened, T)>>);

impl<T: Default> Follows<T> {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The run, if `event` is of it.
    fn run(&self, run: RunId, event: &Event) -> MutexGuard<'_, Option<(RunId, Opened, T)>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (None, Event::Opened(opened)) = (&*slot, event) {
            *slot = Some((run, opened.clone(), T::default()));
        }
        slot
    }
}

/// Writes event files that TensorBoard reads into the run's folder: evaluations, and the result of a model that is counted at
/// once.
#[derive(Debug)]
pub struct TensorBoard(Follows<Option<EventWriter>>);

impl TensorBoard {
    /// Of the run that it is told of first.
    #[expect(clippy::new_without_default, reason = "it is made to be a subscriber, once a run")]
    pub const fn new() -> Self {
        Self(Follows::new())
    }
}

impl Events for TensorBoard {
    fn on(&self, run: RunId, event: &Event) -> Result<()> {
        let mut slot = self.0.run(run, event);
        let Some((_, opened, writer)) = slot.as_mut().filter(|(own, ..)| *own == run) else { return Ok(()) };
        let is_shown = match event {
            Event::Evaluated(_) => true,
            Event::Finished(summary) => summary.steps == 0,
            _ => false,
        };
        if !is_shown {
            return Ok(());
        }
        let event = serde_json::to_value(event)?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let step = event["step"].as_u64().unwrap_or(0);
        let values: Vec<(&str, f64)> =
            SCALARS.iter().filter_map(|(tag, place)| Some((*tag, event.pointer(place)?.as_f64()?))).collect();
        if writer.is_none() {
            let folder = opened.folder.join(FOLDER);
            std::fs::create_dir_all(&folder)
                .map_err(|error| Error::failed(format!("cannot create {}: {error}", folder.display())))?;
            // TensorBoard counts what comes after the checkpoint's step as new.
            let resumed_at = opened.resumed_at.map(|step| step + 1);
            *writer = Some(EventWriter::create(&folder, seconds, resumed_at)?);
        }
        if let Some(writer) = writer {
            writer.scalars(step, seconds, &values)?;
        }
        Ok(())
    }
}

/// Writes metrics.csv, the record as a table, into the run's folder at its end.
#[derive(Debug)]
pub struct Csv(Follows<()>);

impl Csv {
    /// Of the run that it is told of first.
    #[expect(clippy::new_without_default, reason = "it is made to be a subscriber, once a run")]
    pub const fn new() -> Self {
        Self(Follows::new())
    }
}

impl Events for Csv {
    fn on(&self, run: RunId, event: &Event) -> Result<()> {
        let slot = self.0.run(run, event);
        let Some((_, opened, ())) = slot.as_ref().filter(|(own, ..)| *own == run) else { return Ok(()) };
        if matches!(event, Event::Finished(_)) {
            let table = csv::from_json_lines(&regular_text(opened.folder.join("metrics.jsonl"))?)?;
            atomic::write(PathBuf::from(&opened.folder).join("metrics.csv"), table.as_bytes())?;
        }
        Ok(())
    }
}
