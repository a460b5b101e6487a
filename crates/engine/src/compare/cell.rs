//! One cell of a comparison: one variant, one seed, one run folder, and what was measured of it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use surprisal_platform::threads::Pool;
use surprisal_store::atomic;
use surprisal_store::read::regular_text;

use super::measure::{Calibrated, Measure, measure};
use super::truth::Truth;
use crate::config::{Config, Loaded};
use crate::data::Prepared;
use crate::error::{Advice, Error, Kind, Result};
use crate::events::Context;
use crate::identity::{Identity, text_hash};
use crate::models;
use crate::runs;
use crate::train;

/// Hashes (BLAKE3) of the tokenizer and of the validation tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedBy {
    /// Of the tokenizer.
    pub tokenizer: blake3::Hash,
    /// Of the validation tokens.
    pub validation: String,
}

/// What a finished cell leaves beside its run.
const RECORD: &str = "cell.json";

/// A text that cells share.
#[derive(Debug)]
pub struct Text {
    /// Texts and tokenizer.
    pub data: Prepared,
    /// Against the source, where it is known.
    pub truth: Option<Truth>,
    /// What judges its models.
    pub judged_by: JudgedBy,
}

impl Text {
    /// Reads nothing: what is known of `data` beside its tokens.
    ///
    /// # Errors
    /// A source whose tokens cannot be followed.
    pub fn of(config: &Config, data: Prepared) -> Result<Self> {
        let truth = Truth::of(config, &data.tokenizer, &data.val)?;
        let tokenizer = blake3::hash(&data.tokenizer.to_json()?);
        let judged_by = JudgedBy { tokenizer, validation: text_hash(&data.val) };
        Ok(Self { data, truth, judged_by })
    }
}

/// A run to be made.
pub struct Cell {
    /// Which variant.
    pub variant: usize,
    /// Of the run.
    pub seed: u64,
    /// Its settings.
    pub loaded: Loaded,
    /// Its folder in the comparison's.
    pub folder: PathBuf,
    /// Which text.
    pub text: usize,
}

/// What is known of a finished cell; the file of a cell that is not to be made again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finished {
    identity: Identity,
    /// The model's kind.
    pub kind: String,
    /// Of the run.
    pub seed: u64,
    /// Why there is no model.
    pub diverged: Option<String>,
    /// The `result` of the run, as in its metrics.jsonl.
    pub result: Value,
    /// What it wrote at its end.
    pub sample: Option<String>,
    /// From one reading of the validation text.
    pub measure: Option<Measure>,
    /// What the loss is made of, where the source is known.
    pub parts: Option<Parts>,
    /// The run folder, beside comparison.json.
    pub folder: PathBuf,
}

/// H(p, q) = H(p) + approximation + estimation + miscalibration, in nats a token on the validation text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// H(p): the source's own surprise.
    pub entropy: f64,
    /// What the best member of the model's family, the one that knows everything of its few tokens of context, still pays;
    /// `None` where that cannot be known.
    pub approximation: Option<f64>,
    /// How far off that may be.
    pub approximation_uncertainty: f64,
    /// What this member pays for having learnt from finite text; with the approximation, where that is not known.
    pub estimation: f64,
    /// What one temperature would save.
    pub miscalibration: f64,
}

impl Parts {
    /// All parts: the cross-entropy.
    pub fn sum(&self) -> f64 {
        self.entropy + self.approximation.unwrap_or(0.0) + self.estimation + self.miscalibration
    }
}

impl Finished {
    /// A number of the run's result; `None` where it is infinite or there is none.
    pub fn number(&self, pointer: &str) -> Option<f64> {
        self.result.pointer(pointer).and_then(Value::as_f64)
    }

    /// −ln q.
    pub fn nats(&self) -> Option<f64> {
        self.number("/eval/nats_per_token")
    }

    /// Whether its probabilities mean what they say.
    pub fn calibration(&self) -> Option<&Calibrated> {
        self.measure.as_ref()?.calibration.as_ref()
    }

    /// Tokens held impossible.
    pub fn impossible(&self) -> u64 {
        self.result.pointer("/eval/zero_probability").and_then(Value::as_u64).unwrap_or(0)
    }
}

impl Cell {
    fn identity(&self, data: &Prepared) -> Result<Identity> {
        Identity::of(&self.loaded.text, &data.tokenizer, &data.train, &data.val)
    }

    /// The record of this very cell, if it was finished before.
    ///
    /// # Errors
    /// A folder in which there is something else.
    pub fn finished(&self, root: &Path, data: &Prepared) -> Result<Option<Finished>> {
        let folder = root.join(&self.folder);
        let wanted = self.identity(data)?;
        let other = || {
            Error::usage(format!("{} holds a run of other settings or other texts", folder.display()))
                .hint(Advice::OtherComparison)
        };
        if let Ok(text) = regular_text(folder.join(RECORD))
            && let Ok(record) = serde_json::from_str::<Finished>(&text)
        {
            return if record.identity == wanted { Ok(Some(record)) } else { Err(other()) };
        }
        match regular_text(folder.join("config.toml")) {
            Ok(begun) if Identity::of(&begun, &data.tokenizer, &data.train, &data.val)? != wanted => {
                Err(other())
            }
            _ => Ok(None),
        }
    }

    /// Makes the run, or ends one that was begun, and measures its model.
    ///
    /// # Errors
    /// As a run's, but for divergence, which is a finding.
    pub fn make(&self, root: &Path, text: &Text, ctx: &Context<'_>) -> Result<Finished> {
        let folder = root.join(&self.folder);
        let config = &self.loaded.config;
        let mut finished = Finished {
            identity: self.identity(&text.data)?,
            kind: config.model.kind.clone(),
            seed: self.seed,
            diverged: None,
            result: Value::Null,
            sample: None,
            measure: None,
            parts: None,
            folder: self.folder.clone(),
        };
        match train::train_into(&folder, &self.loaded, &text.data, ctx) {
            Err(failure) if failure.kind == Kind::Diverged => finished.diverged = Some(failure.message),
            Err(failure) => return Err(failure),
            Ok(()) => {
                let loaded = ctx.pool.install(|| models::load(&folder, ctx))?;
                finished.result = loaded
                    .last_result()
                    .ok_or_else(|| Error::failed(format!("{} has no result", folder.display())))?;
                finished.sample = runs::sample(&folder);
                finished.measure = measure(&*loaded.model, &text.data, text.truth.as_ref(), ctx.pool)?;
                finished.parts = parts(&finished, config, text, ctx.pool)?;
            }
        }
        atomic::write(folder.join(RECORD), &serde_json::to_vec(&finished)?)?;
        Ok(finished)
    }
}

/// How many tokens the members of a model's family see, the predicted one among them.
fn order(config: &Config) -> Option<usize> {
    let model = &config.model;
    match model.kind.as_str() {
        "ngram" => model.order,
        "bigram" => Some(2),
        "mlp" => model.context.map(|context| context + 1),
        "transformer" => Some(config.train.block_size + 1),
        _ => None,
    }
}

fn parts(finished: &Finished, config: &Config, text: &Text, pool: &Pool) -> Result<Option<Parts>> {
    let (Some(truth), Some(nats)) = (&text.truth, finished.nats()) else { return Ok(None) };
    let Some(entropy) = finished.number("/eval/source_entropy") else { return Ok(None) };
    let Some(saved) = finished.calibration().and_then(|c| c.scaled.as_ref()?.saved) else { return Ok(None) };
    let data = &text.data;
    let best = match order(config) {
        Some(order) => truth.best(order, &data.tokenizer, &data.val, pool)?,
        None => None,
    };
    let approximation = best.map(|best| best.nats / data.val.scored() as f64 - entropy);
    Ok(Some(Parts {
        entropy,
        approximation,
        approximation_uncertainty: best.map_or(0.0, |best| best.uncertainty),
        estimation: nats - entropy - approximation.unwrap_or(0.0) - saved,
        miscalibration: saved,
    }))
}
