//! `train --tui` in a pseudo-terminal: the display, the keys, and the end.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::common::Bench;

const TAKEN: &str = "\x1b[?1049h";
const BACK: &str = "\x1b[?1049l";

/// A small model that trains longer than any test, in many short steps.
const CONFIG: &str = r#"
[model]
kind = "mlp"
context = 3
n_embd = 4
n_hidden = 8
[train]
steps = 10000000
batch_size = 4
block_size = 16
shards = 1
[eval]
every_epochs = 0
every_steps = 100
[sample]
tokens = 20
"#;

/// Shown when training steps are running.
const STARTED: &str = ": validation ";
const SMALL: &[&str] = &["train", "small.toml", "a.txt", "--tui", "--out", "run"];

/// A minimal terminal emulator for the dashboard.
struct Screen {
    rows: Vec<Vec<char>>,
    at: (usize, usize),
}

impl Screen {
    fn new(width: u16, height: u16) -> Self {
        Self { rows: vec![vec![' '; width.into()]; height.into()], at: (0, 0) }
    }

    /// Draws `text`, and returns an incomplete escape sequence at its end.
    fn draw<'a>(&mut self, mut text: &'a str) -> &'a str {
        while let Some(first) = text.chars().next() {
            let mut length = first.len_utf8();
            match first {
                '\x1b' => {
                    let Some(end) = text.find(|c: char| c.is_ascii_alphabetic()) else { return text };
                    length = end + 1;
                    let mut numbers = text[2..end].split(';').map(|n| n.parse::<usize>().unwrap_or(1));
                    match &text[end..length] {
                        "H" => self.at = (numbers.next().unwrap() - 1, numbers.next().unwrap_or(1) - 1),
                        "J" => self.rows.iter_mut().for_each(|row| row.fill(' ')),
                        _ => {}
                    }
                }
                '\r' => self.at.1 = 0,
                '\n' => self.at.0 += 1,
                shown => {
                    if let Some(cell) = self.rows.get_mut(self.at.0).and_then(|row| row.get_mut(self.at.1)) {
                        *cell = shown;
                    }
                    self.at.1 += 1;
                }
            }
            text = &text[length..];
        }
        text
    }

    fn text(&self) -> String {
        self.rows.iter().map(|row| row.iter().collect::<String>() + "\n").collect()
    }
}

/// A run in a pseudo-terminal, which `script` creates and connects to pipes.
struct Session {
    script: Child,
    keyboard: ChildStdin,
    /// Output since the last look.
    pieces: Receiver<Vec<u8>>,
    screen: Screen,
    /// All output, and the part that is not drawn yet.
    written: Vec<u8>,
    undrawn: Vec<u8>,
    folder: PathBuf,
}

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Session {
    fn start(bench: &Bench, arguments: &[&str], size: (u16, u16), set: &[(&str, &str)]) -> Self {
        Self::shell(bench, "\"$@\"", arguments, size, set)
    }

    /// Runs the shell script `run` with the binary and its arguments as `"$@"`. Memory is limited.
    fn shell(
        bench: &Bench,
        run: &str,
        arguments: &[&str],
        (width, height): (u16, u16),
        set: &[(&str, &str)],
    ) -> Self {
        bench.file("small.toml", CONFIG);
        bench.text("a.txt", 400);
        let binary = bench.command(&[]).get_program().to_string_lossy().into_owned();
        let arguments: String = arguments.iter().map(|argument| format!(" '{argument}'")).collect();
        let lines = format!(
            "stty rows {height} cols {width}\ntty > tty\nulimit -v 8000000\nset -- '{binary}'{arguments}\n{run}\n\
             code=$?\necho $code > code\nstty -a > after\nexit $code\n"
        );
        bench.file("run.sh", lines);
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", "exec sh run.sh", "/dev/null"]).current_dir(bench.path());
        for name in ["CI", "NO_COLOR", "LC_ALL", "LC_CTYPE"] {
            command.env_remove(name);
        }
        command.env("SHELL", "/bin/sh").env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
        command.envs(set.iter().copied());
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keyboard, mut shown) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let (send, pieces) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 1 << 12];
            while let Ok(read @ 1..) = shown.read(&mut bytes) {
                if send.send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            script,
            keyboard,
            pieces,
            screen: Screen::new(width.min(500), height.min(100)),
            written: Vec::new(),
            undrawn: Vec::new(),
            folder: bench.path().to_owned(),
        }
    }

    /// The run of most tests.
    fn small(bench: &Bench, set: &[(&str, &str)]) -> Self {
        Self::start(bench, SMALL, (80, 24), set)
    }

    /// Draws new output after waiting for it; false at the end of output.
    fn look(&mut self) -> bool {
        match self.pieces.recv_timeout(Duration::from_millis(50)) {
            Ok(bytes) => {
                self.written.extend_from_slice(&bytes);
                self.undrawn.extend_from_slice(&bytes);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        let whole = match std::str::from_utf8(&self.undrawn) {
            Ok(_) => self.undrawn.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8(self.undrawn[..whole].to_vec()).unwrap();
        let rest = self.screen.draw(&text).len();
        self.undrawn.drain(..whole - rest);
        true
    }

    /// Waits until the screen satisfies a condition.
    #[track_caller]
    fn until(&mut self, what: &str, seen: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let goes_on = self.look();
            let shown = self.screen.text();
            if seen(&shown) {
                return shown;
            }
            assert!(goes_on && started.elapsed() < PATIENCE, "{what} is not seen:\n{shown}");
        }
    }

    #[track_caller]
    fn sees(&mut self, part: &str) -> String {
        self.until(part, |shown| shown.contains(part))
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// The terminal's settings.
    fn settings(&self) -> String {
        let terminal = std::fs::read_to_string(self.folder.join("tty")).unwrap();
        let output = Command::new("stty").args(["-a", "-F", terminal.trim()]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits for the end; returns the exit code and all output.
    #[track_caller]
    fn end(mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        while self.look() {
            assert!(started.elapsed() < PATIENCE, "it does not end:\n{}", self.screen.text());
        }
        let written = String::from_utf8_lossy(&self.written).into_owned();
        let after = std::fs::read_to_string(self.folder.join("after")).unwrap();
        assert!(echoes(&after), "the keyboard is given back");
        if written.contains(TAKEN) {
            assert!(written.contains(BACK) && written.contains("\x1b[?25h"), "the screen is given back");
        }
        (self.script.wait().unwrap().code(), written)
    }
}

/// A failing test leaves no run behind: the run ends with its terminal.
impl Drop for Session {
    fn drop(&mut self) {
        drop(self.script.kill());
        drop(self.script.wait());
    }
}

fn echoes(settings: &str) -> bool {
    settings.split_whitespace().any(|word| word == "echo")
        && settings.split_whitespace().any(|word| word == "icanon")
}

fn checkpoints(bench: &Bench) -> usize {
    std::fs::read_dir(bench.path().join("run/checkpoints")).map_or(0, |entries| {
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("step_"))
            .count()
    })
}

#[test]
fn q_asks_once_and_then_saves_and_stops() {
    let bench = Bench::new();
    let mut session = Session::small(&bench, &[]);
    let shown = session.sees(STARTED);
    assert!(!echoes(&session.settings()), "keys are no part of the picture");
    for part in ["q stop", "? keys", "Ctrl-C stops", "tokens/s", "nats per token"] {
        assert!(shown.contains(part), "no «{part}» in\n{shown}");
    }
    assert!(!shown.contains("H(p)"), "nobody knows the entropy of this text:\n{shown}");
    session.press(b"?");
    session.sees("asks once");
    session.press(b"\x1b");
    session.until("the help is closed", |shown| !shown.contains("asks once"));
    session.press(b"q");
    session.sees("Save and stop?");
    session.press(b"\x1b");
    session.sees("q stop");
    // Arrow keys are escape sequences and have no effect.
    session.press(b"q");
    session.sees("Save and stop?");
    session.press(b"\x1b[A");
    session.press(b"x");
    session.press(b"q");
    let (code, written) = session.end();
    assert_eq!(code, Some(130), "{written}");
    let (_, after) = written.rsplit_once(BACK).unwrap();
    assert!(after.contains("the checkpoint is saved") && after.contains("--resume"), "{after}");
    assert!(checkpoints(&bench) > 0);
}

#[test]
fn ctrl_c_stops_and_a_second_ends_at_once() {
    let bench = Bench::new();
    let mut session = Session::small(&bench, &[]);
    session.sees(STARTED);
    session.press(b"\x03");
    assert_eq!(session.end().0, Some(130));
    assert!(checkpoints(&bench) > 0);

    // One update takes a minute, so the first signal is not handled yet.
    let long = ["train.grad_accumulation=100000", "train.batch_size=64"].map(|set| ["--set", set]).concat();
    let arguments = [&["train", "small.toml", "a.txt", "--tui", "--out", "long"][..], &long].concat();
    let mut session = Session::start(&bench, &arguments, (80, 24), &[]);
    session.sees("0/10000000 steps");
    session.press(b"\x03");
    session.sees("Ctrl-C: at once");
    session.press(b"\x03");
    let sent = Instant::now();
    assert_eq!(session.end().0, Some(130));
    assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
}

#[test]
fn the_bar_moves_with_the_budget() {
    let bench = Bench::new();
    let arguments = ["train", "small.toml", "a.txt", "--tui", "--out", "run", "--budget", "2s"];
    let mut session = Session::start(&bench, &arguments, (80, 24), &[]);
    session.until("a part of the bar", |shown| {
        shown
            .lines()
            .any(|line| line.contains("1/2 s  train nll ") && line.contains("█") && line.contains("░"))
    });
    let (code, written) = session.end();
    assert_eq!(code, Some(0), "{written}");
    assert!(written.rsplit_once(BACK).unwrap().1.contains("validation: "), "the lines stay");
}

#[test]
fn the_bar_moves_with_the_steps() {
    let bench = Bench::new();
    let mut session = Session::start(
        &bench,
        &[
            "train",
            "small.toml",
            "a.txt",
            "--tui",
            "--set",
            "train.steps=20000",
            "--set",
            "eval.every_steps=0",
        ],
        (80, 24),
        &[],
    );
    session.until("a part of the bar", |shown| {
        shown.lines().any(|line| line.contains("/20000 steps") && line.contains("█") && line.contains("░"))
    });
    session.press(b"\x03");
    session.end();
}

#[test]
fn where_nothing_can_be_drawn_there_are_plain_lines_and_a_note() {
    let bench = Bench::new();
    let cases =
        [("TERM", "dumb", "TERM is dumb"), ("TERM", "", "TERM is not set"), ("CI", "true", "CI is set")];
    for (i, (name, value, why)) in cases.into_iter().enumerate() {
        let out = format!("run{i}");
        let arguments = ["train", "small.toml", "a.txt", "--tui", "--out", &out, "--set", "train.steps=100"];
        let (code, written) = Session::start(&bench, &arguments, (80, 24), &[(name, value)]).end();
        assert_eq!(code, Some(0), "{written}");
        assert!(
            !written.contains(TAKEN) && written.contains("note: --tui") && written.contains(why),
            "{written}"
        );
        assert!(written.contains("validation: "), "{written}");
    }
    let ran = bench.run(&["train", "small.toml", "a.txt", "--tui", "--set", "train.steps=100"]).succeeded();
    assert!(ran.stderr.contains("note: --tui"), "{}", ran.stderr);
}

#[test]
fn other_locales_get_ascii_and_no_color_no_colours() {
    let bench = Bench::new();
    let mut session = Session::small(&bench, &[("LC_ALL", "C"), ("NO_COLOR", "1")]);
    let shown = session.sees(STARTED);
    assert!(shown.is_ascii(), "{shown}");
    assert!(shown.contains(".. training") && shown.contains("o validation"), "{shown}");
    session.press(b"\x03");
    let (code, written) = session.end();
    assert_eq!(code, Some(130));
    let (drawn, _) = written.rsplit_once(BACK).unwrap();
    assert!(!drawn.contains("\x1b[38;") && !drawn.contains("\x1b[33"), "no colours");
}

#[test]
fn a_terminal_that_closes_ends_the_run_with_a_checkpoint() {
    let bench = Bench::new();
    // Like an interactive shell, it forwards the hangup.
    let run = "trap 'kill -HUP $child' HUP\n\"$@\" & child=$!\nwait $child\nwait $child";
    let mut session = Session::shell(&bench, run, SMALL, (80, 24), &[]);
    session.sees(STARTED);
    session.script.kill().unwrap();
    session.script.wait().unwrap();
    let (started, code) = (Instant::now(), bench.path().join("code"));
    let code = loop {
        match std::fs::read_to_string(&code) {
            Ok(code) if code.ends_with('\n') => break code,
            _ => assert!(started.elapsed() < PATIENCE, "it does not end"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(code.trim(), "129");
    assert!(checkpoints(&bench) > 0);
}

#[test]
fn a_terminal_of_any_size_is_drawn_on() {
    let bench = Bench::new();
    for (i, size) in [(u16::MAX, u16::MAX), (1, 1)].into_iter().enumerate() {
        let out = format!("run{i}");
        let arguments = ["train", "small.toml", "a.txt", "--tui", "--out", &out, "--set", "train.steps=300"];
        let (code, written) = Session::start(&bench, &arguments, size, &[]).end();
        assert_eq!(code, Some(0), "{size:?}: {written}");
        assert!(written.contains(TAKEN));
    }
}

#[test]
fn the_log_has_a_whole_header_above_whole_rows() {
    let bench = Bench::new();
    for (i, (size, last)) in [((60, 20), "perplexity"), ((80, 24), "bits/byte")].into_iter().enumerate() {
        let out = format!("run{i}");
        // Rarely enough that rows stay on the screen.
        let often = ["--set", "eval.every_steps=5000"];
        let arguments = [&["train", "small.toml", "a.txt", "--tui", "--out", &out][..], &often].concat();
        let mut session = Session::start(&bench, &arguments, size, &[]);
        let row = |shown: &str| {
            let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
            let header = lines.iter().position(|line| line.trim_start().starts_with("epoch "))?;
            Some((lines[header].to_owned(), (*lines.get(header + 1)?).to_owned()))
        };
        let shown =
            session.until("a row with best", |shown| row(shown).is_some_and(|row| row.1.ends_with("  best")));
        let (header, row) = row(&shown).unwrap();
        let cells = |line: &str| -> Vec<String> {
            line.split("  ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
        };
        let (names, numbers) = (cells(&header), cells(&row));
        assert_eq!(names[..4], ["epoch", "step", "train nll", "val nats"], "{shown}");
        assert!(names.iter().any(|name| name == last), "no {last} at {size:?} in\n{shown}");
        // A number under each heading, and "best" at the end.
        assert_eq!(numbers.len(), names.len() + 1, "{shown}");
        assert_eq!((&*numbers[1], &*numbers[names.len()]), ("5000", "best"), "{shown}");
        session.press(b"\x03");
        assert_eq!(session.end().0, Some(130));
    }
}

#[test]
fn without_colours_curves_are_told_apart_by_their_marks() {
    let bench = Bench::new();
    let mut session = Session::small(&bench, &[("NO_COLOR", "1")]);
    // More marks than those in the legend.
    let shown = session.until("both curves", |shown| {
        let braille = shown.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count();
        braille > 2 && shown.matches('•').count() > 1 && shown.contains("⠒⠒ training  • validation")
    });
    assert!(!shown.contains("H(p)"), "{shown}");
    session.press(b"\x03");
    let (code, written) = session.end();
    assert_eq!(code, Some(130));
    let (drawn, _) = written.rsplit_once(BACK).unwrap();
    for colour in ["\x1b[38;", "\x1b[48;", "\x1b[33", "\x1b[34"] {
        assert!(!drawn.contains(colour), "{colour:?}");
    }
}
