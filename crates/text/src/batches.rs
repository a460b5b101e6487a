//! Batches for gradient descent: every training token once an epoch, in an order that the seed decides.
//!
//! A batch is a pure function of (seed, epoch, rows). So a resumed run needs no saved generator, and nothing depends
//! on who asks first.
//!
//! *Stream*: the text's targets are cut into windows of `block_size` from an offset that is redrawn each epoch, and the
//! windows are shuffled without replacement. The very first token of a text has no context, so it is the one token that
//! is never a target. *Line*: a row is a line, or a part of one that is longer than `block_size`; shorter rows are
//! padded.
//!
//! For a model that carries a state from window to window ([`Batches::following`]) the rows of a batch
//! are parallel streams, and each batch continues the rows of the one before. *Stream*: the text is cut
//! into as many contiguous parts as there are rows. *Line*: as many shuffled lines are read side by
//! side until the longest of them ends, then the next ones begin.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::{TextMode, TokenText};

/// The target of a cell that has none: padding.
pub const IGNORE_INDEX: u32 = u32::MAX;

/// The stream id of the data order under a run's seed.
const SHUFFLE_STREAM: u64 = 100;

/// Rows of inputs and the tokens that follow them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// (rows · cols) token ids.
    pub inputs: Vec<u32>,
    /// (rows · cols) next tokens, [`IGNORE_INDEX`] where there is none.
    pub targets: Vec<u32>,
    /// B.
    pub rows: usize,
    /// T: at most `block_size`; shorter where no row of the batch is as long.
    pub cols: usize,
    /// How many targets are tokens.
    pub targets_count: usize,
    /// Whether its rows begin a text, or follow those of the batch before.
    pub begins: bool,
}

impl Batch {
    /// The same targets in rows of at most `cols` tokens: each row is cut into parts, which no longer see each other.
    ///
    /// # Panics
    /// If `cols` is 0.
    #[must_use]
    pub fn cut(self, cols: usize) -> Self {
        assert!(cols > 0, "rows of no tokens");
        if self.cols <= cols {
            return self;
        }
        let mut cut = Self { cols, rows: 0, inputs: Vec::new(), targets: Vec::new(), ..self };
        for (inputs, targets) in self.inputs.chunks(self.cols).zip(self.targets.chunks(self.cols)) {
            for (inputs, targets) in inputs.chunks(cols).zip(targets.chunks(cols)) {
                // Padding is at the end of a row.
                if targets[0] == IGNORE_INDEX {
                    continue;
                }
                cut.rows += 1;
                cut.inputs.extend_from_slice(inputs);
                cut.targets.extend_from_slice(targets);
                cut.inputs.resize(cut.rows * cols, 0);
                cut.targets.resize(cut.rows * cols, IGNORE_INDEX);
            }
        }
        cut
    }
}

/// Where the targets of a row lie in the ids.
type Row = Range<usize>;

/// `targets` in rows of at most `block_size`.
fn into_rows(targets: Range<usize>, block_size: usize) -> impl Iterator<Item = Row> {
    targets.clone().step_by(block_size).map(move |at| at..targets.end.min(at.saturating_add(block_size)))
}

/// The rows of an epoch in the order they are seen.
#[derive(Debug)]
struct Order {
    rows: Vec<Row>,
    /// For each window of all streams, whether texts begin there; none where every row does.
    begins: Vec<bool>,
}

/// The batches of a text.
#[derive(Debug)]
pub struct Batches {
    text: Arc<TokenText>,
    block_size: usize,
    seed: u64,
    /// The rows of line mode, which are the same every epoch; whole lines for streams.
    lines: Vec<Row>,
    /// How many rows follow each other side by side; none: rows are independent.
    streams: Option<usize>,
    /// The order of the epoch asked for last.
    order: Mutex<Option<(u64, Arc<Order>)>>,
}

impl Batches {
    /// Batches of rows of at most `block_size` tokens.
    ///
    /// # Errors
    /// A text without a token to predict; rows of no tokens.
    pub fn new(text: Arc<TokenText>, block_size: usize, seed: u64) -> Result<Self> {
        Self::build(text, block_size, None, seed)
    }

    /// Batches whose rows follow each other in `streams` parallel streams, `streams` being a multiple of
    /// every batch's rows. Rows that have ended while others go on are empty.
    ///
    /// # Errors
    /// As [`Self::new`]; no stream.
    pub fn following(text: Arc<TokenText>, block_size: usize, streams: usize, seed: u64) -> Result<Self> {
        if streams == 0 {
            return Err(Error::Setting("there must be at least one stream".into()));
        }
        Self::build(text, block_size, Some(streams), seed)
    }

    fn build(text: Arc<TokenText>, block_size: usize, streams: Option<usize>, seed: u64) -> Result<Self> {
        if block_size == 0 {
            return Err(Error::Setting("block_size must be at least 1".into()));
        }
        let mut lines = Vec::new();
        if text.mode == TextMode::Line {
            let mut start = 0;
            for sequence in text.sequences() {
                let end = start + sequence.len();
                let longest = if streams.is_some() { usize::MAX } else { block_size };
                lines.extend(into_rows(start + 1..end, longest));
                start = end;
            }
        }
        let targets =
            if text.mode == TextMode::Line { lines.len() } else { text.ids.len().saturating_sub(1) };
        if targets == 0 {
            return Err(Error::TooShort {
                name: "the training text".into(),
                message: "it has no token that follows another".into(),
                split: false,
            });
        }
        Ok(Self { text, block_size, seed, lines, streams, order: Mutex::new(None) })
    }

    fn generator(&self, epoch: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(SHUFFLE_STREAM + epoch);
        rng
    }

    /// How many rows `epoch` (from 0) has.
    pub fn rows(&self, epoch: u64) -> usize {
        match (self.text.mode, self.streams) {
            (TextMode::Line, None) => self.lines.len(),
            (TextMode::Line, Some(_)) => self.order(epoch).rows.len(),
            (TextMode::Stream, streams) => {
                let streams = streams.unwrap_or(1);
                let targets = (self.text.ids.len() - 1).div_ceil(streams);
                let offset = self.offset(&mut self.generator(epoch)).min(targets);
                (usize::from(offset > 0) + (targets - offset).div_ceil(self.block_size)) * streams
            }
        }
    }

    /// Where the first whole window of an epoch starts among the targets.
    fn offset(&self, rng: &mut ChaCha8Rng) -> usize {
        rng.random_range(0..self.block_size).min(self.text.ids.len() - 1)
    }

    /// The rows `range` of `epoch`; those beyond the epoch's end are missing.
    pub fn batch(&self, epoch: u64, range: Range<usize>) -> Batch {
        let order = self.order(epoch);
        let end = range.end.min(order.rows.len());
        let rows = &order.rows[range.start.min(end)..end];
        let window = self.streams.and_then(|streams| order.begins.get(range.start / streams));
        let cols = rows.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let mut batch = Batch {
            inputs: Vec::with_capacity(rows.len() * cols),
            targets: Vec::with_capacity(rows.len() * cols),
            rows: rows.len(),
            cols,
            targets_count: rows.iter().map(ExactSizeIterator::len).sum(),
            begins: window.copied().unwrap_or(true),
        };
        for (i, row) in rows.iter().enumerate() {
            batch.inputs.extend_from_slice(&self.text.ids[row.start - 1..row.end - 1]);
            batch.targets.extend_from_slice(&self.text.ids[row.clone()]);
            batch.inputs.resize((i + 1) * cols, 0);
            batch.targets.resize((i + 1) * cols, IGNORE_INDEX);
        }
        batch
    }

    /// The rows of an epoch in the order they are seen.
    fn order(&self, epoch: u64) -> Arc<Order> {
        // A poisoned lock only means that another thread panicked between two whole values.
        let mut kept = self.order.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((of, order)) = kept.as_ref()
            && *of == epoch
        {
            return order.clone();
        }
        let mut rng = self.generator(epoch);
        let order = Arc::new(match (self.text.mode, self.streams) {
            (TextMode::Line, None) => {
                Order { rows: shuffled(self.lines.clone(), &mut rng), begins: Vec::new() }
            }
            (TextMode::Stream, None) => {
                let offset = self.offset(&mut rng);
                let first = (offset > 0).then_some(1..1 + offset);
                let rest = into_rows(1 + offset..self.text.ids.len(), self.block_size);
                Order {
                    rows: shuffled(first.into_iter().chain(rest).collect(), &mut rng),
                    begins: Vec::new(),
                }
            }
            (TextMode::Stream, Some(streams)) => {
                let offset = self.offset(&mut rng);
                let len = self.text.ids.len();
                let each = (len - 1).div_ceil(streams);
                let part = |i: usize| (1 + i * each).min(len)..(1 + (i + 1) * each).min(len);
                self.side_by_side(&(0..streams).map(part).collect::<Vec<_>>(), offset.min(each), streams)
            }
            (TextMode::Line, Some(streams)) => {
                let lines = shuffled(self.lines.clone(), &mut rng);
                let mut order = Order { rows: Vec::new(), begins: Vec::new() };
                for group in lines.chunks(streams) {
                    let Order { rows, begins } = self.side_by_side(group, 0, streams);
                    order.rows.extend(rows);
                    order.begins.extend(begins);
                }
                order
            }
        });
        *kept = Some((epoch, order.clone()));
        order
    }

    /// Windows of the texts whose targets are `parts`, at most `streams` of them, read side by side: the
    /// first window has `offset` tokens where that is not 0, the others `block_size`.
    fn side_by_side(&self, parts: &[Row], offset: usize, streams: usize) -> Order {
        let longest = parts.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        let first = (offset > 0).then_some(0..offset);
        let (mut rows, mut begins) = (Vec::new(), Vec::new());
        for window in first.into_iter().chain(into_rows(offset..longest, self.block_size)) {
            begins.push(window.start == 0);
            for i in 0..streams {
                let part = parts.get(i).cloned().unwrap_or(1..1);
                let at = |place: usize| (part.start + place).min(part.end);
                rows.push(at(window.start)..at(window.end));
            }
        }
        Order { rows, begins }
    }
}

/// The shuffle of Fisher and Yates.
fn shuffled(mut rows: Vec<Row>, rng: &mut ChaCha8Rng) -> Vec<Row> {
    for i in (1..rows.len()).rev() {
        rows.swap(i, rng.random_range(0..=i));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(ids: Vec<u32>) -> Arc<TokenText> {
        Arc::new(TokenText { ids, ..TokenText::default() })
    }

    /// Every target of an epoch with the token before it, sorted.
    fn pairs(batches: &Batches, epoch: u64, batch_size: usize, cols: usize) -> Vec<(u32, u32)> {
        let mut pairs = Vec::new();
        for first in (0..batches.rows(epoch)).step_by(batch_size) {
            let batch = batches.batch(epoch, first..first + batch_size).cut(cols);
            assert!(batch.cols <= cols);
            assert!(batch.rows > 0 && batch.cols <= batches.block_size);
            assert_eq!(batch.inputs.len(), batch.rows * batch.cols);
            assert_eq!(batch.targets.len(), batch.rows * batch.cols);
            let found: Vec<_> = batch
                .inputs
                .iter()
                .zip(&batch.targets)
                .filter(|(_, target)| **target != IGNORE_INDEX)
                .map(|(&input, &target)| (input, target))
                .collect();
            assert_eq!(found.len(), batch.targets_count);
            pairs.extend(found);
        }
        let end = batches.rows(epoch);
        assert_eq!(batches.batch(epoch, end..end + batch_size).rows, 0);
        pairs.sort_unstable();
        pairs
    }

    proptest! {
        #[test]
        fn every_token_but_the_first_is_a_target_once_an_epoch(
            len in 2usize..300, block_size in 1usize..40, batch_size in 1usize..9, cols in 1usize..50, seed: u64,
            epoch in 0u64..5,
        ) {
            let batches = Batches::new(stream((0..len as u32).collect()), block_size, seed).unwrap();
            let expected: Vec<_> = (1..len as u32).map(|id| (id - 1, id)).collect();
            prop_assert_eq!(pairs(&batches, epoch, batch_size, cols), expected);
        }

        #[test]
        fn every_token_of_every_line_is_a_target_once_an_epoch(
            lens in proptest::collection::vec(0usize..20, 1..30), block_size in 1usize..12, batch_size in 1usize..9,
            cols in 1usize..15,
        ) {
            let mut text = TokenText { mode: TextMode::Line, bos: Some(0), ..TokenText::default() };
            let mut expected = Vec::new();
            let mut next = 2;
            for len in lens {
                let mut line = vec![0];
                line.extend(next..next + len as u32);
                line.push(1);
                next += len as u32;
                expected.extend(line.windows(2).map(|pair| (pair[0], pair[1])));
                text.ids.extend(line);
                text.lines += 1;
            }
            expected.sort_unstable();
            let batches = Batches::new(Arc::new(text), block_size, 5).unwrap();
            prop_assert_eq!(pairs(&batches, 3, batch_size, cols), expected);
        }
    }

    proptest! {
        #[test]
        fn streams_follow_each_other_and_every_target_comes_once(
            lens in proptest::collection::vec(1usize..50, 1..12), line: bool, block_size in 1usize..12,
            batch_size in 1usize..4, batches_per_update in 1usize..3, epoch in 0u64..3,
        ) {
            let mut text = TokenText { mode: if line { TextMode::Line } else { TextMode::Stream }, ..TokenText::default() };
            let total: usize = lens.iter().map(|len| len + 1).sum();
            text.ids = (0..total as u32).collect();
            if line {
                (text.bos, text.lines) = (Some(0), lens.len() as u64);
                // Each line begins with <s>, whose id is 0.
                let mut start = 0;
                for len in &lens {
                    text.ids[start] = 0;
                    start += len + 1;
                }
            }
            let mut expected: Vec<u32> = text.ids[1..].iter().copied().filter(|&id| id != 0).collect();
            let streams = batch_size * batches_per_update;
            let batches = Batches::following(Arc::new(text), block_size, streams, 7).unwrap();
            let rows = batches.rows(epoch);
            prop_assert_eq!(rows % streams, 0);
            let (mut seen, mut last) = (Vec::new(), vec![None; streams]);
            for first in (0..rows).step_by(batch_size) {
                let batch = batches.batch(epoch, first..first + batch_size);
                prop_assert_eq!(batch.rows, batch_size);
                let targets = batch.targets.chunks(batch.cols.max(1)).zip(batch.inputs.chunks(batch.cols.max(1)));
                for (i, (targets, inputs)) in targets.enumerate() {
                    let last = &mut last[first % streams + i];
                    for (&target, &input) in targets.iter().zip(inputs).filter(|(target, _)| **target != IGNORE_INDEX) {
                        seen.push(target);
                        // What follows follows the very token before it.
                        if let (Some(last), false) = (*last, batch.begins && input == inputs[0]) {
                            prop_assert_eq!(input, last);
                        }
                        *last = Some(target);
                    }
                }
            }
            seen.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_batch_depends_on_seed_epoch_and_rows_alone() {
        let text = stream((0..1000).collect());
        let make = |seed| Batches::new(text.clone(), 16, seed).unwrap();
        let (a, b) = (make(1), make(1));
        // Asked in another order.
        let late = b.batch(3, 8..12);
        let early = b.batch(0, 0..4);
        assert_eq!(a.batch(0, 0..4), early);
        assert_eq!(a.batch(3, 8..12), late);
        assert_ne!(a.batch(1, 0..4), early);
        assert_ne!(make(2).batch(0, 0..4), early);
    }

    #[test]
    fn nothing_to_predict_is_an_error() {
        assert!(Batches::new(stream(vec![3]), 8, 1).is_err());
        assert!(Batches::new(stream(Vec::new()), 8, 1).is_err());
        assert!(Batches::new(stream(vec![1, 2]), 0, 1).is_err());
    }
}
