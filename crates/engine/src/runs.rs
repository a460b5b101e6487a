//! Existing runs: their state, results and samples, and whether their texts have changed.

use std::path::{Path, PathBuf};

use serde_json::Value;
use surprisal_formats::model_dir::{StoredModel, Weights};
use surprisal_store::read::{read_regular, regular_text};
use surprisal_store::{checkpoint as checkpoints, run_dir::RunFolder};
use surprisal_text::{TokenText, Tokenizer, is_pipe};

use crate::config::{self, Config};
use crate::error::{Advice, Error, Result};
use crate::events::{Context, Note};
use crate::fingerprint::{RunFingerprint, text_hash};
use crate::kind::{self, Kind};
use crate::saved::{self, Unfinished};
use crate::wording::thousands;

fn events(root: &Path) -> String {
    regular_text(root.join("metrics.jsonl")).unwrap_or_default()
}

/// The last sample of the run at `root`.
pub(crate) fn sample(root: &Path) -> Option<String> {
    let events = events(root);
    let mut events = events.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let sample = events.find(|event| event["event"] == "sample")?;
    sample["text"].as_str().map(str::to_owned)
}

/// The start event of the run at `root`, with the texts that it went on with last; null where there
/// is none.
pub fn start(root: &Path) -> Value {
    let events = events(root);
    let mut start: Value =
        serde_json::from_str(events.lines().next().unwrap_or_default()).unwrap_or_default();
    let mut changed = events.lines().rev().filter(|line| line.contains(r#""event":"changed""#));
    let changed = changed.next().and_then(|line| serde_json::from_str(line).ok());
    if let (Some(start), Some(Value::Object(changed))) = (start.as_object_mut(), changed) {
        let facts = changed.into_iter().filter(|(key, _)| key != "event" && key != "step");
        start.extend(facts);
    }
    start
}

/// The result event of the run at `root`, if it is finished.
pub fn result(root: &Path) -> Option<Value> {
    let last: Value = serde_json::from_str(events(root).lines().last()?).ok()?;
    (last["event"] == "result" && root.join("model/manifest.json").is_file()).then_some(last)
}

/// [`result`], if the model is complete, too.
pub fn done(root: &Path) -> Option<Value> {
    result(root).filter(|_| kind::is_whole_model(&root.join("model")))
}

/// Refuses to replace a complete model, unless its run has the same settings and texts: then the
/// new one is the same to the bit.
///
/// # Errors
/// A complete model at `root` that is, or may be, of another `identity`.
pub(crate) fn refuse_whole(root: &Path, identity: &RunFingerprint) -> Result<()> {
    let begun = serde_json::from_value::<RunFingerprint>(start(root)["identity"].clone()).ok();
    if begun.as_ref() == Some(identity) || !kind::is_whole_model(&root.join("model")) {
        return Ok(());
    }
    let message = format!(
        "{} has a complete model and no checkpoint, and metrics.jsonl does not show that it is of these settings and texts",
        root.display()
    );
    Err(Error::failed(message).hint(Advice::Elsewhere(
        "restore metrics.jsonl, config.toml and the texts; or train into another folder",
        "",
    )))
}

/// State of the run in `folder`: a keyword, and the same in words that continue "this run".
pub fn state(folder: &RunFolder) -> (&'static str, String) {
    let diverged = || {
        let text = regular_text(folder.root().join("diverged.json")).ok()?;
        serde_json::from_str::<Value>(&text).ok()?["step"].as_u64()
    };
    if result(folder.root()).is_some() {
        ("finished", "is finished".into())
    } else if let Some(process) = folder.writer() {
        ("running", format!("is still being written to by {process}"))
    } else if let Some(step) = diverged() {
        ("diverged", format!("diverged at step {}", thousands(step)))
    } else {
        ("stopped", "is not finished".into())
    }
}

/// Advice for the diverged run at `root`: a lower learning rate.
pub(crate) fn tamer(root: &Path, config: &Config) -> Advice {
    Advice::Tamer { run: root.to_owned(), lr: config.optim.lr / 10.0 }
}

/// The folder of the run at `root`.
///
/// # Errors
/// A path of anything else.
pub fn open(root: &Path) -> Result<RunFolder> {
    let kind = Kind::detect(root)?;
    let advice = match kind {
        Kind::Run => return Ok(RunFolder::open(root)?),
        Kind::Config | Kind::Comparison | Kind::Damaged(_) | Kind::Other(..) => kind.words().1,
        _ => Some("give the folder that training wrote".into()),
    };
    let message = format!("`{}` is not a run, but {}", root.display(), kind.words().0);
    Err(Error { advice, ..Error::failed(message) })
}

/// The best weights so far of the run at `path`, or the weights of the checkpoint there, with a
/// note.
pub(crate) fn unfinished(
    path: &Path,
    is_checkpoint: bool,
    ctx: &Context<'_>,
) -> Result<(StoredModel, RunFolder, Unfinished)> {
    let cannot = |path: &Path, error| Error::failed(format!("cannot read {}: {error}", path.display()));
    let checkpoint = if is_checkpoint {
        Some(checkpoints::load(&path.canonicalize().map_err(|error| cannot(path, error))?)?)
    } else {
        saved::newest(&RunFolder::open(path)?, ctx)?
    };
    let root = checkpoint.as_ref().and_then(|checkpoint| checkpoint.path.ancestors().nth(2)).unwrap_or(path);
    let folder = RunFolder::open(root)?;
    let config = config::load(Some(&folder.config()), &[])?.config;
    let (word, state) = state(&folder);
    let Some(checkpoint) = &checkpoint else {
        let lacks = if config.model.is_counted() {
            "its model is not counted yet"
        } else {
            "it has no complete checkpoint yet"
        };
        return Err(Error::failed(format!(
            "there are no weights in {}: this run {state}, and {lacks}",
            path.display()
        ))
        .hint(match word {
            "running" => Advice::from(
                "the first is made after its first evaluation; Ctrl-C in its terminal makes one at once",
            ),
            "diverged" => tamer(path, &config),
            _ => Advice::ResumeRun(path.to_owned()),
        }));
    };
    let tokenizer = read_regular(folder.tokenizer())?;
    let vocab_size = Tokenizer::from_json(&tokenizer)?.vocab_size();
    let (model, tensors, mut unfinished) = saved::model(checkpoint, &config, vocab_size, !is_checkpoint)?;
    let judged = match unfinished.validation {
        Some(nats) if is_checkpoint => format!("validation {nats:.4} nats per token"),
        Some(nats) => format!("the best so far, validation {nats:.4} nats per token"),
        None => "not evaluated yet".into(),
    };
    let [step, reached] = [unfinished.step, unfinished.reached].map(|step| thousands(step as u64));
    let later = if step == reached { String::new() } else { format!("; the run has reached step {reached}") };
    unfinished.note = format!("this run {state}: these are its weights of step {step} ({judged}{later})");
    ctx.note(Note::Text(unfinished.note.clone()))?;
    Ok((StoredModel { config: model, weights: Weights::Tensors(tensors), tokenizer }, folder, unfinished))
}

/// Finds the texts of the run at `root` that `config` names: under `moved`, a folder that has them
/// or the training text itself; in the working folder; or in a folder above the run, from which it
/// was started.
pub fn find_texts(root: &Path, config: &mut Config, moved: Option<&Path>) {
    let data = &mut config.data;
    if let Some(text) = moved.filter(|moved| !data.train.iter().any(|text| under(moved, text).is_some())) {
        data.train = vec![text.to_owned()];
    }
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    for text in data.train.iter_mut().chain(&mut data.val) {
        if let Some(found) = moved.and_then(|moved| under(moved, text)) {
            *text = found;
        } else if text.is_relative() && !is_pipe(text) && !text.exists() {
            let above = root.ancestors().skip(1).map(|folder| folder.join(&*text));
            if let Some(found) = above.into_iter().find(|path| path.exists()) {
                *text = found;
            }
        }
    }
}

/// The text in `folder` that has the path or the name of `text`.
fn under(folder: &Path, text: &Path) -> Option<PathBuf> {
    let of = |path: &Path| Some(folder.join(path)).filter(|path| folder.is_dir() && path.exists());
    of(text).filter(|_| text.is_relative()).or_else(|| of(Path::new(text.file_name()?)))
}

/// Name of separate validation texts.
pub fn named(val: &[PathBuf]) -> Option<String> {
    match val {
        [] => None,
        [one] => Some(one.display().to_string()),
        [first, rest @ ..] => Some(format!("{} and {} more", first.display(), rest.len())),
    }
}

/// Refuses a text with other tokens than the `part`, "train" or "val", of the run in `folder`.
/// `name` is that of the training text, and `val` are the separate validation texts.
///
/// # Errors
/// A text with other tokens, which may contain what the model was trained on.
pub fn check_text(
    folder: &RunFolder,
    (name, val): (&str, &[PathBuf]),
    part: &str,
    text: &TokenText,
    ctx: &Context<'_>,
) -> Result<()> {
    let start = start(folder.root());
    let of_its_own = (part == "val").then(|| named(val)).flatten();
    let name = of_its_own.as_deref().unwrap_or(name);
    let (had, has) = (start[format!("{part}_tokens")].as_u64().unwrap_or(text.scored()), text.scored());
    let kept = start["texts"][part].as_str();
    // Older runs recorded only the number of tokens.
    if kept.map_or(had == has, |hash| hash == text_hash(text)) {
        if kept.is_none() {
            ctx.note(Note::NoHash(name.to_owned()))?;
        }
        return Ok(());
    }
    let change = if had == has {
        "has other tokens now".to_owned()
    } else {
        format!("had {} tokens and has {} now", thousands(had), thousands(has))
    };
    let what = match part {
        "val" if of_its_own.is_some() => "it",
        "val" => "its validation split",
        _ => "its training split",
    };
    Err(Error::failed(format!(
        "{name} has changed since the run was made: {what} {change}, and may contain training text"
    ))
    .hint(Advice::PutBack { of: None }))
}
