//! Corpora: splits, parts, errors.

use super::*;
use crate::TrainPart;
use crate::chunks::TextChunks;
use std::path::Path;

fn file(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own input")]
    std::fs::write(&path, bytes).unwrap();
    path
}

fn options(train: &[PathBuf], mode: TextMode) -> DataOptions {
    DataOptions { train: train.to_vec(), val: Vec::new(), val_fraction: 0.25, mode, ..DataOptions::default() }
}

fn texts(corpus: &Corpus) -> (String, String) {
    let read = |spans: &[Span]| {
        let bytes: Vec<u8> = TextChunks::new(spans).flat_map(|chunk| chunk.unwrap().bytes).collect();
        String::from_utf8(bytes).unwrap()
    };
    (read(&corpus.train), read(&corpus.val))
}

#[test]
fn a_stream_is_split_between_characters() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "a.txt", "éééé");
    let (train, val) = texts(&Corpus::load(&options(&[path], TextMode::Stream)).unwrap());
    assert_eq!((train.as_str(), val.as_str()), ("ééé", "é"));
    let path = file(folder.path(), "b.txt", "aéaéa");
    // Five eighths of seven bytes lie inside the second é: it goes to training.
    let corpus =
        Corpus::load(&DataOptions { val_fraction: 0.3, ..options(&[path], TextMode::Stream) }).unwrap();
    assert_eq!(texts(&corpus), ("aéa".to_owned() + "", "éa".to_owned()));
}

#[test]
fn lines_are_split_between_lines_and_files_stay_apart() {
    let folder = tempfile::tempdir().unwrap();
    let a = file(folder.path(), "a.txt", "one\ntwo\nthree\n");
    let b = file(folder.path(), "b.txt", "four\nfive\nsix\n");
    let (train, val) = texts(&Corpus::load(&options(&[a, b], TextMode::Line)).unwrap());
    assert_eq!(train, "one\ntwo\nthree\nfour\nfive\n");
    assert_eq!(val, "six\n");
}

#[test]
fn validation_can_be_files_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let a = file(folder.path(), "a.txt", "abcabc");
    let b = file(folder.path(), "b.txt", "abd");
    let options = DataOptions { val: vec![b], ..options(&[a], TextMode::Stream) };
    let corpus = Corpus::load(&options).unwrap();
    let tokenizer = corpus.train_tokenizer(TokenizerKind::Char).unwrap();
    let val = corpus.encode_val(&tokenizer).unwrap();
    // d is not in the training text.
    assert_eq!((val.ids.into_vec(), val.oov, val.bytes), (vec![1, 2, 0], 1, 3));
}

#[test]
fn directories_are_read_in_order_without_what_is_no_text() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "t/b.txt", "second");
    file(folder.path(), "t/a/z.txt", "first ");
    file(folder.path(), "t/image", [1, 0, 2]);
    file(folder.path(), "t/.hidden", "secret");
    let (train, val) = texts(&Corpus::load(&options(&[folder.path().join("t")], TextMode::Stream)).unwrap());
    assert_eq!(train + &val, "first second");
    file(folder.path(), "none/image", [0, 1]);
    let error = Corpus::load(&options(&[folder.path().join("none")], TextMode::Stream)).unwrap_err();
    assert!(matches!(error, Error::NoText { binaries: 1, .. }), "{error}");
}

#[test]
fn parts_are_the_whole_and_end_with_lines() {
    let folder = tempfile::tempdir().unwrap();
    let a = file(folder.path(), "a.txt", "one\ntwo\n\nthree\nfour and five");
    let b = file(folder.path(), "b.txt", "six\nseven\n");
    let options = options(&[a, b], TextMode::Line);
    let read = |shard| texts(&Corpus::whole(&options, shard).unwrap()).0;
    let whole = read(None);
    assert_eq!(whole.len(), 38);
    for parts in 1..50 {
        let all: Vec<String> = (1..=parts).map(|part| read(Some((part, parts)))).collect();
        assert_eq!(all.concat(), whole, "{parts}");
        assert!(all.iter().all(|part| part.is_empty() || part.ends_with(['\n', 'e'])), "{all:?}");
        assert!(parts == 1 || all.iter().all(|part| part.len() < whole.len()));
    }
    let empty = Corpus::whole(&options, Some((49, 49))).unwrap();
    assert!(empty.tokenize_train(TokenizerKind::Word).unwrap().1.ids.len() < 6);
    assert!(Corpus::whole(&options, Some((0, 4))).is_err() && Corpus::whole(&options, Some((5, 4))).is_err());
}

#[test]
fn a_share_of_the_training_text_leaves_validation_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let a = file(folder.path(), "a.txt", "0123456789abcdefghij");
    let whole = DataOptions { val_fraction: 0.5, ..options(&[a], TextMode::Stream) };
    let (train, val) = texts(&Corpus::load(&whole).unwrap());
    assert_eq!((train.as_str(), val.as_str()), ("0123456789", "abcdefghij"));
    let part = DataOptions { train_fraction: 0.3, ..whole };
    assert_eq!(texts(&Corpus::load(&part).unwrap()), ("012".to_owned(), val));
    let embedded = |train_fraction| {
        let options = DataOptions { val_fraction: 0.01, train_fraction, ..DataOptions::default() };
        Corpus::embedded("babble", &options).unwrap()
    };
    assert_eq!(embedded(0.1).source_nats_val().unwrap(), embedded(0.0).source_nats_val().unwrap());
}

#[test]
fn a_part_that_is_spread_is_like_the_whole_and_grows_with_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..20_000).map(|line| format!("{line:05} of the text\n")).collect();
    let path = file(folder.path(), "a.txt", &lines);
    let part = |train_fraction, split_seed| {
        let options = DataOptions {
            val_fraction: 0.5,
            train_part: TrainPart::Spread,
            train_fraction,
            split_seed,
            ..options(std::slice::from_ref(&path), TextMode::Stream)
        };
        let corpus = Corpus::load(&options).unwrap();
        let (train, val) = texts(&corpus);
        assert!(val.starts_with("10000 "));
        train.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect::<Vec<u32>>()
    };
    let mut smaller = Vec::new();
    for share in [0.001, 0.01, 0.1, 0.5] {
        let lines = part(share, 1);
        let wanted = share * 10_000.0;
        assert!(
            (0.6 * wanted..1.6 * wanted + 6.0).contains(&(lines.len() as f64)),
            "{share}: {}",
            lines.len()
        );
        assert!(lines.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(smaller.iter().all(|line| lines.binary_search(line).is_ok()), "{share}");
        // As many from each tenth of the text, within a block.
        let of_tenth = |tenth| lines.iter().filter(|line| **line / 1000 == tenth).count() as f64;
        for tenth in 0..10 {
            assert!((of_tenth(tenth) - lines.len() as f64 / 10.0).abs() < 10.0, "{share}: {tenth}");
        }
        smaller = lines;
    }
    assert_ne!(part(0.1, 1), part(0.1, 2));
    // A text without line ends is cut between characters.
    let path = file(folder.path(), "b.txt", "é".repeat(50_000));
    let options = DataOptions {
        val_fraction: 0.1,
        train_part: TrainPart::Spread,
        train_fraction: 0.1,
        ..options(&[path], TextMode::Stream)
    };
    let train = texts(&Corpus::load(&options).unwrap()).0;
    assert!(train.chars().all(|character| character == 'é') && (7_000..11_000).contains(&train.len()));
}

#[test]
fn too_little_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (text, short) in [("", "empty"), ("x", "too short"), ("\n", "too short")] {
        let path = file(folder.path(), "a.txt", text);
        let error = Corpus::load(&options(&[path], TextMode::Stream)).unwrap_err();
        assert!(error.to_string().contains(short) && error.hint().is_some(), "{error}");
    }
    assert!(matches!(
        Corpus::load(&options(&[folder.path().join("gone")], TextMode::Stream)).unwrap_err(),
        Error::Read { .. }
    ));
}

#[test]
fn nanogpt_splits_shakespeare_at_the_same_byte() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/tinyshakespeare.txt");
    if !path.exists() {
        eprintln!("SKIPPED: tinyshakespeare.txt is not beside the project");
        return;
    }
    let options = DataOptions { val_fraction: 0.1, ..options(&[path], TextMode::Stream) };
    let corpus = Corpus::load(&options).unwrap();
    assert_eq!((corpus.train[0].len(), corpus.val[0].len()), (1_003_854, 111_540));
}

#[test]
fn lines_become_sentences() {
    let folder = tempfile::tempdir().unwrap();
    let a = file(folder.path(), "a.txt", "a b\n\nb\nlast");
    let b = file(folder.path(), "b.txt", "b c\n");
    let options = DataOptions { val: vec![b], ..options(&[a], TextMode::Line) };
    let corpus = Corpus::load(&options).unwrap();
    let tokenizer = corpus.train_tokenizer(TokenizerKind::Word).unwrap();
    let train = corpus.encode_train(&tokenizer).unwrap();
    assert_eq!(train.ids, [1, 3, 4, 2, 1, 2, 1, 4, 2, 1, 5, 2]);
    let val = corpus.encode_val(&tokenizer).unwrap();
    assert_eq!((val.ids.into_vec(), val.oov), (vec![1, 4, 0, 2], 1));
    assert_eq!(val.lines, 1);
}
