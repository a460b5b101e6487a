//! What a run tells of itself: what it is about to do, where it stands, what looks wrong.

use serde_json::json;
use surprisal_model::neural::Neural;
use surprisal_text::Batches;

use super::{Trainer, precision, shards};
use crate::evaluate::Evaluation;
use crate::failure::Result;
use crate::generation;
use crate::train::audit::{self, ParameterAudit};
use crate::train::length::{self, Length};
use crate::train::optimiser::describe_groups;
use crate::train::state::{Best, State};
use crate::train::step::Sums;
use crate::train::table::{Row, Table};
use crate::train::weights::weights;
use crate::wording::many;

impl Trainer<'_> {
    /// Says what is about to happen.
    pub(super) fn introduce(&self, neural: &Neural, batches: &Batches, length: Length, parameters: u64) {
        let config = self.config;
        let train = &config.train;
        self.output.say(format!(
            "{} with {}; {} an epoch of {} × {}, {} on {}",
            config.model.kind,
            many(parameters, "parameter"),
            many(length::updates(batches, train, 0, train.ramp_steps) as u64, "step"),
            train.batch_size * train.grad_accumulation,
            many(train.block_size as u64, "token"),
            many(shards(config) as u64, "shard"),
            many(self.pool.threads() as u64, "thread"),
        ));
        self.output.say(describe_groups(neural, &config.optim));
        if let Some(what) = config.loss.describe(self.data.tokenizer.vocab_size()) {
            self.output.say(what);
        }
        if !precision(config).is_fast() {
            self.output
                .say("this machine has no AVX512-BF16: bf16 is made by rounding, and no faster than f32");
        }
        match length {
            Length::Steps(steps) => self.output.start_bar(steps as u64, "steps"),
            Length::Budget(budget) => self.output.start_bar(budget.as_secs().max(1), "s"),
        }
    }

    /// The gradient audit of the step just made; `before` are the weights it started from.
    pub(super) fn list_gradients(&mut self, state: &State, before: &[Vec<f32>]) -> Result<()> {
        let mut listed = Vec::new();
        for (i, (parameter, before)) in state.lm.neural.parameters().iter().zip(before).enumerate() {
            let update: Vec<f32> =
                parameter.read(|now| now.iter().zip(before).map(|(a, b)| a - b).collect::<Vec<f32>>())?;
            let mut entry = ParameterAudit {
                name: parameter.name.clone(),
                values: before.len(),
                weight_norm: audit::norm(before),
                gradient_norm: audit::norm(state.optimiser.gradient(i)),
                update_norm: audit::norm(&update),
                flag: None,
            };
            entry.judge();
            listed.push(entry);
        }
        let step = state.optimiser.step;
        self.output.say(audit::table(step, &listed));
        self.record.event(&json!({ "event": "audit", "step": step, "parameters": listed }), self.output)
    }

    /// Evaluates, prints a line, keeps the weights when they are the best; `None`, and nothing of this, where a signal ends
    /// the evaluation.
    pub(super) fn report(
        &mut self,
        state: &mut State,
        batches: &Batches,
        length: Length,
        table: Table,
    ) -> Result<Option<Evaluation>> {
        // A running mean of the weights, where there is one, is what is judged and kept.
        state.optimiser.swap_average(&state.lm.neural)?;
        let evaluation = match self.evaluate(&state.lm) {
            Err(_) if self.stop.asked().is_some() => {
                state.optimiser.swap_average(&state.lm.neural)?;
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
            state.best = Some(Best { nats_per_token, step, weights: weights(&state.lm.neural)? });
            state.stale = 0;
        } else {
            state.stale += 1;
        }
        state.optimiser.swap_average(&state.lm.neural)?;
        let tokens = state.recent.tokens as f64;
        let row = Row {
            epoch: state.position.epochs(batches),
            step,
            objective: state.recent.objective / tokens,
            nll: state.recent.nll / tokens,
            evaluation,
            tokens_per_second: state.tokens as f64 / state.train_seconds,
            train_seconds: state.train_seconds,
            left_seconds: length.left_seconds(step, state.train_seconds),
            best,
        };
        self.output.say(table.row(&row));
        let event = json!({
            "event": "epoch", "epoch": row.epoch, "step": step, "objective": row.objective, "train_nll": row.nll,
            "eval": evaluation, "best": best, "train_seconds": row.train_seconds,
            "tokens_per_second": row.tokens_per_second,
        });
        self.record.event(&event, self.output)?;
        if self.output.on_dashboard(|_| ()) {
            let opening = self.data.opening()?;
            match generation::of_the_moment(&state.lm, &self.data.tokenizer, &opening, step as u64) {
                Ok(text) => drop(self.output.on_dashboard(|dashboard| dashboard.sample(&text))),
                // Nobody waits for the rest of it.
                Err(_) if self.stop.asked().is_some() => {}
                Err(failure) => return Err(failure),
            }
        }
        self.notice_overfitting(state, row.nll, nats_per_token)?;
        state.recent = Sums::default();
        Ok(Some(evaluation))
    }

    /// Says so once validation has turned: several evaluations since the best, while the training text is fitted
    /// better than the validation text.
    fn notice_overfitting(&mut self, state: &State, train_nll: f64, nats_per_token: f64) -> Result<()> {
        const TURNED: usize = 3;
        // A training loss that has risen, too, is no overfitting.
        let is_fitted = |best: &&Best| train_nll < nats_per_token && train_nll < best.nats_per_token;
        let Some(best) = state.best.as_ref().filter(|_| state.stale == TURNED).filter(is_fitted) else {
            return Ok(());
        };
        self.output.say(format!(
            "note: validation has turned: {:.4} nats a token at step {}, {nats_per_token:.4} now, while training is at \
             {train_nll:.4}. The model is overfitting; the weights of step {} are {}. More text, more dropout, label \
             smoothing or fewer steps help; train.patience = {TURNED} would stop here",
            best.nats_per_token,
            best.step,
            best.step,
            if self.config.train.select == "best" { "kept" } else { "not kept (train.select)" }
        ));
        let event = json!({
            "event": "overfitting", "step": state.optimiser.step, "best_step": best.step,
            "best_nats_per_token": best.nats_per_token, "nats_per_token": nats_per_token, "train_nll": train_nll,
        });
        self.record.event(&event, self.output)
    }
}
