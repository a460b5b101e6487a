//! A run starts from any neural model, and from no other.

use crate::common::{Bench, Ran, sentences, set, shard};
use safetensors::SafeTensors;
use serde_json::{Value, json};

const SMALL: [&str; 6] = [
    "train.block_size=16",
    "train.batch_size=4",
    "train.shards=2",
    "train.steps=12",
    "checkpoint.every_steps=6",
    "sample.tokens=0",
];

const KINDS: [(&str, &[&str]); 6] = [
    ("bigram", &["model.kind=bigram"]),
    ("mlp", &["model.kind=mlp", "model.n_embd=8", "model.n_hidden=16"]),
    ("lstm", &["model.kind=lstm", "model.n_embd=8", "model.n_hidden=12", "model.dropout=0.1"]),
    ("gru", &["model.kind=gru", "model.n_embd=8", "model.n_hidden=12"]),
    ("transformer", &["model.n_layer=1", "model.n_embd=16", "model.n_head=2"]),
    (
        "modern",
        &[
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
            "model.bigram_rows=600",
            "model.tied=false",
            "optim.kind=muon",
        ],
    ),
];

fn bench(kind: &[&str]) -> Bench {
    let bench = Bench::new();
    bench.text("a.txt", 150);
    let arguments = [&["train", "a.txt", "--json", "--out", "run"], &set(&SMALL)[..], &set(kind)].concat();
    bench.run(&arguments).succeeded();
    bench
}

/// A step that hardly changes the model: its loss is that of the start.
fn hardly(bench: &Bench, text: &str, from: &str, out: &str, more: &[&str]) -> Ran {
    let step = [
        "train.steps=1",
        "train.batch_size=4",
        "optim.kind=adamw",
        "optim.lr=1e-12",
        "optim.min_lr=0",
        "sample.tokens=0",
    ];
    let step = [&["train", text, "--json", "--out", out, "--from", from], &set(&step)[..], more].concat();
    bench.run(&step)
}

fn nats(result: &Value) -> f64 {
    result["eval"]["nats_per_token"].as_f64().unwrap()
}

#[test]
fn every_architecture_goes_on_from_a_run_a_checkpoint_and_a_model_s_folder() {
    for (name, kind) in KINDS {
        let bench = bench(kind);
        let expected = nats(&bench.run(&["eval", "run", "--stride", "8", "--json"]).succeeded().result());
        for from in ["run", "run/checkpoints/step_00000012", "run/model"] {
            let ran = hardly(&bench, "a.txt", from, "on", &["--set", "eval.stride=8"]).succeeded();
            assert!(
                (nats(&ran.result()) - expected).abs() < 1e-4,
                "{name} from {from}: {expected} {}",
                ran.stdout
            );
            let config = std::fs::read_to_string(bench.path().join("on/config.toml")).unwrap();
            assert!(config.contains(&format!("init_from = \"{from}\"")), "{config}");
            let kind = kind[0].strip_prefix("model.kind=").unwrap_or("transformer");
            assert!(config.contains(&format!("kind = \"{kind}\"")), "{config}");
            std::fs::remove_dir_all(bench.path().join("on")).unwrap();
        }
        // An unfinished run gives its best weights so far, and says so.
        std::fs::remove_dir_all(bench.path().join("run/model")).unwrap();
        let ran = hardly(&bench, "a.txt", "run", "on", &[]).succeeded();
        assert!(
            ran.stderr.contains("this run is not finished: these are its weights of step 12"),
            "{}",
            ran.stderr
        );
        // The run goes on, with more steps too, where the model it started from is gone.
        std::fs::remove_dir_all(bench.path().join("run")).unwrap();
        let more = ["train", "--resume", "--out", "on", "--json", "--set", "train.steps=+3"];
        assert_eq!(bench.run(&more).succeeded().result()["steps"], 4, "{name}");
        std::fs::remove_dir_all(bench.path().join("on/model")).unwrap();
        bench.run(&["train", "--resume", "--out", "on"]).succeeded();
        bench.run(&["eval", "on"]).succeeded();
        bench.run(&["report", "on"]).succeeded();
    }
}

#[test]
fn characters_that_the_model_lacks_are_an_error_or_added() {
    for (name, kind) in KINDS {
        let bench = bench(kind);
        bench.file("b.txt", sentences(100).replace("bird", "birδ") + &sentences(20).replace("cat", "ca√"));
        hardly(&bench, "b.txt", "run", "on", &[])
            .refused(2, &["different character", "\"δ\"", "--extend-vocab"]);
        assert!(!bench.path().join("on").exists());
        let extend = ["--extend-vocab", "--set", "eval.stride=8"];
        let ran = hardly(&bench, "b.txt", "run", "on", &extend).succeeded();
        assert!(
            ran.stderr.contains("2 new characters of the text (\"δ\", \"√\") are added"),
            "{name}: {}",
            ran.stderr
        );
        // What the model knew it still knows: rows of known characters are the same.
        let of = |model: &str| {
            let ran = bench.run(&["eval", model, "a.txt", "--stride", "8", "--json"]).succeeded();
            nats(&ran.result())
        };
        let (before, after) = (of("run"), of("on"));
        assert!((after - before).abs() < 0.15, "{name}: {before} became {after}");
        bench.run(&["train", "--resume", "--out", "on", "--set", "train.steps=+3"]).succeeded();
        let nothing = hardly(&bench, "a.txt", "run", "same", &extend).succeeded();
        assert!(!nothing.stderr.contains("new character"), "{}", nothing.stderr);
    }
}

#[test]
fn a_text_that_is_mostly_unknown_is_refused_with_the_share() {
    let bench = bench(KINDS[1].1);
    bench.file("zh.txt", "北京是一座城市。\n".repeat(300));
    hardly(&bench, "zh.txt", "run", "on", &[])
        .refused(2, &["% of the training text is unknown", "--extend-vocab"]);
    bench.file("w.txt", sentences(200));
    let words = ["train", "w.txt", "--out", "words", "--set", "tokenizer.kind=word"];
    bench.run(&[&words[..], &set(&SMALL), &set(KINDS[1].1)].concat()).succeeded();
    bench.file("other.txt", "nobody has written about this before\n".repeat(200));
    hardly(&bench, "other.txt", "words", "on", &[])
        .refused(2, &["% of the training text", "model.max_unknown=1"]);
    hardly(&bench, "other.txt", "words", "on", &["--extend-vocab"]).refused(2, &["adds characters", "word"]);
}

#[test]
fn shrinking_multiplies_the_hidden_matrices_and_nothing_else() {
    let bench = bench(KINDS[4].1);
    hardly(&bench, "a.txt", "run", "on", &["--set", "model.shrink=0.25"]).succeeded();
    let read = |run: &str| std::fs::read(bench.path().join(run).join("model/model.safetensors")).unwrap();
    let (before, after) = (read("run"), read("on"));
    let open = |bytes| SafeTensors::deserialize(bytes).unwrap();
    let (before, after) = (open(&before), open(&after));
    let values = |tensor: &[u8]| -> Vec<f32> {
        tensor.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let mut hidden = 0;
    for (name, tensor) in before.tensors() {
        let is_hidden = name.starts_with("h.") && tensor.shape().len() == 2;
        hidden += usize::from(is_hidden);
        let factor = if is_hidden { 0.25 } else { 1.0 };
        let other = values(after.tensor(&name).unwrap().data());
        for (a, b) in values(tensor.data()).iter().zip(&other) {
            assert!((factor * a - b).abs() < 1e-9, "{name}: {a} {b}");
        }
    }
    assert_eq!(hidden, 4);
    for (settings, said) in
        [(&["--set", "model.shrink=0"][..], "shrink"), (&["--set", "model.shrink=1.5"], "shrink")]
    {
        hardly(&bench, "a.txt", "run", "off", settings).refused(2, &[said]);
    }
    bench.run(&["train", "a.txt", "--set", "model.shrink=0.5"]).refused(2, &["shrink means nothing"]);
}

#[test]
fn what_is_no_neural_model_is_refused_in_words() {
    let bench = bench(KINDS[1].1);
    bench.run(&["train", "a.txt", "--out", "counted", "--set", "model.kind=ngram"]).succeeded();
    bench.run(&["export", "counted", "--format", "arpa", "--out", "m.arpa"]).succeeded();
    for model in ["counted", "m.arpa"] {
        hardly(&bench, "a.txt", model, "on", &[]).refused(2, &["n-gram model", "counts, not weights"]);
    }
    hardly(&bench, "a.txt", "a.txt", "on", &[]).refused(1, &["a.txt", "a text, not a model"]);
    hardly(&bench, "a.txt", "gone", "on", &[]).refused(1, &["gone"]);
    hardly(&bench, "a.txt", "run", "on", &["--set", "model.kind=ngram"]).refused(2, &["--from", "ngram"]);
    hardly(&bench, "a.txt", "run", "on", &["--set", "data.unit=line"]).refused(2, &["data.unit", "stream"]);
    bench
        .run(&["train", "--resume", "--out", "run", "--from", "run"])
        .refused(2, &["--from starts a new run"]);
    bench.run(&["train", "a.txt", "--extend-vocab"]).refused(2, &["extend_vocab means nothing"]);
}

#[test]
fn a_run_s_unit_windows_and_tokens_follow_and_its_tokenizer_alone_can_be_had() {
    let bench = bench(&[KINDS[4].1, &["data.unit=line"]].concat());
    let small =
        "[data]\nunit = \"stream\"\n[model]\nkind = \"mlp\"\nn_hidden = 8\n[train]\nblock_size = 48\n";
    bench.file("small.toml", small);
    let arguments =
        ["train", "small.toml", "a.txt", "--from", "run", "--out", "on", "--set", "train.steps=2"];
    let ran = bench.run(&arguments).succeeded();
    for part in [
        "model.kind = transformer follows --from run",
        "train.block_size = 16 follows --from run",
        "data.unit = line follows --from run; it was stream",
        "n_hidden",
    ] {
        assert!(ran.stderr.contains(part), "no «{part}» in {}", ran.stderr);
    }
    let config = std::fs::read_to_string(bench.path().join("on/config.toml")).unwrap();
    assert!(config.contains("unit = \"line\""), "{config}");
    hardly(&bench, "a.txt", "run", "wide", &["--set", "train.block_size=32"]).refused(2, &["at most 16"]);
    // Only the tokenizer, of the run or of its model.
    for (out, file) in [("mine", "tokenizer.file=run"), ("theirs", "tokenizer.file=run/model")] {
        let more = ["train", "a.txt", "--out", out, "--set", file, "--set", "data.unit=line"];
        bench.run(&[&more[..], &set(&SMALL), &set(KINDS[1].1)].concat()).succeeded();
        let of = |run: &str| std::fs::read(bench.path().join(run).join("tokenizer.json")).unwrap();
        assert_eq!(of(out), of("run"));
    }
}

/// Fine-tuning begins below a new model of the same size, and stays there at equal steps.
#[test]
fn fine_tuning_is_better_than_a_new_model_at_equal_steps() {
    let bench = bench(&[KINDS[5].1, &["train.steps=150", "optim.lr=4e-3"]].concat());
    bench.file("names.txt", sentences(60).replace(" sees ", "\nanna\n").replace("dog", "dóg"));
    let steps =
        ["train.steps=20", "train.block_size=16", "train.batch_size=4", "train.shards=2", "sample.tokens=0"];
    let scratch = ["train", "names.txt", "--out", "scratch", "--json"];
    let scratch = bench.run(&[&scratch[..], &set(&steps), &set(KINDS[5].1)].concat()).succeeded().result();
    let tuned = ["train", "names.txt", "--out", "tuned", "--json", "--from", "run", "--extend-vocab"];
    let tuned =
        bench.run(&[&tuned[..], &set(&steps), &set(&["optim.kind=muon"])].concat()).succeeded().result();
    assert!(nats(&tuned) < nats(&scratch), "{} {}", nats(&tuned), nats(&scratch));
}

/// Weights in several files, in half precision.
#[test]
fn a_sharded_hugging_face_folder_is_a_start() {
    let bench = bench(KINDS[4].1);
    let expected = nats(&hardly(&bench, "a.txt", "run", "plain", &[]).succeeded().result());
    bench.run(&["export", "run", "--format", "hf", "--out", "hf"]).succeeded();
    let map = shard(&bench, "hf");
    let of_shards = nats(&hardly(&bench, "a.txt", "hf", "on", &[]).succeeded().result());
    assert!((of_shards - expected).abs() < 0.05, "{of_shards} {expected}");

    for (file, part) in
        [("../run/model/model.safetensors", "not the name of a file"), ("gone.safetensors", "gone")]
    {
        let mut wrong = map.clone();
        wrong.insert("transformer.wte.weight".into(), json!(file));
        bench.file("hf/model.safetensors.index.json", json!({ "weight_map": wrong }).to_string());
        hardly(&bench, "a.txt", "hf", "wrong", &[]).refused(1, &[part]);
    }
}
