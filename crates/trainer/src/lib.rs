//! The command-line program `surprisal`: flags, messages, progress bars, tables and the dashboard,
//! over the engine.
//!
//! [`main`] parses and runs a command, and turns a [`CliError`] into an exit code.

mod align;
mod cli;
mod command;
mod comparison;
mod console;
#[cfg_attr(not(feature = "tui"), path = "no_dashboard.rs")]
mod dashboard;
pub mod error;
pub mod examples;
pub mod habits;
mod memory;
mod output;
mod signals;
mod table;
mod train;
pub mod usage;
pub mod wording;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::FromArgMatches;
use cli::{Cli, Command};
use error::{CliError, Error, Result};
pub use memory::out_of_memory;
use output::Output;
use signals::ShutdownFlag;
use surprisal_engine::ranks::Ranks;
use surprisal_engine::store::atomic;
use surprisal_engine::text::is_standard_input;
use surprisal_engine::{Context, RunId, config, outputs, serve};
use surprisal_platform::threads::Pool;
pub use train::DEFAULT_CONFIG;

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    ExitCode::from(main_with(&std::env::args_os().collect::<Vec<_>>()))
}

/// Runs the program with `arguments`, the first of which is its name, and returns its exit code.
pub fn main_with(arguments: &[OsString]) -> u8 {
    let matches = usage::command().try_get_matches_from(arguments);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return usage_error(error, arguments),
    };
    match run(&cli) {
        Ok(()) => 0,
        Err(failure) => {
            if failure.is_reported() {
                // If standard error is closed, nothing can be reported.
                drop(writeln!(std::io::stderr(), "error: {failure}"));
            }
            failure.code()
        }
    }
}

/// Prints help or a usage error; typed text is escaped.
fn usage_error(error: clap::Error, arguments: &[OsString]) -> u8 {
    let code = error.exit_code() as u8;
    if error.use_stderr() {
        let typed: Vec<String> =
            arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        drop(write!(std::io::stderr(), "{}", wording::visible(&usage::explain(error, &typed))));
    } else {
        drop(error.print());
    }
    code
}

/// Refuses to read standard input twice.
fn check_inputs(command: &Command) -> Result<(), Error> {
    let paths = command.models_and_texts();
    if paths.iter().filter(|path| is_standard_input(path)).count() < 2 {
        return Ok(());
    }
    Err(Error::usage("standard input is named twice, and can be read only once")
        .hint("write one of them to a file first"))
}

fn run(cli: &Cli) -> Result<(), CliError> {
    let threads = config::threads("--threads", cli.command.threads())?;
    let run = RunId::next();
    let ranks = Ranks::join()?;
    let output = Arc::new(Output::new(cli.json, cli.quiet, run));
    signals::survive_size_limits()?;
    let (stop, has_threads) = ShutdownFlag::listen(output.clone())?;
    // If the system gives no threads, fails only if threads were requested.
    let workers = if has_threads || cli.command.threads().is_some() { threads } else { 1 };
    let pool = Pool::global(workers).map_err(Error::from)?;
    let ctx = Context { run, pool: &pool, events: &*output, control: stop.control(), ranks: &ranks };
    if ranks.rank() > 0 {
        return serve(&ctx).map_err(|failure| failed_rank(failure, &ranks));
    }
    let result = check_inputs(&cli.command).and_then(|()| match &cli.command {
        Command::Train(arguments) => train::run(arguments, &ctx, &output, &stop).and_then(|reported| {
            reported.map_or(Ok(()), |root| report(&root, None, &ctx, &output).map(drop))
        }),
        Command::Eval(arguments) => command::eval::run(arguments, &ctx, &output),
        Command::Score(arguments) => command::score::run(arguments, &ctx, &output),
        Command::Sample(arguments) => command::sample::run(arguments, &ctx, &output),
        Command::Explain(arguments) => command::explain::run(arguments, &ctx, &output),
        Command::Compare(arguments) => comparison::run(arguments, &ctx, &output, &stop),
        Command::Report(arguments) => report(&arguments.run, arguments.data.as_deref(), &ctx, &output)
            .and_then(|path| {
                output.event(&serde_json::json!({ "event": "result", "report": path.display().to_string() }))
            }),
        Command::Bench(arguments) => command::bench::run(arguments, &output),
        Command::Count(arguments) => command::count::count(arguments, &ctx, &output),
        Command::Merge(arguments) => command::count::merge(arguments, &ctx, &output),
        Command::Mix(arguments) => command::mix::run(arguments, &ctx, &output),
        Command::Export(arguments) => command::export::run(arguments, &ctx, &output),
        Command::Compress(arguments) => command::compress::run(arguments, &ctx, &output),
        Command::Decompress(arguments) => command::compress::undo(arguments, &ctx, &output),
        Command::Cache(arguments) => command::cache::run(arguments, &output),
        Command::Serve(arguments) => command::serve::run(arguments, &ctx, &output),
        Command::Completions(arguments) => command::manual::completions(arguments.shell, &output),
        Command::Man(arguments) => command::manual::man(&arguments.out, &output),
        Command::Inspect(arguments) => command::inspect::run(arguments, &ctx, &output),
    });
    output.end_bar();
    output.end_dashboard();
    result.map_err(|failure| CliError::new(failure, stop.signal())).and_then(|()| Ok(output.stdout_result()?))
}

/// Ends the job: rank 0 waits for an answer of this rank.
fn failed_rank(failure: Error, ranks: &Ranks) -> CliError {
    let failure = CliError::from(failure.within(format_args!("rank {}", ranks.rank())));
    drop(writeln!(std::io::stderr(), "error: {failure}"));
    ranks.abort();
    failure
}

fn report(root: &Path, moved: Option<&Path>, ctx: &Context<'_>, output: &Output) -> Result<PathBuf> {
    let html = surprisal_report::render_run(root, moved, ctx)?;
    let path = root.join(outputs::PAGE);
    // Written without the run's lock, since the run may still be training.
    atomic::write(&path, html.as_bytes())?;
    output.info(format!("the report is {}", wording::shown(&path)));
    Ok(path)
}
