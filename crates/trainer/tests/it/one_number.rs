//! The loss of a text under a model is the same number in every command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::Bench;
use candle_core::{Device, Tensor};
use serde_json::Value;
use surprisal_formats::model_dir::{StoredModel, Weights};
use surprisal_formats::weights::{Accept, read_safetensors, to_safetensors};
use surprisal_model::LanguageModel;
use surprisal_model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_platform::threads::Pool;
use surprisal_text::{Corpus, DataOptions, EncodeOptions, TextMode, Tokenizer, TokenizerKind};

/// Sentences for the n-gram models.
const PARK: &str =
    "a fox ran in the park\nthe fox saw a duck\na duck swam in the pond\nthe duck saw the fox\n";

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

fn close(a: f64, b: f64, by: f64) {
    assert!((a - b).abs() < by, "{a} {b}");
}

fn eval(bench: &Bench, model: &str, text: &str) -> Value {
    bench.run(&["eval", model, text, "--json"]).succeeded().result()["eval"].clone()
}

fn count(bench: &Bench, text: &str, out: &str, more: &[&str]) {
    bench.run(&[&["count", text, "--order", "2", "--out", out, "-q"], more].concat()).succeeded();
}

/// The tokens in the output of `explain`, with a `?` after unknown ones.
fn tokens(event: &Value) -> Vec<String> {
    let shown = |token: &Value| {
        let mark = if token["unknown"] == true { "?" } else { "" };
        format!("{}{mark}", token["token"].as_str().unwrap())
    };
    event["tokens"].as_array().unwrap().iter().map(shown).collect()
}

/// The sum of the nats in the output of `explain`.
fn sum(event: &Value) -> f64 {
    event["tokens"].as_array().unwrap().iter().map(|token| number(token, "/nats")).sum()
}

#[test]
fn explain_reads_sentences_as_eval_does() {
    let bench = Bench::new();
    bench.file("park.txt", PARK);
    count(&bench, "park.txt", "m.ngram", &[]);
    for (text, expected) in [
        ("the fox saw a heron", &["the", "fox", "saw", "a", "heron?", "</s>"][..]),
        ("<s> heron ran </s>\n<s> a duck", &["heron?", "ran", "</s>", "a", "duck", "</s>"]),
        ("a duck\nthe fox ran\n", &["a", "duck", "</s>", "the", "fox", "ran", "</s>"]),
        ("a duck\r\n\r\nElch <unk> swam", &["a", "duck", "</s>", "</s>", "Elch?", "<unk>?", "swam", "</s>"]),
    ] {
        bench.file("t.txt", text);
        let evaluated = eval(&bench, "m.ngram", "t.txt");
        let event = bench.run(&["explain", "m.ngram", "--text", text, "--json"]).succeeded().result();
        assert_eq!(tokens(&event), expected);
        assert_eq!(event["eval"], evaluated);
        assert_eq!(event["nats_per_token"], evaluated["nats_per_token"]);
        close(sum(&event), number(&evaluated, "/nats_per_token") * expected.len() as f64, 1e-9);
        // Each step has the token and the loss of the list.
        for (index, token) in event["tokens"].as_array().unwrap().iter().enumerate() {
            let step = (index + 1).to_string();
            let explain = ["explain", "m.ngram", "--text", text, "--step", &step, "--json"];
            let step = bench.run(&explain).succeeded().result();
            assert_eq!((&step["token"], &step["unknown"]), (&token["token"], &token["unknown"]));
            close(number(&step, "/nats"), number(token, "/nats"), 1e-9);
        }
    }
    let shown =
        bench.run(&["explain", "m.ngram", "--text", "the fox saw a heron\na duck"]).succeeded().stdout;
    assert!(
        shown.contains("over 9 tokens\n1 of 9 tokens are unknown (11.11 %); perplexity without them "),
        "{shown}"
    );
    assert!(shown.contains("\n  the fox saw a heron (unknown) </s>\n"), "{shown}");
    assert!(shown.contains("\n  a duck </s>\n"), "{shown}");
    let colours = ["explain", "m.ngram", "--text", "a heron", "--color", "always"];
    let shown = bench.run(&colours).succeeded().stdout;
    assert!(
        shown.contains("ma\u{1b}[0m \u{1b}[48;5;") && shown.contains("mheron (unknown)\u{1b}[0m"),
        "{shown}"
    );
    // A word that only one model knows has one row.
    bench.file("lake.txt", PARK.replace("fox", "heron"));
    count(&bench, "lake.txt", "lake.ngram", &[]);
    let both = ["explain", "m.ngram", "lake.ngram", "--text", "a heron swam"];
    let shown = bench.run(&both).succeeded().stdout;
    let row = shown.lines().find(|line| line.starts_with("\"heron\"")).unwrap();
    assert_eq!(row.matches("unknown ").count(), 1, "{shown}");
}

#[test]
fn a_token_without_context_costs_what_eval_says_and_why_is_said() {
    let bench = Bench::new();
    bench.text("a.txt", 60);
    let text = "the cat sees a yak.\nthe cat likes the sea.\n";
    bench.file("t.txt", text);
    for (kind, tokenizer, unit) in
        [("bigram", "word", "stream"), ("transformer", "char", "stream"), ("mlp", "word", "line")]
    {
        let sets = [
            format!("model.kind={kind}"),
            format!("tokenizer.kind={tokenizer}"),
            format!("data.unit={unit}"),
            "train.steps=2".into(),
            "train.block_size=8".into(),
            "eval.stride=3".into(),
        ];
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let out = format!("{kind}_run");
        bench.run(&[&["train", "a.txt", "-q", "--out", &out], &sets[..]].concat()).succeeded();
        let evaluated = eval(&bench, &out, "t.txt");
        let event = bench.run(&["explain", &out, "--text", text, "--json"]).succeeded().result();
        let count = number(&evaluated, "/tokens");
        assert_eq!(event["tokens"].as_array().unwrap().len() as f64, count);
        close(sum(&event), number(&evaluated, "/nats_per_token") * count, 1e-9);
        let shown = bench.run(&["explain", &out, "--text", text]).succeeded().stdout;
        assert_eq!(shown.contains("the first token has no context"), unit == "stream", "{shown}");
        if tokenizer == "word" {
            assert!(shown.contains("  the cat sees a yak. (unknown) "), "{shown}");
        }
        // After the first window, the arithmetic of a token uses the context of its evaluation.
        let last = (count as usize).to_string();
        let step =
            bench.run(&["explain", &out, "--text", text, "--step", &last, "--json"]).succeeded().result();
        let expected = number(&event, &format!("/tokens/{}/nats", count as usize - 1));
        close(number(&step, "/nats"), expected, 1e-5);
    }
}

#[test]
fn scores_that_are_no_probabilities_have_no_perplexity_in_explain_either() {
    let bench = Bench::new();
    bench.file("park.txt", PARK);
    count(&bench, "park.txt", "m.ngram", &["--smoothing", "stupid_backoff"]);
    let shown = bench.run(&["explain", "m.ngram", "--text", "a duck saw the pond"]).succeeded().stdout;
    assert!(shown.contains("log score -") && shown.contains("no perplexity"), "{shown}");
    let event = bench.run(&["explain", "m.ngram", "--text", "a duck", "--json"]).succeeded().result();
    assert_eq!((&event["perplexity"], &event["bits_per_byte"]), (&Value::Null, &Value::Null));
    let shown = bench.run(&["explain", "m.ngram", "--text", "a duck", "--step", "2"]).succeeded().stdout;
    assert!(shown.contains("do not sum to one"), "{shown}");
}

/// Diverged training leaves weights that are NaN or too large to be summed: all of them, or one
/// token's.
#[test]
fn a_model_that_gives_no_numbers_gives_none_anywhere() {
    let bench = Bench::new();
    bench.text("a.txt", 200);
    let sets = ["model.n_layer=1", "model.n_head=2", "model.n_embd=16", "model.tied=false", "train.steps=3"];
    // A layer norm of what is too large is no number; an RMS norm of it is 0.
    let gpt2 = ["model.norm=layer", "model.position=learned", "model.activation=gelu"];
    let sets = sets.into_iter().chain(["train.block_size=16", "eval.stride=8"]).chain(gpt2);
    let sets: Vec<&str> = sets.flat_map(|set| ["--set", set]).collect();
    for out in ["run", "good"] {
        bench.run(&[&["train", "a.txt", "-q", "--out", out], &sets[..]].concat()).succeeded();
    }
    bench.run(&["export", "good", "--format", "hf", "--out", "hf"]).succeeded();
    let (model, hf) = (bench.path().join("run/model"), bench.path().join("hf/model.safetensors"));
    let good = StoredModel::load(&model).unwrap();
    let imported = read_safetensors(&hf, Accept::F32).unwrap();
    let Weights::Tensors(weights) = good.weights else { panic!("not trained") };
    let save = |weights: BTreeMap<String, Tensor>| {
        let (config, tokenizer) = (good.config.clone(), good.tokenizer.clone());
        StoredModel { config, weights: Weights::Tensors(weights), tokenizer }.save(&model).unwrap();
    };
    // A weight that is not checked when a model is opened.
    let (vocab_size, width) = weights["wte.weight"].dims2().unwrap();
    let last = Tokenizer::from_json(&good.tokenizer).unwrap().token(vocab_size as u32 - 1);
    assert!(vocab_size > 16 && last.chars().count() == 1, "{vocab_size} {last:?}");
    let report = ["report", "run"];
    let scoring = [
        &["eval", "run"][..],
        &["sample", "run", "--prompt", &last],
        &["explain", "run", "--text", &format!("{last}the cat")],
        &["explain", "run", "--text", &format!("{last}the cat"), "--step", "3"],
        &["mix", "good", "run", "--heldout", "a.txt"],
        &report,
    ];
    let times = |tensor: &Tensor, factor: f64| (tensor * factor).unwrap();
    for factor in [f64::NAN, 1e15] {
        save(weights.iter().map(|(name, tensor)| (name.clone(), times(tensor, factor))).collect());
        for command in scoring.iter().chain([&&["export", "run", "--format", "hf", "--out", "out"][..]]) {
            let ran = bench.run(command).refused(1, &["run", "it diverged", "lower optim.lr"]);
            assert_eq!(ran.stdout, "", "{command:?}");
        }
        let spoilt = imported.iter().map(|(name, tensor)| (name.clone(), times(tensor, factor))).collect();
        std::fs::write(&hf, to_safetensors(&spoilt).unwrap()).unwrap();
        bench
            .run(&["train", "a.txt", "--set", "model.init_from=hf", "--set", "train.block_size=16"])
            .refused(1, &["hf", "it diverged", "lower optim.lr"]);
        assert_eq!(bench.entries(), ["a.txt", "good", "hf", "run"]);
    }
    bench.run(&["inspect", "run"]).succeeded();
    let mut values: Vec<f32> = weights["wte.weight"].flatten_all().unwrap().to_vec1().unwrap();
    values[(vocab_size - 1) * width..].fill(f32::MAX);
    let mut spoilt = weights;
    spoilt.insert("wte.weight".into(), Tensor::from_vec(values, (vocab_size, width), &Device::Cpu).unwrap());
    save(spoilt);
    for command in scoring {
        // The report computes losses, like training.
        let code = if command == report { 3 } else { 1 };
        bench.run(command).refused(code, &["no numbers", "it diverged", "lower optim.lr"]);
    }
}

#[test]
fn a_mixture_says_of_its_models_what_eval_says() {
    let bench = Bench::new();
    bench.file("park.txt", PARK);
    bench.file("lake.txt", "a heron swam in the lake\nthe heron saw a pike\n");
    bench.file("held.txt", "a heron saw the fox\na duck swam in the lake\na newt ran\n");
    count(&bench, "park.txt", "park.ngram", &[]);
    count(&bench, "lake.txt", "lake.ngram", &["--smoothing", "witten_bell"]);
    let arguments = ["mix", "park.ngram", "lake.ngram", "--heldout", "held.txt"];
    let result = bench.run(&[&arguments[..], &["--json"]].concat()).succeeded().result();
    for (index, (model, oov, lacking)) in [("park.ngram", 3, 2), ("lake.ngram", 4, 3)].into_iter().enumerate()
    {
        let alone = &result["models"][index];
        assert_eq!(alone["eval"], eval(&bench, model, "held.txt"));
        assert_eq!((&alone["eval"]["oov"], &alone["lacking"]), (&oov.into(), &lacking.into()));
    }
    assert_eq!((&result["eval"]["oov"], &result["eval"]["zero_probability"]), (&1.into(), &0.into()));
    let shown = bench.run(&arguments).succeeded().stdout;
    assert!(shown.contains("unknown") && !shown.contains("inf "), "{shown}");
    assert!(shown.contains("park.ngram: 2 of its unknown tokens are known to other models"), "{shown}");
    // With one vocabulary there is no explanation.
    let shown = bench.run(&["mix", "park.ngram", "park.ngram", "--heldout", "held.txt"]).succeeded().stdout;
    assert!(!shown.contains("known to other models"), "{shown}");
}

#[test]
fn a_mixture_is_no_worse_than_its_best_model_on_the_text_that_chose_it() {
    let bench = Bench::new();
    bench.text("a.txt", 300);
    bench.text("held.txt", 40);
    // A good model and models of short context: the best weights are at or near the border.
    for (order, more) in [("5", "witten_bell"), ("1", "mle"), ("2", "add_k")] {
        let out = format!("m{order}.ngram");
        let count = ["count", "a.txt", "--unit", "stream", "--tokenizer", "char", "--order", order, "-q"];
        bench.run(&[&count[..], &["--smoothing", more, "--out", &out]].concat()).succeeded();
    }
    let mix = ["mix", "m5.ngram", "m1.ngram", "m2.ngram", "--heldout", "held.txt", "--json"];
    let result = bench.run(&mix).succeeded().result();
    let best = number(&result, "/eval/nats_per_token");
    for index in 0..3 {
        assert!(best <= number(&result, &format!("/models/{index}/eval/nats_per_token")) + 1e-9, "{result}");
    }
    // Small and large changes of the weights give no lower loss.
    let weights: Vec<f64> = (0..3).map(|index| number(&result, &format!("/weights/{index}"))).collect();
    for index in 0..3 {
        for share in [0.001, 0.1, 1.0] {
            let moved: Vec<String> = (0..3)
                .map(|i| weights[i] * (1.0 - share) + if i == index { share } else { 0.0 })
                .map(|weight| format!("{weight:e}"))
                .collect();
            let mix = [
                "mix",
                "m5.ngram",
                "m1.ngram",
                "m2.ngram",
                "--weights",
                &moved.join(","),
                "held.txt",
                "--json",
            ];
            let eval = bench.run(&mix).succeeded().result()["eval"].clone();
            // An infinite loss, if a single model gives a token probability zero, is not lower.
            let nats = eval["nats_per_token"].as_f64().unwrap_or(f64::INFINITY);
            assert!(best <= nats + 1e-8, "{moved:?}: {best} {nats}");
        }
    }
}

/// Whether a text has a number of 14 or more digits.
fn has_long_number(text: &str) -> bool {
    let digits: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { ' ' }).collect();
    digits.split(' ').any(|run| run.len() >= 14)
}

#[test]
fn long_perplexities_have_an_exponent() {
    let bench = Bench::new();
    // Nearly all probability is on c.
    let grams = "-90 <unk>\n-99 <s>\n-80 a\n-70 </s>\n0 c\n";
    bench.file(
        "m.arpa",
        format!("\\data\\\nngram 1=5\n\n\\1-grams:\n{}\n\\end\\\n", grams.replace(' ', "\t")),
    );
    bench.file("t.txt", "a a\nb\n");
    // (80 + 80 + 70 + 90 + 70) / 5 = 78 orders of magnitude.
    close(number(&eval(&bench, "m.arpa", "t.txt"), "/nats_per_token"), 78.0 * 10_f64.ln(), 1e-6);
    for arguments in [
        &["eval", "m.arpa", "t.txt"][..],
        &["mix", "m.arpa", "m.arpa", "--weights", "1,1", "t.txt"],
        &["explain", "m.arpa", "--text", "a a\nb\n"],
        &["explain", "m.arpa", "--text", "a a\nb\n", "--step", "1"],
    ] {
        let shown = bench.run(arguments).succeeded().stdout;
        let orders =
            if arguments.contains(&"--step") { ["1.000e80", "9.999e79"] } else { ["1.000e78", "9.999e77"] };
        assert!(orders.iter().any(|shown_as| shown.contains(shown_as)), "{shown}");
        assert!(!has_long_number(&shown), "{shown}");
    }
    let shown = bench.run(&["eval", "m.arpa", "t.txt"]).succeeded().stdout;
    for row in ["out of vocabulary         1", "perplexity including OOV  ", "perplexity excluding OOV  "] {
        assert!(shown.contains(row), "{shown}");
    }
}

#[test]
fn a_text_that_is_mostly_unknown_is_said_first_and_aloud() {
    let bench = Bench::new();
    bench.file("park.txt", PARK);
    bench.file("far.txt", "ein Fuchs lief\nthe fox\n");
    bench.file("near.txt", "the fox saw a heron in the park\n");
    count(&bench, "park.txt", "m.ngram", &[]);
    count(&bench, "park.txt", "w.ngram", &["--smoothing", "witten_bell"]);
    let share = "3 of 7 tokens (43 %)";
    for arguments in [
        &["eval", "m.ngram", "far.txt", "-q"][..],
        &["explain", "m.ngram", "--text", "ein Fuchs lief\nthe fox", "-q"],
        &["explain", "m.ngram", "--text", "ein Fuchs lief\nthe fox", "-q", "--step", "2"],
        &["mix", "m.ngram", "w.ngram", "--heldout", "far.txt", "-q"],
        &["mix", "m.ngram", "w.ngram", "--heldout", "far.txt", "near.txt", "-q", "--json"],
    ] {
        let ran = bench.run(arguments).succeeded();
        assert!(ran.stderr.starts_with("warning: much of ") && ran.stderr.contains(share), "{}", ran.stderr);
    }
    bench.file("farther.txt", "ein Fuchs lief in einem Park\n");
    let ran = bench.run(&["eval", "m.ngram", "farther.txt", "--json", "-q"]).succeeded();
    assert!(
        ran.stderr.starts_with("warning: most of farther.txt is unknown to m.ngram: 5 of 7"),
        "{}",
        ran.stderr
    );
    // Texts of one or two words.
    for arguments in [
        &["eval", "m.ngram", "near.txt", "-q"][..],
        &["explain", "m.ngram", "--text", "the fox saw a heron in the park", "-q"],
    ] {
        assert_eq!(bench.run(arguments).succeeded().stderr, "");
    }
    // Validation by characters and by words, and its report.
    bench.file("greek.txt", "η αλεπού έτρεξε στο πάρκο\nthe fox\n".repeat(3));
    for (tokenizer, unit) in [("char", "stream"), ("word", "line")] {
        let sets =
            [format!("tokenizer.kind={tokenizer}"), format!("data.unit={unit}"), "model.kind=ngram".into()];
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let train = ["train", "park.txt", "-q", "--out", tokenizer, "--set", "data.val=['greek.txt']"];
        let sets = [&sets[..], &["--set", "model.smoothing=witten_bell"]].concat();
        let ran = bench.run(&[&train[..], &sets].concat()).succeeded();
        assert!(ran.stderr.starts_with("warning: most of the validation text"), "{}", ran.stderr);
        let ran = bench.run(&["report", tokenizer, "-q"]).succeeded();
        assert!(ran.stderr.starts_with("warning: most of the validation text"), "{}", ran.stderr);
        let html = std::fs::read_to_string(bench.path().join(tokenizer).join("report.html")).unwrap();
        assert!(html.contains("unknown tokens") && html.contains("perplexity without them"), "{tokenizer}");
        let shown = if tokenizer == "word" { "πάρκο (unknown)" } else { "π (unknown)" };
        assert!(html.contains(shown), "{tokenizer}");
        if tokenizer == "word" {
            assert!(html.contains(">the</span> <span"), "words stand apart");
        }
    }
}

/// Reproducible random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// A text of known and unknown words, with various line ends.
    fn text(&mut self, words: &[&str], most: usize) -> String {
        let mut text = String::new();
        for _ in 0..=self.below(most) {
            text.push_str(self.of(words));
            text.push_str(self.of(&[" ", " ", " ", "\n", "\r\n", "\n\n", "\t", "  "]));
        }
        if self.below(2) == 0 {
            text.truncate(text.trim_end().len());
        }
        text
    }
}

const WORDS: [&str; 8] = ["a", "fox", "saw", "the", "pond", "né", "日本", "."];
const ALIEN: [&str; 11] = ["a", "fox", "saw", "the", "pond", "né", "日本", ".", "heron", "жук", "<unk>"];

/// A random n-gram model and its tokenizer.
fn random_model(bench: &Bench, random: &mut Random, name: &str) -> PathBuf {
    let training = bench.file("training.txt", random.text(&WORDS, 40) + " a fox saw the pond\n");
    let unit = random.of(&[TextMode::Line, TextMode::Stream]);
    let kind = random.of(&[TokenizerKind::Word, TokenizerKind::Char, TokenizerKind::Byte]);
    let corpus =
        Corpus::whole(&DataOptions { train: vec![training], mode: unit, ..DataOptions::default() }, None);
    let (tokenizer, text) = corpus.unwrap().tokenize_train(kind).unwrap();
    let smoothing = random.of(&Smoothing::ALL);
    let config = NgramConfig {
        order: 1 + random.below(5),
        smoothing,
        k: 0.3,
        closed: random.below(4) == 0,
        bos: text.bos(),
        unk: tokenizer.unk(),
        ..NgramConfig::default()
    };
    // Some texts lack the counts that a smoothing method needs.
    let config = match NgramModel::estimate(&text.ids, tokenizer.vocab_size(), &config) {
        Ok(_) => config,
        Err(_) => NgramConfig { smoothing: Smoothing::WittenBell, ..config },
    };
    let model = NgramModel::estimate(&text.ids, tokenizer.vocab_size(), &config).unwrap();
    let path = bench.path().join(name);
    surprisal_formats::ngram::write(&path, &model, &tokenizer).unwrap();
    path
}

/// The evaluation of the text in this process.
fn evaluated(path: &Path, text: &Path) -> (Value, Tokenizer) {
    let (model, tokenizer) = surprisal_formats::ngram::open(path).unwrap();
    let tokens = surprisal_text::encode_files(
        &[text.to_owned()],
        &tokenizer,
        &surprisal_text::InputOptions::default(),
        EncodeOptions::default(),
    )
    .unwrap()
    .tokens;
    let pool = Pool::new(1).unwrap();
    let model: &dyn LanguageModel = &model;
    let evaluation =
        surprisal_engine::evaluate::evaluate(model, &tokens, tokenizer.unk(), None, &pool).unwrap();
    let spelling = Some(surprisal_engine::spelling::Spelling::of(&tokenizer, &tokens, &pool).unwrap());
    let evaluation = surprisal_engine::evaluate::Evaluation { spelling, ..evaluation };
    (serde_json::to_value(evaluation).unwrap(), tokenizer)
}

#[test]
fn explain_is_eval_for_200_random_models_and_texts() {
    const TOGETHER: usize = 10;
    let bench = Bench::new();
    let mut random = Random(20);
    for batch in 0..20 {
        let text = random.text(&ALIEN, 14);
        let file = bench.file("t.txt", &text);
        let names: Vec<String> = (0..TOGETHER).map(|i| format!("m{i}.ngram")).collect();
        for name in &names {
            random_model(&bench, &mut random, name);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let explain = [&["explain"], &names[..], &["--text", &text, "--top", "1", "--json"]].concat();
        let events = bench.run(&explain).succeeded().events();
        assert_eq!(events.len(), TOGETHER);
        for (name, event) in names.iter().zip(&events) {
            let (expected, tokenizer) = evaluated(&bench.path().join(name), &file);
            assert_eq!(event["eval"], expected, "{batch} {name} {text:?}");
            let told = event["tokens"].as_array().unwrap();
            assert_eq!(told.len() as u64, expected["tokens"], "{text:?}");
            let unknown: Vec<&str> = told
                .iter()
                .filter(|token| token["unknown"] == true)
                .map(|token| token["token"].as_str().unwrap())
                .collect();
            assert_eq!(unknown.len() as u64, expected["oov"], "{text:?}");
            // The shown tokens are in the text.
            let text = match tokenizer.mode() {
                TextMode::Line => text.replace("\r\n", "\n"),
                TextMode::Stream | TextMode::Document => text.clone(),
            };
            let parts: Vec<&str> = match tokenizer.kind() {
                TokenizerKind::Word => text.split_ascii_whitespace().collect(),
                _ => text.split("").filter(|part| !part.is_empty()).collect(),
            };
            let lacks =
                |part: &&str| tokenizer.unk().is_some_and(|unk| tokenizer.encode(part).unwrap() == [unk]);
            assert_eq!(unknown, parts.into_iter().filter(lacks).collect::<Vec<_>>(), "{text:?}");
            // An infinite surprisal is null, and so is the sum.
            let sum: Option<f64> = told.iter().map(|token| token["nats"].as_f64()).sum();
            let rate = expected["nats_per_token"].as_f64();
            let rate = rate.or(expected["score_per_token"].as_f64().map(|score| -score));
            assert_eq!(sum.is_some(), rate.is_some(), "{batch} {name} {text:?}");
            if let (Some(sum), Some(rate)) = (sum, rate) {
                close(sum, rate * told.len() as f64, 1e-9);
            }
        }
        // One of them also by the command alone.
        let name = names[batch % TOGETHER];
        assert_eq!(eval(&bench, name, "t.txt"), evaluated(&bench.path().join(name), &file).0);
    }
}

/// Compares one comparison of 24 random models with explain, eval and the report.
fn shows_one_number(seed: u64) {
    const SMOOTHINGS: [&str; 7] =
        ["mle", "add_k", "jelinek_mercer", "witten_bell", "absolute", "kneser_ney", "modified_kneser_ney"];
    let bench = Bench::new();
    let mut random = Random(seed);
    // Longer than a window.
    let mut long = |words: &[&str], most: usize| {
        std::iter::repeat_with(|| random.text(words, most))
            .find(|text| text.split_whitespace().count() > most / 3)
            .unwrap()
    };
    bench.file("train.txt", long(&WORDS, 60) + " a fox saw the pond\n");
    let text = long(&ALIEN, 40);
    bench.file("val.txt", &text);
    let mut config =
        "[data]\nval = [\"val.txt\"]\n[compare]\nseeds = [1]\n[train]\nsteps = 2\nblock_size = 8\n"
            .to_owned();
    config.push_str("[eval]\nstride = 3\n[sample]\ntokens = 0\n");
    let mut cells = Vec::new();
    for (tokenizer, unit) in [("word", "line"), ("word", "stream"), ("char", "line"), ("byte", "stream")] {
        let mut ngram = || {
            let (order, smoothing) = (1 + random.below(5), SMOOTHINGS[random.below(SMOOTHINGS.len())]);
            format!("model.kind = \"ngram\"\nmodel.order = {order}\nmodel.smoothing = \"{smoothing}\"")
        };
        let kinds = [
            "model.kind = \"uniform\"".to_owned(),
            ngram(),
            ngram(),
            ngram(),
            "model.kind = \"mlp\"".to_owned(),
            "model.kind = \"transformer\"\nmodel.n_embd = 8\nmodel.n_layer = 1\nmodel.n_head = 1".to_owned(),
        ];
        for kind in kinds {
            let name = format!("v{}", cells.len());
            let reads = format!("tokenizer.kind = \"{tokenizer}\"\ndata.unit = \"{unit}\"");
            config.push_str(&format!("[[variant]]\nname = \"{name}\"\n{kind}\n{reads}\n"));
            let trained = kind.contains("mlp") || kind.contains("transformer");
            cells.push(format!("k/cells/{name}{}", if trained { "/seed-1" } else { "" }));
        }
    }
    bench.file("c.toml", config);
    bench.run(&["compare", "c.toml", "train.txt", "--out", "k", "-q"]).succeeded();
    let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
    let explain = [&["explain"], &cells[..], &["--text", &text, "--top", "1", "--json"]].concat();
    let events = bench.run(&explain).succeeded().events();
    for (cell, event) in cells.iter().zip(&events) {
        let record = std::fs::read_to_string(bench.path().join(cell).join("cell.json")).unwrap();
        let record: Value = serde_json::from_str(&record).unwrap();
        assert_eq!(record["result"]["eval"], event["eval"], "{cell}");
        // The coloured passage of such a short text is its second half.
        let told = event["tokens"].as_array().unwrap();
        let passage = record["measure"]["passage"].as_array().unwrap();
        assert_eq!(passage.len(), told.len() - told.len() / 2);
        for (place, token) in passage.iter().zip(&told[told.len() / 2..]) {
            match (place["nats"].as_f64(), token["nats"].as_f64()) {
                (Some(a), Some(b)) => close(a, b, 1e-9),
                both => assert_eq!(both, (None, None), "{cell}"),
            }
            let unknown = format!("{} (unknown)", token["token"].as_str().unwrap());
            assert_eq!(place["token"] == unknown, token["unknown"] == true, "{cell} {place} {token}");
        }
    }
    // A single run: its log, eval and report.
    for cell in [cells[0], cells[5]] {
        let evaluated = bench.run(&["eval", cell, "--json"]).succeeded().result()["eval"].clone();
        let run = std::fs::read_to_string(bench.path().join(cell).join("metrics.jsonl")).unwrap();
        let result: Value = serde_json::from_str(run.lines().last().unwrap()).unwrap();
        assert_eq!(result["eval"], evaluated);
        bench.run(&["report", cell, "-q"]).succeeded();
        let html = std::fs::read_to_string(bench.path().join(cell).join("report.html")).unwrap();
        assert!(html.contains(&format!("{:.4}", number(&evaluated, "/nats_per_token"))), "{cell}");
    }
}

#[test]
fn explain_eval_and_report_are_one_sum_over_216_random_models() {
    for seed in 7..16 {
        shows_one_number(seed);
    }
}

#[test]
fn minimal_pairs_are_judged_by_any_model_by_the_surprisal_of_the_whole_line() {
    let bench = Bench::new();
    bench.file("park.txt", PARK.repeat(4));
    bench.file(
        "p.tsv",
        "a fox ran\ta ran fox\torder\nthe duck\tduck the\torder\n\na fox\ta fox\nthe fix\tthe fox\n",
    );
    count(&bench, "park.txt", "words.ngram", &["--smoothing", "witten_bell"]);
    count(
        &bench,
        "park.txt",
        "chars.ngram",
        &["--tokenizer", "char", "--unit", "stream", "--smoothing", "witten_bell"],
    );
    bench
        .run(&["train", "park.txt", "--set", "train.steps=3", "--set", "sample.tokens=0", "--out", "r", "-q"])
        .succeeded();
    for (model, right) in [("words.ngram", 2), ("chars.ngram", 1), ("r", 0)] {
        let result = bench.run(&["eval", model, "--pairs", "p.tsv", "--json"]).succeeded().result();
        let groups = result["pairs"].as_array().unwrap();
        assert_eq!((&groups[0]["group"], &groups[1]["group"]), (&"order".into(), &Value::Null), "{result}");
        assert_eq!((&groups[0]["pairs"], &groups[1]["pairs"]), (&2.into(), &4.into()));
        assert!(number(&groups[0], "/accuracy") * 2.0 >= f64::from(right), "{model}: {result}");
        // Two equal texts are a tie, and an unknown word is no likelier than a known one.
        assert_eq!(groups[1]["ties"], 1);
        let low = number(&groups[1], "/interval/0");
        assert!(low >= 0.0 && low < number(&groups[1], "/accuracy"), "{result}");
    }
    // A pair's texts are scored as `explain` scores a line.
    bench.file("one.tsv", "a fox ran\tthe newt ran\n");
    let result = bench.run(&["eval", "words.ngram", "--pairs", "one.tsv", "--json"]).succeeded().result();
    let nats = |text: &str| {
        let event = bench.run(&["explain", "words.ngram", "--text", text, "--json"]).succeeded().result();
        number(&event, "/eval/bits_per_byte") * (text.len() + 1) as f64 * std::f64::consts::LN_2
    };
    close(number(&result, "/pairs/0/nats"), nats("the newt ran") - nats("a fox ran"), 1e-9);
    let shown = bench.run(&["eval", "words.ngram", "--pairs", "p.tsv"]).succeeded().stdout;
    assert!(shown.starts_with("group") && shown.contains("all"), "{shown}");
    bench.file("bad.tsv", "a\tb\nno tab\n");
    bench
        .run(&["eval", "words.ngram", "--pairs", "bad.tsv"])
        .refused(2, &["bad.tsv", "line 2", "good text, tab"]);
}
