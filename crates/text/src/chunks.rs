//! Reads texts in chunks, in bounded memory.
//!
//! A chunk ends where every built-in tokenizer cuts: after a newline that no white space follows.
//! So the tokens of the chunks are those of the whole text. A line longer than [`MAX_LINE_BYTES`]
//! is cut after a space, or between two characters if it has none.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, Result};

/// The number of bytes read at a time.
pub(crate) const CHUNK_BYTES: usize = 1 << 18;
/// The longest line that is not cut.
const MAX_LINE_BYTES: usize = 1 << 24;

/// The storage of a text.
#[derive(Debug, Clone)]
pub(crate) enum Location {
    /// A file, with its length and modification time when it was found.
    File {
        path: PathBuf,
        len: u64,
        changed: Option<SystemTime>,
    },
    Memory {
        name: String,
        text: Arc<[u8]>,
    },
}

impl Default for Location {
    fn default() -> Self {
        Self::Memory { name: String::new(), text: Arc::default() }
    }
}

/// A range of bytes of one text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Span {
    pub(crate) location: Location,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Span {
    /// All of a text in memory.
    pub(crate) fn from_text(name: &str, text: &str) -> Self {
        let place = Location::Memory { name: name.to_owned(), text: text.as_bytes().into() };
        Self { location: place, start: 0, end: text.len() as u64 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn name(&self) -> String {
        match &self.location {
            Location::File { path, .. } => path.display().to_string(),
            Location::Memory { name, .. } => name.clone(),
        }
    }

    /// Checks that the file has not changed since it was found, so that all reads saw one text.
    fn check_unchanged(&self) -> Result<()> {
        match &self.location {
            Location::File { path, len, changed } => match std::fs::metadata(path) {
                Ok(now) if (now.len(), now.modified().ok()) == (*len, *changed) => Ok(()),
                _ => Err(Error::Changed(path.clone())),
            },
            Location::Memory { .. } => Ok(()),
        }
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Read + Send>> {
        match &self.location {
            Location::File { path, .. } => {
                let cannot = |reason| Error::Read { path: path.clone(), reason };
                let mut file = File::open(path).map_err(cannot)?;
                file.seek(SeekFrom::Start(self.start)).map_err(cannot)?;
                Ok(Box::new(file.take(self.len())))
            }
            Location::Memory { text, .. } => {
                let mut text = Cursor::new(text.clone());
                text.set_position(self.start);
                Ok(Box::new(text.take(self.len())))
            }
        }
    }
}

/// Consecutive bytes of a text.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextChunk {
    pub(crate) bytes: Vec<u8>,
    /// The number of chunks before it.
    pub(crate) index: usize,
    /// Whether it starts at the start of a line; not so only within a line that was cut.
    pub(crate) starts_line: bool,
    /// Whether it ends at the end of a line.
    pub(crate) ends_line: bool,
    /// Whether it ends within a word that was cut.
    pub(crate) ends_mid_word: bool,
    span: Arc<Span>,
    /// Its start in the file, in bytes.
    offset: u64,
}

impl TextChunk {
    /// The bytes as text.
    ///
    /// # Errors
    /// [`Error::InvalidUtf8`] with the position of the first wrong byte.
    pub(crate) fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.bytes).map_err(|error| {
            let at = error.valid_up_to();
            Error::InvalidUtf8 {
                name: self.name(),
                offset: self.offset + at as u64,
                byte: self.bytes[at],
                line: self.line(at),
            }
        })
    }

    /// The name of the file.
    pub(crate) fn name(&self) -> String {
        self.span.name()
    }

    /// The line in the file, from 1, of the byte `at` of this chunk.
    ///
    /// Reads the file again up to here. Only errors need it, so lines are not counted otherwise.
    pub(crate) fn line(&self, at: usize) -> u64 {
        let newlines = |bytes: &[u8]| memchr::memchr_iter(b'\n', bytes).count() as u64;
        let before = Span { location: self.span.location.clone(), start: 0, end: self.offset };
        let mut lines = 1 + newlines(&self.bytes[..at]);
        let Ok(mut reader) = before.open() else { return lines };
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            lines += newlines(&buffer[..count]);
        }
        lines
    }
}

/// Iterator over the chunks of several spans; no chunk crosses from one file to the next.
pub(crate) struct TextChunks {
    spans: VecDeque<Span>,
    open: Option<OpenSpan>,
    /// The number of chunks returned.
    count: usize,
}

struct OpenSpan {
    span: Arc<Span>,
    reader: Box<dyn Read + Send>,
    /// Bytes that were read and not yet returned.
    rest: Vec<u8>,
    /// The start of `rest` in the file.
    offset: u64,
    /// Whether `rest` starts at the start of a line.
    starts_line: bool,
    ended: bool,
}

impl TextChunks {
    pub(crate) fn new(spans: &[Span]) -> Self {
        Self { spans: spans.iter().cloned().collect(), open: None, count: 0 }
    }

    /// Reads the next chunk into the memory of `chunk`; false at the end. An error ends the text.
    pub(crate) fn read_into(&mut self, chunk: &mut TextChunk) -> Result<bool> {
        let filled = self.try_read_into(chunk);
        if filled.is_err() {
            self.stop();
        }
        filled
    }

    /// The number of chunks returned so far.
    pub(crate) fn handed_out(&self) -> usize {
        self.count
    }

    /// Ends the iterator.
    pub(crate) fn stop(&mut self) {
        self.open = None;
        self.spans.clear();
    }

    fn try_read_into(&mut self, chunk: &mut TextChunk) -> Result<bool> {
        loop {
            if let Some(current) = &mut self.open {
                if current.advance(chunk)? {
                    chunk.index = self.count;
                    self.count += 1;
                    return Ok(true);
                }
                current.span.check_unchanged()?;
                self.open = None;
            }
            let Some(span) = self.spans.pop_front() else { return Ok(false) };
            self.open = Some(OpenSpan {
                reader: span.open()?,
                rest: Vec::new(),
                offset: span.start,
                starts_line: true,
                ended: false,
                span: Arc::new(span),
            });
        }
    }
}

impl Iterator for TextChunks {
    type Item = Result<TextChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut chunk = TextChunk::default();
        match self.read_into(&mut chunk) {
            Ok(true) => Some(Ok(chunk)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl OpenSpan {
    fn advance(&mut self, chunk: &mut TextChunk) -> Result<bool> {
        let bytes = &mut chunk.bytes;
        bytes.clear();
        // Room for the rest of the previous chunk, which is at most a line.
        bytes.reserve_exact(CHUNK_BYTES + CHUNK_BYTES / 8);
        bytes.append(&mut self.rest);
        // The bytes already searched for a cut point.
        let mut searched = 0;
        let at = loop {
            if let Some(at) = cut_point(bytes, searched, self.ended) {
                break at;
            }
            if self.ended {
                return Ok(false);
            }
            searched = bytes.len();
            bytes.reserve(CHUNK_BYTES);
            let count = (&mut self.reader)
                .take(CHUNK_BYTES as u64)
                .read_to_end(bytes)
                .map_err(|reason| Error::Read { path: PathBuf::from(self.span.name()), reason })?;
            self.ended = count < CHUNK_BYTES;
            if self.ended && self.offset + (bytes.len() as u64) < self.span.end {
                return Err(Error::Changed(PathBuf::from(self.span.name())));
            }
        };
        self.rest.extend_from_slice(&bytes[at..]);
        bytes.truncate(at);
        let newline = bytes.last() == Some(&b'\n');
        chunk.offset = self.offset;
        chunk.starts_line = std::mem::replace(&mut self.starts_line, newline);
        chunk.ends_line = newline || (self.ended && self.rest.is_empty());
        chunk.ends_mid_word = !chunk.ends_line && bytes.last() != Some(&b' ');
        chunk.span = self.span.clone();
        self.offset += at as u64;
        Ok(true)
    }
}

/// The position to cut `pending` at, if there is one after the `searched` bytes. Some bytes follow
/// it unless the text has ended.
fn cut_point(pending: &[u8], searched: usize, ended: bool) -> Option<usize> {
    if ended {
        return (!pending.is_empty()).then_some(pending.len());
    }
    let from = searched.saturating_sub(1).max(1);
    let safe = |at: usize| pending[at - 1] == b'\n' && pending[at].is_ascii_graphic();
    if let Some(at) = (from..pending.len()).rev().find(|&at| safe(at)) {
        return Some(at);
    }
    if pending.len() < MAX_LINE_BYTES {
        return None;
    }
    let after_space = |at: usize| pending[at - 1] == b' ' && pending[at].is_ascii_graphic();
    let between = |at: usize| pending[at] & 0xC0 != 0x80;
    (1..pending.len())
        .rev()
        .take(1 << 16)
        .find(|&at| after_space(at))
        .or_else(|| (1..pending.len()).rev().take(4).find(|&at| between(at)))
        .or(Some(pending.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(span: &Span) -> Vec<TextChunk> {
        TextChunks::new(std::slice::from_ref(span)).collect::<Result<_>>().unwrap()
    }

    #[test]
    fn pieces_are_bounded_and_add_up() {
        let text = "some words on a line\nand more\n\n  indented\n".repeat(60_000);
        let chunks = all(&Span::from_text("memory", &text));
        assert!(chunks.len() > 5);
        assert!(chunks.iter().all(|chunk| chunk.bytes.len() <= CHUNK_BYTES + 100));
        let joined: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.bytes).collect();
        assert!(joined == text.as_bytes());
    }

    #[test]
    fn a_line_without_end_is_cut_all_the_same() {
        for text in ["é".repeat(MAX_LINE_BYTES), "word ".repeat(MAX_LINE_BYTES / 4)] {
            let chunks = all(&Span::from_text("memory", &text));
            assert!(chunks.len() >= 2);
            assert!(
                chunks
                    .iter()
                    .all(|chunk| chunk.text().is_ok() && chunk.bytes.len() <= MAX_LINE_BYTES + CHUNK_BYTES)
            );
            let torn = chunks.iter().filter(|chunk| chunk.ends_mid_word).count();
            assert_eq!(torn, if text.contains(' ') { 0 } else { chunks.len() - 1 });
        }
    }

    #[test]
    fn a_bad_byte_is_located_across_pieces() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = "twelve bytes\n".repeat(50_000).into_bytes();
        let at = 13 * 40_000 + 5;
        bytes[at] = 0xC3;
        std::io::Write::write_all(&mut file.as_file(), &bytes).unwrap();
        let found = crate::files::find_files(&[file.path().to_owned()]).unwrap().spans;
        let error =
            TextChunks::new(&found).find_map(|chunk| chunk.and_then(|p| p.text().map(drop)).err()).unwrap();
        assert!(
            matches!(error, Error::InvalidUtf8 { offset, byte: 0xC3, line: 40_001, .. } if offset == at as u64),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_moved(text in "[a-c \n\té]{0,200}", start in 0usize..50) {
            let start = (0..=start.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            let span = Span { start: start as u64, ..Span::from_text("memory", &text) };
            let joined: Vec<u8> = all(&span).into_iter().flat_map(|chunk| chunk.bytes).collect();
            prop_assert_eq!(joined, &text.as_bytes()[start..]);
        }
    }
}
