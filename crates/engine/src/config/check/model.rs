//! What `[model]` may say: the keys of each kind, and shapes that fit together.

use std::ops::RangeInclusive;

use surprisal_model::neural::PositionKind;
use surprisal_model::ngram::Smoothing;

use super::{Loaded, one_of, within};
use crate::error::Result;

const KINDS: [&str; 7] = ["uniform", "ngram", "bigram", "mlp", "transformer", "lstm", "gru"];

/// The kinds of model that a key of `[model]` means something to.
fn owners(key: &str) -> &'static [&'static str] {
    match key {
        "kind" => &KINDS,
        "order"
        | "smoothing"
        | "k"
        | "alpha"
        | "tune"
        | "heldout"
        | "fallback"
        | "compat"
        | "prune"
        | "prune_entropy"
        | "interpolate_unigrams"
        | "closed" => &["ngram"],
        "context" => &["mlp"],
        "n_embd" | "n_hidden" => &["mlp", "transformer", "lstm", "gru"],
        "n_layer" | "dropout" => &["transformer", "lstm", "gru"],
        _ => &["transformer"],
    }
}

/// Checks the section and fills in what the kind has as a default.
pub(super) fn model(loaded: &mut Loaded) -> Result<()> {
    let kind = loaded.config.model.kind.clone();
    one_of(loaded, "model", "kind", &kind, &KINDS)?;
    let written = loaded.config.model.keys()?;
    if let Some(key) = written.keys().find(|key| !owners(key).contains(&kind.as_str())) {
        return Err(loaded
            .complain("model", key, format!("means nothing to kind = \"{kind}\""))
            .hint(format!("it belongs to: {}", owners(key).join(", "))));
    }
    if loaded.config.model.init_from.is_some()
        && let Some(key) = written
            .keys()
            .find(|key| !["kind", "init_from", "dropout", "max_unknown"].contains(&key.as_str()))
    {
        return Err(loaded
            .complain("model", key, "is what the folder of model.init_from says")
            .hint("with init_from, leave out everything but kind and dropout"));
    }
    if loaded.config.model.max_unknown.is_some() && loaded.config.model.init_from.is_none() {
        return Err(loaded.complain("model", "max_unknown", "means nothing without model.init_from"));
    }
    let model = &mut loaded.config.model;
    match kind.as_str() {
        "ngram" => {
            model.order.get_or_insert(2);
            model.smoothing.get_or_insert_with(|| "mle".into());
            if model.smoothing.as_deref() == Some("add_k") {
                model.k.get_or_insert(1.0);
            }
        }
        "mlp" => {
            model.context.get_or_insert(8);
            model.n_embd.get_or_insert(32);
            model.n_hidden.get_or_insert(256);
        }
        "lstm" | "gru" => {
            model.n_layer.get_or_insert(2);
            model.n_embd.get_or_insert(128);
            model.n_hidden.get_or_insert(128);
            model.dropout.get_or_insert(0.0);
        }
        "transformer" if model.init_from.is_some() => {}
        "transformer" => {
            model.n_layer.get_or_insert(4);
            model.n_head.get_or_insert(4);
            model.n_embd.get_or_insert(128);
            model.dropout.get_or_insert(0.0);
            model.bias.get_or_insert(false);
            model.tied.get_or_insert(true);
        }
        _ => {}
    }
    let model = loaded.config.model.clone();
    let sizes: [(&str, Option<usize>, usize); 8] = [
        ("order", model.order, 16),
        ("n_layer", model.n_layer, 256),
        ("n_head", model.n_head, 1024),
        ("n_embd", model.n_embd, 1 << 20),
        ("n_hidden", model.n_hidden, 1 << 24),
        ("context", model.context, 4096),
        ("n_kv_head", model.n_kv_head, 1024),
        ("bigram_rows", model.bigram_rows, 1 << 24),
    ];
    for (key, value, most) in sizes {
        value.map_or(Ok(()), |value| within(loaded, "model", key, value, 1..=most))?;
    }
    if kind == "ngram" {
        ngram(loaded)?;
    }
    let numbers: [(&str, Option<f64>, RangeInclusive<f64>); 5] = [
        ("dropout", model.dropout, 0.0..=0.99),
        ("rope_theta", model.rope_theta, 1.0..=1e12),
        ("softcap", model.softcap, 0.0..=1e6),
        ("k", model.k, 1e-12..=1e12),
        ("max_unknown", model.max_unknown, 0.0..=1.0),
    ];
    for (key, value, range) in numbers {
        value.map_or(Ok(()), |value| within(loaded, "model", key, value, range))?;
    }
    if model.rope_theta.is_some() && model.position != Some(PositionKind::Rope) {
        return Err(loaded.complain("model", "rope_theta", "means nothing without position = \"rope\""));
    }
    if let (Some(n_embd), Some(n_head)) = (model.n_embd, model.n_head)
        && n_embd % n_head != 0
    {
        let down = (n_embd / n_head * n_head).max(n_head);
        let divisor =
            (1..=n_embd).filter(|d| n_embd % d == 0).min_by_key(|d| d.abs_diff(n_head)).unwrap_or(1);
        // Where only one of them was said, it is the one to talk about.
        let heads_only = loaded.said("model.n_head").is_some() && loaded.said("model.n_embd").is_none();
        let (key, message) = if heads_only {
            ("n_head", format!("is {n_head}: so many heads cannot share n_embd = {n_embd} evenly"))
        } else {
            ("n_embd", format!("is {n_embd}, which {n_head} heads (n_head) cannot share evenly"))
        };
        return Err(loaded
            .complain("model", key, message)
            .hint(format!("take n_head = {divisor}, or n_embd = {down} or another multiple of n_head")));
    }
    if let (Some(n_head), Some(n_kv_head)) = (model.n_head, model.n_kv_head)
        && n_head % n_kv_head != 0
    {
        return Err(loaded
            .complain(
                "model",
                "n_kv_head",
                format!("is {n_kv_head}, which {n_head} heads cannot share evenly"),
            )
            .hint("take a divisor of n_head"));
    }
    if let (Some(n_embd), Some(n_head), Some(PositionKind::Rope)) =
        (model.n_embd, model.n_head, model.position)
        && n_embd / n_head % 2 != 0
    {
        return Err(loaded
            .complain("model", "position", format!("cannot turn heads {} wide in pairs", n_embd / n_head))
            .hint("take an even n_embd / n_head"));
    }
    Ok(())
}

fn ngram(loaded: &Loaded) -> Result<()> {
    let model = &loaded.config.model;
    if let Some(smoothing) = &model.smoothing {
        let names = Smoothing::ALL.map(Smoothing::name);
        one_of(loaded, "model", "smoothing", smoothing, &names)?;
    }
    if let Some(compat) = &model.compat {
        one_of(loaded, "model", "compat", compat, &["kenlm"])?;
    }
    let key = match model {
        model if model.prune.is_some() => "prune",
        model if model.prune_entropy.is_some() => "prune_entropy",
        model if model.alpha.is_some() => "alpha",
        _ => "smoothing",
    };
    let config = model.ngram(None, None)?;
    config.check().map_err(|error| loaded.complain("model", key, format!("cannot be: {error}")))
}
