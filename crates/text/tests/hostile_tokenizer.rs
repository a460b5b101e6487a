//! Invalid and odd tokenizer.json files: each is refused with a typed error, or encodes and decodes
//! a text, within a second and in bounded memory. The tests need a process of their own, because
//! they read its peak memory.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails where something is wrong")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use surprisal_text::{
    Corpus, DataOptions, EncodeOptions, Error, InputOptions, TextMode, Tokenizer, TokenizerKind, encode_text,
};

/// The file of a small tokenizer of the embedded text.
fn trained(kind: TokenizerKind, mode: TextMode) -> Value {
    let options = DataOptions { val_fraction: 0.999, mode, ..DataOptions::default() };
    let corpus = Corpus::embedded("babble", &options).unwrap();
    serde_json::from_slice(&corpus.train_tokenizer(kind).unwrap().to_json().unwrap()).unwrap()
}

fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let bpe = trained(TokenizerKind::Bpe { vocab_size: 290 }, TextMode::Stream);
    let char = trained(TokenizerKind::Char, TextMode::Stream);
    let word = trained(TokenizerKind::Word, TextMode::Line);
    let byte = trained(TokenizerKind::Byte, TextMode::Stream);
    let with = |base: &Value, change: &dyn Fn(&mut Value)| {
        let mut value = base.clone();
        change(&mut value);
        serde_json::to_vec(&value).unwrap()
    };
    let id = |value: &Value, token: &str| value["model"]["vocab"][token].as_u64().unwrap();
    // A space becomes two, again and again.
    let replaced = |part: &str, list: &str, times: usize| {
        let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "  " });
        with(&bpe, &|v| v[part] = json!({ "type": "Sequence", list: vec![replace.clone(); times] }))
    };
    let precompiled = |charsmap: &str| {
        with(&bpe, &|v| v["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": charsmap }))
    };
    let model = |model: &Value| {
        serde_json::to_vec(&json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": { "type": "Whitespace" },
            "post_processor": null, "decoder": null, "model": model,
        }))
        .unwrap()
    };
    // Below the parser's depth limit, and far above it.
    let nested = |depth| format!("{{\"model\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
    let regex =
        json!({ "type": "Split", "pattern": { "Regex": "(a+)+$" }, "behavior": "Removed", "invert": false });
    let template = json!({ "type": "TemplateProcessing", "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }], "pair": [], "special_tokens": {} });
    vec![
        ("empty", Vec::new()),
        ("no JSON", b"PK\x03\x04".to_vec()),
        ("a list", b"[]".to_vec()),
        ("100 lists in each other", nested(100)),
        ("10,000 lists in each other", nested(10_000)),
        ("200 MB", vec![b' '; 200_000_000]),
        ("FixedLength 0", with(&char, &|v| v["pre_tokenizer"]["length"] = json!(0))),
        ("FixedLength 2^63", with(&char, &|v| v["pre_tokenizer"]["length"] = json!(1_u64 << 63))),
        ("a gap in the ids", with(&char, &|v| v["model"]["vocab"]["a"] = json!(99_999))),
        ("an id of 2^64 - 1", with(&word, &|v| v["model"]["vocab"]["more"] = json!(u64::MAX))),
        ("an id twice", with(&bpe, &|v| v["model"]["vocab"]["a"] = json!(id(v, "b")))),
        ("an id that is no number", with(&bpe, &|v| v["model"]["vocab"]["a"] = json!("7"))),
        (
            "a byte without a token",
            with(&bpe, &|v| {
                // Ids without a gap: only the byte itself is missing.
                let old = v["model"]["vocab"].as_object_mut().unwrap().remove("Q").unwrap();
                v["model"]["vocab"]["QQ"] = old;
            }),
        ),
        ("an id below zero", with(&word, &|v| v["model"]["vocab"]["more"] = json!(-1))),
        ("no model", b"{}".to_vec()),
        (
            "a long character",
            with(&char, &|v| {
                let id = v["model"]["vocab"].as_object_mut().unwrap().remove("a").unwrap();
                v["model"]["vocab"]["ab"] = id;
            }),
        ),
        ("no vocabulary", with(&bpe, &|v| v["model"]["vocab"] = json!([]))),
        ("dropout", with(&bpe, &|v| v["model"]["dropout"] = json!(0.1))),
        ("an unknown model", with(&bpe, &|v| v["model"]["type"] = json!("Unigram"))),
        ("an unknown pre-tokenizer", with(&char, &|v| v["pre_tokenizer"]["type"] = json!("Whitespace"))),
        ("a normalizer", with(&word, &|v| v["normalizer"] = json!({ "type": "NFKC" }))),
        ("truncation", with(&bpe, &|v| v["truncation"] = json!({ "max_length": 0 }))),
        ("padding to 2^60", with(&bpe, &|v| v["padding"] = json!({ "strategy": { "Fixed": 1_u64 << 60 } }))),
        ("a catastrophic pattern", with(&word, &|v| v["pre_tokenizer"] = regex.clone())),
        ("a template of missing tokens", with(&bpe, &|v| v["post_processor"] = template.clone())),
        (
            "a decoder that replaces",
            with(&bpe, &|v| {
                v["decoder"] = json!({ "type": "Replace", "pattern": { "Regex": "(a+)+$" }, "content": "" });
            }),
        ),
        ("a merge of nothing", with(&bpe, &|v| v["model"]["merges"] = json!([["never", "seen"]]))),
        // Found by fuzzing: the library panics where two tokens make one that is longer than any.
        (
            "a merge past the longest token",
            with(&bpe, &|v| {
                let longest = v["model"]["vocab"]
                    .as_object()
                    .unwrap()
                    .keys()
                    .max_by_key(|token| token.len())
                    .unwrap()
                    .clone();
                v["model"]["merges"] = json!([[longest, "b"]]);
            }),
        ),
        (
            "the same as one string",
            with(&bpe, &|v| {
                let longest = v["model"]["vocab"]
                    .as_object()
                    .unwrap()
                    .keys()
                    .max_by_key(|token| token.len())
                    .unwrap()
                    .clone();
                v["model"]["merges"] = json!([format!("{longest} b")]);
            }),
        ),
        ("a merge that is no pair", with(&bpe, &|v| v["model"]["merges"] = json!(["a"]))),
        ("merges that are no list", with(&bpe, &|v| v["model"]["merges"] = json!(7))),
        (
            "a foreign added token",
            with(&char, &|v| v["added_tokens"] = json!([{ "id": 3, "content": "e", "special": true }])),
        ),
        ("an added token that is ordinary", with(&word, &|v| v["added_tokens"][1]["special"] = json!(false))),
        (
            // Found by fuzzing: as many tokens went unchecked as there were special ones.
            "a special token twice, and a long character",
            with(&char, &|v| {
                let unk = v["added_tokens"][0].clone();
                v["added_tokens"] = json!([unk, unk]);
                let first = v["model"]["vocab"].as_object().unwrap().iter().find(|(_, id)| **id == json!(1));
                let first = first.unwrap().0.clone();
                v["model"]["vocab"].as_object_mut().unwrap().remove(&first);
                v["model"]["vocab"]["(."] = json!(1);
            }),
        ),
        (
            "a pattern that goes back",
            with(&bpe, &|v| {
                v["pre_tokenizer"] = json!({ "type": "Split", "pattern": { "Regex": "(?:e|ee)+(?=c)" }, "behavior": "Removed", "invert": false });
            }),
        ),
        ("a gap in the ids of a BPE", with(&bpe, &|v| v["model"]["vocab"]["zz"] = json!(4_000_000_000_u64))),
        ("a few ids too many", with(&bpe, &|v| v["model"]["vocab"]["zz"] = json!(300))),
        ("a BPE that draws lots", with(&bpe, &|v| v["model"]["dropout"] = json!(1.0))),
        (
            "a merge within a character",
            with(&bpe, &|v| {
                v["model"]["continuing_subword_prefix"] = json!("a");
                v["model"]["merges"] = json!([["Ġ", "Ġ"]]);
            }),
        ),
        (
            "a merge shorter than the prefix",
            with(&bpe, &|v| {
                v["model"]["continuing_subword_prefix"] = json!("a long prefix");
            }),
        ),
        ("a normalizer that doubles 60 times", replaced("normalizer", "normalizers", 60)),
        ("a decoder that doubles 60 times", replaced("decoder", "decoders", 60)),
        ("a normalizer that doubles", replaced("normalizer", "normalizers", 1)),
        (
            "a long prefix of every word",
            with(&bpe, &|v| {
                v["normalizer"] = json!({ "type": "Prepend", "prepend": "x".repeat(1 << 20) });
            }),
        ),
        (
            "a decoder that strips more than there is",
            with(&bpe, &|v| {
                v["decoder"] =
                    json!({ "type": "Strip", "content": "e", "start": 1_u64 << 40, "stop": 1_u64 << 40 });
            }),
        ),
        // Lengths of 2^32 - 4 and 4 bytes, and base 64 of nothing.
        ("a character map of 4 GB", precompiled("/P///wAA")),
        ("a character map that points out of itself", precompiled("BAAAAP////8AAAA=")),
        ("no character map", precompiled("")),
        ("no base 64", precompiled("BAAAA!!!")),
        (
            "WordPiece of long words",
            model(&json!({
                "type": "WordPiece", "unk_token": "u", "continuing_subword_prefix": "", "max_input_chars_per_word": 1_u64 << 60,
                "vocab": { "u": 0, "a": 1 },
            })),
        ),
        (
            "WordPiece without its unknown token",
            model(&json!({
                "type": "WordPiece", "unk_token": "u", "continuing_subword_prefix": "", "max_input_chars_per_word": 100,
                "vocab": { "a": 0 },
            })),
        ),
        ("Unigram without tokens", model(&json!({ "type": "Unigram", "unk_id": 0, "vocab": [] }))),
        (
            "Unigram with an unknown token outside",
            model(&json!({ "type": "Unigram", "unk_id": 9, "vocab": [["a", 0.0]] })),
        ),
        (
            "Unigram without an unknown token",
            model(&json!({ "type": "Unigram", "unk_id": null, "vocab": [["a", 0.0]] })),
        ),
        (
            "Unigram with odd tokens",
            model(&json!({
                "type": "Unigram", "unk_id": 0, "vocab": [["", 0.0], ["", 1e300], ["a", -1e300], ["a", 1.0], ["é", -0.0]],
            })),
        ),
        (
            "a WordLevel of one id",
            model(&json!({ "type": "WordLevel", "unk_token": "a", "vocab": { "a": 0, "b": 0 } })),
        ),
        (
            "an added token with another id",
            with(&bpe, &|v| {
                v["added_tokens"] = json!([{
                    "id": 7, "content": "new", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false,
                }]);
            }),
        ),
        (
            "one half of <s> and </s>",
            with(&byte, &|v| v["added_tokens"] = json!([{ "id": 256, "content": "<s>", "special": true }])),
        ),
        (
            "bytes in another order",
            with(&byte, &|v| {
                v["model"]["vocab"]["A"] = json!(66);
                v["model"]["vocab"]["B"] = json!(65);
            }),
        ),
    ]
}

/// Those of [`cases`] that are tokenizers all the same.
const USABLE: [&str; 18] = [
    "FixedLength 2^63",
    "a byte without a token",
    "a long character",
    "an unknown pre-tokenizer",
    "a normalizer",
    "truncation",
    "padding to 2^60",
    "a catastrophic pattern",
    "a template of missing tokens",
    "a decoder that replaces",
    "an added token that is ordinary",
    "a special token twice, and a long character",
    "a pattern that goes back",
    "a few ids too many",
    "a normalizer that doubles",
    "a decoder that strips more than there is",
    "Unigram with odd tokens",
    "bytes in another order",
];

/// The library must read the same file as the checks: of a duplicate key, two parsers may take
/// different values.
#[test]
fn a_key_that_comes_twice_is_refused() {
    let bpe =
        serde_json::to_string(&trained(TokenizerKind::Bpe { vocab_size: 290 }, TextMode::Stream)).unwrap();
    let key = "\"continuing_subword_prefix\":null";
    assert!(bpe.contains(key));
    let twice = bpe.replace(key, &format!("\"continuing_subword_prefix\":\"a long prefix\",{key}"));
    assert!(Tokenizer::from_json(bpe.as_bytes()).is_ok());
    let error = Tokenizer::from_json(twice.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("continuing_subword_prefix"), "{error}");
}

#[test]
fn every_hostile_file_is_refused_or_used_soon_and_within_memory() {
    let cases = cases();
    let text =
        "a text, with Übermut, tabs\t and (12) e\u{301}\n\n<s> eee Q\n".repeat(100) + &"e".repeat(2000);
    // The library's panics are caught, but their backtraces take much memory.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let before = peak_memory();
    for (name, bytes) in &cases {
        let started = Instant::now();
        drop(Tokenizer::from_json(bytes));
        assert!(started.elapsed() < Duration::from_secs(1), "{name} took {:?}", started.elapsed());
    }
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        eprintln!("{} MiB over the files themselves", (after - before) >> 20);
        assert!(after - before < 64 << 20, "reading took {} MiB", (after - before) >> 20);
    }
    std::panic::set_hook(hook);
    let mut usable = Vec::new();
    for (name, bytes) in &cases {
        let started = Instant::now();
        let used = Tokenizer::from_json(bytes).and_then(|tokenizer| {
            let ids =
                encode_text("text", &text, &tokenizer, &InputOptions::default(), EncodeOptions::default())?
                    .0
                    .tokens
                    .ids;
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{name}");
            tokenizer.decode(&ids);
            (0..tokenizer.vocab_size() as u32)
                .for_each(|id| drop((tokenizer.token(id), tokenizer.codec().token_name(id))));
            Ok(())
        });
        assert!(started.elapsed() < Duration::from_secs(1), "{name} took {:?}", started.elapsed());
        let Err(error) = used else {
            usable.push(*name);
            continue;
        };
        eprintln!("{name}: {error}");
        assert!(matches!(error, Error::Tokenizer(_)), "{name}: {error:?}");
        assert!(error.to_string().len() < 1000, "{name}: a message of {} bytes", error.to_string().len());
    }
    assert_eq!(usable, USABLE);
}

/// The worst case within the limits: small values, which need many times their text in memory.
#[test]
fn a_file_within_the_limit_costs_bounded_memory() {
    let bytes = format!("{{\"model\":[{}0]}}", "0,".repeat(2_000_000)).into_bytes();
    let before = peak_memory();
    let started = Instant::now();
    assert!(Tokenizer::from_json(&bytes).is_err());
    assert!(started.elapsed() < Duration::from_secs(1));
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        assert!(after - before < 40 * bytes.len() as u64, "reading took {} MiB", (after - before) >> 20);
    }
}

/// The peak resident memory of this process in bytes (Linux only).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
