//! Reading texts in pieces: bounded memory whatever the size of the file.
//!
//! A piece ends where every tokenizer of this crate would cut anyway, after a newline that no white space follows, so
//! tokenising piece by piece gives what tokenising the whole text gives. A "line" longer than [`LONGEST`] is cut after
//! a space, or between two characters if it has none.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};

/// How much is read at a time.
const CHUNK: usize = 1 << 18;
/// How long a line may be before it is cut somewhere else.
const LONGEST: usize = 1 << 24;

/// Where text lies.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    File(PathBuf),
    Memory { name: String, text: Arc<str> },
}

/// A range of bytes of one text.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) place: Place,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Span {
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn name(&self) -> String {
        match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Memory { name, .. } => name.clone(),
        }
    }

    fn open(&self) -> Result<Box<dyn Read + Send>> {
        match &self.place {
            Place::File(path) => {
                let cannot = |reason| Error::Read { path: path.clone(), reason };
                let mut file = File::open(path).map_err(cannot)?;
                file.seek(SeekFrom::Start(self.start)).map_err(cannot)?;
                Ok(Box::new(file.take(self.len())))
            }
            Place::Memory { text, .. } => {
                Ok(Box::new(Slice { text: text.clone(), at: self.start as usize, end: self.end as usize }))
            }
        }
    }
}

/// Reads from shared text in memory.
struct Slice {
    text: Arc<str>,
    at: usize,
    end: usize,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = &self.text.as_bytes()[self.at..self.end];
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.at += count;
        Ok(count)
    }
}

/// Some bytes of a text, and where they start in their file.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    name: String,
    offset: u64,
    /// Newlines of the span before this piece.
    lines: u64,
}

impl Piece {
    /// The bytes as text.
    ///
    /// # Errors
    /// Where they are not UTF-8, to the byte.
    pub(crate) fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.bytes).map_err(|error| {
            let at = error.valid_up_to();
            let lines = self.bytes[..at].iter().filter(|&&byte| byte == b'\n').count() as u64;
            Error::InvalidUtf8 {
                name: self.name.clone(),
                offset: self.offset + at as u64,
                byte: self.bytes[at],
                line: self.lines + lines + 1,
            }
        })
    }
}

/// The pieces of several spans, one after the other. No piece crosses from one file to the next.
pub(crate) struct Pieces {
    spans: VecDeque<Span>,
    current: Option<Current>,
}

struct Current {
    span: Span,
    reader: Box<dyn Read + Send>,
    /// Read but not handed out yet.
    pending: Vec<u8>,
    /// Where `pending` starts in the file.
    offset: u64,
    lines: u64,
    ended: bool,
}

impl Pieces {
    pub(crate) fn new(spans: &[Span]) -> Self {
        Self { spans: spans.iter().cloned().collect(), current: None }
    }
}

impl Iterator for Pieces {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.current.is_none() {
                let span = self.spans.pop_front()?;
                match span.open() {
                    Ok(reader) => {
                        let offset = span.start;
                        self.current = Some(Current {
                            span,
                            reader,
                            pending: Vec::new(),
                            offset,
                            lines: 0,
                            ended: false,
                        });
                    }
                    Err(error) => return Some(Err(error)),
                }
            }
            let Some(current) = self.current.as_mut() else { continue };
            match current.advance() {
                Ok(Some(piece)) => return Some(Ok(piece)),
                Ok(None) => self.current = None,
                Err(error) => {
                    // Nothing sensible follows a failure.
                    self.current = None;
                    self.spans.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Current {
    fn advance(&mut self) -> Result<Option<Piece>> {
        // Searched already without finding a place to cut.
        let mut searched = 0;
        loop {
            if let Some(cut) = cut(&self.pending, searched, self.ended) {
                return Ok(Some(self.take(cut)));
            }
            if self.ended {
                return Ok(None);
            }
            searched = self.pending.len();
            let before = self.pending.len();
            self.pending.resize(before + CHUNK, 0);
            let count = self
                .reader
                .read(&mut self.pending[before..])
                .map_err(|reason| Error::Read { path: PathBuf::from(self.span.name()), reason })?;
            self.pending.truncate(before + count);
            if count == 0 {
                self.ended = true;
                if self.offset + (self.pending.len() as u64) < self.span.end {
                    return Err(Error::Changed { path: PathBuf::from(self.span.name()) });
                }
            }
        }
    }

    fn take(&mut self, cut: usize) -> Piece {
        let rest = self.pending.split_off(cut);
        let bytes = std::mem::replace(&mut self.pending, rest);
        let piece = Piece { name: self.span.name(), offset: self.offset, lines: self.lines, bytes };
        self.offset += cut as u64;
        self.lines += piece.bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        piece
    }
}

/// Where to cut `pending`, if there is a place; `searched` bytes are known to hold none.
fn cut(pending: &[u8], searched: usize, ended: bool) -> Option<usize> {
    if ended {
        return (!pending.is_empty()).then_some(pending.len());
    }
    let from = searched.saturating_sub(1).max(1);
    let safe = |at: usize| pending[at - 1] == b'\n' && pending[at].is_ascii_graphic();
    if let Some(at) = (from..pending.len()).rev().find(|&at| safe(at)) {
        return Some(at);
    }
    if pending.len() < LONGEST {
        return None;
    }
    let after_space = |at: usize| pending[at - 1] == b' ' && pending[at].is_ascii_graphic();
    let between = |at: usize| pending[at] & 0xC0 != 0x80;
    (1..pending.len())
        .rev()
        .take(1 << 16)
        .find(|&at| after_space(at))
        .or_else(|| (1..pending.len()).rev().take(4).find(|&at| between(at)))
        .or(Some(pending.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn memory(text: &str) -> Span {
        let place = Place::Memory { name: "memory".into(), text: text.into() };
        Span { place, start: 0, end: text.len() as u64 }
    }

    fn all(span: &Span) -> Vec<Piece> {
        Pieces::new(std::slice::from_ref(span)).collect::<Result<_>>().unwrap()
    }

    #[test]
    fn pieces_are_bounded_and_add_up() {
        let text = "some words on a line\nand more\n\n  indented\n".repeat(60_000);
        let pieces = all(&memory(&text));
        assert!(pieces.len() > 5);
        assert!(pieces.iter().all(|piece| piece.bytes.len() <= CHUNK + 100));
        let joined: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.bytes).collect();
        assert!(joined == text.as_bytes());
    }

    #[test]
    fn a_line_without_end_is_cut_all_the_same() {
        for text in ["é".repeat(LONGEST), "word ".repeat(LONGEST / 4)] {
            let pieces = all(&memory(&text));
            assert!(pieces.len() >= 2);
            assert!(pieces.iter().all(|piece| piece.text().is_ok() && piece.bytes.len() <= LONGEST + CHUNK));
        }
    }

    #[test]
    fn a_bad_byte_is_located_across_pieces() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = "twelve bytes\n".repeat(50_000).into_bytes();
        let at = 13 * 40_000 + 5;
        bytes[at] = 0xC3;
        std::io::Write::write_all(&mut file.as_file(), &bytes).unwrap();
        let span = Span { place: Place::File(file.path().into()), start: 0, end: bytes.len() as u64 };
        let error =
            Pieces::new(&[span]).find_map(|piece| piece.and_then(|p| p.text().map(drop)).err()).unwrap();
        assert!(
            matches!(error, Error::InvalidUtf8 { offset, byte: 0xC3, line: 40_001, .. } if offset == at as u64),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_moved(text in "[a-c \n\té]{0,200}", start in 0usize..50) {
            let start = (0..=start.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            let span = Span { start: start as u64, ..memory(&text) };
            let joined: Vec<u8> = all(&span).into_iter().flat_map(|piece| piece.bytes).collect();
            prop_assert_eq!(joined, &text.as_bytes()[start..]);
        }
    }
}
