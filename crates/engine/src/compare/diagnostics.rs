//! Diagnostics of a model beside its perplexity, from one pass over the validation text.

use serde::{Deserialize, Serialize};
use surprisal_loss::calibration::{BINS, Bin, Calibration, Report, temperature};
use surprisal_loss::information::log_sum_exp;
use surprisal_model::LanguageModel;
use surprisal_platform::threads::Pool;
use surprisal_text::Granularity;

use super::oracle::SourceOracle;
use crate::data::Dataset;
use crate::error::Result;
use crate::sampling::ranking;

/// Number of contiguous blocks of the text for the paired t-test: neighbouring tokens are
/// correlated, block means are nearly independent.
pub const BLOCKS: usize = 64;
/// Maximum number of log-probabilities stored to fit a temperature (256 MiB of f32).
const MAX_LOG_PROBS: usize = 1 << 26;
/// Bins of the histogram of entropies.
const ENTROPY_BINS: usize = 24;
/// Tokens of the passage for which a report shows every surprisal.
const PASSAGE_TOKENS: usize = 700;
/// Number of likeliest tokens stored for each token of the passage.
const TOP_K: usize = 3;

/// Diagnostics of a model on the validation text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Diagnostics {
    /// Mean loss of each block, in nats per token; `None` where it is infinite.
    pub blocks: Vec<Option<f64>>,
    /// Mean entropy of the predictions, in nats.
    pub entropy: f64,
    /// Numbers of predictions by entropy, in bins of equal width from 0 to ln |V|.
    #[serde(rename = "entropies")]
    pub entropy_histogram: Vec<u64>,
    /// Calibration; `None` for fewer than two tokens.
    pub calibration: Option<CalibrationSummary>,
    /// Comparison with the source, where it is known.
    #[serde(rename = "truth")]
    pub source: Option<SourceComparison>,
    /// A part of the text, token by token.
    pub passage: Vec<TokenSurprisal>,
}

/// Calibration on the second half of the text, before and after a temperature fitted on the first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CalibrationSummary {
    /// Number of predictions.
    pub tokens: usize,
    /// Share of predictions whose likeliest token is the true one.
    pub accuracy: f64,
    /// Mean probability of the likeliest token.
    pub confidence: f64,
    /// Errors without a temperature.
    #[serde(flatten)]
    pub gaps: CalibrationErrors,
    /// Results with a temperature; `None` where a token has probability zero under every
    /// temperature.
    pub scaled: Option<WithTemperature>,
}

/// Calibration with a fitted temperature.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WithTemperature {
    /// The temperature, by which logits are divided.
    pub temperature: f64,
    /// Nats per token without it.
    pub nats_before: f64,
    /// Nats per token with it.
    pub nats_after: f64,
    /// Errors with it.
    #[serde(flatten)]
    pub gaps: CalibrationErrors,
    /// Reduction of the loss over the whole text, in nats per token; `None` for a text of which
    /// only a part was stored.
    pub saved: Option<f64>,
}

/// Errors of predicted probabilities.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CalibrationErrors {
    /// Expected calibration error, over bins of equal width.
    pub ece: f64,
    /// Expected calibration error over bins of equally many predictions.
    pub ece_equal_mass: f64,
    /// Brier score: squared error of the probabilities.
    pub brier: f64,
    /// Reliability diagram: the bins that are not empty.
    pub reliability: Vec<ReliabilityBin>,
}

/// A bin of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Mean probability of the likeliest token.
    pub confidence: f64,
    /// Share of predictions whose likeliest token is the true one.
    pub accuracy: f64,
    /// Number of predictions.
    pub count: usize,
}

/// Comparison with the source's predictions, in nats per token: means over the text of expectations
/// under the source.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SourceComparison {
    /// Mean H(p).
    pub entropy: f64,
    /// Mean H(p, q) = −Σ p ln q; `None`: infinite.
    pub cross_entropy: Option<f64>,
    /// Mean KL(p‖q) = Σ p ln(p/q) − p + q, computed on its own; `None`: infinite.
    pub kl: Option<f64>,
    /// Mean −ln p of the text's tokens.
    pub realised_entropy: f64,
}

/// A token of the passage with its surprisal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenSurprisal {
    /// The token as text.
    pub token: String,
    /// Whether a space is before it.
    #[serde(rename = "apart", default)]
    pub space_before: bool,
    /// Surprisal in nats; `None` for probability zero.
    pub nats: Option<f64>,
    /// The likeliest tokens, with their probabilities.
    pub likeliest: Vec<(String, f32)>,
}

impl From<Report> for CalibrationErrors {
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

/// Sums over the tokens read so far.
struct DiagnosticsAccumulator<'a> {
    data: &'a Dataset,
    truth: Option<&'a SourceOracle>,
    tokens: usize,
    index: usize,
    blocks: Vec<(f64, usize)>,
    entropy: f64,
    entropies: Vec<u64>,
    kept: Vec<f32>,
    targets: Vec<u32>,
    keep: usize,
    expected: (f64, f64, f64, f64),
    passage: Vec<TokenSurprisal>,
    passage_from: usize,
}

impl DiagnosticsAccumulator<'_> {
    /// Adds a prediction, ln q(· | context), and the true token.
    fn push(&mut self, row: &[f64], token: u32) {
        // The probabilities of f32 models sum to 1 only approximately.
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
        let bar = (entropy / most * ENTROPY_BINS as f64) as usize;
        self.entropies[bar.min(ENTROPY_BINS - 1)] += 1;
        if self.targets.len() < self.keep {
            self.kept.extend(row.iter().map(|value| (value - total) as f32));
            self.targets.push(token);
        }
        if let Some(truth) = self.truth {
            let (entropy, cross, kl, realised) = &mut self.expected;
            let mut left = 1.0;
            for (candidate, p) in truth.next_tokens(self.index) {
                let log_q = row[candidate as usize] - total;
                let q = log_q.exp();
                *entropy -= p * p.ln();
                *cross -= p * log_q;
                *kl += p * (p / q).ln() - p + q;
                left -= q;
            }
            // The probability of tokens that the source cannot produce.
            *kl += left;
            *realised += truth.surprisal(self.index, token);
        }
        if (self.passage_from..self.passage_from + PASSAGE_TOKENS).contains(&self.index) {
            let tokenizer = &self.data.tokenizer;
            let likeliest = ranking(row, 0..row.len() as u32)
                .iter()
                .take(TOP_K)
                .map(|&id| (tokenizer.token(id), (row[id as usize] - total).exp() as f32))
                .collect();
            // Not normalised, as in an evaluation.
            let nats = Some(-row[token as usize]).filter(|nats| nats.is_finite());
            let token = text_of(self.data, token);
            let after_word = self.passage.last().is_some_and(|last| last.token != "\n");
            let apart = tokenizer.granularity() == Granularity::Word && after_word && token != "\n";
            self.passage.push(TokenSurprisal { token, space_before: apart, nats, likeliest });
        }
        self.index += 1;
    }
}

/// A token as text; the end of a sentence is a newline.
fn text_of(data: &Dataset, token: u32) -> String {
    if Some(token) == data.tokenizer.eos() {
        return "\n".to_owned();
    }
    data.tokenizer.decode(&[token])
}

/// Diagnostics of `model` on the validation text; `None` for a model that is not a distribution.
///
/// # Errors
/// A failure of the model.
pub fn measure(
    model: &dyn LanguageModel,
    data: &Dataset,
    truth: Option<&SourceOracle>,
    pool: &Pool,
) -> Result<Option<Diagnostics>> {
    if !model.is_distribution() {
        return Ok(None);
    }
    let tokens = data.val.scored() as usize;
    let vocab = model.vocab_size();
    let keep = tokens.min(MAX_LOG_PROBS / vocab.max(1));
    let mut reading = DiagnosticsAccumulator {
        data,
        truth,
        tokens,
        index: 0,
        blocks: vec![(0.0, 0); BLOCKS],
        entropy: 0.0,
        entropies: vec![0; ENTROPY_BINS],
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
            model.for_each_distribution(sequence, from, &mut |i, row| {
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
    Ok(Some(Diagnostics {
        blocks: reading.blocks.iter().map(mean).collect(),
        entropy: reading.entropy / t,
        entropy_histogram: reading.entropies,
        calibration: calibrate(&reading.kept, vocab, &reading.targets, keep == tokens)?,
        source: truth.map(|_| SourceComparison {
            entropy: entropy / t,
            cross_entropy: finite(cross),
            kl: finite(kl),
            realised_entropy: realised / t,
        }),
        passage: reading.passage,
    }))
}

/// The nats per token that one temperature would remove from `model` on the first `most` tokens of
/// the validation text, fitted on the first half of them; `None` where none can be fitted.
///
/// # Errors
/// A failure of the model.
pub fn miscalibration(
    model: &dyn LanguageModel,
    data: &Dataset,
    most: usize,
    pool: &Pool,
) -> Result<Option<f64>> {
    let (vocab, from) = (model.vocab_size(), usize::from(data.val.bos().is_some()));
    let (mut kept, mut targets) = (Vec::new(), Vec::new());
    for sequence in data.val.sequences() {
        let part = &sequence[..sequence.len().min(from + most - targets.len())];
        pool.install(|| {
            model.for_each_distribution(part, from, &mut |i, row| {
                let total = log_sum_exp(row);
                kept.extend(row.iter().map(|value| (value - total) as f32));
                targets.push(part[i]);
            })
        })?;
        if targets.len() == most {
            break;
        }
    }
    let found = calibrate(&kept, vocab, &targets, true)?;
    Ok(found.and_then(|calibration| calibration.scaled?.saved))
}

fn calibrate(kept: &[f32], vocab: usize, targets: &[u32], whole: bool) -> Result<Option<CalibrationSummary>> {
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
        let saved = whole.then(|| temperature_gain(kept, vocab, targets, split.temperature));
        let scaled = WithTemperature {
            temperature: split.temperature,
            nats_before: split.nll_before,
            nats_after: split.nll_after,
            gaps: split.after.into(),
            saved,
        };
        (split.before, Some(scaled))
    };
    let Report { count: tokens, accuracy, confidence, .. } = before;
    Ok(Some(CalibrationSummary { tokens, accuracy, confidence, gaps: before.into(), scaled }))
}

/// Mean of ln q_T(w) − ln q(w), with q_T ∝ q^(1/T).
fn temperature_gain(log_probs: &[f32], vocab: usize, targets: &[u32], temperature: f64) -> f64 {
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
