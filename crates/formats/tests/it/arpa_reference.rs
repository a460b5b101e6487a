//! Comparison with ARPA files of KenLM's lmplz: they are read, and the same models estimated from
//! the same texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use surprisal_formats::arpa;
use surprisal_model::LanguageModel;
use surprisal_model::ngram::{Compat, NgramConfig, Smoothing, estimate};
use surprisal_text::{TextMode, Tokenizer, TokenizerKind};

/// The folder of the reference files, if present.
fn references() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/kenlm");
    if !path.is_dir() {
        eprintln!("SKIPPED: the reference ARPA files are not beside the project");
        return None;
    }
    Some(path)
}

fn arpa_files(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|ext| ext == "arpa")).collect();
    paths.sort();
    assert!(paths.len() >= 7, "{paths:?}");
    paths
}

/// (log10 q, log10 back-off weight) by n-gram.
fn grams(text: &str) -> BTreeMap<String, (f64, Option<f64>)> {
    let columns =
        text.lines().map(|line| line.split('\t').collect::<Vec<_>>()).filter(|columns| columns.len() > 1);
    let number = |text: &str| text.parse::<f64>().unwrap();
    columns.map(|c| (c[1].to_owned(), (number(c[0]), c.get(2).map(|weight| number(weight))))).collect()
}

#[test]
fn every_reference_is_read_and_written_with_the_same_numbers() {
    let Some(folder) = references() else { return };
    let out = tempfile::tempdir().unwrap();
    for path in arpa_files(&folder) {
        let (model, tokenizer) = arpa::open(&path).unwrap();
        assert!(model.report().notices.is_empty(), "{:?}", model.report().notices);
        let total: f64 = model.next_log_probs(&[1]).unwrap().iter().map(|log| log.exp()).sum();
        assert!((total - 1.0).abs() < 1e-5, "{path:?}: {total}");
        let written = out.path().join("a.arpa");
        arpa::write(&written, &model.trie().to_estimate().unwrap(), &tokenizer).unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(grams(&read(&written)), grams(&read(&path)), "{path:?}");
        let again = out.path().join("b.arpa");
        let (model, tokenizer) = arpa::open(&written).unwrap();
        arpa::write(&again, &model.trie().to_estimate().unwrap(), &tokenizer).unwrap();
        assert_eq!(read(&again), read(&written));
    }
}

/// A text as lmplz reads it: words numbered by first appearance, every line a sentence.
fn lines(text: &str) -> (Vec<u32>, Tokenizer) {
    let separates = |c: char| matches!(c, '\0' | '\t' | '\n' | '\r' | ' ');
    let mut words = vec!["<unk>", "<s>", "</s>"];
    let mut ids = Vec::new();
    for line in text.lines() {
        ids.push(1);
        for word in line.split(separates).filter(|word| !word.is_empty()) {
            let known = words.iter().position(|&known| known == word);
            let id = known.unwrap_or_else(|| {
                words.push(word);
                words.len() - 1
            });
            ids.push(id as u32);
        }
        ids.push(2);
    }
    let tokenizer = Tokenizer::from_words(TokenizerKind::Word, TextMode::Line, words).unwrap();
    (ids, tokenizer)
}

#[test]
fn estimates_are_lmplz_s_gram_by_gram() {
    let Some(folder) = references() else { return };
    let out = tempfile::tempdir().unwrap();
    for path in arpa_files(&folder) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let mut parts = name.split('.');
        let (corpus, order) = (parts.next().unwrap(), parts.next().unwrap().parse().unwrap());
        let prune: Vec<u32> = parts
            .next()
            .map_or(Vec::new(), |prune| prune.split('_').skip(1).map(|t| t.parse().unwrap()).collect());
        let (ids, tokenizer) = lines(&std::fs::read_to_string(folder.join(format!("{corpus}.txt"))).unwrap());
        let config = NgramConfig {
            order,
            smoothing: Smoothing::ModifiedKneserNey,
            compat: Some(Compat::Kenlm),
            prune,
            bos: Some(1),
            unk: Some(0),
            ..NgramConfig::default()
        };
        let (estimate, report) = estimate(&ids, tokenizer.vocab_size(), &config).unwrap();
        let written = out.path().join("a.arpa");
        arpa::write(&written, &estimate, &tokenizer).unwrap();
        let ours = grams(&std::fs::read_to_string(&written).unwrap());
        let theirs = grams(&std::fs::read_to_string(&path).unwrap());
        let keys = |grams: &BTreeMap<String, _>| grams.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&ours), keys(&theirs), "{name}");
        let (mut worst, mut at) = (0.0_f64, String::new());
        for (gram, (log, weight)) in &ours {
            let (their_log, their_weight) = theirs[gram];
            assert_eq!(weight.is_some(), their_weight.is_some(), "{name}: {gram}");
            for (ours, theirs) in [(*log, their_log), (weight.unwrap_or(0.0), their_weight.unwrap_or(0.0))] {
                if (ours - theirs).abs() > worst {
                    (worst, at) = ((ours - theirs).abs(), format!("{gram}: {ours} against {theirs}"));
                }
            }
        }
        eprintln!("{name}: {} grams, at most {worst:.1e} apart ({at})", ours.len());
        assert!(worst <= 1e-5, "{name}: {at} ({report:?})");
    }
}
