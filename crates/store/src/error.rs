//! What can go wrong with files, each with the path or the name at fault and, where one helps, a hint.

use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
};

/// An error of reading or writing a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} `{}`: {reason}", .path.display())]
    Io {
        /// What was being done, as a verb that the path follows: "read", "write 512 bytes to".
        action: Cow<'static, str>,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },
    /// A new run was to be written where something is already.
    #[error("`{}` is already there and is not an empty folder", .path.display())]
    Occupied {
        /// The folder or file in the way.
        path: PathBuf,
    },
    /// Another process is writing to the run.
    #[error("`{}` is being written to by {owner}", .path.display())]
    Locked {
        /// The run folder.
        path: PathBuf,
        /// The process that holds the lock, as far as it is known.
        owner: String,
    },
    /// A folder that lacks what makes it a run or a model.
    #[error("`{}` is not a {what}: it has no {missing}", .path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
        /// What it was taken for: "run folder", "model folder".
        what: &'static str,
        /// The file that is not there, relative to the folder.
        missing: &'static str,
        /// What to do about it.
        hint: &'static str,
    },
    /// Bytes that are not what they claim to be.
    #[error("{what} is malformed: {problem}")]
    Malformed {
        /// The file, or the format where the bytes came from no file.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something larger than its limit; nothing was allocated for it.
    #[error("{what} is too large: {size} {unit}, at most {limit} are read")]
    TooLarge {
        /// The file or the part of it.
        what: String,
        /// What it claims to be.
        size: u64,
        /// What is accepted.
        limit: u64,
        /// What is counted: "bytes", "tensors".
        unit: &'static str,
    },
}

/// A result whose error is this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The operating system refused to do `action` to `path`.
    pub fn io(action: impl Into<Cow<'static, str>>, path: &Path, reason: io::Error) -> Self {
        Self::Io { action: action.into(), path: path.to_owned(), reason }
    }

    /// `what` is not what it should be.
    pub fn malformed(what: impl Into<String>, problem: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self::Malformed { what: what.into(), problem: problem.to_string() }
    }

    /// The same, naming the file that the bytes came from.
    pub fn in_file(mut self, path: &Path) -> Self {
        if let Self::Malformed { what, .. } | Self::TooLarge { what, .. } = &mut self {
            *what = format!("`{}`", path.display());
        }
        self
    }

    /// Whether it was standard output that was written to, and whoever read it went away.
    pub fn is_broken_pipe(&self) -> bool {
        use crate::write_target::WriteTarget;
        matches!(self, Self::Io { reason, path, .. } if reason.kind() == io::ErrorKind::BrokenPipe
            && WriteTarget::resolve(path).is_ok_and(|place| place.is_standard_output()))
    }

    /// What a person can do about it, where there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        use io::ErrorKind as Kind;
        match self {
            Self::Io { path, .. } if path.is_symlink() && !path.exists() => {
                Some("this link leads nowhere, or in a circle: ls -l shows where to")
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
                Kind::IsADirectory => Some("a file is wanted here, this is a folder"),
                Kind::NotADirectory => Some("a folder is wanted here, this is a file"),
                _ => None,
            },
            Self::Occupied { .. } => Some("choose another name, or move away what is there"),
            Self::Locked { .. } => Some("wait for it to finish or stop it, or choose another folder"),
            Self::Missing { hint, .. } => Some(hint),
            _ => None,
        }
    }
}
