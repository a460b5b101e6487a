//! Whether a model fits, asked before anything is allocated.

use crate::failure::{Failure, Result};
use crate::output::bytes;

/// Memory that programs can still get, in bytes, where the system says so.
fn available() -> Option<u64> {
    amount("/proc/meminfo", "MemAvailable:")
}

/// The most memory that this process has held, in bytes, where the system says so.
pub(crate) fn peak() -> Option<u64> {
    amount("/proc/self/status", "VmHWM:")
}

fn amount(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Refuses work that needs more memory than there is.
///
/// Where the system does not say how much there is (anything but Linux), the limit is what no machine has.
///
/// # Errors
/// With both amounts and `hint`, which says what to make smaller.
pub(crate) fn check(needed: u64, what: &str, hint: &str) -> Result<()> {
    let available = available().unwrap_or(1 << 42);
    if needed <= available {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{what} needs about {} of memory, and {} are free",
        bytes(needed),
        bytes(available)
    ))
    .hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused() {
        let refused = check(1 << 60, "the model", "a smaller one").unwrap_err();
        assert!(refused.message.contains("the model needs about"));
        assert!(check(1000, "the model", "a smaller one").is_ok());
    }
}
