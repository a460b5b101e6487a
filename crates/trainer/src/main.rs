//! The `surprisal` binary: arguments in, exit code out.

use std::io::Write;
use std::process::ExitCode;

use clap::FromArgMatches;
use mimalloc::MiMalloc;
use surprisal::cli::Cli;
use surprisal::usage;
use surprisal::wording::visible;
use surprisal_platform::counting::Counting;

// Large buffers come and go at every step; glibc's allocator hands them back to the system each time, which doubles
// the time of a step (measured). Counted, so that `bench` can say how much memory a case takes; two atomic additions an
// allocation do not show.
#[global_allocator]
static ALLOCATOR: Counting<MiMalloc> = Counting::new(MiMalloc);

fn main() -> ExitCode {
    surprisal_platform::threads::disable_candle_pools();
    surprisal_platform::counting::on_refusal(surprisal::out_of_memory);
    let matches = usage::command().try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return misused(error),
    };
    match surprisal::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.is_told() {
                // Standard error may be gone as well; there is nobody left to tell.
                drop(writeln!(std::io::stderr(), "error: {failure}"));
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Shows help, or what is wrong with the command line: that quotes what was typed.
fn misused(error: clap::Error) -> ExitCode {
    let code = ExitCode::from(error.exit_code() as u8);
    if error.use_stderr() {
        drop(write!(std::io::stderr(), "{}", visible(&usage::explain(error))));
    } else {
        drop(error.print());
    }
    code
}
