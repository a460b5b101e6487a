//! Writes probing hash tables: those that KenLM's `build_binary probing` makes of the model's ARPA
//! file, but that the probability of `<s>`, which is never used, is always zero.

use std::path::Path;

use surprisal_model::ngram::{BackoffScheme, MAX_ORDER, NgramModel, UnpackedLevel};
use surprisal_text::{TextMode, Tokenizer};

use super::UNK;
use super::header::{self, Structure};
use super::probing::{self, FLOAT, KEY, Table, TableMut, extended};
use super::vocabulary::{self, BUCKET, murmur_hash};
use crate::arpa::{SRILM_LOG_ZERO, log10};
use crate::file::FileWriter;
use crate::ngram_list::SPECIALS;
use crate::{Error, Result};

/// Buckets of a hash table per entry.
const MULTIPLIER: f32 = 1.5;
/// Bytes of probability and weight.
const VALUES: usize = 2 * FLOAT;
/// N-grams whose buckets are fetched at the same time.
const FETCHED: usize = 32;

/// Writes the file `path`, replacing an old one, and returns its size in bytes.
///
/// # Errors
/// [`Io`](surprisal_store::Error::Io), then the old file is unchanged; those of [`to_bytes`].
pub fn write(path: impl AsRef<Path>, model: &NgramModel, tokenizer: &Tokenizer) -> Result<u64> {
    let mut writer = FileWriter::create(path)?;
    writer.put(&to_bytes(model, tokenizer)?)?;
    writer.commit()
}

/// The bytes of the file.
///
/// # Errors
/// [`Error::Unsupported`] for a model that is not of words in sentences, does not back off or is of
/// order 1; more n-grams without their suffix than tables have room for; an inconsistent model.
pub fn to_bytes(model: &NgramModel, tokenizer: &Tokenizer) -> Result<Vec<u8>> {
    let unsupported = |problem: &str| {
        let hint = "the .ngram format supports every model";
        Err(Error::Unsupported { what: "a KenLM binary", problem: problem.into(), hint })
    };
    let sentences = tokenizer.mode() == TextMode::Line && tokenizer.unk() == Some(UNK);
    let Some(words) = tokenizer.words().filter(|_| sentences) else {
        return unsupported("the model is not of words in sentences");
    };
    let estimate = model.trie().to_estimate()?;
    if estimate.tables.len() < 2 {
        return unsupported("the model is of order 1");
    }
    if estimate.scheme == BackoffScheme::LongestOnly || estimate.unseen_context_factor != 1.0 {
        return unsupported("the model does not back off");
    }
    let counts: Vec<u64> = estimate.tables.iter().map(|table| table.value_ids.len() as u64).collect();
    let words: Vec<&str> = words.collect();
    let mut out = header::to_bytes(Structure::Probing, MULTIPLIER, &counts);
    out.extend(vocabulary::VERSION.to_le_bytes());
    out.extend((counts[0] as u32).to_le_bytes());
    let mut lens = vec![len_of(counts[0], BUCKET)?, (words.len() + 1) * VALUES];
    for len in 1..counts.len() {
        lens.push(len_of(counts[len], entry_of(len, counts.len()))?);
    }
    let start = out.len();
    let spelled: usize = words.iter().map(|word| word.len() + 1).sum();
    out.reserve_exact(lens.iter().sum::<usize>() + spelled + SPECIALS[0].len());
    out.resize(start + lens.iter().sum::<usize>(), 0);
    let mut rest = &mut out[start..];
    let sections = lens.iter().map(|&len| rest.split_off_mut(..len).unwrap_or_default());
    let mut tables: Vec<&mut [u8]> = sections.collect();

    let mut ids = TableMut::new(tables.remove(0), BUCKET);
    for (id, word) in (1_u32..).zip(&words[1..]) {
        ids.insert(murmur_hash(word.as_bytes()), &id.to_le_bytes())?;
    }
    let mut lower = Vec::new();
    for len in 0..counts.len() {
        let probabilities = estimate.level(len, &lower).all();
        match len {
            0 => unigrams(&estimate.tables[0], &probabilities, estimate.bos, tables[0]),
            _ => ngrams(&estimate.tables, len, &probabilities, &mut tables)?,
        }
        lower = probabilities;
    }
    for word in SPECIALS[..1].iter().chain(&words[1..]) {
        out.extend(word.as_bytes());
        out.push(0);
    }
    Ok(out)
}

/// Bytes of an entry of the table of n-grams with `len` + 1 words.
fn entry_of(len: usize, order: usize) -> usize {
    KEY + if len + 1 == order { FLOAT } else { VALUES }
}

/// The bytes of a table of `count` entries.
fn len_of(count: u64, entry: usize) -> Result<usize> {
    let len = probing::table_len(count, MULTIPLIER, entry).and_then(|len| usize::try_from(len).ok());
    len.ok_or_else(|| Error::malformed("the model", &"it has too many n-grams"))
}

/// log10, and −99 of zero.
fn finite_log10(x: f64) -> f32 {
    if x > 0.0 { log10(x) } else { SRILM_LOG_ZERO }
}

/// log10 of a probability of which no longer n-gram is known: the highest bit is set.
fn probability(log10: f32) -> [u8; FLOAT] {
    (-log10.abs()).to_le_bytes()
}

/// log10 of the weight of context `gram`.
fn weight(table: &UnpackedLevel, gram: usize) -> [u8; FLOAT] {
    let log10 = finite_log10(table.distinct_weights[table.weight_ids[gram] as usize].backoff);
    let has_longer = table.child_offsets[gram] < table.child_offsets[gram + 1];
    let log10 = if log10 != 0.0 || has_longer { log10 } else { -0.0 };
    log10.to_le_bytes()
}

/// Fills in probability and weight of every word. There is room for one more, which `<unk>` would
/// take if it were not counted.
fn unigrams(table: &UnpackedLevel, probabilities: &[f64], bos: Option<u32>, out: &mut [u8]) {
    let (values, _) = out.as_chunks_mut::<VALUES>();
    for (word, (values, &x)) in values.iter_mut().zip(probabilities).enumerate() {
        let x = if Some(word as u32) == bos { 0.0 } else { x };
        values.copy_from_slice([probability(finite_log10(x)), weight(table, word)].as_flattened());
    }
}

/// Fills the table of the n-grams of `len` + 1 words. In the tables before, their suffixes are
/// marked.
fn ngrams(
    levels: &[UnpackedLevel],
    len: usize,
    probabilities: &[f64],
    tables: &mut [&mut [u8]],
) -> Result<()> {
    let (level, is_longest) = (&levels[len], len + 1 == levels.len());
    let (shorter, longer) = tables.split_at_mut(len);
    let mut table = TableMut::new(longer[0], entry_of(len, levels.len()));
    let mut ngrams = Ngrams::new(levels, len);
    for first in (0..probabilities.len()).step_by(FETCHED) {
        let grams = first..probabilities.len().min(first + FETCHED);
        let mut fetched = [[0; MAX_ORDER]; FETCHED];
        for (words, gram) in fetched.iter_mut().zip(grams.clone()) {
            *words = ngrams.reversed(gram);
            table.as_table().prefetch(key(&words[..=len]));
            if len > 1 {
                Table::new(shorter[len - 1], KEY + VALUES).prefetch(key(&words[..len]));
            }
        }
        for (words, gram) in fetched.iter().zip(grams) {
            let values = [probability(finite_log10(probabilities[gram])), [0; FLOAT]];
            if is_longest {
                table.insert(key(&words[..=len]), &values[0])?;
            } else {
                table.insert(key(&words[..=len]), [values[0], weight(level, gram)].as_flattened())?;
            }
            mark(shorter, &words[..=len])?;
        }
    }
    Ok(())
}

/// The key of an n-gram, whose last word is the first.
fn key(reversed: &[u32]) -> u64 {
    let (word, before) = reversed.split_first().expect("an n-gram has a word");
    before.iter().fold(u64::from(*word), |key, &word| extended(key, word))
}

/// Probability and weight of an n-gram in `tables`.
fn values<'a>(tables: &'a mut [&mut [u8]], reversed: &[u32]) -> Option<&'a mut [[u8; FLOAT]]> {
    let table = &mut *tables[reversed.len() - 1];
    let values = match reversed {
        [word] => table.get_mut(*word as usize * VALUES..)?.get_mut(..VALUES)?,
        _ => TableMut::new(table, KEY + VALUES).find(key(reversed))?,
    };
    Some(values.as_chunks_mut().0)
}

/// Marks the suffix of an n-gram as one. If it is missing, it is added with the probability that
/// backing off gives it, after its own suffix.
fn mark(tables: &mut [&mut [u8]], reversed: &[u32]) -> Result<()> {
    let suffix = &reversed[..reversed.len() - 1];
    if values(tables, suffix).is_none() {
        mark(tables, suffix)?;
        let shorter = values(tables, &suffix[..suffix.len() - 1]).expect("it is marked");
        let mut log10 = -f32::from_le_bytes(shorter[0]).abs();
        if let Some([_, weight]) = values(tables, &suffix[1..]) {
            // Its context is one.
            let backoff = f32::from_le_bytes(*weight) + 0.0;
            *weight = backoff.to_le_bytes();
            log10 += backoff;
        }
        let added = [probability(log10), (-0.0_f32).to_le_bytes()];
        let mut table = TableMut::new(tables[suffix.len() - 1], KEY + VALUES);
        table.insert(key(suffix), added.as_flattened())?;
    }
    let found = values(tables, suffix).expect("it is there");
    // The highest bit of the probability says that there is nothing longer.
    found[0][FLOAT - 1] &= 0x7F;
    Ok(())
}

/// The n-grams of an order, which are visited in order.
struct Ngrams<'a> {
    levels: &'a [UnpackedLevel],
    /// The number of words before the last.
    len: usize,
    nodes: [usize; MAX_ORDER],
}

impl<'a> Ngrams<'a> {
    fn new(levels: &'a [UnpackedLevel], len: usize) -> Self {
        Self { levels, len, nodes: [0; MAX_ORDER] }
    }

    /// The words of `gram`, which is the last visited or a later one, the last word first.
    fn reversed(&mut self, gram: usize) -> [u32; MAX_ORDER] {
        self.nodes[self.len] = gram;
        for len in (0..self.len).rev() {
            let child_offsets = &self.levels[len].child_offsets;
            while child_offsets[self.nodes[len] + 1] as usize <= self.nodes[len + 1] {
                self.nodes[len] += 1;
            }
        }
        let mut reversed = [0; MAX_ORDER];
        for (word, len) in reversed.iter_mut().zip((0..=self.len).rev()) {
            *word = self.levels[len].words.get(self.nodes[len]).copied().unwrap_or(self.nodes[len] as u32);
        }
        reversed
    }
}
