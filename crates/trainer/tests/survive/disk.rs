//! Real disks: one of a mebibyte, a read-only one, a limit on file size, and two writers.
//!
//! Mounting a file system needs permission; without it the test is skipped.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Bench, Ran};
use crate::runs::{KINDS, assert_same, borrowed, names, outcome};

/// Runs `script` in its own mount namespace; `None`, with a message, if that is not permitted.
fn in_a_namespace(bench: &Bench, script: &str, arguments: &[String]) -> Option<Output> {
    let may = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: file systems cannot be mounted here");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-ec", script]).arg(bench.command(&[]).get_program()).args(arguments);
    Some(command.current_dir(bench.path()).output().unwrap())
}

#[test]
fn a_disk_that_fills_up_ends_the_run_and_keeps_the_earlier_checkpoint() {
    let kind = &KINDS[2];
    let bench = kind.bench();
    bench.run(&borrowed(&kind.train("whole", &["checkpoint.keep=1000"]))).succeeded();
    // Every checkpoint is kept until the disk is full; then the run is moved to a larger disk.
    let script = "mkdir small; mount -t tmpfs -o size=1m tmpfs small; \
                  status=0; \"$0\" \"$@\" || status=$?; cp -r small/run saved; exit $status";
    let arguments = kind.train("small/run", &["checkpoint.keep=1000", "checkpoint.every_steps=1"]);
    let Some(output) = in_a_namespace(&bench, script, &arguments) else { return };
    let ran = Ran::of(output, &["train"]).refused(1, &["cannot ", "bytes", "small/run", "the disk is full"]);
    let kept = names(&bench.path().join("saved/checkpoints"));
    assert!(kept.len() > 3, "{kept:?} {}", ran.stderr);
    assert!(kept.iter().all(|name| name.starts_with("step_")), "debris: {kept:?}");
    let resumed = bench.run(&["train", "--resume", "--out", "saved"]).succeeded();
    let newest: u64 = kept.last().unwrap().trim_start_matches("step_").parse().unwrap();
    assert!(resumed.stderr.contains(&format!("resuming after step {newest}")), "{}", resumed.stderr);
    assert!(!resumed.stderr.contains("skipped"), "{}", resumed.stderr);
    let mut whole = outcome(&bench, "whole");
    let mut other = outcome(&bench, "saved");
    // The last checkpoints are of different steps.
    whole.files.retain(|name, _| name.starts_with("model/"));
    other.files.retain(|name, _| name.starts_with("model/"));
    assert_same(&whole, &other, "after the disk was full");
}

#[test]
fn a_read_only_file_system_is_named_and_nothing_is_left() {
    let kind = &KINDS[1];
    let bench = kind.bench();
    let script = "mkdir ro; mount -t tmpfs -o ro tmpfs ro; exec \"$0\" \"$@\"";
    let Some(output) = in_a_namespace(&bench, script, &kind.train("ro/run", &[])) else { return };
    Ran::of(output, &["train"]).refused(1, &["ro/run", "read-only", "--out"]);
    assert!(names(&bench.path().join("ro")).is_empty());
}

#[test]
fn a_run_reads_its_text_and_config_from_a_read_only_place() {
    let kind = &KINDS[1];
    let bench = kind.bench();
    let script = "mkdir ro out; cp a.txt ro; mount --bind ro ro; mount -o remount,ro,bind ro; cd ro; exec \"$0\" \"$@\"";
    let Some(output) = in_a_namespace(&bench, script, &kind.train("../out/run", &[])) else { return };
    Ran::of(output, &["train"]).succeeded();
    assert!(bench.path().join("out/run/model/manifest.json").exists());
}

#[test]
fn a_limit_on_the_size_of_a_file_is_an_error_and_not_a_death() {
    let kind = &KINDS[2];
    let bench = kind.bench();
    let mut command = Command::new("sh");
    // 8 blocks: enough for the config, too few for the weights. The signal SIGXFSZ is not changed.
    command.args(["-c", "ulimit -f 8; exec \"$0\" \"$@\""]).arg(bench.command(&[]).get_program());
    command.args(kind.train("run", &[])).current_dir(bench.path());
    let ran = Ran::of(command.output().unwrap(), &["train"]);
    ran.refused(1, &["write", "bytes", "run/checkpoints", "size limit"]);
    assert!(!bench.path().join("run").exists(), "nothing was worth keeping");
}

#[test]
fn the_second_writer_is_refused_and_a_dead_owners_lock_is_taken_over() {
    let kind = &KINDS[2];
    let bench = kind.bench();
    bench.run(&borrowed(&kind.train("whole", &[]))).succeeded();
    let whole = outcome(&bench, "whole");
    let mut owner = bench.command(&borrowed(&kind.train("run", &[]))).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while names(&bench.path().join("run/checkpoints")).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    // Stopped, so that it cannot finish in the meantime.
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &owner.id().to_string()]).status().unwrap().success());
    };
    signal("-STOP");
    let process = format!("process {}", owner.id());
    bench
        .run(&["train", "--resume", "--out", "run"])
        .refused(1, &["is being written to by", &process, "hint"]);
    bench.run(&borrowed(&kind.train("run", &[]))).refused(1, &["run", "hint"]);
    signal("-KILL");
    owner.wait().unwrap();
    assert!(bench.path().join("run/lock").exists(), "a killed process leaves its lock file");
    bench.run(&["train", "--resume", "--out", "run", "--quiet"]).succeeded();
    assert_same(&whole, &outcome(&bench, "run"), "after the owner was killed");
}
