//! One step: a token's logits, their softmax, the loss and its gradient.

use serde::Deserialize;
use serde_json::{Value, json};
use surprisal_engine::explain::{EncodedText, scores};
use surprisal_engine::loss::information::{bits, log_sum_exp};
use surprisal_engine::loss::reference::{Targets, cross_entropy};
use surprisal_engine::loss::{CrossEntropy, Reduction};
use surprisal_engine::sampling::ranking;
use surprisal_engine::{Context, Control, Silent};

use crate::app::{App, Ask};
use crate::bigrams::name;
use crate::problem::{Problem, Result};

/// Characters of the text before a step.
const MOST_CHARS: usize = 2000;
/// Logits that can be sent.
const MOST_LOGITS: usize = 64;

/// Logits as a student has dragged them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Logits {
    z: Vec<f64>,
    target: usize,
    epsilon: f64,
}

/// The computation for logits `z`: of the cross-entropy, and of the squared error beside it.
fn computed(z: &[f64], target: usize, epsilon: f64) -> Result<Value> {
    if !(0.0..=1.0).contains(&epsilon) {
        return Err(Problem::bad(format!("epsilon is {epsilon}, but must be from 0 to 1")));
    }
    if target >= z.len() {
        return Err(Problem::bad(format!("target is {target}, but there are {} logits", z.len())));
    }
    let of = |label_smoothing| -> Result<_> {
        let options = CrossEntropy::new().label_smoothing(label_smoothing)?.reduction(Reduction::Sum);
        Ok(cross_entropy(&options, z, z.len(), Targets::Classes(&[target as u32]), &[1.0])?)
    };
    let (plain, smooth) = (of(0.0)?, of(epsilon)?);
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = z.iter().map(|z| (z - max).exp()).collect();
    let lse = log_sum_exp(z);
    let q: Vec<f64> = z.iter().map(|z| (z - lse).exp()).collect();
    let truth = |j: usize| f64::from(u8::from(j == target));
    let p: Vec<f64> = (0..z.len()).map(|j| (1.0 - epsilon) * truth(j) + epsilon / z.len() as f64).collect();
    // Of ½ Σ (q − p)², through the softmax: ∂/∂z_j = q_j ((q_j − p_j) − Σ q (q − p)).
    let mean: f64 = q.iter().zip(&p).map(|(q, p)| q * (q - p)).sum();
    let squared: Vec<f64> = q.iter().zip(&p).map(|(q, p)| q * ((q - p) - mean)).collect();
    let squared_error: f64 = q.iter().zip(&p).map(|(q, p)| (q - p).powi(2)).sum::<f64>() / 2.0;
    Ok(json!({
        "max": max, "exponentials": exponentials, "sum": exponentials.iter().sum::<f64>(), "lse": lse, "q": q, "p": p,
        "nats": plain.loss, "bits": bits(plain.loss), "smoothed_loss": smooth.loss, "gradient": smooth.gradient,
        "squared_error": squared_error, "squared_gradient": squared,
    }))
}

/// The computation for logits that were sent.
pub(crate) fn dragged(_: &App, ask: &Ask) -> Result<Value> {
    let Logits { z, target, epsilon } = serde_json::from_slice(&ask.body)
        .map_err(|error| Problem::bad(format!("these are no logits: {error}")))?;
    if z.is_empty() || z.len() > MOST_LOGITS || z.iter().any(|z| !z.is_finite() || z.abs() > 1e3) {
        return Err(Problem::bad(format!("logits are 1 to {MOST_LOGITS} numbers from −1000 to 1000")));
    }
    computed(&z, target, epsilon)
}

/// The step of a model that predicts character `at` of a text, from 0: its likeliest tokens and the
/// true one, renormalised to them.
pub(crate) fn step(app: &App, ask: &Ask) -> Result<Value> {
    let id = app.text_id(ask);
    let (written, model) = (ask.query.written("the cat", MOST_CHARS)?, ask.query.text("model", "5gram"));
    let top = ask.query.whole("top", 6, 2..=12)?;
    let epsilon = ask.query.number("epsilon", 0.0, 0.0..=1.0)?;
    let loaded = app.model(model, &id)?;
    let control = Control::new();
    let text = EncodedText::new(&loaded, written, &Context::new(&app.pool, &Silent, &control))?;
    let last = text.shown.len().saturating_sub(1);
    let at = ask.query.whole("at", last, 0..=last)?;
    let (ids, position) = text.position(at).ok_or_else(|| Problem::bad("the text has no token"))?;
    let target = ids[position];
    let (z, are_logits) = scores(&loaded, ids, text.from(), position)?;
    let mut shown: Vec<u32> = ranking(&z, 0..z.len() as u32).into_iter().take(top).collect();
    if !shown.contains(&target) {
        shown.pop();
        shown.push(target);
    }
    // A probability of zero has no logit that could be drawn.
    shown.retain(|&id| z[id as usize].is_finite());
    let place = shown.iter().position(|&id| id == target);
    let place = place.ok_or_else(|| Problem::bad("the model gives the true token the probability zero"))?;
    let names: Vec<String> = shown.iter().map(|&id| name(&loaded.tokenizer, id)).collect();
    let kept: Vec<f64> = shown.iter().map(|&id| z[id as usize]).collect();
    let lse = log_sum_exp(&z);
    Ok(json!({
        "tokens": text.shown.iter().map(|(token, _)| token).collect::<Vec<_>>(), "at": at, "names": names, "z": kept,
        "target": place, "scores": if are_logits { "logits" } else { "ln q" }, "vocab_size": z.len(),
        "all": { "nats": lse - z[target as usize], "q": (z[target as usize] - lse).exp(), "lse": lse },
        "computed": computed(&kept, place, epsilon)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let z = [0.3, -1.2, 2.0, 0.1];
        let found = computed(&z, 1, 0.2).unwrap();
        for (loss, gradient) in [("smoothed_loss", "gradient"), ("squared_error", "squared_gradient")] {
            for j in 0..4 {
                let at = |by: f64| {
                    let mut moved = z;
                    moved[j] += by;
                    computed(&moved, 1, 0.2).unwrap()[loss].as_f64().unwrap()
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((found[gradient][j].as_f64().unwrap() - slope).abs() < 1e-8, "{gradient} {j}");
            }
        }
        assert!(computed(&z, 4, 0.0).is_err() && computed(&z, 0, 1.5).is_err());
    }

    #[test]
    fn a_squared_error_saturates_where_the_model_is_confidently_wrong() {
        let found = computed(&[20.0, 0.0], 1, 0.0).unwrap();
        assert!(found["gradient"][1].as_f64().unwrap() < -0.999);
        assert!(found["squared_gradient"][1].as_f64().unwrap().abs() < 1e-8);
    }
}
