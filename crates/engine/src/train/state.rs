//! State of a training run.

use surprisal_model::neural::NeuralLm;

use super::length::Position;
use super::loss_spikes::SpikeDetector;
use super::optimiser::{Optimiser, Slot};
use super::step::{Hidden, Sums};
use crate::error::Result;
use crate::evaluation::Evaluation;

/// Everything that changes from step to step, which a checkpoint saves.
pub(crate) struct TrainState {
    pub(crate) lm: NeuralLm,
    pub(crate) optimiser: Optimiser,
    pub(crate) position: Position,
    /// States of a recurrent network.
    pub(crate) hidden: Hidden,
    /// Sums since the last evaluation.
    pub(crate) recent: Sums,
    /// The best evaluation so far.
    pub(crate) best: Option<Best>,
    /// Evaluations since the best one.
    pub(crate) evals_since_best: usize,
    pub(crate) train_seconds: f64,
    pub(crate) tokens: u64,
    pub(crate) spikes: SpikeDetector,
}

impl TrainState {
    /// Whether parameters and optimizer state are finite.
    pub(crate) fn is_finite(&self) -> Result<bool> {
        let mut kept = self.optimiser.slots.iter().flat_map(Slot::state).flat_map(|(_, values)| values);
        Ok(kept.all(|value| value.is_finite()) && self.lm.neural.is_finite()?)
    }
}

pub(crate) struct Best {
    pub(crate) nats_per_token: f64,
    pub(crate) step: usize,
    pub(crate) weights: Vec<Vec<f32>>,
    /// The whole evaluation; `None` after a resumption.
    pub(crate) evaluation: Option<Evaluation>,
}
