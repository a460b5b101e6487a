//! Batches for gradient descent: every training token once per epoch, in an order given by the
//! seed.
//!
//! A batch is a pure function of (seed, epoch, rows), so a checkpoint needs no generator state.
//!
//! *Stream*: the targets are cut into windows of `block_size` from an offset that is redrawn each
//! epoch, and the windows are shuffled. The first token of a text has no context and is never a
//! target. *Line*: a row is a line, or a part of a line longer than `block_size`; shorter rows are
//! padded.
//!
//! For a model with a state that is carried between windows ([`Batches::following`]), the rows of a
//! batch are parallel streams that continue the rows of the previous batch. *Stream*: the text is
//! cut into one contiguous part per row. *Line*: one shuffled line per row is read until the
//! longest ends, then the next group of lines starts.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::warnings::lock;
use crate::{TextMode, TokenText};

/// The target value of padding, which has no loss.
pub const IGNORE_INDEX: u32 = u32::MAX;

/// The ChaCha stream of the data order under a run's seed.
const SHUFFLE_STREAM: u64 = 100;

/// Inputs and targets of one training step, both (rows, cols).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// (rows · cols) token ids.
    pub inputs: Vec<u32>,
    /// (rows · cols) next-token ids, [`IGNORE_INDEX`] where there is none.
    pub targets: Vec<u32>,
    /// B, the batch size.
    pub rows: usize,
    /// T, the length of the longest row, at most `block_size`.
    pub cols: usize,
    /// The number of targets without padding.
    pub targets_count: usize,
    /// Whether its rows start a text, or continue those of the previous batch.
    pub begins: bool,
}

impl Batch {
    /// The same targets in rows of at most `cols` tokens; the parts of a row share no context.
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

/// The positions of a row's targets in the ids.
type Row = Range<usize>;

/// Cuts `targets` into rows of at most `block_size`.
fn into_rows(targets: Range<usize>, block_size: usize) -> impl Iterator<Item = Row> {
    targets.clone().step_by(block_size).map(move |at| at..targets.end.min(at.saturating_add(block_size)))
}

/// The rows of an epoch in training order.
#[derive(Debug)]
struct Order {
    rows: Rows,
    /// For each window of all streams, whether texts start there; empty if every row starts one.
    begins: Vec<bool>,
}

#[derive(Debug)]
enum Rows {
    Listed(Vec<Row>),
    /// The numbers of the rows, four bytes each: of lines, or of windows after `offset` targets.
    Shuffled {
        offset: usize,
        order: Vec<u32>,
    },
}

impl Rows {
    fn len(&self) -> usize {
        match self {
            Self::Listed(rows) => rows.len(),
            Self::Shuffled { order, .. } => order.len(),
        }
    }
}

/// The batches of a text.
#[derive(Debug)]
pub struct Batches {
    text: Arc<TokenText>,
    block_size: usize,
    seed: u64,
    /// The rows of line mode, the same in every epoch; whole lines for parallel streams.
    lines: Vec<Row>,
    /// The number of parallel streams; `None` for independent rows.
    streams: Option<usize>,
    /// The last epoch that was used, and its rows in order.
    order: Mutex<Option<(u64, Arc<Order>)>>,
}

impl Batches {
    /// Batches of rows of at most `block_size` tokens.
    ///
    /// # Errors
    /// A text without a token to predict; a `block_size` of 0.
    pub fn new(text: Arc<TokenText>, block_size: usize, seed: u64) -> Result<Self> {
        Self::build(text, block_size, None, seed)
    }

    /// Batches whose rows continue each other in `streams` parallel streams, a multiple of the rows
    /// of every batch. A row is empty after its text has ended.
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
        if u32::try_from(targets / if lines.is_empty() { block_size } else { 1 }).is_err() {
            return Err(Error::Setting("the text has more than 2^32 windows in an epoch".into()));
        }
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

    /// The number of rows of `epoch` (from 0).
    pub fn rows(&self, epoch: u64) -> usize {
        match (self.text.mode, self.streams) {
            (TextMode::Line, None) => self.lines.len(),
            (TextMode::Line, Some(_)) => self.order(epoch).rows.len(),
            (TextMode::Stream | TextMode::Document, streams) => {
                let streams = streams.unwrap_or(1);
                let targets = (self.text.ids.len() - 1).div_ceil(streams);
                let offset = self.offset(&mut self.generator(epoch)).min(targets);
                (usize::from(offset > 0) + (targets - offset).div_ceil(self.block_size)) * streams
            }
        }
    }

    /// The start of the first whole window of an epoch, in targets.
    fn offset(&self, rng: &mut ChaCha8Rng) -> usize {
        rng.random_range(0..self.block_size).min(self.text.ids.len() - 1)
    }

    /// The rows `range` of `epoch`, without those after its end.
    pub fn batch(&self, epoch: u64, range: Range<usize>) -> Batch {
        let order = self.order(epoch);
        let end = range.end.min(order.rows.len());
        let rows: Vec<Row> = (range.start.min(end)..end).map(|at| self.row(&order.rows, at)).collect();
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

    /// The row at a place in training order.
    fn row(&self, rows: &Rows, at: usize) -> Row {
        match rows {
            Rows::Listed(rows) => rows[at].clone(),
            Rows::Shuffled { order, .. } if self.text.mode == TextMode::Line => {
                self.lines[order[at] as usize].clone()
            }
            Rows::Shuffled { offset, order } => {
                let first = usize::from(*offset > 0);
                match (order[at] as usize).checked_sub(first) {
                    None => 1..1 + offset,
                    Some(window) => {
                        let start = 1 + offset + window * self.block_size;
                        start..start.saturating_add(self.block_size).min(self.text.ids.len())
                    }
                }
            }
        }
    }

    /// The rows of an epoch in training order.
    fn order(&self, epoch: u64) -> Arc<Order> {
        let mut kept = lock(&self.order);
        if let Some((of, order)) = kept.as_ref()
            && *of == epoch
        {
            return order.clone();
        }
        let mut rng = self.generator(epoch);
        let order = Arc::new(match (self.text.mode, self.streams) {
            (TextMode::Line, None) => {
                let order = shuffled((0..self.lines.len() as u32).collect(), &mut rng);
                Order { rows: Rows::Shuffled { offset: 0, order }, begins: Vec::new() }
            }
            (TextMode::Stream | TextMode::Document, None) => {
                let offset = self.offset(&mut rng);
                let order = shuffled((0..self.rows(epoch) as u32).collect(), &mut rng);
                Order { rows: Rows::Shuffled { offset, order }, begins: Vec::new() }
            }
            (TextMode::Stream | TextMode::Document, Some(streams)) => {
                let offset = self.offset(&mut rng);
                let len = self.text.ids.len();
                let each = (len - 1).div_ceil(streams);
                let part = |i: usize| (1 + i * each).min(len)..(1 + (i + 1) * each).min(len);
                let parts: Vec<Row> = (0..streams).map(part).collect();
                let (rows, begins) = self.side_by_side(&parts, offset.min(each), streams);
                Order { rows: Rows::Listed(rows), begins }
            }
            (TextMode::Line, Some(streams)) => {
                let lines = shuffled(self.lines.clone(), &mut rng);
                let (mut rows, mut begins) = (Vec::new(), Vec::new());
                for group in lines.chunks(streams) {
                    let (more, starts) = self.side_by_side(group, 0, streams);
                    rows.extend(more);
                    begins.extend(starts);
                }
                Order { rows: Rows::Listed(rows), begins }
            }
        });
        *kept = Some((epoch, order.clone()));
        order
    }

    /// Windows of parallel texts with the targets `parts`, at most `streams` of them. The first
    /// window has `offset` tokens unless that is 0, the others have `block_size`.
    fn side_by_side(&self, parts: &[Row], offset: usize, streams: usize) -> (Vec<Row>, Vec<bool>) {
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
        (rows, begins)
    }
}

/// Fisher-Yates shuffle.
fn shuffled<T>(mut rows: Vec<T>, rng: &mut ChaCha8Rng) -> Vec<T> {
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
        Arc::new(TokenText { ids: ids.into(), ..TokenText::default() })
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
            let mut ids = Vec::new();
            let mut expected = Vec::new();
            let mut next = 2;
            for len in lens {
                let mut line = vec![0];
                line.extend(next..next + len as u32);
                line.push(1);
                next += len as u32;
                expected.extend(line.windows(2).map(|pair| (pair[0], pair[1])));
                ids.extend(line);
                text.lines += 1;
            }
            text.ids = ids.into();
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
            let mut ids: Vec<u32> = (0..total as u32).collect();
            if line {
                (text.bos, text.lines) = (Some(0), lens.len() as u64);
                // Each line starts with <s>, whose id is 0.
                let mut start = 0;
                for len in &lens {
                    ids[start] = 0;
                    start += len + 1;
                }
            }
            text.ids = ids.into();
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
                        // A continued row starts with the last target of the previous one.
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
        // In another order.
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
