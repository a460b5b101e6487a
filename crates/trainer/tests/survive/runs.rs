//! Short runs of every kind of model, and their files.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::common::{Bench, Ran};

/// A kind of run, small enough for a hundred repetitions.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Lines of text.
    pub(crate) lines: usize,
    pub(crate) set: &'static [&'static str],
}

/// N-gram, MLP, old and modern transformers, LSTM: with dropout, gradient accumulation, and
/// evaluations between checkpoints.
pub(crate) const KINDS: [Kind; 5] = [
    Kind {
        name: "counted",
        lines: 3000,
        set: &["model.kind=ngram", "model.order=4", "model.smoothing=add_k"],
    },
    Kind {
        name: "mlp",
        lines: 150,
        set: &[
            "model.kind=mlp",
            "model.n_embd=8",
            "model.n_hidden=16",
            "model.context=4",
            "train.steps=60",
            "train.grad_accumulation=2",
        ],
    },
    Kind {
        name: "transformer",
        lines: 150,
        set: &[
            "model.n_layer=1",
            "model.n_embd=16",
            "model.n_head=2",
            "model.dropout=0.1",
            "train.steps=60",
            "optim.skip_spikes=1.05",
        ],
    },
    Kind {
        name: "modern",
        lines: 150,
        set: &[
            "model.n_layer=1",
            "model.n_embd=16",
            "model.n_head=2",
            "model.n_kv_head=1",
            "model.norm=rms",
            "model.position=rope",
            "model.qk_norm=true",
            "model.activation=relu2",
            "model.zero_init=true",
            "model.softcap=15",
            "model.bigram_rows=40",
            "model.tied=false",
            "optim.kind=muon",
            "optim.ema=0.9",
            "optim.schedule=wsd",
            "optim.warmup=5",
            "train.precision=bf16",
            "train.batch_start=2",
            "train.block_start=4",
            "train.ramp_steps=30",
            "train.steps=60",
        ],
    },
    Kind {
        name: "recurrent",
        lines: 150,
        set: &[
            "model.kind=lstm",
            "model.n_embd=8",
            "model.n_hidden=12",
            "model.dropout=0.1",
            "train.steps=60",
            "train.grad_accumulation=2",
        ],
    },
];

const COMMON: &[&str] = &[
    "train.batch_size=4",
    "train.block_size=16",
    "train.shards=2",
    "eval.stride=8",
    "eval.every_steps=20",
    "checkpoint.every_steps=7",
    "sample.tokens=30",
];

impl Kind {
    /// A bench with the text of the run.
    pub(crate) fn bench(&self) -> Bench {
        let bench = Bench::new();
        bench.text("a.txt", self.lines);
        bench
    }

    /// The arguments of the run, with `more` settings.
    pub(crate) fn train(&self, out: &str, more: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = ["train", "a.txt", "--out", out, "--quiet"].map(String::from).into();
        let settings = self.set.iter().chain(COMMON).chain(more);
        arguments.extend(settings.flat_map(|set| ["--set".to_owned(), (*set).to_owned()]));
        arguments
    }
}

/// `&str`s of an owned command line.
pub(crate) fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// The results of a run: its events without times, and the bytes of its model and of the tensors in
/// its newest checkpoint.
#[derive(PartialEq)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Value>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

pub(crate) fn outcome(bench: &Bench, out: &str) -> Outcome {
    let root = bench.path().join(out);
    let text = std::fs::read_to_string(root.join("metrics.jsonl")).unwrap();
    let mut events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &mut events {
        for clock in ["memory_bytes", "train_seconds", "wall_seconds", "tokens_per_second", "run"] {
            event.as_object_mut().unwrap().remove(clock);
        }
    }
    assert_eq!(events.last().unwrap()["event"], "result", "{out} has not finished");
    let mut files = BTreeMap::new();
    collect(&root.join("model"), "model", &mut files);
    let newest = names(&root.join("checkpoints")).pop();
    if let Some(newest) = newest {
        collect(&root.join("checkpoints").join(&newest), &newest, &mut files);
        // These files contain the training time.
        files.retain(|name, _| !name.starts_with(&newest) || name.ends_with(".safetensors"));
    }
    Outcome { events, files }
}

fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for name in names(folder) {
        files.insert(format!("{prefix}/{name}"), std::fs::read(folder.join(&name)).unwrap());
    }
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[track_caller]
pub(crate) fn assert_same(whole: &Outcome, other: &Outcome, when: &str) {
    for (i, (a, b)) in whole.events.iter().zip(&other.events).enumerate() {
        assert_eq!(a, b, "event {i} differs {when}");
    }
    assert_eq!(whole.events.len(), other.events.len(), "another number of events {when}");
    let names = |outcome: &Outcome| outcome.files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(whole), names(other), "other files {when}");
    for (name, bytes) in &whole.files {
        assert!(other.files[name] == *bytes, "{name} differs {when}");
    }
}

/// Whether the run in `out` can be resumed: it has a config.
pub(crate) fn is_begun(bench: &Bench, out: &str) -> bool {
    bench.path().join(out).join("config.toml").exists()
}

/// Whether the run in `out` is finished.
pub(crate) fn is_finished(bench: &Bench, out: &str) -> bool {
    std::fs::read_to_string(bench.path().join(out).join("metrics.jsonl")).is_ok_and(|text| {
        text.ends_with('\n') && text.lines().last().is_some_and(|line| line.contains("\"result\""))
    })
}

/// The command that resumes `out`, or starts it if it does not exist.
pub(crate) fn go_on(kind: &Kind, bench: &Bench, out: &str) -> Vec<String> {
    if is_begun(bench, out) {
        ["train", "--resume", "--out", out, "--quiet"].map(String::from).into()
    } else {
        kind.train(out, &[])
    }
}

/// Finishes `out` with another number of threads.
pub(crate) fn finish(kind: &Kind, bench: &Bench, out: &str, threads: usize) -> Ran {
    set_threads(bench, out, threads);
    bench.run(&borrowed(&go_on(kind, bench, out))).succeeded()
}

/// Changes the number of threads in the config of the run in `out`.
pub(crate) fn set_threads(bench: &Bench, out: &str, threads: usize) {
    let path = bench.path().join(out).join("config.toml");
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    let changed: String = text
        .lines()
        .map(|line| {
            if line.starts_with("threads = ") {
                format!("threads = {threads}\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    assert!(changed.contains(&format!("threads = {threads}\n")), "{text}");
    std::fs::write(path, changed).unwrap();
}

/// A random generator of test positions: Knuth's linear congruential one (MMIX).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    /// A number from 0 to 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20)
    }
}
