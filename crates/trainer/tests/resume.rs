//! Resuming needs a run and keeps its settings. The results of resuming are tested in survive/.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails where something is wrong")]

mod common;

use common::Bench;

#[test]
fn resuming_needs_a_run_and_takes_no_other_settings() {
    let bench = Bench::new();
    bench.run(&["train", "--resume"]).refused(2, &["--out", "hint"]);
    bench.run(&["train", "--resume", "--out", "gone"]).refused(1, &["gone"]);
    bench.run(&["train", "--resume", "--out", "gone", "--set", "train.steps=3"]).refused(2, &["hint"]);
}
