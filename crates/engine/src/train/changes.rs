//! Changes of settings and texts when a run goes on: which are possible, and their history.

use std::collections::BTreeMap;
use std::path::Path;

use surprisal_model::neural::Windows;
use surprisal_store::atomic;
use surprisal_store::checkpoint::{self, Checkpoint};
use surprisal_store::read::regular_text;
use surprisal_store::run_dir::RunWriter;
use toml::{Table, Value};

use super::divergence;
use crate::architecture;
use crate::config::{self, Config, Loaded, Override};
use crate::data::Dataset;
use crate::error::{Advice, Error, Result};
use crate::events::{Change, Changed, StopCriterion};
use crate::fingerprint::{RunFingerprint, text_hash};
use crate::runs;
use crate::saved;
use crate::wording::many;

/// The file in the run's folder, a line for every time that the run went on with changes.
const NAME: &str = "changes.jsonl";

/// Changes of a resumed run that no checkpoint has yet.
#[derive(Debug, Default)]
pub(crate) struct Pending(pub(crate) Vec<Changed>);

impl Pending {
    fn any(&self, keys: &[&str]) -> bool {
        self.0.iter().any(|changed| keys.iter().any(|key| changed.has(key)))
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the position in the training text has another meaning.
    pub(crate) fn move_text(&self) -> bool {
        self.any(&["train"])
    }

    /// Whether evaluations measure something else.
    pub(crate) fn move_measure(&self) -> bool {
        self.any(&["val", "eval.stride"])
    }
}

/// `overrides` of a run at `root` that goes on; `train.steps=+N` becomes N more than it has made.
///
/// # Errors
/// A checkpoint that cannot be read.
pub(super) fn absolute(root: &Path, overrides: &[Override]) -> Result<Vec<Override>> {
    let mut absolute = overrides.to_vec();
    for set in absolute.iter_mut().filter(|set| set.key() == "train.steps") {
        let more = set.set.split_once('=').and_then(|(_, value)| value.trim().strip_prefix('+'));
        if let Some(more) = more.and_then(|more| more.trim().parse::<usize>().ok()) {
            let newest = checkpoint::load_newest(&root.join("checkpoints"))?.checkpoint;
            let made = newest.map_or(0, |newest| newest.step as usize);
            set.set = format!("train.steps={}", made.saturating_add(more));
        }
    }
    Ok(absolute)
}

/// The keys with another value in `new`.
fn differences(old: &Config, new: &Config) -> Result<Vec<Change>> {
    let table = |config: &Config| {
        Table::try_from(config).map_err(|error| Error::failed(format!("cannot write the config: {error}")))
    };
    let flat = |table: Table| -> BTreeMap<String, Value> {
        let sections = table.into_iter().filter_map(|(name, section)| match section {
            Value::Table(keys) => Some((name, keys)),
            _ => None,
        });
        sections
            .flat_map(|(name, keys)| {
                keys.into_iter().map(move |(key, value)| (format!("{name}.{key}"), value))
            })
            .collect()
    };
    let (old, new) = (flat(table(old)?), flat(table(new)?));
    let shown = |value: Option<&Value>| value.map(Value::to_string).unwrap_or_default();
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let changes = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    Ok(changes
        .map(|key| Change { key: key.clone(), old: shown(old.get(key)), new: shown(new.get(key)) })
        .collect())
}

/// Why the checkpoints of a run mean nothing with another value of `key`, if so.
fn fixed(key: &str, old: &Config, new: &Config) -> Option<&'static str> {
    let has_turned = |of: fn(&Config) -> f64| (of(old) > 0.0) != (of(new) > 0.0);
    let follows = || old.model.neural().is_some_and(|neural| neural.windows() != Windows::Shuffled);
    match key {
        "model.dropout" | "model.max_unknown" | "data.train" | "data.val" | "data.token_cache" => None,
        "train.seed" => Some("it orders the batches that the run is in the middle of"),
        "train.block_size" => Some("its text is cut into windows of that length"),
        "train.batch_size" | "train.grad_accumulation" if follows() => {
            Some("its hidden state has a row for each window of a batch")
        }
        "optim.kind" => Some("its optimizer's state is of the other kind"),
        "optim.ema" if has_turned(|config| config.optim.ema) => Some("the mean is over all steps of the run"),
        "optim.momentum" if has_turned(|config| config.optim.momentum) => {
            Some("its optimizer's state is of the other kind")
        }
        _ => match key.split('.').next() {
            Some("model") => Some("its weights are of that architecture"),
            Some("tokenizer") => Some("its weights are of those tokens"),
            Some("data") => Some("it has read and split its texts by that"),
            _ => None,
        },
    }
}

/// The changes from the run's `own` settings to `new` ones.
///
/// # Errors
/// A setting that a run keeps, with the way out.
pub(super) fn of_settings(own: &Loaded, new: &Loaded, root: &Path) -> Result<Vec<Change>> {
    let changes = differences(&own.config, &new.config)?;
    for change in &changes {
        if let Some(why) = fixed(&change.key, &own.config, &new.config) {
            let said = new.override_as_written(&change.key).unwrap_or_else(|| change.to_string());
            return Err(Error::usage(format!("{said}: a run that goes on keeps its {}: {why}", change.key))
                .hint(Advice::NewRun(root.to_owned())));
        }
    }
    Ok(changes)
}

/// Refuses changes of a run that is counted, not trained in steps.
pub(super) fn refuse_counted(config: &Config, root: &Path) -> Error {
    Error::usage(format!(
        "a model of kind \"{}\" is counted at once, not trained step by step: there is nothing to go on with",
        config.model.kind()
    ))
    // A run that was stopped while it counted can be made whole.
    .hint(match runs::done(root) {
        Some(_) => Advice::CountAgain(root.to_owned()),
        None => Advice::ResumeRun(root.to_owned()),
    })
}

/// A run that goes on.
pub(super) struct Resumption<'a> {
    /// The settings that it had.
    pub(super) own: &'a Loaded,
    pub(super) changes: Vec<Change>,
    /// Whether the texts may be others than those of its checkpoint.
    pub(super) new_texts: bool,
}

impl Resumption<'_> {
    /// Checks that `from` is a checkpoint of this run, and records the changes; gives the length of
    /// metrics.jsonl at the checkpoint, and the changes since.
    ///
    /// # Errors
    /// A checkpoint of other settings or texts; changes with which there is no step to make.
    pub(super) fn record(
        mut self,
        from: Option<&Checkpoint>,
        folder: &RunWriter,
        loaded: &Loaded,
        data: &Dataset,
        identity: &RunFingerprint,
    ) -> Result<(Option<u64>, Pending)> {
        let step = from.map_or(0, |checkpoint| checkpoint.step);
        let mut history = read(folder.root())?;
        let mut offset = None;
        if let Some(checkpoint) = from {
            let (begun, metrics) = saved::origin(checkpoint)?;
            offset = Some(metrics);
            let own = identity.with_settings(&self.own.text)?;
            let pending = history.iter().filter(|changed| changed.step >= step);
            let known: Vec<&RunFingerprint> =
                pending.map(|changed| &changed.identity).rev().chain(&begun).collect();
            if let Some(&newest) = known.first()
                && !known.contains(&&own)
            {
                let same = known.iter().find(|known| self.new_texts && known.has_settings_of(&own));
                if same.is_none() {
                    own.check(newest)?;
                }
                self.changes.extend(texts(folder.root(), data));
            }
            // Changes that were written down, but came before a crash, are not the run's.
            let kept = history.iter().rposition(|changed| changed.identity == own);
            if begun.as_ref() == Some(&own) || kept.is_some() {
                let earlier = history.iter().take_while(|changed| changed.step < step).count();
                history.truncate(kept.map_or(earlier, |kept| kept + 1));
            }
        }
        if !self.changes.is_empty() {
            refuse_ended(from, loaded, data, folder.root())?;
            history.push(Changed {
                step,
                changes: self.changes,
                identity: identity.clone(),
                train_tokens: data.train.scored(),
                train_oov: data.train.oov,
                val_tokens: data.val.scored(),
                texts: [("train", &*data.train), ("val", &data.val)]
                    .map(|(part, text)| (part.to_owned(), text_hash(text)))
                    .into(),
            });
            // The model of the end that the run had would be taken for the one it is training.
            remove(std::fs::remove_dir_all(folder.model()))?;
            remove(std::fs::remove_file(folder.root().join(divergence::NAME)))?;
            let lines: Vec<String> = history.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
            atomic::write(folder.root().join(NAME), (lines.join("\n") + "\n").as_bytes())?;
            let heading = config::RESOLVED_HEADING;
            let text = config::resolved(&loaded.config)?;
            atomic::write(folder.config(), format!("{heading}\n\n{text}").as_bytes())?;
        }
        history.retain(|changed| changed.step >= step);
        Ok((offset, Pending(history)))
    }
}

fn remove(removed: std::io::Result<()>) -> Result<()> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::failed(format!("cannot remove the run's earlier end: {error}")))
        }
        _ => Ok(()),
    }
}

/// The history of the run at `root`.
fn read(root: &Path) -> Result<Vec<Changed>> {
    let text = regular_text(root.join(NAME)).unwrap_or_default();
    let parsed = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    parsed.map_err(|error| Error::failed(format!("{}: {error}", root.join(NAME).display())))
}

/// The texts of the run at `root` whose tokens have changed.
fn texts(root: &Path, data: &Dataset) -> Vec<Change> {
    let start = runs::start(root);
    let of = |part: &str, text| {
        let had = start[format!("{part}_tokens")].as_u64().unwrap_or(0);
        let is_same = start["texts"][part].as_str() == Some(&text_hash(text));
        let tokens = |count| many(count, "token");
        (!is_same).then(|| Change { key: part.to_owned(), old: tokens(had), new: tokens(text.scored()) })
    };
    of("train", &data.train).into_iter().chain(of("val", &data.val)).collect()
}

/// Refuses settings with which a run has no step left, and a finished run without a checkpoint.
fn refuse_ended(from: Option<&Checkpoint>, loaded: &Loaded, data: &Dataset, root: &Path) -> Result<()> {
    let Some(checkpoint) = from else {
        if runs::done(root).is_none() {
            return Ok(());
        }
        return Err(Error::usage("this run is finished and kept no checkpoint to go on from")
            .hint(Advice::NewRun(root.to_owned())));
    };
    let train = &loaded.config.train;
    let neural = architecture::neural_config(&loaded.config, data.tokenizer.vocab_size())?;
    let length = StopCriterion::new(train, &architecture::batches(&data.train, train, neural.windows())?);
    let (step, train_seconds) = saved::reached(checkpoint)?;
    if length.progress(step, train_seconds) < 1.0 {
        return Ok(());
    }
    let made = many(step as u64, "step");
    Err(Error::usage(format!("this run has made {made}, and these settings end it there"))
        .hint(Advice::MoreSteps))
}
