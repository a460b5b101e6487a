//! Timings of word tokenization: one JSON line per round and thread count.
//!
//! `cargo run --release -p surprisal-text --example words -- TEXT [ROUNDS] [THREADS,...]
//! [line|stream]`
//!
//! `learn` reads the text and makes the vocabulary and the ids; `write` and `read` are for
//! `tokenizer.json`; `encode` encodes the text again with the vocabulary that was read back. CPU
//! seconds and peak memory come from the kernel (Linux only).
#![expect(clippy::print_stdout, reason = "its output")]

use std::path::PathBuf;
use std::time::Instant;

use surprisal_text::{
    Corpus, DataOptions, EncodeOptions, InputOptions, LiteralSpecials, TextMode, Tokenizer, TokenizerKind,
    encode_files,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = PathBuf::from(arguments.first().ok_or("name a text")?);
    let rounds: usize = arguments.get(1).map_or(Ok(3), |text| text.parse())?;
    let threads: Vec<usize> = arguments
        .get(2)
        .map_or("1,2", String::as_str)
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let mode =
        if arguments.get(3).is_some_and(|mode| mode == "stream") { TextMode::Stream } else { TextMode::Line };
    for _ in 0..rounds {
        for &threads in &threads {
            let encode_options = EncodeOptions {
                threads,
                literal_specials: LiteralSpecials::Skip,
                ..EncodeOptions::default()
            };
            let options = DataOptions {
                train: vec![text.clone()],
                val: vec![text.clone()],
                mode,
                encode_options,
                ..DataOptions::default()
            };
            let start = (Instant::now(), cpu_seconds());
            let corpus = Corpus::load(&options)?;
            let (tokenizer, tokens) = corpus.tokenize_train(TokenizerKind::Word)?;
            let (wall, cpu) = (start.0.elapsed().as_secs_f64(), cpu_seconds() - start.1);
            let peak = peak_bytes();
            let start = Instant::now();
            let json = tokenizer.to_json()?;
            let write = start.elapsed().as_secs_f64();
            let start = Instant::now();
            let again = Tokenizer::from_json(&json)?;
            let read = start.elapsed().as_secs_f64();
            let start = Instant::now();
            let encoded =
                encode_files(std::slice::from_ref(&text), &again, &InputOptions::default(), encode_options)?
                    .tokens;
            let encode = start.elapsed().as_secs_f64();
            if encoded.ids != tokens.ids {
                return Err("the tokens differ".into());
            }
            let n = tokens.ids.len() as f64;
            println!(
                "{}",
                serde_json::json!({
                    "text": text.file_name().map(|name| name.to_string_lossy()), "unit": mode, "threads": threads,
                    "bytes": tokens.bytes, "tokens": tokens.ids.len(), "vocabulary": tokenizer.vocab_size(),
                    "learn_seconds": wall, "learn_ns_per_token": 1e9 * wall / n, "learn_cpu_ns_per_token": 1e9 * cpu / n,
                    "learn_mb_per_second": tokens.bytes as f64 / 1e6 / wall, "peak_bytes_per_byte": peak / tokens.bytes as f64,
                    "write_seconds": write, "read_seconds": read, "json_bytes": json.len(),
                    "encode_seconds": encode, "encode_ns_per_token": 1e9 * encode / n,
                })
            );
        }
    }
    Ok(())
}

/// User and system time of this process in seconds, in steps of 1/100.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn peak_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(f64::NAN) * 1024.0
}
