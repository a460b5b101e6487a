//! Handling of signals. Training finishes its step and saves a checkpoint; other work ends at once,
//! and so does everything at the second signal. No partly written file is left.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGXFSZ};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use surprisal_engine::Control;
use surprisal_engine::store::pending;
use surprisal_platform::mmap;

use crate::error::{Error, Result};
use crate::output::Output;

/// The interval at which the signal thread checks for a signal.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The time that the process may take to end by itself after the last step is saved.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// Listens for SIGINT (Ctrl-C), SIGTERM, and SIGHUP (terminal closed) unless the process was
/// started with it ignored.
#[derive(Debug, Default)]
pub(crate) struct ShutdownFlag {
    which: AtomicUsize,
    control: Control,
    /// The message printed if the process ends before its work is finished.
    message: Mutex<Option<String>>,
}

impl ShutdownFlag {
    /// Starts the listening thread. Returns false if the system gives no thread: then every signal
    /// ends the process at once.
    pub(crate) fn listen(output: Arc<Output>) -> Result<(Arc<Self>, bool)> {
        let cannot = |error| Error::failed(format!("cannot listen for signals: {error}"));
        let stop = Arc::new(Self::default());
        let heard = Arc::new(AtomicUsize::new(0));
        // Once set, a signal ends the process immediately.
        let ending = Arc::new(AtomicBool::new(false));
        for signal in signals() {
            flag::register_conditional_shutdown(signal, 128 + signal, ending.clone()).map_err(cannot)?;
            flag::register_usize(signal, heard.clone(), signal as usize).map_err(cannot)?;
        }
        let (own, armed) = (stop.clone(), ending.clone());
        let watch = move || own.watch(&heard, &armed, &output);
        let started = std::thread::Builder::new().name("signals".into()).spawn(watch).is_ok();
        if started {
            mmap::handle_sigbus();
        } else {
            ending.store(true, Ordering::SeqCst);
        }
        Ok((stop, started))
    }

    /// The received signal, if any.
    pub(crate) fn signal(&self) -> Option<u8> {
        match self.which.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal as u8),
        }
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// Sets the message to print if a signal ends the process at once.
    pub(crate) fn set_message(&self, words: impl Into<String>) {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = Some(words.into());
    }

    fn watch(&self, heard: &AtomicUsize, ending: &AtomicBool, output: &Output) {
        let mut idle: Option<Instant> = None;
        loop {
            std::thread::sleep(POLL_INTERVAL);
            let signal = heard.swap(0, Ordering::SeqCst);
            let again = signal != 0 && self.which.swap(signal, Ordering::SeqCst) != 0;
            let Some(asked) = self.signal() else {
                if let Some(path) = mmap::truncated_file() {
                    let hint = "do not change a file in use: write a new file and rename it over the old one";
                    let words = format!(
                        "error: {} was cut short while it was in use\n  hint: {hint}",
                        path.display()
                    );
                    ending.store(true, Ordering::SeqCst);
                    end(1, output, Some(&words));
                }
                continue;
            };
            self.control.stop();
            // Training prints its own message at the end of its step.
            let idles = !self.control.is_at_steps();
            let at_once = again || idles && signal != 0;
            idle = idles.then(|| idle.unwrap_or_else(Instant::now));
            if at_once || idle.is_some_and(|since| since.elapsed() >= EXIT_GRACE) {
                ending.store(true, Ordering::SeqCst);
                let words = self.message.lock().unwrap_or_else(PoisonError::into_inner);
                end(128 + i32::from(asked), output, words.as_ref());
            }
        }
    }
}

/// Ends the process at once, while other threads may run, and removes partly written files.
fn end(code: i32, output: &Output, words: Option<&String>) -> ! {
    pending::stop_writing();
    output.end_bar();
    output.end_dashboard();
    if let Some(words) = words {
        output.warn(words);
    }
    low_level::exit(code)
}

/// Makes a write beyond `ulimit -f` fail with an error that names the file, instead of ending the
/// process.
pub(crate) fn survive_size_limits() -> Result<()> {
    #[cfg(unix)]
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
        .map_err(|error| Error::failed(format!("cannot listen for signals: {error}")))?;
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

/// Whether the process was started with `signal` ignored, as `nohup` does with SIGHUP. On systems
/// other than Linux, where this is unknown, it counts as ignored.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}
