//! Which texts to read, and where training ends and validation begins.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::pieces::{Piece, Pieces, Place, Span};
use crate::source::Source;
use crate::{TokenText, Tokenizer, TokenizerKind, Unit};

/// The seed and the size of every embedded corpus: they are the same text for everyone.
const EMBEDDED_SEED: u64 = 1;
const EMBEDDED_BYTES: usize = 1_000_000;
/// How many bytes at the start of a file tell whether it is text.
const SNIFFED: u64 = 1024;

/// What to read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DataOptions {
    /// Training texts: files, or directories of them (recursively, in the order of their names).
    pub train: Vec<PathBuf>,
    /// Validation texts; empty: the end of the training texts.
    pub val: Vec<PathBuf>,
    /// Which share of the bytes is validation when `val` is empty.
    pub val_fraction: f64,
    /// How texts are read.
    pub unit: Unit,
}

/// Texts, split into training and validation.
#[derive(Debug)]
pub struct Corpus {
    name: String,
    unit: Unit,
    train: Vec<Span>,
    val: Vec<Span>,
    notices: Vec<String>,
    source: Option<Known>,
}

/// A text whose source is known.
#[derive(Debug)]
struct Known {
    source: Arc<Source>,
    text: Arc<str>,
    /// Where validation starts, if it is the end of the text.
    split: Option<usize>,
}

impl Corpus {
    /// Finds the texts and splits them. They are read only as far as that needs.
    ///
    /// # Errors
    /// A path that is not there, a directory without text, texts that are empty or too short to split.
    pub fn load(options: &DataOptions) -> Result<Self> {
        let files = spans(&options.train)?;
        let name = name(&options.train, files.len());
        Self::split(name, files, options)
    }

    /// A corpus that comes with the program.
    ///
    /// # Errors
    /// A name that there is none of.
    pub fn embedded(name: &str, options: &DataOptions) -> Result<Self> {
        if !Source::names().contains(&name) {
            return Err(Error::NoSuchCorpus { name: name.to_owned(), known: Source::names().to_vec() });
        }
        let source = Arc::new(Source::embedded(name)?);
        let text: Arc<str> = source.sample(EMBEDDED_SEED, EMBEDDED_BYTES).into();
        let place = Place::Memory { name: format!("{name} (embedded)"), text: text.clone() };
        let span = Span { place, start: 0, end: text.len() as u64 };
        let mut corpus = Self::split(format!("{name} (embedded)"), vec![span], options)?;
        let split = options.val.is_empty().then(|| corpus.train.last().map_or(0, |span| span.end as usize));
        corpus.source = Some(Known { source, text, split });
        Ok(corpus)
    }

    fn split(name: String, files: Vec<Span>, options: &DataOptions) -> Result<Self> {
        let total: u64 = files.iter().map(Span::len).sum();
        if total == 0 {
            return Err(Error::Empty { name });
        }
        let mut corpus = Self {
            name,
            unit: options.unit,
            train: files,
            val: Vec::new(),
            notices: Vec::new(),
            source: None,
        };
        if options.val.is_empty() {
            // Counted from the start, as nanoGPT does, so that splits agree to the byte.
            let wanted = ((1.0 - options.val_fraction) * total as f64) as u64;
            let (train, val) = cut(&corpus.train, wanted, options.unit)?;
            (corpus.train, corpus.val) = (train, val);
        } else {
            corpus.val = spans(&options.val)?;
            if corpus.val.iter().all(|span| span.len() == 0) {
                return Err(Error::Empty { name: self::name(&options.val, corpus.val.len()) });
            }
        }
        let too_short = |part: &str| Error::TooShort {
            name: corpus.name.clone(),
            message: format!("nothing of it is left for {part}"),
        };
        if corpus.train.iter().all(|span| span.len() == 0) {
            return Err(too_short("training"));
        }
        if corpus.val.iter().all(|span| span.len() == 0) {
            return Err(too_short("validation"));
        }
        corpus.look()?;
        Ok(corpus)
    }

    /// Notes what a person should know about the texts.
    fn look(&mut self) -> Result<()> {
        let (mut returns, mut nuls) = (0u64, 0u64);
        for piece in Pieces::new(&self.train).chain(Pieces::new(&self.val)) {
            let bytes = piece?.bytes;
            returns += bytes.windows(2).filter(|pair| pair == b"\r\n").count() as u64;
            nuls += bytes.iter().filter(|&&byte| byte == 0).count() as u64;
        }
        if returns > 0 {
            self.notices.push(format!("{returns} lines end in CRLF; the carriage returns are kept"));
        }
        if nuls > 0 {
            self.notices.push(format!("the text has {nuls} NUL bytes; they are kept"));
        }
        Ok(())
    }

    /// What the text is called.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// What a person should know about the text.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Trains a tokenizer on the training split alone.
    ///
    /// # Errors
    /// Text that is not UTF-8 (unless tokens are bytes), a vocabulary that is too large.
    pub fn train_tokenizer(&self, kind: TokenizerKind) -> Result<Tokenizer> {
        Tokenizer::train(kind, self.unit, Pieces::new(&self.train))
    }

    /// The training split as tokens.
    ///
    /// # Errors
    /// Text that is not UTF-8; too few tokens to learn from.
    pub fn encode_train(&self, tokenizer: &Tokenizer) -> Result<TokenText> {
        let text = encode(&self.train, tokenizer)?;
        if text.scored() < 2 {
            return Err(Error::TooShort {
                name: self.name.clone(),
                message: format!("{} tokens to train on, and the first has no context", text.scored()),
            });
        }
        Ok(text)
    }

    /// The validation split as tokens.
    ///
    /// # Errors
    /// Text that is not UTF-8; no token to score.
    pub fn encode_val(&self, tokenizer: &Tokenizer) -> Result<TokenText> {
        let text = encode(&self.val, tokenizer)?;
        if text.scored() == 0 {
            return Err(Error::TooShort {
                name: self.name.clone(),
                message: "no token is left to validate on".into(),
            });
        }
        Ok(text)
    }

    /// −ln p(validation text | training text) in nats, where the source of both is known.
    ///
    /// # Errors
    /// A failure of the source.
    pub fn source_nats_val(&self) -> Result<Option<f64>> {
        let Some(Known { source, text, split: Some(split) }) = &self.source else { return Ok(None) };
        Ok(Some(source.nats(&text[..*split], &text[*split..])?))
    }

    /// The source that the text was sampled from, where it is known.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref().map(|known| known.source.as_ref())
    }
}

/// A text to evaluate a model on.
#[derive(Debug)]
pub struct EvaluationText {
    /// Its tokens.
    pub tokens: TokenText,
    /// What it is called.
    pub name: String,
}

/// Encodes files (or directories) with a tokenizer that is there already.
///
/// # Errors
/// As [`Corpus::load`] and [`Corpus::encode_val`].
pub fn encode_files(paths: &[PathBuf], tokenizer: &Tokenizer) -> Result<EvaluationText> {
    let files = spans(paths)?;
    let name = name(paths, files.len());
    let tokens = encode(&files, tokenizer)?;
    if tokens.scored() == 0 {
        return Err(Error::Empty { name });
    }
    Ok(EvaluationText { tokens, name })
}

fn name(paths: &[PathBuf], files: usize) -> String {
    match paths {
        [only] if files == 1 => only.display().to_string(),
        [only] => format!("{files} files in {}", only.display()),
        _ => format!("{files} files"),
    }
}

/// The tokens of `spans`.
fn encode(spans: &[Span], tokenizer: &Tokenizer) -> Result<TokenText> {
    let mut text = TokenText {
        bytes: spans.iter().map(Span::len).sum(),
        unit: tokenizer.unit(),
        bos: tokenizer.bos(),
        ..TokenText::default()
    };
    for piece in Pieces::new(spans) {
        let piece = piece?;
        match (tokenizer.bos(), tokenizer.eos()) {
            (Some(bos), Some(eos)) => encode_lines(&piece, tokenizer, bos, eos, &mut text)?,
            _ => text.ids.extend(tokenizer.encode_piece(&piece)?),
        }
    }
    text.oov = text.ids.iter().filter(|&&id| Some(id) == tokenizer.unk()).count() as u64;
    Ok(text)
}

fn encode_lines(
    piece: &Piece,
    tokenizer: &Tokenizer,
    bos: u32,
    eos: u32,
    text: &mut TokenText,
) -> Result<()> {
    // A piece ends with a line, except where a line is so long that it had to be cut: then its parts are sentences.
    for line in piece.bytes.split_inclusive(|&byte| byte == b'\n') {
        text.ids.push(bos);
        if matches!(tokenizer.kind(), TokenizerKind::Byte) {
            text.ids.extend(line.iter().filter(|&&byte| byte != b'\n').map(|&byte| u32::from(byte)));
        } else {
            // The whole piece is checked first, so that an error says where in the file it is.
            piece.text()?;
            text.ids.extend(tokenizer.encode(&String::from_utf8_lossy(line))?);
        }
        text.ids.push(eos);
        text.lines += 1;
    }
    Ok(())
}

/// The files below `paths`, whole.
fn spans(paths: &[PathBuf]) -> Result<Vec<Span>> {
    let mut found = Vec::new();
    for path in paths {
        let metadata =
            std::fs::metadata(path).map_err(|reason| Error::Read { path: path.clone(), reason })?;
        if metadata.is_dir() {
            let before = found.len();
            walk(path, 0, &mut BTreeSet::new(), &mut found)?;
            if found.len() == before {
                return Err(Error::NoText { path: path.clone() });
            }
        } else if metadata.is_file() {
            // Opened once now, so that an unreadable file shows before any work.
            File::open(path).map_err(|reason| Error::Read { path: path.clone(), reason })?;
            found.push(Span { place: Place::File(path.clone()), start: 0, end: metadata.len() });
        } else {
            return Err(Error::NotAFile { path: path.clone() });
        }
    }
    Ok(found)
}

/// How deep directories may lie in each other.
const DEEPEST: usize = 64;

/// Reads each directory once: links can make a circle, and two of them a maze.
fn walk(folder: &Path, depth: usize, seen: &mut BTreeSet<PathBuf>, found: &mut Vec<Span>) -> Result<()> {
    let cannot = |reason| Error::Read { path: folder.to_owned(), reason };
    if !seen.insert(folder.canonicalize().map_err(cannot)?) {
        return Ok(());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        paths.push(entry.map_err(cannot)?.path());
    }
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        if hidden {
            continue;
        }
        if metadata.is_dir() && depth < DEEPEST {
            walk(&path, depth + 1, seen, found)?;
        } else if metadata.is_file() && metadata.len() > 0 && is_text(&path)? {
            found.push(Span { place: Place::File(path), start: 0, end: metadata.len() });
        }
    }
    Ok(())
}

/// Whether a file in a directory looks like text: no NUL at its start. A file named outright is always read.
fn is_text(path: &Path) -> Result<bool> {
    let cannot = |reason| Error::Read { path: path.to_owned(), reason };
    let mut start = Vec::new();
    File::open(path).map_err(cannot)?.take(SNIFFED).read_to_end(&mut start).map_err(cannot)?;
    Ok(!start.contains(&0))
}

/// Cuts `files` after `wanted` bytes: at the next start of a character, or of a line in line mode.
fn cut(files: &[Span], wanted: u64, unit: Unit) -> Result<(Vec<Span>, Vec<Span>)> {
    let (mut train, mut val) = (Vec::new(), Vec::new());
    let mut before = 0;
    for span in files {
        let inside = wanted.saturating_sub(before).min(span.len());
        before += span.len();
        let at = if inside == 0 || inside == span.len() { inside } else { boundary(span, inside, unit)? };
        if at > 0 {
            train.push(Span { end: span.start + at, ..span.clone() });
        }
        if at < span.len() {
            val.push(Span { start: span.start + at, ..span.clone() });
        }
    }
    Ok((train, val))
}

/// The first place at or after `at` where a split may fall.
fn boundary(span: &Span, at: u64, unit: Unit) -> Result<u64> {
    let mut buffer = Vec::new();
    // From one byte before: a newline there makes `at` itself the start of a line.
    let from = at - 1;
    let mut rest: Box<dyn Read> = match &span.place {
        Place::File(path) => {
            let cannot = |reason| Error::Read { path: path.clone(), reason };
            let mut file = File::open(path).map_err(cannot)?;
            file.seek(SeekFrom::Start(span.start + from)).map_err(cannot)?;
            Box::new(std::io::BufReader::new(file.take(span.len() - from)))
        }
        Place::Memory { text, .. } => {
            Box::new(std::io::Cursor::new(text.as_bytes()[(span.start + from) as usize..].to_vec()))
        }
    };
    let mut place = from;
    loop {
        buffer.resize(1 << 16, 0);
        let count = rest
            .read(&mut buffer)
            .map_err(|reason| Error::Read { path: PathBuf::from(span.name()), reason })?;
        if count == 0 {
            return Ok(span.len());
        }
        for &byte in &buffer[..count] {
            match unit {
                Unit::Stream if place >= at && byte & 0xC0 != 0x80 => return Ok(place),
                Unit::Line if byte == b'\n' => return Ok(place + 1),
                _ => place += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own input")]
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn options(train: &[PathBuf], unit: Unit) -> DataOptions {
        DataOptions { train: train.to_vec(), val: Vec::new(), val_fraction: 0.25, unit }
    }

    fn texts(corpus: &Corpus) -> (String, String) {
        let read = |spans: &[Span]| {
            let bytes: Vec<u8> = Pieces::new(spans).flat_map(|piece| piece.unwrap().bytes).collect();
            String::from_utf8(bytes).unwrap()
        };
        (read(&corpus.train), read(&corpus.val))
    }

    #[test]
    fn a_stream_is_split_between_characters() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "a.txt", "éééé");
        let (train, val) = texts(&Corpus::load(&options(&[path], Unit::Stream)).unwrap());
        assert_eq!((train.as_str(), val.as_str()), ("ééé", "é"));
        let path = file(folder.path(), "b.txt", "aéaéa");
        // Five eighths of seven bytes lie inside the second é: it goes to training.
        let corpus =
            Corpus::load(&DataOptions { val_fraction: 0.3, ..options(&[path], Unit::Stream) }).unwrap();
        assert_eq!(texts(&corpus), ("aéa".to_owned() + "", "éa".to_owned()));
    }

    #[test]
    fn lines_are_split_between_lines_and_files_stay_apart() {
        let folder = tempfile::tempdir().unwrap();
        let a = file(folder.path(), "a.txt", "one\ntwo\nthree\n");
        let b = file(folder.path(), "b.txt", "four\nfive\nsix\n");
        let (train, val) = texts(&Corpus::load(&options(&[a, b], Unit::Line)).unwrap());
        assert_eq!(train, "one\ntwo\nthree\nfour\nfive\n");
        assert_eq!(val, "six\n");
    }

    #[test]
    fn validation_can_be_files_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let a = file(folder.path(), "a.txt", "abcabc");
        let b = file(folder.path(), "b.txt", "abd");
        let options = DataOptions { val: vec![b], ..options(&[a], Unit::Stream) };
        let corpus = Corpus::load(&options).unwrap();
        let tokenizer = corpus.train_tokenizer(TokenizerKind::Char).unwrap();
        let val = corpus.encode_val(&tokenizer).unwrap();
        // d is not in the training text.
        assert_eq!((val.ids, val.oov, val.bytes), (vec![1, 2, 0], 1, 3));
    }

    #[test]
    fn directories_are_read_in_order_without_what_is_no_text() {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), "t/b.txt", "second");
        file(folder.path(), "t/a/z.txt", "first ");
        file(folder.path(), "t/image", [1, 0, 2]);
        file(folder.path(), "t/.hidden", "secret");
        let (train, val) = texts(&Corpus::load(&options(&[folder.path().join("t")], Unit::Stream)).unwrap());
        assert_eq!(train + &val, "first second");
        file(folder.path(), "none/image", [0, 1]);
        let error = Corpus::load(&options(&[folder.path().join("none")], Unit::Stream)).unwrap_err();
        assert!(matches!(error, Error::NoText { .. }), "{error}");
    }

    #[test]
    fn too_little_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (text, short) in [("", "empty"), ("x", "too short"), ("\n", "too short")] {
            let path = file(folder.path(), "a.txt", text);
            let error = Corpus::load(&options(&[path], Unit::Stream)).unwrap_err();
            assert!(error.to_string().contains(short) && error.hint().is_some(), "{error}");
        }
        assert!(matches!(
            Corpus::load(&options(&[folder.path().join("gone")], Unit::Stream)).unwrap_err(),
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
        let options = DataOptions { val_fraction: 0.1, ..options(&[path], Unit::Stream) };
        let corpus = Corpus::load(&options).unwrap();
        assert_eq!((corpus.train[0].len(), corpus.val[0].len()), (1_003_854, 111_540));
    }

    #[test]
    fn lines_become_sentences() {
        let folder = tempfile::tempdir().unwrap();
        let a = file(folder.path(), "a.txt", "a b\n\nb\nlast");
        let b = file(folder.path(), "b.txt", "b c\n");
        let options = DataOptions { val: vec![b], ..options(&[a], Unit::Line) };
        let corpus = Corpus::load(&options).unwrap();
        let tokenizer = corpus.train_tokenizer(TokenizerKind::Word).unwrap();
        let train = corpus.encode_train(&tokenizer).unwrap();
        assert_eq!(train.ids, [1, 3, 4, 2, 1, 2, 1, 4, 2, 1, 5, 2]);
        let val = corpus.encode_val(&tokenizer).unwrap();
        assert_eq!((val.ids, val.oov), (vec![1, 4, 0, 2], 1));
        assert_eq!(val.lines, 1);
    }
}
