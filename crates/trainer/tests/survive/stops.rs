//! Ctrl-C at a random moment of every kind of run: what is there works as a model, goes on, and is
//! a start for other runs.

use std::time::{Duration, Instant};

use crate::common::{Bench, Ran, set};
use crate::runs::{Chance, Kind, borrowed, is_begun};
use crate::signals::{send, start, wait_for_a_checkpoint};

/// The kinds of neural runs, and the formats that hold them.
const NEURAL: [(Kind, &[&str]); 5] = [
    (Kind { name: "bigram", lines: 150, set: &["model.kind=bigram"] }, &[]),
    (Kind { name: "mlp", lines: 150, set: &["model.kind=mlp", "model.n_embd=8", "model.n_hidden=16"] }, &[]),
    (
        Kind { name: "lstm", lines: 150, set: &["model.kind=lstm", "model.n_embd=8", "model.n_hidden=12"] },
        &[],
    ),
    (
        Kind {
            name: "gpt2",
            lines: 150,
            set: &[
                "model.n_layer=1",
                "model.n_embd=16",
                "model.n_head=2",
                "model.norm=layer",
                "model.position=learned",
                "model.activation=gelu",
                "model.dropout=0.1",
            ],
        },
        &["hf", "gguf"],
    ),
    (
        Kind {
            name: "llama",
            lines: 150,
            set: &[
                "model.n_layer=1",
                "model.n_embd=16",
                "model.n_head=2",
                "model.n_kv_head=1",
                "model.norm=rms",
                "model.position=rope",
                "model.activation=swiglu",
                "model.tied=false",
                "optim.ema=0.9",
            ],
        },
        &["hf", "gguf"],
    ),
];

const ENDLESS: [&str; 3] = ["train.steps=1000000", "eval.every_steps=40", "checkpoint.every_steps=25"];

fn nats(ran: &Ran) -> f64 {
    ran.result()["eval"]["nats_per_token"].as_f64().unwrap()
}

/// Runs a command that reads the stopped run, and checks that it says so once.
#[track_caller]
fn says_once(bench: &Bench, note: &str, arguments: &[&str]) -> Ran {
    let ran = bench.run(arguments).succeeded();
    assert_eq!(ran.stderr.matches(note).count(), 1, "no «{note}», or several, in\n{}", ran.stderr);
    assert_eq!(ran.stderr.matches("not finished").count(), 1, "{}", ran.stderr);
    ran
}

#[test]
fn after_ctrl_c_every_command_works_with_the_run() {
    let mut chance = Chance(20);
    for (kind, formats) in &NEURAL {
        let bench = kind.bench();
        let child = start(&bench, &kind.train("run", &ENDLESS));
        wait_for_a_checkpoint(&bench, "run");
        std::thread::sleep(Duration::from_secs_f64(0.5 * chance.fraction()));
        send("-INT", &child);
        let ran = Ran::of(child.wait_with_output().unwrap(), &["train"]).refused(130, &["--resume"]);
        let (_, step) = ran.stderr.split_once("stopped by a signal after step ").unwrap();
        let step: u64 = step.split(';').next().unwrap().parse().unwrap();

        // The weights are the best so far: the note names their step, and the one of the stop.
        let seen = bench.run(&["inspect", "run", "--json"]).succeeded().result();
        let weights = &seen["weights"];
        assert_eq!((&seen["state"], &weights["reached"]), (&"stopped".into(), &step.into()), "{seen}");
        assert!((1..=step).contains(&weights["step"].as_u64().unwrap()), "{seen}");
        let note = weights["note"].as_str().unwrap();
        let plain = note.replace(',', "");
        assert!(plain.contains(&format!("step {} (", weights["step"])), "{note}");
        assert!(plain.contains(&format!("step {step}")), "{note}");

        let ran = says_once(&bench, note, &["eval", "run", "--json"]);
        let stopped = nats(&ran);
        if let Some(validation) = weights["validation"].as_f64() {
            assert!((stopped - validation).abs() < 1e-9, "{}: {stopped} {validation}", kind.name);
        }
        assert!((0.1..4.0).contains(&stopped), "{}: {stopped}", kind.name);
        let ran = says_once(&bench, note, &["sample", "run", "--tokens", "20", "--seed", "1"]);
        assert!(ran.stdout.trim().len() > 5, "{:?}", ran.stdout);
        let ran = says_once(&bench, note, &["explain", "run", "--text", "the cat", "--json"]);
        assert_eq!(ran.result()["tokens"].as_array().unwrap().len(), 7, "{}", ran.stdout);
        for format in ["arpa", "ngram", "hf", "gguf"] {
            let arguments = ["export", "run", "--format", format, "--out", format];
            if formats.contains(&format) {
                says_once(&bench, note, &arguments);
                assert!(bench.path().join(format).exists());
            } else {
                bench.run(&arguments).refused(2, &["hint"]);
                assert!(!bench.path().join(format).exists());
            }
        }
        says_once(&bench, note, &["report", "run"]);
        assert!(bench.path().join("run/report.html").exists());

        // A step that changes hardly anything keeps the loss of the weights it starts from.
        let hardly = [
            "train.steps=1",
            "optim.kind=adamw",
            "optim.lr=1e-12",
            "optim.min_lr=0",
            "eval.stride=8",
            "train.batch_size=4",
        ];
        let from = ["train", "a.txt", "--from", "run", "--out", "on", "--json"];
        let from = bench.run(&[&from[..], &set(&hardly)].concat()).succeeded();
        assert!((nats(&from) - stopped).abs() < 1e-4, "{}: {} {stopped}", kind.name, nats(&from));

        let more = ["train", "--resume", "--out", "run", "--json", "--set", "train.steps=+500"];
        let resumed = bench.run(&more).succeeded();
        assert_eq!(resumed.result()["steps"], step + 500, "{}", kind.name);
        // Best weights of more steps are not worse.
        assert!(nats(&resumed) <= stopped + 1e-9, "{}: {} {stopped}", kind.name, nats(&resumed));
        let first = resumed.events().into_iter().find(|event| event["event"] == "step").unwrap();
        assert!(first["step"].as_u64().unwrap() > step, "steps are made once: {first}");
        let ran = bench.run(&["eval", "run", "--json"]).succeeded();
        assert!(!ran.stderr.contains("not finished"), "{}", ran.stderr);
        assert_eq!(nats(&ran), nats(&resumed));
    }
}

/// A stop while counting leaves nothing, or what `--resume` makes whole; never a part of a model.
#[test]
fn a_counted_run_that_is_stopped_is_not_begun_or_counted_again_or_whole() {
    let kind = Kind {
        name: "ngram",
        lines: 30_000,
        set: &["model.kind=ngram", "model.order=6", "model.smoothing=kneser_ney"],
    };
    let bench = kind.bench();
    let started = Instant::now();
    let whole = bench.run(&[&borrowed(&kind.train("whole", &[]))[..], &["--json"]].concat()).succeeded();
    let (length, whole) = (started.elapsed(), nats(&whole));
    let (mut chance, mut seen) = (Chance(21), [0; 3]);
    for number in 0..6 {
        let out = format!("run{number}");
        let child = start(&bench, &kind.train(&out, &[]));
        if number == 0 {
            // However loaded the machine is, one stop comes while counting.
            let begun = Instant::now();
            while !bench.path().join(&out).join("metrics.jsonl").exists() {
                assert!(begun.elapsed() < Duration::from_secs(60), "no run in a minute");
                std::thread::sleep(Duration::from_millis(1));
            }
        } else {
            std::thread::sleep(length.mul_f64(chance.fraction()));
        }
        send("-INT", &child);
        let ran = Ran::of(child.wait_with_output().unwrap(), &["train"]);
        let has_model = bench.path().join(&out).join("model/manifest.json").exists();
        if !is_begun(&bench, &out) {
            // Before the program hears signals, SIGINT itself ends it.
            assert!(matches!(ran.code, 130 | -1), "{}: {}", ran.code, ran.stderr);
            assert!(!has_model);
            // Empty folders may be left, which the same command takes.
            bench.run(&borrowed(&kind.train(&out, &[]))).succeeded();
            seen[0] += 1;
        } else if !has_model {
            assert_eq!(ran.code, 130, "{}", ran.stderr);
            let resume = format!("surprisal train --resume --out {out}");
            for command in ["sample", "eval", "report", "inspect"] {
                bench.run(&[command, &out]).refused(1, &["not counted yet", &resume]);
            }
            let more = ["train", "--resume", "--out", &out, "--set", "train.steps=+500"];
            bench.run(&more).refused(2, &["counted at once", &resume]);
            seen[1] += 1;
        } else {
            assert!(matches!(ran.code, 0 | 130), "{}", ran.stderr);
            seen[2] += 1;
        }
        bench.run(&["train", "--resume", "--out", &out]).succeeded();
        assert_eq!(nats(&bench.run(&["eval", &out, "--json"]).succeeded()), whole, "{out}");
        let ran = bench.run(&["sample", &out, "--tokens", "20", "--seed", "1"]).succeeded();
        assert!(!ran.stdout.trim().is_empty());
        bench.run(&["explain", &out, "--text", "the cat"]).succeeded();
        bench.run(&["report", &out]).succeeded();
        assert!(bench.path().join(&out).join("report.html").exists());
        for format in ["arpa", "ngram"] {
            let file = format!("{out}.{format}");
            bench.run(&["export", &out, "--out", &file]).succeeded();
            let of = |model: &str| nats(&bench.run(&["eval", model, "a.txt", "--json"]).succeeded());
            assert!((of(&file) - of(&out)).abs() < 1e-5, "{file}");
        }
        let more = ["train", "--resume", "--out", &out, "--set", "train.steps=+500"];
        bench.run(&more).refused(2, &["counted at once", &format!("surprisal train {out}/config.toml")]);
        let from = ["train", "a.txt", "--from", &out, "--out", "on"];
        bench.run(&from).refused(2, &["counts, not weights"]);
        std::fs::remove_dir_all(bench.path().join(&out)).unwrap();
    }
    assert!(seen[1] > 0, "{seen:?}");
    eprintln!("stopped {} times before the run, {} while counting, {} at the end", seen[0], seen[1], seen[2]);
}
