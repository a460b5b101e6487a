//! Tokenizers of files from outside, in training, evaluation, export and counting.

use std::collections::BTreeSet;

use crate::common::{Bench, Ran, sentences};
use serde_json::{Map, Value, json};

/// A `tokenizer.json` with these special tokens, which the model's vocabulary has, too.
fn file(special: &[&str], normalizer: Value, pre_tokenizer: Value, decoder: Value, model: Value) -> Value {
    let id = |name: &str| match &model["vocab"] {
        Value::Object(vocab) => vocab[name].clone(),
        list => json!(list.as_array().unwrap().iter().position(|entry| entry[0] == *name)),
    };
    let added = special.iter().map(|name| {
        json!({
            "id": id(name), "content": name, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    });
    json!({
        "version": "1.0", "truncation": { "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0 },
        "padding": null, "added_tokens": added.collect::<Vec<_>>(), "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder, "model": model,
    })
}

fn vocab(tokens: impl IntoIterator<Item = String>) -> Value {
    let mut vocab = Map::new();
    for token in tokens {
        let id = vocab.len();
        vocab.entry(token).or_insert(json!(id));
    }
    vocab.into()
}

/// The characters of [`sentences`] but for white space.
fn letters() -> BTreeSet<String> {
    sentences(200).chars().filter(|c| !c.is_whitespace()).map(String::from).collect()
}

fn metaspace() -> Value {
    json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true })
}

/// A byte as GPT-2's files write it.
fn byte_to_unicode(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let place = (0..byte).filter(|&byte| !printable(byte)).count() as u32;
    if printable(byte) { char::from(byte) } else { char::from_u32(0x100 + place).unwrap() }
}

/// GPT-2's tokens of the 256 bytes and two merges, and these.
fn gpt2() -> (Value, Vec<[&'static str; 2]>) {
    let bytes = (0..=255u8).map(|byte| byte_to_unicode(byte).to_string());
    let all =
        ["<|endoftext|>".to_owned()].into_iter().chain(bytes).chain(["th", "the", "Ġa"].map(String::from));
    (vocab(all), vec![["t", "h"], ["th", "e"], ["Ġ", "a"]])
}

fn gpt2_with_a_space() -> Value {
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true });
    let (vocab, merges) = gpt2();
    let model = json!({ "type": "BPE", "vocab": vocab, "merges": merges });
    file(&["<|endoftext|>"], Value::Null, byte_level.clone(), byte_level, model)
}

fn llama() -> Value {
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let special = ["<unk>", "<s>", "</s>"];
    let merged = ["▁", "th", "the", "▁a"].map(String::from);
    let all = special.map(String::from).into_iter().chain(bytes).chain(letters()).chain(merged);
    let model = json!({
        "type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true, "vocab": vocab(all),
        "merges": [["t", "h"], ["th", "e"], ["▁", "a"]],
    });
    let decoder = json!({ "type": "Sequence", "decoders": [
        { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
        { "type": "ByteFallback" },
        { "type": "Fuse" },
        { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
    ]});
    file(&special, Value::Null, metaspace(), decoder, model)
}

fn unigram() -> Value {
    let pieces = ["▁the", "▁a", "▁cat", "\n"].map(String::from);
    let mut pieces: Vec<Value> = pieces.into_iter().map(|piece| json!([piece, -3.5])).collect();
    pieces.extend(letters().into_iter().chain(["▁".into()]).map(|letter| json!([letter, -4.0])));
    pieces.insert(0, json!(["<unk>", 0.0]));
    let model = json!({ "type": "Unigram", "unk_id": 0, "vocab": pieces });
    file(&["<unk>"], Value::Null, metaspace(), metaspace(), model)
}

fn word_piece() -> Value {
    let special = ["[UNK]", "[CLS]", "[SEP]"];
    let inner = letters().into_iter().map(|letter| format!("##{letter}"));
    let model = json!({
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": vocab(special.map(String::from).into_iter().chain(letters()).chain(inner)),
    });
    let decoder = json!({ "type": "WordPiece", "prefix": "##", "cleanup": true });
    let normalizer = json!({ "type": "Lowercase" });
    file(&special, normalizer, json!({ "type": "BertPreTokenizer" }), decoder, model)
}

fn word_level() -> Value {
    let words = sentences(200);
    let words = words.split_whitespace().map(|word| word.trim_matches('.').to_owned());
    let all = ["[UNK]".to_owned()].into_iter().chain(words);
    let model = json!({ "type": "WordLevel", "unk_token": "[UNK]", "vocab": vocab(all) });
    file(&["[UNK]"], Value::Null, json!({ "type": "Whitespace" }), Value::Null, model)
}

/// A bench with a text and the file `tok.json`.
fn bench(tokenizer: &Value) -> Bench {
    let bench = Bench::new();
    bench.text("a.txt", 400);
    bench.file("tok.json", tokenizer.to_string());
    bench
}

const TINY: [&str; 10] = [
    "--set",
    "model.kind=mlp",
    "--set",
    "model.n_embd=8",
    "--set",
    "train.block_size=8",
    "--set",
    "sample.tokens=12",
    "--set",
    "tokenizer.file=tok.json",
];

fn train(bench: &Bench, out: &str, steps: &str, more: &[&str]) -> Ran {
    let steps = format!("train.steps={steps}");
    bench.run(&[&["train", "a.txt", "--json", "--out", out, "--set", &steps], &TINY[..], more].concat())
}

#[test]
fn every_kind_trains_and_its_run_needs_the_file_no_more() {
    for (name, tokenizer, lossless) in [
        ("a space before the text", gpt2_with_a_space(), true),
        ("byte fallback", llama(), true),
        ("unigram", unigram(), true),
        ("word pieces", word_piece(), false),
        ("words", word_level(), false),
    ] {
        let bench = bench(&tokenizer);
        let ran = train(&bench, "run", "6", &[]).succeeded();
        let result = ran.result();
        let eval = &result["eval"];
        assert!(eval["nats_per_token"].is_number(), "{name}: {eval}");
        assert_eq!(eval["bits_per_byte"].is_number(), lossless, "{name}: {eval}");
        assert_eq!(
            ran.stderr.contains("its tokens do not give it back"),
            !lossless,
            "{name}: {}",
            ran.stderr
        );
        if lossless {
            let bits = eval["nats_per_token"].as_f64().unwrap() * eval["tokens"].as_f64().unwrap()
                / (std::f64::consts::LN_2 * eval["bytes"].as_f64().unwrap());
            assert!((bits - eval["bits_per_byte"].as_f64().unwrap()).abs() < 1e-9, "{name}: {bits}");
        }
        let kept = std::fs::read(bench.path().join("run/tokenizer.json")).unwrap();
        assert_eq!(kept, tokenizer.to_string().into_bytes(), "{name}");

        std::fs::remove_file(bench.path().join("tok.json")).unwrap();
        let resumed = bench.run(&["train", "--resume", "--out", "run", "--json"]).succeeded();
        assert_eq!(resumed.result()["eval"], *eval, "{name}");
        let elsewhere = Bench::new();
        let (run, text) = (bench.path().join("run"), bench.path().join("a.txt"));
        let (run, text) = (run.to_str().unwrap(), text.to_str().unwrap());
        let own = bench.run(&["eval", "run", "--json"]).succeeded().result();
        assert_eq!(own["eval"], *eval, "{name}");
        let [here, there] = [&bench, &elsewhere]
            .map(|bench| bench.run(&["eval", run, text, "--json"]).succeeded().result()["eval"].clone());
        assert_eq!(here, there, "{name}");
        assert_eq!(here["bits_per_byte"].is_number(), lossless, "{name}");
        elsewhere.run(&["sample", run, "--tokens", "5"]).succeeded();
        elsewhere.run(&["explain", run, "--text", "the cat"]).succeeded();
        bench.run(&["report", run]).succeeded();
    }
}

/// A killed run goes on from its checkpoint with its own copy of the file.
#[test]
fn a_run_with_a_file_is_resumed_with_the_same_bits() {
    let bench = bench(&llama());
    let every =
        ["--set", "checkpoint.every_steps=3", "--set", "eval.every_steps=3", "--set", "data.unit=line"];
    let whole = train(&bench, "whole", "9", &every).succeeded().result();
    let mut killed = bench.command(
        &[&["train", "a.txt", "--json", "--out", "cut", "--set", "train.steps=9"], &TINY[..], &every]
            .concat(),
    );
    // A disk operation after the first checkpoint.
    killed.env("SURPRISAL_FAULT", "crash:40");
    assert!(!killed.output().unwrap().status.success());
    assert!(std::fs::read_dir(bench.path().join("cut/checkpoints")).unwrap().next().is_some());
    std::fs::remove_file(bench.path().join("tok.json")).unwrap();
    let resumed = bench.run(&["train", "--resume", "--out", "cut", "--json"]).succeeded().result();
    assert_eq!(resumed["eval"], whole["eval"]);
}

#[test]
fn lines_are_between_marks_of_the_file_or_new_ones() {
    for (tokenizer, added) in [(llama(), 0), (word_piece(), 0), (gpt2_with_a_space(), 1), (unigram(), 2)] {
        let bench = bench(&tokenizer);
        let line = ["--set", "data.unit=line"];
        let ran = train(&bench, "run", "4", &line).succeeded();
        let kept: Value =
            serde_json::from_slice(&std::fs::read(bench.path().join("run/tokenizer.json")).unwrap()).unwrap();
        let marked =
            kept["added_tokens"].as_array().unwrap().iter().filter(|token| token["mark"].is_string());
        assert_eq!(marked.count(), 2, "{kept}");
        let before = tokenizer["added_tokens"].as_array().unwrap().len();
        assert_eq!(kept["added_tokens"].as_array().unwrap().len(), before + added);
        let sample = bench.run(&["sample", "run", "--tokens", "40", "--seed", "3"]).succeeded();
        assert!(!sample.stdout.contains("</s>"), "{}", sample.stdout);
        let eval = bench.run(&["eval", "run", "--json"]).succeeded().result();
        assert_eq!(eval["eval"], ran.result()["eval"]);
    }
}

#[test]
fn documents_are_between_marks_of_the_file_or_new_ones() {
    for tokenizer in [llama(), unigram(), gpt2_with_a_space()] {
        let bench = bench(&tokenizer);
        let text = |n: usize| {
            crate::common::sentences(120).lines().skip(n * 40).take(40).collect::<Vec<_>>().join("\n")
        };
        let records: String =
            (0..3).map(|n| serde_json::json!({ "t": text(n) }).to_string() + "\n").collect();
        bench.file("r.jsonl", records);
        let more = ["train", "r.jsonl", "--field", "t", "--json", "--out", "run", "--set", "train.steps=4"];
        let arguments = [&more[..], &TINY[..]].concat();
        let ran = bench.run(&arguments).succeeded();
        let kept: Value =
            serde_json::from_slice(&std::fs::read(bench.path().join("run/tokenizer.json")).unwrap()).unwrap();
        let marks = kept["added_tokens"].as_array().unwrap().iter().filter(|token| token["mark"] == "eos");
        assert_eq!(marks.count(), 1, "{kept}");
        let config = std::fs::read_to_string(bench.path().join("run/config.toml")).unwrap();
        assert!(config.contains("unit = \"document\""), "{config}");
        let eval = bench.run(&["eval", "run", "--json"]).succeeded().result();
        assert_eq!(eval["eval"], ran.result()["eval"]);
        assert!(eval["eval"]["bits_per_byte"].is_number(), "{eval}");
    }
}

#[test]
fn gpt2s_pair_of_files_is_a_byte_level_tokenizer() {
    let bench = Bench::new();
    bench.text("a.txt", 400);
    let (vocab, merges) = gpt2();
    let merges: String = merges.iter().map(|[a, b]| format!("{a} {b}\n")).collect();
    bench.file("pair/vocab.json", vocab.to_string());
    bench.file("pair/merges.txt", format!("#version: 0.2\n{merges}"));
    let mut evaluations = Vec::new();
    for (out, path) in [("of_folder", "pair"), ("of_file", "pair/vocab.json")] {
        let file = format!("tokenizer.file={path}");
        let ran = train(&bench, out, "4", &["--set", &file]).succeeded();
        assert!(ran.stdout.contains("\"tokenizer\":\"bpe\""), "{}", ran.stdout);
        evaluations.push(ran.result()["eval"].clone());
    }
    assert_eq!(evaluations[0], evaluations[1]);
    std::fs::remove_file(bench.path().join("pair/merges.txt")).unwrap();
    train(&bench, "none", "4", &["--set", "tokenizer.file=pair"])
        .refused(2, &["pair has no tokenizer", "hint"]);
}

#[test]
fn what_cannot_be_used_is_refused_with_its_reason() {
    let bench = bench(&llama());
    let broken = |change: &dyn Fn(&mut Value)| {
        let mut tokenizer = llama();
        change(&mut tokenizer);
        tokenizer.to_string()
    };
    bench.file("dropout.json", broken(&|file| file["model"]["dropout"] = json!(0.1)));
    bench.file("same.json", broken(&|file| file["model"]["vocab"]["th"] = json!(5)));
    bench.file("sentencepiece.model", b"\n\x0e\n\x05<unk>");
    for (path, parts) in [
        ("dropout.json", &["dropout.json", "merges at random", "set its dropout to null"][..]),
        ("same.json", &["have the same id"]),
        ("sentencepiece.model", &["not JSON", "save_pretrained"]),
        ("gone.json", &["gone.json", "No such file"]),
    ] {
        let file = format!("tokenizer.file={path}");
        train(&bench, "run", "4", &["--set", &file]).refused(if path == "gone.json" { 1 } else { 2 }, parts);
    }
    bench.file("both.toml", "[tokenizer]\nkind = \"char\"\nfile = \"tok.json\"\n");
    bench
        .run(&["train", "both.toml", "a.txt"])
        .refused(2, &["both.toml:2", "tokenizer.kind is \"char\"", "keep one"]);
    bench
        .run(&["train", "a.txt", "--set", "tokenizer.kind=file"])
        .refused(2, &["tokenizer.file does not name one"]);
    // The last word wins.
    bench.file("mine.toml", "[tokenizer]\nkind = \"bpe\"\nvocab_size = 300\n");
    let more = ["train", "mine.toml", "a.txt", "--out", "run"];
    bench.run(&[&more[..], &TINY[..], &["--set", "train.steps=2"]].concat()).succeeded();
    assert!(bench.path().join("run").exists());
}

/// The text has a mark of its lines as a word, which would end a line early.
#[test]
fn a_mark_in_a_line_is_refused_with_its_line() {
    let bench = bench(&unigram());
    let mut tokenizer = unigram();
    let pieces = tokenizer["model"]["vocab"].as_array_mut().unwrap();
    pieces.extend([json!(["<s>", 0.0]), json!(["</s>", 0.0])]);
    bench.file("tok.json", tokenizer.to_string());
    bench.file("a.txt", sentences(30) + "the cat</s> sees\n" + &sentences(400));
    train(&bench, "run", "4", &["--set", "data.unit=line"]).refused(1, &["</s>", "line 31"]);
    train(&bench, "run", "4", &[]).succeeded();
}

/// Files of n-grams keep the tokenizer, and ARPA files a name of their own for every token.
#[test]
fn counted_models_of_a_file_are_exported_and_read_again() {
    for tokenizer in [llama(), unigram()] {
        let bench = bench(&tokenizer);
        let ngram = [
            "train",
            "a.txt",
            "--out",
            "run",
            "--json",
            "--set",
            "model.kind=ngram",
            "--set",
            "model.order=2",
        ];
        let run =
            bench.run(&[&ngram[..], &["--set", "tokenizer.file=tok.json"]].concat()).succeeded().result();
        bench.run(&["export", "run", "--format", "ngram", "--out", "m.ngram"]).succeeded();
        bench.run(&["export", "run", "--format", "arpa", "--out", "m.arpa"]).succeeded();
        let whole =
            |model: &str| bench.run(&["eval", model, "a.txt", "--json"]).succeeded().result()["eval"].clone();
        assert_eq!(whole("run"), whole("m.ngram"));
        assert!(run["eval"]["bits_per_byte"].is_number());
        let (exact, found) = (whole("run"), whole("m.arpa"));
        let [nats, own] = [&found, &exact].map(|eval| eval["nats_per_token"].as_f64().unwrap());
        assert!((nats - own).abs() < 1e-6, "{nats} {own}");
        assert_eq!((&found["tokens"], &found["oov"]), (&exact["tokens"], &exact["oov"]));
        let arpa = std::fs::read_to_string(bench.path().join("m.arpa")).unwrap();
        let unigrams =
            arpa.lines().skip_while(|line| *line != "\\1-grams:").skip(1).take_while(|line| !line.is_empty());
        let words: Vec<&str> = unigrams.map(|line| line.split('\t').nth(1).unwrap()).collect();
        assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
        assert!(words.contains(&"▁the") || words.contains(&"▁a"), "{words:?}");
        assert_eq!(words.iter().filter(|word| **word == "<unk>").count(), 1);
    }
}

/// The files of tokenizers travel with a model into a Hugging Face folder and back.
#[test]
fn models_of_a_file_leave_for_hugging_face_and_train_on_from_there() {
    let gpt = ["--set", "model.kind=transformer", "--set", "model.n_embd=16", "--set", "model.n_layer=1"];
    let read = |bench: &Bench, path: &str| std::fs::read(bench.path().join(path)).unwrap();
    // Training continued with learning rate 0 keeps the exported model.
    let on = |bench: &Bench, out: &str| {
        bench.run(&[
            "train",
            "a.txt",
            "--out",
            out,
            "--json",
            "--set",
            "model.init_from=hf",
            "--set",
            "train.steps=1",
            "--set",
            "train.block_size=8",
            "--set",
            "optim.kind=adamw",
            "--set",
            "optim.lr=1e-12",
            "--set",
            "optim.min_lr=0",
        ])
    };
    for (name, tokenizer) in
        [("a space before the text", gpt2_with_a_space()), ("byte fallback", llama()), ("unigram", unigram())]
    {
        let bench = bench(&tokenizer);
        let eval = train(&bench, "run", "3", &gpt).succeeded().result()["eval"].clone();
        bench.run(&["export", "run", "--format", "hf", "--out", "hf"]).succeeded();
        assert_eq!(read(&bench, "hf/tokenizer.json"), tokenizer.to_string().into_bytes(), "{name}");
        let again = on(&bench, "on").succeeded().result()["eval"].clone();
        let nats = |eval: &Value| eval["nats_per_token"].as_f64().unwrap();
        assert!((nats(&again) - nats(&eval)).abs() < 1e-5, "{name}: {again} after {eval}");
        assert!(again["bits_per_byte"].is_number(), "{name}: {again}");
    }

    // Without a tokenizer.json, and with a row for a token that vocab.json lacks.
    let bench = Bench::new();
    bench.text("a.txt", 400);
    let (vocab, _) = gpt2();
    let merges = "t h\nth e\nĠ a\n";
    bench.file("pair/vocab.json", vocab.to_string());
    bench.file("pair/merges.txt", merges);
    train(&bench, "run", "3", &[&gpt[..], &["--set", "tokenizer.file=pair"]].concat()).succeeded();
    bench.run(&["export", "run", "--format", "hf", "--out", "hf"]).succeeded();
    std::fs::remove_file(bench.path().join("hf/tokenizer.json")).unwrap();
    on(&bench, "none").refused(2, &["no tokenizer.json", "vocab.json with merges.txt"]);
    let eval = || bench.run(&["eval", "hf", "a.txt", "--json"]);
    eval().refused(2, &["no tokenizer.json", "vocab.json with merges.txt"]);
    bench.file("hf/merges.txt", merges);
    bench.file("hf/vocab.json", vocab.to_string());
    on(&bench, "pair_on").succeeded();
    let whole = eval().succeeded().result()["eval"].clone();
    let run = bench.run(&["eval", "run", "a.txt", "--json"]).succeeded().result()["eval"].clone();
    assert!(
        (whole["nats_per_token"].as_f64().unwrap() - run["nats_per_token"].as_f64().unwrap()).abs() < 1e-6
    );
    let mut fewer = vocab;
    fewer.as_object_mut().unwrap().remove("Ġa");
    bench.file("hf/vocab.json", fewer.to_string());
    bench.file("hf/merges.txt", "t h\nth e\n");
    let padded = on(&bench, "padded").succeeded();
    assert!(padded.stderr.contains("260 rows for 259 tokens"), "{}", padded.stderr);
    assert_eq!(padded.result()["eval"]["bits_per_byte"].as_f64().map(|bits| bits > 0.0), Some(true));
    // The rest of the distribution sums to one without the row.
    let padded = eval().succeeded();
    assert!(padded.stderr.contains("260 rows for 259 tokens"), "{}", padded.stderr);
    assert!(padded.result()["eval"]["tokens"].as_u64() > whole["tokens"].as_u64());
}

#[test]
fn counting_takes_the_tokens_of_a_file() {
    let bench = bench(&llama());
    let count = ["count", "a.txt", "--order", "3", "--unit", "stream", "--tokenizer-file", "tok.json"];
    let count = |out: &[&str]| bench.run(&[&count[..], out].concat());
    count(&["--out", "m.ngram", "--out", "m.counts"]).succeeded();
    let eval = bench.run(&["eval", "m.ngram", "a.txt", "--json"]).succeeded().result();
    assert!(eval["eval"]["bits_per_byte"].is_number(), "{eval}");
    bench.run(&["merge", "m.counts", "--out", "again.ngram"]).succeeded();
    let again = bench.run(&["eval", "again.ngram", "a.txt", "--json"]).succeeded().result();
    assert_eq!(again["eval"], eval["eval"]);
    count(&["--out", "m.ngram", "--tokenizer", "char"]).refused(2, &["--tokenizer-file"]);
}
