//! KenLM binaries of every structure, with KenLM's scores.
//!
//! The files of `fixtures/kenlm` were built from the ARPA files beside them by KenLM's
//! build_binary: `probing`, `rest` (`-r` with the lower orders), `trie` and `quant` (`-q 3 -b 3`)
//! from words.arpa, `array` (`-a 255`) and `quant_array` (`-q 3 -b 3 -a 255`) from digits.arpa. The
//! scores are of the `kenlm` package from PyPI:
//! `scripts/check_arpa_with_kenlm.py NAME.binary TEXT --print`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use surprisal_formats::kenlm::{self, Kenlm, Problem, Structure};
use surprisal_formats::{Error, arpa};
use surprisal_model::LanguageModel;
use surprisal_text::Tokenizer;

use crate::targets;

const NAMES: [(&str, Structure); 6] = [
    ("probing", Structure::Probing),
    ("rest", Structure::RestProbing),
    ("trie", Structure::Trie),
    ("quant", Structure::QuantTrie),
    ("array", Structure::ArrayTrie),
    ("quant_array", Structure::QuantArrayTrie),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kenlm").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("{name}.binary"))).unwrap()
}

/// The file that is made here of words.arpa.
fn written() -> Vec<u8> {
    let (model, tokenizer) = arpa::open(fixture("words.arpa")).unwrap();
    kenlm::to_bytes(&model, &tokenizer).unwrap()
}

/// KenLM's scores of a sentence: log10, length of the longest n-gram found, and whether it is
/// unknown, of each word and `</s>`.
#[derive(Deserialize)]
struct Sentence {
    sentence: String,
    words: Vec<(f64, usize, bool)>,
}

fn sentences(name: &str) -> Vec<Sentence> {
    let lines = std::fs::read_to_string(fixture(&format!("{name}.jsonl"))).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `<s>`, the words, `</s>`.
fn ids(tokenizer: &Tokenizer, sentence: &str) -> Vec<u32> {
    let vocab_size = tokenizer.vocab_size() as u32;
    let id = |word: &str| (0..vocab_size).find(|&id| tokenizer.token(id) == word).unwrap_or(0);
    let words = sentence.split(' ').filter(|word| !word.is_empty()).map(id);
    [1].into_iter().chain(words).chain([2]).collect()
}

fn problem(bytes: Vec<u8>) -> Problem {
    match kenlm::from_bytes(bytes).map(|_| ()) {
        Err(Error::Kenlm { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn scores_are_kenlms_in_every_structure() {
    let stored = NAMES.map(|(name, structure)| (name, structure, bytes(name)));
    for (name, structure, bytes) in stored.into_iter().chain([("probing", Structure::Probing, written())]) {
        let (model, tokenizer): (Kenlm, _) = kenlm::from_bytes(bytes).unwrap();
        assert_eq!((model.structure(), model.notices().len()), (structure, 0), "{name}");
        for Sentence { sentence, words } in sentences(name) {
            let ids = ids(&tokenizer, &sentence);
            let log_probs = model.log_probs(&ids, 1).unwrap();
            let matched = model.matched_orders(&ids, 1).unwrap().unwrap();
            assert_eq!(
                (ids.len(), matched.len(), log_probs.len()),
                (words.len() + 1, words.len(), words.len())
            );
            let query = model.query();
            // Word by word, and all at once.
            let (mut state, mut all, mut at_once) = (query.begun(), query.begun(), Vec::new());
            query.each(&mut all, &ids[1..], |log10, order| at_once.push((f64::from(log10), order)));
            for (i, (log10, order, _)) in words.iter().enumerate() {
                let mut scored = (0.0, 0);
                query.each(&mut state, &[ids[i + 1]], |log10, order| scored = (f64::from(log10), order));
                assert_eq!(scored, (*log10, *order), "{name}: {sentence}: word {i}");
                assert!(state.words().len() < model.counts().len());
            }
            assert!(at_once.iter().copied().eq(words.iter().map(|&(log10, order, _)| (log10, order))));
            assert_eq!(all.words(), state.words(), "{name}: {sentence}");
            for (i, (log10, order, unknown)) in words.into_iter().enumerate() {
                let difference = (log_probs[i] / std::f64::consts::LN_10 - log10).abs();
                assert!(difference < 1e-6, "{name}: {sentence}: word {i}: {difference}");
                assert_eq!((matched[i], ids[i + 1] == 0), (order, unknown), "{name}: {sentence}: word {i}");
                // Read in parts, and as a distribution.
                let part = model.log_probs(&ids[..i + 2], i + 1).unwrap();
                let next = model.next_log_probs(&ids[..=i]).unwrap()[ids[i + 1] as usize];
                assert_eq!((part, next), (vec![log_probs[i]], log_probs[i]), "{name}: {sentence}: word {i}");
            }
        }
    }
}

/// The n-grams of the ARPA file are in another order, so some of one bucket have changed places.
#[test]
fn an_arpa_file_becomes_the_tables_that_build_binary_makes_of_it() {
    let sorted = |bytes: &[u8]| {
        let mut words: Vec<[u8; 4]> = bytes.as_chunks().0.to_vec();
        words.sort_unstable();
        words
    };
    let (ours, theirs) = (written(), bytes("probing"));
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(sorted(&ours), sorted(&theirs));
}

/// A file that is not quantised has the probabilities and the n-grams of its ARPA file.
#[test]
fn a_binary_is_its_arpa_file() {
    for (name, source) in [("probing", "words"), ("rest", "words"), ("trie", "words"), ("array", "digits")] {
        let (model, tokenizer) = kenlm::open(fixture(&format!("{name}.binary"))).unwrap();
        let (expected, words) = arpa::open(fixture(&format!("{source}.arpa"))).unwrap();
        for Sentence { sentence, .. } in sentences(name) {
            let (ids, its) = (ids(&tokenizer, &sentence), ids(&words, &sentence));
            let log_probs = model.log_probs(&ids, 1).unwrap();
            for (ours, theirs) in log_probs.iter().zip(expected.log_probs(&its, 1).unwrap()) {
                assert!((ours - theirs).abs() < 1e-6, "{name}: {sentence}: {ours} {theirs}");
            }
            let orders = model.matched_orders(&ids, 1).unwrap().unwrap();
            // build_binary has added this n-gram, with which one of the ARPA file ends.
            let mut expected = expected.matched_orders(&its, 1).unwrap().unwrap();
            if sentence == "naïve owl sat" {
                expected[2] = 3;
            }
            assert_eq!(orders, expected, "{name}: {sentence}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes("probing");
        bytes[at] = byte;
        problem(bytes)
    };
    // The flag, as build_binary -v leaves it, is at 100; then the words are missing, too.
    assert_eq!(changed(100, 0), Problem::NoWords);
    assert_eq!(changed(49, b'6'), Problem::Version("6".into()));
    assert_eq!(changed(60, 1), Problem::Machine);
    assert_eq!(changed(88, 1), Problem::Order(1));
    assert_eq!(changed(88, 17), Problem::Order(17));
    assert_eq!(changed(96, 6), Problem::Structure(6));
    let version = |part| Problem::PartVersion { part, found: 1, expected: 0 };
    assert_eq!(changed(104, 1), version("probing hash tables"));
    assert!(matches!(changed(115, 0xFF), Problem::TooShort { .. }));
    let incomplete = b"mmap lm http://kheafield.com/code incomplete\n".to_vec();
    assert_eq!(problem(incomplete), Problem::Unfinished);
    let mut renamed = bytes("trie");
    let end = renamed.len();
    renamed[end - 2] ^= 1;
    assert!(matches!(problem(renamed), Problem::WordHash(_)));
    assert_eq!(problem(b"something else".to_vec()), Problem::Magic);
}

/// Every truncation is refused; 2,000 changed bytes give an error or a model that can be used.
#[test]
fn damage_gives_an_error_or_a_model() {
    for (name, _) in NAMES {
        let original = bytes(name);
        for len in 0..original.len() {
            assert!(kenlm::from_bytes(original[..len].to_vec()).is_err(), "{name} cut to {len}");
        }
        assert!(kenlm::from_bytes([&original[..], b"\0"].concat()).is_err(), "{name} with a byte more");
        let (mut state, mut models) = (5_u64, 0);
        for _ in 0..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (at, byte) = ((state >> 33) as usize % original.len(), (state >> 24) as u8);
            let mut changed = original.clone();
            changed[at] = byte;
            targets::kenlm(&changed);
            models += usize::from(kenlm::from_bytes(changed).is_ok());
        }
        assert!((100..1900).contains(&models), "{name}: {models}");
    }
}
