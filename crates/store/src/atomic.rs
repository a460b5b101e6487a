//! Atomic writes: after a crash or power loss a file holds either the old content or the new.
//!
//! The bytes go to a temporary file in the same directory, which is synced and renamed over the
//! target; then the directory is synced. On an error the temporary file is removed. Only a crash
//! can leave one behind (`.NAME.PROCESS-NUMBER.tmp`); [`recover`] removes it.
//!
//! - A new file has mode 0644 minus the umask; a replaced file keeps its mode and, if permitted,
//!   its owner. Access control lists and hard links stay with the old file.
//! - A symbolic link is followed and stays a link. A pipe or device is written to directly, without
//!   any of these guarantees.
//! - On Windows the standard library cannot sync a directory; NTFS journals the rename, so after a
//!   power loss either file may be found, but never a part of one.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    Error, Result,
    fault_injection::{self, FailPointFile, Operation},
    pending::Pending,
    write_target::{WriteTarget, folder_of, open_stream},
};

/// Replaces the file at `path` with `bytes`. On an error the old file is unchanged.
///
/// # Errors
/// [`Error::Io`] with the path and, for a write, the number of bytes.
pub fn write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let mut writer = Writer::create(path)?;
    writer.put(bytes)?;
    writer.commit()?;
    Ok(())
}

/// A writer of a file that appears at its path when [`Writer::commit`] is called. Dropping the
/// writer without a commit changes nothing.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<FailPointFile>,
    /// `None` if the target is a stream, which is written to directly.
    temp: Option<TempFile>,
    target: PathBuf,
    written: u64,
}

impl Writer {
    /// Starts a file that will replace `path`. The directory must exist.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory is missing or not writable, or `path` is a directory.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match WriteTarget::resolve(path).map_err(|reason| Error::io("write", path, reason))? {
            WriteTarget::File(target) => {
                let created = create_temp_file(&target);
                let (file, aside) = created.map_err(|reason| Error::io("create", path, reason))?;
                Ok(Self { file: buffered(file), temp: Some(aside), target, written: 0 })
            }
            WriteTarget::Stream(target) => {
                let opened =
                    fault_injection::fail_point(Operation::Create).and_then(|()| open_stream(&target));
                let file = opened.map_err(|reason| Error::io("open", path, reason))?;
                Ok(Self { file: buffered(file), temp: None, target, written: 0 })
            }
        }
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::Io`] with the path and the number of bytes written so far.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|reason| self.failed(reason))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file durable at its path and returns its size in bytes.
    ///
    /// # Errors
    /// [`Error::Io`]; the old file is still there, except when the sync of the directory fails
    /// after the rename: then the new file is in place but may be lost in a power failure.
    pub fn commit(mut self) -> Result<u64> {
        self.file.flush().map_err(|reason| self.failed(reason))?;
        if let Some(aside) = &self.temp {
            sync(&self.file.get_ref().0).map_err(|reason| self.failed(reason))?;
            rename(&aside.0, &self.target)?;
            sync_folder(folder_of(&self.target))?;
        }
        Ok(self.written)
    }

    /// Like [`Self::commit`], but skips the sync if no file is replaced. Only for files that can be
    /// made again and whose reader detects truncation: after a power loss such a file may be
    /// missing or cut short.
    ///
    /// # Errors
    /// Those of [`Self::commit`].
    pub fn commit_no_fsync_if_new(mut self) -> Result<u64> {
        match &self.temp {
            Some(aside) if fs::symlink_metadata(&self.target).is_err() => {
                self.file.flush().map_err(|reason| self.failed(reason))?;
                rename(&aside.0, &self.target)?;
                Ok(self.written)
            }
            _ => self.commit(),
        }
    }

    fn failed(&self, reason: io::Error) -> Error {
        Error::io(format!("write {} bytes to", self.written), &self.target, reason)
    }
}

/// For serialisers that need an [`io::Write`]; the errors of [`Writer::put`] are more precise.
impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Removes what crashed writers left in `folder`: files `.NAME.PROCESS-NUMBER.tmp` and directories
/// `.NAME.tmp`. A directory `.NAME.old` is renamed back if `NAME` is missing, and removed
/// otherwise. Only directories of models (`model`) and checkpoints (`step_…`) are touched. No other
/// process may be writing there.
///
/// # Errors
/// [`Error::Io`] if the directory cannot be listed, or an entry cannot be removed or renamed.
pub fn recover(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    let failed = |reason| Error::io("list", folder, reason);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some((name, suffix)) = name.to_str().and_then(|name| name.strip_prefix('.')?.rsplit_once('.'))
        else {
            continue;
        };
        let path = entry.path();
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        let ours = if is_folder { name == "model" || name.starts_with("step_") } else { is_serial(name) };
        if !ours {
            continue;
        }
        match (suffix, is_folder) {
            ("tmp", false) => remove_file(&path)?,
            ("old", true) if !folder.join(name).exists() => rename(&path, &folder.join(name))?,
            ("tmp" | "old", true) => remove_folder(&path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Checks that files can be created in `folder`, by creating and removing one.
///
/// # Errors
/// [`Error::Io`].
pub fn probe(folder: impl AsRef<Path>) -> Result<()> {
    let made = create_temp(&folder.as_ref().join("probe"), create_new);
    let (path, ..) = made.map_err(|reason| Error::io("write into", folder.as_ref(), reason))?;
    remove_file(&path)
}

fn buffered(file: File) -> BufWriter<FailPointFile> {
    BufWriter::with_capacity(64 << 10, FailPointFile(file))
}

/// The path of a temporary file; when dropped, the file is removed if it still exists.
#[derive(Debug)]
struct TempFile(PathBuf, #[expect(dead_code, reason = "its drop counts")] Pending);

impl Drop for TempFile {
    fn drop(&mut self) {
        // After a commit the file is gone already; errors cannot be reported from here.
        if fault_injection::fail_point(Operation::Remove).is_ok() {
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn create_temp_file(target: &Path) -> io::Result<(File, TempFile)> {
    let (path, file, pending) = create_temp(target, create_new)?;
    let aside = TempFile(path, pending);
    keep_mode(&file, target)?;
    Ok((file, aside))
}

/// Creates, with `make`, a file or directory under a unique temporary name beside `target`.
pub(crate) fn create_temp<T>(
    target: &Path,
    make: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<(PathBuf, T, Pending)> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
    // Long names are cut so that the temporary name stays under the usual limit of 255 bytes.
    let stem: String = name.chars().take(50).collect();
    loop {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let path = target.with_file_name(format!(".{stem}.{}-{serial}.tmp", std::process::id()));
        match Pending::made(&path, || make(&path)) {
            Ok((made, pending)) => return Ok((path, made, pending)),
            // Left by a crashed process with the same id.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether `name` ends in `.PROCESS-NUMBER`, as the names of [`create_temp`] do before `.tmp`.
fn is_serial(name: &str) -> bool {
    let numbers = name.rsplit_once('.').and_then(|(_, end)| end.split_once('-'));
    numbers.is_some_and(|(process, serial)| process.parse::<u32>().is_ok() && serial.parse::<u64>().is_ok())
}

/// Gives `file` the mode of `target`, which it will replace, and its owner if permitted.
#[cfg(unix)]
fn keep_mode(file: &File, target: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let (Ok(old), new) = (fs::metadata(target), file.metadata()?) else { return Ok(()) };
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        // Only root may change the owner; the group may be set to one of the user's own.
        let _ =
            fchown(file, Some(old.uid()), Some(old.gid())).or_else(|_| fchown(file, None, Some(old.gid())));
    }
    if old.mode() == new.mode() { Ok(()) } else { file.set_permissions(old.permissions()) }
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature on every system")]
fn keep_mode(_file: &File, _target: &Path) -> io::Result<()> {
    Ok(())
}

/// Creates a file that must not exist yet, with mode 0644 minus the umask.
///
/// # Errors
/// The system's, for example that the file exists.
pub fn create_new(path: &Path) -> io::Result<File> {
    fault_injection::fail_point(Operation::Create)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    readable_by_all(&mut options);
    options.open(path)
}

/// Sets mode 0644 (minus the umask) for a file that will be created.
pub(crate) fn readable_by_all(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o644);
    #[cfg(not(unix))]
    let _ = options;
}

pub(crate) fn sync(file: &File) -> io::Result<()> {
    fault_injection::fail_point(Operation::Sync)?;
    file.sync_all()
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fault_injection::fail_point(Operation::Rename)
        .and_then(|()| fs::rename(from, to))
        .map_err(|reason| Error::io("rename into place", to, reason))
}

pub(crate) fn remove_file(path: &Path) -> Result<()> {
    fault_injection::fail_point(Operation::Remove)
        .and_then(|()| fs::remove_file(path))
        .map_err(|reason| Error::io("remove", path, reason))
}

pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    fault_injection::fail_point(Operation::Remove)
        .and_then(|()| fs::remove_dir_all(path))
        .map_err(|reason| Error::io("remove", path, reason))
}

/// Makes the directory entries of `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    let synced = fault_injection::fail_point(Operation::Sync).and_then(|()| sync_names(folder));
    synced.map_err(|reason| Error::io("sync", folder, reason))
}

#[cfg(unix)]
fn sync_names(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems cannot sync a directory and do not need to.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        outcome => outcome,
    }
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature on every system")]
fn sync_names(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// The path `.NAME.SUFFIX` beside `NAME`. A very long name is replaced by its hash.
pub(crate) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let mut sibling = OsString::from(".");
    if name.len() <= 200 {
        sibling.push(name);
    } else {
        sibling.push(blake3::hash(name.as_encoded_bytes()).to_hex().as_str());
    }
    sibling.push(format!(".{suffix}"));
    path.with_file_name(sibling)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault_injection::Fault;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failure_at_any_operation_leaves_old_or_new_and_no_debris() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        write(&path, b"old").unwrap();
        for at in 1.. {
            let fault = Fault::Error(io::ErrorKind::StorageFull);
            let (outcome, fired) = fault_injection::with_fault(at, fault, || write(&path, b"the new bytes"));
            let found = fs::read(&path).unwrap();
            assert!(found == b"old" || found == b"the new bytes", "at {at}: {found:?}");
            assert_eq!(names(folder.path()), ["config.json"], "at {at}");
            if !fired {
                outcome.unwrap();
                assert!(at > 5, "create, write, sync, rename and the sync of the folder are operations");
                return;
            }
            if let Err(error) = outcome {
                assert!(
                    error.to_string().contains("config.json") || error.to_string().contains("sync"),
                    "{error}"
                );
                assert!(error.hint().unwrap().contains("full"), "{error}");
            }
        }
    }

    #[test]
    fn a_crash_at_any_operation_leaves_old_or_new_and_sweeping_clears_up() {
        for at in 1..=7 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.json");
            write(&path, b"old").unwrap();
            let _ = fault_injection::with_fault(at, Fault::Crash, || write(&path, b"the new bytes"));
            let found = fs::read(&path).unwrap();
            assert!(found == b"old" || found == b"the new bytes", "at {at}: {found:?}");
            recover(folder.path()).unwrap();
            assert_eq!(names(folder.path()), ["state.json"], "at {at}");
        }
    }

    #[test]
    fn a_writer_that_is_dropped_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big.bin");
        let mut writer = Writer::create(&path).unwrap();
        writer.put(&vec![7; 100_000]).unwrap();
        drop(writer);
        assert!(names(folder.path()).is_empty());

        let mut writer = Writer::create(&path).unwrap();
        for byte in [1, 2] {
            writer.put(&vec![byte; 70_000]).unwrap();
        }
        assert!(!path.exists());
        assert_eq!(writer.commit().unwrap(), 140_000);
        assert_eq!(fs::metadata(&path).unwrap().len(), 140_000);
    }

    #[test]
    fn the_error_names_the_path_and_hints() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no").join("model.arpa");
        let error = write(&missing, b"x").unwrap_err();
        assert!(error.to_string().contains("model.arpa"), "{error}");
        assert_eq!(error.hint(), Some("check the path"));
        let error = write(folder.path(), b"x").unwrap_err();
        assert!(
            matches!(&error, Error::Io { reason, .. } if reason.kind() == io::ErrorKind::IsADirectory),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn the_mode_is_0644_less_the_umask() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write(&path, b"x").unwrap();
        // The umask cannot be read without changing it, but a file from the standard library shows
        // it.
        let other = folder.path().join("other");
        #[expect(clippy::disallowed_methods, reason = "to learn the umask")]
        fs::write(&other, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), mode(&other) & 0o644);
    }
}
