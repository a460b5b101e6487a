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
    // An id has four bytes and exists twice when the chunks of a text are joined.
    let needed = match kind.granularity() {
        Granularity::Byte => bytes.saturating_mul(8),
        Granularity::Char => bytes.saturating_mul(2),
        Granularity::Word | Granularity::Subword => bytes / 2,
    };
    check(needed, "reading this text", "read less of it")
}
