//! Writing: level by level, pieces of a level by all threads, handed to the disk in order.

use std::{ops::Range, path::Path, sync::mpsc};

use rayon::prelude::*;
use surprisal_model::ngram::{Combine, Estimate, MAX_ORDER};
use surprisal_text::{Tokenizer, TokenizerKind, Unit};

use super::LOG_ZERO;
use crate::{Error, Result, atomic};

/// How many grams one task turns into text.
const GRAMS_A_TASK: usize = 1 << 13;
/// How many texts wait for the disk at most.
const WAITING: usize = 16;

/// Writes the file `path`, in place of what is there. Returns its size in bytes.
///
/// # Errors
/// [`Error::Io`], after which what was there is still there; [`Error::Unsupported`] as [`write_to`].
pub fn write(path: impl AsRef<Path>, estimate: &Estimate, tokenizer: &Tokenizer) -> Result<u64> {
    if tokenizer.vocab_size() != estimate.vocab_size as usize {
        let (tokens, words) = (estimate.vocab_size, tokenizer.vocab_size());
        let problem = format!("the model has {tokens} tokens, the tokenizer {words}");
        return Err(Error::malformed("the model", &problem));
    }
    let as_they_are = tokenizer.kind() == TokenizerKind::Word && tokenizer.unit() == Unit::Line;
    let specials = [tokenizer.unk(), tokenizer.bos(), tokenizer.eos()];
    let mut writer = atomic::Writer::create(path)?;
    let token = |id: u32| {
        let spelling = tokenizer.spelling(id);
        if as_they_are || specials.contains(&Some(id)) { spelling } else { escape(&spelling) }
    };
    write_to(estimate, token, |bytes| writer.put(bytes))?;
    writer.commit_reproducible()
}

/// Hands the text of an ARPA file to `put`, piece by piece. `token` spells a token, without white space.
///
/// # Errors
/// Those of `put`. [`Error::Unsupported`] for a model that does not back off: add-k from order 2, whose unseen words all
/// have the same probability; stupid backoff from order 3, which multiplies by 0.4 where a context was never seen.
pub fn write_to(
    estimate: &Estimate,
    token: impl Fn(u32) -> Vec<u8>,
    mut put: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    supported(estimate)?;
    let words = Spellings::of((0..estimate.vocab_size).map(token));
    let mut header = String::from("\\data\\\n");
    for (len, table) in estimate.tables.iter().enumerate() {
        header += &format!("ngram {}={}\n", len + 1, table.values.len());
    }
    put(header.as_bytes())?;
    std::thread::scope(|scope| -> Result<()> {
        // Dropped by an error of `put`, the receiver ends the other side.
        let (full, texts) = mpsc::sync_channel(WAITING);
        scope.spawn(move || levels(estimate, &words, &full));
        for text in texts {
            put(&text)?;
        }
        Ok(())
    })?;
    put(b"\n\\end\\\n")
}

fn supported(estimate: &Estimate) -> Result<()> {
    let order = estimate.tables.len();
    let problem = if estimate.combine == Combine::Longest && order > 1 {
        "an add-k model does not back off: all unseen words have the same probability"
    } else if estimate.missing != 1.0 && order > 2 {
        "stupid backoff multiplies by a factor where a context was never seen"
    } else {
        return Ok(());
    };
    let hint = "choose another smoothing, or the .ngram format, which holds every model";
    Err(Error::Unsupported { what: "an ARPA file", problem: problem.into(), hint })
}

/// Sends the text of every level.
fn levels(estimate: &Estimate, words: &Spellings, full: &mpsc::SyncSender<Vec<u8>>) {
    let mut probabilities = Vec::new();
    for (len, table) in estimate.tables.iter().enumerate() {
        probabilities = estimate.probabilities(len, &probabilities);
        let weights = Spellings::of(table.weights.iter().map(|weight| {
            let mut text = Vec::new();
            push_log10(weight.backoff, &mut text);
            text
        }));
        let level = Level { estimate, words, len, probabilities: &probabilities, weights };
        if full.send(format!("\n\\{}-grams:\n", len + 1).into_bytes()).is_err() {
            return;
        }
        let starts: Vec<usize> = (0..table.values.len()).step_by(GRAMS_A_TASK).collect();
        for starts in starts.chunks(WAITING) {
            let text = |&start: &usize| level.text(start..(start + GRAMS_A_TASK).min(table.values.len()));
            let texts: Vec<Vec<u8>> = starts.par_iter().map(text).collect();
            if texts.into_iter().any(|text| full.send(text).is_err()) {
                return;
            }
        }
    }
}

/// Byte strings by number, one behind the other.
struct Spellings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Spellings {
    fn of(strings: impl Iterator<Item = Vec<u8>>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for string in strings {
            bytes.extend(string);
            ends.push(bytes.len());
        }
        Self { bytes, ends }
    }

    #[inline]
    fn get(&self, id: u32) -> &[u8] {
        &self.bytes[self.ends[id as usize]..self.ends[id as usize + 1]]
    }
}

struct Level<'a> {
    estimate: &'a Estimate,
    words: &'a Spellings,
    /// Words of a context.
    len: usize,
    probabilities: &'a [f64],
    weights: Spellings,
}

impl Level<'_> {
    /// The lines of `grams`.
    fn text(&self, grams: Range<usize>) -> Vec<u8> {
        let table = &self.estimate.tables[self.len];
        let mut text = Vec::with_capacity(grams.len() * (24 + 8 * self.len));
        let mut context = (self.len > 0).then(|| Context::of(self, grams.start));
        for gram in grams {
            if self.len == 0 && Some(gram as u32) == self.estimate.bos {
                text.push(b'0');
            } else {
                push_log10(self.probabilities[gram], &mut text);
            }
            text.push(b'\t');
            let word = match &mut context {
                Some(context) => {
                    context.advance(self, gram);
                    text.extend_from_slice(&context.words);
                    table.words[gram]
                }
                None => gram as u32,
            };
            text.extend_from_slice(self.words.get(word));
            if let Some(&weight) = table.contexts.get(gram) {
                text.push(b'\t');
                text.extend_from_slice(self.weights.get(weight));
            }
            text.push(b'\n');
        }
        text
    }
}

/// The context of a gram: its node on every level above, and its words, each with a space after it.
struct Context {
    nodes: [usize; MAX_ORDER],
    words: Vec<u8>,
    ends: [usize; MAX_ORDER],
}

impl Context {
    /// The context of `gram`.
    fn of(level: &Level<'_>, gram: usize) -> Self {
        let mut context = Self { nodes: [0; MAX_ORDER], words: Vec::new(), ends: [0; MAX_ORDER] };
        let mut node = gram;
        for len in (0..level.len).rev() {
            let starts = &level.estimate.tables[len].starts;
            node = starts.partition_point(|&start| start as usize <= node) - 1;
            context.nodes[len] = node;
        }
        context.spell(level, 0);
        context
    }

    /// Moves on to the context of `gram`, which is this one or one behind it.
    #[inline]
    fn advance(&mut self, level: &Level<'_>, gram: usize) {
        let (mut child, mut changed) = (gram, None);
        for len in (0..level.len).rev() {
            let starts = &level.estimate.tables[len].starts;
            let before = self.nodes[len];
            while starts[self.nodes[len] + 1] as usize <= child {
                self.nodes[len] += 1;
            }
            if self.nodes[len] == before {
                break;
            }
            (child, changed) = (self.nodes[len], Some(len));
        }
        if let Some(from) = changed {
            self.spell(level, from);
        }
    }

    /// Spells the words from number `from` on.
    fn spell(&mut self, level: &Level<'_>, from: usize) {
        self.words.truncate(if from == 0 { 0 } else { self.ends[from - 1] });
        for len in from..level.len {
            let node = self.nodes[len];
            let word = if len == 0 { node as u32 } else { level.estimate.tables[len].words[node] };
            self.words.extend_from_slice(level.words.get(word));
            self.words.push(b' ');
            self.ends[len] = self.words.len();
        }
    }
}

/// Appends log10 of a probability or a weight.
#[inline]
fn push_log10(x: f64, text: &mut Vec<u8>) {
    if x <= 0.0 {
        text.extend_from_slice(LOG_ZERO.as_bytes());
        return;
    }
    let log = round(x.ln() * std::f64::consts::LOG10_E);
    let mut buffer = zmij::Buffer::new();
    let decimal = buffer.format_finite(log);
    text.extend_from_slice(decimal.strip_suffix(".0").unwrap_or(decimal).as_bytes());
}

/// The 32-bit float for a logarithm; see the module about those near 0.
#[inline]
fn round(log: f64) -> f32 {
    const NEAR: f64 = 1.0 / (1 << 20) as f64;
    const GRID: f64 = (1_u64 << 44) as f64;
    let log = if log.abs() < NEAR { (log * GRID).round() / GRID } else { log };
    // Adding 0 makes -0 a 0.
    log as f32 + 0.0
}

/// A token without white space, control characters, and bytes that are no UTF-8.
fn escape(token: &[u8]) -> Vec<u8> {
    let mut escaped = String::new();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\x{byte:02X}")).collect::<String>();
    for chunk in token.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => escaped.push_str("\\\\"),
                c if c.is_whitespace() || c.is_control() => {
                    escaped.push_str(&hex(c.encode_utf8(&mut [0; 4]).as_bytes()));
                }
                c => escaped.push(c),
            }
        }
        escaped.push_str(&hex(chunk.invalid()));
    }
    escaped.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(x: f64) -> String {
        let mut text = Vec::new();
        push_log10(x, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn logarithms_are_short_and_come_back() {
        for (x, written) in [
            (1.0, "0"),
            (0.1, "-1"),
            (0.5, "-0.30103"),
            (0.0, "-99"),
            (1e-100, "-100"),
            (2.0, "0.30103"),
            (1.0 - f64::EPSILON, "0"),
        ] {
            assert_eq!(decimal(x), written);
        }
        // As the reader does it.
        let again = |text: &str| decimal(10_f64.powf(f64::from(text.parse::<f32>().unwrap())));
        let mut x = 0.999_999_999_9_f64;
        while x > 1e-60 {
            for x in [x, 1.0 - x.min(0.5) * 1e-6, 1.0 + x] {
                let text = decimal(x);
                assert_eq!(again(&text), text, "{x}");
            }
            x *= 0.9973;
        }
    }

    #[test]
    fn escapes_can_be_undone() {
        for (token, escaped) in [
            (&b"a"[..], "a"),
            (b" ", "\\x20"),
            (b"\n", "\\x0A"),
            (b"\\x0A", "\\\\x0A"),
            (b"\xFF\xC3", "\\xFF\\xC3"),
            ("é\u{85}\u{3000}".as_bytes(), "é\\xC2\\x85\\xE3\\x80\\x80"),
        ] {
            assert_eq!(String::from_utf8(escape(token)).unwrap(), escaped);
        }
    }
}
