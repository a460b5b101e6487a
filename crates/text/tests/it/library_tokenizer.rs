//! Tokenizers of files, compared with the `tokenizers` library's own encoding of the whole text.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use surprisal_text::{
    Corpus, DataOptions, EncodeOptions, Granularity, InputOptions, TextMode, TokenText, Tokenizer,
    TokenizerKind, encode_text,
};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordlevel::{WordLevel, WordLevelTrainer};
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use tokenizers::{AddedToken, ModelWrapper, Tokenizer as Library, models::TrainerWrapper};

/// Some English with other scripts, blank lines, indented lines and runs of blanks.
fn sample() -> String {
    let lines = [
        "The cat sat on the mat, and the dog sat by the cat.",
        "It's a small house in the green valley; nobody knew who had built it.",
        "",
        "    indented lines, with    runs of blanks\tand a tab",
        "Größe, Übermut und Straßen: l'été à la forêt, 12345 mètres.",
        "日本語の文章と中文的句子。",
        "naïve café 🙂 (twice) \"quoted\" — dashes",
    ];
    (0..200).map(|n| format!("{} {}\n", lines[n % 7], n * n % 37)).collect()
}

/// The parts of a `tokenizer.json` besides its model.
fn parts(normalizer: Value, pre_tokenizer: Value, decoder: Value) -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": decoder, "model": { "type": "BPE", "vocab": {}, "merges": [] },
    })
}

/// A file of these parts and a model trained on [`sample`].
fn trained(parts: &Value, model: impl Into<ModelWrapper>, trainer: impl Into<TrainerWrapper>) -> Value {
    let mut library = Library::from_bytes(bytes(parts)).unwrap();
    library.with_model(model);
    library.train(&mut trainer.into(), std::iter::once(sample())).unwrap();
    serde_json::to_value(&library).unwrap()
}

fn special(names: &[&str]) -> Vec<AddedToken> {
    names.iter().map(|name| AddedToken::from(*name, true)).collect()
}

fn bpe(parts: &Value, names: &[&str], model: BPE) -> Value {
    let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
    let byte_level = parts["pre_tokenizer"]["type"] == "ByteLevel";
    let trainer = BpeTrainer::builder()
        .vocab_size(if byte_level { 400 } else { 300 })
        .show_progress(false)
        .special_tokens(special(names))
        .initial_alphabet(alphabet.into_iter().filter(|_| byte_level).collect())
        .build();
    trained(parts, model, trainer)
}

fn unigram(parts: &Value) -> Value {
    let trainer = UnigramTrainer::builder()
        .vocab_size(200)
        .show_progress(false)
        .special_tokens(special(&["<unk>", "<s>", "</s>"]))
        .unk_token(Some("<unk>".into()))
        .build()
        .unwrap();
    trained(parts, Unigram::default(), trainer)
}

/// Adds the 256 byte tokens of a model with byte fallback.
fn with_bytes(mut file: Value) -> Value {
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    for byte in 0..=255u8 {
        let id = vocab.len();
        vocab.entry(format!("<0x{byte:02X}>")).or_insert(json!(id));
    }
    file["model"]["byte_fallback"] = json!(true);
    file
}

fn metaspace(scheme: &str, split: bool) -> Value {
    json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split })
}

fn byte_level(prefix: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true })
}

/// The decoder of Llama 2: `▁` is a space, `<0x0A>` a byte, and the first space is not of the text.
fn llama_decoder() -> Value {
    json!({ "type": "Sequence", "decoders": [
        { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
        { "type": "ByteFallback" },
        { "type": "Fuse" },
        { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
    ]})
}

struct Case {
    name: &'static str,
    file: Value,
    /// Whether every text that does not start with a space comes back.
    lossless: bool,
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let case = |name, file, lossless| Case { name, file, lossless };
    let null = || Value::Null;
    let gpt2_pfx = parts(null(), byte_level(true), byte_level(true));
    let metaspaced = parts(null(), metaspace("always", true), metaspace("always", true));
    let first = parts(null(), metaspace("first", false), llama_decoder());
    let llama_2 = parts(
        json!({ "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ]}),
        null(),
        llama_decoder(),
    );
    let t5 = parts(
        json!({ "type": "NFKC" }),
        json!({ "type": "Sequence", "pretokenizers": [{ "type": "WhitespaceSplit" }, metaspace("always", true)] }),
        metaspace("always", true),
    );
    let bert = parts(
        json!({ "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true }),
        json!({ "type": "BertPreTokenizer" }),
        json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
    );
    let words = parts(null(), json!({ "type": "Whitespace" }), null());
    let pieces = WordPieceTrainer::builder()
        .vocab_size(300)
        .show_progress(false)
        .special_tokens(special(&["[UNK]", "[CLS]", "[SEP]"]))
        .build();
    let levels = WordLevelTrainer::builder()
        .vocab_size(60)
        .show_progress(false)
        .special_tokens(special(&["[UNK]"]))
        .build()
        .unwrap();
    let level = WordLevel::builder().unk_token("[UNK]".into()).build().unwrap();
    let llama = BPE::builder().unk_token("<unk>".into()).build().unwrap();
    let marks = ["<unk>", "<s>", "</s>"];
    let mut llama_2 = with_bytes(bpe(&with_pre(&llama_2), &marks, llama.clone()));
    llama_2["pre_tokenizer"] = Value::Null;
    vec![
        case("byte-level BPE with a prefix space", bpe(&gpt2_pfx, &["<|endoftext|>"], BPE::default()), true),
        case(
            "BPE with Metaspace and byte fallback",
            with_bytes(bpe(&with_decoder(&metaspaced, llama_decoder()), &marks, llama.clone())),
            true,
        ),
        case("BPE with Metaspace that does not split", with_bytes(bpe(&first, &marks, llama)), true),
        case("Llama 2's", llama_2, true),
        case("Unigram with Metaspace", unigram(&metaspaced), true),
        case("Unigram, as T5", unigram(&t5), false),
        case("WordPiece, as BERT", trained(&bert, WordPiece::default(), pieces), false),
        case("WordLevel", trained(&words, level, levels), false),
    ]
});

fn with_decoder(parts: &Value, decoder: Value) -> Value {
    let mut parts = parts.clone();
    parts["decoder"] = decoder;
    parts
}

/// The parts for training: words are cut there, so that no merge has a space within it.
fn with_pre(parts: &Value) -> Value {
    let mut parts = parts.clone();
    parts["pre_tokenizer"] = metaspace("never", true);
    parts
}

fn bytes(file: &Value) -> Vec<u8> {
    serde_json::to_vec(file).unwrap()
}

/// The library's ids, with the names of special tokens read as text, as in this program.
fn oracle(file: &Value, text: &str) -> Vec<u32> {
    let mut library = Library::from_bytes(bytes(file)).unwrap();
    library.set_encode_special_tokens(true);
    library.encode(text, false).unwrap().get_ids().to_vec()
}

fn encode(tokenizer: &Tokenizer, text: &str) -> TokenText {
    let options = EncodeOptions { threads: 3, ..EncodeOptions::default() };
    encode_text("text", text, tokenizer, &InputOptions::default(), options).unwrap().0.tokens
}

#[test]
fn names_of_special_tokens_in_a_text_are_counted() {
    let mut file = CASES[0].file.clone();
    let entry = |id: usize| {
        serde_json::json!({ "id": id, "content": "<|end|>", "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false })
    };
    let size = Tokenizer::from_json(&bytes(&file)).unwrap().vocab_size();
    file["added_tokens"].as_array_mut().unwrap().push(entry(size));
    let tokenizer = Tokenizer::from_json(&bytes(&file)).unwrap();
    let notices = |text: &str| {
        let options = EncodeOptions::default();
        encode_text("text", text, &tokenizer, &InputOptions::default(), options).unwrap().0.notices.join("\n")
    };
    assert!(notices("the dog<|end|>the cat<|end|>").contains("2 names of the tokenizer's special tokens"));
    assert!(!notices("the dog <s> the cat").contains("special tokens"));
}

#[test]
fn tokens_of_a_long_text_are_those_of_its_whole() {
    let mut long = String::new();
    for n in 0..90 {
        long.push_str(&sample());
        long.push_str(&format!("The dog {n} sat in the green valley; nobody knew who\n\n"));
    }
    assert!(long.len() > 3 << 18);
    for Case { name, file, lossless } in CASES.iter() {
        let tokenizer = Tokenizer::from_json(&bytes(file)).unwrap();
        assert_eq!((tokenizer.kind(), tokenizer.granularity()), (TokenizerKind::File, Granularity::Subword));
        for text in [sample(), long.clone()] {
            let tokens = encode(&tokenizer, &text);
            let (ids, expected) = (&tokens.ids, oracle(file, &text));
            let at = ids.iter().zip(&expected).position(|(a, b)| a != b);
            assert!(*ids == expected, "{name}: of {} and {} tokens, {at:?}", ids.len(), expected.len());
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{name}");
            assert_eq!(tokens.lossy.is_none(), *lossless, "{name}: {:?}", tokens.lossy);
            if *lossless {
                assert!(tokenizer.decode(ids) == text, "{name}");
            }
            let documents = Tokenizer::from_file(&bytes(file), TextMode::Document).unwrap();
            let marked = encode(&documents, &text).ids;
            assert!(marked.split_last() == Some((&documents.eos().unwrap(), &expected[..])), "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_has_the_librarys_tokens_and_comes_back_or_is_lossy(
        text in "([a-zA-Z]{1,8}|[ \\n]{1,3}|\t|\r\n|é|ß|日本|e\u{301}|\u{a0}|▁|<s>|<unk>|</s>|<0x41>|🙂|[0-9.,'-]{1,4}){1,60}",
    ) {
        for Case { name, file, .. } in CASES.iter() {
            let tokenizer = Tokenizer::from_json(&bytes(file)).unwrap();
            let Ok((encoded, _)) = encode_text("text", &text, &tokenizer, &InputOptions::default(), EncodeOptions::default()) else {
                prop_assert!(oracle(file, &text).is_empty(), "{}", name);
                continue;
            };
            prop_assert_eq!(&encoded.tokens.ids, &oracle(file, &text), "{}", name);
            let comes_back = tokenizer.decode(&encoded.tokens.ids) == text;
            prop_assert_eq!(encoded.tokens.lossy.is_none(), comes_back, "{}: {:?}", name, encoded.tokens.lossy);
        }
    }

    /// Lines are texts of their own.
    #[test]
    fn lines_have_the_librarys_tokens_between_marks(
        lines in prop::collection::vec("([a-zA-Z]{1,8}| {1,2}|é|日本|[0-9.,'-]{1,4}){0,12}", 1..8),
    ) {
        for Case { name, file, .. } in CASES.iter() {
            let tokenizer = Tokenizer::from_file(&bytes(file), TextMode::Line).unwrap();
            let (bos, eos) = (tokenizer.bos().unwrap(), tokenizer.eos().unwrap());
            let saved = tokenizer.to_json().unwrap();
            let again = Tokenizer::from_json(&saved).unwrap();
            prop_assert_eq!((again.mode(), again.bos(), again.eos()), (TextMode::Line, Some(bos), Some(eos)));
            prop_assert_eq!(&again.to_json().unwrap(), &saved, "{}", name);
            let library = Library::from_bytes(&saved).unwrap();
            prop_assert_eq!(library.get_vocab_size(true), tokenizer.vocab_size());
            let stream = Tokenizer::from_file(&saved, TextMode::Stream).unwrap();
            prop_assert_eq!((stream.mode(), stream.bos()), (TextMode::Stream, None));
            let tokens = encode(&tokenizer, &(lines.join("\n") + "\n"));
            let expected: Vec<Vec<u32>> =
                lines.iter().map(|line| [vec![bos], oracle(file, line), vec![eos]].concat()).collect();
            prop_assert_eq!(tokens.sequences().map(<[u32]>::to_vec).collect::<Vec<_>>(), expected, "{}", name);
            prop_assert_eq!(tokens.scored(), tokens.ids.len() as u64 - lines.len() as u64);
        }
    }
}

/// Files of this program that are used in the other mode than they were made for.
#[test]
fn a_built_in_tokenizer_changes_its_mode() {
    for kind in [TokenizerKind::Byte, TokenizerKind::Char, TokenizerKind::Bpe { vocab_size: 300 }] {
        for (mode, other) in [(TextMode::Line, TextMode::Stream), (TextMode::Stream, TextMode::Line)] {
            let options = DataOptions { val_fraction: 0.9, mode, ..DataOptions::default() };
            let own = Corpus::embedded("babble", &options).unwrap().train_tokenizer(kind).unwrap();
            let file = own.to_json().unwrap();
            assert_eq!(Tokenizer::from_file(&file, mode).unwrap().kind(), own.kind());
            let changed = Tokenizer::from_file(&file, other).unwrap();
            let again = Tokenizer::from_json(&changed.to_json().unwrap()).unwrap();
            let line = "la";
            for tokenizer in [&changed, &again] {
                assert_eq!((tokenizer.kind(), tokenizer.mode()), (TokenizerKind::File, other), "{kind}");
                assert_eq!(tokenizer.bos().is_some(), other == TextMode::Line);
                assert_eq!(tokenizer.encode(line).unwrap(), own.encode(line).unwrap());
                assert_eq!(encode(tokenizer, line).lossy, None);
            }
        }
    }
}

/// Token by token, as a word is shown within a text.
#[test]
fn tokens_have_the_bytes_that_they_add_to_a_text() {
    let find = |name: &str| CASES.iter().find(|case| case.name == name).unwrap();
    for (name, bytes_of_all) in [
        ("byte-level BPE with a prefix space", " the cat\u{e9}\n"),
        ("BPE with Metaspace and byte fallback", " the cat\u{e9}\n"),
        ("Unigram with Metaspace", " the cat"),
    ] {
        let tokenizer = Tokenizer::from_json(&bytes(&find(name).file)).unwrap();
        let ids = encode(&tokenizer, bytes_of_all.trim_start()).ids;
        let all: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id).into_owned()).collect();
        assert_eq!(String::from_utf8(all).unwrap(), bytes_of_all, "{name}");
        let names: std::collections::BTreeSet<_> =
            (0..tokenizer.vocab_size() as u32).map(|id| tokenizer.codec().token_name(id)).collect();
        assert_eq!(names.len(), tokenizer.vocab_size());
    }
}

/// The other names of `lossy` texts.
#[test]
fn what_a_text_loses_is_said() {
    for (name, text, parts) in [
        ("WordPiece, as BERT", "The cat sat", &["\"The cat sat\" becomes \"the cat sat\""][..]),
        ("WordLevel", "the  cat", &["\"the  cat\" becomes \"the cat\""]),
        ("Unigram, as T5", "the ﬁsh", &["ﬁ", "fi"]),
        ("Unigram with Metaspace", "the Ω", &["Ω", "<unk>"]),
        ("Unigram with Metaspace", " the cat", &["becomes \"the cat\""]),
    ] {
        let file = &CASES.iter().find(|case| case.name == name).unwrap().file;
        let tokens = encode(&Tokenizer::from_json(&bytes(file)).unwrap(), text);
        let lossy = tokens.lossy.unwrap();
        assert!(parts.iter().all(|part| lossy.contains(part)), "{name}: {lossy}");
        assert_eq!(tokens.oov > 0, lossy.contains("<unk>"), "{name}");
    }
}

/// The validation part is cut off anywhere, also within a token or among blanks.
#[test]
fn a_part_of_a_text_comes_back_wherever_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    let text = sample();
    std::fs::write(&path, &text).unwrap();
    for Case { name, file, lossless } in CASES.iter().filter(|case| case.lossless) {
        let tokenizer = Tokenizer::from_json(&bytes(file)).unwrap();
        for at in 1..60 {
            let val_fraction = 0.5 + f64::from(at) / text.len() as f64;
            let options = DataOptions { train: vec![path.clone()], val_fraction, ..DataOptions::default() };
            let val = Corpus::load(&options).unwrap().encode_val(&tokenizer).unwrap();
            assert_eq!(val.lossy.is_none(), *lossless, "{name} at {at}: {:?}", val.lossy);
            let start = text.len() - val.bytes as usize;
            let decoded = tokenizer.decode(&val.ids);
            assert!(decoded.trim_start() == text[start..].trim_start(), "{name} at {at}");
        }
    }
}
