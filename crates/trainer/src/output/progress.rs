//! Progress of work in phases: a live line on a terminal, otherwise a line per phase and every ten
//! seconds of a long phase.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;

/// The interval of progress lines in a long phase without a terminal.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Phases {
    started: Instant,
    phase: Mutex<Phase>,
    done: AtomicU64,
}

struct Phase {
    name: &'static str,
    /// The number of steps; 0 if unknown.
    whole: u64,
    reported_at: Instant,
}

impl Phases {
    /// Starts the clock; nothing is shown before the first phase.
    pub(super) fn new() -> Self {
        let started = Instant::now();
        let phase = Mutex::new(Phase { name: "", whole: 0, reported_at: started });
        Self { started, phase, done: AtomicU64::new(0) }
    }
}

impl Output {
    /// Seconds since the start of the command.
    pub(crate) fn seconds(&self) -> f64 {
        self.phases.started.elapsed().as_secs_f64()
    }

    /// Starts the next phase, of `whole` steps (0: unknown).
    pub(crate) fn phase(&self, name: &'static str, whole: u64) {
        self.phases.done.store(0, Ordering::Relaxed);
        if let Ok(mut phase) = self.phases.phase.lock() {
            *phase = Phase { name, whole, reported_at: Instant::now() };
        }
        if !self.is_live() {
            return self.info(format!("{:.1} s: {name}", self.seconds()));
        }
        let bar = self.bar().unwrap_or_else(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
            self.show(bar.clone());
            bar
        });
        // Set before the style, or the bar is drawn with the values of the previous phase.
        bar.set_position(0);
        bar.set_length(whole);
        bar.set_message(name);
        let template = if whole > 0 { "{elapsed} {msg} {bar:30} {percent} %" } else { "{elapsed} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        // Ticks also show that a phase without reports is alive.
        bar.enable_steady_tick(Duration::from_millis(200));
    }

    /// Counts `steps` more as done; callable from any thread.
    pub(crate) fn advance(&self, steps: u64) {
        let done = self.phases.done.fetch_add(steps, Ordering::Relaxed) + steps;
        if let Some(bar) = self.bar() {
            return bar.set_position(done);
        }
        // If another thread holds the lock, it reports.
        let Ok(mut phase) = self.phases.phase.try_lock() else { return };
        if phase.reported_at.elapsed() >= REPORT_INTERVAL && phase.whole > 0 {
            phase.reported_at = Instant::now();
            let percent = 100 * done / phase.whole;
            self.info(format!("{:.1} s: {}, {percent} %", self.seconds(), phase.name));
        }
    }
}
