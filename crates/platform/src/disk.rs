//! Free space of file systems.

use std::path::Path;

/// The bytes that this user can still write to the file system of `folder`, if the system reports
/// it.
pub fn available(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(folder).ok()?;
        found.f_bavail.checked_mul(found.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_space_and_a_missing_one_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!cfg!(unix) || available(folder.path()).is_some());
        assert_eq!(available(&folder.path().join("missing")), None);
    }
}
