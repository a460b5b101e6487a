//! Presentation of the engine's events, as messages or as JSON lines.

use surprisal_engine::config::{ObjectiveConfig, SmoothToward};
use surprisal_engine::loss::information;
use surprisal_engine::text::Split;
use surprisal_engine::{
    Control, Event, Events, Group, Note, Overfitting, ParameterAudit, Planned, Result, RunId, RunSummary,
    StopCriterion, TrialFinished,
};

use crate::output::Output;
use crate::table::Table;
use crate::wording::{bytes, duration, many, number, one_line, percent, shown, thousands};

impl Events for Output {
    fn on(&self, run: RunId, event: &Event) -> Result<()> {
        if !self.is_of(run) {
            // A run of a comparison; its events are in its metrics.jsonl.
            if let Event::Noted(note) = event
                && is_loud(note)
            {
                self.note(note);
            }
            return Ok(());
        }
        self.show_event(event);
        if event.is_recorded() {
            self.record(event);
        }
        Ok(())
    }
}

impl Output {
    fn show_event(&self, event: &Event) {
        match event {
            Event::Texts {
                name,
                train_tokens,
                train_bytes,
                train_oov,
                val_tokens,
                val_bytes,
                val_oov,
                split,
                tokenizer,
                vocab_size,
            } => {
                self.live(|live| live.table.oov = *val_oov > 0);
                let [train, val] = [percent(*train_oov, *train_tokens), percent(*val_oov, *val_tokens)];
                let unknown = match (train_oov, val_oov) {
                    (0, 0) => String::new(),
                    _ => format!("; <unk> is {train} of the training and {val} of the validation tokens"),
                };
                let held_out = match split {
                    Some(Split::Tail) => ", the end of it",
                    Some(Split::Blocks) => ", blocks from all over it",
                    Some(Split::Lines) => ", lines from all over it",
                    Some(Split::Documents) => ", documents from all over it",
                    Some(Split::Files) => ", some of its files",
                    None => "",
                };
                self.info(format!(
                    "{}: {} ({}) to train on, {} ({}) to validate{held_out}; {tokenizer} vocabulary of {}{unknown}",
                    one_line(name),
                    many(*train_tokens, "token"),
                    bytes(*train_bytes),
                    many(*val_tokens, "token"),
                    bytes(*val_bytes),
                    thousands(*vocab_size as u64)
                ));
            }
            Event::Noted(note) => self.note(note),
            Event::Started(started) => {
                if let Some(entropy) = started.source_entropy {
                    self.info(format!(
                        "the source of this text is known: its entropy H(p) is {entropy:.4} nats per token on the \
                         validation text, the lower bound for every model"
                    ));
                }
                let (gap, width) = (started.source_entropy.is_some(), self.width());
                self.live(|live| live.table = Table { gap, width, ..live.table });
                self.info(self.table().baseline_header());
            }
            Event::Counted { name, parameters, eval } => {
                self.info(format!("counted {}", many(*parameters, "n-gram")));
                self.info(self.table().baseline(name, eval));
            }
            Event::Mixed(mixed) => {
                let table = self.table();
                let [network, counted] = &mixed.names;
                self.info(table.baseline_header().replacen("baseline", "model   ", 1));
                for (name, eval) in [(network.as_str(), &mixed.network), (counted, &mixed.counted), ("mixture", &mixed.eval)] {
                    self.info(table.baseline(name, eval));
                }
                self.info(format!(
                    "mixed with weights by context, fitted to {} that the network did not train on; the network's is \
                     {:.2} over all",
                    many(mixed.heldout_tokens, "token"),
                    mixed.share
                ));
            }
            Event::Baseline { model, eval } => self.info(self.table().baseline(model, eval)),
            Event::Planned(planned) => self.plan(planned),
            Event::Resumed { step } => self.info(format!("resuming after step {step}")),
            Event::Changed(changed) => {
                let step = many(changed.step, "step");
                for change in &changed.changes {
                    self.warn(format!("note: from here on, after {step}: {}", one_line(&change.to_string())));
                }
                self.info(
                    "note: the same bits as of a run that was not interrupted are promised for unchanged settings only",
                );
            }
            Event::Step(step) => {
                self.on_dashboard(|dashboard| dashboard.step(step));
                let position = match self.live(|live| live.length) {
                    Some(StopCriterion::Budget(_)) => step.train_seconds as u64,
                    _ => step.step as u64,
                };
                self.move_bar(position, || format!("train nll {:.4}", step.train_nll));
            }
            Event::Skipped { step, objective, mean } => self.info(format!(
                "step {step} is skipped: the objective is {objective:.4} nats per token, but its running mean {mean:.4}"
            )),
            Event::Audited { step, parameters } => self.info(audit(*step, parameters)),
            Event::Evaluated(evaluated) => {
                self.info(self.table().row(evaluated));
                if self.on_dashboard(|dashboard| dashboard.evaluated(evaluated)) {
                    self.live(|live| live.control.as_ref().map(Control::sample));
                }
            }
            Event::Overfitting(turned) => self.info(overfitting(turned)),
            Event::Trained => self.end_bar(),
            Event::Sampled(sampled) => {
                if sampled.step.is_none() {
                    let (temperature, text) = (sampled.temperature, indent(&sampled.text));
                    self.info(format!("\na sample at temperature {temperature}:\n{text}\n"));
                }
                self.on_dashboard(|dashboard| dashboard.sample(&sampled.text));
            }
            Event::Comparing { variants, trials: cells, finished, jobs, threads } => {
                self.info(format!(
                    "{}, {}, {finished} of them already finished; {jobs} at a time, on {}",
                    many(*variants as u64, "variant"),
                    many(*cells as u64, "run"),
                    many(*threads as u64, "thread")
                ));
                self.start_bar((cells - finished) as u64, "runs");
            }
            Event::TrialFinished(cell) => {
                self.info(ending(cell));
                if let Some(bar) = self.bar() {
                    bar.inc(1);
                    bar.set_message(one_line(&cell.name));
                }
            }
            Event::Finished(summary) => self.info(outcome(summary)),
            Event::Phase { name, whole } => self.phase(name, *whole),
            Event::Advanced { steps } => self.advance(*steps),
            Event::Counting { name, tokens, vocab_size, memory } => self.info(format!(
                "{}: {}, vocabulary of {}; counting needs at most {}",
                one_line(name),
                many(*tokens, "token"),
                thousands(*vocab_size as u64),
                bytes(*memory),
            )),
            Event::Wrote { path, bytes } => self.wrote(path, *bytes),
            _ => {}
        }
    }

    fn table(&self) -> Table {
        self.live(|live| live.table)
    }

    fn plan(&self, planned: &Planned) {
        self.info(format!(
            "{} with {}; {} per epoch of {} × {}, {} on {}",
            planned.kind,
            many(planned.parameters, "parameter"),
            many(planned.steps_per_epoch as u64, "step"),
            planned.rows,
            many(planned.block_size as u64, "token"),
            many(planned.shards as u64, "shard"),
            many(planned.threads as u64, "thread"),
        ));
        self.info(groups(planned));
        if let Some(what) = objective(&planned.loss, planned.vocab_size) {
            self.info(what);
        }
        if planned.slow_bf16 {
            self.info(
                "this machine has no AVX512-BF16: bf16 is emulated by rounding, and not faster than f32",
            );
        }
        match planned.length {
            StopCriterion::Steps(steps) => self.start_bar(steps as u64, "steps"),
            StopCriterion::Budget(budget) => self.start_bar(budget.as_secs().max(1), "s"),
        }
        let (smoothed, gap) = (!planned.loss.is_plain(), planned.source_known);
        let table = Table { smoothed, gap, width: self.width(), ..self.table() };
        self.live(|live| (live.length, live.table) = (Some(planned.length), table));
        self.info(table.header());
    }

    fn note(&self, note: &Note) {
        let text = one_line(&note.to_string());
        let line = match note {
            Note::LooksLikeConfig(_) => {
                format!(
                    "note: {text}: `train` and `compare` need the config first, with a name that ends in .toml"
                )
            }
            Note::UntaughtUnk { words: true } => format!("note: {text} (count: --min-count 2)"),
            Note::SeedsUnused => "note: --seeds has no effect: all variants are counted, once each".into(),
            Note::Unknown { .. } | Note::ValidationIsTraining => format!("warning: {text}"),
            Note::SkippedCheckpoint { .. }
            | Note::StoppedEarly { .. }
            | Note::KeptBest { .. }
            | Note::SampleEnded(_) => text,
            _ => format!("note: {text}"),
        };
        if is_loud(note) { self.warn(line) } else { self.info(line) }
    }
}

/// Whether the note is printed even with `--quiet`.
fn is_loud(note: &Note) -> bool {
    matches!(
        note,
        Note::LooksLikeConfig(_)
            | Note::SeedsUnused
            | Note::Unknown { .. }
            | Note::ValidationIsTraining
            | Note::NoHash(_)
            | Note::SkippedCheckpoint { .. }
            | Note::UnknownPart(_)
    )
}

/// The line about parameter groups: weight decay, and optimizers.
fn groups(planned: &Planned) -> String {
    let count = |group: Group| format!("{}, {}", many(group.tensors, "tensor"), many(group.values, "value"));
    let decayed = count(planned.decayed);
    let mut line = format!("weight decay {} on matrices and embeddings ({decayed})", planned.weight_decay);
    if planned.l2 > 0.0 {
        line.push_str(&format!(", l2 {} on the same", planned.l2));
    }
    line.push_str(&format!(", none on the rest ({})", count(planned.plain)));
    if let Some(muon) = planned.muon {
        line.push_str(&format!("; Muon on hidden matrices ({}), AdamW on the rest", count(muon)));
    }
    line
}

/// The note about an objective that differs from the NLL.
fn objective(loss: &ObjectiveConfig, vocab_size: usize) -> Option<String> {
    let compare = "compare the NLL, not the objective";
    let epsilon = loss.label_smoothing;
    if loss.add_k > 0.0 {
        return Some(format!("targets are smoothed by adding {} to every count; {compare}", loss.add_k));
    }
    if epsilon > 0.0 {
        return Some(match loss.smooth_toward {
            SmoothToward::Uniform => format!(
                "label smoothing {epsilon}: the objective cannot fall below {:.4} nats, the entropy of the smoothed target; \
                 {compare}",
                information::smoothed_floor(epsilon, vocab_size).unwrap_or(f64::NAN)
            ),
            SmoothToward::Unigram => format!(
                "label smoothing {epsilon} toward the unigram distribution of the training text; {compare}"
            ),
            SmoothToward::KneserNey => format!(
                "label smoothing {epsilon} toward a Kneser-Ney model of order {}; {compare}",
                loss.smooth_order
            ),
        });
    }
    if loss.confidence_penalty > 0.0 {
        return Some(format!("confidence penalty {}: {compare}", loss.confidence_penalty));
    }
    if loss.z_loss > 0.0 {
        return Some(format!("z-loss {}: {compare}", loss.z_loss));
    }
    None
}

fn overfitting(turned: &Overfitting) -> String {
    let Overfitting { best_step, best_nats_per_token, nats_per_token, train_nll, evaluations, .. } = turned;
    format!(
        "note: the model is overfitting: validation was {best_nats_per_token:.4} nats per token at step {best_step}, and is {nats_per_token:.4} now, \
         while training is at {train_nll:.4}. The weights of step {best_step} are {}. More \
         text, more dropout, label smoothing or fewer steps help; train.patience = {evaluations} would stop here",
        if turned.best_is_kept { "kept" } else { "not kept (train.select)" }
    )
}

fn audit(step: usize, parameters: &[ParameterAudit]) -> String {
    let width = parameters.iter().map(|p| p.name.len()).max().unwrap_or(0).max(9);
    let mut text = format!(
        "gradient audit, step {step}\n{:<width$}  {:>10}  {:>10}  {:>10}  {:>10}\n",
        "parameter", "values", "‖weights‖", "‖gradient‖", "‖update‖"
    );
    for p in parameters {
        text.push_str(&format!(
            "{:<width$}  {:>10}  {:>10.3e}  {:>10.3e}  {:>10.3e}  {}\n",
            p.name,
            p.values,
            p.weight_norm,
            p.gradient_norm,
            p.update_norm,
            p.flag.unwrap_or("")
        ));
    }
    text
}

fn ending(cell: &TrialFinished) -> String {
    let seed = if cell.seeded { format!(", seed {}", cell.seed) } else { String::new() };
    let nats = cell.eval["nats_per_token"].as_f64();
    let impossible = cell.eval["zero_probability"].as_u64().unwrap_or(0);
    let ended = match (&cell.diverged, nats) {
        (Some(reason), _) => format!("diverged: {reason}"),
        (None, Some(nats)) => format!("{nats:.4} nats per token"),
        (None, None) => format!("{} of probability zero", many(impossible, "token")),
    };
    format!("{}{seed}: {ended}, {}", cell.name, duration(cell.seconds))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
}

fn outcome(summary: &RunSummary) -> String {
    let evaluation = &summary.eval;
    let mut line = format!(
        "validation: {} nats per token, perplexity {}, {} bits per byte",
        number(evaluation.nats_per_token(), 4),
        number(evaluation.perplexity(), 3),
        evaluation.bits_per_byte_shown()
    );
    if let Some((low, high)) = evaluation.interval.filter(|_| evaluation.perplexity().is_finite()) {
        line.push_str(&format!(
            "\n            95 % interval over the text: {low:.4} to {high:.4} nats per token"
        ));
    }
    if let Some(unknown) = evaluation.unknown() {
        line.push_str(&format!("\n            {unknown}"));
    }
    if let (Some(entropy), Some(kl)) = (evaluation.source_entropy(), evaluation.kl()) {
        line.push_str(&format!("\n            = H(p) {entropy:.4} + KL(p‖q) {kl:.4}"));
    }
    line.push_str(&format!(
        "\n{}, {}, {:.2} epochs, {} of training; the run is in {}",
        many(summary.parameters, "parameter"),
        many(summary.steps as u64, "step"),
        summary.epochs,
        duration(summary.train_seconds),
        shown(&summary.run)
    ));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_has_a_line_a_parameter() {
        let audited = ParameterAudit {
            name: "wte.weight".into(),
            values: 4,
            weight_norm: 1.0,
            gradient_norm: 0.0,
            update_norm: 0.0,
            flag: Some("zero gradient"),
        };
        let text = audit(1, &[audited]);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("wte.weight") && text.contains("zero gradient"), "{text}");
    }
}
