//! Training by gradient descent: the loop, and nothing but the loop.

use std::time::Instant;

use serde_json::json;
use surprisal_loss::CrossEntropy;
use surprisal_model::neural::{Neural, NeuralLm};
use surprisal_ops::Precision;
use surprisal_platform::threads::Pool;
use surprisal_store::checkpoint::Checkpoint;
use surprisal_store::run::RunWriter;
use surprisal_text::Batches;

use super::checkpoint::{self, Saver};
use super::divergence;
use super::length::{Length, Position};
use super::optimiser::Optimiser;
use super::record::Record;
use super::spikes::Spikes;
use super::state::{Account, Best, State};
use super::step::{Step, Sums};
use super::table::Table;
use super::targets::SoftTargets;
use super::weights::{restore, weights};
use crate::config::{Config, Shards};
use crate::data::Prepared;
use crate::evaluate::{Evaluation, evaluate};
use crate::failure::{Failure, Kind, Result};
use crate::output::Output;
use crate::runs;
use crate::schedule::{Schedule, Shape};
use crate::signals::Stop;
use crate::streams::dropout_seed;

mod report;

/// Everything a training run works with.
pub(crate) struct Trainer<'a> {
    pub(crate) config: &'a Config,
    pub(crate) data: &'a Prepared,
    pub(crate) pool: &'a Pool,
    pub(crate) output: &'a Output,
    pub(crate) record: &'a mut Record,
    /// How many steps' gradients and updates are still to be listed.
    pub(crate) audit: usize,
    pub(crate) folder: &'a RunWriter,
    pub(crate) saver: Saver<'a>,
    pub(crate) stop: &'a Stop,
    /// The update made last, and its place in the data.
    pub(crate) last: Option<(Position, divergence::Update)>,
}

impl Trainer<'_> {
    /// Trains `neural` to the end and leaves the best weights in it.
    ///
    /// # Errors
    /// Divergence (exit code 3), a failure of the tensor library, a file that cannot be written.
    pub(crate) fn run(
        &mut self,
        mut neural: Neural,
        from: Option<&Checkpoint>,
    ) -> Result<(NeuralLm, Evaluation, Account)> {
        let config = self.config;
        let train = &config.train;
        let parameters = neural.parameters().iter().map(|p| p.var.elem_count() as u64).sum();
        let batches = Batches::new(self.data.train.clone(), train.block_size, train.seed)?;
        let length = Length::of(train, &batches);
        let vocab_size = self.data.tokenizer.vocab_size();
        let loss = SoftTargets::prepare(&config.loss, &self.data.train, vocab_size, self.pool)?;
        let table = Table::of(config, self.data, self.output);
        self.introduce(&neural, &batches, length, parameters);
        self.output.say(table.header());

        let optimiser = Optimiser::new(&neural, &config.optim, precision(config), shards(config))?;
        neural.stop_when(self.stop.flag());
        let mut state = State {
            lm: NeuralLm { neural, stride: config.eval.stride.unwrap_or(1) },
            optimiser,
            position: Position::default(),
            recent: Sums::default(),
            best: None,
            stale: 0,
            train_seconds: 0.0,
            tokens: 0,
            spikes: Spikes::default(),
        };
        if let Some(checkpoint) = from {
            checkpoint::resume(&mut state, checkpoint)?;
            self.output.say(format!("going on after step {}", state.optimiser.step));
        }
        // Until the model is saved.
        let _steps = self.stop.steps();
        // Nothing, unless a signal came into the last evaluation before the checkpoint.
        let mut last = if from.is_some() && state.recent.tokens > 0 {
            self.judge(&mut state, &batches, length, table)?
        } else {
            None
        };
        if let Some(signal) = self.stop.asked() {
            // Nothing has changed since the checkpoint, or since the beginning.
            return Err(stopped(signal, state.optimiser.step));
        }
        // Asked before each step, not after: a run that is resumed where it had lost its patience ends there, too.
        while length.progress(state.optimiser.step, state.train_seconds) < 1.0
            && !self.out_of_patience(&state)
        {
            self.step(&mut state, &batches, &loss, length)
                .or_else(|failure| self.keep_last_good(&state, failure))?;
            let step = state.optimiser.step;
            if let Some(evaluation) = self.judge(&mut state, &batches, length, table)? {
                last = Some(evaluation);
            }
            let stop = self.stop.asked();
            if self.saver.due(step, state.best.is_some()) || stop.is_some() {
                // A checkpoint that is not worth going back to would push out one that is.
                self.check_finite(&state, &batches)
                    .or_else(|failure| self.keep_last_good(&state, failure))?;
                let metrics = self.record.sync()?;
                self.saver.save(&state, metrics)?;
            }
            if let Some(signal) = stop {
                return Err(stopped(signal, step));
            }
        }
        self.output.end_bar();
        if self.out_of_patience(&state) {
            let patience = train.patience;
            self.output.say(format!(
                "stopped early: no better validation loss in {patience} evaluations (train.patience)"
            ));
        }
        let mut evaluation = match last {
            Some(evaluation) => evaluation,
            // Resumed after its last step, which its checkpoint is of.
            None => self.evaluate(&state.lm).map_err(|failure| match self.stop.asked() {
                Some(signal) => stopped(signal, state.optimiser.step),
                None => failure,
            })?,
        };
        let older = |best: &&Best| best.step != state.optimiser.step;
        let kept = |best: &&Best| train.select == "best" && (older(best) || config.optim.ema > 0.0);
        if let Some(best) = state.best.as_ref().filter(kept) {
            if older(&best) {
                self.output.say(format!(
                    "the model of step {} had the lowest validation loss, {:.4} nats a token, and is the one kept",
                    best.step, best.nats_per_token
                ));
            }
            let current = weights(&state.lm.neural)?;
            restore(&state.lm.neural, &best.weights)?;
            let judged = self.evaluate(&state.lm);
            if let (Err(_), Some(signal)) = (&judged, self.stop.asked()) {
                restore(&state.lm.neural, &current)?;
                let metrics = self.record.sync()?;
                self.saver.save(&state, metrics)?;
                return Err(stopped(signal, state.optimiser.step));
            }
            evaluation = judged?;
        }
        crate::models::save_neural(self.folder, &self.data.tokenizer, &state.lm.neural)?;
        let account = Account {
            parameters,
            train_seconds: state.train_seconds,
            tokens_per_second: state.tokens as f64 / state.train_seconds,
            epochs: state.position.epochs(&batches),
            steps: state.optimiser.step,
        };
        Ok((state.lm, evaluation, account))
    }

    /// Evaluates if that is due after the step made last. `None` where it is not, or where a signal ends it: then it is due
    /// when the run goes on.
    fn judge(
        &mut self,
        state: &mut State,
        batches: &Batches,
        length: Length,
        table: Table,
    ) -> Result<Option<Evaluation>> {
        let (eval, step) = (&self.config.eval, state.optimiser.step);
        let done = length.progress(step, state.train_seconds) >= 1.0;
        let asked = eval.every_steps > 0 && step.is_multiple_of(eval.every_steps);
        let Position { epoch, row } = state.position;
        let ends_epochs = row == 0 && eval.every_epochs > 0 && epoch.is_multiple_of(eval.every_epochs);
        if !(done || ends_epochs || asked) {
            return Ok(None);
        }
        self.report(state, batches, length, table).or_else(|failure| self.keep_last_good(state, failure))
    }

    fn out_of_patience(&self, state: &State) -> bool {
        let patience = self.config.train.patience;
        patience > 0 && state.stale >= patience
    }

    /// Divergence may show in the parameters before it shows in a loss.
    fn check_finite(&self, state: &State, batches: &Batches) -> Result<()> {
        match self.last {
            Some(last) if !state.is_finite()? => Err(self.diverged(last, batches)?),
            _ => Ok(()),
        }
    }

    /// The failure that the update made last turned out to be, once its batch is kept.
    fn diverged(&self, (at, made): (Position, divergence::Update), batches: &Batches) -> Result<Failure> {
        let portion = at.batches(batches, &self.config.train, made.done);
        made.keep(&portion, &self.data.tokenizer, self.folder)?;
        Ok(made.failure())
    }

    /// Adds to a divergence what can be gone back to; any other failure stays as it is.
    fn keep_last_good<T>(&mut self, state: &State, mut failure: Failure) -> Result<T> {
        if failure.kind == Kind::Diverged {
            let kept = divergence::last_good(state, &mut self.saver, self.record, self.folder)?;
            failure.message.push_str(&format!("; {kept}"));
            failure.hint = Some(runs::tamer(self.folder.root(), self.config));
        }
        Err(failure)
    }

    /// One update.
    fn step(
        &mut self,
        state: &mut State,
        batches: &Batches,
        (loss, targets): &(CrossEntropy, Option<SoftTargets>),
        length: Length,
    ) -> Result<()> {
        let started = Instant::now();
        let config = self.config;
        let step = state.optimiser.step;
        let schedule = Schedule {
            lr: config.optim.lr,
            min_lr: config.optim.min_lr,
            warmup: config.optim.warmup,
            shape: Shape::named(&config.optim.schedule, config.optim.cooldown).unwrap_or(Shape::Constant),
        };
        let lr = match length {
            Length::Steps(steps) => schedule.at_step(step, steps),
            Length::Budget(_) => schedule.at(step, length.progress(step, state.train_seconds)),
        };
        let (targets, penalty) = (targets.as_ref(), config.loss.confidence_penalty);
        let precision = precision(config);
        let update = Step { neural: &state.lm.neural, loss, targets, penalty, precision, pool: self.pool };
        let portion = state.position.batches(batches, &config.train, step);
        let mut made = divergence::Update { done: step, objective: f64::NAN, norm: f64::NAN, lr };
        let masks = dropout_seed(config.train.seed, step);
        let sums = match update.gradients(&portion, masks, &mut state.optimiser.gradients) {
            Ok(sums) => {
                made.norm = state.optimiser.gather(&state.lm.neural, self.pool)?;
                made.objective = sums.objective / sums.tokens as f64;
                sums
            }
            Err(failure) if failure.kind == Kind::Diverged => Sums::default(),
            Err(failure) => return Err(failure),
        };
        if !(made.objective.is_finite() && made.norm.is_finite()) {
            made.keep(&portion, &self.data.tokenizer, self.folder)?;
            return Err(made.failure());
        }
        let spike = state.spikes.judge(made.objective, config.optim.skip_spikes);
        self.last = Some((state.position, made));
        if let Some(mean) = spike.or_else(|failure| {
            made.keep(&portion, &self.data.tokenizer, self.folder)?;
            Err(failure)
        })? {
            self.pass_over(state, made, mean)?;
        } else {
            let audited = self.audit > 0;
            self.audit = self.audit.saturating_sub(1);
            let before = if audited { weights(&state.lm.neural)? } else { Vec::new() };
            state.optimiser.update(&state.lm.neural, lr, made.norm, self.pool)?;
            if audited {
                self.list_gradients(state, &before)?;
            }
        }
        state.recent.add(&sums);
        state.tokens += sums.tokens as u64;
        state.position.advance(batches, &config.train, step);
        state.train_seconds += started.elapsed().as_secs_f64();
        let position = match length {
            Length::Steps(_) => state.optimiser.step as u64,
            Length::Budget(_) => state.train_seconds as u64,
        };
        let nll = state.recent.nll / state.recent.tokens as f64;
        let pace = state.tokens as f64 / state.train_seconds;
        let progress = length.progress(state.optimiser.step, state.train_seconds);
        self.output.on_dashboard(|d| {
            d.moment(state.optimiser.step, progress, nll, pace, state.train_seconds);
        });
        self.output.move_bar(position, || format!("train nll {nll:.4}"));
        Ok(())
    }

    /// Counts the step without making it: weights and moments stay as they are.
    fn pass_over(&mut self, state: &mut State, update: divergence::Update, mean: f64) -> Result<()> {
        state.optimiser.step += 1;
        let (step, objective) = (state.optimiser.step, update.objective);
        self.output.say(format!(
            "step {step} is passed over: {objective:.4} nats a token, where {mean:.4} is the running mean"
        ));
        let event = json!({ "event": "skipped", "step": step, "objective": objective, "mean": mean });
        self.record.event(&event, self.output)
    }

    fn evaluate(&self, lm: &NeuralLm) -> Result<Evaluation> {
        evaluate(lm, &self.data.val, self.data.tokenizer.unk(), self.data.source_nats, self.pool)
    }
}

fn stopped(signal: u8, step: usize) -> Failure {
    if step == 0 {
        let message = "stopped by a signal before the first step";
        return Stop::failure(signal, message, "the same command begins again");
    }
    let message = format!("stopped by a signal after step {step}; the checkpoint is saved");
    Stop::failure(signal, message, "--resume with the same --out goes on from here")
}

/// How many parts a batch is cut into.
fn shards(config: &Config) -> usize {
    if let Shards::Fixed(shards) = config.train.shards { shards } else { 1 }
}

/// `train.precision`.
pub(crate) fn precision(config: &Config) -> Precision {
    if config.train.precision == "bf16" { Precision::Bf16 } else { Precision::F32 }
}
