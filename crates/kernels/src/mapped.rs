//! A file's bytes without reading them: mapped into memory, read-only.

use std::fs::File;
use std::io;

/// A mapped file.
///
/// Its pages are read when they are first touched, and shared by all processes that map the same file.
#[derive(Debug)]
pub struct Mapped(memmap2::Mmap);

impl Mapped {
    /// Maps the whole of `file` as long as it is now.
    ///
    /// Only for files that are replaced and never changed in place, as those are that `surprisal_formats` writes: what
    /// is mapped then stays as it is, even after another file has taken its name. A file that is cut short while it is
    /// mapped ends the process where a page of it is missing (on Windows the system forbids it).
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn open(file: &File) -> io::Result<Self> {
        // SAFETY: the map is private to this value, read-only and unmapped when it is dropped; its length is the file's
        // at this moment. That nobody writes to the file meanwhile is the contract above, which no program can enforce:
        // writers here rename a new file into place, so a mapped one keeps its bytes. Nothing relies on two reads of a
        // byte being equal: what is read is checked against bounds each time it is used.
        #[expect(unsafe_code, reason = "mapping a file is a promise about other processes")]
        let map = unsafe { memmap2::Mmap::map(file)? };
        Ok(Self(map))
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_has_the_bytes_of_the_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/mapped.rs");
        let mapped = Mapped::open(&File::open(path).unwrap()).unwrap();
        assert_eq!(mapped.as_ref(), include_bytes!("mapped.rs"));
    }
}
