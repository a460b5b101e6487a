//! Counted n-grams, in any order, sorted into a run.

use rayon::prelude::*;

use super::Layout;
use super::codec::BLOCK_BYTES;
use super::part::Record;
use crate::Result;

/// The columns of a row after the words of its context: their number, the kind, a word and a count.
const COLUMNS: usize = 4;
/// The kinds of rows: the context ends; the word is after it; the word is before it.
const ENDS: u32 = 0;
const AFTER: u32 = 1;
const BEFORE: u32 = 2;

/// Counted n-grams of a part of what is counted.
#[derive(Debug)]
pub struct Rows {
    context: usize,
    rows: Vec<u32>,
}

impl Rows {
    /// Room for the rows that fit into `memory` bytes, and for a few more.
    pub fn new(layout: &Layout, memory: u64) -> Self {
        let context = layout.order - 1;
        let rows = (memory as usize / Self::row_bytes(layout)).max(16);
        Self { context, rows: Vec::with_capacity(rows * (context + COLUMNS)) }
    }

    /// The memory of a row: it, and its place in the order.
    fn row_bytes(layout: &Layout) -> usize {
        (layout.order - 1 + COLUMNS) * 4 + 4
    }

    /// Whether there is no room for another n-gram.
    pub fn is_full(&self) -> bool {
        self.rows.len() + 2 * (self.context + COLUMNS) > self.rows.capacity()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.rows.clear();
    }

    /// Adds an n-gram of the highest order, or a shorter one that ends a text or a sentence `count`
    /// times.
    pub fn add(&mut self, words: &[u32], count: u32) {
        match words.split_last().filter(|_| words.len() > self.context) {
            Some((&last, context)) => self.push(context, AFTER, last, count),
            None => self.push(words, ENDS, 0, count),
        }
        if words.len() > 1 {
            self.push(&words[1..], BEFORE, words[0], 0);
        }
    }

    fn push(&mut self, context: &[u32], kind: u32, word: u32, count: u32) {
        self.rows.extend_from_slice(context);
        self.rows.extend((context.len()..self.context).map(|_| 0));
        self.rows.extend([context.len() as u32, kind, word, count]);
    }

    /// Passes blocks of the records of each partition to `put`, in order, and removes the rows.
    ///
    /// # Errors
    /// The first error of `put`.
    pub fn sort(
        &mut self,
        layout: &Layout,
        before: bool,
        mut put: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let width = self.context + COLUMNS;
        let row = |index: u32| &self.rows[index as usize * width..(index as usize + 1) * width];
        let key = |index: u32| {
            let row = row(index);
            (&row[..row[self.context] as usize], &row[self.context + 1..])
        };
        let mut order: Vec<u32> = (0..(self.rows.len() / width) as u32).collect();
        order.par_sort_unstable_by(|&a, &b| key(a).cmp(&key(b)));
        let (mut bytes, mut last) = (Vec::new(), Record::default());
        let mut partition = 0;
        for same in order.chunk_by(|&a, &b| key(a).0 == key(b).0) {
            let words = key(same[0]).0;
            let own = layout.partition_of(words[0]);
            if own != partition || bytes.len() >= BLOCK_BYTES {
                if !bytes.is_empty() {
                    put(partition, &bytes)?;
                    bytes.clear();
                }
                if own != partition {
                    // A partition begins without a record before it.
                    last = Record::default();
                }
                partition = own;
            }
            let mut record = Record { len: words.len(), ..Record::default() };
            record.words[..words.len()].copy_from_slice(words);
            for &index in same {
                match *key(index).1 {
                    [AFTER, word, count] => match record.after.last_mut() {
                        Some((other, sum)) if *other == word => *sum += u64::from(count),
                        _ => record.after.push((word, count.into())),
                    },
                    [BEFORE, word, _] if before => record.before.push(word),
                    [ENDS, _, count] => record.ends += u64::from(count),
                    _ => {}
                }
            }
            record.before.dedup();
            let lcp = last.words().iter().zip(words).take_while(|(a, b)| a == b).count();
            record.put(lcp, &mut bytes);
            last = record;
        }
        self.rows.clear();
        if bytes.is_empty() { Ok(()) } else { put(partition, &bytes) }
    }
}
