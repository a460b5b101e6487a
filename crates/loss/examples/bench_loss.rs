//! One JSON line a case. `bench_loss [--threads N] [--seconds S] [--case SUBSTRING]`, a case's name being
//! `variant/rowsxvocab[xwidth]/epsilon`.

#![allow(clippy::print_stdout, reason = "what it is for")]

use std::alloc::System;

use surprisal_kernels::counting::Counting;
use surprisal_loss::bench::{Case, default_cases, measure};

#[global_allocator]
static ALLOCATOR: Counting<System> = Counting::new(System);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    surprisal_kernels::threads::disable_candle_pools();
    let (mut threads, mut seconds, mut wanted) = (2, 2.0, String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(key) = arguments.next() {
        let value = arguments.next().ok_or("every option takes a value")?;
        match key.as_str() {
            "--threads" => threads = value.parse()?,
            "--seconds" => seconds = value.parse()?,
            "--case" => wanted = value,
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    for case in default_cases() {
        if name(case).contains(&wanted) {
            let measured = measure(case, threads, seconds)?;
            let line = serde_json::json!({
                "name": name(case),
                "rows": case.rows,
                "vocab": case.vocab,
                "width": case.width,
                "variant": case.variant.name(),
                "label_smoothing": case.label_smoothing,
                "threads": measured.threads,
                "runs": measured.runs,
                "median_ms": measured.median_ms,
                "best_ms": measured.best_ms,
                "gb_per_s": measured.gb_per_s,
                "extra_bytes": measured.extra_bytes,
            });
            println!("{line}");
        }
    }
    Ok(())
}

fn name(case: Case) -> String {
    let width = if case.width > 0 { format!("x{}", case.width) } else { String::new() };
    format!("{}/{}x{}{width}/{}", case.variant.name(), case.rows, case.vocab, case.label_smoothing)
}
