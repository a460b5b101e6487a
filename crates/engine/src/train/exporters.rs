//! Exporters of metrics: TensorBoard event files during a run, a CSV table at its end.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use surprisal_formats::csv;
use surprisal_formats::tensorboard::SummaryWriter;
use surprisal_store::atomic;
use surprisal_store::read::regular_text;

use crate::error::{Error, Result};
use crate::events::{Event, Events, RunId, RunSummary};

pub(crate) const FOLDER: &str = "tensorboard";

/// Tags, with JSON pointers into events.
const SCALARS: [(&str, &str); 12] = [
    ("loss/objective", "/objective"),
    ("loss/train_nll", "/train_nll"),
    ("loss/validation", "/eval/nats_per_token"),
    ("validation/perplexity", "/eval/perplexity"),
    ("validation/perplexity_excluding_oov", "/eval/perplexity_excluding_oov"),
    ("validation/bits_per_byte", "/eval/bits_per_byte"),
    ("validation/source_entropy", "/eval/source_entropy"),
    ("validation/kl", "/eval/kl"),
    ("speed/tokens_per_second", "/tokens_per_second"),
    ("optimizer/learning_rate", "/learning_rate"),
    ("optimizer/gradient_norm", "/gradient_norm"),
    ("memory/peak_bytes", "/memory_bytes"),
];
/// The tags of single steps whose values at evaluations are means.
const STEP_TAGS: [(&str, &str); 2] =
    [("loss/objective", "step/objective"), ("loss/train_nll", "step/train_nll")];

/// A subscriber that writes TensorBoard event files into the folder of the first run: recorded
/// steps, evaluations, and the result of a count-based model.
///
/// ```
/// # use surprisal_engine::{Context, Control, platform::threads::Pool, train::TensorBoard};
/// # fn main() -> surprisal_engine::Result<()> {
/// let (pool, control, board) = (Pool::new(1)?, Control::new(), TensorBoard::default());
/// let context = Context::new(&pool, &board, &control); // for `train`
/// # let _ = context;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct TensorBoard(Mutex<Option<Log>>);

#[derive(Debug)]
struct Log {
    run: RunId,
    folder: PathBuf,
    resumed_at: Option<u64>,
    writer: Option<SummaryWriter>,
}

impl Events for TensorBoard {
    fn on(&self, run: RunId, event: &Event) -> Result<()> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (None, Event::Opened { folder, resumed_at }) = (&*log, event) {
            *log = Some(Log { run, folder: folder.clone(), resumed_at: *resumed_at, writer: None });
        }
        let Some(log) = log.as_mut().filter(|log| log.run == run) else { return Ok(()) };
        let is_shown = match event {
            Event::Evaluated(_) | Event::Measured(_) => true,
            Event::Finished(summary) => summary.steps == 0,
            _ => false,
        };
        if !is_shown {
            return Ok(());
        }
        let is_step = matches!(event, Event::Measured(_));
        let event = serde_json::to_value(event)?;
        let tag = |tag: &'static str| {
            let of_step = STEP_TAGS.iter().find(|(other, _)| is_step && *other == tag);
            of_step.map_or(tag, |(_, own)| own)
        };
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let step = event["step"].as_u64().unwrap_or(0);
        let values: Vec<(&str, f64)> = SCALARS
            .iter()
            .filter_map(|(name, place)| Some((tag(name), event.pointer(place)?.as_f64()?)))
            .collect();
        if log.writer.is_none() {
            let folder = log.folder.join(FOLDER);
            std::fs::create_dir_all(&folder)
                .map_err(|error| Error::failed(format!("cannot create {}: {error}", folder.display())))?;
            // TensorBoard discards earlier events from this step on.
            let resumed_at = log.resumed_at.map(|step| step + 1);
            log.writer = Some(SummaryWriter::create(&folder, seconds, resumed_at)?);
        }
        if let Some(writer) = &mut log.writer {
            writer.scalars(step, seconds, &values)?;
        }
        Ok(())
    }
}

/// A subscriber that writes metrics.csv, the event log as a table, into the folder of a finished
/// run.
///
/// ```
/// # use surprisal_engine::{Context, Control, platform::threads::Pool, train::Csv};
/// # fn main() -> surprisal_engine::Result<()> {
/// let (pool, control) = (Pool::new(1)?, Control::new());
/// let context = Context::new(&pool, &Csv, &control); // for `train`
/// # let _ = context;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Csv;

impl Events for Csv {
    fn on(&self, _: RunId, event: &Event) -> Result<()> {
        if let Event::Finished(RunSummary { run, .. }) = event {
            let table = csv::from_json_lines(&regular_text(run.join("metrics.jsonl"))?)?;
            atomic::write(run.join("metrics.csv"), table.as_bytes())?;
        }
        Ok(())
    }
}
