//! Readers of the streams of one partition.

use super::codec::{Blocks, StreamReader, malformed};
use super::{Layout, get_stats};
use crate::Result;
use crate::ngram::{ContextStats, ContextWeights, MAX_ORDER};

/// An n-gram of a stream.
#[derive(Debug, Clone, Default)]
pub struct Gram {
    words: [u32; MAX_ORDER],
    len: usize,
    /// The number of first words that it has in common with the n-gram before it.
    pub lcp: usize,
    /// The number of occurrences.
    pub count: u32,
    /// The count for smoothing: with Kneser-Ney the number of different words before it.
    pub used: u32,
    /// The used counts of the words after it; none at the highest order.
    pub after: ContextStats,
}

impl Gram {
    /// A word that does not occur.
    pub fn of_word(word: u32) -> Self {
        let mut gram = Self { len: 1, ..Self::default() };
        gram.words[0] = word;
        gram
    }

    /// The words.
    #[inline]
    pub fn words(&self) -> &[u32] {
        &self.words[..self.len]
    }
}

/// A reader of the n-grams of one order.
pub struct GramReader {
    reader: StreamReader,
    continuation: bool,
    top: bool,
    gram: Gram,
}

impl GramReader {
    /// Reads n-grams of `len` words.
    pub fn new(blocks: Box<dyn Blocks>, layout: &Layout, len: usize, continuation: bool) -> Self {
        let gram = Gram { len, ..Gram::default() };
        Self { reader: StreamReader::new(blocks), continuation, top: len == layout.order, gram }
    }

    /// The next n-gram.
    ///
    /// # Errors
    /// Those of the blocks; a stream that is no stream of n-grams.
    #[inline]
    pub fn read(&mut self) -> Result<Option<&Gram>> {
        if !self.reader.more()? {
            return Ok(None);
        }
        let (gram, reader) = (&mut self.gram, &mut self.reader);
        let head = reader.get()?;
        gram.lcp = (head & 15) as usize;
        gram.count = u32::try_from(head >> 4).map_err(|_| malformed())?;
        for word in gram.words[..gram.len].get_mut(gram.lcp..).ok_or_else(malformed)? {
            *word = reader.get_u32()?;
        }
        gram.used = gram.count;
        if !self.top {
            if self.continuation {
                gram.used = reader.get_u32()?;
            }
            gram.after = get_stats(reader)?;
        }
        Ok(Some(&self.gram))
    }

    /// The last n-gram that was read.
    #[inline]
    pub fn gram(&self) -> &Gram {
        &self.gram
    }

    /// The counts, all occurrences and used, of the n-gram `words`, if it is in the rest of the
    /// stream.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn find(&mut self, words: &[u32]) -> Result<Option<(u32, u32)>> {
        while let Some(gram) = self.read()? {
            if gram.words() == words {
                return Ok(Some((gram.count, gram.used)));
            }
        }
        Ok(None)
    }
}

/// A reader of the words before n-grams.
pub(super) struct BeforeReader {
    reader: StreamReader,
    words: Vec<u32>,
}

impl BeforeReader {
    pub(super) fn new(blocks: Box<dyn Blocks>) -> Self {
        Self { reader: StreamReader::new(blocks), words: Vec::new() }
    }

    /// The words before the next n-gram.
    #[inline]
    pub(super) fn next(&mut self) -> Result<&[u32]> {
        self.words.clear();
        let mut last = 0;
        for _ in 0..self.reader.get()? {
            last += self.reader.get_u32()?;
            self.words.push(last);
        }
        Ok(&self.words)
    }
}

/// A reader of the weights of contexts.
pub struct WeightReader(StreamReader);

impl WeightReader {
    /// Reads the weights in `blocks`.
    pub fn new(blocks: Box<dyn Blocks>) -> Self {
        Self(StreamReader::new(blocks))
    }

    /// The weights of the next context.
    pub(super) fn next(&mut self) -> Result<ContextWeights> {
        let [scale, backoff] = [self.0.get_fixed()?, self.0.get_fixed()?].map(f64::from_bits);
        Ok(ContextWeights { scale, backoff })
    }
}

/// The probabilities of the suffixes of n-grams, in the order of those.
pub enum LowerReader {
    /// The smoothing needs none.
    None,
    /// Those of a partition of one word come in order.
    Stream(StreamedLower),
    /// Those of several words were sorted.
    Sorted(std::vec::IntoIter<f64>),
}

/// A stream of probabilities.
pub struct StreamedLower(StreamReader);

impl LowerReader {
    /// Reads the probabilities of a partition of one word.
    pub fn stream(blocks: Box<dyn Blocks>) -> Self {
        Self::Stream(StreamedLower(StreamReader::new(blocks)))
    }

    /// The next probability; 0 if none is needed.
    #[inline]
    pub(super) fn next(&mut self) -> Result<f64> {
        match self {
            Self::None => Ok(0.0),
            Self::Stream(StreamedLower(reader)) => Ok(f64::from_bits(reader.get_fixed()?)),
            Self::Sorted(values) => values.next().ok_or_else(malformed),
        }
    }
}

/// Sorts the probabilities of a partition of several words, each with its word, which `open` gives
/// twice. Those of one word stay in their order.
///
/// # Errors
/// Those of `open` and its blocks.
pub fn sort_lower(
    layout: &Layout,
    partition: usize,
    open: impl Fn() -> Result<Box<dyn Blocks>>,
) -> Result<LowerReader> {
    let words = layout.words(partition);
    let mut places = vec![0_usize; words.len() + 1];
    let mut reader = StreamReader::new(open()?);
    while reader.more()? {
        let word = reader.get()? as usize;
        *places.get_mut(word + 1).ok_or_else(malformed)? += 1;
        reader.get_fixed()?;
    }
    for word in 1..places.len() {
        places[word] += places[word - 1];
    }
    let mut values = vec![0.0; places[words.len()]];
    let mut reader = StreamReader::new(open()?);
    while reader.more()? {
        let place = places.get_mut(reader.get()? as usize).ok_or_else(malformed)?;
        *values.get_mut(*place).ok_or_else(malformed)? = f64::from_bits(reader.get_fixed()?);
        *place += 1;
    }
    Ok(LowerReader::Sorted(values.into_iter()))
}
