//! `train TEXT --budget TIME` chooses its settings for the text, the time and the machine.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::common::{Bench, Ran};

const CHOSEN: &str = "chosen for this text, its time and this machine:";

/// The reasons, which follow their heading.
fn reasons(ran: &Ran) -> Vec<&str> {
    let lines = ran.stderr.lines().skip_while(|line| *line != CHOSEN).skip(1);
    lines.take_while(|line| line.starts_with("  ")).map(str::trim).collect()
}

/// The settings of a run.
fn settings(bench: &Bench, run: &str) -> toml::Table {
    toml::from_str(&std::fs::read_to_string(bench.path().join(run).join("config.toml")).unwrap()).unwrap()
}

/// The files of a folder and of those in it, by path.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_small_text_does_not_get_an_hour_and_its_run_repeats() {
    let bench = Bench::new();
    bench.text("a.txt", 300);
    let ran = bench.run(&["train", "a.txt", "--budget", "1h", "--out", "one"]).succeeded();
    let said = reasons(&ran);
    assert!((3..=6).contains(&said.len()), "{}", ran.stderr);
    for (line, part) in
        said.iter().zip(["characters", "n-gram", "width", "passes", "more time would not pay"])
    {
        assert!(line.contains(part), "no «{part}» in {line}");
    }
    let config = settings(&bench, "one");
    assert!(config["train"].get("budget").is_none(), "a time does not repeat: {config}");
    assert!(config["train"]["steps"].as_integer().unwrap() < 5000, "{config}");
    assert_eq!(
        config["model"]["n_embd"].as_integer(),
        config["model"]["n_head"].as_integer().map(|n| 32 * n)
    );
    bench.run(&["train", "one/config.toml", "--out", "two"]).succeeded();
    assert_eq!(config, settings(&bench, "two"));
    let [one, two] = ["one", "two"].map(|run| files(&bench.path().join(run).join("model")));
    assert!(one.keys().any(|name| name.ends_with(".safetensors")), "{:?}", one.keys());
    assert!(one == two, "the models differ");
}

#[test]
fn settings_that_say_nothing_of_the_model_are_kept() {
    let bench = Bench::new();
    bench.text("a.txt", 4000);
    let own = ["--set", "train.seed=7", "--set", "data.val_fraction=0.01", "--set", "sample.tokens=0"];
    let ran =
        bench.run(&[&["train", "a.txt", "--budget", "1s", "--out", "r"], &own[..]].concat()).succeeded();
    assert!(!reasons(&ran).is_empty(), "{}", ran.stderr);
    let config = settings(&bench, "r");
    assert_eq!(config["train"]["seed"].as_integer(), Some(7));
    assert_eq!(config["data"]["val_fraction"].as_float(), Some(0.01));
    assert_eq!(config["sample"]["tokens"].as_integer(), Some(0));
}

#[test]
fn many_characters_make_parts_of_words() {
    let bench = Bench::new();
    let text: String = (0..30_000u32)
        .map(|at| if at % 20 == 19 { '\n' } else { char::from_u32(0x4e00 + at * at % 911).unwrap() })
        .collect();
    bench.file("zh.txt", text);
    let ran = bench.run(&["train", "zh.txt", "--budget", "2s", "--out", "r"]).succeeded();
    assert!(reasons(&ran)[0].contains("parts of words"), "{}", ran.stderr);
    assert_eq!(settings(&bench, "r")["tokenizer"]["kind"].as_str(), Some("bpe"));
}

#[test]
fn a_text_that_is_too_short_is_said() {
    let bench = Bench::new();
    bench.file("a.txt", "too short a text\n".repeat(5));
    bench
        .run(&["train", "a.txt", "--budget", "5s", "--out", "r"])
        .refused(1, &["training text has", "more text"]);
    bench.file("empty.txt", "");
    bench.run(&["train", "empty.txt", "--budget", "5s", "--out", "r"]).refused(1, &["empty"]);
    bench.run(&["train", "a.txt", "--budget", "soon"]).refused(2, &["--budget soon"]);
    assert_eq!(bench.entries(), ["a.txt", "empty.txt"]);
}

#[test]
fn nothing_is_chosen_where_something_is_said() {
    let bench = Bench::new();
    bench.text("a.txt", 300);
    bench.file("c.toml", "[model]\nkind = \"bigram\"\n");
    let budget = ["--budget", "0.2s", "--set", "sample.tokens=0"];
    for more in
        [&["c.toml", "a.txt"][..], &["a.txt", "--set", "model.kind=bigram"], &["--set", "model.kind=bigram"]]
    {
        let ran = bench.run(&[&["train"], more, &budget].concat()).succeeded();
        assert!(!ran.stderr.contains(CHOSEN), "{}", ran.stderr);
    }
    // A pipe cannot be read twice.
    let arguments = [&["train", "-"], &budget[..]].concat();
    let mut child = bench
        .command(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(bench.path().join("a.txt")).unwrap()).unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap(), &arguments).succeeded();
    assert!(!ran.stderr.contains(CHOSEN) && ran.stderr.contains("read twice"), "{}", ran.stderr);
}
