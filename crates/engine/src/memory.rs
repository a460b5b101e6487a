//! Checks that work fits into memory, before anything is allocated.

use crate::error::{Advice, Error, Result};
use crate::wording::bytes;
use surprisal_platform::memory;
use surprisal_text::{Granularity, TokenizerKind};

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
