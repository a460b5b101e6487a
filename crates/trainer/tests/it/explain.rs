//! `surprisal explain`: the numbers of an evaluation, and consistent arithmetic.

use crate::common::Bench;
use serde_json::Value;

/// An n-gram model and a neural model of the same text.
fn models(bench: &Bench) {
    bench.text("a.txt", 300);
    let counted = ["--set", "model.kind=ngram", "--set", "model.order=3", "--set", "model.smoothing=add_k"];
    bench.run(&[&["train", "a.txt", "--out", "counted"][..], &counted].concat()).succeeded();
    let mlp = ["--set", "model.kind=mlp", "--set", "train.steps=20", "--set", "sample.tokens=0"];
    bench.run(&[&["train", "a.txt", "--out", "mlp"][..], &mlp].concat()).succeeded();
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn what_is_explained_is_what_is_evaluated() {
    let bench = Bench::new();
    models(&bench);
    let text = "the cat hears a song.\n";
    bench.file("b.txt", text);
    let events = bench.run(&["explain", "counted", "mlp", "--text", text, "--json"]).succeeded().events();
    assert_eq!(events.len(), 2);
    for event in &events {
        let model = event["model"].as_str().unwrap();
        let evaluated = bench.run(&["eval", model, "b.txt", "--json"]).succeeded().result();
        let tokens = event["tokens"].as_array().unwrap();
        assert_eq!(tokens.len(), text.len());
        let total: f64 = tokens.iter().map(|token| number(token, "nats")).sum();
        let mean = total / tokens.len() as f64;
        assert!((mean - number(&evaluated["eval"], "nats_per_token")).abs() < 1e-6, "{model}");
        assert!((number(event, "perplexity") - mean.exp()).abs() < 1e-9);
        for token in tokens {
            let bits = number(token, "nats") / std::f64::consts::LN_2;
            assert!((number(token, "bits") - bits).abs() < 1e-12);
            let likeliest = token["likeliest"].as_array().unwrap();
            assert_eq!(likeliest.len(), 3);
            let first = number(&likeliest[0], "probability");
            assert_eq!(token["rank"] == 1, ((-number(token, "nats")).exp() - first).abs() < 1e-12, "{token}");
        }
    }
    let shown = bench.run(&["explain", "counted", "mlp", "--text", text]).succeeded().stdout;
    assert!(shown.contains("under each token") && shown.contains("0.1 nats per token less"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours into a pipe");
    let colours = bench.run(&["explain", "mlp", "--text", text, "--color", "always"]).succeeded().stdout;
    assert!(colours.contains("\u{1b}[48;5;"));
}

#[test]
fn the_arithmetic_of_a_step_adds_up() {
    let bench = Bench::new();
    models(&bench);
    for model in ["counted", "mlp"] {
        let all = [
            "explain",
            model,
            "--text",
            "the cat",
            "--step",
            "5",
            "--top",
            "1000",
            "--smoothing",
            "0.2",
            "--json",
        ];
        let step = bench.run(&all).succeeded().result();
        assert_eq!(step["token"], "c");
        let rows = step["rows"].as_array().unwrap();
        let of = |key: &str| rows.iter().map(|row| number(row, key)).collect::<Vec<_>>();
        let (z, q) = (of("z"), of("q"));
        let lse = z.iter().map(|z| z.exp()).sum::<f64>().ln();
        assert!((lse - number(&step, "log_sum_exp")).abs() < 1e-9);
        assert!((q.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let target = rows.iter().find(|row| row["target"] == true).unwrap();
        assert!((number(&step, "nats") - (lse - number(target, "z"))).abs() < 1e-9);
        assert!((number(target, "gradient") - (number(target, "q") - 1.0)).abs() < 1e-12);
        for key in ["gradient", "smoothed_gradient"] {
            assert!(of(key).iter().sum::<f64>().abs() < 1e-9, "{key} sums to zero");
        }
        // The smoothed loss is H(p', q), with gradient q − p'.
        let each = 0.2 / rows.len() as f64;
        let smoothed: f64 = rows
            .iter()
            .map(|row| (each + if row["target"] == true { 0.8 } else { 0.0 }) * (lse - number(row, "z")))
            .sum();
        assert!((smoothed - number(&step, "smoothed_loss")).abs() < 1e-9);
    }
    let shown = bench.run(&["explain", "mlp", "--text", "the cat", "--step", "5"]).succeeded().stdout;
    assert!(shown.contains("log-sum-exp") && shown.contains("q − p'") && shown.contains("nats ="), "{shown}");
    // A token with target probability 0 adds nothing, even if q = 0.
    bench.run(&["count", "a.txt", "--order", "2", "--smoothing", "mle", "--out", "m.ngram"]).succeeded();
    let plain = ["explain", "m.ngram", "--text", "the cat", "--step", "1", "--smoothing", "0"];
    let step = bench.run(&[&plain[..], &["--json"]].concat()).succeeded().result();
    assert_eq!(number(&step, "smoothed_loss"), number(&step, "nats"));
    let shown = bench.run(&plain).succeeded().stdout;
    assert!(shown.contains("smoothed, ε 0") && !shown.contains("NaN"), "{shown}");
    bench.run(&["explain", "mlp", "--text", "abc", "--step", "9"]).refused(2, &["1 to 3"]);
    bench.run(&["explain", "mlp", "--text", ""]).refused(2, &["--text"]);
}

#[test]
fn a_first_token_is_said_to_have_nothing_before_it() {
    let bench = Bench::new();
    models(&bench);
    let small = ["model.n_layer=1", "model.n_head=2", "model.n_embd=16", "train.steps=3", "sample.tokens=0"];
    let small: Vec<&str> = small.iter().flat_map(|set| ["--set", set]).collect();
    bench.run(&[&["train", "a.txt", "--out", "transformer"][..], &small].concat()).succeeded();
    let lines = ["--set", "model.kind=ngram", "--set", "model.order=2", "--set", "data.unit=line"];
    bench.run(&[&["train", "a.txt", "--out", "lines"][..], &lines].concat()).succeeded();
    let step = |model: &str, step: &str| {
        bench.run(&["explain", model, "--text", "the cat", "--step", step]).succeeded().stdout
    };
    let why = "the first token has no context, which this model was never trained on: there every token is \
               equally likely, as in `eval`";
    for model in ["mlp", "transformer"] {
        let first = step(model, "1");
        assert!(first.starts_with(&format!("{model}: token 1 is \"t\" with nothing before it\n")), "{first}");
        assert!(first.contains(why) && !first.contains("counts have none"), "{first}");
        // The same explanation as in the list.
        let list = bench.run(&["explain", model, "--text", "the cat"]).succeeded().stdout;
        assert!(list.contains(why), "{list}");
        let second = step(model, "2");
        assert!(second.contains("token 2 is \"h\" after \"t\"\n\nlogits z"), "{second}");
        assert!(!second.contains("nothing before"), "{second}");
    }
    // N-gram models have no logits, and have observed the beginnings of texts and lines.
    let counted = step("counted", "1");
    assert!(counted.starts_with("counted: token 1 is \"t\" with nothing before it\n"), "{counted}");
    assert!(counted.contains("(counts have none)") && !counted.contains("never trained"), "{counted}");
    let line = step("lines", "1");
    assert!(line.starts_with("lines: token 1 is \"t\" after \"<s>\"\n"), "{line}");
}
