//! Everything a comparison wants to know of a model beside its perplexity, from one reading of the validation text.

use serde::{Deserialize, Serialize};
use surprisal_loss::calibration::{BINS, Bin, Calibration, Report, temperature};
use surprisal_loss::information::log_sum_exp;
use surprisal_model::LanguageModel;
use surprisal_platform::threads::Pool;
use surprisal_text::TokenizerKind;

use super::truth::Truth;
use crate::data::Prepared;
use crate::error::Result;
use crate::sampling::ranking;

/// The text in so many blocks of neighbouring tokens: what is alike lies together, so blocks are nearly independent where
/// tokens are not.
pub const BLOCKS: usize = 64;
/// At most so many log-probabilities are kept for fitting a temperature (256 MiB of f32).
const MOST_KEPT: usize = 1 << 26;
const ENTROPY_BARS: usize = 24;
/// Tokens of the passage that a report colours.
const PASSAGE: usize = 700;
/// Likeliest tokens told of each place in it.
const LIKELIEST: usize = 3;

/// What was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measure {
    /// Mean nats of each block; `None` where a token was impossible.
    pub blocks: Vec<Option<f64>>,
    /// Mean entropy of the predictions, in nats.
    pub entropy: f64,
    /// How many predictions have an entropy in each of equal parts from 0 to ln |V|.
    pub entropies: Vec<u64>,
    /// Whether the probabilities mean what they say; `None` where there is too little to judge.
    pub calibration: Option<Calibrated>,
    /// Against the source, where it is known.
    pub truth: Option<AgainstTruth>,
    /// A part of the text, token by token.
    pub passage: Vec<Place>,
}

/// Calibration on the second half of the text, before and after a temperature fitted on the first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Calibrated {
    /// Predictions judged.
    pub tokens: usize,
    /// How often the likeliest token came.
    pub accuracy: f64,
    /// The mean probability of the likeliest token.
    pub confidence: f64,
    /// As it is.
    #[serde(flatten)]
    pub gaps: Gaps,
    /// `None` where a token that came was impossible: no temperature helps.
    pub scaled: Option<Scaled>,
}

/// With the temperature.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scaled {
    /// What logits are divided by.
    pub temperature: f64,
    /// Nats a token without it.
    pub nats_before: f64,
    /// Nats a token with it.
    pub nats_after: f64,
    /// With it.
    #[serde(flatten)]
    pub gaps: Gaps,
    /// Mean nats that the temperature saves over the whole text, where all of it was kept.
    pub saved: Option<f64>,
}

/// How far probabilities are from what they say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Gaps {
    /// Expected calibration error.
    pub ece: f64,
    /// The same over bins of equally many predictions.
    pub ece_equal_mass: f64,
    /// Mean squared error of the probabilities.
    pub brier: f64,
    /// Confidence and accuracy, bin by bin.
    pub reliability: Vec<ReliabilityBin>,
}

/// A filled bin of equal width.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// The mean probability of the likeliest token.
    pub confidence: f64,
    /// How often the likeliest token came.
    pub accuracy: f64,
    /// How many predictions.
    pub count: usize,
}

/// Against the source's own predictions, in nats a token, over all places of the text: expected values, not what came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgainstTruth {
    /// Mean H(p).
    pub entropy: f64,
    /// Mean H(p, q) = −Σ p ln q; `None`: infinite.
    pub cross_entropy: Option<f64>,
    /// Mean KL(p‖q) = Σ p ln(p/q) − p + q, computed on its own; `None`: infinite.
    pub kl: Option<f64>,
    /// −ln p of what came, added up token by token.
    pub realised_entropy: f64,
}

/// A token of the passage and how surprising it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// As text.
    pub token: String,
    /// A word, with a space before it.
    #[serde(default)]
    pub apart: bool,
    /// `None`: impossible.
    pub nats: Option<f64>,
    /// What was likelier.
    pub likeliest: Vec<(String, f32)>,
}

impl From<Report> for Gaps {
    fn from(report: Report) -> Self {
        let filled = report.equal_width.iter().filter(|bin| bin.count > 0);
        let filled = filled.map(|&Bin { confidence, accuracy, count, .. }| ReliabilityBin {
            confidence,
            accuracy,
            count,
        });
        Self {
            ece: report.ece_equal_width,
            ece_equal_mass: report.ece_equal_mass,
            brier: report.brier,
            reliability: filled.collect(),
        }
    }
}

/// Sums while the text is read.
struct Reading<'a> {
    data: &'a Prepared,
    truth: Option<&'a Truth>,
    tokens: usize,
    index: usize,
    blocks: Vec<(f64, usize)>,
    entropy: f64,
    entropies: Vec<u64>,
    kept: Vec<f32>,
    targets: Vec<u32>,
    keep: usize,
    expected: (f64, f64, f64, f64),
    passage: Vec<Place>,
    passage_from: usize,
}

impl Reading<'_> {
    /// One prediction: ln q(· | context) in `row`, and what came.
    fn push(&mut self, row: &[f64], token: u32) {
        // f32 models sum to one only nearly; what is compared with a truth should do so exactly.
        let total = log_sum_exp(row);
        let nats = total - row[token as usize];
        let block = &mut self.blocks[self.index * BLOCKS / self.tokens];
        *block = (block.0 + nats, block.1 + 1);
        let mut entropy = 0.0;
        for log_prob in row.iter().map(|value| value - total).filter(|value| *value > f64::NEG_INFINITY) {
            entropy -= log_prob.exp() * log_prob;
        }
        self.entropy += entropy;
        let most = (row.len() as f64).ln().max(f64::MIN_POSITIVE);
        let bar = (entropy / most * ENTROPY_BARS as f64) as usize;
        self.entropies[bar.min(ENTROPY_BARS - 1)] += 1;
        if self.targets.len() < self.keep {
            self.kept.extend(row.iter().map(|value| (value - total) as f32));
            self.targets.push(token);
        }
        if let Some(truth) = self.truth {
            let (entropy, cross, kl, realised) = &mut self.expected;
            let mut left = 1.0;
            for (candidate, p) in truth.at(self.index) {
                let log_q = row[candidate as usize] - total;
                let q = log_q.exp();
                *entropy -= p * p.ln();
                *cross -= p * log_q;
                *kl += p * (p / q).ln() - p + q;
                left -= q;
            }
            // What the model gives to the impossible.
            *kl += left;
            *realised += truth.nats(self.index, token);
        }
        if (self.passage_from..self.passage_from + PASSAGE).contains(&self.index) {
            let tokenizer = &self.data.tokenizer;
            let likeliest = ranking(row, 0..row.len() as u32)
                .iter()
                .take(LIKELIEST)
                .map(|&id| (tokenizer.token(id), (row[id as usize] - total).exp() as f32))
                .collect();
            // As an evaluation scores it: f32 models sum to one only nearly.
            let nats = Some(-row[token as usize]).filter(|nats| nats.is_finite());
            let token = text_of(self.data, token);
            let after_word = self.passage.last().is_some_and(|last| last.token != "\n");
            let apart = tokenizer.kind() == TokenizerKind::Word && after_word && token != "\n";
            self.passage.push(Place { token, apart, nats, likeliest });
        }
        self.index += 1;
    }
}

/// A token as a reader of the text would see it; the end of a line is one.
fn text_of(data: &Prepared, token: u32) -> String {
    if Some(token) == data.tokenizer.eos() {
        return "\n".to_owned();
    }
    data.tokenizer.decode(&[token])
}

/// Reads the validation text with `model`. Scores that are no distribution have nothing to be measured here.
///
/// # Errors
/// As the model's.
pub fn measure(
    model: &dyn LanguageModel,
    data: &Prepared,
    truth: Option<&Truth>,
    pool: &Pool,
) -> Result<Option<Measure>> {
    if !model.is_distribution() {
        return Ok(None);
    }
    let tokens = data.val.scored() as usize;
    let vocab = model.vocab_size();
    let keep = tokens.min(MOST_KEPT / vocab.max(1));
    let mut reading = Reading {
        data,
        truth,
        tokens,
        index: 0,
        blocks: vec![(0.0, 0); BLOCKS],
        entropy: 0.0,
        entropies: vec![0; ENTROPY_BARS],
        kept: Vec::with_capacity(keep * vocab),
        targets: Vec::with_capacity(keep),
        keep,
        expected: (0.0, 0.0, 0.0, 0.0),
        passage: Vec::new(),
        passage_from: tokens / 2,
    };
    let from = usize::from(data.val.bos().is_some());
    let (mut start, mut unknown) = (0, Vec::new());
    for sequence in data.val.sequences() {
        pool.install(|| {
            model.distributions(sequence, from, &mut |i, row| {
                let place = reading.passage.len();
                reading.push(row, sequence[i]);
                if reading.passage.len() > place && Some(sequence[i]) == data.tokenizer.unk() {
                    unknown.push((start + i, place));
                }
            })
        })?;
        start += sequence.len();
    }
    if let (Some(corpus), Some((last, _))) = (&data.corpus, unknown.last()) {
        let words = corpus.unknown_val(&data.tokenizer, last + 1)?;
        for (at, place) in &unknown {
            if let Some(word) = words.get(at) {
                reading.passage[*place].token = format!("{word} (unknown)");
            }
        }
    }
    let t = tokens as f64;
    let mean = |(sum, count): &(f64, usize)| (sum / *count as f64).is_finite().then(|| sum / *count as f64);
    let finite = |sum: f64| sum.is_finite().then_some(sum / t);
    let (entropy, cross, kl, realised) = reading.expected;
    Ok(Some(Measure {
        blocks: reading.blocks.iter().map(mean).collect(),
        entropy: reading.entropy / t,
        entropies: reading.entropies,
        calibration: calibrate(&reading.kept, vocab, &reading.targets, keep == tokens)?,
        truth: truth.map(|_| AgainstTruth {
            entropy: entropy / t,
            cross_entropy: finite(cross),
            kl: finite(kl),
            realised_entropy: realised / t,
        }),
        passage: reading.passage,
    }))
}

fn calibrate(kept: &[f32], vocab: usize, targets: &[u32], whole: bool) -> Result<Option<Calibrated>> {
    if targets.len() < 2 {
        return Ok(None);
    }
    let impossible =
        kept.chunks_exact(vocab).zip(targets).any(|(row, &y)| row[y as usize] == f32::NEG_INFINITY);
    let (before, scaled) = if impossible {
        let half = targets.len() / 2;
        let mut calibration = Calibration::new();
        for (row, &target) in kept[half * vocab..].chunks_exact(vocab).zip(&targets[half..]) {
            let row: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
            calibration.push(&row, target)?;
        }
        (calibration.report(BINS)?, None)
    } else {
        let split = temperature::fit_held_out(kept, vocab, targets)?;
        let saved = whole.then(|| saved(kept, vocab, targets, split.temperature));
        let scaled = Scaled {
            temperature: split.temperature,
            nats_before: split.nll_before,
            nats_after: split.nll_after,
            gaps: split.after.into(),
            saved,
        };
        (split.before, Some(scaled))
    };
    let Report { count: tokens, accuracy, confidence, .. } = before;
    Ok(Some(Calibrated { tokens, accuracy, confidence, gaps: before.into(), scaled }))
}

/// Mean of ln q_T(w) − ln q(w): q_T ∝ q^(1/T).
fn saved(log_probs: &[f32], vocab: usize, targets: &[u32], temperature: f64) -> f64 {
    let rows = log_probs.chunks_exact(vocab).zip(targets);
    let mut scaled = vec![0.0; vocab];
    let total: f64 = rows
        .map(|(row, &target)| {
            scaled.iter_mut().zip(row).for_each(|(wide, &value)| *wide = f64::from(value) / temperature);
            scaled[target as usize] - log_sum_exp(&scaled) - f64::from(row[target as usize])
        })
        .sum();
    total / targets.len() as f64
}
