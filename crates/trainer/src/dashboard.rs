//! The dashboard of `train --tui`, on the terminal's alternate screen.

use std::collections::VecDeque;
use std::io::{BufWriter, IsTerminal, Read, Stderr, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::{DOT, Marker};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Borders, Chart, Clear, Dataset, GraphType, Paragraph, Wrap};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};
use signal_hook::consts::SIGINT;
use signal_hook::low_level::raise;
use surprisal_engine::{Evaluated, Step};

use crate::error::{Error, Result};
use crate::wording::{duration, number, thousands, visible};

/// The minimum time between two drawings.
const DRAW_INTERVAL: Duration = Duration::from_millis(150);
/// The largest number of log lines.
const MAX_LINES: usize = 200;
/// The largest number of points of the training curve, more than a screen can show.
const MAX_POINTS: usize = 2000;
/// The largest drawn size in columns and rows; a terminal may report any size.
const MAX_SIZE: (u16, u16) = (1000, 400);
const ESC: u8 = 0x1b;
const CTRL_C: u8 = 3;

/// Whether the dashboard uses the terminal. Global, because whatever ends the process must restore
/// the terminal.
static TERMINAL_TAKEN: AtomicBool = AtomicBool::new(false);

/// The dashboard, shared with the thread that reads keys.
pub(crate) struct Dashboard(Arc<Mutex<Screen>>);

struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<FallibleStderr>>>,
    state: State,
    /// The time of the last update of progress.
    updated: Option<Instant>,
    gone: Arc<AtomicBool>,
}

/// Standard error, with a flag that is set when it fails. Its failure must not stop a run, so no
/// write returns an error.
struct FallibleStderr(Stderr, Arc<AtomicBool>);

impl Write for FallibleStderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.write_all(bytes);
        self.1.fetch_or(written.is_err(), Ordering::SeqCst);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The input mode.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    #[default]
    Watching,
    Help,
    /// Asking for confirmation to stop.
    Asking,
    Stopping,
}

/// The displayed state of the run.
#[derive(Debug, Default)]
struct State {
    position: u64,
    length: u64,
    unit: String,
    message: String,
    progress: f64,
    train: Vec<(f64, f64)>,
    validation: Vec<(f64, f64)>,
    entropy: Option<f64>,
    tokens_per_second: f64,
    train_seconds: f64,
    lines: VecDeque<String>,
    sample: String,
    mode: Mode,
    /// Whether key input works.
    keys: bool,
    /// Whether the terminal shows only ASCII.
    ascii: bool,
}

/// Why this terminal cannot be used, worded to follow "but"; `None` if it can.
pub(crate) fn unusable_terminal() -> Option<&'static str> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    match set("TERM") {
        _ if !std::io::stderr().is_terminal() => Some("standard error is not a terminal"),
        Some(term) if term == "dumb" => Some("TERM is dumb"),
        None if cfg!(unix) => Some("TERM is not set"),
        _ if set("CI").is_some_and(|ci| ci != "false" && ci != "0") => Some("CI is set"),
        _ => None,
    }
}

/// Whether the locale's character set is not UTF-8; variables in POSIX's order of precedence.
fn is_ascii(variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let locale = names.into_iter().filter_map(variable).find(|value| !value.is_empty());
    let locale = locale.unwrap_or_default().to_lowercase();
    cfg!(unix) && !locale.contains("utf-8") && !locale.contains("utf8")
}

/// Restores the terminal, once, from any thread.
fn restore_terminal() {
    if TERMINAL_TAKEN.swap(false, Ordering::SeqCst) {
        // Errors are ignored: a closed terminal needs no restoring.
        drop(terminal::disable_raw_mode());
        drop(execute!(std::io::stderr(), LeaveAlternateScreen, Show));
    }
}

impl Dashboard {
    /// Switches to the alternate screen, and reads keys if there is a keyboard.
    pub(crate) fn open() -> Result<Self> {
        let cannot = |error| Error::failed(format!("cannot draw on this terminal: {error}"));
        let fixed = TerminalOptions { viewport: Viewport::Fixed(Rect::ZERO) };
        let gone = Arc::new(AtomicBool::new(false));
        let backend = CrosstermBackend::new(BufWriter::new(FallibleStderr(std::io::stderr(), gone.clone())));
        let terminal = Terminal::with_options(backend, fixed).map_err(cannot)?;
        execute!(std::io::stderr(), EnterAlternateScreen, Hide).map_err(cannot)?;
        TERMINAL_TAKEN.store(true, Ordering::SeqCst);
        // A panic message must be printed on the normal screen.
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore_terminal();
            earlier(panic);
        }));
        let keys = terminal::enable_raw_mode().is_ok();
        let state = State { keys, ascii: is_ascii(|name| std::env::var(name).ok()), ..State::default() };
        let screen = Arc::new(Mutex::new(Screen { terminal, state, updated: None, gone }));
        if keys {
            let screen = screen.clone();
            // Never joined, because it waits for a key.
            let thread = std::thread::Builder::new().name("keys".into()).spawn(move || listen(&screen));
            thread.map_err(|error| {
                restore_terminal();
                cannot(error)
            })?;
        }
        Ok(Self(screen))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Screen) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, act: impl FnOnce(&mut State)) {
        self.with(|screen| {
            act(&mut screen.state);
            screen.draw();
        });
    }

    pub(crate) fn log(&mut self, line: &str) {
        self.change(|state| state.log(line));
    }

    pub(crate) fn start(&mut self, length: u64, unit: &str) {
        self.with(|screen| (screen.state.length, screen.state.unit) = (length, unit.to_owned()));
    }

    pub(crate) fn advance(&mut self, position: u64, message: impl FnOnce() -> String) {
        self.with(|screen| {
            screen.state.position = position;
            if screen.due() {
                screen.updated = Some(Instant::now());
                screen.state.message = message();
                screen.draw();
            }
        });
    }

    /// Records a training step; it is drawn at the next drawing.
    pub(crate) fn step(&mut self, step: &Step) {
        self.with(|screen| {
            screen.state.progress = step.progress;
            if screen.due() {
                screen.state.step(step);
            }
        });
    }

    pub(crate) fn evaluated(&mut self, evaluated: &Evaluated) {
        self.change(|state| state.evaluated(evaluated));
    }

    pub(crate) fn sample(&mut self, text: &str) {
        self.change(|state| state.sample = visible(text).into_owned());
    }

    /// The log lines, to be printed on the normal screen.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.with(|screen| screen.state.lines.iter().cloned().collect())
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // Waits for a drawing to end.
        self.with(|_| restore_terminal());
    }
}

impl Screen {
    fn due(&self) -> bool {
        self.updated.is_none_or(|told| told.elapsed() >= DRAW_INTERVAL)
    }

    fn draw(&mut self) {
        if !TERMINAL_TAKEN.load(Ordering::SeqCst) || self.gone.load(Ordering::SeqCst) {
            return;
        }
        let Ok((width, height)) = terminal::size() else { return };
        let area = Rect::new(0, 0, width.min(MAX_SIZE.0), height.min(MAX_SIZE.1));
        let (state, terminal) = (&self.state, &mut self.terminal);
        if terminal.get_frame().area() != area {
            drop(terminal.resize(area));
        }
        drop(terminal.draw(|frame| state.draw(frame)));
    }
}

fn listen(screen: &Mutex<Screen>) {
    let mut keyboard: Box<dyn Read> = match std::fs::File::open("/dev/tty") {
        _ if std::io::stdin().is_terminal() => Box::new(std::io::stdin()),
        Ok(terminal) => Box::new(terminal),
        Err(_) => return,
    };
    let mut bytes = [0; 64];
    loop {
        let read = match keyboard.read(&mut bytes) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys(&bytes[..read]) {
            let stop = screen.state.key(key);
            screen.draw();
            if stop {
                // Ends the run like Ctrl-C, which is not a signal in raw mode.
                drop(raise(SIGINT));
            }
        }
    }
}

/// The single keys in `bytes`. Escape sequences of arrow and function keys are dropped.
fn keys(mut bytes: &[u8]) -> Vec<u8> {
    let mut keys = Vec::new();
    while let [first, rest @ ..] = bytes {
        bytes = match (*first, rest) {
            (ESC, [b'[' | b'O', more @ ..]) => {
                let end = more.iter().position(|byte| (0x40..=0x7e).contains(byte));
                end.map_or(&[][..], |end| &more[end + 1..])
            }
            (ESC, [_, more @ ..]) => more,
            (key, rest) => {
                keys.push(key);
                rest
            }
        };
    }
    keys
}

impl State {
    /// Handles a key; true if the run must stop.
    fn key(&mut self, key: u8) -> bool {
        let was = self.mode;
        self.mode = match (was, key.to_ascii_lowercase()) {
            (Mode::Asking, b'q' | b'y' | b'\r' | b'\n') | (_, CTRL_C) => Mode::Stopping,
            (Mode::Watching | Mode::Help, b'q') => Mode::Asking,
            (Mode::Watching, b'?' | b'h') => Mode::Help,
            (Mode::Help, b'?' | b'h' | ESC) | (Mode::Asking, b'n' | ESC) => Mode::Watching,
            _ => was,
        };
        self.mode == Mode::Stopping && (key == CTRL_C || was != Mode::Stopping)
    }

    fn log(&mut self, line: &str) {
        for line in line.lines() {
            self.lines.push_back(line.to_owned());
        }
        while self.lines.len() > MAX_LINES {
            self.lines.pop_front();
        }
    }

    fn step(&mut self, step: &Step) {
        if self.train.len() >= MAX_POINTS {
            // Drops every other point, so that a longer curve is coarser.
            let mut keep = false;
            self.train.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.train.push((step.step as f64, step.train_nll));
        (self.tokens_per_second, self.train_seconds) = (step.tokens_per_second, step.train_seconds);
    }

    fn evaluated(&mut self, evaluated: &Evaluated) {
        let step = evaluated.step as f64;
        self.train.push((step, evaluated.train_nll));
        let nats = evaluated.eval.nats_per_token();
        self.validation.extend(Some((step, nats)).filter(|_| nats.is_finite()));
        self.entropy = evaluated.eval.source_entropy().or(self.entropy);
        self.tokens_per_second = evaluated.tokens_per_second;
        self.train_seconds = evaluated.train_seconds;
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let log = if area.height < 12 { 0 } else { area.height / 4 + 1 };
        let rows = [Constraint::Length(if area.height < 16 { 1 } else { 2 }), Constraint::Min(0)];
        let [top, rest] = Layout::vertical(rows).areas(area);
        let rows =
            [Constraint::Min(0), Constraint::Length(log), Constraint::Length(1), Constraint::Length(1)];
        let [middle, bottom, progress, keys] = Layout::vertical(rows).areas(rest);
        let sample = if area.width < 50 { 0 } else { 38 };
        let [curves, sample] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Percentage(sample)]).areas(middle);
        frame.render_widget(Paragraph::new(self.headline(top)), top);
        self.draw_curves(frame, curves);
        let written = Paragraph::new(self.sample.as_str()).wrap(Wrap { trim: false });
        frame.render_widget(written.block(Block::bordered().title(" sample ")), sample);
        self.draw_log(frame, bottom);
        frame.render_widget(Paragraph::new(self.bar(progress.width)), progress);
        frame.render_widget(Paragraph::new(self.footer()), keys);
        if self.mode == Mode::Help {
            draw_help(frame, middle);
        }
        if self.ascii {
            frame.buffer_mut().content.iter_mut().for_each(|cell| {
                if let Some(plain) = plain(cell.symbol()) {
                    cell.set_symbol(plain);
                }
            });
        }
    }

    /// The headline, most important numbers first; what does not fit the area is left out.
    fn headline(&self, area: Rect) -> Vec<Line<'static>> {
        let mut parts = vec!["surprisal".to_owned()];
        if let Some((step, nats)) = self.validation.last() {
            parts.push(format!("step {step:.0}: validation {nats:.4} nats per token"));
            parts.push(format!("perplexity {}", number(nats.exp(), 3)));
            parts.extend(self.entropy.map(|entropy| format!("{:+.4} to H(p)", nats - entropy)));
        }
        if !self.train.is_empty() {
            parts.push(format!("{} tokens/s", thousands(self.tokens_per_second as u64)));
            parts.push(format!("{} of training", duration(self.train_seconds)));
        }
        let mut lines = vec![String::new()];
        for part in parts {
            let (rows, line) = (lines.len(), lines.last_mut().map_or(0, |line| line.chars().count()));
            if line > 0 && line + 4 + part.chars().count() > usize::from(area.width) {
                if rows == usize::from(area.height) {
                    break;
                }
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.push_str(if line.is_empty() { " " } else { "   " });
                line.push_str(&part);
            }
        }
        lines.into_iter().map(Line::from).collect()
    }

    /// Draws the last log lines, wrapped to the width.
    fn draw_log(&self, frame: &mut Frame<'_>, area: Rect) {
        let room = usize::from(area.height.saturating_sub(1));
        let mut rows: VecDeque<Line<'_>> = VecDeque::new();
        for line in self.lines.iter().rev().take(room) {
            for row in wrap_line(line, usize::from(area.width)).into_iter().rev() {
                rows.push_front(Line::from(row));
            }
        }
        let from = rows.len().saturating_sub(room);
        let rows: Vec<Line<'_>> = rows.into_iter().skip(from).collect();
        frame.render_widget(
            Paragraph::new(rows).block(Block::new().borders(Borders::TOP).title(" log ")),
            area,
        );
    }

    /// The progress line: a bar, then position, message and remaining time if they fit.
    fn bar(&self, width: u16) -> String {
        if self.length == 0 {
            return " before the first step".to_owned();
        }
        let whole = usize::from(width / 4).min(40);
        let progress = self.progress.clamp(0.0, 1.0);
        let full = (progress * whole as f64).round() as usize;
        let mut line = " ".to_owned() + &"█".repeat(full) + &"░".repeat(whole - full);
        let left = self.train_seconds * (1.0 - progress) / progress;
        let left = left.is_finite().then(|| format!("{} left", duration(left)));
        for part in [format!("{}/{} {}", self.position, self.length, self.unit), self.message.clone()]
            .into_iter()
            .chain(left)
        {
            if line.chars().count() + 2 + part.chars().count() <= usize::from(width) {
                line.push_str("  ");
                line.push_str(&part);
            }
        }
        line
    }

    fn footer(&self) -> &'static str {
        match self.mode {
            Mode::Asking if self.length == 0 => " Stop, with nothing saved?  q or y: yes   Esc or n: no",
            Mode::Asking => " Save and stop?  q or y: yes   Esc or n: no",
            Mode::Stopping => " Stops after this step.  Ctrl-C: at once, without saving",
            _ if self.keys => " q stop   ? keys   Ctrl-C stops, too",
            _ => " Ctrl-C stops",
        }
    }

    fn draw_curves(&self, frame: &mut Frame<'_>, area: Rect) {
        let all = || self.train.iter().chain(&self.validation);
        let most = |pick: fn(&(f64, f64)) -> f64| all().map(pick).fold(f64::NEG_INFINITY, f64::max);
        let block = Block::bordered().title(" nats per token, by step ");
        if self.train.is_empty() && self.validation.is_empty() {
            frame.render_widget(Paragraph::new("waiting for the first step").block(block), area);
            return;
        }
        let least = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
        let (low, high) = (self.entropy.unwrap_or(least).min(least), most(|point| point.1));
        let room = ((high - low) * 0.05).max(1e-3);
        let (low, high, last) = (low - room, high + room, most(|point| point.0).max(1.0));
        let floor: Vec<(f64, f64)> =
            self.entropy.iter().flat_map(|&entropy| [(0.0, entropy), (last, entropy)]).collect();
        // Lines have different markers, for terminals and readers without colours.
        let lines = [
            ("H(p)", "──", &floor, Marker::Custom('─'), Color::DarkGray),
            ("training", "⠒⠒", &self.train, Marker::Braille, Color::Yellow),
            ("validation", DOT, &self.validation, Marker::Dot, Color::Blue),
        ];
        let lines = lines.into_iter().filter(|line| !line.2.is_empty());
        let mut legend = vec![Span::raw(" ")];
        let mut curves = Vec::new();
        for (name, glyph, points, marker, colour) in lines {
            legend.push(Span::styled(glyph, Style::new().fg(colour)));
            legend.push(Span::raw(format!(" {name}  ")));
            let curve = Dataset::default().marker(marker).graph_type(GraphType::Line);
            curves.push(curve.style(Style::new().fg(colour)).data(points));
        }
        let labels = |from: f64, to: f64, digits: usize| {
            [from, f64::midpoint(from, to), to].map(|value| Line::from(format!("{value:.digits$}")))
        };
        let chart = Chart::new(curves)
            .block(block.title_bottom(Line::from(legend)))
            .x_axis(Axis::default().bounds([0.0, last]).labels(labels(0.0, last, 0)))
            .y_axis(Axis::default().bounds([low, high]).labels(labels(low, high, 2)));
        frame.render_widget(chart, area);
    }
}

fn draw_help(frame: &mut Frame<'_>, over: Rect) {
    let keys = [
        "q       stop: asks once, then saves a checkpoint",
        "Ctrl-C  the same without asking; twice: at once",
        "? or h  these keys",
        "Esc     close this, or continue the run",
        "",
        "A stopped run continues with train --resume.",
    ];
    let [area] = Layout::horizontal([Constraint::Length(52)]).flex(Flex::Center).areas(over);
    let [area] = Layout::vertical([Constraint::Length(keys.len() as u16 + 2)]).flex(Flex::Center).areas(area);
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(keys.map(Line::from).to_vec()).block(Block::bordered().title(" keys ")),
        area,
    );
}

/// Wraps a line to `width` columns, at spaces if possible.
fn wrap_line(line: &str, width: usize) -> Vec<&str> {
    let (mut lines, mut from, mut space, mut columns) = (Vec::new(), 0, None, 0);
    for (at, character) in line.char_indices() {
        let own = Span::raw(&line[at..at + character.len_utf8()]).width();
        if columns + own > width && at > from {
            let end = space.take().unwrap_or(at);
            lines.push(&line[from..end]);
            from = end;
            columns = Span::raw(&line[from..at]).width();
        }
        columns += own;
        if character == ' ' && at > from {
            space = Some(at + 1);
        }
    }
    lines.push(&line[from..]);
    lines
}

/// The ASCII replacement of a symbol; `None` for ASCII.
fn plain(symbol: &str) -> Option<&'static str> {
    Some(match symbol.chars().next()? {
        '\0'..='\x7f' => return None,
        '│' => "|",
        '┌' | '┐' | '└' | '┘' => "+",
        '\u{2800}'..='\u{28ff}' => ".",
        '•' => "o",
        '█' => "#",
        '─' | '░' | '−' => "-",
        '…' => "~",
        _ => "?",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::backend::TestBackend;
    use surprisal_engine::Evaluation;

    fn step(step: usize, train_nll: f64, tokens_per_second: f64, train_seconds: f64) -> Step {
        Step { step, progress: 0.0, train_nll, tokens_per_second, train_seconds }
    }

    /// An evaluation after `step` steps, of one token.
    fn evaluated(step: usize, nats: f64, source_nats: Option<f64>) -> Evaluated {
        Evaluated {
            epoch: 1.0,
            step,
            objective: nats + 0.1,
            train_nll: nats + 0.1,
            eval: Evaluation { total_nll: nats, tokens: 1, source_nats, ..Evaluation::default() },
            best: true,
            train_seconds: 3.0,
            tokens_per_second: 12345.0,
            left_seconds: 1.0,
        }
    }

    fn screen(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| state.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let rows = buffer.content().chunks(usize::from(width));
        rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>() + "\n").collect()
    }

    #[test]
    fn a_run_is_seen_as_it_goes() {
        let mut state = State { length: 300, unit: "steps".into(), ..State::default() };
        assert!(screen(&state, 100, 30).contains("waiting for the first step"));
        (0..3 * MAX_POINTS).for_each(|i| state.step(&step(i, 3.0 - i as f64 / 1e4, 777.0, 1.0)));
        assert!(state.train.len() <= MAX_POINTS && state.train.is_sorted_by(|a, b| a.0 < b.0));
        assert!(screen(&state, 100, 30).contains("777 tokens/s"));
        let mut state = State { length: 300, unit: "steps".into(), ..State::default() };
        for (step, nats) in [(100, 2.5), (200, 1.5)] {
            state.evaluated(&evaluated(step, nats, Some(0.25)));
        }
        state.sample = "Once upon a hen".into();
        state.log("a line\nand another");
        (state.position, state.progress, state.message, state.keys) =
            (210, 0.7, "train nll 1.6".into(), true);
        let shown = screen(&state, 120, 30);
        for part in [
            "step 200: validation 1.5000 nats",
            "+1.2500 to H(p)",
            "perplexity 4.482",
            "12,345 tokens/s",
            "Once upon a hen",
            "and another",
            "210/300 steps  train nll 1.6",
            "1.3 s left",
            "⠒⠒ training  • validation",
            "── H(p)",
            "nats per token, by step",
            "q stop   ? keys   Ctrl-C stops",
        ] {
            assert!(shown.contains(part), "no «{part}» in\n{shown}");
        }
        assert!(shown.chars().any(|c| ('\u{2801}'..='\u{28FF}').contains(&c)), "curves\n{shown}");
        let bar = shown.lines().find(|line| line.contains("210/300")).unwrap();
        assert_eq!((bar.matches('█').count(), bar.matches('░').count()), (21, 9), "{bar}");
        // Very small terminals.
        for (width, height) in [(1, 1), (20, 5), (80, 10)] {
            screen(&state, width, height);
        }
    }

    fn midst() -> State {
        let mut state = State { length: 300, unit: "steps".into(), keys: true, ..State::default() };
        (0..200).for_each(|i| state.step(&step(i, 3.0 - i as f64 / 1e3, 123_456.0, 59.0)));
        for step in [100, 200] {
            let (tokens_per_second, train_seconds) = (123_456.0, 59.0);
            state.evaluated(&Evaluated { tokens_per_second, train_seconds, ..evaluated(step, 2.4, None) });
        }
        (state.position, state.progress, state.message) = (200, 2.0 / 3.0, "train nll 2.5000".into());
        state
    }

    #[test]
    fn usual_sizes_show_all_of_it() {
        let mut state = midst();
        let row = "0.97  131500  0.4064  0.3124  1.367  0.4506  203,087  41 s  51 min 35 s";
        (0..50).for_each(|i| state.log(&format!("{i} {row}")));
        for (width, height) in [(60, 20), (80, 24), (120, 40)] {
            let shown = screen(&state, width, height);
            for part in [
                "step 200: validation 2.4000 nats per token",
                "perplexity 11.023",
                "123,456 tokens/s",
                "59 s of training",
                "⠒⠒ training  • validation",
                "200/300 steps  train nll 2.5000",
                "q stop   ? keys   Ctrl-C stops, too",
                "51 min 35 s",
                "49 0.97",
            ] {
                assert!(shown.contains(part), "no «{part}» at {width} × {height} in\n{shown}");
            }
            assert!(!shown.contains("H(p)"), "not known here\n{shown}");
        }
    }

    #[test]
    fn keys_do_what_the_footer_says() {
        let mut state = midst();
        let press = |state: &mut State, key: u8, sees: &str| {
            let stop = state.key(key);
            let shown = screen(state, 80, 24);
            assert!(shown.contains(sees), "no «{sees}» in\n{shown}");
            stop
        };
        for open in *b"?h" {
            assert!(!press(&mut state, open, "Ctrl-C  the same without asking"));
            assert!(!press(&mut state, ESC, "q stop"));
        }
        assert!(!screen(&state, 80, 24).contains("without asking"), "the help is closed");
        assert!(!press(&mut state, b'q', "Save and stop?"));
        assert!(!press(&mut state, b'n', "q stop"));
        assert!(!press(&mut state, b'q', "Save and stop?"));
        assert!(press(&mut state, b'q', "Stops after this step"), "asked once");
        assert!(!press(&mut state, b'q', "Stops"), "and heard once");
        assert!(press(&mut state, CTRL_C, "Ctrl-C: at once"), "but a second time is another signal");
        assert!(press(&mut midst(), CTRL_C, "Stops"), "without asking");
        let mut counted = State::default();
        assert!(!press(&mut counted, b'q', "with nothing saved?"));
        assert_eq!(keys(b"\x1b[Aq\x1bOPx\x1b[15~\x1b"), [b'q', b'x', ESC]);
    }

    #[test]
    fn without_utf8_everything_is_ascii_and_curves_differ() {
        let mut state = State { ascii: true, sample: "né — 馬".into(), ..midst() };
        state.entropy = Some(1.0);
        let shown = screen(&state, 80, 24);
        assert!(shown.is_ascii(), "{shown}");
        for part in ["-- H(p)", ".. training", "o validation", "+ nats", "###", "n? ? ?"] {
            assert!(shown.contains(part), "no «{part}» in\n{shown}");
        }
        let locale = |set: &'static [(&str, &str)]| {
            is_ascii(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(locale(&[]) && locale(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]));
        assert!(locale(&[("LANG", "de_DE.ISO-8859-1")]));
        assert!(!locale(&[("LANG", "C.utf8")]) && !locale(&[("LC_ALL", ""), ("LC_CTYPE", "cs_CZ.UTF-8")]));
    }

    #[test]
    fn long_lines_break_at_spaces() {
        assert_eq!(wrap_line("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrap_line("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap_line("馬馬馬", 4), ["馬馬", "馬"]);
        assert_eq!(wrap_line("", 4), [""]);
        assert_eq!(wrap_line("a", 0), ["a"]);
    }

    #[test]
    fn the_log_is_bounded() {
        let mut state = State::default();
        (0..1000).for_each(|i| state.log(&i.to_string()));
        assert_eq!((state.lines.len(), state.lines.back().map(String::as_str)), (MAX_LINES, Some("999")));
    }
}
