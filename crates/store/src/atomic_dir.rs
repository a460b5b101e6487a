//! Folders of parts that are written whole, replaced whole, and read only if every byte is as written.

use std::{collections::BTreeMap, fs, io, path::Path};

use crate::{
    Error, Result,
    atomic::{create_new, create_temp, remove_folder, rename, sibling, sync, sync_folder},
    fault_injection::{self, Operation, write_checked},
    manifest::{self, Manifest},
    pending::Pending,
    read::read_bounded,
    write_target::folder_of,
};

/// The largest part, in bytes.
const MAX_PART_BYTES: u64 = 16 << 30;

/// What a folder is for.
#[derive(Clone, Copy, Debug)]
pub struct ManifestId {
    /// Of what kind the folder is: "surprisal model".
    pub format: &'static str,
    /// Of the run that it is a checkpoint of.
    pub step: Option<u64>,
}

/// Writes the parts and their manifest as the folder `target`, in place of what is there.
///
/// On an error what was there is there again. A crash in the moment between moving the old folder away and the new one in
/// leaves the old one under its backup name, from which [`crate::atomic::recover`] restores it.
///
/// # Errors
/// [`Error::Io`].
pub fn replace(target: &Path, label: ManifestId, parts: &[(&str, &[u8])]) -> Result<()> {
    let manifest = Manifest::new(label.format, label.step, parts)?;
    let aside = sibling(target, "tmp");
    let backup = sibling(target, "old");
    if aside.exists() {
        remove_folder(&aside)?;
    }
    match (backup.exists(), target.exists()) {
        (true, true) => remove_folder(&backup)?,
        (true, false) => rename(&backup, target)?,
        (false, _) => {}
    }
    let made = Pending::made(&aside, || make(&aside));
    let ((), pending) = made.map_err(|reason| Error::io("create the folder", &aside, reason))?;
    fill_and_move(&aside, parts, Some(&manifest), pending, || swap_in(target, &aside, &backup))?;
    sync_folder(folder_of(target))?;
    if backup.exists() {
        remove_folder(&backup)?;
    }
    Ok(())
}

/// Writes the parts, with no manifest, as the folder `target`, which must not be there or be empty.
///
/// # Errors
/// [`Error::Occupied`] where something is there; [`Error::Io`].
pub fn create(target: &Path, parts: &[(&str, &[u8])]) -> Result<()> {
    // It is the folder behind a link that is replaced.
    let place = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
    let made = create_temp(&place, make);
    let (aside, (), pending) = made.map_err(|reason| Error::io("create the folder", target, reason))?;
    fill_and_move(&aside, parts, None, pending, || {
        if place.exists() {
            // Refuses what is not an empty folder.
            fs::remove_dir(&place).map_err(|_| Error::Occupied { path: target.to_owned() })?;
        }
        rename(&aside, &place)
    })?;
    sync_folder(folder_of(&place))
}

fn make(folder: &Path) -> io::Result<()> {
    fault_injection::fail_point(Operation::Create).and_then(|()| fs::create_dir(folder))
}

/// Writes the parts into the folder `aside` and does `move_in` with it; on an error nothing is left of it.
fn fill_and_move(
    aside: &Path,
    parts: &[(&str, &[u8])],
    manifest: Option<&Manifest>,
    pending: Pending,
    move_in: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let moved = fill(aside, parts, manifest).and_then(|()| pending.settle(move_in));
    drop(pending);
    moved.inspect_err(|_| {
        // The first error is the one to report.
        let _ = remove_folder(aside);
    })
}

fn swap_in(target: &Path, aside: &Path, backup: &Path) -> Result<()> {
    let old = target.exists();
    if old {
        rename(target, backup)?;
    }
    rename(aside, target).inspect_err(|_| {
        if old {
            let _ = rename(backup, target);
        }
    })
}

fn fill(folder: &Path, parts: &[(&str, &[u8])], manifest: Option<&Manifest>) -> Result<()> {
    for (name, bytes) in parts {
        write_synced(&folder.join(name), bytes)?;
    }
    if let Some(manifest) = manifest {
        write_synced(&folder.join(manifest::NAME), &manifest.to_json()?)?;
    }
    sync_folder(folder)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |reason| Error::io(format!("write {} bytes to", bytes.len()), path, reason);
    let mut file = create_new(path).map_err(failed)?;
    write_checked(&mut file, bytes).map_err(failed)?;
    sync(&file).map_err(failed)
}

/// The parts of a folder, every byte checked against the manifest.
///
/// # Errors
/// [`Error::Io`], [`Error::TooLarge`]; [`Error::Malformed`] where a byte is not as it was written.
pub fn load(path: &Path, label: ManifestId) -> Result<BTreeMap<String, Vec<u8>>> {
    let manifest_path = path.join(manifest::NAME);
    let json = read_bounded(&manifest_path, manifest::MAX_BYTES)?;
    let manifest = Manifest::parse(&quoted(&manifest_path), &json, label.format, label.step)?;
    let present = names_in(path)?;
    let mut parts = BTreeMap::new();
    for (name, expected) in &manifest.parts {
        let part = path.join(name);
        // By the listing, not by opening it: a file system that ignores case would find `Model.safetensors`.
        if !present.contains(name) {
            return Err(Error::io("read", &part, io::ErrorKind::NotFound.into()));
        }
        let bytes = read_bounded(&part, MAX_PART_BYTES)?;
        expected.check(&quoted(&part), &bytes)?;
        parts.insert(name.clone(), bytes);
    }
    Ok(parts)
}

pub(crate) fn names_in(folder: &Path) -> Result<Vec<String>> {
    let failed = |reason| Error::io("list", folder, reason);
    let names = fs::read_dir(folder).map_err(failed)?.map(|entry| entry.map(|entry| entry.file_name()));
    // A name that is not UTF-8 is no part's.
    let names = names.filter_map(|name| name.map(|name| name.into_string().ok()).transpose());
    names.collect::<io::Result<_>>().map_err(failed)
}

/// `path` as messages show it.
pub fn quoted(path: &Path) -> String {
    format!("`{}`", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{atomic, fault_injection::Fault};

    const LABEL: ManifestId = ManifestId { format: "surprisal test", step: None };
    const OLD: &[(&str, &[u8])] = &[("a.bin", b"old a"), ("b.bin", b"old b")];
    const NEW: &[(&str, &[u8])] = &[("a.bin", b"new a"), ("c.bin", b"new c")];

    fn found(target: &Path) -> &'static str {
        let parts = load(target, LABEL).unwrap();
        let is = |wanted: &[(&str, &[u8])]| {
            parts.len() == wanted.len() && wanted.iter().all(|(name, bytes)| parts[*name] == *bytes)
        };
        if is(OLD) {
            "old"
        } else {
            assert!(is(NEW), "{parts:?}");
            "new"
        }
    }

    /// Runs `replace` with the fault at operation 1, 2, 3, ... until it is not reached; returns how often old and new were found.
    fn outcomes(fault: Fault) -> (usize, usize) {
        let (mut old, mut new) = (0, 0);
        for at in 1.. {
            let base = tempfile::tempdir().unwrap();
            let target = base.path().join("model");
            replace(&target, LABEL, OLD).unwrap();
            let (outcome, fired) = fault_injection::with_fault(at, fault, || replace(&target, LABEL, NEW));
            if fault == Fault::Crash {
                atomic::recover(base.path()).unwrap();
            }
            match found(&target) {
                "old" => old += 1,
                _ => new += 1,
            }
            // A failure to sync the folder after the rename leaves the backup, which the next writer clears up.
            atomic::recover(base.path()).unwrap();
            assert_eq!(names_in(base.path()).unwrap(), ["model"], "at {at}");
            if !fired {
                outcome.unwrap();
                return (old, new);
            }
        }
        unreachable!("some operation is the last")
    }

    #[test]
    fn a_failure_or_a_crash_at_any_operation_leaves_the_old_folder_or_the_new() {
        let (old, new) = outcomes(Fault::Error(io::ErrorKind::StorageFull));
        assert!(old >= 12 && new >= 1, "{old} old, {new} new");
        let (old, new) = outcomes(Fault::Crash);
        assert!(old >= 12 && new >= 1, "{old} old, {new} new");
    }

    #[test]
    fn another_kind_of_folder_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let target = base.path().join("model");
        replace(&target, LABEL, OLD).unwrap();
        let error = load(&target, ManifestId { format: "surprisal model", step: None }).unwrap_err();
        assert!(error.to_string().contains("manifest of a `surprisal test`"), "{error}");
        assert!(load(&target, ManifestId { step: Some(1), ..LABEL }).is_err());
    }
}
