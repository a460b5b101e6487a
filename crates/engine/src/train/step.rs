//! Gradients of an update, data parallel: shards of a batch on one thread each, summed as a fixed
//! tree.
//!
//! Each shard is a candle graph with serial kernels, so that the overhead of the graph is parallel,
//! too. Shards are rows of the batch: the result depends on the number of shards in the config,
//! never on the number of threads or ranks.
//!
//! Rank 0 sends all that an update depends on to the others, the weights included: these take as
//! many bytes as the sum of the gradients would, and no other rank needs the optimizer's state.

use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use surprisal_loss::Loss;
use surprisal_model::neural::{Mode, Neural, Windows};
use surprisal_ops::grad_accumulator::GradAccumulator;
use surprisal_ops::{Backward, Context, Precision};
use surprisal_platform::threads::Pool;
use surprisal_text::Batch;

use super::objective::{Objective, Shard};
use super::reduce::reduce;
use crate::control::Control;
use crate::error::{Error, ExitKind, Result};
use crate::events;
use crate::ranks::{Ranks, Reader, Writer};
use crate::wording::many;

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

/// Results of a shard of a batch beside gradients.
#[derive(Debug, Default)]
struct Part {
    sums: Sums,
    /// The rows of the states after it.
    streams: Range<usize>,
    after: Vec<f32>,
}

/// Sums with the bits of their numbers, rows of the states, and the number of values of these.
type PartHeader = ([u64; 2], usize, Range<usize>, usize);

/// The answer of a rank: for each of its shards the parts of all batches, or a message and whether
/// it is about a divergence.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// Whether this rank was asked to stop.
    stop: bool,
    shards: Vec<Result<Vec<PartHeader>, (String, bool)>>,
}

/// The head of the message for an update.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    dropout_seed: u64,
    /// Rows, columns, and the number of targets of each batch.
    batches: Vec<(usize, usize, usize)>,
    hidden: usize,
}

pub(crate) struct Step<'a> {
    pub(crate) neural: &'a Neural,
    pub(crate) objective: &'a dyn Objective,
    /// Input precision of linear layers.
    pub(crate) precision: Precision,
    pub(crate) pool: &'a Pool,
    /// The ranks that share the work, if there are several.
    pub(crate) team: Option<Team<'a>>,
}

/// The ranks of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Team<'a> {
    pub(crate) ranks: &'a Ranks,
    /// The number of shards of all of them.
    pub(crate) shards: usize,
    pub(crate) control: &'a Control,
}

impl<'a> Team<'a> {
    /// `None` for a rank alone.
    ///
    /// # Errors
    /// More ranks than `shards`.
    pub(crate) fn of(ctx: &events::Context<'a>, shards: usize) -> Result<Option<Self>> {
        let size = ctx.ranks.size();
        if size > shards {
            return Err(Error::usage(format!(
                "{size} ranks share {}, and each needs one of its own",
                many(shards as u64, "shard")
            ))
            .hint(format!(
                "set train.shards to {size} or more, of at most train.batch_size; or start fewer ranks"
            )));
        }
        Ok((size > 1).then_some(Self { ranks: ctx.ranks, shards, control: ctx.control }))
    }
}

impl Step<'_> {
    /// Gradients of the mean objective over all tokens of `batches`, summed over all shards; with
    /// one accumulator for each shard of this rank. The rows of the batches are the streams of
    /// `hidden`, which is updated.
    pub(crate) fn gradients(
        &self,
        batches: &[Batch],
        dropout_seed: u64,
        gradients: &mut [GradAccumulator],
        hidden: &mut Hidden,
    ) -> Result<Sums> {
        if batches.iter().all(|batch| batch.targets_count == 0) {
            return Err(Error::failed("a batch has no token to predict"));
        }
        let mut first_row = 0;
        for batch in batches {
            if batch.begins {
                let rows = hidden.rows(first_row..first_row + batch.rows);
                hidden.values.get_mut(rows).unwrap_or_default().fill(0.0);
            }
            first_row += batch.rows;
        }
        if let Some(team) = self.team {
            team.ranks.broadcast(self.order(batches, dropout_seed, hidden)?)?;
        }
        let mut shards = self.parts(batches, dropout_seed, gradients, hidden);
        if let Some(team) = self.team {
            for rank in 1..team.ranks.size() {
                let bytes = team.ranks.receive(rank)?;
                let (answer, mut states): (Answer, _) = Reader::new(&bytes)?;
                if answer.stop {
                    team.control.stop();
                }
                for parts in answer.shards {
                    shards.push(read_parts(parts, &mut states));
                }
            }
        }
        // Before an error is looked at: the other ranks take part in any case.
        self.reduce(gradients)?;
        let shards = shards.into_iter().collect::<Result<Vec<Vec<Part>>>>()?;
        let mut sums = Sums::default();
        for batch in 0..batches.len() {
            for Part { sums: part, streams, after } in shards.iter().filter_map(|parts| parts.get(batch)) {
                sums.add(part);
                if !after.is_empty() {
                    hidden.values[streams.clone()].copy_from_slice(after);
                }
            }
        }
        Ok(sums)
    }

    /// Computes this rank's shards of an update that rank 0 has sent, and takes part in the sum.
    pub(crate) fn answer(
        &self,
        team: &Team<'_>,
        order: &[u8],
        gradients: &mut [GradAccumulator],
        hidden: &mut Hidden,
    ) -> Result<()> {
        let (order, mut numbers): (Order, _) = Reader::new(order)?;
        let mut batches = Vec::new();
        for (rows, cols, targets_count) in order.batches {
            let [inputs, targets] = [numbers.ids(rows * cols)?, numbers.ids(rows * cols)?];
            batches.push(Batch { inputs, targets, rows, cols, targets_count, begins: false });
        }
        hidden.values = numbers.floats(order.hidden)?;
        for parameter in self.neural.parameters() {
            let values = numbers.floats(parameter.var.elem_count())?;
            parameter.update(|weights| weights.copy_from_slice(&values))?;
        }
        let shards = self.parts(&batches, order.dropout_seed, gradients, hidden);
        let header = |part: &Part| {
            let Part { sums: Sums { objective, nll, tokens }, streams, after } = part;
            ([objective.to_bits(), nll.to_bits()], *tokens, streams.clone(), after.len())
        };
        let known = |parts: &Result<Vec<Part>>| match parts {
            Ok(parts) => Ok(parts.iter().map(header).collect()),
            Err(error) => Err((error.message.clone(), error.kind == ExitKind::Diverged)),
        };
        let answer = Answer { stop: team.control.is_stopped(), shards: shards.iter().map(known).collect() };
        let mut message = Writer::new(&answer)?;
        shards.iter().flatten().flatten().for_each(|part| message.floats(&part.after));
        team.ranks.send(0, &message.bytes())?;
        self.reduce(gradients)
    }

    /// The message for [`Self::answer`].
    fn order(&self, batches: &[Batch], dropout_seed: u64, hidden: &Hidden) -> Result<Vec<u8>> {
        let shape = |batch: &Batch| (batch.rows, batch.cols, batch.targets_count);
        let batch_shapes = batches.iter().map(shape).collect();
        let header = Order { dropout_seed, batches: batch_shapes, hidden: hidden.values.len() };
        let mut order = Writer::new(&header)?;
        for batch in batches {
            order.ids(&batch.inputs);
            order.ids(&batch.targets);
        }
        order.floats(&hidden.values);
        for parameter in self.neural.parameters() {
            parameter.read(|weights| order.floats(weights))?;
        }
        Ok(order.bytes())
    }

    fn reduce(&self, gradients: &[GradAccumulator]) -> Result<()> {
        let sizes = self.neural.parameters().iter().map(|parameter| parameter.var.elem_count());
        let ranks = self.team.map_or(Ranks::ALONE, |team| team.ranks);
        reduce(gradients, &sizes.collect::<Vec<_>>(), ranks, self.pool)
    }

    /// Computes this rank's shards of `batches`.
    fn parts(
        &self,
        batches: &[Batch],
        dropout_seed: u64,
        gradients: &mut [GradAccumulator],
        hidden: &Hidden,
    ) -> Vec<Result<Vec<Part>>> {
        let scale = 1.0 / batches.iter().map(|batch| batch.targets_count).sum::<usize>() as f64;
        let shards = self.team.map_or(gradients.len(), |team| team.shards);
        let first = self.team.map_or(0, |team| team.ranks.shards(shards).start);
        self.pool.map_mut(gradients, |index, own| {
            own.zero_grad();
            let shard = first + index;
            let mut first_row = 0;
            let part = |batch: &Batch| {
                let rows = batch.rows * shard / shards..batch.rows * (shard + 1) / shards;
                let row = first_row + rows.start;
                first_row += batch.rows;
                if rows.is_empty() || batch.cols == 0 {
                    return Ok(Part::default());
                }
                let backward = Backward::Accumulate(own.clone());
                let context = Context { precision: self.precision, backward };
                let mode = Mode::Train { dropout_seed, first_row: row };
                let streams = hidden.rows(row..row + rows.len());
                let state = hidden.values.get(streams.clone()).filter(|state| !state.is_empty());
                own.with_buffers(|| {
                    let (store, sums, after) = self.shard(&context, scale, batch, rows, state, &mode)?;
                    // Gradients of candle operations and of the head.
                    own.add_grad_store(&store)?;
                    Ok(Part { sums, streams, after })
                })
            };
            batches.iter().map(part).collect()
        })
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

/// The parts of a shard of another rank.
fn read_parts(parts: Result<Vec<PartHeader>, (String, bool)>, states: &mut Reader<'_>) -> Result<Vec<Part>> {
    let parts = parts.map_err(|(message, diverged)| {
        let kind = if diverged { ExitKind::Diverged } else { ExitKind::Failed };
        Error { kind, ..Error::failed(message) }
    })?;
    let part = |([objective, nll], tokens, streams, after): PartHeader| {
        let sums = Sums { objective: f64::from_bits(objective), nll: f64::from_bits(nll), tokens };
        Ok(Part { sums, streams, after: states.floats(after)? })
    };
    parts.into_iter().map(part).collect()
}
