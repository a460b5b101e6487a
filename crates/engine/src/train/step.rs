//! One update's gradients: shards of a batch, one a thread, summed in a fixed order.
//!
//! Each shard is a candle graph of its own with serial kernels inside, so the graph's cost is paid in parallel and no
//! kernel needs to fork. Shards are cut by row and summed by index: the result depends on how many shards there are,
//! which the config says, and never on how many threads compute them.

use candle_core::{Device, Tensor};
use surprisal_loss::confidence::confidence_penalty;
use surprisal_loss::{CrossEntropy, Loss, Reduction};
use surprisal_model::neural::{Mode, Neural, Output};
use surprisal_ops::grad_accumulator::GradAccumulator;
use surprisal_ops::profile::{OpKind, time};
use surprisal_ops::{Backward, Context, Precision};
use surprisal_platform::threads::Pool;
use surprisal_text::Batch;

use super::targets::SoftTargets;
use crate::error::{Error, Result};

/// Sums over the tokens of one update.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sums {
    /// Σ of what is minimised (smoothed, with z-loss).
    pub(crate) objective: f64,
    /// Σ −ln q of the true tokens, unsmoothed.
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

pub(crate) struct Step<'a> {
    pub(crate) neural: &'a Neural,
    pub(crate) loss: &'a CrossEntropy,
    /// What the loss is to be given with every batch.
    pub(crate) targets: Option<&'a SoftTargets>,
    /// β of the confidence penalty.
    pub(crate) penalty: f64,
    /// How the products of the linear layers read their inputs.
    pub(crate) precision: Precision,
    pub(crate) pool: &'a Pool,
}

impl Step<'_> {
    /// The gradient of the mean objective over all tokens of `batches`, shard by shard in `gradients`, one each; they are
    /// to be summed in order.
    pub(crate) fn gradients(
        &self,
        batches: &[Batch],
        dropout_seed: u64,
        gradients: &mut [GradAccumulator],
    ) -> Result<Sums> {
        let tokens: usize = batches.iter().map(|batch| batch.targets_count).sum();
        if tokens == 0 {
            return Err(Error::failed("a batch has no token to predict"));
        }
        let scale = 1.0 / tokens as f64;
        let loss = self.loss.clone().reduction(Reduction::Scaled(scale));
        gradients.iter().for_each(GradAccumulator::zero_grad);
        let shards = gradients.len();
        let mut sums = Sums::default();
        let mut first_row = 0;
        for batch in batches {
            let results = self.pool.map_mut(gradients, |shard, own| {
                let rows = batch.rows * shard / shards..batch.rows * (shard + 1) / shards;
                if rows.is_empty() {
                    return Ok(Sums::default());
                }
                let backward = Backward::Accumulate(own.clone());
                let context = Context { precision: self.precision, backward };
                let mode = Mode::Train { dropout_seed, first_row: first_row + rows.start };
                let (store, part) = self.shard(&context, &loss, scale, batch, rows, &mode)?;
                // What plain operations and the head left.
                own.add_grad_store(&store)?;
                Ok(part)
            });
            for result in results {
                let part: Result<Sums> = result;
                sums.add(&part?);
            }
            first_row += batch.rows;
        }
        Ok(sums)
    }

    fn shard(
        &self,
        context: &Context,
        loss: &CrossEntropy,
        scale: f64,
        batch: &Batch,
        rows: std::ops::Range<usize>,
        mode: &Mode,
    ) -> Result<(candle_core::backprop::GradStore, Sums)> {
        let cells = rows.start * batch.cols..rows.end * batch.cols;
        let ids = Tensor::from_slice(&batch.inputs[cells.clone()], (rows.len(), batch.cols), &Device::Cpu)?; // (B, T)
        let (own_inputs, own_targets) = (&batch.inputs[cells.clone()], &batch.targets[cells]);
        let targets = Tensor::from_slice(own_targets, rows.len() * batch.cols, &Device::Cpu)?; // (B·T)
        let soft = self.targets.map(|soft| soft.of_rows(loss, own_inputs, own_targets, batch.cols));
        let soft = soft.transpose()?;
        let loss = soft.as_ref().unwrap_or(loss);
        let output = self.neural.forward_in(context, &ids, mode)?;
        if self.penalty > 0.0 {
            let logits = output.logits_in(context)?;
            let Loss { value, objective_sum, nll_sum, count, .. } = loss.apply(&logits, &targets)?;
            let penalty = confidence_penalty(&logits, own_targets, self.penalty, scale)?;
            let objective = objective_sum + penalty.sum;
            let store = (value + penalty.value)?.backward()?;
            return Ok((store, Sums { objective, nll: nll_sum, tokens: count }));
        }
        let applied = time(OpKind::Head, || match output {
            Output::Logits(logits) => loss.apply(&logits, &targets),
            Output::Head { hidden, weight, bias } => {
                loss.apply_linear(&hidden, &weight, bias.as_ref(), &targets)
            }
        });
        let Loss { value, objective_sum, nll_sum, count, .. } = applied?;
        Ok((value.backward()?, Sums { objective: objective_sum, nll: nll_sum, tokens: count }))
    }
}
