//! `train --tui`: a run as it happens, on the terminal's other screen. It reads no keys: Ctrl-C ends the run as always.

use std::collections::VecDeque;
use std::io::Stderr;
use std::time::{Duration, Instant};

use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Wrap};
use ratatui::{Frame, Terminal};
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::output::{duration, number, thousands};

/// A picture at most this often.
const EVERY: Duration = Duration::from_millis(150);
/// Lines that are kept for the other screen.
const LINES: usize = 200;
/// Points of the training curve that are kept: more than a screen can show.
const POINTS: usize = 2000;

/// The screen, and what is on it.
pub(crate) struct Dashboard {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    state: State,
    drawn: Option<Instant>,
}

/// What a run has told so far.
#[derive(Debug, Default)]
struct State {
    position: u64,
    length: u64,
    unit: String,
    message: String,
    train: Vec<(f64, f64)>,
    validation: Vec<(f64, f64)>,
    entropy: Option<f64>,
    tokens_per_second: f64,
    train_seconds: f64,
    lines: VecDeque<String>,
    sample: String,
}

impl std::fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dashboard").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Dashboard {
    /// Takes the other screen.
    ///
    /// # Errors
    /// When standard error is no terminal that has one.
    pub(crate) fn open() -> Result<Self> {
        let cannot = |error| Failure::failed(format!("cannot draw on this terminal: {error}"));
        execute!(std::io::stderr(), EnterAlternateScreen, Hide).map_err(cannot)?;
        let terminal = Terminal::new(CrosstermBackend::new(std::io::stderr())).map_err(cannot)?;
        Ok(Self { terminal, state: State::default(), drawn: None })
    }

    /// A line for people.
    pub(crate) fn say(&mut self, line: &str) {
        self.state.say(line);
        self.draw(true);
    }

    /// How long the run is.
    pub(crate) fn start(&mut self, length: u64, unit: &str) {
        (self.state.length, self.state.unit) = (length, unit.to_owned());
    }

    /// How far it is.
    pub(crate) fn advance(&mut self, position: u64, message: impl FnOnce() -> String) {
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= EVERY) {
            (self.state.position, self.state.message) = (position, message());
            self.draw(false);
        }
    }

    /// Where training stands after `step` updates: −ln q of its tokens on average lately, and its pace.
    pub(crate) fn moment(&mut self, step: usize, nll: f64, tokens_per_second: f64, train_seconds: f64) {
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= EVERY) {
            self.state.moment(step, nll, tokens_per_second, train_seconds);
            self.draw(true);
        }
    }

    /// What goes into the run's metrics.
    pub(crate) fn event(&mut self, event: &Value) {
        self.state.event(event);
        self.draw(true);
    }

    /// What the model writes just now.
    pub(crate) fn sample(&mut self, text: &str) {
        text.clone_into(&mut self.state.sample);
        self.draw(true);
    }

    /// The lines that were said, for the screen that stays.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &String> {
        self.state.lines.iter()
    }

    fn draw(&mut self, now: bool) {
        if now || self.drawn.is_none_or(|drawn| drawn.elapsed() >= EVERY) {
            let state = &self.state;
            // A terminal that is gone is no reason to end a run.
            drop(self.terminal.draw(|frame| state.draw(frame)));
            self.drawn = Some(Instant::now());
        }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        drop(self.terminal.backend_mut().flush());
        drop(execute!(std::io::stderr(), LeaveAlternateScreen, Show));
    }
}

impl State {
    fn say(&mut self, line: &str) {
        for line in line.lines() {
            self.lines.push_back(line.to_owned());
        }
        while self.lines.len() > LINES {
            self.lines.pop_front();
        }
    }

    fn moment(&mut self, step: usize, nll: f64, tokens_per_second: f64, train_seconds: f64) {
        if self.train.len() >= POINTS {
            // Every other point: the curve gets coarser as it gets longer.
            let mut keep = false;
            self.train.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.train.push((step as f64, nll));
        (self.tokens_per_second, self.train_seconds) = (tokens_per_second, train_seconds);
    }

    fn event(&mut self, event: &Value) {
        let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_f64);
        match event["event"].as_str() {
            Some("epoch") => {
                if let (Some(step), Some(nll)) = (number("/step"), number("/train_nll")) {
                    self.train.push((step, nll));
                }
                if let (Some(step), Some(nats)) = (number("/step"), number("/eval/nats_per_token")) {
                    self.validation.push((step, nats));
                }
                self.entropy = number("/eval/source_entropy").or(self.entropy);
                self.tokens_per_second = number("/tokens_per_second").unwrap_or(0.0);
                self.train_seconds = number("/train_seconds").unwrap_or(0.0);
            }
            Some("sample") => event["text"].as_str().unwrap_or_default().clone_into(&mut self.sample),
            _ => {}
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [top, middle, bottom, progress] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(8),
            Constraint::Length(9),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let [curves, sample] =
            Layout::horizontal([Constraint::Percentage(62), Constraint::Percentage(38)]).areas(middle);
        frame.render_widget(Line::from(self.headline()), top);
        self.draw_curves(frame, curves);
        let written = Paragraph::new(self.sample.as_str()).wrap(Wrap { trim: false });
        frame.render_widget(written.block(Block::bordered().title(" it writes ")), sample);
        let room = usize::from(bottom.height.saturating_sub(2));
        let from = self.lines.len().saturating_sub(room);
        let lines: Vec<Line<'_>> =
            self.lines.iter().skip(from).map(|line| Line::from(line.as_str())).collect();
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" log ")), bottom);
        let ratio = self.position as f64 / self.length.max(1) as f64;
        let gauge = Gauge::default()
            .ratio(ratio.clamp(0.0, 1.0))
            .label(format!("{}/{} {}  {}", self.position, self.length, self.unit, self.message))
            .gauge_style(Style::new().fg(Color::Blue));
        frame.render_widget(gauge, progress);
    }

    fn headline(&self) -> String {
        let mut line = " surprisal".to_owned();
        if self.train.is_empty() {
            return line;
        }
        if let Some((step, nats)) = self.validation.last() {
            line.push_str(&format!(
                "   step {step:.0}: validation {nats:.4} nats a token, perplexity {}",
                number(nats.exp(), 3)
            ));
            if let Some(entropy) = self.entropy {
                line.push_str(&format!(", {:+.4} to H(p)", nats - entropy));
            }
        }
        line.push_str(&format!(
            "   {} tokens/s, {} of training",
            thousands(self.tokens_per_second as u64),
            duration(self.train_seconds)
        ));
        line
    }

    fn draw_curves(&self, frame: &mut Frame<'_>, area: ratatui::layout::Rect) {
        let all = || self.train.iter().chain(&self.validation);
        let most = |pick: fn(&(f64, f64)) -> f64| all().map(pick).fold(f64::NEG_INFINITY, f64::max);
        let block =
            Block::bordered().title(" nats a token: training (yellow), validation (blue), H(p) (grey) ");
        if self.train.is_empty() && self.validation.is_empty() {
            frame.render_widget(Paragraph::new("waiting for the first step").block(block), area);
            return;
        }
        let least = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
        let (low, high) = (self.entropy.unwrap_or(least).min(least), most(|point| point.1));
        let room = ((high - low) * 0.05).max(1e-3);
        let (low, high, last) = (low - room, high + room, most(|point| point.0).max(1.0));
        let floor = self.entropy.map(|entropy| [(0.0, entropy), (last, entropy)]);
        let line = |points, colour| {
            Dataset::default()
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(Style::new().fg(colour))
                .data(points)
        };
        let mut lines = vec![line(&self.train, Color::Yellow), line(&self.validation, Color::Blue)];
        if let Some(floor) = &floor {
            lines.push(line(floor, Color::DarkGray));
        }
        let labels = |from: f64, to: f64, digits: usize| {
            [from, f64::midpoint(from, to), to].map(|value| Line::from(format!("{value:.digits$}")))
        };
        let chart = Chart::new(lines)
            .block(block)
            .x_axis(Axis::default().bounds([0.0, last]).labels(labels(0.0, last, 0)))
            .y_axis(Axis::default().bounds([low, high]).labels(labels(low, high, 2)));
        frame.render_widget(chart, area);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::backend::TestBackend;
    use serde_json::json;

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
        (0..3 * POINTS).for_each(|step| state.moment(step, 3.0 - step as f64 / 1e4, 777.0, 1.0));
        assert!(state.train.len() <= POINTS && state.train.is_sorted_by(|a, b| a.0 < b.0));
        assert!(screen(&state, 100, 30).contains("777 tokens/s"));
        let mut state = State { length: 300, unit: "steps".into(), ..State::default() };
        for (step, nats) in [(100, 2.5), (200, 1.5)] {
            state.event(&json!({
                "event": "epoch", "step": step, "train_nll": nats + 0.1, "tokens_per_second": 12345.0, "train_seconds": 3.0,
                "eval": { "nats_per_token": nats, "source_entropy": 0.25 },
            }));
        }
        state.event(&json!({ "event": "sample", "text": "Once upon a hen" }));
        state.say("a line\nand another");
        (state.position, state.message) = (210, "train nll 1.6".into());
        let shown = screen(&state, 120, 30);
        for part in [
            "step 200: validation 1.5000 nats",
            "+1.2500 to H(p)",
            "12,345 tokens/s",
            "Once upon a hen",
            "and another",
            "210/300 steps  train nll 1.6",
        ] {
            assert!(shown.contains(part), "no «{part}» in\n{shown}");
        }
        assert!(shown.chars().any(|c| ('\u{2801}'..='\u{28FF}').contains(&c)), "curves\n{shown}");
        // As small as a terminal may get.
        for (width, height) in [(1, 1), (20, 5), (80, 10)] {
            screen(&state, width, height);
        }
    }

    #[test]
    fn the_log_is_bounded() {
        let mut state = State::default();
        (0..1000).for_each(|i| state.say(&i.to_string()));
        assert_eq!((state.lines.len(), state.lines.back().map(String::as_str)), (LINES, Some("999")));
    }
}
