//! Lookup keys of words.

use std::ops::Range;

/// The number of lookups that are prefetched together, to overlap their cache misses.
pub(crate) const LOOKUP_BATCH: usize = 64;

/// The lookup key of a word: its bytes, zero-padded, if there are at most eight, otherwise a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) bits: u64,
    /// The length of the word in bytes.
    pub(crate) len: usize,
}

/// The length up to which the key contains the word itself.
pub(super) const MAX_INLINE: usize = 8;

impl Key {
    #[inline]
    pub(crate) fn new(word: &[u8]) -> Self {
        let part = |bytes: &[u8]| {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(eight)
        };
        if word.len() <= MAX_INLINE {
            return Self { bits: part(word), len: word.len() };
        }
        let mut chunks = word.chunks_exact(8);
        let mut bits = word.len() as u64;
        for chunk in &mut chunks {
            bits = fold(bits ^ part(chunk));
        }
        Self { bits: fold(bits ^ part(chunks.remainder())), len: word.len() }
    }

    /// The key of the word at `range` in `bytes`, by one load of eight bytes for most words.
    #[inline]
    pub(super) fn at(bytes: &[u8], range: Range<usize>) -> Self {
        match bytes.get(range.start..).and_then(|rest| rest.first_chunk()) {
            Some(eight) if (1..=MAX_INLINE).contains(&range.len()) => {
                let behind = 8 * (MAX_INLINE - range.len());
                Self { bits: u64::from_le_bytes(*eight) << behind >> behind, len: range.len() }
            }
            _ => Self::new(&bytes[range]),
        }
    }
}

/// A hash of `x`: XOR of both halves of its 128-bit product with the golden ratio's digits.
#[inline]
pub(super) fn fold(x: u64) -> u64 {
    let product = u128::from(x ^ 0x243F_6A88_85A3_08D3) * u128::from(0x9E37_79B9_7F4A_7C15_u64);
    (product as u64) ^ ((product >> 64) as u64)
}
