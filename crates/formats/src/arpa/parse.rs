//! From the bytes of an ARPA file to the grams of each order, as they stand there.

#[expect(clippy::disallowed_types, reason = "looked up, never iterated")]
use std::collections::HashMap;

use rayon::prelude::*;
use surprisal_model::ngram::{MAX_ORDER, Smoothing};
use surprisal_text::{TokenizerKind, Unit, many};

use super::{SCORES, SPECIALS, SRILM_LOG_ZERO, declaration, line};
use crate::{Error, Result};
use surprisal_store::read::TO_UTF8;

/// How many bytes one task parses.
const BYTES_A_TASK: usize = 1 << 20;
/// Above 0 by no more than this, a logarithm is a rounding error.
const ROUNDING: f32 = 1e-6;
/// Weights outside 10^±this are no weights.
const LARGEST_WEIGHT: f32 = 99.0;

/// What stands in a file.
pub(super) struct Parsed<'a> {
    /// Words by id.
    pub(super) words: Vec<&'a str>,
    /// Which special words, the first by id, the file has. Bytes have none apart.
    pub(super) has: Vec<bool>,
    /// Index i holds the grams of i + 1 words.
    pub(super) orders: Vec<Order<'a>>,
    /// What the words are.
    pub(super) kind: TokenizerKind,
    pub(super) unit: Unit,
    /// How its numbers were made, as far as the file says.
    pub(super) smoothing: Smoothing,
}

/// The grams of one order.
pub(super) struct Order<'a> {
    /// The ids of each one's words.
    pub(super) words: Vec<u32>,
    /// log10 q.
    pub(super) logs: Vec<f32>,
    /// log10 of the weight; empty for the highest order.
    pub(super) weights: Vec<f32>,
    pub(super) section: Section<'a>,
}

/// The lines below `\k-grams:`.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    body: &'a [u8],
    first_line: u64,
    promised: u64,
}

impl Section<'_> {
    /// The line of gram `index`.
    pub(super) fn line(&self, index: usize) -> u64 {
        let lines = (self.first_line..).zip(self.body.split(|&byte| byte == b'\n'));
        lines.filter(|(_, text)| !is_blank(text)).nth(index).map_or(0, |(number, _)| number)
    }
}

#[expect(clippy::disallowed_types, reason = "looked up, never iterated")]
type Ids<'a> = HashMap<&'a [u8], u32, foldhash::fast::RandomState>;

/// Reads a file.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<'_>> {
    let (kind, unit, smoothing, sections) = sections(bytes)?;
    let order = sections.len();
    let specials = match (kind, unit) {
        (TokenizerKind::Byte, _) => &[],
        (_, Unit::Stream) => &SPECIALS[..1],
        (_, Unit::Line) => &SPECIALS[..],
    };
    let (words, has, ids, unigrams) = unigrams(sections[0], order == 1, specials)?;
    let mut orders = vec![unigrams];
    for (section, len) in sections.into_iter().zip(1..).skip(1) {
        let grams = |body| {
            let mut part = Part { words: Vec::new(), logs: Vec::new(), weights: Vec::new() };
            // Lines are sorted one way or the other, so that most words are those of the line before.
            let mut before = [(&b""[..], 0); MAX_ORDER];
            each_line(body, |fields| {
                let log = log(fields)?;
                for known in &mut before[..len] {
                    let word = fields.next().ok_or(Wrong::Short(len))?;
                    if known.0 != word {
                        let Some(&id) = ids.get(word) else { return Err(Wrong::Word(show(word))) };
                        *known = (word, id);
                    }
                    part.words.push(known.1);
                }
                part.logs.push(log);
                weight(fields, len == order, len).map(|weight| part.weights.push(weight))
            })
            .map(|lines| (part, lines))
        };
        orders.push(join(section, len, order, in_pieces(section, grams)?)?);
    }
    Ok(Parsed { words, has, orders, kind, unit, smoothing })
}

struct Part {
    words: Vec<u32>,
    logs: Vec<f32>,
    weights: Vec<f32>,
}

/// Puts the parts of a section together, and compares their number with what the header promised.
fn join(section: Section<'_>, len: usize, order: usize, mut parts: Vec<Part>) -> Result<Order<'_>> {
    let count: usize = parts.iter().map(|part| part.logs.len()).sum();
    promised(section, len, count)?;
    let mut grams = Order {
        words: Vec::with_capacity(count * len),
        logs: Vec::with_capacity(count),
        weights: Vec::with_capacity(if len == order { 0 } else { count }),
        section,
    };
    for part in &mut parts {
        grams.words.append(&mut part.words);
        grams.logs.append(&mut part.logs);
        if len < order {
            grams.weights.append(&mut part.weights);
        }
    }
    Ok(grams)
}

fn promised(section: Section<'_>, len: usize, count: usize) -> Result<()> {
    if count as u64 == section.promised && count < u32::MAX as usize {
        return Ok(());
    }
    let problem = format!("the header promises {} {len}-grams, here are {count}", section.promised);
    Err(line(section.first_line - 1, problem, "was the file cut short, or put together from others?"))
}

type Unigrams<'a> = (Vec<&'a str>, Vec<bool>, Ids<'a>, Order<'a>);

/// The words, and their ids: first `specials`, whether the file has them or not, then the others as they come.
fn unigrams<'a>(section: Section<'a>, top: bool, specials: &[&'static str]) -> Result<Unigrams<'a>> {
    let parts = in_pieces(section, |body| {
        let mut part = Vec::new();
        each_line(body, |fields| {
            let log = log(fields)?;
            let word = fields.next().ok_or(Wrong::Short(1))?;
            part.push((word, log, weight(fields, top, 1)?));
            Ok(())
        })
        .map(|lines| (part, lines))
    })?;
    let listed = parts.concat();
    promised(section, 1, listed.len())?;
    let mut words = specials.to_vec();
    let mut has = vec![false; specials.len()];
    let mut ids = Ids::with_capacity_and_hasher(listed.len() + 3, foldhash::fast::RandomState::default());
    ids.extend(specials.iter().zip(0..).map(|(word, id)| (word.as_bytes(), id)));
    // A text may have had the word: beside <unk> it is one like others.
    if !has.is_empty() && listed.iter().all(|(word, ..)| *word != b"<unk>") {
        ids.insert(b"<UNK>", 0);
    }
    let zeros = vec![0.0; specials.len()];
    let mut grams = Order { words: Vec::new(), logs: zeros.clone(), weights: zeros, section };
    for (index, (word, log, weight)) in listed.into_iter().enumerate() {
        let id = *ids.entry(word).or_insert(words.len() as u32) as usize;
        let known = has.get(id).copied().unwrap_or(id < words.len());
        if known {
            let problem = format!("`{}` stands here for the second time", show(word));
            return Err(line(section.line(index), problem, "every gram has one line"));
        }
        if let Some(has) = has.get_mut(id) {
            (*has, grams.logs[id], grams.weights[id]) = (true, log, weight);
            continue;
        }
        let Ok(word) = std::str::from_utf8(word) else {
            return Err(line(section.line(index), format!("`{}` is not UTF-8", show(word)), TO_UTF8));
        };
        words.push(word);
        grams.logs.push(log);
        grams.weights.push(weight);
    }
    if top {
        grams.weights.clear();
    }
    Ok((words, has, ids, grams))
}

/// What can be wrong with a line.
enum Wrong {
    Short(usize),
    Long(usize),
    Number(String),
    Positive(f32),
    Weight(f32),
    TopWeight(f32),
    Word(String),
}

impl Wrong {
    fn at(self, number: u64) -> Error {
        let (problem, hint) = match self {
            Self::Short(len) => (
                format!("a logarithm and {} are wanted", many(len as u64, "word")),
                "columns are separated by tabs, words by spaces; was the file cut short?",
            ),
            Self::Long(len) => (
                format!("there is more than a logarithm, {} and a weight", many(len as u64, "word")),
                "words have no spaces in them, and stand in the section of their number",
            ),
            Self::Number(text) => {
                (format!("`{text}` is no number"), "a line starts with the log10 of a probability")
            }
            Self::Positive(log) => (
                format!("log10 of a probability is never above 0, as {log} is"),
                "the file's author is at fault",
            ),
            Self::Weight(log) => (
                format!("a weight of 10^{log} is impossible"),
                "the last column is the log10 of a back-off weight",
            ),
            Self::TopWeight(log) => (
                format!("a gram of the highest order has a weight of {log}"),
                "nothing is longer: is there an order less in the header than in the file?",
            ),
            Self::Word(word) => (format!("`{word}` is not among the 1-grams"), "every word needs its 1-gram"),
        };
        line(number, problem, hint)
    }
}

/// The first column.
#[inline]
fn log(fields: &mut Fields<'_>) -> Result<f32, Wrong> {
    let log = number(fields.next().unwrap_or_default())?;
    if log > ROUNDING {
        return Err(Wrong::Positive(log));
    }
    Ok(log.min(0.0))
}

/// The last column, if it is there.
#[inline]
fn weight(fields: &mut Fields<'_>, top: bool, len: usize) -> Result<f32, Wrong> {
    let Some(field) = fields.next() else { return Ok(0.0) };
    if fields.next().is_some() {
        return Err(Wrong::Long(len));
    }
    let weight = number(field).map_err(|wrong| match wrong {
        // One word too many looks like a weight.
        Wrong::Number(_) => Wrong::Long(len),
        wrong => wrong,
    })?;
    if top && weight != 0.0 {
        return Err(Wrong::TopWeight(weight));
    }
    if weight.abs() > LARGEST_WEIGHT && weight != f32::NEG_INFINITY {
        return Err(Wrong::Weight(weight));
    }
    Ok(weight)
}

#[inline]
fn number(field: &[u8]) -> Result<f32, Wrong> {
    let parsed = std::str::from_utf8(field).ok().and_then(|field| field.parse::<f32>().ok());
    let number = parsed.filter(|number| !number.is_nan()).ok_or_else(|| Wrong::Number(show(field)))?;
    Ok(if number == SRILM_LOG_ZERO { f32::NEG_INFINITY } else { number })
}

/// For a message: not too much of it.
fn show(field: &[u8]) -> String {
    String::from_utf8_lossy(&field[..field.len().min(80)]).into_owned()
}

/// What separates columns and words. Nothing else does: a word may have a vertical tab in it.
#[inline]
fn separates(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|&byte| separates(byte))
}

/// The columns and words of a line.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.0.iter().position(|&byte| !separates(byte))?;
        let rest = &self.0[start..];
        let end = rest.iter().position(|&byte| separates(byte)).unwrap_or(rest.len());
        self.0 = &rest[end..];
        Some(&rest[..end])
    }
}

/// Calls `read` with each line that is not blank. Returns the number of lines, or the number of the wrong one, from 0.
fn each_line<'a>(
    body: &'a [u8],
    mut read: impl FnMut(&mut Fields<'a>) -> Result<(), Wrong>,
) -> Result<u64, (u64, Wrong)> {
    let (mut rest, mut number) = (body, 0);
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        if !is_blank(line) {
            read(&mut Fields(line)).map_err(|wrong| (number, wrong))?;
        }
        number += 1;
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    Ok(number)
}

/// Parses pieces of a section with all threads.
fn in_pieces<'a, T: Send>(
    section: Section<'a>,
    parse: impl Fn(&'a [u8]) -> Result<(T, u64), (u64, Wrong)> + Sync + Send,
) -> Result<Vec<T>> {
    let mut pieces = Vec::new();
    let mut rest = section.body;
    while !rest.is_empty() {
        let cut = rest.get(BYTES_A_TASK..).and_then(|rest| memchr::memchr(b'\n', rest));
        let (piece, after) = rest.split_at(cut.map_or(rest.len(), |at| BYTES_A_TASK + at + 1));
        pieces.push(piece);
        rest = after;
    }
    let parsed: Vec<_> = pieces.into_par_iter().map(parse).collect();
    let mut first_line = section.first_line;
    let mut parts = Vec::with_capacity(parsed.len());
    for part in parsed {
        let (part, lines) = part.map_err(|(number, wrong)| wrong.at(first_line + number))?;
        parts.push(part);
        first_line += lines;
    }
    Ok(parts)
}

/// Lines, one after the other.
struct Lines<'a> {
    rest: &'a [u8],
    /// Of the line last read, from 1.
    number: u64,
}

impl<'a> Lines<'a> {
    /// The next line that is not blank, without white space around it.
    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = memchr::memchr(b'\n', self.rest).unwrap_or(self.rest.len());
            let line = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            self.number += 1;
            if !is_blank(line) {
                return Some(line.trim_ascii());
            }
        }
        None
    }

    /// All lines up to one that starts with a backslash.
    fn body(&mut self) -> &'a [u8] {
        let all = self.rest;
        let starts = |&at: &usize| at == 0 || all[at - 1] == b'\n';
        let end = memchr::memchr_iter(b'\\', all).find(starts).unwrap_or(all.len());
        let (body, rest) = all.split_at(end);
        self.rest = rest;
        let newlines = |piece: &[u8]| memchr::memchr_iter(b'\n', piece).count() as u64;
        self.number += body.par_chunks(BYTES_A_TASK).map(newlines).sum::<u64>();
        // At the end of the file, a line may have none.
        self.number += u64::from(body.last().is_some_and(|&last| last != b'\n'));
        body
    }
}

/// What the line before `\data\` says that the tokens are.
fn declared(text: &[u8]) -> Option<(TokenizerKind, Unit)> {
    const BPE: TokenizerKind = TokenizerKind::Bpe { vocab_size: 0 };
    let kinds = [TokenizerKind::Byte, TokenizerKind::Char, TokenizerKind::Word, BPE];
    let mut all = kinds.into_iter().flat_map(|kind| [(kind, Unit::Line), (kind, Unit::Stream)]);
    all.find(|&(kind, unit)| declaration(kind, unit).is_some_and(|line| line.as_bytes() == text))
}

/// What the tokens are, and the sections, which must be those that the header promises.
fn sections(bytes: &[u8]) -> Result<(TokenizerKind, Unit, Smoothing, Vec<Section<'_>>)> {
    let (mut kind, mut unit, mut smoothing) = (TokenizerKind::Word, Unit::Line, Smoothing::Given);
    // A byte-order mark is none of the first line.
    let mut lines = Lines { rest: bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes), number: 0 };
    loop {
        match lines.next() {
            Some(b"\\data\\") => break,
            Some(text) if text == SCORES.as_bytes() => smoothing = Smoothing::StupidBackoff,
            Some(text) if text.starts_with(b"# tokenizer") => {
                (kind, unit) = declared(text).unwrap_or((kind, unit));
                if matches!(kind, TokenizerKind::Bpe { .. }) {
                    let problem =
                        "its tokens are byte pairs, and the file does not say how texts are cut into them";
                    let hint = "use the run or the .ngram file that it was written from";
                    return Err(line(lines.number, problem, hint));
                }
            }
            Some(_) => {}
            None => {
                return Err(line(lines.number, "there is no \\data\\", "is this an ARPA file, unpacked?"));
            }
        }
    }
    let ends = |lines: &Lines<'_>| line(lines.number, "the file ends here", "was it cut short?");
    let mut counts = Vec::new();
    let mut heading = loop {
        let text = lines.next().ok_or_else(|| ends(&lines))?;
        if text.starts_with(b"\\") {
            break text;
        }
        let count = count(text, counts.len() + 1);
        counts.push(count.ok_or_else(|| {
            let problem = format!("`ngram {}=` and how many there are is wanted here", counts.len() + 1);
            line(lines.number, problem, "orders are listed from 1, each once")
        })?);
        if counts.len() > MAX_ORDER {
            let hint = "a longer n-gram was never seen often enough to be worth it";
            return Err(line(lines.number, format!("orders above {MAX_ORDER} are not read"), hint));
        }
    };
    if counts.is_empty() {
        return Err(line(
            lines.number,
            "no order is listed below \\data\\",
            "`ngram 1=` and a number is wanted",
        ));
    }
    let mut sections = Vec::new();
    for (promised, order) in counts.into_iter().zip(1..) {
        if heading != format!("\\{order}-grams:").as_bytes() {
            let problem = format!("\\{order}-grams: is wanted here, not `{}`", show(heading));
            return Err(line(lines.number, problem, "every order of the header has its section, in order"));
        }
        let first_line = lines.number + 1;
        sections.push(Section { body: lines.body(), first_line, promised });
        heading = lines.next().ok_or_else(|| ends(&lines))?;
    }
    if heading != b"\\end\\" {
        let problem = format!("\\end\\ is wanted here, not `{}`", show(heading));
        return Err(line(lines.number, problem, "every order is listed below \\data\\"));
    }
    Ok((kind, unit, smoothing, sections))
}

/// The number in `ngram ORDER=NUMBER`.
fn count(text: &[u8], order: usize) -> Option<u64> {
    let (of, number) = std::str::from_utf8(text).ok()?.strip_prefix("ngram")?.split_once('=')?;
    (of.trim().parse() == Ok(order)).then(|| number.trim().parse().ok()).flatten()
}
