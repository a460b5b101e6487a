//! Finds texts: files, folders, standard input and pipes.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use globset::{GlobBuilder, GlobMatcher};

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
/// The number of files that a notice names.
const NAMED_FILES: usize = 3;
const BINARY: (&str, &str) = ("binary file", "");

/// The path that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Tells by the first bytes of a file what it is, if that is no text.
pub type NoText = fn(&[u8]) -> Option<&'static str>;

/// The files in folders that are no texts.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTexts(pub Option<NoText>);

impl PartialEq for NoTexts {
    /// It does not change the options' meaning for texts.
    fn eq(&self, other: &Self) -> bool {
        self.0.is_some() == other.0.is_some()
    }
}

impl Eq for NoTexts {}

/// Options of reading texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputOptions {
    /// The field of JSON lines, or the column of CSV and TSV, that is the text; each record is a
    /// document. `None`: plain text.
    pub field: Option<String>,
    /// Patterns of the files that are read in folders; none: all. A pattern without a slash is for
    /// names, another for paths in the folder; a folder that matches stands for all in it.
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
    /// The files in folders that are left out like binary ones.
    pub no_texts: NoTexts,
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
    /// The files, by which a text of two parts is known.
    pub(crate) files: BTreeMap<FileId, PathBuf>,
    /// The patterns that matched nothing.
    pub(crate) idle: Vec<String>,
}

impl Found {
    /// The notices, with one on patterns that matched nothing.
    pub(crate) fn all_notices(&self) -> Vec<String> {
        let idle = (!self.idle.is_empty()).then(|| {
            let idle: Vec<String> = self.idle.iter().map(|pattern| format!("\"{pattern}\"")).collect();
            format!(
                "{} matched nothing: a pattern is for names, or paths with a slash, in the folders that are read",
                idle.join(", ")
            )
        });
        self.notices.iter().cloned().chain(idle).collect()
    }
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
        met_again: 0,
        twice: Vec::new(),
        left_out: BTreeMap::new(),
        records: None,
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
            finder.add_folder(path, &metadata)?;
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

/// Checks that no pipe is named twice, also by `-`: the second reader would wait for ever.
///
/// # Errors
/// Such a pipe.
pub(crate) fn check_pipes<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
    let mut seen: BTreeMap<FileId, (&Path, bool)> = BTreeMap::new();
    for path in paths {
        let metadata =
            if is_standard_input(path) { standard_input_metadata() } else { std::fs::metadata(path).ok() };
        let id = match metadata {
            Some(metadata) => file_id(path, &metadata),
            None if is_standard_input(path) => FileId::StandardInput,
            // An error when it is read.
            None => continue,
        };
        let once = is_pipe(path);
        let Some((first, first_once)) = seen.insert(id, (path, once)) else { continue };
        if once || first_once {
            let (path, first) = (shown(path), shown(first));
            return Err(Error::Setting(if path == first {
                format!("{path} is named twice, and can be read only once")
            } else {
                format!("{first} and {path} are one text, named twice, which can be read only once")
            }));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn standard_input_metadata() -> Option<Metadata> {
    use std::os::fd::AsFd;
    File::from(std::io::stdin().as_fd().try_clone_to_owned().ok()?).metadata().ok()
}

#[cfg(not(unix))]
fn standard_input_metadata() -> Option<Metadata> {
    None
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
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    found: Found,
    /// The number of folders that were met again.
    met_again: usize,
    /// Files that were met again, with their first path.
    twice: Vec<(PathBuf, PathBuf)>,
    /// Files left out of folders, by a noun and an apposition.
    left_out: BTreeMap<(&'static str, &'static str), Vec<PathBuf>>,
    /// The hint on the first file that looks like records, and the number of such files.
    records: Option<(String, u64)>,
    /// The names of the copied texts, and their bytes.
    copies: Vec<(String, u64)>,
    spool: Copies,
}

impl Finder<'_> {
    /// Adds the texts of a folder that was named.
    fn add_folder(&mut self, path: &Path, metadata: &Metadata) -> Result<()> {
        if let Some(first) = self.found.files.get(&file_id(path, metadata)) {
            self.twice.push((path.to_owned(), first.clone()));
            return Ok(());
        }
        let texts = |finder: &Self| finder.found.spans.len() + finder.twice.len();
        let binaries = |finder: &Self| finder.left_out.get(&BINARY).map_or(0, Vec::len);
        let (before, binaries_before) = (texts(self), binaries(self));
        let met_again = self.met_again;
        self.walk(path, path, (0, false), device(metadata))?;
        // All of it may have been read as a part of another folder.
        if texts(self) > before || before > 0 && self.met_again > met_again {
            return Ok(());
        }
        let patterns = |patterns: &[String], what: &str| {
            (!patterns.is_empty()).then(|| format!("{what} \"{}\"", patterns.join("\", \"")))
        };
        let (include, exclude) = (&self.options.include, &self.options.exclude);
        let patterns = [patterns(include, "include"), patterns(exclude, "exclude")];
        let patterns = patterns.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        Err(Error::NoText { path: path.to_owned(), binaries: binaries(self) - binaries_before, patterns })
    }

    /// Adds the texts in a folder below `root`, all of them if `chosen`. Reads each folder once,
    /// because links can form cycles, and none on another file system, such as /proc or a network
    /// disk.
    fn walk(&mut self, root: &Path, folder: &Path, (depth, chosen): (usize, bool), on: u64) -> Result<()> {
        let cannot = |reason| Error::Read { path: folder.to_owned(), reason };
        let metadata = std::fs::metadata(folder).map_err(cannot)?;
        if self.found.files.insert(file_id(folder, &metadata), folder.to_owned()).is_some() {
            self.met_again += 1;
            return Ok(());
        }
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(cannot)? {
            paths.push(entry.map_err(cannot)?.path());
        }
        paths.sort();
        for path in paths {
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                continue;
            }
            let Ok(metadata) = std::fs::metadata(&path) else {
                self.left_out.entry(("broken link", "")).or_default().push(path);
                continue;
            };
            let is_folder = metadata.is_dir();
            if any_match(&mut self.exclude, root, &path, is_folder) {
                continue;
            }
            let chosen = self.include.is_empty() || chosen;
            let chosen = any_match(&mut self.include, root, &path, is_folder) || chosen;
            if is_folder && device(&metadata) != on {
                self.found.notices.push(format!(
                    "{} is on another file system and was left out; name it as well if it should be read",
                    path.display()
                ));
            } else if is_folder && depth == MAX_DEPTH {
                self.found.notices.push(format!(
                    "{} is more than {MAX_DEPTH} folders deep and was left out; name it as well if it should be read",
                    path.display()
                ));
            } else if is_folder {
                self.walk(root, &path, (depth + 1, chosen), on)?;
            } else if metadata.is_file() && metadata.len() > 0 && chosen {
                let file = File::open(&path).map_err(|reason| Error::Read { path: path.clone(), reason })?;
                self.add_file(&path, file, &metadata, Some(root))?;
            }
        }
        Ok(())
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
            && let Some(first) = self.found.files.get(&file_id(path, metadata))
        {
            self.twice.push((path.to_owned(), first.clone()));
            return Ok(());
        }
        self.found.files.insert(file_id(path, metadata), path.to_owned());
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
        if within.is_some() && !self.options.any_bytes {
            // Otherwise, a NUL is a byte that is no text like others.
            let nuls = self.options.invalid == InvalidBytes::Error;
            let late = || head.len() == HEAD_BYTES && has_nul(decoded.text.source, NUL_SEARCH_BYTES);
            if is_binary(&head) || nuls && (memchr::memchr(0, &head).is_some() || late()) {
                self.left_out.entry(BINARY).or_default().push(path.to_owned());
                return Ok(());
            }
        }
        if let Some(what) = within.and(self.options.no_texts.0).and_then(|what| what(&head)) {
            self.left_out.entry(("file", what)).or_default().push(path.to_owned());
            return Ok(());
        }
        if self.options.field.is_none() {
            self.note_records(path, &head);
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
            self.note_records(Path::new(&name), &decoded.text.head);
        }
        let origin = Origin::Once(Arc::new(Mutex::new(Some(decoded.text.source))));
        self.add_stream(name, origin, decoded.utf16.is_some())
    }

    fn note_records(&mut self, path: &Path, head: &[u8]) {
        let Some(hint) = suspect(path, head) else { return };
        match &mut self.records {
            Some((_, files)) => *files += 1,
            None => self.records = Some((format!("{} {hint}", path.display()), 1)),
        }
    }

    fn add_stream(&mut self, name: String, origin: Origin, is_utf16: bool) -> Result<()> {
        let InputOptions { field, invalid, keep_nuls, limit, .. } = self.options.clone();
        let found = Counted::default();
        // A byte tokenizer reads NULs, too.
        let keep_nuls = keep_nuls || self.options.any_bytes;
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
        let cleaning = Cleaning {
            invalid,
            any_bytes,
            keep_nuls,
            normalize,
            keep_marks: as_stored,
            crlf_is_newline: false,
        };
        // The end of a text in records is that of its last record.
        let ends_document = !span.has_records();
        self.found.has_documents |= !ends_document;
        self.found.spans.push(Span { cleaning, ends_document, ..span });
    }

    fn finish(self) -> Found {
        let mut found = self.found;
        if self.options.any_bytes
            && self.options.invalid != InvalidBytes::Error
            && self.options.field.is_none()
        {
            found.notices.push("a byte tokenizer reads any bytes: data.invalid has no effect".into());
        }
        let patterns = self.include.into_iter().chain(self.exclude);
        found.idle = patterns.filter(|pattern| !pattern.matched).map(|pattern| pattern.text).collect();
        found.has_documents |= found.spans.iter().filter(|span| !span.is_empty()).count() > 1;
        if let Some((path, first)) = self.twice.first() {
            let others = self.twice.len() as u64 - 1;
            let more = if others > 0 { format!(", and {} more", thousands(others)) } else { String::new() };
            let is = if path == first { "named twice".into() } else { first.display().to_string() };
            found.notices.push(format!("each file is read once: {} is {is}{more}", path.display()));
        }
        if let Some((hint, files)) = self.records {
            let others = many(files - 1, "other file");
            found.notices.push(if files > 1 { format!("{hint}; so with {others}") } else { hint });
        }
        for ((noun, what), paths) in &self.left_out {
            let named: Vec<String> =
                paths.iter().take(NAMED_FILES).map(|path| path.display().to_string()).collect();
            let more = if paths.len() > NAMED_FILES { ", …" } else { "" };
            let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
            let number = many(paths.len() as u64, noun);
            found.notices.push(format!("left out {number}{what}: {}{more}", named.join(", ")));
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

/// A pattern of names or paths in folders.
struct Pattern {
    text: String,
    /// Without `./` before it and a slash after it.
    plain: String,
    only_folders: bool,
    glob: GlobMatcher,
    matched: bool,
}

fn patterns(patterns: &[String]) -> Result<Vec<Pattern>> {
    let compile = |text: &String| {
        let wrong = |problem: String| Error::Pattern { pattern: text.clone(), problem };
        let plain = text.trim_start_matches("./").trim_end_matches('/').to_owned();
        if plain.is_empty() {
            return Err(wrong("it is empty".into()));
        }
        let anywhere = if plain.contains('/') { plain.clone() } else { format!("**/{plain}") };
        let glob = GlobBuilder::new(&anywhere).literal_separator(true).build();
        let glob = glob.map_err(|error| wrong(error.kind().to_string()))?.compile_matcher();
        Ok(Pattern { text: text.clone(), plain, only_folders: text.ends_with('/'), glob, matched: false })
    };
    patterns.iter().map(compile).collect()
}

/// Whether one of `patterns` is for `path`, which is in the folder `root`.
fn any_match(patterns: &mut [Pattern], root: &Path, path: &Path, is_folder: bool) -> bool {
    let inside = path.strip_prefix(root).unwrap_or(path);
    let in_shell = |path: &Path| path.display().to_string().trim_start_matches("./").to_owned();
    // As the shell completes it, with the folder's own path.
    let in_root = format!("{}/", in_shell(root).trim_end_matches('/'));
    let mut any = false;
    for pattern in patterns.iter_mut().filter(|pattern| is_folder || !pattern.only_folders) {
        let names_root = pattern.plain.starts_with(&in_root);
        if pattern.glob.is_match(inside) || names_root && pattern.glob.is_match(in_shell(path)) {
            (pattern.matched, any) = (true, true);
        }
    }
    any
}

/// Whether `head` has more control characters than a text: a tenth, or a thirtieth where it is not
/// in UTF-8. Texts in other encodings have invalid bytes throughout, but no controls.
fn is_binary(head: &[u8]) -> bool {
    let is_control = |byte: &&u8| matches!(byte, 0..=8 | 0xE..=0x1A | 0x1C..=0x1F | 0x7F);
    let no_utf8 = std::str::from_utf8(head).is_err_and(|error| error.error_len().is_some());
    head.iter().filter(is_control).count() * if no_utf8 { 30 } else { 10 } > head.len()
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
pub(crate) enum FileId {
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
