//! The two channels: standard output is data, standard error is for people.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::dashboard::{self, Dashboard};
use crate::failure::Result;

/// Where a command prints.
#[derive(Debug)]
pub struct Output {
    json: bool,
    quiet: bool,
    bar: Mutex<Option<ProgressBar>>,
    dashboard: Mutex<Option<Dashboard>>,
}

impl Output {
    /// `json`: data are JSON lines. `quiet`: people are told only what went wrong.
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, bar: Mutex::new(None), dashboard: Mutex::new(None) }
    }

    /// Whether standard output is JSON lines.
    pub fn json(&self) -> bool {
        self.json
    }

    /// A line for people, on standard error.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.quiet {
            self.stderr(line.as_ref());
        }
    }

    /// A line for people, where there is something to say.
    pub fn say_some(&self, line: Option<String>) {
        if let Some(line) = line {
            self.say(line);
        }
    }

    /// A line for people that `--quiet` does not silence.
    pub fn warn(&self, line: impl AsRef<str>) {
        self.stderr(line.as_ref());
    }

    /// Opens the dashboard, where standard error is a terminal and nobody asked for less.
    ///
    /// # Errors
    /// A terminal that cannot be drawn on.
    pub(crate) fn start_dashboard(&self) -> Result<()> {
        let unfit = if self.json { Some("--json was given") } else { dashboard::unfit() };
        if let Some(why) = unfit.or(self.quiet.then_some("--quiet was given")) {
            self.say(format!(
                "note: --tui needs a terminal to draw on, and {why}; here are plain lines instead"
            ));
            return Ok(());
        }
        let opened = Dashboard::open()?;
        if let Ok(mut slot) = self.dashboard.lock() {
            *slot = Some(opened);
        }
        Ok(())
    }

    /// Gives the terminal back, with the lines that were said on the dashboard.
    pub fn end_dashboard(&self) {
        let closed = self.dashboard.lock().ok().and_then(|mut slot| slot.take());
        if let Some(dashboard) = closed {
            let lines = dashboard.lines();
            drop(dashboard);
            for line in &lines {
                self.stderr(line);
            }
        }
    }

    /// Does something with the dashboard; false where there is none.
    pub(crate) fn on_dashboard(&self, act: impl FnOnce(&mut Dashboard)) -> bool {
        match self.dashboard.lock() {
            Ok(mut slot) => slot.as_mut().map(act).is_some(),
            Err(_) => false,
        }
    }

    fn stderr(&self, line: &str) {
        if self.on_dashboard(|dashboard| dashboard.say(line)) {
            return;
        }
        // Nobody can be told that standard error is gone.
        let write = || drop(writeln!(std::io::stderr(), "{line}"));
        match self.bar.lock().ok().and_then(|bar| bar.clone()) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// One JSON line on standard output, when it is asked for.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub fn event(&self, event: &impl Serialize) -> Result<()> {
        let mut told = Ok(());
        self.on_dashboard(|dashboard| {
            told = serde_json::to_value(event).map(|event| dashboard.event(&event));
        });
        told?;
        if self.json {
            let mut line = serde_json::to_string(event)?;
            line.push('\n');
            self.data(&line)?;
        }
        Ok(())
    }

    /// Text on standard output, at once.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub fn data(&self, text: &str) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }

    /// Starts a live progress bar of `length` steps; on anything but a terminal nothing is drawn.
    pub fn start_bar(&self, length: u64, unit: &str) {
        if self.on_dashboard(|dashboard| dashboard.start(length, unit)) {
            return;
        }
        if !self.is_live() {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(5));
        let template = format!("{{bar:30}} {{pos}}/{{len}} {unit}  {{msg}}  {{elapsed}} < {{eta}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        self.show(bar);
    }

    /// Whether a live line can be drawn.
    pub(crate) fn is_live(&self) -> bool {
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }

    /// Shows `bar` until [`Self::end_bar`], and says lines above it.
    pub(crate) fn show(&self, bar: ProgressBar) {
        if let Ok(mut slot) = self.bar.lock() {
            *slot = Some(bar);
        }
    }

    /// Moves the bar.
    pub fn move_bar(&self, position: u64, message: impl FnOnce() -> String) {
        if let Some(bar) = self.bar.lock().ok().and_then(|bar| bar.clone()) {
            bar.set_position(position);
            bar.set_message(message());
            return;
        }
        self.on_dashboard(|dashboard| dashboard.advance(position, message));
    }

    /// Takes the bar away.
    pub fn end_bar(&self) {
        if let Some(bar) = self.bar.lock().ok().and_then(|mut bar| bar.take()) {
            bar.finish_and_clear();
        }
    }
}

/// 1234567 as "1,234,567".
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// Bytes as people say them.
pub fn bytes(count: u64) -> String {
    match count as f64 {
        c if c < 1e3 => format!("{count} B"),
        c if c < 1e6 => format!("{:.1} kB", c / 1e3),
        c if c < 1e9 => format!("{:.1} MB", c / 1e6),
        c if c < 1e15 => format!("{:.1} GB", c / 1e9),
        c => format!("{c:.1e} bytes"),
    }
}

/// A number with so many `digits` behind the point; one of a million and more, as a perplexity can be, with an exponent.
pub fn number(value: f64, digits: usize) -> String {
    if value.is_finite() && value >= 1e6 { format!("{value:.3e}") } else { format!("{value:.digits$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_115_394), "1,115,394");
        assert_eq!(duration(1.26), "1.3 s");
        assert_eq!(duration(59.7), "1 min 00 s");
        assert_eq!(duration(3720.0), "1 h 02 min");
        assert_eq!(bytes(1500), "1.5 kB");
        assert_eq!(number(999_999.25, 3), "999999.250");
        assert_eq!(number(3.3e83, 4), "3.300e83");
        assert_eq!((number(f64::INFINITY, 3), number(f64::NAN, 3)), ("inf".to_owned(), "NaN".to_owned()));
    }
}
