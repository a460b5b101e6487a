//! The same seed gives the same bits, whatever the number of threads.

use crate::common::Bench;
use serde_json::Value;

/// The run's events without times, and its weights.
fn fingerprint(bench: &Bench, out: &str, arguments: &[&str]) -> (Vec<Value>, Vec<u8>) {
    let mut all = vec!["train", "a.txt", "--out", out, "--json", "--set", "train.shards=2"];
    all.extend(arguments);
    let mut events = bench.run(&all).succeeded().events();
    for event in &mut events {
        let event = event.as_object_mut().unwrap();
        for clock in ["memory_bytes", "train_seconds", "wall_seconds", "tokens_per_second", "run", "threads"]
        {
            event.remove(clock);
        }
    }
    let weights = std::fs::read(bench.path().join(out).join("model/model.safetensors")).unwrap();
    (events, weights)
}

#[test]
fn runs_do_not_depend_on_threads_or_on_chance() {
    let transformer = [
        "--set",
        "model.n_layer=2",
        "--set",
        "model.n_embd=32",
        "--set",
        "model.n_head=2",
        "--set",
        "model.dropout=0.1",
        "--set",
        "train.steps=12",
        "--set",
        "train.batch_size=5",
        "--set",
        "train.block_size=24",
        "--set",
        "eval.stride=12",
        "--set",
        "eval.every_steps=5",
    ];
    let bench = Bench::new();
    bench.text("a.txt", 200);
    let mut seen = Vec::new();
    for (out, threads) in [("one", "1"), ("two", "2"), ("again", "2"), ("three", "3")] {
        let set = format!("train.threads={threads}");
        let mut arguments = transformer.to_vec();
        arguments.extend(["--set", &set]);
        seen.push(fingerprint(&bench, out, &arguments));
    }
    for other in &seen[1..] {
        assert_eq!(seen[0].0, other.0, "metrics differ");
        assert!(seen[0].1 == other.1, "weights differ");
    }
    // Another seed gives another run.
    let mut arguments = transformer.to_vec();
    arguments.extend(["--set", "train.seed=7"]);
    assert!(fingerprint(&bench, "other", &arguments).1 != seen[0].1);
}

#[test]
fn an_mlp_and_a_bigram_table_are_repeatable_too() {
    for kind in ["bigram", "mlp"] {
        let bench = Bench::new();
        bench.text("a.txt", 200);
        let config = format!("[model]\nkind = \"{kind}\"\n[train]\nsteps = 10\nblock_size = 20\n");
        bench.file("c.toml", config);
        let mut seen = Vec::new();
        for (out, threads) in [("one", "1"), ("two", "2")] {
            let set = format!("train.threads={threads}");
            let arguments = [
                "train",
                "c.toml",
                "a.txt",
                "--out",
                out,
                "--json",
                "--set",
                "train.shards=2",
                "--set",
                &set,
            ];
            bench.run(&arguments).succeeded();
            seen.push(std::fs::read(bench.path().join(out).join("model/model.safetensors")).unwrap());
        }
        assert!(seen[0] == seen[1], "{kind}: weights differ");
    }
}
