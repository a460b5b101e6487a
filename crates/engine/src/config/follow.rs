//! Overrides replace settings of the file, and settings that depend on those follow.

use surprisal_model::neural::PositionKind;
use toml::{Table, Value};

use super::keys::{self, Override, convert, insert};
use super::{Config, OptimKind, TokenizerType};
use crate::error::{Error, Result};

/// Keys of `[train]` for the length of a run, of which only one can be set.
pub const LENGTHS: [&str; 3] = ["epochs", "steps", "budget"];

type When = fn(&Config) -> bool;

/// Whether the n-gram model is not possible.
fn is_no_ngram(config: &Config) -> bool {
    config.model.ngram(None, None).is_some_and(|ngram| ngram.check().is_err())
}

/// An override, the keys or section of the file that give way to it, and the condition.
const GIVES_WAY: [(&str, &[&str], When); 17] = [
    ("data.val", &["data.split", "data.split_seed"], |c| !c.data.val.is_empty()),
    ("train.epochs", &["train.steps", "train.budget"], |_| true),
    ("train.steps", &["train.epochs", "train.budget"], |_| true),
    ("train.budget", &["train.epochs", "train.steps"], |_| true),
    ("train.ramp_steps", &["train.batch_start", "train.block_start"], |c| c.train.ramp_steps == 0),
    ("tokenizer.kind", &["tokenizer.vocab_size", "tokenizer.min_count", "tokenizer.vocab"], |_| true),
    ("tokenizer.kind", &["tokenizer.file"], |c| c.tokenizer.kind != TokenizerType::File),
    (
        "tokenizer.file",
        &["tokenizer.kind", "tokenizer.vocab_size", "tokenizer.min_count", "tokenizer.vocab"],
        |_| true,
    ),
    ("loss.add_k", &["loss.label_smoothing", "loss.smooth_toward"], |c| c.loss.add_k > 0.0),
    ("loss.label_smoothing", &["loss.add_k"], |c| c.loss.label_smoothing > 0.0),
    ("loss.label_smoothing", &["loss.smooth_toward"], |c| c.loss.label_smoothing == 0.0),
    ("model.kind", &["loss"], |c| c.model.is_counted()),
    ("model.kind", &["optim.kind"], |c| !c.model.has_hidden_matrices() && c.optim.kind == OptimKind::Muon),
    ("model.position", &["model.rope_theta"], |c| {
        c.model.transformer().is_none_or(|t| t.position != PositionKind::Rope)
    }),
    ("model.n_head", &["model.n_kv_head"], |c| {
        c.model.transformer().is_some_and(|t| !t.n_head.is_multiple_of(t.kv_heads()))
    }),
    ("model.smoothing", &["model.prune", "model.prune_entropy"], is_no_ngram),
    ("model.order", &["model.prune", "model.alpha"], is_no_ngram),
];

/// Pairs of a limit and a setting below it, which shrinks in proportion when the limit is
/// overridden.
const AT_MOST: [(&str, &str); 6] = [
    ("train.block_size", "eval.stride"),
    ("train.block_size", "train.block_start"),
    ("train.batch_size", "train.batch_start"),
    ("train.batch_size", "train.shards"),
    ("train.steps", "train.ramp_steps"),
    ("optim.lr", "optim.min_lr"),
];

fn table_of(config: &Config) -> Result<Table> {
    Table::try_from(config).map_err(|error| Error::usage(error.to_string()))
}

fn get<'a>(table: &'a Table, name: &str) -> Option<&'a Value> {
    let (section, key) = name.split_once('.')?;
    table.get(section)?.get(key)
}

fn number(table: &Table, name: &str) -> Option<f64> {
    let value = get(table, name)?;
    value.as_float().or_else(|| value.as_integer().map(|value| value as f64))
}

/// Adapts settings of `file` and defaults to `overrides`, which are in `table` already; gives the
/// config and notices about changes.
///
/// # Errors
/// Two overrides that contradict each other.
pub(super) fn follow(
    file: &Table,
    table: &mut Table,
    overrides: &[Override],
) -> Result<(Config, Vec<String>)> {
    let said = |name: &str| keys::as_written(overrides, name);
    let lengths: Vec<String> = LENGTHS.iter().filter_map(|key| said(&format!("train.{key}"))).collect();
    if let [first, second, ..] = lengths.as_slice() {
        return Err(Error::usage(format!("{first} and {second} cannot both say how long to train"))
            .hint("keep one of epochs, steps, budget"));
    }
    let mut notices = Vec::new();
    let mut config = convert(table)?;
    let defaults = table_of(&Config::default())?;
    for (by, names, when) in GIVES_WAY {
        // What repeats the file changes nothing.
        let is_new = get(file, by) != get(table, by);
        let Some(by) = said(by).filter(|_| is_new && when(&config)) else { continue };
        let keys_of = |section: &str| match table.get(section).and_then(Value::as_table) {
            Some(keys) => keys.keys().map(|key| format!("{section}.{key}")).collect(),
            None => vec![section.to_owned()],
        };
        let names: Vec<String> = names.iter().flat_map(|name| keys_of(name)).collect();
        for name in names.iter().filter(|name| said(name).is_none()) {
            let Some((section, key)) = name.split_once('.') else { continue };
            let section = table.get_mut(section).and_then(Value::as_table_mut);
            let Some(old) = section.and_then(|section| section.remove(key)) else { continue };
            if get(&defaults, name) != Some(&old) {
                notices.push(format!("{name} = {old} gives way to {by}"));
            }
        }
        config = convert(table)?;
    }
    let of_file = convert(file)?;
    if let (Some(by), None) = (said("train.block_size"), config.eval.stride) {
        let (stride, old) = (config.train.half_block(), of_file.train.half_block());
        if stride != old && !config.model.is_counted() {
            notices.push(format!("eval.stride = {stride} follows {by}; it was {old}"));
        }
    }
    let before = table_of(&of_file)?;
    for (most, name) in AT_MOST {
        let rank = |name| if said(name).is_some() { 2 } else { u8::from(get(file, name).is_some()) };
        let now = table_of(&config)?;
        let (Some(limit), Some(value)) = (number(&now, most), number(&now, name)) else { continue };
        if rank(most) <= rank(name) || value <= limit {
            continue;
        }
        let of = if rank(most) == 2 { &before } else { &defaults };
        let share = number(of, most).map_or(0.1, |most| (value / most).min(1.0));
        let follows = match get(&now, name) {
            Some(Value::Integer(_)) => Value::Integer(((limit * share) as i64).max(1)),
            // 1e-6, not 0.0000010000000000000002.
            _ => Value::Float(format!("{:.6e}", limit * share).parse().unwrap_or(limit * share)),
        };
        let by = said(most).unwrap_or_else(|| most.to_owned());
        notices.push(format!("{name} = {follows} follows {by}; it was {value}"));
        if let Some((section, key)) = name.split_once('.') {
            insert(table, section, key, follows);
        }
        config = convert(table)?;
    }
    Ok((config, notices))
}
