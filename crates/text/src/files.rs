//! Finds text files and splits them.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::TextMode;
use crate::chunks::{Location, Span};
use crate::error::{Error, Result};
use crate::numbers::many;

/// The number of bytes at the start of a file that must have no NUL if it is text.
const SNIFF_BYTES: u64 = 1024;

/// A name for `files` files that were found under `paths`.
pub(crate) fn name(paths: &[PathBuf], files: usize) -> String {
    match paths {
        [only] if files == 1 => only.display().to_string(),
        [only] => format!("{} in {}", many(files as u64, "file"), only.display()),
        _ => many(files as u64, "file"),
    }
}

/// The text files under some paths.
#[derive(Default)]
pub(crate) struct FoundFiles {
    /// The whole files.
    pub(crate) spans: Vec<Span>,
    /// One notice per directory that was left out because it is on another file system.
    pub(crate) notices: Vec<String>,
}

impl FoundFiles {
    fn add(&mut self, path: PathBuf, metadata: &Metadata) {
        let (len, changed) = (metadata.len(), metadata.modified().ok());
        self.spans.push(Span { location: Location::File { path, len, changed }, start: 0, end: len });
    }
}

/// Finds the text files under `paths`.
pub(crate) fn find_files(paths: &[PathBuf]) -> Result<FoundFiles> {
    let mut found = FoundFiles::default();
    for path in paths {
        let metadata =
            std::fs::metadata(path).map_err(|reason| Error::Read { path: path.clone(), reason })?;
        if metadata.is_dir() {
            let before = found.spans.len();
            walk(path, 0, device(&metadata), &mut BTreeSet::new(), &mut found)?;
            if found.spans.len() == before {
                return Err(Error::NoText(path.clone()));
            }
        } else if metadata.is_file() {
            // Opened once now, so that an unreadable file is an error before any work.
            File::open(path).map_err(|reason| Error::Read { path: path.clone(), reason })?;
            found.add(path.clone(), &metadata);
        } else {
            return Err(Error::NotAFile(path.clone()));
        }
    }
    Ok(found)
}

/// The maximum depth of directories.
const MAX_DEPTH: usize = 64;

/// Adds the text files of a directory. Reads each directory once, because links can form cycles,
/// and none on another file system, such as /proc or a network disk.
fn walk(
    folder: &Path,
    depth: usize,
    on: u64,
    seen: &mut BTreeSet<PathBuf>,
    found: &mut FoundFiles,
) -> Result<()> {
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
        if metadata.is_dir() && device(&metadata) != on {
            found.notices.push(format!(
                "{} is on another file system and was left out; name it as well if it should be read",
                path.display()
            ));
        } else if metadata.is_dir() && depth < MAX_DEPTH {
            walk(&path, depth + 1, on, seen, found)?;
        } else if metadata.is_file() && metadata.len() > 0 && is_text(&path)? {
            found.add(path, &metadata);
        }
    }
    Ok(())
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

/// Whether a file in a directory looks like text: no NUL at its start. Files named by the user are
/// not checked.
fn is_text(path: &Path) -> Result<bool> {
    let cannot = |reason| Error::Read { path: path.to_owned(), reason };
    let mut start = Vec::new();
    File::open(path).map_err(cannot)?.take(SNIFF_BYTES).read_to_end(&mut start).map_err(cannot)?;
    Ok(!start.contains(&0))
}

/// Splits `files` after `wanted` bytes, at the next start of a character, or of a line in line
/// mode.
pub(crate) fn split_at(files: &[Span], wanted: u64, mode: TextMode) -> Result<(Vec<Span>, Vec<Span>)> {
    let (mut train, mut val) = (Vec::new(), Vec::new());
    let mut before = 0;
    for span in files {
        let inside = wanted.saturating_sub(before).min(span.len());
        before += span.len();
        let at = if inside == 0 || inside == span.len() { inside } else { boundary(span, inside, mode)? };
        if at > 0 {
            train.push(Span { end: span.start + at, ..span.clone() });
        }
        if at < span.len() {
            val.push(Span { start: span.start + at, ..span.clone() });
        }
    }
    Ok((train, val))
}

/// The first position at or after `at` where the span may be split.
fn boundary(span: &Span, at: u64, mode: TextMode) -> Result<u64> {
    // From one byte before: a newline there makes `at` itself the start of a line.
    let from = at - 1;
    let rest = Span { start: span.start + from, ..span.clone() }.open()?;
    for (place, byte) in (from..).zip(BufReader::new(rest).bytes()) {
        let byte = byte.map_err(|reason| Error::Read { path: PathBuf::from(span.name()), reason })?;
        match mode {
            TextMode::Stream if place >= at && byte & 0xC0 != 0x80 => return Ok(place),
            TextMode::Line if byte == b'\n' => return Ok(place + 1),
            _ => {}
        }
    }
    Ok(span.len())
}
