//! Counting without a run, merging of counts, and mixtures.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use serde::de::DeserializeOwned;
use surprisal_engine::count::{Counted, Files, Room, Tokens, count as count_texts, merge as merge_files};
use surprisal_engine::model::ngram::NgramConfig;
use surprisal_engine::model::{LanguageModel, MappedModel};
use surprisal_engine::models::mixture::{self, MixtureWeights};
use surprisal_engine::text::{
    DataOptions, Granularity, InputOptions, MinCount, TextMode, Texts, TokenizerKind, WordVocabulary,
};
use surprisal_engine::word_choice::word_list;
use surprisal_engine::{Context, Control, Error, Result, data, kind, models, outputs};

use crate::errors::raised;
use crate::events::Callback;
use crate::model::Model;
use crate::work;

/// The path and size of each file that was written.
type Written = Vec<(OsString, u64)>;

/// A value of an argument that names a choice.
fn choice<T: DeserializeOwned>(argument: &str, value: &str) -> Result<T> {
    serde_json::from_value(value.into())
        .map_err(|error| Error::usage(format!("{argument} is \"{value}\"")).hint(error.to_string()))
}

/// The settings of a model from JSON.
fn model_of(json: &str) -> Result<NgramConfig> {
    let config: NgramConfig = serde_json::from_str(json)
        .map_err(|error| Error::usage(format!("the settings of the model: {error}")))?;
    config.check().map_err(|error| Error::usage(error.to_string()))?;
    Ok(config)
}

/// Writes what `counted` gives to the files of `out`, with signals and events.
fn write(
    py: Python<'_>,
    out: Vec<PathBuf>,
    inputs: Vec<PathBuf>,
    model: String,
    quantize: Option<u32>,
    threads: Option<usize>,
    on_event: Option<Py<PyAny>>,
    counted: impl FnOnce(&NgramConfig, &Room, &Context<'_>) -> Result<Counted> + Send + 'static,
) -> PyResult<Written> {
    let pool = work::pool(py, threads)?;
    let control = Control::new();
    let (callback, stop) = (Callback::new(on_event, &control), control.clone());
    let work = move || {
        let written = || -> Result<_> {
            let (config, files) = (model_of(&model)?, Files::new(&out)?);
            let _locks = outputs::files(out.iter().map(PathBuf::as_path), &inputs)?;
            let ctx = Context::new(&pool, &callback, &control);
            counted(&config, &files.room(None, None, quantize.is_some()), &ctx)?
                .write(&files, &config, quantize, &ctx)
        };
        (written(), callback.raised())
    };
    let ((written, exception), interrupted) = work::watch(py, &stop, work)?;
    match (exception, interrupted) {
        (Some(exception), _) => Err(exception),
        // Counting does not stop in between: what it wrote is whole.
        (_, Some(signal)) => Err(signal),
        _ => Ok(written.map_err(raised)?.into_iter().map(|(path, bytes)| (path.into(), bytes)).collect()),
    }
}

/// Counts texts. The Python function `surprisal_lm.count` prepares the arguments.
#[pyfunction]
pub(crate) fn count(
    py: Python<'_>,
    texts: Vec<PathBuf>,
    out: Vec<PathBuf>,
    tokenizer: String,
    unit: String,
    model: String,
    vocab: Option<PathBuf>,
    min_count: Option<u64>,
    shard: Option<(usize, usize)>,
    quantize: Option<u32>,
    threads: Option<usize>,
    on_event: Option<Py<PyAny>>,
) -> PyResult<Written> {
    let inputs: Vec<PathBuf> = texts.iter().chain(&vocab).cloned().collect();
    let counted = move |config: &NgramConfig, room: &Room, ctx: &Context<'_>| {
        let kind: TokenizerKind = choice("tokenizer", &tokenizer)?;
        let mode: TextMode = choice("unit", &unit)?;
        if shard.is_some_and(|(part, parts)| part == 0 || part > parts) {
            return Err(Error::usage("shard is a part's number, from 1, and the number of parts"));
        }
        if shard.is_some() && mode != TextMode::Line {
            return Err(Error::usage("shard needs unit=\"line\"")
                .hint("the n-grams of a stream cross the borders of parts"));
        }
        let mut options = DataOptions { train: texts, mode, ..DataOptions::default() };
        options.encode_options.threads = ctx.pool.threads();
        let list =
            vocab.as_deref().map(|path: &Path| word_list(path, options.inputs.normalize)).transpose()?;
        let vocabulary = WordVocabulary {
            min_count: MinCount::Fixed(min_count.unwrap_or(1)),
            list,
            ..WordVocabulary::default()
        };
        vocabulary.check(mode)?;
        let tokens = Tokens { kind, vocabulary: &vocabulary, known: None };
        count_texts(&options, tokens, shard, config, room, ctx)
    };
    write(py, out, inputs, model, quantize, threads, on_event, counted)
}

/// Adds up counts. The Python function `surprisal_lm.merge` prepares the arguments.
#[pyfunction]
pub(crate) fn merge(
    py: Python<'_>,
    counts: Vec<PathBuf>,
    out: Vec<PathBuf>,
    model: String,
    sum: bool,
    quantize: Option<u32>,
    threads: Option<usize>,
    on_event: Option<Py<PyAny>>,
) -> PyResult<Written> {
    let inputs = counts.clone();
    let merged = move |config: &NgramConfig, room: &Room, ctx: &Context<'_>| {
        merge_files(&counts, sum, config, room, ctx)
    };
    write(py, out, inputs, model, quantize, threads, on_event, merged)
}

/// Writes the mixture of models as the folder `out`, which is a model. Either `weights`, or texts
/// `heldout` to fit them to; `by_context` fits them for each length of context.
#[pyfunction]
#[pyo3(signature = (models, out, *, weights = None, heldout = Vec::new(), by_context = false, threads = None))]
pub(crate) fn mix(
    py: Python<'_>,
    models: Vec<PathBuf>,
    out: PathBuf,
    weights: Option<Vec<f64>>,
    heldout: Vec<PathBuf>,
    by_context: bool,
    threads: Option<usize>,
) -> PyResult<Model> {
    work::compute(py, threads, |ctx| mixed(&models, &out, weights, &heldout, by_context, ctx))?;
    Model::open(py, out, None, threads)
}

fn mixed(
    paths: &[PathBuf],
    out: &Path,
    weights: Option<Vec<f64>>,
    heldout: &[PathBuf],
    by_context: bool,
    ctx: &Context<'_>,
) -> Result<()> {
    if paths.len() < 2 {
        return Err(Error::usage(format!("a mixture needs two models or more, not {}", paths.len())));
    }
    if weights.is_some() != heldout.is_empty() {
        return Err(Error::usage("a mixture needs either weights, or heldout texts to fit them to"));
    }
    if by_context && weights.is_some() {
        return Err(
            Error::usage("by_context fits weights, which are given").hint("give heldout texts instead")
        );
    }
    kind::check_texts(heldout)?;
    let _lock = outputs::folder(out, &[paths, heldout].concat())?;
    let loaded = paths.iter().map(|path| models::load(path, ctx)).collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let (tokenizer, maps) = mixture::merge_vocabularies(&names, &loaded)?;
    let bins_of = if by_context { Some(mixture::binned(&loaded)?) } else { None };
    let weights = match weights {
        Some(weights) => MixtureWeights::Static { weights },
        None => {
            let any_bytes = tokenizer.granularity() == Granularity::Byte;
            let inputs = InputOptions { any_bytes, ..loaded[0].inputs(InputOptions::default()) };
            let text = Texts::open(heldout, &inputs, false)?.encode(&tokenizer, loaded[0].reading())?;
            data::note_tokens(&text.tokens, &text.name, "the models", ctx)?;
            let parts =
                loaded.iter().zip(&maps).map(|(loaded, map)| Ok(MappedModel::new(&*loaded.model, map)?));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            mixture::fit(&parts, &text.tokens, bins_of, ctx.pool)?
        }
    };
    // Refuses weights that do not fit.
    let parts = loaded.iter().zip(&maps).map(|(loaded, map)| {
        Ok(Box::new(MappedModel::new(&*loaded.model, map)?) as Box<dyn LanguageModel + '_>)
    });
    mixture::mix(parts.collect::<Result<_>>()?, &weights)?;
    mixture::save(out, &loaded, &names, &tokenizer, weights)
}
