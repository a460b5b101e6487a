//! The n-th disk operation fails, or the process dies there, for n = 1, 2, 3, … until the run
//! succeeds.

use std::os::unix::process::ExitStatusExt;

use crate::common::Ran;
use crate::runs::{KINDS, Kind, Outcome, assert_same, borrowed, finish, go_on, is_begun, names, outcome};

const FAULT: &str = "SURPRISAL_FAULT";
/// Shorter than the killed runs, because every operation is tried.
const SHORT: &[&str] =
    &["train.steps=4", "checkpoint.every_steps=2", "eval.every_steps=2", "checkpoint.keep=1"];

fn train(kind: &Kind, out: &str) -> Vec<String> {
    let counted = kind.name == "counted";
    kind.train(out, if counted { &[] } else { SHORT })
}

/// Runs `kind` with a fault at every operation, then resumes it; returns the number of operations.
fn every_operation(kind: &Kind, fault: &str, check: impl Fn(&Ran, usize)) -> usize {
    let bench = kind.bench();
    bench.run(&borrowed(&train(kind, "whole"))).succeeded();
    let whole: Outcome = outcome(&bench, "whole");
    // A few operations may fail without harm, such as removing a temporary file.
    let mut harmless = 0;
    for at in 1..1000 {
        let out = format!("{fault}{at}");
        let output = bench
            .command(&borrowed(&train(kind, &out)))
            .env(FAULT, format!("{fault}:{at}"))
            .output()
            .unwrap();
        let reached = !output.status.success();
        if fault == "crash" && reached {
            assert_eq!(output.status.signal(), Some(6), "operation {at}");
        } else {
            check(&Ran::of(output, &[]), at);
        }
        if is_begun(&bench, &out) {
            finish(kind, &bench, &out, 1 + at % 3);
        } else {
            // Nothing was lost, and nothing prevents a new run.
            bench.run(&borrowed(&train(kind, &out))).succeeded();
        }
        assert_same(&whole, &outcome(&bench, &out), &format!("after a {fault} at operation {at}"));
        let folder = bench.path().join(&out);
        for inside in [folder.clone(), folder.join("checkpoints"), folder.join("model")] {
            let debris: Vec<String> =
                names(&inside).into_iter().filter(|name| name.starts_with('.')).collect();
            assert!(debris.is_empty(), "{debris:?} after a {fault} at operation {at}");
        }
        std::fs::remove_dir_all(folder).unwrap();
        harmless = if reached { 0 } else { harmless + 1 };
        if harmless > if fault == "crash" { 0 } else { 4 } {
            return at - harmless;
        }
    }
    panic!("a short run does not have a thousand operations");
}

#[test]
fn a_crash_at_any_operation_of_a_run_loses_nothing() {
    for kind in &KINDS {
        let operations = every_operation(kind, "crash", |_, _| ());
        eprintln!("{}: a crash at each of {operations} operations", kind.name);
        assert!(operations >= if kind.name == "counted" { 20 } else { 50 }, "{operations}");
    }
}

#[test]
fn a_full_disk_at_any_operation_of_a_run_is_said_with_the_path_and_loses_nothing() {
    for kind in &KINDS {
        let operations = every_operation(kind, "full", |ran, at| {
            if ran.code != 0 {
                assert_eq!(ran.code, 1, "operation {at}: {}", ran.stderr);
                assert!(ran.stderr.contains("error: cannot "), "operation {at}: {}", ran.stderr);
                assert!(
                    ran.stderr.contains(&format!("full{at}")),
                    "no path at operation {at}: {}",
                    ran.stderr
                );
                assert!(ran.stderr.contains("the disk is full"), "operation {at}: {}", ran.stderr);
            }
        });
        eprintln!("{}: a full disk at each of {operations} operations", kind.name);
        assert!(operations >= if kind.name == "counted" { 20 } else { 50 }, "{operations}");
    }
}

#[test]
fn a_used_up_quota_and_a_read_only_file_system_are_said_and_leave_the_earlier_checkpoint() {
    let kind = &KINDS[1];
    let bench = kind.bench();
    bench.run(&borrowed(&train(kind, "whole"))).succeeded();
    for (fault, words) in [("quota", "your disk quota is used up"), ("readonly", "read-only")] {
        let mut kept = 0;
        for at in (1..100).step_by(3) {
            let out = format!("{fault}{at}");
            let output = bench
                .command(&borrowed(&train(kind, &out)))
                .env(FAULT, format!("{fault}:{at}"))
                .output()
                .unwrap();
            if output.status.success() {
                // An operation that may fail, or one after the last.
                continue;
            }
            Ran::of(output, &[]).refused(1, &[words, &out]);
            let folder = bench.path().join(&out);
            kept += usize::from(!names(&folder.join("checkpoints")).is_empty());
            // A run without progress leaves nothing.
            assert_eq!(folder.exists(), is_begun(&bench, &out));
            bench.run(&borrowed(&go_on(kind, &bench, &out))).succeeded();
        }
        assert!(kept > 5, "{fault} came only {kept} times after a checkpoint");
    }
}
