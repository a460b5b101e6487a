//! What several test files share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::Value;
use surprisal_loss::{CrossEntropy, Reduction};

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

/// Small, uneven numbers that need no generator: about uniform in `[-1, 1)`, a function of `seed` and `i`.
pub(crate) fn noise(seed: u64, i: usize) -> f64 {
    let mut x = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(i as u64);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// Fails with `what` unless every element of `got` is within `tolerance` times the largest of `want` (at least
/// `scale`).
pub(crate) fn assert_close(got: &[f64], want: &[f64], tolerance: f64, scale: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().filter(|w| w.is_finite()).fold(scale, |m, w| m.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let same = (g - w).abs() <= tolerance * scale || g.to_bits() == w.to_bits();
        assert!(same, "{what}: element {i} is {g:e}, want {w:e} within {tolerance:e} of {scale:e}");
    }
}
