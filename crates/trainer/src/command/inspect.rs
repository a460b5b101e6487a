//! `surprisal inspect`: what a model or a text is.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli;
use crate::failure::{Failure, Result};
use crate::models;
use crate::output::{Output, bytes, duration, thousands};

/// Runs the command.
pub(crate) fn run(arguments: &cli::Inspect, output: &Output) -> Result<()> {
    let path = &arguments.path;
    if path.is_dir() || models::is_model_file(path) { model(path, output) } else { text(path, output) }
}

fn model(path: &Path, output: &Output) -> Result<()> {
    let loaded = models::load(path)?;
    let record = loaded.last_result();
    if output.json() {
        return output.event(&json!({
            "event": "inspect", "kind": loaded.kind, "parameters": loaded.parameters,
            "vocab_size": loaded.model.vocab_size(), "tokenizer": loaded.tokenizer.kind().to_string(),
            "details": loaded.details, "record": record,
        }));
    }
    let mut lines = vec![
        ("model", loaded.kind.clone()),
        ("parameters", thousands(loaded.parameters)),
        (
            "vocabulary",
            format!("{} tokens ({})", thousands(loaded.model.vocab_size() as u64), loaded.tokenizer.kind()),
        ),
    ];
    lines.extend(loaded.details.iter().map(|(key, value)| (key.as_str(), value.clone())));
    if let Some(record) = &record {
        let number = |pointer: &str| record.pointer(pointer).and_then(Value::as_f64);
        if let (Some(nats), Some(perplexity)) = (number("/eval/nats_per_token"), number("/eval/perplexity")) {
            lines.push(("validation", format!("{nats:.4} nats a token, perplexity {perplexity:.3}")));
        }
        if let (Some(steps), Some(seconds)) = (number("/steps"), number("/train_seconds")) {
            lines.push(("training", format!("{} steps in {}", thousands(steps as u64), duration(seconds))));
        }
    }
    output.data(&lines.iter().map(|(label, value)| format!("{label:<18}{value}\n")).collect::<String>())
}

/// Counts over a text, in one pass with a small buffer.
#[derive(Debug, Default)]
struct Counts {
    bytes: u64,
    lines: u64,
    words: u64,
    carriage_returns: u64,
    nuls: u64,
    longest_line: u64,
    values: BTreeMap<u8, u64>,
    characters: u64,
}

fn text(path: &Path, output: &Output) -> Result<()> {
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot read {}: {error}", path.display()));
    let mut file = std::fs::File::open(path).map_err(cannot)?;
    let mut counts = Counts::default();
    let mut buffer = vec![0u8; 1 << 16];
    let (mut in_word, mut line) = (false, 0u64);
    loop {
        let read = file.read(&mut buffer).map_err(cannot)?;
        if read == 0 {
            break;
        }
        counts.bytes += read as u64;
        for &byte in &buffer[..read] {
            *counts.values.entry(byte).or_default() += 1;
            // Every byte but a continuation byte starts a character.
            counts.characters += u64::from(byte & 0xC0 != 0x80);
            line += 1;
            if byte == b'\n' {
                counts.lines += 1;
                counts.longest_line = counts.longest_line.max(line);
                line = 0;
            }
            counts.carriage_returns += u64::from(byte == b'\r');
            counts.nuls += u64::from(byte == 0);
            let separator = matches!(byte, 0 | b'\t' | b'\n' | b'\r' | b' ');
            counts.words += u64::from(!separator && !in_word);
            in_word = !separator;
        }
    }
    counts.longest_line = counts.longest_line.max(line);
    let entropy: f64 = counts
        .values
        .values()
        .map(|&count| {
            let p = count as f64 / counts.bytes as f64;
            -p * p.log2()
        })
        .sum();
    if output.json() {
        return output.event(&json!({
            "event": "inspect", "kind": "text", "bytes": counts.bytes, "characters": counts.characters,
            "lines": counts.lines, "words": counts.words, "distinct_bytes": counts.values.len(),
            "longest_line_bytes": counts.longest_line, "carriage_returns": counts.carriage_returns,
            "nuls": counts.nuls, "unigram_bits_per_byte": entropy,
        }));
    }
    let lines = [
        ("text", path.display().to_string()),
        ("bytes", format!("{} ({})", thousands(counts.bytes), bytes(counts.bytes))),
        ("characters", thousands(counts.characters)),
        ("lines", format!("{} (longest {} bytes)", thousands(counts.lines), thousands(counts.longest_line))),
        ("words", thousands(counts.words)),
        ("distinct bytes", thousands(counts.values.len() as u64)),
        ("order-0 entropy", format!("{entropy:.4} bits a byte")),
        ("CR, NUL", format!("{}, {}", thousands(counts.carriage_returns), thousands(counts.nuls))),
    ];
    output.data(&lines.iter().map(|(label, value)| format!("{label:<18}{value}\n")).collect::<String>())
}
