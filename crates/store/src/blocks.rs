//! A file written in blocks, as large or small as its system likes them.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::{
    direct::{ALIGNMENT, Direct},
    faults::{self, Operation, write_checked},
};

/// A file that is written in whole blocks, as many at once as there are, each where one of its size begins; what goes beyond
/// a size, past the cache. Every write counts as an operation, and is torn where a fault is planned.
#[derive(Debug)]
pub(crate) struct Blocks {
    file: File,
    path: PathBuf,
    /// The beginning of the next block.
    block: Vec<u8>,
    /// How much the file has.
    written: u64,
    /// From when on it is tried past the cache, if it was not yet.
    large: Option<u64>,
    direct: Option<Direct>,
}

/// Linux keeps a file in pieces of memory as large as what is written at once where it may. Small ones are more often at
/// hand: a text of 3.4 GB in writes of 2 MiB took three times as much of the kernel's time.
const BLOCK: usize = 16 << 10;
/// What is smaller is likely to be read again soon.
pub(crate) const LARGE: u64 = 64 << 20;

impl Blocks {
    /// Of `file` at `path`, empty until now; past the cache from `large` bytes on, if at all.
    pub(crate) fn new(file: File, path: &Path, large: Option<u64>) -> Self {
        Self { file, path: path.to_owned(), block: Vec::new(), written: 0, large, direct: None }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    fn write_blocks(&mut self, bytes: &[u8]) -> io::Result<()> {
        write_checked(&mut self.file, bytes)?;
        self.written += bytes.len() as u64;
        if self.large.is_some_and(|large| self.written >= large)
            && self.written.is_multiple_of(ALIGNMENT as u64)
        {
            self.large = None;
            self.direct = Direct::start(&self.path, self.written);
        }
        Ok(())
    }

    /// Puts `bytes` into the chunk that goes past the cache next; returns how many of them found room.
    fn write_direct(&mut self, mut direct: Direct, bytes: &[u8]) -> io::Result<usize> {
        let (len, full) = direct.put(bytes);
        self.written += len as u64;
        if full {
            direct = checked(direct)?.hand_on()?;
        }
        self.direct = Some(direct);
        Ok(len)
    }
}

/// `direct`, whose chunk is to be written; where a fault is planned, half of it is.
fn checked(mut direct: Direct) -> io::Result<Direct> {
    match faults::pass(Operation::Write) {
        Ok(()) => Ok(direct),
        Err(fault) => {
            direct.tear();
            direct.finish().and(Err(fault))
        }
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(direct) = self.direct.take() {
            return self.write_direct(direct, bytes);
        }
        if self.block.is_empty() && bytes.len() >= BLOCK {
            let whole = bytes.len() / BLOCK * BLOCK;
            self.write_blocks(&bytes[..whole])?;
            return Ok(whole);
        }
        let len = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..len]);
        if self.block.len() == BLOCK {
            self.flush()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(direct) = self.direct.take() {
            checked(direct)?.finish()?;
            // What comes after that goes the usual way.
            self.file.seek(SeekFrom::Start(self.written))?;
        }
        if !self.block.is_empty() {
            let block = std::mem::take(&mut self.block);
            self.write_blocks(&block)?;
            self.block = block;
            self.block.clear();
        }
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{atomic::create_new, direct::CHUNK, faults::Fault};

    /// The sizes of pieces, and how much that is.
    fn sizes() -> Vec<usize> {
        let mut sizes = vec![1, BLOCK - 1, BLOCK, 3, 3 * BLOCK + 5, BLOCK - 8, 0, 2 * BLOCK, BLOCK + 1, 7];
        sizes.extend([CHUNK, 2 * CHUNK + 3, CHUNK - 1, 5, 9 * CHUNK + 777, 4096, 8]);
        sizes
    }

    fn piece(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + len) as u8).collect()
    }

    #[test]
    fn pieces_of_any_size_are_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let expected: Vec<u8> = sizes().into_iter().flat_map(piece).collect();
        for (i, large) in [None, Some(0), Some(1 << 16), Some(1 << 22), Some(LARGE)].into_iter().enumerate() {
            // As it comes, and flushed on the way: after that it goes on the usual way.
            for flushed in [usize::MAX, 3, 12] {
                let path = folder.path().join(format!("{i}-{flushed}"));
                let mut blocks = Blocks::new(create_new(&path).unwrap(), &path, large);
                for (n, len) in sizes().into_iter().enumerate() {
                    blocks.write_all(&piece(len)).unwrap();
                    if n == flushed {
                        blocks.flush().unwrap();
                    }
                }
                blocks.flush().unwrap();
                assert!(fs::read(&path).unwrap() == expected, "{large:?}, flushed after {flushed}");
            }
        }
    }

    #[test]
    fn a_fault_at_any_write_leaves_a_beginning_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let expected: Vec<u8> = sizes().into_iter().flat_map(piece).collect();
        for at in 1.. {
            let path = folder.path().join(at.to_string());
            let mut blocks = Blocks::new(create_new(&path).unwrap(), &path, Some(1 << 16));
            let guard = faults::inject(at, Fault::Error(io::ErrorKind::StorageFull));
            let outcome = sizes().into_iter().try_for_each(|len| blocks.write_all(&piece(len)));
            let outcome = outcome.and_then(|()| blocks.flush());
            let fired = guard.fired();
            drop(guard);
            let found = fs::read(&path).unwrap();
            assert_eq!(outcome.is_err(), fired, "at {at}");
            if !fired {
                assert!(found == expected);
                assert!(at > 10, "chunks are written, too");
                return;
            }
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::StorageFull);
            assert!(found.len() < expected.len() && expected.starts_with(&found), "at {at}");
        }
    }
}
