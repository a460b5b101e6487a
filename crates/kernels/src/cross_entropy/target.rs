//! Targets as a hard weight on one class plus a soft target, class weights included.

use super::{SmoothingTarget, Spec};

/// The soft part of a target, multiplied by class weights.
#[derive(Clone, Copy)]
pub(super) enum SoftTarget<'a> {
    /// Nothing.
    None,
    /// The same mass on every class.
    Constant(f64),
    /// `factor · values[j]` on class `j`.
    Slice { values: &'a [f32], factor: f64 },
}

/// A row's target: `hard_weight` on `class`, plus `soft` on all classes.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) class: Option<usize>,
    pub(super) hard_weight: f64,
    pub(super) soft: SoftTarget<'a>,
}

/// The target for a class; `row` counts over all rows, and `scratch` is a buffer for the soft part.
#[inline(always)]
pub(super) fn of_class<'a>(
    class: usize,
    row: usize,
    logits: &[f32],
    spec: &'a Spec<'_>,
    scratch: &'a mut Vec<f32>,
) -> Target<'a> {
    let weight = spec.class_weights.map_or(1.0, |weights| weights[class] as f64);
    let epsilon = spec.label_smoothing;
    let class_count = spec.vocab as f64;
    let (hard_weight, soft) = if epsilon == 0.0 {
        (weight, SoftTarget::None)
    } else if spec.smoothing_target == SmoothingTarget::Others && logits[class] == f32::NEG_INFINITY {
        // The target class is masked: its two terms below would give ∞ − ∞.
        scratch.clear();
        scratch.extend((0..spec.vocab).map(|j| spec.class_weights.map_or(1.0, |w| w[j])));
        scratch[class] = 0.0;
        let each = epsilon / (class_count - 1.0);
        ((1.0 - epsilon) * weight, SoftTarget::Slice { values: scratch, factor: each })
    } else {
        // Mass ε on the others is mass ε V / (V − 1) on all classes, and less on the target class.
        let epsilon = match spec.smoothing_target {
            SmoothingTarget::Others => epsilon * class_count / (class_count - 1.0),
            SmoothingTarget::Uniform | SmoothingTarget::Unmasked | SmoothingTarget::Prior(_) => epsilon,
        };
        let each = epsilon / class_count;
        let soft = match (spec.smoothing_target, spec.class_weights) {
            (SmoothingTarget::Uniform | SmoothingTarget::Others, None) => SoftTarget::Constant(each),
            (SmoothingTarget::Uniform | SmoothingTarget::Others, Some(weights)) => {
                SoftTarget::Slice { values: weights, factor: each }
            }
            (SmoothingTarget::Unmasked, weights) => match unmasked(logits, weights, scratch) {
                Some(values) => SoftTarget::Slice { values, factor: epsilon },
                None => weights
                    .map_or(SoftTarget::Constant(each), |w| SoftTarget::Slice { values: w, factor: each }),
            },
            (SmoothingTarget::Prior(prior), weights) => {
                let prior = prior_row(prior, row, spec.vocab);
                match weights {
                    None => SoftTarget::Slice { values: prior, factor: epsilon },
                    Some(weights) => {
                        scratch.clear();
                        scratch.extend(prior.iter().zip(weights).map(|(p, w)| p * w));
                        SoftTarget::Slice { values: scratch, factor: epsilon }
                    }
                }
            }
        };
        ((1.0 - epsilon) * weight, soft)
    };
    Target { class: Some(class), hard_weight, soft }
}

/// The target `w ((1 − ε) q + ε π)` for a distribution `q`, written to `scratch`.
#[inline(always)]
pub(super) fn of_distribution<'a>(
    q: &'a [f32],
    row: usize,
    logits: &[f32],
    spec: &'a Spec<'_>,
    scratch: &'a mut Vec<f32>,
) -> Target<'a> {
    let epsilon = spec.label_smoothing;
    if epsilon == 0.0 && spec.class_weights.is_none() {
        return Target { class: None, hard_weight: 0.0, soft: SoftTarget::Slice { values: q, factor: 1.0 } };
    }
    let class_count = spec.vocab as f64;
    scratch.clear();
    match spec.smoothing_target {
        SmoothingTarget::Uniform => {
            scratch.extend(q.iter().map(|&q| ((1.0 - epsilon) * q as f64 + epsilon / class_count) as f32));
        }
        // Each class distributes ε of its mass to the others.
        SmoothingTarget::Others => {
            let total: f64 = q.iter().map(|&q| q as f64).sum();
            scratch.extend(q.iter().map(|&q| {
                let q = q as f64;
                ((1.0 - epsilon) * q + epsilon * (total - q) / (class_count - 1.0)) as f32
            }));
        }
        SmoothingTarget::Unmasked => {
            let unmasked = logits.iter().filter(|&&z| z != f32::NEG_INFINITY).count().max(1) as f64;
            scratch.extend(q.iter().zip(logits).map(|(&q, &z)| {
                let mass = if z == f32::NEG_INFINITY { 0.0 } else { epsilon / unmasked };
                ((1.0 - epsilon) * q as f64 + mass) as f32
            }));
        }
        SmoothingTarget::Prior(prior) => {
            let prior = prior_row(prior, row, spec.vocab);
            scratch.extend(
                q.iter().zip(prior).map(|(&q, &p)| ((1.0 - epsilon) * q as f64 + epsilon * p as f64) as f32),
            );
        }
    }
    if let Some(weights) = spec.class_weights {
        for (d, w) in scratch.iter_mut().zip(weights) {
            *d *= w;
        }
    }
    Target { class: None, hard_weight: 0.0, soft: SoftTarget::Slice { values: scratch, factor: 1.0 } }
}

fn prior_row(prior: &[f32], row: usize, vocab: usize) -> &[f32] {
    if prior.len() == vocab { prior } else { &prior[row * vocab..(row + 1) * vocab] }
}

/// `w / V'` for the V' unmasked classes (w = 1 without weights), else 0; `None` if none is masked.
fn unmasked<'a>(logits: &[f32], weights: Option<&[f32]>, scratch: &'a mut Vec<f32>) -> Option<&'a [f32]> {
    let unmasked = logits.iter().filter(|&&z| z != f32::NEG_INFINITY).count();
    if unmasked == logits.len() || unmasked == 0 {
        return None;
    }
    let mass = 1.0 / unmasked as f64;
    scratch.clear();
    scratch.extend(logits.iter().enumerate().map(|(j, &z)| {
        if z == f32::NEG_INFINITY { 0.0 } else { (mass * weights.map_or(1.0, |w| w[j] as f64)) as f32 }
    }));
    Some(scratch)
}
