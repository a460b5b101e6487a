//! The folders above a file or a folder to be written.

use std::{
    fs::{self, DirBuilder},
    io,
    path::{Path, PathBuf},
};

use crate::{
    Error, Result,
    fault_injection::{self, Operation},
    write_target::folder_of,
};

/// The parent folders that were created for a target. Those that are still empty are removed when
/// it is dropped.
#[derive(Debug)]
pub struct ParentFolders(Vec<PathBuf>);

impl ParentFolders {
    /// Creates the missing parent folders of `target`.
    ///
    /// # Errors
    /// [`Error::Io`], about the folder.
    pub fn create(target: &Path) -> Result<Self> {
        let mut parents = Self(Vec::new());
        create_folders(folder_of(target), &mut parents.0)?;
        Ok(parents)
    }
}

impl Drop for ParentFolders {
    fn drop(&mut self) {
        remove_created(&self.0);
    }
}

/// Like `create_dir_all`; appends the new directories to `created`.
pub(crate) fn create_folders(path: &Path, created: &mut Vec<PathBuf>) -> Result<()> {
    let mut missing: Vec<&Path> =
        path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    missing.reverse();
    for folder in missing {
        let made =
            fault_injection::fail_point(Operation::Create).and_then(|()| DirBuilder::new().create(folder));
        match made {
            Ok(()) => created.push(folder.to_owned()),
            Err(reason) if reason.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(reason) => return Err(Error::io("create the folder", folder, reason)),
        }
    }
    Ok(())
}

/// Removes those directories that are empty, innermost first.
pub(crate) fn remove_created(created: &[PathBuf]) {
    for folder in created.iter().rev() {
        let _ = fs::remove_dir(folder);
    }
}
