//! The `surprisal` binary: arguments in, exit code out.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use surprisal::{cli::Cli, failure::Kind};
use surprisal_kernels::counting::Counting;

// Large buffers come and go at every step; glibc's allocator hands them back to the system each time, which doubles
// the time of a step (measured). Counted, so that `bench` can say how much memory a case takes; two atomic additions an
// allocation do not show.
#[global_allocator]
static ALLOCATOR: Counting<MiMalloc> = Counting::new(MiMalloc);

fn main() -> ExitCode {
    surprisal_kernels::threads::disable_candle_pools();
    let cli = Cli::parse();
    match surprisal::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.kind != Kind::ClosedPipe {
                // Standard error may be gone as well; there is nobody left to tell.
                drop(writeln!(std::io::stderr(), "error: {failure}"));
            }
            ExitCode::from(failure.code())
        }
    }
}
