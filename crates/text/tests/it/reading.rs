//! Words and their ids against a plain implementation, for any number of threads.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use surprisal_text::{
    Corpus, DataOptions, EncodeOptions, Error, InputOptions, LastLine, LiteralSpecials, MinCount, NormalForm,
    TextMode, TokenText, Tokenizer, TokenizerKind, WordList, WordVocabulary, encode_files,
};
use tempfile::TempDir;

fn file(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    #[expect(clippy::disallowed_methods, reason = "a test's own input")]
    std::fs::write(&path, bytes).unwrap();
    path
}

/// NULs separate words, as in KenLM.
fn inputs() -> InputOptions {
    InputOptions { keep_nuls: true, ..InputOptions::default() }
}

fn corpus(files: &[PathBuf], mode: TextMode, reading: EncodeOptions) -> Corpus {
    let options = DataOptions {
        train: files.to_vec(),
        val: files.to_vec(),
        inputs: inputs(),
        mode,
        encode_options: reading,
        ..DataOptions::default()
    };
    Corpus::load(&options).unwrap()
}

/// The vocabulary and the ids of texts, by a plain implementation.
fn plainly(texts: &[&str], mode: TextMode, literal: LiteralSpecials) -> (Vec<String>, Vec<u32>) {
    let mut tokens: Vec<String> = vec!["<unk>".into()];
    if mode == TextMode::Line {
        tokens.extend(["<s>".into(), "</s>".into()]);
    }
    let specials = tokens.len();
    let mut known: BTreeMap<String, u32> = (0u32..).zip(&tokens).map(|(id, t)| (t.clone(), id)).collect();
    let mut ids = Vec::new();
    for line in texts.iter().flat_map(|text| text.split_inclusive('\n')) {
        let mut words: Vec<&str> =
            line.split(['\0', '\t', '\n', '\r', ' ']).filter(|word| !word.is_empty()).collect();
        if mode == TextMode::Line {
            ids.push(1);
            // Sentence marks are no words.
            words = words.strip_prefix(&["<s>"]).unwrap_or(&words).to_vec();
            words = words.strip_suffix(&["</s>"]).unwrap_or(&words).to_vec();
        } else if line.ends_with('\n') {
            words.push("\n");
        }
        for word in words {
            if tokens[..specials].iter().any(|special| special == word) {
                if literal == LiteralSpecials::Unk {
                    ids.push(0);
                }
                continue;
            }
            ids.push(*known.entry(word.to_owned()).or_insert_with(|| {
                tokens.push(word.to_owned());
                tokens.len() as u32 - 1
            }));
        }
        if mode == TextMode::Line {
            ids.push(2);
        }
    }
    (tokens, ids)
}

/// The same of the words that meet all conditions, and the minimum number of occurrences.
fn choose_plainly(
    (tokens, ids): &(Vec<String>, Vec<u32>),
    mode: TextMode,
    min_count: MinCount,
    size: Option<usize>,
    list: Option<&[&str]>,
) -> (Vec<String>, Vec<u32>, u64) {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for &id in ids {
        *counts.entry(id).or_default() += 1;
    }
    let special = if mode == TextMode::Line { 3 } else { 1 };
    let (fixed, words): (Vec<u32>, Vec<u32>) =
        (0..tokens.len() as u32).partition(|&id| id < special || tokens[id as usize] == "\n");
    let once = words.iter().filter(|id| counts[id] == 1).count();
    let scored = ids.iter().filter(|&&id| mode == TextMode::Stream || id != 1).count();
    let min_count = match min_count {
        MinCount::Fixed(count) => count,
        MinCount::Auto if once > 0 && (scored.div_ceil(1000)..scored.div_ceil(2)).contains(&once) => 2,
        MinCount::Auto => 1,
    };
    let listed = |id: u32| list.is_none_or(|list| list.contains(&tokens[id as usize].as_str()));
    let mut kept: Vec<u32> = words.into_iter().filter(|&id| counts[&id] >= min_count && listed(id)).collect();
    kept.sort_by_key(|id| Reverse(counts[id]));
    kept.truncate(size.map_or(usize::MAX, |size| size.saturating_sub(fixed.len())));
    kept.extend(fixed);
    kept.sort_unstable();
    let new = |id: &u32| kept.binary_search(id).map_or(0, |id| id as u32);
    let strings = kept.iter().map(|&id| tokens[id as usize].clone());
    (strings.collect(), ids.iter().map(new).collect(), min_count)
}

/// Deterministic words, frequent and rare, short and long, with every separator.
fn long_text(bytes: usize) -> String {
    let mut text = String::new();
    let mut state = 1u64;
    while text.len() < bytes {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let draw = (state >> 33) as u32;
        let rank = (1u32 << (draw % 18)) + (draw >> 8) % (1 << (draw % 18));
        match draw % 5 {
            0 => text.push_str(&format!("w{rank}")),
            1 => text.push_str(&format!("etwas_längeres_{rank}")),
            2 => text.push_str(&format!("{rank}")),
            3 => text.push_str(&format!("<{rank:o}>\u{B}é")),
            _ => text.push_str(if rank.is_multiple_of(4) { "<unk>" } else { "</s>" }),
        }
        text.push_str(
            [" ", "  ", "\n", "\t", " \r\n", "\0", "\n\n  ", " ", " ", " "][(draw >> 5) as usize % 10],
        );
    }
    text
}

#[test]
fn ids_are_by_first_appearance_for_any_number_of_threads() {
    let folder = TempDir::new().unwrap();
    let texts = [long_text(1 << 20), "the end, without a newline".to_owned(), long_text(1000)];
    let files: Vec<_> =
        texts.iter().enumerate().map(|(n, text)| file(&folder, &n.to_string(), text)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for mode in [TextMode::Stream, TextMode::Line] {
        for literal_specials in [LiteralSpecials::Unk, LiteralSpecials::Skip] {
            let (tokens, ids) = plainly(&texts, mode, literal_specials);
            assert!(tokens.len() > 5_000);
            for threads in [0, 1, 2, 3, 8] {
                let reading = EncodeOptions { threads, literal_specials, ..EncodeOptions::default() };
                let corpus = corpus(&files, mode, reading);
                let (tokenizer, text) = corpus.tokenize_train(TokenizerKind::Word).unwrap();
                assert!(text.ids == ids, "{mode:?} {threads} threads");
                assert_eq!(text.oov, ids.iter().filter(|&&id| id == 0).count() as u64);
                assert_eq!(tokenizer.vocab_size(), tokens.len());
                let lines = ids.iter().filter(|&&id| mode == TextMode::Line && id == 1).count();
                assert_eq!(text.scored(), (ids.len() - lines) as u64);
                let trained = corpus.train_tokenizer(TokenizerKind::Word).unwrap();
                assert!(trained.to_json().unwrap() == tokenizer.to_json().unwrap());
                let again = Tokenizer::from_json(&tokenizer.to_json().unwrap()).unwrap();
                assert!(corpus.encode_train(&again).unwrap() == text);
                let mut read = encode_files(&files, &again, &inputs(), reading).unwrap().tokens;
                // Only texts to be scored have the words behind <unk>.
                let unknown = read.unknown.take();
                assert_eq!(unknown.map_or(0, |unknown| unknown.values().sum()), text.oov);
                assert!(read == text);
                let nul = corpus.notices().iter().any(|notice| notice.contains("NUL"));
                let special = corpus.notices().iter().any(|notice| notice.contains("special tokens"));
                assert!(nul && special, "{:?}", corpus.notices());
            }
        }
    }
}

#[test]
fn every_kind_gives_the_same_for_any_number_of_threads() {
    let folder = TempDir::new().unwrap();
    let files = [file(&folder, "a", long_text(600_000)), file(&folder, "b", "日本")];
    for kind in [TokenizerKind::Byte, TokenizerKind::Char, TokenizerKind::Bpe { vocab_size: 300 }] {
        for mode in [TextMode::Stream, TextMode::Line] {
            let one = corpus(&files, mode, EncodeOptions::default());
            let tokenizer = one.train_tokenizer(kind).unwrap();
            let text: TokenText = one.encode_train(&tokenizer).unwrap();
            assert!(text.ids.len() > 100_000);
            let many = corpus(&files, mode, EncodeOptions { threads: 3, ..EncodeOptions::default() });
            let (its, its_text) = many.tokenize_train(kind).unwrap();
            assert!(its.to_json().unwrap() == tokenizer.to_json().unwrap() && its_text == text, "{kind}");
            assert_eq!(one.notices(), many.notices());
        }
    }
}

#[test]
fn names_of_special_tokens_are_unknown_skipped_or_refused() {
    let folder = TempDir::new().unwrap();
    let path = file(&folder, "a.txt", "a b\n<s> a <unk>\nb </s>\n<s>\n");
    let learn = |mode, literal_specials| {
        let reading = EncodeOptions { literal_specials, ..EncodeOptions::default() };
        corpus(std::slice::from_ref(&path), mode, reading).tokenize_train(TokenizerKind::Word)
    };
    let (_, text) = learn(TextMode::Line, LiteralSpecials::Unk).unwrap();
    assert_eq!(text.ids, [1, 3, 4, 2, 1, 3, 0, 2, 1, 4, 2, 1, 2]);
    assert_eq!((text.oov, text.scored()), (1, 9));
    let (_, text) = learn(TextMode::Line, LiteralSpecials::Skip).unwrap();
    assert_eq!(text.ids, [1, 3, 4, 2, 1, 3, 2, 1, 4, 2, 1, 2]);
    assert_eq!(text.oov, 0);
    // Only <unk> is special in a stream.
    let (_, text) = learn(TextMode::Stream, LiteralSpecials::Skip).unwrap();
    assert_eq!(text.ids, [1, 2, 3, 4, 1, 3, 2, 5, 3, 4, 3]);
    for (mode, at, name) in [(TextMode::Line, 2, "<s>"), (TextMode::Stream, 2, "<unk>")] {
        let error = learn(mode, LiteralSpecials::Error).unwrap_err();
        assert!(error.to_string().contains("a.txt"), "{error}");
        assert!(matches!(error, Error::LiteralSpecial { line, token, .. } if line == at && token == name));
    }
    let tokenizer = learn(TextMode::Line, LiteralSpecials::Skip).unwrap().0;
    let reading = EncodeOptions { literal_specials: LiteralSpecials::Error, ..EncodeOptions::default() };
    assert!(encode_files(&[path], &tokenizer, &inputs(), reading).is_err());
}

#[test]
fn the_first_special_name_is_refused_on_its_line_from_any_piece() {
    let folder = TempDir::new().unwrap();
    let mut text = "some plain words on a line\n".repeat(100_000);
    for line in [99_999, 70_000, 40_000] {
        text.insert_str(27 * line, "<unk> ");
    }
    let path = file(&folder, "a.txt", &text);
    for threads in [1, 2, 5] {
        let reading =
            EncodeOptions { threads, literal_specials: LiteralSpecials::Error, ..EncodeOptions::default() };
        let error =
            corpus(std::slice::from_ref(&path), TextMode::Line, reading).train_tokenizer(TokenizerKind::Word);
        assert!(matches!(error, Err(Error::LiteralSpecial { line: 40_001, .. })), "{error:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_an_error_for_words() {
    let folder = TempDir::new().unwrap();
    let mut bytes = "fine words\n".repeat(200_000).into_bytes();
    bytes[11 * 150_000 + 4] = 0x92;
    bytes[11 * 190_000 + 4] = 0x92;
    let path = file(&folder, "a.txt", &bytes);
    for threads in [1, 4] {
        let reading = EncodeOptions { threads, ..EncodeOptions::default() };
        let error = corpus(std::slice::from_ref(&path), TextMode::Line, reading)
            .tokenize_train(TokenizerKind::Word)
            .unwrap_err();
        assert!(
            matches!(error, Error::InvalidUtf8 { offset: 1_650_004, line: 150_001, byte: 0x92, .. }),
            "{error}"
        );
    }
}

#[test]
fn a_last_line_without_newline_is_a_sentence_or_open() {
    let folder = TempDir::new().unwrap();
    let files = [file(&folder, "a", "a\nb a"), file(&folder, "b", "b\n")];
    for kind in [TokenizerKind::Word, TokenizerKind::Char] {
        for (last_line, missing) in [(LastLine::Sentence, 0), (LastLine::Open, 1)] {
            let corpus =
                corpus(&files, TextMode::Line, EncodeOptions { last_line, ..EncodeOptions::default() });
            let (tokenizer, text) = corpus.tokenize_train(kind).unwrap();
            let count = |id: Option<u32>| text.ids.iter().filter(|&&x| Some(x) == id).count();
            assert_eq!((count(tokenizer.bos()), count(tokenizer.eos())), (3, 3 - missing), "{kind}");
            assert_eq!(text.sequences().count(), 3);
        }
    }
}

#[test]
fn a_line_is_a_sentence_however_long_it_is() {
    let folder = TempDir::new().unwrap();
    let line = "word ".repeat((20 << 20) / 5);
    let path = file(&folder, "a", format!("{line}\n{line}"));
    let reading = EncodeOptions { threads: 2, ..EncodeOptions::default() };
    for kind in [TokenizerKind::Word, TokenizerKind::Byte] {
        let (_, text) =
            corpus(std::slice::from_ref(&path), TextMode::Line, reading).tokenize_train(kind).unwrap();
        let lens: Vec<_> = text.sequences().map(<[u32]>::len).collect();
        let tokens = if kind == TokenizerKind::Word { line.len() / 5 } else { line.len() };
        assert_eq!(lens, [tokens + 2, tokens + 2]);
    }
}

proptest! {
    #[test]
    fn any_text_is_read_as_the_plain_way_does(
        texts in proptest::collection::vec("([ab]{1,2}|[ \\n\\t\\r\\x00]|<unk>|<s>|</s>|[a-e.]{7,10}|é\\x0B){0,40}", 1..4),
    ) {
        let folder = TempDir::new().unwrap();
        let files: Vec<_> = texts.iter().enumerate().map(|(n, text)| file(&folder, &n.to_string(), text)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for mode in [TextMode::Stream, TextMode::Line] {
            let (_, ids) = plainly(&texts, mode, LiteralSpecials::Unk);
            // Corpora without anything to learn from are refused.
            if ids.iter().filter(|&&id| mode == TextMode::Stream || id != 1).count() >= 2 {
                let corpus = corpus(&files, mode, EncodeOptions::default());
                prop_assert_eq!(corpus.tokenize_train(TokenizerKind::Word).unwrap().1.ids, ids);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_vocabulary_is_chosen_as_the_plain_way_does(
        text in "([ab]{1,3}|[ \\n]|<unk>|[c-g]{2,9}|é){1,200} a\\n",
        repeats in prop::sample::select(vec![0_usize, 700, 3000]),
        mode in prop::sample::select(vec![TextMode::Stream, TextMode::Line]),
        min_count in prop::option::of(0_u64..5),
        size in prop::option::of(4_usize..40),
        has_list in any::<bool>(),
    ) {
        // The words after the middle occur once again, whatever the number of repetitions.
        let middle = (0..=text.len() / 2).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let text = format!("{text}{}{}", text[..middle].repeat(repeats), &text[middle..]);
        let folder = TempDir::new().unwrap();
        let files = [file(&folder, "a", &text)];
        let plain = plainly(&[&text], mode, LiteralSpecials::Unk);
        let min_count = min_count.map_or(MinCount::Auto, MinCount::Fixed);
        let words = ["a", "bb", "é", "cd", "ef", "not there"];
        let list = has_list.then_some(&words[..]);
        let (tokens, ids, least) = choose_plainly(&plain, mode, min_count, size, list);
        let list = has_list.then(|| WordList::parse("list", words[..5].join("\n").as_bytes(), NormalForm::None).unwrap());
        let vocabulary = WordVocabulary { min_count, vocab_size: size, list };
        for threads in 1..5 {
            let corpus = corpus(&files, mode, EncodeOptions { threads, ..EncodeOptions::default() });
            let (tokenizer, text, choice) = corpus.learn_words(&vocabulary).unwrap();
            prop_assert_eq!(tokenizer.words().unwrap().collect::<Vec<_>>(), tokens.iter().collect::<Vec<_>>());
            prop_assert!(text.ids == ids, "{} threads", threads);
            prop_assert_eq!(text.oov, ids.iter().filter(|&&id| id == 0).count() as u64);
            prop_assert_eq!(choice.min_count, least.max(1));
            prop_assert_eq!(choice.words - choice.kept, plain.0.len() - tokens.len());
            prop_assert!(corpus.encode_train(&tokenizer).unwrap() == text);
        }
    }
}

#[test]
fn rare_words_are_dropped_by_themselves_from_one_token_in_a_thousand() {
    let folder = TempDir::new().unwrap();
    for (often, min_count) in [(998, 2), (999, 2), (1000, 1)] {
        // One word that occurs once, and the end of the line.
        let text = format!("{}once\n", "a ".repeat(often - 1));
        let files = [file(&folder, "a", text)];
        let learn = |min_count| {
            let vocabulary = WordVocabulary { min_count, ..WordVocabulary::default() };
            corpus(&files, TextMode::Line, EncodeOptions::default()).learn_words(&vocabulary).unwrap()
        };
        let (tokenizer, text, choice) = learn(MinCount::Auto);
        assert_eq!((text.scored(), choice.min_count), (often as u64 + 1, min_count));
        assert_eq!((tokenizer.vocab_size(), text.oov), if min_count == 2 { (4, 1) } else { (5, 0) });
        assert_eq!(learn(MinCount::Fixed(1)).0.vocab_size(), 5);
    }
    for (text, min_count) in [("a b c d a a\n", 2), ("a b c d a\n", 1), ("a b c\n", 1)] {
        let vocabulary = WordVocabulary { min_count: MinCount::Auto, ..WordVocabulary::default() };
        let files = [file(&folder, "a", text)];
        let corpus = corpus(&files, TextMode::Line, EncodeOptions::default());
        assert_eq!(corpus.learn_words(&vocabulary).unwrap().2.min_count, min_count, "{text}");
    }
    let none = WordVocabulary { vocab_size: Some(3), ..WordVocabulary::default() };
    let files = [file(&folder, "a", "a b\n")];
    let refused = corpus(&files, TextMode::Line, EncodeOptions::default()).learn_words(&none);
    assert!(matches!(refused, Err(Error::Setting(message)) if message.contains("<unk>, <s>, </s>")));
}
