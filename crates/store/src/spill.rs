//! Temporary files of data that does not fit into memory, made of checksummed blocks.
//!
//! A file has several streams, each a list of blocks, which threads append in any order. The index
//! of the blocks is at its end, and the file appears at its path when it is complete. So what a
//! killed process has finished can be used by the next one.
//!
//! ```text
//! blocks   index (JSON)   length of the index: u64   CRC-32 of the index: u32   magic: 8 bytes
//! ```

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use surprisal_platform::positioned::read_exact_at;

use crate::{Error, Result, atomic};

const MAGIC: &[u8; 8] = b"SURPSPL1";
/// The length of what follows the index.
const END_BYTES: u64 = 20;
/// The largest index in bytes.
const MAX_INDEX: u64 = 1 << 30;

/// A block: its offset, its length in bytes and its CRC-32.
type Block = (u64, u32, u32);

#[derive(Serialize, Deserialize)]
struct Index<M> {
    description: M,
    streams: Vec<Vec<Block>>,
}

/// A writer of a file of streams.
#[derive(Debug)]
pub struct SpillWriter {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    writer: atomic::Writer,
    streams: Vec<Vec<Block>>,
    bytes: u64,
}

impl SpillWriter {
    /// Starts a file of `streams` streams.
    ///
    /// # Errors
    /// As [`atomic::Writer::create`].
    pub fn create(path: impl Into<PathBuf>, streams: usize) -> Result<Self> {
        let path = path.into();
        let writer = atomic::Writer::create(&path)?;
        Ok(Self { path, state: Mutex::new(State { writer, streams: vec![Vec::new(); streams], bytes: 0 }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a block to a stream.
    ///
    /// # Errors
    /// As [`atomic::Writer::put`].
    pub fn append(&self, stream: usize, block: &[u8]) -> Result<()> {
        let checksum = crc32fast::hash(block);
        let mut state = self.state();
        let at = state.bytes;
        state.writer.put(block)?;
        state.bytes += block.len() as u64;
        state.streams[stream].push((at, block.len() as u32, checksum));
        Ok(())
    }

    /// Completes the file, with `description` in its index.
    ///
    /// # Errors
    /// As [`atomic::Writer::commit`].
    pub fn finish(self, description: &impl Serialize) -> Result<Spill> {
        let State { mut writer, streams, bytes } =
            self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let index = Index { description, streams };
        let json = serde_json::to_vec(&index).map_err(|error| Error::malformed("the index", &error))?;
        writer.put(&json)?;
        writer.put(&(json.len() as u64).to_le_bytes())?;
        writer.put(&crc32fast::hash(&json).to_le_bytes())?;
        writer.put(MAGIC)?;
        writer.commit_no_fsync_if_new()?;
        let file = File::open(&self.path).map_err(|reason| Error::io("open", &self.path, reason))?;
        Ok(Spill {
            path: self.path,
            file: Arc::new(file),
            streams: index.streams,
            bytes,
            is_temporary: false,
        })
    }
}

/// A complete file of streams.
#[derive(Debug)]
pub struct Spill {
    path: PathBuf,
    file: Arc<File>,
    streams: Vec<Vec<Block>>,
    bytes: u64,
    is_temporary: bool,
}

/// A failure leaves no file that nothing goes on with.
impl Drop for Spill {
    fn drop(&mut self) {
        if self.is_temporary {
            drop(atomic::remove_file(&self.path));
        }
    }
}

impl Spill {
    /// The file, which is removed when this is dropped.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.is_temporary = true;
        self
    }

    /// Opens the file `path` of `streams` streams with its description, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Spilled`] if it is damaged.
    pub fn open<M: DeserializeOwned>(path: &Path, streams: usize) -> Result<Option<(Self, M)>> {
        let failed = |reason| Error::io("read", path, reason);
        let file = match File::open(path) {
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let wrong = |problem| Error::Spilled { path: path.to_owned(), problem };
        let len = file.metadata().map_err(failed)?.len();
        let end = len.checked_sub(END_BYTES).ok_or_else(|| wrong("it ends too early"))?;
        let mut tail = [0; END_BYTES as usize];
        read_exact_at(&file, &mut tail, end).map_err(failed)?;
        let (size, rest) = tail.split_first_chunk::<8>().ok_or_else(|| wrong("it ends too early"))?;
        let (checksum, magic) = rest.split_first_chunk::<4>().ok_or_else(|| wrong("it ends too early"))?;
        let size = u64::from_le_bytes(*size);
        let start = end.checked_sub(size).filter(|_| size <= MAX_INDEX && magic == MAGIC);
        let start = start.ok_or_else(|| wrong("its end is not that of such a file"))?;
        let mut json = vec![0; size as usize];
        read_exact_at(&file, &mut json, start).map_err(failed)?;
        if crc32fast::hash(&json) != u32::from_le_bytes(*checksum) {
            return Err(wrong("the checksum (CRC-32) of its index does not match"));
        }
        let index: Index<M> =
            serde_json::from_slice(&json).map_err(|_| wrong("its index is of another version"))?;
        if index.streams.len() != streams {
            return Err(wrong("it has another number of streams"));
        }
        let spill = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            streams: index.streams,
            bytes: start,
            is_temporary: false,
        };
        Ok(Some((spill, index.description)))
    }

    /// The bytes of all blocks.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bytes of the blocks of one stream.
    pub fn stream_bytes(&self, stream: usize) -> u64 {
        self.streams[stream].iter().map(|&(_, len, _)| u64::from(len)).sum()
    }

    /// A reader of the streams `streams`, one after the other.
    pub fn reader(&self, streams: impl IntoIterator<Item = usize>) -> SpillReader {
        let blocks: Vec<Block> =
            streams.into_iter().flat_map(|stream| self.streams[stream].iter().copied()).collect();
        SpillReader { path: self.path.clone(), file: Arc::clone(&self.file), blocks: blocks.into_iter() }
    }

    /// Removes the file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(mut self) -> Result<()> {
        self.is_temporary = false;
        atomic::remove_file(&self.path)
    }
}

/// A reader of the blocks of a stream.
#[derive(Debug)]
pub struct SpillReader {
    path: PathBuf,
    file: Arc<File>,
    blocks: std::vec::IntoIter<Block>,
}

impl SpillReader {
    /// Replaces `block` by the next block; false at the end.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Spilled`] if its checksum does not match.
    pub fn next_block(&mut self, block: &mut Vec<u8>) -> Result<bool> {
        let Some((at, len, checksum)) = self.blocks.next() else { return Ok(false) };
        block.resize(len as usize, 0);
        read_exact_at(&self.file, block, at).map_err(|reason| Error::io("read", &self.path, reason))?;
        if crc32fast::hash(block) == checksum {
            return Ok(true);
        }
        Err(Error::Spilled { path: self.path.clone(), problem: "a checksum (CRC-32) does not match" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(spill: &Spill, stream: usize) -> Result<Vec<u8>> {
        let (mut reader, mut block, mut bytes) = (spill.reader([stream]), Vec::new(), Vec::new());
        while reader.next_block(&mut block)? {
            bytes.extend_from_slice(&block);
        }
        Ok(bytes)
    }

    #[test]
    fn a_temporary_file_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lower-0");
        let finish = || SpillWriter::create(&path, 1).unwrap().finish(&()).unwrap();
        drop(finish());
        assert!(path.exists());
        drop(finish().temporary());
        assert!(!path.exists());
        finish().temporary().remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn streams_come_back_and_every_flipped_bit_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run-0");
        assert!(Spill::open::<String>(&path, 3).unwrap().is_none());
        let writer = SpillWriter::create(&path, 3).unwrap();
        for (stream, block) in [(0, &b"ab"[..]), (2, b"xyz"), (0, b"c"), (1, b"")] {
            writer.append(stream, block).unwrap();
        }
        assert!(!path.exists(), "it appears when it is complete");
        let spill = writer.finish(&"described").unwrap();
        assert_eq!((spill.bytes(), spill.stream_bytes(0)), (6, 3));
        let (again, description) = Spill::open::<String>(&path, 3).unwrap().unwrap();
        assert_eq!(description, "described");
        for spill in [&spill, &again] {
            assert_eq!([0, 1, 2].map(|stream| all(spill, stream).unwrap()), [&b"abc"[..], b"", b"xyz"]);
        }
        assert!(Spill::open::<String>(&path, 2).is_err());
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            atomic::write(&path, &damaged).unwrap();
            let read = Spill::open::<String>(&path, 3).and_then(|opened| {
                let (spill, _) = opened.unwrap();
                (0..3).try_for_each(|stream| all(&spill, stream).map(drop))
            });
            let error = read.unwrap_err();
            assert!(error.to_string().contains("run-0"), "{at}: {error}");
            assert!(error.hint().is_some(), "{at}");
        }
        for len in 0..bytes.len() {
            atomic::write(&path, &bytes[..len]).unwrap();
            assert!(Spill::open::<String>(&path, 3).is_err(), "{len}");
        }
        again.remove().unwrap();
        assert!(!path.exists());
    }
}
