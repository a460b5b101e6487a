//! Parses the bytes of an ARPA file into the n-grams of each order, in the order of the file.

#[expect(clippy::disallowed_types, reason = "looked up, never iterated")]
use std::collections::HashMap;

use rayon::prelude::*;
use surprisal_model::ngram::{MAX_ORDER, Smoothing};
use surprisal_text::{Granularity, TextMode, Tokenizer, TokenizerKind, many};

use super::{DECLARATION_PREFIX, SCORES_DECLARATION, SRILM_LOG_ZERO, TOKENIZER_PREFIX, line};
use crate::Result;
use crate::ngram_list::{BYTES_PER_TASK, SPECIALS, chunks, show};
use crate::token_strings::spell;
use surprisal_store::read::TO_UTF8;

/// A log-probability above 0 by no more than this is a rounding error.
const ROUNDING: f32 = 1e-6;
/// The largest accepted |log10| of a back-off weight.
const MAX_LOG10_BACKOFF: f32 = 99.0;

/// The lines before the n-grams, and where those are.
pub(super) struct Header<'a> {
    kind: TokenizerKind,
    unit: TextMode,
    smoothing: Smoothing,
    /// The tokenizer that the file contains, and its tokens as they are written.
    tokenizer: Option<(Tokenizer, Vec<String>)>,
    sections: Vec<Section<'a>>,
}

/// The content of a file.
pub(super) struct Parsed<'a> {
    /// Words by id.
    pub(super) words: Vec<&'a str>,
    /// For each special word, by id, whether the file has it. Byte tokens have no special words.
    pub(super) has: Vec<bool>,
    /// Index i holds the n-grams of i + 1 words.
    pub(super) orders: Vec<Order<'a>>,
    /// The kind of tokens.
    pub(super) kind: TokenizerKind,
    pub(super) unit: TextMode,
    /// The tokenizer, if the file contains one.
    pub(super) tokenizer: Option<&'a Tokenizer>,
    /// The smoothing method, if the file declares it.
    pub(super) smoothing: Smoothing,
}

/// The n-grams of one order.
pub(super) struct Order<'a> {
    /// Words per n-gram.
    pub(super) len: usize,
    /// The word ids, `len` per n-gram.
    pub(super) words: Vec<u32>,
    /// log10 q.
    pub(super) log10_probs: Vec<f32>,
    /// log10 of the back-off weights; empty for the highest order.
    pub(super) log10_backoffs: Vec<f32>,
    pub(super) section: Section<'a>,
}

/// The section of one order: the lines after `\k-grams:`.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    body: &'a [u8],
    first_line: u64,
    declared_count: u64,
}

impl Section<'_> {
    /// The line number of n-gram `index`.
    pub(super) fn line(&self, index: usize) -> u64 {
        let mut lines = Lines { rest: self.body, number: self.first_line - 1 };
        lines.nth(index).map_or(0, |_| lines.number)
    }
}

#[expect(clippy::disallowed_types, reason = "looked up, never iterated")]
type Ids<'a> = HashMap<&'a [u8], u32, foldhash::fast::RandomState>;

/// Parses the n-grams.
pub(super) fn parse<'a>(header: &'a Header<'a>) -> Result<Parsed<'a>> {
    let Header { kind, unit, smoothing, ref tokenizer, ref sections } = *header;
    let order = sections.len();
    let first: Vec<&str> = match (tokenizer, unit) {
        (Some((_, tokens)), _) => tokens.iter().map(String::as_str).collect(),
        (None, _) if kind.granularity() == Granularity::Byte => Vec::new(),
        (None, TextMode::Stream) => SPECIALS[..1].into(),
        (None, TextMode::Line) => SPECIALS.into(),
        (None, TextMode::Document) => vec!["<unk>", "</s>"],
    };
    let (words, mut has, ids, unigrams) = unigrams(sections[0], order == 1, &first)?;
    if tokenizer.is_some() {
        let other = words.get(first.len()).map(|word| format!("`{word}` is not one of its tokens"));
        let missing = || {
            let at = has.iter().position(|has| !has)?;
            Some(format!("the token `{}` has no 1-gram", words[at]))
        };
        if let Some(problem) = other.or_else(missing) {
            let problem = format!("the 1-grams are not those of the file's tokenizer: {problem}");
            return Err(line(sections[0].first_line - 1, problem, OWN_TOKENS));
        }
        has.clear();
    }
    let mut orders = vec![unigrams];
    for (&section, len) in sections.iter().zip(1..).skip(1) {
        let top = len == order;
        let grams = |body| {
            let mut part = Order {
                len,
                words: Vec::new(),
                log10_probs: Vec::new(),
                log10_backoffs: Vec::new(),
                section,
            };
            // The previous line's words are cached: lines are usually sorted, so most words repeat.
            let mut before = [(&b""[..], 0); MAX_ORDER];
            let lines = each_line(body, |line| {
                let mut fields = fields(line);
                let log = log10_prob(&mut fields)?;
                for known in &mut before[..len] {
                    let word = fields.next().ok_or_else(|| too_few_fields(len))?;
                    if known.0 != word {
                        let id = ids.get(word).ok_or_else(|| LineError {
                            problem: format!("`{}` is not among the 1-grams", show(word)),
                            hint: "every word needs its 1-gram",
                        })?;
                        *known = (word, *id);
                    }
                    part.words.push(known.1);
                }
                part.log10_probs.push(log);
                let weight = log10_backoff(&mut fields, top, len)?;
                if !top {
                    part.log10_backoffs.push(weight);
                }
                Ok(())
            })?;
            Ok((part, lines))
        };
        let parts = parse_chunks(section, grams)?;
        check_count(section, len, parts.iter().map(|part| part.log10_probs.len()).sum())?;
        orders.push(Order {
            len,
            words: parts.iter().map(|part| part.words.as_slice()).collect::<Vec<_>>().concat(),
            log10_probs: parts.iter().map(|part| part.log10_probs.as_slice()).collect::<Vec<_>>().concat(),
            log10_backoffs: parts
                .iter()
                .map(|part| part.log10_backoffs.as_slice())
                .collect::<Vec<_>>()
                .concat(),
            section,
        });
    }
    let tokenizer = tokenizer.as_ref().map(|(tokenizer, _)| tokenizer);
    Ok(Parsed { words, has, orders, kind, unit, tokenizer, smoothing })
}

/// Compares the number of n-grams with the number in the header.
fn check_count(section: Section<'_>, len: usize, count: usize) -> Result<()> {
    if count as u64 == section.declared_count && count < u32::MAX as usize {
        return Ok(());
    }
    let problem = format!("the header says {} {len}-grams, but there are {count}", section.declared_count);
    Err(line(section.first_line - 1, problem, "was the file cut short, or put together from others?"))
}

type Unigrams<'a> = (Vec<&'a str>, Vec<bool>, Ids<'a>, Order<'a>);

/// Advice for a file whose tokens cannot be known.
const OWN_TOKENS: &str = "use the run or the .ngram file from which it was written";

/// Parses the 1-grams. Ids: first `specials`, present or not, then the other words in the order of
/// the file.
fn unigrams<'a>(section: Section<'a>, top: bool, specials: &[&'a str]) -> Result<Unigrams<'a>> {
    let parts = parse_chunks(section, |body| {
        let mut part = Vec::new();
        let lines = each_line(body, |line| {
            let mut fields = fields(line);
            let log = log10_prob(&mut fields)?;
            let word = fields.next().ok_or_else(|| too_few_fields(1))?;
            part.push((word, log, log10_backoff(&mut fields, top, 1)?));
            Ok(())
        })?;
        Ok((part, lines))
    })?;
    let listed = parts.concat();
    check_count(section, 1, listed.len())?;
    let mut words = specials.to_vec();
    let mut has = vec![false; specials.len()];
    let mut ids = Ids::with_capacity_and_hasher(listed.len() + 3, foldhash::fast::RandomState::default());
    ids.extend(specials.iter().zip(0..).map(|(word, id)| (word.as_bytes(), id)));
    // <UNK> is <unk> only in a file without <unk>; otherwise it is an ordinary word.
    if specials.first() == Some(&"<unk>") && listed.iter().all(|(word, ..)| *word != b"<unk>") {
        ids.insert(b"<UNK>", 0);
    }
    let zeros = vec![0.0; specials.len()];
    let mut grams =
        Order { len: 1, words: Vec::new(), log10_probs: zeros.clone(), log10_backoffs: zeros, section };
    for (index, (word, log, weight)) in listed.into_iter().enumerate() {
        let id = *ids.entry(word).or_insert(words.len() as u32) as usize;
        let known = has.get(id).copied().unwrap_or(id < words.len());
        if known {
            let problem = format!("`{}` is a duplicate", show(word));
            return Err(line(section.line(index), problem, "every n-gram must have one line"));
        }
        if let Some(has) = has.get_mut(id) {
            (*has, grams.log10_probs[id], grams.log10_backoffs[id]) = (true, log, weight);
            continue;
        }
        let Ok(word) = std::str::from_utf8(word) else {
            return Err(line(section.line(index), format!("`{}` is not UTF-8", show(word)), TO_UTF8));
        };
        words.push(word);
        grams.log10_probs.push(log);
        grams.log10_backoffs.push(weight);
    }
    if top {
        grams.log10_backoffs.clear();
    }
    Ok((words, has, ids, grams))
}

/// A mistake in a line, and advice.
struct LineError {
    problem: String,
    hint: &'static str,
}

fn too_few_fields(len: usize) -> LineError {
    LineError {
        problem: format!("a logarithm and {} are expected", many(len as u64, "word")),
        hint: "columns are separated by tabs, words by spaces; was the file cut short?",
    }
}

fn too_many_fields(len: usize) -> LineError {
    LineError {
        problem: format!("there are more fields than a logarithm, {} and a weight", many(len as u64, "word")),
        hint: "words cannot contain spaces, and every n-gram must be in the section of its length",
    }
}

/// Parses the first column.
#[inline]
fn log10_prob<'a>(fields: &mut impl Iterator<Item = &'a [u8]>) -> Result<f32, LineError> {
    let field = fields.next().unwrap_or_default();
    let log = number(field).ok_or_else(|| LineError {
        problem: format!("`{}` is not a number", show(field)),
        hint: "a line starts with the log10 of a probability",
    })?;
    if log > ROUNDING {
        let problem = format!("log10 of a probability cannot be above 0, but is {log}");
        return Err(LineError { problem, hint: "the program that wrote the file made a mistake" });
    }
    Ok(log.min(0.0))
}

/// Parses the last column; 0 if it is missing.
#[inline]
fn log10_backoff<'a>(
    fields: &mut impl Iterator<Item = &'a [u8]>,
    top: bool,
    len: usize,
) -> Result<f32, LineError> {
    let Some(field) = fields.next() else { return Ok(0.0) };
    // An extra word would look like a weight.
    let weight = number(field).filter(|_| fields.next().is_none()).ok_or_else(|| too_many_fields(len))?;
    if top && weight != 0.0 {
        let problem = format!("an n-gram of the highest order has a back-off weight of {weight}");
        let hint = "does the header list fewer orders than the file has?";
        return Err(LineError { problem, hint });
    }
    if weight.abs() > MAX_LOG10_BACKOFF && weight != f32::NEG_INFINITY {
        let problem = format!("a back-off weight of 10^{weight} is out of range");
        return Err(LineError { problem, hint: "the last column is the log10 of a back-off weight" });
    }
    Ok(weight)
}

#[inline]
fn number(field: &[u8]) -> Option<f32> {
    let number: f32 = std::str::from_utf8(field).ok()?.parse().ok()?;
    if number.is_nan() {
        return None;
    }
    Some(if number == SRILM_LOG_ZERO { f32::NEG_INFINITY } else { number })
}

/// Whether `byte` separates columns and words; a vertical tab can be part of a word.
#[inline]
fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

/// The columns and words of a line.
#[inline]
fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| is_separator(byte)).filter(|field| !field.is_empty())
}

/// Calls `read` with each line that is not blank. Returns the number of lines, or on an error the
/// index of its line, from 0.
fn each_line<'a>(
    body: &'a [u8],
    mut read: impl FnMut(&'a [u8]) -> Result<(), LineError>,
) -> Result<u64, (u64, LineError)> {
    let mut lines = Lines { rest: body, number: 0 };
    while let Some(line) = lines.next() {
        read(line).map_err(|wrong| (lines.number - 1, wrong))?;
    }
    Ok(lines.number)
}

/// Parses chunks of a section in parallel.
fn parse_chunks<'a, T: Send>(
    section: Section<'a>,
    parse: impl Fn(&'a [u8]) -> Result<(T, u64), (u64, LineError)> + Sync + Send,
) -> Result<Vec<T>> {
    let parsed: Vec<_> = chunks(section.body).into_par_iter().map(parse).collect();
    let mut first_line = section.first_line;
    let mut parts = Vec::with_capacity(parsed.len());
    for part in parsed {
        let (part, lines) =
            part.map_err(|(number, wrong)| line(first_line + number, wrong.problem, wrong.hint))?;
        parts.push(part);
        first_line += lines;
    }
    Ok(parts)
}

/// An iterator over the lines that are not blank.
struct Lines<'a> {
    rest: &'a [u8],
    /// The number of the line last read, from 1.
    number: u64,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = memchr::memchr(b'\n', self.rest).unwrap_or(self.rest.len());
            let line = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            self.number += 1;
            if !line.iter().all(|&byte| is_separator(byte)) {
                return Some(line);
            }
        }
        None
    }
}

impl<'a> Lines<'a> {
    /// The next line that is not blank, trimmed.
    fn next_trimmed(&mut self) -> Option<&'a [u8]> {
        self.next().map(<[u8]>::trim_ascii)
    }

    /// The bytes of all lines before the next one that starts with a backslash.
    fn body(&mut self) -> &'a [u8] {
        let all = self.rest;
        let starts = |&at: &usize| at == 0 || all[at - 1] == b'\n';
        let end = memchr::memchr_iter(b'\\', all).find(starts).unwrap_or(all.len());
        let (body, rest) = all.split_at(end);
        self.rest = rest;
        let newlines = |chunk: &[u8]| memchr::memchr_iter(b'\n', chunk).count() as u64;
        self.number += body.par_chunks(BYTES_PER_TASK).map(newlines).sum::<u64>();
        // The last line of a file may have no newline.
        self.number += u64::from(body.last().is_some_and(|&last| last != b'\n'));
        body
    }
}

/// The kind and mode of tokens that a line before `\data\` declares; no kind if it is not built in.
fn declared(text: &[u8]) -> Option<(Option<TokenizerKind>, TextMode)> {
    let (kind, unit) =
        std::str::from_utf8(text).ok()?.strip_prefix(DECLARATION_PREFIX)?.split_once(", unit = ")?;
    let mode = match unit {
        "line" => TextMode::Line,
        "stream" => TextMode::Stream,
        "document" => TextMode::Document,
        _ => return None,
    };
    Some((TokenizerKind::BUILT_IN.into_iter().find(|known| known.name() == kind), mode))
}

/// The lines before the n-grams, and the sections, which must match them.
pub(super) fn header(bytes: &[u8]) -> Result<Header<'_>> {
    let (mut tokenizer, mut without_rules) = (None, None);
    let (mut kind, mut unit, mut smoothing) = (TokenizerKind::Word, TextMode::Line, Smoothing::Given);
    // A byte-order mark is not part of the first line.
    let mut lines = Lines { rest: bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes), number: 0 };
    loop {
        match lines.next_trimmed() {
            Some(b"\\data\\") => break,
            Some(text) if text.starts_with(TOKENIZER_PREFIX.as_bytes()) => {
                let read = Tokenizer::from_json(&text[TOKENIZER_PREFIX.len()..]);
                let read = read.map_err(|error| {
                    let problem = format!("the tokenizer in this line cannot be read: {error}");
                    line(lines.number, problem, OWN_TOKENS)
                })?;
                let spelled = |id| String::from_utf8_lossy(&spell(&read, id)).into_owned();
                let tokens = (0..read.vocab_size() as u32).map(spelled).collect();
                (kind, unit, tokenizer) = (read.kind(), read.mode(), Some((read, tokens)));
            }
            Some(text) if text == SCORES_DECLARATION.as_bytes() => smoothing = Smoothing::StupidBackoff,
            Some(text) => {
                let Some((found, mode)) = declared(text) else { continue };
                match found.filter(|kind| kind.granularity() != Granularity::Subword) {
                    Some(listed) => (kind, unit) = (listed, mode),
                    None => without_rules = Some(lines.number),
                }
            }
            None => {
                return Err(line(lines.number, "there is no \\data\\", "is this an ARPA file, unpacked?"));
            }
        }
    }
    if let (Some(number), None) = (without_rules, &tokenizer) {
        let problem = "its tokens are byte pairs or of a custom tokenizer, and the file does not contain the rules for them";
        return Err(line(number, problem, OWN_TOKENS));
    }
    let ends = |lines: &Lines<'_>| line(lines.number, "the file ends here", "was it cut short?");
    let mut counts = Vec::new();
    let mut heading = loop {
        let text = lines.next_trimmed().ok_or_else(|| ends(&lines))?;
        if text.starts_with(b"\\") {
            break text;
        }
        let count = count(text, counts.len() + 1);
        counts.push(count.ok_or_else(|| {
            let problem = format!("`ngram {}=` and a number are expected here", counts.len() + 1);
            line(lines.number, problem, "list every order once, from 1")
        })?);
        if counts.len() > MAX_ORDER {
            let hint = "longer n-grams are too rare to improve a model";
            return Err(line(lines.number, format!("orders above {MAX_ORDER} are not supported"), hint));
        }
    };
    if counts.is_empty() {
        return Err(line(
            lines.number,
            "no order is listed below \\data\\",
            "`ngram 1=` and a number are expected",
        ));
    }
    let mut sections = Vec::new();
    for (promised, order) in counts.into_iter().zip(1..) {
        if heading != format!("\\{order}-grams:").as_bytes() {
            let problem = format!("\\{order}-grams: is expected here, not `{}`", show(heading));
            return Err(line(lines.number, problem, "every order in the header needs its section, in order"));
        }
        let first_line = lines.number + 1;
        sections.push(Section { body: lines.body(), first_line, declared_count: promised });
        heading = lines.next_trimmed().ok_or_else(|| ends(&lines))?;
    }
    if heading != b"\\end\\" {
        let problem = format!("\\end\\ is expected here, not `{}`", show(heading));
        return Err(line(lines.number, problem, "every order must be listed below \\data\\"));
    }
    Ok(Header { kind, unit, smoothing, tokenizer, sections })
}

/// The number in a line `ngram ORDER=NUMBER`.
fn count(text: &[u8], order: usize) -> Option<u64> {
    let (of, number) = std::str::from_utf8(text).ok()?.strip_prefix("ngram")?.split_once('=')?;
    (of.trim().parse() == Ok(order)).then(|| number.trim().parse().ok()).flatten()
}
