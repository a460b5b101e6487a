//! What is being written aside just now: to be taken away where the process ends in the middle of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io};

static PATHS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn paths() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    PATHS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or a folder that is worth nothing until it is renamed.
#[derive(Debug)]
pub(crate) struct Pending(PathBuf);

impl Pending {
    /// Of what is made at `path` next.
    pub(crate) fn new(path: &Path) -> Self {
        paths().insert(path.to_owned());
        Self(path.to_owned())
    }

    /// What `make` makes at `path`; [`stop_writing`] does not come between that and knowing of it.
    pub(crate) fn made<T>(path: &Path, make: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Self)> {
        let mut paths = paths();
        let made = make()?;
        paths.insert(path.to_owned());
        Ok((made, Self(path.to_owned())))
    }

    /// Does `rename`, in which [`stop_writing`] does not come between two steps.
    pub(crate) fn settle<T>(&self, rename: impl FnOnce() -> T) -> T {
        let _held = paths();
        rename()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        paths().remove(&self.0);
    }
}

/// Removes whatever is half written, and keeps every thread from beginning or ending more of it: for a process that ends
/// now, whatever its other threads are at.
pub fn stop_writing() {
    for _ in 0..500 {
        // The thread that runs this may be the one that holds it.
        let Ok(paths) = PATHS.try_lock() else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        for path in paths.iter() {
            if path.is_dir() {
                // Again, if a file was just being added to it.
                let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_dir_all(path));
            } else {
                let _ = fs::remove_file(path);
            }
        }
        std::mem::forget(paths);
        return;
    }
}
