//! Training: settings as the program's, and a model of what was trained.

use std::path::PathBuf;

use pyo3::prelude::*;
use surprisal_engine::config::{self, Config, Loaded, Override};
use surprisal_engine::train::{Request, own_settings, train as train_run};
use surprisal_engine::{Context, Control, Error, ExitKind, Result, choice, kind, runs};

use crate::errors::raised;
use crate::events::Callback;
use crate::model::Model;
use crate::work;

/// A config: its name and TOML, or its path.
#[derive(FromPyObject)]
pub(crate) enum ConfigSource {
    Text((String, String)),
    File(PathBuf),
}

/// Overrides: each `section.key=value`, with its name in messages.
pub(crate) fn overrides(set: Vec<(String, String)>) -> Vec<Override> {
    set.into_iter().map(|(set, as_written)| Override { set, as_written }).collect()
}

/// The settings of a new run.
fn settings(
    source: Option<ConfigSource>,
    set: &[Override],
    texts: Vec<PathBuf>,
    val: Vec<PathBuf>,
) -> Result<Loaded> {
    let mut loaded = match source {
        None => config::parse("the default config", surprisal::DEFAULT_CONFIG, set)?,
        Some(ConfigSource::Text((name, text))) => config::parse(&name, &text, set)?,
        Some(ConfigSource::File(path)) => config::load(Some(&path), set)?,
    };
    if texts.is_empty() {
        config::texts(&loaded, "train")?;
    } else {
        if set.iter().any(|set| set.key() == "data.train") {
            return Err(
                Error::usage("texts and data.train both give a training text").hint("keep one of them")
            );
        }
        loaded.config.data.train = texts;
    }
    if !val.is_empty() {
        loaded.config.data.val = val;
        let unsplit = Config::default().data;
        (loaded.config.data.split, loaded.config.data.split_seed) = (unsplit.split, unsplit.split_seed);
    }
    config::texts(&loaded, "val")?;
    config::check(&mut loaded)?;
    Ok(loaded)
}

/// The settings of the run to resume, and whether its texts are others.
fn resumed(
    out: Option<&PathBuf>,
    set: &[Override],
    texts: Vec<PathBuf>,
    val: Vec<PathBuf>,
) -> Result<(Loaded, bool)> {
    let out = out.ok_or_else(|| Error::usage("resume=True needs out").hint("name the run's folder"))?;
    let mut loaded = own_settings(out, set)?;
    let new_texts = !(texts.is_empty() && val.is_empty())
        || set.iter().any(|set| matches!(set.key(), "data.train" | "data.val"));
    let data = &mut loaded.config.data;
    for (own, given) in [(&mut data.train, texts), (&mut data.val, val)] {
        if !given.is_empty() {
            *own = given;
        }
    }
    config::texts(&loaded, "train")?;
    config::texts(&loaded, "val")?;
    Ok((loaded, new_texts))
}

/// Trains, and gives the model, and whether it was stopped before its end. The Python function
/// `surprisal_lm.train` prepares the arguments.
#[pyfunction]
pub(crate) fn train(
    py: Python<'_>,
    source: Option<ConfigSource>,
    texts: Vec<PathBuf>,
    val: Vec<PathBuf>,
    set: Vec<(String, String)>,
    out: Option<PathBuf>,
    resume: bool,
    threads: Option<usize>,
    on_event: Option<Py<PyAny>>,
) -> PyResult<(Model, bool)> {
    let set = overrides(set);
    let chooses = !resume && source.is_none() && !texts.is_empty() && choice::is_asked(&set);
    let (settings, new_texts, reasons) = if chooses {
        work::compute(py, threads, |ctx| {
            let of = |set: &[Override]| {
                let recipe = ConfigSource::Text(("the recipe".into(), choice::RECIPE.into()));
                settings(Some(recipe), set, texts.clone(), val.clone())
            };
            let choice = choice::choose(&of(&set)?, ctx)?;
            Ok((of(&choice.set)?, false, choice.reasons))
        })?
    } else {
        let (settings, new_texts) = py
            .detach(|| {
                if resume {
                    resumed(out.as_ref(), &set, texts, val)
                } else {
                    settings(source, &set, texts, val).map(|loaded| (loaded, false))
                }
            })
            .map_err(raised)?;
        (settings, new_texts, Vec::new())
    };
    if let Some(done) = out.as_ref().filter(|out| resume && !new_texts && runs::done(out).is_some())
        && own_settings(done, &[]).map_err(raised)?.config == settings.config
    {
        return Ok((Model::open(py, done.clone(), None, threads)?, false));
    }
    // Nothing depends on the number of threads.
    let count = threads.or(Some(settings.config.train.threads).filter(|threads| *threads > 0));
    let pool = work::pool(py, count)?;
    let control = Control::new();
    let (callback, stop) = (Callback::new(on_event, &control), control.clone());
    let request = Request { settings, out: out.clone(), resume, new_texts, ..Request::default() };
    let work = move || {
        let run = std::sync::Mutex::new(out);
        let events = |id, event: &surprisal_engine::Event| {
            if let surprisal_engine::Event::Opened { folder, .. } = event {
                *run.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(folder.clone());
            }
            surprisal_engine::Events::on(&callback, id, event)
        };
        let ctx = Context::new(&pool, &events, &control);
        let data = &request.settings.config.data;
        let texts = [&data.train[..], &data.val].concat();
        let trained = pool.install(|| {
            ctx.notes(&reasons)?;
            kind::note_configs(&texts, &ctx)?;
            train_run(request, &ctx)
        });
        let run = run.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        (trained, callback.raised(), run)
    };
    let ((trained, exception, run), interrupted) = work::watch(py, &stop, work)?;
    match trained {
        Ok(summary) => Ok((Model::open(py, summary.run, None, threads)?, false)),
        Err(error) => {
            if let Some(exception) = exception {
                return Err(exception);
            }
            let stopped = Some(run).flatten().filter(|_| error.kind == ExitKind::Stopped);
            // The weights so far, if there are any yet.
            let model = stopped.map(|run| Model::open(py, run, None, threads));
            match (model, interrupted) {
                (Some(Ok(model)), _) => Ok((model, true)),
                (_, Some(signal)) => Err(signal),
                _ => Err(raised(error)),
            }
        }
    }
}
