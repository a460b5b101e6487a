//! Being asked to stop: the first signal ends the run after its current step, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::{Failure, Result};

/// Listens for SIGINT (Ctrl-C) and SIGTERM.
#[derive(Debug)]
pub(crate) struct Stop {
    which: Arc<AtomicUsize>,
}

impl Stop {
    /// Starts listening.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn listen() -> Result<Self> {
        let cannot = |error| Failure::failed(format!("cannot listen for signals: {error}"));
        let which = Arc::new(AtomicUsize::new(0));
        let armed = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
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
