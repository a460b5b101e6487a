//! The runs of the page: a queue, the runs at work, and what is known of each.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use surprisal_engine::compare::diagnostics;
use surprisal_engine::config::{Loaded, Override};
use surprisal_engine::store::{atomic, checkpoint};
use surprisal_engine::train::{Request, train};
use surprisal_engine::{
    Context, Control, Evaluated, Event, ExitKind, Measured, RunId, Sampled, Silent, StopCriterion,
    TrialFinished, compare, config, models, outputs, runs,
};
use surprisal_platform::threads::Pool;
use surprisal_report::{figures, render_comparison};

use crate::problem::{Problem, Result};
use crate::texts::Texts;

/// Runs at a time, each on all threads: on two cores more would only slow each other.
pub(crate) const AT_ONCE: usize = 2;
/// Runs that may wait.
const MOST_WAITING: usize = 60;
/// Runs that are remembered.
const MOST_LISTED: usize = 300;
/// The folder of the configs of comparisons, beside the runs; no run has such a name.
const COMPARISONS: &str = ".comparisons";
/// Tokens by which the calibration of a run is measured while it is trained.
const CALIBRATED: usize = 1 << 13;
/// Samples of a run that are kept.
const MOST_SAMPLES: usize = 40;

/// The state of a run in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Queued,
    Starting,
    Running,
    Paused,
    Stopping,
    Finished,
    Stopped,
    Failed,
}

impl Phase {
    fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Failed)
    }
}

/// A sample with the step after which it was drawn.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SampleAt {
    step: usize,
    text: String,
}

/// All that is known of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Known {
    pub(crate) phase: Phase,
    pub(crate) parameters: u64,
    pub(crate) vocab_size: usize,
    pub(crate) steps: Option<usize>,
    pub(crate) progress: f64,
    pub(crate) points: Vec<Measured>,
    pub(crate) evaluations: Vec<Evaluated>,
    /// Nats that one temperature would remove, by the step of the weights.
    pub(crate) miscalibrations: Vec<(usize, f64)>,
    /// Losses of count-based models on the same text: name and nats per token.
    pub(crate) levels: Vec<(String, Option<f64>)>,
    pub(crate) source_entropy: Option<f64>,
    pub(crate) samples: Vec<SampleAt>,
    pub(crate) notes: Vec<String>,
    pub(crate) result: Option<Value>,
    pub(crate) error: Option<String>,
    /// Runs of a comparison that are finished, and its tables at the end.
    pub(crate) trials: Vec<TrialFinished>,
    pub(crate) tables: Option<String>,
    /// Step of the weights that can be opened.
    #[serde(skip)]
    saved: u64,
}

/// A run of this page, or one that was in the folder before.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    /// The text's id, where the page made the run.
    pub(crate) text: Option<String>,
    pub(crate) about: Value,
    folder: PathBuf,
    control: Control,
    known: Mutex<Known>,
    /// Grows whenever something is known anew.
    version: AtomicU64,
}

impl Run {
    fn new(name: String, folder: PathBuf, text: Option<String>, about: Value, phase: Phase) -> Self {
        let known = Known {
            phase,
            parameters: 0,
            vocab_size: 0,
            steps: None,
            progress: 0.0,
            points: Vec::new(),
            evaluations: Vec::new(),
            miscalibrations: Vec::new(),
            levels: Vec::new(),
            source_entropy: None,
            samples: Vec::new(),
            notes: Vec::new(),
            result: None,
            error: None,
            trials: Vec::new(),
            tables: None,
            saved: 0,
        };
        let (known, version) = (Mutex::new(known), AtomicU64::new(1));
        Self { name, text, about, folder, control: Control::new(), known, version }
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, and tells those who watch.
    fn learn(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known());
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    fn hear(&self, event: &Event) {
        // The runs of a comparison are known by their results alone.
        if !self.about["comparison"].is_null() && !matches!(event, Event::TrialFinished(_) | Event::Noted(_))
        {
            return;
        }
        match event {
            Event::Texts { vocab_size, .. } => self.learn(|known| known.vocab_size = *vocab_size),
            Event::Started(started) => self.learn(|known| known.source_entropy = started.source_entropy),
            Event::Baseline { model, eval } => {
                let nats = Some(eval.nats_per_token()).filter(|nats| nats.is_finite());
                self.learn(|known| known.levels.push(((*model).to_owned(), nats)));
            }
            Event::Planned(plan) => self.learn(|known| {
                known.parameters = plan.parameters;
                if known.phase == Phase::Starting {
                    known.phase = Phase::Running;
                }
                if let StopCriterion::Steps(steps) = plan.length {
                    known.steps = Some(steps);
                }
            }),
            Event::Counted { parameters, .. } => self.learn(|known| known.parameters = *parameters),
            Event::Step(step) => self.known().progress = step.progress,
            Event::Measured(measured) => self.learn(|known| known.points.push(*measured)),
            Event::Evaluated(evaluated) => {
                self.learn(|known| known.evaluations.push(*evaluated));
                // The sample after every evaluation, and weights that other screens can open.
                self.control.sample();
                self.control.checkpoint();
            }
            Event::Sampled(Sampled { text, step, .. }) => self.learn(|known| {
                let step = step.unwrap_or_else(|| known.points.last().map_or(0, |point| point.step));
                known.samples.push(SampleAt { step, text: text.clone() });
                let spare = known.samples.len().saturating_sub(MOST_SAMPLES);
                known.samples.drain(..spare);
            }),
            Event::Checkpointed { step } => self.learn(|known| known.saved = *step as u64),
            Event::TrialFinished(trial) => self.learn(|known| known.trials.push(trial.clone())),
            Event::Noted(note) => self.learn(|known| known.notes.push(note.to_string())),
            _ => {}
        }
    }

    /// Measures the calibration of the weights that an evaluation was of, while they are there. A
    /// run is not stopped by what only a picture of it lacks.
    fn calibrate(&self, step: usize, texts: &Texts, pool: &Pool) {
        let is_evaluated = self.known().evaluations.last().is_some_and(|of| of.step == step);
        let Some(text) = self.text.as_ref().filter(|_| is_evaluated) else { return };
        let measured = || -> Result<Option<f64>> {
            let ctx = Context::new(pool, &Silent, &self.control);
            let saved = checkpoint::list(&self.folder.join("checkpoints"))?;
            let Some((_, path)) = saved.iter().find(|(at, _)| *at == step as u64) else { return Ok(None) };
            let (text, model) = (texts.get(text, pool)?, models::load(path, &ctx)?);
            Ok(diagnostics::miscalibration(&*model.model, &text.data, CALIBRATED, pool)?)
        };
        if let Ok(Some(nats)) = measured() {
            self.learn(|known| known.miscalibrations.push((step, nats)));
        }
    }

    /// The numbers of the run, with every point, and its place in the queue.
    pub(crate) fn json(&self, waits: Option<usize>) -> Value {
        let known = self.known();
        json!({
            "name": self.name, "text": self.text, "about": self.about, "waits": waits, "known": &*known,
        })
    }

    /// The same without what grows.
    fn brief(&self, waits: Option<usize>) -> Value {
        let known = self.known();
        let best = known.evaluations.iter().map(|of| of.eval.nats_per_token()).reduce(f64::min);
        json!({
            "name": self.name, "text": self.text, "about": self.about, "waits": waits, "phase": known.phase,
            "progress": known.progress, "best": best, "model": known.saved > 0,
        })
    }
}

/// All runs, in the order in which they were asked for.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) folder: PathBuf,
    list: Mutex<Vec<Arc<Run>>>,
    queue: Mutex<Queue>,
    asked: Condvar,
}

/// The work of a run.
#[derive(Debug)]
enum Job {
    Train(Box<Loaded>),
    /// The comparison of this file.
    Compare(PathBuf),
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Arc<Run>, Job)>,
    working: usize,
    closed: bool,
}

impl Runs {
    /// The runs in `folder`, which need not exist.
    pub(crate) fn new(folder: &Path) -> Self {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join("config.toml").is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        let run = |name: String| {
            let path = folder.join(&name);
            let is_finished = runs::result(&path).is_some();
            let phase = if is_finished { Phase::Finished } else { Phase::Stopped };
            let run = Run::new(name, path, None, Value::Null, phase);
            run.known().saved = 1;
            Arc::new(run)
        };
        let list = names.into_iter().take(MOST_LISTED).map(run).collect();
        let (list, queue) = (Mutex::new(list), Mutex::default());
        Self { folder: folder.to_owned(), list, queue, asked: Condvar::new() }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Run>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<Run>> {
        let found = self.list().iter().find(|run| run.name == name).cloned();
        found.ok_or_else(|| Problem::not_found(format!("there is no run {name:?} here")))
    }

    /// The folder of a run with weights, and a number that changes with them.
    pub(crate) fn weights(&self, name: &str) -> Option<(PathBuf, u64)> {
        let run = self.get(name).ok()?;
        let version = run.known().saved;
        (version > 0).then(|| (run.folder.clone(), version))
    }

    /// The place of a run in the queue, from 1; `None` if it does not wait.
    pub(crate) fn waits(&self, name: &str) -> Option<usize> {
        self.queue().waiting.iter().position(|(run, _)| run.name == name).map(|at| at + 1)
    }

    pub(crate) fn json(&self) -> Value {
        let runs = self.list().clone();
        runs.iter().map(|run| run.brief(self.waits(&run.name))).collect()
    }

    /// Puts a run into the queue. `base` is a config, `set` are overrides of it.
    pub(crate) fn ask(
        &self,
        stem: &str,
        text: &str,
        about: Value,
        base: &str,
        set: &[Override],
    ) -> Result<Arc<Run>> {
        let mut loaded = config::parse("the page", base, set)?;
        config::check(&mut loaded)?;
        self.enqueue(stem, text, about, |_| Ok(Job::Train(Box::new(loaded))))
    }

    /// Puts a comparison of `runs` runs into the queue; its config is kept beside the runs.
    pub(crate) fn ask_comparison(
        &self,
        stem: &str,
        text: &str,
        config: &str,
        runs: usize,
    ) -> Result<Arc<Run>> {
        let folder = self.folder.join(COMPARISONS);
        self.enqueue(stem, text, json!({ "comparison": runs }), |name| {
            let path = folder.join(format!("{name}.toml"));
            let unwritten = |error: String| {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, format!("cannot keep the comparison: {error}"))
            };
            std::fs::create_dir_all(&folder).map_err(|error| unwritten(error.to_string()))?;
            atomic::write(&path, config.as_bytes()).map_err(|error| unwritten(error.to_string()))?;
            Ok(Job::Compare(path))
        })
    }

    fn enqueue(
        &self,
        stem: &str,
        text: &str,
        about: Value,
        job: impl FnOnce(&str) -> Result<Job>,
    ) -> Result<Arc<Run>> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(Problem::busy("the page is closing"));
        }
        if queue.waiting.len() >= MOST_WAITING {
            return Err(Problem::busy(format!(
                "{MOST_WAITING} runs wait already, and {AT_ONCE} are made at a time: try again later"
            )));
        }
        let mut list = self.list();
        let is_free =
            |name: &String| !self.folder.join(name).exists() && list.iter().all(|run| run.name != *name);
        let named = |number| if number == 1 { stem.to_owned() } else { format!("{stem}-{number}") };
        let Some(name) = (1..100_000).map(named).find(is_free) else {
            return Err(Problem::busy(format!("every name of a run like {stem} is taken")));
        };
        let job = job(&name)?;
        let folder = self.folder.join(&name);
        let run = Arc::new(Run::new(name, folder, Some(text.to_owned()), about, Phase::Queued));
        if list.len() >= MOST_LISTED
            && let Some(oldest) = list.iter().position(|run| run.known().phase.is_over())
        {
            list.remove(oldest);
        }
        list.push(run.clone());
        queue.waiting.push_back((run.clone(), job));
        self.asked.notify_one();
        Ok(run)
    }

    /// Pauses a run, goes on with it, or stops it with a usable model.
    pub(crate) fn control(&self, name: &str, what: &str) -> Result<()> {
        let run = self.get(name)?;
        // Under one lock, so that a run that ends meanwhile is not taken for paused.
        let mut known = run.known();
        let was = known.phase;
        known.phase = match (what, was) {
            ("pause", Phase::Running) => {
                run.control.pause();
                Phase::Paused
            }
            ("resume", Phase::Paused) => {
                run.control.resume();
                Phase::Running
            }
            ("stop", Phase::Queued | Phase::Starting | Phase::Running | Phase::Paused) => {
                run.control.stop();
                if was == Phase::Queued { Phase::Stopped } else { Phase::Stopping }
            }
            ("pause" | "resume" | "stop", phase) => {
                let phase = format!("{phase:?}").to_lowercase();
                return Err(Problem::bad(format!("the run is {phase}: {what} means nothing now")));
            }
            _ => {
                return Err(Problem::not_found(format!(
                    "a run can be paused, resumed and stopped, not {what:?}"
                )));
            }
        };
        drop(known);
        run.version.fetch_add(1, Ordering::SeqCst);
        if was == Phase::Queued {
            self.queue().waiting.retain(|(waiting, _)| waiting.name != name);
        }
        Ok(())
    }

    /// Makes runs of the queue until [`Self::close`].
    pub(crate) fn work(&self, texts: &Texts, pool: &Pool) {
        loop {
            let mut queue = self.queue();
            let (run, settings) = loop {
                if queue.closed {
                    return;
                }
                if let Some(next) = queue.waiting.pop_front() {
                    queue.working += 1;
                    break next;
                }
                queue = self.asked.wait(queue).unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            make(&run, settings, texts, pool);
            self.queue().working -= 1;
        }
    }

    /// Stops all runs; each is left with a usable model.
    pub(crate) fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        queue.waiting.clear();
        drop(queue);
        self.asked.notify_all();
        for run in self.list().iter() {
            run.control.stop();
        }
    }
}

/// Makes a run, and learns how it ends.
fn make(run: &Arc<Run>, job: Job, texts: &Texts, pool: &Pool) {
    run.learn(|known| known.phase = Phase::Starting);
    let events = |_: RunId, event: &Event| {
        run.hear(event);
        if let Event::Checkpointed { step } = event {
            run.calibrate(*step, texts, pool);
        }
        Ok(())
    };
    let ctx = Context::new(pool, &events, &run.control);
    let made = match job {
        Job::Train(settings) => {
            let request =
                Request { settings: *settings, out: Some(run.folder.clone()), ..Request::default() };
            train(request, &ctx).map(|summary| {
                run.learn(|known| {
                    known.saved = u64::MAX;
                    known.parameters = summary.parameters;
                    known.result = serde_json::to_value(&summary).ok();
                });
            })
        }
        Job::Compare(config) => {
            run.learn(|known| known.phase = Phase::Running);
            let options =
                compare::Options { config, out: Some(run.folder.clone()), ..compare::Options::default() };
            compare::compare(&options, &ctx).and_then(|comparison| {
                // The comparison has its report, as one on the command line.
                let page = render_comparison(&comparison)?;
                atomic::write(comparison.root.join(outputs::PAGE), page.as_bytes())?;
                run.learn(|known| {
                    known.tables = Some(figures::comparison(&comparison));
                    known.result = Some(comparison.to_json());
                });
                Ok(())
            })
        }
    };
    run.learn(|known| match made {
        Ok(()) => {
            known.phase = Phase::Finished;
            known.progress = 1.0;
        }
        Err(error) if error.kind == ExitKind::Stopped => known.phase = Phase::Stopped,
        Err(error) => {
            known.phase = Phase::Failed;
            known.error = Some(error.message);
        }
    });
}
