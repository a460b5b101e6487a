//! A trie by the last words of n-grams, in records of packed bits.
//!
//! ```text
//! tables of quantised values, if it has them: version, bits, bits, padded to 8 bytes; floats
//! 1-grams: probability, weight, where longer ones begin (8 bytes)
//! for each order between: places of carries (if pointers are compressed), records, 8 spare bytes
//! records of the highest order, 8 spare bytes
//! ```
//!
//! A record has the first word, the weight and the probability (or their codes), and below the
//! highest order the place where longer n-grams begin; they end where those of the next record
//! begin. Compressed pointers have their low bits in the record; the high bits are the number of
//! the last carry up to it (Raj and Whittaker 2003).

use std::cmp::Ordering;

use surprisal_model::ngram::packed::{Bytes, Packed, bits_for};

use super::header::{Header, TrieKind};
use super::score::{Gram, Lookup};
use super::{Sections, bytes_at, f32_at};
use crate::kenlm_problem::{Problem, check_version};

/// Bytes of a 1-gram.
const UNIGRAM: u64 = 16;
/// Bits of a probability, whose sign is known, and of a weight.
const FLOAT_BITS: (u32, u32) = (31, 32);
/// Bytes after the last record.
const SPARE: u64 = 8;
/// Steps of a search by interpolation, before the rest is halved.
const STEPS: u32 = 12;

/// The sections of a file.
pub(super) struct Tables {
    unigrams: Bytes,
    /// The number of 1-grams.
    words_end: u64,
    /// The number of 2-grams.
    bigrams: usize,
    /// The orders from 2 on.
    levels: Vec<Level>,
}

struct Level {
    records: Bytes,
    word_bits: u32,
    prob_bits: u32,
    backoff_bits: u32,
    /// Floats by code, if values are quantised.
    probs: Option<Bytes>,
    backoffs: Option<Bytes>,
    /// Bits of a pointer in a record; none at the highest order.
    pointer_bits: u32,
    /// The record of each carry of compressed pointers.
    carries: Option<Bytes>,
    /// The number of n-grams of the next order.
    next_len: usize,
}

impl Tables {
    pub(super) fn new(sections: &mut Sections<'_>, header: &Header, kind: TrieKind) -> Result<Self, Problem> {
        let counts = &header.counts;
        let order = counts.len();
        let (mut prob_bits, mut backoff_bits) = FLOAT_BITS;
        let mut codes: Vec<[Option<Bytes>; 2]> = vec![[None, None]; order - 1];
        if kind.quantized {
            let [version, prob, backoff] = bytes_at(sections.take(Some(8))?.as_slice(), 0);
            check_version("its quantisation", version.into(), 2)?;
            if !(1..=25).contains(&prob) || !(1..=25).contains(&backoff) {
                return Err(Problem::Bits { prob, backoff });
            }
            (prob_bits, backoff_bits) = (prob.into(), backoff.into());
            for (level, [probs, backoffs]) in codes.iter_mut().enumerate() {
                *probs = Some(sections.take(Some(4 << prob_bits))?);
                if level + 2 < order {
                    *backoffs = Some(sections.take(Some(4 << backoff_bits))?);
                }
            }
        }
        let unigrams = sections.take((counts[0] + 2).checked_mul(UNIGRAM))?;
        let word_bits = bits_for(counts[0]);
        // The first order has the bits for all.
        let mut most_cut = None;
        let mut levels = Vec::with_capacity(order - 1);
        for (level, [probs, backoffs]) in codes.into_iter().enumerate() {
            let len = counts[level + 1];
            let next_len = counts.get(level + 2).copied();
            let (mut pointer_bits, mut carries) = (next_len.map_or(0, bits_for), None);
            if let (Some(next_len), true) = (next_len, kind.compressed) {
                let start = sections.at;
                let [version, bits] = bytes_at(sections.bytes.as_slice(), start);
                check_version("its compression of pointers", version.into(), 0)?;
                let cut = cut_bits(len + 1, next_len, *most_cut.get_or_insert(bits));
                pointer_bits -= cut;
                let carry_len = 8 * ((next_len >> pointer_bits) + 1);
                // Seven bytes are for the alignment to eight.
                let section = sections.take(Some(8 + carry_len + 7))?;
                let from = start.next_multiple_of(8) - start + 8;
                carries = Some(section.slice(from..from + carry_len as usize));
            }
            let backoff_bits = if next_len.is_some() { backoff_bits } else { 0 };
            let bits = u64::from(word_bits + prob_bits + backoff_bits + pointer_bits);
            let bytes = (len + 1).checked_mul(bits).map(|bits| bits.div_ceil(8) + SPARE);
            levels.push(Level {
                records: sections.take(bytes)?,
                word_bits,
                prob_bits,
                backoff_bits,
                probs,
                backoffs,
                pointer_bits,
                carries,
                next_len: next_len.unwrap_or(0) as usize,
            });
        }
        Ok(Self { unigrams, words_end: counts[0], bigrams: counts[1] as usize, levels })
    }

    pub(super) fn view(&self) -> View<'_> {
        let levels = self.levels.iter().map(|level| level.view(self.words_end));
        View { unigrams: self.unigrams.as_slice(), bigrams: self.bigrams, levels: levels.collect() }
    }
}

/// The number of high bits of pointers to `next_len` n-grams, from `len` records, that are carries:
/// of at most `most`, that with the least bits in all.
fn cut_bits(len: u64, next_len: u64, most: u8) -> u32 {
    let bits = bits_for(next_len);
    let cost = |cut: &u32| {
        let carries = next_len.checked_shr(bits - cut).unwrap_or(0);
        i128::from(carries) * 64 - i128::from(len) * i128::from(*cut)
    };
    (0..=bits.min(most.into())).min_by_key(cost).unwrap_or(0)
}

impl Level {
    fn view(&self, words_end: u64) -> LevelView<'_> {
        let stride = self.word_bits + self.backoff_bits + self.prob_bits + self.pointer_bits;
        let field = |offset, bits| Packed::field(self.records.as_slice(), stride, offset, bits);
        let quantized = self.probs.is_some();
        // A weight follows its probability, but their codes are the other way round.
        let (prob, backoff) = if quantized { (self.backoff_bits, 0) } else { (0, self.prob_bits) };
        let values = self.word_bits;
        let pointers = values + self.backoff_bits + self.prob_bits;
        LevelView {
            words_end,
            words: field(0, self.word_bits),
            probs: Floats { codes: field(values + prob, self.prob_bits), table: slice(self.probs.as_ref()) },
            backoffs: Floats {
                codes: field(values + backoff, self.backoff_bits),
                table: slice(self.backoffs.as_ref()),
            },
            pointers: field(pointers, self.pointer_bits),
            pointer_bits: self.pointer_bits,
            carries: slice(self.carries.as_ref()),
            next_len: self.next_len,
        }
    }
}

fn slice(bytes: Option<&Bytes>) -> Option<&[u8]> {
    bytes.map(Bytes::as_slice)
}

/// Floats, or codes of them in a table.
#[derive(Clone, Copy)]
struct Floats<'a> {
    codes: Packed<'a>,
    table: Option<&'a [u8]>,
}

impl Floats<'_> {
    #[inline]
    fn get(&self, index: usize) -> f32 {
        let code = self.codes.get(index);
        match self.table {
            Some(table) => f32_at(table, 4 * code as usize),
            None => f32::from_bits(code as u32),
        }
    }
}

/// The trie for queries.
pub(super) struct View<'a> {
    unigrams: &'a [u8],
    /// The number of 2-grams.
    bigrams: usize,
    levels: Vec<LevelView<'a>>,
}

struct LevelView<'a> {
    /// One more than the largest word.
    words_end: u64,
    words: Packed<'a>,
    probs: Floats<'a>,
    backoffs: Floats<'a>,
    pointers: Packed<'a>,
    pointer_bits: u32,
    carries: Option<&'a [u8]>,
    next_len: usize,
}

/// A part of the records of an order.
#[derive(Clone, Copy)]
pub(super) struct Node {
    start: usize,
    end: usize,
}

impl Node {
    /// The records from `start` to `end`, which may be damaged, of `len`; `None` if there are none.
    #[inline]
    fn new(start: u64, end: u64, len: usize) -> Option<Self> {
        let (start, end) = (start as usize, (end as usize).min(len));
        (start < end).then_some(Self { start, end })
    }
}

impl LevelView<'_> {
    /// The record of `word` in `node`.
    #[inline]
    fn find(&self, node: Node, word: u32) -> Option<usize> {
        let word = u64::from(word);
        let Node { start: mut low, end: mut high } = node;
        let (mut least, mut most) = (0, self.words_end);
        let mut steps = 0;
        while low < high {
            let width = high - low;
            // Ids follow hashes, so that words are spread evenly, unless the file is damaged.
            let step = if steps < STEPS && u32::try_from(width).is_ok() {
                ((word - least) * width as u64 / (most - least + 1)) as usize
            } else {
                width / 2
            };
            steps += 1;
            let found = self.words.get(low + step);
            match found.cmp(&word) {
                Ordering::Equal => return Some(low + step),
                Ordering::Less => (low, least) = (low + step + 1, found),
                Ordering::Greater => (high, most) = (low + step, found),
            }
        }
        None
    }

    /// The longer n-grams that end with that of record `index`.
    #[inline]
    fn longer(&self, index: usize) -> Option<Node> {
        let (start, end) = (self.pointers.get(index), self.pointers.get(index + 1));
        let Some(carries) = self.carries else { return Node::new(start, end, self.next_len) };
        let first = last_carry(carries, 0, index as u64);
        let second = match u64_at(carries, first + 1) {
            Some(next) if next <= index as u64 + 1 => last_carry(carries, first + 1, index as u64 + 1),
            _ => first,
        };
        let high = |carry: usize| (carry as u64) << self.pointer_bits;
        Node::new(high(first) | start, high(second) | end, self.next_len)
    }
}

/// Number `index` of a list.
#[inline]
fn u64_at(list: &[u8], index: usize) -> Option<u64> {
    (index < list.len() / 8).then(|| u64::from_le_bytes(bytes_at(list, 8 * index)))
}

/// The last carry, from `first` on, up to record `index`.
#[inline]
fn last_carry(carries: &[u8], first: usize, index: u64) -> usize {
    let (mut low, mut len) = (first, (carries.len() / 8).saturating_sub(first));
    while len > 1 {
        let half = len / 2;
        if u64_at(carries, low + half).is_some_and(|carry| carry <= index) {
            low += half;
        }
        len -= half;
    }
    low
}

impl Lookup for View<'_> {
    /// The records of the next order that begin with the n-gram, read from its last word back.
    type Node = Node;

    fn order(&self) -> usize {
        self.levels.len() + 1
    }

    #[inline]
    fn unigram(&self, word: u32) -> Gram<Node> {
        let at = word as usize * UNIGRAM as usize;
        let pointer = |at| u64::from_le_bytes(bytes_at(self.unigrams, at));
        Gram {
            log10_prob: -f32_at(self.unigrams, at).abs(),
            log10_backoff: f32_at(self.unigrams, at + 4),
            longer: Node::new(pointer(at + 8), pointer(at + 8 + UNIGRAM as usize), self.bigrams),
        }
    }

    #[inline]
    fn middle(&self, len: usize, shorter: Node, word: u32) -> Option<Gram<Node>> {
        let level = self.levels.get(len - 2)?;
        let index = level.find(shorter, word)?;
        Some(Gram {
            log10_prob: -level.probs.get(index).abs(),
            log10_backoff: level.backoffs.get(index),
            longer: level.longer(index),
        })
    }

    #[inline]
    fn longest(&self, shorter: Node, word: u32) -> Option<f32> {
        let level = self.levels.last()?;
        let index = level.find(shorter, word)?;
        Some(-level.probs.get(index).abs())
    }
}
