//! Tokens of large texts in a file: the same bits, kept for the next run, safe against kills.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::common::{Bench, Ran, sentences};

fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// The arguments of a short run, with `more`.
fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let small = [
        "--set",
        "model.n_layer=1",
        "--set",
        "model.n_embd=16",
        "--set",
        "model.n_head=2",
        "--set",
        "train.steps=20",
        "--set",
        "train.block_size=16",
        "--set",
        "eval.every_steps=10",
        "--set",
        "sample.tokens=0",
    ];
    [&["train"][..], more, &small].concat()
}

/// Runs with the cache in the folder "cache".
fn run(bench: &Bench, arguments: &[&str]) -> Ran {
    let output =
        bench.command(arguments).env("SURPRISAL_CACHE", bench.path().join("cache")).output().unwrap();
    Ran::of(output, arguments)
}

fn files(bench: &Bench) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(bench.path().join("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn weights(bench: &Bench, run: &str) -> Vec<u8> {
    bytes(bench.path().join(run).join("model/model.safetensors"))
}

#[test]
fn damaged_ids_are_noticed_and_notes_come_once() {
    let bench = Bench::new();
    bench.file("t.txt", sentences(3_000).replace('\n', "\r\n"));
    let arguments = |run| train(&["t.txt", "--set", "data.token_cache=on", "--out", run]);
    let notes = |ran: &Ran| {
        ran.stderr.lines().filter(|line| line.contains("CRLF")).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = notes(&run(&bench, &arguments("a")).succeeded());
    let again = notes(&run(&bench, &arguments("b")).succeeded());
    assert!(first.len() == 1 && first == again, "{first:?} {again:?}");
    let [path] = &files(&bench)[..] else { panic!("{:?}", files(&bench)) };
    let mut damaged = bytes(path);
    damaged[400] ^= 1;
    std::fs::remove_file(path).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own input")]
    std::fs::write(path, damaged).unwrap();
    run(&bench, &arguments("c")).refused(1, &["it is not what was cached", "--clear"]);
}

#[test]
fn a_run_from_cached_tokens_has_the_bits_of_a_run_in_memory() {
    let bench = Bench::new();
    bench.file("t.txt", sentences(3_000));
    for (name, more) in [
        ("char", &[][..]),
        ("bpe", &["--set", "tokenizer.kind=bpe", "--set", "tokenizer.vocab_size=300"]),
        ("word", &["--set", "tokenizer.kind=word"]),
        ("line", &["--set", "data.unit=line"]),
        ("lines", &["--set", "data.split=lines"]),
        ("documents", &["--field", "text"]),
        ("gru", &["--set", "model.kind=gru", "--set", "data.val_fraction=0.2"]),
    ] {
        let text = if name == "documents" {
            let records = sentences(3_000);
            let records = records.lines().map(|line| serde_json::json!({ "text": line }).to_string() + "\n");
            bench.file("t.jsonl", records.collect::<String>());
            "t.jsonl"
        } else {
            "t.txt"
        };
        let train = |run: &str, cache: &str| {
            let out = format!("{name}-{run}");
            let arguments = if name == "gru" {
                let gru =
                    ["--set", "train.steps=20", "--set", "sample.tokens=0", "--set", "model.n_hidden=16"];
                [&["train", text, "--out", &out, "--set", cache], more, &gru].concat()
            } else {
                train(&[&[text, "--out", &out, "--set", cache], more].concat())
            };
            let ran = self::run(&bench, &arguments).succeeded();
            (weights(&bench, &out), ran.stderr)
        };
        let (memory, _) = train("memory", "data.token_cache=off");
        let (cached, said) = train("cached", "data.token_cache=on");
        assert!(memory == cached, "{name}");
        assert!(said.contains("the tokens are kept in"), "{said}");
        let before = files(&bench);
        let (again, said) = train("again", "data.token_cache=on");
        assert!(again == memory && !said.contains("the tokens are kept in"), "{name}: {said}");
        assert_eq!(files(&bench), before);
        let listed = run(&bench, &["cache", "--json"]).succeeded().result();
        assert_eq!(listed["files"].as_array().unwrap().len(), before.len());
    }
    let listed = run(&bench, &["cache"]).succeeded().stdout;
    assert!(listed.contains("t.txt") && listed.contains("tokens"), "{listed}");
    run(&bench, &["cache", "--clear"]).succeeded();
    assert!(files(&bench).is_empty());
}

#[test]
fn a_changed_text_has_tokens_of_its_own_and_a_run_goes_on_without_its_cache() {
    let bench = Bench::new();
    bench.file("t.txt", sentences(2_000));
    let on = ["--set", "data.token_cache=on"];
    let all = ["t.txt", "--out", "whole"];
    run(&bench, &train(&[&all[..], &on].concat())).succeeded();
    let first = files(&bench);
    bench.file("t.txt", sentences(2_000).replace("cat", "cow"));
    run(&bench, &train(&[&["t.txt", "--out", "other"][..], &on].concat())).succeeded();
    assert_eq!(files(&bench).len(), 2);
    // A damaged file is told.
    let cut = std::fs::OpenOptions::new().write(true).open(&first[0]).unwrap();
    cut.set_len(1_000).unwrap();
    bench.file("t.txt", sentences(2_000));
    run(&bench, &train(&[&["t.txt", "--out", "damaged"][..], &on].concat()))
        .refused(1, &["is not what was cached", "cache --clear"]);
    // The remains of a killed writer are listed and removed.
    bench.file("cache/.abc.tokens.77-1.tmp", "half");
    bench.file("cache/notes.txt", "mine");
    assert!(run(&bench, &["cache"]).succeeded().stdout.contains("killed"));
    run(&bench, &["cache", "--clear"]).succeeded();
    assert_eq!(files(&bench), [bench.path().join("cache/notes.txt")]);
    // The cache is gone; the run's checkpoint is not.
    run(&bench, &["train", "--resume", "--out", "whole"]).succeeded();
}

#[test]
fn two_runs_may_write_the_same_tokens() {
    let bench = Bench::new();
    bench.file("t.txt", sentences(20_000));
    let spawn = |out: &str| {
        let arguments = train(&["t.txt", "--set", "data.token_cache=on", "--out", out]);
        let mut command = bench.command(&arguments);
        command
            .env("SURPRISAL_CACHE", bench.path().join("cache"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let both = [spawn("a"), spawn("b")];
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(weights(&bench, "a") == weights(&bench, "b"));
    assert_eq!(files(&bench).len(), 1);
}
