//! Files of models and counts, compressed or not, and pipes.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use surprisal_model::ngram::packed::Bytes;
use surprisal_platform::memory;
use surprisal_platform::mmap::MappedFile;
use surprisal_store::read::regular_length;
use surprisal_store::{Error as StoreError, atomic, atomic_dir};
use surprisal_text::{Compression, Compressor, open_converted};

use crate::{Error, Result};

/// The bytes that are read from a pipe or a compressed file at a time.
const READ_BYTES: u64 = 1 << 20;

/// The content of a file: mapped, or in memory if it is compressed or a pipe (`-` is standard
/// input).
///
/// # Errors
/// [`Io`](StoreError::Io), an empty or damaged file, a content larger than the free memory.
pub fn read(path: &Path) -> Result<Bytes> {
    let failed = |reason| StoreError::io("read", path, reason);
    let Some(mut source) = open_converted(path)? else {
        // Some systems refuse an empty map.
        if regular_length(path)? == 0 {
            return Err(Error::malformed(atomic_dir::quoted(path), "it is empty"));
        }
        let file = File::open(path).map_err(failed)?;
        let mapped = MappedFile::open(&file, path).map_err(failed)?;
        let len = mapped.as_ref().len();
        return Ok(Bytes::new(Arc::new(mapped), 0..len));
    };
    let (mut bytes, limit) = (Vec::new(), memory::available().unwrap_or(u64::MAX));
    let part = |bytes: &mut Vec<u8>, source: &mut dyn Read| source.take(READ_BYTES).read_to_end(bytes);
    while part(&mut bytes, &mut source).map_err(|reason| surprisal_text::Error::of_io(path, reason))? > 0 {
        let size = bytes.len() as u64;
        if size > limit / 2 {
            let what = format!("the content of `{}`", path.display());
            return Err(StoreError::TooLarge { what, size, limit: limit / 2, unit: "bytes" }.into());
        }
    }
    if bytes.is_empty() {
        return Err(Error::malformed(atomic_dir::quoted(path), "it is empty"));
    }
    Ok(bytes.into())
}

/// A writer of a file that is compressed if its name asks for it, and appears when it is complete.
pub(crate) struct FileWriter {
    path: PathBuf,
    to: To,
}

enum To {
    Plain(atomic::Writer),
    Compressed(Box<dyn Compressor<atomic::Writer> + Send>),
}

impl FileWriter {
    pub(crate) fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let writer = atomic::Writer::create(&path)?;
        let to = match Compression::by_name(&path) {
            None => To::Plain(writer),
            Some(format) => To::Compressed(
                format.writer(writer).map_err(|reason| StoreError::io("compress", &path, reason))?,
            ),
        };
        Ok(Self { path, to })
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.to {
            To::Plain(writer) => Ok(writer.put(bytes)?),
            To::Compressed(writer) => Ok(writer
                .write_all(bytes)
                .map_err(|reason| StoreError::io("write to", &self.path, reason))?),
        }
    }

    /// Ends the file as [`atomic::Writer::commit_no_fsync_if_new`]; gives its size in bytes.
    pub(crate) fn commit(self) -> Result<u64> {
        let writer = match self.to {
            To::Plain(writer) => writer,
            To::Compressed(writer) => {
                writer.finish().map_err(|reason| StoreError::io("write to", &self.path, reason))?
            }
        };
        Ok(writer.commit_no_fsync_if_new()?)
    }
}
