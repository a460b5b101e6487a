//! `surprisal compare`: trains and evaluates variants, and tests their differences.

use std::path::PathBuf;

use surprisal_engine::compare::{Comparison, Options, compare, repeat, tables};
use surprisal_engine::config::{self, Loaded, Override};
use surprisal_engine::store::atomic;
use surprisal_engine::{Context, outputs};

use crate::align::plain;
use crate::cli;
use crate::error::Result;
use crate::output::Output;
use crate::signals::ShutdownFlag;
use crate::wording::shown;

/// The message when a signal ends the process at once.
const STOPPED: &str = "error: stopped by a signal; finished runs are kept, unfinished ones have a checkpoint\n  \
                       hint: the same command continues from here";

pub(crate) fn run(
    arguments: &cli::CompareArgs,
    ctx: &Context<'_>,
    output: &Output,
    stop: &ShutdownFlag,
) -> Result<()> {
    if let Some(jobs) = arguments.jobs {
        config::threads("--jobs", Some(jobs))?;
    }
    let options = Options {
        config: arguments.config.clone(),
        texts: arguments.texts.clone(),
        set: arguments.set.iter().map(|set| Override::new("--set ", set)).collect(),
        seeds: arguments.seeds.clone(),
        jobs: arguments.jobs,
        out: arguments.out.clone(),
    };
    stop.set_message(STOPPED);
    report(&compare(&options, ctx)?, output)
}

/// Trains the config of `train` with `count` seeds, from its own one.
pub(crate) fn of_seeds(
    settings: &Loaded,
    count: u64,
    out: Option<PathBuf>,
    ctx: &Context<'_>,
    output: &Output,
    stop: &ShutdownFlag,
) -> Result<()> {
    let first = settings.config.train.seed;
    let seeds = (0..count).map(|index| first.wrapping_add(index)).collect();
    stop.set_message(STOPPED);
    report(&repeat(settings, seeds, out, ctx)?, output)
}

/// Writes the report and prints the tables.
fn report(comparison: &Comparison, output: &Output) -> Result<()> {
    output.end_bar();
    let page = surprisal_report::render_comparison(comparison)?;
    atomic::write(comparison.root.join(outputs::PAGE), page.as_bytes())?;
    print(comparison, output)
}

fn print(comparison: &Comparison, output: &Output) -> Result<()> {
    if output.json() {
        output.record(&comparison.to_json());
        return Ok(());
    }
    let Comparison { rows, differences, curves, .. } = comparison;
    let mut text = plain(&tables::variants(rows));
    if let Some(spread) = tables::spread(rows) {
        text.push_str(&format!("{spread}\n"));
    }
    for note in tables::notes(rows, differences) {
        text.push_str(&format!("note: {note}\n"));
    }
    let more = [
        tables::parts(rows),
        tables::differences(differences),
        tables::learning_curves(curves),
        tables::consistency(curves),
    ];
    for table in more.iter().flatten() {
        text.push_str(&format!("\n{}", plain(table)));
    }
    for note in tables::curve_notes(curves) {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str(&format!("\n{}\n", tables::legend(rows, !differences.is_empty(), curves)));
    output.write_stdout(&text)?;
    let root = shown(&comparison.root);
    output.info(format!("the runs are in {root}, and the report is {root}/report.html"));
    Ok(())
}
