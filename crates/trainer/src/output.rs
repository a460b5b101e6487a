//! Output: data on standard output, messages for people on standard error.

mod progress;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use surprisal_engine::{Control, RunId, StopCriterion};

use self::progress::Phases;
use crate::dashboard::{self, Dashboard};
use crate::error::{Error, ExitKind, Result, stdout_error};
use crate::table::Table;
use crate::wording::{bytes, in_json, shown, visible};

pub(crate) struct Output {
    json: bool,
    quiet: bool,
    bar: Mutex<Option<ProgressBar>>,
    phases: Phases,
    dashboard: Mutex<Option<Dashboard>>,
    /// The first error of standard output in [`Output::record`].
    stdout_failure: Mutex<Option<Error>>,
    /// The run whose events are shown.
    run: RunId,
    live: Mutex<Live>,
}

/// The state of the run's display.
#[derive(Default)]
pub(crate) struct Live {
    /// The format of the run's table.
    pub(crate) table: Table,
    pub(crate) length: Option<StopCriterion>,
    /// The control, by which the dashboard requests samples.
    pub(crate) control: Option<Control>,
}

impl Output {
    /// `json`: write data as JSON lines. `quiet`: print only warnings and errors.
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

    /// Prints a line to standard error, unless `--quiet` is given.
    pub(crate) fn info(&self, line: impl AsRef<str>) {
        if !self.quiet {
            self.warn(line);
        }
    }

    /// Prints a line to standard error, also with `--quiet`.
    pub(crate) fn warn(&self, line: impl AsRef<str>) {
        let line = &*visible(line.as_ref());
        if self.on_dashboard(|dashboard| dashboard.log(line)) {
            return;
        }
        // An error of standard error cannot be reported.
        let write = || drop(writeln!(std::io::stderr(), "{line}"));
        match self.bar() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Asks for input on standard error, without a newline.
    pub(crate) fn ask(&self, prompt: &str) {
        if !self.quiet {
            drop(write!(std::io::stderr(), "{prompt}"));
        }
    }

    pub(crate) fn wrote(&self, path: &Path, size: u64) {
        self.info(format!("wrote {} ({})", shown(path), bytes(size)));
    }

    /// Opens the dashboard if standard error is a usable terminal and neither `--json` nor
    /// `--quiet` is given.
    pub(crate) fn start_dashboard(&self, control: &Control) -> Result<()> {
        self.live(|live| live.control = Some(control.clone()));
        let unfit = if self.json { Some("--json was given") } else { dashboard::unusable_terminal() };
        if let Some(why) = unfit.or(self.quiet.then_some("--quiet was given")) {
            self.warn(format!("note: --tui needs a terminal, but {why}; plain lines are printed instead"));
            return Ok(());
        }
        let opened = Dashboard::open()?;
        if let Ok(mut slot) = self.dashboard.lock() {
            *slot = Some(opened);
        }
        Ok(())
    }

    /// Closes the dashboard, and prints its log lines on the restored terminal.
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

    /// Calls `act` with the dashboard; false if there is none.
    pub(crate) fn on_dashboard(&self, act: impl FnOnce(&mut Dashboard)) -> bool {
        match self.dashboard.lock() {
            Ok(mut slot) => slot.as_mut().map(act).is_some(),
            Err(_) => false,
        }
    }

    /// Writes one JSON line to standard output, with `--json`.
    pub(crate) fn event(&self, event: &impl Serialize) -> Result<()> {
        if self.json {
            let line = in_json(&serde_json::to_string(event)?).into_owned();
            self.write_styled(&(line + "\n"))?;
        }
        Ok(())
    }

    /// Like [`Self::event`], but a failure does not stop the work; [`Self::stdout_result`] returns
    /// it.
    pub(crate) fn record(&self, event: &impl Serialize) {
        let mut unheard = self.stdout_failure.lock().unwrap_or_else(PoisonError::into_inner);
        if unheard.is_none()
            && let Err(failure) =
                serde_json::to_value(event).map_err(Error::from).and_then(|e| self.event(&e))
        {
            if failure.kind != ExitKind::BrokenPipe {
                self.warn(format!("{}; the command continues", failure.message));
            }
            *unheard = Some(failure);
        }
    }

    /// The result of all [`Self::record`] calls.
    pub(crate) fn stdout_result(&self) -> Result<()> {
        let unheard = self.stdout_failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        unheard.map_or(Ok(()), Err)
    }

    /// Writes text to standard output and flushes it, with control characters escaped.
    pub(crate) fn write_stdout(&self, text: &str) -> Result<()> {
        self.write_styled(&visible(text))
    }

    /// Writes generated text: unchanged into a pipe or a file, as [`Self::write_stdout`] to a
    /// terminal.
    pub(crate) fn write_sample(&self, text: &str) -> Result<()> {
        if std::io::stdout().is_terminal() { self.write_stdout(text) } else { self.write_styled(text) }
    }

    /// Writes text with our own colour codes; all other text must be [`visible`].
    pub(crate) fn write_styled(&self, text: &str) -> Result<()> {
        self.write_rows(text.as_bytes())
    }

    /// Writes rows whose text is [`visible`].
    pub(crate) fn write_rows(&self, rows: &[u8]) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(rows).and_then(|()| stdout.flush()).map_err(stdout_error)
    }

    /// Starts a progress bar of `length` steps; drawn only on a terminal.
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

    /// The width of message lines in columns: the terminal's, or 80.
    pub(crate) fn width(&self) -> usize {
        const USUAL: usize = 80;
        if !std::io::stderr().is_terminal() {
            return USUAL;
        }
        let columns = console::Term::stderr().size_checked().map_or(0, |(_, columns)| usize::from(columns));
        // A terminal of unknown size reports 0; the dashboard has a border.
        let columns = if columns == 0 { USUAL } else { columns };
        if self.on_dashboard(|_| ()) { columns.saturating_sub(2) } else { columns }
    }

    /// Whether a progress bar can be drawn.
    fn is_live(&self) -> bool {
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }

    pub(crate) fn bar(&self) -> Option<ProgressBar> {
        self.bar.lock().ok().and_then(|bar| bar.clone())
    }

    /// Shows `bar` until [`Self::end_bar`]; messages are printed above it.
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
