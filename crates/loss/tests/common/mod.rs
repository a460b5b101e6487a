//! Shared by several test files.
#![allow(dead_code, clippy::unwrap_used, reason = "test code; each binary uses its own part")]

use serde_json::Value;
use surprisal_loss::{CrossEntropy, Reduction, SmoothingTarget};

/// One of the 148 cases that PyTorch 2.15 computed in float64 (fixtures/cross_entropy.json).
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) options: CrossEntropy,
    pub(crate) reduction: Reduction,
    pub(crate) rows: usize,
    pub(crate) vocab: usize,
    pub(crate) logits: Vec<f64>,
    pub(crate) targets: CaseTargets,
    pub(crate) upstream: Vec<f64>,
    /// One number, or one a row.
    pub(crate) loss: Vec<f64>,
    pub(crate) gradient: Vec<f64>,
}

pub(crate) enum CaseTargets {
    Classes(Vec<i64>),
    Probabilities(Vec<f64>),
}

pub(crate) fn cases() -> Vec<Case> {
    let text = include_str!("../fixtures/cross_entropy.json");
    let all: Value = serde_json::from_str(text).unwrap();
    let cases: Vec<Case> = all["cases"].as_array().unwrap().iter().map(case).collect();
    assert_eq!(cases.len(), 148);
    cases
}

fn case(value: &Value) -> Case {
    let logits = value["logits"].as_array().unwrap();
    let given = &value["options"];
    let mut options = CrossEntropy::new();
    let number = |key: &str| given.get(key).and_then(Value::as_f64);
    if let Some(epsilon) = number("label_smoothing") {
        options = options.label_smoothing(epsilon).unwrap();
    }
    if let Some(z) = number("z_loss") {
        options = options.z_loss(z).unwrap();
    }
    if let Some(index) = given.get("ignore_index").and_then(Value::as_i64) {
        options = options.ignore_index(index);
    }
    if let Some(weights) = given.get("weight").filter(|w| !w.is_null()) {
        options = options.class_weights(numbers(weights)).unwrap();
    }
    let reduction = match given["reduction"].as_str().unwrap() {
        "none" => Reduction::None,
        "sum" => Reduction::Sum,
        "mean" => Reduction::Mean,
        other => panic!("reduction {other}"),
    };
    let targets = &value["targets"];
    Case {
        name: value["name"].as_str().unwrap().to_owned(),
        options: options.reduction(reduction),
        reduction,
        rows: logits.len(),
        vocab: logits[0].as_array().unwrap().len(),
        logits: numbers(&value["logits"]),
        targets: if targets[0].is_array() {
            CaseTargets::Probabilities(numbers(targets))
        } else {
            CaseTargets::Classes(targets.as_array().unwrap().iter().map(|t| t.as_i64().unwrap()).collect())
        },
        upstream: numbers(&value["upstream"]),
        loss: numbers(&value["loss"]),
        gradient: numbers(&value["grad"]),
    }
}

/// All the numbers of a nested array, in order; a bare number is an array of one.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

/// Small, uneven numbers that need no generator: about uniform in `[-1, 1)`, a function of `seed`
/// and `i`.
pub(crate) fn noise(seed: u64, i: usize) -> f64 {
    let mut x = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(i as u64);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Fails with `what` unless every element of `got` is within `tolerance` times the largest of
/// `want` (at least `scale`).
pub(crate) fn assert_close(got: &[f64], want: &[f64], tolerance: f64, scale: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().filter(|w| w.is_finite()).fold(scale, |m, w| m.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let same = (g - w).abs() <= tolerance * scale || g.to_bits() == w.to_bits();
        assert!(same, "{what}: element {i} is {g:e}, want {w:e} within {tolerance:e} of {scale:e}");
    }
}

/// An option of the builder, under a name for messages.
pub(crate) type Setting = (&'static str, fn(CrossEntropy) -> CrossEntropy);

/// Number of classes of [`settings`], and the most rows.
pub(crate) const VOCAB: usize = 7;
pub(crate) const ROWS: usize = 5;

/// One setting of every option, for [`VOCAB`] classes; those with the same first word exclude each
/// other.
pub(crate) fn settings() -> Vec<Setting> {
    vec![
        ("plain", |loss| loss),
        ("smooth uniform", |loss| loss.label_smoothing(0.2).unwrap()),
        ("smooth others", |loss| {
            loss.label_smoothing(0.2).unwrap().smooth_toward(SmoothingTarget::Others).unwrap()
        }),
        ("smooth unmasked", |loss| {
            loss.label_smoothing(0.2).unwrap().smooth_toward(SmoothingTarget::Unmasked).unwrap()
        }),
        ("smooth prior", |loss| {
            let prior: Vec<f64> = (0..VOCAB).map(|j| (j + 1) as f64 / 28.0).collect();
            loss.label_smoothing(0.3).unwrap().smooth_toward(SmoothingTarget::Prior(prior.into())).unwrap()
        }),
        ("smooth rows", |loss| {
            let prior: Vec<f64> = (0..ROWS * VOCAB).map(|i| (i * i % 11) as f64 / 40.0).collect();
            loss.label_smoothing(0.3).unwrap().smooth_toward(SmoothingTarget::Prior(prior.into())).unwrap()
        }),
        ("smooth all", |loss| loss.label_smoothing(1.0).unwrap()),
        ("weights", |loss| {
            loss.class_weights((0..VOCAB).map(|j| 0.5 * j as f64).collect::<Vec<_>>()).unwrap()
        }),
        ("ignore", |loss| loss.ignore_index(3)),
        ("z", |loss| loss.z_loss(0.01).unwrap()),
        ("scale", |loss| loss.scale(0.7).unwrap()),
        ("softcap", |loss| loss.softcap(2.5).unwrap()),
        ("reduce none", |loss| loss.reduction(Reduction::None)),
        ("reduce sum", |loss| loss.reduction(Reduction::Sum)),
        ("reduce scaled", |loss| loss.reduction(Reduction::Scaled(0.125))),
    ]
}

/// Every pair of settings that do not exclude each other, each with itself too.
pub(crate) fn pairs() -> Vec<(String, CrossEntropy)> {
    let settings = settings();
    let kind = |name: &'static str| name.split(' ').next().unwrap();
    let mut pairs = Vec::new();
    for (i, (a, set_a)) in settings.iter().enumerate() {
        for (b, set_b) in &settings[i..] {
            if a == b || kind(a) != kind(b) {
                pairs.push((format!("{a} + {b}"), set_b(set_a(CrossEntropy::new()))));
            }
        }
    }
    pairs
}

/// Logits of about ±`spread`, and class and probability targets to go with them. Class 3 is among
/// the classes.
pub(crate) fn problem(seed: u64, rows: usize, vocab: usize, spread: f64) -> (Vec<f32>, Vec<u32>, Vec<f32>) {
    let logits = (0..rows * vocab).map(|i| (spread * noise(seed, i)) as f32).collect();
    let classes = (0..rows).map(|i| ((seed as usize + 3 + 5 * i) % vocab) as u32).collect();
    let q = (0..rows * vocab).map(|i| (0.2 + 0.2 * noise(seed + 1, i)) as f32).collect();
    (logits, classes, q)
}

pub(crate) fn doubles(xs: &[f32]) -> Vec<f64> {
    xs.iter().map(|&x| x as f64).collect()
}
