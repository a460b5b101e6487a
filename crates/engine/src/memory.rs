//! Whether a model fits, asked before anything is allocated.

use crate::error::{Advice, Error, Result};
use crate::wording::bytes;
use surprisal_platform::memory;
use surprisal_text::{Granularity, TokenizerKind};

/// Refuses work that needs more memory than there is.
///
/// Where the system does not say how much there is (anything but Linux), the limit is what no machine has.
///
/// # Errors
/// With both amounts and `hint`, which says what to make smaller.
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

/// Refuses to read so much text that its tokens alone take more memory than there is. For words that is a guess on the low
/// side: how long they are is not known before.
///
/// # Errors
/// As [`check`].
pub fn check_text(bytes: u64, kind: TokenizerKind) -> Result<()> {
    // An id has four bytes, and they are there twice when the pieces of a text are put together.
    let needed = match kind.granularity() {
        Granularity::Byte => bytes.saturating_mul(8),
        Granularity::Char => bytes.saturating_mul(2),
        Granularity::Word | Granularity::Subword => bytes / 2,
    };
    check(needed, "reading this text", "read less of it")
}
