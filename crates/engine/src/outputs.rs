//! Checks of output paths before any work: neither inputs nor foreign files are replaced.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use surprisal_formats::gguf;
use surprisal_store::Error as StoreError;
use surprisal_store::lock::Lock;
use surprisal_store::parents::ParentFolders;
use surprisal_store::read::regular_text;
use surprisal_store::write_target::{WriteTarget, folder_of, id};
use surprisal_store::{atomic, run_dir};
use surprisal_text::Compression;

use crate::error::{Advice, Error, Result};
use crate::kind::Kind;

/// File name of the report of a run or a comparison.
pub const PAGE: &str = "report.html";

/// The file extension of `path` in lower case, before that of a compressed format; "arpa" for a
/// pipe or a device without one.
pub fn suffix(path: &Path) -> String {
    let inner = Compression::by_name(path).and_then(|_| path.file_stem()).map(Path::new);
    let path = inner.unwrap_or(path);
    match path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase() {
        none if none.is_empty() && matches!(WriteTarget::resolve(path), Ok(WriteTarget::Stream(_))) => {
            "arpa".to_owned()
        }
        suffix => suffix,
    }
}

/// The outputs of a command, locked against other processes. Parent folders that were made for them
/// and are still empty at the end are removed.
#[derive(Debug)]
pub struct Reserved {
    // Dropped first, as the locks are files in the folders.
    _locks: Vec<Lock>,
    _parents: Vec<ParentFolders>,
}

impl Reserved {
    fn new(targets: &[PathBuf]) -> Result<Self> {
        let parents =
            targets.iter().map(|target| Ok(ParentFolders::create(target)?)).collect::<Result<_>>()?;
        let locks = targets.iter().map(|target| Ok(Lock::beside(target)?)).collect::<Result<_>>()?;
        Ok(Self { _locks: locks, _parents: parents })
    }
}

/// Checks the folder that a command writes, makes its parent folders and locks it.
///
/// # Errors
/// As [`files`].
pub fn folder(path: &Path, inputs: &[impl AsRef<Path>]) -> Result<Reserved> {
    new_folder(path, inputs)?;
    Reserved::new(&[path.to_owned()])
}

/// Checks the files that a command writes, makes their parent folders and locks them.
///
/// # Errors
/// A path that cannot be written, or where something would be lost; [`StoreError::Locked`].
pub fn files<'a>(
    outputs: impl IntoIterator<Item = &'a Path>,
    inputs: &[impl AsRef<Path>],
) -> Result<Reserved> {
    let mut targets: Vec<PathBuf> = Vec::new();
    for path in outputs {
        let Some(target) = file(path, inputs)? else { continue };
        let same = |other: &PathBuf| {
            other.file_name() == target.file_name() && id(folder_of(other)) == id(folder_of(&target))
        };
        if targets.iter().any(same) {
            let message = format!("`{}` is one file with another that is to be written", path.display());
            return refuse(message, Advice::NameEach);
        }
        targets.push(target);
    }
    Reserved::new(&targets)
}

/// Checks one file to be written; gives its resolved path, or `None` for a stream.
///
/// # Errors
/// As [`files`], but for locks.
pub fn file(path: &Path, inputs: &[impl AsRef<Path>]) -> Result<Option<PathBuf>> {
    let shown = path.display();
    let bytes = path.as_os_str().as_encoded_bytes();
    let place = WriteTarget::resolve(path);
    let kind = place.as_ref().err().map(std::io::Error::kind);
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") || kind == Some(ErrorKind::IsADirectory) {
        return refuse(format!("`{shown}` is a folder, and a file is to be written"), "name a file in it");
    }
    let target = match place {
        Ok(WriteTarget::Stream(_)) => return Ok(None),
        Ok(WriteTarget::File(target)) => target,
        // The error below names the folder.
        Err(_) if kind == Some(ErrorKind::NotADirectory) => path.to_owned(),
        Err(reason) => {
            return Err(StoreError::Io { action: "write to".into(), path: path.to_owned(), reason }.into());
        }
    };
    let folder = folder_of(&target);
    if !folder.is_dir() {
        let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
        if !there.as_os_str().is_empty() && !there.is_dir() {
            let message = format!("cannot write `{shown}`: `{}` is not a folder", there.display());
            return refuse(message, Advice::Elsewhere("give another name", ""));
        }
        inputs.iter().try_for_each(|input| refuse_inside(path, there, input.as_ref()))?;
        return Ok(Some(target));
    }
    let there = id(&target);
    for input in inputs.iter().map(AsRef::as_ref) {
        if there.is_some() && id(input) == there {
            return refuse(
                format!("`{shown}` is read by this command and would be replaced by it"),
                Advice::Elsewhere("give another name", ""),
            );
        }
        refuse_inside(path, folder, input)?;
    }
    let manifest = regular_text(folder.join("manifest.json"));
    if manifest.is_ok_and(|json| json.contains("\"format\": \"surprisal ")) {
        let message = format!("`{shown}` would be among the files of a model, which belong together");
        return refuse(message, Advice::Elsewhere("write to another folder", ""));
    }
    if there.is_none() {
        return Ok(Some(target));
    }
    // Replacing needs only permission to write to the folder; a read-only file is not replaced.
    let read_only = std::fs::metadata(&target).is_ok_and(|there| there.permissions().readonly())
        || File::options().append(true).open(&target).is_err();
    let ours = is_ours(&target)?;
    if read_only || !ours {
        let what = if ours { "read-only" } else { "what it holds is no model and no counts" };
        let message = format!("`{shown}` is already there, and {what}: it is left alone");
        return refuse(message, Advice::Elsewhere("give another name", ", or remove that file first"));
    }
    Ok(Some(target))
}

/// Whether the file at `path` is empty, or a model, counts or a report as this library writes them.
fn is_ours(path: &Path) -> Result<bool> {
    let start = || {
        let mut start = Vec::new();
        let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start));
        read.map(|_| String::from_utf8_lossy(&start).into_owned()).unwrap_or_default()
    };
    Ok(match Kind::detect(path)? {
        Kind::Empty
        | Kind::Ngram
        | Kind::Infinigram
        | Kind::Kenlm
        | Kind::Counts
        | Kind::Compressed
        | Kind::Arpa { preface: false } => true,
        kind @ (Kind::CountsTsv | Kind::Text) => {
            let start = start();
            // The first line of a part, or the first token of words, characters or bytes.
            let of_counts = ["# part ", "<unk>\t", "\\x00\t"].iter().any(|first| start.starts_with(first));
            let is_page = path.file_name().is_some_and(|name| name == PAGE)
                && start.starts_with("<!doctype html>")
                && start.contains("· Surprisal</title>");
            if kind == Kind::CountsTsv { of_counts } else { is_page }
        }
        Kind::Other(..) => {
            let start = start();
            start.starts_with("GGUF") && start.contains(gguf::NAME)
        }
        _ => false,
    })
}

/// Checks that a folder can be created.
///
/// # Errors
/// As [`files`].
pub fn new_folder(path: &Path, inputs: &[impl AsRef<Path>]) -> Result<()> {
    let is_read = |input: &&Path| input.is_dir() && id(input) == id(path);
    if inputs.iter().map(AsRef::as_ref).any(|input| is_read(&input)) {
        let message =
            format!("`{}` is read by this command, and a new folder is to be written", path.display());
        return refuse(message, Advice::Elsewhere("give another folder", ""));
    }
    run_dir::refuse_occupied(path)?;
    writable(path, inputs)
}

/// Checks that the folder `path`, existing or not, can be written to and is not in a folder of
/// texts.
///
/// # Errors
/// As [`files`].
pub fn writable(path: &Path, inputs: &[impl AsRef<Path>]) -> Result<()> {
    let there = path.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(Path::new("."));
    inputs.iter().try_for_each(|input| refuse_inside(path, there, input.as_ref()))?;
    // The system refuses a name that is too long.
    let mut names = path.strip_prefix(there).unwrap_or(path).iter();
    let is_refusal = |reason: &std::io::Error| reason.kind() != ErrorKind::NotFound;
    let refused = names.find_map(|name| there.join(name).symlink_metadata().err().filter(is_refusal));
    let probed = match refused {
        Some(reason) => Err(StoreError::Io { action: "look for".into(), path: path.to_owned(), reason }),
        None => atomic::probe(there),
    };
    probed.map_err(|error| Error::from(error).within(format_args!("cannot create `{}`", path.display())))
}

/// Refuses `path` in `folder` if it would be among the texts of the folder `input`.
fn refuse_inside(path: &Path, folder: &Path, input: &Path) -> Result<()> {
    // All files of a text folder but hidden ones are read; of a model, only certain names.
    let parts = ["config.toml", "config.json", "manifest.json"];
    let (Ok(folder), Ok(whole)) = (folder.canonicalize(), input.canonicalize()) else { return Ok(()) };
    let Ok(within) = folder.strip_prefix(&whole) else { return Ok(()) };
    let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
    if !input.is_dir()
        || parts.iter().any(|part| input.join(part).is_file())
        || within.iter().chain(path.file_name()).any(hidden)
    {
        return Ok(());
    }
    let (path, input) = (path.display(), input.display());
    let message =
        format!("`{path}` would be in the folder `{input}`, and the next command would take it for a text");
    refuse(message, Advice::Elsewhere("write outside of that folder", ""))
}

fn refuse<T>(message: String, advice: impl Into<Advice>) -> Result<T> {
    Err(Error::usage(message).hint(advice))
}
