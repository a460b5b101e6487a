//! Checkpoints: directories `step_00001200` with named parts and a manifest of their sizes and
//! hashes.
//!
//! ```text
//! checkpoints/step_00001200/{model.safetensors, optimizer.safetensors, state.json, manifest.json}
//! ```
//!
//! A checkpoint is written under a temporary name, every file and the directory synced, then
//! renamed: it is complete or absent. On loading, every byte is checked against the manifest. An
//! invalid checkpoint is skipped with its reason, and the one before it is used.
//!
//! This module does not interpret the parts.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use crate::{
    Error, Result,
    atomic::{remove_folder, rename, sibling},
    atomic_dir::{self, ManifestId, names_in, quoted},
    manifest::Manifest,
};

/// A checkpoint that was read and verified.
#[derive(Debug)]
pub struct Checkpoint {
    /// The step after which it was saved.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// The parts by name.
    pub parts: BTreeMap<String, Vec<u8>>,
}

impl Checkpoint {
    /// The part named `name`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is missing.
    pub fn part(&self, name: &str) -> Result<&[u8]> {
        let part = self.parts.get(name).map(Vec::as_slice);
        part.ok_or_else(|| Error::malformed(quoted(&self.path), &format!("it has no part `{name}`")))
    }
}

/// A checkpoint that cannot be used.
#[derive(Debug)]
pub struct Skipped {
    /// Its folder.
    pub path: PathBuf,
    /// Why it cannot be used.
    pub reason: Error,
}

/// The result of [`load_newest`].
#[derive(Debug)]
pub struct Newest {
    /// The newest valid checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Newer checkpoints that are invalid, newest first.
    pub skipped: Vec<Skipped>,
}

/// Saves the checkpoint of `step` from its named parts and returns its directory.
///
/// `checkpoints` must exist and have one writer (see [`crate::run_dir::RunWriter`]). A valid
/// checkpoint of the same step is kept, because a deterministic run saves the same state again; a
/// damaged one is replaced.
///
/// # Errors
/// [`Error::Io`], after which earlier checkpoints are unchanged and nothing of this one remains;
/// [`Error::Malformed`] for a part whose name is not a plain file name.
pub fn save(checkpoints: &Path, step: u64, parts: &[(&str, &[u8])]) -> Result<PathBuf> {
    let target = checkpoints.join(name_of(step));
    if load(&target).is_err() {
        atomic_dir::replace(&target, manifest_id(step), parts)?;
    }
    Ok(target)
}

/// The checkpoints in a directory as (step, path), newest first, not verified; empty if the
/// directory does not exist.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be listed.
pub fn list(checkpoints: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let names = match names_in(checkpoints) {
        Err(Error::Io { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let found = names.iter().filter_map(|name| Some((step_of(name)?, checkpoints.join(name))));
    let mut found: Vec<_> = found.collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Reads and verifies the checkpoint in the directory `path`.
///
/// # Errors
/// [`Error::Io`], [`Error::TooLarge`] or [`Error::Malformed`].
pub fn load(path: &Path) -> Result<Checkpoint> {
    let step = path
        .file_name()
        .and_then(|name| step_of(name.to_str()?))
        .ok_or_else(|| Error::malformed(quoted(path), "its name is not `step_` and a number"))?;
    Ok(Checkpoint { step, path: path.to_owned(), parts: atomic_dir::load(path, manifest_id(step))? })
}

/// The names and sizes in bytes of the parts, from the manifest of the checkpoint of `step`. `what`
/// names the manifest in errors.
///
/// # Errors
/// [`Error::TooLarge`] or [`Error::Malformed`].
pub fn parse_manifest(what: &str, json: &[u8], step: u64) -> Result<BTreeMap<String, u64>> {
    let ManifestId { format, step } = manifest_id(step);
    let manifest = Manifest::parse(what, json, format, step)?;
    Ok(manifest.parts.into_iter().map(|(name, part)| (name, part.bytes)).collect())
}

/// Loads the newest valid checkpoint, and lists the newer invalid ones. If a running writer adds or
/// removes checkpoints meanwhile, the search is repeated.
///
/// # Errors
/// [`Error::Io`] if the directory cannot be listed; an unreadable checkpoint is only skipped.
pub fn load_newest(checkpoints: &Path) -> Result<Newest> {
    const LOOKS: usize = 100;
    let mut listed = list(checkpoints)?;
    let mut looks = 0;
    loop {
        let mut newest = Newest { checkpoint: None, skipped: Vec::new() };
        for (_, path) in &listed {
            match load(path) {
                Ok(checkpoint) => {
                    newest.checkpoint = Some(checkpoint);
                    break;
                }
                Err(reason) => newest.skipped.push(Skipped { path: path.clone(), reason }),
            }
        }
        let before = std::mem::replace(&mut listed, list(checkpoints)?);
        looks += 1;
        if newest.skipped.is_empty() || listed == before || looks == LOOKS {
            return Ok(newest);
        }
    }
}

/// Removes all checkpoints except the newest `last` (at least one) and that of the step `best`.
/// Returns the removed steps.
///
/// # Errors
/// [`Error::Io`] if one cannot be removed.
pub fn prune_old(checkpoints: &Path, last: usize, best: Option<u64>) -> Result<Vec<u64>> {
    let mut removed = Vec::new();
    for (step, path) in list(checkpoints)?.into_iter().skip(last.max(1)) {
        if Some(step) != best {
            remove(&path)?;
            removed.push(step);
        }
    }
    Ok(removed)
}

/// Removes a checkpoint. It is renamed first, so that a crash leaves no incomplete checkpoint.
fn remove(path: &Path) -> Result<()> {
    let aside = sibling(path, "tmp");
    if aside.exists() {
        remove_folder(&aside)?;
    }
    rename(path, &aside)?;
    remove_folder(&aside)
}

fn manifest_id(step: u64) -> ManifestId {
    ManifestId { format: "surprisal checkpoint", step: Some(step) }
}

/// The directory name of a checkpoint: at least eight digits, so that names sort by step.
fn name_of(step: u64) -> String {
    format!("step_{step:08}")
}

fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step_")?.parse().ok()?;
    (name == name_of(step)).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        atomic,
        fault_injection::{self, Fault},
    };

    const PARTS: &[(&str, &[u8])] = &[
        ("model.safetensors", b"weights"),
        ("optimizer.safetensors", b"moments"),
        ("state.json", b"{\"epoch\":3}"),
    ];

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = folder();
        let path = save(folder.path(), 1200, PARTS).unwrap();
        assert!(path.ends_with("step_00001200"));
        let newest = load_newest(folder.path()).unwrap();
        assert!(newest.skipped.is_empty());
        let checkpoint = newest.checkpoint.unwrap();
        assert_eq!((checkpoint.step, checkpoint.parts.len()), (1200, 3));
        for (name, bytes) in PARTS {
            assert_eq!(checkpoint.part(name).unwrap(), *bytes);
        }
        assert!(checkpoint.part("ema.safetensors").unwrap_err().to_string().contains("ema.safetensors"));
    }

    #[test]
    fn no_folder_and_an_empty_one_have_no_checkpoint() {
        let folder = folder();
        assert!(load_newest(folder.path()).unwrap().checkpoint.is_none());
        assert!(load_newest(&folder.path().join("none")).unwrap().checkpoint.is_none());
    }

    #[test]
    fn a_damaged_checkpoint_is_skipped_with_the_reason_and_replaced_when_saved_again() {
        let folder = folder();
        save(folder.path(), 10, PARTS).unwrap();
        let damaged = save(folder.path(), 20, PARTS).unwrap();
        atomic::write(damaged.join("state.json"), b"{\"epoch\":4}").unwrap();
        let unfinished = save(folder.path(), 30, PARTS).unwrap();
        std::fs::remove_file(unfinished.join("manifest.json")).unwrap();

        let newest = load_newest(folder.path()).unwrap();
        assert_eq!(newest.checkpoint.unwrap().step, 10);
        let reasons: Vec<_> = newest.skipped.iter().map(|skipped| skipped.reason.to_string()).collect();
        assert!(reasons[0].contains("manifest.json"), "{reasons:?}");
        assert!(reasons[1].contains("state.json") && reasons[1].contains("hash"), "{reasons:?}");

        save(folder.path(), 20, PARTS).unwrap();
        assert_eq!(load(&damaged).unwrap().part("state.json").unwrap(), b"{\"epoch\":3}");
    }

    #[test]
    fn the_newest_and_the_best_are_kept() {
        let folder = folder();
        for step in [1, 2, 3, 4, 100_000_000, 5] {
            save(folder.path(), step, PARTS).unwrap();
        }
        assert_eq!(prune_old(folder.path(), 2, Some(2)).unwrap(), [4, 3, 1]);
        let left: Vec<_> = list(folder.path()).unwrap().into_iter().map(|(step, _)| step).collect();
        assert_eq!(left, [100_000_000, 5, 2]);
        assert_eq!(prune_old(folder.path(), 0, None).unwrap(), [5, 2], "the newest is never removed");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let folder = folder();
        for name in [
            "../state.json",
            "/etc/x",
            "a/b",
            "",
            ".",
            "..",
            ".hidden",
            "manifest.json",
            "a\\b",
            "c:d",
            "con\n",
        ] {
            let error = save(folder.path(), 1, &[(name, b"x")]).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{name:?}: {error}");
        }
        assert!(list(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn a_failure_at_any_operation_leaves_the_earlier_checkpoint_and_no_debris() {
        for at in 1.. {
            let folder = folder();
            save(folder.path(), 1, PARTS).unwrap();
            let fault = Fault::Error(io::ErrorKind::StorageFull);
            let (outcome, fired) = fault_injection::with_fault(at, fault, || save(folder.path(), 2, PARTS));
            let names = names_in(folder.path()).unwrap();
            assert!(names.iter().all(|name| name.starts_with("step_")), "at {at}: {names:?}");
            let newest = load_newest(folder.path()).unwrap();
            assert!(newest.skipped.is_empty(), "at {at}");
            let step = newest.checkpoint.unwrap().step;
            assert!(step == 2 || outcome.is_err(), "at {at}");
            if !fired {
                assert!(at > 14, "only {at} operations");
                return;
            }
        }
    }

    #[test]
    fn a_crash_at_any_operation_leaves_a_whole_checkpoint() {
        for at in 1.. {
            let folder = folder();
            save(folder.path(), 1, PARTS).unwrap();
            let work = || save(folder.path(), 2, PARTS).and_then(|_| prune_old(folder.path(), 1, None));
            let (_, fired) = fault_injection::with_fault(at, Fault::Crash, work);
            let newest = load_newest(folder.path()).unwrap();
            assert!(newest.skipped.is_empty(), "at {at}: half a checkpoint under its name");
            assert!(newest.checkpoint.is_some(), "at {at}");
            atomic::recover(folder.path()).unwrap();
            let names = names_in(folder.path()).unwrap();
            assert!(names.iter().all(|name| name.starts_with("step_")), "at {at}: {names:?}");
            // After the crash the run continues.
            save(folder.path(), 2, PARTS).unwrap();
            assert_eq!(load_newest(folder.path()).unwrap().checkpoint.unwrap().step, 2);
            if !fired {
                return;
            }
        }
    }
}
