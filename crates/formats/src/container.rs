//! Container files: a JSON header, and sections of bytes that can be memory-mapped.
//!
//! ```text
//! magic: 8 bytes   header length: u32   CRC-32 of the header: u32   header   sections
//! ```
//!
//! The header contains the length and the CRC-32 (as in zip and PNG) of every section. A section
//! starts at a multiple of 64 bytes, after zero padding. Numbers are little-endian. Every byte is
//! covered by a checksum, a comparison or the rule about padding. CRC-32 detects accidental
//! corruption, not tampering: every change of up to 32 consecutive bits, and any other with
//! probability 1 − 2⁻³². Lengths are checked against the size of the file before use.

use crc32fast::Hasher;
use rayon::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use surprisal_model::ngram::external::Put as PutModel;
use surprisal_model::ngram::packed::Bytes;
use surprisal_model::{Error as ModelError, Result as ModelResult};
use surprisal_store::Error as StoreError;

use crate::{Error, Result};

/// The alignment of sections in bytes.
const ALIGNMENT: usize = 64;
/// The length in bytes of the magic, the header length and the header checksum.
const PREFIX: usize = 16;
/// The largest header in bytes.
const MAX_HEADER: usize = 1 << 20;
/// Bytes per task of the parallel checksum.
const CHECKSUM_CHUNK: usize = 1 << 20;

/// A file format, identified by its magic bytes.
pub(crate) struct FileFormat {
    /// The first eight bytes. The last is the version, increased when an older program could
    /// misread the new format.
    pub(crate) magic: &'static [u8; 8],
    /// The name in errors: "the n-gram model".
    pub(crate) what: &'static str,
}

impl FileFormat {
    /// Whether `head`, the start of a file, has this format in any version.
    pub(crate) fn matches(&self, head: &[u8]) -> bool {
        head.starts_with(&self.magic[..7])
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<H> {
    header: H,
    sections: Vec<Section>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    bytes: u64,
    crc32: u32,
}

/// Passes the bytes of a file to `put`, in order.
///
/// # Errors
/// A header that is too large; those of `put`.
pub(crate) fn write(
    format: &FileFormat,
    header: &impl Serialize,
    sections: &[Bytes],
    mut put: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let described = sections.par_iter().map(|section| {
        let bytes = section.as_slice();
        Section { bytes: bytes.len() as u64, crc32: checksum(bytes) }
    });
    let mut at = write_header(format, header, described.collect(), &mut put)?;
    for section in sections {
        put(&[0; ALIGNMENT][..aligned(at) - at])?;
        put(section.as_slice())?;
        at = aligned(at) + section.as_slice().len();
    }
    Ok(())
}

/// Passes the bytes of a file to `put`, in order. `emit` makes the bytes of a section, twice: first
/// for the checksums in the header.
///
/// # Errors
/// A header that is too large; those of `emit` and `put`.
pub(crate) fn write_emitted(
    format: &FileFormat,
    header: &impl Serialize,
    sections: usize,
    emit: &(dyn Fn(usize, &mut PutModel<'_>) -> ModelResult<()> + Sync),
    put: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let describe = |section: usize| -> ModelResult<Section> {
        let (mut hasher, mut bytes) = (Hasher::new(), 0);
        emit(section, &mut |part| {
            hasher.update(part);
            bytes += part.len() as u64;
            Ok(())
        })?;
        Ok(Section { bytes, crc32: hasher.finalize() })
    };
    let described: ModelResult<Vec<Section>> =
        (0..sections).into_par_iter().with_max_len(1).map(describe).collect();
    let described = described?;
    let lens: Vec<usize> = described.iter().map(|section| section.bytes as usize).collect();
    let mut at = write_header(format, header, described, put)?;
    for (section, len) in lens.into_iter().enumerate() {
        put(&[0; ALIGNMENT][..aligned(at) - at])?;
        emit(section, &mut |part| put(part).map_err(|error| ModelError::Stream(Box::new(error))))?;
        at = aligned(at) + len;
    }
    Ok(())
}

/// Passes everything before the sections to `put`; gives its length in bytes.
fn write_header(
    format: &FileFormat,
    header: &impl Serialize,
    sections: Vec<Section>,
    put: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<usize> {
    let header = Header { header, sections };
    let header = serde_json::to_vec(&header).map_err(|error| Error::malformed(format.what, &error))?;
    if header.len() > MAX_HEADER {
        return Err(too_large(format, header.len() as u64));
    }
    put(format.magic)?;
    put(&(header.len() as u32).to_le_bytes())?;
    put(&checksum(&header).to_le_bytes())?;
    put(&header)?;
    Ok(PREFIX + header.len())
}

/// The bytes of a file.
///
/// # Errors
/// A header that is too large.
pub(crate) fn to_bytes(format: &FileFormat, header: &impl Serialize, sections: &[Bytes]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write(format, header, sections, |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    Ok(bytes)
}

/// Reads the header at the start of a file, of which `bytes` are at least that; also gives its end.
fn read_header<H: DeserializeOwned>(format: &FileFormat, bytes: &[u8]) -> Result<(Header<H>, usize)> {
    let malformed = |problem: &str| Error::malformed(format.what, problem);
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| malformed("it ends too early"))?;
    if magic != format.magic {
        return Err(malformed(if format.matches(magic) {
            "it has another version of the format"
        } else {
            "its first bytes are not those of the format"
        }));
    }
    let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(|| malformed("it ends too early"))?;
    let len = u32::from_le_bytes(*len);
    if len as usize > MAX_HEADER {
        return Err(too_large(format, len.into()));
    }
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or_else(|| malformed("it ends too early"))?;
    let header = rest.get(..len as usize).ok_or_else(|| malformed("it ends too early"))?;
    if checksum(header) != u32::from_le_bytes(*sum) {
        return Err(malformed("header checksum (CRC-32) does not match; the file is corrupt"));
    }
    let header = serde_json::from_slice(header).map_err(|error| Error::malformed(format.what, &error))?;
    Ok((header, PREFIX + len as usize))
}

/// A section of a file: its start, its length in bytes and its CRC-32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    pub(crate) crc32: u32,
}

/// The header and the places of the sections of a file that is not read as a whole; checks its
/// length.
///
/// # Errors
/// [`Malformed`](surprisal_store::Error::Malformed); a failure to read.
pub(crate) fn places<H: DeserializeOwned>(
    format: &FileFormat,
    file: &std::fs::File,
    path: &std::path::Path,
) -> Result<(H, Vec<Place>)> {
    use std::io::Read;
    let failed = |reason| StoreError::io("read", path, reason);
    let mut start = Vec::new();
    file.take((PREFIX + MAX_HEADER) as u64).read_to_end(&mut start).map_err(failed)?;
    let (header, mut at) = read_header(format, &start)?;
    let mut places = Vec::with_capacity(header.sections.len());
    for &Section { bytes, crc32 } in &header.sections {
        let start = aligned(at);
        places.push(Place { start: start as u64, bytes, crc32 });
        at = usize::try_from(bytes).ok().and_then(|len| start.checked_add(len)).unwrap_or(usize::MAX);
    }
    if file.metadata().map_err(failed)?.len() != at as u64 {
        return Err(Error::malformed(format.what, "its length is not that of its sections"));
    }
    Ok((header.header, places))
}

/// Returns the result of `interpret` on the header and the sections. It runs in parallel with the
/// verification of checksums, so `interpret` must accept arbitrary bytes.
///
/// # Errors
/// [`Malformed`](surprisal_store::Error::Malformed) if a checksum does not match;
/// [`TooLarge`](surprisal_store::Error::TooLarge); those of `interpret`.
pub(crate) fn read<H: DeserializeOwned + Send, T: Send>(
    format: &FileFormat,
    file: &Bytes,
    interpret: impl FnOnce(H, Vec<Bytes>) -> Result<T> + Send,
) -> Result<T> {
    let bytes = file.as_slice();
    let malformed = |problem: &str| Error::malformed(format.what, problem);
    let (header, at): (Header<H>, usize) = read_header(format, bytes)?;
    let mut sections = Vec::with_capacity(header.sections.len());
    let mut at = at;
    for section in &header.sections {
        let start = aligned(at);
        let end = usize::try_from(section.bytes).ok().and_then(|len| start.checked_add(len));
        let end = end.filter(|&end| end <= bytes.len()).ok_or_else(|| malformed("it ends too early"))?;
        if bytes[at..start].iter().any(|&byte| byte != 0) {
            return Err(malformed("there are nonzero bytes between its sections"));
        }
        sections.push(file.slice(start..end));
        at = end;
    }
    if at != bytes.len() {
        return Err(malformed("there are bytes after its end"));
    }
    let shared = sections.clone();
    let verify = || {
        let changed =
            |(section, expected): (&Bytes, &Section)| checksum(section.as_slice()) != expected.crc32;
        shared.par_iter().zip(&header.sections).position_any(changed)
    };
    match rayon::join(verify, || interpret(header.header, sections)) {
        (Some(i), _) => {
            Err(malformed(&format!("checksum (CRC-32) of section {i} does not match; the file is corrupt")))
        }
        (None, interpreted) => interpreted,
    }
}

/// CRC-32 of `bytes`, computed in parallel.
fn checksum(bytes: &[u8]) -> u32 {
    let part = |part: &[u8]| {
        let mut hasher = Hasher::new();
        hasher.update(part);
        hasher
    };
    let append = |mut first: Hasher, second: Hasher| {
        first.combine(&second);
        first
    };
    bytes.par_chunks(CHECKSUM_CHUNK).map(part).reduce(Hasher::new, append).finalize()
}

fn aligned(at: usize) -> usize {
    at.next_multiple_of(ALIGNMENT)
}

fn too_large(format: &FileFormat, size: u64) -> Error {
    let what = format!("the header of {}", format.what);
    StoreError::TooLarge { what, size, limit: MAX_HEADER as u64, unit: "bytes" }.into()
}
