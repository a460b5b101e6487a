//! The start of samples, valid prompts, and texts with tokens unknown to the initial model.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails where something is wrong")]

mod common;

use common::{Bench, sentences};
use serde_json::Value;

/// Lines of letters that are three bytes each.
fn wide(lines: usize) -> String {
    sentences(lines)
        .chars()
        .map(|c| if c.is_ascii_lowercase() { char::from_u32(0x4E00 + 37 * c as u32).unwrap() } else { c })
        .collect()
}

fn set(keys: &[&'static str]) -> Vec<&'static str> {
    keys.iter().flat_map(|key| ["--set", key]).collect()
}

fn train(bench: &Bench, text: &str, out: &str, keys: &[&'static str]) -> Vec<Value> {
    bench.run(&[&["train", text, "--out", out, "--json"][..], &set(keys)].concat()).succeeded().events()
}

fn sample(bench: &Bench, model: &str, seed: u64, more: &[&str]) -> String {
    let seed = seed.to_string();
    let all = [&["sample", model, "--tokens", "12", "--json", "--seed", &seed][..], more].concat();
    bench.run(&all).succeeded().result()["text"].as_str().unwrap().to_owned()
}

/// A sample without randomness.
fn greedy(bench: &Bench, model: &str) -> String {
    let all = ["sample", model, "--tokens", "12", "--json", "--temperature", "0"];
    bench.run(&all).succeeded().result()["text"].as_str().unwrap().to_owned()
}

/// The first characters of the lines of `text`.
fn starts(text: &str) -> Vec<char> {
    text.lines().filter_map(|line| line.chars().next()).collect()
}

const COUNTED: [&str; 3] = ["model.kind=ngram", "model.order=6", "sample.tokens=30"];
const SMALL: [&str; 8] = [
    "model.n_layer=1",
    "model.n_head=2",
    "model.n_embd=16",
    "train.steps=30",
    "train.block_size=16",
    "optim.warmup=2",
    "sample.tokens=30",
    "eval.every_epochs=0",
];

#[test]
fn a_sample_without_a_prompt_starts_as_a_line_does() {
    let bench = Bench::new();
    let text = wide(120);
    bench.file("a.txt", &text);
    let lines = starts(&text);
    for kind in ["tokenizer.kind=byte", "tokenizer.kind=char", "tokenizer.kind=word", "tokenizer.kind=bpe"] {
        let out = &kind["tokenizer.kind=".len()..];
        let events = train(&bench, "a.txt", out, &[&COUNTED[..], &[kind]].concat());
        for seed in 0..6 {
            let written = sample(&bench, out, seed, &["--temperature", "1"]);
            assert!(lines.contains(&written.chars().next().unwrap()), "{out}: {written:?}");
            let whole = written.trim_end_matches('\u{FFFD}');
            assert!(!whole.contains('\u{FFFD}') && !whole.contains("<unk>"), "{out}: {written:?}");
        }
        assert!(lines.contains(&greedy(&bench, out).chars().next().unwrap()));
        // The same start as at the end of training, from the run's record.
        let shown = events.iter().find(|event| event["event"] == "sample").unwrap();
        let again = ["--tokens", "30", "--temperature", "0.8", "--seed", "1337", "--json"];
        let again = bench.run(&[&["sample", out][..], &again].concat()).succeeded().result();
        assert_eq!(again["text"], shown["text"], "{out}");
    }
}

#[test]
fn a_text_of_one_line_is_started_as_it_starts() {
    let bench = Bench::new();
    bench.file("a.txt", wide(120).replace('\n', " "));
    let first = wide(1).chars().next().unwrap();
    let word = wide(1).split(' ').next().unwrap().to_owned();
    for kind in ["tokenizer.kind=byte", "tokenizer.kind=char", "tokenizer.kind=bpe", "tokenizer.kind=word"] {
        let out = &kind["tokenizer.kind=".len()..];
        train(&bench, "a.txt", out, &[&SMALL[..], &[kind]].concat());
        for seed in 0..4 {
            let written = sample(&bench, out, seed, &[]);
            assert!(written.starts_with(first), "{out}: {written:?}");
            assert!(out != "word" || written.starts_with(&word), "{written:?}");
        }
    }
}

#[test]
fn a_trained_model_never_starts_with_the_unknown() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    for (out, kind) in [("char", "tokenizer.kind=char"), ("word", "tokenizer.kind=word")] {
        train(&bench, "a.txt", out, &[&SMALL[..], &[kind]].concat());
        let drawn = |temperature| {
            let bench = &bench;
            (0..5).map(move |seed| sample(bench, out, seed, &["--temperature", temperature]))
        };
        for written in drawn("1").chain(drawn("100")).chain([greedy(&bench, out)]) {
            assert!(!written.starts_with("<unk>") && !written.starts_with('\n'), "{out}: {written:?}");
        }
    }
    // A run of an older version without this record starts after a line end.
    let metrics = bench.path().join("char/metrics.jsonl");
    let text = std::fs::read_to_string(&metrics).unwrap();
    let before = sample(&bench, "char", 5, &[]);
    assert!(text.lines().next().unwrap().contains("\"opening\""));
    std::fs::write(&metrics, text.replacen("\"opening\"", "\"closing\"", 1)).unwrap();
    assert_eq!(sample(&bench, "char", 5, &[]), before);
    // A record with ids outside of the vocabulary is ignored.
    std::fs::write(&metrics, text.replacen("\"before\":[", "\"before\":[9999,", 1)).unwrap();
    assert_eq!(sample(&bench, "char", 5, &[]), before);
    // Models of sentences start sentences.
    train(
        &bench,
        "a.txt",
        "lines",
        &["model.kind=ngram", "model.order=3", "data.unit=line", "model.smoothing=kneser_ney"],
    );
    for seed in 0..5 {
        assert!(
            starts(&sentences(120)).contains(&sample(&bench, "lines", seed, &[]).chars().next().unwrap())
        );
    }
}

#[test]
fn a_prompt_that_the_model_does_not_know_is_refused_by_name() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    train(&bench, "a.txt", "char", &COUNTED);
    train(&bench, "a.txt", "word", &[&COUNTED[..], &["tokenizer.kind=word"]].concat());
    train(&bench, "a.txt", "byte", &[&COUNTED[..], &["tokenizer.kind=byte"]].concat());
    bench
        .run(&["sample", "char", "--prompt", "the Ω cat Ω\u{1b}"])
        .refused(2, &["does not know: \"\\u{1b}\", \"Ω\"\n", "character", "--allow-unknown"]);
    bench
        .run(&["sample", "word", "--prompt", "the zebra hears\ta gnu"])
        .refused(2, &["does not know: \"gnu\", \"zebra\"\n", "word", "--allow-unknown"]);
    for (model, prompt) in [("char", "the cΩt"), ("word", "the zebra")] {
        let ran =
            bench.run(&["sample", model, "--prompt", prompt, "--allow-unknown", "--tokens", "3"]).succeeded();
        assert!(ran.stdout.starts_with("the "), "{}", ran.stdout);
    }
    // A known prompt is continued as before; bytes know every prompt.
    let ran = bench.run(&["sample", "char", "--prompt", "the cat", "--tokens", "5"]).succeeded();
    assert!(ran.stdout.starts_with("the cat"), "{}", ran.stdout);
    bench.run(&["sample", "byte", "--prompt", "Ω", "--tokens", "3"]).succeeded();
}

#[test]
fn numbers_out_of_range_are_refused_in_our_words() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    train(&bench, "a.txt", "run", &COUNTED);
    bench.run(&["sample", "run", "--temperature", "-1"]).refused(2, &["--temperature is -1", "0 or more"]);
    bench.run(&["sample", "run", "--top-p", "-0.5"]).refused(2, &["--top-p is -0.5"]);
    bench.run(&["sample", "run", "--seed", "-3"]).refused(2, &["--seed"]);
    // The same range of seeds as in a config.
    bench.run(&["sample", "run", "--seed", "9223372036854775807", "--tokens", "1"]).succeeded();
    bench.run(&["sample", "run", "--seed", "9223372036854775808"]).refused(2, &["9223372036854775807"]);
}

#[test]
fn a_model_is_not_started_from_on_a_text_that_it_does_not_know() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    bench.file("wide.txt", wide(60));
    bench.file("few.txt", sentences(60).replacen("bird", "birδ", 6));
    train(&bench, "a.txt", "run", &SMALL);
    bench.run(&["export", "run", "--format", "hf", "--out", "hf"]).succeeded();
    let short = ["train.steps=2", "train.block_size=16", "sample.tokens=0", "model.init_from=hf"];
    let on = |text: &'static str, more: &[&'static str]| {
        bench.run(&[&["train", text, "--out", "on"][..], &set(&[&short[..], more].concat())].concat())
    };
    let ran = on("wide.txt", &[]).refused(2, &[" % of the training text is unknown", "model.max_unknown=1"]);
    // The most frequent first.
    let count = |c: char| {
        let text = wide(60);
        let train = &text[..text.len() * 9 / 10];
        train.matches(c).count()
    };
    let most = wide(60).chars().filter(|c| !c.is_ascii()).max_by_key(|c| count(*c)).unwrap();
    assert!(ran.stderr.contains(&format!("tokens: \"{most}\" ")), "{}", ran.stderr);
    assert!(!bench.path().join("on").exists());
    on("wide.txt", &["model.max_unknown=0.1"]).refused(2, &["unknown"]);
    // A few unknown characters can be added, or allowed; another kind of tokens is said.
    on("few.txt", &[]).refused(2, &["1 different character, 6 of", "--extend-vocab"]);
    let ran = on("few.txt", &["tokenizer.kind=word", "model.max_unknown=0.1"]).succeeded();
    assert!(ran.stderr.contains("\"δ\" 6×"), "{}", ran.stderr);
    let note = "has its own tokenizer (char); tokenizer.kind = word is not used";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    std::fs::remove_dir_all(bench.path().join("on")).unwrap();
    on("wide.txt", &["model.max_unknown=1"]).succeeded();
    std::fs::remove_dir_all(bench.path().join("on")).unwrap();
    // Without its tokenizer the meaning of its tokens is unknown.
    std::fs::remove_file(bench.path().join("hf/tokenizer.json")).unwrap();
    on("a.txt", &["model.kind=transformer"]).refused(2, &["no tokenizer.json", "hint"]);
    let bad = ["train.steps=1", "model.max_unknown=0.5"];
    bench
        .run(&[&["train", "a.txt"][..], &set(&bad)].concat())
        .refused(2, &["model.max_unknown means nothing"]);
}

/// Unknown tokens for an initial model are counted exactly.
#[test]
fn the_allowed_share_of_unknown_characters_is_exact() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    bench.text("val.txt", 20);
    train(&bench, "a.txt", "run", &SMALL);
    bench.run(&["export", "run", "--format", "hf", "--out", "hf"]).succeeded();
    let short = [
        "train.steps=1",
        "train.block_size=16",
        "sample.tokens=0",
        "model.init_from=hf",
        "model.max_unknown=0.1",
        "data.val=val.txt",
    ];
    let on = |unknown: usize| {
        let known: String = sentences(60).chars().take(1000 - unknown).collect();
        bench.file("b.txt", "δ".repeat(unknown) + &known);
        bench.run(&[&["train", "b.txt", "--out", "on"][..], &set(&short)].concat())
    };
    let said = |share: &str, unknown: usize| {
        format!(
            "{share} % of the training text is unknown to the model of model.init_from (1 different character, {unknown} of 1,000 tokens: \"δ\" {unknown}×)"
        )
    };
    for (unknown, share) in [(99, "9.9"), (100, "10.0")] {
        let ran = on(unknown).succeeded();
        assert!(ran.stderr.contains(&said(share, unknown)), "{}", ran.stderr);
        std::fs::remove_dir_all(bench.path().join("on")).unwrap();
    }
    on(101).refused(2, &[&said("10.1", 101), "model.max_unknown=1"]);
    assert!(!bench.path().join("on").exists());
}
