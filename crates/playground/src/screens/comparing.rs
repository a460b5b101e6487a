//! Smoothing and decay: a small comparison, run on the page, with its verdicts.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{App, Ask};
use crate::problem::{Problem, Result};
use crate::stream::{Next, Stream};

/// Runs of a comparison.
const MOST_RUNS: usize = 60;

/// A comparison as a student asks for it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    text: Option<String>,
    architecture: String,
    epsilons: Vec<f64>,
    decays: Vec<f64>,
    seeds: u64,
    passes: f64,
    /// The part of the text that is learnt.
    fraction: f64,
}

/// Asks for a comparison; gives its name.
pub(crate) fn start(app: &App, ask: &Ask) -> Result<Value> {
    let wanted: Wanted = serde_json::from_slice(&ask.body)
        .map_err(|error| Problem::bad(format!("these are no settings of a comparison: {error}")))?;
    let Wanted { architecture, epsilons, decays, seeds, passes, fraction, .. } = &wanted;
    let model = match architecture.as_str() {
        "mlp" => "kind = \"mlp\"\ncontext = 8\nn_embd = 16\nn_hidden = 96",
        "bigram" => "kind = \"bigram\"",
        "transformer" => "kind = \"transformer\"\nn_layer = 2\nn_head = 2\nn_embd = 48\ndropout = 0.0",
        other => {
            return Err(Problem::bad(format!(
                "the architecture is {other:?}, but must be mlp, bigram or transformer"
            )));
        }
    };
    let ranges: [(&str, &[f64], RangeInclusive<f64>); 4] = [
        ("an ε", epsilons.as_slice(), 0.0..=0.9),
        ("a decay", decays.as_slice(), 0.0..=10.0),
        ("the number of passes", std::slice::from_ref(passes), 0.01..=100.0),
        ("the part of the text", std::slice::from_ref(fraction), 0.001..=1.0),
    ];
    for (name, values, range) in &ranges {
        if let Some(value) = values.iter().find(|value| !range.contains(*value)) {
            let (low, high) = (range.start(), range.end());
            return Err(Problem::bad(format!("{name} is {value}, but must be from {low} to {high}")));
        }
    }
    let runs = epsilons.len() as u64 * decays.len() as u64 * seeds;
    if runs == 0 || runs > MOST_RUNS as u64 || *seeds > 20 {
        return Err(Problem::bad(format!("this asks for {runs} runs, but there may be 1 to {MOST_RUNS}")));
    }
    let text = wanted.text.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| app.texts.first());
    let settings = app.texts.settings(&text)?;
    let data: Vec<String> =
        settings.iter().map(|set| set.trim_start_matches("data.").replacen('=', " = ", 1)).collect();
    let list: Vec<u64> = (1..=*seeds).collect();
    let against = format!("ε {}, decay {}", plain(epsilons[0]), plain(decays[0]));
    let mut config = format!(
        "[compare]\nseeds = {list:?}\njobs = 1\n\n[data]\n{}\ntrain_fraction = {fraction:?}\n\n[tokenizer]\nkind = \"char\"\n\n[model]\n{model}\n\n\
         [optim]\nlr = 3e-3\nwarmup = 10\n\n[train]\nepochs = {passes:?}\nbatch_size = 16\nblock_size = 48\n\n[sample]\ntokens = 0\n",
        data.join("\n")
    );
    for epsilon in epsilons {
        for decay in decays {
            let name = format!("ε {}, decay {}", plain(*epsilon), plain(*decay));
            let against =
                if name == against { String::new() } else { format!("against = {}\n", json!(against)) };
            config.push_str(&format!(
                "\n[[variant]]\nname = {}\n{against}loss = {{ label_smoothing = {epsilon:?} }}\noptim = {{ weight_decay = {decay:?} }}\n",
                json!(name)
            ));
        }
    }
    let run = app.runs.ask_comparison(&format!("{text}-comparison"), &text, &config, runs as usize)?;
    Ok(json!({ "name": run.name, "runs": runs }))
}

/// A number as it is typed: 0, 0.1.
fn plain(value: f64) -> String {
    format!("{value}")
}

fn news(app: &App, name: &str) -> Result<(Value, u64)> {
    let run = app.runs.get(name)?;
    let version = run.version();
    Ok((run.json(app.runs.waits(name)), version))
}

/// The comparison `name` as it is.
pub(crate) fn state(app: &App, ask: &Ask) -> Result<Value> {
    Ok(news(app, ask.query.text("name", ""))?.0)
}

/// The comparison `name` as its table grows.
pub(crate) fn stream(app: &App, ask: &Ask) -> Result<Stream> {
    let name = ask.query.text("name", "").to_owned();
    app.runs.get(&name)?;
    let mut seen = None;
    Ok(Stream::new(move |app| match news(app, &name) {
        Ok((_, version)) if seen == Some(version) => Next::Nothing,
        Ok((news, version)) => {
            seen = Some(version);
            Next::Event(news.to_string())
        }
        Err(_) => Next::End,
    }))
}
