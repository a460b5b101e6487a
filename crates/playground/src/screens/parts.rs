//! The parts of a loss: H(p) and KL(p‖q), and the parts of that.

use serde_json::{Value, json};
use surprisal_engine::compare::diagnostics::measure;
use surprisal_engine::compare::oracle::SourceOracle;
use surprisal_engine::compare::trial::{approximation, decompose};
use surprisal_engine::model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_report::figures::{Curve, log_curves, reliability};

use crate::app::{App, Ask};
use crate::models::RUN;
use crate::problem::{Problem, Result};

/// Models side by side.
const MOST_MODELS: usize = 4;
/// The embedded text whose source is a chain that a bigram can be exactly.
const CHAIN: &str = "bells";
/// The parts of it that are counted.
const FRACTIONS: [f64; 7] = [1.0 / 64.0, 1.0 / 32.0, 1.0 / 16.0, 0.125, 0.25, 0.5, 1.0];

/// The parts of the losses of some models, with their reliability diagrams.
pub(crate) fn parts(app: &App, ask: &Ask) -> Result<Value> {
    let id = app.text_id(ask);
    let names: Vec<&str> = ask.query.text("models", "bigram,5gram").split(',').collect();
    if names.len() > MOST_MODELS {
        return Err(Problem::bad(format!("at most {MOST_MODELS} models fit side by side")));
    }
    let found =
        names.iter().map(|name| Ok((*of_model(app, name, &id)?).clone())).collect::<Result<Vec<Value>>>()?;
    Ok(json!({ "models": found }))
}

fn of_model(app: &App, name: &str, id: &str) -> Result<std::sync::Arc<Value>> {
    let version =
        name.strip_prefix(RUN).and_then(|run| app.runs.weights(run)).map_or(0, |(_, version)| version);
    app.losses.get(&format!("parts {name} {version} {id}"), || {
        let (text, loaded) = (app.text(id)?, app.model(name, id)?);
        let data = &text.data;
        if loaded.tokenizer.vocab_size() != data.tokenizer.vocab_size() {
            return Err(Problem::bad(format!("{name} has other letters than this text")));
        }
        let eval = data.evaluate(&*loaded.model, &app.pool)?;
        let truth = app.texts.oracle(id, data)?;
        let truth = (*truth).as_ref();
        let diagnostics = measure(&*loaded.model, data, truth, &app.pool)?;
        let parts = match (truth, &diagnostics, eval.source_entropy()) {
            (Some(truth), Some(diagnostics), Some(entropy)) => {
                let losses = (eval.nats_per_token(), entropy);
                decompose(losses, diagnostics, loaded.config(), truth, data, &app.pool)?
            }
            _ => None,
        };
        let calibration = diagnostics.as_ref().and_then(|diagnostics| diagnostics.calibration.as_ref());
        let figure = calibration.map(reliability).transpose()?;
        Ok(json!({ "model": name, "eval": eval, "parts": parts, "calibration": calibration, "figure": figure }))
    })
}

/// H(p) and KL of a run at its evaluations, and of the KL what a longer context would remove, which
/// is the same at all of them, and what one temperature would, where that was measured.
pub(crate) fn over_training(app: &App, ask: &Ask) -> Result<Value> {
    let name = ask.query.text("name", "");
    let run = app.runs.get(name)?;
    let (evaluations, calibrations) = {
        let known = run.known();
        (known.evaluations.clone(), known.miscalibrations.clone())
    };
    let entropy = evaluations.last().and_then(|of| of.eval.source_entropy());
    let approximation = match (&run.text, entropy) {
        (Some(id), Some(entropy)) if app.runs.weights(name).is_some() => {
            let (text, model) = (app.text(id)?, app.model(&format!("{RUN}{name}"), id)?);
            match &*app.texts.oracle(id, &text.data)? {
                Some(truth) => approximation(entropy, model.config(), truth, &text.data, &app.pool)?,
                None => None,
            }
        }
        _ => None,
    };
    let at = evaluations.iter().map(|of| {
        let miscalibration = calibrations.iter().find(|(step, _)| *step == of.step).map(|(_, nats)| nats);
        json!({
            "miscalibration": miscalibration,
            "step": of.step, "nats": of.eval.nats_per_token(), "entropy": of.eval.source_entropy(), "kl": of.eval.kl(),
        })
    });
    Ok(json!({ "approximation": approximation.map(|(nats, _)| nats), "evaluations": at.collect::<Vec<_>>() }))
}

/// The KL of bigrams counted on more and more of a chain's text, and the line parameters / 2N.
pub(crate) fn consistency(app: &App, _: &Ask) -> Result<Value> {
    let found = app.losses.get("consistency", || -> Result<Value> {
        let text = app.text(CHAIN)?;
        let data = &text.data;
        let truth = app.texts.oracle(CHAIN, data)?;
        let truth = (*truth).as_ref();
        let free = truth.and_then(SourceOracle::free_parameters);
        let free = free.ok_or_else(|| Problem::bad("the source of this text is not known"))? as f64;
        let (mut kl, mut line) = (Vec::new(), Vec::new());
        for fraction in FRACTIONS {
            let tokens = (data.train.ids.len() as f64 * fraction) as usize;
            let config = NgramConfig::new(2, Smoothing::Mle);
            let model =
                NgramModel::estimate(&data.train.ids[..tokens], data.tokenizer.vocab_size(), &config)?;
            let diagnostics = measure(&model, data, truth, &app.pool)?;
            let found = diagnostics.and_then(|diagnostics| diagnostics.source?.kl);
            kl.push((tokens as f64, found.unwrap_or(f64::INFINITY)));
            line.push((tokens as f64, free / (2.0 * tokens as f64)));
        }
        let curves =
            [Curve::new("KL of the counted bigram", kl.clone()), Curve::new("parameters / 2N", line.clone())];
        let figure = log_curves("characters N", "KL(p‖q), nats per character", &curves)?;
        Ok(json!({ "text": CHAIN, "free_parameters": free, "kl": kl, "line": line, "figure": figure }))
    })?;
    Ok((*found).clone())
}
