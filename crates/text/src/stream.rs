//! Texts that are converted while they are read: compressed, in UTF-16, in records, from a pipe.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use surprisal_platform::positioned::read_at;

use crate::clean::InvalidBytes;
use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::read_ahead::read_ahead;
use crate::records::{RECORD_END, RecordReader, Source};
use crate::utf16::{ByteOrder, UTF8_MARK, Utf16Reader};
use crate::warnings::{Counted, TextWarnings, lock};

/// The number of bytes at the start of a text by which it is recognised.
pub(crate) const HEAD_BYTES: usize = 1 << 16;
/// The bytes that are read from a pipe or a compressed file at a time.
const BUFFER_BYTES: usize = 1 << 18;

/// A source with its first bytes, which it returns again.
pub(crate) struct Headed {
    pub(crate) head: Vec<u8>,
    pub(crate) source: Source,
}

impl Headed {
    /// # Errors
    /// A failure to read.
    pub(crate) fn new(mut source: Source) -> io::Result<Self> {
        let mut head = Vec::new();
        (&mut source).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        let source = if head.len() < HEAD_BYTES {
            Box::new(Cursor::new(head.clone())) as Source
        } else {
            Box::new(Cursor::new(head.clone()).chain(source))
        };
        Ok(Self { head, source })
    }

    fn without_first(self, count: usize) -> Self {
        let mut source = self.source;
        // The head is in memory, so this cannot fail.
        let _ = (&mut source).take(count as u64).read_to_end(&mut Vec::new());
        Self { head: self.head[count..].to_vec(), source }
    }
}

/// A text in UTF-8 without its byte-order mark, and what had to be done for that.
pub(crate) struct Decoded {
    pub(crate) text: Headed,
    pub(crate) compression: Option<Compression>,
    pub(crate) utf16: Option<ByteOrder>,
    /// The length in bytes of the mark that was removed from UTF-8.
    pub(crate) mark: u64,
}

impl Decoded {
    /// Decompresses and decodes `raw`, the text `name`.
    ///
    /// # Errors
    /// A failure to read, a damaged file.
    pub(crate) fn new(name: &str, raw: Source) -> Result<Self> {
        let cannot = |reason| Error::of_io(name, reason);
        let mut text = Headed::new(raw).map_err(cannot)?;
        let compression = Compression::of(&text.head);
        if let Some(format) = compression {
            let reader =
                format.reader(BufReader::with_capacity(BUFFER_BYTES, text.source)).map_err(cannot)?;
            let reader = Decompressor { reader, name: name.to_owned(), format };
            text = Headed::new(Box::new(reader)).map_err(cannot)?;
        }
        let utf16 = ByteOrder::of(&text.head);
        if let Some(order) = utf16 {
            text = Headed::new(Box::new(Utf16Reader::new(text.source, order))).map_err(cannot)?;
        }
        let mark = if text.head.starts_with(UTF8_MARK) { UTF8_MARK.len() } else { 0 };
        Ok(Self { text: text.without_first(mark), compression, utf16, mark: mark as u64 })
    }
}

/// Names the format in errors of a decompressor.
struct Decompressor {
    reader: Source,
    name: String,
    format: Compression,
}

impl Read for Decompressor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.reader.read(out).map_err(|reason| {
            // A failure of the disk or of the pipe below it is told as that.
            if reason.raw_os_error().is_some() {
                return reason;
            }
            let (name, format) = (self.name.clone(), self.format);
            io::Error::other(Error::Damaged { name, format, reason: reason.to_string() })
        })
    }
}

/// The raw bytes of a text.
#[derive(Clone)]
pub(crate) enum Origin {
    /// A file that can be opened again, with its length and modification time when it was found.
    File { path: PathBuf, len: u64, changed: Option<SystemTime> },
    /// A pipe, until it is read.
    Once(Arc<Mutex<Option<Source>>>),
}

/// A text that is converted while it is read.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    /// The field of records that is the text.
    pub(crate) field: Option<String>,
    pub(crate) invalid: InvalidBytes,
    pub(crate) keep_nuls: bool,
    pub(crate) is_utf16: bool,
    /// The largest number of bytes that are read, where it is read once.
    pub(crate) limit: Option<u64>,
    pub(crate) found: Counted,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("name", &self.name).field("field", &self.field).finish_non_exhaustive()
    }
}

impl Stream {
    /// Opens the text, in UTF-8; with a field, each record's text ends with [`RECORD_END`].
    ///
    /// # Errors
    /// A failure to read, a damaged file, records without the field, a pipe that was read already.
    pub(crate) fn open(&self) -> Result<Source> {
        let text = match &self.origin {
            Origin::File { path, .. } => {
                let cannot = |reason| Error::Read { path: path.clone(), reason };
                Decoded::new(&self.name, Box::new(File::open(path).map_err(cannot)?))?.text
            }
            Origin::Once(source) => {
                // It has been decoded when it was found.
                let Some(source) = lock(source).take() else {
                    let reason = io::Error::other("it is a pipe and was read already");
                    return Err(Error::Read { path: PathBuf::from(&self.name), reason });
                };
                Headed::new(source).map_err(|reason| Error::of_io(&self.name, reason))?
            }
        };
        // A text that ends within its head needs no thread.
        let is_long = text.head.len() + UTF8_MARK.len() >= HEAD_BYTES;
        let text = if is_long { Headed { source: read_ahead(text.source), ..text } } else { text };
        let Some(field) = &self.field else { return Ok(text.source) };
        let how = (self.invalid, self.keep_nuls);
        let records =
            RecordReader::new(&self.name, field, &text.head, text.source, how, Arc::clone(&self.found))?;
        Ok(Box::new(records))
    }

    /// Checks that a file has not changed since it was found.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        match &self.origin {
            Origin::File { path, len, changed } => check_unchanged(path, *len, *changed),
            Origin::Once(_) => Ok(()),
        }
    }
}

/// Checks that a file is as it was when it was found, so that all reads saw one text.
pub(crate) fn check_unchanged(path: &Path, len: u64, changed: Option<SystemTime>) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(now) if (now.len(), now.modified().ok()) == (len, changed) => Ok(()),
        _ => Err(Error::Changed(path.to_owned())),
    }
}

/// The temporary file of all copies, which is removed when it is no longer used. One for all,
/// because a process may have only some hundred files open.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    file: Option<Arc<File>>,
    len: u64,
}

/// A converted text in a temporary file.
#[derive(Debug)]
pub(crate) struct Spool {
    file: Arc<File>,
    start: u64,
    pub(crate) len: u64,
    /// The counts of the conversion.
    pub(crate) found: TextWarnings,
    pub(crate) records: u64,
}

impl Spool {
    /// Copies all of a text to the end of `copies`.
    ///
    /// # Errors
    /// As [`Stream::open`]; a failure to write the copy.
    pub(crate) fn new(stream: &Stream, copies: &mut Copies) -> Result<Self> {
        let cannot =
            |reason| Error::Spool { name: stream.name.clone(), folder: std::env::temp_dir(), reason };
        let file = match &copies.file {
            Some(file) => Arc::clone(file),
            None => Arc::new(tempfile::tempfile().map_err(cannot)?),
        };
        copies.file = Some(Arc::clone(&file));
        let mut source = stream.open()?;
        let (mut buffer, mut len, mut records) = (vec![0; BUFFER_BYTES], 0, 0);
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(reason) if reason.kind() == io::ErrorKind::Interrupted => continue,
                Err(reason) => return Err(Error::of_io(&stream.name, reason)),
            };
            let part = &buffer[..count];
            if stream.field.is_some() {
                records += memchr::memchr_iter(RECORD_END, part).count() as u64;
            }
            io::Write::write_all(&mut &*file, part).map_err(cannot)?;
            len += count as u64;
        }
        stream.check_unchanged()?;
        let found = *lock(&stream.found);
        let start = copies.len;
        copies.len += len;
        Ok(Self { file, start, len, found, records })
    }

    /// A reader of the bytes from `start` to `end`.
    pub(crate) fn reader(self: &Arc<Self>, start: u64, end: u64) -> impl Read + Send + use<> {
        SpoolReader { spool: Arc::clone(self), at: start, end: end.min(self.len) }
    }
}

/// A reader with a position of its own.
struct SpoolReader {
    spool: Arc<Spool>,
    at: u64,
    end: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let wanted = (out.len() as u64).min(self.end - self.at) as usize;
        let count = read_at(&self.spool.file, &mut out[..wanted], self.spool.start + self.at)?;
        if count == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the temporary copy was cut off"));
        }
        self.at += count as u64;
        Ok(count)
    }
}
