//! Counting: the grid of pairs of a text, its smoothings, and texts drawn from it.

use serde_json::{Value, json};
use surprisal_engine::generation::{Generator, Limits};
use surprisal_engine::model::LanguageModel;
use surprisal_engine::model::ngram::{NgramConfig, NgramModel, Smoothing, from_counts};
use surprisal_engine::sampling::{Opening, Sampling};

use crate::app::{App, Ask};
use crate::bigrams::name;
use crate::problem::{Problem, Result};
use crate::texts::Text;

/// Characters of a text that a student writes.
const MOST_CHARS: usize = 500;

/// The smoothing that a request asks for.
struct Asked {
    config: NgramConfig,
    key: String,
}

fn asked(ask: &Ask, text: &Text) -> Result<Asked> {
    let name = ask.query.text("smoothing", "mle");
    let k = ask.query.number("k", 0.1, 1e-6..=1e3)?;
    let alpha = ask.query.number("alpha", 5.0, 1e-6..=1e6)?;
    let smoothing = match name {
        "mle" => Smoothing::Mle,
        "add_k" => Smoothing::AddK,
        "dirichlet" => Smoothing::Dirichlet,
        "kneser_ney" => Smoothing::KneserNey,
        other => {
            let known = "mle, add_k, dirichlet or kneser_ney";
            return Err(Problem::bad(format!("smoothing is {other:?}, but must be {known}")));
        }
    };
    let tokenizer = &text.data.tokenizer;
    let (bos, unk) = (tokenizer.bos(), tokenizer.unk());
    let config = NgramConfig { k, alpha: vec![alpha], bos, unk, ..NgramConfig::new(2, smoothing) };
    Ok(Asked { config, key: format!("{name} {k} {alpha}") })
}

fn model(app: &App, id: &str, text: &Text, config: &NgramConfig) -> Result<NgramModel> {
    let bigrams = app.bigrams(id)?;
    debug_assert_eq!(bigrams.counts.vocab_size as usize, text.data.tokenizer.vocab_size());
    let (estimate, report) = from_counts(bigrams.counts.clone(), config, None)?;
    Ok(NgramModel::new(config.clone(), report, estimate.into_trie()?))
}

/// The grid of a text: counts, and probabilities under a smoothing with its losses.
pub(crate) fn grid(app: &App, ask: &Ask) -> Result<Value> {
    let id = app.text_id(ask);
    let text = app.text(&id)?;
    let Asked { config, key } = asked(ask, &text)?;
    let grid = app.losses.get(&format!("grid {key} {id}"), || -> Result<Value> {
        let (bigrams, model) = (app.bigrams(&id)?, model(app, &id, &text, &config)?);
        let mut rows = Vec::new();
        for &before in &bigrams.shown {
            let row = model.next_log_probs(&[before])?;
            rows.push(bigrams.shown.iter().map(|&id| row[id as usize].exp()).collect::<Vec<f64>>());
        }
        let (n, width) = (bigrams.shown.len(), bigrams.width());
        let counts: Vec<&[f64]> = bigrams.pairs.chunks(width.max(1)).take(n).map(|row| &row[..n]).collect();
        let evaluation = text.data.evaluate(&model, &app.pool)?;
        Ok(json!({
            "names": bigrams.names[..n], "counts": counts, "totals": bigrams.totals[..n], "q": rows,
            "vocab_size": text.data.tokenizer.vocab_size(), "tokens": text.data.train.scored(), "notes": text.notes,
            "eval": evaluation, "seen": bigrams.counts.levels.last().map_or(0, |level| level.counts.len()),
        }))
    })?;
    let mut grid = (*grid).clone();
    if let Some(written) = ask.query.get("written").filter(|written| !written.is_empty()) {
        grid["written"] = score(app, &id, &text, &config, written)?;
    }
    grid["text"] = json!({ "id": id, "name": app.texts.name(&id)? });
    Ok(grid)
}

/// The surprisal of every letter of a text that a student has written, and their mean.
fn score(app: &App, id: &str, text: &Text, config: &NgramConfig, written: &str) -> Result<Value> {
    if written.chars().count() > MOST_CHARS {
        return Err(Problem::bad(format!("the text has more than {MOST_CHARS} characters")));
    }
    let (model, tokenizer) = (model(app, id, text, config)?, &text.data.tokenizer);
    let ids = tokenizer.encode(written)?;
    let nats: Vec<f64> = model.log_probs(&ids, 0)?.iter().map(|log_prob| -log_prob).collect();
    let mean = nats.iter().sum::<f64>() / nats.len().max(1) as f64;
    let letters: Vec<Value> = ids
        .iter()
        .zip(&nats)
        .map(|(&id, nats)| json!({ "letter": name(tokenizer, id), "nats": nats }))
        .collect();
    Ok(
        json!({ "letters": letters, "nats_per_token": mean, "impossible": nats.iter().filter(|n| n.is_infinite()).count() }),
    )
}

/// A text drawn from the pairs under a smoothing.
pub(crate) fn sample(app: &App, ask: &Ask) -> Result<Value> {
    let id = app.text_id(ask);
    let text = app.text(&id)?;
    let seed = ask.query.whole("seed", 1, 0..=1 << 40)?;
    let tokens = ask.query.whole("tokens", 240, 1..=1000)?;
    let Asked { config, .. } = asked(ask, &text)?;
    let model = model(app, &id, &text, &config)?;
    let opening = Opening::new(&text.data.tokenizer, Some(&text.data.train.ids))?;
    let mut drawn = String::new();
    let generator =
        Generator::new(&model, &text.data.tokenizer, &opening, Sampling::new(1.0, None, None)?, false);
    let limits = Limits { tokens, ..Limits::default() };
    generator.sample(&limits, seed as u64, 0, |piece| {
        drawn.push_str(piece);
        Ok(())
    })?;
    Ok(json!({ "text": drawn, "seed": seed }))
}
