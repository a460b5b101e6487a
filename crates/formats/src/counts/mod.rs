//! Files of n-gram counts: binary ([`write()`], [`open`]) or as text with one n-gram per line
//! ([`write_tsv`], [`read_tsv`]); and merging the counts of a text's parts ([`merge`]).
//!
//! A binary file is a `container`: for each order the last words, the counts (both in as few bits
//! as the largest value needs) and the number of continuations of each n-gram in unary; then the
//! vocabulary, as in an n-gram model.

mod reader;
mod stream;
mod tsv;

pub use reader::CountsReader;
pub use stream::{TsvStream, write_streamed};
pub use tsv::{part_of_tsv, read_tsv, write_tsv};

use std::{collections::BTreeSet, path::Path};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use surprisal_model::ngram::packed::{self, Bytes, bits_for, packed_len};
use surprisal_model::ngram::{Counts, MAX_ORDER, OrderCounts, Shard};
use surprisal_text::{Granularity, Tokenizer};

use crate::container::{self, FileFormat};
use crate::file::{self, FileWriter};
use crate::ngram::Vocabulary;
use crate::{Error, Result};

const FORMAT: FileFormat = FileFormat { magic: b"SURPCNT2", what: "the counts file" };
/// Sections per order: words, counts, continuations.
const SECTIONS_PER_ORDER: usize = 3;

/// The part of a text that was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The number of the part, from 1.
    pub number: u32,
    /// The number of parts of the text; 1 for a whole text.
    pub parts: u32,
    /// The hash of the text (`surprisal_text::Corpus::hash`); empty for a whole text.
    pub text: String,
}

impl Part {
    /// A whole text.
    pub fn whole() -> Self {
        Self { number: 1, parts: 1, text: String::new() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    vocab_size: u32,
    bos: Option<u32>,
    beginning: Vec<u32>,
    orders: Vec<Order>,
    vocabulary: Vocabulary,
    /// Missing in early files of version 0.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<Part>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    grams: u32,
    /// The largest count of the order.
    largest: u32,
}

/// Whether `head`, the start of a file, is that of a counts file of any version.
pub fn has_magic(head: &[u8]) -> bool {
    FORMAT.matches(head)
}

/// Writes the file `path`, replacing an old one, and returns its size in bytes. `part` is the
/// counted part, if known.
///
/// # Errors
/// [`Io`](surprisal_store::Error::Io), then the old file is unchanged; counts and a tokenizer that
/// do not match.
pub fn write(
    path: impl AsRef<Path>,
    counts: &Counts,
    tokenizer: &Tokenizer,
    part: Option<&Part>,
) -> Result<u64> {
    let (mut header, sections) = parts(counts, tokenizer)?;
    header.part = part.cloned();
    let mut writer = FileWriter::create(path)?;
    container::write(&FORMAT, &header, &sections, |bytes| writer.put(bytes))?;
    writer.commit()
}

/// The bytes of a binary counts file.
///
/// # Errors
/// Counts and a tokenizer that do not match.
pub fn to_bytes(counts: &Counts, tokenizer: &Tokenizer) -> Result<Vec<u8>> {
    let (header, sections) = parts(counts, tokenizer)?;
    container::to_bytes(&FORMAT, &header, &sections)
}

/// Reads the file `path`; also returns the counted part, if the file contains it.
///
/// # Errors
/// [`Io`](surprisal_store::Error::Io); [`Malformed`](surprisal_store::Error::Malformed) if a
/// checksum does not match.
pub fn open(path: impl AsRef<Path>) -> Result<(Counts, Tokenizer, Option<Part>)> {
    let path = path.as_ref();
    container::read(&FORMAT, &file::read(path)?, interpret).map_err(|error| error.in_file(path))
}

/// The counts, the tokenizer and the counted part in the bytes of a file.
///
/// # Errors
/// [`Malformed`](surprisal_store::Error::Malformed) if a checksum does not match or the counts are
/// inconsistent.
pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<(Counts, Tokenizer, Option<Part>)> {
    container::read(&FORMAT, &bytes.into(), interpret)
}

fn interpret(header: Header, mut sections: Vec<Bytes>) -> Result<(Counts, Tokenizer, Option<Part>)> {
    let malformed = |problem: &dyn std::fmt::Display| Error::malformed(FORMAT.what, &problem.to_string());
    let Some(words) = sections.pop() else { return Err(malformed(&"it has no vocabulary")) };
    let tokenizer = header.vocabulary.decode(words.as_slice()).map_err(|error| malformed(&error))?;
    let order = header.orders.len();
    if !(1..=MAX_ORDER).contains(&order) || sections.len() != order * SECTIONS_PER_ORDER {
        return Err(malformed(&format!(
            "it has {} sections, which does not fit order {order}",
            sections.len()
        )));
    }
    if header.orders[0].grams != header.vocab_size {
        return Err(malformed(&"the number of 1-gram counts differs from the size of the vocabulary"));
    }
    let level = |(len, parts): (usize, &[Bytes])| {
        let Order { grams, largest } = header.orders[len];
        let next = header.orders.get(len + 1).map(|next| next.grams as usize);
        let [words, counts, unary] = parts else { return None };
        let array = |bits: u32, bytes: &Bytes| {
            let fits = packed_len(bits, u64::from(grams)) == Some(bytes.as_slice().len());
            fits.then(|| packed::unpack(bits, bytes.as_slice(), grams as usize))
        };
        // Checked first, because the lengths of the sections bound the number of n-grams.
        let starts = match next {
            Some(next) => packed::unpack_unary(unary.as_slice(), grams as usize, next)?,
            None => unary.as_slice().is_empty().then(Vec::new)?,
        };
        let words = match len {
            0 => words.as_slice().is_empty().then(Vec::new)?,
            _ => array(word_bits(header.vocab_size), words)?,
        };
        Some(OrderCounts {
            words,
            counts: array(bits_for(u64::from(largest)), counts)?,
            child_offsets: starts,
            suffix_links: Vec::new(),
        })
    };
    let levels: Option<Vec<OrderCounts>> =
        sections.par_chunks(SECTIONS_PER_ORDER).enumerate().map(level).collect();
    let levels = levels.ok_or_else(|| malformed(&"the lengths of its sections are wrong"))?;
    let Header { vocab_size, bos, beginning, part, .. } = header;
    if part.as_ref().is_some_and(|part| !(1..=part.parts).contains(&part.number)) {
        return Err(malformed(&"its part number is out of range"));
    }
    let mut counts = Counts { vocab_size, bos, levels, text_prefix: beginning };
    counts.check().and_then(|()| counts.build_suffix_links()).map_err(|error| malformed(&error))?;
    check_compatible(&counts, &tokenizer)?;
    Ok((counts, tokenizer, part))
}

fn parts(counts: &Counts, tokenizer: &Tokenizer) -> Result<(Header, Vec<Bytes>)> {
    check_compatible(counts, tokenizer)?;
    let (vocabulary, words) = Vocabulary::encode(tokenizer)?;
    let order = |level: &OrderCounts| Order {
        grams: level.counts.len() as u32,
        largest: level.counts.iter().copied().max().unwrap_or(0),
    };
    let header = Header {
        vocab_size: counts.vocab_size,
        bos: counts.bos,
        beginning: counts.text_prefix.clone(),
        orders: counts.levels.iter().map(order).collect(),
        vocabulary,
        part: None,
    };
    let sections =
        counts.levels.par_iter().zip(&header.orders).enumerate().flat_map_iter(|(len, (level, order))| {
            let numbers =
                |bits, values: &[u32]| packed::pack(bits, values.iter().map(|&value| u64::from(value)));
            let words =
                if len == 0 { Vec::new() } else { numbers(word_bits(counts.vocab_size), &level.words) };
            let top = level.child_offsets.is_empty();
            let unary = if top { Vec::new() } else { packed::pack_unary(&level.child_offsets) };
            [words, numbers(bits_for(u64::from(order.largest)), &level.counts), unary].map(Bytes::from)
        });
    let mut sections: Vec<Bytes> = sections.collect();
    sections.push(words.into());
    Ok((header, sections))
}

fn word_bits(vocab_size: u32) -> u32 {
    bits_for(u64::from(vocab_size.saturating_sub(1)))
}

/// Checks that the counts and the tokenizer have the same tokens.
fn check_compatible(counts: &Counts, tokenizer: &Tokenizer) -> Result<()> {
    let (tokens, words) = (counts.vocab_size as usize, tokenizer.vocab_size());
    if tokens != words || counts.bos != tokenizer.bos() {
        let problem = format!("the counts have {tokens} tokens, but the tokenizer has {words}");
        return Err(Error::malformed(FORMAT.what, &problem));
    }
    Ok(())
}

/// The counts of a text, from the counts of its parts in order; equal to counting the whole text.
///
/// Words are numbered by first appearance and characters by code point, as in learning from the
/// whole text. Shards of bytes or BPE must have the same tokenizer.
///
/// # Errors
/// Shards that do not match; those of [`Counts::merge`].
pub fn merge(shards: Vec<(Counts, Tokenizer)>) -> Result<(Counts, Tokenizer)> {
    let tokenizers: Vec<&Tokenizer> = shards.iter().map(|(_, tokenizer)| tokenizer).collect();
    let (tokenizer, ids) = merge_tokenizers(&tokenizers)?;
    let parts: Vec<Shard<'_>> =
        shards.iter().zip(&ids).map(|((counts, _), ids)| Shard { counts, ids }).collect();
    let counts = Counts::merge(&parts, tokenizer.vocab_size())?;
    Ok((counts, tokenizer))
}

/// The tokenizer of merged counts, and the new ids of each one's tokens.
///
/// # Errors
/// Tokenizers that do not match.
pub fn merge_tokenizers(tokenizers: &[&Tokenizer]) -> Result<(Tokenizer, Vec<Vec<u32>>)> {
    let hint = "count all parts with the same tokenizer settings and the same order";
    let unsupported =
        |problem: &str| Error::Unsupported { what: "one counts file", problem: problem.into(), hint };
    let Some(&first) = tokenizers.first() else { return Err(unsupported("there is nothing to merge")) };
    let (kind, unit) = (first.kind(), first.mode());
    if tokenizers.iter().any(|tokenizer| tokenizer.mode() != unit) {
        return Err(unsupported("counts of different units of text"));
    }
    Ok(if let Some(words) = first.words() {
        let marks = [first.unk(), first.bos(), first.eos()];
        let specials = marks.iter().flatten().count();
        let specials: Vec<&str> = words.take(specials).collect();
        let lists: Option<Vec<Vec<&str>>> = tokenizers
            .iter()
            .map(|tokenizer| Some(tokenizer.words().filter(|_| tokenizer.kind() == kind)?.collect()))
            .collect();
        let lists = lists.ok_or_else(|| unsupported("counts of different kinds of tokens"))?;
        let (words, ids) = merge_words(&specials, &lists, first.granularity() == Granularity::Char);
        (Tokenizer::from_words(kind, unit, words)?, ids)
    } else {
        let json = first.to_json()?;
        for tokenizer in tokenizers {
            if tokenizer.to_json()? != json {
                return Err(unsupported("counts with different tokenizers"));
            }
        }
        (first.clone(), vec![(0..first.vocab_size() as u32).collect(); tokenizers.len()])
    })
}

/// The union of all words, and each list's word ids in it.
fn merge_words<'a>(
    specials: &[&'a str],
    lists: &[Vec<&'a str>],
    by_value: bool,
) -> (Vec<&'a str>, Vec<Vec<u32>>) {
    #[expect(clippy::disallowed_types, reason = "looked up, never iterated")]
    type Numbers<'a> = std::collections::HashMap<&'a str, u32, foldhash::fast::RandomState>;
    let others = lists.iter().flatten().copied();
    let others: Vec<&str> = if by_value {
        let others: BTreeSet<&str> = others.filter(|word| !specials.contains(word)).collect();
        others.into_iter().collect()
    } else {
        others.collect()
    };
    let mut words: Vec<&str> = Vec::new();
    let mut numbers = Numbers::default();
    for word in specials.iter().copied().chain(others) {
        numbers.entry(word).or_insert_with(|| {
            words.push(word);
            words.len() as u32 - 1
        });
    }
    let ids = lists.iter().map(|list| list.iter().map(|word| numbers[word]).collect()).collect();
    (words, ids)
}

#[cfg(test)]
mod tests;
