//! `surprisal eval`: scores a text with a model.

use std::sync::Arc;

use serde_json::json;

use crate::cli;
use crate::command::count::input_options;
use crate::error::{Result, name_flags};
use crate::output::Output;
use crate::wording::{labelled, number, percent, thousands};
use surprisal_engine::Context;
use surprisal_engine::compare::diagnostics::{CalibrationSummary, measure};
use surprisal_engine::data::{Dataset, note_tokens};
use surprisal_engine::evaluate::{Evaluation, evaluate};
use surprisal_engine::models;

pub(crate) fn run(arguments: &cli::EvalArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let pool = ctx.pool;
    let mut loaded = pool.install(|| models::load(&arguments.model, ctx))?;
    if let Some(stride) = arguments.stride {
        loaded
            .set_stride(stride)
            .map_err(|error| name_flags(error, &[("a stride", "--stride"), ("the stride", "--stride")]))?;
    }
    let inputs = loaded.inputs(input_options(&arguments.reading)?);
    let (text, source_nats) = loaded.evaluation_text(&arguments.texts, &inputs, ctx)?;
    note_tokens(&text.tokens, &text.name, &arguments.model.display().to_string(), ctx)?;
    let started = std::time::Instant::now();
    let evaluation = evaluate(&*loaded.model, &text.tokens, loaded.tokenizer.unk(), source_nats, pool)?;
    let evaluation = evaluation.checked()?;
    let seconds = started.elapsed().as_secs_f64();
    let name = text.name;
    let has_learned_unk = loaded.has_learned_unk();
    let calibration = if arguments.calibration {
        let (tokenizer, train) = (loaded.tokenizer, Arc::default());
        let data =
            Dataset { tokenizer, train, val: text.tokens, source_nats: None, corpus: None, min_count: None };
        measure(&*loaded.model, &data, None, pool)?.and_then(|measure| measure.calibration)
    } else {
        None
    };
    if output.json() {
        let mut event = json!({
            "event": "result", "model": arguments.model.display().to_string(), "text": name, "eval": evaluation, "seconds": seconds,
        });
        if arguments.calibration {
            event["calibration"] = serde_json::to_value(&calibration)?;
        }
        return output.event(&event);
    }
    let mut lines = table(&evaluation, &name, has_learned_unk);
    if let Some(calibration) = &calibration {
        lines.push_str(&calibration_lines(calibration));
    }
    output.write_stdout(&lines)
}

fn calibration_lines(calibration: &CalibrationSummary) -> String {
    let percent = |x: f64| format!("{:.2} %", 100.0 * x);
    let mut lines = vec![
        ("accuracy (2nd half)", percent(calibration.accuracy)),
        ("confidence", percent(calibration.confidence)),
        ("ECE, 15 equal bins", percent(calibration.gaps.ece)),
        ("ECE, equal mass", percent(calibration.gaps.ece_equal_mass)),
        ("Brier", format!("{:.4}", calibration.gaps.brier)),
    ];
    match &calibration.scaled {
        None => lines.push(("temperature", "none helps: a token had probability zero".to_owned())),
        Some(scaled) => lines.extend([
            ("temperature (1st half)", format!("{:.4}", scaled.temperature)),
            ("ECE with it", percent(scaled.gaps.ece)),
            ("ECE, equal mass, with it", percent(scaled.gaps.ece_equal_mass)),
            ("Brier with it", format!("{:.4}", scaled.gaps.brier)),
            (
                "nats per token with it",
                format!("{:.4} ({:.4} before)", scaled.nats_after, scaled.nats_before),
            ),
        ]),
    }
    labelled(&lines, 26)
}

/// `has_learned_unk`: whether the model's training text had `<unk>`, where that is known.
fn table(evaluation: &Evaluation, name: &str, has_learned_unk: Option<bool>) -> String {
    let mut lines = vec![
        ("text", name.to_owned()),
        ("tokens", thousands(evaluation.tokens)),
        ("bytes", thousands(evaluation.bytes)),
        ("nats per token", number(evaluation.nats_per_token(), 4)),
        ("perplexity", number(evaluation.perplexity(), 4)),
        ("bits per byte", evaluation.bits_per_byte_shown()),
    ];
    if evaluation.unnormalized {
        lines.truncate(3);
        lines.push(("log score per token", format!("{:.4}", -evaluation.nats_per_token())));
        lines.push(("perplexity", "none: these scores do not sum to one".to_owned()));
        return labelled(&lines, 26);
    }
    if evaluation.oov > 0 {
        let excluding = evaluation.perplexity_excluding_oov();
        let excluding = if excluding.is_nan() { "none: all are".to_owned() } else { number(excluding, 4) };
        let mut unknown =
            format!("{} ({})", thousands(evaluation.oov), percent(evaluation.oov, evaluation.tokens));
        if has_learned_unk == Some(false) {
            unknown.push_str("; the model has not learned <unk>: its probability is a constant");
        }
        lines.extend([
            ("out of vocabulary", unknown),
            ("perplexity including OOV", number(evaluation.perplexity(), 4)),
            ("perplexity excluding OOV", excluding),
        ]);
    }
    if evaluation.zero_probability > 0 {
        let possible = evaluation.tokens - evaluation.zero_probability;
        let nats = evaluation.nll_nonzero / possible as f64;
        let nats =
            if possible == 0 { "none: all have probability zero".to_owned() } else { format!("{nats:.4}") };
        lines.push(("zero probability", thousands(evaluation.zero_probability)));
        lines.push(("nats per possible token", nats));
    }
    if let (Some(entropy), Some(kl)) = (evaluation.source_entropy(), evaluation.kl()) {
        lines.push(("source entropy H(p)", format!("{entropy:.4}")));
        lines.push(("gap KL(p‖q)", format!("{kl:.4}")));
    }
    labelled(&lines, 26)
}
