//! From cells to rows and paired differences.

use serde_json::{Value, json};

use super::cell::{Finished, JudgedBy};
use super::measure::{BLOCKS, Calibrated, Measure, Scaled};
use super::statistics::{Mean, holm};

/// Differences are called real below this chance of seeing them, or larger ones, where there are none.
pub const LEVEL: f64 = 0.05;

/// A variant and its cells.
#[derive(Debug)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// What it is compared with.
    pub against: Option<String>,
    /// Which of the comparison's texts it was made on.
    pub(super) text: usize,
    /// Hashes of what it was judged by: two rows compare token by token only where both are the same.
    pub judged_by: JudgedBy,
    /// Sorted by seed.
    pub cells: Vec<Finished>,
}

impl Row {
    /// The mean of a number over the seeds; `None` if a seed lacks it.
    pub fn mean(&self, number: impl Fn(&Finished) -> Option<f64>) -> Option<Mean> {
        let values: Option<Vec<f64>> = self.cells.iter().map(number).collect();
        Mean::of(&values?)
    }

    /// The mean of a number of the results.
    pub fn number(&self, pointer: &str) -> Option<Mean> {
        self.mean(|cell| cell.number(pointer))
    }

    /// The mean of a number of what was measured.
    pub fn measured(&self, number: impl Fn(&Measure) -> Option<f64>) -> Option<Mean> {
        self.mean(|cell| number(cell.measure.as_ref()?))
    }

    /// The mean of a number of their calibration.
    pub fn calibrated(&self, number: fn(&Calibrated) -> f64) -> Option<Mean> {
        self.mean(|cell| Some(number(cell.calibration()?)))
    }

    /// The mean of a number of their calibration with a temperature.
    pub fn scaled(&self, number: fn(&Scaled) -> f64) -> Option<Mean> {
        self.mean(|cell| Some(number(cell.calibration()?.scaled.as_ref()?)))
    }

    /// The mean number of impossible tokens, and of how many.
    pub fn impossible(&self) -> Option<(f64, f64)> {
        let most = self.cells.iter().map(Finished::impossible).max()?;
        let mean = self.mean(|cell| Some(cell.impossible() as f64))?.value;
        (most > 0).then_some((mean, self.number("/eval/tokens")?.value))
    }

    /// Whether another seed would give another model.
    fn is_trained(&self) -> bool {
        self.cells.iter().any(|cell| !matches!(cell.kind.as_str(), "ngram" | "uniform"))
    }

    /// How many of its runs have no model.
    pub fn diverged(&self) -> usize {
        self.cells.iter().filter(|cell| cell.diverged.is_some()).count()
    }
}

/// Why a token of one variant is no token of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apart {
    /// Their tokenizers differ: a nat a token of one is not a nat a token of the other.
    Tokens,
    /// They were judged by different validation texts.
    Texts,
}

/// A variant minus what it is compared with.
#[derive(Debug, Clone)]
pub struct Difference {
    /// What it is called.
    pub name: String,
    /// What it is compared with.
    pub against: String,
    /// Why nats a token (and calibration, which is a token's too) do not compare.
    pub apart: Option<Apart>,
    /// Whether one of the two is trained, so that its seed is a part of its luck.
    trained: bool,
    /// Of nats a token, over the seeds that both have; `None` where one is infinite or they are `apart`.
    pub seeds: Option<Mean>,
    /// The same difference over blocks of the validation text, averaged over seeds.
    pub text: Option<Mean>,
    /// The larger of the two p-values, adjusted for how many comparisons there are (Holm).
    pub p: Option<f64>,
    /// Of the expected calibration error, over seeds.
    pub ece: Option<Mean>,
    /// Of the calibration, adjusted.
    pub ece_p: Option<f64>,
    /// Mean squared error of the probabilities.
    pub brier: Option<Mean>,
}

impl Difference {
    fn of(row: &Row, other: &Row) -> Self {
        let mut pairs = Vec::new();
        for cell in &row.cells {
            // What has no seed is paired with every seed.
            let same = |other: &&Finished| other.seed == cell.seed;
            let partner = other.cells.iter().find(same).or(match other.cells.as_slice() {
                [only] => Some(only),
                _ => None,
            });
            pairs.extend(partner.map(|partner| (cell, partner)));
        }
        if let ([only], true) = (row.cells.as_slice(), other.cells.len() > 1) {
            pairs = other.cells.iter().map(|partner| (only, partner)).collect();
        }
        let apart = match (&row.judged_by, &other.judged_by) {
            (a, b) if a.tokenizer != b.tokenizer => Some(Apart::Tokens),
            (a, b) if a.validation != b.validation => Some(Apart::Texts),
            _ => None,
        };
        if apart.is_some() {
            pairs.clear();
        }
        let paired = |number: &dyn Fn(&Finished) -> Option<f64>| {
            let differences: Option<Vec<f64>> =
                pairs.iter().map(|(a, b)| Some(number(a)? - number(b)?)).collect();
            Mean::of(&differences?)
        };
        let blocks: Option<Vec<f64>> = (0..BLOCKS)
            .map(|block| {
                let of = |cell: &Finished| cell.measure.as_ref()?.blocks.get(block).copied().flatten();
                Some(paired(&of)?.value)
            })
            .collect();
        Self {
            name: row.name.clone(),
            against: other.name.clone(),
            apart,
            trained: row.is_trained() || other.is_trained(),
            seeds: paired(&Finished::nats),
            text: blocks.and_then(|blocks| Mean::of(&blocks)),
            p: None,
            ece: paired(&|cell| Some(cell.calibration()?.gaps.ece)),
            ece_p: None,
            brier: paired(&|cell| Some(cell.calibration()?.gaps.brier)),
        }
    }

    /// Whether a trained variant has one seed here: what it is beyond this one pair of runs, nobody can tell.
    pub fn has_one_seed(&self) -> bool {
        self.trained && self.seeds.is_some_and(|mean| mean.n == 1)
    }

    /// Whether the spread over seeds is known from two of them alone: Student's t with one degree of freedom.
    pub fn has_two_seeds(&self) -> bool {
        self.trained && self.seeds.is_some_and(|mean| mean.n == 2)
    }

    /// The larger of two p-values, since neither kind of chance may be the explanation; `None` where one is not known.
    fn p_value(&self) -> Option<f64> {
        let text = self.text.and_then(|mean| mean.p_value());
        let seeds = self.seeds.and_then(|mean| mean.p_value());
        match (seeds, text) {
            _ if self.has_one_seed() => None,
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        }
    }

    /// In words, which way it falls.
    pub fn verdict(&self) -> &'static str {
        match (self.seeds, self.p) {
            _ if self.apart == Some(Apart::Tokens) => "not comparable: other tokens",
            _ if self.apart == Some(Apart::Texts) => "not comparable: other validation text",
            _ if self.has_one_seed() => "cannot be told: one seed",
            (None, _) => "not comparable: infinite",
            (Some(mean), Some(p)) if p < LEVEL && mean.value < 0.0 => "better",
            (Some(mean), Some(p)) if p < LEVEL && mean.value > 0.0 => "worse",
            (Some(_), Some(_)) => "no difference shown",
            (Some(_), None) => "cannot be told",
        }
    }

    /// In words, which way calibration falls.
    pub fn ece_verdict(&self) -> &'static str {
        match (self.ece, self.ece_p) {
            (Some(mean), Some(p)) if p < LEVEL && mean.value < 0.0 => "better calibrated",
            (Some(mean), Some(p)) if p < LEVEL && mean.value > 0.0 => "worse calibrated",
            (Some(_), Some(_)) => "no difference shown",
            _ => "cannot be told",
        }
    }
}

/// All comparisons that were asked for; with the first row where none was.
pub fn differences(rows: &[Row]) -> Vec<Difference> {
    let asked = rows.iter().any(|row| row.against.is_some());
    let mut all = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let other = match &row.against {
            Some(name) => rows.iter().find(|other| other.name == *name),
            None if !asked && index > 0 => rows.first(),
            None => None,
        };
        all.extend(other.map(|other| Difference::of(row, other)));
    }
    let adjust = |p_values: Vec<Option<f64>>| {
        let mut adjusted = holm(&p_values.iter().copied().flatten().collect::<Vec<_>>()).into_iter();
        p_values.into_iter().map(move |p| p.and_then(|_| adjusted.next())).collect::<Vec<_>>()
    };
    let nats = adjust(all.iter().map(Difference::p_value).collect());
    let ece = adjust(all.iter().map(|d| d.ece.and_then(|mean| mean.p_value())).collect());
    for ((difference, p), ece_p) in all.iter_mut().zip(nats).zip(ece) {
        (difference.p, difference.ece_p) = (p, ece_p);
    }
    all
}

pub(super) fn row_json(row: &Row) -> Value {
    let truth = |number: fn(&super::measure::AgainstTruth) -> Option<f64>| {
        row.measured(|measure| number(measure.truth.as_ref()?))
    };
    let known = row.cells.iter().any(|cell| cell.measure.as_ref().is_some_and(|m| m.truth.is_some()));
    let mut value = json!({
        "name": row.name,
        "seeds": row.cells.iter().map(|cell| cell.seed).collect::<Vec<_>>(),
        "runs": row.cells.iter().map(|cell| &cell.folder).collect::<Vec<_>>(),
        "kind": row.cells.first().map(|cell| &cell.kind),
        "diverged": row.diverged(),
        "nats_per_token": row.number("/eval/nats_per_token"),
        "perplexity": row.number("/eval/perplexity"),
        "bits_per_byte": row.number("/eval/bits_per_byte"),
        "zero_probability": row.number("/eval/zero_probability"),
        "tokens": row.number("/eval/tokens").map(|mean| mean.value),
        "ece": row.calibrated(|c| c.gaps.ece),
        "ece_after_temperature": row.scaled(|scaled| scaled.gaps.ece),
        "temperature": row.scaled(|scaled| scaled.temperature),
        "brier": row.calibrated(|c| c.gaps.brier),
        "brier_after_temperature": row.scaled(|scaled| scaled.gaps.brier),
        "accuracy": row.calibrated(|c| c.accuracy),
        "entropy_of_predictions": row.measured(|m| Some(m.entropy)),
        "parameters": row.number("/parameters").map(|mean| mean.value),
        "train_seconds": row.number("/train_seconds"),
    });
    if known {
        value["source"] = json!({
            "entropy": truth(|t| Some(t.entropy)),
            "cross_entropy": truth(|t| t.cross_entropy),
            "kl": truth(|t| t.kl),
            "realised_entropy": truth(|t| Some(t.realised_entropy)),
        });
        value["parts"] = json!({
            "entropy": row.mean(|cell| Some(cell.parts?.entropy)),
            "approximation": row.mean(|cell| cell.parts?.approximation),
            "approximation_uncertainty": row.mean(|cell| Some(cell.parts?.approximation_uncertainty)).map(|m| m.value),
            "estimation": row.mean(|cell| Some(cell.parts?.estimation)),
            "miscalibration": row.mean(|cell| Some(cell.parts?.miscalibration)),
            "sum": row.mean(|cell| Some(cell.parts?.sum())),
        });
    }
    value
}

pub(super) fn difference_json(difference: &Difference) -> Value {
    json!({
        "name": difference.name, "against": difference.against,
        "nats_per_token": difference.seeds,
        "nats_over_text": difference.text,
        "p": difference.p, "verdict": difference.verdict(),
        "ece": difference.ece, "ece_p": difference.ece_p, "ece_verdict": difference.ece_verdict(),
        "brier": difference.brier,
    })
}
