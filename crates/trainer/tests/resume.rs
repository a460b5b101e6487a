//! A run that was interrupted and resumed ends in the same bits as one that was not.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails where something is wrong"
)]

mod common;

use common::Bench;
use serde_json::Value;

const SETTINGS: [&str; 24] = [
    "--set",
    "model.n_layer=1",
    "--set",
    "model.n_embd=16",
    "--set",
    "model.n_head=2",
    "--set",
    "model.dropout=0.1",
    "--set",
    "train.steps=60",
    "--set",
    "train.batch_size=4",
    "--set",
    "train.block_size=16",
    "--set",
    "eval.stride=8",
    "--set",
    "eval.every_steps=20",
    "--set",
    "checkpoint.every_steps=7",
    "--set",
    "train.shards=2",
    "--set",
    "sample.tokens=30",
];

/// What a run leaves, without what the clock says.
fn outcome(bench: &Bench, out: &str) -> (Vec<Value>, Vec<u8>) {
    let text = std::fs::read_to_string(bench.path().join(out).join("metrics.jsonl")).unwrap();
    let mut events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &mut events {
        for clock in ["train_seconds", "wall_seconds", "tokens_per_second", "run"] {
            event.as_object_mut().unwrap().remove(clock);
        }
    }
    (events, std::fs::read(bench.path().join(out).join("model/model.safetensors")).unwrap())
}

fn arguments(out: &str) -> Vec<&str> {
    let mut arguments = vec!["train", "a.txt", "--out", out, "--quiet"];
    arguments.extend(SETTINGS);
    arguments
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let bench = Bench::new();
    bench.text("a.txt", 150);
    bench.run(&arguments("whole")).succeeded();
    let whole = outcome(&bench, "whole");
    let mut interrupted = 0;
    for (i, milliseconds) in [60u64, 90, 130, 180].into_iter().enumerate() {
        let out = format!("killed{i}");
        let mut child = bench.command(&arguments(&out)).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let _ = child.kill();
        child.wait().unwrap();
        let folder = bench.path().join(&out);
        if !folder.join("config.toml").exists() {
            continue;
        }
        if !folder.join("model/model.safetensors").exists() {
            interrupted += 1;
            bench.run(&["train", "--resume", "--out", &out]).succeeded();
        }
        let resumed = outcome(&bench, &out);
        assert_eq!(whole.0, resumed.0, "metrics differ after a kill at {milliseconds} ms");
        assert!(whole.1 == resumed.1, "weights differ after a kill at {milliseconds} ms");
    }
    eprintln!("{interrupted} runs were interrupted");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_run_after_a_checkpoint() {
    let bench = Bench::new();
    bench.text("a.txt", 150);
    let mut long = arguments("run");
    long.extend(["--set", "train.steps=1000000"]);
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let child = if code == 143 {
            bench.command(&long).stderr(std::process::Stdio::piped()).spawn().unwrap()
        } else {
            let resume = ["train", "--resume", "--out", "run"];
            bench.command(&resume).stderr(std::process::Stdio::piped()).spawn().unwrap()
        };
        std::thread::sleep(std::time::Duration::from_millis(700));
        let sent =
            std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let ran = common::Ran::of(child.wait_with_output().unwrap(), &["train"]);
        ran.refused(code, &["stopped by a signal after step", "--resume"]);
        assert!(std::fs::read_dir(bench.path().join("run/checkpoints")).unwrap().count() >= 1);
    }
}

#[test]
fn resuming_needs_a_run_and_takes_no_other_settings() {
    let bench = Bench::new();
    bench.run(&["train", "--resume"]).refused(2, &["--out", "hint"]);
    bench.run(&["train", "--resume", "--out", "gone"]).refused(1, &["gone"]);
    bench.run(&["train", "--resume", "--out", "gone", "--set", "train.steps=3"]).refused(2, &["hint"]);
}
