//! Training and counting: from texts to a saved model with its event log.

pub(crate) mod audit;
mod changes;
pub(crate) mod checkpoint;
mod count_based;
mod divergence;
mod event_log;
mod exporters;
pub(crate) mod length;
mod loss_spikes;
mod mixture;
pub(crate) mod neural;
pub(crate) mod objective;
pub(crate) mod optimiser;
mod pace;
mod reduce;
mod served;
mod state;
pub(crate) mod step;
pub(crate) mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use surprisal_model::neural::{Blueprint, CustomConfig, NeuralConfig};
use surprisal_model::ngram::Counts;
use surprisal_model::{LanguageModel, ModelConfig};
use surprisal_store::Error as StoreError;
use surprisal_store::atomic;
use surprisal_store::checkpoint::{self as checkpoints, Checkpoint};
use surprisal_store::read::read_regular;
use surprisal_store::run_dir::{RunFolder, RunWriter};

use crate::config::{self, Config, Loaded, Override};
use crate::data::Dataset;
use crate::error::{Error, ExitKind, Result};
use crate::events::{Context, Event, Note, RunSummary, Sampled, Started, StopCriterion};
use crate::fingerprint::{RunFingerprint, text_hash};
use crate::generation;
use crate::memory::Room;
use crate::outputs;
use crate::runs;
use crate::sampling::{Opening, Sampling};
use crate::saved;
use crate::start;
use crate::token_cache;
use crate::wording::many;
use changes::{Pending, Resumption};
use event_log::EventLog;
pub use exporters::{Csv, TensorBoard};
pub use objective::{Objective, Shard};
pub(crate) use served::serve;
use step::Team;

/// The request of a run.
///
/// ```
/// use surprisal_engine::train::{Request, train};
/// use surprisal_engine::{Context, Control, Silent, config, platform::threads::Pool};
/// # fn main() -> surprisal_engine::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("surprisal-request-{}", std::process::id()));
/// let mut settings = config::parse("mine", "[model]\nkind = \"bigram\"\n[train]\nsteps = 2\n",
/// &[])?; config::check(&mut settings)?; let request = Request { settings, out:
/// Some(folder.clone()), ..Request::default() }; let run = train(request,
/// &Context::new(&Pool::new(1)?, &Silent, &Control::new()))?; assert_eq!(run.steps, 2);
/// # drop(std::fs::remove_dir_all(folder));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The settings, checked ([`config::check`]).
    pub settings: Loaded,
    /// The run's folder; `None`: the next free one in `runs/`, named after the config or the text.
    pub out: Option<PathBuf>,
    /// Whether to resume the run in that folder from its newest complete checkpoint; the settings
    /// are from [`own_settings`]. With its own settings and texts it ends with the same bits as
    /// without the interruption; others are emitted and recorded ([`Event::Changed`]).
    pub resume: bool,
    /// Whether the texts of a resumed run may be others than they were.
    pub new_texts: bool,
    /// Number of first steps whose gradients and updates are emitted ([`Event::Audited`]).
    pub audit: usize,
    /// The objective of a neural model, instead of the one in [`config::Config::loss`]. It is not
    /// saved: a run that is resumed needs the same again.
    pub objective: Option<Arc<dyn Objective>>,
    /// The architecture of a neural model, instead of the one in [`config::Config::model`]. The
    /// run's `config.toml` has its name and settings; resuming needs it again, and opening the
    /// model a [`Registry`](surprisal_model::neural::Registry)
    /// ([`models::load_with`](crate::models::load_with)).
    pub architecture: Option<Arc<dyn Blueprint>>,
    /// The room in which an n-gram model is counted; what does not fit into its memory is in
    /// temporary files meanwhile. The model has the same bytes.
    pub room: Option<Room>,
}

/// Trains or counts a model: reads the texts, makes a run folder, emits events, evaluates and
/// saves.
///
/// # Errors
/// Errors in settings or texts, and too little memory, before anything is written; a file that
/// cannot be written; [`ExitKind::Diverged`]; [`ExitKind::Stopped`] after
/// [`Control::stop`](crate::Control::stop).
pub fn train(mut request: Request, ctx: &Context<'_>) -> Result<RunSummary> {
    let started = std::time::Instant::now();
    if !ctx.ranks.is_alone() && (request.objective.is_some() || request.architecture.is_some()) {
        let message = "an objective or architecture from outside is not known to the other ranks";
        return Err(Error::usage(message).hint("train it in one process"));
    }
    if !request.resume {
        check_folder(&request)?;
    }
    if let Some(blueprint) = &request.architecture {
        let custom = NeuralConfig::Custom(CustomConfig::new(0, 0, blueprint.clone()));
        request.settings.config.model = ModelConfig::Neural(custom).into();
    }
    let resumed = request.out.as_ref().filter(|_| request.resume);
    let mut own = resumed.map(|out| own_settings(out, &[])).transpose()?;
    if let (Some(own), Some(out)) = (&mut own, resumed) {
        if request.architecture.is_some() {
            own.config.model = request.settings.config.model.clone();
        }
        if own.config.model.is_counted() && (request.new_texts || own.config != request.settings.config) {
            return Err(changes::refuse_counted(&own.config, out));
        }
        // Before the texts are read.
        changes::of_settings(own, &request.settings, out)?;
    }
    let model = &request.settings.config.model;
    if model.init_from.is_some() && !model.adopted {
        start::adopt(&mut request.settings, ctx)?;
        config::check(&mut request.settings)?;
        if let Some(own) = &mut own {
            start::adopt(own, ctx)?;
        }
    }
    // Errors in the texts appear before anything is written.
    let config = &request.settings.config;
    // Other texts would give another tokenizer, and a file or a model may be gone.
    let is_given = config.tokenizer.file.is_some() || config.model.init_from.is_some();
    let copied = resumed.filter(|_| request.new_texts || is_given);
    let known = match copied.map(|out| out.join("tokenizer.json")).filter(|path| path.is_file()) {
        Some(path) => Some(surprisal_text::Tokenizer::from_json(&read_regular(path)?)?),
        None => None,
    };
    let room = request.room.clone();
    let data = ctx.pool.install(|| Dataset::read(room.as_ref(), config, request.resume, known, ctx))?;
    if resumed.is_some() && request.new_texts {
        data.check_known("the run's model", config, ctx)?;
    }
    data.record_min_count(&mut request.settings);
    if let Some(own) = &mut own {
        data.record_min_count(own);
        own.config.data.unit = Some(data.train.mode);
    }
    let follows = fit_length(&mut request.settings, &data)?;
    let loaded = &request.settings;
    ctx.notes(&[loaded.notices.as_slice(), &follows].concat())?;
    let neural = check(&loaded.config, &data, room.as_ref(), ctx)?;
    let resumption = match (&own, &request.out) {
        (Some(own), Some(out)) => Some(Resumption {
            own,
            changes: changes::of_settings(own, loaded, out)?,
            new_texts: request.new_texts,
        }),
        _ => None,
    };
    let (folder, checkpoint) = match &request.out {
        Some(out) if request.resume => resume(out, ctx)?,
        _ => (open_folder(&request)?, None),
    };
    let Request { resume, audit, ref objective, .. } = request;
    let from = checkpoint.as_ref();
    let objective = objective.as_ref();
    let room = room.as_ref();
    let run = Run { loaded, data: &data, folder: &folder, from, ctx, audit, objective, room, started };
    let outcome = run.train(neural, resumption);
    if let (Some(room), Some(key), Ok(_)) = (room, data.train.ids.key().map(str::to_owned), &outcome) {
        drop(data);
        let path = token_cache::path(&room.temp, &key);
        std::fs::remove_file(&path).map_err(|reason| StoreError::Io {
            action: "remove".into(),
            path,
            reason,
        })?;
    }
    match outcome {
        // A run without a checkpoint leaves nothing, except after a divergence.
        Err(failure) if !resume && failure.kind != ExitKind::Diverged && !has_model(&folder) => {
            // The folder rarely exists, and a failure to remove it does no harm.
            drop(std::fs::remove_dir_all(folder.root().join(exporters::FOLDER)));
            folder.rollback()?;
            Err(failure)
        }
        outcome => outcome,
    }
}

/// The settings of the run at `root` with `overrides`, for resuming it; `train.steps=+N` gives it N
/// steps more than it has made.
///
/// # Errors
/// A folder that is not a run; overrides that are wrong.
pub fn own_settings(root: &Path, overrides: &[Override]) -> Result<Loaded> {
    let folder = runs::open(root)?;
    let mut loaded = config::load(Some(&folder.config()), &changes::absolute(root, overrides)?)?;
    if loaded.config.model.init_from.is_some()
        && let Some(checkpoint) = checkpoints::load_newest(&folder.checkpoints())?.checkpoint
        && let Some(model) = saved::architecture(&checkpoint)?
    {
        loaded.config.model.adopt(model);
    }
    config::check(&mut loaded)?;
    runs::find_texts(root, &mut loaded.config, None);
    Ok(loaded)
}

fn check_folder(request: &Request) -> Result<()> {
    let data = &request.settings.config.data;
    let list = request.settings.config.tokenizer.vocab.as_slice();
    let inputs = [&data.train[..], &data.val, list].concat();
    // config.toml, which names them, is UTF-8.
    if let Some(path) = inputs.iter().find(|path| path.to_str().is_none()) {
        let message =
            format!("the name of {} is not UTF-8, and a run keeps the names of its texts", path.display());
        return Err(Error::usage(message).hint("rename the file, or train on a copy of it"));
    }
    match &request.out {
        Some(out) => outputs::new_folder(out, &inputs),
        None => outputs::writable(&Path::new("runs").join(name(&request.settings)), &inputs),
    }
}

/// Trains `loaded` into the folder `out`, or resumes the run there: a trial of a comparison, the
/// same to the bit as a run of the same config.
pub(crate) fn train_into(out: &Path, loaded: &Loaded, data: &Dataset, ctx: &Context<'_>) -> Result<()> {
    if runs::done(out).is_some() {
        return Ok(());
    }
    let neural = check(&loaded.config, data, None, ctx)?;
    let begun = RunFolder::open(out).is_ok();
    let (folder, checkpoint) = if begun { resume(out, ctx)? } else { (RunWriter::create(out)?, None) };
    let (folder, from, started) = (&folder, checkpoint.as_ref(), std::time::Instant::now());
    let resumption = from.map(|_| Resumption { own: loaded, changes: Vec::new(), new_texts: false });
    let run = Run { loaded, data, folder, from, ctx, audit: 0, objective: None, room: None, started };
    run.train(neural, resumption).map(drop)
}

/// The run in `out`, locked, and its newest complete checkpoint.
fn resume(out: &Path, ctx: &Context<'_>) -> Result<(RunWriter, Option<Checkpoint>)> {
    let folder = RunWriter::resume(out)?;
    let checkpoint = saved::newest(&folder, ctx)?;
    Ok((folder, checkpoint))
}

/// Estimate of the memory for training `config`, in bytes.
pub(crate) fn memory(config: &Config, data: &Dataset) -> Result<u64> {
    let vocab_size = data.tokenizer.vocab_size();
    if config.model.is_counted() {
        let order = config.model.ngram(None, None).map_or(1, |ngram| ngram.order);
        return Ok(Counts::memory(data.train.ids.len(), vocab_size, order));
    }
    let neural = crate::architecture::neural_config(config, vocab_size)?;
    let network =
        neural.estimate_bytes(config.train.batch_size, config.train.block_size, neural::shards(config));
    // One after the other.
    Ok(network.max(mixture::memory(config, data)))
}

/// Fills in the unit of the texts, and shortens a warm-up from the config for a run whose length
/// was overridden; gives notices about settings that the run is too short for.
pub(crate) fn fit_length(loaded: &mut Loaded, data: &Dataset) -> Result<Vec<String>> {
    loaded.config.data.unit = Some(data.train.mode);
    let train = &loaded.config.train;
    let tokens = data.train.ids.len();
    if loaded.config.model.is_counted() || data.train.mode.keeps_newlines() && tokens <= train.block_size {
        return Ok(Vec::new());
    }
    let neural = crate::architecture::neural_config(&loaded.config, data.tokenizer.vocab_size())?;
    let batches = crate::architecture::batches(&data.train, train, neural.windows())?;
    let StopCriterion::Steps(steps) = StopCriterion::new(train, &batches) else { return Ok(Vec::new()) };
    let mut notices = Vec::new();
    let said = config::LENGTHS.iter().find_map(|key| loaded.override_as_written(&format!("train.{key}")));
    let (warmup, tenth) = (loaded.config.optim.warmup, steps / 10);
    if warmup > 0 && warmup >= steps {
        notices.push(match said.filter(|_| loaded.override_as_written("optim.warmup").is_none()) {
            Some(said) => {
                loaded.config.optim.warmup = tenth;
                format!("optim.warmup = {tenth}, a tenth of the run, follows {said}; it was {warmup}")
            }
            None => format!(
                "the run has {} and optim.warmup = {warmup}: the learning rate never reaches optim.lr. A tenth of \
                 the run would be optim.warmup = {tenth}",
                many(steps as u64, "step")
            ),
        });
    }
    for (key, every) in [
        ("eval.every_steps", loaded.config.eval.every_steps),
        ("checkpoint.every_steps", loaded.config.checkpoint.every_steps),
    ] {
        if let Some(said) = loaded.override_as_written(key).filter(|_| every > steps) {
            notices.push(format!(
                "{said} is more than the run's {}: only its end counts",
                many(steps as u64, "step")
            ));
        }
    }
    Ok(notices)
}

/// Checks memory, ranks and the length of the text; gives the config of a neural model.
fn check(
    config: &Config,
    data: &Dataset,
    room: Option<&Room>,
    ctx: &Context<'_>,
) -> Result<Option<NeuralConfig>> {
    let needed = memory(config, data)?;
    if config.model.is_counted() {
        if room.is_some() {
            return Ok(None);
        }
        let hint = "make the order (model.order) or the text (data.train_fraction) smaller";
        crate::memory::check(needed, "counting this text", hint)?;
        return Ok(None);
    }
    let hint =
        "make the model (n_layer, n_embd), the batch (batch_size, block_size) or the vocabulary smaller";
    crate::memory::check(needed, &format!("training this {}", config.model.kind()), hint)?;
    Team::of(ctx, neural::shards(config))?;
    let neural = crate::architecture::neural_config(config, data.tokenizer.vocab_size())?;
    let (tokens, block_size) = (data.train.ids.len(), config.train.block_size);
    if data.train.mode.keeps_newlines() && tokens <= block_size {
        return Err(Error::failed(format!(
            "the training text has {}, too few for one window of block_size = {block_size}",
            many(tokens as u64, "token")
        ))
        .hint("give more text, or set a smaller train.block_size"));
    }
    Ok(Some(neural))
}

struct Run<'a> {
    loaded: &'a Loaded,
    data: &'a Dataset,
    folder: &'a RunWriter,
    /// The checkpoint to resume from.
    from: Option<&'a Checkpoint>,
    ctx: &'a Context<'a>,
    audit: usize,
    objective: Option<&'a Arc<dyn Objective>>,
    room: Option<&'a Room>,
    started: std::time::Instant,
}

impl Run<'_> {
    fn train(&self, neural: Option<NeuralConfig>, resumption: Option<Resumption<'_>>) -> Result<RunSummary> {
        let Self { loaded, data, folder, from, ctx, .. } = *self;
        let config = &loaded.config;
        let text = match from {
            Some(_) if resumption.as_ref().is_some_and(|it| it.changes.is_empty()) => loaded.text.clone(),
            _ => config::resolved(config)?,
        };
        let identity = RunFingerprint::new(&text, &data.tokenizer, &data.train, &data.val)?;
        if let Some(Resumption { changes, .. }) = &resumption
            && from.is_none()
            && changes.is_empty()
        {
            runs::refuse_whole(folder.root(), &identity)?;
        }
        let (offset, pending) = match resumption {
            Some(resumption) => resumption.record(from, folder, loaded, data, &identity)?,
            None => (None, Pending::default()),
        };
        // A new run writes its first files; a resumed run has them, and its event log is cut to its
        // length at the checkpoint.
        let offset = match offset {
            Some(offset) => offset,
            None => {
                let heading = config::RESOLVED_HEADING;
                atomic::write(folder.config(), format!("{heading}\n\n{text}").as_bytes())?;
                atomic::write(folder.tokenizer(), &data.tokenizer.to_json()?)?;
                0
            }
        };
        let parts = mixture::Parts::new(config, data, ctx)?;
        let begun = match from {
            Some(_) => None,
            None => Some(Event::Started(Started {
                version: env!("CARGO_PKG_VERSION"),
                kind: config.model.kind().to_owned(),
                tokenizer: data.tokenizer.kind().to_string(),
                vocab_size: data.tokenizer.vocab_size(),
                train_tokens: data.train.scored(),
                train_oov: data.train.oov,
                val_tokens: data.val.scored(),
                seed: config.train.seed,
                texts: BTreeMap::from([("train", text_hash(&data.train)), ("val", text_hash(&data.val))]),
                opening: Opening::new(&data.tokenizer, Some(&data.train.ids))?,
                identity: identity.clone(),
                source_entropy: data.source_nats.map(|nats| nats / data.val.scored() as f64),
            })),
        };
        let mut record = match &begun {
            Some(begun) => EventLog::begin(folder.metrics(), begun, ctx)?,
            None => EventLog::go_on(folder.metrics(), offset, ctx)?,
        };
        let (root, resumed_at) = (folder.root().to_owned(), from.map(|checkpoint| checkpoint.step));
        record.event(&Event::Opened { folder: root, resumed_at })?;
        if let Some(begun) = &begun {
            ctx.emit(begun)?;
            count_based::baselines(data, self.room, ctx, &mut record)?;
        }
        for changed in &pending.0 {
            record.event(&Event::Changed(changed.clone()))?;
        }
        let (model, mut summary): (Box<dyn LanguageModel>, RunSummary) = match neural {
            None => count_based::train(config, data, self.room, folder, ctx, &mut record)?,
            Some(neural) => {
                let neural = weights::initialise(config, &neural, from.is_some(), ctx)?;
                let mut trainer = neural::Trainer {
                    config,
                    data: parts.as_ref().map_or(data, |parts| &parts.network),
                    ctx,
                    record: &mut record,
                    audit: self.audit,
                    objective: self.objective,
                    folder,
                    saver: checkpoint::Checkpointer::new(folder, &config.checkpoint, &identity),
                    last: None,
                    pending: &pending,
                    done: ctx.control.requests(),
                    started: self.started,
                };
                let (lm, summary) = trainer.run(neural, from)?;
                match &parts {
                    Some(parts) => parts.mix((lm, summary), (config, data), folder, ctx, &mut record)?,
                    None => (Box::new(lm), summary),
                }
            }
        };
        self.sample(model.as_ref(), &mut record)?;
        summary.wall_seconds = self.started.elapsed().as_secs_f64();
        record.event(&Event::Finished(summary.clone()))?;
        Ok(summary)
    }

    /// Emits a sample from the model.
    fn sample(&self, model: &dyn LanguageModel, record: &mut EventLog<'_>) -> Result<()> {
        let Self { loaded: Loaded { config, .. }, data, ctx, .. } = *self;
        if config.sample.tokens == 0 {
            return Ok(());
        }
        let temperature = config.sample.temperature;
        let sampling = Sampling::new(temperature, None, None)?;
        let mut text = String::new();
        let emit = |piece: &str| {
            text.push_str(piece);
            Ok(())
        };
        let (tokens, seed) = (config.sample.tokens, config.train.seed);
        let opening = Opening::new(&data.tokenizer, Some(&data.train.ids))?;
        if let Err(failure) =
            generation::generate(model, &data.tokenizer, &opening, tokens, sampling, seed, emit)
        {
            ctx.note(Note::SampleEnded(failure.message))?;
        }
        record.event(&Event::Sampled(Sampled { text, temperature, seed, step: None }))
    }
}

/// Creates the requested run folder, or the next free one in `runs/`.
fn open_folder(request: &Request) -> Result<RunWriter> {
    if let Some(out) = &request.out {
        return Ok(RunWriter::create(out)?);
    }
    let stem = name(&request.settings);
    for number in 1.. {
        let name = if number == 1 { stem.clone() } else { format!("{stem}-{number}") };
        let path = Path::new("runs").join(name);
        if path.exists() {
            continue;
        }
        match RunWriter::create(path) {
            // Another process has taken the name.
            Err(StoreError::Occupied { .. } | StoreError::Locked { .. }) => {}
            created => return Ok(created?),
        }
    }
    Err(Error::failed("every name in runs/ is taken"))
}

/// Default name of a run.
pub(crate) fn name(loaded: &Loaded) -> String {
    let first = loaded.path.as_ref().or(loaded.config.data.train.first());
    let stem = first.and_then(|path| path.file_stem());
    stem.map_or_else(|| "default".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn has_model(folder: &RunWriter) -> bool {
    std::fs::read_dir(folder.model()).is_ok_and(|mut entries| entries.next().is_some())
        || std::fs::read_dir(folder.checkpoints()).is_ok_and(|mut entries| entries.next().is_some())
}
