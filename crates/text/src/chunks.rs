//! Reads texts in chunks, in bounded memory.
//!
//! A chunk ends where every built-in tokenizer cuts: after a newline that no white space follows.
//! So the tokens of the chunks are those of the whole text. The tokenizer of a file is asked, also
//! about cuts before a space ([`TextChunks::cut_by`]), and gets the end of the text so far. A line
//! longer than [`MAX_LINE_BYTES`] is cut after a space, or between two characters if it has none.
//!
//! What is passed on has been cleaned, and has only the lines or records of its part of a split.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::clean::{Cleaning, InvalidBytes, first_invalid};
use crate::error::{Error, Result};
use crate::records::{RECORD_END, Source};
use crate::selection::Selection;
use crate::stream::{Spool, Stream, check_unchanged};
use crate::utf16::LONE_SURROGATE;
use crate::warnings::{TextWarnings, lock};
use surprisal_platform::memory;

/// The number of bytes read at a time.
pub(crate) const CHUNK_BYTES: usize = 1 << 18;
/// The longest line that is not cut.
const MAX_LINE_BYTES: usize = 1 << 24;
/// The number of chunks at the start of the texts that are checked for composed letters.
const NFC_CHUNKS: usize = 4;
/// The length of the contexts, before and after a cut, that a tokenizer gets.
const CONTEXT_BYTES: usize = 256;
/// The number of places at which a tokenizer is asked for a cut after every [`CHUNK_BYTES`].
const MAX_CUTS_TRIED: usize = 64;
/// The number of chunks after which the memory that is left is looked at.
const CHUNKS_PER_CHECK: usize = 64;
/// The length of a byte-order mark, which is no context.
const MARK_BYTES: u64 = 3;

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
    /// A converted text, and its temporary copy.
    Spooled(Stream, Arc<Spool>),
    /// A text that is converted while it is read, once.
    Stream(Stream),
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
    pub(crate) cleaning: Cleaning,
    /// Whether its end is the end of a document.
    pub(crate) ends_document: bool,
    /// The units that are read, if not all.
    pub(crate) selection: Option<Selection>,
}

impl Span {
    /// All of a text in memory.
    pub(crate) fn from_text(name: &str, text: &str) -> Self {
        let place = Location::Memory { name: name.to_owned(), text: text.as_bytes().into() };
        Self { location: place, end: text.len() as u64, ends_document: true, ..Self::default() }
    }

    /// The length in bytes; 0 for a stream, whose length is not known.
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.location, Location::Stream(_))
    }

    /// Whether it is certain that it has no text.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && !self.is_stream()
    }

    /// The conversion of a converted text.
    fn stream(&self) -> Option<&Stream> {
        match &self.location {
            Location::Stream(stream) | Location::Spooled(stream, _) => Some(stream),
            Location::File { .. } | Location::Memory { .. } => None,
        }
    }

    /// Whether it consists of records, each with [`RECORD_END`] after it.
    pub(crate) fn has_records(&self) -> bool {
        self.stream().is_some_and(|stream| stream.field.is_some())
    }

    pub(crate) fn name(&self) -> String {
        match &self.location {
            Location::File { path, .. } => path.display().to_string(),
            Location::Memory { name, .. } => name.clone(),
            Location::Stream(stream) | Location::Spooled(stream, _) => stream.name.clone(),
        }
    }

    /// Checks that the file has not changed since it was found, so that all reads saw one text.
    fn check_unchanged(&self) -> Result<()> {
        match &self.location {
            Location::File { path, len, changed } => check_unchanged(path, *len, *changed),
            Location::Stream(stream) => stream.check_unchanged(),
            Location::Memory { .. } | Location::Spooled(..) => Ok(()),
        }
    }

    pub(crate) fn open(&self) -> Result<Source> {
        Ok(match &self.location {
            Location::File { path, .. } => {
                let cannot = |reason| Error::Read { path: path.clone(), reason };
                let mut file = File::open(path).map_err(cannot)?;
                file.seek(SeekFrom::Start(self.start)).map_err(cannot)?;
                Box::new(file.take(self.len()))
            }
            Location::Memory { text, .. } => {
                let mut text = Cursor::new(text.clone());
                text.set_position(self.start);
                Box::new(text.take(self.len()))
            }
            Location::Spooled(_, spool) => Box::new(spool.reader(self.start, self.end)),
            Location::Stream(stream) => stream.open()?,
        })
    }

    /// The counts of the conversion of a text that has been read to its end.
    fn found(&self) -> TextWarnings {
        match &self.location {
            // Its parts have it once.
            Location::Spooled(_, spool) if self.start == 0 => spool.found,
            Location::Stream(stream) => *lock(&stream.found),
            _ => TextWarnings::default(),
        }
    }
}

/// Consecutive bytes of a text.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a chunk starts and ends things or not")]
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
    /// Whether it ends at the end of a document.
    pub(crate) ends_document: bool,
    /// The end of the text before it, only for chunks that are cut by a tokenizer.
    before: Vec<u8>,
    span: Arc<Span>,
    /// Its start in the file, in bytes.
    offset: u64,
    /// The number of newlines of a stream before it.
    lines_before: u64,
    /// The number of units of a selection before it.
    units_before: u64,
}

impl TextChunk {
    /// The bytes as text.
    ///
    /// # Errors
    /// [`Error::InvalidUtf8`] with the position of the first wrong byte.
    pub(crate) fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.bytes).map_err(|error| self.invalid(error.valid_up_to()))
    }

    /// The error for a byte that is no text.
    fn invalid(&self, at: usize) -> Error {
        let (name, line) = (self.name(), self.line(at));
        match self.bytes[at] {
            LONE_SURROGATE if self.span.stream().is_some_and(|stream| stream.is_utf16) => {
                Error::InvalidUtf16 { name, line }
            }
            0 => Error::Nul { name, line },
            byte => Error::InvalidUtf8 { name, offset: self.offset + at as u64, byte, line },
        }
    }

    /// The end of the text before it, from a character that is not white space; empty at the start
    /// of a text.
    pub(crate) fn context(&self) -> &str {
        context(&self.before)
    }

    /// Whether it ends at the end of a record.
    pub(crate) fn ends_record(&self) -> bool {
        self.ends_document && self.span.has_records()
    }

    /// The name of the file.
    pub(crate) fn name(&self) -> String {
        self.span.name()
    }

    /// The line in the file, from 1, of the byte `at` of this chunk; the number of the record for
    /// records.
    ///
    /// Reads the file again up to here. Only errors need it, so lines are not counted otherwise.
    pub(crate) fn line(&self, at: usize) -> u64 {
        let end = if self.span.has_records() { RECORD_END } else { b'\n' };
        let ends = |bytes: &[u8]| memchr::memchr_iter(end, bytes).count() as u64;
        let mut lines = 1 + self.lines_before + ends(&self.bytes[..at]);
        if self.span.is_stream() {
            return lines;
        }
        let before = Span { location: self.span.location.clone(), end: self.offset, ..Span::default() };
        let Ok(mut reader) = before.open() else { return lines };
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            lines += ends(&buffer[..count]);
        }
        lines
    }

    /// Calls `visit` with the text as it is to be encoded: cleaned, without the units of another
    /// part of a split, and one record at a time. Uses `piece` for the records.
    pub(crate) fn visit(
        &mut self,
        piece: &mut Self,
        warnings: &mut TextWarnings,
        mut visit: impl FnMut(&mut Self, &mut TextWarnings) -> Result<()>,
    ) -> Result<()> {
        let span = Arc::clone(&self.span);
        let records = span.has_records();
        if let Some(selection) = &span.selection {
            // Before the selection, so that the position is that in the file.
            let Cleaning { invalid, any_bytes, keep_nuls, .. } = span.cleaning;
            if invalid == InvalidBytes::Error
                && !(any_bytes || records)
                && let Some(at) = first_invalid(&self.bytes, keep_nuls)
            {
                return Err(self.invalid(at));
            }
            selection.retain(&mut self.bytes, self.units_before);
            self.before.clear();
        }
        if !records {
            return self.visit_cleaned(warnings, &mut visit);
        }
        let mut starts_line = self.starts_line;
        let mut offset = self.offset;
        let count = memchr::memchr_iter(RECORD_END, &self.bytes).count() as u64;
        for (number, part) in (0..).zip(self.bytes.split_inclusive(|&byte| byte == RECORD_END)) {
            let (text, ended) = part.strip_suffix(&[RECORD_END]).map_or((part, false), |text| (text, true));
            piece.bytes.clear();
            piece.bytes.extend_from_slice(text);
            (piece.index, piece.offset, piece.span) = (self.index, offset, Arc::clone(&span));
            piece.lines_before = if span.is_stream() { self.lines_before + number.min(count) } else { 0 };
            (piece.starts_line, piece.ends_document) = (starts_line, ended);
            piece.ends_line = ended || self.ends_line;
            // A record has no context but its own.
            let own = self.before.iter().rposition(|&byte| byte == RECORD_END).map_or(0, |at| at + 1);
            piece.before.clear();
            piece.before.extend_from_slice(if number == 0 { &self.before[own..] } else { &[] });
            piece.ends_mid_word = !ended && self.ends_mid_word;
            piece.visit_cleaned(warnings, &mut visit)?;
            starts_line = true;
            offset += part.len() as u64;
        }
        Ok(())
    }

    fn visit_cleaned(
        &mut self,
        warnings: &mut TextWarnings,
        visit: &mut impl FnMut(&mut Self, &mut TextWarnings) -> Result<()>,
    ) -> Result<()> {
        let cleaning = self.span.cleaning;
        if let Err(at) =
            cleaning.clean(&mut self.bytes, (self.starts_line, self.index < NFC_CHUNKS), warnings)
        {
            return Err(self.invalid(at));
        }
        if self.bytes.is_empty() {
            if !self.ends_document {
                return Ok(());
            }
            // No line is left, not even an empty one.
            (self.starts_line, self.ends_line) = (false, false);
        }
        warnings.bytes += self.bytes.len() as u64;
        warnings.mid_word_cuts += u64::from(self.ends_mid_word);
        visit(self, warnings)
    }
}

/// Iterator over the chunks of several spans; no chunk crosses from one file to the next.
pub(crate) struct TextChunks {
    spans: VecDeque<Span>,
    open: Option<OpenSpan>,
    /// The number of chunks returned.
    count: usize,
    /// The counts of the conversions of the texts that have ended.
    pub(crate) found: TextWarnings,
    /// Pieces of a chunk that the iterator has not returned.
    pieces: VecDeque<TextChunk>,
    can_cut: Option<Box<CanCut>>,
    /// The memory available at the start of a text of several chunks, if the system says.
    memory: Option<u64>,
}

/// Whether a text may be cut between two parts.
type CanCut = dyn Fn(&str, &str) -> bool + Send;

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
    lines: u64,
    units: u64,
    /// The end of the text before `rest`, for a tokenizer.
    before: Vec<u8>,
}

/// The text of bytes that may start within a character, without white space at its start.
fn context(bytes: &[u8]) -> &str {
    let start = bytes.iter().take(3).take_while(|&&byte| byte & 0xC0 == 0x80).count();
    bytes[start..].utf8_chunks().last().map_or("", |chunk| chunk.valid()).trim_start()
}

impl TextChunks {
    pub(crate) fn new(spans: &[Span]) -> Self {
        let (open, found, pieces) = (None, TextWarnings::default(), VecDeque::new());
        let spans = spans.iter().cloned().collect();
        Self { spans, open, count: 0, found, pieces, can_cut: None, memory: None }
    }

    /// Cuts the text where `can_cut`, given the parts before and after, and keeps contexts.
    pub(crate) fn cut_by(self, can_cut: impl Fn(&str, &str) -> bool + Send + 'static) -> Self {
        Self { can_cut: Some(Box::new(can_cut)), ..self }
    }

    /// The number of bytes that are left in spans not yet opened, if that is known.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let is_known = !self.spans.iter().any(Span::is_stream);
        is_known.then(|| self.spans.iter().map(Span::len).sum())
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
        self.pieces.clear();
    }

    fn try_read_into(&mut self, chunk: &mut TextChunk) -> Result<bool> {
        loop {
            if let Some(current) = &mut self.open {
                if current.advance(chunk, self.can_cut.as_deref())? {
                    chunk.index = self.count;
                    self.count += 1;
                    if self.count == 2 {
                        self.memory = memory::available();
                    } else if self.count.is_multiple_of(CHUNKS_PER_CHECK) {
                        check_memory(self.memory, self.count, &current.span)?;
                    }
                    return Ok(true);
                }
                current.span.check_unchanged()?;
                self.found += current.span.found();
                self.open = None;
            }
            let Some(span) = self.spans.pop_front() else { return Ok(false) };
            let mut before = Vec::new();
            if self.can_cut.is_some() && span.start > MARK_BYTES {
                let start = span.start.saturating_sub(CONTEXT_BYTES as u64);
                Span { start, end: span.start, ..span.clone() }
                    .open()?
                    .read_to_end(&mut before)
                    .map_err(|reason| Error::of_io(span.name(), reason))?;
            }
            self.open = Some(OpenSpan {
                before,
                reader: span.open()?,
                rest: Vec::new(),
                offset: span.start,
                starts_line: true,
                ended: false,
                lines: 0,
                units: 0,
                span: Arc::new(span),
            });
        }
    }
}

/// The chunks as they are to be encoded.
impl Iterator for TextChunks {
    type Item = Result<TextChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some(Ok(piece));
            }
            let mut chunk = TextChunk::default();
            match self.read_into(&mut chunk) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
            let pieces = &mut self.pieces;
            let keep = |piece: &mut TextChunk, _: &mut TextWarnings| {
                pieces.push_back(std::mem::take(piece));
                Ok(())
            };
            if let Err(error) = chunk.visit(&mut TextChunk::default(), &mut TextWarnings::default(), keep) {
                self.stop();
                return Some(Err(error));
            }
        }
    }
}

/// Refuses to read on when what was read has taken half of the memory that was `available`: its
/// tokens exist twice when they are joined.
fn check_memory(available: Option<u64>, chunks: usize, span: &Span) -> Result<()> {
    let (Some(before), Some(now)) = (available, memory::available()) else { return Ok(()) };
    if before.saturating_sub(now) <= now {
        return Ok(());
    }
    Err(Error::TooLarge { name: span.name(), read: (chunks * CHUNK_BYTES) as u64 })
}

impl OpenSpan {
    fn advance(&mut self, chunk: &mut TextChunk, can_cut: Option<&CanCut>) -> Result<bool> {
        let bytes = &mut chunk.bytes;
        bytes.clear();
        // Room for the rest of the previous chunk, which is at most a line.
        bytes.reserve_exact(CHUNK_BYTES + CHUNK_BYTES / 8);
        bytes.append(&mut self.rest);
        // The bytes already searched for a cut point.
        let mut searched = 0;
        let at = loop {
            if let Some(at) = cut_point(bytes, searched, self.ended, self.span.has_records(), can_cut) {
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
                .map_err(|reason| Error::of_io(self.span.name(), reason))?;
            self.ended = count < CHUNK_BYTES;
            let read = self.offset + bytes.len() as u64;
            match &self.span.location {
                Location::Stream(stream) if stream.limit.is_some_and(|limit| read > limit) => {
                    return Err(Error::TooLarge { name: stream.name.clone(), read });
                }
                Location::Stream(_) => {}
                _ if self.ended && read < self.span.end => {
                    return Err(Error::Changed(PathBuf::from(self.span.name())));
                }
                _ => {}
            }
        };
        self.rest.extend_from_slice(&bytes[at..]);
        bytes.truncate(at);
        let newline = match bytes.last() {
            Some(&RECORD_END) => self.span.has_records(),
            last => last == Some(&b'\n'),
        };
        let last = self.ended && self.rest.is_empty();
        chunk.offset = self.offset;
        chunk.starts_line = std::mem::replace(&mut self.starts_line, newline);
        chunk.ends_line = newline || last;
        chunk.ends_document = last && self.span.ends_document;
        (chunk.lines_before, chunk.units_before) = (self.lines, self.units);
        if let Some(stream) = self.span.stream().filter(|_| self.span.is_stream()) {
            let end = if stream.field.is_some() { RECORD_END } else { b'\n' };
            self.lines += memchr::memchr_iter(end, bytes).count() as u64;
        }
        if let Some(selection) = &self.span.selection {
            self.units += selection.units(bytes);
        }
        chunk.ends_mid_word = !chunk.ends_line && bytes.last() != Some(&b' ');
        chunk.span = self.span.clone();
        if can_cut.is_some() {
            let end = bytes[bytes.len().saturating_sub(CONTEXT_BYTES)..].to_vec();
            chunk.before = std::mem::replace(&mut self.before, end);
        }
        self.offset += at as u64;
        Ok(true)
    }
}

/// The position to cut `pending` at, if there is one after the `searched` bytes. Some bytes follow
/// it unless the text has ended.
fn cut_point(
    pending: &[u8],
    searched: usize,
    ended: bool,
    records: bool,
    can_cut: Option<&CanCut>,
) -> Option<usize> {
    if ended {
        return (!pending.is_empty()).then_some(pending.len());
    }
    let from = searched.saturating_sub(1).max(1);
    let ends_record = |at: usize| records && pending[at - 1] == RECORD_END;
    let found = match can_cut {
        None => {
            let safe =
                |at: usize| ends_record(at) || pending[at - 1] == b'\n' && pending[at].is_ascii_graphic();
            (from..pending.len()).rev().find(|&at| safe(at))
        }
        Some(can_cut) => {
            let is_blank = |byte: u8| byte <= b' ';
            let may = |at: &usize| match (pending[at - 1], pending[*at]) {
                _ if ends_record(*at) => true,
                (b'\n', after) => !is_blank(after),
                (before, b' ') => {
                    !is_blank(before) && pending.get(at + 1).is_some_and(|&byte| !is_blank(byte))
                }
                _ => false,
            };
            let is_cut = |at: &usize| {
                let before = context(&pending[at.saturating_sub(CONTEXT_BYTES)..*at]);
                let after = &pending[*at..at + CONTEXT_BYTES];
                let after = after.utf8_chunks().next().map_or("", |chunk| chunk.valid());
                ends_record(*at) || !before.is_empty() && can_cut(before, after)
            };
            let from = from.saturating_sub(CONTEXT_BYTES).max(1);
            let end = pending.len().saturating_sub(CONTEXT_BYTES);
            (from..end).rev().filter(may).take(MAX_CUTS_TRIED).find(is_cut)
        }
    };
    if found.is_some() {
        return found;
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
        let found = crate::inputs::find(&[file.path().to_owned()], &crate::InputOptions::default(), false)
            .unwrap()
            .spans;
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
