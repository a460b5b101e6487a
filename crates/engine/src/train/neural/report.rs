//! Events of a training run: plan, evaluations, audits, samples.

use surprisal_model::neural::Neural;
use surprisal_text::Batches;

use super::{Trainer, precision, shards};
use crate::config::Select;
use crate::error::Result;
use crate::evaluation::Evaluation;
use crate::events::{Evaluated, Event, Overfitting, ParameterAudit, Planned, Sampled, StopCriterion};
use crate::generation::generate;
use crate::sampling::{Opening, Sampling};
use crate::train::audit;
use crate::train::length;
use crate::train::optimiser::groups;
use crate::train::pace::Pace;
use crate::train::state::{Best, TrainState};
use crate::train::step::Sums;
use crate::train::weights::weights;

impl Trainer<'_, '_> {
    pub(super) fn introduce(
        &mut self,
        neural: &Neural,
        batches: &Batches,
        length: StopCriterion,
        parameters: u64,
    ) -> Result<()> {
        let config = self.config;
        let train = &config.train;
        let (decayed, plain, muon) = groups(neural, &config.optim);
        self.record.event(&Event::Planned(Planned {
            kind: config.model.kind().to_owned(),
            parameters,
            steps_per_epoch: length::updates(batches, train, 0, train.ramp_steps),
            rows: train.batch_size * train.grad_accumulation,
            block_size: train.block_size,
            shards: shards(config),
            threads: self.ctx.pool.threads(),
            weight_decay: config.optim.weight_decay,
            l2: config.optim.l2,
            decayed,
            plain,
            muon,
            loss: config.loss.clone(),
            vocab_size: self.data.tokenizer.vocab_size(),
            source_known: self.data.source_nats.is_some(),
            slow_bf16: !precision(config).is_fast(),
            length,
        }))
    }

    /// Emits the gradient audit of the last step; `before` are the weights before it.
    pub(super) fn list_gradients(&mut self, state: &TrainState, before: &[Vec<f32>]) -> Result<()> {
        let mut listed = Vec::new();
        for (i, (parameter, before)) in state.lm.neural.parameters().iter().zip(before).enumerate() {
            let update: Vec<f32> =
                parameter.read(|now| now.iter().zip(before).map(|(a, b)| a - b).collect::<Vec<f32>>())?;
            let gradient = state.optimiser.gradient(i);
            let (values, weight_norm, update_norm) =
                (before.len(), audit::norm(before), audit::norm(&update));
            let gradient_norm = audit::norm(gradient.as_deref().unwrap_or_default());
            let flag = audit::flag(values, weight_norm, gradient_norm, update_norm);
            let name = parameter.name.clone();
            listed.push(ParameterAudit { name, values, weight_norm, gradient_norm, update_norm, flag });
        }
        let step = state.optimiser.step;
        self.record.event(&Event::Audited { step, parameters: listed })
    }

    /// Evaluates, emits the result and stores the weights if they are the best; `None` where a stop
    /// interrupts the evaluation.
    pub(super) fn report(
        &mut self,
        state: &mut TrainState,
        batches: &Batches,
        pace: &Pace,
    ) -> Result<Option<Evaluation>> {
        // Where there is a running mean of the weights, it is evaluated and stored.
        state.optimiser.swap_ema(&state.lm.neural)?;
        let evaluation = match self.evaluate(&state.lm) {
            Err(_) if self.ctx.control.is_stopped() => {
                state.optimiser.swap_ema(&state.lm.neural)?;
                return Ok(None);
            }
            evaluation => evaluation?,
        };
        let nats_per_token = evaluation.nats_per_token();
        let step = state.optimiser.step;
        if let Some(last) = self.last.filter(|_| !nats_per_token.is_finite()) {
            return Err(self.diverged(last, batches)?);
        }
        let best = state.best.as_ref().is_none_or(|best| nats_per_token < best.nats_per_token);
        if best {
            let (evaluation, weights) = (Some(evaluation), weights(&state.lm.neural)?);
            state.best = Some(Best { nats_per_token, step, weights, evaluation });
            state.evals_since_best = 0;
        } else {
            state.evals_since_best += 1;
        }
        state.optimiser.swap_ema(&state.lm.neural)?;
        let tokens = state.recent.tokens as f64;
        let train_nll = state.recent.nll / tokens;
        self.record.event(&Event::Evaluated(Evaluated {
            epoch: state.position.epochs(batches),
            step,
            objective: state.recent.objective / tokens,
            train_nll,
            eval: evaluation,
            best,
            train_seconds: state.train_seconds,
            tokens_per_second: state.tokens as f64 / state.train_seconds,
            left_seconds: pace.left_seconds(step, state.train_seconds),
        }))?;
        self.notice_overfitting(state, train_nll, nats_per_token)?;
        state.recent = Sums::default();
        Ok(Some(evaluation))
    }

    /// Emits overfitting: several evaluations since the best one, and a training loss below the
    /// validation loss.
    fn notice_overfitting(&mut self, state: &TrainState, train_nll: f64, nats_per_token: f64) -> Result<()> {
        const TURNED: usize = 3;
        // If the training loss has risen, too, it is not overfitting.
        let is_fitted = |best: &&Best| train_nll < nats_per_token && train_nll < best.nats_per_token;
        let Some(best) = state.best.as_ref().filter(|_| state.evals_since_best == TURNED).filter(is_fitted)
        else {
            return Ok(());
        };
        self.record.event(&Event::Overfitting(Overfitting {
            step: state.optimiser.step,
            best_step: best.step,
            best_nats_per_token: best.nats_per_token,
            nats_per_token,
            train_nll,
            best_is_kept: self.config.train.select == Select::Best,
            evaluations: TURNED,
        }))
    }

    /// Emits a sample of the model.
    pub(super) fn sample(&mut self, state: &TrainState) -> Result<()> {
        const TOKENS: usize = 160;
        const TEMPERATURE: f64 = 0.8;
        let (data, step) = (self.data, state.optimiser.step);
        let opening = Opening::new(&data.tokenizer, Some(&data.train.ids))?;
        let (sampling, seed) = (Sampling::new(TEMPERATURE, None, None)?, step as u64);
        let mut text = String::new();
        let emit = |piece: &str| {
            text.push_str(piece);
            Ok(())
        };
        match generate(&state.lm, &data.tokenizer, &opening, TOKENS, sampling, seed, emit) {
            // A stopped run needs no sample.
            Err(_) if self.ctx.control.is_stopped() => Ok(()),
            written => {
                written?;
                let (temperature, step) = (TEMPERATURE, Some(step));
                self.record.event(&Event::Sampled(Sampled { text, temperature, seed, step }))
            }
        }
    }
}
