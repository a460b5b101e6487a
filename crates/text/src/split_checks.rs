//! Comparisons of the training and the validation part of a text.

use std::collections::BTreeMap;

use crate::chunks::{Span, TextChunk, TextChunks};
use crate::error::Result;
use crate::parallel::for_each_chunk;
use crate::warnings::TextWarnings;

/// The length in bytes of the windows that are compared.
const WINDOW: usize = 64;
/// The shortest line that is compared as a whole; shorter ones repeat in any text.
const MIN_LINE_BYTES: usize = 24;
/// The part of the validation text that is compared.
const MAX_VAL_BYTES: u64 = 64 << 20;
/// The odd factor of the rolling hash, modulo 2^64.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
/// The bits of the filter that most windows of the training text do not pass.
const FILTER_BITS: u32 = 24;

/// Passages of the validation text that are also in the training text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedPassages {
    /// Their bytes, in windows of 64 bytes or in whole lines, by which there are more.
    pub bytes: u64,
    /// The bytes that were compared.
    pub of: u64,
}

/// The rolling hash of `window`.
fn hash(window: &[u8]) -> u64 {
    window.iter().fold(0, |hash, &byte| add(hash, byte))
}

fn add(hash: u64, byte: u8) -> u64 {
    hash.wrapping_mul(FACTOR).wrapping_add(u64::from(byte) + 1)
}

fn filter_bit(hash: u64) -> usize {
    (hash >> (64 - FILTER_BITS)) as usize
}

/// The whole lines that are long enough to be compared.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    lines.filter(|line| line.len() >= MIN_LINE_BYTES)
}

/// The windows of `val` that occur anywhere in `train`, or the lines that are lines there: passages
/// of at least two windows are found wherever they start, and shorter ones as lines.
pub(crate) fn shared_passages(train: &[Span], val: &[Span], threads: usize) -> Result<SharedPassages> {
    let (mut all, mut all_lines, mut line_bytes) = (Vec::new(), Vec::new(), 0);
    for chunk in TextChunks::new(&sample(val, MAX_VAL_BYTES)) {
        let bytes = chunk?.bytes;
        all.extend(bytes.chunks_exact(WINDOW).map(hash));
        all_lines.extend(lines(&bytes).map(|line| (hash(line), line.len() as u64)));
        line_bytes += bytes.len() as u64;
    }
    let mut windows: Vec<u64> = all.iter().copied().chain(all_lines.iter().map(|(line, _)| *line)).collect();
    windows.sort_unstable();
    windows.dedup();
    let mut filter = vec![0u64; 1 << (FILTER_BITS - 6)];
    for &window in &windows {
        filter[filter_bit(window) / 64] |= 1 << (filter_bit(window) % 64);
    }
    // What the first byte of a window has become when its last one is added.
    let leaving = (1..WINDOW).fold(1u64, |power, _| power.wrapping_mul(FACTOR));
    let look = |seen: &mut Vec<bool>, _: &mut TextWarnings, chunk: &mut TextChunk| {
        let bytes = &chunk.bytes;
        let mut meet = |hash: u64| {
            if filter[filter_bit(hash) / 64] >> (filter_bit(hash) % 64) & 1 == 1
                && let Ok(index) = windows.binary_search(&hash)
            {
                seen[index] = true;
            }
        };
        for line in lines(bytes) {
            meet(hash(line));
        }
        let Some(first) = bytes.get(..WINDOW) else { return Ok(()) };
        let mut rolling = hash(first);
        let mut at = WINDOW;
        loop {
            meet(rolling);
            let Some(&next) = bytes.get(at) else { return Ok(()) };
            let gone = (u64::from(bytes[at - WINDOW]) + 1).wrapping_mul(leaving);
            rolling = add(rolling.wrapping_sub(gone), next);
            at += 1;
        }
    };
    let (seen, _) = for_each_chunk(train, threads, || Ok(vec![false; windows.len()]), look)?;
    let is_shared = |window: &u64| {
        let index = windows.binary_search(window);
        index.is_ok_and(|index| seen.iter().any(|its| its[index]))
    };
    let by_windows = all.iter().filter(|window| is_shared(window)).count() * WINDOW;
    let by_windows = SharedPassages { bytes: by_windows as u64, of: (all.len() * WINDOW) as u64 };
    let by_lines = all_lines.iter().filter(|(line, _)| is_shared(line)).map(|(_, bytes)| bytes).sum();
    let by_lines = SharedPassages { bytes: by_lines, of: line_bytes };
    let share = |shared: SharedPassages| shared.bytes as f64 / shared.of.max(1) as f64;
    Ok(if share(by_lines) > share(by_windows) { by_lines } else { by_windows })
}

/// The number of random splits that the tail is compared with.
const RANDOM_SPLITS: usize = 4;
/// The part of each text whose characters are counted, in pieces from all over it.
const MAX_SAMPLE_BYTES: u64 = 16 << 20;
const SAMPLE_PIECES: u64 = 64;
/// The longest part of a line that a random split takes as a whole.
const MAX_UNIT_BYTES: usize = 200;

/// The difference between the characters of the end of a text and those of the rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TailDifference {
    /// ½ Σ |p(c) − q(c)|, the total variation between the tail and the rest.
    pub tail: f64,
    /// The mean of the same between parts of lines drawn at random.
    pub random: f64,
    /// The number of lines, or of records, that were compared.
    pub lines: u64,
    /// Whether the text is in records.
    pub records: bool,
}

impl TailDifference {
    /// The excess over random splits from which the tail is not like the rest.
    pub const LIMIT: f64 = 0.1;

    /// Whether the tail is not like the rest of the text.
    pub fn is_gross(self) -> bool {
        self.tail - self.random > Self::LIMIT
    }
}

/// Counts of characters.
#[derive(Debug, Clone, Default)]
struct Characters(BTreeMap<char, u64>);

impl Characters {
    fn add(&mut self, others: &Self) {
        for (&c, count) in &others.0 {
            *self.0.entry(c).or_default() += count;
        }
    }

    fn share(&self, c: char, total: f64) -> f64 {
        self.0.get(&c).map_or(0.0, |&count| count as f64 / total)
    }

    /// The total variation between the distributions of two counts.
    fn variation(&self, other: &Self) -> f64 {
        let [own, its] = [self, other].map(|counts| counts.0.values().sum::<u64>() as f64);
        let only_there = other.0.keys().filter(|c| !self.0.contains_key(c));
        let all = self.0.keys().chain(only_there);
        all.map(|&c| (self.share(c, own) - other.share(c, its)).abs()).sum::<f64>() / 2.0
    }
}

/// Compares the characters of `val` with those of `train`.
pub(crate) fn tail_difference(train: &[Span], val: &[Span]) -> Result<TailDifference> {
    let [train_bytes, val_bytes] = [train, val].map(|spans| spans.iter().map(Span::len).sum::<u64>() as f64);
    let threshold = (val_bytes / (train_bytes + val_bytes) * u64::MAX as f64) as u64;
    let mut parts: [Characters; 2] = Default::default();
    let mut random: [[Characters; 2]; RANDOM_SPLITS] = Default::default();
    let (mut units, mut lines) = (0u64, 0);
    let records = train.iter().chain(val).any(Span::has_records);
    for (part, spans) in parts.iter_mut().zip([train, val]) {
        for chunk in TextChunks::new(&sample(spans, MAX_SAMPLE_BYTES)) {
            let text = String::from_utf8_lossy(&chunk?.bytes).into_owned();
            lines += if records { 1 } else { text.lines().count() as u64 };
            for unit in text.split_inclusive('\n').flat_map(pieces) {
                let mut counts = Characters::default();
                for c in unit.chars() {
                    *counts.0.entry(c).or_default() += 1;
                }
                part.add(&counts);
                units += 1;
                for (n, random) in (0..).zip(&mut random) {
                    // splitmix64 of the unit and the split.
                    let mut mixed = (units * RANDOM_SPLITS as u64 + n).wrapping_mul(FACTOR);
                    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                    random[usize::from((mixed ^ (mixed >> 31)) < threshold)].add(&counts);
                }
            }
        }
    }
    let [rest, tail] = parts;
    let mean = random.iter().map(|[rest, tail]| rest.variation(tail)).sum::<f64>() / RANDOM_SPLITS as f64;
    Ok(TailDifference { tail: rest.variation(&tail), random: mean, lines, records })
}

/// A line in parts of at most [`MAX_UNIT_BYTES`] bytes or a character more.
fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let at = (MAX_UNIT_BYTES..rest.len()).find(|&at| rest.is_char_boundary(at)).unwrap_or(rest.len());
        let (piece, later) = rest.split_at(at);
        rest = later;
        (!piece.is_empty()).then_some(piece)
    })
}

/// At most about `limit` bytes of some texts, in pieces from all over them, whatever their bytes
/// are.
fn sample(spans: &[Span], limit: u64) -> Vec<Span> {
    let total: u64 = spans.iter().map(Span::len).sum();
    let mut sample: Vec<Span> = spans.to_vec();
    for span in &mut sample {
        span.cleaning.any_bytes = true;
    }
    if total <= limit {
        return sample;
    }
    let (step, size) = (total / SAMPLE_PIECES, limit / SAMPLE_PIECES);
    let mut pieces = Vec::new();
    let mut before = 0;
    for span in sample {
        for start in (0..SAMPLE_PIECES).map(|piece| piece * step) {
            let from = start.max(before);
            let to = (start + size).min(before + span.len());
            // The parts of a split by lines are not contiguous.
            if from < to && span.selection.is_none() {
                let start = span.start + from - before;
                pieces.push(Span { start, end: start + to - from, ..span.clone() });
            }
        }
        before += span.len();
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_in_both_parts_are_counted_wherever_they_start() {
        let noise = |seed: u64| -> String {
            let mut state = seed;
            let mut draw = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                char::from(b'a' + (state >> 40) as u8 % 26)
            };
            (0..500_000).map(|n| if n % 50 == 49 { '\n' } else { draw() }).collect()
        };
        let (train, val) = (noise(1), noise(2));
        let compare = |train: &str, val: &str, threads| {
            let [train, val] = [train, val].map(|text| [Span::from_text("memory", text)]);
            shared_passages(&train, &val, threads).unwrap()
        };
        let none = compare(&train, &val, 2);
        assert_eq!(none.bytes, 0);
        assert!(none.of > 499_000, "{none:?}");
        let mixed = format!("{}{}{}", &val[..100_003], &train[300_017..303_017], &val[200_000..]);
        let some = compare(&train, &mixed, 1);
        assert!((2_880..=3_000).contains(&some.bytes), "{some:?}");
        assert_eq!(some, compare(&train, &mixed, 3));
        let all = compare(&train, &train[5..400_000], 2);
        assert!(all.bytes == all.of, "{all:?}");
    }

    #[test]
    fn short_lines_in_both_parts_are_counted_and_those_of_any_text_are_not() {
        let line = |n: u32| format!("a sentence that has number {n}\n");
        let text =
            |lines: std::ops::Range<u32>| [Span::from_text("it", &lines.map(line).collect::<String>())];
        let shared = shared_passages(&text(0..900), &text(850..950), 2).unwrap();
        assert!((48..=50).contains(&(100 * shared.bytes / shared.of)), "{shared:?}");
        let shared = shared_passages(&text(0..900), &text(1_000..1_100), 2).unwrap();
        assert_eq!(shared.bytes, 0);
        let fifth = [Span::from_text("it", "\n\nACT I\nFirst Citizen:\n\n")];
        assert_eq!(shared_passages(&fifth, &fifth, 1).unwrap().bytes, 0);
        let stories = surprisal_source::Source::embedded("stories").unwrap().sample(1, 1_000_000);
        let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
        let read = |name: &str| std::fs::read_to_string(data.join(name)).ok();
        // The stories of few sentences, which a run on them is not told of, repeat the most.
        let texts = [(Some(stories), 2), (read("names.txt"), 1), (read("tinyshakespeare.txt"), 1)];
        for (text, percent) in texts {
            let Some(text) = text else {
                eprintln!("SKIPPED: the texts are not beside the project");
                continue;
            };
            let at = text.len() / 10 * 9;
            let [train, val] = [&text[..at], &text[at..]].map(|part| [Span::from_text("it", part)]);
            let shared = shared_passages(&train, &val, 2).unwrap();
            assert!(shared.bytes * 100 < percent * shared.of, "{shared:?}");
        }
    }

    #[test]
    fn sorted_lines_differ_at_their_end_and_shuffled_ones_do_not() {
        let line =
            |n: u32| format!("{}{}\n", char::from(b'a' + (n / 100) as u8), "xyz".repeat(1 + n as usize % 3));
        let sorted: Vec<String> = (0..2_600).map(line).collect();
        let compare = |lines: &[String]| {
            let spans = |lines: &[String]| [Span::from_text("memory", &lines.concat())];
            tail_difference(&spans(&lines[..2_340]), &spans(&lines[2_340..])).unwrap()
        };
        let found = compare(&sorted);
        // 2.6 of 26 first letters are only in the tail, and are a sixth of the characters.
        assert!(found.is_gross() && found.tail > 0.12 && found.random < 0.04, "{found:?}");
        let shuffled: Vec<String> = (0..2_600).map(|n| line(n * 1_001 % 2_600)).collect();
        let found = compare(&shuffled);
        assert!(!found.is_gross(), "{found:?}");
    }
}
