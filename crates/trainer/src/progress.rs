//! What work in phases is doing now, and since when: a live line on a terminal, else a line a phase and a few within long ones.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// How often a long phase says how far it is where no line can be redrawn.
const EVERY: Duration = Duration::from_secs(10);

/// The phases of one command.
pub(crate) struct Progress<'a> {
    output: &'a Output,
    started: Instant,
    /// The live line, if there is one.
    bar: Option<ProgressBar>,
    phase: Mutex<Phase>,
    done: AtomicU64,
}

#[derive(Clone, Copy)]
struct Phase {
    name: &'static str,
    /// How much there is to do; 0 where nobody can tell.
    whole: u64,
    said: Instant,
}

impl<'a> Progress<'a> {
    /// Nothing is shown before the first phase.
    pub(crate) fn new(output: &'a Output) -> Self {
        let started = Instant::now();
        let bar = output.is_live().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
            output.show(bar.clone());
            bar
        });
        let phase = Mutex::new(Phase { name: "", whole: 0, said: started });
        Self { output, started, bar, phase, done: AtomicU64::new(0) }
    }

    /// Seconds since the command began.
    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Begins the next phase, of `whole` steps, or of 0 where nobody can tell how far it is.
    pub(crate) fn phase(&self, name: &'static str, whole: u64) {
        self.done.store(0, Ordering::Relaxed);
        if let Ok(mut phase) = self.phase.lock() {
            *phase = Phase { name, whole, said: Instant::now() };
        }
        let Some(bar) = &self.bar else {
            return self.output.say(format!("{:.1} s: {name}", self.seconds()));
        };
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
        let done = self.done.fetch_add(steps, Ordering::Relaxed) + steps;
        if let Some(bar) = &self.bar {
            return bar.set_position(done);
        }
        // Whoever finds it locked has nothing new to say.
        let Ok(mut phase) = self.phase.try_lock() else { return };
        if phase.said.elapsed() >= EVERY && phase.whole > 0 {
            phase.said = Instant::now();
            let percent = 100 * done / phase.whole;
            self.output.say(format!("{:.1} s: {}, {percent} %", self.seconds(), phase.name));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.output.end_bar();
    }
}
