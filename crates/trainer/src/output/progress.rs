//! What work in phases is doing now, and since when: a live line on a terminal, else a line a phase and a few within long ones.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;

/// How often a long phase says how far it is where no line can be redrawn.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Phases {
    started: Instant,
    phase: Mutex<Phase>,
    done: AtomicU64,
}

struct Phase {
    name: &'static str,
    /// How much there is to do; 0 where nobody can tell.
    whole: u64,
    said: Instant,
}

impl Phases {
    /// Nothing is shown before the first phase.
    pub(super) fn new() -> Self {
        let started = Instant::now();
        let phase = Mutex::new(Phase { name: "", whole: 0, said: started });
        Self { started, phase, done: AtomicU64::new(0) }
    }
}

impl Output {
    /// Seconds since the command began.
    pub(crate) fn seconds(&self) -> f64 {
        self.phases.started.elapsed().as_secs_f64()
    }

    /// Begins the next phase, of `whole` steps, or of 0 where nobody can tell how far it is.
    pub(crate) fn phase(&self, name: &'static str, whole: u64) {
        self.phases.done.store(0, Ordering::Relaxed);
        if let Ok(mut phase) = self.phases.phase.lock() {
            *phase = Phase { name, whole, said: Instant::now() };
        }
        if !self.is_live() {
            return self.info(format!("{:.1} s: {name}", self.seconds()));
        }
        let bar = self.bar().unwrap_or_else(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
            self.show(bar.clone());
            bar
        });
        // Before there is a bar to draw, or it is drawn as that of the phase before.
        bar.set_position(0);
        bar.set_length(whole);
        bar.set_message(name);
        let template = if whole > 0 { "{elapsed} {msg} {bar:30} {percent} %" } else { "{elapsed} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        // Phases that never report are seen to live by their clock.
        bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// `steps` more are done; from any thread.
    pub(crate) fn advance(&self, steps: u64) {
        let done = self.phases.done.fetch_add(steps, Ordering::Relaxed) + steps;
        if let Some(bar) = self.bar() {
            return bar.set_position(done);
        }
        // Whoever finds it locked has nothing new to say.
        let Ok(mut phase) = self.phases.phase.try_lock() else { return };
        if phase.said.elapsed() >= REPORT_INTERVAL && phase.whole > 0 {
            phase.said = Instant::now();
            let percent = 100 * done / phase.whole;
            self.info(format!("{:.1} s: {}, {percent} %", self.seconds(), phase.name));
        }
    }
}
