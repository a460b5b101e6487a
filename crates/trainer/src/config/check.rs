//! Refuses settings that cannot work, before any work is done, and fills in what depends on other settings.

use std::ops::RangeInclusive;

use surprisal_model::neural::PositionKind;
use surprisal_model::ngram::Smoothing;

use super::{Auto, Loaded, Shards, parse_duration};
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
        ],
    ),
];

/// Checks every value and fills in the defaults that depend on the kind of model and on the machine.
///
/// # Errors
/// The first value that cannot work, with its file and line (or override) and a hint.
pub fn check(loaded: &mut Loaded) -> Result<()> {
    model(loaded)?;
    data(loaded)?;
    loss(loaded)?;
    optim(loaded)?;
    train(loaded)?;
    rest(loaded)
}

/// `value` must lie in `range`.
fn within<T: PartialOrd + std::fmt::Display>(
    loaded: &Loaded,
    section: &str,
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<()> {
    // NaN is in no range.
    if range.contains(&value) {
        return Ok(());
    }
    let message = format!("is {value}, but must be from {} to {}", range.start(), range.end());
    Err(loaded.complain(section, key, message))
}

/// `value` must be one of `known`.
fn one_of(loaded: &Loaded, section: &str, key: &str, value: &str, known: &[&str]) -> Result<()> {
    if known.contains(&value) {
        return Ok(());
    }
    Err(loaded
        .complain(section, key, format!("is \"{value}\""))
        .hint(format!("one of: {}", known.join(", "))))
}

fn model(loaded: &mut Loaded) -> Result<()> {
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
        && let Some(key) =
            written.keys().find(|key| !["kind", "init_from", "dropout"].contains(&key.as_str()))
    {
        return Err(loaded
            .complain("model", key, "is what the folder of model.init_from says")
            .hint("with init_from, leave out everything but kind and dropout"));
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
        let down = n_embd / n_head * n_head;
        return Err(loaded
            .complain(
                "model",
                "n_embd",
                format!("is {n_embd}, which {n_head} heads (n_head) cannot share evenly"),
            )
            .hint(format!(
                "take n_embd = {} or another multiple of n_head",
                if down == 0 { n_head } else { down }
            )));
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

fn data(loaded: &Loaded) -> Result<()> {
    let config = &loaded.config;
    if config.data.val.is_empty() {
        within(loaded, "data", "val_fraction", config.data.val_fraction, 1e-6..=0.9)?;
    }
    within(loaded, "data", "train_fraction", config.data.train_fraction, 1e-6..=1.0)?;
    one_of(loaded, "tokenizer", "kind", &config.tokenizer.kind, &["byte", "char", "word", "bpe"])?;
    match (config.tokenizer.kind.as_str(), config.tokenizer.vocab_size) {
        ("bpe", Some(size)) => within(loaded, "tokenizer", "vocab_size", size, 260..=1 << 20),
        (_, None) => Ok(()),
        (kind, Some(_)) => Err(loaded
            .complain("tokenizer", "vocab_size", format!("means nothing to kind = \"{kind}\""))
            .hint("only bpe has a chosen size; the others take what the text has")),
    }
}

fn loss(loaded: &Loaded) -> Result<()> {
    let config = &loaded.config;
    within(loaded, "loss", "label_smoothing", config.loss.label_smoothing, 0.0..=1.0)?;
    within(loaded, "loss", "z_loss", config.loss.z_loss, 0.0..=1.0)?;
    within(loaded, "loss", "add_k", config.loss.add_k, 0.0..=1e12)?;
    within(loaded, "loss", "confidence_penalty", config.loss.confidence_penalty, 0.0..=100.0)?;
    within(loaded, "loss", "smooth_order", config.loss.smooth_order, 1..=16)?;
    one_of(
        loaded,
        "loss",
        "smooth_toward",
        &config.loss.smooth_toward,
        &["uniform", "unigram", "kneser_ney"],
    )?;
    if matches!(config.model.kind.as_str(), "ngram" | "uniform") && !config.loss.is_plain() {
        let parts = [
            ("label_smoothing", config.loss.label_smoothing),
            ("add_k", config.loss.add_k),
            ("confidence_penalty", config.loss.confidence_penalty),
            ("z_loss", config.loss.z_loss),
        ];
        let key = parts.iter().find(|(_, value)| *value != 0.0).map_or("label_smoothing", |(key, _)| key);
        return Err(loaded
            .complain("loss", key, "means nothing to a counted model")
            .hint("counts are smoothed by model.smoothing, e.g. \"add_k\""));
    }
    if config.loss.add_k > 0.0 && config.loss.label_smoothing > 0.0 {
        return Err(loaded
            .complain("loss", "add_k", "and loss.label_smoothing cannot both say how much to smooth")
            .hint("keep one of them"));
    }
    if config.loss.smooth_toward != "uniform" && config.loss.label_smoothing == 0.0 {
        return Err(loaded
            .complain("loss", "smooth_toward", "has nothing to move: loss.label_smoothing is 0")
            .hint("for example label_smoothing = 0.1"));
    }
    Ok(())
}

fn optim(loaded: &Loaded) -> Result<()> {
    let optim = &loaded.config.optim;
    one_of(loaded, "optim", "kind", &optim.kind, &["adamw", "sgd", "muon"])?;
    one_of(loaded, "optim", "schedule", &optim.schedule, &["constant", "cosine", "linear", "wsd"])?;
    within(loaded, "optim", "lr", optim.lr, 1e-12..=1e9)?;
    within(loaded, "optim", "min_lr", optim.min_lr, 0.0..=optim.lr)?;
    within(loaded, "optim", "weight_decay", optim.weight_decay, 0.0..=1e6)?;
    within(loaded, "optim", "l2", optim.l2, 0.0..=1e6)?;
    within(loaded, "optim", "eps", optim.eps, 1e-20..=1.0)?;
    within(loaded, "optim", "grad_clip", optim.grad_clip, 0.0..=1e9)?;
    within(loaded, "optim", "cooldown", optim.cooldown, 1e-6..=1.0)?;
    within(loaded, "optim", "momentum", optim.momentum, 0.0..=0.999_999_9)?;
    within(loaded, "optim", "muon_lr", optim.muon_lr, 1e-12..=1e9)?;
    within(loaded, "optim", "ema", optim.ema, 0.0..=0.999_999_9)?;
    if optim.kind == "muon" && loaded.config.model.kind != "transformer" {
        return Err(loaded
            .complain(
                "optim",
                "kind",
                format!("muon has no hidden matrices in a {}", loaded.config.model.kind),
            )
            .hint("take adamw"));
    }
    if optim.skip_spikes != 0.0 {
        // At 1 every second update would be one.
        within(loaded, "optim", "skip_spikes", optim.skip_spikes, 1.01..=1e9)?;
    }
    for beta in optim.betas {
        within(loaded, "optim", "betas", beta, 0.0..=0.999_999_9)?;
    }
    Ok(())
}

fn train(loaded: &mut Loaded) -> Result<()> {
    let train = loaded.config.train.clone();
    let lengths = [
        ("epochs", train.epochs.is_some()),
        ("steps", train.steps.is_some()),
        ("budget", train.budget.is_some()),
    ];
    let given: Vec<&str> = lengths.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    if given.len() > 1 {
        return Err(loaded
            .complain("train", given[1], format!("and train.{} cannot both say how long to train", given[0]))
            .hint("keep one of epochs, steps, budget"));
    }
    if given.is_empty() {
        loaded.config.train.epochs = Some(1.0);
    }
    if let Some(epochs) = train.epochs {
        within(loaded, "train", "epochs", epochs, 1e-6..=1e9)?;
    }
    if let Some(steps) = train.steps {
        within(loaded, "train", "steps", steps, 1..=1 << 40)?;
    }
    if let Some(budget) = &train.budget
        && parse_duration(budget).is_none()
    {
        return Err(loaded
            .complain("train", "budget", format!("is \"{budget}\", which is no amount of time"))
            .hint("for example 90s, 3min or 1h30min"));
    }
    within(loaded, "train", "batch_size", train.batch_size, 1..=1 << 20)?;
    within(loaded, "train", "grad_accumulation", train.grad_accumulation, 1..=1 << 20)?;
    within(loaded, "train", "block_size", train.block_size, 1..=1 << 20)?;
    ramp(loaded)?;
    let train = &loaded.config.train;
    within(loaded, "train", "threads", train.threads, 0..=1024)?;
    one_of(loaded, "train", "select", &train.select, &["best", "last"])?;
    one_of(loaded, "train", "precision", &train.precision, &["f32", "bf16"])?;
    let shards = match train.shards {
        Shards::Fixed(shards) => {
            within(loaded, "train", "shards", shards, 1..=train.batch_size)?;
            shards
        }
        Shards::Auto(Auto::Auto) => cores().min(train.batch_size),
    };
    loaded.config.train.shards = Shards::Fixed(shards);
    Ok(())
}

/// Batches and windows that grow.
fn ramp(loaded: &Loaded) -> Result<()> {
    let train = &loaded.config.train;
    within(loaded, "train", "ramp_steps", train.ramp_steps, 0..=1 << 40)?;
    for (key, start, size) in [
        ("batch_start", train.batch_start, train.batch_size),
        ("block_start", train.block_start, train.block_size),
    ] {
        if let Some(start) = start {
            within(loaded, "train", key, start, 1..=size)?;
            if train.ramp_steps == 0 {
                return Err(loaded
                    .complain("train", key, "has no steps to grow in")
                    .hint("say how many with train.ramp_steps"));
            }
        }
    }
    Ok(())
}

fn rest(loaded: &mut Loaded) -> Result<()> {
    let config = &mut loaded.config;
    if config.eval.stride == 0 {
        config.eval.stride = config.train.block_size.div_ceil(2);
    }
    let config = &loaded.config;
    within(loaded, "eval", "stride", config.eval.stride, 1..=config.train.block_size)?;
    within(loaded, "sample", "temperature", config.sample.temperature, 0.0..=1e6)?;
    within(loaded, "sample", "tokens", config.sample.tokens, 0..=1 << 30)?;
    within(loaded, "checkpoint", "keep", config.checkpoint.keep, 1..=1 << 20)?;
    within(loaded, "checkpoint", "every_minutes", config.checkpoint.every_minutes, 0.0..=1e9)
}

/// The machine's cores, as the operating system lends them to this process.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    fn verdict(set: &[&str]) -> Result<Loaded> {
        let mut loaded = load(None, &set.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        check(&mut loaded).map(|()| loaded)
    }

    #[test]
    fn the_defaults_are_fine_and_become_definite() {
        let config = verdict(&[]).unwrap().config;
        assert_eq!(config.model.n_layer, Some(4));
        assert_eq!(config.eval.stride, 32);
        assert!(matches!(config.train.shards, Shards::Fixed(n) if n >= 1));
        assert_eq!(config.train.epochs, Some(1.0));
    }

    #[test]
    fn impossible_values_are_refused_with_a_reason() {
        for (set, part) in [
            (&["model.n_embd=130", "model.n_head=4"][..], "heads"),
            (&["model.kind=transfromer"][..], "transfromer"),
            (&["model.kind=mlp", "model.n_layer=3"][..], "means nothing"),
            (&["model.kind=ngram", "loss.label_smoothing=0.1"][..], "counted"),
            (&["loss.label_smoothing=1.5"][..], "from 0 to 1"),
            (&["loss.label_smoothing=nan"][..], "NaN"),
            (&["loss.smooth_toward=bigram"][..], "bigram"),
            (&["loss.smooth_toward=unigram"][..], "nothing to move"),
            (&["loss.add_k=1", "loss.label_smoothing=0.1"][..], "both"),
            (&["model.kind=ngram", "loss.add_k=1"][..], "loss.add_k means nothing"),
            (&["optim.lr=-1"][..], "optim.lr"),
            (&["optim.min_lr=1"][..], "optim.min_lr"),
            (&["optim.schedule=cosign"][..], "cosign"),
            (&["train.steps=10", "train.epochs=1"][..], "both"),
            (&["train.steps=0"][..], "train.steps"),
            (&["train.budget=soon"][..], "soon"),
            (&["train.batch_size=4", "train.shards=5"][..], "train.shards"),
            (&["tokenizer.vocab_size=300"][..], "means nothing"),
            (&["tokenizer.kind=bpe", "tokenizer.vocab_size=20"][..], "vocab_size"),
            (&["eval.stride=65"][..], "eval.stride"),
            (&["data.val_fraction=0"][..], "val_fraction"),
            (&["model.n_kv_head=3"][..], "n_kv_head"),
            (&["model.norm=batch"][..], "batch"),
            (&["model.rope_theta=100"][..], "rope"),
            (&["model.position=rope", "model.n_embd=12", "model.n_head=4"][..], "pairs"),
            (&["model.softcap=-1"][..], "softcap"),
            (&["optim.ema=1"][..], "optim.ema"),
            (&["optim.cooldown=0"][..], "cooldown"),
            (&["optim.kind=muon", "model.kind=mlp"][..], "muon"),
            (&["train.precision=f16"][..], "f16"),
            (&["model.init_from=there", "model.n_layer=3"][..], "n_layer"),
        ] {
            let failure = verdict(set).unwrap_err();
            assert_eq!(failure.code(), 2, "{failure}");
            assert!(failure.message.contains(part), "{set:?}: {failure}");
        }
    }
}
