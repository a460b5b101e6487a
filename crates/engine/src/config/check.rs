//! Checks of settings before any work, and defaults that depend on other settings.

use std::ops::RangeInclusive;
use std::path::PathBuf;

mod model;

use surprisal_loss::ObjectiveError;
use surprisal_model::neural::Windows;
use surprisal_model::ngram::Smoothing;
use surprisal_source::Source;
use surprisal_text::{MinCount, Split, TextMode, WordVocabulary, is_standard_input};

use super::{Loaded, OptimKind, Precision, Shards, Tokenizer, TokenizerType, words};
use crate::error::{Error, Result};

/// Checks every value and sets the defaults that depend on the kind of model and on the machine.
///
/// # Errors
/// The first invalid value, with its file and line (or override) and a hint.
pub fn check(loaded: &mut Loaded) -> Result<()> {
    model::model(loaded)?;
    mixture(loaded)?;
    data(loaded)?;
    loss(loaded)?;
    optim(loaded)?;
    train(loaded)?;
    rest(loaded)
}

/// Checks that the texts of `data.key`, "train" or "val", exist.
///
/// # Errors
/// The first missing text, with its file and line (or override).
pub fn texts(loaded: &Loaded, key: &str) -> Result<()> {
    let data = &loaded.config.data;
    let paths = if key == "val" { &data.val } else { &data.train };
    let missing = |path: &PathBuf| !path.exists() && !is_standard_input(path);
    let Some(entry) = paths.iter().position(missing) else { return Ok(()) };
    let here = std::env::current_dir().map_or_else(|_| ".".into(), |here| here.display().to_string());
    let message = format!("names {}, which does not exist", paths[entry].display());
    Err(loaded
        .error_at_entry("data", key, Some(entry), &message)
        .hint(format!("paths are relative to the current folder, {here}")))
}

fn within<T: PartialOrd + std::fmt::Display>(
    loaded: &Loaded,
    section: &str,
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<()> {
    // No range contains NaN.
    if range.contains(&value) {
        return Ok(());
    }
    let message = format!("is {value}, but must be from {} to {}", range.start(), range.end());
    Err(loaded.error_at(section, key, message))
}

/// Adds the key whose value is the upper limit.
fn at_most(checked: Result<()>, most: &str) -> Result<()> {
    checked.map_err(|failure| failure.hint(format!("it can be at most as large as {most}")))
}

fn one_of(loaded: &Loaded, section: &str, key: &str, value: &str, known: &[&str]) -> Result<()> {
    if known.contains(&value) {
        return Ok(());
    }
    Err(loaded.error_at(section, key, format!("is \"{value}\"")).hint(words::one_of(value, known)))
}

fn data(loaded: &mut Loaded) -> Result<()> {
    let config = &loaded.config;
    if config.data.val.is_empty() {
        within(loaded, "data", "val_fraction", config.data.val_fraction, 1e-6..=0.9)?;
    }
    if !config.data.val.is_empty() && config.data.split != Split::Tail {
        return Err(loaded
            .error_at("data", "split", "has no effect beside data.val")
            .hint("keep one of them"));
    }
    within(loaded, "data", "reader", config.data.reader, 1..=2)?;
    within(loaded, "data", "train_fraction", config.data.train_fraction, 1e-6..=1.0)?;
    one_of(loaded, "data", "embedded", &config.data.embedded, Source::names())?;
    let is_file = config.tokenizer.kind == TokenizerType::File;
    if config.tokenizer.file.is_some() != is_file {
        let message = if is_file {
            "is \"file\", and tokenizer.file does not name one".to_owned()
        } else {
            format!("is \"{}\", and tokenizer.file says what a token is, too", config.tokenizer.kind().name())
        };
        return Err(loaded
            .error_at("tokenizer", "kind", message)
            .hint("keep one of them: a file needs no kind"));
    }
    let tokenizer = &config.tokenizer;
    let kind = tokenizer.kind();
    let refused = match tokenizer.kind {
        TokenizerType::Word => {
            let vocabulary = WordVocabulary { vocab_size: tokenizer.vocab_size, ..WordVocabulary::default() };
            vocabulary.check(config.data.unit.unwrap_or(TextMode::Stream)).map_err(|error| {
                loaded.error_at("tokenizer", "vocab_size", format!("is too small: {error}"))
            })?;
            within(loaded, "tokenizer", "min_count", tokenizer.min_count.unwrap_or(1), 1..=1 << 40)?;
            // Numbers to compare with another program's need all words, and so does a run of an
            // earlier version.
            let is_of_run = config.data.reader == 1 && loaded.override_as_written("tokenizer.kind").is_none();
            let is_compatible = config.model.ngram(None, None).is_some_and(|ngram| ngram.compat.is_some());
            if tokenizer.min_count() == MinCount::Auto && (is_of_run || is_compatible) {
                loaded.config.tokenizer.min_count = Some(1);
            }
            None
        }
        TokenizerType::Bpe => {
            if let Some(size) = tokenizer.vocab_size {
                within(loaded, "tokenizer", "vocab_size", size, 260..=1 << 20)?;
            }
            of_words(tokenizer)
        }
        TokenizerType::Byte | TokenizerType::Char | TokenizerType::File => {
            tokenizer.vocab_size.map(|_| "vocab_size").or_else(|| of_words(tokenizer))
        }
    };
    let Some(key) = refused else { return Ok(()) };
    let hint = if key == "vocab_size" {
        "only bpe and word have a chosen size; for the others it follows from the text or the file"
    } else {
        "it is for words: tokenizer.kind = \"word\""
    };
    Err(loaded.error_at("tokenizer", key, format!("means nothing to kind = \"{kind}\"")).hint(hint))
}

/// The first setting that only word tokenizers have.
fn of_words(tokenizer: &Tokenizer) -> Option<&'static str> {
    tokenizer.min_count.map(|_| "min_count").or_else(|| tokenizer.vocab.as_ref().map(|_| "vocab"))
}

fn mixture(loaded: &mut Loaded) -> Result<()> {
    let Some(mixture) = &loaded.config.mixture else { return Ok(()) };
    let ngram = mixture.ngram(loaded.config.tokenizer.kind, None, None);
    if loaded.config.model.is_counted() {
        let kind = loaded.config.model.kind();
        let message = format!("[mixture] means nothing beside kind = \"{kind}\"");
        return Err(Error::usage(message)
            .hint("it adds an n-gram model to a network; n-gram models are mixed with each other by `mix`"));
    }
    within(loaded, "mixture", "order", ngram.order, 1..=16)?;
    within(loaded, "mixture", "heldout", mixture.heldout, 1e-4..=0.5)?;
    if ngram.smoothing == Smoothing::StupidBackoff {
        let message = "is \"stupid_backoff\", whose scores do not sum to one";
        return Err(loaded.error_at("mixture", "smoothing", message).hint("take another smoothing"));
    }
    let checked = ngram.check();
    checked.map_err(|error| loaded.error_at("mixture", "smoothing", format!("cannot be: {error}")))?;
    // A run's config shows it.
    loaded.config.mixture.iter_mut().for_each(|mixture| mixture.order = Some(ngram.order));
    Ok(())
}

fn loss(loaded: &Loaded) -> Result<()> {
    let loss = &loaded.config.loss;
    loss.check().map_err(|error| {
        let complaint = loaded.error_at("loss", error.key(), error.to_string());
        match error {
            ObjectiveError::Exclusive { .. } => complaint.hint("keep one of them"),
            ObjectiveError::NoEffect { needs, .. } => complaint.hint(format!("for example {needs} = 0.1")),
            ObjectiveError::Range { .. } => complaint,
        }
    })?;
    if let Some(key) = loss.first_change().filter(|_| loaded.config.model.is_counted()) {
        return Err(loaded
            .error_at("loss", key, "means nothing to a count-based model")
            .hint("counts are smoothed by model.smoothing, e.g. \"add_k\""));
    }
    Ok(())
}

fn optim(loaded: &Loaded) -> Result<()> {
    let optim = &loaded.config.optim;
    within(loaded, "optim", "lr", optim.lr, 1e-12..=1e9)?;
    at_most(within(loaded, "optim", "min_lr", optim.min_lr, 0.0..=optim.lr), "optim.lr")?;
    within(loaded, "optim", "weight_decay", optim.weight_decay, 0.0..=1e6)?;
    within(loaded, "optim", "l2", optim.l2, 0.0..=1e6)?;
    within(loaded, "optim", "eps", optim.eps, 1e-20..=1.0)?;
    within(loaded, "optim", "grad_clip", optim.grad_clip, 0.0..=1e9)?;
    within(loaded, "optim", "cooldown", optim.cooldown, 1e-6..=1.0)?;
    within(loaded, "optim", "momentum", optim.momentum, 0.0..=0.999_999_9)?;
    within(loaded, "optim", "muon_lr", optim.muon_lr, 1e-12..=1e9)?;
    within(loaded, "optim", "ema", optim.ema, 0.0..=0.999_999_9)?;
    if optim.kind == OptimKind::Muon && !loaded.config.model.has_hidden_matrices() {
        return Err(loaded
            .error_at(
                "optim",
                "kind",
                format!("muon has no hidden matrices in a {}", loaded.config.model.kind()),
            )
            .hint("take adamw"));
    }
    if optim.skip_spikes != 0.0 {
        // At 1 every second update would be a spike.
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
            .error_at("train", given[1], format!("and train.{} cannot both say how long to train", given[0]))
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
    within(loaded, "train", "batch_size", train.batch_size, 1..=1 << 20)?;
    within(loaded, "train", "grad_accumulation", train.grad_accumulation, 1..=1 << 20)?;
    within(loaded, "train", "block_size", train.block_size, 1..=1 << 20)?;
    ramp(loaded)?;
    let train = &loaded.config.train;
    if train.threads != 0 {
        within(loaded, "train", "threads", train.threads, THREADS)?;
    }
    let shards = match train.shards {
        Shards::Fixed(shards) => {
            at_most(within(loaded, "train", "shards", shards, 1..=train.batch_size), "train.batch_size")?;
            shards
        }
        Shards::Auto => cores().min(train.batch_size),
    };
    loaded.config.train.shards = Shards::Fixed(shards);
    if loaded.config.train.precision == Precision::Auto {
        let fast = loaded.config.model.transformer().is_some() && surprisal_ops::Precision::Bf16.is_fast();
        loaded.config.train.precision = if fast { Precision::Bf16 } else { Precision::F32 };
    }
    Ok(())
}

/// Checks batches and windows that grow.
fn ramp(loaded: &Loaded) -> Result<()> {
    let train = &loaded.config.train;
    within(loaded, "train", "ramp_steps", train.ramp_steps, 0..=1 << 40)?;
    for (key, start, size) in [
        ("batch_start", train.batch_start, train.batch_size),
        ("block_start", train.block_start, train.block_size),
    ] {
        if let Some(start) = start {
            if loaded.config.model.neural().is_some_and(|neural| neural.windows() != Windows::Shuffled) {
                let message = format!("means nothing to a {}", loaded.config.model.kind());
                return Err(loaded
                    .error_at("train", key, message)
                    .hint("its windows follow each other, so they keep their size"));
            }
            let most = if key == "batch_start" { "train.batch_size" } else { "train.block_size" };
            at_most(within(loaded, "train", key, start, 1..=size), most)?;
            if train.ramp_steps == 0 {
                return Err(loaded
                    .error_at("train", key, "needs steps to grow")
                    .hint("set their number with train.ramp_steps"));
            }
        }
    }
    Ok(())
}

fn rest(loaded: &mut Loaded) -> Result<()> {
    let block_size = loaded.config.train.block_size;
    let stride = *loaded.config.eval.stride.get_or_insert(loaded.config.train.half_block());
    at_most(within(loaded, "eval", "stride", stride, 1..=block_size), "train.block_size")?;
    let config = &loaded.config;
    within(loaded, "sample", "temperature", config.sample.temperature, 0.0..=1e6)?;
    within(loaded, "sample", "tokens", config.sample.tokens, 0..=1 << 30)?;
    within(loaded, "checkpoint", "keep", config.checkpoint.keep, 1..=1 << 20)?;
    within(loaded, "checkpoint", "every_minutes", config.checkpoint.every_minutes, 0.0..=1e9)
}

/// Numbers of threads, and of runs that a comparison may make at a time.
pub(crate) const THREADS: RangeInclusive<usize> = 1..=1024;

/// `requested`, or the number of cores by default. `what` is the setting's name in errors.
///
/// # Errors
/// A number out of range.
pub fn threads(what: &str, requested: Option<usize>) -> Result<usize> {
    match requested {
        Some(asked) if !THREADS.contains(&asked) => Err(Error::usage(format!(
            "{what} is {asked}, but must be from {} to {}",
            THREADS.start(),
            THREADS.end()
        ))),
        asked => Ok(asked.unwrap_or_else(cores)),
    }
}

/// Number of cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(*THREADS.end())
}

#[cfg(test)]
mod tests {
    use super::super::{load, resolved};
    use super::*;

    fn verdict(set: &[&str]) -> Result<Loaded> {
        let mut loaded = load(None, &set.iter().map(super::super::Override::from).collect::<Vec<_>>())?;
        check(&mut loaded).map(|()| loaded)
    }

    #[test]
    fn the_defaults_are_fine_and_become_definite() {
        let config = verdict(&[]).unwrap().config;
        assert_eq!(config.model.transformer().map(|it| it.n_layer), Some(4));
        assert!(resolved(&config).unwrap().contains("n_layer = 4"));
        assert_eq!(config.eval.stride, Some(32));
        assert!(matches!(config.train.shards, Shards::Fixed(n) if n >= 1));
        assert_eq!(config.train.epochs, Some(1.0));
    }

    #[test]
    fn impossible_values_are_refused_with_a_reason() {
        for (set, part) in [
            (&["model.n_embd=130", "model.n_head=4"][..], "heads"),
            (&["model.kind=transfromer"][..], "transfromer"),
            (&["model.kind=mlp", "model.n_layer=3"][..], "means nothing"),
            (&["model.kind=ngram", "loss.label_smoothing=0.1"][..], "count-based"),
            (&["loss.label_smoothing=1.5"][..], "from 0 to 1"),
            (&["loss.label_smoothing=nan"][..], "NaN"),
            (&["loss.smooth_toward=bigram"][..], "bigram"),
            (&["loss.smooth_toward=unigram"][..], "no effect"),
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
            (&["tokenizer.kind=word", "tokenizer.vocab_size=1"][..], "no room for words beside <unk>"),
            (&["tokenizer.kind=word", "tokenizer.min_count=0"][..], "from 1 to"),
            (&["tokenizer.min_count=2"][..], "means nothing"),
            (&["tokenizer.kind=bpe", "tokenizer.vocab=words.txt"][..], "means nothing"),
            (&["eval.stride=65"][..], "eval.stride"),
            (&["data.val_fraction=0"][..], "val_fraction"),
            (&["model.n_kv_head=3"][..], "n_kv_head"),
            (&["model.norm=batch"][..], "batch"),
            (&["model.rope_theta=100"][..], "rope"),
            (&["model.position=rope", "model.n_embd=12", "model.n_head=4"][..], "even head width"),
            (&["model.softcap=-1"][..], "softcap"),
            (
                &["model.kind=lstm", "train.batch_start=2", "train.ramp_steps=9"][..],
                "means nothing to a lstm",
            ),
            (&["model.kind=gru", "model.n_head=2"][..], "n_head"),
            (&["model.vocab_size=9"][..], "vocab_size"),
            (&["optim.ema=1"][..], "optim.ema"),
            (&["optim.cooldown=0"][..], "cooldown"),
            (&["optim.kind=muon", "model.kind=mlp"][..], "muon"),
            (&["train.precision=f16"][..], "f16"),
            (&["model.init_from=there", "model.n_layer=3"][..], "n_layer"),
        ] {
            let failure = verdict(set).unwrap_err();
            assert_eq!(failure.kind, crate::ExitKind::Usage, "{failure}");
            assert!(failure.message.contains(part), "{set:?}: {failure}");
        }
    }
}
