//! `surprisal train`: from a text file to a perplexity table.

mod audit;
pub(crate) mod bench;
pub(crate) mod checkpoint;
mod counted;
mod divergence;
mod length;
mod logs;
mod neural;
mod optimiser;
mod record;
mod spikes;
mod state;
mod step;
mod table;
mod targets;
mod weights;

use std::path::{Path, PathBuf};

use serde_json::json;
use surprisal_model::LanguageModel;
use surprisal_model::ngram::{Counts, Smoothing};
use surprisal_platform::threads::Pool;
use surprisal_store::Error;
use surprisal_store::checkpoint::Checkpoint;
use surprisal_store::run::{RunFolder, RunWriter};

use crate::cli;
use crate::config::{self, Config, Loaded};
use crate::data::Prepared;
use crate::evaluate::Evaluation;
use crate::failure::{Failure, Kind, Result};
use crate::generation;
use crate::identity::{self, Identity};
use crate::kind;
use crate::output::Output;
use crate::outputs;
use crate::runs;
use crate::sampling::Sampling;
use crate::saved;
use crate::signals::Stop;
use crate::wording::{many, number, shown};
use logs::Logs;
use record::Record;
use state::Account;
use table::Table;

/// What a run without a config does.
const DEFAULT_CONFIG: &str = include_str!("../../../../configs/default.toml");

/// Runs the command; gives the run that a report is to be made of.
pub(crate) fn run(arguments: &cli::Train, output: &Output, stop: &Stop) -> Result<Option<PathBuf>> {
    let started = std::time::Instant::now();
    let mut loaded = if arguments.resume { continue_config(arguments)? } else { configure(arguments)? };
    // Before the texts: a run that has ended needs none.
    let done = arguments.out.as_ref().filter(|_| arguments.resume).and_then(|out| runs::done(out));
    if let (Some(result), Some(out)) = (done, &arguments.out) {
        output.event(&result)?;
        let steps = many(result["steps"].as_u64().unwrap_or(0), "step");
        let run = shown(out);
        output.say(format!("{run}: this run is finished ({steps}), and stays as it is"));
        let new = format!("surprisal train {run}/config.toml");
        match loaded.config.model.kind.as_str() {
            "ngram" | "uniform" => {}
            "transformer" => output.say(format!(
                "to train on from its weights: surprisal export {run} --format hf --out FOLDER, then {new} --set \
                 model.init_from=FOLDER --out NEW"
            )),
            _ => output.say(format!("for a longer run: {new} --set train.steps=N --out NEW")),
        }
        if arguments.audit || arguments.tui || !arguments.log.is_empty() {
            return Err(Failure::usage("--log, --audit and --tui mean nothing to a run that is finished")
                .hint("--report writes its page"));
        }
        return Ok(arguments.report.then(|| out.clone()));
    }
    check_use(arguments, &loaded, output)?;
    let threads =
        if loaded.config.train.threads == 0 { config::cores() } else { loaded.config.train.threads };
    let pool = Pool::new(threads)?;
    if arguments.tui {
        output.start_dashboard()?;
    }

    if !arguments.resume {
        let data = &loaded.config.data;
        let inputs = [&data.train[..], &data.val].concat();
        // config.toml, which names them, is UTF-8.
        if let Some(path) = inputs.iter().find(|path| path.to_str().is_none()) {
            let message = format!(
                "the name of {} is not UTF-8, and a run keeps the names of its texts",
                path.display()
            );
            return Err(Failure::usage(message).hint("rename the file, or train on a copy of it"));
        }
        match &arguments.out {
            Some(out) => outputs::new_folder(out, &inputs)?,
            None => outputs::writable(&Path::new("runs").join(name(&loaded)), &inputs)?,
        }
    }
    // Everything that can be wrong with the texts shows before anything is written.
    let data = Prepared::load(&loaded.config, arguments.resume, None, output)?;
    let follows = fit_length(&mut loaded, &data)?;
    output.say_notices(&[loaded.notices.as_slice(), &follows].concat());
    let config = &loaded.config;
    let plan = Plan::of(config, &data)?;
    let (folder, checkpoint) = match &arguments.out {
        Some(out) if arguments.resume => {
            let folder = RunWriter::resume(out)?;
            let checkpoint = saved::newest(&folder, output)?;
            (folder, checkpoint)
        }
        _ => (open_folder(arguments, &loaded)?, None),
    };
    let (audit, log) = (arguments.audit, arguments.log.as_slice());
    let outcome = {
        let (data, folder, pool, stop, from) = (&data, &folder, &pool, stop, checkpoint.as_ref());
        identified(&loaded, data, from).and_then(|(text, identity)| {
            if arguments.resume && from.is_none() {
                runs::refuse_whole(folder.root(), &identity)?;
            }
            Run { config, text, identity, data, folder, pool, output, stop, audit, log, started }
                .train(plan, from)
        })
    };
    match outcome {
        // Nothing that was worth keeping yet: leave no debris. After a divergence the batch is.
        Err(failure) if !arguments.resume && failure.kind != Kind::Diverged && !has_model(&folder) => {
            // Not there, most often; what cannot be removed is in the way of no later run.
            drop(std::fs::remove_dir_all(folder.root().join(logs::FOLDER)));
            folder.abandon()?;
            Err(failure)
        }
        // One that was made before it stopped is out of date.
        outcome => {
            outcome.map(|()| (arguments.report || folder.report().exists()).then(|| folder.root().to_owned()))
        }
    }
}

/// Trains what `loaded` says into `out`, which is created, or gone on with where it is there: one cell of a comparison,
/// the same to the bit as the same config run alone.
///
/// # Errors
/// As [`run`]'s.
pub(crate) fn train_into(
    out: &Path,
    loaded: &Loaded,
    data: &Prepared,
    pool: &Pool,
    output: &Output,
    stop: &Stop,
) -> Result<()> {
    if runs::done(out).is_some() {
        return Ok(());
    }
    let plan = Plan::of(&loaded.config, data)?;
    let (folder, checkpoint) = if RunFolder::open(out).is_ok() {
        let folder = RunWriter::resume(out)?;
        let checkpoint = saved::newest(&folder, output)?;
        (folder, checkpoint)
    } else {
        (RunWriter::create(out)?, None)
    };
    let (config, folder, from) = (&loaded.config, &folder, checkpoint.as_ref());
    let (text, identity) = identified(loaded, data, from)?;
    let started = std::time::Instant::now();
    Run { config, text, identity, data, folder, pool, output, stop, audit: false, log: &[], started }
        .train(plan, from)
}

/// What config.toml holds, or is to hold, and whose run that makes it.
fn identified(loaded: &Loaded, data: &Prepared, from: Option<&Checkpoint>) -> Result<(String, Identity)> {
    let text = match from {
        Some(_) => loaded.text.clone(),
        None => config::resolved(&loaded.config)?,
    };
    let identity = Identity::of(&text, data)?;
    Ok((text, identity))
}

/// Whether the model is counted instead of trained.
fn is_counted(config: &Config) -> bool {
    matches!(config.model.kind.as_str(), "ngram" | "uniform")
}

/// About how much memory it takes to train what `config` says, in bytes.
pub(crate) fn memory(config: &Config, data: &Prepared) -> Result<u64> {
    let vocab_size = data.tokenizer.vocab_size();
    if is_counted(config) {
        let ngram = crate::config::ngram_config(&config.model, None, None)?;
        return Ok(Counts::memory(data.train.ids.len(), vocab_size, ngram.order));
    }
    let neural = crate::architecture::neural_config(config, vocab_size)?;
    Ok(neural.estimate_bytes(config.train.batch_size, config.train.block_size))
}

/// Makes a warm-up that only the config asks for fit a length of the run that was said; gives what there is to say about
/// what the run is too short for.
///
/// # Errors
/// A text that is too short to train on.
pub(crate) fn fit_length(loaded: &mut Loaded, data: &Prepared) -> Result<Vec<String>> {
    let train = &loaded.config.train;
    let tokens = data.train.ids.len();
    if is_counted(&loaded.config)
        || data.train.unit == surprisal_text::Unit::Stream && tokens <= train.block_size
    {
        return Ok(Vec::new());
    }
    let batches = surprisal_text::Batches::new(data.train.clone(), train.block_size, train.seed)?;
    let length::Length::Steps(steps) = length::Length::of(train, &batches) else { return Ok(Vec::new()) };
    let mut notices = Vec::new();
    let said = config::LENGTHS.iter().find_map(|key| loaded.said(&format!("train.{key}")));
    let (warmup, tenth) = (loaded.config.optim.warmup, steps / 10);
    if warmup > 0 && warmup >= steps {
        notices.push(match said.filter(|_| loaded.said("optim.warmup").is_none()) {
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
        if let Some(said) = loaded.said(key).filter(|_| every > steps) {
            notices.push(format!(
                "{said} is more than the run's {}: only its end counts",
                many(steps as u64, "step")
            ));
        }
    }
    Ok(notices)
}

/// What is to be trained, checked against the data and the machine's memory.
enum Plan {
    Counted,
    Neural(surprisal_model::neural::NeuralConfig),
}

impl Plan {
    fn of(config: &Config, data: &Prepared) -> Result<Self> {
        let needed = memory(config, data)?;
        if is_counted(config) {
            let hint = "make the order (model.order) or the text (data.train_fraction) smaller";
            crate::memory::check(needed, "counting this text", hint)?;
            return Ok(Self::Counted);
        }
        let hint =
            "make the model (n_layer, n_embd), the batch (batch_size, block_size) or the vocabulary smaller";
        crate::memory::check(needed, &format!("training this {}", config.model.kind), hint)?;
        let neural = crate::architecture::neural_config(config, data.tokenizer.vocab_size())?;
        let train = &config.train;
        let tokens = data.train.ids.len();
        if data.train.unit == surprisal_text::Unit::Stream && tokens <= train.block_size {
            return Err(Failure::failed(format!(
                "the training text has {}, too few for one window of block_size = {}",
                many(tokens as u64, "token"),
                train.block_size
            ))
            .hint("give more text, or set a smaller train.block_size"));
        }
        Ok(Self::Neural(neural))
    }
}

/// What the parts of a run share.
struct Run<'a> {
    config: &'a Config,
    /// What config.toml holds, or is to hold.
    text: String,
    identity: Identity,
    data: &'a Prepared,
    folder: &'a RunWriter,
    pool: &'a Pool,
    output: &'a Output,
    stop: &'a Stop,
    audit: bool,
    log: &'a [cli::Log],
    started: std::time::Instant,
}

impl Run<'_> {
    fn train(&self, plan: Plan, from: Option<&Checkpoint>) -> Result<()> {
        let record = self.begin(from)?;
        self.work(plan, from, record)
    }

    /// The files that a run has from its first moment; a resumed run has them, and its record is cut back to where
    /// the checkpoint was made.
    fn begin(&self, from: Option<&Checkpoint>) -> Result<Record> {
        if let Some(checkpoint) = from {
            let offset = saved::metrics_offset(checkpoint, &self.identity)?;
            let logs = Logs::new(self.folder.root(), self.log, Some(checkpoint.step));
            return Ok(Record::new(self.folder.open_metrics(offset)?, logs));
        }
        let text = &self.text;
        self.folder
            .write_config(&format!("# The settings of this run, with every default filled in.\n\n{text}"))?;
        self.folder.write_tokenizer(&self.data.tokenizer.to_json()?)?;
        let logs = Logs::new(self.folder.root(), self.log, None);
        Ok(Record::new(self.folder.open_metrics(0)?, logs))
    }

    /// Trains, saves, reports.
    fn work(&self, plan: Plan, from: Option<&Checkpoint>, mut record: Record) -> Result<()> {
        let Self { config, data, folder, pool, output, .. } = *self;
        let table = Table::of(config, data, output);
        if from.is_none() {
            let start = json!({
                "event": "start", "version": env!("CARGO_PKG_VERSION"), "kind": config.model.kind,
                "tokenizer": data.tokenizer.kind().to_string(), "vocab_size": data.tokenizer.vocab_size(),
                "train_tokens": data.train.scored(), "val_tokens": data.val.scored(), "seed": config.train.seed,
                "texts": { "train": identity::text_hash(&data.train), "val": identity::text_hash(&data.val) },
                "opening": data.opening()?, "identity": self.identity,
            });
            record.event(&start, output)?;
            counted::baselines(data, table, pool, &mut record, output)?;
        }
        let (model, evaluation, account): (Box<dyn LanguageModel>, Evaluation, Account) = match plan {
            Plan::Counted => counted::train(config, data, table, folder, pool, output)?,
            Plan::Neural(neural_config) => {
                let neural = weights::initialise(config, &neural_config)?;
                let mut trainer = neural::Trainer {
                    config,
                    data,
                    pool,
                    output,
                    record: &mut record,
                    audit: if self.audit { audit::STEPS } else { 0 },
                    folder,
                    saver: checkpoint::Saver::new(folder, &config.checkpoint, &self.identity),
                    stop: self.stop,
                    last: None,
                };
                let (lm, evaluation, account) = trainer.run(neural, from)?;
                (Box::new(lm), evaluation, account)
            }
        };
        self.show_sample(model.as_ref(), &mut record)?;
        let result = json!({
            "event": "result", "eval": evaluation, "parameters": account.parameters,
            "train_seconds": account.train_seconds, "wall_seconds": self.started.elapsed().as_secs_f64(),
            "tokens_per_second": account.tokens_per_second, "epochs": account.epochs, "steps": account.steps,
            "run": folder.root().display().to_string(),
        });
        record.event(&result, output)?;
        record.finish()?;
        output.say(summary(&evaluation, &account, folder.root()));
        Ok(())
    }

    /// A short sample, so that a person sees what the numbers mean.
    fn show_sample(&self, model: &dyn LanguageModel, record: &mut Record) -> Result<()> {
        let Self { config, data, output, .. } = *self;
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
        if let Err(failure) =
            generation::write(model, &data.tokenizer, &data.opening()?, tokens, sampling, seed, emit)
        {
            output.say(format!("the sample ends early: {}", failure.message));
        }
        output.say(format!("\na sample at temperature {temperature}:\n{}\n", indent(&text)));
        record.event(
            &json!({ "event": "sample", "text": text, "temperature": temperature, "seed": seed }),
            output,
        )
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
}

fn summary(evaluation: &Evaluation, account: &Account, root: &Path) -> String {
    let mut line = format!(
        "validation: {} nats a token, perplexity {}, {} bits a byte",
        number(evaluation.nats_per_token(), 4),
        number(evaluation.perplexity(), 3),
        number(evaluation.bits_per_byte(), 4)
    );
    if let Some(unknown) = evaluation.unknown() {
        line.push_str(&format!("\n            {unknown}"));
    }
    if let (Some(entropy), Some(kl)) = (evaluation.source_entropy(), evaluation.kl()) {
        line.push_str(&format!("\n            = H(p) {entropy:.4} + KL(p‖q) {kl:.4}"));
    }
    line.push_str(&format!(
        "\n{}, {}, {:.2} epochs, {} of training; the run is in {}",
        many(account.parameters, "parameter"),
        many(account.steps as u64, "step"),
        account.epochs,
        crate::wording::duration(account.train_seconds),
        shown(root)
    ));
    line
}

/// The configuration that the command line asks for, checked.
fn configure(arguments: &cli::Train) -> Result<Loaded> {
    let is_config = |path: &PathBuf| cli::suffix(path) == "toml";
    let (path, texts) = match arguments.inputs.split_first() {
        Some((first, rest)) if is_config(first) => (Some(first.as_path()), rest),
        _ => (None, arguments.inputs.as_slice()),
    };
    if let Some(second) = texts.iter().find(|path| is_config(path)) {
        return Err(Failure::usage(format!("{} cannot be used as a text: it is a config", second.display()))
            .hint("give one config, first"));
    }
    let mut set = arguments.set.clone();
    set.extend(arguments.budget.as_ref().map(|budget| format!("{}{budget}", config::BUDGET)));
    let mut loaded = match path {
        Some(_) => config::load(path, &set)?,
        None => config::parse("the default config", DEFAULT_CONFIG, &set)?,
    };
    if texts.is_empty() {
        config::texts(&loaded, "train")?;
    } else {
        if let Some(set) = set.iter().find(|set| set.trim_start().starts_with("data.train=")) {
            let message = format!("--set {set} and {} both say what to train on", texts[0].display());
            return Err(Failure::usage(message).hint("keep one of them"));
        }
        loaded.config.data.train = texts.to_vec();
    }
    config::texts(&loaded, "val")?;
    config::check(&mut loaded)?;
    Ok(loaded)
}

/// Refuses flags that would change nothing, and says which settings do not, and which texts were probably no texts.
fn check_use(arguments: &cli::Train, loaded: &Loaded, output: &Output) -> Result<()> {
    let config = &loaded.config;
    kind::say_configs(&[&config.data.train[..], &config.data.val].concat(), output);
    let kind = config.model.kind.as_str();
    let counted = matches!(kind, "ngram" | "uniform");
    for (flag, given) in [("budget", arguments.budget.is_some()), ("audit", arguments.audit)] {
        if given && counted {
            return Err(Failure::usage(format!(
                "--{flag} means nothing here: a model of kind \"{kind}\" is counted, not trained step by step"
            ))
            .hint("leave it away, or choose another model.kind"));
        }
    }
    for set in &arguments.set {
        let name = set.split('=').next().unwrap_or_default().trim();
        let of_steps =
            ["optim.", "train.", "eval.", "checkpoint."].iter().any(|section| name.starts_with(section));
        let why = if counted && of_steps && !matches!(name, "train.seed" | "train.threads") {
            format!(": a model of kind \"{kind}\" is counted")
        } else if acts(name, config) {
            continue;
        } else {
            " beside the other settings".to_owned()
        };
        output.warn(format!("note: {name} changes nothing{why}"));
    }
    Ok(())
}

/// Whether a setting can change anything beside the others.
fn acts(name: &str, config: &Config) -> bool {
    let Config { model, optim, train, .. } = config;
    let descends = |kinds: &[&str]| kinds.contains(&optim.kind.as_str());
    let smoothing = Smoothing::ALL.into_iter().find(|kind| Some(kind.name()) == model.smoothing.as_deref());
    let tuned = model.tune == Some(true);
    match name {
        "optim.momentum" => descends(&["sgd", "muon"]),
        "optim.nesterov" => descends(&["sgd"]),
        "optim.muon_lr" => descends(&["muon"]),
        "optim.betas" | "optim.eps" => descends(&["adamw", "muon"]),
        "optim.cooldown" => optim.schedule == "wsd",
        "optim.min_lr" => optim.schedule != "constant",
        "train.ramp_steps" => train.batch_start.is_some() || train.block_start.is_some(),
        "loss.smooth_order" => config.loss.smooth_toward == "kneser_ney",
        "data.val_fraction" => config.data.val.is_empty(),
        "data.embedded" => config.data.train.is_empty(),
        "sample.temperature" => config.sample.tokens > 0,
        "model.k" => smoothing == Some(Smoothing::AddK) && !tuned,
        "model.tune" => smoothing.is_some_and(Smoothing::is_tunable),
        "model.heldout" => tuned || smoothing == Some(Smoothing::JelinekMercer),
        "model.compat" => smoothing.is_some_and(Smoothing::counts_contexts),
        _ => true,
    }
}

/// The configuration of the run in --out, which goes on as it was begun.
fn continue_config(arguments: &cli::Train) -> Result<Loaded> {
    let Some(out) = &arguments.out else {
        return Err(Failure::usage("--resume needs --out").hint("name the run folder to go on with"));
    };
    if !(arguments.inputs.is_empty() && arguments.set.is_empty() && arguments.budget.is_none()) {
        return Err(Failure::usage("--resume takes the run's own settings, and no others")
            .hint("start a new run to change settings"));
    }
    let folder = runs::open(out)?;
    let mut loaded = config::load(Some(&folder.config()), &[])?;
    config::check(&mut loaded)?;
    Ok(loaded)
}

/// Creates the run folder that was asked for, or the next free one in `runs/`.
fn open_folder(arguments: &cli::Train, loaded: &Loaded) -> Result<RunWriter> {
    if let Some(out) = &arguments.out {
        return Ok(RunWriter::create(out)?);
    }
    let stem = name(loaded);
    for number in 1.. {
        let name = if number == 1 { stem.clone() } else { format!("{stem}-{number}") };
        let path = Path::new("runs").join(name);
        if path.exists() {
            continue;
        }
        match RunWriter::create(path) {
            // Another run has taken it meanwhile.
            Err(Error::Occupied { .. } | Error::Locked { .. }) => {}
            created => return Ok(created?),
        }
    }
    Err(Failure::failed("every name in runs/ is taken"))
}

/// What a run is called that nobody named.
fn name(loaded: &Loaded) -> String {
    let first = loaded.path.as_ref().or(loaded.config.data.train.first());
    let stem = first.and_then(|path| path.file_stem());
    stem.map_or_else(|| "default".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn has_model(folder: &RunWriter) -> bool {
    std::fs::read_dir(folder.model()).is_ok_and(|mut entries| entries.next().is_some())
        || std::fs::read_dir(folder.checkpoints()).is_ok_and(|mut entries| entries.next().is_some())
}
