//! Divergence: the run stops at the step, with code 3, the last good checkpoint, and the batch.

use serde_json::Value;

use crate::common::Bench;
use crate::runs::{KINDS, assert_same, borrowed, names, outcome};

const AWAY: &[&str] = &["optim.warmup=0", "optim.grad_clip=0", "optim.schedule=constant", "train.steps=200"];

fn diverged(bench: &Bench) -> Value {
    serde_json::from_slice(&std::fs::read(bench.path().join("run/diverged.json")).unwrap()).unwrap()
}

#[test]
fn divergence_keeps_the_last_good_checkpoint_and_the_batch() {
    // The modern transformer has capped logits, so its loss stays finite.
    for kind in &KINDS[1..3] {
        let bench = kind.bench();
        let away =
            [AWAY, &["optim.lr=1e9", "optim.min_lr=1e9", "optim.skip_spikes=0", "checkpoint.every_steps=1"]]
                .concat();
        let ran = bench.run(&borrowed(&kind.train("run", &away)));
        let ran = ran.refused(3, &["diverged at step", "the checkpoint of step", "diverged.json", "hint"]);
        let (_, rest) = ran.stderr.split_once("diverged at step ").unwrap();
        let step: usize = rest.split(':').next().unwrap().parse().unwrap();
        let kept = diverged(&bench);
        assert_eq!(kept["step"], step);
        let rows = kept["rows"].as_array().unwrap();
        assert_eq!(rows.len(), if kind.name == "mlp" { 8 } else { 4 }, "every row of the update");
        for row in rows {
            let (inputs, targets) = (row["inputs"].as_array().unwrap(), row["targets"].as_array().unwrap());
            assert_eq!((inputs.len(), targets.len()), (16, 16));
            assert_eq!(inputs[1..], targets[..15]);
            assert_eq!(row["text"].as_str().unwrap().chars().count(), 16);
        }
        let newest = names(&bench.path().join("run/checkpoints")).pop().unwrap();
        assert_eq!(newest, format!("step_{:08}", step - 1));
        // The run can be resumed, and diverges again at the same step.
        let again = bench.run(&["train", "--resume", "--out", "run"]);
        let again = again.refused(3, &[&format!("diverged at step {step}")]);
        assert!(again.stderr.contains(&format!("resuming after step {}", step - 1)), "{}", again.stderr);
        assert_eq!(diverged(&bench), kept);
        // The kept checkpoint is usable.
        bench.run(&["eval", &format!("run/checkpoints/{newest}")]).succeeded();
    }
}

#[test]
fn without_a_checkpoint_so_far_the_best_weights_are_kept() {
    // The last weights are invalid, but the best ones are not.
    for kind in &KINDS[1..3] {
        let bench = kind.bench();
        let away = ["optim.lr=1e9", "optim.min_lr=1e9", "optim.skip_spikes=0", "checkpoint.every_steps=0"];
        let away = [AWAY, &away, &["eval.every_steps=1"]].concat();
        bench.run(&borrowed(&kind.train("run", &away))).refused(3, &["the checkpoint of step"]);
        assert_eq!(names(&bench.path().join("run/checkpoints")).len(), 1);
        bench.run(&["eval", "run"]).succeeded();
    }
}

#[test]
fn a_spike_is_passed_over_if_the_config_says_so_and_otherwise_not() {
    // The middle of the text is in another language.
    let kind = &KINDS[1];
    let bench = kind.bench();
    let text = std::fs::read_to_string(bench.path().join("a.txt")).unwrap();
    let (first, last) = text.split_at(text.len() / 2);
    bench.file("a.txt", format!("{first}{}{last}", "zqxj".repeat(60)));
    let settings = ["train.batch_size=1", "train.shards=1", "train.grad_accumulation=1", "train.steps=400"];
    let run = |out: &str, factor: &str| {
        let factor = format!("optim.skip_spikes={factor}");
        let more = [&settings[..], &["optim.warmup=0", "optim.lr=1e-2", &factor]].concat();
        bench.run(&borrowed(&kind.train(out, &more))).succeeded();
        outcome(&bench, out)
    };
    let skipped = |events: &[Value]| {
        events.iter().filter(|event| event["event"] == "skipped").cloned().collect::<Vec<_>>()
    };
    let with = run("with", "1.6");
    let found = skipped(&with.events);
    assert!(!found.is_empty() && found.len() < 40, "{} spikes", found.len());
    for event in &found {
        assert!(event["objective"].as_f64().unwrap() > 1.6 * event["mean"].as_f64().unwrap(), "{event}");
    }
    let without = run("without", "0");
    assert!(skipped(&without.events).is_empty());
    assert!(with.files != without.files, "what is passed over is not learned");
    assert_same(&with, &run("again", "1.6"), "in a second run");
}

#[test]
fn when_validation_turns_it_is_said_and_the_best_weights_are_kept() {
    let kind = &KINDS[1];
    let bench = kind.bench();
    // Little text and many epochs give overfitting.
    bench.text("a.txt", 12);
    bench.text("b.txt", 40);
    let more = [
        "train.steps=1200",
        "optim.lr=2e-2",
        "optim.weight_decay=0",
        "eval.every_steps=20",
        "model.n_hidden=128",
        "model.context=12",
        "data.val=[\"b.txt\"]",
    ];
    let mut arguments = kind.train("run", &more);
    arguments.retain(|argument| argument != "--quiet");
    let ran = bench.run(&borrowed(&arguments)).succeeded();
    assert!(ran.stderr.contains("note: the model is overfitting"), "{}", ran.stderr);
    let events = outcome(&bench, "run").events;
    let turned = events.iter().find(|event| event["event"] == "overfitting").unwrap();
    assert!(turned["nats_per_token"].as_f64() > turned["best_nats_per_token"].as_f64(), "{turned}");
    assert!(turned["train_nll"].as_f64() < turned["nats_per_token"].as_f64(), "{turned}");
    let best = events
        .iter()
        .filter(|event| event["event"] == "epoch")
        .map(|event| event["eval"]["nats_per_token"].as_f64().unwrap())
        .fold(f64::INFINITY, f64::min);
    assert_eq!(events.last().unwrap()["eval"]["nats_per_token"].as_f64().unwrap(), best);
    // With patience the run stops there.
    let patient = kind.train("patient", &[&more[..], &["train.patience=3"]].concat());
    bench.run(&borrowed(&patient)).succeeded();
    assert_eq!(outcome(&bench, "patient").events.last().unwrap()["steps"], turned["step"]);
}

/// The steps with an overfitting note, and those without one because the training loss rose as
/// well.
fn turns(events: &[Value]) -> [Vec<u64>; 2] {
    let (mut best, mut stale, mut turns) = (f64::INFINITY, 0, [Vec::new(), Vec::new()]);
    for event in events.iter().filter(|event| event["event"] == "epoch") {
        let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_f64).unwrap();
        let (train, validation) = (number("/train_nll"), number("/eval/nats_per_token"));
        stale = if validation < best { 0 } else { stale + 1 };
        best = best.min(validation);
        if stale == 3 {
            let fitted = train < validation && train < best;
            turns[usize::from(!fitted)].push(event["step"].as_u64().unwrap());
        }
    }
    turns
}

#[test]
fn overfitting_is_said_where_only_validation_has_risen() {
    let kind = &KINDS[1];
    let bench = kind.bench();
    let more =
        ["optim.lr=0.9", "optim.min_lr=0.9", "optim.warmup=0", "eval.every_steps=2", "train.steps=200"];
    bench.run(&borrowed(&kind.train("run", &more))).succeeded();
    let events = outcome(&bench, "run").events;
    let said = events.iter().filter(|event| event["event"] == "overfitting");
    let said: Vec<u64> = said.map(|event| event["step"].as_u64().unwrap()).collect();
    let [fitted, risen] = turns(&events);
    assert_eq!(said, fitted);
    assert!(!risen.is_empty(), "validation never turned");
}

/// A run that ended by patience at a checkpoint and was killed before the model was written must
/// not train further.
#[test]
fn a_run_resumed_where_it_lost_its_patience_ends_there() {
    let kind = &KINDS[1];
    let bench = kind.bench();
    let more = [
        "optim.lr=0.9",
        "optim.min_lr=0.9",
        "optim.warmup=0",
        "train.patience=2",
        "checkpoint.every_steps=1",
        "train.steps=400",
    ];
    bench.run(&borrowed(&kind.train("run", &more))).succeeded();
    let whole = outcome(&bench, "run");
    let steps = whole.events.last().unwrap()["steps"].as_u64().unwrap();
    assert!(steps < 400, "patience was not lost");
    assert!(bench.path().join(format!("run/checkpoints/step_{steps:08}")).exists());
    std::fs::remove_dir_all(bench.path().join("run/model")).unwrap();
    bench.run(&["train", "--resume", "--out", "run", "--quiet"]).succeeded();
    assert_same(&whole, &outcome(&bench, "run"), "after a kill between the last step and the model");
}
