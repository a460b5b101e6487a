//! Length of a run, sizes of its batches, and its position in the data.

use surprisal_text::Batches;

use crate::config;
use crate::events::StopCriterion;

impl StopCriterion {
    pub(crate) fn new(train: &config::Train, batches: &Batches) -> Self {
        if let Some(budget) = &train.budget {
            return Self::Budget(budget.duration());
        }
        if let Some(steps) = train.steps {
            return Self::Steps(steps);
        }
        let epochs = train.epochs.unwrap_or(1.0);
        let whole = (0..epochs as u64).fold(0, |steps, epoch| steps + updates(batches, train, epoch, steps));
        let part = (epochs.fract() * updates(batches, train, epochs as u64, whole) as f64).round() as usize;
        Self::Steps((whole + part).max(1))
    }

    pub(crate) fn progress(self, step: usize, train_seconds: f64) -> f64 {
        match self {
            Self::Steps(steps) => step as f64 / steps as f64,
            Self::Budget(budget) => train_seconds / budget.as_secs_f64(),
        }
    }

    /// Estimate of the remaining training time.
    pub(crate) fn left_seconds(self, step: usize, train_seconds: f64) -> f64 {
        match self {
            Self::Steps(steps) if step > 0 => train_seconds / step as f64 * steps.saturating_sub(step) as f64,
            Self::Steps(_) => f64::NAN,
            Self::Budget(budget) => (budget.as_secs_f64() - train_seconds).max(0.0),
        }
    }
}

/// Shape of the batches of an update. Rows grow from `batch_start` to `batch_size`, and their
/// lengths from `block_start` to `block_size`, over the first `ramp_steps` updates: small batches
/// and short contexts are as good at first and cost less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchShape {
    pub(crate) rows: usize,
    /// Maximum number of tokens per row: rows of the text are cut into halves, quarters and so on.
    pub(crate) cols: usize,
}

impl BatchShape {
    /// Shape for the update after `step` others.
    pub(crate) fn at(train: &config::Train, step: usize) -> Self {
        let full = Self { rows: train.batch_size, cols: train.block_size };
        let ramp = train.ramp_steps;
        if step >= ramp {
            return full;
        }
        let start = train.batch_start.unwrap_or(full.rows).min(full.rows);
        let rows = start + (full.rows - start) * step / ramp;
        let block_start = train.block_start.unwrap_or(full.cols).clamp(1, full.cols);
        // How often the window is halved at first, and at this step.
        let halvings = (full.cols / block_start).ilog2() as usize;
        let left = halvings - (halvings + 1) * step / ramp;
        Self { rows, cols: full.cols.div_ceil(1 << left) }
    }
}

/// Number of rows of the text in the update after `step` others.
fn rows_at(train: &config::Train, step: usize) -> usize {
    BatchShape::at(train, step).rows * train.grad_accumulation
}

/// Number of updates in an epoch that begins after `step` updates.
pub(crate) fn updates(batches: &Batches, train: &config::Train, epoch: u64, step: usize) -> usize {
    let (mut left, mut updates) = (batches.rows(epoch), 0);
    while left > 0 && step + updates < train.ramp_steps {
        left = left.saturating_sub(rows_at(train, step + updates));
        updates += 1;
    }
    updates + left.div_ceil(train.batch_size * train.grad_accumulation)
}

/// Position of the next update in the data. With the seed and the number of updates it determines
/// the order of batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) row: usize,
}

impl Position {
    /// The batches of the update after `step` others.
    pub(crate) fn batches(
        self,
        batches: &Batches,
        train: &config::Train,
        step: usize,
    ) -> Vec<surprisal_text::Batch> {
        let BatchShape { rows, cols } = BatchShape::at(train, step);
        let end = (self.row + rows_at(train, step)).min(batches.rows(self.epoch));
        let of = |first: usize| batches.batch(self.epoch, first..end.min(first + rows)).cut(cols);
        (self.row..end).step_by(rows).map(of).collect()
    }

    /// Advances by the update after `step` others; true when that ends an epoch.
    pub(crate) fn advance(&mut self, batches: &Batches, train: &config::Train, step: usize) -> bool {
        self.row += rows_at(train, step);
        let ends = self.row >= batches.rows(self.epoch);
        if ends {
            *self = Self { epoch: self.epoch + 1, row: 0 };
        }
        ends
    }

    /// Number of epochs, with the part of the current one.
    pub(crate) fn epochs(self, batches: &Batches) -> f64 {
        self.epoch as f64 + self.row as f64 / batches.rows(self.epoch) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use surprisal_text::TokenText;

    use super::*;

    fn ramped() -> config::Train {
        config::Train {
            batch_size: 8,
            block_size: 16,
            batch_start: Some(2),
            block_start: Some(4),
            ramp_steps: 6,
            grad_accumulation: 2,
            ..config::Train::default()
        }
    }

    #[test]
    fn sizes_grow_to_the_full_ones_and_stay() {
        let sizes: Vec<_> =
            (0..8).map(|step| BatchShape::at(&ramped(), step)).map(|s| (s.rows, s.cols)).collect();
        assert_eq!(sizes, [(2, 4), (3, 4), (4, 8), (5, 8), (6, 16), (7, 16), (8, 16), (8, 16)]);
        let plain = config::Train::default();
        assert_eq!(BatchShape::at(&plain, 0), BatchShape { rows: plain.batch_size, cols: plain.block_size });
    }

    #[test]
    fn every_target_comes_once_an_epoch_and_updates_are_foreseen() {
        let train = ramped();
        let mut text = TokenText::default();
        text.ids = (0..1000).collect::<Vec<_>>().into();
        let batches = Batches::new(Arc::new(text), train.block_size, 3).unwrap();
        let (mut at, mut step) = (Position::default(), 0);
        for epoch in 0..3 {
            let (foreseen, first) = (updates(&batches, &train, epoch, step), step);
            let mut seen = Vec::new();
            loop {
                let portion = at.batches(&batches, &train, step);
                assert!(portion.iter().all(|batch| batch.cols <= BatchShape::at(&train, step).cols));
                seen.extend(portion.into_iter().flat_map(|batch| batch.targets));
                let ends = at.advance(&batches, &train, step);
                step += 1;
                if ends {
                    break;
                }
                assert_eq!(at.epoch, epoch);
            }
            assert_eq!(step - first, foreseen);
            seen.retain(|&target| target != surprisal_text::IGNORE_INDEX);
            seen.sort_unstable();
            assert_eq!(seen, (1..1000).collect::<Vec<u32>>());
        }
        let length = StopCriterion::new(&config::Train { epochs: Some(3.0), ..train }, &batches);
        assert_eq!(length, StopCriterion::Steps(step));
    }
}
