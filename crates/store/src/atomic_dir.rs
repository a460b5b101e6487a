//! Directories that are written and replaced as a whole, and whose bytes are verified on reading.

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

/// The largest accepted part, in bytes.
const MAX_PART_BYTES: u64 = 16 << 30;

/// The identity of a directory, recorded in its manifest.
#[derive(Clone, Copy, Debug)]
pub struct ManifestId {
    /// The kind of directory, for example "surprisal model".
    pub format: &'static str,
    /// The step, for a checkpoint.
    pub step: Option<u64>,
}

/// Writes the parts and their manifest as the directory `target`, replacing an old one.
///
/// On an error the old directory is restored. After a crash between moving the old directory away
/// and the new one in, [`crate::atomic::recover`] restores it from its backup name.
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

/// Writes the parts, without a manifest, as the directory `target`, which must be missing or empty.
///
/// # Errors
/// [`Error::Occupied`] if `target` is in use; [`Error::Io`].
pub fn create(target: &Path, parts: &[(&str, &[u8])]) -> Result<()> {
    // A link is followed: the directory behind it is replaced.
    let real_path = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
    let made = create_temp(&real_path, make);
    let (aside, (), pending) = made.map_err(|reason| Error::io("create the folder", target, reason))?;
    fill_and_move(&aside, parts, None, pending, || {
        if real_path.exists() {
            // Fails unless it is an empty directory.
            fs::remove_dir(&real_path).map_err(|_| Error::Occupied { path: target.to_owned() })?;
        }
        rename(&aside, &real_path)
    })?;
    sync_folder(folder_of(&real_path))
}

fn make(folder: &Path) -> io::Result<()> {
    fault_injection::fail_point(Operation::Create).and_then(|()| fs::create_dir(folder))
}

/// Writes the parts into the directory `aside` and calls `move_in`; on an error `aside` is removed.
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
        // The first error is reported, not this one.
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

/// The parts of a directory, every byte verified against the manifest.
///
/// # Errors
/// [`Error::Io`]; [`Error::TooLarge`]; [`Error::Malformed`] if a length or a hash differs.
pub fn load(path: &Path, label: ManifestId) -> Result<BTreeMap<String, Vec<u8>>> {
    let manifest_path = path.join(manifest::NAME);
    let json = read_bounded(&manifest_path, manifest::MAX_BYTES)?;
    let manifest = Manifest::parse(&quoted(&manifest_path), &json, label.format, label.step)?;
    let present = names_in(path)?;
    let mut parts = BTreeMap::new();
    for (name, expected) in &manifest.parts {
        let part = path.join(name);
        // The listing decides, not opening: a case-insensitive file system would accept
        // `Model.safetensors`.
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
    // No part has a name that is not UTF-8.
    let names = names.filter_map(|name| name.map(|name| name.into_string().ok()).transpose());
    names.collect::<io::Result<_>>().map_err(failed)
}

/// `path` in backquotes, for messages.
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

    /// Runs `replace` with the fault at operation 1, 2, 3, … until it is not reached; counts how
    /// often the old and the new directory were found.
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
            // If the sync after the rename fails, the backup remains until the next writer removes
            // it.
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
