//! Hostile configs, texts and outputs: each is refused with a message, within a second and within
//! bounded memory, and nothing is left behind. Unusual but valid texts are trained on.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{Bench, Ran, sentences};

/// The time limit of a refusal, including the start of the process and its threads.
const TIME: Duration = Duration::from_secs(1);
/// The limit of resident memory, in addition to the size of the files.
const MEMORY: u64 = 64 << 20;

/// Runs the binary; returns the result, peak memory (if the system reports it) and time.
fn watched(bench: &Bench, arguments: &[&str]) -> (Ran, Option<u64>, Duration) {
    let started = Instant::now();
    let mut command = bench.command(arguments);
    // Huge pages round up by 2 MiB what each thread touches, which is not what is measured.
    command.env("MIMALLOC_ALLOW_THP", "0");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = None;
    while child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < Duration::from_secs(60), "hangs: {arguments:?}");
        if let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            peak = peak.max(kibibytes.map(|kibibytes| kibibytes << 10));
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    let time = started.elapsed();
    (Ran::of(child.wait_with_output().unwrap(), arguments), peak, time)
}

/// Checks that files are unchanged and that the process ended quickly, with little memory and a
/// message.
#[track_caller]
fn refuses(name: &str, bench: &Bench, arguments: &[&str], code: i32, parts: &[&str]) {
    let before = bench.entries();
    let (ran, peak, time) = watched(bench, arguments);
    eprintln!(
        "{name}: {} ({time:.0?}, {} MiB)",
        ran.stderr.lines().next().unwrap_or(""),
        peak.unwrap_or(0) >> 20
    );
    assert_eq!(ran.code, code, "{name}: {}", ran.stderr);
    let ran = ran.refused(code, parts);
    assert!(ran.stderr.starts_with("error: ") || ran.stderr.contains("\nerror: "), "{name}: {}", ran.stderr);
    assert!(time < TIME, "{name} took {time:?}");
    assert!(peak.is_none_or(|peak| peak < MEMORY), "{name} took {} MiB", peak.unwrap() >> 20);
    assert_eq!(bench.entries(), before, "{name} left something behind");
}

#[test]
fn hostile_configs() {
    let nested = format!("[model]\nn_layer = {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let tables = format!("model{} = 1\n", ".a".repeat(100_000));
    let inline = format!("model = {}1{}\n", "{ a = ".repeat(50_000), " }".repeat(50_000));
    let huge = format!("# {}\n", "x".repeat(10_000_000));
    let keys: String = (0..20_000).map(|i| format!("k{i} = 1\n")).collect();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("an unknown key", b"[optim]\nlerning_rate = 1.0\n".to_vec(), ":2: unknown field `lerning_rate`"),
        ("a path for a name", b"[run]\nname = \"../../x\"\n".to_vec(), "unknown field `run`"),
        (
            "a wrong type",
            b"[train]\nbatch_size = [1]\n".to_vec(),
            ":2: train.batch_size takes a whole number",
        ),
        ("a zero", b"[train]\nbatch_size = 0\n".to_vec(), ":2: train.batch_size is 0"),
        ("a negative", b"[train]\nseed = -1\n".to_vec(), ":2: train.seed takes a whole number"),
        ("no number", b"[optim]\nlr = nan\n".to_vec(), ":2: optim.lr is NaN"),
        ("infinity", b"[optim]\nlr = inf\n".to_vec(), ":2: optim.lr is inf"),
        ("past infinity", b"[optim]\nlr = 1e400\n".to_vec(), ":2"),
        (
            "past 64 bits",
            b"[train]\nseed = 99999999999999999999\n".to_vec(),
            ":2: train.seed takes a whole number, 9",
        ),
        (
            "dimensions that no memory holds",
            b"[model]\nn_layer = 256\nn_embd = 1048576\n".to_vec(),
            "of memory",
        ),
        (
            "a batch that no memory holds",
            b"[train]\nbatch_size = 1048576\nblock_size = 1048576\n".to_vec(),
            "of memory",
        ),
        (
            "hidden units that no memory holds",
            b"[model]\nkind = \"mlp\"\nn_hidden = 16777216\nn_embd = 1048576\ncontext = 4096\n".to_vec(),
            "of memory",
        ),
        (
            "an order that no text has",
            b"[model]\nkind = \"ngram\"\norder = 4000000000\n".to_vec(),
            ":3: model.order",
        ),
        ("more shards than rows", b"[train]\nbatch_size = 2\nshards = 3\n".to_vec(), ":3: train.shards"),
        ("no shards", b"[train]\nshards = 0\n".to_vec(), ":2: train.shards"),
        ("an endless budget", b"[train]\nbudget = \"1e999h\"\n".to_vec(), ":2: train.budget"),
        ("endless epochs", b"[train]\nepochs = inf\n".to_vec(), ":2: train.epochs"),
        (
            "a time that is none",
            b"[checkpoint]\nevery_minutes = nan\n".to_vec(),
            ":2: checkpoint.every_minutes",
        ),
        ("a key twice", b"[train]\nseed = 1\nseed = 2\n".to_vec(), ":3: duplicate key"),
        ("100,000 lists in each other", nested.into_bytes(), "c.toml"),
        ("100,000 dots", tables.into_bytes(), "c.toml"),
        ("50,000 tables in each other", inline.into_bytes(), "c.toml"),
        ("20,000 keys", keys.into_bytes(), "unknown field"),
        ("ten megabytes", huge.into_bytes(), "at most 1 MiB"),
        ("no UTF-8", b"[train]\nseed = 1 # \xff\n".to_vec(), "c.toml"),
        ("no TOML", b"\0\0\0\0".to_vec(), "c.toml:1"),
    ];
    assert!(cases.len() >= 20);
    for (name, config, part) in cases {
        let bench = Bench::new();
        bench.text("a.txt", 200);
        bench.file("c.toml", config);
        refuses(name, &bench, &["train", "c.toml", "a.txt", "--out", "run"], 2, &[part]);
    }
}

#[test]
fn hostile_overrides() {
    let bench = Bench::new();
    bench.text("a.txt", 200);
    let deep = format!("model.n_layer={}", "[".repeat(100_000));
    let sets = [
        ("model.kind=../../x", "one of"),
        ("model.kind = {a = 1}", "--set"),
        ("model=1", "section.key=value"),
        ("train.batch_size=1e400", "--set"),
        ("train.seed=\u{1F980}", "--set"),
        ("optim.lr=1\nseed = 3", "--set"),
        (&deep, "--set"),
    ];
    for (set, part) in sets {
        refuses(
            &set[..set.len().min(40)],
            &bench,
            &["train", "a.txt", "--set", set, "--out", "run"],
            2,
            &[part],
        );
    }
}

#[test]
fn configs_that_are_no_files() {
    let bench = Bench::new();
    bench.text("a.txt", 100);
    std::fs::create_dir(bench.path().join("d.toml")).unwrap();
    refuses("a folder", &bench, &["train", "d.toml", "a.txt"], 2, &["d.toml", "no plain file"]);
    #[cfg(unix)]
    {
        assert!(
            std::process::Command::new("mkfifo").arg(bench.path().join("f.toml")).status().unwrap().success()
        );
        refuses("a pipe", &bench, &["train", "f.toml", "a.txt"], 2, &["f.toml", "no plain file"]);
        std::os::unix::fs::symlink("l.toml", bench.path().join("l.toml")).unwrap();
        refuses("a link to itself", &bench, &["train", "l.toml", "a.txt"], 2, &["l.toml"]);
        std::os::unix::fs::symlink("/dev/zero", bench.path().join("z.toml")).unwrap();
        refuses("an endless device", &bench, &["train", "z.toml", "a.txt"], 2, &["z.toml", "no plain file"]);
    }
}

#[cfg(unix)]
#[test]
fn outputs_that_lead_elsewhere() {
    let bench = Bench::new();
    bench.text("a.txt", 100);
    bench.file("mine/precious", "mine");
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, bench.path().join(name)).unwrap();
    link("nowhere", "dangling");
    link("circle", "circle");
    link("mine", "linked");
    link("/dev/null", "null");
    let long = "x".repeat(300);
    for (out, part) in [
        ("dangling", "dangling"),
        ("circle", "circle"),
        ("linked", "already there"),
        ("null", "null"),
        ("a.txt", "a.txt"),
        ("a.txt/run", "a.txt"),
        ("/proc/run", "/proc/run"),
        (long.as_str(), "too long"),
    ] {
        let name = if out.len() > 100 { "a long name" } else { out };
        refuses(name, &bench, &["train", "a.txt", "--set", "model.kind=uniform", "--out", out], 1, &[part]);
    }
    assert_eq!(std::fs::read_to_string(bench.path().join("mine/precious")).unwrap(), "mine");
}

/// The reader's buffer ends at 2^18.
fn at_the_buffers_end(bytes: &[u8]) -> Vec<u8> {
    let mut text = sentences(20_000).into_bytes();
    let at = (1 << 18) - 1;
    text.splice(at..at, bytes.iter().copied());
    text
}

#[test]
fn hostile_texts() {
    let wide: Vec<u8> = [0xFF, 0xFE]
        .into_iter()
        .chain(sentences(50).encode_utf16().chain([0xD800]).flat_map(u16::to_le_bytes))
        .collect();
    let cut = [sentences(100).as_bytes(), b"\xF0\x9F\xA6"].concat();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", Vec::new(), &["a.txt is empty"]),
        ("one byte", b"x".to_vec(), &["hint"]),
        ("one newline", b"\n".to_vec(), &["hint"]),
        ("a stray byte at the buffer's end", at_the_buffers_end(b"\xFF"), &["offset 262143", "byte"]),
        ("half a character at the buffer's end", at_the_buffers_end(b"\xE2\x82"), &["offset 262143", "byte"]),
        ("half a character at the end", cut, &["0xf0", "byte"]),
        ("half a character of UTF-16", wide, &["UTF-16", "line 51"]),
        ("a NUL", sentences(90).replace("nothing", "no\0thing").into_bytes(), &["a.txt has a NUL on line"]),
        ("a NUL in two bytes", [sentences(90).as_bytes(), b"\xC0\x80"].concat(), &["0xc0"]),
        ("half a surrogate pair", [sentences(90).as_bytes(), b"\xED\xA0\x80"].concat(), &["0xed"]),
        ("past U+10FFFF", [sentences(90).as_bytes(), b"\xF4\x90\x80\x80"].concat(), &["0xf4"]),
        ("shorter than a window", b"ab ab ab ab ab ab".to_vec(), &["block_size", "hint"]),
    ];
    for (name, text, parts) in cases {
        let bench = Bench::new();
        bench.file("a.txt", text);
        refuses(name, &bench, &["train", "a.txt", "--out", "run"], 1, parts);
    }
}

#[test]
fn texts_that_are_no_files() {
    let bench = Bench::new();
    bench.file("empty.txt", "");
    bench.text("a.txt", 100);
    std::fs::create_dir(bench.path().join("nothing")).unwrap();
    refuses("a folder of nothing", &bench, &["train", "nothing"], 1, &["nothing", "no text file"]);
    refuses(
        "validation of nothing",
        &bench,
        &["train", "a.txt", "--set", "data.val=[\"empty.txt\"]"],
        1,
        &["empty"],
    );
    #[cfg(unix)]
    {
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, bench.path().join(name)).unwrap();
        refuses("an endless device", &bench, &["train", "/dev/zero"], 1, &["/dev/zero", "neither"]);
        link("circle", "circle");
        refuses("a link to itself", &bench, &["train", "circle"], 1, &["circle"]);
        refuses("a file without a size", &bench, &["train", "/proc/self/status"], 1, &["/proc/self/status"]);
        // Two links to the folder itself: 2^64 paths, one folder.
        link(".", "nothing/x");
        link(".", "nothing/y");
        refuses("a maze of links", &bench, &["train", "nothing"], 1, &["nothing", "no text file"]);
    }
}

#[test]
fn odd_texts_are_trained_on() {
    let line = "a long line without an end, and more of it to come; ".repeat(330_000);
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("a line of 17 MB", line.into_bytes(), "byte", ""),
        ("UTF-16", sentences(40).encode_utf16().flat_map(u16::to_le_bytes).collect(), "char", ""),
        ("CRLF", sentences(40).replace('\n', "\r\n").into_bytes(), "char", "CRLF"),
        ("a byte order mark", [b"\xEF\xBB\xBF", sentences(40).as_bytes()].concat(), "char", ""),
        ("a character across the buffer's end", at_the_buffers_end("\u{20AC}".as_bytes()), "char", ""),
        ("emoji, joined and combined", "👩‍👩‍👧‍👦 e\u{301}\u{323} ".repeat(60).into_bytes(), "char", ""),
        ("right to left and zero width", "שלום\u{200F}\u{200B} مرحبا ".repeat(60).into_bytes(), "word", ""),
        ("no UTF-8, as bytes", at_the_buffers_end(b"\xFF\xC0\x80"), "byte", ""),
        ("one character again and again", b"a".repeat(3000), "char", ""),
        ("white space alone, as words", b" \t\n \n".repeat(300), "word", ""),
    ];
    for (name, text, tokenizer, note) in cases {
        let bench = Bench::new();
        let size = text.len() as u64;
        bench.file("a.txt", text);
        let kind = format!("tokenizer.kind={tokenizer}");
        let arguments = [
            "train",
            "a.txt",
            "--out",
            "run",
            "--json",
            "--set",
            &kind,
            "--set",
            "model.kind=ngram",
            "--set",
            "model.smoothing=add_k",
        ];
        let (ran, peak, time) = watched(&bench, &arguments);
        let ran = ran.succeeded();
        eprintln!("{name}: {time:.0?}, {} MiB", peak.unwrap_or(0) >> 20);
        assert!(ran.stderr.contains(note), "{name}: {}", ran.stderr);
        let result = ran.result();
        assert!(result["eval"]["nats_per_token"].as_f64().unwrap() > -1e-9, "{name}: {result}");
        // A token takes several bytes in each of several forms.
        assert!(peak.is_none_or(|peak| peak < MEMORY + 40 * size), "{name} took {} MiB", peak.unwrap() >> 20);
    }
}

/// The memory estimate that a command printed, in bytes.
fn stated(stderr: &str) -> u64 {
    let (_, size) = stderr.lines().find_map(|line| line.split_once("counting needs at most ")).unwrap();
    let (number, unit) = size.split_once(' ').unwrap();
    let unit = ["B", "kB", "MB", "GB"].iter().position(|&other| other == unit).unwrap();
    (number.parse::<f64>().unwrap() * 1000_f64.powi(unit as i32)) as u64
}

#[test]
fn a_line_of_100_mb_is_counted() {
    const SIZE: usize = 100_000_000;
    let scattered = |i: usize| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut words = Vec::with_capacity(SIZE + 1000);
    while words.len() < SIZE {
        // About 300 bytes each.
        words.extend(scattered(words.len()).to_string().repeat(15).bytes());
        words.push(b' ');
    }
    let tokens = words.iter().filter(|&&byte| byte == b' ').count();
    let characters = (0..SIZE).map(|i| b'a' + (scattered(i) >> 40) as u8 % 26).collect();
    // Distinct words, one word as long as the text (which is cut, with a note), and characters.
    let cases: [(&str, Vec<u8>, u64, &str); 3] = [
        ("word", words, tokens as u64, ""),
        ("word", b"w".repeat(SIZE), 6, "cut in 5 places"),
        ("char", characters, SIZE as u64, ""),
    ];
    for (tokenizer, text, tokens, note) in cases {
        let bench = Bench::new();
        bench.file("a.txt", &text);
        drop(text);
        let arguments = ["count", "a.txt", "--order", "3", "--tokenizer", tokenizer, "--out", "m.counts"];
        let (ran, peak, time) = watched(&bench, &arguments);
        if ran.code == 2 && ran.stderr.contains("of memory") {
            // A machine with too little memory gets a message.
            continue;
        }
        let ran = ran.succeeded();
        let (stated, peak) = (stated(&ran.stderr), peak.unwrap_or(0));
        eprintln!("{time:.1?}, {} MiB, {} MiB stated\n{}", peak >> 20, stated >> 20, ran.stderr);
        // With </s>.
        let counted: String =
            ran.stderr.split(" tokens").next().unwrap().chars().rev().take_while(|c| *c != ' ').collect();
        let counted: String = counted.chars().rev().filter(char::is_ascii_digit).collect();
        assert_eq!(counted.parse::<u64>().unwrap(), tokens + 1, "{}", ran.stderr);
        assert_eq!(ran.stderr.contains("cut in"), !note.is_empty(), "{}", ran.stderr);
        assert!(ran.stderr.contains(note), "{}", ran.stderr);
        // The estimate is for counting; the token ids or the vocabulary, of the size of the text,
        // exist before.
        assert!(peak < stated + MEMORY + 9 * SIZE as u64, "took {} MiB", peak >> 20);
        assert!(tokenizer == "word" || peak < stated, "took {} MiB of {}", peak >> 20, stated >> 20);
    }
}
