//! `surprisal inspect`: describes a file or a folder.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use surprisal_engine::count;
use surprisal_engine::formats::{hf, weights};
use surprisal_engine::text::{Tokenizer, open_converted};

use crate::cli;
use crate::error::{Error, Result, words};
use crate::output::Output;
use crate::wording::{bytes, duration, labelled, many, thousands};
use surprisal_engine::Context;
use surprisal_engine::kind::Kind;
use surprisal_engine::model::neural::Parameter;
use surprisal_engine::model::ngram::Smoothing;
use surprisal_engine::models::mixture::MixtureWeights;
use surprisal_engine::models::{self, LoadedModel};
use surprisal_engine::runs;

type Lines = Vec<(String, String)>;

pub(crate) fn run(arguments: &cli::InspectArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let path = &arguments.path;
    let kind = Kind::detect(path)?;
    let (name, lines) = match kind {
        Kind::Run
        | Kind::Checkpoint
        | Kind::Model
        | Kind::Mixture
        | Kind::Ngram
        | Kind::Infinigram
        | Kind::Arpa { .. }
        | Kind::Kenlm => {
            return model(path, kind, ctx, output);
        }
        Kind::Text | Kind::Empty | Kind::Binary => return text(path, kind, output),
        Kind::Special => return Err(kind.refuse(path)),
        Kind::Counts | Kind::CountsTsv => ("counts", counted(path, kind)?),
        Kind::Safetensors => ("tensors", tensors(weights::shapes(path)?)),
        Kind::HuggingFace => ("hugging_face", hugging_face(path, ctx)?),
        Kind::Tokenizer => ("tokenizer", vec![tokens(&Tokenizer::from_json(&read(path)?)?)]),
        Kind::Folder => {
            // Entries are only counted: a folder may contain pipes or a whole file system.
            let entries = std::fs::read_dir(path).map_or(0, Iterator::count);
            ("folder", vec![("entries".into(), thousands(entries as u64))])
        }
        Kind::Config | Kind::Comparison | Kind::Compressed | Kind::Damaged(_) | Kind::Other(..) => {
            let advice = kind.words().1.iter().map(words).collect();
            ("other", vec![("to use it".into(), advice)])
        }
    };
    if output.json() {
        let details: BTreeMap<_, _> = lines.into_iter().collect();
        return output.event(&json!({
            "event": "inspect", "kind": name, "is": kind.words().0, "details": details,
        }));
    }
    let mut all = vec![("file".to_owned(), format!("{} is {}", path.display(), kind.words().0))];
    all.extend(lines);
    show(&all, output)
}

fn show(lines: &Lines, output: &Output) -> Result<()> {
    let width = lines.iter().map(|(label, _)| label.len() + 2).fold(18, usize::max);
    output.write_stdout(&labelled(lines, width))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::failed(format!("cannot read {}: {error}", path.display())))
}

fn counted(path: &Path, kind: Kind) -> Result<Lines> {
    let (counts, tokenizer, part) = count::open(path, kind)?;
    let mut lines = vec![tokens(&tokenizer)];
    let part = part.filter(|part| part.parts > 1);
    lines.extend(part.map(|part| ("part".into(), format!("{} of {} of a text", part.number, part.parts))));
    for (level, order) in counts.levels.iter().zip(1..) {
        let total: u64 = level.counts.iter().map(|&count| u64::from(count)).sum();
        let grams = thousands(level.counts.len() as u64);
        lines.push((format!("{order}-grams"), format!("{grams} different, counted {}", many(total, "time"))));
    }
    Ok(lines)
}

/// The folder's own names and types of tensors, of any architecture, and what it is as a model.
fn hugging_face(path: &Path, ctx: &Context<'_>) -> Result<Lines> {
    let tensors = tensors(hf::shapes(path)?);
    let mut lines = match models::look(path, ctx) {
        Ok(loaded) => {
            let block_size = loaded.model.neural().map(|neural| neural.config().block_size().to_string());
            let mut lines = vec![("model".into(), loaded.kind.clone()), tokens(&loaded.tokenizer)];
            lines.extend(block_size.map(|size| ("block size".into(), size)));
            lines
        }
        Err(error) => vec![("model".into(), format!("not opened: {error}"))],
    };
    lines.extend(tensors);
    Ok(lines)
}

fn tensors(tensors: Vec<(String, Vec<usize>, String)>) -> Lines {
    let parameters: usize = tensors.iter().map(|(_, shape, _)| shape.iter().product::<usize>()).sum();
    let summary = [("tensors", tensors.len()), ("parameters", parameters)];
    let mut lines: Lines = summary.map(|(label, number)| (label.into(), thousands(number as u64))).into();
    let line = |(name, shape, dtype)| (format!("  {name}"), format!("{shape:?} {dtype}"));
    lines.extend(tensors.into_iter().map(line));
    lines
}

fn tokens(tokenizer: &Tokenizer) -> (String, String) {
    let size = many(tokenizer.vocab_size() as u64, "token");
    ("vocabulary".into(), format!("{size} ({})", tokenizer.kind()))
}

fn model(path: &Path, kind: Kind, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let loaded = models::look(path, ctx)?;
    let state = loaded.folder.as_ref().map(runs::state);
    let record = loaded.last_result();
    if output.json() {
        return output.event(&json!({
            "event": "inspect", "kind": loaded.kind, "parameters": loaded.model.parameters(),
            "vocab_size": loaded.model.vocab_size(), "tokenizer": loaded.tokenizer.kind().to_string(),
            "details": details(&loaded), "record": record, "is": kind.words().0,
            "state": state.map(|(name, _)| name), "weights": loaded.unfinished,
        }));
    }
    let mut lines = vec![("file".to_owned(), format!("{} is {}", path.display(), kind.words().0))];
    let details = details(&loaded);
    let note = loaded.unfinished.map(|unfinished| unfinished.note);
    let state = note.or(state.map(|(_, words)| format!("this run {words}")));
    lines.extend(state.map(|state| ("state".to_owned(), state)));
    lines.extend([
        ("model".to_owned(), loaded.kind.clone()),
        ("parameters".into(), thousands(loaded.model.parameters())),
        tokens(&loaded.tokenizer),
    ]);
    lines.extend(details);
    if let Some(record) = &record {
        let number = |pointer: &str| record.pointer(pointer).and_then(Value::as_f64);
        if let (Some(nats), Some(perplexity)) = (number("/eval/nats_per_token"), number("/eval/perplexity")) {
            let perplexity = crate::wording::number(perplexity, 3);
            lines.push(("validation".into(), format!("{nats:.4} nats per token, perplexity {perplexity}")));
        }
        if let (Some(steps), Some(seconds)) = (number("/steps"), number("/train_seconds")) {
            lines.push((
                "training".into(),
                format!("{} in {}", many(steps as u64, "step"), duration(seconds)),
            ));
        }
    }
    show(&lines, output)
}

/// Details of a model.
fn details(loaded: &LoadedModel) -> BTreeMap<String, String> {
    let mut details = BTreeMap::new();
    if let Some(neural) = loaded.model.neural() {
        details.insert("block size".into(), neural.config().block_size().to_string());
        let shape = |parameter: &Parameter| format!("{:?}", parameter.var.dims());
        details.extend(neural.parameters().iter().map(|p| (format!("  {}", p.name), shape(p))));
    }
    if let Some(model) = loaded.model.kenlm() {
        details.insert("structure".into(), model.structure().name().into());
        details.insert("order".into(), model.counts().len().to_string());
        let counts = model.counts().iter().zip(1..);
        details.extend(counts.map(|(&count, order)| (format!("{order}-grams"), thousands(count))));
    }
    if let Some(model) = loaded.model.infinigram() {
        details.insert("order".into(), "none: the context has every length".into());
        details.insert("text".into(), many(model.header().tokens.into(), "token"));
    }
    if let Some(mixture) = loaded.model.mixture() {
        let (weights, by) = match &mixture.config.weights {
            MixtureWeights::Static { weights } => (weights, "the same for all contexts".to_owned()),
            MixtureWeights::Context { weights, bins_of, bins } => {
                let bins = many(bins.all().count() as u64, "bin");
                (weights, format!("by context, {bins} of model {bins_of}"))
            }
        };
        details.insert("weights".into(), by);
        let parts = mixture.config.parts.iter().zip(&mixture.parts).zip(weights);
        details.extend(parts.enumerate().map(|(i, ((part, (kind, parameters)), weight))| {
            let parameters = thousands(*parameters);
            let line = format!("{} ({kind}), {parameters} parameters, weight {weight:.4}", part.name);
            (format!("model {i}"), line)
        }));
    }
    let Some(model) = loaded.model.ngram() else { return details };
    let (settings, report) = (model.config(), model.report());
    details.insert("order".into(), settings.order.to_string());
    // An ARPA file does not contain its smoothing method.
    if settings.smoothing != Smoothing::Given {
        details.insert("smoothing".into(), settings.smoothing.name().into());
    }
    details.extend(report.smoother.iter().map(|name| ("smoothing".into(), name.clone())));
    details.extend(report.k.map(|k| ("k".into(), format!("{k:.6}"))));
    for (index, order) in report.orders.iter().enumerate() {
        let mut line = thousands(order.grams);
        // Models from other programs' files have no counts of counts.
        if order.counted > 0 {
            let n = order.count_of_counts.map(thousands).join(" ");
            line.push_str(&format!(" (counted 1, 2, 3, 4 times: {n})"));
        }
        if let Some([one, two, three]) = order.discounts {
            line.push_str(&format!("; discounts {one:.4} {two:.4} {three:.4} by {}", order.from));
        }
        if let Some(alpha) = order.alpha {
            line.push_str(&format!("; alpha {alpha:.4}"));
        }
        details.insert(format!("{}-grams", index + 1), line);
    }
    let tokenizer = &loaded.tokenizer;
    let marks = [tokenizer.unk(), tokenizer.bos(), tokenizer.eos()].into_iter().flatten();
    let marks: Vec<String> = marks.map(|id| tokenizer.token(id)).collect();
    if !marks.is_empty() {
        details.insert("marks".into(), marks.join(" "));
    }
    let notices = report.notices.iter().zip(1..);
    details.extend(notices.map(|(notice, number)| (format!("note {number}"), notice.clone())));
    details
}

fn text(path: &Path, kind: Kind, output: &Output) -> Result<()> {
    let cannot = |error| surprisal_engine::text::Error::of_io(path, error);
    let mut file = match open_converted(path)? {
        Some(text) => text,
        None => Box::new(std::fs::File::open(path).map_err(cannot)?),
    };
    // Occurrences of each byte.
    let mut counts = [0u64; 256];
    let mut buffer = vec![0u8; 1 << 16];
    let (mut words, mut in_word) = (0u64, false);
    let (mut line, mut longest_line) = (0u64, 0u64);
    loop {
        let read = file.read(&mut buffer).map_err(cannot)?;
        if read == 0 {
            break;
        }
        for &byte in &buffer[..read] {
            counts[usize::from(byte)] += 1;
            line += 1;
            longest_line = longest_line.max(line);
            if byte == b'\n' {
                line = 0;
            }
            let separator = matches!(byte, 0 | b'\t' | b'\n' | b'\r' | b' ');
            words += u64::from(!separator && !in_word);
            in_word = !separator;
        }
    }
    let [lines, carriage_returns, nuls] = [b'\n', b'\r', 0].map(|byte| counts[usize::from(byte)]);
    let size: u64 = counts.iter().sum();
    // Every byte except a continuation byte starts a character.
    let characters = size - counts[0x80..0xC0].iter().sum::<u64>();
    let seen = counts.iter().filter(|&&count| count > 0);
    let distinct = seen.clone().count();
    let entropy: f64 = seen.map(|&count| count as f64 / size as f64).map(|p| -p * p.log2()).sum();
    if output.json() {
        return output.event(&json!({
            "event": "inspect", "kind": if kind == Kind::Binary { "binary" } else { "text" }, "bytes": size,
            "characters": characters, "lines": lines, "words": words, "distinct_bytes": distinct,
            "longest_line_bytes": longest_line, "carriage_returns": carriage_returns, "nuls": nuls,
            "unigram_bits_per_byte": entropy,
        }));
    }
    let lines = [
        (if kind == Kind::Binary { "not UTF-8" } else { "text" }, path.display().to_string()),
        ("bytes", format!("{} ({})", thousands(size), bytes(size))),
        ("characters", thousands(characters)),
        ("lines", format!("{} (longest {})", thousands(lines), many(longest_line, "byte"))),
        ("words", thousands(words)),
        ("distinct bytes", thousands(distinct as u64)),
        ("order-0 entropy", format!("{entropy:.4} bits per byte")),
        ("CR, NUL", format!("{}, {}", thousands(carriage_returns), thousands(nuls))),
    ];
    output.write_stdout(&labelled(&lines, 18))
}
