//! Merges the runs of one partition into streams of the n-grams of every order, with what
//! smoothing needs to know of each.

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use serde::{Deserialize, Serialize};

use super::codec::{Blocks, StreamReader, StreamWriter, put};
use super::part::Record;
use super::{Layout, Stream, put_stats};
use crate::ngram::{Compat, ContextStats, MAX_ORDER, NgramConfig};
use crate::{Error, Result};

/// The sums over the n-grams of one order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderTotals {
    /// The number of n-grams.
    pub grams: u64,
    /// The number of those that pruning by count keeps.
    pub kept: u64,
    /// The largest number of occurrences.
    pub largest: u32,
    /// The number of n-grams with counts from 1 to 8 (different words before, where those count).
    pub count_of_counts: [u64; 8],
}

impl std::ops::AddAssign for OrderTotals {
    fn add_assign(&mut self, other: Self) {
        self.grams += other.grams;
        self.kept += other.kept;
        self.largest = self.largest.max(other.largest);
        for (sum, n) in self.count_of_counts.iter_mut().zip(other.count_of_counts) {
            *sum += n;
        }
    }
}

/// The sums over the n-grams of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// The n-grams of each order.
    pub orders: Vec<OrderTotals>,
    /// The last in suffix order (compared from the end) of the longest n-grams and of those that
    /// begin with `<s>`, if [`MergeOptions::lmplz`] asks for it.
    pub last: Vec<u32>,
}

impl Merged {
    /// Adds another partition.
    pub fn add(&mut self, other: &Self) {
        self.orders.resize(other.orders.len().max(self.orders.len()), OrderTotals::default());
        for (sum, &totals) in self.orders.iter_mut().zip(&other.orders) {
            *sum += totals;
        }
        if self.last.iter().rev().lt(other.last.iter().rev()) {
            self.last.clone_from(&other.last);
        }
    }

    /// Like lmplz, counts n-gram `len` + 1 words long, which occurs `count` times, with that number
    /// instead of `used`.
    pub fn lmplz_quirk(&mut self, len: usize, count: u32, used: u32) {
        let n = &mut self.orders[len].count_of_counts;
        let mut bump = |count: u32, by: i64| {
            if let Some(n) = (count as usize).checked_sub(1).and_then(|i| n.get_mut(i)) {
                *n = n.saturating_add_signed(by);
            }
        };
        bump(used, -1);
        bump(count, 1);
    }
}

/// The settings that the merged streams depend on.
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// Whether n-grams below the highest order count the different words before them (Kneser-Ney).
    pub continuation: bool,
    /// Whether the words before n-grams are written.
    pub before: bool,
    /// By order, the largest number of occurrences that is pruned.
    pub prune: Vec<u32>,
    /// Without `<s>`: the first words of the text, which nothing precedes.
    pub text_prefix: Vec<u32>,
    /// Whether [`Merged::last`] is wanted.
    pub lmplz: bool,
}

impl MergeOptions {
    /// Those of a model.
    pub fn new(config: &NgramConfig, continuation: bool, before: bool, text_prefix: Vec<u32>) -> Self {
        let prune = (1..=config.order).map(|order| config.prune_threshold(order)).collect();
        let lmplz = continuation && config.compat == Some(Compat::Kenlm);
        Self { continuation, before, prune, text_prefix, lmplz }
    }
}

/// A run with its next record.
struct Run {
    reader: StreamReader,
    record: Record,
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Run {}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The greatest run is the one whose record comes first.
impl Ord for Run {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.record.words().cmp(self.record.words())
    }
}

/// Merges `runs`, each sorted, and passes blocks of the streams of all orders to `put`, those of a
/// stream in order.
///
/// # Errors
/// A run that cannot be read; an n-gram that occurs 2³² times or more; the first error of `put`.
pub fn merge(
    runs: Vec<Box<dyn Blocks>>,
    layout: &Layout,
    options: &MergeOptions,
    put: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
) -> Result<Merged> {
    let mut tree = Tree::new(layout, options);
    each_record(runs, |record| tree.add(record, put))?;
    tree.end(put)
}

/// Merges `runs`, each sorted, into one, of which blocks are passed to `put` in order.
///
/// # Errors
/// A run that cannot be read; the first error of `put`.
pub fn merge_runs(runs: Vec<Box<dyn Blocks>>, put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let (mut out, mut last) = (StreamWriter::default(), Vec::new());
    each_record(runs, |record| {
        let words = record.words();
        record.put(last.iter().zip(words).take_while(|(a, b)| a == b).count(), &mut out.bytes);
        last.clear();
        last.extend_from_slice(words);
        out.cut(&mut *put)
    })?;
    out.end(put)
}

/// Calls `visit` with the records of all runs in order, of which those with the same words are
/// summed up.
#[inline]
fn each_record(runs: Vec<Box<dyn Blocks>>, mut visit: impl FnMut(&Record) -> Result<()>) -> Result<()> {
    let mut heap = BinaryHeap::with_capacity(runs.len());
    for blocks in runs {
        let mut run = Box::new(Run { reader: StreamReader::new(blocks), record: Record::default() });
        if run.record.read(&mut run.reader)? {
            heap.push(run);
        }
    }
    let mut merged = Record::default();
    loop {
        let Some(mut first) = heap.peek_mut() else { break };
        std::mem::swap(&mut merged, &mut first.record);
        // The record before, on which the next one builds.
        first.record.len = merged.len;
        first.record.words = merged.words;
        next(first)?;
        let mut is_sum = false;
        loop {
            let Some(mut same) = heap.peek_mut() else { break };
            if same.record.words() != merged.words() {
                break;
            }
            merged.ends += same.record.ends;
            merged.after.append(&mut same.record.after);
            merged.before.append(&mut same.record.before);
            is_sum = true;
            next(same)?;
        }
        if is_sum {
            merged.after.sort_unstable_by_key(|&(word, _)| word);
            merged.after.dedup_by(|next, sum| {
                let same = next.0 == sum.0;
                sum.1 += if same { next.1 } else { 0 };
                same
            });
            merged.before.sort_unstable();
            merged.before.dedup();
        }
        visit(&merged)?;
    }
    Ok(())
}

/// Reads the next record of the run, which then moves to its place in the heap.
fn next(mut run: PeekMut<'_, Box<Run>>) -> Result<()> {
    let Run { reader, record } = &mut **run;
    if !record.read(reader)? {
        PeekMut::pop(run);
    }
    Ok(())
}

/// An n-gram of the path to the current record.
#[derive(Debug, Clone, Default)]
struct Node {
    /// The first words that it has in common with the n-gram of its order before it.
    lcp: usize,
    count: u64,
    after: ContextStats,
    /// The different words before it.
    before: Vec<u32>,
    /// The same as a bit per word of the vocabulary, below the highest order of contexts.
    is_before: Vec<u64>,
}

/// Makes n-grams of all orders from the records, which come in order.
struct Tree<'a> {
    layout: &'a Layout,
    options: &'a MergeOptions,
    words: [u32; MAX_ORDER],
    /// The length of the current record.
    len: usize,
    /// Index i has i + 1 words.
    path: Vec<Node>,
    /// By order, the least LCP of records since the last n-gram of that order.
    lcps: [usize; MAX_ORDER],
    grams: Vec<StreamWriter>,
    before: Vec<StreamWriter>,
    totals: Vec<OrderTotals>,
    last: Vec<u32>,
}

impl<'a> Tree<'a> {
    fn new(layout: &'a Layout, options: &'a MergeOptions) -> Self {
        let order = layout.order;
        let bits = if options.before { layout.vocab_size.div_ceil(64) } else { 0 };
        let node = |index: usize| Node {
            is_before: if index + 1 < order - 1 { vec![0; bits] } else { Vec::new() },
            ..Node::default()
        };
        let writers = || (0..order).map(|_| StreamWriter::default()).collect();
        Self {
            layout,
            options,
            words: [0; MAX_ORDER],
            len: 0,
            path: (0..order - 1).map(node).collect(),
            lcps: [0; MAX_ORDER],
            grams: writers(),
            before: writers(),
            totals: vec![OrderTotals::default(); order],
            last: Vec::new(),
        }
    }

    fn add(&mut self, record: &Record, put: &mut dyn FnMut(Stream, &[u8]) -> Result<()>) -> Result<()> {
        let words = record.words();
        let same = self.words[..self.len].iter().zip(words).take_while(|(a, b)| a == b).count();
        while self.len > same {
            self.close(put)?;
        }
        for lcp in &mut self.lcps[..self.layout.order] {
            *lcp = same.min(*lcp);
        }
        for (index, node) in self.path.iter_mut().enumerate().take(words.len()).skip(same) {
            (node.lcp, node.count, node.after) = (self.lcps[index], 0, ContextStats::default());
            self.lcps[index] = usize::MAX;
        }
        self.words[..words.len()].copy_from_slice(words);
        self.len = words.len();
        self.after(record, put)?;
        let count = record.ends + record.after.iter().map(|(_, count)| count).sum::<u64>();
        for node in &mut self.path[..self.len] {
            node.count += count;
        }
        for &word in &record.before {
            // A word before an n-gram is before its prefixes, too.
            for node in self.path[..self.len].iter_mut().rev() {
                if !node.is_before.is_empty() {
                    let (bits, bit) = (&mut node.is_before[word as usize / 64], 1 << (word % 64));
                    if *bits & bit != 0 {
                        break;
                    }
                    *bits |= bit;
                }
                node.before.push(word);
            }
        }
        Ok(())
    }

    /// Writes the n-grams of the highest order.
    fn after(&mut self, record: &Record, put: &mut dyn FnMut(Stream, &[u8]) -> Result<()>) -> Result<()> {
        let context = self.layout.order - 1;
        for &(word, count) in &record.after {
            self.words[context] = word;
            let lcp = self.lcps[context].min(context);
            self.lcps[context] = usize::MAX;
            let count = count_of(count)?;
            self.write(context, lcp, count, None);
            self.total(context, count, count);
            self.grams[context].cut(|block| put(Stream::Grams(context), block))?;
        }
        Ok(())
    }

    /// Ends the n-gram of the current length.
    fn close(&mut self, put: &mut dyn FnMut(Stream, &[u8]) -> Result<()>) -> Result<()> {
        let index = self.len - 1;
        self.len = index;
        let node = &mut self.path[index];
        let count = count_of(node.count)?;
        let mut used = count;
        if self.options.before {
            node.before.sort_unstable();
            let bytes = &mut self.before[index].bytes;
            super::codec::put(node.before.len() as u64, bytes);
            let mut last = 0;
            for &word in &node.before {
                super::codec::put((word - last).into(), bytes);
                last = word;
                if let Some(bits) = node.is_before.get_mut(word as usize / 64) {
                    *bits = 0;
                }
            }
        }
        // Nothing precedes <s>: what begins with it keeps its occurrences. The beginning of a text
        // precedes its first words.
        if self.options.continuation && Some(self.words[0]) != self.layout.bos {
            let is_first = self.options.text_prefix.get(..=index) == Some(&self.words[..=index]);
            used = node.before.len() as u32 + u32::from(is_first);
        }
        node.before.clear();
        let (lcp, after) = (node.lcp.min(index), node.after);
        self.write(index, lcp, count, Some((used, after)));
        if index > 0 || Some(self.words[0]) != self.layout.bos {
            self.total(index, count, used);
        } else {
            self.totals[0].grams += 1;
            self.totals[0].kept += 1;
            self.totals[0].largest = self.totals[0].largest.max(count);
        }
        self.grams[index].cut(|block| put(Stream::Grams(index), block))?;
        self.before[index].cut(|block| put(Stream::Before(index), block))
    }

    /// Writes an n-gram of `index` + 1 words; below the highest order with its used count and the
    /// statistics of the words after it.
    fn write(&mut self, index: usize, lcp: usize, count: u32, used: Option<(u32, ContextStats)>) {
        let bytes = &mut self.grams[index].bytes;
        put(u64::from(count) << 4 | lcp as u64, bytes);
        for &word in &self.words[lcp..=index] {
            put(word.into(), bytes);
        }
        if self.options.lmplz && index > 0 && (used.is_none() || Some(self.words[0]) == self.layout.bos) {
            let words = &self.words[..=index];
            if self.last.iter().rev().lt(words.iter().rev()) {
                self.last = words.to_vec();
            }
        }
        if let Some((used, after)) = used {
            if self.options.continuation {
                put(used.into(), bytes);
            }
            put_stats(&after, bytes);
        }
    }

    /// Adds an n-gram of `index` + 1 words to the statistics.
    fn total(&mut self, index: usize, count: u32, used: u32) {
        let kept = count > self.options.prune[index];
        let totals = &mut self.totals[index];
        totals.grams += 1;
        totals.kept += u64::from(kept);
        totals.largest = totals.largest.max(count);
        if let Some(n) = (used as usize).checked_sub(1).and_then(|i| totals.count_of_counts.get_mut(i)) {
            *n += 1;
        }
        if let Some(parent) = index.checked_sub(1) {
            self.path[parent].after.add(used, kept);
        }
    }

    fn end(mut self, put: &mut dyn FnMut(Stream, &[u8]) -> Result<()>) -> Result<Merged> {
        while self.len > 0 {
            self.close(put)?;
        }
        for (index, (grams, before)) in self.grams.iter_mut().zip(&mut self.before).enumerate() {
            grams.end(|block| put(Stream::Grams(index), block))?;
            before.end(|block| put(Stream::Before(index), block))?;
        }
        Ok(Merged { orders: self.totals, last: self.last })
    }
}

fn count_of(count: u64) -> Result<u32> {
    u32::try_from(count).map_err(|_| Error::Config("an n-gram occurs 2³² times or more".into()))
}
