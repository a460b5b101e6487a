//! Comparisons: variants of a config × seeds, with paired differences.
//!
//! Each trial is a separate run with the same files and bits as by [`train()`](crate::train()).
//! Several trials run at a time on the threads of one pool; finished ones are not repeated. All
//! models are evaluated on the same validation text ([`diagnostics`]).

pub mod common;
pub mod consistency;
pub mod diagnostics;
pub mod learning_curve;
pub mod oracle;
pub mod power_law;
mod served;
mod spec;
pub mod statistics;
pub mod summary;
pub mod tables;
pub mod trial;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use surprisal_store::atomic;
use surprisal_store::lock::Lock;
use surprisal_store::read::regular_text;
use surprisal_store::run_dir::refuse_occupied;
use surprisal_text::Granularity;

use crate::config::{self, Loaded, Override};
use crate::data::Dataset;
use crate::error::{Advice, Error, ExitKind, Result};
use crate::events::{Context, Event, Note, TrialFinished};
use crate::memory;
use crate::outputs;
use crate::train;
use common::CommonTokens;
use learning_curve::LearningCurve;
pub(crate) use served::serve;
use spec::{ComparisonSpec, Variant};
use summary::{Difference, VariantSummary};
use trial::{SharedText, Trial, TrialRecord};

/// The file of a comparison's results.
const RESULTS: &str = "comparison.json";

/// The request of a comparison.
///
/// ```
/// use surprisal_engine::compare::{Options, compare};
/// use surprisal_engine::{Context, Control, Silent, platform::threads::Pool};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("surprisal-options-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let config = folder.join("orders.toml");
/// std::fs::write(&config, r#"
/// [[variant]]
/// name = "unigram"
/// model = { kind = "ngram", order = 1, smoothing = "witten_bell" }
/// [[variant]]
/// name = "bigram"
/// model = { kind = "ngram", order = 2, smoothing = "witten_bell" }
/// "#)?;
/// let options = Options { config, out: Some(folder.join("out")), jobs: Some(1), ..Options::default() };
/// let found = compare(&options, &Context::new(&Pool::new(1)?, &Silent, &Control::new()))?;
/// assert_eq!(found.rows.len(), 2);
/// # drop(found);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The comparison's file: shared settings, variants, grids, seeds.
    pub config: PathBuf,
    /// Texts to train on and to validate with, instead of the config's.
    pub texts: Vec<PathBuf>,
    /// Overrides of every variant's settings.
    pub set: Vec<Override>,
    /// Seeds, instead of the config's.
    pub seeds: Vec<u64>,
    /// Number of trials at a time, instead of the number of cores.
    pub jobs: Option<usize>,
    /// Folder of its runs, instead of `runs/` and the config's name.
    pub out: Option<PathBuf>,
}

/// Results of a comparison. While it exists, no other process writes to its folder.
#[derive(Debug)]
pub struct Comparison {
    /// Name of the config file.
    pub name: String,
    /// Its folder.
    pub root: PathBuf,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// One for each variant.
    pub rows: Vec<VariantSummary>,
    /// Paired differences between variants.
    pub differences: Vec<Difference>,
    /// Losses by the size of the text, where variants differ in it.
    pub curves: Vec<LearningCurve>,
    /// Duration of this call, in seconds.
    pub wall_seconds: f64,
    texts: Vec<SharedText>,
    _lock: Lock,
}

impl Comparison {
    /// The text of variant `row`.
    pub fn text(&self, row: usize) -> &SharedText {
        &self.texts[self.rows[row].text]
    }

    /// All numbers, as in comparison.json.
    pub fn to_json(&self) -> Value {
        json!({
            "event": "result", "name": self.name, "seeds": self.seeds, "run": self.root.display().to_string(),
            "wall_seconds": self.wall_seconds,
            "variants": self.rows.iter().map(summary::row_json).collect::<Vec<_>>(),
            "differences": self.differences.iter().map(summary::difference_json).collect::<Vec<_>>(),
            "learning_curves": self.curves.iter().map(LearningCurve::to_json).collect::<Vec<_>>(),
        })
    }
}

/// Runs the missing trials of a comparison, then compares all.
///
/// # Errors
/// An error in the file, or in a variant's settings or texts, before any training; a trial's
/// failure, with the variant's name; [`Control::stop`](crate::Control::stop).
pub fn compare(options: &Options, ctx: &Context<'_>) -> Result<Comparison> {
    let grid = ComparisonSpec::load(options)?;
    run(grid, options.out.clone(), &[&options.config], !options.seeds.is_empty(), ctx)
}

/// Trains one config with several seeds: a comparison of one variant. `out` is its folder; `None`:
/// `runs/` and the config's name with `-seeds`.
///
/// # Errors
/// As [`compare`]; an n-gram model: it does not depend on the seed.
pub fn repeat(
    settings: &Loaded,
    seeds: Vec<u64>,
    out: Option<PathBuf>,
    ctx: &Context<'_>,
) -> Result<Comparison> {
    if settings.config.model.is_counted() {
        let kind = settings.config.model.kind();
        let message = format!("a model of kind \"{kind}\" is counted: every seed gives the same");
        return Err(Error::usage(message).hint("its interval is over the text"));
    }
    ctx.notes(&settings.notices)?;
    run(ComparisonSpec::of_seeds(settings, seeds)?, out, &[], true, ctx)
}

fn run(
    grid: ComparisonSpec,
    out: Option<PathBuf>,
    inputs: &[&PathBuf],
    seeds_given: bool,
    ctx: &Context<'_>,
) -> Result<Comparison> {
    let started = std::time::Instant::now();
    let root = out.unwrap_or_else(|| Path::new("runs").join(&grid.name));
    refuse_foreign(&root)?;
    let (trials, mut texts) = plan(&grid, &root, ctx)?;
    find_common_text(&mut texts, ctx)?;
    if seeds_given && trials.iter().all(|trial| trial.loaded.config.model.is_counted()) {
        ctx.note(Note::SeedsUnused)?;
    }
    let mut finished = Vec::new();
    for trial in &trials {
        finished.push(trial.finished(&root, &texts[trial.text].data)?);
    }
    let waiting: Vec<usize> = (0..trials.len()).filter(|&index| finished[index].is_none()).collect();
    // An error in a trial's settings is reported when the trial starts.
    let needed = |trial: &Trial| train::memory(&trial.loaded.config, &texts[trial.text].data).unwrap_or(0);
    let needed = waiting.iter().map(|&index| needed(&trials[index])).max().unwrap_or(0);
    let jobs = jobs(&grid, waiting.len(), needed, ctx)?;
    std::fs::create_dir_all(&root)
        .map_err(|error| Error::failed(format!("cannot create {}: {error}", root.display())))?;
    // A folder without write access is not left behind.
    let lock = Lock::acquire(&root).inspect_err(|_| drop(std::fs::remove_dir(&root)))?;
    outputs::file(&root.join(outputs::PAGE), inputs)?;
    ctx.emit(&Event::Comparing {
        variants: grid.variants.len(),
        trials: trials.len(),
        finished: trials.len() - waiting.len(),
        jobs: jobs + ctx.ranks.size() - 1,
        threads: ctx.pool.threads(),
    })?;
    let next = AtomicUsize::new(0);
    let next = || waiting.get(next.fetch_add(1, Ordering::SeqCst)).copied();
    let within = |trial: &Trial, failure: Error| {
        let name = &grid.variants[trial.variant].name;
        failure.within(format_args!("\"{name}\", seed {}", trial.seed))
    };
    let make = |index: usize| {
        let (began, trial) = (std::time::Instant::now(), &trials[index]);
        let own = Context::new(ctx.pool, ctx.events, ctx.control);
        let made = trial.run(&root, &texts[trial.text], &own).map_err(|failure| within(trial, failure))?;
        announce(trial, &made, began.elapsed().as_secs_f64(), &grid, ctx).map(|()| made)
    };
    // By another rank.
    let made = |index: usize, made: Result<(TrialRecord, f64)>| {
        let trial = &trials[index];
        let (made, seconds) = made.map_err(|failure| within(trial, failure))?;
        trial.check(&made, &texts[trial.text].data)?;
        announce(trial, &made, seconds, &grid, ctx).map(|()| made)
    };
    let elsewhere = || {
        let next = || next().map(|index| (index, &trials[index]));
        if waiting.is_empty() || ctx.ranks.is_alone() {
            Ok(Vec::new())
        } else {
            served::hand_out(&root, next, made, ctx)
        }
    };
    for (index, made) in work(next, make, elsewhere, jobs, ctx)? {
        finished[index] = Some(made);
    }
    for (trial, finished) in trials.iter().zip(&mut finished) {
        if let Some(finished) = finished {
            trial.judge(&root, &texts[trial.text], finished, ctx)?;
        }
    }
    let mut rows: Vec<VariantSummary> = Vec::new();
    for (trial, finished) in trials.iter().zip(finished) {
        if trial.variant == rows.len() {
            let Variant { name, against, .. } = grid.variants[trial.variant].clone();
            let text = &texts[trial.text];
            let common = text.common.as_ref().map(|common| common.as_ref().map(|_| ()).map_err(|why| *why));
            let evaluated_on = text.evaluated_on.clone();
            let trials = Vec::new();
            rows.push(VariantSummary { name, against, text: trial.text, evaluated_on, common, trials });
        }
        rows[trial.variant].trials.extend(finished);
    }
    let comparison = Comparison {
        differences: summary::differences(&rows),
        curves: learning_curve::learning_curves(&grid.variants, &rows, &texts, &trials),
        name: grid.name,
        root,
        seeds: grid.seeds,
        rows,
        wall_seconds: started.elapsed().as_secs_f64(),
        texts,
        _lock: lock,
    };
    let json = serde_json::to_vec_pretty(&comparison.to_json())?;
    atomic::write(comparison.root.join(RESULTS), &json)?;
    Ok(comparison)
}

/// Adds to texts with different tokens the one text on which their models are compared: the
/// validation text, folded where one of them has words as tokens.
fn find_common_text(texts: &mut [SharedText], ctx: &Context<'_>) -> Result<()> {
    if texts.windows(2).all(|pair| pair[0].evaluated_on.tokenizer == pair[1].evaluated_on.tokenizer) {
        return Ok(());
    }
    let folded = texts.iter().any(|text| text.data.tokenizer.granularity() == Granularity::Word);
    if folded {
        ctx.note(Note::FoldedText)?;
    }
    for text in texts {
        let Some(corpus) = &text.data.corpus else { continue };
        let common = ctx.pool.install(|| corpus.common_val(folded))?;
        text.common = Some(CommonTokens::new(&common, &text.data.tokenizer, ctx.pool)?);
    }
    Ok(())
}

/// Number of trials at a time: the configured one, or as many as there are cores and memory for;
/// each needs `needed` bytes.
fn jobs(grid: &ComparisonSpec, trials: usize, needed: u64, ctx: &Context<'_>) -> Result<usize> {
    // Of several ranks each makes one at a time.
    let all = || if ctx.ranks.is_alone() { config::cores() } else { 1 };
    let jobs = grid.jobs.unwrap_or_else(all).min(trials).max(1);
    let fit =
        surprisal_platform::memory::available().map_or(jobs, |free| (free / needed.max(1)).max(1) as usize);
    if jobs > fit && grid.jobs.is_some() {
        let what = format!("training {jobs} runs at a time");
        memory::check(needed * jobs as u64, &what, Advice::JobsThatFit(fit))?;
    } else if jobs > fit {
        ctx.note(Note::MemoryForJobs(fit))?;
    }
    Ok(jobs.min(fit))
}

/// Refuses an existing folder that is not a comparison's, or that another process writes to.
fn refuse_foreign(root: &Path) -> Result<()> {
    Lock::refuse_held(root)?;
    let ours = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            ["cells", RESULTS, outputs::PAGE, "lock"].iter().any(|name| entry.file_name() == *name)
        })
    };
    let begun = std::fs::read_dir(root).is_ok_and(|mut entries| entries.all(ours));
    let ended = regular_text(root.join(RESULTS)).is_ok_and(|json| json.contains("\"differences\":"));
    if ended || begun && root.join("cells").is_dir() { Ok(()) } else { Ok(refuse_occupied(root)?) }
}

/// Settings that trials on the same tokens share.
fn text_key(config: &config::Config) -> String {
    let (start, extended) = (&config.model.init_from, config.model.extend_vocab);
    format!("{:?} {:?} {start:?} {extended}", config.data, config.tokenizer)
}

/// All trials and the texts that they share. Errors in settings and texts are reported here, before
/// any training.
fn plan(grid: &ComparisonSpec, root: &Path, ctx: &Context<'_>) -> Result<(Vec<Trial>, Vec<SharedText>)> {
    let mut trials = Vec::new();
    let mut texts = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut notices: Vec<String> = Vec::new();
    for (index, variant) in grid.variants.iter().enumerate() {
        let folder = spec::folder_name(&variant.name, &folders);
        folders.push(folder.clone());
        for &seed in &grid.seeds {
            let mut loaded = variant.trial_config(seed)?;
            crate::start::adopt(&mut loaded, ctx)?;
            config::check(&mut loaded)?;
            let config = &loaded.config;
            let key = text_key(config);
            let text = match known.get(&key) {
                Some(&text) => text,
                None => {
                    if !ctx.ranks.is_alone() {
                        let hint = "every rank reads the texts: write them to a file first";
                        crate::data::refuse_pipes(config, hint)?;
                    } else if !texts.is_empty() {
                        let hint =
                            "variants with other tokens or texts read them again: write them to a file first";
                        crate::data::refuse_pipes(config, hint)?;
                    }
                    outputs::writable(root, &[&config.data.train[..], &config.data.val].concat())?;
                    let data = Dataset::load(config, false, None, ctx)?;
                    texts.push(SharedText::new(config, data)?);
                    known.insert(key, texts.len() - 1);
                    texts.len() - 1
                }
            };
            texts[text].data.record_min_count(&mut loaded);
            let follows = crate::train::fit_length(&mut loaded, &texts[text].data)?;
            loaded.text = crate::config::resolved(&loaded.config)?;
            for notice in loaded.notices.iter().chain(&follows) {
                if !notices.contains(notice) {
                    ctx.note(Note::Text(notice.clone()))?;
                    notices.push(notice.clone());
                }
            }
            // Count-based models do not depend on the seed.
            let seeded = !loaded.config.model.is_counted();
            let folder = if seeded { folder.join(format!("seed-{seed}")) } else { folder.clone() };
            trials.push(Trial {
                variant: index,
                seed,
                loaded,
                folder: Path::new("cells").join(folder),
                text,
            });
            if !seeded {
                break;
            }
        }
    }
    Ok((trials, texts))
}

/// Emits the end of a trial that took `seconds`.
fn announce(
    trial: &Trial,
    finished: &TrialRecord,
    seconds: f64,
    grid: &ComparisonSpec,
    ctx: &Context<'_>,
) -> Result<()> {
    ctx.emit(&Event::TrialFinished(TrialFinished {
        name: grid.variants[trial.variant].name.clone(),
        seed: trial.seed,
        run: finished.folder.clone(),
        diverged: finished.diverged.clone(),
        eval: finished.result["eval"].clone(),
        seconds,
        seeded: !trial.loaded.config.model.is_counted(),
    }))
}

/// Makes the missing trials, several at a time: a thread starts each, and all use the threads of
/// one pool; `elsewhere` gives those that other ranks make. After a failure no further trial
/// starts.
fn work(
    next: impl Fn() -> Option<usize> + Sync,
    make: impl Fn(usize) -> Result<TrialRecord> + Sync,
    elsewhere: impl FnOnce() -> Result<Vec<(usize, TrialRecord)>>,
    jobs: usize,
    ctx: &Context<'_>,
) -> Result<Vec<(usize, TrialRecord)>> {
    let worker = || -> Result<Vec<(usize, TrialRecord)>> {
        let mut made = Vec::new();
        while !ctx.control.is_stopped() {
            let Some(index) = next() else { break };
            made.push((index, make(index)?));
        }
        Ok(made)
    };
    let made = std::thread::scope(|scope| -> Result<Vec<_>> {
        let mut handles = Vec::new();
        for job in 0..jobs {
            let spawned =
                std::thread::Builder::new().name(format!("trial-{job}")).spawn_scoped(scope, worker);
            handles.push(spawned.map_err(|error| Error::failed(format!("cannot start a thread: {error}")))?);
        }
        let elsewhere = elsewhere();
        let panicked = |_| Err(Error::failed("a run's thread panicked"));
        let own = handles.into_iter().map(|handle| handle.join().unwrap_or_else(panicked));
        Ok(own.chain([elsewhere]).collect())
    })?;
    if ctx.control.is_stopped() {
        let message = "stopped; finished runs are kept, the others have a checkpoint";
        return Err(Error { kind: ExitKind::Stopped, ..Error::failed(message).hint(Advice::Continue) });
    }
    let made = made.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(made.into_iter().flatten().collect())
}
