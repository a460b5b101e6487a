//! Summaries of variants over their trials, and paired differences.

use serde_json::{Value, json};

pub use super::common::Incomparable;
use super::consistency::Consistency;
use super::diagnostics::{BLOCKS, CalibrationSummary, Diagnostics, WithTemperature};
use super::statistics::{Mean, holm};
use super::trial::{EvaluatedOn, TrialRecord};

/// Significance level: differences with a smaller p-value are reported as differences.
pub const SIGNIFICANCE_LEVEL: f64 = 0.05;

/// A variant with its trials.
#[derive(Debug)]
pub struct VariantSummary {
    /// Name of the variant.
    pub name: String,
    /// Name of the variant that it is compared with.
    pub against: Option<String>,
    /// Index of the comparison's text.
    pub(super) text: usize,
    /// Hashes of tokenizer and validation tokens.
    pub evaluated_on: EvaluatedOn,
    /// Whether it is scored on the common text, or why not; `None` where all have the same tokens.
    pub(super) common: Option<Result<(), Incomparable>>,
    /// Sorted by seed.
    pub trials: Vec<TrialRecord>,
}

impl VariantSummary {
    /// Mean of a number over the seeds; `None` if a seed lacks it.
    pub fn mean(&self, number: impl Fn(&TrialRecord) -> Option<f64>) -> Option<Mean> {
        let values: Option<Vec<f64>> = self.trials.iter().map(number).collect();
        Mean::from_values(&values?)
    }

    /// Mean of a number of the runs' results.
    pub fn number(&self, pointer: &str) -> Option<Mean> {
        self.mean(|trial| trial.number(pointer))
    }

    /// Mean of a number of the diagnostics.
    pub fn measured(&self, number: impl Fn(&Diagnostics) -> Option<f64>) -> Option<Mean> {
        self.mean(|trial| number(trial.diagnostics.as_ref()?))
    }

    /// Mean of a number of the calibration.
    pub fn calibrated(&self, number: fn(&CalibrationSummary) -> f64) -> Option<Mean> {
        self.mean(|trial| Some(number(trial.calibration()?)))
    }

    /// Mean of a number of the calibration with a temperature.
    pub fn scaled(&self, number: fn(&WithTemperature) -> f64) -> Option<Mean> {
        self.mean(|trial| Some(number(trial.calibration()?.scaled.as_ref()?)))
    }

    /// Mean number of tokens with probability zero, and number of tokens; `None` where all are 0.
    pub fn zero_probability(&self) -> Option<(f64, f64)> {
        let most = self.trials.iter().map(TrialRecord::zero_probability).max()?;
        let mean = self.mean(|trial| Some(trial.zero_probability() as f64))?.value;
        (most > 0).then_some((mean, self.number("/eval/tokens")?.value))
    }

    /// Bits per byte: of the common text, where there is one.
    pub fn bits_per_byte(&self) -> Option<Mean> {
        match self.common {
            Some(Ok(())) => self.mean(|trial| trial.common.as_ref()?.bits_per_byte),
            _ => self.number("/eval/bits_per_byte"),
        }
    }

    /// The part of the bits per byte that is the cost of spelling unknown words.
    pub fn spelling_bits_per_byte(&self) -> Option<Mean> {
        match self.common {
            Some(Ok(())) => self.mean(|trial| Some(trial.common.as_ref()?.spelling)),
            _ => self.number("/eval/spelling_bits_per_byte"),
        }
    }

    /// Its models beside a Markov source of their own order: the cells of all seeds.
    pub fn consistency(&self) -> Option<Consistency> {
        let add = |sum: Consistency, of: Consistency| Consistency {
            cells: sum.cells + of.cells,
            covered: sum.covered + of.covered,
            ..sum
        };
        let all: Option<Vec<Consistency>> = self.trials.iter().map(|trial| trial.consistency).collect();
        all?.into_iter().reduce(add)
    }

    /// Whether its models depend on the seed.
    fn is_trained(&self) -> bool {
        self.trials.iter().any(|trial| !matches!(trial.kind.as_str(), "ngram" | "uniform"))
    }

    /// Number of diverged runs.
    pub fn diverged(&self) -> usize {
        self.trials.iter().filter(|trial| trial.diverged.is_some()).count()
    }
}

/// The unit of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nats per token, for the same tokens.
    NatsPerToken,
    /// Bits per byte of one text, for different tokens.
    BitsPerByte,
}

impl Unit {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NatsPerToken => "nats per token",
            Self::BitsPerByte => "bits per byte",
        }
    }
}

/// A variant minus what it is compared with.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Name of the variant.
    pub name: String,
    /// Name of the variant that it is compared with.
    pub against: String,
    /// The reason why the two do not compare, if any.
    pub incomparable: Option<Incomparable>,
    /// The unit of the differences.
    pub unit: Unit,
    /// Whether one of the two depends on the seed.
    trained: bool,
    /// Difference of the losses over the seeds of both; `None` where one is infinite or they do not
    /// compare.
    pub over_seeds: Option<Mean>,
    /// The same difference over blocks of the validation text, averaged over seeds.
    pub over_blocks: Option<Mean>,
    /// The larger of the two p-values, adjusted for the number of comparisons (Holm).
    pub p_holm: Option<f64>,
    /// Difference in expected calibration error, over seeds.
    pub ece: Option<Mean>,
    /// P-value of that difference, adjusted (Holm).
    pub ece_p_holm: Option<f64>,
    /// Difference in Brier score, over seeds.
    pub brier: Option<Mean>,
}

impl Difference {
    fn new(row: &VariantSummary, other: &VariantSummary) -> Self {
        let mut pairs = Vec::new();
        for trial in &row.trials {
            // A model that does not depend on the seed is paired with every seed.
            let same = |other: &&TrialRecord| other.seed == trial.seed;
            let partner = other.trials.iter().find(same).or(match other.trials.as_slice() {
                [only] => Some(only),
                _ => None,
            });
            pairs.extend(partner.map(|partner| (trial, partner)));
        }
        if let ([only], true) = (row.trials.as_slice(), other.trials.len() > 1) {
            pairs = other.trials.iter().map(|partner| (only, partner)).collect();
        }
        let (unit, apart) = match (&row.evaluated_on, &other.evaluated_on) {
            (a, b) if a.tokenizer != b.tokenizer => match apart(row, other) {
                None => (Unit::BitsPerByte, None),
                why => (Unit::NatsPerToken, why),
            },
            (a, b) if a.validation != b.validation => (Unit::NatsPerToken, Some(Incomparable::Texts)),
            _ => (Unit::NatsPerToken, None),
        };
        if apart.is_some() {
            pairs.clear();
        }
        // Calibration is of predictions of tokens, which differ.
        let by_token = unit == Unit::NatsPerToken;
        let paired = |number: &dyn Fn(&TrialRecord) -> Option<f64>| {
            let differences: Option<Vec<f64>> =
                pairs.iter().map(|(a, b)| Some(number(a)? - number(b)?)).collect();
            Mean::from_values(&differences?)
        };
        let blocks: Option<Vec<f64>> = (0..BLOCKS)
            .map(|block| {
                let of = |trial: &TrialRecord| match unit {
                    Unit::NatsPerToken => trial.diagnostics.as_ref()?.blocks.get(block).copied().flatten(),
                    Unit::BitsPerByte => trial.common.as_ref()?.blocks.get(block).copied().flatten(),
                };
                Some(paired(&of)?.value)
            })
            .collect();
        Self {
            name: row.name.clone(),
            against: other.name.clone(),
            incomparable: apart,
            unit,
            trained: row.is_trained() || other.is_trained(),
            over_seeds: paired(&|trial| match unit {
                Unit::NatsPerToken => trial.nats_per_token(),
                Unit::BitsPerByte => trial.common.as_ref()?.bits_per_byte,
            }),
            over_blocks: blocks.and_then(|blocks| Mean::from_values(&blocks)),
            p_holm: None,
            ece: by_token.then(|| paired(&|trial| Some(trial.calibration()?.gaps.ece))).flatten(),
            ece_p_holm: None,
            brier: by_token.then(|| paired(&|trial| Some(trial.calibration()?.gaps.brier))).flatten(),
        }
    }

    /// Whether a trained variant has only one seed, so that the spread over seeds is not known.
    pub fn has_one_seed(&self) -> bool {
        self.trained && self.over_seeds.is_some_and(|mean| mean.n == 1)
    }

    /// Whether a trained variant has only two seeds: a t-test with one degree of freedom.
    pub fn has_two_seeds(&self) -> bool {
        self.trained && self.over_seeds.is_some_and(|mean| mean.n == 2)
    }

    /// The larger of the p-values over seeds and over blocks, as chance in either may explain the
    /// difference; `None` for a trained variant with one seed.
    fn p_value(&self) -> Option<f64> {
        let text = self.over_blocks.and_then(|mean| mean.t_test_p());
        let seeds = self.over_seeds.and_then(|mean| mean.t_test_p());
        match (seeds, text) {
            _ if self.has_one_seed() => None,
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        }
    }

    /// The result of the test in words.
    pub fn verdict(&self) -> &'static str {
        match (self.over_seeds, self.p_holm) {
            _ if self.incomparable == Some(Incomparable::Texts) => "not comparable: other validation text",
            _ if self.incomparable == Some(Incomparable::Lossy) => "not comparable: tokens lose text",
            _ if self.incomparable == Some(Incomparable::Unspelled) => "not comparable: unknown text",
            _ if self.incomparable == Some(Incomparable::Scores) => "not comparable: no distribution",
            _ if self.has_one_seed() => "not tested: one seed",
            (None, _) => "not comparable: infinite",
            (Some(mean), Some(p)) if p < SIGNIFICANCE_LEVEL && mean.value < 0.0 => "better",
            (Some(mean), Some(p)) if p < SIGNIFICANCE_LEVEL && mean.value > 0.0 => "worse",
            (Some(_), Some(_)) => "no difference shown",
            (Some(_), None) => "not tested: too few runs",
        }
    }

    /// The result of the test of calibration in words.
    pub fn ece_verdict(&self) -> &'static str {
        match (self.ece, self.ece_p_holm) {
            (Some(mean), Some(p)) if p < SIGNIFICANCE_LEVEL && mean.value < 0.0 => "better calibrated",
            (Some(mean), Some(p)) if p < SIGNIFICANCE_LEVEL && mean.value > 0.0 => "worse calibrated",
            (Some(_), Some(_)) => "no difference shown",
            _ => "not tested",
        }
    }
}

/// The reason why two variants with different tokens do not compare, if any.
fn apart(row: &VariantSummary, other: &VariantSummary) -> Option<Incomparable> {
    for variant in [row, other] {
        match variant.common {
            Some(Ok(())) => {}
            Some(Err(why)) => return Some(why),
            None => return Some(Incomparable::Texts),
        }
    }
    let losses = || row.trials.iter().chain(&other.trials).filter(|trial| trial.diverged.is_none());
    if losses().any(|trial| trial.common.is_none()) {
        return Some(Incomparable::Scores);
    }
    let mut texts = losses().filter_map(|trial| Some(&trial.common.as_ref()?.text));
    let first = texts.next();
    texts.any(|text| Some(text) != first).then_some(Incomparable::Texts)
}

/// The differences that variants name; where none does, those between each variant and the first.
pub fn differences(rows: &[VariantSummary]) -> Vec<Difference> {
    let asked = rows.iter().any(|row| row.against.is_some());
    let mut all = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let other = match &row.against {
            Some(name) => rows.iter().find(|other| other.name == *name),
            None if !asked && index > 0 => rows.first(),
            None => None,
        };
        all.extend(other.map(|other| Difference::new(row, other)));
    }
    let adjust = |p_values: Vec<Option<f64>>| {
        let mut adjusted = holm(&p_values.iter().copied().flatten().collect::<Vec<_>>()).into_iter();
        p_values.into_iter().map(move |p| p.and_then(|_| adjusted.next())).collect::<Vec<_>>()
    };
    let nats = adjust(all.iter().map(Difference::p_value).collect());
    let ece = adjust(all.iter().map(|d| d.ece.and_then(|mean| mean.t_test_p())).collect());
    for ((difference, p), ece_p) in all.iter_mut().zip(nats).zip(ece) {
        (difference.p_holm, difference.ece_p_holm) = (p, ece_p);
    }
    all
}

pub(super) fn row_json(row: &VariantSummary) -> Value {
    let truth = |number: fn(&super::diagnostics::SourceComparison) -> Option<f64>| {
        row.measured(|measure| number(measure.source.as_ref()?))
    };
    let known = row.trials.iter().any(|trial| trial.diagnostics.as_ref().is_some_and(|m| m.source.is_some()));
    let mut value = json!({
        "name": row.name,
        "seeds": row.trials.iter().map(|trial| trial.seed).collect::<Vec<_>>(),
        "runs": row.trials.iter().map(|trial| &trial.folder).collect::<Vec<_>>(),
        "kind": row.trials.first().map(|trial| &trial.kind),
        "diverged": row.diverged(),
        "nats_per_token": row.number("/eval/nats_per_token"),
        "nats_per_token_by_seed": row.trials.iter().map(TrialRecord::nats_per_token).collect::<Vec<_>>(),
        "perplexity": row.number("/eval/perplexity"),
        "bits_per_byte": row.bits_per_byte(),
        "spelling_bits_per_byte": row.spelling_bits_per_byte(),
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
            "entropy": row.mean(|trial| Some(trial.decomposition?.entropy)),
            "approximation": row.mean(|trial| trial.decomposition?.approximation),
            "approximation_uncertainty": row.mean(|trial| Some(trial.decomposition?.approximation_uncertainty)).map(|m| m.value),
            "estimation": row.mean(|trial| Some(trial.decomposition?.estimation)),
            "miscalibration": row.mean(|trial| Some(trial.decomposition?.miscalibration)),
            "sum": row.mean(|trial| Some(trial.decomposition?.sum())),
        });
    }
    value
}

pub(super) fn difference_json(difference: &Difference) -> Value {
    let (seeds, text) = match difference.unit {
        Unit::NatsPerToken => ("nats_per_token", "nats_over_text"),
        Unit::BitsPerByte => ("bits_per_byte", "bits_over_text"),
    };
    json!({
        "name": difference.name, "against": difference.against,
        seeds: difference.over_seeds,
        text: difference.over_blocks,
        "p": difference.p_holm, "verdict": difference.verdict(),
        "ece": difference.ece, "ece_p": difference.ece_p_holm, "ece_verdict": difference.ece_verdict(),
        "brier": difference.brier,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{RngStream, rng_for};
    use rand::Rng;

    const SEEDS: u64 = 5;

    /// Losses in nats per token of a variant on blocks of a text that all variants share, with an
    /// effect of each seed and noise in each block.
    fn variant(name: &str, loss: f64, text: &[f64], noise: &mut impl FnMut(f64) -> f64) -> VariantSummary {
        let trial = |seed| {
            let own = loss + noise(0.02);
            let blocks: Vec<f64> = text.iter().map(|block| own + block + noise(0.05)).collect();
            let mean = blocks.iter().sum::<f64>() / blocks.len() as f64;
            TrialRecord::simulated(seed, mean, &blocks)
        };
        let evaluated_on = EvaluatedOn { tokenizer: blake3::hash(b""), validation: String::new() };
        let trials = (0..SEEDS).map(trial).collect();
        VariantSummary { name: name.into(), against: None, text: 0, evaluated_on, common: None, trials }
    }

    /// The number of 200 comparisons of two variants in which a difference is found.
    fn found(difference: f64) -> usize {
        let mut rng = rng_for(17, RngStream::Sampling(0));
        let mut noise =
            move |deviation: f64| deviation * ((0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0);
        let is_found = |_: &i32| {
            let text: Vec<f64> = (0..BLOCKS).map(|_| noise(0.3)).collect();
            let rows =
                [variant("a", 2.0, &text, &mut noise), variant("b", 2.0 + difference, &text, &mut noise)];
            let verdict = differences(&rows)[0].verdict();
            assert!(difference == 0.0 || verdict != "better");
            verdict != "no difference shown"
        };
        (0..200).filter(is_found).count()
    }

    #[test]
    fn chance_is_rarely_called_a_difference_and_a_tenth_of_a_nat_nearly_always() {
        let by_chance = found(0.0);
        assert!(by_chance <= 16, "{by_chance} of 200");
        // The standard error of a difference over seeds is 0.013 nats here.
        let true_ones = found(0.05);
        assert!((140..200).contains(&true_ones), "{true_ones} of 200");
        assert!(found(0.1) >= 195);
    }
}
