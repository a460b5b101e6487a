//! The contract with scripts: JSON fields, exit codes, closed pipes, and plain output without a
//! terminal.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::common::Bench;
use serde_json::Value;

const SMALL: [&str; 12] = [
    "--set",
    "model.n_layer=1",
    "--set",
    "model.n_embd=16",
    "--set",
    "model.n_head=2",
    "--set",
    "train.steps=6",
    "--set",
    "train.block_size=16",
    "--set",
    "eval.stride=8",
];

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["train", "a.txt", "--out", "run", "--set", "train.batch_size=4"];
    arguments.extend(SMALL);
    arguments.extend(more);
    arguments
}

#[track_caller]
fn has(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(object.get(field).is_some(), "no `{field}` in {object}");
    }
}

const EVAL: [&str; 9] = [
    "nats_per_token",
    "perplexity",
    "bits_per_byte",
    "tokens",
    "bytes",
    "oov",
    "perplexity_including_oov",
    "perplexity_excluding_oov",
    "zero_probability",
];

#[test]
fn train_eval_sample_and_inspect_print_the_contract() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    let ran = bench.run(&train(&["--json"])).succeeded();
    let events = ran.events();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(names.starts_with(&["start", "baseline", "baseline", "baseline"]), "{names:?}");
    assert!(names.contains(&"epoch") && names.contains(&"sample"), "{names:?}");
    let result = ran.result();
    assert_eq!(result["event"], "result");
    has(&result["eval"], &EVAL);
    has(
        &result,
        &["parameters", "train_seconds", "wall_seconds", "tokens_per_second", "epochs", "steps", "run"],
    );
    assert_eq!(result["steps"], 6);
    let nats = result["eval"]["nats_per_token"].as_f64().unwrap();
    let perplexity = result["eval"]["perplexity"].as_f64().unwrap();
    assert!((nats.exp() - perplexity).abs() < 1e-9 * perplexity);

    // The same numbers are in the run's metrics.
    let metrics = std::fs::read_to_string(bench.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics, ran.stdout);

    // Evaluating the saved model gives the same numbers.
    let again = bench.run(&["eval", "run", "--json"]).succeeded().result();
    assert_eq!(again["event"], "result");
    assert_eq!(again["eval"], result["eval"]);

    let sample =
        bench.run(&["sample", "run", "--tokens", "20", "--seed", "3", "--json"]).succeeded().result();
    has(&sample, &["text", "tokens", "seed", "temperature"]);
    let plain = bench.run(&["sample", "run", "--tokens", "20", "--seed", "3"]).succeeded();
    assert_eq!(plain.stdout.trim_end_matches('\n'), sample["text"].as_str().unwrap().trim_end_matches('\n'));

    let inspected = bench.run(&["inspect", "run", "--json"]).succeeded().result();
    has(&inspected, &["kind", "parameters", "vocab_size"]);
    let text = bench.run(&["inspect", "a.txt", "--json"]).succeeded().result();
    has(&text, &["bytes", "characters", "lines", "words"]);
}

#[test]
fn the_embedded_corpus_comes_with_its_entropy() {
    let bench = Bench::new();
    let config = bench.file("c.toml", "[model]\nkind = \"ngram\"\n[sample]\ntokens = 20\n");
    let ran = bench.run(&["train", config.to_str().unwrap(), "--out", "run", "--json"]).succeeded();
    let eval = &ran.result()["eval"];
    has(eval, &["source_entropy", "kl"]);
    let (nats, entropy, kl) = (
        eval["nats_per_token"].as_f64().unwrap(),
        eval["source_entropy"].as_f64().unwrap(),
        eval["kl"].as_f64().unwrap(),
    );
    assert!((nats - entropy - kl).abs() < 1e-12 && kl > 0.1, "{eval}");
    let again = bench.run(&["eval", "run", "--json"]).succeeded().result();
    assert_eq!(&again["eval"], eval);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    bench.run(&train(&["--quiet"])).succeeded();
    let mut child = bench
        .command(&["sample", "run", "--tokens", "100000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // The pipe is closed here, in the middle of the output.
    let ran = crate::common::Ran::of(child.wait_with_output().unwrap(), &["sample"]).succeeded();
    assert_eq!(ran.stderr, "");
}

#[test]
fn off_a_terminal_there_are_only_plain_lines() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    let ran = bench.run(&train(&[])).succeeded();
    assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\r'), "{:?}", ran.stderr);
    assert_eq!(ran.stdout, "", "without --json, what people read goes to standard error");
    for word in ["uniform", "unigram", "bigram MLE", "val nats", "perplexity", "bits/byte", "the run is in"] {
        assert!(ran.stderr.contains(word), "no «{word}» in:\n{}", ran.stderr);
    }
    let coloured = bench.command(&["eval", "run"]).env("NO_COLOR", "1").output().unwrap();
    assert!(!String::from_utf8_lossy(&coloured.stdout).contains('\u{1b}'));
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_with_code_3() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    let ran = bench.run(&train(&[
        "--set",
        "optim.lr=1e9",
        "--set",
        "optim.min_lr=1e9",
        "--set",
        "optim.warmup=0",
        "--set",
        "optim.grad_clip=0",
        "--set",
        "train.steps=200",
        "--set",
        "optim.schedule=constant",
    ]));
    ran.refused(3, &["diverged at step", "learning rate", "hint"]);
}

#[test]
fn with_smoothing_objective_and_nll_are_kept_apart() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    let ran = bench.run(&train(&["--json", "--set", "loss.label_smoothing=0.2"])).succeeded();
    assert!(ran.stderr.contains("the objective cannot fall below"), "{}", ran.stderr);
    let epoch = ran.events().into_iter().find(|event| event["event"] == "epoch").unwrap();
    let (objective, nll) = (epoch["objective"].as_f64().unwrap(), epoch["train_nll"].as_f64().unwrap());
    assert!((objective - nll).abs() > 1e-6, "{epoch}");
}

#[test]
fn no_model_beats_the_source_of_a_text() {
    let bench = Bench::new();
    for corpus in ["stories", "babble"] {
        let mut last = f64::INFINITY;
        for order in [1, 3, 5] {
            let config = format!(
                "[data]\nembedded = \"{corpus}\"\n[model]\nkind = \"ngram\"\norder = {order}\nsmoothing = \"add_k\"\nk = 0.01\n\
                 [sample]\ntokens = 0\n"
            );
            bench.file("c.toml", config);
            let out = format!("{corpus}{order}");
            let ran = bench.run(&["train", "c.toml", "--out", &out, "--json", "--quiet"]).succeeded();
            let kl = ran.result()["eval"]["kl"].as_f64().unwrap();
            // On 100,000 tokens of the source's own text, a model can be better by chance by less
            // than 0.01 nats.
            assert!(kl > -0.01, "{corpus}, order {order}: KL = {kl}");
            assert!(
                corpus == "babble" || kl < last,
                "more context should help stories: order {order} has KL = {kl}"
            );
            last = kl;
        }
    }
}

#[test]
fn bench_prints_a_line_a_case() {
    let bench = Bench::new();
    let ran = bench.run(&["bench", "loss", "--seconds", "0.01", "--case", "8192x65"]).succeeded();
    let events = ran.events();
    assert!(events.len() >= 5, "{}", ran.stdout);
    for event in &events {
        has(event, &["rows", "vocab", "variant", "threads", "median_ms", "gb_per_s", "extra_bytes"]);
        assert!(event["median_ms"].as_f64().unwrap() > 0.0);
    }
    let in_place = events.iter().find(|event| event["variant"] == "in_place").unwrap();
    assert!(in_place["extra_bytes"].as_u64().unwrap() < 1 << 20, "{in_place}");
    bench.run(&["bench", "loss", "--case", "nothing"]).refused(2, &["hint"]);
}

#[test]
fn a_run_can_be_logged_and_reported_in_other_forms() {
    let bench = Bench::new();
    bench.text("a.txt", 200);
    let small = ["--set", "model.kind=mlp", "--set", "train.steps=12", "--set", "eval.every_steps=4"];
    let all = ["train", "a.txt", "--out", "run", "--log", "tensorboard,csv", "--report"];
    bench.run(&[&all[..], &small].concat()).succeeded();
    let run = bench.path().join("run");
    let events = std::fs::read_dir(run.join("tensorboard")).unwrap().count();
    assert_eq!(events, 1);
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let table = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
    assert!(table.starts_with("event,") || table.contains(",event,"), "{}", &table[..80]);
    assert!(table.matches("\r\n").count() > metrics.lines().count());
    let report = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("<svg") && report.contains("validation NLL") && !report.contains("https://"));
    // The page is valid HTML for any text.
    bench.file("evil.txt", "<script>alert(1)</script> & \"x\" ".repeat(400));
    bench.run(&[&["train", "evil.txt", "--out", "evil", "--report"][..], &small].concat()).succeeded();
    let report = std::fs::read_to_string(bench.path().join("evil/report.html")).unwrap();
    assert_eq!(report.matches("<script>").count(), 1, "its own");
    bench.run(&["report", "a.txt"]).refused(1, &["a.txt"]);
    let evaluated = bench.run(&["eval", "run", "--calibration", "--json"]).succeeded().result();
    assert!(evaluated["calibration"]["ece"].as_f64().unwrap() >= 0.0);
    assert!(evaluated["calibration"]["scaled"]["temperature"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_transformer_leaves_in_hugging_faces_layout_and_trains_on_from_it() {
    let bench = Bench::new();
    bench.text("a.txt", 120);
    let gpt2 =
        ["--set", "model.norm=layer", "--set", "model.position=learned", "--set", "model.activation=gelu"];
    for (name, more) in [("gpt2", &gpt2[..]), ("llama", &[][..])] {
        let (out, folder, on) = (format!("{name}_run"), format!("{name}_hf"), format!("{name}_on"));
        let mut arguments = vec!["train", "a.txt", "--out", &out, "--set", "train.steps=30", "--set"];
        arguments.extend(["train.block_size=16", "--set", "model.n_embd=32", "--set", "model.n_layer=1"]);
        arguments.extend(["--set", "eval.stride=8", "--json"]);
        arguments.extend(more);
        let result = bench.run(&arguments).succeeded().result();
        bench.run(&["export", &out, "--format", "hf", "--out", &folder]).succeeded();
        let config = std::fs::read(bench.path().join(&folder).join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["model_type"], name);
        // Training continued with learning rate 0 keeps the exported model.
        let start = format!("model.init_from={folder}");
        let arguments = ["train", "a.txt", "--out", &on, "--json", "--set", &start, "--set", "train.steps=1"];
        let still = ["--set", "train.block_size=16", "--set", "optim.lr=1e-12", "--set", "optim.min_lr=0"];
        let still = [&still[..], &["--set", "optim.kind=adamw"]].concat();
        let still = [&arguments[..], &still[..], &["--set", "eval.stride=8"][..]].concat();
        let again = bench.run(&still).succeeded().result();
        let nats = |result: &serde_json::Value| result["eval"]["nats_per_token"].as_f64().unwrap();
        assert!((nats(&again) - nats(&result)).abs() < 1e-5, "{again} after {result}");
    }
    bench.run(&["export", "gpt2_run", "--format", "arpa", "--out", "x.arpa"]).refused(2, &["n-gram"]);
    let arguments = ["train", "a.txt", "--out", "wide", "--from", "gpt2_hf", "--set", "train.block_size=32"];
    bench.run(&arguments).refused(2, &["block_size", "16"]);
    let arguments = ["train", "a.txt", "--out", "cap", "--set", "model.softcap=9", "--set", "train.steps=1"];
    bench.run(&arguments).succeeded();
    bench.run(&["export", "cap", "--format", "hf", "--out", "cap_hf"]).refused(2, &["Llama"]);
}

#[test]
fn bench_step_prints_one_line_a_case() {
    let bench = Bench::new();
    let arguments = ["bench", "step", "--case", "cpu/", "--seconds", "0"];
    let events = bench.run(&arguments).succeeded().events();
    let names: Vec<&str> = events.iter().map(|event| event["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cpu/f32", "cpu/bf16"]);
    for event in &events {
        has(event, &["median_ms", "tokens_per_s", "gflop_per_s", "fraction_of_f32_peak", "shares"]);
        // Null if the peak was measured too low, as on a busy machine.
        let fraction = event["fraction_of_f32_peak"].as_f64();
        assert!(fraction.is_none_or(|f| f > 0.0 && (f <= 1.0 || event["name"] == "cpu/bf16")), "{event}");
        let shares = event["shares"].as_object().unwrap();
        let sum: f64 = shares.values().map(|share| share.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{event}");
        // The share of matmuls depends on the machine; here it only has to be measured.
        assert!(
            ["matmul_forward", "matmul_input_gradient", "matmul_weight_gradient"].iter().all(|part| shares
                [*part]
                .as_f64()
                .unwrap()
                > 0.0),
            "{event}"
        );
    }
    bench.run(&["bench", "step", "--case", "none"]).refused(2, &["there are"]);
}
