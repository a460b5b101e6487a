//! Counts as text: each line has the words of an n-gram separated by spaces, a tab, and its count.
//!
//! Lines are sorted by order, then by word ids. Every token of the vocabulary has a line, so that
//! the lines give the ids. Tokens are escaped as in ARPA files.

#[expect(clippy::disallowed_types, reason = "looked up, never iterated")]
use std::collections::HashMap;
use std::{ops::Range, path::Path};

use rayon::prelude::*;
use surprisal_model::ngram::packed::bits_for;
use surprisal_model::ngram::{Counts, MAX_ORDER, OrderCounts};
use surprisal_text::{TextMode, Tokenizer, TokenizerKind};

use super::Part;
use crate::file::FileWriter;
use crate::ngram_list::{NgramList, SPECIALS, chunks, show};
use crate::ordered_writer::OrderedWriter;
use crate::token_strings::{Context, NgramTree, StringTable, TextBuffer, spell};
use crate::{Error, Result};

/// The name in errors if the bytes do not come from a file.
const WHAT: &str = "the list of counts";
/// The start of the line that names the counted part of a text.
const PART: &str = "# part ";

/// Writes the file `path`, replacing an old one, and returns its size in bytes.
///
/// For a part of a text, the first line names the part. It has no tab, so it is not an n-gram.
///
/// # Errors
/// [`Io`](surprisal_store::Error::Io), then the old file is unchanged; counts and a tokenizer that
/// do not match.
pub fn write_tsv(
    path: impl AsRef<Path>,
    counts: &Counts,
    tokenizer: &Tokenizer,
    part: Option<&Part>,
) -> Result<u64> {
    super::check_compatible(counts, tokenizer)?;
    let spellings = StringTable::from_tokenizer(tokenizer);
    let tree = NgramTree {
        words: counts.levels.iter().map(|level| level.words.as_slice()).collect(),
        child_offsets: counts.levels.iter().map(|level| level.child_offsets.as_slice()).collect(),
        strings: &spellings,
    };
    let mut writer = FileWriter::create(path)?;
    let mut out = OrderedWriter::new(|bytes: &[u8]| writer.put(bytes));
    part_line(part).map_or(Ok(()), |line| out.put(line.as_bytes()))?;
    for (len, level) in counts.levels.iter().enumerate() {
        out.put_parallel(level.counts.len(), |grams, text| lines(&tree, len, level, grams, text))?;
    }
    writer.commit()
}

/// The line that names the counted part of a text.
pub(super) fn part_line(part: Option<&Part>) -> Option<String> {
    let Part { number, parts, text } = part.filter(|part| part.parts > 1)?;
    Some(format!("{PART}{number} of {parts} of the text {text}\n"))
}

fn lines(tree: &NgramTree<'_>, len: usize, level: &OrderCounts, grams: Range<usize>, text: &mut TextBuffer) {
    let mut context = Context::new(tree, len, grams.start);
    for gram in grams {
        context.advance(tree, gram);
        context.put(tree, gram, text);
        text.end_in(b'\t');
        text.extend(level.counts[gram].to_string().as_bytes());
        text.push(b'\n');
    }
}

/// The counted part of the text that the first line names, if it does.
pub fn part_of_tsv(bytes: &[u8]) -> Option<Part> {
    let line = bytes.split(|&byte| byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?.trim_end().strip_prefix(PART)?;
    let (number, rest) = line.split_once(" of ")?;
    let (parts, text) = rest.split_once(" of the text ")?;
    let part = Part { number: number.parse().ok()?, parts: parts.parse().ok()?, text: text.to_owned() };
    (1..=part.parts).contains(&part.number).then_some(part)
}

/// Reads a list of counts. Its tokens are those of `tokenizer`; without one they are words in line
/// mode: `<unk>`, `<s>`, `</s>`, with or without lines, then the others in the order of their
/// lines.
///
/// Lines may be in any order, end in CRLF, and be blank. Every n-gram must have one line, as must
/// its prefix and suffix (all words but the last, all but the first). The counts of its
/// continuations must not add up to more than its own count. If the text is one sequence, its first
/// words are inferred: they occur once more as a prefix than they follow another word.
///
/// # Errors
/// [`Error::Line`] with the line and advice.
pub fn read_tsv(bytes: &[u8], tokenizer: Option<&Tokenizer>) -> Result<(Counts, Tokenizer)> {
    let rows = rows(bytes)?;
    let order = rows.iter().map(|row| row.len).max().unwrap_or(0);
    if order == 0 {
        return Err(line(0, "there are no counts".into(), "a line has words, a tab and a count"));
    }
    let (tokenizer, ids) = vocabulary(&rows, tokenizer)?;
    let mut orders = Vec::with_capacity(order);
    for len in 1..=order {
        orders.push(Order::new(&rows, len, &ids, tokenizer.vocab_size())?);
    }
    let mut levels = Vec::with_capacity(order);
    for len in 0..order {
        levels.push(level(&orders, len)?);
    }
    let vocab_size = tokenizer.vocab_size() as u32;
    let mut counts = Counts { vocab_size, bos: tokenizer.bos(), levels, text_prefix: Vec::new() };
    counts.check()?;
    counts.build_suffix_links()?;
    if counts.bos.is_none() {
        counts.text_prefix = counts.first_words();
    }
    Ok((counts, tokenizer))
}

fn line(line: u64, problem: String, hint: &'static str) -> Error {
    Error::Line { what: WHAT.into(), line, problem, hint }
}

#[expect(clippy::disallowed_types, reason = "looked up, never iterated")]
type Ids = HashMap<Vec<u8>, u32, foldhash::fast::RandomState>;

/// A parsed line.
#[derive(Clone, Copy)]
struct Row<'a> {
    line: u64,
    words: &'a [u8],
    len: usize,
    count: u32,
}

fn words_of(gram: &[u8]) -> impl Iterator<Item = &[u8]> {
    gram.split(|&byte| byte == b' ').filter(|word| !word.is_empty())
}

/// The lines that are not blank.
fn rows(bytes: &[u8]) -> Result<Vec<Row<'_>>> {
    let mut before = 0_u64;
    let chunks = chunks(bytes).into_iter().map(|chunk| {
        let lines = memchr::memchr_iter(b'\n', chunk).count() as u64;
        before += lines;
        (before - lines, chunk)
    });
    let chunks: Vec<_> = chunks.collect();
    let parts: Vec<_> = chunks.into_par_iter().map(rows_of).collect();
    let parts: Result<Vec<_>> = parts.into_iter().collect();
    Ok(parts?.concat())
}

/// The parsed lines of a chunk that `before` lines precede.
fn rows_of((before, chunk): (u64, &[u8])) -> Result<Vec<Row<'_>>> {
    let lines = (before + 1..).zip(chunk.split(|&byte| byte == b'\n'));
    let lines = lines.map(|(number, text)| (number, text.strip_suffix(b"\r").unwrap_or(text)));
    let lines = lines.filter(|(number, text)| *number > 1 || part_of_tsv(text).is_none());
    lines.filter(|(_, text)| !text.is_empty()).map(|(number, text)| row(number, text)).collect()
}

fn row(number: u64, text: &[u8]) -> Result<Row<'_>> {
    let hint = "a line has words separated by spaces, a tab and a count";
    let Some(tab) = memchr::memrchr(b'\t', text) else {
        return Err(line(number, "there is no tab".into(), hint));
    };
    let (words, count) = (&text[..tab], &text[tab + 1..]);
    let parsed = std::str::from_utf8(count).ok().and_then(|count| count.parse().ok());
    let Some(count) = parsed else {
        let problem = format!("`{}` is not a count", show(count));
        return Err(line(number, problem, hint));
    };
    let len = words_of(words).count();
    if !(1..=MAX_ORDER).contains(&len) {
        return Err(line(number, format!("an n-gram has from 1 to {MAX_ORDER} words, not {len}"), hint));
    }
    if len > 1 && count == 0 {
        return Err(line(
            number,
            "an n-gram with a count of 0".into(),
            "only single words may have a count of 0",
        ));
    }
    Ok(Row { line: number, words, len, count })
}

/// The tokenizer, and its token ids by spelling.
fn vocabulary(rows: &[Row<'_>], given: Option<&Tokenizer>) -> Result<(Tokenizer, Ids)> {
    if let Some(given) = given {
        let ids = (0..given.vocab_size() as u32).map(|id| (spell(given, id).into_owned(), id)).collect();
        return Ok((given.clone(), ids));
    }
    let mut words = SPECIALS.to_vec();
    let mut ids: Ids = words.iter().zip(0..).map(|(word, id)| (word.as_bytes().to_vec(), id)).collect();
    for row in rows.iter().filter(|row| row.len == 1) {
        let Some(word) = words_of(row.words).next().filter(|&word| !ids.contains_key(word)) else { continue };
        let hint = "convert the file to UTF-8 first";
        let text = std::str::from_utf8(word)
            .map_err(|_| line(row.line, format!("`{}` is not UTF-8", show(word)), hint))?;
        ids.insert(word.to_vec(), words.len() as u32);
        words.push(text);
    }
    Ok((Tokenizer::from_words(TokenizerKind::Word, TextMode::Line, words)?, ids))
}

/// The sorted n-grams of one order.
struct Order {
    len: usize,
    words: Vec<u32>,
    counts: Vec<u32>,
    /// The line of each n-gram; 0 for a word without a line.
    lines: Vec<u64>,
}

impl Order {
    fn new(rows: &[Row<'_>], len: usize, ids: &Ids, vocab_size: usize) -> Result<Self> {
        let rows = || rows.iter().filter(|row| row.len == len);
        let mut order = Self { len, words: Vec::new(), counts: Vec::new(), lines: Vec::new() };
        for row in rows() {
            for word in words_of(row.words) {
                let id = ids.get(word).ok_or_else(|| {
                    let problem = format!("`{}` has no line as a single word", show(word));
                    line(row.line, problem, "every word must have its own line")
                })?;
                order.words.push(*id);
            }
            order.counts.push(row.count);
            order.lines.push(row.line);
        }
        let bits = bits_for(vocab_size as u64 - 1);
        let permutation = order.grams().argsort(bits).map_err(|index| {
            let gram = rows().nth(index).map_or_else(String::new, |row| show(row.words));
            line(order.lines[index], format!("`{gram}` is a duplicate"), "every n-gram must have one line")
        })?;
        if let Some(permutation) = permutation {
            order.words = order.grams().permuted(&permutation);
            order.counts = permutation.iter().map(|&index| order.counts[index as usize]).collect();
            order.lines = permutation.iter().map(|&index| order.lines[index as usize]).collect();
        }
        if len == 1 {
            let (mut counts, mut lines) = (vec![0; vocab_size], vec![0; vocab_size]);
            for (i, &word) in order.words.iter().enumerate() {
                (counts[word as usize], lines[word as usize]) = (order.counts[i], order.lines[i]);
            }
            order = Self { len, words: (0..vocab_size as u32).collect(), counts, lines };
        }
        Ok(order)
    }

    fn grams(&self) -> NgramList<'_> {
        NgramList { len: self.len, words: &self.words }
    }
}

/// The order of n-grams with `len` + 1 words, without suffix links.
fn level(orders: &[Order], len: usize) -> Result<OrderCounts> {
    let order = &orders[len];
    if len > 1 {
        let below = orders[len - 1].grams();
        let lacks = |&gram: &usize| below.find(&order.grams().get(gram)[1..]).is_none();
        if let Some(gram) = (0..order.counts.len()).into_par_iter().find_first(lacks) {
            let problem = "its suffix (all words but the first) has no line".into();
            return Err(line(order.lines[gram], problem, "every part of an n-gram must have a line"));
        }
    }
    let starts = match orders.get(len + 1) {
        Some(next) => next.grams().child_offsets(order.grams()).map_err(|(_, needed)| {
            let problem = "its prefix (all words but the last) has no line".into();
            line(next.lines[needed[0]], problem, "every part of an n-gram must have a line")
        })?,
        None => Vec::new(),
    };
    for (gram, pair) in starts.windows(2).enumerate() {
        let next = &orders[len + 1];
        let (from, to) = (pair[0] as usize, pair[1] as usize);
        let sum: u64 = next.counts[from..to].iter().map(|&count| u64::from(count)).sum();
        if sum > u64::from(order.counts[gram]) {
            let at = if order.lines[gram] == 0 { next.lines[from] } else { order.lines[gram] };
            let problem = format!(
                "its count is {}, but the counts of its continuations sum to {sum}",
                order.counts[gram]
            );
            return Err(line(
                at,
                problem,
                "continuation counts must not add up to more than the n-gram's count",
            ));
        }
    }
    let words = if len == 0 {
        Vec::new()
    } else {
        order.words.par_chunks_exact(order.len).map(|gram| gram[order.len - 1]).collect()
    };
    Ok(OrderCounts { words, counts: order.counts.clone(), child_offsets: starts, suffix_links: Vec::new() })
}
