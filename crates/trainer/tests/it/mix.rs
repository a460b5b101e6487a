//! Mixtures on the command line, and mixtures written as one model.

use crate::common::{Bench, sentences};
use serde_json::Value;
use surprisal_model::{LanguageModel, best_weights};

/// Two texts of different words, a held-out text of both, and a text for evaluation.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.text("a.txt", 200);
    let b = sentences(120).replace("cat", "cow").replace("rain", "snow").replace("the old man", "she");
    bench.file("b.txt", b);
    bench.file(
        "held.txt",
        "the cat sees the snow.\na cow likes the rain.\nshe hears a song.\n the old cow ran\n".repeat(4),
    );
    bench.text("c.txt", 30);
    bench
}

fn count(bench: &Bench, text: &str, out: &str, more: &[&str]) {
    bench.run(&[&["count", text, "--order", "3", "--out", out, "--quiet"], more].concat()).succeeded();
}

fn nats(result: &Value) -> f64 {
    result["eval"]["nats_per_token"].as_f64().unwrap()
}

fn eval(bench: &Bench, model: &str, text: &str) -> f64 {
    nats(&bench.run(&["eval", model, text, "--json"]).succeeded().result())
}

fn close(a: f64, b: f64, by: f64) {
    assert!((a - b).abs() < by, "{a} {b}");
}

#[test]
fn weights_are_those_of_the_library_and_the_mixture_is_no_worse_than_its_parts() {
    let bench = bench();
    // Models with one vocabulary, which need no mapping.
    bench.file("both.txt", format!("{}{}", sentences(200), sentences(40).to_uppercase()));
    count(&bench, "both.txt", "a.ngram", &[]);
    count(&bench, "both.txt", "b.ngram", &["--smoothing", "witten_bell"]);
    count(&bench, "both.txt", "u.arpa", &["--tune"]);
    let arguments = ["mix", "a.ngram", "b.ngram", "u.arpa", "--heldout", "held.txt", "--json"];
    let result = bench.run(&arguments).succeeded().result();
    let held = bench.path().join("held.txt");
    let mut scores = Vec::new();
    for name in ["a.ngram", "b.ngram", "u.arpa"] {
        let path = bench.path().join(name);
        let open = if name.ends_with("arpa") {
            surprisal_formats::arpa::open
        } else {
            surprisal_formats::ngram::open
        };
        let (model, tokenizer) = open(path).unwrap();
        let held = std::slice::from_ref(&held);
        let text = surprisal_text::encode_files(
            held,
            &tokenizer,
            &surprisal_text::InputOptions::default(),
            surprisal_text::EncodeOptions::default(),
        )
        .unwrap()
        .tokens;
        let lines: Vec<&[u32]> = text.sequences().collect();
        let mut own = Vec::new();
        model.each_log_probs(&lines, 1, &mut |_, log_probs| own.extend_from_slice(log_probs)).unwrap();
        scores.push(own);
    }
    let weights = best_weights(&scores);
    for (i, weight) in weights.iter().enumerate() {
        close(result["weights"][i].as_f64().unwrap(), *weight, 1e-12);
        close(
            nats(&result["models"][i]),
            eval(&bench, ["a.ngram", "b.ngram", "u.arpa"][i], "held.txt"),
            1e-12,
        );
        assert!(nats(&result) <= nats(&result["models"][i]) + 1e-4);
    }
    assert_eq!((&result["event"], &result["text_is_heldout"]), (&"result".into(), &true.into()));
    // On another text, with the same weights.
    let other = bench.run(&[&arguments[..], &["c.txt"]].concat()).succeeded().result();
    assert_eq!((&other["weights"], &other["text_is_heldout"]), (&result["weights"], &false.into()));
    close(nats(&other["models"][0]), eval(&bench, "a.ngram", "c.txt"), 1e-12);
    // Plain output.
    let ran = bench.run(&["mix", "a.ngram", "b.ngram", "--heldout", "held.txt"]).succeeded();
    assert!(
        ran.stdout.contains("weights were fitted") && ran.stdout.contains("the mixture"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.contains("fitting weights"));
    assert!(
        bench
            .run(&["mix", "a.ngram", "b.ngram", "--heldout", "held.txt", "-q"])
            .succeeded()
            .stderr
            .is_empty()
    );
}

#[test]
fn one_static_model_is_written_and_read_by_everything() {
    let bench = bench();
    count(&bench, "a.txt", "a.ngram", &[]);
    count(&bench, "b.txt", "b.arpa", &["--smoothing", "witten_bell"]);
    count(&bench, "c.txt", "c.ngram", &["--smoothing", "katz"]);
    let mut results = Vec::new();
    for out in ["m.ngram", "m.arpa"] {
        let arguments =
            ["mix", "a.ngram", "b.arpa", "c.ngram", "--heldout", "held.txt", "--out", out, "--json"];
        let ran = bench.run(&arguments).succeeded();
        assert!(ran.stderr.contains("mixing needs "), "{}", ran.stderr);
        let result = ran.result();
        let written = &result["written"][0];
        let size = std::fs::metadata(bench.path().join(out)).unwrap().len();
        assert_eq!((&written["path"], &written["bytes"]), (&out.into(), &size.into()));
        // In an ARPA file numbers are rounded.
        close(eval(&bench, out, "held.txt"), nats(written), 1e-6);
        // The one model is close to the mixture.
        close(nats(written), nats(&result), 0.05);
        assert_eq!(result["eval"]["oov"], 4);
        results.push(result);
    }
    assert_eq!(results[0]["eval"], results[1]["eval"]);
    bench.run(&["export", "m.ngram", "--out", "again.arpa"]).succeeded();
    let read = |name: &str| std::fs::read(bench.path().join(name)).unwrap();
    assert_eq!(read("again.arpa"), read("m.arpa"));
    for model in ["m.ngram", "m.arpa"] {
        bench.run(&["sample", model, "--tokens", "20"]).succeeded();
        bench.run(&["inspect", model]).succeeded();
        bench.run(&["eval", model, "held.txt", "--calibration"]).succeeded();
    }
    bench.run(&["export", "m.ngram", "--quantize", "8", "--out", "q.ngram"]).succeeded();
    // It can be mixed again.
    bench.run(&["mix", "m.arpa", "c.ngram", "--weights", "1,3", "--out", "again.ngram"]).succeeded();
    let text = String::from_utf8(read("m.arpa")).unwrap();
    assert!(text.contains("the cat") && text.contains("the cow"));
}

#[test]
fn a_model_with_itself_is_that_model() {
    let bench = bench();
    count(&bench, "a.txt", "a.ngram", &["--tokenizer", "char"]);
    let result = bench
        .run(&["mix", "a.ngram", "a.ngram", "--weights", "0.7,0.3", "--out", "m.ngram", "--json", "c.txt"])
        .succeeded()
        .result();
    let alone = eval(&bench, "a.ngram", "c.txt");
    assert_eq!(result["weights"], serde_json::json!([0.7, 0.3]));
    close(nats(&result), alone, 1e-12);
    close(nats(&result["written"][0]), alone, 1e-12);
    close(eval(&bench, "m.ngram", "c.txt"), alone, 1e-12);
}

#[test]
fn counted_and_neural_models_mix() {
    let bench = bench();
    let small = [
        "--set",
        "train.steps=3",
        "--set",
        "train.batch_size=2",
        "--set",
        "train.block_size=16",
        "--set",
        "eval.stride=8",
        "--quiet",
    ];
    bench
        .run(&[&["train", "a.txt", "--set", "model.kind=bigram", "--out", "neural"], &small[..]].concat())
        .succeeded();
    bench
        .run(&[
            "train",
            "a.txt",
            "--set",
            "model.kind=ngram",
            "--set",
            "model.order=3",
            "--out",
            "counted",
            "--quiet",
        ])
        .succeeded();
    let mix = ["mix", "neural", "counted", "--heldout", "b.txt"];
    let result = bench.run(&[&mix[..], &["--json", "c.txt"]].concat()).succeeded().result();
    for (i, model) in ["neural", "counted"].into_iter().enumerate() {
        close(nats(&result["models"][i]), eval(&bench, model, "c.txt"), 1e-9);
    }
    let before = bench.entries();
    bench
        .run(&[&mix[..], &["--out", "m.ngram"]].concat())
        .refused(2, &["neural is a bigram", "no n-grams", "hint"]);
    assert_eq!(bench.entries(), before);
}

#[test]
fn what_cannot_be_mixed_is_refused_and_leaves_nothing() {
    let bench = bench();
    count(&bench, "a.txt", "word.ngram", &[]);
    count(&bench, "b.txt", "b.ngram", &[]);
    count(&bench, "a.txt", "char.ngram", &["--tokenizer", "char"]);
    count(&bench, "a.txt", "stream.ngram", &["--unit", "stream"]);
    count(&bench, "a.txt", "scores.ngram", &["--smoothing", "stupid_backoff"]);
    let sets = ["data.unit=line", "tokenizer.kind=word", "model.kind=ngram", "model.closed=true"];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    bench.run(&[&["train", "a.txt", "--out", "closed", "--quiet"], &sets[..]].concat()).succeeded();
    bench.file("empty.txt", "");
    let held = ["--heldout", "held.txt"];
    let before = bench.entries();
    let cases: [(&[&str], i32, &[&str]); 14] = [
        (&["word.ngram"], 2, &["two models", "hint"]),
        (&["word.ngram", "gone"], 1, &["cannot open `gone`", "hint"]),
        (&["word.ngram", "gone.ngram"], 1, &["gone.ngram"]),
        (&["word.ngram", "char.ngram"], 2, &["word tokens", "char tokens", "hint"]),
        (&["word.ngram", "stream.ngram"], 2, &["line by line", "of a stream"]),
        (&["word.ngram", "scores.ngram"], 2, &["scores.ngram", "do not sum to one", "hint"]),
        (&["closed", "b.ngram"], 2, &["closed vocabulary", "hint"]),
        (&["word.ngram", "b.ngram", "--weights", "1"], 2, &["--weights", "2 models", "hint"]),
        (&["word.ngram", "b.ngram", "--weights", "1,2,3"], 2, &["--weights"]),
        (&["word.ngram", "b.ngram", "--weights", "1,-1"], 2, &["--weights"]),
        (&["word.ngram", "b.ngram", "--weights", "NaN,1"], 2, &["--weights"]),
        (&["word.ngram", "b.ngram", "gone.txt"], 1, &["gone.txt"]),
        (&["word.ngram", "b.ngram", "empty.txt"], 1, &["empty.txt"]),
        (&["word.ngram", "b.ngram", "--out", "m.txt"], 2, &["m.txt", ".ngram or .arpa"]),
    ];
    for (arguments, code, parts) in cases {
        let out = if arguments.contains(&"--out") { &[][..] } else { &["--out", "m.ngram"] };
        bench.run(&[&["mix"], arguments, &held, out].concat()).refused(code, parts);
        assert_eq!(bench.entries(), before, "{arguments:?} left something behind");
    }
    bench.run(&["mix", "word.ngram", "b.ngram", "c.txt"]).refused(2, &["--heldout", "--weights"]);
    bench.run(&["mix", "word.ngram", "b.ngram", "--weights", "1,1"]).refused(2, &["nothing to do"]);
    bench.run(&["mix", "word.ngram", "b.ngram", "--heldout", "empty.txt"]).refused(1, &["empty.txt"]);
    // Equal vocabularies can be mixed, closed or not.
    bench.run(&["mix", "closed", "word.ngram", "--heldout", "held.txt"]).succeeded();
    assert_eq!(bench.entries(), before);
}

/// A word 3-gram of one text and a 1-gram of another.
fn context_bench() -> Bench {
    let bench = bench();
    count(&bench, "a.txt", "a.ngram", &[]);
    bench.run(&["count", "b.txt", "--order", "1", "--out", "b.arpa", "--quiet"]).succeeded();
    bench
}

#[test]
fn a_mixture_by_context_is_saved_and_is_a_model_for_every_command() {
    let bench = context_bench();
    let mix = ["mix", "a.ngram", "b.arpa", "--heldout", "held.txt", "--by-context"];
    let result =
        bench.run(&[&mix[..], &["--json", "--out", "new/m", "held.txt"]].concat()).succeeded().result();
    let by_context = &result["by_context"];
    assert!(nats(by_context) < nats(&result), "{by_context} {}", result["eval"]);
    assert_eq!(result["written"][0]["eval"], by_context["eval"]);
    assert_eq!(
        (&by_context["weights"]["kind"], &by_context["weights"]["bins_of"]),
        (&"context".into(), &0.into())
    );
    // The very bits.
    let found = bench.run(&["eval", "new/m", "held.txt", "--json"]).succeeded().result();
    assert_eq!(found["eval"], by_context["eval"]);
    let other = bench.run(&[&mix[..], &["--json", "c.txt"]].concat()).succeeded().result();
    assert_eq!(eval(&bench, "new/m", "c.txt"), nats(&other["by_context"]));
    let table = bench.run(&mix).succeeded().stdout;
    for part in ["weights were fitted", "the mixture, by context", "of a.ngram", "b.arpa: weights from"] {
        assert!(table.contains(part), "{table}");
    }
    let said = bench.run(&["inspect", "new/m"]).succeeded().stdout;
    for part in ["a mixture of models", "a.ngram", "b.arpa", "by context"] {
        assert!(said.contains(part), "{said}");
    }
    let rows = bench.run(&["score", "new/m", "c.txt", "--by", "line"]).succeeded().stdout;
    assert!(rows.lines().count() >= 30);
    bench.run(&["sample", "new/m", "--tokens", "20"]).succeeded();
    bench.run(&["explain", "new/m", "a.ngram", "--text", "the cat"]).succeeded();
    let step = bench.run(&["explain", "new/m", "--text", "the cat", "--step", "1"]).succeeded().stdout;
    assert!(step.contains("a mixture has none"), "{step}");
    bench.run(&["eval", "new/m", "c.txt", "--calibration"]).succeeded();
    // It can be mixed again, but not written within a mixture.
    bench.run(&["mix", "new/m", "b.arpa", "--weights", "1,1", "c.txt"]).succeeded();
    let before = bench.entries();
    let again = ["mix", "new/m", "b.arpa", "--weights", "1,1", "--out"];
    bench.run(&[&again[..], &["mm"]].concat()).refused(2, &["part of a mixture", "hint"]);
    bench.run(&[&again[..], &["m.arpa"]].concat()).refused(2, &["new/m is a mixture", "hint"]);
    bench.run(&[&mix[..], &["--out", "m.arpa"]].concat()).refused(2, &["one weight per model", "hint"]);
    bench.run(&[&mix[..], &["--out", "new/m"]].concat()).refused(1, &["new/m"]);
    bench.run(&["export", "new/m", "--out", "m.arpa"]).refused(2, &["mixture", "cannot be written", "hint"]);
    bench
        .run(&["train", "a.txt", "--from", "new/m", "--out", "r"])
        .refused(1, &["a mixture of models", "hint"]);
    bench.run(&["mix", "a.ngram", "b.arpa", "--by-context", "c.txt"]).refused(2, &["--heldout"]);
    assert_eq!(bench.entries(), before);
}

#[test]
fn counted_and_neural_models_are_saved_with_their_stride() {
    let bench = bench();
    let sets = [
        "train.steps=3",
        "train.batch_size=2",
        "train.block_size=16",
        "eval.stride=3",
        "data.normalize=\"nfc\"",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let train = ["train", "a.txt", "--set", "model.kind=mlp", "--out", "neural", "--quiet"];
    bench.run(&[&train[..], &sets].concat()).succeeded();
    let counted = ["--set", "model.kind=ngram", "--set", "model.order=4", "--out", "counted", "--quiet"];
    bench.run(&[&["train", "a.txt"], &counted[..]].concat()).succeeded();
    bench.run(&["train", "a.txt", "--set", "model.kind=uniform", "--out", "uniform", "--quiet"]).succeeded();
    let parts = ["mix", "neural", "counted", "uniform"];
    for (flags, out, pointer) in [
        (&["--weights", "1,2,3"][..], "fixed", "/eval"),
        (&["--heldout", "b.txt"], "fitted", "/eval"),
        (&["--heldout", "b.txt", "--by-context"], "binned", "/by_context/eval"),
    ] {
        let ran = bench.run(&[&parts, flags, &["--out", out, "--json", "c.txt"]].concat()).succeeded();
        let found = bench.run(&["eval", out, "c.txt", "--json"]).succeeded().result();
        assert_eq!(Some(&found["eval"]), ran.result().pointer(pointer), "{out}");
    }
    bench
        .run(&["mix", "neural", "uniform", "--heldout", "b.txt", "--by-context"])
        .refused(2, &["need an n-gram model", "hint"]);
    // The explained tokens are those of the evaluation.
    let explained =
        bench.run(&["explain", "binned", "--text", "the cat sees", "--json"]).succeeded().result();
    assert!(explained["tokens"].as_array().unwrap().len() > 5);
}

#[test]
fn a_damaged_mixture_or_one_of_a_later_version_is_refused() {
    let bench = context_bench();
    let mix = ["mix", "a.ngram", "b.arpa", "--heldout", "held.txt", "--by-context", "--out", "m", "-q"];
    bench.run(&mix).succeeded();
    let eval = ["eval", "m", "c.txt"];
    let folder = bench.path().join("m");
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names.len(), 9);
    for path in names {
        let bytes = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        for damaged in [&flipped[..], &bytes[..bytes.len() / 2], &[]] {
            std::fs::write(&path, damaged).unwrap();
            // Without a manifest it is a folder of any kind.
            let said = if name == "manifest.json" { "m" } else { name };
            bench.run(&eval).refused(1, &[said]);
        }
        std::fs::remove_file(&path).unwrap();
        bench.run(&eval).refused(1, &["m"]);
        std::fs::write(&path, bytes).unwrap();
    }
    bench.run(&eval).succeeded();
    // Files that say what no program of this version writes, with hashes that fit.
    let config = std::fs::read_to_string(folder.join("mixture.json")).unwrap();
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    for (from, to, said) in [
        ("\"version\": 1", "\"version\": 2", &["mixture.json", "its version is 2", "reads version 1"][..]),
        ("\"kind\": \"context\"", "\"kind\": \"trained\"", &["mixture.json", "trained"]),
        ("\"bins_of\": 0", "\"bins_of\": 1000", &["the mixture in m is damaged"]),
        ("\"name\": \"b.arpa\"", "\"nome\": \"b.arpa\"", &["mixture.json", "nome"]),
    ] {
        let changed = config.replacen(from, to, 1);
        assert_ne!(changed, config, "{from}");
        let entry = |text: &str| {
            let hash = blake3::hash(text.as_bytes()).to_hex();
            format!("\"bytes\": {},\n      \"blake3\": \"{hash}\"", text.len())
        };
        let hashed = manifest.replacen(&entry(&config), &entry(&changed), 1);
        assert_ne!(hashed, manifest);
        bench.file("m/mixture.json", &changed);
        bench.file("m/manifest.json", hashed);
        bench.run(&eval).refused(1, said);
    }
}
