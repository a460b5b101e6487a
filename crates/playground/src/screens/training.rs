//! Training: runs with settings from the page, and their curves as they grow.

use serde::Deserialize;
use serde_json::{Value, json};
use surprisal_engine::config::Override;
use surprisal_report::figures::{Curve, curves};

use crate::app::{App, Ask};
use crate::problem::{Problem, Result};
use crate::runs::Run;
use crate::stream::{Next, Stream};

/// Runs over each other in a figure.
const MOST_SHOWN: usize = 2;

/// A config by architecture.
const BASES: [(&str, &str); 5] = [
    ("transformer", include_str!("../../../../configs/default.toml")),
    ("lstm", include_str!("../../../../configs/lstm.toml")),
    ("gru", include_str!("../../../../configs/gru.toml")),
    ("mlp", include_str!("../../../../configs/mlp.toml")),
    ("bigram", include_str!("../../../../configs/bigram_neural.toml")),
];

/// Settings of sizes: architecture, size, and what differs from the config.
const SIZES: [(&str, &str, &[&str]); 8] = [
    ("transformer", "small", &["model.n_layer=2", "model.n_head=2", "model.n_embd=64"]),
    ("transformer", "large", &["model.n_layer=6", "model.n_head=6", "model.n_embd=192"]),
    ("lstm", "small", &["model.n_hidden=48"]),
    ("lstm", "large", &["model.n_hidden=256"]),
    ("gru", "small", &["model.n_hidden=48"]),
    ("gru", "large", &["model.n_hidden=256"]),
    ("mlp", "small", &["model.n_hidden=64", "model.n_embd=12"]),
    ("mlp", "large", &["model.n_hidden=512", "model.n_embd=48"]),
];

/// A run as a student asks for it; what is not given is as in the config of its architecture.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    text: Option<String>,
    architecture: String,
    #[serde(default)]
    size: String,
    passes: Option<f64>,
    /// Seconds of training, instead of passes.
    budget: Option<f64>,
    lr: Option<f64>,
    epsilon: Option<f64>,
    decay: Option<f64>,
    seed: Option<u64>,
}

/// Asks for a run; gives its name.
pub(crate) fn start(app: &App, ask: &Ask) -> Result<Value> {
    let wanted: Wanted = serde_json::from_slice(&ask.body)
        .map_err(|error| Problem::bad(format!("these are no settings of a run: {error}")))?;
    let run = train(app, &wanted)?;
    Ok(json!({ "name": run.name }))
}

/// The run that a page without a text or a model begins with.
pub(crate) fn first(app: &App) -> Result<()> {
    let wanted = Wanted {
        text: None,
        architecture: "transformer".into(),
        size: String::new(),
        passes: None,
        budget: None,
        lr: None,
        epsilon: None,
        decay: None,
        seed: None,
    };
    train(app, &wanted).map(drop)
}

fn train(app: &App, wanted: &Wanted) -> Result<std::sync::Arc<Run>> {
    let (_, base) = BASES.iter().find(|(name, _)| *name == wanted.architecture).ok_or_else(|| {
        let known = BASES.map(|(name, _)| name).join(", ");
        Problem::bad(format!("the architecture is {:?}, but must be one of {known}", wanted.architecture))
    })?;
    let text = wanted.text.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| app.texts.first());
    let mut set = app.texts.settings(&text)?;
    let sized = SIZES.iter().find(|(of, size, _)| *of == wanted.architecture && *size == wanted.size);
    match (sized, wanted.size.as_str()) {
        (Some((.., keys)), _) => set.extend(keys.iter().map(|&key| key.to_owned())),
        (None, "" | "medium") => {}
        (None, other) => return Err(Problem::bad(format!("there is no size {other:?} of it"))),
    }
    match (wanted.budget, wanted.passes) {
        (Some(seconds), _) if (1.0..=3600.0).contains(&seconds) => {
            set.push(format!("train.budget={seconds}s"));
        }
        (Some(seconds), _) => {
            return Err(Problem::bad(format!("the time is {seconds} s, but must be from 1 to 3600 s")));
        }
        (None, Some(passes)) if (0.01..=1000.0).contains(&passes) => {
            set.push(format!("train.epochs={passes}"));
        }
        (None, Some(passes)) => {
            return Err(Problem::bad(format!("passes are {passes}, but must be from 0.01 to 1000")));
        }
        (None, None) => {}
    }
    let keys = [
        ("optim.lr", wanted.lr),
        ("loss.label_smoothing", wanted.epsilon),
        ("optim.weight_decay", wanted.decay),
    ];
    set.extend(keys.iter().filter_map(|(key, value)| Some(format!("{key}={:?}", (*value)?))));
    set.extend(wanted.seed.map(|seed| format!("train.seed={seed}")));
    if wanted.architecture == "transformer" && !app.texts.is_large(&text) {
        // More points than on the command line, as they are what one watches.
        set.push("eval.every_steps=40".to_owned());
    }
    set.push("checkpoint.keep=1".to_owned());
    let stem = format!("{text}-{}", wanted.architecture);
    let about = json!({
        "architecture": wanted.architecture, "size": wanted.size, "passes": wanted.passes, "budget": wanted.budget,
        "lr": wanted.lr, "epsilon": wanted.epsilon, "decay": wanted.decay, "seed": wanted.seed,
    });
    let set: Vec<Override> = set.iter().map(|set| Override::from(&**set)).collect();
    app.runs.ask(&stem, &text, about, base, &set)
}

/// All runs, or one with all its numbers.
pub(crate) fn runs(app: &App, ask: &Ask) -> Result<Value> {
    match ask.query.get("name") {
        None => Ok(app.runs.json()),
        Some(name) => Ok(app.runs.get(name)?.json(app.runs.waits(name))),
    }
}

/// Pauses, resumes or stops a run.
pub(crate) fn control(app: &App, ask: &Ask) -> Result<Value> {
    app.runs.control(ask.query.text("name", ""), ask.query.text("do", ""))?;
    Ok(json!({}))
}

fn shown(ask: &Ask) -> Result<Vec<String>> {
    let names = ask.query.text("names", "").split(',').filter(|name| !name.is_empty()).map(str::to_owned);
    let names: Vec<String> = names.collect();
    match names.len() {
        0 => Err(Problem::bad("no run is named")),
        n if n > MOST_SHOWN => Err(Problem::bad(format!("at most {MOST_SHOWN} runs fit over each other"))),
        _ => Ok(names),
    }
}

/// The learning curves of a run or two, over the losses of count-based models and of the source.
fn figure(app: &App, runs: &[std::sync::Arc<Run>]) -> Result<String> {
    let mut lines = Vec::new();
    for run in runs {
        let known = run.known();
        let name =
            |what: &str| if runs.len() == 1 { what.to_owned() } else { format!("{}: {what}", run.name) };
        let points = known.points.iter().map(|point| (point.step as f64, point.train_nll)).collect();
        lines.push(Curve::new(name("training NLL"), points));
        let points = known.evaluations.iter().map(|of| (of.step as f64, of.eval.nats_per_token())).collect();
        lines.push(Curve::new(name("validation NLL"), points));
    }
    let first = runs[0].known();
    let mut levels: Vec<(String, f64)> = Vec::new();
    let level = |of: &str| first.levels.iter().find(|(name, _)| name == of).and_then(|(_, nats)| *nats);
    levels.extend(level("uniform").map(|nats| ("uniform".to_owned(), nats)));
    let (entropy, text) = (first.source_entropy, runs[0].text.clone());
    let is_char = first.vocab_size > 0;
    drop(first);
    for (id, name) in [("bigram", "counted bigram"), ("5gram", "counted 5-gram")] {
        let Some(text) = text.as_deref().filter(|_| is_char) else { continue };
        let loss = app.loss(id, text)?;
        levels.extend(loss["nats_per_token"].as_f64().map(|nats| (name.to_owned(), nats)));
    }
    levels.extend(entropy.map(|nats| ("H(p) of the source".to_owned(), nats)));
    Ok(curves("step", "nats per token", &lines, &levels)?)
}

/// The news of some runs, as the page shows them now.
fn news(app: &App, runs: &[std::sync::Arc<Run>]) -> Result<String> {
    let versions: Vec<String> = runs.iter().map(|run| format!("{} {}", run.name, run.version())).collect();
    let key = versions.join(" ");
    let markup = app.figures.get(&key, || figure(app, runs))?;
    let run = |run: &std::sync::Arc<Run>| {
        let waits = app.runs.waits(&run.name);
        let known = run.known();
        json!({
            "name": run.name, "waits": waits, "phase": known.phase, "progress": known.progress, "error": known.error,
            "parameters": known.parameters, "steps": known.steps, "point": known.points.last(),
            "evaluation": known.evaluations.last(), "samples": known.samples, "notes": known.notes,
            "levels": known.levels, "source_entropy": known.source_entropy, "result": known.result,
        })
    };
    Ok(json!({ "figure": &*markup, "runs": runs.iter().map(run).collect::<Vec<_>>() }).to_string())
}

/// The news of some runs as they come.
pub(crate) fn stream(app: &App, ask: &Ask) -> Result<Stream> {
    let names = shown(ask)?;
    let runs = names.iter().map(|name| app.runs.get(name)).collect::<Result<Vec<_>>>()?;
    let mut seen = Vec::new();
    Ok(Stream::new(move |app| {
        let places: Vec<Option<usize>> = runs.iter().map(|run| app.runs.waits(&run.name)).collect();
        let now: Vec<(u64, Option<usize>)> = runs.iter().map(|run| run.version()).zip(places).collect();
        if now == seen {
            return Next::Nothing;
        }
        seen = now;
        match news(app, &runs) {
            Ok(news) => Next::Event(news),
            Err(problem) => Next::Event(problem.json().to_string()),
        }
    }))
}

/// The same once.
pub(crate) fn watched(app: &App, ask: &Ask) -> Result<Value> {
    let runs = shown(ask)?.iter().map(|name| app.runs.get(name)).collect::<Result<Vec<_>>>()?;
    Ok(serde_json::from_str(&news(app, &runs)?)?)
}
