//! A trial of a comparison: the run of one variant with one seed, and its diagnostics.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use surprisal_model::ModelConfig;
use surprisal_platform::threads::Pool;
use surprisal_store::atomic;
use surprisal_store::read::regular_text;

use super::common::{CommonLoss, CommonTokens, Incomparable};
use super::consistency::Consistency;
use super::diagnostics::{CalibrationSummary, Diagnostics, measure};
use super::oracle::SourceOracle;
use crate::config::{Config, Loaded};
use crate::data::Dataset;
use crate::error::{Advice, Error, ExitKind, Result};
use crate::events::Context;
use crate::fingerprint::{RunFingerprint, text_hash};
use crate::models;
use crate::runs;
use crate::train;

/// Hashes (BLAKE3) of the tokenizer and the validation tokens: where both are equal, losses per
/// token compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluatedOn {
    /// Hash of the tokenizer.
    pub tokenizer: blake3::Hash,
    /// Hash of the validation tokens, in hexadecimal digits.
    pub validation: String,
}

/// The file of a finished trial, in the run's folder.
const RECORD: &str = "cell.json";

/// A text that trials share.
#[derive(Debug)]
pub struct SharedText {
    /// Tokens and tokenizer.
    pub data: Dataset,
    /// The source's predictions, where the source is known.
    pub oracle: Option<SourceOracle>,
    /// Hashes of tokenizer and validation tokens.
    pub evaluated_on: EvaluatedOn,
    /// The text on which models with other tokens are compared with these, or the reason why they
    /// are not; `None` where all have the same tokens.
    pub common: Option<std::result::Result<CommonTokens, Incomparable>>,
}

impl SharedText {
    /// Adds the predictions of the source and the hashes to `data`.
    ///
    /// # Errors
    /// A failure of the source.
    pub fn new(config: &Config, data: Dataset) -> Result<Self> {
        let oracle = SourceOracle::new(config, &data.tokenizer, &data.val)?;
        let tokenizer = blake3::hash(&data.tokenizer.to_json()?);
        let evaluated_on = EvaluatedOn { tokenizer, validation: text_hash(&data.val) };
        Ok(Self { data, oracle, evaluated_on, common: None })
    }
}

/// A run of a comparison.
pub struct Trial {
    /// Index of the variant.
    pub variant: usize,
    /// The run's seed.
    pub seed: u64,
    /// The run's settings.
    pub loaded: Loaded,
    /// The run's folder, relative to the comparison's.
    pub folder: PathBuf,
    /// Index of the text.
    pub text: usize,
}

/// Results of a finished trial: the content of its cell.json.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrialRecord {
    identity: RunFingerprint,
    /// Kind of the model.
    pub kind: String,
    /// The run's seed.
    pub seed: u64,
    /// The message of a divergence, after which there is no model.
    pub diverged: Option<String>,
    /// The `result` event of the run, as in its metrics.jsonl.
    pub result: Value,
    /// The sample at the end of the run.
    pub sample: Option<String>,
    /// Diagnostics on the validation text; `None` for a model that is not a distribution.
    #[serde(rename = "measure")]
    pub diagnostics: Option<Diagnostics>,
    /// The parts of the loss, where the source is known.
    #[serde(rename = "parts")]
    pub decomposition: Option<LossDecomposition>,
    /// The loss by which it is compared with models of other tokens, if there are any.
    #[serde(default)]
    pub common: Option<CommonLoss>,
    /// Comparison with a Markov source of the model's own order.
    #[serde(default)]
    pub consistency: Option<Consistency>,
    /// The run's folder, relative to the comparison's.
    pub folder: PathBuf,
}

/// Decomposition of the loss: H(p, q) = H(p) + approximation + estimation + miscalibration, in nats
/// per token of the validation text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossDecomposition {
    /// H(p), the entropy of the source.
    pub entropy: f64,
    /// Approximation error: the excess loss of the best model with the same context length; `None`
    /// where it is not known.
    pub approximation: Option<f64>,
    /// Uncertainty of the approximation error.
    pub approximation_uncertainty: f64,
    /// Estimation error: the excess loss from learning on finite text; includes the approximation
    /// error where that is not known.
    pub estimation: f64,
    /// The part that one temperature, fitted on the first half of the text, would remove.
    pub miscalibration: f64,
}

impl LossDecomposition {
    /// The sum of all parts: the cross-entropy.
    pub fn sum(&self) -> f64 {
        self.entropy + self.approximation.unwrap_or(0.0) + self.estimation + self.miscalibration
    }
}

impl TrialRecord {
    /// A record with these losses in nats per token, for simulations.
    #[cfg(test)]
    pub(super) fn simulated(seed: u64, nats_per_token: f64, blocks: &[f64]) -> Self {
        let diagnostics = Diagnostics {
            blocks: blocks.iter().copied().map(Some).collect(),
            entropy: 0.0,
            entropy_histogram: Vec::new(),
            calibration: None,
            source: None,
            passage: Vec::new(),
        };
        Self {
            identity: RunFingerprint::default(),
            kind: "mlp".into(),
            seed,
            diverged: None,
            result: serde_json::json!({ "eval": { "nats_per_token": nats_per_token } }),
            sample: None,
            diagnostics: Some(diagnostics),
            decomposition: None,
            common: None,
            consistency: None,
            folder: PathBuf::new(),
        }
    }

    /// A number of the run's result; `None` where it is infinite or missing.
    pub fn number(&self, pointer: &str) -> Option<f64> {
        self.result.pointer(pointer).and_then(Value::as_f64)
    }

    /// The loss in nats per token.
    pub fn nats_per_token(&self) -> Option<f64> {
        self.number("/eval/nats_per_token")
    }

    /// Calibration of the predictions.
    pub fn calibration(&self) -> Option<&CalibrationSummary> {
        self.diagnostics.as_ref()?.calibration.as_ref()
    }

    /// Number of tokens with probability zero.
    pub fn zero_probability(&self) -> u64 {
        self.result.pointer("/eval/zero_probability").and_then(Value::as_u64).unwrap_or(0)
    }
}

impl Trial {
    fn identity(&self, data: &Dataset) -> Result<RunFingerprint> {
        RunFingerprint::new(&self.loaded.text, &data.tokenizer, &data.train, &data.val)
    }

    /// Record of this trial, if it is finished.
    ///
    /// # Errors
    /// A folder with a run of other settings or texts.
    pub fn finished(&self, root: &Path, data: &Dataset) -> Result<Option<TrialRecord>> {
        let folder = root.join(&self.folder);
        let wanted = self.identity(data)?;
        let other = || {
            Error::usage(format!("{} holds a run of other settings or other texts", folder.display()))
                .hint(Advice::OtherComparison)
        };
        if let Ok(text) = regular_text(folder.join(RECORD))
            && let Ok(record) = serde_json::from_str::<TrialRecord>(&text)
        {
            return if record.identity == wanted { Ok(Some(record)) } else { Err(other()) };
        }
        match regular_text(folder.join("config.toml")) {
            Ok(begun) if RunFingerprint::new(&begun, &data.tokenizer, &data.train, &data.val)? != wanted => {
                Err(other())
            }
            _ => Ok(None),
        }
    }

    /// Checks that `record`, which another rank has made, is of this trial's texts.
    ///
    /// # Errors
    /// Other texts.
    pub(super) fn check(&self, record: &TrialRecord, data: &Dataset) -> Result<()> {
        if record.identity == self.identity(data)? {
            return Ok(());
        }
        Err(Error::failed(format!("{}: a rank has trained it on other texts", self.folder.display()))
            .hint("every rank needs the same texts under the same names"))
    }

    /// Adds the loss on the common text to the `finished` trial, if it is not there.
    ///
    /// # Errors
    /// A model that cannot be loaded; a failure to write the record.
    pub fn judge(
        &self,
        root: &Path,
        text: &SharedText,
        finished: &mut TrialRecord,
        ctx: &Context<'_>,
    ) -> Result<()> {
        let Some(Ok(common)) = &text.common else { return Ok(()) };
        let is_known = finished.common.as_ref().is_some_and(|loss| loss.text == common.hash());
        if is_known || finished.diverged.is_some() {
            return Ok(());
        }
        let folder = root.join(&self.folder);
        let loaded = ctx.pool.install(|| models::load(&folder, ctx))?;
        if loaded.model.is_distribution() {
            finished.common = Some(common.loss(&*loaded.model, ctx.pool)?);
            atomic::write(folder.join(RECORD), &serde_json::to_vec(&finished)?)?;
        }
        Ok(())
    }

    /// Trains, or resumes an unfinished run, and computes the diagnostics of the model.
    ///
    /// # Errors
    /// As a run's, but for divergence, which is a result.
    pub fn run(&self, root: &Path, text: &SharedText, ctx: &Context<'_>) -> Result<TrialRecord> {
        let folder = root.join(&self.folder);
        let config = &self.loaded.config;
        let mut finished = TrialRecord {
            identity: self.identity(&text.data)?,
            kind: config.model.kind().to_owned(),
            seed: self.seed,
            diverged: None,
            result: Value::Null,
            sample: None,
            diagnostics: None,
            decomposition: None,
            common: None,
            consistency: None,
            folder: self.folder.clone(),
        };
        match train::train_into(&folder, &self.loaded, &text.data, ctx) {
            Err(failure) if failure.kind == ExitKind::Diverged => finished.diverged = Some(failure.message),
            Err(failure) => return Err(failure),
            Ok(()) => {
                let loaded = ctx.pool.install(|| models::load(&folder, ctx))?;
                finished.result = loaded
                    .last_result()
                    .ok_or_else(|| Error::failed(format!("{} has no result", folder.display())))?;
                finished.sample = runs::sample(&folder);
                finished.diagnostics = measure(&*loaded.model, &text.data, text.oracle.as_ref(), ctx.pool)?;
                finished.decomposition = decompose_trial(&finished, config, text, ctx.pool)?;
                let is_own = |oracle: &&SourceOracle| {
                    oracle.markov_order().is_some_and(|back| order(config) == Some(back + 1))
                };
                if let Some(oracle) = text.oracle.as_ref().filter(is_own) {
                    finished.consistency = Consistency::new(&*loaded.model, oracle, &text.data)?;
                }
            }
        }
        atomic::write(folder.join(RECORD), &serde_json::to_vec(&finished)?)?;
        Ok(finished)
    }
}

/// The n of the n-grams that a model sees: its context length plus one.
fn order(config: &Config) -> Option<usize> {
    match &config.model.config {
        ModelConfig::Uniform | ModelConfig::Infinigram => None,
        ModelConfig::Ngram(ngram) => Some(ngram.order),
        ModelConfig::Neural(neural) => neural.context(config.train.block_size).map(|context| context + 1),
    }
}

fn decompose_trial(
    finished: &TrialRecord,
    config: &Config,
    text: &SharedText,
    pool: &Pool,
) -> Result<Option<LossDecomposition>> {
    let (Some(truth), Some(nats)) = (&text.oracle, finished.nats_per_token()) else { return Ok(None) };
    let Some(entropy) = finished.number("/eval/source_entropy") else { return Ok(None) };
    match &finished.diagnostics {
        Some(diagnostics) => decompose((nats, entropy), diagnostics, config, truth, &text.data, pool),
        None => Ok(None),
    }
}

/// The parts of a model's loss, from the loss itself and H(p) in nats per token of the validation
/// text of `data`. `config` says how long a context the model sees. `None` where no temperature can
/// be fitted.
///
/// # Errors
/// A failure of the source.
pub fn decompose(
    (nats, entropy): (f64, f64),
    diagnostics: &Diagnostics,
    config: &Config,
    truth: &SourceOracle,
    data: &Dataset,
    pool: &Pool,
) -> Result<Option<LossDecomposition>> {
    let scaled = diagnostics.calibration.as_ref().and_then(|calibration| calibration.scaled.as_ref());
    let Some(saved) = scaled.and_then(|scaled| scaled.saved) else { return Ok(None) };
    let approximation = approximation(entropy, config, truth, data, pool)?;
    let (approximation, uncertainty) = approximation.unzip();
    Ok(Some(LossDecomposition {
        entropy,
        approximation,
        approximation_uncertainty: uncertainty.unwrap_or(0.0),
        estimation: nats - entropy - approximation.unwrap_or(0.0) - saved,
        miscalibration: saved,
    }))
}

/// The KL in nats per token, beyond H(p) = `entropy`, of the best of all models that see as long a
/// context as `config`'s, with its uncertainty. `None` where the context is too long to tell.
///
/// # Errors
/// A failure of the source.
pub fn approximation(
    entropy: f64,
    config: &Config,
    truth: &SourceOracle,
    data: &Dataset,
    pool: &Pool,
) -> Result<Option<(f64, f64)>> {
    let Some(order) = order(config) else { return Ok(None) };
    let best = truth.best_in_class(order, &data.tokenizer, &data.val, pool)?;
    Ok(best.map(|best| (best.total_nll / data.val.scored() as f64 - entropy, best.uncertainty)))
}
