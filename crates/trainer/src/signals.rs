//! Being asked to stop: the first signal ends the run after its current step, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGXFSZ};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::{Failure, Result};

/// Listens for SIGINT (Ctrl-C), SIGTERM, and SIGHUP (the terminal is gone) unless that was to be ignored.
#[derive(Debug)]
pub(crate) struct Stop {
    which: Arc<AtomicUsize>,
}

impl Stop {
    /// Starts listening. Without `steps` to finish first, the first signal already ends the process at once.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn listen(steps: bool) -> Result<Self> {
        let cannot = |error| Failure::failed(format!("cannot listen for signals: {error}"));
        let which = Arc::new(AtomicUsize::new(0));
        let armed = Arc::new(AtomicBool::new(!steps));
        for signal in signals() {
            // In this order: the first signal finds the shutdown unarmed, and arms it for the second.
            flag::register_conditional_shutdown(signal, 128 + signal, armed.clone()).map_err(cannot)?;
            flag::register(signal, armed.clone()).map_err(cannot)?;
            flag::register_usize(signal, which.clone(), signal as usize).map_err(cannot)?;
        }
        Ok(Self { which })
    }

    /// The signal that asked to stop, if one did.
    pub(crate) fn asked(&self) -> Option<u8> {
        match self.which.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal as u8),
        }
    }
}

/// Lets a write past `ulimit -f` fail with an error that names the file, instead of ending the process.
///
/// # Errors
/// When the system refuses.
pub(crate) fn survive_size_limits() -> Result<()> {
    #[cfg(unix)]
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
        .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    Ok(())
}

fn signals() -> Vec<i32> {
    let mut signals = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    if !is_ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    signals
}

/// Whether the process was started with `signal` ignored, as `nohup` does with SIGHUP: then the run goes on. Where the
/// system does not tell (anything but Linux), it counts as ignored.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}
