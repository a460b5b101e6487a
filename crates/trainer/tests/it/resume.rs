//! Resuming needs a run, and takes changes of settings and texts. That unchanged runs end in the
//! same bits is tested in survive/.

use crate::common::{Bench, Ran, sentences, set};
use serde_json::Value;

const TINY: [&str; 9] = [
    "model.kind=mlp",
    "model.n_embd=8",
    "model.n_hidden=16",
    "train.block_size=16",
    "train.batch_size=4",
    "train.shards=2",
    "train.steps=20",
    "eval.every_steps=10",
    "sample.tokens=5",
];

fn train(bench: &Bench, out: &str, more: &[&str]) -> Ran {
    bench.text("a.txt", 150);
    bench.run(&[&["train", "a.txt", "--json", "--out", out], &set(&TINY)[..], &set(more)].concat())
}

fn resume(bench: &Bench, out: &str, more: &[&str]) -> Ran {
    bench.run(&[&["train", "--resume", "--json", "--out", out], more].concat())
}

fn history(bench: &Bench, out: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(bench.path().join(out).join("changes.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn config(bench: &Bench, out: &str) -> String {
    std::fs::read_to_string(bench.path().join(out).join("config.toml")).unwrap()
}

/// Leaves the run as if it was killed after this checkpoint.
fn cut(bench: &Bench, out: &str, step: usize) {
    let root = bench.path().join(out);
    std::fs::remove_dir_all(root.join("model")).unwrap();
    for entry in std::fs::read_dir(root.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap() > format!("step_{step:08}").as_str() {
            std::fs::remove_dir_all(path).unwrap();
        }
    }
}

#[test]
fn resuming_needs_a_run_of_its_own_config() {
    let bench = Bench::new();
    bench.run(&["train", "--resume"]).refused(2, &["--out", "hint"]);
    bench.run(&["train", "--resume", "--out", "gone"]).refused(1, &["gone"]);
    bench.run(&["train", "--resume", "--out", "gone", "--set", "train.steps=3"]).refused(1, &["gone"]);
    bench.run(&["train", "a.toml", "--resume", "--out", "gone"]).refused(2, &["a.toml", "--set"]);
}

#[test]
fn a_finished_run_takes_more_steps_and_says_what_changed() {
    for (kind, more) in [
        ("mlp", &[][..]),
        ("lstm", &["model.kind=lstm", "model.n_hidden=8"][..]),
        ("gru", &["model.kind=gru", "model.n_hidden=8"][..]),
        (
            "transformer",
            &["model.kind=transformer", "model.n_layer=1", "model.n_head=2", "optim.ema=0.9"][..],
        ),
    ] {
        let bench = Bench::new();
        bench.text("a.txt", 150);
        let small: Vec<&str> = TINY
            .iter()
            .copied()
            .filter(|it| more.is_empty() || !(it.contains("kind") || it.contains("n_hidden")))
            .collect();
        let arguments = [&["train", "a.txt", "--json", "--out", "run"], &set(&small)[..], &set(more)];
        assert_eq!(bench.run(&arguments.concat()).succeeded().result()["steps"], 20);
        let ran = resume(&bench, "run", &set(&["train.steps=+15", "optim.lr=2e-3"])).succeeded();
        assert_eq!(ran.result()["steps"], 35, "{kind}");
        for part in ["after 20 steps: train.steps: 20 → 35", "optim.lr: 0.012 → 0.002", "unchanged settings"]
        {
            assert!(ran.stderr.contains(part), "no «{part}» in {}", ran.stderr);
        }
        let changed = ran.events().into_iter().find(|event| event["event"] == "changed").unwrap();
        let history = history(&bench, "run");
        assert_eq!((history.len(), &history[0]["step"]), (1, &20.into()));
        assert_eq!(history[0]["changes"], changed["changes"]);
        assert!(config(&bench, "run").contains("steps = 35"), "{kind}");
        // It is finished again, with all its evaluations.
        let evaluated = |run: &str| {
            let text = std::fs::read_to_string(bench.path().join(run).join("metrics.jsonl")).unwrap();
            text.lines().filter(|line| line.contains("\"event\":\"epoch\"")).count()
        };
        assert_eq!(evaluated("run"), 4, "{kind}");
        bench.run(&["eval", "run"]).succeeded();
        bench.run(&["report", "run"]).succeeded();
        let again = resume(&bench, "run", &[]).succeeded();
        assert!(again.stderr.contains("this run is finished (35 steps)"), "{}", again.stderr);
        assert!(again.stderr.contains("--resume --out run --set train.steps=+N"), "{}", again.stderr);
        resume(&bench, "run", &set(&["train.steps=+5"])).succeeded();
    }
}

#[test]
fn settings_that_repeat_the_run_s_own_change_nothing() {
    let bench = Bench::new();
    let more = ["checkpoint.every_steps=5", "checkpoint.keep=9"];
    let whole = train(&bench, "whole", &more).succeeded().result();
    train(&bench, "run", &more).succeeded();
    cut(&bench, "run", 15);
    let before = config(&bench, "run");
    let ran = resume(&bench, "run", &set(&["train.steps=20", "optim.lr=12e-3"])).succeeded();
    assert_eq!(ran.result()["eval"], whole["eval"]);
    assert_eq!(config(&bench, "run"), before);
    assert!(!bench.path().join("run/changes.jsonl").exists());
}

/// A changed run that is killed goes on with the changes, from the checkpoint before them too.
#[test]
fn changes_hold_when_the_run_is_resumed_again() {
    let bench = Bench::new();
    train(&bench, "run", &["checkpoint.every_steps=5", "checkpoint.keep=9"]).succeeded();
    cut(&bench, "run", 10);
    let more = set(&["train.steps=30", "optim.weight_decay=0", "eval.stride=4", "eval.every_steps=3"]);
    let whole = resume(&bench, "run", &more).succeeded().result();
    assert_eq!(whole["steps"], 30);
    let events = std::fs::read_to_string(bench.path().join("run/metrics.jsonl")).unwrap();
    for step in [25, 10] {
        cut(&bench, "run", step);
        assert_eq!(resume(&bench, "run", &[]).succeeded().result()["eval"], whole["eval"], "from {step}");
        let again = std::fs::read_to_string(bench.path().join("run/metrics.jsonl")).unwrap();
        let of = |text: &str| {
            text.lines().filter(|it| it.contains("\"changed\"")).map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(of(&again), of(&events), "from {step}");
    }
}

/// A crash at any file operation of the start leaves a run that can be resumed, changed or not.
#[test]
fn a_crash_while_changes_are_recorded_does_no_harm() {
    let bench = Bench::new();
    train(&bench, "whole", &[]).succeeded();
    let changes = set(&["train.steps=25", "optim.lr=5e-4"]);
    let arguments = [&["train", "--resume", "--json", "--out", "whole"], &changes[..]].concat();
    let copy = |to: &str| {
        let copied =
            std::process::Command::new("cp").current_dir(bench.path()).args(["-r", "whole", to]).status();
        assert!(copied.unwrap().success());
    };
    copy("done");
    let expected = resume(&bench, "done", &changes).succeeded().result()["eval"].clone();
    for at in 1..14 {
        let out = format!("cut{at}");
        copy(&out);
        let mut arguments = arguments.clone();
        arguments[4] = &out;
        let mut killed = bench.command(&arguments);
        killed.env("SURPRISAL_FAULT", format!("crash:{at}"));
        assert!(!killed.output().unwrap().status.success(), "at {at}");
        resume(&bench, &out, &[]).succeeded();
        let result = resume(&bench, &out, &changes).succeeded().result();
        assert_eq!((&result["steps"], &result["eval"]), (&25.into(), &expected), "at {at}");
    }
}

#[test]
fn what_a_run_keeps_is_refused_with_the_way_out() {
    let bench = Bench::new();
    train(&bench, "run", &[]).succeeded();
    let before = std::fs::read(bench.path().join("run/metrics.jsonl")).unwrap();
    for (change, parts) in [
        ("model.n_hidden=8", &["model.n_hidden=8", "architecture", "--from run"][..]),
        ("model.kind=gru", &["architecture", "--from run"]),
        ("tokenizer.kind=byte", &["its weights are of those tokens", "--from run"]),
        ("train.seed=2", &["it orders the batches"]),
        ("train.block_size=8", &["cut into windows"]),
        ("data.val_fraction=0.2", &["split its texts"]),
        ("optim.kind=sgd", &["optimizer's state"]),
        ("train.steps=20", &["this run is finished"]),
        ("train.steps=10", &["has made 20 steps", "--set train.steps=+500"]),
        ("optim.lr=1e-4", &["has made 20 steps", "--set train.steps=+500"]),
        ("train.stepps=10", &["stepps", "hint"]),
    ] {
        let code = if change == "train.steps=20" { 0 } else { 2 };
        resume(&bench, "run", &["--set", change]).refused(code, parts);
        assert_eq!(std::fs::read(bench.path().join("run/metrics.jsonl")).unwrap(), before, "{change}");
        assert!(bench.path().join("run/model/manifest.json").exists(), "{change}");
    }
    resume(&bench, "run", &["--field", "x"]).refused(2, &["data.field"]);
    resume(&bench, "run", &["--budget", "0.001s"]).refused(2, &["has made 20 steps"]);
    assert!(resume(&bench, "run", &["--budget", "1s"]).succeeded().result()["steps"].as_u64().unwrap() > 20);
}

#[test]
fn a_counted_run_has_nothing_to_go_on_with() {
    let bench = Bench::new();
    bench.text("a.txt", 100);
    bench.run(&["train", "a.txt", "--out", "run", "--set", "model.kind=ngram"]).succeeded();
    resume(&bench, "run", &["--budget", "3s"]).refused(2, &["counted, not trained"]);
    for change in [&["--set", "train.steps=+500"][..], &["a.txt"]] {
        resume(&bench, "run", change).refused(2, &["counted at once", "surprisal train run/config.toml"]);
    }
}

#[test]
fn a_run_without_checkpoints_says_so() {
    let bench = Bench::new();
    train(&bench, "run", &["checkpoint.every_minutes=0"]).succeeded();
    resume(&bench, "run", &set(&["train.steps=+9"])).refused(2, &["kept no checkpoint", "--from run"]);
}

#[test]
fn a_text_that_has_grown_is_learned_when_it_is_named() {
    for (kind, more) in
        [("mlp", &[][..]), ("word", &["tokenizer.kind=word"][..]), ("lines", &["data.unit=line"][..])]
    {
        let bench = Bench::new();
        train(&bench, "run", &[more, &["checkpoint.every_steps=5", "checkpoint.keep=9"]].concat())
            .succeeded();
        cut(&bench, "run", 15);
        bench.text("a.txt", 240);
        let ran = resume(&bench, "run", &[]);
        ran.refused(1, &["the texts have changed", "surprisal train TEXT --resume"]);
        let ran = resume(&bench, "run", &["a.txt", "--set", "train.steps=25"]).succeeded();
        assert!(ran.stderr.contains("after 15 steps: train: "), "{kind}: {}", ran.stderr);
        assert!(ran.stderr.contains("val: "), "{kind}: {}", ran.stderr);
        let result = ran.result();
        assert_eq!(result["steps"], 25);
        // The texts of the run are those that it went on with.
        let eval = bench.run(&["eval", "run", "--json"]).succeeded().result();
        assert_eq!(eval["eval"], result["eval"], "{kind}");
        resume(&bench, "run", &set(&["train.steps=+5"])).succeeded();
    }
    // What the model does not know is not learned.
    let bench = Bench::new();
    train(&bench, "run", &[]).succeeded();
    bench.file("a.txt", sentences(150) + &"δ".repeat(3000));
    let ran = resume(&bench, "run", &["a.txt", "--set", "train.steps=25"]);
    ran.refused(2, &["unknown to the run's model (1 different character", "--extend-vocab"]);
    let more = set(&["train.steps=25", "model.max_unknown=1"]);
    resume(&bench, "run", &[&["a.txt"], &more[..]].concat()).succeeded();
}

#[test]
fn a_diverged_run_goes_on_with_a_lower_rate() {
    let bench = Bench::new();
    let away = [
        "optim.lr=1e9",
        "optim.min_lr=1e9",
        "optim.warmup=0",
        "optim.grad_clip=0",
        "checkpoint.every_steps=1",
    ];
    let ran = train(&bench, "run", &away).refused(3, &["--resume --out run --set optim.lr=1.0e8"]);
    assert!(ran.stderr.contains("the checkpoint of step"), "{}", ran.stderr);
    let ran = resume(&bench, "run", &set(&["optim.lr=1e-3", "optim.grad_clip=1"]));
    // The weights of the step before may be beyond help; then an earlier start is.
    assert!(ran.code == 0 || ran.code == 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("optim.lr: 1000000000.0 → 0.001"), "{}", ran.stderr);
    assert!(config(&bench, "run").contains("lr = 0.001"));
    assert_eq!(bench.path().join("run/diverged.json").exists(), ran.code == 3);
}
