//! Files are read back unchanged, and other files are refused.

use serde_json::{Value, json};
use surprisal_model::ngram::Smoothing;
use surprisal_text::{TextMode, TokenizerKind};

use super::*;
use surprisal_store::{Error as StoreError, atomic};

fn word_model(order: usize) -> (NgramModel, Tokenizer) {
    let words = ["<unk>", "<s>", "</s>", "a", "b", "é", "longer"];
    let tokenizer = Tokenizer::from_words(TokenizerKind::Word, TextMode::Line, words).unwrap();
    let mut text = Vec::new();
    for line in 0..40_u32 {
        text.push(1);
        text.extend((0..line % 7).map(|i| 3 + (i * i + line) % 4));
        text.push(2);
    }
    let config =
        NgramConfig { bos: Some(1), unk: Some(0), ..NgramConfig::new(order, Smoothing::ModifiedKneserNey) };
    (NgramModel::estimate(&text, words.len(), &config).unwrap(), tokenizer)
}

fn same(a: &NgramModel, b: &NgramModel) {
    assert_eq!((a.config(), a.report()), (b.config(), b.report()));
    assert_eq!(a.trie().header(), b.trie().header());
    assert_eq!(a.trie().unpack(), b.trie().unpack());
}

/// A file with another header and valid checksums.
fn forged(bytes: &[u8], change: impl FnOnce(&mut Value, &mut Vec<Bytes>)) -> Vec<u8> {
    let whole = |header: Value, sections| Ok((header, sections));
    let (mut header, mut sections) = container::read(&FORMAT, &bytes.to_vec().into(), whole).unwrap();
    change(&mut header, &mut sections);
    container::to_bytes(&FORMAT, &header, &sections).unwrap()
}

#[test]
fn a_file_comes_back_mapped_and_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    for order in [1, 3] {
        let (model, tokenizer) = word_model(order);
        let path = folder.path().join("a.ngram");
        let size = write(&path, &model, &tokenizer).unwrap();
        let bytes = to_bytes(&model, &tokenizer).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(bytes.len() as u64, size);
        for (back, words) in [open(&path).unwrap(), from_bytes(bytes).unwrap()] {
            same(&back, &model);
            assert_eq!(words.to_json().unwrap(), tokenizer.to_json().unwrap());
            let text = [1, 3, 4, 3, 2];
            assert_eq!(back.log_probs(&text, 1).unwrap(), model.log_probs(&text, 1).unwrap());
        }
    }
}

/// Three quarters of every context's probability, the rest backs off.
struct ThreeQuarters;

impl ngram::Smoother for ThreeQuarters {
    fn name(&self) -> &'static str {
        "three_quarters"
    }

    fn weight(&self, _: usize, context: &ngram::ContextStats, _: f64) -> ngram::ContextWeights {
        ngram::ContextWeights { scale: 0.75 / context.total as f64, backoff: 0.25 }
    }
}

#[test]
fn a_smoother_from_outside_comes_back_from_both_formats() {
    let (like, tokenizer) = word_model(3);
    let text = [1, 3, 4, 3, 2, 1, 6, 2, 1, 3, 2];
    let model = NgramModel::estimate_with(&text, 7, like.config(), &mut ThreeQuarters).unwrap();
    let (back, _) = from_bytes(to_bytes(&model, &tokenizer).unwrap()).unwrap();
    same(&back, &model);
    assert_eq!(back.report().smoother.as_deref(), Some("three_quarters"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arpa");
    crate::arpa::write(&path, &model.trie().to_estimate().unwrap(), &tokenizer).unwrap();
    let (back, _) = crate::arpa::open(&path).unwrap();
    assert!(back.is_distribution() && model.is_distribution());
    let both = [&model, &back].map(|model| model.log_probs(&[1, 3, 4, 5, 0, 2], 1).unwrap());
    assert!(both[0].iter().zip(&both[1]).all(|(p, q)| (p - q).abs() < 1e-5), "{both:?}");
}

#[test]
fn every_kind_of_tokenizer_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    atomic::write(&text, "ein Wort, noch ein Wort\nund ein é\n".repeat(20).as_bytes()).unwrap();
    for kind in [TokenizerKind::Byte, TokenizerKind::Char, TokenizerKind::Bpe { vocab_size: 262 }] {
        for unit in [TextMode::Stream, TextMode::Line] {
            let options = surprisal_text::DataOptions {
                train: vec![text.clone()],
                val_fraction: 0.1,
                mode: unit,
                ..surprisal_text::DataOptions::default()
            };
            let corpus = surprisal_text::Corpus::load(&options).unwrap();
            let tokenizer = corpus.train_tokenizer(kind).unwrap();
            let ids = corpus.encode_train(&tokenizer).unwrap().ids;
            let config = NgramConfig {
                order: 2,
                bos: tokenizer.bos(),
                unk: tokenizer.unk(),
                ..NgramConfig::default()
            };
            let model = NgramModel::estimate(&ids, tokenizer.vocab_size(), &config).unwrap();
            let (back, words) = from_bytes(to_bytes(&model, &tokenizer).unwrap()).unwrap();
            same(&back, &model);
            assert_eq!(words.to_json().unwrap(), tokenizer.to_json().unwrap());
        }
    }
}

#[test]
fn every_truncation_and_five_thousand_flips_are_refused() {
    let (model, tokenizer) = word_model(3);
    let bytes = to_bytes(&model, &tokenizer).unwrap();
    for len in 0..bytes.len() {
        assert!(from_bytes(bytes[..len].to_vec()).is_err(), "{len}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(from_bytes(longer).is_err());
    let mut state = 1_u64;
    for _ in 0..5000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (state >> 20) as usize % (bytes.len() * 8);
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(from_bytes(flipped).is_err(), "bit {bit}");
    }
}

/// A change of a file's header and sections, with valid checksums.
type Change = fn(&mut Value, &mut Vec<Bytes>);

#[test]
fn headers_that_lie_are_refused() {
    let (model, tokenizer) = word_model(3);
    let bytes = to_bytes(&model, &tokenizer).unwrap();
    let lies: [(&str, Change); 16] = [
        ("more words", |header, _| header["trie"]["vocab_size"] = json!(8)),
        ("all the words", |header, _| header["trie"]["vocab_size"] = json!(u32::MAX)),
        ("words on both sides", |header, _| {
            header["trie"]["vocab_size"] = json!(u32::MAX);
            header["trie"]["levels"][0]["grams"] = json!(u32::MAX);
        }),
        ("a negative count", |header, _| header["trie"]["levels"][1]["grams"] = json!(-1)),
        ("a count past all integers", |header, _| header["trie"]["levels"][1]["grams"] = json!(1e30)),
        ("more grams", |header, _| header["trie"]["levels"][2]["grams"] = json!(u32::MAX)),
        ("more values", |header, _| header["trie"]["levels"][1]["values"] = json!(u32::MAX)),
        ("more weights", |header, _| header["trie"]["levels"][1]["weights"] = json!(u32::MAX)),
        ("no orders", |header, _| header["trie"]["levels"] = json!([])),
        ("a thousand orders", |header, _| {
            let level = header["trie"]["levels"][0].clone();
            header["trie"]["levels"] = json!(vec![level; 1000]);
        }),
        ("<s> outside", |header, _| header["trie"]["bos"] = json!(7)),
        ("another <s>", |header, _| header["trie"]["bos"] = json!(2)),
        ("no sections", |_, sections| sections.clear()),
        ("a section less", |_, sections| drop(sections.remove(3))),
        ("a section more", |_, sections| sections.push(vec![0; 100].into())),
        ("one word less", |_, sections| {
            let words = sections.pop().unwrap();
            sections.push(words.slice(0..words.as_slice().len() - 7));
        }),
    ];
    for (lie, change) in lies {
        assert!(from_bytes(forged(&bytes, change)).is_err(), "{lie}");
    }
    let nan = forged(&bytes, |_, sections| sections[1] = vec![0xFF; sections[1].as_slice().len()].into());
    assert!(from_bytes(nan).is_err());
    from_bytes(forged(&bytes, |_, _| ())).unwrap();
}

#[test]
fn sections_that_lie_give_wrong_answers_and_no_panic() {
    let (model, tokenizer) = word_model(3);
    let bytes = to_bytes(&model, &tokenizer).unwrap();
    let sections = model.trie().sections().len();
    for fill in [0xFF_u8, 0xAA, 0x00] {
        for section in (0..sections).filter(|section| ![1, 2].contains(&(section % ngram::SECTIONS))) {
            let forged = forged(&bytes, |_, sections| {
                sections[section] = vec![fill; sections[section].as_slice().len()].into();
            });
            let (model, _) = from_bytes(forged).unwrap();
            model.log_probs(&[1, 3, 4, 5, 6, 0, 2, 3], 0).unwrap();
            model.next_log_probs(&[3, 4]).unwrap();
            let _ = model.trie().to_estimate();
        }
    }
}

#[test]
fn what_is_no_such_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ngram");
    for (content, says) in [
        (&b""[..], "empty"),
        (b"SURPNGM1 and so on", "another version"),
        (b"\\data\\\nngram 1=3", "first bytes"),
    ] {
        atomic::write(&path, content).unwrap();
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("x.ngram") && error.contains(says), "{error}");
    }
    assert!(matches!(open(folder.path()), Err(Error::Store(StoreError::Io { .. }))));
    let (model, _) = word_model(2);
    let other = Tokenizer::from_words(TokenizerKind::Word, TextMode::Line, ["<unk>", "<s>", "</s>"]).unwrap();
    assert!(to_bytes(&model, &other).is_err());
    assert!(write(&path, &model, &other).is_err());
}
