//! Files that `compress` writes: tokens coded by a model, and what makes their text the file.
//!
//! The whole file has a checksum, so that nothing damaged is decoded, and its content has a hash,
//! as a model that computes differently decodes something else.

mod arithmetic;
pub mod patch;

pub use arithmetic::{Decoder, Encoder};

use crate::{Error, Result};

/// The first bytes of such a file; the first is in no UTF-8.
const MAGIC: [u8; 6] = *b"\xf5surpr";
/// The version of the format, which changes with every bit of the predictions.
const VERSION: u8 = 1;
/// The shortest code of a token is far longer than this fraction of a byte, as decisions have
/// probabilities of at most 1 − 2⁻¹⁸.
const MAX_TOKENS_PER_BYTE: u64 = 1 << 22;

const ADAPTS: u8 = 1;
const HAS_MODEL: u8 = 2;

/// The model that a file was coded with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodedBy {
    /// Its hash.
    pub model: [u8; 16],
    /// The instruction set that its bits depend on.
    pub isa: String,
}

/// The parts of a compressed file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compressed {
    /// Whether the coder learnt while it read.
    pub adapts: bool,
    /// The model; none for bytes that were coded without one.
    pub by: Option<CodedBy>,
    /// Bytes of the content.
    pub bytes: u64,
    /// The hash of the content.
    pub hash: [u8; 16],
    /// Number of coded tokens.
    pub tokens: u64,
    /// The coded tokens.
    pub coded: Vec<u8>,
    /// Bytes of the patch from the tokens' text to the content.
    pub patch_bytes: u64,
    /// The coded patch.
    pub patch: Vec<u8>,
}

/// Whether a file that starts with `head` is one of these.
pub fn has_magic(head: &[u8]) -> bool {
    head.starts_with(&MAGIC)
}

/// Appends a number in groups of seven bits, the lowest first.
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number > 127 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number of at most nine bytes from the front of `bytes`.
pub(crate) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(front)
}

/// The CRC-32 of parts of a file, one after the other.
fn checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Whether so many coded bytes can be so many tokens.
pub fn is_plausible(tokens: u64, coded: usize) -> bool {
    tokens <= (coded as u64).saturating_mul(MAX_TOKENS_PER_BYTE)
}

impl Compressed {
    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        out.push((u8::from(self.adapts) * ADAPTS) | (u8::from(self.by.is_some()) * HAS_MODEL));
        if let Some(by) = &self.by {
            out.extend(by.model);
            put_number(&mut out, by.isa.len() as u64);
            out.extend(by.isa.bytes());
        }
        for number in
            [self.bytes, self.tokens, self.coded.len() as u64, self.patch_bytes, self.patch.len() as u64]
        {
            put_number(&mut out, number);
        }
        out.extend(self.hash);
        out.extend(checksum([&out[..], &self.coded, &self.patch]).to_le_bytes());
        out.extend(&self.coded);
        out.extend(&self.patch);
        out
    }

    /// The parts of the file `all`.
    ///
    /// # Errors
    /// Bytes of another kind or another version; a damaged header; a file that was cut off or has
    /// something after its end.
    pub fn from_bytes(all: &[u8]) -> Result<Self> {
        let wrong = |problem: &str| Error::malformed("compressed file", problem);
        if !has_magic(all) {
            return Err(wrong("it does not begin as files that `compress` writes"));
        }
        let mut rest = &all[MAGIC.len()..];
        let cut = || wrong("it was cut off within its header");
        match take(&mut rest, 1).ok_or_else(cut)? {
            [VERSION] => {}
            [version] => {
                let problem =
                    format!("its format has version {version}, and this program reads version {VERSION}");
                return Err(wrong(&problem));
            }
            _ => return Err(cut()),
        }
        let (mut parts, coded, patch) = Self::header(&mut rest).ok_or_else(cut)?;
        let checked = all.len() - rest.len();
        let sum = take(&mut rest, 4).ok_or_else(cut)?;
        if coded.checked_add(patch) != Some(rest.len() as u64) {
            let problem = format!("{} bytes follow its header, which says {coded} and {patch}", rest.len());
            return Err(wrong(&problem));
        }
        if checksum([&all[..checked], rest]).to_le_bytes() != sum {
            return Err(wrong("it was damaged: its checksum does not match"));
        }
        if !is_plausible(parts.tokens, coded as usize) || !is_plausible(parts.patch_bytes, patch as usize) {
            return Err(wrong("its header has more tokens than its bytes can be"));
        }
        parts.coded = rest[..coded as usize].to_vec();
        parts.patch = rest[coded as usize..].to_vec();
        Ok(parts)
    }

    /// The header from the flags on, and the lengths of the two coded parts.
    fn header(rest: &mut &[u8]) -> Option<(Self, u64, u64)> {
        let flags = take(rest, 1)?[0];
        let by = if flags & HAS_MODEL > 0 {
            let model = take(rest, 16)?.try_into().ok()?;
            let length = take_number(rest)?;
            let isa = take(rest, usize::try_from(length).ok()?)?;
            Some(CodedBy { model, isa: String::from_utf8_lossy(isa).into_owned() })
        } else {
            None
        };
        let [bytes, tokens, coded, patch_bytes, patch] = [(); 5].map(|()| take_number(rest));
        let (coded, patch) = (coded?, patch?);
        let hash = take(rest, 16)?.try_into().ok()?;
        let parts = Self {
            adapts: flags & ADAPTS > 0,
            by,
            bytes: bytes?,
            hash,
            tokens: tokens?,
            patch_bytes: patch_bytes?,
            ..Self::default()
        };
        Some((parts, coded, patch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Compressed {
        Compressed {
            adapts: true,
            by: Some(CodedBy { model: [7; 16], isa: "portable".into() }),
            bytes: 300,
            hash: [9; 16],
            tokens: 290,
            coded: vec![1, 2, 3],
            patch_bytes: 5,
            patch: vec![4, 5],
        }
    }

    #[test]
    fn parts_are_read_back_and_every_change_is_an_error() {
        for parts in [parts(), Compressed { by: None, adapts: false, ..parts() }, Compressed::default()] {
            let bytes = parts.to_bytes();
            assert_eq!(Compressed::from_bytes(&bytes).unwrap(), parts);
            for bit in 0..8 * bytes.len() {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(Compressed::from_bytes(&flipped).is_err(), "bit {bit}");
            }
            for end in 0..bytes.len() {
                assert!(Compressed::from_bytes(&bytes[..end]).is_err(), "{end} bytes");
            }
            assert!(Compressed::from_bytes(&[&bytes[..], b"x"].concat()).is_err());
        }
    }

    #[test]
    fn a_header_that_promises_too_much_is_refused() {
        let many = Compressed { tokens: u64::MAX >> 1, ..parts() };
        let error = Compressed::from_bytes(&many.to_bytes()).unwrap_err().to_string();
        assert!(error.contains("more tokens than its bytes can be"), "{error}");
        let mut other = parts().to_bytes();
        other[MAGIC.len()] = 9;
        let error = Compressed::from_bytes(&other).unwrap_err().to_string();
        assert!(error.contains("version 9"), "{error}");
    }
}
