//! Gradients of an update, data parallel: shards of a batch on one thread each, summed in a fixed
//! order.
//!
//! Each shard is a candle graph with serial kernels, so that the overhead of the graph is parallel,
//! too. Shards are rows of the batch: the result depends on the number of shards in the config,
//! never on the number of threads.

use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use surprisal_loss::Loss;
use surprisal_model::neural::{Mode, Neural, Windows};
use surprisal_ops::grad_accumulator::GradAccumulator;
use surprisal_ops::{Backward, Context, Precision};
use surprisal_platform::threads::Pool;
use surprisal_text::Batch;

use super::objective::{Objective, Shard};
use crate::error::{Error, Result};

/// Sums over the tokens of one update.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sums {
    /// Sum of the objective.
    pub(crate) objective: f64,
    /// Sum of −ln q of the true tokens.
    pub(crate) nll: f64,
    pub(crate) tokens: usize,
}

impl Sums {
    pub(crate) fn add(&mut self, other: &Self) {
        self.objective += other.objective;
        self.nll += other.nll;
        self.tokens += other.tokens;
    }
}

/// States of a recurrent network between updates: one row for each stream of the text, zero where
/// texts begin. Width 0 for a network without a state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hidden {
    pub(crate) width: usize,
    /// (streams, width).
    pub(crate) values: Vec<f32>,
}

impl Hidden {
    pub(crate) fn new(windows: Windows, streams: usize) -> Self {
        let width = match windows {
            Windows::Shuffled => 0,
            Windows::Following { state_width } => state_width,
        };
        Self { width, values: vec![0.0; streams * width] }
    }

    /// Indices of the states of `streams`.
    fn rows(&self, streams: Range<usize>) -> Range<usize> {
        streams.start * self.width..streams.end * self.width
    }
}

pub(crate) struct Step<'a> {
    pub(crate) neural: &'a Neural,
    pub(crate) objective: &'a dyn Objective,
    /// Input precision of linear layers.
    pub(crate) precision: Precision,
    pub(crate) pool: &'a Pool,
}

impl Step<'_> {
    /// Gradients of the mean objective over all tokens of `batches`, one accumulator per shard, to
    /// be summed in order. The rows of the batches are the streams of `hidden`, which is updated.
    pub(crate) fn gradients(
        &self,
        batches: &[Batch],
        dropout_seed: u64,
        gradients: &mut [GradAccumulator],
        hidden: &mut Hidden,
    ) -> Result<Sums> {
        let tokens: usize = batches.iter().map(|batch| batch.targets_count).sum();
        if tokens == 0 {
            return Err(Error::failed("a batch has no token to predict"));
        }
        let scale = 1.0 / tokens as f64;
        gradients.iter().for_each(GradAccumulator::zero_grad);
        let shards = gradients.len();
        let mut sums = Sums::default();
        let mut first_row = 0;
        for batch in batches {
            if batch.begins {
                let rows = hidden.rows(first_row..first_row + batch.rows);
                hidden.values.get_mut(rows).unwrap_or_default().fill(0.0);
            }
            let before = &*hidden;
            let results = self.pool.map_mut(gradients, |shard, own| {
                let rows = batch.rows * shard / shards..batch.rows * (shard + 1) / shards;
                if rows.is_empty() || batch.cols == 0 {
                    return Ok((Sums::default(), 0..0, Vec::new()));
                }
                let backward = Backward::Accumulate(own.clone());
                let context = Context { precision: self.precision, backward };
                let mode = Mode::Train { dropout_seed, first_row: first_row + rows.start };
                let streams = before.rows(first_row + rows.start..first_row + rows.end);
                let state = before.values.get(streams.clone()).filter(|state| !state.is_empty());
                own.with_buffers(|| {
                    let (store, part, after) = self.shard(&context, scale, batch, rows, state, &mode)?;
                    // Gradients of candle operations and of the head.
                    own.add_grad_store(&store)?;
                    Ok((part, streams, after))
                })
            });
            for result in results {
                let result: Result<(Sums, Range<usize>, Vec<f32>)> = result;
                let (part, streams, after) = result?;
                sums.add(&part);
                if !after.is_empty() {
                    hidden.values[streams].copy_from_slice(&after);
                }
            }
            first_row += batch.rows;
        }
        Ok(sums)
    }

    fn shard(
        &self,
        context: &Context,
        scale: f64,
        batch: &Batch,
        rows: Range<usize>,
        state: Option<&[f32]>,
        mode: &Mode,
    ) -> Result<(GradStore, Sums, Vec<f32>)> {
        let cells = rows.start * batch.cols..rows.end * batch.cols;
        let ids = Tensor::from_slice(&batch.inputs[cells.clone()], (rows.len(), batch.cols), &Device::Cpu)?; // (B, T)
        let (output, after) = self.neural.forward_in(context, &ids, state, mode)?;
        let (inputs, targets) = (&batch.inputs[cells.clone()], &batch.targets[cells]);
        let shard = Shard { output: &output, context, inputs, targets, cols: batch.cols, scale };
        let Loss { value, objective_sum, nll_sum, count, .. } = self.objective.loss(&shard)?;
        Ok((value.backward()?, Sums { objective: objective_sum, nll: nll_sum, tokens: count }, after))
    }
}
