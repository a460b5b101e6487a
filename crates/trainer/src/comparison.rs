//! `surprisal compare`: trains and evaluates variants, and tests their differences.

use surprisal_engine::compare::{Comparison, Options, compare, tables};
use surprisal_engine::config::{self, Override};
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
    let comparison = compare(&options, ctx)?;
    output.end_bar();
    let page = surprisal_report::render_comparison(&comparison)?;
    atomic::write(comparison.root.join(outputs::PAGE), page.as_bytes())?;
    print(&comparison, output)
}

fn print(comparison: &Comparison, output: &Output) -> Result<()> {
    if output.json() {
        output.record(&comparison.to_json());
        return Ok(());
    }
    let (rows, differences) = (&comparison.rows, &comparison.differences);
    let mut text = plain(&tables::variants(rows));
    for note in tables::notes(rows, differences) {
        text.push_str(&format!("note: {note}\n"));
    }
    for table in [tables::parts(rows), tables::differences(differences)].iter().flatten() {
        text.push_str(&format!("\n{}", plain(table)));
    }
    text.push_str(&format!("\n{}\n", tables::legend(rows, !differences.is_empty())));
    output.write_stdout(&text)?;
    let root = shown(&comparison.root);
    output.info(format!("the runs are in {root}, and the report is {root}/report.html"));
    Ok(())
}
