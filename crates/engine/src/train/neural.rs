//! The loop of training by gradient descent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use surprisal_model::neural::{Neural, NeuralLm};
use surprisal_ops::Precision;
use surprisal_platform::memory;
use surprisal_store::checkpoint::Checkpoint;
use surprisal_store::run_dir::RunWriter;
use surprisal_text::{Batches, TokenCounts, TokenText};

use super::changes::Pending;
use super::checkpoint::{self, Checkpointer};
use super::divergence;
use super::event_log::EventLog;
use super::length::Position;
use super::loss_spikes::SpikeDetector;
use super::objective::{ConfiguredObjective, Objective};
use super::optimiser::Optimiser;
use super::pace::Pace;
use super::served::Served;
use super::state::{Best, TrainState};
use super::step::{Hidden, Step, Sums, Team};
use super::weights::{restore, weights};
use crate::config::{Config, Select, Shards};
use crate::control::Requests;
use crate::data::Dataset;
use crate::error::{Advice, Error, ExitKind, Result};
use crate::evaluate;
use crate::evaluation::Evaluation;
use crate::events::{self, Context, Event, Note, RunSummary, StopCriterion};
use crate::rng::dropout_seed;
use crate::runs;

mod report;

/// The number of steps of a run whose measures are recorded; a shorter run's all are.
const RECORDED_STEPS: f64 = 500.0;
/// Interval in which a paused run checks its control.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Trainer<'a, 'r> {
    pub(crate) config: &'a Config,
    pub(crate) data: &'a Dataset,
    pub(crate) ctx: &'a Context<'a>,
    /// The objective, instead of the configured one.
    pub(crate) objective: Option<&'a Arc<dyn Objective>>,
    pub(crate) record: &'a mut EventLog<'r>,
    /// Number of steps whose gradients and updates are still to be emitted.
    pub(crate) audit: usize,
    pub(crate) folder: &'a RunWriter,
    pub(crate) saver: Checkpointer<'a>,
    /// The last update, with its position in the data.
    pub(crate) last: Option<(Position, divergence::Update)>,
    /// Changes since the checkpoint that the run resumes from.
    pub(crate) pending: &'a Pending,
    /// Requests of the control that were answered.
    pub(crate) done: Requests,
    /// The start of the run in this process.
    pub(crate) started: Instant,
}

impl Trainer<'_, '_> {
    /// Trains `neural` to the end; gives the model with the selected weights.
    pub(crate) fn run(
        &mut self,
        mut neural: Neural,
        from: Option<&Checkpoint>,
    ) -> Result<(NeuralLm, RunSummary)> {
        let config = self.config;
        let train = &config.train;
        let parameters = neural.parameters().iter().map(|p| p.var.elem_count() as u64).sum();
        let batches = crate::architecture::batches(&self.data.train, train, neural.windows())?;
        let length = StopCriterion::new(train, &batches);
        let vocab_size = self.data.tokenizer.vocab_size();
        let objective: Arc<dyn Objective> = match self.objective {
            Some(objective) => objective.clone(),
            None => {
                let (loss, text) = (&config.loss, &self.data.train);
                Arc::new(ConfiguredObjective::new(loss, text, vocab_size, self.ctx.pool)?)
            }
        };
        self.introduce(&neural, &batches, length, parameters)?;

        let team = Team::of(self.ctx, shards(config))?;
        let own = team.map_or(shards(config), |team| team.ranks.shards(team.shards).len());
        let optimiser = Optimiser::new(&neural, &config.optim, precision(config), own)?;
        let _served = team.map(|team| Served::start(team, config, &neural, self.data)).transpose()?;
        let windows = neural.windows();
        neural.stop_when(self.ctx.control.flag());
        let mut state = TrainState {
            lm: NeuralLm { neural, stride: config.eval.stride.unwrap_or(1) },
            optimiser,
            hidden: Hidden::new(windows, train.batch_size * train.grad_accumulation),
            position: Position::default(),
            recent: Sums::default(),
            best: None,
            evals_since_best: 0,
            train_seconds: 0.0,
            tokens: 0,
            spikes: SpikeDetector::default(),
        };
        if let Some(checkpoint) = from {
            checkpoint::resume(&mut state, checkpoint)?;
            self.apply_changes(&mut state)?;
            self.record.event(&Event::Resumed { step: state.optimiser.step })?;
        }
        let mut pace = Pace::new(length, self.started, state.optimiser.step, state.train_seconds);
        // Held until the model is saved.
        let _steps = self.ctx.control.steps();
        // Repeats the evaluation that a stop interrupted before the checkpoint, if any.
        let mut last = if from.is_some() && state.recent.tokens > 0 {
            self.evaluate_if_due(&mut state, &batches, &mut pace)?
        } else {
            None
        };
        if self.ctx.control.is_stopped() {
            // Nothing has changed since the checkpoint, or since the beginning.
            return Err(stopped(state.optimiser.step));
        }
        // Patience is checked before each step, so that a run that it has ended stops at once if
        // resumed.
        while pace.progress < 1.0 && !self.out_of_patience(&state) {
            while self.ctx.control.is_paused() {
                std::thread::sleep(PAUSE);
            }
            let is_first = state.recent.tokens == 0 && last.is_none();
            self.step(&mut state, &batches, (&*objective, team), length, &mut pace)
                .or_else(|failure| self.keep_last_good(&state, failure))?;
            if is_first && pace.is_timed() {
                self.time_evaluation(&mut state.lm, &mut pace)?;
            }
            let step = state.optimiser.step;
            if let Some(evaluation) = self.evaluate_if_due(&mut state, &batches, &mut pace)? {
                last = Some(evaluation);
            }
            let (stop, asked) = (self.ctx.control.is_stopped(), self.ctx.control.requests());
            if asked.samples > self.done.samples && !stop {
                self.sample(&state)?;
            }
            let wanted = stop || asked.checkpoints > self.done.checkpoints;
            self.done = asked;
            if self.saver.due(step, state.best.is_some()) || wanted {
                // A checkpoint that is not finite must not replace a good one.
                self.check_finite(&state, &batches)
                    .or_else(|failure| self.keep_last_good(&state, failure))?;
                self.record.save(&state, &mut self.saver)?;
            }
            if stop {
                return Err(stopped(step));
            }
        }
        // The run can be given more steps.
        if self.saver.is_on() && state.is_finite()? {
            self.record.save(&state, &mut self.saver)?;
        }
        self.record.event(&Event::Trained)?;
        if self.out_of_patience(&state) {
            self.ctx.note(Note::StoppedEarly { patience: train.patience })?;
        }
        let mut evaluation = match last {
            Some(evaluation) => evaluation,
            // Resumed after its last step.
            None => self.evaluate(&state.lm).map_err(|failure| {
                if self.ctx.control.is_stopped() { stopped(state.optimiser.step) } else { failure }
            })?,
        };
        let older = |best: &&Best| best.step != state.optimiser.step;
        let kept = |best: &&Best| train.select == Select::Best && (older(best) || config.optim.ema > 0.0);
        if let Some(best) = state.best.as_ref().filter(kept) {
            if older(&best) {
                self.ctx.note(Note::KeptBest { step: best.step, nats_per_token: best.nats_per_token })?;
            }
            let current = weights(&state.lm.neural)?;
            restore(&state.lm.neural, &best.weights)?;
            let judged = best.evaluation.map_or_else(|| self.evaluate(&state.lm), Ok);
            if judged.is_err() && self.ctx.control.is_stopped() {
                restore(&state.lm.neural, &current)?;
                self.record.save(&state, &mut self.saver)?;
                return Err(stopped(state.optimiser.step));
            }
            evaluation = judged?;
        }
        crate::models::save_neural(self.folder, &self.data.tokenizer, &state.lm.neural)?;
        let summary = RunSummary {
            eval: evaluation,
            parameters,
            train_seconds: state.train_seconds,
            wall_seconds: state.train_seconds,
            tokens_per_second: state.tokens as f64 / state.train_seconds,
            epochs: state.position.epochs(&batches),
            steps: state.optimiser.step,
            run: self.folder.root().to_owned(),
        };
        Ok((state.lm, summary))
    }

    /// Makes the state one of the changed settings and texts.
    fn apply_changes(&self, state: &mut TrainState) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        state.evals_since_best = 0;
        if self.pending.move_text() {
            // The windows of another text are others.
            state.position.row = 0;
        }
        if let Some(best) = state.best.as_mut().filter(|_| self.pending.move_measure()) {
            let current = weights(&state.lm.neural)?;
            restore(&state.lm.neural, &best.weights)?;
            let evaluation = self.evaluate(&state.lm)?;
            (best.nats_per_token, best.evaluation) = (evaluation.nats_per_token(), Some(evaluation));
            restore(&state.lm.neural, &current)?;
        }
        Ok(())
    }

    /// Evaluates if an evaluation is due. `None` if it is not, or if a stop interrupts it: then it
    /// is repeated on resume.
    fn evaluate_if_due(
        &mut self,
        state: &mut TrainState,
        batches: &Batches,
        pace: &mut Pace,
    ) -> Result<Option<Evaluation>> {
        let (eval, step) = (&self.config.eval, state.optimiser.step);
        let done = pace.progress >= 1.0;
        let asked = eval.every_steps > 0 && step.is_multiple_of(eval.every_steps);
        let Position { epoch, row } = state.position;
        let ends_epochs = row == 0 && eval.every_epochs > 0 && epoch.is_multiple_of(eval.every_epochs);
        if !(done || (ends_epochs || asked) && pace.has_time_to_evaluate()) {
            return Ok(None);
        }
        let started = Instant::now();
        let reported =
            self.report(state, batches, pace).or_else(|failure| self.keep_last_good(state, failure))?;
        pace.evaluated(started.elapsed().as_secs_f64());
        Ok(reported)
    }

    /// Estimates the time of an evaluation from that of a part of the text. A larger stride of the
    /// windows makes it fit the budget.
    fn time_evaluation(&self, lm: &mut NeuralLm, pace: &mut Pace) -> Result<()> {
        let val = &self.data.val;
        let block_size = lm.neural.config().block_size();
        let few = (8 * block_size).clamp(1 << 10, val.ids.len().max(1 << 10)).min(val.ids.len());
        let counts = TokenCounts { tokens: few as u64, ..TokenCounts::default() };
        let part = TokenText::from_parts(val.ids[..few].to_vec().into(), val.mode, val.bos(), counts);
        let time = |lm: &NeuralLm| -> Result<f64> {
            let mut least = f64::INFINITY;
            // The first time is longer.
            for _ in 0..2 {
                let started = Instant::now();
                evaluate::log_probs(lm, &part, self.ctx.pool)?;
                least = least.min(started.elapsed().as_secs_f64());
            }
            Ok(least * val.ids.len() as f64 / few as f64)
        };
        let Some(factor) = pace.estimate(time(lm)?) else { return Ok(()) };
        let from = lm.stride;
        let to = ((from as f64 * factor).ceil() as usize).min(block_size).max(from);
        if to > from {
            lm.stride = to;
            pace.estimate(time(lm)?);
            self.ctx.note(Note::StrideGrew { from, to })?;
        }
        Ok(())
    }

    fn out_of_patience(&self, state: &TrainState) -> bool {
        let patience = self.config.train.patience;
        patience > 0 && state.evals_since_best >= patience
    }

    /// Checks the state, as divergence may appear in parameters before it appears in a loss.
    fn check_finite(&self, state: &TrainState, batches: &Batches) -> Result<()> {
        match self.last {
            Some(last) if !state.is_finite()? => Err(self.diverged(last, batches)?),
            _ => Ok(()),
        }
    }

    /// The error of a last update that led to divergence; saves its batch.
    fn diverged(&self, (at, made): (Position, divergence::Update), batches: &Batches) -> Result<Error> {
        let portion = at.batches(batches, &self.config.train, made.done);
        made.keep(&portion, &self.data.tokenizer, self.folder)?;
        Ok(made.failure())
    }

    /// Adds the last good checkpoint to the error of a divergence.
    fn keep_last_good<T>(&mut self, state: &TrainState, mut failure: Error) -> Result<T> {
        if failure.kind == ExitKind::Diverged {
            let kept = divergence::last_good(state, &mut self.saver, self.record, self.folder)?;
            failure.message.push_str(&format!("; {kept}"));
            failure.advice = Some(runs::tamer(self.folder.root(), self.config));
        }
        Err(failure)
    }

    fn step(
        &mut self,
        state: &mut TrainState,
        batches: &Batches,
        (objective, team): (&dyn Objective, Option<Team<'_>>),
        length: StopCriterion,
        pace: &mut Pace,
    ) -> Result<()> {
        let started = Instant::now();
        let config = self.config;
        let step = state.optimiser.step;
        let lr = match length {
            StopCriterion::Steps(steps) => config.optim.rate_of(step, steps),
            StopCriterion::Budget(_) => config.optim.rate(step, pace.of_schedule()),
        };
        let precision = precision(config);
        let update = Step { neural: &state.lm.neural, objective, precision, pool: self.ctx.pool, team };
        let portion = state.position.batches(batches, &config.train, step);
        let mut made = divergence::Update { done: step, objective: f64::NAN, norm: f64::NAN, lr };
        let masks = dropout_seed(config.train.seed, step);
        let sums = match update.gradients(&portion, masks, &mut state.optimiser.gradients, &mut state.hidden)
        {
            Ok(sums) => {
                made.norm = state.optimiser.gradient_norm(&state.lm.neural, self.ctx.pool)?;
                made.objective = sums.objective / sums.tokens as f64;
                sums
            }
            Err(failure) if failure.kind == ExitKind::Diverged => Sums::default(),
            Err(failure) => return Err(failure),
        };
        if !(made.objective.is_finite() && made.norm.is_finite()) {
            made.keep(&portion, &self.data.tokenizer, self.folder)?;
            return Err(made.failure());
        }
        let spike = state.spikes.observe(made.objective, config.optim.skip_spikes);
        self.last = Some((state.position, made));
        if let Some(mean) = spike.or_else(|failure| {
            made.keep(&portion, &self.data.tokenizer, self.folder)?;
            Err(failure)
        })? {
            // The step counts, but weights and moments do not change.
            state.optimiser.step += 1;
            let (step, objective) = (state.optimiser.step, made.objective);
            self.record.event(&Event::Skipped { step, objective, mean })?;
        } else {
            let audited = self.audit > 0;
            self.audit = self.audit.saturating_sub(1);
            let before = if audited { weights(&state.lm.neural)? } else { Vec::new() };
            state.optimiser.update(&state.lm.neural, lr, made.norm, self.ctx.pool)?;
            if audited {
                self.list_gradients(state, &before)?;
            }
        }
        state.recent.add(&sums);
        state.tokens += sums.tokens as u64;
        state.position.advance(batches, &config.train, step);
        let seconds = started.elapsed().as_secs_f64();
        state.train_seconds += seconds;
        let before = pace.progress;
        pace.advance(state.optimiser.step, seconds);
        let point = |progress: f64| (progress * RECORDED_STEPS) as u64;
        if point(before) < point(pace.progress) {
            self.record.event(&Event::Measured(events::Measured {
                step: state.optimiser.step,
                objective: made.objective,
                train_nll: sums.nll / sums.tokens as f64,
                learning_rate: lr,
                gradient_norm: made.norm,
                tokens_per_second: state.tokens as f64 / state.train_seconds,
                train_seconds: state.train_seconds,
                memory_bytes: memory::peak(),
            }))?;
        }
        self.record.event(&Event::Step(events::Step {
            step: state.optimiser.step,
            progress: pace.progress,
            train_nll: state.recent.nll / state.recent.tokens as f64,
            tokens_per_second: state.tokens as f64 / state.train_seconds,
            train_seconds: state.train_seconds,
        }))
    }

    fn evaluate(&self, lm: &NeuralLm) -> Result<Evaluation> {
        self.data.evaluate(lm, self.ctx.pool)
    }
}

fn stopped(step: usize) -> Error {
    let (message, advice) = match step {
        0 => ("stopped before the first step".to_owned(), Advice::Again),
        _ => (format!("stopped after step {step}; the checkpoint is saved"), Advice::Resume),
    };
    Error { kind: ExitKind::Stopped, message, advice: Some(advice) }
}

pub(crate) fn shards(config: &Config) -> usize {
    if let Shards::Fixed(shards) = config.train.shards { shards } else { 1 }
}

pub(crate) fn precision(config: &Config) -> Precision {
    config.train.precision.into()
}
