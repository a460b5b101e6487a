//! What `[model]` may say: the keys of each kind, and shapes that fit together.

use surprisal_model::neural::PositionKind;
use surprisal_model::ngram::Smoothing;

use super::{Loaded, one_of, within};
use crate::failure::{Failure, Result};

/// The kinds of model, and the keys of `[model]` that mean something to each.
const KINDS: [(&str, &[&str]); 5] = [
    ("uniform", &[]),
    (
        "ngram",
        &[
            "order",
            "smoothing",
            "k",
            "tune",
            "heldout",
            "fallback",
            "compat",
            "prune",
            "prune_entropy",
            "interpolate_unigrams",
            "closed",
        ],
    ),
    ("bigram", &[]),
    ("mlp", &["context", "n_embd", "n_hidden"]),
    (
        "transformer",
        &[
            "n_layer",
            "n_head",
            "n_kv_head",
            "n_embd",
            "n_hidden",
            "dropout",
            "bias",
            "tied",
            "norm",
            "position",
            "rope_theta",
            "qk_norm",
            "activation",
            "zero_init",
            "softcap",
            "bigram_rows",
            "init_from",
            "max_unknown",
        ],
    ),
];

/// Checks the section and fills in what the kind has as a default.
pub(super) fn model(loaded: &mut Loaded) -> Result<()> {
    let kind = loaded.config.model.kind.clone();
    let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    one_of(loaded, "model", "kind", &kind, &names)?;
    let allowed = KINDS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| *keys);
    let written = toml::Table::try_from(&loaded.config.model).map_err(|e| Failure::usage(e.to_string()))?;
    if let Some(key) = written.keys().find(|key| *key != "kind" && !allowed.contains(&key.as_str())) {
        let owners: Vec<&str> =
            KINDS.iter().filter(|(_, keys)| keys.contains(&key.as_str())).map(|(name, _)| *name).collect();
        return Err(loaded
            .complain("model", key, format!("means nothing to kind = \"{kind}\""))
            .hint(format!("it belongs to: {}", owners.join(", "))));
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
    if let Some(share) = loaded.config.model.max_unknown {
        within(loaded, "model", "max_unknown", share, 0.0..=1.0)?;
        if loaded.config.model.init_from.is_none() {
            return Err(loaded.complain("model", "max_unknown", "means nothing without model.init_from"));
        }
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
        if let Some(value) = value {
            within(loaded, "model", key, value, 1..=most)?;
        }
    }
    if kind == "ngram" {
        ngram(loaded)?;
    }
    if let Some(dropout) = model.dropout {
        within(loaded, "model", "dropout", dropout, 0.0..=0.99)?;
    }
    if let Some(theta) = model.rope_theta {
        within(loaded, "model", "rope_theta", theta, 1.0..=1e12)?;
        if model.position != Some(PositionKind::Rope) {
            return Err(loaded.complain("model", "rope_theta", "means nothing without position = \"rope\""));
        }
    }
    if let Some(cap) = model.softcap {
        within(loaded, "model", "softcap", cap, 0.0..=1e6)?;
    }
    if let Some(k) = model.k {
        within(loaded, "model", "k", k, 1e-12..=1e12)?;
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

/// What a counted model can be.
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
        _ => "smoothing",
    };
    let config = crate::models::ngram_config(model, None, None)?;
    config.check().map_err(|error| loaded.complain("model", key, format!("cannot be: {error}")))
}
