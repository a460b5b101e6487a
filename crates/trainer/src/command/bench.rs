//! `surprisal bench`: the speed of the hot parts on this machine, always as JSON lines for scripts.

use serde_json::json;
use surprisal_engine::loss::bench::{Case, default_cases, measure};

use crate::cli::{self, BenchWhat};
use crate::error::{Error, Result};
use crate::output::Output;
use surprisal_engine::bench::{ngram, step as bench};

pub(crate) fn run(arguments: &cli::BenchArgs, output: &Output) -> Result<()> {
    if !(arguments.seconds.is_finite() && (0.0..=3600.0).contains(&arguments.seconds)) {
        return Err(Error::usage(format!("--seconds is {}, but must be from 0 to 3600", arguments.seconds)));
    }
    match arguments.what {
        BenchWhat::Loss => loss(arguments, output),
        BenchWhat::Ngram => counted(arguments, output),
        BenchWhat::Step => step(arguments, output),
    }
}

/// The cases whose name contains the given text.
fn matching_cases<T>(all: Vec<T>, name: impl Fn(&T) -> String, arguments: &cli::BenchArgs) -> Result<Vec<T>> {
    let names: Vec<String> = all.iter().map(&name).collect();
    let matching: Vec<T> = all.into_iter().filter(|case| name(case).contains(&arguments.case)).collect();
    if matching.is_empty() {
        return Err(Error::usage(format!("no case has a name that contains \"{}\"", arguments.case))
            .hint(format!("there are: {}", names.join(", "))));
    }
    Ok(matching)
}

fn loss(arguments: &cli::BenchArgs, output: &Output) -> Result<()> {
    for case in matching_cases(default_cases(), case_name, arguments)? {
        let measured = measure(case, arguments.threads, arguments.seconds)?;
        let line = json!({
            "event": "bench", "name": case_name(&case), "rows": case.rows, "vocab": case.vocab, "width": case.width,
            "variant": case.variant.name(), "label_smoothing": case.label_smoothing, "threads": arguments.threads,
            "runs": measured.runs, "median_ms": measured.median_ms, "best_ms": measured.best_ms,
            "gb_per_s": measured.gb_per_s, "extra_bytes": measured.extra_bytes,
        });
        output.write_stdout(&format!("{line}\n"))?;
    }
    Ok(())
}

fn counted(arguments: &cli::BenchArgs, output: &Output) -> Result<()> {
    let matching = matching_cases(ngram::CASES.to_vec(), |&name| name.to_owned(), arguments)?;
    let tell = |line| output.write_stdout(&format!("{line}\n"));
    ngram::measure(&matching, arguments.threads, arguments.seconds, tell)
}

/// Peak memory is that of the process, so select one case to measure it.
fn step(arguments: &cli::BenchArgs, output: &Output) -> Result<()> {
    for case in matching_cases(bench::cases(), |case| case.name.clone(), arguments)? {
        let line = bench::measure(&case, arguments.threads, arguments.seconds)?;
        output.write_stdout(&format!("{line}\n"))?;
    }
    Ok(())
}

/// variant/rowsxvocab[xwidth]/epsilon
fn case_name(case: &Case) -> String {
    let width = if case.width > 0 { format!("x{}", case.width) } else { String::new() };
    format!("{}/{}x{}{width}/{}", case.variant.name(), case.rows, case.vocab, case.label_smoothing)
}
