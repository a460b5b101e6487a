//! Counts are read back from both formats, merged shards equal the text, and broken files are
//! refused.

use serde_json::{Value, json};
use surprisal_model::ngram::{NgramConfig, NgramModel, Smoothing, from_counts};
use surprisal_text::{Corpus, DataOptions, TextMode, TokenizerKind};

use super::*;
use surprisal_store::atomic;

const LINES: &str = "the cat sat\n\nthe cat ate the mat\na cat\nthe mat sat on the cat\non a mat\n";

fn counted(text: &str, kind: TokenizerKind, unit: TextMode, order: usize) -> (Counts, Tokenizer) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    atomic::write(&path, text.as_bytes()).unwrap();
    // All of it is training text.
    let options =
        DataOptions { train: vec![path.clone()], val: vec![path], mode: unit, ..DataOptions::default() };
    let corpus = Corpus::load(&options).unwrap();
    let tokenizer = corpus.train_tokenizer(kind).unwrap();
    let ids = corpus.encode_train(&tokenizer).unwrap().ids;
    (Counts::new(&ids, tokenizer.vocab_size(), order, tokenizer.bos()).unwrap(), tokenizer)
}

fn every_kind(order: usize) -> Vec<(Counts, Tokenizer)> {
    let mut all = Vec::new();
    for unit in [TextMode::Stream, TextMode::Line] {
        for kind in [
            TokenizerKind::Byte,
            TokenizerKind::Char,
            TokenizerKind::Word,
            TokenizerKind::Bpe { vocab_size: 260 },
        ] {
            all.push(counted(&format!("{LINES}é \\x0A"), kind, unit, order));
        }
    }
    all
}

fn tsv(counts: &Counts, tokenizer: &Tokenizer) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counts.tsv");
    write_tsv(&path, counts, tokenizer, None).unwrap();
    std::fs::read_to_string(path).unwrap()
}

/// A change of a file's header and sections, with valid checksums.
type Change = dyn Fn(&mut Value, &mut Vec<Bytes>);

#[test]
fn counts_come_back_from_both_kinds_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.counts");
    for order in [1, 2, 4, 7] {
        for (counts, tokenizer) in every_kind(order) {
            write(&path, &counts, &tokenizer, None).unwrap();
            let bytes = to_bytes(&counts, &tokenizer).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            let (back, words, _) = open(&path).unwrap();
            assert_eq!(back, counts);
            assert_eq!(words.to_json().unwrap(), tokenizer.to_json().unwrap());
            let text = tsv(&counts, &tokenizer);
            let (back, _) = read_tsv(text.as_bytes(), Some(&tokenizer)).unwrap();
            assert_eq!(back, counts, "{} {:?}\n{text}", tokenizer.kind(), tokenizer.mode());
            assert_eq!(tsv(&back, &tokenizer), text);
        }
    }
}

#[test]
fn lines_of_words_need_no_tokenizer() {
    let (counts, tokenizer) = counted(LINES, TokenizerKind::Word, TextMode::Line, 3);
    let text = tsv(&counts, &tokenizer);
    assert!(text.starts_with("<unk>\t0\n<s>\t6\n</s>\t6\nthe\t5\ncat\t4\nsat\t2\n"), "{text}");
    assert!(text.contains("\nthe cat\t3\n") && text.contains("\n<s> the cat\t2\n"), "{text}");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.reverse();
    // Words are in the order of their lines.
    let (first, rest) = lines.split_at(lines.len() - counts.vocab_size as usize);
    let rest: Vec<&str> = rest.iter().rev().copied().collect();
    let shuffled = [first, &rest].concat().join("\r\n\r\n").replace("<unk>\t0", "");
    for text in [text.as_str(), shuffled.as_str()] {
        let (back, words) = read_tsv(text.as_bytes(), None).unwrap();
        assert_eq!(back, counts);
        assert_eq!(words.to_json().unwrap(), tokenizer.to_json().unwrap());
    }
}

#[test]
fn broken_lists_are_refused_with_their_line() {
    let small = "a\t3\nb\t2\na b\t2\nb a\t1\na b a\t1\n";
    for (from, to, number, says) in [
        ("a b a\t1", "a b a 1", 5, "no tab"),
        ("a\t3", "a\tmany", 1, "`many` is not a count"),
        ("a\t3", "a\t-3", 1, "`-3` is not a count"),
        ("a\t3", "a\t4294967296", 1, "not a count"),
        ("a\t3", "\t3", 1, "from 1 to 16 words, not 0"),
        ("b a\t1", "b a\t0", 4, "count of 0"),
        ("b a\t1", "b c\t1", 4, "`c` has no line"),
        ("b\t2\n", "\n", 3, "`b` has no line"),
        ("b\t2", "b\t2\r\nb\t3", 3, "duplicate"),
        ("b a\t1", "b a\t1\na b\t1", 5, "duplicate"),
        ("b a\t1\n", "", 4, "its suffix"),
        ("a b\t2\n", "", 4, "its prefix"),
        ("a\t3", "a\t1", 1, "sum to 2"),
        ("a b\t2", "a b\t3", 1, ""),
        ("a b a\t1", "a b a\t3", 3, "sum to 3"),
    ] {
        let text = small.replacen(from, to, 1);
        match read_tsv(text.as_bytes(), None) {
            Err(Error::Line { line, problem, hint, .. }) => {
                assert!(problem.contains(says) && !hint.is_empty(), "{problem} for\n{text}");
                assert_eq!(line, number, "{problem} for\n{text}");
            }
            // Counts of 3 for `a` and for `a b` are possible.
            Ok(_) if says.is_empty() => {}
            other => panic!("{says}: {other:?} of\n{text}"),
        }
    }
    for nothing in ["", "\n\r\n"] {
        assert!(read_tsv(nothing.as_bytes(), None).is_err());
    }
    let long = format!("{}\t1\n", "a ".repeat(17));
    assert!(read_tsv(long.as_bytes(), None).unwrap_err().to_string().contains("17"));
    let (_, byte) = counted("ab", TokenizerKind::Byte, TextMode::Stream, 1);
    assert!(read_tsv(b"ab\t1\n", Some(&byte)).unwrap_err().to_string().contains("`ab`"));
    assert!(read_tsv(b"\xFF\t1\n", None).unwrap_err().hint().unwrap().contains("UTF-8"));
}

#[test]
fn every_truncation_and_five_thousand_flips_are_refused() {
    let (counts, tokenizer) = counted(LINES, TokenizerKind::Word, TextMode::Line, 3);
    let bytes = to_bytes(&counts, &tokenizer).unwrap();
    for len in 0..bytes.len() {
        assert!(from_bytes(bytes[..len].to_vec()).is_err(), "{len}");
    }
    let mut state = 7_u64;
    for _ in 0..5000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (state >> 20) as usize % (bytes.len() * 8);
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(from_bytes(flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn headers_and_sections_that_lie_are_refused() {
    let (counts, tokenizer) = counted(LINES, TokenizerKind::Word, TextMode::Line, 3);
    let bytes = to_bytes(&counts, &tokenizer).unwrap();
    let forged = |change: &dyn Fn(&mut Value, &mut Vec<Bytes>)| {
        let whole = |header: Value, sections| Ok((header, sections));
        let (mut header, mut sections) = container::read(&FORMAT, &bytes.clone().into(), whole).unwrap();
        change(&mut header, &mut sections);
        from_bytes(container::to_bytes(&FORMAT, &header, &sections).unwrap())
    };
    forged(&|_, _| ()).unwrap();
    let grams = |order: usize, grams: u64| {
        move |header: &mut Value, _: &mut Vec<Bytes>| header["orders"][order]["grams"] = json!(grams)
    };
    let max = u64::from(u32::MAX);
    for (order, count) in [(0, 5), (0, max), (1, 5), (1, max), (2, 5), (2, max), (2, max + 1)] {
        assert!(forged(&grams(order, count)).is_err(), "{order} {count}");
    }
    let lies: [(&str, &Change); 10] = [
        ("no counts", &|header, _| header["orders"][2] = json!({"grams": u32::MAX, "largest": 0})),
        ("wider counts", &|header, _| header["orders"][1]["largest"] = json!(u32::MAX)),
        ("all the words", &|header, _| header["vocab_size"] = json!(u32::MAX)),
        ("words and grams", &|header, _| {
            header["vocab_size"] = json!(u32::MAX);
            header["orders"][0]["grams"] = json!(u32::MAX);
        }),
        ("no orders", &|header, _| header["orders"] = json!([])),
        ("<s> outside", &|header, _| header["bos"] = json!(1000)),
        ("another <s>", &|header, _| header["bos"] = json!(2)),
        ("a beginning", &|header, _| header["beginning"] = json!([1])),
        ("no sections", &|_, sections| sections.clear()),
        ("a section less", &|_, sections| drop(sections.remove(0))),
    ];
    for (lie, change) in lies {
        assert!(forged(change).is_err(), "{lie}");
    }
    for fill in [0xFF_u8, 0xAA, 0] {
        for section in 0..9 {
            // It may be accepted, but must not panic.
            let _ = forged(&|_, sections| {
                sections[section] = vec![fill; sections[section].as_slice().len()].into();
            });
        }
    }
}

#[test]
fn shards_of_lines_give_the_same_bytes_as_the_whole() {
    let lines: Vec<&str> = LINES.split_inclusive('\n').collect();
    for kind in [TokenizerKind::Char, TokenizerKind::Word] {
        for order in [1, 3, 5] {
            let (whole, tokenizer) = counted(LINES, kind, TextMode::Line, order);
            for cuts in [&[3][..], &[1, 3], &[2, 3, 4, 5]] {
                let bounds: Vec<usize> = [&[0][..], cuts, &[lines.len()]].concat();
                let shards = bounds.windows(2).map(|cut| {
                    let (counts, tokenizer) =
                        counted(&lines[cut[0]..cut[1]].concat(), kind, TextMode::Line, order);
                    // As if from another process.
                    let (counts, tokenizer, _) = from_bytes(to_bytes(&counts, &tokenizer).unwrap()).unwrap();
                    (counts, tokenizer)
                });
                let (merged, words) = merge(shards.collect()).unwrap();
                assert_eq!(to_bytes(&merged, &words).unwrap(), to_bytes(&whole, &tokenizer).unwrap());
                let model = |counts: &Counts| {
                    let config = NgramConfig {
                        bos: Some(1),
                        unk: Some(0),
                        ..NgramConfig::new(order, Smoothing::ModifiedKneserNey)
                    };
                    let (estimate, report) = from_counts(counts.clone(), &config, None).unwrap();
                    NgramModel::new(config, report, estimate.into_trie().unwrap())
                };
                let bytes = |counts, tokenizer| crate::ngram::to_bytes(&model(counts), tokenizer).unwrap();
                assert_eq!(bytes(&merged, &words), bytes(&whole, &tokenizer));
            }
        }
    }
}

#[test]
fn what_does_not_belong_together_is_not_merged() {
    let word = || counted(LINES, TokenizerKind::Word, TextMode::Line, 3);
    for other in [
        counted(LINES, TokenizerKind::Word, TextMode::Line, 2),
        counted(LINES, TokenizerKind::Word, TextMode::Stream, 3),
        counted(LINES, TokenizerKind::Char, TextMode::Line, 3),
        counted(LINES, TokenizerKind::Byte, TextMode::Line, 3),
    ] {
        assert!(merge(vec![word(), other.clone()]).is_err());
        assert!(merge(vec![other, word()]).is_err());
    }
    assert!(merge(Vec::new()).is_err());
    let (counts, _) = word();
    let (_, tokenizer) = counted("a\n", TokenizerKind::Word, TextMode::Line, 2);
    assert!(to_bytes(&counts, &tokenizer).is_err());
}
