//! Several processes, started by `mpirun`, give the same bits as one alone.
//!
//! Needs the feature `mpi`: `cargo test -p surprisal --features mpi --test ranks`. Where there is
//! no `mpirun`, the tests say so and are skipped.

#![cfg(all(unix, feature = "mpi"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails where something is wrong"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, Ran, set, skipped};

/// The time that a job may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The command that starts `ranks` processes; `None` after printing that the test is skipped.
fn mpirun(bench: &Bench, ranks: usize, arguments: &[&str]) -> Option<Command> {
    if Command::new("mpirun").arg("--version").output().is_err() {
        skipped("mpirun is not installed");
        return None;
    }
    let own = bench.command(arguments);
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "-n", &ranks.to_string()]);
    command.arg(own.get_program()).args(own.get_args()).current_dir(bench.path());
    command.envs(own.get_envs().filter_map(|(key, value)| Some((key, value?))));
    Some(command)
}

/// Starts a job whose output is read by [`finish`].
fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the end of a job, which must not hang.
fn finish(mut job: Child, arguments: &[&str]) -> Ran {
    let started = Instant::now();
    while job.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            job.kill().unwrap();
            panic!("the job hangs: {arguments:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ran::of(job.wait_with_output().unwrap(), arguments)
}

/// Runs a job of `ranks` processes; false if it is skipped.
fn run(bench: &Bench, ranks: usize, arguments: &[&str]) -> bool {
    let Some(command) = mpirun(bench, ranks, arguments) else { return false };
    finish(start(command), arguments).succeeded();
    true
}

/// The bytes of all files in a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|it| (it.file_name().into_string().unwrap(), std::fs::read(it.path()).unwrap())).collect()
}

const TRANSFORMER: [&str; 4] =
    ["model.kind=transformer", "model.n_layer=2", "model.n_embd=16", "model.n_head=2"];

/// Arguments of `train` with settings for short runs.
fn train<'a>(settings: &[&'a str], out: &'a str) -> Vec<&'a str> {
    let short = ["train.batch_size=8", "train.block_size=16", "train.shards=4", "train.threads=1"];
    let every = ["eval.every_steps=10", "checkpoint.every_steps=5", "sample.tokens=0"];
    [&["train", "a.txt", "--out", out][..], &set(&short), &set(&every), &set(settings)].concat()
}

#[test]
fn training_gives_the_same_bits_on_1_2_and_4_ranks() {
    let lstm = ["model.kind=lstm", "model.n_embd=8", "model.n_hidden=16", "train.steps=20"];
    let kinds = [
        ("transformer", [&TRANSFORMER[..], &["train.steps=20", "model.dropout=0.1"]].concat()),
        ("lstm", lstm.to_vec()),
        ("muon", [&TRANSFORMER[..], &["train.steps=20", "optim.kind=muon", "train.precision=bf16"]].concat()),
    ];
    let bench = Bench::new();
    bench.text("a.txt", 400);
    for (name, settings) in &kinds {
        let model = |out: &str| files(&bench.path().join(out).join("model"));
        bench.run(&train(settings, name)).succeeded();
        for ranks in [1, 2, 4] {
            let out = format!("{name}-{ranks}");
            if !run(&bench, ranks, &train(settings, &out)) {
                return;
            }
            assert!(model(&out) == model(name), "{name} on {ranks} ranks");
        }
    }
}

/// The process of a rank of this job.
fn process(job: &Child, rank: usize) -> String {
    let variable = format!("OMPI_COMM_WORLD_RANK={rank}\0");
    let parent = format!("PPid:\t{}\n", job.id());
    let found = std::fs::read_dir("/proc").unwrap().map(Result::unwrap).find(|process| {
        let read = |name: &str| std::fs::read(process.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&read("status")).contains(&parent)
            && String::from_utf8_lossy(&read("environ")).contains(&variable)
    });
    found.unwrap().file_name().into_string().unwrap()
}

/// Starts a run that takes long, and waits for its first checkpoint.
fn begun(bench: &Bench, ranks: usize, arguments: &[&str], out: &str) -> Option<Child> {
    let mut job = start(mpirun(bench, ranks, arguments)?);
    let checkpoints = bench.path().join(out).join("checkpoints");
    let started = Instant::now();
    while !std::fs::read_dir(&checkpoints).is_ok_and(|mut entries| entries.next().is_some()) {
        assert!(job.try_wait().unwrap().is_none() && started.elapsed() < PATIENCE, "there is no checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(job)
}

fn signal(name: &str, process: &str) {
    assert!(Command::new("kill").args([name, process]).status().unwrap().success());
}

#[test]
fn a_rank_that_dies_ends_the_job_and_another_number_of_ranks_goes_on() {
    let bench = Bench::new();
    bench.text("a.txt", 400);
    let settings = [&TRANSFORMER[..], &["train.steps=400"]].concat();
    bench.run(&train(&settings, "whole")).succeeded();
    for (killed, then) in [(1, 2), (0, 1)] {
        let out = format!("killed-{killed}");
        let arguments = train(&settings, &out);
        let Some(job) = begun(&bench, 4, &arguments, &out) else { return };
        signal("-KILL", &process(&job, killed));
        let ran = finish(job, &arguments);
        assert_ne!(ran.code, 0);
        assert!(ran.stderr.contains("exited on signal 9"), "{}", ran.stderr);
        assert!(!bench.path().join(&out).join("model/model.safetensors").exists(), "it was done before");
        run(&bench, then, &["train", "--resume", "--out", &out]);
        let model = |out: &str| files(&bench.path().join(out).join("model"));
        assert!(model(&out) == model("whole"), "after rank {killed} was killed");
    }
}

#[test]
fn a_signal_to_any_rank_stops_all_after_a_checkpoint() {
    let bench = Bench::new();
    bench.text("a.txt", 400);
    let settings = [&TRANSFORMER[..], &["train.steps=400"]].concat();
    bench.run(&train(&settings, "whole")).succeeded();
    for (asked, code, ranks) in [(0, 143, 2), (3, 128, 1)] {
        let out = format!("stopped-{asked}");
        let arguments = train(&settings, &out);
        let Some(job) = begun(&bench, 4, &arguments, &out) else { return };
        signal("-TERM", &process(&job, asked));
        finish(job, &arguments).refused(code, &["stopped", "the checkpoint is saved"]);
        run(&bench, ranks, &["train", "--resume", "--out", &out]);
        let model = |out: &str| files(&bench.path().join(out).join("model"));
        assert!(model(&out) == model("whole"), "after a signal to rank {asked}");
    }
}

#[test]
fn errors_are_said_once_and_end_the_job() {
    let bench = Bench::new();
    bench.text("a.txt", 400);
    let arguments = train(&["train.shards=2"], "run");
    let Some(command) = mpirun(&bench, 4, &arguments) else { return };
    let ran = finish(start(command), &arguments).refused(2, &["4 ranks share 2 shards", "train.shards"]);
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
    assert!(!bench.path().join("run").exists());
    let arguments = train(&[&TRANSFORMER[..], &["optim.lr=1e9", "optim.grad_clip=0"]].concat(), "wild");
    let Some(command) = mpirun(&bench, 4, &arguments) else { return };
    finish(start(command), &arguments).refused(3, &["training diverged"]);
}

/// Removes keys at every depth.
fn forget(value: &mut serde_json::Value, keys: &[&str]) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|key, _| !keys.contains(&key.as_str()));
            map.values_mut().for_each(|value| forget(value, keys));
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| forget(value, keys)),
        _ => {}
    }
}

#[test]
fn the_trials_of_a_comparison_are_the_same_on_any_number_of_ranks() {
    let bench = Bench::new();
    bench.text("a.txt", 200);
    bench.file(
        "grid.toml",
        "[data]\ntrain = [\"a.txt\"]\n[compare]\nseeds = [1, 2]\n[train]\nsteps = 8\nshards = 2\nthreads = 1\n[sample]\n\
         tokens = 0\n[[variant]]\nname = \"mlp\"\nmodel = { kind = \"mlp\", context = 2, n_embd = 4, n_hidden = 8 }\n\
         [[variant]]\nname = \"words\"\nmodel = { kind = \"ngram\", order = 3 }\ntokenizer = { kind = \"word\" }\n\
         [[variant]]\nname = \"table\"\nmodel = { kind = \"bigram\" }\n",
    );
    let cells = ["mlp/seed-1", "mlp/seed-2", "words", "table/seed-1", "table/seed-2"];
    bench.run(&["compare", "grid.toml", "--out", "alone"]).succeeded();
    let numbers = |out: &str| {
        let text = std::fs::read_to_string(bench.path().join(out).join("comparison.json")).unwrap();
        let mut found: serde_json::Value = serde_json::from_str(&text).unwrap();
        forget(&mut found, &["run", "wall_seconds", "train_seconds", "tokens_per_second"]);
        found
    };
    for ranks in [2, 4] {
        let out = format!("ranks-{ranks}");
        if !run(&bench, ranks, &["compare", "grid.toml", "--out", &out]) {
            return;
        }
        for cell in cells {
            let model = |out: &str| files(&bench.path().join(out).join("cells").join(cell).join("model"));
            assert!(model(&out) == model("alone"), "{cell} on {ranks} ranks");
        }
        assert_eq!(numbers(&out), numbers("alone"));
        // All trials are finished: the same command only compares.
        assert!(run(&bench, ranks, &["compare", "grid.toml", "--out", &out]));
    }
    let bad = std::fs::read_to_string(bench.path().join("grid.toml")).unwrap()
        + "optim = { lr = 1e9, grad_clip = 0 }\n";
    bench.file("bad.toml", bad);
    assert!(run(&bench, 4, &["compare", "bad.toml", "--out", "diverged"]), "a divergence is a result");
}

#[test]
fn counting_gives_the_same_bytes_on_1_2_and_4_ranks() {
    let bench = Bench::new();
    // Rare words at the end, and lines that several parts have.
    let text =
        common::sentences(600) + &(0..300).map(|n| format!("w{n} the w{}\n", n / 2)).collect::<String>();
    bench.file("a.txt", &text);
    let mut state = 1_u32;
    let mut word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Zipf's law, roughly.
        format!("w{}", 1_000 / (1 + (state >> 16) % 1_000))
    };
    let long = (0..60_000).map(|n| word() + if n % 9 == 8 { "\n" } else { " " }).collect::<String>();
    bench.file("long.txt", long);
    bench.file("few.txt", "one line\n\nand another");
    let cases: [(&str, &[&str]); 6] = [
        ("words", &["a.txt", "--order", "3"]),
        ("characters", &["a.txt", "--order", "4", "--tokenizer", "char", "--unit", "line"]),
        ("frequent", &["a.txt", "--order", "3", "--min-count", "2"]),
        ("bounded", &["long.txt", "--order", "3", "--memory", "1M"]),
        ("few", &["few.txt", "--order", "2", "--smoothing", "add_k"]),
        ("stream", &["a.txt", "--order", "3", "--unit", "stream"]),
    ];
    for (name, arguments) in cases {
        let files: &[&str] =
            if name == "few" { &["counts", "ngram"] } else { &["counts", "arpa", "ngram", "tsv"] };
        let count = |out: &str| {
            let mut command = vec!["count".to_owned()];
            command.extend(arguments.iter().map(|&it| it.to_owned()));
            for file in files {
                command.extend(["--out".to_owned(), format!("{out}.{file}")]);
            }
            command
        };
        let own = count(name);
        let alone = bench.run(&own.iter().map(String::as_str).collect::<Vec<_>>()).succeeded();
        assert_eq!(alone.stderr.contains("of disk in"), name == "bounded", "{name}: {}", alone.stderr);
        for ranks in [1, 2, 4] {
            let out = format!("{name}-{ranks}");
            let command = count(&out);
            if !run(&bench, ranks, &command.iter().map(String::as_str).collect::<Vec<_>>()) {
                return;
            }
            for file in files {
                let read = |out: &str| std::fs::read(bench.path().join(format!("{out}.{file}"))).unwrap();
                assert!(read(&out) == read(name), "{name}.{file} on {ranks} ranks");
            }
        }
    }
    // The part of the last rank is no text.
    bench.file("bad.txt", [text.as_bytes(), b"\xff\xfe\xfd\n"].concat());
    let arguments = ["count", "bad.txt", "--order", "2", "--out", "bad.counts"];
    let Some(command) = mpirun(&bench, 4, &arguments) else { return };
    let ran = finish(start(command), &arguments).refused(1, &["rank 3", "bad.txt", "not valid UTF-8"]);
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
    let left = bench.entries().into_iter().filter(|name| name.contains("surprisal-") || name == "bad.counts");
    assert_eq!(left.collect::<Vec<_>>(), [""; 0]);
}
