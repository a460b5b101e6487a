//! Registry of unfinished temporary files, which are removed if the process is ended.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io};

static PATHS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn paths() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    PATHS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The registration of a temporary file or directory until it is renamed or dropped.
#[derive(Debug)]
pub(crate) struct Pending(PathBuf);

impl Pending {
    /// Registers `path`, which is created next.
    pub(crate) fn new(path: &Path) -> Self {
        paths().insert(path.to_owned());
        Self(path.to_owned())
    }

    /// Calls `make` to create `path` and registers it. [`stop_writing`] cannot run in between.
    pub(crate) fn made<T>(path: &Path, make: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Self)> {
        let mut paths = paths();
        let made = make()?;
        paths.insert(path.to_owned());
        Ok((made, Self(path.to_owned())))
    }

    /// Calls `rename`; [`stop_writing`] cannot run during it.
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

/// Removes all unfinished files, and blocks every thread that starts or completes one. Called just
/// before the process ends, while other threads may be running.
pub fn stop_writing() {
    for _ in 0..500 {
        // The calling thread itself may hold the lock.
        let Ok(paths) = PATHS.try_lock() else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        for path in paths.iter() {
            if path.is_dir() {
                // Repeated in case a file was added meanwhile.
                let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_dir_all(path));
            } else {
                let _ = fs::remove_file(path);
            }
        }
        std::mem::forget(paths);
        return;
    }
}
