//! The library behind the `surprisal` binary: configuration, training, evaluation, sampling.
//!
//! `main` parses the command line, calls [`run`] and turns a [`failure::Failure`] into an exit code; everything that
//! can be tested without a process lives here.

mod architecture;
pub mod cli;
mod command;
mod compare;
pub mod config;
mod dashboard;
mod data;
pub mod evaluate;
pub mod failure;
mod generation;
mod identity;
mod kind;
mod memory;
mod models;
pub mod output;
mod outputs;
mod progress;
mod report;
mod runs;
pub mod sampling;
mod saved;
pub mod schedule;
mod signals;
pub mod streams;
mod train;
pub mod usage;
pub mod wording;

use std::sync::Arc;

use cli::{Cli, Command};
use failure::Result;
use output::Output;
use signals::Stop;

/// Says that the system gives no more memory, and ends the process: for the allocator of the program.
pub fn out_of_memory(bytes: usize) {
    memory::refused(bytes);
}

/// Does what the command line says.
///
/// # Errors
/// Whatever stopped it, with an exit code.
pub fn run(cli: &Cli) -> Result<()> {
    let threads = config::threads("--threads", cli.command.threads())?;
    let output = Arc::new(Output::new(cli.json, cli.quiet));
    signals::survive_size_limits()?;
    let (stop, has_threads) = Stop::listen(output.clone())?;
    surprisal_platform::threads::start(if has_threads { threads } else { 1 })?;
    let result = match &cli.command {
        Command::Train(arguments) => train::run(arguments, &output, &stop)
            .and_then(|reported| reported.map_or(Ok(()), |root| report::run::write(&root, &output))),
        Command::Eval(arguments) => command::eval::run(arguments, &output),
        Command::Sample(arguments) => command::sample::run(arguments, &output),
        Command::Explain(arguments) => command::explain::run(arguments, &output),
        Command::Compare(arguments) => compare::run(arguments, &report::comparison::render, &output, &stop),
        Command::Report(arguments) => report::run::write(&arguments.run, &output).and_then(|()| {
            let path = arguments.run.join("report.html");
            output.event(&serde_json::json!({ "event": "result", "report": path.display().to_string() }))
        }),
        Command::Bench(arguments) => command::bench::run(arguments, &output),
        Command::Count(arguments) => command::count::count(arguments, &output),
        Command::Merge(arguments) => command::count::merge(arguments, &output),
        Command::Mix(arguments) => command::mix::run(arguments, &output),
        Command::Export(arguments) => command::export::run(arguments, &output),
        Command::Inspect(arguments) => command::inspect::run(arguments, &output),
    };
    output.end_bar();
    output.end_dashboard();
    result.and_then(|()| output.heard())
}
