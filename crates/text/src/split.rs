//! Splits of texts into training and validation parts.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::TextMode;
use crate::chunks::{CHUNK_BYTES, Location, Span};
use crate::error::{Error, Result};
use crate::numbers::many;
use crate::records::RECORD_END;
use crate::selection::{Selection, is_set};

/// The ChaCha stream of random splits under their seed.
const SPLIT_STREAM: u64 = 1 << 40;
/// The number of validation blocks.
const VAL_BLOCKS: u64 = 10;
/// The ChaCha stream of the blocks of a part that is spread over its text.
const SPREAD_STREAM: u64 = SPLIT_STREAM + 1;
/// The least number of blocks of which such a part has some.
const SPREAD_BLOCKS: u64 = 4096;
/// (√5 − 1) / 2.
const GOLDEN_RATIO: f64 = 0.618_033_988_749_894_9;
/// The least distance within which a small block's border moves so.
const SPREAD_SEARCH_BYTES: u64 = 256;
/// The distance within which a block's border moves to the end of a line.
const LINE_SEARCH_BYTES: u64 = 1 << 16;

/// The rule by which a text is split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Validation is the end of the text, as in nanoGPT.
    #[default]
    Tail,
    /// Validation is ten blocks of consecutive text at random places.
    Blocks,
    /// Validation is random lines.
    Lines,
    /// Validation is random documents: records, or whole files.
    Documents,
    /// Validation is random files.
    Files,
}

impl Split {
    /// The name, as in a config's `data.split`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tail => "tail",
            Self::Blocks => "blocks",
            Self::Lines => "lines",
            Self::Documents => "documents",
            Self::Files => "files",
        }
    }
}

/// The part of a training text that a fraction of it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainPart {
    /// Its beginning.
    #[default]
    Start,
    /// Small blocks from everywhere, so that it is like the whole. Those of a larger fraction
    /// contain those of a smaller one.
    Spread,
}

/// Splits `files` by a rule into training parts and validation parts, which are about the
/// `fraction` of them.
///
/// # Errors
/// A text that cannot be read, or that has too few units to split.
pub(crate) fn split(
    files: &[Span],
    rule: Split,
    seed: u64,
    fraction: f64,
    mode: TextMode,
    name: &str,
) -> Result<(Vec<Span>, Vec<Span>)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(SPLIT_STREAM);
    let records = files.iter().any(Span::has_records);
    let too_few = |what: &str, n: u64| {
        let others = if records || rule == Split::Lines { "\"tail\"" } else { "\"tail\" or \"lines\"" };
        let has = many(n, &what[..what.len() - 1]);
        Error::TooShort {
            name: name.to_owned(),
            message: format!(
                "it has {has}, and a split by {what} needs two; data.split = {others} needs one"
            ),
            split: false,
        }
    };
    let total: u64 = files.iter().map(Span::len).sum();
    let mut parts = (Vec::new(), Vec::new());
    match rule {
        // From the start, as in nanoGPT, so that splits are the same to the byte.
        Split::Tail => return split_at(files, ((1.0 - fraction) * total as f64) as u64, mode),
        Split::Blocks => {
            let blocks =
                ((VAL_BLOCKS as f64 / fraction).round() as u64).max(VAL_BLOCKS + 1).min(total.max(2));
            let val = choose(blocks, VAL_BLOCKS.min(blocks - 1), &mut rng);
            let blocks = ends(total, blocks).zip((0..).map(|block| is_set(&val, block)));
            parts = cut_at(files, LINE_SEARCH_BYTES, blocks)?;
            // Of so few lines that each has several blocks, one part may have got none.
            if parts.0.is_empty() || parts.1.is_empty() {
                let units = if records { Split::Documents } else { Split::Lines };
                return split(files, units, seed, fraction, mode, name);
            }
        }
        Split::Files => {
            let files: Vec<&Span> = files.iter().filter(|span| !span.is_empty()).collect();
            let Some(val) = choose_fraction(files.len() as u64, fraction, &mut rng) else {
                return Err(too_few("files", files.len() as u64));
            };
            for (index, file) in (0..).zip(files) {
                if is_set(&val, index) { &mut parts.1 } else { &mut parts.0 }.push(file.clone());
            }
        }
        Split::Lines | Split::Documents => {
            let by_lines = rule == Split::Lines;
            if by_lines && records {
                return Err(Error::Setting("records are split by documents, not by lines".into()));
            }
            let units: Vec<u64> = files.iter().map(|span| units(span, by_lines)).collect::<Result<_>>()?;
            let n = units.iter().sum();
            let Some(val) = choose_fraction(n, fraction, &mut rng) else {
                return Err(too_few(rule.name(), n));
            };
            let (val, mut first) = (Arc::from(val), 0);
            for (file, units) in files.iter().zip(units) {
                let end = if by_lines { b'\n' } else { RECORD_END };
                for is_val in [false, true] {
                    let selection = Selection { val: Arc::clone(&val), first, is_val, end };
                    let has = (0..units).filter(|&unit| selection.has(unit)).count() as u64;
                    if has == 0 {
                        continue;
                    }
                    let selection = (has < units).then_some(selection);
                    let span = Span { selection, ..file.clone() };
                    if is_val { &mut parts.1 } else { &mut parts.0 }.push(span);
                }
                first += units;
            }
        }
    }
    Ok(parts)
}

/// About the `fraction` of `files`: blocks, so many and small that they are like the whole. A
/// larger fraction contains a smaller one of the same seed.
///
/// Multiples of the golden ratio are spread most evenly (Knuth 6.4, theorem S), so each stretch of
/// the text has its share of blocks.
///
/// # Errors
/// A text that cannot be read.
pub(crate) fn spread(files: &[Span], seed: u64, fraction: f64) -> Result<Vec<Span>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(SPREAD_STREAM);
    let offset: f64 = rng.random();
    let blocks = SPREAD_BLOCKS.max((3.0 / fraction).ceil() as u64);
    let total: u64 = files.iter().map(Span::len).sum();
    let is_own = |block: u64| (offset + block as f64 * GOLDEN_RATIO).fract() < fraction;
    let distance = (total / blocks).clamp(SPREAD_SEARCH_BYTES, LINE_SEARCH_BYTES);
    Ok(cut_at(files, distance, ends(total, blocks).zip((0..).map(is_own)))?.1)
}

/// The ends of `blocks` blocks of equal length.
fn ends(total: u64, blocks: u64) -> impl Iterator<Item = u64> {
    (1..=blocks).map(move |block| (u128::from(total) * u128::from(block) / u128::from(blocks)) as u64)
}

/// Cuts `files` near the ends of consecutive blocks, at the end of a line within `distance`. Each
/// block comes with whether it belongs to the second part.
fn cut_at(
    files: &[Span],
    distance: u64,
    blocks: impl Iterator<Item = (u64, bool)>,
) -> Result<(Vec<Span>, Vec<Span>)> {
    let mut parts = (Vec::new(), Vec::new());
    let (mut rest, mut done) = (VecDeque::from(files.to_vec()), 0);
    for (end, is_second) in blocks {
        let part = if is_second { &mut parts.1 } else { &mut parts.0 };
        while done < end
            && let Some(span) = rest.pop_front()
        {
            let inside = end - done;
            let whole = inside >= span.len();
            let (own, later) =
                cut(&span, if whole { span.len() } else { near_line_end(&span, inside, distance)? });
            if let Some(later) = later {
                rest.push_front(later);
            }
            let Some(own) = own else { continue };
            done += own.len();
            push_joined(part, own);
        }
    }
    Ok(parts)
}

/// Appends a span, or extends the last one if it goes on there.
fn push_joined(part: &mut Vec<Span>, span: Span) {
    match part.last_mut() {
        Some(last) if last.end == span.start && !last.ends_document && same_text(last, &span) => {
            (last.end, last.ends_document) = (span.end, span.ends_document);
        }
        _ => part.push(span),
    }
}

fn same_text(a: &Span, b: &Span) -> bool {
    match (&a.location, &b.location) {
        (Location::File { path: a, .. }, Location::File { path: b, .. }) => a == b,
        (Location::Memory { text: a, .. }, Location::Memory { text: b, .. }) => Arc::ptr_eq(a, b),
        (Location::Spooled(_, a), Location::Spooled(_, b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// The number of lines or documents of a text.
fn units(span: &Span, lines: bool) -> Result<u64> {
    if span.is_empty() {
        return Ok(0);
    }
    if !lines {
        return Ok(match &span.location {
            Location::Spooled(stream, spool) if stream.field.is_some() => spool.records,
            _ => 1,
        });
    }
    let (mut reader, mut buffer) = (span.open()?, vec![0; CHUNK_BYTES]);
    let (mut lines, mut last) = (0, b'\n');
    loop {
        let count = reader.read(&mut buffer).map_err(|reason| Error::of_io(span.name(), reason))?;
        let Some(&byte) = buffer[..count].last() else { break };
        lines += memchr::memchr_iter(b'\n', &buffer[..count]).count() as u64;
        last = byte;
    }
    Ok(lines + u64::from(last != b'\n'))
}

/// About the `fraction` of `n` units, at least one and not all; `None` if there are fewer than two.
fn choose_fraction(n: u64, fraction: f64, rng: &mut ChaCha8Rng) -> Option<Vec<u64>> {
    let wanted = (fraction * n as f64).round() as u64;
    (n >= 2).then(|| choose(n, wanted.clamp(1, n - 1), rng))
}

/// `wanted` of `n` units, all sets being equally likely (selection sampling, Knuth 3.4.2 S).
fn choose(n: u64, mut wanted: u64, rng: &mut ChaCha8Rng) -> Vec<u64> {
    let mut bits = vec![0; n.div_ceil(64) as usize];
    for unit in 0..n {
        if rng.random_range(0..n - unit) < wanted {
            bits[(unit / 64) as usize] |= 1 << (unit % 64);
            wanted -= 1;
        }
    }
    bits
}

/// Splits `files` after `wanted` bytes, at the next start of a character, or of a line in line
/// mode; of a record, for records.
pub(crate) fn split_at(files: &[Span], wanted: u64, mode: TextMode) -> Result<(Vec<Span>, Vec<Span>)> {
    let (mut train, mut val) = (Vec::new(), Vec::new());
    let mut before = 0;
    for span in files {
        let inside = wanted.saturating_sub(before).min(span.len());
        before += span.len();
        let whole = inside == 0 || inside == span.len();
        let (first, rest) = cut(span, if whole { inside } else { boundary(span, inside, mode, u64::MAX)? });
        train.extend(first);
        val.extend(rest);
    }
    Ok((train, val))
}

/// The parts of a span before and after `at`, if they are not empty.
fn cut(span: &Span, at: u64) -> (Option<Span>, Option<Span>) {
    let ends_document = span.ends_document && at == span.len();
    let first = (at > 0).then(|| Span { end: span.start + at, ends_document, ..span.clone() });
    let rest = (at < span.len()).then(|| Span { start: span.start + at, ..span.clone() });
    (first, rest)
}

/// The end of a line soon after `at`, or else the next start of a character.
fn near_line_end(span: &Span, at: u64, distance: u64) -> Result<u64> {
    let line = boundary(span, at, TextMode::Line, distance)?;
    if line <= at + distance { Ok(line) } else { boundary(span, at, TextMode::Stream, u64::MAX) }
}

/// The end of the record that the byte before `at` is in.
fn next_record(span: &Span, at: u64) -> Result<u64> {
    let mut rest = BufReader::new(Span { start: span.start + at - 1, ..span.clone() }.open()?);
    let skipped = rest.skip_until(RECORD_END).map_err(|reason| Error::of_io(span.name(), reason))?;
    Ok(at - 1 + skipped as u64)
}

/// The first position at or after `at` where the span may be split; its length if there is none
/// within `distance`.
fn boundary(span: &Span, at: u64, mode: TextMode, distance: u64) -> Result<u64> {
    // From one byte before: a newline there makes `at` itself the start of a line.
    let from = at - 1;
    // A last record that is long is cut like a text.
    let records = span.has_records() && next_record(span, at)? < span.len();
    let rest = Span { start: span.start + from, ..span.clone() }.open()?.take(distance);
    for (place, byte) in (from..).zip(BufReader::new(rest).bytes()) {
        let byte = byte.map_err(|reason| Error::of_io(span.name(), reason))?;
        if records {
            if byte == RECORD_END {
                return Ok(place + 1);
            }
            continue;
        }
        let starts_char = byte & 0xC0 != 0x80;
        match mode {
            TextMode::Stream | TextMode::Document if place >= at && starts_char => return Ok(place),
            TextMode::Line if byte == b'\n' => return Ok(place + 1),
            TextMode::Stream | TextMode::Document | TextMode::Line => {}
        }
    }
    Ok(span.len())
}
