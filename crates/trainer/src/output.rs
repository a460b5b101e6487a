//! The two channels: standard output is data, standard error is for people.

mod progress;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use surprisal_engine::{Control, Length, RunId};

use self::progress::Phases;
use crate::dashboard::{self, Dashboard};
use crate::error::{Error, Kind, Result, stdout_error};
use crate::table::Table;
use crate::wording::{bytes, in_json, shown, visible};

pub(crate) struct Output {
    json: bool,
    quiet: bool,
    bar: Mutex<Option<ProgressBar>>,
    phases: Phases,
    dashboard: Mutex<Option<Dashboard>>,
    /// Why standard output is gone, once it is.
    stdout_failure: Mutex<Option<Error>>,
    /// The work whose events are told here.
    run: RunId,
    live: Mutex<Live>,
}

/// What is drawn of the run.
#[derive(Default)]
pub(crate) struct Live {
    /// The table that the run's lines are of.
    pub(crate) table: Table,
    pub(crate) length: Option<Length>,
    /// Who is asked for what the dashboard shows.
    pub(crate) control: Option<Control>,
}

impl Output {
    /// `json`: data are JSON lines. `quiet`: people are told only what went wrong.
    pub(crate) fn new(json: bool, quiet: bool, run: RunId) -> Self {
        Self {
            json,
            quiet,
            bar: Mutex::new(None),
            phases: Phases::new(),
            dashboard: Mutex::new(None),
            stdout_failure: Mutex::new(None),
            run,
            live: Mutex::default(),
        }
    }

    pub(crate) fn is_of(&self, run: RunId) -> bool {
        self.run == run
    }

    pub(crate) fn live<T>(&self, act: impl FnOnce(&mut Live) -> T) -> T {
        act(&mut self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// A line for people, on standard error.
    pub(crate) fn info(&self, line: impl AsRef<str>) {
        if !self.quiet {
            self.warn(line);
        }
    }

    /// A line for people that `--quiet` does not silence.
    pub(crate) fn warn(&self, line: impl AsRef<str>) {
        let line = &*visible(line.as_ref());
        if self.on_dashboard(|dashboard| dashboard.log(line)) {
            return;
        }
        // Nobody can be told that standard error is gone.
        let write = || drop(writeln!(std::io::stderr(), "{line}"));
        match self.bar() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    pub(crate) fn wrote(&self, path: &Path, size: u64) {
        self.info(format!("wrote {} ({})", shown(path), bytes(size)));
    }

    /// Opens the dashboard, where standard error is a terminal and nobody asked for less.
    pub(crate) fn start_dashboard(&self, control: &Control) -> Result<()> {
        self.live(|live| live.control = Some(control.clone()));
        let unfit = if self.json { Some("--json was given") } else { dashboard::unusable_terminal() };
        if let Some(why) = unfit.or(self.quiet.then_some("--quiet was given")) {
            self.warn(format!(
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
    pub(crate) fn end_dashboard(&self) {
        let closed = self.dashboard.lock().ok().and_then(|mut slot| slot.take());
        if let Some(dashboard) = closed {
            let lines = dashboard.lines();
            drop(dashboard);
            for line in &lines {
                self.warn(line);
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

    /// One JSON line on standard output, when it is asked for.
    pub(crate) fn event(&self, event: &impl Serialize) -> Result<()> {
        if self.json {
            let line = in_json(&serde_json::to_string(event)?).into_owned();
            self.write_styled(&(line + "\n"))?;
        }
        Ok(())
    }

    /// [`Self::event`] of work that is more than its audience, and goes on without standard output: what failed comes from
    /// [`Self::heard`].
    pub(crate) fn record(&self, event: &impl Serialize) {
        let mut unheard = self.stdout_failure.lock().unwrap_or_else(PoisonError::into_inner);
        if unheard.is_none()
            && let Err(failure) =
                serde_json::to_value(event).map_err(Error::from).and_then(|e| self.event(&e))
        {
            if failure.kind != Kind::ClosedPipe {
                self.warn(format!("{}; the work goes on", failure.message));
            }
            *unheard = Some(failure);
        }
    }

    /// Whether standard output took what it was told; else why it did not.
    pub(crate) fn stdout_result(&self) -> Result<()> {
        let unheard = self.stdout_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        unheard.map_or(Ok(()), Err)
    }

    /// Text on standard output, at once, with stand-ins for what would drive a terminal.
    pub(crate) fn write_stdout(&self, text: &str) -> Result<()> {
        self.write_styled(&visible(text))
    }

    /// What a model wrote: to the byte into a pipe or a file, and as [`Self::data`] on a terminal.
    pub(crate) fn write_sample(&self, text: &str) -> Result<()> {
        if std::io::stdout().is_terminal() { self.write_stdout(text) } else { self.write_styled(text) }
    }

    /// Text with colours of our own, in which everything else was made [`visible`].
    pub(crate) fn write_styled(&self, text: &str) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(stdout_error)
    }

    /// Starts a live progress bar of `length` steps; on anything but a terminal nothing is drawn.
    pub(crate) fn start_bar(&self, length: u64, unit: &str) {
        if self.on_dashboard(|dashboard| dashboard.start(length, unit)) || !self.is_live() {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(5));
        let template = format!("{{bar:30}} {{pos}}/{{len}} {unit}  {{msg}}  {{elapsed}} < {{eta}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        self.show(bar);
    }

    /// How many columns of characters a line for people has: the terminal's, and 80 where there is none.
    pub(crate) fn width(&self) -> usize {
        const USUAL: usize = 80;
        if !std::io::stderr().is_terminal() {
            return USUAL;
        }
        let columns = ratatui::crossterm::terminal::size().map_or(0, |(columns, _)| usize::from(columns));
        // A terminal that does not tell says 0; the dashboard has a border.
        let columns = if columns == 0 { USUAL } else { columns };
        if self.on_dashboard(|_| ()) { columns.saturating_sub(2) } else { columns }
    }

    /// Whether a live line can be drawn.
    fn is_live(&self) -> bool {
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }

    pub(crate) fn bar(&self) -> Option<ProgressBar> {
        self.bar.lock().ok().and_then(|bar| bar.clone())
    }

    /// Shows `bar` until [`Self::end_bar`], and says lines above it.
    fn show(&self, bar: ProgressBar) {
        if let Ok(mut slot) = self.bar.lock() {
            *slot = Some(bar);
        }
    }

    pub(crate) fn move_bar(&self, position: u64, message: impl FnOnce() -> String) {
        if let Some(bar) = self.bar() {
            bar.set_position(position);
            bar.set_message(visible(&message()).into_owned());
            return;
        }
        self.on_dashboard(|dashboard| dashboard.advance(position, || visible(&message()).into_owned()));
    }

    pub(crate) fn end_bar(&self) {
        if let Some(bar) = self.bar.lock().ok().and_then(|mut bar| bar.take()) {
            bar.finish_and_clear();
        }
    }
}
