//! Unusual environments: umasks, no home, other locales and time zones, a read-only working folder.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::{Bench, Ran};
use crate::runs::{KINDS, assert_same, borrowed, names, outcome};

/// Runs the binary after the shell has run `setting`.
fn after(bench: &Bench, setting: &str, arguments: &[String]) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-ec", &format!("{setting}; exec \"$0\" \"$@\"")]).arg(bench.command(&[]).get_program());
    Ran::of(command.args(arguments).current_dir(bench.path()).output().unwrap(), &[setting])
}

#[test]
fn the_umask_decides_who_may_read_and_write() {
    let kind = &KINDS[1];
    for (umask, file, folder) in [("000", 0o644, 0o777), ("022", 0o644, 0o755), ("077", 0o600, 0o700)] {
        let bench = kind.bench();
        after(&bench, &format!("umask {umask}"), &kind.train("run", &[])).succeeded();
        let mode = |name: &str| {
            let path = bench.path().join("run").join(name);
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        for name in ["config.toml", "tokenizer.json", "model/manifest.json", "model/model.safetensors"] {
            assert_eq!(mode(name), file, "{name} under umask {umask}");
        }
        for name in ["", "model", "checkpoints"] {
            assert_eq!(mode(name), folder, "{name:?} under umask {umask}");
        }
        // Writable only by its owner, like other files.
        assert_eq!(mode("metrics.jsonl"), file, "metrics.jsonl under umask {umask}");
    }
}

#[test]
fn home_locale_time_zone_and_terminal_decide_nothing() {
    let kind = &KINDS[2];
    let bench = kind.bench();
    bench.file("naïve – текст.txt", std::fs::read(bench.path().join("a.txt")).unwrap());
    bench.run(&borrowed(&kind.train("whole", &[]))).succeeded();
    let whole = outcome(&bench, "whole");
    let settings = [
        ("nothing", vec![]),
        ("C", vec![("LC_ALL", "C"), ("LANG", "C")]),
        ("tr", vec![("LC_ALL", "tr_TR.UTF-8"), ("TZ", "Pacific/Kiritimati")]),
        ("nowhere", vec![("HOME", "/nonexistent"), ("TMPDIR", "/nonexistent"), ("TERM", "dumb")]),
        ("nonsense", vec![("HOME", ""), ("TZ", "\u{1F980}"), ("COLUMNS", "-1"), ("RUST_BACKTRACE", "full")]),
    ];
    for (name, variables) in settings {
        let mut arguments = kind.train(name, &[]);
        arguments[1] = "naïve – текст.txt".into();
        let mut command = bench.command(&borrowed(&arguments));
        // With nothing else: no HOME, no PATH.
        command.env_clear().envs(variables);
        let ran = Ran::of(command.output().unwrap(), &[name]).succeeded();
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        assert_same(&whole, &outcome(&bench, name), name);
    }
}

#[test]
fn a_working_folder_that_cannot_be_written_to_is_no_obstacle_and_a_run_in_it_is_refused() {
    let kind = &KINDS[1];
    let bench = kind.bench();
    let out = Bench::new();
    let unprivileged = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout != b"0\n");
    let permit = |bench: &Bench, mode| {
        std::fs::set_permissions(bench.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    permit(&bench, 0o555);
    permit(&out, 0o777);
    let program = bench.command(&[]).get_program().to_owned();
    let run = |arguments: &[String]| {
        // Root may write everywhere, so the run belongs to `nobody`.
        let mut command = Command::new(if unprivileged { program.as_os_str() } else { "setpriv".as_ref() });
        if !unprivileged {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program);
        }
        command.args(arguments).current_dir(bench.path()).output()
    };
    let folder = out.path().join("run");
    match run(&kind.train(folder.to_str().unwrap(), &[])) {
        // The binary may be where `nobody` cannot read it.
        Ok(output) if output.status.success() || unprivileged => {
            Ran::of(output, &["train"]).succeeded();
            let refused = Ran::of(run(&kind.train("run", &[])).unwrap(), &["train"]);
            refused.refused(1, &["run", "Permission denied", "check the permissions"]);
            let mut named = kind.train("run", &[]);
            named.drain(2..4);
            Ran::of(run(&named).unwrap(), &["train"]).refused(1, &["runs", "Permission denied"]);
            assert_eq!(names(bench.path()), ["a.txt"]);
        }
        other => eprintln!("SKIPPED: the binary cannot be run as another user here ({other:?})"),
    }
    permit(&bench, 0o755);
}

#[test]
fn a_text_that_may_not_be_read_is_refused_before_anything_is_written() {
    let bench = Bench::new();
    let path = bench.text("a.txt", 100);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&path).is_ok() {
        eprintln!("SKIPPED: this user may read everything");
        return;
    }
    bench.run(&["train", "a.txt", "--out", "run"]).refused(1, &["a.txt", "Permission denied"]);
    assert_eq!(bench.entries(), ["a.txt"]);
}
