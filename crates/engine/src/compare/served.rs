//! Trials of a comparison on the ranks beside rank 0, which hands them out one by one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::trial::{SharedText, Trial, TrialRecord};
use crate::config;
use crate::data::Dataset;
use crate::error::{Error, ExitKind, Result};
use crate::events::{Context, Silent};
use crate::ranks::{Reader, Work, Writer};

/// Interval in which ranks look for messages: a trial takes far longer.
const INTERVAL: Duration = Duration::from_millis(2);

/// A trial for another rank.
#[derive(Debug, Serialize, Deserialize)]
struct Cell {
    root: PathBuf,
    variant: usize,
    seed: u64,
    folder: PathBuf,
    /// The resolved config.
    config: String,
}

/// The record of a trial and its seconds; or the message of an error, and whether it is a stop.
type Answer = std::result::Result<(TrialRecord, f64), (String, bool)>;

/// Hands out the trials that `next` gives, and tells `made` the results, until none is left, one
/// fails or the comparison is stopped.
pub(super) fn hand_out<'t>(
    root: &Path,
    next: impl Fn() -> Option<(usize, &'t Trial)>,
    made: impl Fn(usize, Result<(TrialRecord, f64)>) -> Result<TrialRecord>,
    ctx: &Context<'_>,
) -> Result<Vec<(usize, TrialRecord)>> {
    let ranks = ctx.ranks;
    ranks.begin(Work::Compare, Vec::new())?;
    let mut busy: Vec<Option<usize>> = vec![None; ranks.size()];
    let mut serves = vec![true; ranks.size()];
    let (mut finished, mut failure) = (Vec::new(), None);
    serves[0] = false;
    while serves.contains(&true) || busy.iter().any(Option::is_some) {
        let mut is_idle = true;
        for rank in 1..ranks.size() {
            if let Some(index) = busy[rank]
                && ranks.has_message(rank)?
            {
                let bytes = ranks.receive(rank)?;
                (busy[rank], is_idle) = (None, false);
                let answer = Reader::new::<Answer>(&bytes)?.0.map_err(|(message, stopped)| {
                    let kind = if stopped { ExitKind::Stopped } else { ExitKind::Failed };
                    Error { kind, ..Error::failed(message) }
                });
                match made(index, answer) {
                    Ok(record) => finished.push((index, record)),
                    Err(error) => {
                        // A signal to one rank stops all.
                        if error.kind == ExitKind::Stopped {
                            ctx.control.stop();
                        }
                        failure = failure.or(Some(error));
                    }
                }
            }
            let is_stopped = ctx.control.is_stopped();
            if !serves[rank] || busy[rank].is_some() && !is_stopped {
                continue;
            }
            match if is_stopped || failure.is_some() { None } else { next() } {
                Some((index, trial)) => {
                    let Trial { variant, seed, ref folder, ref loaded, .. } = *trial;
                    let (root, folder, config) = (root.to_owned(), folder.clone(), loaded.text.clone());
                    let cell = Writer::new(&Cell { root, variant, seed, folder, config })?;
                    ranks.send(rank, &cell.bytes())?;
                    busy[rank] = Some(index);
                }
                // The last message to a rank; one that is busy stops.
                None => {
                    ranks.send(rank, &[])?;
                    serves[rank] = false;
                }
            }
        }
        if is_idle {
            std::thread::sleep(INTERVAL);
        }
    }
    failure.map_or(Ok(finished), Err)
}

/// Makes the trials that rank 0 hands out.
///
/// # Errors
/// A failure that is not one of a trial, which rank 0 is told of.
pub(crate) fn serve(ctx: &Context<'_>) -> Result<()> {
    let ranks = ctx.ranks;
    let mut text: Option<(String, SharedText)> = None;
    let mut is_last = false;
    while !is_last {
        while !ranks.has_message(0)? {
            std::thread::sleep(INTERVAL);
        }
        let message = ranks.receive(0)?;
        if message.is_empty() {
            return Ok(());
        }
        let cell: Cell = Reader::new(&message)?.0;
        let answer: Answer = std::thread::scope(|scope| -> Result<Answer> {
            let ctx = Context { events: &Silent, ..Context::new(ctx.pool, ctx.events, ctx.control) };
            let text = &mut text;
            let trial = scope.spawn(move || make(&cell, text, &ctx));
            while !trial.is_finished() {
                if !is_last && ranks.has_message(0)? {
                    ranks.receive(0)?;
                    is_last = true;
                    ctx.control.stop();
                }
                std::thread::sleep(INTERVAL);
            }
            let made = trial.join().unwrap_or_else(|_| Err(Error::failed("a run's thread panicked")));
            Ok(made.map_err(|error| (error.message, error.kind == ExitKind::Stopped)))
        })?;
        ranks.send(0, &Writer::new(&answer)?.bytes())?;
    }
    Ok(())
}

/// Makes the trial of `cell`, on the `text` of the one before if it has the same.
fn make(
    cell: &Cell,
    text: &mut Option<(String, SharedText)>,
    ctx: &Context<'_>,
) -> Result<(TrialRecord, f64)> {
    let started = Instant::now();
    let mut loaded = config::parse("the config of a trial", &cell.config, &[])?;
    crate::start::adopt(&mut loaded, ctx)?;
    config::check(&mut loaded)?;
    let key = super::text_key(&loaded.config);
    if text.as_ref().is_none_or(|(known, _)| *known != key) {
        let data = Dataset::load(&loaded.config, false, None, ctx)?;
        *text = Some((key, SharedText::new(&loaded.config, data)?));
    }
    let Some((_, text)) = text else { return Err(Error::failed("there is no text")) };
    let Cell { variant, seed, ref folder, ref root, .. } = *cell;
    let trial = Trial { variant, seed, loaded, folder: folder.clone(), text: 0 };
    Ok((trial.run(root, text, ctx)?, started.elapsed().as_secs_f64()))
}
