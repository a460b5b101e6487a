//! One writer a folder.
//!
//! The lock is the operating system's (`flock`, `LockFileEx`) on a file in the folder, so it goes with its owner,
//! however that dies; the file's text, owner and start, only serves the message to the second writer.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{Error, Result, atomic::readable_by_all};

/// The lock file's name in a folder.
pub(crate) const NAME: &str = "lock";

/// An exclusive lock on a folder, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Keeps the lock: closing the file releases it.
    _file: File,
    path: PathBuf,
}

/// What the lock file says.
#[derive(serde::Serialize, serde::Deserialize)]
struct Owner {
    pid: u32,
    /// Seconds since 1970.
    started: u64,
}

impl Lock {
    /// Locks `folder`. A lock whose owner is dead is taken over.
    ///
    /// # Errors
    /// [`Error::Locked`], or [`Error::Io`].
    pub(crate) fn acquire(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let failed = |reason| Error::io("lock", &path, reason);
        let mut looks = 0;
        loop {
            let mut options = OpenOptions::new();
            readable_by_all(&mut options);
            let mut file =
                options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                // Whoever asks for the holder has it for a moment.
                Err(TryLockError::WouldBlock) if looks < 3 => {
                    looks += 1;
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    continue;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Locked { path: folder.to_owned(), owner: describe(&mut file) });
                }
                Err(TryLockError::Error(reason)) => return Err(failed(reason)),
            }
            // The owner before may have removed the file between our opening and our locking it: then another process
            // can create and lock a new one, and ours protects nothing.
            if !is_still_at(&file, &path) {
                continue;
            }
            record_owner(&mut file).map_err(failed)?;
            return Ok(Self { _file: file, path });
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is held: see `acquire`. If that fails the file stays, unlocked, and harms nobody.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Who holds the lock of `folder`, if anybody does. A look, which leaves everything as it is.
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

/// On Windows the owner's lock also keeps others from reading, so there it is "another process".
fn describe(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(200).read_to_string(&mut text);
    match read.ok().and_then(|_| serde_json::from_str::<Owner>(&text).ok()) {
        Some(Owner { pid, started }) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(started, |since| since.as_secs());
            format!("process {pid}, started {} s ago", now.saturating_sub(started))
        }
        None => "another process".to_owned(),
    }
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
    true // never removed there
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
