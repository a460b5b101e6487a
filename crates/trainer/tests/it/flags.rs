//! Every flag has an effect or is refused: each command is run without and with each flag, and the
//! outcomes differ.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::common::{Bench, Ran};
use serde_json::Value;

/// Command, flag, a command line without it, and the addition or another command line.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("train", "set", "train c.toml a.txt --out r", "--set train.seed=7"),
    ("train", "out", "train c.toml a.txt", "--out elsewhere"),
    ("train", "resume", "train --out net", "--resume"),
    ("train", "audit", "train c.toml a.txt --out r", "--audit"),
    ("train", "log", "train c.toml a.txt --out r", "--log csv"),
    ("train", "tui", "train c.toml a.txt --out r", "--tui"),
    ("train", "report", "train c.toml a.txt --out r", "--report"),
    ("train", "budget", "train c.toml a.txt --out r", "--budget 0.05s"),
    ("train", "val", "train c.toml a.txt --out r", "--val b.txt"),
    ("train", "from", "train c.toml a.txt --out r", "--from net"),
    ("train", "extend-vocab", "train c.toml nfd.txt --out r --from net", "--extend-vocab"),
    ("train", "memory", "train a.txt --set model.kind=ngram --out r", "--memory 1b"),
    ("train", "temp", "train a.txt --set model.kind=ngram --out r", "--temp d"),
    ("train", "seeds", "train c.toml a.txt --out r", "--seeds 2"),
    ("train", "field", "train c.toml t.jsonl --out r", "--field text"),
    ("train", "include", "train c.toml d --out r", "--include *.md"),
    ("train", "exclude", "train c.toml d --out r", "--exclude *.md"),
    ("train", "invalid", "train c.toml dirty.txt --out r", "--invalid replace"),
    ("train", "normalize", "train c.toml nfd.txt --out r", "--normalize nfc"),
    ("eval", "field", "eval net t.jsonl", "--field text"),
    ("eval", "include", "eval net d", "--include *.md"),
    ("eval", "exclude", "eval net d", "--exclude *.md"),
    ("eval", "invalid", "eval net dirty.txt", "--invalid skip-line"),
    ("eval", "normalize", "eval net nfd.txt", "--normalize nfc"),
    ("eval", "stride", "eval net b.txt", "--stride 16"),
    ("eval", "threads", "eval net b.txt", "--threads 0"),
    ("eval", "calibration", "eval net b.txt", "--calibration"),
    ("eval", "data", "eval net", "--data b.txt"),
    ("eval", "pairs", "eval net", "--pairs pairs.tsv"),
    ("eval", "per-file", "eval net b.txt", "--per-file"),
    ("eval", "unknown-words", "eval net b.txt", "--unknown-words"),
    ("eval", "adapt", "eval net b.txt", "--adapt"),
    ("eval", "adapt-on", "eval net b.txt --adapt", "--adapt-on a.txt"),
    ("eval", "adapt-rate", "eval net b.txt --adapt", "--adapt-rate 0.1"),
    ("eval", "adapt-on-train", "eval net b.txt --adapt", "--adapt-on-train"),
    ("compress", "adapt", "compress net a.txt --out o.sz", "--adapt"),
    ("compress", "out", "compress a.txt --out o.sz", "--out p.sz"),
    ("compress", "threads", "compress a.txt --out o.sz", "--threads 0"),
    ("decompress", "out", "decompress a.sz --out o.txt", "--out p.txt"),
    ("decompress", "threads", "decompress a.sz --out o.txt", "--threads 0"),
    ("score", "by", "score net b.txt", "--by word"),
    ("score", "context", "score net b.txt", "--context line"),
    ("score", "no-bos", "score m.ngram b.txt", "--no-bos"),
    ("score", "no-eos", "score m.ngram b.txt", "--no-eos"),
    ("score", "stride", "score net b.txt", "--stride 16"),
    ("score", "threads", "score net b.txt", "--threads 0"),
    ("score", "field", "score net t.jsonl", "--field text"),
    ("score", "include", "score net d", "--include *.md"),
    ("score", "exclude", "score net d", "--exclude *.md"),
    ("score", "invalid", "score net dirty.txt", "--invalid skip-line"),
    ("score", "normalize", "score net nfd.txt", "--normalize nfc"),
    ("report", "data", "report net", "--data b.txt"),
    ("sample", "prompt", "sample m.ngram", "--prompt dog"),
    ("sample", "tokens", "sample m.ngram", "--tokens 3"),
    ("sample", "temperature", "sample m.ngram", "--temperature 0.1"),
    ("sample", "top-k", "sample m.ngram", "--top-k 1"),
    ("sample", "top-p", "sample m.ngram", "--top-p 0.1"),
    ("sample", "seed", "sample m.ngram", "--seed 2"),
    ("sample", "prompt-file", "sample m.ngram", "--prompt-file p.txt"),
    ("sample", "interactive", "sample m.ngram", "--interactive"),
    ("sample", "lines", "sample m.ngram", "--lines 1"),
    ("sample", "samples", "sample m.ngram", "--samples 2"),
    ("sample", "stop", "sample m.ngram", "--stop e"),
    ("sample", "min-p", "sample m.ngram", "--min-p 0.9"),
    ("sample", "repetition-penalty", "sample m.ngram", "--repetition-penalty 9"),
    ("sample", "allow-unknown", "sample m.ngram --prompt zebra", "--allow-unknown"),
    ("explain", "text", "explain m.ngram", "--text the"),
    ("explain", "step", "explain m.ngram --text the", "--step 1"),
    ("explain", "top", "explain m.ngram --text the", "--top 1"),
    ("explain", "smoothing", "explain m.ngram --text the --step 1", "--smoothing 0.5"),
    ("explain", "color", "explain m.ngram --text the", "--color always"),
    ("compare", "set", "compare g.toml --out r", "--set data.val_fraction=0.3"),
    ("compare", "seeds", "compare g.toml --out r", "--seeds 5,6"),
    ("compare", "jobs", "compare g.toml --out r", "--jobs 1"),
    ("compare", "out", "compare g.toml", "--out elsewhere"),
    ("count", "out", "count a.txt --order 2 --out o.ngram", "--out p.arpa"),
    ("count", "shard", "count a.txt --order 2 --out o.counts", "--shard 1/2"),
    ("count", "memory", "count a.txt --order 2 --out o.ngram", "--memory 1b"),
    ("count", "temp", "count a.txt --order 2 --out o.ngram", "--temp d"),
    ("merge", "memory", "merge a.counts --out o.ngram", "--memory 1b"),
    ("merge", "temp", "merge a.counts --out o.ngram", "--temp d"),
    ("count", "field", "count t.jsonl --order 2 --out o.ngram", "--field text"),
    ("count", "include", "count d --order 2 --out o.ngram", "--include *.md"),
    ("count", "exclude", "count d --order 2 --out o.ngram", "--exclude *.md"),
    ("count", "invalid", "count dirty.txt --order 2 --out o.ngram", "--invalid replace"),
    ("count", "normalize", "count nfd.txt --order 2 --out o.ngram", "--normalize nfc"),
    ("count", "order", "count a.txt --out o.ngram", "--order 2"),
    ("count", "tokenizer", "count a.txt --order 2 --out o.ngram", "--tokenizer char"),
    ("count", "tokenizer-file", "count a.txt --order 2 --out o.ngram", "--tokenizer-file net/tokenizer.json"),
    ("count", "unit", "count a.txt --order 2 --out o.ngram", "--unit stream"),
    ("count", "literal-specials", "count special.txt --order 2 --out o.ngram", "--literal-specials skip"),
    ("count", "min-count", "count a.txt --order 2 --out o.ngram", "--min-count 40"),
    ("count", "vocab-size", "count a.txt --order 2 --out o.ngram", "--vocab-size 9"),
    ("count", "vocab", "count a.txt --order 2 --out o.ngram", "--vocab special.txt"),
    ("count", "smoothing", "count a.txt --order 2 --out o.ngram", "--smoothing witten_bell"),
    ("count", "prune", "count a.txt --order 2 --out o.ngram", "--prune 0 1"),
    ("count", "prune-entropy", "count a.txt --order 2 --out o.ngram", "--prune-entropy 0.01"),
    ("count", "k", "count a.txt --order 2 --out o.ngram --smoothing add_k", "--k 0.1"),
    ("count", "alpha", "count a.txt --order 2 --out o.ngram --smoothing dirichlet", "--alpha 3,1"),
    ("count", "fallback", "count a.txt --order 2 --out o.ngram", "--fallback 0.1,0.2,0.3"),
    ("count", "heldout", "count a.txt --order 2 --out o.ngram --tune", "--heldout 0.3"),
    ("count", "no-interpolate-unigrams", "count a.txt --order 2 --out o.ngram", "--no-interpolate-unigrams"),
    ("count", "closed", "count a.txt --order 2 --out o.ngram", "--closed"),
    ("count", "compat", "count a.txt --order 3 --out o.ngram", "--compat kenlm"),
    ("count", "tune", "count a.txt --order 2 --out o.ngram", "--tune"),
    ("count", "quantize", "count a.txt --order 2 --out o.ngram", "--quantize 4"),
    ("count", "threads", "count a.txt --order 2 --out o.ngram", "--threads 0"),
    ("merge", "out", "merge a.counts --out o.ngram", "--out p.arpa"),
    ("merge", "order", "merge a.counts --out o.ngram", "--order 7"),
    ("merge", "tokenizer", "merge a.counts --out o.ngram", "--tokenizer char"),
    ("merge", "unit", "merge a.counts --out o.ngram", "--unit stream"),
    ("merge", "sum", "merge a.counts a.counts --out o.ngram", "--sum"),
    ("merge", "smoothing", "merge a.counts --out o.ngram", "--smoothing witten_bell"),
    ("merge", "prune", "merge a.counts --out o.ngram", "--prune 0 1"),
    ("merge", "prune-entropy", "merge a.counts --out o.ngram", "--prune-entropy 0.01"),
    ("merge", "k", "merge a.counts --out o.ngram --smoothing add_k", "--k 0.1"),
    ("merge", "alpha", "merge a.counts --out o.ngram --smoothing dirichlet", "--alpha 3,1"),
    ("merge", "fallback", "merge a.counts --out o.ngram", "--fallback 0.1,0.2,0.3"),
    ("merge", "heldout", "merge a.counts --out o.ngram", "--heldout 0.3"),
    ("merge", "no-interpolate-unigrams", "merge a.counts --out o.ngram", "--no-interpolate-unigrams"),
    ("merge", "closed", "merge a.counts --out o.ngram", "--closed"),
    ("merge", "compat", "merge a.counts --out o.ngram", "--compat kenlm"),
    ("merge", "tune", "merge a.counts --out o.ngram", "--tune"),
    ("merge", "sum", "merge a.counts a.counts --out o.ngram", "--sum"),
    ("merge", "quantize", "merge a.counts --out o.ngram", "--quantize 4"),
    ("merge", "threads", "merge a.counts --out o.ngram", "--threads 0"),
    ("mix", "field", "mix m.ngram n.ngram --heldout t.jsonl", "--field text"),
    ("mix", "include", "mix m.ngram n.ngram --heldout d", "--include *.md"),
    ("mix", "exclude", "mix m.ngram n.ngram --heldout d", "--exclude *.md"),
    ("mix", "invalid", "mix m.ngram n.ngram --heldout dirty.txt", "--invalid replace"),
    ("mix", "normalize", "mix m.ngram n.ngram --heldout nfd.txt", "--normalize nfc"),
    ("mix", "heldout", "mix m.ngram n.ngram b.txt", "--heldout b.txt"),
    ("mix", "weights", "mix m.ngram n.ngram b.txt", "--weights 1,2"),
    ("mix", "by-context", "mix m.ngram n.ngram --heldout b.txt", "--by-context"),
    ("mix", "out", "mix m.ngram n.ngram --heldout b.txt", "--out o.ngram"),
    ("mix", "threads", "mix m.ngram n.ngram --heldout b.txt", "--threads 0"),
    ("export", "format", "export m.ngram --out o.arpa", "--format ngram"),
    ("export", "prune-entropy", "export m.ngram --out o.ngram", "--prune-entropy 0.01"),
    ("export", "prune", "export m.ngram --out o.ngram", "--prune 0 1"),
    ("export", "quantize", "export m.ngram --out o.ngram", "--quantize 4"),
    ("export", "out", "export m.ngram", "--out o.arpa"),
    ("cache", "clear", "cache", "cache --clear"),
    ("man", "out", "man", "--out man1"),
    ("bench", "threads", "bench step --case cpu/f32 --seconds 0", "--threads 1"),
    ("bench", "seconds", "bench step --case cpu/f32", "--seconds 0"),
    ("serve", "port", "serve a.txt --for 0.1s", "--port 70000"),
    ("serve", "host", "serve a.txt --for 0.1s", "--host ::1"),
    ("serve", "runs", "serve a.txt --for 0.1s", "--runs elsewhere"),
    ("serve", "open", "serve a.txt --for 0.1s", "--open"),
    ("serve", "for", "serve a.txt --for 0.1s", "serve a.txt --for never"),
    ("bench", "case", "bench step --case cpu/f32 --seconds 0", "bench step --case cpu/bf16 --seconds 0"),
];

/// A command line of each command, for flags that all commands have.
const PLAIN: [(&str, &str); 19] = [
    ("train", "train c.toml a.txt --out r"),
    ("eval", "eval net b.txt"),
    ("score", "score m.ngram b.txt"),
    ("sample", "sample m.ngram"),
    ("explain", "explain m.ngram --text the"),
    ("compare", "compare g.toml --out r"),
    ("report", "report net"),
    ("inspect", "inspect net"),
    ("count", "count a.txt --order 2 --out o.ngram"),
    ("merge", "merge a.counts --out o.ngram"),
    ("mix", "mix m.ngram n.ngram --heldout b.txt"),
    ("export", "export m.ngram --out o.arpa"),
    ("compress", "compress a.txt --out o.sz"),
    ("decompress", "decompress a.sz --out o.txt"),
    ("bench", "bench step --case cpu/f32 --seconds 0"),
    ("cache", "cache"),
    ("serve", "serve a.txt --for 0.1s"),
    ("completions", "completions bash"),
    ("man", "man --out man1"),
];

const CONFIG: &str = r#"
[model]
kind = "mlp"
context = 2
n_embd = 4
n_hidden = 8
[train]
steps = 4
batch_size = 4
block_size = 16
shards = 1
[eval]
every_epochs = 0
[sample]
tokens = 10
"#;

const GRID: &str = r#"
[compare]
jobs = 2
[data]
train = ["a.txt"]
[[variant]]
name = "uniform"
model = { kind = "uniform" }
[[variant]]
name = "mlp"
use = "c.toml"
"#;

/// A folder with a text, models, counts, configs and a run, to be copied for each case.
fn prepared() -> Bench {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    let later: Vec<String> =
        crate::common::sentences(160).lines().skip(120).map(|line| format!("{line}\n")).collect();
    bench.file("b.txt", later.concat());
    bench.file("special.txt", "a <unk> b\nb <unk> a\nb a c\nc a\n");
    let lines = crate::common::sentences(60);
    let records = lines.lines().map(|line| serde_json::json!({ "text": line }).to_string() + "\n");
    bench.file("t.jsonl", records.collect::<String>());
    bench.file("d/a.txt", &lines);
    bench.file("d/b.md", crate::common::sentences(90));
    bench.file("dirty.txt", [lines.as_bytes(), b"the d\xFFg sees\n"].concat());
    bench.file("nfd.txt", lines.replace("cat", "ca\u{301}t"));
    bench.file("p.txt", "the dog\n");
    bench.file("pairs.tsv", "the dog\tdog the\n");
    bench.file("c.toml", CONFIG);
    bench.file("g.toml", GRID);
    for line in [
        "count a.txt --order 2 --out m.ngram --out a.counts",
        "count b.txt --order 3 --out n.ngram",
        "train c.toml a.txt --out net",
        "train a.txt --set model.kind=ngram --out counted",
        "compress a.txt --out a.sz",
    ] {
        run(&bench, line).succeeded();
    }
    bench
}

fn run(bench: &Bench, line: &str) -> Ran {
    bench.run(&line.split(' ').collect::<Vec<_>>())
}

fn copied(from: &Bench) -> Bench {
    let bench = Bench::new();
    for (name, bytes) in files(from.path()) {
        bench.file(&name, bytes);
    }
    bench
}

fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// All output and files of a command, without times.
fn outcome(prepared: &Bench, line: &str) -> (i32, String, String, BTreeMap<String, String>) {
    let bench = copied(prepared);
    let ran = run(&bench, line);
    assert!(!ran.stderr.contains("panicked"), "{line}\n{}", ran.stderr);
    let left = files(bench.path()).into_iter().map(|(name, bytes)| {
        let timed = name.ends_with("report.html") || name.contains("checkpoints/") || name.contains(".lock");
        let text = String::from_utf8_lossy(&bytes);
        (name, if timed { String::new() } else { timeless(&text) })
    });
    (ran.code, timeless(&ran.stdout), timeless(&ran.stderr), left.collect())
}

fn timeless(text: &str) -> String {
    let line = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(mut event)) => {
            event.retain(|key, _| {
                !key.contains("second")
                    && key != "memory_bytes"
                    && !key.contains("_ms")
                    && !key.contains("_per_s")
            });
            Value::from(event).to_string()
        }
        _ => {
            let words: Vec<&str> = line.split_whitespace().collect();
            let unit = |word: Option<&&str>| {
                word.is_some_and(|word| matches!(word.trim_matches([',', ':', ';']), "s" | "min" | "h"))
            };
            let timed = |i: usize| unit(words.get(i + 1)) && words[i].parse::<f64>().is_ok();
            (0..words.len()).filter(|&i| !timed(i)).map(|i| words[i]).collect::<Vec<_>>().join(" ")
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_flag_acts_or_is_refused() {
    let mut known = BTreeSet::new();
    let command = surprisal::usage::command();
    for verb in command.get_subcommands() {
        for flag in verb.get_arguments().filter(|argument| !argument.is_positional()) {
            known.insert((verb.get_name().to_owned(), flag.get_long().unwrap().to_owned()));
        }
    }
    let tried: BTreeSet<_> =
        CASES.iter().map(|(verb, flag, ..)| (verb.to_string(), flag.to_string())).collect();
    assert_eq!(tried, known, "a flag has no case here, or a case no flag");
    let prepared = prepared();
    // Each line is run once.
    let mut plain = BTreeMap::new();
    for &(verb, flag, line, with) in CASES {
        let without = plain.entry(line).or_insert_with(|| outcome(&prepared, line));
        let with = if with.starts_with(verb) { with.to_owned() } else { format!("{line} {with}") };
        assert!(*without != outcome(&prepared, &with), "--{flag} changes nothing: {with}");
    }
}

#[test]
fn the_flags_of_all_commands_act() {
    let command = surprisal::usage::command();
    let all: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    assert_eq!(all, ["json", "quiet"]);
    let verbs: BTreeSet<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    assert_eq!(verbs, PLAIN.iter().map(|(verb, _)| *verb).collect());
    let prepared = prepared();
    for (verb, line) in PLAIN {
        let (code, stdout, stderr, _) = outcome(&prepared, line);
        assert_eq!(code, 0, "{line}\n{stderr}");
        let is_json = |text: &str| {
            !text.is_empty() && text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok())
        };
        assert_eq!(is_json(&stdout), verb == "bench", "{line}\n{stdout}");
        let (code, json, ..) = outcome(&prepared, &format!("{line} --json"));
        assert!(code == 0 && is_json(&json), "{line} --json\n{json}");
        let (code, quiet, silence, _) = outcome(&prepared, &format!("{line} --quiet"));
        assert!(
            code == 0 && silence.is_empty() && (quiet == stdout || ["bench", "serve"].contains(&verb)),
            "{line} --quiet\n{silence}"
        );
        let says_nothing =
            ["eval", "sample", "explain", "inspect", "bench", "cache", "completions"].contains(&verb);
        assert_eq!(stderr.is_empty(), says_nothing, "{line}\n{stderr}");
    }
}

#[test]
fn flags_that_have_nothing_to_act_on_are_refused() {
    let bench = prepared();
    let before = files(bench.path());
    for (line, flag) in [
        ("count a.txt --out o.counts --smoothing witten_bell", "--smoothing"),
        ("count a.txt --out o.counts --prune 0 1", "--prune"),
        ("count a.txt --out o.tsv --compat kenlm", "--compat"),
        ("count a.txt --out o.counts --tune", "--tune"),
        ("count a.txt --out o.counts --quantize 8", "--quantize"),
        ("count a.txt --out o.arpa --quantize 8", "--quantize"),
        ("count a.txt --out o.arpa --smoothing witten_bell --compat kenlm", "--compat"),
        ("count a.txt --out o.arpa --smoothing katz --tune", "--tune"),
        ("count a.txt --out o.arpa --smoothing jelinek_mercer --tune", "--tune"),
        ("count a.txt --out o.arpa --tokenizer char --literal-specials skip", "--literal-specials"),
        ("count a.txt --out o.arpa --tokenizer byte --literal-specials unk", "--literal-specials"),
        ("merge a.counts --out o.arpa --order 7", "--order is 7"),
        ("merge a.counts --out o.arpa --tokenizer char", "--tokenizer is char"),
        ("merge a.counts --out o.arpa --unit stream", "--unit is stream"),
        ("merge a.counts --out o.arpa --literal-specials skip", "--literal-specials"),
        ("merge a.counts --out o.arpa --tune", "--tune"),
        ("merge a.counts --out o.arpa --quantize 8", "--quantize"),
        ("merge a.counts --out o.counts --smoothing mle", "--smoothing"),
        ("merge a.counts --out o.arpa --heldout 0.1", "--heldout"),
        ("count a.txt --out o.counts --closed", "--closed"),
        ("count a.txt --out o.tsv --k 2", "--k"),
        ("count a.txt --out o.arpa --k 2", "--k has no effect"),
        (
            "count a.txt --out o.arpa --order 1 --smoothing add_k --tune --k 2",
            "--k has no effect with --tune",
        ),
        ("count a.txt --out o.arpa --smoothing add_k --order 1 --k 0", "--k must be from 1e-12 to 1e12"),
        ("count a.txt --out o.arpa --smoothing katz --alpha 2", "--alpha has no effect"),
        ("count a.txt --out o.arpa --smoothing dirichlet --order 1 --alpha 2,2", "--alpha has one number"),
        ("count a.txt --out o.arpa --smoothing katz --fallback 0,0,0", "--fallback has no effect"),
        ("count a.txt --out o.arpa --fallback 0.5", "--fallback needs three discounts, not 1"),
        ("count a.txt --out o.arpa --fallback 0.5,2.5,1", "--fallback: a discount of counts of 2"),
        ("count a.txt --out o.arpa --heldout 0.1", "--heldout has no effect"),
        ("count a.txt --out o.arpa --tune --heldout 0.9", "--heldout must be a fraction"),
        (
            "count a.txt --out o.arpa --smoothing mle --no-interpolate-unigrams",
            "--no-interpolate-unigrams has",
        ),
        ("count a.txt --out o.arpa --closed --no-interpolate-unigrams", "has no effect with --closed"),
        ("count a.txt --out o.arpa --tokenizer byte --closed", "--closed has no effect on tokens without"),
        ("count a.txt --out o.ngram --smoothing add_k --closed", "--closed needs a model that backs off"),
        ("count a.txt --out o.ngram --smoothing add_k --prune-entropy 1e-3", "--prune-entropy: pruning"),
        ("count a.txt --out o.arpa --prune-entropy nan", "--prune-entropy must be a fraction"),
        ("count a.txt --out o.arpa --smoothing katz --prune 0 1", "--prune: pruning by count"),
        ("export m.ngram --out o.arpa --quantize 8", "--quantize"),
        ("export net --format hf --out hf --quantize 8", "--quantize"),
        ("export net --format hf --out hf --prune-entropy 0.1", "--prune-entropy"),
        ("export m.ngram --out o.arpa --prune-entropy -0.1", "--prune-entropy"),
        ("export m.ngram --out o.arpa --prune-entropy inf", "--prune-entropy must be a fraction"),
        ("export m.ngram --out o.arpa --prune 0 1", "`merge` COUNTS with --prune"),
        ("eval counted --stride 2", "--stride"),
        ("eval m.ngram b.txt --adapt --adapt-on-train", "outside a run"),
        ("compress a.txt --adapt --out o.sz", "--adapt has no effect without a model"),
        ("eval m.ngram b.txt --stride 2", "--stride"),
        ("explain m.ngram --text the --smoothing 0.5", "--step"),
        ("explain m.ngram --text the --step 1 --color always", "--color"),
        ("explain m.ngram --text the --json --color never", "--color"),
        ("sample m.ngram --temperature 0 --top-k 3", "--top-k"),
        ("sample m.ngram --temperature 0 --top-p 0.5", "--top-p"),
        ("sample m.ngram --temperature 0 --min-p 0.5", "--min-p"),
        ("sample m.ngram --temperature 0 --samples 2", "--samples"),
        ("sample m.ngram --temperature 0 --seed 9", "--seed"),
        ("mix m.ngram n.ngram b.txt --heldout a.txt --weights 1,1", "--heldout"),
        ("train a.txt --set model.kind=ngram --out r --budget 3s", "--budget"),
        ("train a.txt --set model.kind=uniform --out r --audit", "--audit"),
    ] {
        run(&bench, line).refused(2, &[flag]);
        assert!(files(bench.path()) == before, "{line} left something behind");
    }
    // Repeating true properties of counts is not an error.
    run(&bench, "merge a.counts --out o.arpa --order 2 --tokenizer word --unit line").succeeded();
    // In a comparison, a setting applies to all variants; a setting without an effect gets a note.
    for (line, idle, acts) in [
        (
            "train a.txt --set model.kind=ngram --set train.batch_size=3 --set train.seed=3 --out r",
            "train.batch_size",
            "train.seed",
        ),
        (
            "train a.txt --set model.kind=ngram --set model.k=3 --set model.order=1 --out s",
            "model.k",
            "model.order",
        ),
        (
            "train c.toml a.txt --set optim.momentum=0.9 --set optim.eps=1e-9 --out t",
            "optim.momentum",
            "optim.eps",
        ),
        (
            "train c.toml a.txt --set optim.cooldown=0.2 --set train.seed=1 --out u",
            "optim.cooldown",
            "train.seed",
        ),
    ] {
        let said = run(&bench, line).succeeded().stderr;
        assert!(said.contains(&format!("{idle} has no effect")) && !said.contains(acts), "{line}\n{said}");
    }
    let counted = "[[variant]]\nname = \"a\"\nmodel = { kind = \"uniform\" }\n";
    bench.file("counted.toml", counted);
    let said = run(&bench, "compare counted.toml a.txt --seeds 1,2 --out v").succeeded().stderr;
    assert!(said.contains("--seeds has no effect"), "{said}");
}

#[test]
fn gradients_are_listed_after_a_resumption_too() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    let lines = crate::common::sentences(60);
    let records = lines.lines().map(|line| serde_json::json!({ "text": line }).to_string() + "\n");
    bench.file("t.jsonl", records.collect::<String>());
    bench.file("d/a.txt", &lines);
    bench.file("d/b.md", crate::common::sentences(90));
    bench.file("dirty.txt", [lines.as_bytes(), b"the d\xFFg sees\n"].concat());
    bench.file("nfd.txt", lines.replace("cat", "ca\u{301}t"));
    bench.file("c.toml", CONFIG);
    let every = "--set train.steps=1000000 --set checkpoint.every_steps=2 --set eval.every_steps=2";
    // The first listed step of a run that is then killed.
    let listed = |line: &str, event: &str| {
        let arguments: Vec<&str> = line.split(' ').collect();
        let mut command = bench.command(&arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let step = events
            .filter(|found| found["event"] == event)
            .find_map(|found| found["step"].as_u64().filter(|step| *step != 2));
        child.kill().unwrap();
        child.wait().unwrap();
        step.expect("no such event")
    };
    assert_eq!(listed(&format!("train c.toml a.txt --out r --json --audit {every}"), "audit"), 1);
    listed(&format!("train c.toml a.txt --out s --json {every}"), "epoch");
    let after = listed("train --resume --out s --json --audit", "audit");
    assert!(after > 2, "{after}");
}
