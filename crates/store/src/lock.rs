//! Locks that admit one writer at a time to a directory or a file.
//!
//! The lock is the operating system's (`flock`, `LockFileEx`) on a separate file, so it ends with
//! its process, however that dies. The file's content (process and start time) is only used in the
//! message to a second writer.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    Error, Result,
    atomic::{readable_by_all, sibling},
    pending::Pending,
};

/// The name of the lock file in a directory.
pub(crate) const NAME: &str = "lock";

/// An exclusive lock on a directory or a file, released when dropped.
#[derive(Debug)]
pub struct Lock {
    /// Holds the lock: closing the file releases it.
    file: File,
    path: PathBuf,
    /// For a lock beside its target: the lock file is removed if a signal ends the process.
    _pending: Option<Pending>,
}

/// The content of the lock file.
#[derive(serde::Serialize, serde::Deserialize)]
struct Owner {
    pid: u32,
    /// Unix time in seconds.
    started: u64,
}

impl Lock {
    /// Locks the existing directory `folder` by the file `lock` in it. A lock of a dead process is
    /// taken over.
    ///
    /// # Errors
    /// [`Error::Locked`], or [`Error::Io`].
    pub fn acquire(folder: &Path) -> Result<Self> {
        Self::take(&folder.join(NAME), folder, true)
    }

    /// Locks `target`, a file or directory that may not exist yet, by a hidden file beside it. On a
    /// file system without locks this has no effect.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::Io`], about `target`, if its directory is not writable;
    /// [`Error::Occupied`] if the hidden file is not a lock file.
    pub fn beside(target: &Path) -> Result<Self> {
        let path = sibling(&fs::canonicalize(target).unwrap_or_else(|_| target.to_owned()), NAME);
        if !is_owned(&path) {
            return Err(Error::Occupied { path });
        }
        Self::take(&path, target, false).map_err(|error| match error {
            Error::Io { reason, .. } => Error::io("create", target, reason),
            other => other,
        })
    }

    /// Fails if another process has locked `folder`.
    ///
    /// # Errors
    /// [`Error::Locked`].
    pub fn refuse_held(folder: &Path) -> Result<()> {
        holder(folder).map_or(Ok(()), |owner| Err(Error::Locked { path: folder.to_owned(), owner }))
    }

    /// Locks the file `path` on behalf of `of`. If not `needed`, a file system without locks is
    /// accepted.
    fn take(path: &Path, of: &Path, needed: bool) -> Result<Self> {
        let failed = |reason| Error::io("lock", path, reason);
        let mut looks = 0;
        loop {
            let mut options = OpenOptions::new();
            readable_by_all(&mut options);
            let mut file =
                options.read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
            match file.try_lock() {
                // [`holder`] takes a shared lock for a moment.
                Err(TryLockError::WouldBlock) if looks < 3 => {
                    looks += 1;
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Locked { path: of.to_owned(), owner: describe(&mut file) });
                }
                Err(TryLockError::Error(reason)) if needed => return Err(failed(reason)),
                _ => {}
            }
            // The previous owner may have removed the file between our opening and locking it.
            // Another process could then create and lock a new file, so our lock would protect
            // nothing.
            if !is_still_at(&file, path) {
                continue;
            }
            // The drop removes the file if the owner cannot be recorded, for example on a full
            // disk.
            let pending = (!needed).then(|| Pending::new(path));
            let mut lock = Self { file, path: path.to_owned(), _pending: pending };
            record_owner(&mut lock.file).map_err(failed)?;
            return Ok(lock);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while the lock is held, see `take`. If that fails, an unlocked file remains,
        // which is harmless.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The holder of the lock of `folder`, if any. Changes nothing.
pub(crate) fn holder(folder: &Path) -> Option<String> {
    let mut file = File::open(folder.join(NAME)).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(describe(&mut file)),
        _ => None,
    }
}

fn record_owner(file: &mut File) -> io::Result<()> {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let owner = serde_json::to_string(&Owner { pid: std::process::id(), started })?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(owner.as_bytes())
}

/// Whether `path` is missing or, by its content, a lock file. On Windows, where a lock prevents
/// reading, every short file counts as one.
pub(crate) fn is_owned(path: &Path) -> bool {
    let Ok(there) = fs::symlink_metadata(path) else { return true };
    let is_owner = |text: Vec<u8>| text.iter().zip(br#"{"pid":"#).all(|(byte, wanted)| byte == wanted);
    // Its owner may remove it in between.
    let read = || fs::read(path).map_or_else(|error| error.kind() == io::ErrorKind::NotFound, is_owner);
    there.is_file() && there.len() < 200 && (cfg!(not(unix)) || read())
}

/// A description of the owner recorded in the lock file; "another process" on Windows, where a lock
/// prevents reading.
fn describe(file: &mut File) -> String {
    // A new owner records its process id right after locking.
    for _ in 0..50 {
        let mut text = String::new();
        if file.rewind().and_then(|()| file.take(200).read_to_string(&mut text)).is_err() {
            break;
        }
        if let Ok(Owner { pid, started }) = serde_json::from_str(&text) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(started, |since| since.as_secs());
            return format!("process {pid}, started {} s ago", now.saturating_sub(started));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    "another process".to_owned()
}

#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => ours.dev() == there.dev() && ours.ino() == there.ino(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_still_at(_file: &File, _path: &Path) -> bool {
    true // lock files are never removed on these systems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_writer_is_refused_until_the_first_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::acquire(folder.path()).unwrap();
        let refused = Lock::acquire(folder.path()).unwrap_err();
        assert!(matches!(refused, Error::Locked { .. }));
        if cfg!(unix) {
            assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
        }
        drop(first);
        Lock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn a_lock_file_left_by_a_dead_process_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        for left in [&br#"{"pid":1,"started":1}"#[..], b"", b"\xff not json"] {
            crate::atomic::write(folder.path().join(NAME), left).unwrap();
            Lock::acquire(folder.path()).unwrap();
        }
    }

    #[test]
    fn of_many_threads_one_at_a_time_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let entered = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Ok(lock) = Lock::acquire(folder.path()) {
                            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            entered.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            drop(lock);
                        }
                    }
                });
            }
        });
        assert!(entered.into_inner() > 0);
    }
}
