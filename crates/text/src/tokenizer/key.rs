//! What a word is looked up by.

use std::ops::Range;

/// How many parts are handed out at a time. Looking up a word is waiting for memory; that of many words is waiting
/// once.
pub(crate) const LOOKUP_BATCH: usize = 64;

/// What a word is looked up by: its own bytes if it has eight or fewer (zeros behind them), otherwise a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) bits: u64,
    /// Of the word, in bytes.
    pub(crate) len: usize,
}

/// Words up to this long are their own key.
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

    /// Of the word at `place` in `bytes`: most are short, and have eight bytes to be loaded at once.
    #[inline]
    pub(super) fn at(bytes: &[u8], place: Range<usize>) -> Self {
        match bytes.get(place.start..).and_then(|rest| rest.first_chunk()) {
            Some(eight) if (1..=MAX_INLINE).contains(&place.len()) => {
                let behind = 8 * (MAX_INLINE - place.len());
                Self { bits: u64::from_le_bytes(*eight) << behind >> behind, len: place.len() }
            }
            _ => Self::new(&bytes[place]),
        }
    }
}

/// Both halves of a product with the golden ratio's digits: every bit of `x` reaches every bit of the hash.
#[inline]
pub(super) fn fold(x: u64) -> u64 {
    let product = u128::from(x ^ 0x243F_6A88_85A3_08D3) * u128::from(0x9E37_79B9_7F4A_7C15_u64);
    (product as u64) ^ ((product >> 64) as u64)
}
