//! The step-by-step computation of one token's loss and gradient.

use serde_json::json;
use surprisal_engine::loss::information;
use surprisal_engine::text::Granularity;

use super::{STARTS_UNIFORM, label, quoted};
use crate::align::align;
use crate::cli;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::wording::{many, number};
use surprisal_engine::Context;
use surprisal_engine::data::note_tokens;
use surprisal_engine::error::no_numbers;
use surprisal_engine::explain::{EncodedText, scores};
use surprisal_engine::models::LoadedModel;
use surprisal_engine::sampling::ranking;

/// The ε shown if none is given.
const DEFAULT_EPSILON: f64 = 0.1;

/// Shows how the loss and gradient of token number `step` (from 1) follow from the logits.
pub(super) fn walk(
    loaded: &LoadedModel,
    name: &str,
    arguments: &cli::ExplainArgs,
    step: usize,
    ctx: &Context<'_>,
    output: &Output,
) -> Result<()> {
    let text = EncodedText::new(loaded, &arguments.text, ctx)?;
    note_tokens(&text.tokens, "the text", name, ctx)?;
    let from = text.from();
    let Some((ids, position)) = step.checked_sub(1).and_then(|before| text.position(before)) else {
        return Err(Error::usage(format!(
            "--step is {step}, but the text has tokens 1 to {}",
            text.shown.len()
        )));
    };
    let target = ids[position] as usize;
    let (z, are_logits) = scores(loaded, ids, from, position)?;
    let epsilon = arguments.smoothing.unwrap_or(DEFAULT_EPSILON);
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.iter().map(|z| (z - max).exp()).sum();
    let lse = max + sum.ln();
    let nats = lse - z[target];
    if nats.is_nan() {
        return Err(no_numbers("this model"));
    }
    let q: Vec<f64> = z.iter().map(|z| (z - lse).exp()).collect();
    let vocab = z.len() as f64;
    let truth = |id: usize| f64::from(u8::from(id == target));
    let smooth = |id: usize| (1.0 - epsilon) * truth(id) + epsilon / vocab;
    // A token with target probability 0 adds nothing, even if q = 0.
    let smoothed_loss: f64 =
        (0..z.len()).filter(|&id| smooth(id) > 0.0).map(|id| smooth(id) * (lse - z[id])).sum();

    let mut shown: Vec<u32> = ranking(&z, 0..z.len() as u32).into_iter().take(arguments.top.max(1)).collect();
    if !shown.contains(&(target as u32)) {
        shown.push(target as u32);
    }
    let token = |id: u32| loaded.tokenizer.token(id);
    let (stood, unknown) = &text.shown[step - 1];
    let norm =
        |of: &dyn Fn(usize) -> f64| (0..z.len()).map(|id| (q[id] - of(id)).powi(2)).sum::<f64>().sqrt();
    if output.json() {
        let rows: Vec<_> = shown
            .iter()
            .map(|&id| {
                let i = id as usize;
                json!({
                    "token": token(id), "id": id, "z": z[i], "q": q[i], "gradient": q[i] - truth(i),
                    "smoothed_gradient": q[i] - smooth(i), "target": i == target,
                })
            })
            .collect();
        return output.event(&json!({
            "event": "step", "model": name, "step": step, "token": stood, "unknown": unknown, "scores": if are_logits { "logits" } else { "ln q" },
            "max": max, "sum_of_exponentials": sum, "log_sum_exp": lse,
            // Infinite values become null.
            "nats": nats, "bits": information::bits(nats), "epsilon": epsilon, "smoothed_loss": smoothed_loss,
            "gradient_norm": norm(&truth), "smoothed_gradient_norm": norm(&smooth), "rows": rows,
        }));
    }
    let before = text.shown[step - 1 - (position - from)..step - 1].iter();
    let before: Vec<String> = before.map(|(token, unknown)| label(token, *unknown)).collect();
    let space = if loaded.tokenizer.granularity() == Granularity::Word { " " } else { "" };
    let before = before.join(space);
    let stood = label(stood, *unknown);
    let tail: String = before.chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
    let after = match tail.as_str() {
        "" if from == 0 => "with nothing before it".to_owned(),
        "" => format!("after {}", quoted(&token(ids[0]))),
        tail => format!("after {}", quoted(tail)),
    };
    let starts_uniform = format!("ln q instead of logits ({STARTS_UNIFORM})");
    let what = match are_logits {
        true => "logits z",
        false if loaded.model.neural().is_some() => &starts_uniform,
        false if loaded.model.mixture().is_some() => "ln q instead of logits (a mixture has none)",
        false if lse.abs() < 1e-3 => "ln q instead of logits (counts have none)",
        false => {
            "ln q instead of logits; the model's q do not sum to one, so they are normalised here and differ from `eval`"
        }
    };
    let mut table = vec![
        ["", "token", "z", "z − max", "e^(z−max)", "q", "q − p", &format!("q − p' (ε {epsilon})")]
            .map(str::to_owned)
            .to_vec(),
    ];
    for &id in &shown {
        let i = id as usize;
        table.push(vec![
            if i == target { "→".to_owned() } else { String::new() },
            quoted(&token(id)),
            number(z[i], 4),
            number(z[i] - max, 4),
            format!("{:.5}", (z[i] - max).exp()),
            format!("{:.5}", q[i]),
            format!("{:+.5}", q[i] - truth(i)),
            format!("{:+.5}", q[i] - smooth(i)),
        ]);
    }
    let others = z.len() - shown.len();
    let rest: f64 = 1.0 - shown.iter().map(|&id| q[id as usize]).sum::<f64>();
    let mut text = format!(
        "{name}: token {step} is {} {after}\n\n{what}, the most likely {} of {}:\n{}",
        quoted(&stood),
        shown.len(),
        z.len(),
        align(&table)
    );
    text.push_str(&format!("   and {others} others sum to q = {:.5}\n\n", rest.max(0.0)));
    let (max, lse) = (number(max, 4), number(lse, 4));
    text.push_str(&format!("max z            = {max}\n"));
    text.push_str(&format!("Σ e^(z − max)    = {sum:.5}\n"));
    text.push_str(&format!("log-sum-exp      = max + ln Σ = {max} + {:.4} = {lse}\n", sum.ln()));
    text.push_str(&format!(
        "−ln q({})      = log-sum-exp − z = {lse} − {} = {} nats = {} bits\n",
        quoted(&stood),
        number(z[target], 4),
        number(nats, 4),
        number(information::bits(nats), 4)
    ));
    text.push_str(&format!(
        "                 as surprising as one of {} equal choices (e^{})\n",
        number(nats.exp(), 2),
        number(nats, 4)
    ));
    text.push_str(&format!(
        "smoothed, ε {epsilon}   = Σ p' (log-sum-exp − z) = {} nats{}\n\n",
        number(smoothed_loss, 4),
        if smoothed_loss.is_finite() {
            String::new()
        } else {
            let never = z.iter().filter(|z| **z == f64::NEG_INFINITY).count() as u64;
            format!(
                ", because {} of probability zero (<s> is always one) would get a share",
                many(never, "token")
            )
        }
    ));
    text.push_str(&format!(
        "The gradient of the loss by z is q − p: descent raises {} by 1 − q = {:.5} and lowers every other by its own \
         q.\nWith smoothing it is q − p': it vanishes where q = p', which gives {} at most {:.5}. |q − p| = {:.5}, |q − p'| = \
         {:.5}; each sums to zero.\n",
        quoted(&stood),
        1.0 - q[target],
        quoted(&stood),
        smooth(target),
        norm(&truth),
        norm(&smooth)
    ));
    output.write_stdout(&text)
}
