//! How long a run is: epochs, steps or time; and where in the data it stands.

use std::time::Duration;

use surprisal_text::Batches;

use crate::config::{self, parse_duration};

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Length {
    /// After so many updates.
    Steps(usize),
    /// After so much training time. The learning rate then follows the clock, so such a run is not repeatable to the
    /// bit.
    Budget(Duration),
}

impl Length {
    pub(crate) fn of(train: &config::Train, batches: &Batches) -> Self {
        if let Some(budget) = train.budget.as_deref().and_then(parse_duration) {
            return Self::Budget(budget);
        }
        if let Some(steps) = train.steps {
            return Self::Steps(steps);
        }
        let epochs = train.epochs.unwrap_or(1.0);
        let updates = |epoch| updates(batches, train, epoch);
        let whole: usize = (0..epochs as u64).map(updates).sum();
        let part = (epochs.fract() * updates(epochs as u64) as f64).round() as usize;
        Self::Steps((whole + part).max(1))
    }

    /// How far the run is, from 0 to 1.
    pub(crate) fn progress(self, step: usize, train_seconds: f64) -> f64 {
        match self {
            Self::Steps(steps) => step as f64 / steps as f64,
            Self::Budget(budget) => train_seconds / budget.as_secs_f64(),
        }
    }

    /// Training time still to come, at the pace so far.
    pub(crate) fn left_seconds(self, step: usize, train_seconds: f64) -> f64 {
        match self {
            Self::Steps(steps) if step > 0 => train_seconds / step as f64 * steps.saturating_sub(step) as f64,
            Self::Steps(_) => f64::NAN,
            Self::Budget(budget) => (budget.as_secs_f64() - train_seconds).max(0.0),
        }
    }
}

/// Updates in one epoch: batches, `grad_accumulation` at a time.
pub(crate) fn updates(batches: &Batches, train: &config::Train, epoch: u64) -> usize {
    batches.per_epoch(epoch).div_ceil(train.grad_accumulation)
}

/// The next update's place in the data. With the seed it says everything about the order, so it is all that a
/// checkpoint needs to keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    /// Updates done in this epoch.
    pub(crate) update: usize,
}

impl Position {
    /// The batches of the next update.
    pub(crate) fn batches(self, batches: &Batches, train: &config::Train) -> Vec<surprisal_text::Batch> {
        let first = self.update * train.grad_accumulation;
        let last = (first + train.grad_accumulation).min(batches.per_epoch(self.epoch));
        (first..last).map(|index| batches.batch(self.epoch, index)).collect()
    }

    /// Moves on by one update; true when that ends an epoch.
    pub(crate) fn advance(&mut self, batches: &Batches, train: &config::Train) -> bool {
        self.update += 1;
        let ends = self.update >= updates(batches, train, self.epoch);
        if ends {
            *self = Self { epoch: self.epoch + 1, update: 0 };
        }
        ends
    }

    /// Epochs done, with the part of the current one.
    pub(crate) fn epochs(self, batches: &Batches, train: &config::Train) -> f64 {
        self.epoch as f64 + self.update as f64 / updates(batches, train, self.epoch) as f64
    }
}
