//! Files are recognised by content; unfinished runs can be opened; changed texts are detected.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{Bench, Ran, sentences, set};
use serde_json::{Value, json};

/// The settings of a small transformer.
const SMALL: &str = "[model]\nkind = \"transformer\"\nn_layer = 1\nn_head = 2\nn_embd = 16\n\
    [train]\nsteps = 12\nbatch_size = 4\nblock_size = 16\nthreads = 1\n\
    [optim]\nlr = 1e-2\nwarmup = 0\n\
    [eval]\nevery_steps = 4\nevery_epochs = 0\nstride = 8\n[sample]\ntokens = 20\n[checkpoint]\nevery_steps = 3\n";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.text("a.txt", 200);
    bench.file("small.toml", SMALL);
    bench
}

fn train(bench: &Bench, more: &[&str]) -> crate::common::Ran {
    let arguments = [&["train", "small.toml", "a.txt", "--out", "run"], more].concat();
    bench.run(&arguments)
}

/// Makes a finished run look killed after its newest checkpoint.
fn kill(bench: &Bench) {
    let run = bench.path().join("run");
    std::fs::remove_dir_all(run.join("model")).unwrap();
    let metrics = run.join("metrics.jsonl");
    let text = std::fs::read_to_string(&metrics).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("\"result\"")).collect();
    std::fs::write(metrics, lines.join("\n") + "\n").unwrap();
}

/// The best evaluation in the record up to `step`: its step and nats per token.
fn best(bench: &Bench, step: u64) -> (u64, f64) {
    let text = std::fs::read_to_string(bench.path().join("run/metrics.jsonl")).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let epochs = events.filter(|event| event["event"] == "epoch" && event["step"].as_u64().unwrap() <= step);
    let judged = epochs
        .map(|event| (event["step"].as_u64().unwrap(), event["eval"]["nats_per_token"].as_f64().unwrap()));
    judged.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

/// Every file in `folder` with its bytes and modification time.
fn everything(folder: &Path) -> Vec<(String, Vec<u8>, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        let changed = std::fs::metadata(&path).unwrap().modified().unwrap();
        if path.is_dir() {
            found.push((name, Vec::new(), changed));
            found.extend(everything(&path));
        } else {
            found.push((name, std::fs::read(&path).unwrap(), changed));
        }
    }
    found.sort();
    found
}

#[test]
fn an_arpa_file_and_an_ngram_file_are_known_by_any_name() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    bench.run(&["count", "a.txt", "--order", "3", "--out", "m.arpa", "--out", "m.ngram"]).succeeded();
    let eval =
        |name: &str| bench.run(&["eval", name, "a.txt", "--json"]).succeeded().result()["eval"].clone();
    let expected = eval("m.arpa");
    assert!(expected["nats_per_token"].as_f64().unwrap() > 0.1);
    let arpa = std::fs::read(bench.path().join("m.arpa")).unwrap();
    let ngram = std::fs::read(bench.path().join("m.ngram")).unwrap();
    for name in ["m.lm", "M.ARPA", "m", "m.ngram.txt", "arpa.ngram"] {
        bench.file(name, &arpa);
        assert_eq!(eval(name), expected, "{name}");
        let told = bench.run(&["inspect", name, "--json"]).succeeded().result();
        assert_eq!((&told["kind"], &told["is"]), (&json!("ngram"), &json!("an ARPA file")), "{name}");
    }
    bench.file("marked", [b"\xef\xbb\xbf".as_slice(), &arpa].concat());
    assert_eq!(eval("marked"), expected);
    bench.file("with_a_preface", [b"made by nobody\n\n".as_slice(), &arpa].concat());
    assert_eq!(eval("with_a_preface"), expected);
    for name in ["binary.arpa", "x", "x.NGRAM"] {
        bench.file(name, &ngram);
        assert_eq!(eval(name), eval("m.ngram"), "{name}");
    }
    // In one list of models and texts.
    let mixed = bench.run(&["mix", "m.lm", "x", "a.txt", "--weights", "1,1", "--json"]).succeeded().result();
    let nats = mixed["eval"]["nats_per_token"].as_f64().unwrap();
    assert!((nats - expected["nats_per_token"].as_f64().unwrap()).abs() < 1e-6);
}

/// GPT-2's and Llama's layouts, the mark of lines, weights in several files in half precision.
#[test]
fn a_hugging_face_folder_is_a_model() {
    const LLAMA: [&str; 5] = [
        "model.norm=rms",
        "model.position=rope",
        "model.activation=swiglu",
        "model.n_kv_head=1",
        "model.tied=false",
    ];
    let nats = |ran: &Ran| ran.result()["eval"]["nats_per_token"].as_f64().unwrap();
    for more in [&["data.unit=line"][..], &LLAMA] {
        let bench = bench();
        train(&bench, &[&["--quiet"], &set(more)[..]].concat()).succeeded();
        bench.run(&["export", "run", "--format", "hf", "--out", "hf"]).succeeded();
        let eval = |model: &str, more: &[&str]| {
            bench.run(&[&["eval", model, "a.txt", "--json"], more].concat()).succeeded()
        };
        for stride in [&[][..], &["--stride", "3"]] {
            let (run, hf) = (eval("run", stride), eval("hf", stride));
            let (mut run, mut hf) = (run.result()["eval"].clone(), hf.result()["eval"].clone());
            for key in ["nats_per_token", "perplexity", "bits_per_byte"] {
                let [a, b] = [&mut run, &mut hf].map(|it| it[key].take().as_f64().unwrap());
                assert!((a - b).abs() < 1e-6, "{key} with {more:?}: {a} {b}");
            }
            assert_eq!((&run["tokens"], &run["bytes"]), (&hf["tokens"], &hf["bytes"]));
        }
        bench.run(&["eval", "hf", "a.txt", "--stride", "17"]).refused(2, &["block_size = 16"]);
        bench.run(&["eval", "hf"]).refused(2, &["no text of its own", "name the texts"]);
        for command in [
            &["sample", "MODEL", "--prompt", "the ", "--tokens", "20", "--seed", "3"][..],
            &["explain", "MODEL", "--text", "the cat", "--step", "3"],
        ] {
            let [run, hf] = ["run", "hf"].map(|model| {
                let command: Vec<&str> =
                    command.iter().map(|it| if *it == "MODEL" { model } else { it }).collect();
                bench.run(&command).succeeded().stdout.replace(model, "")
            });
            assert_eq!(run, hf, "{command:?}");
        }
        assert!(!bench.run(&["sample", "hf", "--tokens", "20"]).succeeded().stdout.trim().is_empty());
        let mixed = ["mix", "run", "hf", "a.txt", "--weights", "1,1", "--json"];
        assert!((nats(&bench.run(&mixed).succeeded()) - nats(&eval("run", &[]))).abs() < 1e-6);
        bench.run(&["export", "hf", "--format", "hf", "--out", "again"]).succeeded();
        for file in ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"] {
            let [before, after] =
                ["hf", "again"].map(|it| std::fs::read(bench.path().join(it).join(file)).unwrap());
            assert!(before == after, "{file} with {more:?}");
        }
        bench.run(&["export", "hf", "--out", "hf.gguf"]).succeeded();
        bench.run(&["export", "hf", "--out", "hf.arpa"]).refused(2, &["only n-gram models"]);

        let inspected = |name: &str| bench.run(&["inspect", name, "--json"]).succeeded().result();
        let mut whole = inspected("hf");
        assert_eq!(
            (&whole["kind"], &whole["details"]["model"]),
            (&"hugging_face".into(), &"transformer".into())
        );
        assert_eq!(whole["details"]["block size"], "16");
        let expected = nats(&eval("hf", &[]));
        crate::common::shard(&bench, "hf");
        assert!((nats(&eval("hf", &[])) - expected).abs() < 0.05, "bf16 is nearly f32");
        let mut shards = inspected("hf");
        for details in [&mut whole["details"], &mut shards["details"]] {
            for line in details.as_object_mut().unwrap().values_mut() {
                *line = line.as_str().unwrap().replace("BF16", "F32").into();
            }
        }
        assert_eq!(whole, shards);
        assert!(whole["details"].as_object().unwrap().len() > 10, "{whole}");

        // What is there is told apart by content, and what is missing is named.
        std::fs::rename(bench.path().join("hf"), bench.path().join("x.arpa")).unwrap();
        eval("x.arpa", &[]);
        std::fs::rename(bench.path().join("x.arpa/tokenizer.json"), bench.path().join("t.json")).unwrap();
        bench.run(&["eval", "x.arpa", "a.txt"]).refused(2, &["x.arpa", "no tokenizer.json", "merges.txt"]);
        bench.run(&["inspect", "x.arpa"]).succeeded();
        bench.file("x.arpa/tokenizer.json", "{");
        bench.run(&["eval", "x.arpa", "a.txt"]).refused(1, &["x.arpa"]);
        std::fs::remove_file(bench.path().join("x.arpa/model-00002-of-00002.safetensors")).unwrap();
        bench.run(&["sample", "x.arpa"]).refused(1, &["model-00002-of-00002.safetensors"]);
    }
}

/// The trie was built from the ARPA file beside it.
#[test]
fn a_kenlm_binary_is_a_model_whose_n_grams_cannot_be_listed() {
    let bench = Bench::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/tests/fixtures/kenlm");
    for (from, to) in [("trie.binary", "m.arpa"), ("words.arpa", "m.lm")] {
        bench.file(to, std::fs::read(fixtures.join(from)).unwrap());
    }
    bench.file("a.txt", "the cat sat\nunforgettable owl sat\nthe zebra sat\n");
    let eval = |model: &str| {
        let result = bench.run(&["eval", model, "a.txt", "--json"]).succeeded().result();
        (result["eval"]["nats_per_token"].as_f64().unwrap(), result["eval"]["oov"].clone())
    };
    let (nats, oov) = eval("m.lm");
    let (binary, its_oov) = eval("m.arpa");
    assert!((binary - nats).abs() < 1e-6 && oov == its_oov && oov == 1, "{binary} {nats} {oov} {its_oov}");
    let mixed =
        bench.run(&["mix", "m.lm", "m.arpa", "a.txt", "--weights", "1,1", "--json"]).succeeded().result();
    assert!((mixed["eval"]["nats_per_token"].as_f64().unwrap() - nats).abs() < 1e-6);
    bench.run(&["explain", "m.arpa", "--text", "the cat sat"]).succeeded();
    bench.run(&["sample", "m.arpa", "--tokens", "5"]).succeeded();
    let inspected = bench.run(&["inspect", "m.arpa", "--json"]).succeeded().stdout;
    assert!(inspected.contains("\"structure\":\"trie\""), "{inspected}");
    bench.run(&["export", "m.arpa", "--out", "b.arpa"]).refused(2, &["KenLM binary", "cannot be written"]);
    bench.run(&["mix", "m.lm", "m.arpa", "--weights", "1,1", "--out", "b.arpa"]).refused(2, &["no n-grams"]);
    bench.run(&["merge", "m.arpa", "--out", "b.arpa"]).refused(2, &["has no counts", "a KenLM binary"]);
}

#[test]
fn what_is_no_model_is_named_with_what_to_do() {
    let bench = bench();
    train(&bench, &["--quiet"]).succeeded();
    bench
        .run(&["count", "a.txt", "--order", "2", "--out", "a.counts", "--out", "a.tsv", "--out", "a.arpa"])
        .succeeded();
    std::fs::rename(bench.path().join("a.counts"), bench.path().join("counts.arpa")).unwrap();
    std::fs::rename(bench.path().join("a.tsv"), bench.path().join("lines.ngram")).unwrap();
    bench.file("kenlm.arpa", b"mmap lm http://kheafield.com/code format version 5\n\0\0\0\0");
    bench.file("gz.arpa", b"\x1f\x8b\x08\0\0\0\0\0");
    bench.file("bz.arpa", b"BZh91AY&SY\0\0");
    bench.file("xz.arpa", b"\xfd7zXZ\0\0\x04");
    bench.file("zst.arpa", b"\x28\xb5\x2f\xfd\x04\0");
    bench.file("torch.pt", b"PK\x03\x04\0\0");
    bench.file("empty.arpa", b"");
    bench.file("latin1", b"caf\xe9 au lait\n");
    bench.file("hf/config.json", b"{\"model_type\":\"gpt2\"}");
    bench.file("cmp/comparison.json", b"{}");
    let folder = bench.path().join("texts");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(bench.path().join("a.txt"), folder.join("one.txt")).unwrap();
    let cases: [(&str, &[&str]); 17] = [
        ("counts.arpa", &["counts", "surprisal merge"]),
        ("lines.ngram", &["counts", "surprisal merge"]),
        ("kenlm.arpa", &["describes at least 88 bytes", "it may be cut off"]),
        ("gz.arpa", &["a damaged gzip file", "cut off"]),
        ("bz.arpa", &["a damaged bzip2 file", "cut off"]),
        ("xz.arpa", &["a damaged xz file", "cut off"]),
        ("zst.arpa", &["a damaged zstd file", "cut off"]),
        ("torch.pt", &["a zip file", "safetensors"]),
        ("empty.arpa", &["is empty", "hint"]),
        ("latin1", &["neither text in UTF-8", "hint"]),
        ("hf", &["Hugging Face folder", "model.safetensors", "save_pretrained"]),
        ("cmp", &["a comparison", "cells"]),
        ("texts", &["a folder without a model", "hint"]),
        ("a.txt", &["a text, not a model", "give the model first"]),
        ("run/config.toml", &["a config", "surprisal train"]),
        ("run/checkpoints", &["the checkpoints of a run", "one of them"]),
        ("run/tokenizer.json", &["a tokenizer", "folder"]),
    ];
    for (path, parts) in cases {
        for command in [&["eval", path, "a.txt"][..], &["sample", path], &["explain", path, "--text", "x"]] {
            bench.run(command).refused(1, &[&[path], parts].concat());
        }
    }
    bench.run(&["eval", "run/model/model.safetensors"]).refused(1, &["tensors", "folder"]);
    // Reports are only for runs.
    for (path, part) in [
        ("cmp", "a comparison"),
        ("run/model", "a model's folder"),
        ("a.txt", "a text"),
        ("a.arpa", "an ARPA file"),
    ] {
        bench.run(&["report", path]).refused(1, &[path, "is not a run", part, "hint"]);
    }
    // The beginning of a file shows its kind, even if a later word is not UTF-8.
    let mut damaged = std::fs::read(bench.path().join("a.arpa")).unwrap();
    let at = damaged.windows(3).position(|bytes| bytes == b"cat").unwrap();
    damaged[at] = 0xE9;
    bench.file("latin1.lm", damaged);
    bench.run(&["eval", "latin1.lm", "a.txt"]).refused(1, &["latin1.lm", "line "]);
    // A counts file is not a text, also in a list of texts.
    bench
        .run(&["mix", "a.arpa", "counts.arpa", "a.txt", "--weights", "1,1"])
        .refused(1, &["counts.arpa", "merge"]);
}

#[test]
fn weights_and_packed_files_are_no_texts() {
    let bench = bench();
    train(&bench, &["--quiet"]).succeeded();
    bench.run(&["count", "a.txt", "--order", "2", "--out", "m.arpa", "--out", "m.ngram"]).succeeded();
    std::fs::copy(bench.path().join("m.arpa"), bench.path().join("weights.txt")).unwrap();
    std::fs::copy(bench.path().join("m.ngram"), bench.path().join("binary.txt")).unwrap();
    bench.file("packed.txt", b"\x1f\x8b\x08\0\0\0\0\0");
    let bytes = ["--set", "tokenizer.kind=byte", "--set", "model.kind=uniform"];
    for name in ["weights.txt", "binary.txt", "run", "run/model", "run/model/model.safetensors"] {
        let parts = [name, "not text", "hint"];
        bench.run(&[&["train", name, "--out", "other"], &bytes[..]].concat()).refused(1, &parts);
        bench.run(&["count", name, "--out", "x.arpa"]).refused(1, &parts);
        bench.run(&["eval", "run", name]).refused(1, &parts);
    }
    bench.run(&["count", "packed.txt", "--out", "x.arpa"]).refused(1, &["a damaged gzip file", "cut off"]);
    bench.run(&["eval", "run", "packed.txt"]).refused(1, &["a damaged gzip file", "cut off"]);
    assert!(!bench.path().join("x.arpa").exists() && !bench.path().join("other").exists());
    // A text about ARPA files, a list of words with numbers and a config can be training texts.
    bench.file("about.txt", format!("Such a file begins so:\n\\data\\\nngram 1=3\n{}", sentences(20)));
    bench.file("list.txt", "the cat\t3\na dog\t2\n".repeat(20));
    for name in ["about.txt", "list.txt", "small.toml"] {
        bench
            .run(&["count", name, "--order", "2", "--smoothing", "witten_bell", "--out", "x.arpa"])
            .succeeded();
    }
}

#[test]
fn inspect_says_what_a_file_is() {
    let bench = bench();
    train(&bench, &["--quiet"]).succeeded();
    bench
        .run(&["count", "a.txt", "--order", "2", "--out", "m.counts", "--out", "m.tsv", "--out", "m.arpa"])
        .succeeded();
    bench.run(&["count", "a.txt", "--order", "2", "--out", "m.ngram"]).succeeded();
    let inspect = |path: &str| bench.run(&["inspect", path]).succeeded().stdout;
    let json = |path: &str| bench.run(&["inspect", path, "--json"]).succeeded().result();
    let arpa = inspect("m.arpa");
    assert!(arpa.contains("an ARPA file") && arpa.contains("<unk> <s> </s>"), "{arpa}");
    assert!(!arpa.contains("counted 1, 2, 3, 4 times"), "{arpa}");
    // Other programs' ARPA files do not contain the smoothing method.
    assert!(!arpa.contains("smoothing") && json("m.arpa")["details"].get("smoothing").is_none(), "{arpa}");
    assert_eq!(json("m.ngram")["details"]["smoothing"], "modified_kneser_ney");
    // The numbers are those in the header of the file.
    let text = std::fs::read_to_string(bench.path().join("m.arpa")).unwrap();
    let number = |order: &str| text.lines().find_map(|line| line.strip_prefix(order)).unwrap().to_owned();
    let details = &json("m.arpa")["details"];
    assert_eq!(
        (&details["1-grams"], &details["2-grams"]),
        (&json!(number("ngram 1=")), &json!(number("ngram 2=")))
    );
    for counts in ["m.counts", "m.tsv"] {
        let told = json(counts);
        assert_eq!(told["kind"], "counts");
        // Each of 200 lines has one end, and every other word is followed by a word or the end.
        assert!(told["details"]["2-grams"].as_str().unwrap().contains("different, counted"), "{told}");
        assert_eq!(told["details"], json("m.counts")["details"]);
    }
    let tensors = json("run/model/model.safetensors");
    assert_eq!(tensors["kind"], "tensors");
    let model = json("run");
    assert_eq!(tensors["details"]["parameters"], common_thousands(model["parameters"].as_u64().unwrap()));
    let vocab_size = model["vocab_size"].as_u64().unwrap();
    assert_eq!(tensors["details"]["  wte.weight"], format!("[{vocab_size}, 16] F32"));
    let tokenizer = json("run/tokenizer.json");
    assert_eq!(tokenizer["kind"], "tokenizer");
    assert_eq!(tokenizer["details"]["vocabulary"], format!("{vocab_size} tokens (char)"));
    assert_eq!((&model["state"], &model["weights"]), (&json!("finished"), &Value::Null));
    assert!(inspect("run").contains("this run is finished"));
    assert!(model["details"].as_object().unwrap().contains_key("  h.0.attn.c_attn.weight"), "{model}");
    assert!(inspect("run").contains("  h.0.attn.c_attn.weight  [48, 16]\n"), "{}", inspect("run"));
    bench.file("x.txt", b"\x1f\x8b\x08\0\0\0\0\0");
    assert!(inspect("x.txt").contains("a damaged gzip file"));
    assert!(inspect("run/config.toml").contains("a config"));
    bench.file("latin1.txt", b"caf\xe9 au lait\n");
    assert_eq!(json("latin1.txt")["kind"], "binary");
    assert_eq!(json("a.txt")["kind"], "text");
    bench.file("folder/one.txt", "one\n");
    bench.file("folder/two.txt", "two\n");
    assert_eq!(json("folder")["details"], json!({ "entries": "2" }));
    bench.run(&["inspect", "gone"]).refused(1, &["gone", "hint"]);
}

fn common_thousands(number: u64) -> String {
    surprisal::wording::thousands(number)
}

#[test]
fn a_stopped_run_opens_with_its_best_weights() {
    let bench = bench();
    train(&bench, &["--quiet"]).succeeded();
    let whole = best(&bench, 12);
    kill(&bench);
    // Evaluations are at steps 4 and 8, the newest checkpoint at step 9.
    std::fs::remove_dir_all(bench.path().join("run/checkpoints/step_00000012")).unwrap();
    let (step, nats) = best(&bench, 9);
    let said = format!(
        "this run is not finished: these are its weights of step {step} (the best so far, validation {nats:.4} nats per token; the run has reached step 9)"
    );
    let before = everything(&bench.path().join("run"));
    let eval = bench.run(&["eval", "run", "--json"]).succeeded();
    assert!(eval.stderr.contains(&said), "{}", eval.stderr);
    assert_eq!(eval.result()["eval"]["nats_per_token"].as_f64().unwrap(), nats);
    bench.run(&["count", "a.txt", "--tokenizer", "char", "--unit", "stream", "--out", "c.ngram"]).succeeded();
    for command in [
        &["sample", "run", "--tokens", "5"][..],
        &["explain", "run", "--text", "the cat"],
        &["explain", "run", "--text", "the cat", "--step", "2"],
        &["inspect", "run"],
        &["export", "run", "--out", "exported", "--format", "hf"],
        &["mix", "run", "c.ngram", "a.txt", "--weights", "1,1"],
    ] {
        let ran = bench.run(command).succeeded();
        assert!(ran.stderr.contains(&said), "{command:?}: {}", ran.stderr);
    }
    assert_eq!(everything(&bench.path().join("run")), before, "a reader changed something");
    let told = bench.run(&["inspect", "run", "--json"]).succeeded().result();
    assert_eq!((&told["state"], &told["weights"]["step"]), (&json!("stopped"), &json!(step)));
    bench.run(&["report", "run"]).succeeded();
    let report = std::fs::read_to_string(bench.path().join("run/report.html")).unwrap();
    assert!(report.contains(&said) && report.contains(&format!("{nats:.4}")), "the report does not say it");
    // Resumed, it ends like the original run.
    bench.run(&["train", "--resume", "--out", "run", "--quiet"]).succeeded();
    let told = bench.run(&["inspect", "run", "--json"]).succeeded().result();
    assert_eq!(told["record"]["eval"]["nats_per_token"].as_f64().unwrap(), whole.1);
}

#[test]
fn what_is_made_of_a_stopped_run_is_made_of_its_best_weights() {
    let bench = bench();
    train(&bench, &["--quiet", "--set", "checkpoint.every_steps=1", "--set", "checkpoint.keep=20"])
        .succeeded();
    kill(&bench);
    for step in 10..=12 {
        std::fs::remove_dir_all(bench.path().join(format!("run/checkpoints/step_{step:08}"))).unwrap();
    }
    let (step, _) = best(&bench, 9);
    let (of_best, newest) =
        (format!("run/checkpoints/step_{step:08}"), "run/checkpoints/step_00000009".to_owned());
    let exported = |model: &str, out: &str| {
        bench.run(&["export", model, "--format", "hf", "--out", out]).succeeded();
        std::fs::read(bench.path().join(out).join("model.safetensors")).unwrap()
    };
    let weights = exported("run", "exported");
    assert_eq!(weights, exported(&of_best, "of_best"));
    assert_ne!(weights, exported(&newest, "newest"));
    let explained = |model: &str| {
        let mut told = bench.run(&["explain", model, "--text", "the cat", "--json"]).succeeded().result();
        told["model"].take();
        told
    };
    assert_eq!(explained("run"), explained(&of_best));
    assert_ne!(explained("run"), explained(&newest));
    let sampled = |model: &str| {
        bench.run(&["sample", model, "--tokens", "200", "--seed", "3", "--prompt", "the "]).succeeded().stdout
    };
    assert_eq!(sampled("run"), sampled(&of_best));
    assert_ne!(sampled("run"), sampled(&newest));
}

#[test]
fn a_checkpoint_opens_with_its_own_weights() {
    let bench = bench();
    train(&bench, &["--quiet", "--set", "checkpoint.keep=10"]).succeeded();
    // Evaluations are at steps 4, 8 and 12, checkpoints at every third step.
    let at_12 = bench.run(&["eval", "run/checkpoints/step_00000012", "--json"]).succeeded();
    assert!(at_12.stderr.contains("weights of step 12 (validation "), "{}", at_12.stderr);
    assert_eq!(at_12.result()["eval"], bench.run(&["eval", "run", "--json"]).succeeded().result()["eval"]);
    let at_9 = bench.run(&["eval", "run/checkpoints/step_00000009", "--json"]).succeeded();
    assert!(at_9.stderr.contains("weights of step 9 (not evaluated yet)"), "{}", at_9.stderr);
    assert_ne!(at_9.result()["eval"], at_12.result()["eval"]);
    let mut inside = bench.command(&["sample", "step_00000009/", "--tokens", "3"]);
    inside.current_dir(bench.path().join("run/checkpoints"));
    crate::common::Ran::of(inside.output().unwrap(), &["sample"]).succeeded();
    // Outside of its run it has no tokenizer.
    std::fs::rename(bench.path().join("run/checkpoints/step_00000009"), bench.path().join("step_00000009"))
        .unwrap();
    bench.run(&["sample", "step_00000009"]).refused(1, &["run folder"]);
}

#[test]
fn a_checkpoint_that_does_not_say_its_model_is_read_by_the_config() {
    let bench = bench();
    train(&bench, &["--quiet"]).succeeded();
    kill(&bench);
    let expected = bench.run(&["eval", "run", "--json"]).succeeded().result()["eval"].clone();
    let checkpoints = bench.path().join("run/checkpoints");
    let path = checkpoints.join("step_00000012");
    let mut parts = surprisal_store::checkpoint::load(&path).unwrap().parts;
    let mut state: Value = serde_json::from_slice(&parts["state.json"]).unwrap();
    assert_eq!(state.as_object_mut().unwrap().remove("model").unwrap()["kind"], "transformer");
    parts.insert("state.json".into(), serde_json::to_vec(&state).unwrap());
    std::fs::remove_dir_all(&path).unwrap();
    let parts: Vec<(&str, &[u8])> =
        parts.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    surprisal_store::checkpoint::save(&checkpoints, 12, &parts).unwrap();
    assert_eq!(bench.run(&["eval", "run", "--json"]).succeeded().result()["eval"], expected);
    bench.run(&["train", "--resume", "--out", "run", "--quiet"]).succeeded();
}

#[test]
fn a_run_that_keeps_its_last_weights_opens_with_them() {
    let bench = bench();
    train(&bench, &["--quiet", "--set", "train.select=last", "--set", "checkpoint.keep=10"]).succeeded();
    kill(&bench);
    std::fs::remove_dir_all(bench.path().join("run/checkpoints/step_00000012")).unwrap();
    let ran = bench.run(&["eval", "run"]).succeeded();
    assert!(ran.stderr.contains("weights of step 9 (not evaluated yet)"), "{}", ran.stderr);
}

#[test]
fn averaged_weights_are_what_is_opened() {
    let bench = bench();
    let settings = ["--set", "optim.ema=0.9", "--set", "checkpoint.keep=10", "--quiet"];
    train(&bench, &settings).succeeded();
    let judged = best(&bench, 12);
    kill(&bench);
    let eval = bench.run(&["eval", "run", "--json"]).succeeded().result();
    assert_eq!(eval["eval"]["nats_per_token"].as_f64().unwrap(), judged.1);
    // A run without an evaluation has averages, too; those of step 3 differ from its weights.
    let averaged = bench.run(&["eval", "run/checkpoints/step_00000003", "--json"]).succeeded().result();
    let config = bench.path().join("run/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("ema = 0.9", "ema = 0.0")).unwrap();
    let plain = bench.run(&["eval", "run/checkpoints/step_00000003", "--json"]).succeeded().result();
    assert_ne!(averaged["eval"], plain["eval"]);
}

#[test]
fn a_diverged_run_opens_and_says_so() {
    let bench = bench();
    let away = ["--set", "optim.lr=300", "--set", "optim.min_lr=300", "--set", "optim.grad_clip=0"];
    let often =
        ["--set", "optim.kind=sgd", "--set", "eval.every_steps=1", "--set", "checkpoint.every_steps=1"];
    train(&bench, &[&away[..], &often].concat()).refused(3, &["diverged at step"]);
    let kept = std::fs::read_to_string(bench.path().join("run/diverged.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    let (step, nats) = best(&bench, kept["step"].as_u64().unwrap() - 1);
    let said = format!(
        "this run diverged at step {}: these are its weights of step {step} (the best so far, validation {nats:.4} ",
        kept["step"]
    );
    for command in [&["eval", "run"][..], &["sample", "run", "--tokens", "3"], &["report", "run"]] {
        let ran = bench.run(command).succeeded();
        assert!(ran.stderr.contains(&said), "{command:?}: {}", ran.stderr);
    }
    assert_eq!(bench.run(&["inspect", "run", "--json"]).succeeded().result()["state"], "diverged");
    // A state with invalid numbers is not a valid checkpoint. The suggested command works.
    std::fs::remove_dir_all(bench.path().join("run")).unwrap();
    let far = ["--set", "optim.lr=1e9", "--set", "optim.min_lr=1e9", "--set", "optim.grad_clip=0"];
    let typed = "surprisal train --resume --out run --set optim.lr=1.0e8";
    train(&bench, &far).refused(3, &["diverged at step", "there was no checkpoint yet", typed]);
    for command in [&["eval", "run"], &["report", "run"]] {
        bench.run(command).refused(1, &["diverged at step", "no complete checkpoint", typed]);
    }
    bench.run(&["train", "--resume", "--out", "run"]).refused(3, &["diverged at step", typed]);
    bench.run(&["train", "--resume", "--out", "run", "--set", "optim.lr=1e-3"]).succeeded();
    bench.run(&["eval", "run"]).succeeded();
}

#[test]
fn a_run_without_its_texts_says_what_its_own_commands_can_do() {
    let bench = bench();
    train(&bench, &["--quiet"]).succeeded();
    kill(&bench);
    std::fs::rename(bench.path().join("a.txt"), bench.path().join("b.txt")).unwrap();
    for command in [&["report", "run"][..], &["train", "--resume", "--out", "run"]] {
        let ran = bench.run(command).refused(1, &["cannot read a.txt", "named in its config.toml", "--data"]);
        assert!(!ran.stderr.contains("embedded"), "{}", ran.stderr);
    }
    bench.text("a.txt", 150);
    bench.run(&["report", "run"]).refused(1, &["a.txt has changed", "--data"]);
}

#[test]
fn the_texts_of_a_run_are_found_from_any_folder_and_where_they_have_moved() {
    let bench = Bench::new();
    bench.text("texts/a.txt", 60);
    bench.text("texts/v.txt", 20);
    let train = ["train", "texts/a.txt", "--set", "train.steps=4", "--set", "sample.tokens=0", "-q"];
    bench.run(&[&train[..], &["--out", "runs/one"]].concat()).succeeded();
    bench.run(&[&train[..], &["--val", "texts/v.txt", "--out", "runs/two"]].concat()).succeeded();
    let eval = |arguments: &[&str], folder: &str| {
        let mut command = bench.command(&[&["eval"], arguments, &["--json"]].concat());
        Ran::of(command.current_dir(bench.path().join(folder)).output().unwrap(), arguments)
    };
    let of = |ran: Ran| ran.succeeded().result()["eval"].clone();
    let (one, two) = (of(eval(&["runs/one"], ".")), of(eval(&["runs/two"], ".")));
    std::fs::create_dir_all(bench.path().join("elsewhere")).unwrap();
    assert_eq!(of(eval(&["../runs/one"], "elsewhere")), one);
    assert_eq!(of(eval(&["two"], "runs")), two);
    let resumed =
        bench.command(&["report", "../runs/two"]).current_dir(bench.path().join("elsewhere")).output();
    Ran::of(resumed.unwrap(), &["report"]).succeeded();
    // Moved texts are named themselves, or by their new folder.
    std::fs::rename(bench.path().join("texts"), bench.path().join("elsewhere/moved")).unwrap();
    eval(&["runs/one"], ".").refused(1, &["cannot read texts/a.txt", "--data"]);
    assert_eq!(of(eval(&["runs/one", "--data", "elsewhere/moved/a.txt"], ".")), one);
    assert_eq!(of(eval(&["runs/two", "--data", "elsewhere/moved"], ".")), two);
    bench.run(&["report", "runs/two", "--data", "elsewhere/moved"]).succeeded();
    bench.run(&["report", "runs/one", "--data", "elsewhere/moved/a.txt"]).succeeded();
    // Another text is refused, as a changed one is.
    eval(&["runs/one", "--data", "elsewhere/moved/v.txt"], ".").refused(1, &["has changed"]);
}

#[test]
fn a_report_of_a_run_that_had_stopped_is_made_again_at_its_end() {
    let bench = bench();
    train(&bench, &["--quiet"]).succeeded();
    kill(&bench);
    bench.run(&["report", "run"]).succeeded();
    let page = || std::fs::read_to_string(bench.path().join("run/report.html")).unwrap();
    assert!(page().contains("this run is not finished"));
    bench.run(&["train", "--resume", "--out", "run", "--quiet"]).succeeded();
    assert!(!page().contains("this run is not finished"));
    // Without --report there is no report.
    kill(&bench);
    std::fs::remove_file(bench.path().join("run/report.html")).unwrap();
    bench.run(&["train", "--resume", "--out", "run", "--quiet"]).succeeded();
    assert!(!bench.path().join("run/report.html").exists());
}

#[test]
fn a_run_that_started_from_a_model_is_reported_on_without_it() {
    let bench = bench();
    train(&bench, &["--quiet"]).succeeded();
    bench.run(&["export", "run", "--format", "hf", "--out", "hf"]).succeeded();
    let from = ["train", "a.txt", "--out", "on", "-q", "--set", "model.init_from=hf", "--set"];
    let sets = ["train.steps=3", "--set", "train.block_size=16", "--set", "eval.stride=8"];
    bench.run(&[&from[..], &sets].concat()).succeeded();
    // Another model at its path has other tokens; the run's texts are unchanged.
    bench.text("b.txt", 3);
    std::fs::remove_dir_all(bench.path().join("hf")).unwrap();
    bench.run(&["report", "on"]).succeeded();
    let train = ["train", "small.toml", "b.txt", "--out", "other", "-q", "--set", "data.val=b.txt"];
    bench.run(&train).succeeded();
    bench.run(&["export", "other", "--format", "hf", "--out", "hf"]).succeeded();
    bench.run(&["report", "on"]).succeeded();
    std::fs::remove_dir_all(bench.path().join("hf")).unwrap();
    std::fs::remove_dir_all(bench.path().join("on/model")).unwrap();
    // The checkpoint has all that the run needs of it.
    bench.run(&["train", "--resume", "--out", "on"]).succeeded();
}

#[test]
fn a_comparison_is_known_whether_it_has_ended_or_not() {
    let bench = bench();
    let grid =
        format!("{SMALL}[data]\ntrain = [\"a.txt\"]\n[compare]\nseeds = [1]\n[[variant]]\nname = \"a\"\n");
    bench.file("grid.toml", grid);
    bench.run(&["compare", "grid.toml", "--out", "grid", "--quiet"]).succeeded();
    for _ in 0..2 {
        for command in [&["report", "grid"][..], &["train", "--resume", "--out", "grid"], &["eval", "grid"]] {
            let parts = ["the folder of a comparison", "a folder in cells/", "surprisal compare"];
            bench.run(command).refused(1, &parts);
        }
        let shown = bench.run(&["inspect", "grid"]).succeeded().stdout;
        assert!(shown.contains("the folder of a comparison") && shown.contains("cells/"), "{shown}");
        // Like a stopped one.
        for name in ["comparison.json", "report.html"] {
            let _ = std::fs::remove_file(bench.path().join("grid").join(name));
        }
    }
}

#[test]
fn a_run_without_weights_says_what_it_lacks() {
    let bench = bench();
    train(&bench, &["--quiet"]).succeeded();
    kill(&bench);
    std::fs::remove_dir_all(bench.path().join("run/checkpoints")).unwrap();
    for command in [&["eval", "run"][..], &["sample", "run"], &["inspect", "run"]] {
        bench.run(command).refused(1, &["not finished", "no complete checkpoint yet", "--resume --out run"]);
    }
    bench.run(&["train", "a.txt", "--out", "counted", "--quiet", "--set", "model.kind=ngram"]).succeeded();
    std::fs::remove_dir_all(bench.path().join("counted/model")).unwrap();
    bench
        .run(&["eval", "counted"])
        .refused(1, &["not finished", "not counted yet", "--resume --out counted"]);
}

#[cfg(unix)]
#[test]
fn a_running_run_is_read_without_disturbing_it() {
    let bench = bench();
    let long = ["train", "small.toml", "a.txt", "--out", "run", "--quiet", "--set", "train.steps=100000"];
    let often =
        ["--set", "checkpoint.every_steps=1", "--set", "checkpoint.keep=1", "--set", "eval.every_steps=50"];
    let mut child = bench.command(&[&long[..], &often].concat()).spawn().unwrap();
    let started = Instant::now();
    let checkpoints = bench.path().join("run/checkpoints");
    while std::fs::read_dir(&checkpoints).is_ok_and(|entries| {
        !entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("step_"))
    }) || !checkpoints.exists()
    {
        assert!(started.elapsed() < Duration::from_secs(60), "no checkpoint in a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    let said = format!("this run is still being written to by process {}", child.id());
    for command in [&["eval", "run"][..], &["sample", "run", "--tokens", "3"], &["report", "run"]] {
        let ran = bench.run(command).succeeded();
        assert!(ran.stderr.contains(&said) && !ran.stderr.contains("skipped"), "{command:?}: {}", ran.stderr);
    }
    assert_eq!(bench.run(&["inspect", "run", "--json"]).succeeded().result()["state"], "running");
    assert!(child.try_wait().unwrap().is_none(), "the run was disturbed");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bench.run(&["inspect", "run", "--json"]).succeeded().result()["state"], "stopped");
}

#[test]
fn a_finished_run_is_left_alone_by_resume() {
    let bench = bench();
    for (more, steps) in [(&["--budget", "0.05s"][..], None), (&[], Some(12))] {
        let trained = train(&bench, &[&["--quiet", "--json"], more].concat()).succeeded().result();
        assert!(steps.is_none_or(|steps| trained["steps"] == steps));
        let before = everything(&bench.path().join("run"));
        // A finished run does not need its text.
        std::fs::rename(bench.path().join("a.txt"), bench.path().join("b.txt")).unwrap();
        let ran = bench.run(&["train", "--resume", "--out", "run", "--json"]).succeeded();
        // One step, on a slow machine.
        let said = format!("this run is finished ({} step", trained["steps"]);
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
        assert_eq!(ran.result(), trained);
        assert_eq!(everything(&bench.path().join("run")), before);
        std::fs::rename(bench.path().join("b.txt"), bench.path().join("a.txt")).unwrap();
        // A damaged model is not finished and is made again.
        let weights = bench.path().join("run/model/model.safetensors");
        let whole = std::fs::read(&weights).unwrap();
        std::fs::write(&weights, &whole[..100]).unwrap();
        bench.run(&["train", "--resume", "--out", "run", "--quiet"]).succeeded();
        assert!(steps.is_none() || std::fs::read(&weights).unwrap() == whole);
        std::fs::remove_dir_all(bench.path().join("run")).unwrap();
    }
}

#[test]
fn a_finished_run_says_what_to_type_to_go_on_from_it() {
    let bench = bench();
    let judged = train(&bench, &["--quiet", "--json"]).succeeded().result();
    let nats = |result: &Value| result["eval"]["nats_per_token"].as_f64().unwrap();
    let ran = bench.run(&["train", "--resume", "--out", "run"]).succeeded();
    let said = "surprisal train --resume --out run --set train.steps=+N";
    assert!(ran.stderr.contains("this run is finished (12 steps); it is not changed\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    // The suggested command works, and starts from the end of the run.
    bench.run(&["export", "run", "--format", "hf", "--out", "folder"]).succeeded();
    let on = ["train", "run/config.toml", "--set", "model.init_from=folder", "--out", "new", "--json"];
    let hardly = ["--set", "train.steps=1", "--set", "optim.lr=1e-9"];
    let on = bench.run(&[&on[..], &hardly].concat()).succeeded().result();
    assert!((nats(&on) - nats(&judged)).abs() < 1e-4, "{} {}", nats(&on), nats(&judged));
}

#[test]
fn a_changed_validation_text_is_called_by_its_name() {
    let bench = bench();
    bench.text("val.txt", 40);
    let set = ["--set", "model.kind=ngram", "--set", "data.val=[\"val.txt\"]"];
    bench.run(&[&["train", "a.txt", "--out", "counted", "--quiet"], &set[..]].concat()).succeeded();
    let had = std::fs::metadata(bench.path().join("val.txt")).unwrap().len();
    bench.text("val.txt", 41);
    let has = std::fs::metadata(bench.path().join("val.txt")).unwrap().len();
    let change = format!(
        "val.txt has changed since the run was made: it had {} tokens and has {} now",
        common_thousands(had),
        common_thousands(has)
    );
    for command in ["eval", "report"] {
        bench.run(&[command, "counted"]).refused(1, &[&change]);
    }
}

#[test]
fn a_changed_text_is_not_called_the_validation_split() {
    let bench = bench();
    train(&bench, &["--quiet"]).succeeded();
    bench.run(&["train", "a.txt", "--out", "counted", "--quiet", "--set", "model.kind=ngram"]).succeeded();
    let text = sentences(200);
    let longer = text.clone() + &sentences(40);
    let other = text.replace("nothing.", "a thing.");
    assert_eq!(other.len(), text.len());
    for run in ["run", "counted"] {
        for changed in [&longer, &other] {
            bench.file("a.txt", changed);
            for command in [&["eval", run][..], &["report", run]] {
                bench.run(command).refused(1, &["has changed since the run was made", "hint"]);
            }
            // An explicitly named text is accepted.
            bench.run(&["eval", run, "a.txt"]).succeeded();
        }
        let tokens = |text: &str| text.len() - (0.9 * text.len() as f64) as usize;
        bench.file("a.txt", &longer);
        let change = format!("had {} tokens and has {} now", tokens(&text), tokens(&longer));
        bench.run(&["eval", run]).refused(1, &["its validation split", &change]);
        // If only the training part has changed, the evaluation is valid, but the report is not.
        bench.file("a.txt", text.replacen("the", "teh", 1));
        bench.run(&["eval", run]).succeeded();
        bench.run(&["report", run]).refused(1, &["its training split has other tokens now"]);
        bench.file("a.txt", &text);
        bench.run(&["eval", run]).succeeded();
        // The config may name another text, a part of the training text.
        let config = bench.path().join(run).join("config.toml");
        let settings = std::fs::read_to_string(&config).unwrap();
        bench.file("part.txt", &text[..text.len() / 2]);
        std::fs::write(&config, settings.replace("a.txt", "part.txt")).unwrap();
        for command in ["eval", "report"] {
            bench.run(&[command, run]).refused(1, &["part.txt has changed", "hint"]);
        }
        std::fs::write(&config, settings).unwrap();
        // A run of an older version knows only the number of tokens.
        let metrics = bench.path().join(run).join("metrics.jsonl");
        let record = std::fs::read_to_string(&metrics).unwrap();
        let mut lines: Vec<Value> = record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines[0].as_object_mut().unwrap().remove("texts").is_some());
        let old: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&metrics, old).unwrap();
        let ran = bench.run(&["eval", run, "--quiet"]).succeeded();
        assert!(
            ran.stderr.contains("no hash of a.txt") && ran.stderr.contains("is not checked"),
            "{}",
            ran.stderr
        );
        bench.file("a.txt", &longer);
        bench.run(&["eval", run]).refused(1, &["has changed since the run was made"]);
        bench.file("a.txt", &text);
    }
}
