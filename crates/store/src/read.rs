//! Reading of whole regular files, with a size limit.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use crate::{Error, Result};

/// The error text for a pipe, a device or a socket.
pub(crate) const NOT_REGULAR: &str = "it is a pipe or a device, not a regular file";

/// Advice for a text file that is not UTF-8.
pub const TO_UTF8: &str = "convert it, for example from Latin-1: iconv -f LATIN1 -t UTF-8 OLD > NEW";

/// The content of a regular file of at most `limit` bytes. Pipes are refused because reading one
/// could wait forever.
///
/// # Errors
/// [`Error::Io`]; [`Error::TooLarge`]; [`Error::Malformed`] if it is not a regular file.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |reason| Error::io("read", path, reason);
    let length = regular_length(path)?;
    let too_large =
        |size| Error::TooLarge { what: format!("`{}`", path.display()), size, limit, unit: "bytes" };
    if length > limit {
        return Err(too_large(length));
    }
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let reserved = bytes.try_reserve_exact(length as usize + 1);
    reserved.map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
    // The file may grow during reading.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// The content of a regular file of any size.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] for a pipe or a device.
pub fn read_regular(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    read_bounded(path.as_ref(), u64::MAX - 1)
}

/// The content of a regular file, as text.
///
/// # Errors
/// Those of [`read_regular`]; [`Error::Malformed`] if it is not UTF-8.
pub fn regular_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    String::from_utf8(read_regular(path)?)
        .map_err(|error| Error::malformed(format!("`{}`", path.display()), &error.utf8_error()))
}

/// The length of a regular file.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] if it is not a regular file.
pub fn regular_length(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).map_err(|reason| Error::io("read", path, reason))?;
    if metadata.is_dir() {
        return Err(Error::io("read", path, io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err(Error::malformed(format!("`{}`", path.display()), NOT_REGULAR));
    }
    Ok(metadata.len())
}
