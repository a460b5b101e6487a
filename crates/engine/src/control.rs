//! The way back into a piece of work: to stop it, to pause it, to ask it for a checkpoint or a sample.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What a run is asked to do while it runs. One a run (or one a comparison, for all its runs); clones are the same one, from any
/// thread.
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
pub struct Control(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    stop: Arc<AtomicBool>,
    paused: AtomicBool,
    checkpoints: AtomicU64,
    samples: AtomicU64,
    /// How many threads are at steps that end in a checkpoint.
    steps: AtomicUsize,
}

impl Control {
    /// Nothing is asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the work: training after its step and a checkpoint, so that it can go on from there; evaluations, which are made
    /// again then, and texts being written at once. The work's error is of [`Kind::Stopped`](crate::Kind::Stopped).
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }

    /// Whether [`Self::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.0.stop.load(Ordering::SeqCst)
    }

    /// Holds training between two steps, until [`Self::go_on`] or [`Self::stop`].
    pub fn pause(&self) {
        self.0.paused.store(true, Ordering::SeqCst);
    }

    /// Ends a pause.
    pub fn go_on(&self) {
        self.0.paused.store(false, Ordering::SeqCst);
    }

    /// Asks for a checkpoint after the step.
    pub fn checkpoint(&self) {
        self.0.checkpoints.fetch_add(1, Ordering::SeqCst);
    }

    /// Asks for a little of what the model writes by now: [`Event::Sampled`](crate::Event::Sampled) after the step.
    pub fn sample(&self) {
        self.0.samples.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a run is at steps that end in a checkpoint: it ends by itself soon after [`Self::stop`], and has something to say.
    pub fn is_at_steps(&self) -> bool {
        self.0.steps.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.0.stop.clone()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::SeqCst) && !self.is_stopped()
    }

    /// From now on, and until what is given is dropped, a stop waits for the step.
    pub(crate) fn steps(&self) -> Steps {
        self.0.steps.fetch_add(1, Ordering::SeqCst);
        Steps(self.clone())
    }

    /// How often checkpoints and samples were asked for.
    pub(crate) fn asked(&self) -> Requests {
        let [checkpoints, samples] =
            [&self.0.checkpoints, &self.0.samples].map(|count| count.load(Ordering::SeqCst));
        Requests { checkpoints, samples }
    }
}

/// While it lives, a stop waits for the end of a step.
#[derive(Debug)]
pub(crate) struct Steps(Control);

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.0.steps.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What was asked for so far: each run remembers what of it it has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) checkpoints: u64,
    pub(crate) samples: u64,
}
