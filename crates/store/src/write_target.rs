//! The target of a write: a file that is replaced, or a stream. Links are followed.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// The number of links that Linux follows.
const MAX_LINKS: usize = 40;

/// The path that stands for standard output.
const STANDARD_OUTPUT: &str = "-";

/// The kind of target behind a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteTarget {
    /// A regular file, existing or not, which is replaced as a whole.
    File(PathBuf),
    /// A pipe, a terminal or another device, or an inherited standard output (also as `-`): written
    /// to directly.
    Stream(PathBuf),
}

impl WriteTarget {
    /// Follows links from `path` to the target.
    ///
    /// # Errors
    /// The system's error; also an error for a directory or a disk.
    pub fn resolve(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut current = path.as_ref().to_owned();
        for _ in 0..=MAX_LINKS {
            if descriptor(&current).is_some() {
                return Ok(Self::Stream(current));
            }
            match fs::read_link(&current) {
                Ok(target) => current = folder_of(&current).join(target),
                // Not a link, or missing.
                Err(_) => return Self::at(current),
            }
        }
        Err(io::Error::other("too many links"))
    }

    fn at(path: PathBuf) -> io::Result<Self> {
        match fs::metadata(&path) {
            Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if is_disk(&there) => Err(io::Error::other("it is a disk")),
            Ok(there) if !there.is_file() => Ok(Self::Stream(path)),
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(reason),
            _ => Ok(Self::File(path)),
        }
    }

    /// Whether this is the standard output of the process.
    pub fn is_standard_output(&self) -> bool {
        matches!(self, Self::Stream(path) if descriptor(path) == Some(1))
    }
}

/// Opens a stream for writing. Waits for the reader of a named pipe.
pub(crate) fn open_stream(path: &Path) -> io::Result<File> {
    // Inherited descriptors are cloned: they share the file position with other writers.
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        let ours = match descriptor(path) {
            Some(1) => Some(io::stdout().as_fd().try_clone_to_owned()),
            Some(2) => Some(io::stderr().as_fd().try_clone_to_owned()),
            _ => None,
        };
        if let Some(ours) = ours {
            return Ok(ours?.into());
        }
    }
    #[cfg(windows)]
    if descriptor(path) == Some(1) {
        use std::os::windows::io::AsHandle;
        return Ok(io::stdout().as_handle().try_clone_to_owned()?.into());
    }
    OpenOptions::new().append(true).open(path)
}

/// The number N of `/dev/fd/N` or `/proc/self/fd/N`; 1 of `-`. What such a link shows is not a path
/// that may be replaced.
fn descriptor(path: &Path) -> Option<u32> {
    if path == Path::new(STANDARD_OUTPUT) {
        return Some(1);
    }
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let folder = fs::canonicalize(folder_of(path)).ok()?;
    let own = folder == Path::new("/dev/fd") || folder.starts_with("/proc") && folder.ends_with("fd");
    own.then_some(number)
}

fn is_disk(metadata: &fs::Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::FileTypeExt::is_block_device(&metadata.file_type());
    #[cfg(not(unix))]
    return metadata.is_symlink(); // links were followed already
}

/// The identity of the file or directory at `path`, the same for all its names, if it exists.
#[cfg(unix)]
pub fn id(path: impl AsRef<Path>) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|there| (there.dev(), there.ino()))
}

/// The identity of the file or directory at `path`, the same for all its names, if it exists.
#[cfg(not(unix))]
pub fn id(path: impl AsRef<Path>) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

/// The directory of `path`; `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
