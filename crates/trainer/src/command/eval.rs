//! `surprisal eval`: scores a text with a model.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::align::align;
use crate::cli;
use crate::command::count::input_options;
use crate::error::{Result, name_flags};
use crate::output::Output;
use crate::wording::{labelled, many, number, percent, thousands};
use surprisal_engine::Context;
use surprisal_engine::compare::diagnostics::{CalibrationSummary, measure};
use surprisal_engine::data::{Dataset, note_tokens};
use surprisal_engine::evaluate::Evaluation;
use surprisal_engine::models::{self, LoadedModel};
use surprisal_engine::pairs;
use surprisal_engine::spelling::Spelling;
use surprisal_engine::text::{EvaluationText, InputOptions, TokenText, UnknownText};

pub(crate) fn run(arguments: &cli::EvalArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let pool = ctx.pool;
    let mut loaded = pool.install(|| models::load(&arguments.model, ctx))?;
    if let Some(stride) = arguments.stride {
        loaded
            .set_stride(stride)
            .map_err(|error| name_flags(error, &[("a stride", "--stride"), ("the stride", "--stride")]))?;
    }
    if let Some(moved) = &arguments.data {
        loaded.move_texts(moved)?;
    }
    if let Some(path) = &arguments.pairs {
        return judge_pairs(&loaded, arguments, path, ctx, output);
    }
    let inputs = loaded.inputs(input_options(&arguments.reading)?);
    if arguments.per_file {
        return per_file(&loaded, arguments, &inputs, ctx, output);
    }
    let (text, source_nats) = loaded.evaluation_text(&arguments.texts, &inputs, ctx)?;
    note_tokens(&text.tokens, &text.name, &arguments.model.display().to_string(), ctx)?;
    let started = std::time::Instant::now();
    let before = before(&loaded, arguments, &inputs, ctx)?;
    let evaluation = if arguments.adapt {
        let texts: Vec<&TokenText> = before.iter().map(|text| &text.tokens).collect();
        loaded.evaluate_adaptive(&text.tokens, &texts, arguments.adapt_rate, source_nats, pool)?
    } else {
        loaded.evaluate(&text.tokens, source_nats, pool)?
    };
    let seconds = started.elapsed().as_secs_f64();
    let name = text.name;
    let has_learned_unk = loaded.has_learned_unk();
    let unknown = unknown_words(&text.tokens);
    let calibration = if arguments.calibration {
        let (tokenizer, train) = (loaded.tokenizer, Arc::default());
        let (val, spelling) = (text.tokens, Spelling::default());
        let data =
            Dataset { tokenizer, train, val, source_nats: None, spelling, corpus: None, min_count: None };
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
        if arguments.adapt {
            let text = |text: &EvaluationText| json!({ "text": text.name, "tokens": text.tokens.scored() });
            event["adaptive"] = json!({ "read_before": before.iter().map(text).collect::<Vec<_>>() });
        }
        if arguments.unknown_words {
            let word = |(word, count): &(String, u64)| json!({ "word": word, "count": count });
            event["unknown_words"] = unknown.iter().map(word).collect();
        }
        return output.event(&event);
    }
    let mut lines = if arguments.adapt { adaptive_line(&before) } else { String::new() };
    lines.push_str(&table(&evaluation, &name, has_learned_unk));
    if let Some(calibration) = &calibration {
        lines.push_str(&calibration_lines(calibration));
    }
    if arguments.unknown_words {
        let shown = |(word, count): &(String, u64)| vec![word.clone(), thousands(*count)];
        let heading = vec![vec![many(unknown.len() as u64, "unknown word"), "count".to_owned()]];
        lines.push('\n');
        lines.push_str(&align(&heading.into_iter().chain(unknown.iter().map(shown)).collect::<Vec<_>>()));
    }
    output.write_stdout(&lines)
}

/// The texts that a model which learns reads before it is evaluated.
fn before(
    loaded: &LoadedModel,
    arguments: &cli::EvalArgs,
    inputs: &InputOptions,
    ctx: &Context<'_>,
) -> Result<Vec<EvaluationText>> {
    if arguments.adapt_on_train {
        return Ok(vec![loaded.training_text(ctx)?]);
    }
    if arguments.adapt_on.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![loaded.evaluation_text(&arguments.adapt_on, inputs, ctx)?.0])
}

/// The kind of an adaptive evaluation, and the texts that were read before.
fn adaptive_line(before: &[EvaluationText]) -> String {
    let texts =
        before.iter().map(|text| format!("{} tokens of {}", thousands(text.tokens.scored()), text.name));
    let texts = texts.collect::<Vec<_>>().join(" and ");
    let texts = if texts.is_empty() { "nothing".to_owned() } else { texts };
    let kind = format!("yes: learns from each token after scoring it; read {texts} before");
    labelled(&[("adaptive", kind)], 26)
}

/// The words or characters that are unknown, the most frequent first.
fn unknown_words(tokens: &TokenText) -> Vec<(String, u64)> {
    let counts = tokens.unknown.iter().flat_map(|counts| counts.iter());
    let mut words: Vec<(String, u64)> = counts.map(|(word, &count)| (word.clone(), count)).collect();
    words.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    words
}

fn per_file(
    loaded: &LoadedModel,
    arguments: &cli::EvalArgs,
    inputs: &InputOptions,
    ctx: &Context<'_>,
    output: &Output,
) -> Result<()> {
    let heading = ["text", "tokens", "unknown", "nats per token", "perplexity", "bits per byte"];
    let (mut rows, mut parts) = (vec![heading.map(str::to_owned).to_vec()], Vec::new());
    let row = |name: &str, evaluation: &Evaluation| {
        vec![
            name.to_owned(),
            thousands(evaluation.tokens),
            thousands(evaluation.oov),
            number(evaluation.nats_per_token(), 4),
            number(evaluation.perplexity(), 4),
            evaluation.bits_per_byte_shown(),
        ]
    };
    for (text, _) in loaded.each_text(&arguments.texts, inputs, UnknownText::Counted, ctx)? {
        let evaluation = loaded.evaluate(&text.tokens, None, ctx.pool)?;
        output.event(&json!({ "event": "file", "text": text.name, "eval": evaluation }))?;
        rows.push(row(&text.name, &evaluation));
        parts.push(evaluation);
    }
    let (all, name) = (Evaluation::of_all(&parts), many(parts.len() as u64, "text"));
    rows.push(row(&name, &all));
    if output.json() {
        let model = arguments.model.display().to_string();
        return output.event(&json!({ "event": "result", "model": model, "text": name, "eval": all }));
    }
    output.write_stdout(&align(&rows))
}

fn judge_pairs(
    loaded: &LoadedModel,
    arguments: &cli::EvalArgs,
    path: &Path,
    ctx: &Context<'_>,
    output: &Output,
) -> Result<()> {
    let found = pairs::judge(loaded, &pairs::read(path)?, ctx)?;
    if output.json() {
        return output.event(&json!({
            "event": "result", "model": arguments.model.display().to_string(), "text": path.display().to_string(),
            "pairs": found,
        }));
    }
    let heading = ["group", "pairs", "right", "95 % interval", "ties", "nats good is likelier by"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for group in &found {
        let (low, high) = group.interval;
        rows.push(vec![
            group.group.clone().unwrap_or_else(|| "all".into()),
            thousands(group.pairs),
            format!("{:.1} %", 100.0 * group.accuracy),
            format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high),
            thousands(group.ties),
            number(group.nats, 3),
        ]);
    }
    output.write_stdout(&align(&rows))
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
    let mut nats = number(evaluation.nats_per_token(), 4);
    if let Some((low, high)) = evaluation.interval.filter(|_| evaluation.nats_per_token().is_finite()) {
        nats.push_str(&format!(" (95 %: {low:.4} to {high:.4})"));
    }
    let mut bits = evaluation.bits_per_byte_shown();
    if let Some(spelling) = evaluation.spelling_bits_per_byte().filter(|_| evaluation.oov > 0) {
        bits.push_str(&format!(" ({spelling:.4} of them spell what is unknown)"));
    }
    let mut lines = vec![
        ("text", name.to_owned()),
        ("tokens", thousands(evaluation.tokens)),
        ("bytes", thousands(evaluation.bytes)),
        ("nats per token", nats),
        ("perplexity", number(evaluation.perplexity(), 4)),
        ("bits per byte", bits),
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
