//! Does smoothing help on this text, and why?
//!
//! A grid of variants × seeds, each cell a run of its own: the same folder, the same bits, as if [`train()`](crate::train()) had
//! made it. Several are made at a time, all on the threads of one pool; one that is finished is never made again. All models are
//! judged by one reading of the validation text ([`measure`]).

pub mod cell;
mod grid;
pub mod measure;
pub mod statistics;
pub mod summary;
pub mod tables;
pub mod truth;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use surprisal_store::atomic;
use surprisal_store::lock::Lock;
use surprisal_store::read::regular_text;
use surprisal_store::run_dir::refuse_occupied;

use crate::config::{self, Override};
use crate::data::Prepared;
use crate::error::{Advice, Error, Kind, Result};
use crate::events::{CellMade, Context, Event, Note};
use crate::memory;
use crate::outputs;
use crate::train;
use cell::{Cell, Finished, Text};
use grid::{Grid, Variant};
use summary::{Difference, Row};

/// What is left of a comparison beside its cells, and the page.
const TOLD: &str = "comparison.json";

/// What is to be compared.
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
    /// Texts to train on and to be judged by, instead of the config's own.
    pub texts: Vec<PathBuf>,
    /// What is said of every variant beside the file.
    pub set: Vec<Override>,
    /// The seeds, instead of the config's own.
    pub seeds: Vec<u64>,
    /// How many cells at a time, instead of as many as the machine has cores.
    pub jobs: Option<usize>,
    /// Where its runs are kept, instead of in `runs/` by the config's name.
    pub out: Option<PathBuf>,
}

/// What a comparison found. While it lives, no other process writes to its folder.
#[derive(Debug)]
pub struct Comparison {
    /// The config's name.
    pub name: String,
    /// Its folder.
    pub root: PathBuf,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// A row a variant.
    pub rows: Vec<Row>,
    /// What each row is compared with.
    pub differences: Vec<Difference>,
    /// How long it took this time.
    pub wall_seconds: f64,
    texts: Vec<Text>,
    _lock: Lock,
}

impl Comparison {
    /// The text that row `row` was made on.
    pub fn text(&self, row: usize) -> &Text {
        &self.texts[self.rows[row].text]
    }

    /// All numbers: what comparison.json holds.
    pub fn to_json(&self) -> Value {
        json!({
            "event": "result", "name": self.name, "seeds": self.seeds, "run": self.root.display().to_string(),
            "wall_seconds": self.wall_seconds,
            "variants": self.rows.iter().map(summary::row_json).collect::<Vec<_>>(),
            "differences": self.differences.iter().map(summary::difference_json).collect::<Vec<_>>(),
        })
    }
}

/// Makes a comparison, or what is missing of one.
///
/// # Errors
/// What is wrong with the file, or with a variant's settings or texts, before any work; what went wrong with a cell, by its name;
/// [`Control::stop`](crate::Control::stop).
pub fn compare(options: &Options, ctx: &Context<'_>) -> Result<Comparison> {
    let started = std::time::Instant::now();
    let grid = Grid::load(options)?;
    let root = options.out.clone().unwrap_or_else(|| Path::new("runs").join(&grid.name));
    refuse_foreign(&root)?;
    let (cells, texts) = plan(&grid, &root, ctx)?;
    if !options.seeds.is_empty() && cells.iter().all(|cell| cell.loaded.config.model.is_counted()) {
        ctx.note(Note::SeedsUnused)?;
    }
    let mut finished = Vec::new();
    for cell in &cells {
        finished.push(cell.finished(&root, &texts[cell.text].data)?);
    }
    let waiting: Vec<usize> = (0..cells.len()).filter(|&index| finished[index].is_none()).collect();
    // What is wrong with a cell shows when it is made.
    let needed = |cell: &Cell| train::memory(&cell.loaded.config, &texts[cell.text].data).unwrap_or(0);
    let needed = waiting.iter().map(|&index| needed(&cells[index])).max().unwrap_or(0);
    let jobs = jobs(&grid, waiting.len(), needed, ctx)?;
    std::fs::create_dir_all(&root)
        .map_err(|error| Error::failed(format!("cannot create {}: {error}", root.display())))?;
    // Nothing is left of a folder in which nothing can be written.
    let lock = Lock::acquire(&root).inspect_err(|_| drop(std::fs::remove_dir(&root)))?;
    outputs::file(&root.join(outputs::PAGE), &[&options.config])?;
    ctx.tell(&Event::Comparing {
        variants: grid.variants.len(),
        cells: cells.len(),
        finished: cells.len() - waiting.len(),
        jobs,
        threads: ctx.pool.threads(),
    })?;
    let make = |index: usize| make(&cells[index], &texts, &grid, &root, ctx);
    for (index, made) in work(&waiting, make, jobs, ctx)? {
        finished[index] = Some(made);
    }
    let mut rows: Vec<Row> = Vec::new();
    for (cell, finished) in cells.iter().zip(finished) {
        if cell.variant == rows.len() {
            let Variant { name, against, .. } = grid.variants[cell.variant].clone();
            let judged_by = texts[cell.text].judged_by.clone();
            rows.push(Row { name, against, text: cell.text, judged_by, cells: Vec::new() });
        }
        rows[cell.variant].cells.extend(finished);
    }
    let comparison = Comparison {
        differences: summary::differences(&rows),
        name: grid.name,
        root,
        seeds: grid.seeds,
        rows,
        wall_seconds: started.elapsed().as_secs_f64(),
        texts,
        _lock: lock,
    };
    let json = serde_json::to_vec_pretty(&comparison.to_json())?;
    atomic::write(comparison.root.join(TOLD), &json)?;
    Ok(comparison)
}

/// How many of `cells` are made at a time: as many as was said, or as there are cores for, and memory, of which each of them has
/// `needed`.
fn jobs(grid: &Grid, cells: usize, needed: u64, ctx: &Context<'_>) -> Result<usize> {
    let jobs = grid.jobs.unwrap_or_else(config::cores).min(cells).max(1);
    let fit =
        surprisal_platform::memory::available().map_or(jobs, |free| (free / needed.max(1)).max(1) as usize);
    if jobs > fit && grid.jobs.is_some() {
        let what = format!("making {jobs} cells at a time");
        memory::check(needed * jobs as u64, &what, Advice::JobsThatFit(fit))?;
    } else if jobs > fit {
        ctx.note(Note::MemoryForJobs(fit))?;
    }
    Ok(jobs.min(fit))
}

/// Refuses a folder that is there and is no comparison's, finished or not, and one that another process writes to.
fn refuse_foreign(root: &Path) -> Result<()> {
    Lock::refuse_held(root)?;
    let ours = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            ["cells", TOLD, outputs::PAGE, "lock"].iter().any(|name| entry.file_name() == *name)
        })
    };
    let begun = std::fs::read_dir(root).is_ok_and(|mut entries| entries.all(ours));
    let ended = regular_text(root.join(TOLD)).is_ok_and(|json| json.contains("\"differences\":"));
    if ended || begun && root.join("cells").is_dir() { Ok(()) } else { Ok(refuse_occupied(root)?) }
}

/// All cells, and the texts that they share: whatever is wrong with one shows before any work.
fn plan(grid: &Grid, root: &Path, ctx: &Context<'_>) -> Result<(Vec<Cell>, Vec<Text>)> {
    let mut cells = Vec::new();
    let mut texts = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut notices: Vec<String> = Vec::new();
    for (index, variant) in grid.variants.iter().enumerate() {
        let folder = grid::folder_name(&variant.name, &folders);
        folders.push(folder.clone());
        for &seed in &grid.seeds {
            let mut loaded = variant.cell(seed)?;
            let config = &loaded.config;
            let key = format!("{:?} {:?}", config.data, config.tokenizer);
            let text = match known.get(&key) {
                Some(&text) => text,
                None => {
                    outputs::writable(root, &[&config.data.train[..], &config.data.val].concat())?;
                    let data = Prepared::load(config, false, None, ctx)?;
                    texts.push(Text::of(config, data)?);
                    known.insert(key, texts.len() - 1);
                    texts.len() - 1
                }
            };
            let follows = crate::train::fit_length(&mut loaded, &texts[text].data)?;
            loaded.text = crate::config::resolved(&loaded.config)?;
            for notice in loaded.notices.iter().chain(&follows) {
                if !notices.contains(notice) {
                    ctx.note(Note::Text(notice.clone()))?;
                    notices.push(notice.clone());
                }
            }
            // A model that is counted has no use for a seed.
            let seeded = !loaded.config.model.is_counted();
            let folder = if seeded { folder.join(format!("seed-{seed}")) } else { folder.clone() };
            cells.push(Cell { variant: index, seed, loaded, folder: Path::new("cells").join(folder), text });
            if !seeded {
                break;
            }
        }
    }
    Ok((cells, texts))
}

fn make(cell: &Cell, texts: &[Text], grid: &Grid, root: &Path, ctx: &Context<'_>) -> Result<Finished> {
    let began = std::time::Instant::now();
    let name = &grid.variants[cell.variant].name;
    let finished = cell
        .make(root, &texts[cell.text], &Context::new(ctx.pool, ctx.events, ctx.control))
        .map_err(|failure| failure.within(format_args!("\"{name}\", seed {}", cell.seed)))?;
    ctx.tell(&Event::CellMade(CellMade {
        name: name.clone(),
        seed: cell.seed,
        run: finished.folder.clone(),
        diverged: finished.diverged.clone(),
        eval: finished.result["eval"].clone(),
        seconds: began.elapsed().as_secs_f64(),
        seeded: !cell.loaded.config.model.is_counted(),
    }))?;
    Ok(finished)
}

/// Makes the cells that are not there yet, several at a time, each driven by a thread of its own, all on the threads of one pool.
/// A failure ends the work once the others are done.
fn work(
    waiting: &[usize],
    make: impl Fn(usize) -> Result<Finished> + Sync,
    jobs: usize,
    ctx: &Context<'_>,
) -> Result<Vec<(usize, Finished)>> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<(usize, Finished)>> {
        let mut made = Vec::new();
        while !ctx.control.is_stopped() {
            let Some(&index) = waiting.get(next.fetch_add(1, Ordering::SeqCst)) else { break };
            made.push((index, make(index)?));
        }
        Ok(made)
    };
    let made = std::thread::scope(|scope| -> Result<Vec<_>> {
        let mut handles = Vec::new();
        for job in 0..jobs {
            let spawned = std::thread::Builder::new().name(format!("cell-{job}")).spawn_scoped(scope, worker);
            handles.push(spawned.map_err(|error| Error::failed(format!("cannot start a thread: {error}")))?);
        }
        let panicked = |_| Err(Error::failed("a cell's thread panicked"));
        Ok(handles.into_iter().map(|handle| handle.join().unwrap_or_else(panicked)).collect())
    })?;
    if ctx.control.is_stopped() {
        let message = "stopped; cells that are finished stay so, those that make steps have a checkpoint";
        return Err(Error { kind: Kind::Stopped, ..Error::failed(message).hint(Advice::GoOn) });
    }
    let made = made.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(made.into_iter().flatten().collect())
}
