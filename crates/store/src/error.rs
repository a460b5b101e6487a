//! The error type of file operations, with paths and hints.

use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
};

/// An error of reading or writing a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system reported an error.
    #[error("cannot {action} `{}`: {reason}", .path.display())]
    Io {
        /// The failed action, a verb phrase that the path follows: "read", "write 512 bytes to".
        action: Cow<'static, str>,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        reason: io::Error,
    },
    /// The path of a new run is already in use.
    #[error("`{}` is already there and is not an empty folder", .path.display())]
    Occupied {
        /// The existing directory or file.
        path: PathBuf,
    },
    /// Another process holds the lock.
    #[error("`{}` is being written to by {owner}", .path.display())]
    Locked {
        /// The locked directory or file.
        path: PathBuf,
        /// The process that holds the lock, if known.
        owner: String,
    },
    /// A directory without the file that identifies a run or a model.
    #[error("`{}` is not a {what}: it has no {missing}", .path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
        /// The expected kind: "run folder", "model folder".
        what: &'static str,
        /// The missing file, relative to the directory.
        missing: &'static str,
        /// The advice.
        hint: &'static str,
    },
    /// Bytes that do not follow their format.
    #[error("{what} is malformed: {problem}")]
    Malformed {
        /// The file, or the format if the bytes do not come from a file.
        what: String,
        /// The mistake.
        problem: String,
    },
    /// A temporary file of an earlier process that cannot be used.
    #[error("the temporary file `{}` is damaged: {problem}", .path.display())]
    Spilled {
        /// The file.
        path: PathBuf,
        /// The mistake.
        problem: &'static str,
    },
    /// Data larger than the limit; nothing was allocated for it.
    #[error("{what} is too large: {size} {unit}, at most {limit} are read")]
    TooLarge {
        /// The file or the part of a file.
        what: String,
        /// The claimed size.
        size: u64,
        /// The largest accepted size.
        limit: u64,
        /// The unit: "bytes", "tensors".
        unit: &'static str,
    },
}

/// A result whose error is this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`]: `action` on `path` failed for `reason`.
    pub fn io(action: impl Into<Cow<'static, str>>, path: &Path, reason: io::Error) -> Self {
        Self::Io { action: action.into(), path: path.to_owned(), reason }
    }

    /// An [`Error::Malformed`].
    pub fn malformed(what: impl Into<String>, problem: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self::Malformed { what: what.into(), problem: problem.to_string() }
    }

    /// The same error, with `path` as the name of the malformed or too large data.
    pub fn in_file(mut self, path: &Path) -> Self {
        if let Self::Malformed { what, .. } | Self::TooLarge { what, .. } = &mut self {
            *what = format!("`{}`", path.display());
        }
        self
    }

    /// Whether writing to standard output failed because its reader has closed the pipe.
    pub fn is_broken_pipe(&self) -> bool {
        use crate::write_target::WriteTarget;
        matches!(self, Self::Io { reason, path, .. } if reason.kind() == io::ErrorKind::BrokenPipe
            && WriteTarget::resolve(path).is_ok_and(|place| place.is_standard_output()))
    }

    /// Advice for the user, if there is any.
    pub fn hint(&self) -> Option<&'static str> {
        use io::ErrorKind as Kind;
        match self {
            Self::Io { path, .. } if path.is_symlink() && !path.exists() => {
                Some("the link is broken or points to itself: ls -l shows its target")
            }
            Self::Io { reason, .. } => match reason.kind() {
                Kind::StorageFull => Some("the disk is full: free some space, or write elsewhere"),
                Kind::QuotaExceeded => Some("the disk quota is used up: free some space, or write elsewhere"),
                Kind::FileTooLarge => {
                    Some("the file would exceed a size limit of the process (ulimit -f) or the file system")
                }
                Kind::ReadOnlyFilesystem => Some("the file system is read-only: write elsewhere"),
                Kind::PermissionDenied => Some("check the permissions of the file and of its folder"),
                Kind::NotFound => Some("check the path"),
                Kind::IsADirectory => Some("this is a folder, but a file is expected"),
                Kind::NotADirectory => Some("this is a file, but a folder is expected"),
                _ => None,
            },
            Self::Occupied { .. } => Some("choose another name, or move the existing file or folder away"),
            Self::Locked { .. } => Some("wait for it to finish or stop it, or choose another folder"),
            Self::Missing { hint, .. } => Some(hint),
            Self::Spilled { .. } => Some("remove it and start again: it is made again"),
            _ => None,
        }
    }
}
