//! `surprisal compare`: does smoothing help on this text, and why?
//!
//! A grid of variants × seeds, each cell a run of its own: the same folder, the same bits, as if `train` had made it. Cells
//! are made in parallel, one thread each as long as there are enough of them; one that is finished is never made again.
//! All models are judged by one reading of the validation text ([`measure`]).

pub(crate) mod cell;
mod grid;
pub(crate) mod measure;
pub(crate) mod statistics;
pub(crate) mod summary;
pub(crate) mod table;
mod truth;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use surprisal_platform::threads::Pool;
use surprisal_store::atomic;
use surprisal_store::lock::Lock;
use surprisal_store::read::regular_text;
use surprisal_store::run::refuse_occupied;

use crate::cli;
use crate::config;
use crate::data::Prepared;
use crate::failure::{Failure, Result};
use crate::memory;
use crate::output::Output;
use crate::outputs;
use crate::signals::Stop;
use crate::train;
use crate::wording::{duration, many, shown};
use cell::{Cell, Finished, Text};
use grid::{Grid, Variant};
use summary::{Difference, Row};

/// What is left of a comparison beside its cells: all numbers, and the page.
const TOLD: &str = "comparison.json";
const REPORT: &str = "report.html";

/// Makes the page of a comparison by name: its rows, the text of each, the differences, and the folder.
pub(crate) type Render<'a> = dyn Fn(&str, &[Row], &[&Text], &[Difference], &Path) -> Result<String> + 'a;

/// Runs the command.
pub(crate) fn run(arguments: &cli::Compare, render: &Render<'_>, output: &Output, stop: &Stop) -> Result<()> {
    let started = std::time::Instant::now();
    let grid = Grid::load(arguments)?;
    let root = arguments.out.clone().unwrap_or_else(|| Path::new("runs").join(&grid.name));
    refuse_foreign(&root)?;
    let (cells, texts) = plan(&grid, &root, output)?;
    if !arguments.seeds.is_empty() && !cells.iter().any(|cell| Variant::is_seeded(&cell.loaded.config)) {
        output.warn("note: --seeds changes nothing: all variants are counted, once each");
    }
    let mut found = Vec::new();
    for cell in &cells {
        found.push(cell.finished(&root, &texts[cell.text].data)?);
    }
    let waiting: Vec<&Cell> =
        cells.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(cell, _)| cell).collect();
    let jobs = jobs(&grid, &waiting, &texts, output)?;
    std::fs::create_dir_all(&root)
        .map_err(|error| Failure::failed(format!("cannot create {}: {error}", root.display())))?;
    // Nothing is left of a folder in which nothing can be written.
    let _lock = Lock::acquire(&root).inspect_err(|_| drop(std::fs::remove_dir(&root)))?;
    outputs::file(&root.join(REPORT), &[&arguments.config])?;
    let threads = (config::cores() / jobs).max(1);
    output.say(format!(
        "{}, {}, {} of them finished before; {jobs} at a time, {} each",
        many(grid.variants.len() as u64, "variant"),
        many(cells.len() as u64, "cell"),
        cells.len() - waiting.len(),
        many(threads as u64, "thread")
    ));
    let made = work(&waiting, &texts, &grid, &root, (jobs, threads), (output, stop))?;
    let mut made = made.into_iter();
    let finished: Vec<Option<Finished>> =
        found.into_iter().map(|found| found.or_else(|| made.next().flatten())).collect();
    let mut of_rows: Vec<usize> = vec![0; grid.variants.len()];
    for cell in &cells {
        of_rows[cell.variant] = cell.text;
    }
    let texts: Vec<&Text> = of_rows.into_iter().map(|text| &texts[text]).collect();
    let mut rows: Vec<Row> = grid
        .variants
        .iter()
        .zip(&texts)
        .map(|(variant, text)| Row {
            name: variant.name.clone(),
            against: variant.against.clone(),
            judged_by: text.judged_by,
            cells: Vec::new(),
        })
        .collect();
    for (cell, finished) in cells.iter().zip(finished) {
        rows[cell.variant].cells.extend(finished);
    }
    tell(&grid, (&rows, &texts, &root), render, started.elapsed().as_secs_f64(), output)
}

const STOPPED: &str =
    "stopped by a signal; cells that are finished stay so, those that make steps have a checkpoint";
const GO_ON: &str = "the same command goes on from here";

/// How many cells are made at a time: as many as was said, or as there are cores for, and memory.
fn jobs(grid: &Grid, waiting: &[&Cell], texts: &[Text], output: &Output) -> Result<usize> {
    // What is wrong with a cell shows when it is made.
    let needed = |cell: &&Cell| train::memory(&cell.loaded.config, &texts[cell.text].data).unwrap_or(0);
    let needed = waiting.iter().map(needed).max().unwrap_or(0);
    let jobs = grid.jobs.unwrap_or_else(config::cores).min(waiting.len()).max(1);
    let fit =
        surprisal_platform::memory::available().map_or(jobs, |free| (free / needed.max(1)).max(1) as usize);
    if jobs > fit && grid.jobs.is_some() {
        let what = format!("making {jobs} cells at a time");
        memory::check(needed * jobs as u64, &what, &format!("--jobs {fit} fits"))?;
    } else if jobs > fit {
        output.say(format!("note: there is memory for {fit} at a time"));
    }
    Ok(jobs.min(fit))
}

/// Refuses a folder that is there and is no comparison's, finished or not, and one that another process writes to.
fn refuse_foreign(root: &Path) -> Result<()> {
    Lock::refuse_held(root)?;
    let ours = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| ["cells", TOLD, REPORT, "lock"].iter().any(|name| entry.file_name() == *name))
    };
    let begun = std::fs::read_dir(root).is_ok_and(|mut entries| entries.all(ours));
    let ended = regular_text(root.join(TOLD)).is_ok_and(|json| json.contains("\"differences\":"));
    if ended || begun && root.join("cells").is_dir() { Ok(()) } else { Ok(refuse_occupied(root)?) }
}

/// All cells, and the texts that they share: whatever is wrong with one shows before any work.
fn plan(grid: &Grid, root: &Path, output: &Output) -> Result<(Vec<Cell>, Vec<Text>)> {
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
                    let data = Prepared::load(config, false, None, output)?;
                    texts.push(Text::of(config, data)?);
                    known.insert(key, texts.len() - 1);
                    texts.len() - 1
                }
            };
            let follows = crate::train::fit_length(&mut loaded, &texts[text].data)?;
            loaded.text = crate::config::resolved(&loaded.config)?;
            for notice in loaded.notices.iter().chain(&follows) {
                if !notices.contains(notice) {
                    output.say(format!("note: {notice}"));
                    notices.push(notice.clone());
                }
            }
            let seeded = Variant::is_seeded(&loaded.config);
            let folder = if seeded { folder.join(format!("seed-{seed}")) } else { folder.clone() };
            cells.push(Cell { variant: index, seed, loaded, folder: Path::new("cells").join(folder), text });
            if !seeded {
                break;
            }
        }
    }
    Ok((cells, texts))
}

/// Makes the cells that are not there yet, several at a time. A failure ends the work once the others are done.
fn work(
    waiting: &[&Cell],
    texts: &[Text],
    grid: &Grid,
    root: &Path,
    (jobs, threads): (usize, usize),
    (output, stop): (&Output, &Stop),
) -> Result<Vec<Option<Finished>>> {
    stop.set_words(format!("error: {STOPPED}\n  hint: {GO_ON}"));
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Finished>>>> =
        Mutex::new((0..waiting.len()).map(|_| None).collect());
    let done = AtomicUsize::new(0);
    output.start_bar(waiting.len() as u64, "cells");
    let worker = || -> Result<()> {
        let pool = Pool::new(threads)?;
        while stop.asked().is_none() {
            let index = next.fetch_add(1, Ordering::SeqCst);
            let Some(cell) = waiting.get(index) else { break };
            let began = std::time::Instant::now();
            let made = cell.make(root, &texts[cell.text], &pool, stop);
            if let Ok(finished) = &made {
                say_cell(grid, cell, finished, began.elapsed().as_secs_f64(), output)?;
            }
            let failed = made.is_err();
            results.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[index] = Some(made);
            let position = done.fetch_add(1, Ordering::SeqCst) + 1;
            output.move_bar(position as u64, || grid.variants[cell.variant].name.clone());
            if failed {
                break;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let mut handles = Vec::new();
        for job in 0..jobs {
            let spawned = std::thread::Builder::new().name(format!("cell-{job}")).spawn_scoped(scope, worker);
            handles
                .push(spawned.map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?);
        }
        for handle in handles {
            handle.join().map_err(|_| Failure::failed("a cell's thread panicked"))??;
        }
        Ok(())
    })?;
    output.end_bar();
    if let Some(signal) = stop.asked() {
        return Err(Stop::failure(signal, STOPPED, GO_ON));
    }
    let mut finished = Vec::new();
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (cell, result) in waiting.iter().zip(results) {
        finished.push(match result {
            None => None,
            Some(Ok(made)) => Some(made),
            Some(Err(failure)) => {
                let name = &grid.variants[cell.variant].name;
                let message = format!("\"{name}\", seed {}: {}", cell.seed, failure.message);
                return Err(Failure { message, ..failure });
            }
        });
    }
    Ok(finished)
}

fn say_cell(grid: &Grid, cell: &Cell, made: &Finished, seconds: f64, output: &Output) -> Result<()> {
    let name = &grid.variants[cell.variant].name;
    let seed =
        if Variant::is_seeded(&cell.loaded.config) { format!(", seed {}", cell.seed) } else { String::new() };
    let ended = match (&made.diverged, made.nats()) {
        (Some(reason), _) => format!("diverged: {reason}"),
        (None, Some(nats)) => format!("{nats:.4} nats a token"),
        (None, None) => format!("{} held impossible", many(made.impossible(), "token")),
    };
    output.say(format!("{name}{seed}: {ended}, {}", duration(seconds)));
    output.tell(&json!({
        "event": "cell", "name": name, "seed": cell.seed, "run": made.folder, "diverged": made.diverged,
        "eval": made.result["eval"], "seconds": seconds,
    }))
}

/// The tables, comparison.json and the report.
fn tell(
    grid: &Grid,
    (rows, texts, root): (&[Row], &[&Text], &Path),
    render: &Render<'_>,
    seconds: f64,
    output: &Output,
) -> Result<()> {
    let differences = summary::differences(rows);
    let result = json!({
        "event": "result", "name": grid.name, "seeds": grid.seeds, "run": root.display().to_string(), "wall_seconds": seconds,
        "variants": rows.iter().map(summary::row_json).collect::<Vec<_>>(),
        "differences": differences.iter().map(summary::difference_json).collect::<Vec<_>>(),
    });
    atomic::write(root.join(TOLD), &serde_json::to_vec_pretty(&result)?)?;
    let html = render(&grid.name, rows, texts, &differences, root)?;
    atomic::write(root.join(REPORT), html.as_bytes())?;
    if output.json() {
        return output.tell(&result);
    }
    let mut text = table::align(&table::variants(rows));
    for note in table::notes(rows, &differences) {
        text.push_str(&format!("note: {note}\n"));
    }
    if rows.iter().any(|row| row.cells.iter().any(|cell| cell.parts.is_some())) {
        text.push('\n');
        text.push_str(&table::align(&table::parts(rows)));
    }
    if !differences.is_empty() {
        text.push('\n');
        text.push_str(&table::align(&table::differences(&differences)));
    }
    text.push('\n');
    text.push_str(&table::legend(rows, !differences.is_empty()));
    text.push('\n');
    output.data(&text)?;
    output.say(format!("all of it is in {}, and the report is report.html there", shown(root)));
    Ok(())
}
