//! Texts through every door: files, folders, pipes, compressed, in UTF-16, as records.

use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use surprisal_text::{
    Compression, Corpus, DataOptions, EncodeOptions, Error, InputOptions, InvalidBytes, NormalForm, Split,
    TextMode, TokenText, Tokenizer, TokenizerKind, encode_files,
};
use tempfile::TempDir;

const FORMATS: [Compression; 4] = [Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Zstd];

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own input")]
    std::fs::write(path, bytes).unwrap();
}

fn compressed(format: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut writer = format.writer(Vec::new()).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A file of several members, as by appending.
fn members(format: Compression, bytes: &[u8], at: usize) -> Vec<u8> {
    let (first, second) = bytes.split_at(at.min(bytes.len()));
    [compressed(format, first), compressed(format, second)].concat()
}

#[derive(Debug, Clone, Copy)]
enum Encoding {
    Utf8,
    Utf8WithMark,
    Utf16Little,
    Utf16Big,
}

fn encoded(text: &str, encoding: Encoding) -> Vec<u8> {
    let marked = format!("\u{FEFF}{text}");
    match encoding {
        Encoding::Utf8 => text.into(),
        Encoding::Utf8WithMark => marked.into(),
        Encoding::Utf16Little => marked.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Encoding::Utf16Big => marked.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    }
}

/// A pipe with this content, which the returned thread writes.
#[cfg(unix)]
fn pipe(path: &Path, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let path = path.to_owned();
    std::thread::spawn(move || {
        // A reader that stops early is not an error here.
        let _ = std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all(&bytes);
    })
}

fn options(paths: &[impl AsRef<Path>], mode: TextMode) -> DataOptions {
    let train = paths.iter().map(|path| path.as_ref().to_owned()).collect();
    DataOptions { train, mode, once: true, ..DataOptions::default() }
}

fn read(options: &DataOptions, kind: TokenizerKind) -> Result<(Vec<u32>, u64, String), Error> {
    let options = DataOptions { once: kind == TokenizerKind::Word, ..options.clone() };
    let (tokenizer, text) = Corpus::whole(&options, None)?.tokenize_train(kind)?;
    Ok((text.ids.into_vec(), text.bytes, String::from_utf8(tokenizer.to_json()?).unwrap()))
}

/// The characters of documents and their marks; 0 is `</s>`.
fn plainly(documents: &[String], mode: TextMode) -> Vec<u32> {
    let mut chars = Vec::new();
    for document in documents.iter().filter(|document| !document.is_empty()) {
        match mode {
            TextMode::Document => chars.extend(document.chars().map(u32::from).chain([0])),
            TextMode::Line => {
                let lines =
                    document.split_inclusive('\n').map(|line| line.strip_suffix('\n').unwrap_or(line));
                lines.for_each(|line| chars.extend(line.chars().map(u32::from).chain([0])));
            }
            TextMode::Stream => chars.extend(document.chars().map(u32::from)),
        }
    }
    chars
}

/// The same of what was read.
fn spelled((ids, _, json): &(Vec<u32>, u64, String)) -> Vec<u32> {
    let tokenizer = Tokenizer::from_json(json.as_bytes()).unwrap();
    let ids = ids.iter().filter(|id| Some(**id) != tokenizer.bos());
    let spell = |&id: &u32| match tokenizer.decode(&[id]).chars().next() {
        _ if Some(id) == tokenizer.eos() => 0,
        c => u32::from(c.unwrap()),
    };
    ids.map(spell).collect()
}

fn encodings() -> impl Strategy<Value = Encoding> {
    prop::sample::select(vec![
        Encoding::Utf8,
        Encoding::Utf8WithMark,
        Encoding::Utf16Little,
        Encoding::Utf16Big,
    ])
}

fn formats() -> impl Strategy<Value = Option<Compression>> {
    prop::sample::select(vec![None, Some(FORMATS[0]), Some(FORMATS[1]), Some(FORMATS[2]), Some(FORMATS[3])])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn the_same_tokens_come_through_every_door(
        texts in proptest::collection::vec(
            ("[ab é日😀\",;\\\\\n]{0,30}", 1usize..6, encodings(), formats(), 0usize..3, 0usize..40), 1..6,
        ),
        line: bool,
        crlf: bool,
        whole_format in formats(),
    ) {
        let mode = if line { TextMode::Line } else { TextMode::Document };
        let crlf = crlf && line;
        let folder = TempDir::new().unwrap();
        let mut documents = Vec::new();
        for (n, (text, repeats, encoding, format, depth, at)) in texts.iter().enumerate() {
            let text = text.repeat(*repeats);
            let stored = if crlf { text.replace('\n', "\r\n") } else { text.clone() };
            let mut bytes = encoded(&stored, *encoding);
            if let Some(format) = format {
                bytes = members(*format, &bytes, *at);
            }
            let path = folder.path().join("files").join(["", "a", "b/c"][*depth]).join(format!("{n}.txt"));
            write(&path, bytes);
            // Folders are read in the order of names: those in the root come first as digits.
            documents.push((path, text));
        }
        documents.sort();
        let (paths, documents): (Vec<_>, Vec<_>) = documents.into_iter().unzip();
        // A link to a file and one to a folder add nothing.
        #[cfg(unix)]
        {
            let links = folder.path().join("files/zz");
            std::fs::create_dir_all(&links).unwrap();
            std::fs::hard_link(&paths[0], links.join("hard.txt")).unwrap();
            std::os::unix::fs::symlink("..", links.join("up")).unwrap();
        }
        let expected = plainly(&documents, mode);
        let jsonl: String = documents.iter().map(|text| serde_json::json!({ "n": 1, "doc": { "text": text } }).to_string() + "\n").collect();
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(["id", "text"]).unwrap();
        for text in &documents {
            csv.write_record(["1", text.as_str()]).unwrap();
        }
        let csv = csv.into_inner().unwrap();
        let pack = |bytes: &[u8]| whole_format.map_or(bytes.to_vec(), |format| compressed(format, bytes));
        write(&folder.path().join("records.x"), pack(jsonl.as_bytes()));
        write(&folder.path().join("table.x"), pack(&csv));
        let mut doors = vec![
            (vec![folder.path().join("files")], None),
            (paths, None),
            (vec![folder.path().join("records.x")], Some("doc.text")),
            (vec![folder.path().join("table.x")], Some("text")),
        ];
        #[cfg(unix)]
        let writers = {
            let fifo = |n: usize| folder.path().join(format!("pipe{n}"));
            let stored = documents.iter().map(|text| pack(if crlf { text.replace('\n', "\r\n") } else { text.clone() }.as_bytes()));
            let mut writers: Vec<_> = stored.enumerate().map(|(n, bytes)| pipe(&fifo(n), bytes)).collect();
            doors.push(((0..documents.len()).map(fifo).collect(), None));
            writers.push(pipe(&folder.path().join("records"), pack(jsonl.as_bytes())));
            doors.push((vec![folder.path().join("records")], Some("doc.text")));
            writers
        };
        let few = expected.len() < 2;
        let mut sizes = Vec::new();
        for (paths, field) in doors {
            let inputs = InputOptions { field: field.map(str::to_owned), ..InputOptions::default() };
            let options = DataOptions { inputs, ..options(&paths, mode) };
            match read(&options, TokenizerKind::Char) {
                Ok(found) => {
                    prop_assert_eq!(spelled(&found), expected.clone(), "{:?} {:?}", paths, field);
                    sizes.push(found.1);
                }
                Err(error) => {
                    let empty = matches!(error, Error::Empty(_) | Error::NoText { .. } | Error::TooShort { .. });
                    prop_assert!(empty && few, "{:?} {}", paths, error);
                }
            }
        }
        prop_assert!(sizes.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", sizes);
        #[cfg(unix)]
        for writer in writers {
            writer.join().unwrap();
        }
    }
}

#[test]
fn long_texts_come_through_every_door_whatever_the_threads() {
    let folder = TempDir::new().unwrap();
    let mut text = String::new();
    for n in 0..60_000u32 {
        let word = n.wrapping_mul(2_654_435_761) >> 20;
        text.push_str(&format!("w{word} é{}{}", n % 7, if n % 11 == 0 { "\n" } else { " " }));
    }
    text.push('\n');
    let path = folder.path().join("plain");
    write(&path, &text);
    let records: String =
        text.lines().map(|line| serde_json::json!({ "t": format!("{line}\n") }).to_string() + "\n").collect();
    write(&folder.path().join("records"), compressed(Compression::Zstd, records.as_bytes()));
    let lines = options(&[&path], TextMode::Line);
    let expected = read(&lines, TokenizerKind::Word).unwrap();
    for threads in [1, 2, 3] {
        for (name, bytes) in [
            ("gz", members(Compression::Gzip, text.as_bytes(), 300_000)),
            ("xz", compressed(Compression::Xz, text.as_bytes())),
            ("wide", encoded(&text, Encoding::Utf16Big)),
            ("crlf", text.replace('\n', "\r\n").into()),
        ] {
            let path = folder.path().join(name);
            write(&path, bytes);
            for kind in [TokenizerKind::Word, TokenizerKind::Char] {
                let encode_options = EncodeOptions { threads, ..EncodeOptions::default() };
                let found = read(&DataOptions { encode_options, ..options(&[&path], TextMode::Line) }, kind);
                assert!(found.unwrap() == read(&lines, kind).unwrap(), "{name} {kind} {threads}");
            }
            let tokenizer = Tokenizer::from_json(expected.2.as_bytes()).unwrap();
            let scored = encode_files(
                &[path],
                &tokenizer,
                &InputOptions::default(),
                EncodeOptions { threads, ..EncodeOptions::default() },
            );
            assert!(scored.unwrap().tokens.ids == expected.0, "{name}");
        }
        let inputs = InputOptions { field: Some("t".into()), ..InputOptions::default() };
        let encode_options = EncodeOptions { threads, ..EncodeOptions::default() };
        let records = DataOptions {
            inputs,
            encode_options,
            ..options(&[folder.path().join("records")], TextMode::Line)
        };
        assert!(read(&records, TokenizerKind::Word).unwrap() == expected, "{threads}");
    }
}

#[test]
fn a_bad_byte_is_found_at_its_place_through_every_door() {
    let folder = TempDir::new().unwrap();
    let mut bytes = "twelve bytes\n".repeat(50_000).into_bytes();
    bytes[13 * 40_000 + 5] = 0x92;
    let places = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        write(&path, bytes);
        read(&options(&[path], TextMode::Line), TokenizerKind::Word).unwrap_err()
    };
    for (name, stored) in [("plain", bytes.clone()), ("zst", compressed(Compression::Zstd, &bytes))] {
        let error = places(name, stored);
        let expected = 13 * 40_000 + 5;
        assert!(
            matches!(error, Error::InvalidUtf8 { offset, byte: 0x92, line: 40_001, .. } if offset == expected),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("data.invalid"));
    }
    bytes[13 * 40_000 + 5] = 0;
    let error = places("nul", bytes.clone());
    assert!(matches!(error, Error::Nul { line: 40_001, .. }), "{error}");
    let mut wide = encoded(&"twelve bytes\n".repeat(50_000), Encoding::Utf16Little);
    wide[2 + 26 * 30_000 + 7] = 0xD8;
    let error = places("wide", wide);
    assert!(matches!(error, Error::InvalidUtf16 { line: 30_001, .. }), "{error}");
    for (invalid, words, says) in [
        (InvalidBytes::Replace, 100_000, "became U+FFFD"),
        (InvalidBytes::SkipLine, 99_998, "left out 1 line"),
    ] {
        let inputs = InputOptions { invalid, ..InputOptions::default() };
        let path = folder.path().join("nul");
        let corpus =
            Corpus::whole(&DataOptions { inputs, ..options(&[path], TextMode::Line) }, None).unwrap();
        let (_, text) = corpus.tokenize_train(TokenizerKind::Word).unwrap();
        let marks = 2 * (words as usize / 2);
        assert_eq!(text.ids.len(), words as usize + marks);
        assert!(corpus.notices().iter().any(|notice| notice.contains(says)), "{:?}", corpus.notices());
    }
}

#[test]
fn damaged_and_enormous_compressed_files_are_errors_in_bounded_memory() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("it");
    let text = "some text that compresses\n".repeat(30_000);
    for format in FORMATS {
        let whole = compressed(format, text.as_bytes());
        for cut in [12, whole.len() / 2, whole.len() - 1] {
            write(&path, &whole[..cut]);
            let error = read(&options(&[&path], TextMode::Line), TokenizerKind::Word).unwrap_err();
            let named = matches!(&error, Error::Damaged { format: named, .. } if *named == format);
            assert!(named, "{format:?} {cut} {error}");
        }
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 0x20;
        write(&path, &flipped);
        let error = read(&options(&[&path], TextMode::Line), TokenizerKind::Word);
        assert!(error.is_err(), "{format:?}");
        write(&path, [&whole[..], b"trailing garbage that is no member"].concat());
        let error = read(&options(&[&path], TextMode::Line), TokenizerKind::Word);
        assert!(matches!(error, Err(Error::Damaged { .. })), "{format:?}");
        // A thousand to one: it is read in pieces, up to the limit.
        let bomb = compressed(format, &b"a line of some words\n".repeat(3_000_000));
        write(&path, &bomb);
        let inputs = InputOptions { limit: Some(1 << 20), ..InputOptions::default() };
        let error = read(&DataOptions { inputs, ..options(&[&path], TextMode::Line) }, TokenizerKind::Word);
        assert!(matches!(error, Err(Error::TooLarge { read, .. }) if read < 4 << 20), "{format:?}");
    }
}

#[test]
fn documents_have_marks_between_them_and_binary_files_are_left_out() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("d");
    write(&dir.join("a.txt"), "alpha beta");
    write(&dir.join("b.md"), "gamma delta");
    write(&dir.join("c.dat"), [b"late".repeat(2_000), vec![0]].concat());
    write(&dir.join("e.txt"), "");
    let corpus = |include: &[&str], exclude: &[&str]| {
        let list = |patterns: &[&str]| patterns.iter().map(|it| (*it).to_owned()).collect();
        let inputs =
            InputOptions { include: list(include), exclude: list(exclude), ..InputOptions::default() };
        let options = DataOptions { inputs, mark_documents: true, ..options(&[&dir], TextMode::Stream) };
        Corpus::whole(&options, None).map(|corpus| {
            let (tokenizer, text) = corpus.tokenize_train(TokenizerKind::Word).unwrap();
            (tokenizer.decode(&text.ids), corpus.mode(), corpus.notices().to_vec())
        })
    };
    let (text, mode, notices) = corpus(&[], &[]).unwrap();
    assert_eq!((text.as_str(), mode), ("alpha beta\ngamma delta\n", TextMode::Document));
    assert!(notices.iter().any(|notice| notice.contains("1 binary file") && notice.contains("c.dat")));
    let (text, mode, _) = corpus(&["*.md"], &[]).unwrap();
    assert_eq!((text.as_str(), mode), ("gamma delta", TextMode::Stream));
    assert_eq!(corpus(&[], &["b.*"]).unwrap().0, "alpha beta");
    assert!(matches!(corpus(&["*.html"], &[]).unwrap_err(), Error::NoText { .. }));
    assert!(corpus(&["a{"], &[]).unwrap_err().to_string().contains("a{"));
    let named = read(&options(&[dir.join("c.dat")], TextMode::Stream), TokenizerKind::Char).unwrap_err();
    assert!(matches!(named, Error::Nul { line: 1, .. }), "{named}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_compressed_texts_need_few_open_files() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("d");
    for n in 0..300 {
        write(
            &dir.join(format!("{n:03}.gz")),
            compressed(Compression::Gzip, format!("text {n}\n").as_bytes()),
        );
    }
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let options = DataOptions { once: false, ..options(&[&dir], TextMode::Line) };
    let corpus = Corpus::whole(&options, None).unwrap();
    // Other tests of this process open some, too.
    assert!(open() < before + 150, "{} open files", open() - before);
    let (tokenizer, text) = corpus.tokenize_train(TokenizerKind::Word).unwrap();
    assert_eq!(text.sequences().count(), 300);
    assert!(tokenizer.decode(&text.ids[4 * 150..][..4]).contains("text 150"));
}

#[test]
fn patterns_choose_folders_and_say_when_they_match_nothing() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("d");
    for (name, text) in [("a.txt", "alpha\n"), ("drafts/b.txt", "beta\n"), ("drafts/x/c.md", "gamma\n")] {
        write(&dir.join(name), text);
    }
    let corpus = |include: &[&str], exclude: &[&str]| {
        let list = |patterns: &[&str]| patterns.iter().map(|it| (*it).to_owned()).collect();
        let inputs =
            InputOptions { include: list(include), exclude: list(exclude), ..InputOptions::default() };
        let corpus = Corpus::whole(&DataOptions { inputs, ..options(&[&dir], TextMode::Line) }, None)?;
        let (tokenizer, _) = corpus.tokenize_train(TokenizerKind::Word)?;
        let words: Vec<String> = tokenizer.words().unwrap().skip(3).map(str::to_owned).collect();
        Ok::<_, Error>((words.concat(), corpus.notices().join("\n")))
    };
    let own = format!("{}/drafts", dir.display());
    for pattern in ["drafts", "drafts/", "./drafts", "./drafts/*", "drafts/**", &own, &format!("{own}/*")] {
        let (words, notices) = corpus(&[], &[pattern]).unwrap();
        assert_eq!((words.as_str(), notices.as_str()), ("alpha", ""), "{pattern}");
    }
    assert_eq!(corpus(&["drafts"], &[]).unwrap().0, "betagamma");
    assert_eq!(corpus(&["drafts"], &["x"]).unwrap().0, "beta");
    assert_eq!(corpus(&[], &[&format!("{own}/b.txt")]).unwrap().0, "alphagamma");
    let (words, notices) = corpus(&[], &["a.txt/", "a.tx", "x"]).unwrap();
    assert_eq!(words, "alphabeta");
    assert!(notices.contains("\"a.txt/\", \"a.tx\" matched nothing"), "{notices}");
    let error = corpus(&["*.html"], &[]).unwrap_err();
    assert!(error.to_string().contains("*.html") && error.hint().is_some(), "{error}");
    for (include, exclude) in [(&[""][..], &[][..]), (&[], &[""]), (&[], &["./"])] {
        let error = corpus(include, exclude).unwrap_err();
        assert!(matches!(&error, Error::Pattern { .. }) && error.hint().is_some(), "{error}");
    }
}

#[test]
fn folders_and_pipes_that_are_named_twice_are_told() {
    let folder = TempDir::new().unwrap();
    let (dir, sub) = (folder.path().join("d"), folder.path().join("d/drafts"));
    write(&sub.join("b.txt"), "beta\n");
    let whole = |paths: &[&PathBuf]| {
        let corpus = Corpus::whole(&options(paths, TextMode::Line), None)?;
        Ok::<_, Error>((corpus.tokenize_train(TokenizerKind::Word)?.1.scored(), corpus.notices().join("\n")))
    };
    assert_eq!(whole(&[&dir]).unwrap(), (2, String::new()));
    assert_eq!(whole(&[&sub, &dir]).unwrap(), (2, String::new()));
    for (paths, says) in [([&dir, &dir], "d is named twice"), ([&dir, &sub], "drafts is named twice")] {
        let (tokens, notices) = whole(&paths).unwrap();
        assert!(
            tokens == 2 && notices.contains("each file is read once") && notices.ends_with(says),
            "{notices}"
        );
    }
    write(&folder.path().join("e/image"), [0, 1]);
    let both = whole(&[&dir, &folder.path().join("e")]).unwrap_err();
    assert!(matches!(both, Error::NoText { binaries: 1, .. }), "{both}");
    let text = sub.join("b.txt");
    let link = folder.path().join("link.txt");
    std::fs::hard_link(&text, &link).unwrap();
    let parts = DataOptions { val: vec![link], ..options(&[&text], TextMode::Line) };
    let notices = Corpus::load(&parts).unwrap().notices().join("\n");
    assert!(notices.contains("link.txt is the training text"), "{notices}");
    #[cfg(unix)]
    {
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let error = whole(&[&pipe, &pipe]).unwrap_err().to_string();
        assert!(error.contains("named twice"), "{error}");
        let parts = DataOptions { val: vec![pipe.clone()], ..options(&[&pipe], TextMode::Line) };
        assert!(matches!(Corpus::load(&parts).unwrap_err(), Error::Setting(_)));
        std::os::unix::fs::symlink("nowhere", sub.join("broken")).unwrap();
        assert!(whole(&[&dir]).unwrap().1.contains("left out 1 broken link"));
    }
}

#[test]
fn the_hash_of_a_text_depends_on_the_order_of_its_records() {
    let folder = TempDir::new().unwrap();
    let hash = |records: &[&str]| {
        let path = folder.path().join("r.jsonl");
        let lines = records.iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n");
        write(&path, lines.collect::<String>());
        let inputs = InputOptions { field: Some("text".into()), ..InputOptions::default() };
        let options = DataOptions { inputs, once: false, ..options(&[&path], TextMode::Document) };
        Corpus::whole(&options, None).unwrap().hash().unwrap()
    };
    let first = hash(&["one", "two", "three"]);
    assert_eq!(hash(&["one", "two", "three"]), first);
    for other in [&["two", "one", "three"][..], &["three", "two", "one"], &["onetwo", "three"]] {
        assert_ne!(hash(other), first, "{other:?}");
    }
}

#[test]
fn few_long_records_are_split_within_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("r.jsonl");
    for records in 1..4 {
        let line = serde_json::json!({ "text": "some words in a record, ".repeat(40) }).to_string();
        write(&path, vec![line; records].join("\n"));
        let inputs = InputOptions { field: Some("text".into()), ..InputOptions::default() };
        let options = DataOptions { inputs, val_fraction: 0.1, ..options(&[&path], TextMode::Document) };
        let corpus = Corpus::load(&options).unwrap();
        let (train, val) = encode_all(&corpus, &path, &options).unwrap();
        assert_eq!(train.len() + val.len(), records * (960 + 1), "{records}");
        assert!(val.len().abs_diff(96 * records) < 3, "{records} {}", val.len());
    }
}

#[test]
fn composed_letters_are_made_or_asked_for() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.txt");
    write(&path, "cafe\u{301} ole\u{301}\n".repeat(3));
    let corpus = |normalize| {
        let inputs = InputOptions { normalize, ..InputOptions::default() };
        Corpus::whole(&DataOptions { inputs, ..options(&[&path], TextMode::Line) }, None).unwrap()
    };
    let plain = corpus(NormalForm::None);
    let (tokenizer, text) = plain.tokenize_train(TokenizerKind::Char).unwrap();
    assert_eq!((text.scored(), tokenizer.vocab_size()), (33, 11));
    assert!(plain.notices().iter().any(|notice| notice.contains("nfc")));
    let composed = corpus(NormalForm::Nfc);
    let (tokenizer, text) = composed.tokenize_train(TokenizerKind::Char).unwrap();
    assert_eq!((text.scored(), tokenizer.vocab_size()), (27, 10));
    assert!(composed.notices().is_empty(), "{:?}", composed.notices());
}

/// Random folders of files and a file of records, in which every character is another.
fn unlike_characters(folder: &Path, sizes: &[Vec<u8>]) -> (PathBuf, PathBuf, usize) {
    // CJK ideographs of the extension B, of which there are 42,000.
    let mut next = 0x2_0000u32;
    let (mut records, mut n) = (String::new(), 0);
    for (file, lines) in sizes.iter().enumerate() {
        let mut text = String::new();
        for &length in lines {
            for _ in 0..length {
                text.push(char::from_u32(next).unwrap());
                next += 1;
                n += 1;
            }
            text.push('\n');
        }
        records.push_str(&(serde_json::json!({ "text": text }).to_string() + "\n"));
        write(&folder.join(format!("d/{}/{file}.txt", file % 3)), text);
    }
    write(&folder.join("records"), records);
    (folder.join("d"), folder.join("records"), n)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]
    #[test]
    fn no_token_of_validation_is_in_training(
        sizes in proptest::collection::vec(proptest::collection::vec(0u8..40, 1..30), 2..12),
        fraction in 0.05f64..0.6,
        split_seed: u64,
        line: bool,
    ) {
        let folder = TempDir::new().unwrap();
        let (files, records, n) = unlike_characters(folder.path(), &sizes);
        // In line mode a tail starts after the line of its first byte, which may be the last one.
        let bytes = |lines: &Vec<u8>| lines.iter().map(|&length| 4.0 * f64::from(length) + 1.0).collect::<Vec<_>>();
        let lines: Vec<f64> = sizes.iter().flat_map(bytes).collect();
        let longest = lines.iter().copied().fold(0.0, f64::max);
        let within_a_line = line && fraction * lines.iter().sum::<f64>() <= longest + 1.0;
        for split in [Split::Tail, Split::Blocks, Split::Lines, Split::Documents, Split::Files] {
            for (path, field) in [(&files, None), (&records, Some("text"))] {
                let inputs = InputOptions { field: field.map(str::to_owned), ..InputOptions::default() };
                let mode = if line { TextMode::Line } else { TextMode::Document };
                let options = DataOptions { inputs, split, split_seed, val_fraction: fraction, ..options(&[&path], mode) };
                let corpus = match Corpus::load(&options) {
                    Ok(corpus) => corpus,
                    Err(error) => {
                        // One file, lines of records, or nothing for one of the parts.
                        let allowed = matches!(error, Error::TooShort { .. } | Error::Setting(_));
                        let short = n < 20 || split == Split::Tail && within_a_line;
                        prop_assert!(allowed && (field.is_some() || short), "{:?} {}", split, error);
                        continue;
                    }
                };
                let every = encode_all(&corpus, path, &options);
                let (train, val) = match every { Ok(parts) => parts, Err(error) => {
                    prop_assert!(matches!(error, Error::TooShort { .. }), "{}", error);
                    continue;
                }};
                let known = |text: &[char]| text.iter().copied().filter(|&c| u32::from(c) >= 0x2_0000).collect::<Vec<_>>();
                let (train, val) = (known(&train), known(&val));
                let mut all = [train.as_slice(), val.as_slice()].concat();
                all.sort_unstable();
                let mut once = all.clone();
                once.dedup();
                prop_assert_eq!(all.len(), n, "{:?} {:?}: lost or read twice", split, field);
                prop_assert_eq!(once.len(), n, "{:?} {:?}: in both parts", split, field);
            }
        }
    }
}

/// The characters of both parts, by a tokenizer of the whole text.
fn encode_all(corpus: &Corpus, path: &Path, options: &DataOptions) -> Result<(Vec<char>, Vec<char>), Error> {
    let whole =
        Corpus::whole(&DataOptions { train: vec![path.to_owned()], once: false, ..options.clone() }, None)?;
    let tokenizer = whole.train_tokenizer(TokenizerKind::Char)?;
    let chars = |text: TokenText| tokenizer.decode(&text.ids).chars().collect();
    Ok((chars(corpus.encode_train(&tokenizer)?), chars(corpus.encode_val(&tokenizer)?)))
}

#[test]
fn splits_have_the_size_that_is_asked_for_and_depend_on_their_seed() {
    let folder = TempDir::new().unwrap();
    let sizes: Vec<Vec<u8>> = (0..50).map(|n| vec![20; 5 + n % 7]).collect();
    let (files, _, _) = unlike_characters(folder.path(), &sizes);
    for split in [Split::Blocks, Split::Lines, Split::Documents, Split::Files] {
        let share = |split_seed| {
            let options =
                DataOptions { split, split_seed, val_fraction: 0.2, ..options(&[&files], TextMode::Line) };
            let corpus = Corpus::load(&options).unwrap();
            let (train, val) = encode_all(&corpus, &files, &options).unwrap();
            (val.len() as f64 / (train.len() + val.len()) as f64, val)
        };
        let (one, two) = (share(1), share(2));
        assert!((one.0 - 0.2).abs() < 0.05, "{split:?} {}", one.0);
        assert!(one.1 != two.1 && one.1 == share(1).1, "{split:?}");
    }
}
