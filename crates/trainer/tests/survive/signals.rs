//! SIGINT, SIGTERM, SIGHUP: the first ends the run after its step with a checkpoint, the second
//! ends it at once.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Bench, Ran};
use crate::runs::{KINDS, assert_same, borrowed, names, outcome};

const LONG: &[&str] = &["train.steps=300"];

pub(crate) fn send(signal: &str, child: &Child) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Waits for the first checkpoint in `out`; then steps are running.
pub(crate) fn wait_for_a_checkpoint(bench: &Bench, out: &str) {
    let checkpoints = bench.path().join(out).join("checkpoints");
    let started = Instant::now();
    while names(&checkpoints).iter().all(|name| !name.starts_with("step_")) {
        assert!(started.elapsed() < Duration::from_secs(60), "no checkpoint in a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn start(bench: &Bench, arguments: &[String]) -> Child {
    bench.command(&borrowed(arguments)).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn an_interrupted_run_has_a_checkpoint_of_its_last_step_and_ends_in_the_same_bits() {
    for kind in &KINDS[1..] {
        let bench = kind.bench();
        bench.run(&borrowed(&kind.train("whole", LONG))).succeeded();
        let whole = outcome(&bench, "whole");
        for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
            let out = format!("run{code}");
            let child = start(&bench, &kind.train(&out, LONG));
            wait_for_a_checkpoint(&bench, &out);
            send(signal, &child);
            let ran = Ran::of(child.wait_with_output().unwrap(), &["train"]);
            let ran = ran.refused(code, &["stopped by a signal after step ", "--resume"]);
            let (_, rest) = ran.stderr.split_once("after step ").unwrap();
            let step: usize = rest.split(';').next().unwrap().parse().unwrap();
            let newest = names(&bench.path().join(&out).join("checkpoints")).pop().unwrap();
            assert_eq!(newest, format!("step_{step:08}"), "the checkpoint is of the last step made");
            bench.run(&["train", "--resume", "--out", &out, "--quiet"]).succeeded();
            assert_same(&whole, &outcome(&bench, &out), &format!("after {signal} at step {step}"));
        }
    }
}

#[test]
fn the_second_signal_ends_the_process_at_once() {
    let bench = Bench::new();
    bench.text("a.txt", 3000);
    // One update takes a minute, so the first signal is not handled yet.
    let arguments = [
        "train",
        "a.txt",
        "--out",
        "run",
        "--set",
        "model.n_embd=256",
        "--set",
        "train.batch_size=64",
        "--set",
        "train.grad_accumulation=1000",
        "--set",
        "train.steps=1000",
        "--set",
        "data.val_fraction=0.01",
    ];
    let mut child = bench.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    // The table header is the last output before the first step.
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("weight decay") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut stderr, &mut line).unwrap(), 0, "the run has ended");
    }
    std::thread::sleep(Duration::from_millis(300));
    send("-TERM", &child);
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "the first signal waits for the step");
    let sent = Instant::now();
    send("-INT", &child);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
    // Nothing prevents resuming.
    assert!(bench.path().join("run/config.toml").exists());
}

#[test]
fn a_counted_run_has_no_steps_and_ends_at_the_first_signal() {
    let bench = Bench::new();
    bench.text("a.txt", 100_000);
    let kind = &KINDS[0];
    let child = start(&bench, &kind.train("run", &["model.order=8"]));
    let started = Instant::now();
    while !bench.path().join("run/metrics.jsonl").exists() {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    send("-TERM", &child);
    let sent = Instant::now();
    let ran = Ran::of(child.wait_with_output().unwrap(), &["train"]);
    assert_eq!(ran.code, 143, "{}", ran.stderr);
    assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
    bench.run(&["train", "--resume", "--out", "run", "--quiet"]).succeeded();
}

#[test]
fn under_nohup_a_hangup_is_nothing() {
    let kind = &KINDS[2];
    let bench = kind.bench();
    let arguments = kind.train("run", LONG);
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .arg(bench.command(&[]).get_program())
        .args(&arguments);
    let child = command.current_dir(bench.path()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_a_checkpoint(&bench, "run");
    send("-HUP", &child);
    Ran::of(child.wait_with_output().unwrap(), &["train"]).succeeded();
}

#[test]
fn standard_output_and_error_may_close_or_fill_up_and_the_run_goes_on() {
    let kind = &KINDS[1];
    let bench = kind.bench();
    bench.run(&borrowed(&kind.train("whole", &[]))).succeeded();
    let whole = outcome(&bench, "whole");
    let closings = [
        ("closed", ">&- 2>&-", 0),
        ("a reader that goes away", "| head -n 1 >/dev/null", 0),
        ("no standard error", "2>&- >/dev/null", 0),
        // The run is complete, but its events had no reader.
        ("full", ">/dev/full 2>/dev/null", 1),
    ];
    for (i, (name, closing, code)) in closings.into_iter().enumerate() {
        let out = format!("run{i}");
        let mut arguments = kind.train(&out, &[]);
        arguments.retain(|argument| argument != "--quiet");
        arguments.push("--json".into());
        let mut command = Command::new("bash");
        let line = format!("set -o pipefail; \"$0\" \"$@\" {closing}");
        command.args(["-c", &line]).arg(bench.command(&[]).get_program()).args(&arguments);
        let status = command.current_dir(bench.path()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{name}");
        assert_same(&whole, &outcome(&bench, &out), name);
    }
}
