//! Finds texts: files, folders, standard input and pipes.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::chunks::{Location, Span};
use crate::clean::{Cleaning, InvalidBytes, NormalForm};
use crate::error::{Error, Result};
use crate::numbers::{many, thousands};
use crate::records::{Source, suspect};
use crate::stream::{Copies, Decoded, HEAD_BYTES, Origin, Spool, Stream};
use crate::warnings::Counted;

/// The maximum depth of folders.
const MAX_DEPTH: usize = 64;
/// A file in a folder is searched for a NUL up to this size, and a larger one so far from its
/// start.
const NUL_SEARCH_BYTES: u64 = 16 << 20;
/// The number of binary files that a notice names.
const NAMED_BINARIES: usize = 3;

/// The path that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Options of reading texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputOptions {
    /// The field of JSON lines, or the column of CSV and TSV, that is the text; each record is a
    /// document. `None`: plain text.
    pub field: Option<String>,
    /// Patterns of the files that are read in folders; none: all. A pattern without a slash is for
    /// file names, another for paths in the folder.
    pub include: Vec<String>,
    /// Patterns of files that are left out.
    pub exclude: Vec<String>,
    /// The treatment of bytes that are no text.
    pub invalid: InvalidBytes,
    /// The normal form that the text is brought to.
    pub normalize: NormalForm,
    /// Whether any bytes are a text, as for byte tokenizers.
    pub any_bytes: bool,
    /// Whether NULs are a part of texts.
    pub keep_nuls: bool,
    /// Reads bytes as they are stored, as the first version did: with byte-order marks, carriage
    /// returns and NULs, and no compressed or other formats.
    pub as_stored: bool,
    /// The largest number of bytes that are read from a text that is read once.
    pub limit: Option<u64>,
}

/// The texts that some paths name.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The whole texts.
    pub(crate) spans: Vec<Span>,
    pub(crate) notices: Vec<String>,
    /// Whether there are several documents.
    pub(crate) has_documents: bool,
}

/// Whether `path` stands for standard input.
pub fn is_standard_input(path: &Path) -> bool {
    path == Path::new(STANDARD_INPUT)
}

/// Whether `path` is standard input, a pipe or another stream, which can be read only once.
pub fn is_pipe(path: &Path) -> bool {
    is_standard_input(path) || std::fs::metadata(path).is_ok_and(|there| !(there.is_file() || there.is_dir()))
}

/// A name for `files` files that were found under `paths`.
pub(crate) fn name(paths: &[PathBuf], files: usize) -> String {
    match paths {
        [only] if files == 1 => shown(only),
        [only] => format!("{} in {}", many(files as u64, "file"), only.display()),
        _ => many(files as u64, "file"),
    }
}

/// The name of a path.
fn shown(path: &Path) -> String {
    if is_standard_input(path) { "standard input".into() } else { path.display().to_string() }
}

/// Finds the texts that `paths` name: in their order, folders in the order of their entries' names,
/// each file once. With `once`, texts that have to be converted are read once, and otherwise from a
/// temporary copy.
///
/// # Errors
/// A path that cannot be read, a folder without text, a binary file that was named, a bad pattern,
/// a text that cannot be converted.
pub(crate) fn find(paths: &[PathBuf], options: &InputOptions, once: bool) -> Result<Found> {
    let (include, exclude) = (patterns(&options.include)?, patterns(&options.exclude)?);
    let mut finder = Finder {
        options,
        once,
        include,
        exclude,
        found: Found::default(),
        seen: BTreeMap::new(),
        twice: Vec::new(),
        binaries: Vec::new(),
        copies: Vec::new(),
        spool: Copies::default(),
    };
    for path in paths {
        if is_standard_input(path) {
            finder.add_pipe(path, standard_input())?;
            continue;
        }
        let cannot = |reason| Error::Read { path: path.clone(), reason };
        let metadata = std::fs::metadata(path).map_err(cannot)?;
        if metadata.is_dir() {
            let before = finder.found.spans.len() + finder.twice.len();
            finder.walk(path, path, 0, device(&metadata))?;
            if finder.found.spans.len() + finder.twice.len() == before {
                return Err(Error::NoText { path: path.clone(), binaries: finder.binaries.len() });
            }
        } else if metadata.is_file() {
            // Opened once now, so that an unreadable file is an error before any work.
            let file = File::open(path).map_err(cannot)?;
            finder.add_file(path, file, &metadata, None)?;
        } else if options.as_stored || !is_pipe_or_terminal(path, &metadata) {
            return Err(Error::NotAFile(path.clone()));
        } else {
            finder.add_pipe(path, pipe(File::open(path).map_err(cannot)?))?;
        }
    }
    Ok(finder.finish())
}

fn standard_input() -> Source {
    pipe(std::io::stdin())
}

/// A pipe that lets the program before it run ahead, if the system does.
#[cfg(target_os = "linux")]
fn pipe(pipe: impl Read + std::os::fd::AsFd + Send + 'static) -> Source {
    const PIPE_BYTES: usize = 1 << 20;
    match rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_BYTES) {
        Ok(bytes) if bytes >= PIPE_BYTES => Box::new(WidePipe(pipe)),
        _ => Box::new(pipe),
    }
}

#[cfg(not(target_os = "linux"))]
fn pipe(pipe: impl Read + Send + 'static) -> Source {
    Box::new(pipe)
}

/// A pipe with room for some milliseconds of a decompressor's work. A reader that waited at once
/// would be woken for every few KiB: 46,000 times for the 400 MB of an `xzcat`.
#[cfg(target_os = "linux")]
struct WidePipe<R>(R);

#[cfg(target_os = "linux")]
impl<R: Read> Read for WidePipe<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        const FEW_BYTES: usize = 1 << 17;
        const PAUSE: std::time::Duration = std::time::Duration::from_micros(600);
        let count = self.0.read(out)?;
        if count > 0 && count < out.len().min(FEW_BYTES) {
            std::thread::sleep(PAUSE);
        }
        Ok(count)
    }
}

/// A reader of the text in `path` if it is a pipe (`-` is standard input), compressed or in UTF-16;
/// `None` for another file.
///
/// # Errors
/// A path that cannot be read, a damaged file.
pub fn open_converted(path: &Path) -> Result<Option<Box<dyn Read + Send>>> {
    let cannot = |reason| Error::Read { path: path.to_owned(), reason };
    let raw: Source = if is_standard_input(path) {
        standard_input()
    } else {
        let there = std::fs::metadata(path).map_err(cannot)?;
        if there.is_dir() {
            return Ok(None);
        }
        if !there.is_file() && !is_pipe_or_terminal(path, &there) {
            return Err(Error::NotAFile(path.to_owned()));
        }
        Box::new(File::open(path).map_err(cannot)?)
    };
    let decoded = Decoded::new(&shown(path), raw)?;
    let is_plain = decoded.compression.is_none() && decoded.utf16.is_none();
    Ok((is_pipe(path) || !is_plain).then_some(decoded.text.source))
}

struct Finder<'a> {
    options: &'a InputOptions,
    once: bool,
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
    found: Found,
    /// The first path of each file and folder.
    seen: BTreeMap<FileId, PathBuf>,
    /// Files that were met again, with their first path.
    twice: Vec<(PathBuf, PathBuf)>,
    binaries: Vec<PathBuf>,
    /// The names of the copied texts, and their bytes.
    copies: Vec<(String, u64)>,
    spool: Copies,
}

impl Finder<'_> {
    /// Adds the texts of a folder. Reads each folder once, because links can form cycles, and none
    /// on another file system, such as /proc or a network disk.
    fn walk(&mut self, root: &Path, folder: &Path, depth: usize, on: u64) -> Result<()> {
        let cannot = |reason| Error::Read { path: folder.to_owned(), reason };
        let metadata = std::fs::metadata(folder).map_err(cannot)?;
        if self.seen.insert(file_id(folder, &metadata), folder.to_owned()).is_some() {
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
            if metadata.is_dir() && device(&metadata) != on {
                self.found.notices.push(format!(
                    "{} is on another file system and was left out; name it as well if it should be read",
                    path.display()
                ));
            } else if metadata.is_dir() && depth < MAX_DEPTH {
                self.walk(root, &path, depth + 1, on)?;
            } else if metadata.is_file() && metadata.len() > 0 && self.wants(root, &path) {
                let file = File::open(&path).map_err(|reason| Error::Read { path: path.clone(), reason })?;
                self.add_file(&path, file, &metadata, Some(root))?;
            }
        }
        Ok(())
    }

    /// Whether the patterns choose the file `path` in the folder `root`.
    fn wants(&self, root: &Path, path: &Path) -> bool {
        let inside = path.strip_prefix(root).unwrap_or(path);
        let matches = |set: &GlobSet| set.is_match(inside);
        self.include.as_ref().is_none_or(matches) && !self.exclude.as_ref().is_some_and(matches)
    }

    /// Adds a file, found in the folder `within` unless it was named.
    fn add_file(
        &mut self,
        path: &Path,
        file: File,
        metadata: &Metadata,
        within: Option<&Path>,
    ) -> Result<()> {
        if !self.options.as_stored
            && let Some(first) = self.seen.get(&file_id(path, metadata))
        {
            self.twice.push((path.to_owned(), first.clone()));
            return Ok(());
        }
        self.seen.insert(file_id(path, metadata), path.to_owned());
        let (len, changed) = (metadata.len(), metadata.modified().ok());
        let origin = Origin::File { path: path.to_owned(), len, changed };
        if self.options.as_stored {
            if within.is_none() || !has_nul(file, 1024) {
                let location = Location::File { path: path.to_owned(), len, changed };
                self.push(Span { location, end: len, ..Span::default() });
            }
            return Ok(());
        }
        let decoded = Decoded::new(&shown(path), Box::new(file))?;
        let is_plain = decoded.compression.is_none() && decoded.utf16.is_none();
        let (mark, head) = (decoded.mark, decoded.text.head);
        if !self.options.any_bytes {
            let nul = |source: Source| has_nul(source, NUL_SEARCH_BYTES);
            let is_binary = memchr::memchr(0, &head).is_some()
                || within.is_some() && head.len() == HEAD_BYTES && nul(decoded.text.source);
            if is_binary && within.is_some() {
                self.binaries.push(path.to_owned());
                return Ok(());
            }
        }
        if self.options.field.is_none() {
            self.found.notices.extend(suspect(path, &head));
        }
        if is_plain && self.options.field.is_none() {
            let location = Location::File { path: path.to_owned(), len, changed };
            self.push(Span { location, start: mark, end: len, ..Span::default() });
            return Ok(());
        }
        self.add_stream(shown(path), origin, decoded.utf16.is_some())
    }

    /// Adds a text that can be read only once.
    fn add_pipe(&mut self, path: &Path, raw: Source) -> Result<()> {
        let name = shown(path);
        if is_standard_input(path) && self.seen.insert(FileId::StandardInput, path.to_owned()).is_some() {
            return Err(Error::Setting("standard input is named twice, and can be read only once".into()));
        }
        let decoded = Decoded::new(&name, raw)?;
        let head = &decoded.text.head;
        let text = self.options.any_bytes || self.options.keep_nuls;
        if let Some(at) = memchr::memchr(0, head).filter(|_| !text)
            && self.options.invalid == InvalidBytes::Error
        {
            // Before an endless one is copied.
            return Err(Error::Nul {
                name,
                line: 1 + memchr::memchr_iter(b'\n', &head[..at]).count() as u64,
            });
        }
        if self.options.field.is_none() {
            self.found.notices.extend(suspect(Path::new(&name), &decoded.text.head));
        }
        let origin = Origin::Once(Arc::new(Mutex::new(Some(decoded.text.source))));
        self.add_stream(name, origin, decoded.utf16.is_some())
    }

    fn add_stream(&mut self, name: String, origin: Origin, is_utf16: bool) -> Result<()> {
        let InputOptions { field, invalid, keep_nuls, limit, .. } = self.options.clone();
        let found = Counted::default();
        let stream = Stream { name, origin, field, invalid, keep_nuls, is_utf16, limit, found };
        let (location, end) = if self.once {
            (Location::Stream(stream), 0)
        } else {
            let spool = Spool::new(&stream, &mut self.spool)?;
            self.copies.push((stream.name.clone(), spool.len));
            let len = spool.len;
            (Location::Spooled(stream, Arc::new(spool)), len)
        };
        self.push(Span { location, end, ..Span::default() });
        Ok(())
    }

    fn push(&mut self, span: Span) {
        let InputOptions { invalid, normalize, any_bytes, keep_nuls, as_stored, .. } = *self.options;
        let keep_nuls = keep_nuls || as_stored;
        let cleaning = Cleaning { invalid, any_bytes, keep_nuls, normalize, crlf_is_newline: false };
        // The end of a text in records is that of its last record.
        let ends_document = !span.has_records();
        self.found.has_documents |= !ends_document;
        self.found.spans.push(Span { cleaning, ends_document, ..span });
    }

    fn finish(self) -> Found {
        let mut found = self.found;
        found.has_documents |= found.spans.iter().filter(|span| !span.is_empty()).count() > 1;
        if let Some((path, first)) = self.twice.first() {
            let others = self.twice.len() as u64 - 1;
            let more = if others > 0 { format!(", and {} more", thousands(others)) } else { String::new() };
            let (path, first) = (path.display(), first.display());
            found.notices.push(format!("each file is read once: {path} is {first}{more}"));
        }
        if !self.binaries.is_empty() {
            let named: Vec<String> =
                self.binaries.iter().take(NAMED_BINARIES).map(|path| path.display().to_string()).collect();
            let more = if self.binaries.len() > NAMED_BINARIES { ", …" } else { "" };
            let number = many(self.binaries.len() as u64, "binary file");
            found.notices.push(format!("left out {number}: {}{more}", named.join(", ")));
        }
        if let [(name, _), others @ ..] = self.copies.as_slice() {
            let total: u64 = self.copies.iter().map(|(_, bytes)| bytes).sum();
            let what = if others.is_empty() { name.clone() } else { many(self.copies.len() as u64, "text") };
            found.notices.push(format!(
                "{what}: read from a temporary copy of {} in {}, because it is read more than once",
                many(total, "byte"),
                std::env::temp_dir().display()
            ));
        }
        found
    }
}

/// The set of `patterns`, if there are any.
fn patterns(patterns: &[String]) -> Result<Option<GlobSet>> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let wrong =
            |error: globset::Error| Error::Setting(format!("\"{pattern}\" is no pattern: {}", error.kind()));
        let anywhere = if pattern.contains('/') { pattern.clone() } else { format!("**/{pattern}") };
        set.add(GlobBuilder::new(&anywhere).literal_separator(true).build().map_err(wrong)?);
    }
    let set = set.build().map_err(|error| Error::Setting(error.to_string()))?;
    Ok((!patterns.is_empty()).then_some(set))
}

/// Whether there is a NUL in the first `limit` bytes. What cannot be read is an error later.
fn has_nul(source: impl Read, limit: u64) -> bool {
    let (mut source, mut buffer) = (source.take(limit), vec![0; HEAD_BYTES]);
    while let Ok(count @ 1..) = source.read(&mut buffer) {
        if memchr::memchr(0, &buffer[..count]).is_some() {
            return true;
        }
    }
    false
}

/// The identity of a file, the same for all its links.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum FileId {
    StandardInput,
    #[cfg(unix)]
    Inode(u64, u64),
    #[cfg(not(unix))]
    Path(PathBuf),
}

#[cfg(unix)]
fn file_id(_: &Path, metadata: &Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    FileId::Inode(metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn file_id(path: &Path, _: &Metadata) -> FileId {
    FileId::Path(path.canonicalize().unwrap_or_else(|_| path.to_owned()))
}

/// The number of the file system that an entry is on; 0 where it is not known.
#[cfg(unix)]
fn device(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::dev(metadata)
}

#[cfg(not(unix))]
fn device(_: &Metadata) -> u64 {
    0
}

/// Whether a special file ends some time, unlike /dev/zero.
#[cfg(unix)]
fn is_pipe_or_terminal(path: &Path, metadata: &Metadata) -> bool {
    use std::io::IsTerminal;
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    kind.is_fifo() || kind.is_char_device() && File::open(path).is_ok_and(|file| file.is_terminal())
}

#[cfg(not(unix))]
fn is_pipe_or_terminal(_: &Path, _: &Metadata) -> bool {
    true
}
