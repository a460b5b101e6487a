//! Shared parts of the black-box tests, which run the binary in an empty folder.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::new_without_default,
    reason = "test helpers: a test fails aloud where something is wrong"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// An empty folder to run the binary in.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();

        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A small text with some structure: enough for any tokenizer, small enough for a test.
    pub fn text(&self, name: &str, lines: usize) -> PathBuf {
        self.file(name, sentences(lines))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("surprisal"));
        command.current_dir(self.path()).args(arguments).stdin(Stdio::null());
        command.env("SURPRISAL_CACHE", ".cache").env("BROWSER", "true");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap(), arguments)
    }

    /// The names in the folder, sorted.
    pub fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Sentences from a tiny invented grammar.
pub fn sentences(lines: usize) -> String {
    let who = ["the cat", "a dog", "one bird", "the old man"];
    let does = ["sees", "likes", "follows", "hears"];
    let what = ["the rain.", "a song.", "the sea.", "nothing."];
    // A linear congruential sequence is random enough here, and the same everywhere.
    let mut state = 12345u32;
    let mut pick = |n: usize| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 16) as usize % n
    };
    (0..lines).map(|_| format!("{} {} {}\n", who[pick(4)], does[pick(4)], what[pick(4)])).collect()
}

/// A finished process.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    arguments: String,
}

impl Ran {
    pub fn of(output: Output, arguments: &[&str]) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            arguments: arguments.join(" "),
        }
    }

    /// Checks that the process succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "surprisal {}\n{}", self.arguments, self.stderr);
        self
    }

    /// Checks that the process ended with `code` and a message that contains all `parts`, without a
    /// panic.
    #[track_caller]
    pub fn refused(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "surprisal {}\n{}{}", self.arguments, self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no «{part}» in:\n{}", self.stderr);
        }
        self
    }

    /// Standard output as JSON lines.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// The last JSON line.
    #[track_caller]
    pub fn result(&self) -> Value {
        self.events().pop().expect("no line on standard output")
    }
}

/// Cuts the weights of a Hugging Face folder into two files in bf16, and gives its weight map.
pub fn shard(bench: &Bench, folder: &str) -> serde_json::Map<String, Value> {
    let path = bench.path().join(folder);
    let bytes = std::fs::read(path.join("model.safetensors")).unwrap();
    let (header, data) = bytes[8..].split_at(u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize);
    let header: serde_json::Map<String, Value> = serde_json::from_slice(header).unwrap();
    let (mut shards, mut map) = ([Vec::new(), Vec::new()], serde_json::Map::new());
    let mut headers = [serde_json::Map::new(), serde_json::Map::new()];
    for (i, (name, tensor)) in header.iter().filter(|(name, _)| *name != "__metadata__").enumerate() {
        let at = |n: usize| tensor["data_offsets"][n].as_u64().unwrap() as usize;
        // bf16 is the upper half of f32.
        let half: Vec<u8> = data[at(0)..at(1)].chunks(4).flat_map(|value| [value[2], value[3]]).collect();
        let shard = &mut shards[i % 2];
        let offsets = [shard.len(), shard.len() + half.len()];
        shard.extend(half);
        headers[i % 2].insert(
            name.clone(),
            json!({ "dtype": "BF16", "shape": tensor["shape"], "data_offsets": offsets }),
        );
        map.insert(name.clone(), json!(format!("model-0000{}-of-00002.safetensors", i % 2 + 1)));
    }
    for (i, (header, shard)) in headers.iter().zip(&shards).enumerate() {
        let header = serde_json::to_vec(header).unwrap();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], &header, shard].concat();
        bench.file(&format!("{folder}/model-0000{}-of-00002.safetensors", i + 1), bytes);
    }
    std::fs::remove_file(path.join("model.safetensors")).unwrap();
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    bench.file(&format!("{folder}/model.safetensors.index.json"), index.to_string());
    map
}

/// A text outside of the project, or `None` after printing that the test is skipped.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("{name} is not beside the project"));
    None
}

/// Prints that a test is skipped, and why.
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// The flags of settings.
pub fn set<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    settings.iter().flat_map(|it| ["--set", it]).collect()
}

/// A file of the repository.
pub fn repository(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name).to_string_lossy().into_owned()
}

/// The configs of the repository, in order.
pub fn configs() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository("configs")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    files
}
