//! Where a model is surprised: a text token by token, the continuations of a place, samples.

use serde_json::{Value, json};
use surprisal_engine::explain::{EncodedText, explain};
use surprisal_engine::generation::{Generator, Limits};
use surprisal_engine::loss::information::log_softmax;
use surprisal_engine::models::Model;
use surprisal_engine::sampling::{Sampling, ranking};
use surprisal_engine::{Context, Control, Silent};

use crate::app::{App, Ask};
use crate::bigrams::name;
use crate::models::Held;
use crate::problem::{Problem, Result};

/// Characters of a text to explain.
const MOST_CHARS: usize = 4000;
/// Models side by side.
const MOST_MODELS: usize = 3;
/// Continuations of a place.
const SHOWN: usize = 10;

fn written(ask: &Ask) -> Result<&str> {
    ask.query.written("Once upon a time", MOST_CHARS)
}

/// The surprisals of a text under up to three models.
pub(crate) fn surprisals(app: &App, ask: &Ask) -> Result<Value> {
    let (id, text) = (app.text_id(ask), written(ask)?);
    let names: Vec<&str> = ask.query.text("models", "bigram,5gram").split(',').collect();
    if names.len() > MOST_MODELS {
        return Err(Problem::bad(format!("at most {MOST_MODELS} models fit side by side")));
    }
    let control = Control::new();
    let ctx = Context::new(&app.pool, &Silent, &control);
    let mut found = Vec::new();
    for name in names {
        let loaded = app.model(name, &id)?;
        let explanation = explain(&loaded, &EncodedText::new(&loaded, text, &ctx)?, 5, &app.pool)?;
        found.push(json!({
            "model": name, "kind": loaded.kind, "tokens": explanation.tokens, "eval": explanation.evaluation,
            "words": explanation.words, "starts_uniform": explanation.starts_uniform,
        }));
    }
    Ok(json!({ "models": found }))
}

fn sampling(ask: &Ask) -> Result<Sampling> {
    let temperature = ask.query.number("temperature", 1.0, 0.0..=5.0)?;
    let top_p = ask.query.number("top_p", 1.0, 0.01..=1.0)?;
    Ok(Sampling::new(temperature, None, (top_p < 1.0).then_some(top_p))?)
}

/// The tokens before token `at` of a text, from 0, with those that no model scores.
fn before(app: &App, ask: &Ask, loaded: &Held) -> Result<Vec<u32>> {
    let control = Control::new();
    let ctx = Context::new(&app.pool, &Silent, &control);
    let text = EncodedText::new(loaded, written(ask)?, &ctx)?;
    let last = text.shown.len().saturating_sub(1);
    let at = ask.query.whole("at", last, 0..=last)?;
    let (ids, position) = text.position(at).ok_or_else(|| Problem::bad("the text has no token"))?;
    Ok(ids[..position].to_vec())
}

/// The token at a place of a text: the model's probabilities, and those that a sample draws from.
pub(crate) fn next(app: &App, ask: &Ask) -> Result<Value> {
    let sampling = sampling(ask)?;
    let loaded = app.model(ask.query.text("model", "5gram"), &app.text_id(ask))?;
    let row = loaded.model.next_log_probs(&before(app, ask, &loaded)?)?;
    let drawn = sampling.probabilities(&row);
    let shown = ranking(&row, 0..row.len() as u32).into_iter().take(SHOWN);
    let entry = |id: u32| {
        let (q, drawn) = (row[id as usize].exp(), drawn[id as usize]);
        json!({ "token": name(&loaded.tokenizer, id), "q": q, "drawn": drawn })
    };
    let normalised = log_softmax(&row);
    let entropy: f64 = normalised.iter().filter(|l| l.is_finite()).map(|l| -l * l.exp()).sum();
    Ok(json!({ "next": shown.map(entry).collect::<Vec<_>>(), "entropy": entropy, "vocab_size": row.len() }))
}

/// The tokens that a network looks at before it predicts the next one, by layer and head.
pub(crate) fn attention(app: &App, ask: &Ask) -> Result<Value> {
    let loaded = app.model(ask.query.text("model", "5gram"), &app.text_id(ask))?;
    let (tokenizer, start) = (&loaded.tokenizer, before(app, ask, &loaded)?);
    let layers = match &loaded.model {
        Model::Neural(network) if !start.is_empty() => network.attention(&start)?,
        _ => Vec::new(),
    };
    let seen = layers.first().and_then(|heads| heads.first()).map_or(0, Vec::len);
    let tokens: Vec<String> = start[start.len() - seen..].iter().map(|&id| name(tokenizer, id)).collect();
    Ok(json!({ "tokens": tokens, "layers": layers }))
}

/// A sample that goes on from a place of a text.
pub(crate) fn sample(app: &App, ask: &Ask) -> Result<Value> {
    let sampling = sampling(ask)?;
    let seed = ask.query.whole("seed", 1, 0..=1 << 40)?;
    let tokens = ask.query.whole("tokens", 120, 1..=1000)?;
    let loaded = app.model(ask.query.text("model", "5gram"), &app.text_id(ask))?;
    let start = before(app, ask, &loaded)?;
    let scored = &start[usize::from(loaded.tokenizer.bos().is_some()).min(start.len())..];
    let opening = match scored {
        [] => loaded.opening()?,
        scored => loaded.prompt(&loaded.tokenizer.decode(scored), true)?,
    };
    let generator = Generator::new(&*loaded.model, &loaded.tokenizer, &opening, sampling, false);
    let mut drawn = String::new();
    generator.sample(&Limits { tokens, ..Limits::default() }, seed as u64, 0, |piece| {
        drawn.push_str(piece);
        Ok(())
    })?;
    Ok(json!({ "text": drawn, "seed": seed }))
}
