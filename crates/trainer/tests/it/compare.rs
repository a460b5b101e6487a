//! `surprisal compare`: the decomposition of the loss, runs identical to the same config alone, and
//! no repeated work.

use std::path::Path;

use crate::common::{Bench, repository};
use serde_json::Value;

/// Four variants on a little of the embedded babble.
const GRID: &str = r#"
[compare]
seeds = [1, 2]
[data]
embedded = "babble"
train_fraction = 0.02
[train]
steps = 30
batch_size = 4
block_size = 16
shards = 1
[eval]
every_epochs = 0
[sample]
tokens = 20
[[variant]]
name = "5-gram"
model = { kind = "ngram", order = 5, smoothing = "mle" }
[[variant]]
name = "trigram"
model = { kind = "ngram", order = 3, smoothing = "witten_bell" }
[[variant]]
name = "mlp {loss.label_smoothing}"
model = { kind = "mlp", context = 3, n_embd = 4, n_hidden = 8 }
grid = { "loss.label_smoothing" = [0, 0.1] }
"#;

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

#[test]
fn cross_entropy_is_entropy_and_divergence_and_the_parts_are_the_whole() {
    let bench = Bench::new();
    bench.file("grid.toml", GRID);
    let result = bench.run(&["compare", "grid.toml", "--json"]).succeeded().result();
    assert_eq!(result["event"], "result");
    let variants = result["variants"].as_array().unwrap();
    assert_eq!(variants.len(), 4);
    for variant in variants {
        let counted = variant["kind"] == "ngram";
        let tolerance = if counted { 1e-6 } else { 1e-4 };
        assert_eq!(variant["seeds"].as_array().unwrap().len(), if counted { 1 } else { 2 });
        if variant["name"] == "trigram" || !counted {
            let at = |name: &str| number(variant, &format!("/source/{name}/mean"));
            // Expected over the source's predictions: H(p, q) − H(p) against Σ p ln(p/q), computed
            // separately.
            assert!((at("cross_entropy") - at("entropy") - at("kl")).abs() < tolerance, "{variant}");
            // On this text: the forward algorithm against the predictions token by token.
            let parts = |name: &str| number(variant, &format!("/parts/{name}/mean"));
            assert!((parts("entropy") - at("realised_entropy")).abs() < 1e-9, "{variant}");
            let measured = number(variant, "/nats_per_token/mean");
            let sum =
                parts("entropy") + parts("approximation") + parts("estimation") + parts("miscalibration");
            assert!((sum - measured).abs() < 1e-9, "{sum} {measured}");
            // The source has order 2; these models have orders 2 and 3, so their class contains the
            // source.
            assert!(parts("approximation").abs() < 1e-12 && parts("estimation") > 0.0, "{variant}");
        }
    }
    // 1.8 kB of text do not contain every 5-gram, so MLE gives some tokens probability zero, with a
    // note.
    assert!(variants[0]["nats_per_token"].is_null());
    assert!(number(&variants[0], "/zero_probability/mean") > 0.0);
    let root = bench.path().join(result["run"].as_str().unwrap());
    let report = std::fs::read_to_string(root.join("report.html")).unwrap();
    assert!(report.len() < 3_000_000 && !report.contains("http://") && !report.contains("https://"));
    assert!(
        report.contains("<svg")
            && report.contains("Where each model is better")
            && report.ends_with("</html>\n")
    );
    let differences = result["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 3, "each against the first");
    assert!(differences.iter().all(|d| d["verdict"] == "not comparable: infinite"));
}

/// A run's weights and events without times.
fn bits(run: &Path) -> (Vec<u8>, Vec<String>) {
    let weights = ["model.safetensors", "model.ngram"].map(|name| run.join("model").join(name));
    let weights = weights.iter().find(|path| path.exists()).unwrap();
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let events = metrics.lines().map(|line| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        for key in ["memory_bytes", "train_seconds", "wall_seconds", "tokens_per_second", "run"] {
            event.as_object_mut().unwrap().remove(key);
        }
        event.to_string()
    });
    (std::fs::read(weights).unwrap(), events.collect())
}

#[test]
fn a_cell_is_the_same_config_run_alone_and_is_made_once() {
    let bench = Bench::new();
    bench.file("grid.toml", GRID);
    bench.run(&["compare", "grid.toml", "--out", "both", "--jobs", "2"]).succeeded();
    for cell in ["5-gram", "trigram", "mlp-0.1/seed-2"] {
        let run = bench.path().join("both/cells").join(cell);
        let config = run.join("config.toml").to_string_lossy().into_owned();
        bench.run(&["train", &config, "--out", "alone"]).succeeded();
        assert_eq!(bits(&run), bits(&bench.path().join("alone")), "{cell}");
        std::fs::remove_dir_all(bench.path().join("alone")).unwrap();
    }
    // One run is removed; the others must stay unchanged.
    let time = |cell: &str| {
        std::fs::metadata(bench.path().join("both/cells").join(cell)).unwrap().modified().unwrap()
    };
    let kept = ["5-gram/cell.json", "trigram/cell.json", "mlp-0/seed-1/cell.json"];
    let before = kept.map(time);
    let first = std::fs::read(bench.path().join("both/cells/mlp-0/seed-2/model/model.safetensors")).unwrap();
    std::fs::remove_dir_all(bench.path().join("both/cells/mlp-0/seed-2")).unwrap();
    let ran = bench.run(&["compare", "grid.toml", "--out", "both", "--json"]).succeeded();
    let cells: Vec<_> = ran.events().into_iter().filter(|event| event["event"] == "cell").collect();
    assert_eq!(cells.len(), 1, "{cells:?}");
    assert_eq!((&cells[0]["name"], &cells[0]["seed"]), (&Value::from("mlp 0"), &Value::from(2)));
    assert_eq!(kept.map(time), before);
    let again = std::fs::read(bench.path().join("both/cells/mlp-0/seed-2/model/model.safetensors")).unwrap();
    assert_eq!(first, again);
    // Other settings are refused in the same folder.
    bench
        .run(&["compare", "grid.toml", "--out", "both", "--set", "train.steps=31"])
        .refused(2, &["other settings"]);
}

#[test]
fn a_grid_that_is_killed_goes_on_where_it_was() {
    let bench = Bench::new();
    bench.file("grid.toml", GRID);
    let long = [
        "compare",
        "grid.toml",
        "--jobs",
        "2",
        "--set",
        "train.steps=400",
        "--set",
        "checkpoint.every_steps=50",
    ];
    let whole: Vec<&str> = long.iter().copied().chain(["--out", "whole"]).collect();
    bench.run(&whole).succeeded();
    let killed: Vec<&str> = long.iter().copied().chain(["--out", "killed"]).collect();
    let mut child = bench.command(&killed).stderr(std::process::Stdio::null()).spawn().unwrap();
    let begun = bench.path().join("killed/cells/mlp-0/seed-1/checkpoints/step_00000050");
    for _ in 0..2000 {
        if begun.exists() || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let ran = bench.run(&[killed.as_slice(), &["--json"]].concat()).succeeded();
    let made = ran.events().iter().filter(|event| event["event"] == "cell").count();
    assert!(made <= 6, "{made}");
    for cell in ["5-gram", "mlp-0/seed-1", "mlp-0/seed-2", "mlp-0.1/seed-1"] {
        let of = |root: &str| bits(&bench.path().join(root).join("cells").join(cell));
        assert_eq!(of("whole"), of("killed"), "{cell}");
    }
}

#[test]
fn the_shipped_comparisons_run() {
    let bench = Bench::new();
    let text = bench.text("a.txt", 900).to_string_lossy().into_owned();
    for (name, least) in [("mle_vs_smoothing", 8), ("ngram_to_neural", 8), ("data_size", 8), ("ladder", 4)] {
        let path = repository(&format!("configs/compare_{name}.toml"));
        let ran = bench
            .run(&[
                "compare",
                &path,
                &text,
                "--seeds",
                "7",
                "--set",
                "train.steps=2",
                "--set",
                "data.train_fraction=0.5",
                "--set",
                "sample.tokens=0",
                "--json",
            ])
            .succeeded();
        let result = ran.result();
        let variants = result["variants"].as_array().unwrap();
        assert!(variants.len() >= least, "{name}: {}", variants.len());
        assert!(variants.iter().all(|variant| variant["diverged"] == 0), "{name}");
        assert!(!result["differences"].as_array().unwrap().is_empty());
    }
}

#[test]
fn maximum_likelihood_is_consistent_and_efficient_whether_counted_or_trained() {
    let bench = Bench::new();
    let config = repository("configs/compare_consistency.toml");
    let ran = bench.run(&["compare", &config, "--seeds", "1", "--json", "--out", "out"]).succeeded();
    let result = ran.result();
    let curves = result["learning_curves"].as_array().unwrap();
    assert_eq!(curves.len(), 2);
    for curve in curves {
        let points = curve["points"].as_array().unwrap();
        let tokens = |point: &Value| number(point, "/tokens");
        assert!(tokens(points.last().unwrap()) / tokens(&points[0]) > 63.9, "a factor of 64");
        // k = 14 · 13: the characters after each of fourteen, whose probabilities sum to one.
        for point in points {
            let expected = 14.0 * 13.0 / (2.0 * tokens(point));
            assert!((number(point, "/expected_kl") - expected).abs() < 1e-12 * expected, "{point}");
            // 2N·KL is about χ² with 182 degrees of freedom: within four standard deviations.
            let ratio = number(point, "/kl") / expected;
            assert!((ratio - 1.0).abs() < 4.0 * (2.0f64 / 182.0).sqrt(), "{point}");
            assert_eq!(number(point, "/cells"), 196.0);
        }
        assert!((number(curve, "/kl_slope") + 1.0).abs() < 0.1, "{curve}");
        assert!((0.93..0.97).contains(&number(curve, "/cover")), "{curve}");
        // Nothing is left to learn.
        assert!(
            number(curve, "/with_endless_text/value") - number(points.last().unwrap(), "/loss/mean") < 1e-3
        );
    }
    let shown = bench.run(&["compare", &config, "--seeds", "1", "--out", "out"]).succeeded();
    for part in ["k / 2N", "hardly helps", "ln KL falls with ln N at a slope of -1.0"] {
        assert!(shown.stdout.contains(part), "{part} in {}", shown.stdout);
    }
    let report = std::fs::read_to_string(bench.path().join("out/report.html")).unwrap();
    assert!(report.contains("What more text buys") && report.contains("Consistency"));
}

#[test]
fn a_learning_curve_foretells_what_more_text_buys() {
    let bench = Bench::new();
    let grid = |sizes: &str| {
        format!(
            "[data]\nval_fraction = 0.02\ntrain_part = \"spread\"\n[tokenizer]\nkind = \"byte\"\n[[variant]]\nname = \"5-gram, {{data.train_fraction}}\"\n\
             model = {{ kind = \"ngram\", order = 5, smoothing = \"witten_bell\" }}\ngrid = {{ \"data.train_fraction\" = [{sizes}] }}\n"
        )
    };
    bench.file("small.toml", grid("0.003, 0.006, 0.012, 0.025, 0.05, 0.1"));
    bench.file("three.toml", grid("0.01, 0.1, 1.0"));
    let curve = |config: &str, text: &[&str]| {
        let arguments = [&["compare", config, "--json"], text].concat();
        let result = bench.run(&arguments).succeeded().result();
        let curves = result["learning_curves"].as_array().unwrap();
        assert_eq!((curves.len(), &curves[0]["name"]), (1, &Value::from("5-gram, …")));
        curves[0].clone()
    };
    let (small, whole) = (curve("small.toml", &[]), curve("three.toml", &[]));
    let found = number(&whole, "/points/2/loss/mean");
    let said = |end: &str| number(&small, &format!("/with_10_times_the_text/{end}"));
    assert!(said("low") < found && found < said("high"), "{found} in {small}");
    assert!(said("value") < number(&small, "/points/5/loss/mean"), "more text helps: {small}");
    // Three sizes are a power law, and say nothing about its error.
    assert!(whole["with_10_times_the_text"].is_null(), "{whole}");
    // Beginnings of a text of the user's are not samples of it.
    bench.file("a.txt", crate::common::sentences(3000));
    let prefix = grid("0.1, 0.3, 1.0").replace("spread", "start");
    bench.file("start.toml", prefix);
    let ran = bench.run(&["compare", "start.toml", "a.txt", "--out", "start"]).succeeded();
    assert!(ran.stdout.contains("note: the sizes are beginnings of the text"), "{}", ran.stdout);
}

#[test]
fn several_seeds_of_one_config_are_its_runs_and_their_spread() {
    let bench = Bench::new();
    bench.text("a.txt", 200);
    bench
        .file("c.toml", "[model]\nkind = \"mlp\"\nn_embd = 4\nn_hidden = 8\n[train]\nsteps = 20\nseed = 5\n");
    let ran = bench.run(&["train", "c.toml", "a.txt", "--seeds", "3", "--out", "all", "--json"]).succeeded();
    let result = ran.result();
    let losses = result["variants"][0]["nats_per_token_by_seed"].as_array().unwrap().clone();
    assert_eq!(result["seeds"], serde_json::json!([5, 6, 7]));
    for (seed, loss) in (5..).zip(&losses) {
        let (set, out) = (format!("train.seed={seed}"), format!("own{seed}"));
        let own =
            bench.run(&["train", "c.toml", "a.txt", "--set", &set, "--out", &out, "--json"]).succeeded();
        assert_eq!(own.result()["eval"]["nats_per_token"], *loss, "{seed}");
        let of_seed = bench.path().join(format!("all/cells/c/seed-{seed}"));
        assert_eq!(bits(&bench.path().join(&out)), bits(&of_seed), "{seed}");
    }
    // The sample's standard deviation, from the losses themselves.
    let values: Vec<f64> = losses.iter().map(|loss| loss.as_f64().unwrap()).collect();
    let mean = values.iter().sum::<f64>() / 3.0;
    let deviation = (values.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    let shown = bench.run(&["train", "c.toml", "a.txt", "--seeds", "3", "--out", "all"]).succeeded();
    let spread = format!(
        "{mean:.4} nats per token on average over 3 seeds, with a standard deviation of {deviation:.4}"
    );
    assert!(shown.stdout.contains(&spread), "{spread} in {}", shown.stdout);
    let counted = bench.run(&["train", "a.txt", "--set", "model.kind=ngram", "--seeds", "2", "--out", "no"]);
    counted.refused(2, &["every seed gives the same"]);
    assert!(!bench.path().join("no").exists());
}

/// N-gram and neural variants, which have different kinds of randomness.
const VERDICTS: &str = r#"
[data]
embedded = "babble"
train_fraction = 0.02
[train]
steps = 30
batch_size = 4
block_size = 16
shards = 1
[eval]
every_epochs = 0
[sample]
tokens = 0
[[variant]]
name = "trigram"
model = { kind = "ngram", order = 3, smoothing = "witten_bell" }
[[variant]]
name = "unigram"
model = { kind = "ngram", order = 1, smoothing = "witten_bell" }
[[variant]]
name = "mlp"
model = { kind = "mlp", context = 3, n_embd = 4, n_hidden = 8 }
[[variant]]
name = "mlp, smoothed"
model = { kind = "mlp", context = 3, n_embd = 4, n_hidden = 8 }
loss = { label_smoothing = 0.1 }
against = "mlp"
[[variant]]
name = "trigram against mlp"
model = { kind = "ngram", order = 3, smoothing = "add_k" }
against = "mlp"
[[variant]]
name = "unigram against trigram"
model = { kind = "ngram", order = 1, smoothing = "add_k" }
against = "trigram"
"#;

#[test]
fn one_seed_of_a_trained_model_is_no_verdict() {
    let bench = Bench::new();
    bench.file("grid.toml", VERDICTS);
    let ran = bench.run(&["compare", "grid.toml", "--seeds", "1", "--out", "one"]).succeeded();
    assert!(ran.stdout.contains("one seed of a trained model is not enough for a test"), "{}", ran.stdout);
    let result =
        bench.run(&["compare", "grid.toml", "--seeds", "1", "--out", "one", "--json"]).succeeded().result();
    let differences = result["differences"].as_array().unwrap();
    let verdict = |name: &str| differences.iter().find(|difference| difference["name"] == name).unwrap();
    for trained in ["mlp, smoothed", "trigram against mlp"] {
        let found = verdict(trained);
        assert_eq!(found["verdict"], "not tested: one seed", "{found}");
        assert_eq!((&found["ece_verdict"], &found["ece_p"]), (&Value::from("not tested"), &Value::Null));
        // The difference is still shown, with its spread over the text, but without p.
        assert!(found["p"].is_null() && found["nats_per_token"]["mean"].is_number(), "{found}");
        assert!(found["nats_over_text"]["standard_error"].is_number(), "{found}");
    }
    // Counting has no seed: only the text varies, and a unigram is significantly worse than a
    // trigram.
    let counted = verdict("unigram against trigram");
    assert!(counted["verdict"] == "worse" && counted["p"].as_f64().unwrap() < 1e-4, "{counted}");
    let report = std::fs::read_to_string(bench.path().join("one/report.html")).unwrap();
    assert!(report.contains("not tested: one seed"));
}

#[test]
fn two_seeds_come_with_their_caveat_and_the_same_seed_twice_is_refused() {
    let bench = Bench::new();
    bench.file("grid.toml", VERDICTS);
    let ran = bench.run(&["compare", "grid.toml", "--seeds", "1,2", "--out", "two"]).succeeded();
    let note = "from two seeds hardly any difference can be shown";
    // The legend explains p.
    let of_p = "Differences are paired by seed, and over 64 blocks of the validation text; p is the larger of the two";
    let report = std::fs::read_to_string(bench.path().join("two/report.html")).unwrap();
    for part in [note, of_p] {
        assert!(ran.stdout.contains(part) && report.contains(part), "no «{part}» in {}", ran.stdout);
    }
    let ran = bench.run(&["compare", "grid.toml", "--seeds", "1,2,3"]).succeeded();
    assert!(!ran.stdout.contains("hardly any") && !ran.stdout.contains("one seed"), "{}", ran.stdout);
    bench
        .run(&["compare", "grid.toml", "--seeds", "1,2,1", "--out", "twice"])
        .refused(2, &["seed 1 is given twice", "--seeds 1,2,3"]);
    bench.file("twice.toml", format!("[compare]\nseeds = [5, 5]\n{VERDICTS}"));
    bench.run(&["compare", "twice.toml"]).refused(2, &["twice.toml", "seed 5 is given twice"]);
    // The same for one seed for all of them, given anywhere.
    let named = ["train.seed is set", "--seeds 1,2,3"];
    bench
        .run(&["compare", "grid.toml", "--seeds", "1,2,3", "--set", "train.seed=9", "--out", "twice"])
        .refused(2, &named);
    for (file, text) in [
        ("shared.toml", format!("[train]\nseed = 8\n{}", VERDICTS.replacen("[train]\n", "", 1))),
        ("variant.toml", format!("{VERDICTS}\n[[variant]]\nname = \"seeded\"\ntrain = {{ seed = 4 }}\n")),
        (
            "points.toml",
            format!("{VERDICTS}\n[[variant]]\nname = \"x\"\n[variant.grid]\n\"train.seed\" = [3, 4]\n"),
        ),
    ] {
        bench.file(file, text);
        bench.run(&["compare", file, "--out", "twice"]).refused(2, &[&[file], &named[..]].concat());
    }
    assert!(!bench.path().join("twice").exists());
}

#[test]
fn other_tokens_or_another_text_are_not_compared_in_nats_a_token() {
    let bench = Bench::new();
    let text = "über the hill, \u{fc}ber the sea.\n";
    bench.file("a.txt", text.repeat(60));
    bench.file("b.txt", "over the hill, over the sea.\n".repeat(30));
    bench.file(
        "grid.toml",
        r#"
[data]
train = ["a.txt"]
[model]
kind = "ngram"
order = 3
smoothing = "witten_bell"
[[variant]]
name = "char"
[[variant]]
name = "byte"
tokenizer = { kind = "byte" }
[[variant]]
name = "word"
tokenizer = { kind = "word" }
[[variant]]
name = "char again"
model = { order = 2 }
[[variant]]
name = "other text"
data = { val = ["b.txt"] }
[[variant]]
name = "byte, less"
tokenizer = { kind = "byte" }
model = { order = 1 }
against = "byte"
"#,
    );
    let mut grid = std::fs::read_to_string(bench.path().join("grid.toml")).unwrap();
    // If one variant has `against`, the others need it, too.
    for name in ["byte", "word", "char again", "other text"] {
        grid = grid
            .replace(&format!("name = \"{name}\"\n"), &format!("name = \"{name}\"\nagainst = \"char\"\n"));
    }
    bench.file("grid.toml", grid);
    let result = bench.run(&["compare", "grid.toml", "--out", "k", "--json"]).succeeded().result();
    let of =
        |name: &str| result["differences"].as_array().unwrap().iter().find(|d| d["name"] == name).unwrap();
    let found = of("other text");
    assert_eq!(found["verdict"], "not comparable: other validation text");
    assert_eq!(found["ece_verdict"], "not tested");
    assert!(found["nats_per_token"].is_null() && found["p"].is_null(), "{found}");
    // Other tokens are judged in bits per byte, and their calibration is not compared.
    for name in ["byte", "word"] {
        let found = of(name);
        assert!(["better", "worse", "no difference shown"].contains(&found["verdict"].as_str().unwrap()));
        assert_eq!(found["ece_verdict"], "not tested");
        assert!(found["nats_per_token"].is_null() && found["bits_per_byte"]["mean"].is_number(), "{found}");
    }
    assert!(of("char again")["p"].is_number() && of("byte, less")["verdict"] == "worse", "{result}");
    let bits = |name: &str| {
        let all = result["variants"].as_array().unwrap();
        number(all.iter().find(|variant| variant["name"] == name).unwrap(), "/bits_per_byte/mean")
    };
    assert!(bits("byte").is_finite() && bits("char").is_finite());
    let table = bench.run(&["compare", "grid.toml", "--out", "k"]).succeeded().stdout;
    assert!(table.contains("bits/byte") && table.contains("Where tokens differ"), "{table}");
    assert!(table.contains("\"other text\" and \"char\" have different validation texts"), "{table}");
}

/// A training text, and a validation text with one unknown word.
const WORDS: &str = r#"
[data]
train = ["a.txt"]
val = ["b.txt"]
[train]
steps = 4
batch_size = 2
block_size = 8
shards = 1
[optim]
warmup = 0
[eval]
every_epochs = 0
[sample]
tokens = 0
"#;

#[test]
fn bits_per_byte_include_what_an_unknown_word_costs_to_spell() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    let judged_by = crate::common::sentences(20).replacen("cat", "tac", 1);
    bench.file("b.txt", &judged_by);
    let counted = "model = { kind = \"ngram\", order = 2, smoothing = \"witten_bell\" }\n";
    bench.file(
        "grid.toml",
        format!(
            "{WORDS}[[variant]]\nname = \"char\"\n{counted}[[variant]]\nname = \"word\"\ntokenizer = {{ kind = \"word\" }}\n{counted}"
        ),
    );
    let result = bench.run(&["compare", "grid.toml", "--out", "k", "--json"]).succeeded().result();
    let (char, word) = (&result["variants"][0], &result["variants"][1]);
    let bits = |variant: &Value, key: &str| number(variant, &format!("/{key}/mean"));
    let found = &result["differences"][0];
    let delta = bits(word, "bits_per_byte") - bits(char, "bits_per_byte");
    assert!((number(found, "/bits_per_byte/mean") - delta).abs() < 1e-12, "{found}");
    // The words of the sentences have one space or newline after each: the common text is the text.
    let eval = |name: &str| bench.run(&["eval", &format!("k/cells/{name}"), "--json"]).succeeded().result();
    for (name, variant) in [("char", char), ("word", word)] {
        let eval = eval(name);
        assert!((number(&eval, "/eval/bits_per_byte") - bits(variant, "bits_per_byte")).abs() < 1e-12);
    }
    // "tac" has three bytes and an end, all of them known letters.
    let spelling = bits(word, "spelling_bits_per_byte");
    let nats = spelling * judged_by.len() as f64 * std::f64::consts::LN_2;
    assert!((2.0..15.0).contains(&nats), "{nats}");
    assert!((number(&eval("word"), "/eval/spelling_bits_per_byte") - spelling).abs() < 1e-12);
    let table = bench.run(&["compare", "grid.toml", "--out", "k"]).succeeded().stdout;
    for part in ["word: 1 unknown validation token, scored as <unk>\n", "of them spelling", "bits/byte"] {
        assert!(table.contains(part), "no «{part}» in {table}");
    }
    assert!(!table.contains("char: "), "it knows every letter: {table}");
}

#[test]
fn less_text_does_not_win_by_knowing_fewer_words() {
    let bench = Bench::new();
    bench.text("a.txt", 400);
    let words = "tokenizer = { kind = \"word\" }\nmodel = { kind = \"ngram\", order = 2, smoothing = \"witten_bell\" }\n";
    bench.file(
        "grid.toml",
        format!(
            "[data]\ntrain = [\"a.txt\"]\n[[variant]]\nname = \"all\"\n{words}\
             [[variant]]\nname = \"a hundredth\"\n{words}data = {{ train_fraction = 0.01 }}\n"
        ),
    );
    let result = bench.run(&["compare", "grid.toml", "--json"]).succeeded().result();
    let found = &result["differences"][0];
    assert_eq!(found["verdict"], "worse", "{found}");
}

#[test]
fn trained_variants_of_other_tokens_are_compared_in_bits_per_byte() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    bench.text("b.txt", 20);
    let model = "model = { kind = \"mlp\", context = 2, n_embd = 4, n_hidden = 4 }\n";
    let bpe = "tokenizer = { kind = \"bpe\", vocab_size = 270 }\n";
    let again = "tokenizer = { kind = \"byte\" }\n";
    bench.file(
        "grid.toml",
        format!(
            "[compare]\nseeds = [1, 2]\n{WORDS}[[variant]]\nname = \"char\"\n{model}[[variant]]\nname = \"bpe\"\n{bpe}{model}\
             [[variant]]\nname = \"byte\"\n{again}{model}"
        ),
    );
    let result = bench.run(&["compare", "grid.toml", "--json"]).succeeded().result();
    let differences = result["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 2);
    for difference in differences {
        assert_eq!(difference["bits_per_byte"]["n"], 2, "{difference}");
        assert_eq!(difference["ece_verdict"], "not tested");
        assert!(difference["p"].is_number() && difference["nats_per_token"].is_null(), "{difference}");
    }
}
