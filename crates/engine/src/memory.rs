//! Checks that work fits into memory, before anything is allocated.

use std::path::PathBuf;

use surprisal_model::ngram::Counts;
use surprisal_platform::memory;
use surprisal_text::{Granularity, TokenizerKind};

use crate::error::{Advice, Error, Result};
use crate::wording::bytes;

/// The room for counting.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// The most memory in bytes; what is free if not given.
    pub memory: Option<u64>,
    /// The folder for temporary files.
    pub temp: PathBuf,
    /// Whether probabilities are wanted, not only counts.
    pub models: bool,
    /// Whether these are quantised.
    pub quantize: bool,
}

/// Refuses work that needs more memory than is available, or than 4 TiB where that is not known
/// (systems other than Linux).
///
/// # Errors
/// Too little memory, with both amounts and `hint`, which says what to make smaller.
pub fn check(needed: u64, what: &str, hint: impl Into<Advice>) -> Result<()> {
    let available = memory::available().unwrap_or(1 << 42);
    if needed <= available {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{what} needs about {} of memory, and {} are free",
        bytes(needed),
        bytes(available)
    ))
    .hint(hint))
}

/// Refuses to read a text whose tokens need more memory than is available; a low estimate for
/// words, whose length is not known.
///
/// # Errors
/// As [`check`].
pub fn check_text(bytes: u64, kind: TokenizerKind) -> Result<()> {
    check((bytes as f64 * memory_per_byte(kind)) as u64, "reading this text", "read less of it")
}

/// The number of bytes of the largest text that [`check_text`] accepts.
pub(crate) fn largest_text(kind: TokenizerKind) -> u64 {
    (memory::available().unwrap_or(1 << 42) as f64 / memory_per_byte(kind)) as u64
}

/// The bytes of memory for a byte of text.
fn memory_per_byte(kind: TokenizerKind) -> f64 {
    // An id has four bytes and exists twice when the chunks of a text are joined.
    match kind.granularity() {
        Granularity::Byte => 8.0,
        Granularity::Char => 2.0,
        Granularity::Word | Granularity::Subword => 0.5,
    }
}

/// The memory that counting may use, in bytes.
pub(crate) fn limit(room: &Room) -> u64 {
    let free = memory::available().unwrap_or(1 << 42);
    room.memory.map_or(free, |limit| limit.min(free))
}

/// Whether a text of `bytes` bytes, of any tokens of `kind`, is sure to be counted in the memory of
/// `room`.
pub(crate) fn fits(bytes: u64, kind: TokenizerKind, order: usize, room: &Room) -> bool {
    // A word, and the space after it.
    let tokens = bytes as usize / if kind == TokenizerKind::Word { 2 } else { 1 };
    check_text(bytes, kind).is_ok() && Counts::memory(tokens, 0, order) <= limit(room)
}
