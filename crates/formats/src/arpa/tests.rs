//! Written files are read back, files of other programs are read, and broken files are refused with
//! the line.

use proptest::prelude::*;
use surprisal_model::LanguageModel;
use surprisal_model::ngram::{Compat, Estimate, NgramConfig, Report, Smoothing, estimate};

use super::*;
use crate::ngram_list::SPECIALS;

const SMALL: &str = "\\data\\\nngram 1=4\nngram 2=3\n\n\\1-grams:\n-1\t<unk>\t0\n0\t<s>\t-0.25\n-0.5\t</s>\t0\n-0.25\ta\t-0.125\n\n\
                     \\2-grams:\n-0.5\t<s> a\n-0.75\ta </s>\n-0.125\ta a\n\n\\end\\\n";

/// Reads and writes again.
fn again(arpa: &str) -> String {
    let (model, tokenizer) = read(arpa.as_bytes()).unwrap();
    text(&model.trie().to_estimate().unwrap(), &tokenizer)
}

fn text(estimate: &Estimate, tokenizer: &Tokenizer) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arpa");
    write(&path, estimate, tokenizer).unwrap();
    std::fs::read_to_string(path).unwrap()
}

fn log10(arpa: &str, context: &str, word: &str) -> f64 {
    let (model, tokenizer) = read(arpa.as_bytes()).unwrap();
    let mut ids = vec![1; usize::from(context.starts_with("<s>"))];
    ids.extend(tokenizer.encode(context.trim_start_matches("<s>")).unwrap());
    ids.extend(match word {
        "</s>" => vec![2],
        word => tokenizer.encode(word).unwrap(),
    });
    model.log_probs(&ids, ids.len() - 1).unwrap()[0] / std::f64::consts::LN_10
}

#[test]
fn a_small_file_answers_by_backing_off() {
    for (context, word, expected) in [
        ("", "a", -0.25),
        ("<s>", "a", -0.5),
        ("<s> a", "a", -0.125),
        ("<s>", "</s>", -0.75),
        ("a", "b", -1.125),
        ("b", "a", -0.25),
    ] {
        let found = log10(SMALL, context, word);
        assert!((found - expected).abs() < 1e-7, "{context} {word}: {found}");
    }
    assert_eq!(again(SMALL), SMALL);
}

#[test]
fn what_others_write_is_read() {
    let expected = again(SMALL);
    let crlf = SMALL.replace('\n', "\r\n");
    let preamble = format!("made by hand\n# ngram 1=7\n\n{SMALL}\nand more\n");
    let spaces = SMALL.replace('\t', "  ").replace("ngram 1=4", "ngram  1 = 4");
    let upper = SMALL.replace("<unk>", "<UNK>");
    let blank = SMALL.replace("-0.25\ta", "\n \t\n-0.25\ta");
    let no_weights = SMALL.replace("\t0\n", "\n");
    let zero_at_top = SMALL.replace("-0.75\ta </s>", "-0.75\ta </s>\t0");
    let shuffled = SMALL.replace("-1\t<unk>\t0\n", "").replace("a\t-0.125\n", "a\t-0.125\n-1\t<unk>\t0\n");
    let unsorted = SMALL.replace("-0.5\t<s> a\n", "").replace("a a\n", "a a\n-0.5\t<s> a\n");
    let no_newline = SMALL.trim_end().to_owned();
    let above_zero = SMALL.replace("0\t<s>", "0.0000001\t<s>");
    for other in [
        crlf,
        preamble,
        spaces,
        upper,
        blank,
        no_weights,
        zero_at_top,
        shuffled,
        unsorted,
        no_newline,
        above_zero,
    ] {
        assert_eq!(again(&other), expected, "{other}");
    }
    // SRILM's <s> has probability zero; a vertical tab is part of a word.
    let vertical =
        SMALL.replace("0\t<s>", "-99\t<s>").replace("\ta\t", "\ta\u{b}b\t").replace("a </s>", "a\u{b}b </s>");
    let vertical = vertical.replace("<s> a", "<s> a\u{b}b").replace("a a\n", "a\u{b}b a\u{b}b\n");
    assert_eq!(
        again(&vertical),
        expected
            .replace('a', "a\u{b}b")
            .replace("da\u{b}bta\u{b}b", "data")
            .replace("gra\u{b}bms", "grams")
            .replace("ngra\u{b}bm", "ngram")
    );
}

#[test]
fn what_is_missing_is_added() {
    let no_unk = SMALL.replace("-1\t<unk>\t0\n", "").replace("ngram 1=4", "ngram 1=3");
    let (model, _) = read(no_unk.as_bytes()).unwrap();
    assert!(model.report().notices[0].contains("no <unk>"), "{:?}", model.report());
    assert!((log10(&no_unk, "", "b") + 100.0).abs() < 1e-9);
    assert!(again(&no_unk).contains("-100\t<unk>\t0\n"));

    // The file has `a b a`, but neither `a b` nor `b a`.
    let pruned = "\\data\\\nngram 1=5\nngram 2=1\nngram 3=1\n\\1-grams:\n-1 <unk>\n0 <s> -0.25\n-0.5 </s>\n-0.25 a -0.125\n\
                  -0.5 b -0.0625\n\\2-grams:\n-0.5 <s> a -0.5\n\\3-grams:\n-0.375 a b a\n\\end\\\n";
    let (model, _) = read(pruned.as_bytes()).unwrap();
    assert!(model.report().notices[0].contains("1 missing context"), "{:?}", model.report());
    for (context, word, expected) in [
        ("a b", "a", -0.375),
        ("a", "b", -0.625),
        ("a b", "b", -0.5625),
        ("<s> a", "b", -1.125),
        ("b", "a", -0.3125),
    ] {
        let found = log10(pruned, context, word);
        assert!((found - expected).abs() < 1e-7, "{context} {word}: {found}");
    }
    assert!(again(pruned).contains("-0.625\ta b\t0\n"));
    assert_eq!(again(&again(pruned)), again(pruned));
}

#[test]
fn broken_files_are_refused_with_their_line() {
    let long: String = (1..=17).map(|k| format!("ngram {k}=0\n")).collect();
    let cases: Vec<(String, u64, &str)> = vec![
        (String::new(), 0, "no \\data\\"),
        ("some text\nand more\n".into(), 2, "no \\data\\"),
        ("\\data\\\n".into(), 1, "ends here"),
        ("\\data\\\n\\1-grams:\n\\end\\\n".into(), 2, "no order"),
        (SMALL.replace("ngram 1=4", "ngram 1=x"), 2, "`ngram 1=`"),
        (SMALL.replace("ngram 1=4", "ngram 1=-4"), 2, "`ngram 1=`"),
        (SMALL.replace("ngram 1=4\n", ""), 2, "`ngram 1=`"),
        (SMALL.replace("ngram 2=3", "ngram 2=3\nngram 2=3"), 4, "`ngram 3=`"),
        (SMALL.replace("ngram 2=3\n", "ngram 2=3\nhello\n"), 4, "`ngram 3=`"),
        (format!("\\data\\\n{long}"), 18, "above 16"),
        (SMALL.replace("ngram 1=4", "ngram 1=5"), 5, "says 5 1-grams, but there are 4"),
        (SMALL.replace("ngram 1=4", "ngram 1=18446744073709551615"), 5, "header says"),
        (SMALL.replace("ngram 2=3", "ngram 2=2"), 11, "says 2 2-grams, but there are 3"),
        (SMALL.replace("\\1-grams:", "\\2-grams:"), 5, "\\1-grams: is expected"),
        (SMALL.replace("\\2-grams:", "\\3-grams:"), 11, "\\2-grams: is expected"),
        (SMALL.replace("\\2-grams:\n", ""), 15, "\\2-grams: is expected"),
        (SMALL.replace("ngram 2=3\n", ""), 10, "\\end\\ is expected"),
        (SMALL.replace("\\end\\\n", ""), 15, "ends here"),
        (SMALL.replace("\\end\\", "\\3-grams:"), 16, "\\end\\ is expected"),
        (SMALL[..SMALL.len() - 12].into(), 14, "ends here"),
        (SMALL.replace("-0.25\ta", "-O.25\ta"), 9, "is not a number"),
        (SMALL.replace("-0.25\ta", "nan\ta"), 9, "is not a number"),
        (SMALL.replace("-0.25\ta", "inf\ta"), 9, "cannot be above 0, but is inf"),
        (SMALL.replace("-0.25\ta", "0.25\ta"), 9, "cannot be above 0"),
        (SMALL.replace("a\t-0.125", "a\tinf"), 9, "10^inf is out of range"),
        (SMALL.replace("a\t-0.125", "a\t-300"), 9, "out of range"),
        (SMALL.replace("a\t-0.125", "a\t-0.125\t7"), 9, "more fields than a logarithm"),
        (SMALL.replace("-0.25\ta\t-0.125", "-0.25"), 9, "1 word are expected"),
        (
            SMALL.replace("a\t-0.125\n", "a\t-0.125\n-1\ta\t0\n").replace("1=4", "1=5"),
            10,
            "`a` is a duplicate",
        ),
        (SMALL.replace("<unk>", "<UNK>").replace("\ta\t", "\t<UNK>\t"), 9, "`<UNK>` is a duplicate"),
        (SMALL.replace("-0.5\t</s>\t0\n", "").replace("1=4", "1=3"), 6, "no </s>"),
        (format!("# tokenizer = bpe, unit = line\n\n{SMALL}"), 1, "byte pairs"),
        (SMALL.replace("<s> a\n", "<s> b\n"), 12, "`b` is not among"),
        (SMALL.replace("<s> a\n", "<s>\n"), 12, "2 words are expected"),
        (SMALL.replace("<s> a\n", "<s> a a\n"), 12, "more fields than a logarithm"),
        (SMALL.replace("<s> a\n", "<s> a\t-0.5\n"), 12, "highest order"),
        (SMALL.replace("a a\n", "<s> a\n"), 14, "`<s> a` is a duplicate"),
        (SMALL.replace("-0.125\ta a\n", "\n\n-0.125\ta </s>\n"), 16, "`a </s>` is a duplicate"),
    ];
    for (arpa, number, says) in cases {
        match read(arpa.as_bytes()) {
            Err(Error::Line { line, problem, hint, .. }) => {
                assert!(
                    problem.contains(says) && !hint.is_empty(),
                    "{problem:?} instead of {says:?} in\n{arpa}"
                );
                assert_eq!(line, number, "{problem}\n{arpa}");
            }
            other => panic!("{says}: {other:?} of\n{arpa}"),
        }
    }
    let mut latin = SMALL.replace("\ta", "\tQ").replace(" a", " Q").into_bytes();
    latin.iter_mut().filter(|byte| **byte == b'Q').for_each(|byte| *byte = 0xE9);
    let error = read(&latin).unwrap_err();
    assert!(
        error.to_string().contains("line 9") && error.hint().unwrap().contains("iconv -f LATIN1 -t UTF-8"),
        "{error}"
    );
}

#[test]
fn every_truncation_is_refused_and_no_flip_panics() {
    for len in 0..SMALL.len() - 1 {
        // Only the newline after \end\ may be missing.
        assert!(read(&SMALL.as_bytes()[..len]).is_err(), "{len}");
    }
    for bit in 0..SMALL.len() * 8 {
        let mut flipped = SMALL.as_bytes().to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok((model, _)) = read(&flipped) {
            model.log_probs(&[1, 3, 3, 0, 2], 0).unwrap();
        }
    }
}

#[test]
fn the_error_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.arpa");
    surprisal_store::atomic::write(&path, SMALL.replace("-0.25\ta", "?\ta").as_bytes()).unwrap();
    let error = open(&path).unwrap_err().to_string();
    assert!(error.contains("x.arpa`, line 9: `?`"), "{error}");
}

fn lines(seed: u32, lines: u32) -> Vec<u32> {
    let mut text = Vec::new();
    for line in 0..lines {
        text.push(1);
        text.extend((0..(line * 7 + seed) % 9).map(|i| 3 + (i * i * seed + line / 3) % 9));
        text.push(2);
    }
    text
}

fn words(count: usize) -> Tokenizer {
    let words: Vec<String> = (3..count).map(|i| format!("w{i}")).collect();
    let all = ["<unk>", "<s>", "</s>"].into_iter().chain(words.iter().map(String::as_str));
    Tokenizer::from_words(surprisal_text::TokenizerKind::Word, surprisal_text::TextMode::Line, all).unwrap()
}

#[test]
fn every_smoother_that_backs_off_comes_back_the_same() {
    let tokenizer = words(14);
    for smoothing in Smoothing::ALL {
        for order in [1, 2, 3, 5, 16] {
            let config = NgramConfig {
                bos: Some(1),
                unk: Some(0),
                heldout: 0.3,
                compat: Some(Compat::Kenlm),
                ..NgramConfig::new(order, smoothing)
            };
            let (estimate, report) = estimate(&lines(5, 60), 14, &config).unwrap();
            let refused = smoothing == Smoothing::AddK && order > 1
                || smoothing == Smoothing::StupidBackoff && order > 2;
            if refused {
                let folder = tempfile::tempdir().unwrap();
                let error = write(folder.path().join("a.arpa"), &estimate, &tokenizer).unwrap_err();
                assert!(matches!(error, Error::Unsupported { .. }) && error.hint().is_some(), "{error}");
                continue;
            }
            let written = text(&estimate, &tokenizer);
            assert_eq!(again(&written), written, "{smoothing:?} {order}");
            let (back, _) = read(written.as_bytes()).unwrap();
            let model = NgramModel::new(config, report, estimate.into_trie().unwrap());
            assert_eq!(text(&model.trie().to_estimate().unwrap(), &tokenizer), written);
            assert_eq!(back.is_distribution(), smoothing.is_distribution(), "{smoothing:?} {order}");
            let test = lines(4, 30);
            for (p, q) in
                model.log_probs(&test, 0).unwrap().into_iter().zip(back.log_probs(&test, 0).unwrap())
            {
                assert!(p == q || (p - q).abs() < 1e-5, "{smoothing:?} {order}: {p} {q}");
            }
        }
    }
}

#[test]
fn sections_of_many_pieces_are_sorted_and_counted_right() {
    // Sections of over a megabyte, not sorted, with a wrong line at the end.
    let mut text: Vec<u32> = vec![1];
    text.extend(
        (0..200_000_u64).map(|i| 3 + (i * i % 4_294_967_291 * 2_654_435_761 % 4_294_967_291 % 400) as u32),
    );
    let tokenizer = words(403);
    let config = NgramConfig { bos: Some(1), unk: Some(0), ..NgramConfig::new(3, Smoothing::WittenBell) };
    let (estimate, _) = estimate(&text, 403, &config).unwrap();
    let written = self::text(&estimate, &tokenizer);
    assert!(again(&written) == written);
    let (head, section) = written.split_once("\\3-grams:\n").unwrap();
    let mut grams: Vec<&str> = section.trim_end_matches("\n\n\\end\\\n").lines().collect();
    assert!(section.len() > 2 << 20);
    grams.reverse();
    let reversed = format!("{head}\\3-grams:\n{}\n\\end\\\n", grams.join("\n"));
    assert!(again(&reversed) == written);
    let last = reversed.lines().count() as u64 - 1;
    let at = grams.last().unwrap();
    let wrong = reversed.replace(&format!("{at}\n"), "-1 w5 w6 nothing\n");
    let Err(Error::Line { line, .. }) = read(wrong.as_bytes()) else { panic!("it was read") };
    assert_eq!(line, last);
    let double = reversed.replace(&format!("{at}\n"), &format!("{}\n", grams[0]));
    let Err(Error::Line { line, .. }) = read(double.as_bytes()) else { panic!("it was read") };
    assert_eq!(line, last);
}

#[test]
fn tokens_that_are_no_words_are_escaped() {
    let tokenizer = Tokenizer::from_json(&byte_tokenizer()).unwrap();
    let text: Vec<u32> = b"a b\\\n\xFFa b".iter().map(|&byte| u32::from(byte)).collect();
    let config = NgramConfig::new(2, Smoothing::WittenBell);
    let (estimate, _) = estimate(&text, 256, &config).unwrap();
    let written = self::text(&estimate, &tokenizer);
    for gram in ["\t\\xFF a\n", "\ta \\x20\n", "\tb \\\\\n", "\t\\\\ \\x0A\n"] {
        assert!(written.contains(gram), "{gram:?} in {written}");
    }
    let (model, back) = read(written.as_bytes()).unwrap();
    assert_eq!((back.kind(), back.mode()), (tokenizer.kind(), tokenizer.mode()));
    let own = NgramModel::new(config, Report::default(), estimate.into_trie().unwrap());
    let (read, own) = (model.log_probs(&text, 0).unwrap(), own.log_probs(&text, 0).unwrap());
    assert!(read.iter().zip(&own).all(|(a, b)| (a - b).abs() < 1e-6), "{read:?} {own:?}");
}

#[test]
fn zero_is_minus_infinity_and_srilm_s_99() {
    for zero in ["-inf", "-INF", "-Infinity", "-99", "-99.00", "-1e99"] {
        let zeros = SMALL.replace("-0.25\ta\t-0.125", &format!("{zero}\ta\t{zero}"));
        assert_eq!(log10(&zeros, "", "a"), f64::NEG_INFINITY);
        assert_eq!(log10(&zeros, "a", "b"), f64::NEG_INFINITY);
        assert!((log10(&zeros, "a", "a") + 0.125).abs() < 1e-7);
        assert!(again(&zeros).contains("-inf\ta\t-inf\n"), "{}", again(&zeros));
        assert_eq!(again(&again(&zeros)), again(&zeros));
        let (model, _) = read(zeros.as_bytes()).unwrap();
        assert!(model.report().notices[0].contains("zero"), "{:?}", model.report());
    }
    // <s> is never predicted.
    let (model, _) = read(SMALL.replace("0\t<s>", "-99\t<s>").as_bytes()).unwrap();
    assert!(model.report().notices.is_empty(), "{:?}", model.report());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_the_words_a_file_is_read_as_it_was_written(
        words in proptest::collection::btree_set(
            r"<UNK>|<S>|</S>|-|\\data\\|\\end\\|\\[1-3]-grams:|ngram|ngram 1=2|#|-?[0-9]{1,3}(\.5)?|-inf|\\x20|[\x01-\x08\x0B\x0C\x1F\x7F\u{85}\u{A0}\u{2028}\u{3000}]{1,3}|\\\PC{0,3}|x{200}",
            3..12,
        ),
        seed in 0_u32..100,
    ) {
        // Words cannot contain separators.
        let words = words.into_iter().chain(["w".to_owned()]);
        let words: Vec<String> = words.filter(|word| !word.contains([' ', '\r', '\t'])).collect();
        let all = SPECIALS.into_iter().chain(words.iter().map(String::as_str));
        let tokenizer =
            Tokenizer::from_words(surprisal_text::TokenizerKind::Word, surprisal_text::TextMode::Line, all).unwrap();
        let len = tokenizer.vocab_size() as u32;
        let ids: Vec<u32> = lines(seed, 30).into_iter().map(|id| if id < 3 { id } else { 3 + id % (len - 3) }).collect();
        let config = NgramConfig { bos: Some(1), unk: Some(0), ..NgramConfig::new(3, Smoothing::WittenBell) };
        let (estimate, report) = estimate(&ids, len as usize, &config).unwrap();
        let written = text(&estimate, &tokenizer);
        prop_assert_eq!(again(&written), written.clone());
        let (model, back) = read(written.as_bytes()).unwrap();
        prop_assert_eq!(back.words().unwrap().collect::<Vec<_>>(), tokenizer.words().unwrap().collect::<Vec<_>>());
        let own = NgramModel::new(config, report, estimate.into_trie().unwrap());
        for (p, q) in model.log_probs(&ids, 0).unwrap().into_iter().zip(own.log_probs(&ids, 0).unwrap()) {
            prop_assert!(p == q || (p - q).abs() <= 1e-6 * q.abs().max(1.0), "{} {}", p, q);
        }
    }
}

/// The file of a byte tokenizer in stream mode.
fn byte_tokenizer() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    surprisal_store::atomic::write(&path, b"some text").unwrap();
    let options = surprisal_text::DataOptions {
        train: vec![path],
        val_fraction: 0.2,
        ..surprisal_text::DataOptions::default()
    };
    let corpus = surprisal_text::Corpus::load(&options).unwrap();
    corpus.train_tokenizer(surprisal_text::TokenizerKind::Byte).unwrap().to_json().unwrap()
}
