//! The report of one run.

use std::path::Path;

use maud::{Markup, html};
use serde_json::{Value, json};
use surprisal_engine::model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_engine::platform::threads::Pool;
use surprisal_engine::store::read::{read_regular, regular_text};
use surprisal_engine::text::Corpus;

use super::cards::{self, hash};
use super::page::{facts, page};
use super::plot::{self, REFERENCE, Series};
use surprisal_engine::Context;
use surprisal_engine::compare::diagnostics::{Diagnostics, measure};
use surprisal_engine::config::{self, Config};
use surprisal_engine::data::{self, Dataset};
use surprisal_engine::error::Result;
use surprisal_engine::models::{self, LoadedModel};
use surprisal_engine::outputs;
use surprisal_engine::runs;
use surprisal_engine::wording::{duration, many, thousands};

/// The report page of the run at `root`, finished or not; its texts may have moved to `moved`.
///
/// # Errors
/// A folder that is not a run with a model or a checkpoint; texts that are missing or changed; a
/// path of the page that is used by something else.
pub fn render_run(root: &Path, moved: Option<&Path>, ctx: &Context<'_>) -> Result<String> {
    let folder = runs::open(root)?;
    outputs::file(&folder.report(), &[root]).map_err(|error| {
        error.hint("this file is not a report of surprisal: move it to another place first")
    })?;
    let mut settings = config::load(Some(&folder.config()), &[])?;
    config::check(&mut settings)?;
    runs::find_texts(root, &mut settings.config, moved);
    let loaded = models::load(root, ctx)?;
    let known = Some(loaded.tokenizer.clone());
    data::refuse_pipes(&settings.config, "a report needs the run's texts in files")?;
    // A context with its own run id, so that reading the texts is not reported as part of this run.
    let reading = Context::new(ctx.pool, ctx.events, ctx.control);
    let data = Dataset::load(&settings.config, true, known, &reading)?;
    let name = data.corpus.as_ref().map_or_else(|| "the text".into(), Corpus::name);
    let names = (name.as_str(), settings.config.data.val.as_slice());
    runs::check_text(&folder, names, "val", &data.val, ctx)?;
    runs::check_text(&folder, names, "train", &data.train, ctx)?;
    let result = match loaded.last_result() {
        Some(result) => result,
        None => {
            let seconds = loaded.unfinished.as_ref().map(|unfinished| unfinished.train_seconds);
            let eval = data.evaluate(&*loaded.model, ctx.pool)?;
            json!({ "eval": eval.checked()?, "train_seconds": seconds })
        }
    };
    render(root, &settings.config, &loaded, &result, &data, ctx.pool)
}

fn render(
    root: &Path,
    config: &Config,
    loaded: &LoadedModel,
    result: &Value,
    data: &Dataset,
    pool: &Pool,
) -> Result<String> {
    let metrics = regular_text(root.join("metrics.jsonl")).unwrap_or_default();
    let events: Vec<Value> = metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
    let own = measure(&*loaded.model, data, None, pool)?;
    let sample = events.iter().rev().find(|event| event["event"] == "sample");
    let sample = sample.and_then(|event| event["text"].as_str());
    let body = html! {
        h1 { (name) ": " (loaded.kind) }
        @if let Some(unfinished) = &loaded.unfinished {
            p { strong { "Note: " (unfinished.note) "." } }
        }
        (summary(loaded, result, data))
        (curves(&events)?)
        @if let Some(own) = &own {
            h2 { "Calibration: accuracy by confidence (reliability diagram)" }
            (cards::calibration_legend())
            div.grid { (cards::calibration(&loaded.kind, own, loaded.model.vocab_size())?) }
            (passage(loaded, own, data, pool)?)
        }
        @if let Some(text) = sample {
            h2 { "A sample, and the training text that it may repeat" }
            (cards::sample("at the end of the run", text, data))
        }
        (settings(root, config)?)
    };
    Ok(page(&format!("{name} · Surprisal"), &body))
}

fn summary(loaded: &LoadedModel, result: &Value, data: &Dataset) -> Markup {
    let number = |pointer: &str| result.pointer(pointer).and_then(Value::as_f64);
    let shown = |pointer: &str, digits: usize| {
        // Tokens that do not give the text back have a loss, and no bits per byte.
        let missing = if number("/eval/nats_per_token").is_some() { "not known" } else { "infinite" };
        number(pointer).map_or(missing.to_owned(), |value| surprisal_engine::wording::number(value, digits))
    };
    let mut cells = vec![
        ("nats per token", shown("/eval/nats_per_token", 4)),
        ("perplexity", shown("/eval/perplexity", 3)),
        ("bits per byte", shown("/eval/bits_per_byte", 4)),
    ];
    if let (Some(entropy), Some(kl)) = (number("/eval/source_entropy"), number("/eval/kl")) {
        cells.push(("of which the source's H(p)", format!("{entropy:.4}")));
        cells.push(("of which the gap KL(p‖q)", format!("{kl:.4}")));
    }
    let unknown = number("/eval/oov").unwrap_or(0.0);
    if unknown > 0.0 {
        cells.push(("unknown tokens", thousands(unknown as u64)));
        cells.push(("perplexity without them", shown("/eval/perplexity_excluding_oov", 3)));
    }
    let impossible = number("/eval/zero_probability").unwrap_or(0.0);
    if impossible > 0.0 {
        cells.push(("tokens of probability zero", thousands(impossible as u64)));
    }
    cells.push(("parameters", thousands(loaded.model.parameters())));
    cells.push(("training", number("/train_seconds").map_or_else(String::new, duration)));
    html! {
        (facts(&cells))
        p {
            "Evaluated on " (many(data.val.scored(), "token"))
            @if data.val.ids == data.train.ids { ", which it was also trained on" }
            @else { " of its validation text" }
            ", each scored once, without smoothing. Trained on " (many(data.train.scored(), "token")) "; a vocabulary of "
            (thousands(data.tokenizer.vocab_size() as u64)) " (" (data.tokenizer.kind()) ")."
            @if let Some(perplexity) = number("/eval/perplexity") {
                " 0.1 nats less would change the perplexity from " (surprisal_engine::wording::number(perplexity, 3)) " to "
                (surprisal_engine::wording::number(perplexity * (-0.1f64).exp(), 3)) "."
            }
        }
    }
}

/// The curves of the objective, training NLL and validation NLL by step, with reference lines.
fn curves(events: &[Value]) -> Result<Markup> {
    let epochs: Vec<&Value> = events.iter().filter(|event| event["event"] == "epoch").collect();
    let line = |pointer: &str| -> Vec<(f64, f64)> {
        epochs.iter().filter_map(|e| Some((e["step"].as_f64()?, e.pointer(pointer)?.as_f64()?))).collect()
    };
    let validation = line("/eval/nats_per_token");
    let (Some(first), Some(last)) = (validation.first(), validation.last()) else { return Ok(html! {}) };
    let ends = if validation.len() == 1 { (0.0, last.0) } else { (first.0, last.0) };
    let (objective, nll) = (line("/objective"), line("/train_nll"));
    let line_of = |name: &str, colour, points| Series { name: name.into(), colour, dashed: false, points };
    let mut series = Vec::new();
    let steps = smoothed(events);
    if !steps.is_empty() {
        series.push(line_of("training NLL of single steps, smoothed", 2, steps));
    }
    if objective != nll {
        series.push(line_of("objective, smoothed", 3, objective));
    }
    series.push(line_of("training NLL", 1, nll));
    series.push(line_of("validation NLL", 0, validation));
    let level = |name: &str, colour, value: Option<f64>| {
        value.map(|value| Series {
            name: format!("{name} {value:.4}"),
            colour,
            dashed: true,
            points: vec![(ends.0, value), (ends.1, value)],
        })
    };
    let bigram = events.iter().find(|event| event["model"] == "bigram MLE");
    let bigram = bigram.and_then(|event| event.pointer("/eval/nats_per_token")?.as_f64());
    series.extend(level("counted bigram", 4, bigram));
    let entropy = epochs.last().and_then(|event| event.pointer("/eval/source_entropy")?.as_f64());
    series.extend(level("H(p), the lower bound", REFERENCE, entropy));
    let mixed = events.iter().rev().find(|event| event["event"] == "mixture");
    let of_mixed = |pointer: &str| mixed.and_then(|event| event.pointer(pointer)?.as_f64());
    let ngram = mixed.and_then(|event| event.pointer("/names/1")?.as_str()).unwrap_or_default();
    series.extend(level(ngram, 3, of_mixed("/counted/nats_per_token")));
    series.extend(level("mixture", 0, of_mixed("/eval/nats_per_token")));
    Ok(html! {
        h2 { "Learning curves" }
        figure {
            (plot::lines("step", "nats per token", &series)?)
            (plot::legend(&series))
            figcaption {
                (measured(epochs.len()))
                " Training: the mean since the last point. Where training NLL still falls and validation NLL rises, the model \
                 is overfitting."
                @if mixed.is_some() { " The curves are the network's, before it is mixed with the n-gram model." }
            }
        }
    })
}

/// The training loss of recorded steps: means of runs of them, of which there are at most 100.
fn smoothed(events: &[Value]) -> Vec<(f64, f64)> {
    let steps = events.iter().filter(|event| event["event"] == "step");
    let points: Vec<(f64, f64)> =
        steps.filter_map(|event| Some((event["step"].as_f64()?, event["train_nll"].as_f64()?))).collect();
    let mean = |part: &[(f64, f64)]| {
        let sum = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / part.len() as f64, sum.1 / part.len() as f64)
    };
    points.chunks(points.len().div_ceil(100).max(1)).map(mean).collect()
}

/// A note on the number of evaluations.
fn measured(evaluations: usize) -> String {
    match evaluations {
        1 => "One evaluation: one mark, and no curve.".to_owned(),
        2..=8 => format!(
            "Only {evaluations} evaluations, at the marks; nothing was measured between them \
             (set eval.every_steps for more)."
        ),
        _ => format!("{evaluations} evaluations."),
    }
}

/// A passage scored by the model and by a 5-gram model counted on the same training text.
fn passage(loaded: &LoadedModel, own: &Diagnostics, data: &Dataset, pool: &Pool) -> Result<Markup> {
    let config = NgramConfig {
        bos: data.val.bos(),
        unk: data.tokenizer.unk(),
        ..NgramConfig::new(5, Smoothing::WittenBell)
    };
    let vocab_size = data.tokenizer.vocab_size();
    let counted = pool.install(|| NgramModel::estimate(&data.train.ids, vocab_size, &config))?;
    let beside = measure(&counted, data, None, pool)?;
    let beside = beside.as_ref().map(|measure| ("5-gram, Witten-Bell", measure.passage.as_slice()));
    Ok(html! {
        h2 { "Surprisal, token by token" }
        p {
            "From the middle of the validation text, compared with a 5-gram model of the same training text (Witten-Bell). Point \
             to a token to see its numbers."
        }
        (cards::surprisal_heatmap((&loaded.kind, &own.passage), beside))
    })
}

/// The config and the hashes of files.
fn settings(root: &Path, config: &Config) -> Result<Markup> {
    let files = [
        "config.toml",
        "tokenizer.json",
        "model/config.json",
        "model/model.safetensors",
        "model/model.ngram",
    ];
    Ok(html! {
        h2 { "Settings and files" }
        ul {
            @for name in files {
                @if let Ok(bytes) = read_regular(root.join(name)) {
                    li { (name) ": " code { (hash(&bytes, 32)) } " (BLAKE3)" }
                }
            }
            li { "Surprisal " (surprisal_engine::VERSION) }
        }
        details open { summary { "config.toml" } pre { (surprisal_engine::config::resolved(config)?) } }
    })
}
