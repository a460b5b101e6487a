//! Files of large arrays: a header of JSON, and sections that can be mapped into memory.
//!
//! ```text
//! magic: 8 bytes   header length: u32   CRC-32 of the header: u32   header   sections
//! ```
//!
//! The header holds the length and the CRC-32 (that of zip and PNG) of every section; a section starts at the next multiple
//! of 64, with zeros before it. Numbers are little-endian. Every byte is covered by a checksum, a comparison, or the rule
//! about zeros: a change of up to 32 bits in a row never goes unnoticed, any other once in 2³² times. A hash that
//! nobody can forge would protect nothing here, where whoever forges a file can hash it, and takes as long as a tenth of
//! scoring a text of 4 MB. Lengths are compared with what is there before anything is done with them.

use crc32fast::Hasher;
use rayon::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use surprisal_model::ngram::packed::Bytes;
use surprisal_store::Error as StoreError;

use crate::{Error, Result};

/// Where sections may start.
const ALIGNMENT: usize = 64;
/// Magic, length and checksum of the header.
const PREFIX: usize = 16;
/// The longest header.
const MAX_HEADER: usize = 1 << 20;
/// Bytes that one thread takes the checksum of.
const CHECKSUM_CHUNK: usize = 1 << 20;

/// A kind of file.
pub(crate) struct FileFormat {
    /// The first eight bytes. The last is the version, raised when an older program could misread what a newer one
    /// writes.
    pub(crate) magic: &'static [u8; 8],
    /// What it is called in errors: "the n-gram model".
    pub(crate) what: &'static str,
}

impl FileFormat {
    /// Whether a file that starts with `head` is one, of whatever version.
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

/// Hands the bytes of a file to `put`, piece by piece.
///
/// # Errors
/// A header that is too long, and those of `put`.
pub(crate) fn write(
    kind: &FileFormat,
    header: &impl Serialize,
    sections: &[Bytes],
    mut put: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let described = sections.par_iter().map(|section| {
        let bytes = section.as_slice();
        Section { bytes: bytes.len() as u64, crc32: checksum(bytes) }
    });
    let header = Header { header, sections: described.collect() };
    let header = serde_json::to_vec(&header).map_err(|error| Error::malformed(kind.what, &error))?;
    if header.len() > MAX_HEADER {
        return Err(too_large(kind, header.len() as u64));
    }
    put(kind.magic)?;
    put(&(header.len() as u32).to_le_bytes())?;
    put(&checksum(&header).to_le_bytes())?;
    put(&header)?;
    let mut at = PREFIX + header.len();
    for section in sections {
        put(&[0; ALIGNMENT][..aligned(at) - at])?;
        put(section.as_slice())?;
        at = aligned(at) + section.as_slice().len();
    }
    Ok(())
}

/// The bytes of a file.
///
/// # Errors
/// A header that is too long.
pub(crate) fn to_bytes(kind: &FileFormat, header: &impl Serialize, sections: &[Bytes]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write(kind, header, sections, |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    Ok(bytes)
}

/// What `interpret` makes of the header and the sections of a file, while the sections' checksums are verified: it must
/// be able to bear any bytes, which it must do anyway where a checksum was made for them.
///
/// # Errors
/// [`Malformed`](surprisal_store::Error::Malformed) if a byte is not as it was written; [`TooLarge`](surprisal_store::Error::TooLarge); those of `interpret`.
pub(crate) fn read<H: DeserializeOwned + Send, T: Send>(
    kind: &FileFormat,
    file: &Bytes,
    interpret: impl FnOnce(H, Vec<Bytes>) -> Result<T> + Send,
) -> Result<T> {
    let bytes = file.as_slice();
    let wrong = |problem: &str| Error::malformed(kind.what, problem);
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| wrong("it ends too early"))?;
    if magic != kind.magic {
        return Err(wrong(if kind.matches(magic) {
            "it is of another version of the format"
        } else {
            "it does not start as one"
        }));
    }
    let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(|| wrong("it ends too early"))?;
    let len = u32::from_le_bytes(*len);
    if len as usize > MAX_HEADER {
        return Err(too_large(kind, len.into()));
    }
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or_else(|| wrong("it ends too early"))?;
    let header = rest.get(..len as usize).ok_or_else(|| wrong("it ends too early"))?;
    if checksum(header) != u32::from_le_bytes(*sum) {
        return Err(wrong("its header is not as it was written"));
    }
    let header: Header<H> =
        serde_json::from_slice(header).map_err(|error| Error::malformed(kind.what, &error))?;
    let mut sections = Vec::with_capacity(header.sections.len());
    let mut at = PREFIX + len as usize;
    for section in &header.sections {
        let start = aligned(at);
        let end = usize::try_from(section.bytes).ok().and_then(|len| start.checked_add(len));
        let end = end.filter(|&end| end <= bytes.len()).ok_or_else(|| wrong("it ends too early"))?;
        if bytes[at..start].iter().any(|&byte| byte != 0) {
            return Err(wrong("something stands between its sections"));
        }
        sections.push(file.slice(start..end));
        at = end;
    }
    if at != bytes.len() {
        return Err(wrong("something stands after its end"));
    }
    let shared = sections.clone();
    let verify = || {
        let changed =
            |(section, expected): (&Bytes, &Section)| checksum(section.as_slice()) != expected.crc32;
        shared.par_iter().zip(&header.sections).position_any(changed)
    };
    match rayon::join(verify, || interpret(header.header, sections)) {
        (Some(i), _) => Err(wrong(&format!("its section {i} is not as it was written"))),
        (None, interpreted) => interpreted,
    }
}

/// CRC-32 of `bytes`, by all threads.
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

fn too_large(kind: &FileFormat, size: u64) -> Error {
    let what = format!("the header of {}", kind.what);
    StoreError::TooLarge { what, size, limit: MAX_HEADER as u64, unit: "bytes" }.into()
}
