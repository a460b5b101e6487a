//! Learning curves: a variant's loss by the size of its training text, from a grid over
//! `data.train_fraction`, and what more text or another model would gain.

use serde_json::{Value, json};
use surprisal_text::TrainPart;

use super::consistency::Consistency;
use super::power_law::{Estimate, PowerLaw};
use super::spec::Variant;
use super::statistics::Mean;
use super::summary::{Unit, VariantSummary};
use super::trial::{SharedText, Trial};

/// The text of an extrapolation, as a multiple of the largest.
pub const MORE_TEXT: f64 = 10.0;
/// Smallest gain that is worth more text: 1 % perplexity in nats per token, and as much in bits.
const WORTH: f64 = 0.01;

/// A variant's loss by the size of its training text.
#[derive(Debug, Clone)]
pub struct LearningCurve {
    /// The variant's name with … for the size.
    pub name: String,
    /// The unit of the losses.
    pub unit: Unit,
    /// By size, at least three.
    pub points: Vec<Point>,
    /// The extrapolation; `None` for fewer than four sizes.
    pub power_law: Option<PowerLaw>,
    /// The curve with the lowest loss on a text as large as this one's largest, and that loss, if
    /// it is lower by more than 1 % perplexity.
    pub best: Option<(String, f64)>,
    /// Whether its sizes are beginnings of a text of the user's, which may change along its way.
    pub from_start: bool,
}

/// The loss for one size of the text.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Number of training tokens.
    pub tokens: u64,
    /// Loss over the seeds.
    pub loss: Mean,
    /// KL(p‖q) in nats per token, where the source is known and it is finite.
    pub kl: Option<f64>,
    /// Cells of all seeds beside those of the source.
    pub consistency: Option<Consistency>,
}

/// The change of a loss that more text would bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoreText {
    /// It is likely to help.
    Helps,
    /// It is likely to gain less than 1 % perplexity.
    HardlyHelps,
    /// The interval is too wide.
    Unclear,
}

impl LearningCurve {
    /// The smallest and the largest text.
    pub fn ends(&self) -> Option<(&Point, &Point)> {
        self.points.first().zip(self.points.last())
    }

    /// The loss with [`MORE_TEXT`] times the largest text.
    pub fn with_more_text(&self) -> Option<Estimate> {
        Some(self.power_law.as_ref()?.at(MORE_TEXT * self.points.last()?.tokens as f64))
    }

    /// The loss with endless text: below it leads only another model.
    pub fn with_endless_text(&self) -> Option<Estimate> {
        Some(self.power_law.as_ref()?.at(f64::INFINITY))
    }

    /// Whether [`MORE_TEXT`] times the text would help.
    pub fn more_text(&self) -> Option<MoreText> {
        let (more, now) = (self.with_more_text()?, self.points.last()?.loss.value);
        Some(if now - more.high > WORTH {
            MoreText::Helps
        } else if now - more.low < WORTH {
            MoreText::HardlyHelps
        } else {
            MoreText::Unclear
        })
    }

    /// The least-squares slope of ln KL by ln tokens: −1 for maximum likelihood.
    pub fn kl_slope(&self) -> Option<f64> {
        let logs: Option<Vec<(f64, f64)>> =
            self.points.iter().map(|point| Some(((point.tokens as f64).ln(), point.kl?.ln()))).collect();
        let logs = logs?;
        let n = logs.len() as f64;
        let mean = logs.iter().map(|log| log.0).sum::<f64>() / n;
        let spread: f64 = logs.iter().map(|log| (log.0 - mean).powi(2)).sum();
        Some(logs.iter().map(|log| (log.0 - mean) * log.1).sum::<f64>() / spread)
    }

    /// Share of the cells' 95 % intervals that contain the true probability, over all sizes.
    pub fn cover(&self) -> Option<f64> {
        let cells = self.points.iter().map(|point| point.consistency);
        let cells: Vec<Consistency> = cells.collect::<Option<_>>()?;
        let sum = |of: fn(&Consistency) -> usize| cells.iter().map(of).sum::<usize>() as f64;
        Some(sum(|it| it.covered) / sum(|it| it.cells))
    }

    pub(super) fn to_json(&self) -> Value {
        let point = |point: &Point| {
            json!({
                "tokens": point.tokens, "loss": point.loss, "kl": point.kl,
                "expected_kl": point.consistency.map(|it| it.expected_kl()),
                "cells": point.consistency.map(|it| it.cells),
                "covered": point.consistency.map(|it| it.covered),
            })
        };
        json!({
            "name": self.name, "unit": self.unit.name(), "points": self.points.iter().map(point).collect::<Vec<_>>(),
            "exponent": self.power_law.as_ref().map(PowerLaw::exponent),
            "with_10_times_the_text": self.with_more_text(),
            "with_endless_text": self.with_endless_text(),
            "kl_slope": self.kl_slope(), "cover": self.cover(),
        })
    }
}

/// The learning curves of a comparison: variants of one grid that differ in `data.train_fraction`
/// only, with at least three sizes whose losses compare.
pub(super) fn learning_curves(
    variants: &[Variant],
    rows: &[VariantSummary],
    texts: &[SharedText],
    trials: &[Trial],
) -> Vec<LearningCurve> {
    let mut names: Vec<&str> = Vec::new();
    for name in variants.iter().filter_map(|variant| variant.curve.as_deref()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut curves: Vec<LearningCurve> = Vec::new();
    for name in names {
        let is_own = |index: &usize| variants[*index].curve.as_deref() == Some(name);
        let own: Vec<usize> = (0..rows.len()).filter(is_own).collect();
        let from_start = trials.iter().filter(|trial| own.contains(&trial.variant)).any(|trial| {
            let data = &trial.loaded.config.data;
            data.train_part == TrainPart::Start && data.train_fraction < 1.0 && !data.train.is_empty()
        });
        let rows: Vec<&VariantSummary> = own.iter().map(|index| &rows[*index]).collect();
        curves.extend(curve(name, &rows, texts).map(|curve| LearningCurve { from_start, ..curve }));
    }
    let last = |curve: &LearningCurve| curve.points.last().map(|point| (point.tokens, point.loss.value));
    let ends: Vec<_> = curves.iter().map(|curve| (curve.name.clone(), curve.unit, last(curve))).collect();
    for curve in &mut curves {
        let Some((tokens, own)) = last(curve) else { continue };
        let others = ends.iter().filter(|(_, unit, _)| *unit == curve.unit).filter_map(|(name, _, end)| {
            let (size, loss) = (*end)?;
            (size == tokens && loss < own - WORTH).then(|| (name.clone(), loss))
        });
        curve.best = others.min_by(|a, b| a.1.total_cmp(&b.1));
    }
    curves
}

fn curve(name: &str, rows: &[&VariantSummary], texts: &[SharedText]) -> Option<LearningCurve> {
    let one_text = rows.windows(2).all(|pair| pair[0].evaluated_on == pair[1].evaluated_on);
    let unit = if one_text { Unit::NatsPerToken } else { Unit::BitsPerByte };
    if !one_text && rows.iter().any(|row| row.common != Some(Ok(()))) {
        return None;
    }
    let mut points: Vec<Point> = rows
        .iter()
        .filter_map(|row| {
            Some(Point {
                tokens: texts[row.text].data.train.scored(),
                loss: match unit {
                    Unit::NatsPerToken => row.number("/eval/nats_per_token")?,
                    Unit::BitsPerByte => row.bits_per_byte()?,
                },
                kl: row.measured(|it| it.source.as_ref()?.kl).map(|kl| kl.value).filter(|kl| *kl > 0.0),
                consistency: row.consistency(),
            })
        })
        .collect();
    points.sort_by_key(|point| point.tokens);
    points.dedup_by_key(|point| point.tokens);
    if points.len() < 3 {
        return None;
    }
    // In bits per byte the entropy of the source is another number.
    let entropy = rows.iter().filter_map(|row| row.number("/eval/source_entropy")).map(|mean| mean.value);
    let floor = entropy.filter(|_| one_text).fold(0.0, f64::max);
    let squares = points.iter().map(|point| point.loss.std_error.unwrap_or(0.0).powi(2)).sum::<f64>();
    let noise = (squares / points.len() as f64).sqrt();
    let losses: Vec<(f64, f64)> =
        points.iter().map(|point| (point.tokens as f64, point.loss.value)).collect();
    let power_law = PowerLaw::fit(&losses, floor, noise);
    Some(LearningCurve { name: name.to_owned(), unit, points, power_law, best: None, from_start: false })
}
