//! Runs whose model is a mixture of a network and an n-gram model.

use crate::common::{Bench, sentences};
use serde_json::Value;

const CONFIG: &str = r#"
[data]
train = ["a.txt"]
[model]
kind = "transformer"
n_layer = 1
n_head = 2
n_embd = 16
[mixture]
order = 4
[optim]
warmup = 5
[train]
steps = 60
batch_size = 8
block_size = 32
"#;

fn bench() -> Bench {
    let bench = Bench::new();
    bench.file("a.txt", sentences(900));
    bench.text("b.txt", 40);
    bench.file("both.toml", CONFIG);
    bench
}

/// The events of a kind in the log of a run.
fn events(bench: &Bench, run: &str, kind: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(bench.path().join(run).join("metrics.jsonl")).unwrap();
    let all = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["event"] == kind).collect()
}

fn nats(eval: &Value) -> f64 {
    eval["nats_per_token"].as_f64().unwrap()
}

fn model_files(bench: &Bench, run: &str) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(bench.path().join(run).join("model")).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}

#[test]
fn a_run_of_both_halves_is_one_model() {
    let bench = bench();
    bench.run(&["train", "both.toml", "--out", "run"]).succeeded();
    let mixed = &events(&bench, "run", "mixture")[0];
    let [network, counted, both] = ["network", "counted", "eval"].map(|part| nats(&mixed[part]));
    assert!(both < network.min(counted) + 0.02, "{both} of {network} and {counted}");
    let result = &events(&bench, "run", "result")[0];
    assert_eq!(nats(&result["eval"]), both);
    // Held out is a part of the training text, and nothing of the validation text.
    let start = &events(&bench, "run", "start")[0];
    let train_tokens = start["train_tokens"].as_f64().unwrap();
    assert_eq!(mixed["heldout_tokens"].as_f64().unwrap(), (train_tokens * 0.02).ceil());
    for use_of in [
        &["eval", "run", "--json"][..],
        &["eval", "run", "b.txt", "--adapt"],
        &["sample", "run", "--tokens", "30"],
        &["score", "run", "b.txt"],
        &["explain", "run", "--text", "the cat"],
        &["inspect", "run"],
        &["report", "run"],
        &["compress", "run", "b.txt", "--out", "b.sup"],
        &["decompress", "run", "b.sup", "--out", "back.txt"],
        &["train", "b.txt", "--from", "run", "--out", "next", "--set", "train.steps=2"],
    ] {
        bench.run(use_of).succeeded();
    }
    let report = std::fs::read_to_string(bench.path().join("run/report.html")).unwrap();
    for told in ["mixture", "4-gram", "The curves are the network's"] {
        assert!(report.contains(told), "{told}");
    }
    let evaluated = bench.run(&["eval", "run", "--json"]).succeeded().result();
    assert_eq!(nats(&evaluated["eval"]), both);
    let read = |name: &str| std::fs::read(bench.path().join(name)).unwrap();
    assert_eq!(read("back.txt"), read("b.txt"));
    // The folder of the model is a model, too.
    let alone = bench.run(&["eval", "run/model", "b.txt", "--json"]).succeeded().result();
    let of_run = bench.run(&["eval", "run", "b.txt", "--json"]).succeeded().result();
    assert_eq!(nats(&alone["eval"]), nats(&of_run["eval"]));
}

#[test]
fn threads_and_stops_do_not_change_a_bit_of_it() {
    let bench = bench();
    let train = |out: &str, more: &[&str]| {
        bench.run(&[&["train", "both.toml", "--out", out], more].concat()).succeeded();
    };
    let shards = ["--set", "train.shards=2", "--set", "train.threads"];
    train("two", &[&shards[..3], &["train.threads=2"]].concat());
    train("one", &[&shards[..3], &["train.threads=1"]].concat());
    assert_eq!(model_files(&bench, "one"), model_files(&bench, "two"));
    train("short", &[&shards[..3], &["train.threads=2", "--set", "train.steps=25"]].concat());
    bench.run(&["train", "--resume", "--out", "short", "--set", "train.steps=+5"]).succeeded();
    assert_eq!(events(&bench, "short", "result")[0]["steps"], 30);
    assert_eq!(events(&bench, "short", "mixture").len(), 1);
    // Nothing is left to do.
    bench.run(&["train", "--resume", "--out", "short"]).succeeded();
    assert_eq!(events(&bench, "short", "result").len(), 1);
    // Its steps are made, but its model is lost: it is mixed again, to the same bits.
    let whole = model_files(&bench, "two");
    std::fs::remove_dir_all(bench.path().join("two/model")).unwrap();
    bench.run(&["train", "--resume", "--out", "two"]).succeeded();
    assert_eq!(model_files(&bench, "two"), whole);
}

#[test]
fn lines_stay_whole_and_wrong_settings_are_named() {
    let bench = bench();
    let set = |keys: &[&str]| {
        let sets = keys.iter().flat_map(|key| ["--set", key]);
        bench.run(&["train", "both.toml", "--out", "run"].into_iter().chain(sets).collect::<Vec<_>>())
    };
    set(&["data.unit=line", "tokenizer.kind=word", "train.steps=5", "mixture.order=2"]).succeeded();
    assert_eq!(events(&bench, "run", "mixture")[0]["names"][1], "2-gram");
    std::fs::remove_dir_all(bench.path().join("run")).unwrap();
    set(&["model.kind=ngram"]).refused(2, &["[mixture]", "ngram"]);
    set(&["mixture.order=0"]).refused(2, &["mixture.order=0", "from 1 to 16"]);
    set(&["mixture.heldout=0.9"]).refused(2, &["mixture.heldout"]);
    set(&["mixture.smoothing=stupid_backoff"]).refused(2, &["mixture.smoothing", "do not sum to one"]);
    set(&["mixture.ordr=3"]).refused(2, &["[mixture]", "did you mean `order`"]);
    set(&["train.block_size=100000"]).refused(1, &["too few"]);
}
