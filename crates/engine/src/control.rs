//! Control of running work: stop, pause, checkpoint, sample.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Control of a run, or of all runs of a comparison. Clones control the same run, from any thread.
///
/// ```
/// use surprisal_engine::Control;
///
/// let control = Control::new();
/// let elsewhere = control.clone();
/// std::thread::spawn(move || elsewhere.stop()).join().unwrap();
/// assert!(control.is_stopped());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<ControlState>);

#[derive(Debug, Default)]
struct ControlState {
    stop: Arc<AtomicBool>,
    paused: AtomicBool,
    checkpoints: AtomicU64,
    samples: AtomicU64,
    /// Number of threads at steps, after which a stop makes a checkpoint.
    steps: AtomicUsize,
}

impl Control {
    /// A control without requests.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the work: training after its step and a checkpoint to resume from; evaluations (which
    /// are repeated after resuming) and sampling at once. The work's error is
    /// [`ExitKind::Stopped`](crate::ExitKind::Stopped).
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }

    /// Whether [`Self::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.stop.load(Ordering::SeqCst)
    }

    /// Pauses training after the step, until [`Self::resume`] or [`Self::stop`].
    pub fn pause(&self) {
        self.0.paused.store(true, Ordering::SeqCst);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.0.paused.store(false, Ordering::SeqCst);
    }

    /// Requests a checkpoint after the step.
    pub fn checkpoint(&self) {
        self.0.checkpoints.fetch_add(1, Ordering::SeqCst);
    }

    /// Requests a sample after the step: [`Event::Sampled`](crate::Event::Sampled).
    pub fn sample(&self) {
        self.0.samples.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a run is at steps: after [`Self::stop`] it soon ends by itself, with a checkpoint.
    pub fn is_at_steps(&self) -> bool {
        self.0.steps.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.0.stop.clone()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::SeqCst) && !self.is_stopped()
    }

    /// Marks work that soon ends by itself after [`Self::stop`], with its results saved, until the
    /// result is dropped.
    pub fn steps(&self) -> Steps {
        self.0.steps.fetch_add(1, Ordering::SeqCst);
        Steps(self.clone())
    }

    /// Numbers of requests so far.
    pub(crate) fn requests(&self) -> Requests {
        let [checkpoints, samples] =
            [&self.0.checkpoints, &self.0.samples].map(|count| count.load(Ordering::SeqCst));
        Requests { checkpoints, samples }
    }
}

/// Mark of a run that is at steps, removed when dropped.
#[derive(Debug)]
#[must_use = "dropping it removes the mark"]
pub struct Steps(Control);

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.0.steps.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Numbers of requests; each run remembers how many it has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) checkpoints: u64,
    pub(crate) samples: u64,
}
