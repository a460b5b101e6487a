//! The report of one run.

use std::path::Path;

use serde_json::{Value, json};
use surprisal_model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_platform::threads::Pool;
use surprisal_store::atomic;
use surprisal_store::read::{read_regular, regular_text};
use surprisal_text::Corpus;

use super::page::{escape, facts, page};
use super::parts;
use super::plot::{self, REFERENCE, Series};
use crate::compare::measure::{Measure, measure};
use crate::config::{self, Config};
use crate::data::Prepared;
use crate::evaluate::evaluate;
use crate::failure::Result;
use crate::models::{self, LoadedModel};
use crate::output::Output;
use crate::outputs;
use crate::runs;
use crate::wording::{duration, many, shown, thousands};

/// Writes `report.html` into the run at `root`.
///
/// # Errors
/// A folder that is no run with a model or a checkpoint, or whose texts are gone or others.
pub(crate) fn write(root: &Path, output: &Output) -> Result<()> {
    let folder = runs::open(root)?;
    outputs::file(&folder.report(), &[root])
        .map_err(|failure| failure.hint("what is there is no report of ours: move it elsewhere first"))?;
    let mut settings = config::load(Some(&folder.config()), &[])?;
    config::check(&mut settings)?;
    let loaded = models::load(root, output)?;
    let known = Some(loaded.tokenizer.clone());
    let data = Prepared::load(&settings.config, true, known, &Output::new(false, true))?;
    let name = data.corpus.as_ref().map_or_else(|| "the text".into(), Corpus::name);
    let names = (name.as_str(), settings.config.data.val.as_slice());
    runs::check_text(&folder, names, "val", &data.val, output)?;
    runs::check_text(&folder, names, "train", &data.train, output)?;
    let pool = Pool::new(config::cores())?;
    let result = match loaded.last_result() {
        Some(result) => result,
        None => {
            let seconds = loaded.unfinished.as_ref().map(|unfinished| unfinished.train_seconds);
            let unk = data.tokenizer.unk();
            let eval = evaluate(&*loaded.model, &data.val, unk, data.source_nats, &pool)?;
            json!({ "eval": eval.of_numbers()?, "train_seconds": seconds })
        }
    };
    let html = render(root, &settings.config, &loaded, &result, &data, &pool)?;
    // Without the run's lock: it may be going on, and this is nothing of its.
    atomic::write(folder.report(), html.as_bytes())?;
    output.say(format!("the report is {}", shown(&folder.report())));
    Ok(())
}

fn render(
    root: &Path,
    config: &Config,
    loaded: &LoadedModel,
    result: &Value,
    data: &Prepared,
    pool: &Pool,
) -> Result<String> {
    let metrics = regular_text(root.join("metrics.jsonl")).unwrap_or_default();
    let events: Vec<Value> = metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
    let mut body = format!("<h1>{}: {}</h1>\n", escape(&name), escape(&loaded.kind));
    if let Some(unfinished) = &loaded.unfinished {
        body.push_str(&format!("<p><strong>Note: {}.</strong></p>\n", escape(&unfinished.note)));
    }
    body.push_str(&summary(loaded, result, data));
    body.push_str(&curves(&events)?);
    let own = measure(&*loaded.model, data, None, pool)?;
    if let Some(own) = &own {
        body.push_str("<h2>Does it mean what it says?</h2>\n");
        body.push_str(&parts::calibration_key());
        body.push_str("<div class=\"grid\">\n");
        body.push_str(&parts::calibration(&loaded.kind, own, loaded.model.vocab_size())?);
        body.push_str("</div>\n");
        body.push_str(&passage(loaded, own, data, pool)?);
    }
    let sample = events.iter().rev().find(|event| event["event"] == "sample");
    if let Some(text) = sample.and_then(|event| event["text"].as_str()) {
        body.push_str("<h2>A sample, and what it may have been remembered from</h2>\n");
        body.push_str(&parts::sample("at the end of the run", text, &data.tokenizer, &data.train, &data.val));
    }
    body.push_str(&settings(root, config)?);
    Ok(page(&format!("{name} · Surprisal"), &body))
}

fn summary(loaded: &LoadedModel, result: &Value, data: &Prepared) -> String {
    let number = |pointer: &str| result.pointer(pointer).and_then(Value::as_f64);
    let shown = |pointer: &str, digits: usize| {
        number(pointer).map_or("infinite".to_owned(), |value| crate::wording::number(value, digits))
    };
    let mut cells = vec![
        ("nats a token", shown("/eval/nats_per_token", 4)),
        ("perplexity", shown("/eval/perplexity", 3)),
        ("bits a byte", shown("/eval/bits_per_byte", 4)),
    ];
    if let (Some(entropy), Some(kl)) = (number("/eval/source_entropy"), number("/eval/kl")) {
        cells.push(("of that the source's H(p)", format!("{entropy:.4}")));
        cells.push(("and the model's KL(p‖q)", format!("{kl:.4}")));
    }
    let unknown = number("/eval/oov").unwrap_or(0.0);
    if unknown > 0.0 {
        cells.push(("unknown tokens", thousands(unknown as u64)));
        cells.push(("perplexity without them", shown("/eval/perplexity_excluding_oov", 3)));
    }
    let impossible = number("/eval/zero_probability").unwrap_or(0.0);
    if impossible > 0.0 {
        cells.push(("tokens held impossible", thousands(impossible as u64)));
    }
    cells.push(("parameters", thousands(loaded.parameters)));
    cells.push(("training", number("/train_seconds").map_or_else(String::new, duration)));
    let mut html = facts(&cells);
    html.push_str(&format!(
        "<p>Judged on {}{}, each scored once and unsmoothed. Trained on {}; a \
         vocabulary of {} ({}).",
        many(data.val.scored(), "token"),
        if data.val.ids == data.train.ids {
            ", which are those that it was trained on"
        } else {
            " of its validation text"
        },
        many(data.train.scored(), "token"),
        thousands(data.tokenizer.vocab_size() as u64),
        data.tokenizer.kind()
    ));
    if let Some(perplexity) = number("/eval/perplexity") {
        html.push_str(&format!(
            " A tenth of a nat less would take perplexity from {} to {}.",
            crate::wording::number(perplexity, 3),
            crate::wording::number(perplexity * (-0.1f64).exp(), 3)
        ));
    }
    html.push_str("</p>\n");
    html
}

/// Objective, NLL and validation by step, with what they can be held against.
fn curves(events: &[Value]) -> Result<String> {
    let epochs: Vec<&Value> = events.iter().filter(|event| event["event"] == "epoch").collect();
    let line = |pointer: &str| -> Vec<(f64, f64)> {
        epochs.iter().filter_map(|e| Some((e["step"].as_f64()?, e.pointer(pointer)?.as_f64()?))).collect()
    };
    let validation = line("/eval/nats_per_token");
    let (Some(first), Some(last)) = (validation.first(), validation.last()) else { return Ok(String::new()) };
    let ends = if validation.len() == 1 { (0.0, last.0) } else { (first.0, last.0) };
    let (objective, nll) = (line("/objective"), line("/train_nll"));
    let mut series = Vec::new();
    if objective != nll {
        series.push(Series {
            name: "objective, smoothed".into(),
            colour: 3,
            dashed: false,
            points: objective,
        });
    }
    series.push(Series { name: "training NLL".into(), colour: 1, dashed: false, points: nll });
    series.push(Series { name: "validation NLL".into(), colour: 0, dashed: false, points: validation });
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
    series.extend(level("H(p), the least there is", REFERENCE, entropy));
    Ok(format!(
        "<h2>Learning</h2>\n<figure>{}{}<figcaption>{} Training: the mean since the last point. Where training \
         goes on falling and validation rises, the model learns the text by heart.</figcaption></figure>\n",
        plot::lines("step", "nats a token", &series)?,
        plot::key(&series),
        measured(epochs.len())
    ))
}

/// How much of a curve was measured, and what is only drawn.
fn measured(evaluations: usize) -> String {
    match evaluations {
        1 => "One evaluation: one mark, and no curve.".to_owned(),
        2..=8 => format!(
            "Only {evaluations} evaluations, which are the marks; what happened between them was not measured \
             (eval.every_steps makes more)."
        ),
        _ => format!("{evaluations} evaluations."),
    }
}

/// The model beside one that was counted on the same text.
fn passage(loaded: &LoadedModel, own: &Measure, data: &Prepared, pool: &Pool) -> Result<String> {
    let config = NgramConfig {
        order: 5,
        smoothing: Smoothing::WittenBell,
        bos: data.val.bos(),
        unk: data.tokenizer.unk(),
        ..NgramConfig::default()
    };
    let vocab_size = data.tokenizer.vocab_size();
    let counted = pool.install(|| NgramModel::estimate(&data.train.ids, vocab_size, &config))?;
    let beside = measure(&counted, data, None, pool)?;
    let mut html = "<h2>Where is it surprised?</h2>\n<p>From the middle of the validation text, beside a 5-gram counted on the \
                    same training text (Witten-Bell). Point at a token for its numbers.</p>\n"
        .to_owned();
    let beside = beside.as_ref().map(|measure| ("5-gram, Witten-Bell", measure.passage.as_slice()));
    html.push_str(&parts::heat((&loaded.kind, &own.passage), beside));
    Ok(html)
}

/// The config and the hashes of what was made with it.
fn settings(root: &Path, config: &Config) -> Result<String> {
    let mut html = "<h2>How it was made</h2>\n<ul>\n".to_owned();
    for name in
        ["config.toml", "tokenizer.json", "model/config.json", "model/model.safetensors", "model/model.ngram"]
    {
        if let Ok(bytes) = read_regular(root.join(name)) {
            let hash = blake3::hash(&bytes).to_hex();
            html.push_str(&format!("<li>{name}: <code>{}…</code> (BLAKE3)</li>\n", &hash.as_str()[..32]));
        }
    }
    html.push_str(&format!("<li>Surprisal {}</li>\n</ul>\n", env!("CARGO_PKG_VERSION")));
    html.push_str(&format!(
        "<details open><summary>config.toml</summary><pre>{}</pre></details>\n",
        escape(&crate::config::resolved(config)?)
    ));
    Ok(html)
}
