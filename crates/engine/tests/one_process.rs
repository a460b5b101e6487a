//! Several runs and a comparison at once in one process: each one's events, files and bits are
//! those of the run alone.

#![allow(clippy::unwrap_used, reason = "a test fails where something is wrong")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use candle_core::{Device, Tensor};
use serde_json::Value;
use surprisal_engine::compare::{Comparison, Options, compare};
use surprisal_engine::loss::{CrossEntropy, Loss, Reduction};
use surprisal_engine::platform::threads::Pool;
use surprisal_engine::store::atomic;
use surprisal_engine::train::{Objective, Request, Shard, train};
use surprisal_engine::{Context, Control, Event, ExitKind, Result, RunId, RunSummary, config, models};

/// Model, tokenizer and precision differ: what one run used must not be another's.
const RUNS: [(&str, &str); 3] = [
    (
        "transformer",
        "[model]\nkind = \"transformer\"\nn_layer = 2\nn_head = 2\nn_embd = 16\n[train]\nsteps = 12\nblock_size = 16\nbatch_size = 4\nshards = 2\nprecision = \"bf16\"\n[eval]\nevery_steps = 4\n[sample]\ntokens = 20\n",
    ),
    (
        "mlp",
        "[model]\nkind = \"mlp\"\nn_hidden = 16\nn_embd = 8\n[tokenizer]\nkind = \"byte\"\n[train]\nsteps = 20\nshards = 3\n[loss]\nlabel_smoothing = 0.1\n[eval]\nevery_steps = 5\n[sample]\ntokens = 20\n",
    ),
    (
        "stopped",
        "[model]\nkind = \"bigram\"\n[train]\nsteps = 100000\nshards = 2\n[eval]\nevery_epochs = 0\nevery_steps = 30\n[sample]\ntokens = 0\n",
    ),
];
const COMPARISON: &str = "[compare]\nseeds = [1, 2]\njobs = 2\n[train]\nsteps = 6\nshards = 2\nblock_size = 16\n[eval]\nevery_epochs = 0\n[checkpoint]\nevery_minutes = 0.0\n[sample]\ntokens = 10\n[[variant]]\nname = \"plain\"\nmodel = { kind = \"mlp\", n_hidden = 8, n_embd = 8 }\n[[variant]]\nname = \"smoothed\"\nmodel = { kind = \"mlp\", n_hidden = 8, n_embd = 8 }\nloss = { label_smoothing = 0.2 }\n";

/// Events of everything that happens, by run.
#[derive(Default)]
struct Heard(Mutex<BTreeMap<RunId, Vec<Value>>>);

impl Heard {
    fn on(&self, run: RunId, event: &Event) {
        let mut value = if event.is_recorded() { serde_json::to_value(event).unwrap() } else { Value::Null };
        if let Event::Step(step) = event {
            value = step.train_nll.into();
        }
        untimed(&mut value);
        self.0.lock().unwrap().entry(run).or_default().push(value);
    }
}

/// Without what the clock or the folder decides.
fn untimed(value: &mut Value) {
    if let Value::Object(map) = value {
        for key in ["memory_bytes", "train_seconds", "wall_seconds", "tokens_per_second", "run", "seconds"] {
            map.remove(key);
        }
        map.values_mut().for_each(untimed);
    }
}

fn run(text: &str, out: &Path, pool: &Pool, heard: &Heard, control: &Control) -> (RunId, Result<RunSummary>) {
    // The first checkpoint would come after some seconds: on a slow machine there would be one
    // more.
    let unclocked = ["checkpoint.every_minutes=0".into()];
    let mut settings = config::parse("a run of the test", text, &unclocked).unwrap();
    config::check(&mut settings).unwrap();
    let stop_at = if settings.config.train.steps == Some(100_000) { 40 } else { usize::MAX };
    let events = |run: RunId, event: &Event| {
        heard.on(run, event);
        if matches!(event, Event::Step(step) if step.step == stop_at) {
            control.stop();
        }
        Ok(())
    };
    let ctx = Context::new(pool, &events, control);
    (ctx.run, train(Request { settings, out: Some(out.to_owned()), ..Request::default() }, &ctx))
}

fn comparison(file: &Path, out: &Path, pool: &Pool, heard: &Heard) -> (RunId, Comparison) {
    let events = |run: RunId, event: &Event| {
        heard.on(run, event);
        Ok(())
    };
    let control = Control::new();
    let ctx = Context::new(pool, &events, &control);
    let options = Options { config: file.to_owned(), out: Some(out.to_owned()), ..Options::default() };
    (ctx.run, compare(&options, &ctx).unwrap())
}

/// Every file of a folder but locks and what holds times: metrics are compared without them, and so
/// are cells.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inside) = folders.pop() {
        for entry in std::fs::read_dir(&inside).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let kept = match name.as_str() {
                "lock" | "state.json" | "manifest.json" => continue,
                _ if name.contains(".json") => {
                    let lines = String::from_utf8(bytes).unwrap();
                    let values = serde_json::Deserializer::from_str(&lines).into_iter::<Value>();
                    let mut values: Vec<Value> = values.map(std::result::Result::unwrap).collect();
                    values.iter_mut().for_each(untimed);
                    let kept = serde_json::to_string(&values).unwrap();
                    // A comparison's rows have mean times, and names of folders.
                    if name == "comparison.json" {
                        continue;
                    }
                    kept.into_bytes()
                }
                _ => bytes,
            };
            found.insert(path.strip_prefix(folder).unwrap().to_owned(), kept);
        }
    }
    found
}

#[test]
fn runs_and_a_comparison_at_once_are_those_of_each_alone() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("grid.toml");
    atomic::write(&file, COMPARISON.as_bytes()).unwrap();
    let place = |kind: &str, name: &str| base.path().join(format!("{kind}-{name}"));

    let alone = Heard::default();
    let pool = Pool::new(2).unwrap();
    let mut expected = Vec::new();
    for (name, text) in RUNS {
        let (id, result) = run(text, &place("alone", name), &pool, &alone, &Control::new());
        assert_eq!(result.is_err(), name == "stopped", "{result:?}");
        expected.push(alone.0.lock().unwrap()[&id].clone());
    }
    let (expected_comparison, _) = comparison(&file, &place("alone", "comparison"), &pool, &alone);
    let expected_comparison = alone.0.lock().unwrap()[&expected_comparison].clone();

    // All on one pool of another size: neither its threads nor the others' work decides anything.
    let (together, pool) = (Heard::default(), Pool::new(3).unwrap());
    std::thread::scope(|scope| {
        let runs: Vec<_> = RUNS
            .iter()
            .map(|(name, text)| {
                let (together, pool, out) = (&together, &pool, place("together", name));
                scope.spawn(move || run(text, &out, pool, together, &Control::new()))
            })
            .collect();
        let compared = scope.spawn(|| comparison(&file, &place("together", "comparison"), &pool, &together));
        for ((run, (name, _)), expected) in runs.into_iter().zip(RUNS).zip(&expected) {
            let (id, result) = run.join().unwrap();
            match result {
                Ok(summary) => assert_eq!(summary.run, place("together", name)),
                Err(error) => assert_eq!((error.kind, name), (ExitKind::Stopped, "stopped"), "{error}"),
            }
            assert_eq!(&together.0.lock().unwrap()[&id], expected, "{name}");
        }
        let (id, compared) = compared.join().unwrap();
        assert_eq!(compared.rows.len(), 2);
        // Which cell ends first is left to chance.
        let sorted = |mut events: Vec<Value>| {
            events.sort_by_key(Value::to_string);
            events
        };
        assert_eq!(sorted(together.0.lock().unwrap()[&id].clone()), sorted(expected_comparison));
    });
    // Of the comparison's four cells each has events of its own.
    assert_eq!(together.0.lock().unwrap().len(), RUNS.len() + 1 + 4);
    for name in RUNS.map(|(name, _)| name).into_iter().chain(["comparison"]) {
        let (a, b) = (files(&place("alone", name)), files(&place("together", name)));
        assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{name}");
        for (path, bytes) in &a {
            assert!(*bytes == b[path], "{name}: {} differs", path.display());
        }
        assert!(name == "comparison" || !a.is_empty());
    }
    // The stopped one is usable.
    let control = Control::new();
    let ctx = Context::new(&pool, &surprisal_engine::Silent, &control);
    let loaded = models::load(&place("together", "stopped"), &ctx).unwrap();
    assert_eq!(loaded.unfinished.map(|unfinished| unfinished.step), Some(30));
}

#[test]
fn a_run_makes_a_checkpoint_and_a_sample_when_it_is_asked_and_waits_while_it_is_paused() {
    let base = tempfile::tempdir().unwrap();
    let pool = Pool::new(2).unwrap();
    let control = Control::new();
    let heard = Mutex::new(Vec::new());
    let text = "[model]\nkind = \"bigram\"\n[train]\nsteps = 9\n[eval]\nevery_epochs = 0\n[checkpoint]\nevery_minutes = 0.0\n[sample]\ntokens = 0\n";
    let mut settings = config::parse("the test", text, &[]).unwrap();
    config::check(&mut settings).unwrap();
    let events = |_: RunId, event: &Event| {
        match event {
            Event::Step(step) if step.step == 3 => {
                control.checkpoint();
                control.sample();
                control.pause();
                let later = control.clone();
                std::thread::spawn(move || {
                    std::thread::sleep(std::time::Duration::from_millis(150));
                    later.resume();
                });
                heard.lock().unwrap().push("asked".to_owned());
            }
            Event::Sampled(sampled) => heard.lock().unwrap().push(format!("sample at {:?}", sampled.step)),
            Event::Checkpointed { step } => heard.lock().unwrap().push(format!("checkpoint {step}")),
            _ => {}
        }
        Ok(())
    };
    let started = std::time::Instant::now();
    let request = Request { settings, out: Some(base.path().join("run")), ..Request::default() };
    train(request, &Context::new(&pool, &events, &control)).unwrap();
    assert!(started.elapsed() >= std::time::Duration::from_millis(150), "it was to wait");
    let heard = heard.into_inner().unwrap();
    assert_eq!(heard, ["asked", "sample at Some(3)", "checkpoint 3"]);
}

/// Label smoothing, from outside of the engine.
#[derive(Debug)]
struct Smoothed(f64);

impl Objective for Smoothed {
    fn loss(&self, shard: &Shard<'_>) -> Result<Loss> {
        let targets = Tensor::new(shard.targets, &Device::Cpu)?;
        let loss = CrossEntropy::new().label_smoothing(self.0)?.reduction(Reduction::Scaled(shard.scale));
        Ok(loss.apply(&shard.output.logits_in(shard.context)?, &targets)?)
    }
}

#[test]
fn an_objective_of_the_request_replaces_the_configured_one() {
    let base = tempfile::tempdir().unwrap();
    let pool = Pool::new(2).unwrap();
    let losses = |name: &str, epsilon: f64, objective: Option<Arc<dyn Objective>>| {
        let set = ["model.kind=bigram", "train.steps=5", "train.shards=2", "eval.every_steps=5"]
            .map(config::Override::from);
        let text = format!("[loss]\nlabel_smoothing = {epsilon}\n");
        let mut settings = config::parse("a run of the test", &text, &set).unwrap();
        config::check(&mut settings).unwrap();
        let found = Mutex::new(Vec::new());
        let events = |_: RunId, event: &Event| {
            if let Event::Evaluated(it) = event {
                found
                    .lock()
                    .unwrap()
                    .push([it.objective, it.train_nll, it.eval.nats_per_token()].map(f64::to_bits));
            }
            Ok(())
        };
        let request =
            Request { settings, out: Some(base.path().join(name)), objective, ..Request::default() };
        train(request, &Context::new(&pool, &events, &Control::new())).unwrap();
        found.into_inner().unwrap()
    };
    let configured = losses("configured", 0.1, None);
    assert_eq!(losses("custom", 0.0, Some(Arc::new(Smoothed(0.1)))), configured);
    assert_ne!(losses("plain", 0.0, None), configured);
}
