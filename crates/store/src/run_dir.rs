//! The directory of a training run.
//!
//! ```text
//! config.toml      the resolved configuration               metrics.jsonl   one event per line
//! tokenizer.json   the tokenizer                            report.html     the report
//! checkpoints/     step_00001200 … (see `checkpoint`)       model/          the finished model
//! changes.jsonl    changes with which the run went on
//! ```
//!
//! [`RunFolder`] reads it. [`RunWriter`] is its only writer and holds its lock.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, Write},
    ops::Deref,
    path::{Path, PathBuf},
};

use crate::{
    Error, Result, atomic,
    fault_injection::write_checked,
    lock::{self, Lock},
    parents::{create_folders, remove_created},
    read::NOT_REGULAR,
};

const CONFIG: &str = "config.toml";
/// The subdirectories that are created with the run.
const SUBFOLDERS: [&str; 2] = ["checkpoints", "model"];

/// A run directory opened for reading.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// Opens the run in `path` without locking it.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory does not exist, [`Error::Missing`] if it is not a run.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let root = path.as_ref();
        let metadata = fs::metadata(root).map_err(|reason| Error::io("open", root, reason))?;
        if !metadata.is_dir() {
            return Err(Error::io("open the run folder", root, io::ErrorKind::NotADirectory.into()));
        }
        if !root.join(CONFIG).is_file() {
            return Err(Error::Missing {
                path: root.to_owned(),
                what: "run folder",
                missing: CONFIG,
                hint: "give the folder that training wrote, or start a new run",
            });
        }
        Ok(Self { root: root.to_owned() })
    }

    /// A description of the process that is writing to the run, if there is one.
    pub fn writer(&self) -> Option<String> {
        lock::holder(&self.root)
    }

    /// The run directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`.
    pub fn config(&self) -> PathBuf {
        self.root.join(CONFIG)
    }

    /// `tokenizer.json`.
    pub fn tokenizer(&self) -> PathBuf {
        self.root.join("tokenizer.json")
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// `report.html`.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// `model/`.
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }
}

/// A run directory locked for writing by this process.
#[derive(Debug)]
pub struct RunWriter {
    folder: RunFolder,
    /// The directories that this process created, outermost first.
    created: Vec<PathBuf>,
    _lock: Lock,
}

impl Deref for RunWriter {
    type Target = RunFolder;

    fn deref(&self) -> &RunFolder {
        &self.folder
    }
}

impl RunWriter {
    /// Starts and locks a new run in `path`, which must be missing, empty, or the remains of a run
    /// that failed before its first file.
    ///
    /// `checkpoints/` and `model/` are created at once, so that a read-only location is found
    /// before training, not after it.
    ///
    /// # Errors
    /// [`Error::Occupied`], [`Error::Locked`] or [`Error::Io`]; nothing is left behind.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let root = path.as_ref();
        refuse_occupied(root)?;
        let mut created = Vec::new();
        match Self::create_in(root, &mut created) {
            Ok(lock) => Ok(Self { folder: RunFolder { root: root.to_owned() }, created, _lock: lock }),
            Err(error) => {
                remove_created(&created);
                Err(error)
            }
        }
    }

    fn create_in(root: &Path, created: &mut Vec<PathBuf>) -> Result<Lock> {
        create_folders(root, created)?;
        let lock = Lock::acquire(root)?;
        // Another process may have started a run between the first check and the lock.
        refuse_occupied(root)?;
        atomic::recover(root)?;
        for name in SUBFOLDERS {
            // A leftover of a failed start is replaced by a directory of this run.
            remove_if_there(&root.join(name), |path| fs::remove_dir(path))?;
            create_folders(&root.join(name), created)?;
        }
        atomic::sync_folder(root)?;
        Ok(lock)
    }

    /// Locks the run in `path` to continue it, and removes the temporary files of a crash.
    ///
    /// # Errors
    /// Those of [`RunFolder::open`]; [`Error::Locked`].
    pub fn resume(path: impl AsRef<Path>) -> Result<Self> {
        let folder = RunFolder::open(path)?;
        let lock = Lock::acquire(folder.root())?;
        let mut created = Vec::new();
        atomic::recover(folder.root())?;
        for inner in [folder.checkpoints(), folder.model()] {
            create_folders(&inner, &mut created)?;
            atomic::recover(&inner)?;
        }
        Ok(Self { folder, created: Vec::new(), _lock: lock })
    }

    /// Removes all files of a new run and the directories created for it, after a failure before
    /// the first step. A resumed run is left unchanged.
    ///
    /// # Errors
    /// [`Error::Io`] if something cannot be removed.
    pub fn rollback(self) -> Result<()> {
        if self.created.is_empty() {
            return Ok(());
        }
        for path in
            [self.config(), self.tokenizer(), self.metrics(), self.report(), self.root().join(lock::NAME)]
        {
            remove_if_there(&path, |path| fs::remove_file(path))?;
        }
        for path in [self.checkpoints(), self.model()] {
            remove_if_there(&path, |path| fs::remove_dir_all(path))?;
        }
        // Directories that existed before, or that are not empty, stay.
        remove_created(&self.created);
        Ok(())
    }
}

/// `metrics.jsonl`, opened for appending. A line is in the file when [`MetricsLog::append`]
/// returns.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
    offset: u64,
}

impl MetricsLog {
    /// Begins the file `path` anew with the line `first`. An old file is replaced as a whole: there
    /// is always a line that says whose files are in the run.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn begin(path: PathBuf, first: &str) -> Result<Self> {
        Self::check_regular(&path)?;
        atomic::write(&path, format!("{first}\n").as_bytes())?;
        Self::open(path, first.len() as u64 + 1)
    }

    fn check_regular(path: &Path) -> Result<()> {
        // Opening a pipe would wait for a reader.
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(Error::malformed(format!("`{}`", path.display()), NOT_REGULAR));
        }
        Ok(())
    }

    /// Opens the file `path` for appending, truncated to `offset` bytes: 0 for a new run, the
    /// offset in the checkpoint for a resumed one, so that no step is recorded twice.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Malformed`] if the file is shorter than `offset`.
    pub fn open(path: PathBuf, offset: u64) -> Result<Self> {
        let failed = |reason| Error::io("open", &path, reason);
        let mut options = OpenOptions::new();
        atomic::readable_by_all(&mut options);
        Self::check_regular(&path)?;
        let mut file = options.write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if length < offset {
            let problem = format!("it has {length} bytes, but it had {offset} when the checkpoint was saved");
            return Err(Error::malformed(format!("`{}`", path.display()), &problem));
        }
        file.set_len(offset).map_err(failed)?;
        file.seek(io::SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { file, path, offset })
    }

    /// Appends `line` and a newline.
    ///
    /// # Errors
    /// [`Error::Io`]; a partly written line is removed.
    pub fn append(&mut self, line: &str) -> Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        if let Err(reason) = write_checked(&mut self.file, &bytes) {
            // Best effort: resuming truncates the file in any case.
            let _ = self
                .file
                .set_len(self.offset)
                .and_then(|()| self.file.seek(io::SeekFrom::Start(self.offset)));
            return Err(Error::io(format!("append {} bytes to", bytes.len()), &self.path, reason));
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// The length in bytes, which a checkpoint saves and resuming passes to [`Self::open`].
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Makes the lines durable. Called before saving a checkpoint that refers to [`Self::offset`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<()> {
        let synced = self.file.flush().and_then(|()| atomic::sync(&self.file));
        synced.map_err(|reason| Error::io("sync", &self.path, reason))
    }
}

/// Fails if a new run cannot be started at `root`: it is neither missing nor empty, or it is
/// locked.
///
/// # Errors
/// [`Error::Occupied`], [`Error::Locked`] or [`Error::Io`].
pub fn refuse_occupied(root: impl AsRef<Path>) -> Result<()> {
    let root = root.as_ref();
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(reason) if reason.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::Occupied { path: root.to_owned() });
        }
        Err(reason) => return Err(Error::io("open", root, reason)),
    };
    for entry in entries {
        let entry = entry.map_err(|reason| Error::io("list", root, reason))?;
        if !is_failed_start_leftover(&entry) {
            Lock::refuse_held(root)?;
            return Err(Error::Occupied { path: root.to_owned() });
        }
    }
    Ok(())
}

/// Whether `entry` is a leftover of a run that failed before its first file: its lock, an empty
/// subdirectory, or a temporary config file.
fn is_failed_start_leftover(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let Some(name) = name.to_str() else { return false };
    let is_empty = || fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.next().is_none());
    (name == lock::NAME && lock::is_owned(&entry.path()))
        || (SUBFOLDERS.contains(&name) && is_empty())
        || name.strip_suffix(".tmp").is_some_and(|name| name.starts_with(".config.toml."))
}

fn remove_if_there(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<()> {
    match remove(path) {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, reason)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault_injection;

    #[test]
    fn a_new_run_has_its_folders_and_refuses_a_second_of_its_name() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("deep/er/run");
        let run = RunWriter::create(&path).unwrap();
        atomic::write(run.config(), b"[model]\n").unwrap();
        assert!(run.checkpoints().is_dir() && run.model().is_dir());
        // The lock is reported first, even when resuming is impossible.
        for error in [RunWriter::create(&path).unwrap_err(), RunWriter::resume(&path).unwrap_err()] {
            assert!(matches!(error, Error::Locked { .. }), "{error}");
        }
        drop(run);
        let error = RunWriter::create(&path).unwrap_err();
        assert!(matches!(error, Error::Occupied { .. }), "{error}");
        assert!(error.hint().unwrap().contains("another name"));
        RunWriter::resume(&path).unwrap();
        assert_eq!(RunFolder::open(&path).unwrap().root(), path);
    }

    #[test]
    fn abandoning_removes_what_was_created_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let neighbour = base.path().join("runs/other");
        fs::create_dir_all(&neighbour).unwrap();
        let run = RunWriter::create(base.path().join("runs/new/er")).unwrap();
        atomic::write(run.config(), b"x").unwrap();
        run.rollback().unwrap();
        assert!(neighbour.is_dir());
        assert!(!base.path().join("runs/new").exists());

        let empty = base.path().join("empty");
        fs::create_dir(&empty).unwrap();
        let run = RunWriter::create(&empty).unwrap();
        atomic::write(run.config(), b"x").unwrap();
        run.rollback().unwrap();
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    }

    #[test]
    fn a_failed_creation_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        for at in 1.. {
            let fault = fault_injection::Fault::Error(io::ErrorKind::PermissionDenied);
            let (outcome, fired) =
                fault_injection::with_fault(at, fault, || RunWriter::create(base.path().join("a/b")));
            if !fired {
                assert!(at > 4, "four folders are created");
                outcome.unwrap();
                return;
            }
            outcome.unwrap_err();
            assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0, "at {at}");
        }
    }

    #[test]
    fn a_file_or_a_foreign_folder_is_no_run() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("file");
        atomic::write(&file, b"x").unwrap();
        assert!(matches!(RunWriter::create(&file), Err(Error::Occupied { .. })));
        assert!(matches!(RunFolder::open(&file), Err(Error::Io { .. })));
        let error = RunFolder::open(base.path()).unwrap_err();
        assert!(error.to_string().ends_with("is not a run folder: it has no config.toml"), "{error}");
        assert!(matches!(RunFolder::open(base.path().join("none")), Err(Error::Io { .. })));
    }

    #[test]
    fn metrics_that_are_begun_anew_are_never_without_their_first_line() {
        let base = tempfile::tempdir().unwrap();
        let run = RunWriter::create(base.path().join("run")).unwrap();
        MetricsLog::begin(run.metrics(), "first").unwrap().append("second").unwrap();
        for operation in 1..4 {
            let begin = || MetricsLog::begin(run.metrics(), "again");
            fault_injection::with_fault(operation, fault_injection::Fault::Crash, begin).0.unwrap_err();
            assert_eq!(fs::read_to_string(run.metrics()).unwrap(), "first\nsecond\n");
        }
        let mut metrics = MetricsLog::begin(run.metrics(), "again").unwrap();
        metrics.append("third").unwrap();
        assert_eq!(fs::read_to_string(run.metrics()).unwrap(), "again\nthird\n");
    }

    #[test]
    fn metrics_are_cut_back_to_the_offset_of_the_checkpoint() {
        let base = tempfile::tempdir().unwrap();
        let run = RunWriter::create(base.path().join("run")).unwrap();
        let mut metrics = MetricsLog::open(run.metrics(), 0).unwrap();
        metrics.append(r#"{"step":1}"#).unwrap();
        let offset = metrics.offset();
        metrics.append(r#"{"step":2}"#).unwrap();
        metrics.sync().unwrap();
        drop(metrics);
        let mut metrics = MetricsLog::open(run.metrics(), offset).unwrap();
        metrics.append(r#"{"step":2,"again":true}"#).unwrap();
        let text = fs::read_to_string(run.metrics()).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2,\"again\":true}\n");
        assert!(matches!(MetricsLog::open(run.metrics(), 1000), Err(Error::Malformed { .. })));
    }

    #[test]
    fn a_line_that_fails_is_taken_back() {
        let base = tempfile::tempdir().unwrap();
        let run = RunWriter::create(base.path().join("run")).unwrap();
        let mut metrics = MetricsLog::open(run.metrics(), 0).unwrap();
        metrics.append("one").unwrap();
        let fault = fault_injection::Fault::Error(io::ErrorKind::StorageFull);
        let error = fault_injection::with_fault(1, fault, || metrics.append("a longer line")).0.unwrap_err();
        assert!(
            error.to_string().contains("append 14 bytes") && error.to_string().contains("metrics.jsonl"),
            "{error}"
        );
        metrics.append("two").unwrap();
        assert_eq!(fs::read_to_string(run.metrics()).unwrap(), "one\ntwo\n");
    }
}
