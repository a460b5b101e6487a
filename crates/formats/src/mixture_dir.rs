//! The directory of a mixture: its models, whole, and how they are weighted.
//!
//! ```text
//! mixture.json        format, version, parts, weights, and how texts are read
//! tokenizer.json      the tokenizer of the mixture
//! 0.config.json, …    the files of the first model, as in the directory of a model; then 1., 2., …
//! manifest.json       sizes and hashes of the other files
//! ```
//!
//! Like the directory of a model, it is replaced as a whole, and every byte is verified on reading.

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use surprisal_model::BinWeights;
use surprisal_store::atomic_dir::{self, ManifestId};
use surprisal_text::{InvalidBytes, LastLine, LiteralSpecials, NormalForm};

use crate::model_dir::StoredModel;
use crate::{Error, Result};

/// The format's name, in the manifest and in mixture.json.
pub const FORMAT: &str = "surprisal mixture";
/// Increased when an older program could misread the new format.
const VERSION: u32 = 1;
const LABEL: ManifestId = ManifestId { format: FORMAT, step: None };
const CONFIG: &str = "mixture.json";
const TOKENIZER: &str = "tokenizer.json";

/// A mixture in its stored form.
#[derive(Debug)]
pub struct StoredMixture {
    /// The content of mixture.json.
    pub config: MixtureConfig,
    /// The bytes of `tokenizer.json`; not parsed here.
    pub tokenizer: Vec<u8>,
    /// The models, one for each part of the configuration.
    pub models: Vec<StoredModel>,
}

/// The parts of a mixture, their weights, and the reading of texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureConfig {
    format: String,
    version: u32,
    /// The models, in the order of the weights.
    pub parts: Vec<MixturePart>,
    /// The weights.
    pub weights: MixtureWeights,
    /// The reading of texts.
    pub reading: Reading,
}

/// A model of a mixture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixturePart {
    /// The path that it was read from.
    pub name: String,
    /// The stride of a model with a window, in tokens.
    pub stride: Option<usize>,
}

/// The weights of a mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MixtureWeights {
    /// The same for every context.
    Static {
        /// λ of each model.
        weights: Vec<f64>,
    },
    /// By the bin of the context.
    Context {
        /// λ of each model in bins without weights of their own.
        weights: Vec<f64>,
        /// The index of the model whose bins they are.
        bins_of: usize,
        /// λ of each bin.
        bins: BinWeights,
    },
}

/// The options of reading texts that a model's own run had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The normal form that texts are brought to.
    pub normalize: NormalForm,
    /// The treatment of bytes that are no text.
    pub invalid: InvalidBytes,
    /// The treatment of words spelled like special tokens.
    pub literal_specials: LiteralSpecials,
    /// The treatment of a last line without a newline.
    pub last_line: LastLine,
}

impl MixtureConfig {
    /// The configuration of a mixture of `parts`.
    pub fn new(parts: Vec<MixturePart>, weights: MixtureWeights, reading: Reading) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, parts, weights, reading }
    }

    fn parse(what: &str, json: &[u8]) -> Result<Self> {
        let config: Value = serde_json::from_slice(json).map_err(|error| Error::malformed(what, &error))?;
        let version = &config["version"];
        if config["format"] == FORMAT && *version != VERSION {
            let problem = format!("its version is {version}, but this program reads version {VERSION}");
            return Err(Error::malformed(what, &problem));
        }
        let config: Self = serde_json::from_value(config).map_err(|error| Error::malformed(what, &error))?;
        if config.format != FORMAT || config.parts.is_empty() {
            return Err(Error::malformed(what, "it describes no mixture"));
        }
        Ok(config)
    }
}

impl StoredMixture {
    /// Writes the directory `path`, replacing an old mixture.
    ///
    /// # Errors
    /// [`Io`](surprisal_store::Error::Io), then the old mixture is unchanged;
    /// [`TooLarge`](surprisal_store::Error::TooLarge) for too many models.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut config =
            serde_json::to_vec_pretty(&self.config).map_err(|error| Error::malformed(CONFIG, &error))?;
        config.push(b'\n');
        let mut parts: Vec<(String, Cow<'_, [u8]>)> =
            vec![(CONFIG.into(), config.into()), (TOKENIZER.into(), (&self.tokenizer).into())];
        for (i, model) in self.models.iter().enumerate() {
            parts.extend(model.parts(&format!("{i}."))?);
        }
        let parts: Vec<(&str, &[u8])> = parts.iter().map(|(name, bytes)| (name.as_str(), &**bytes)).collect();
        Ok(atomic_dir::replace(path.as_ref(), LABEL, &parts)?)
    }

    /// Reads the mixture in the directory `path`.
    ///
    /// # Errors
    /// As [`StoredModel::load`]; another version of the format.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut parts = atomic_dir::load(path, LABEL)?;
        let mut take = |name: &str| {
            let lacks = || Error::malformed(atomic_dir::quoted(path), &format!("its manifest has no {name}"));
            parts.remove(name).ok_or_else(lacks)
        };
        let (config, tokenizer) = (take(CONFIG)?, take(TOKENIZER)?);
        let config = MixtureConfig::parse(&atomic_dir::quoted(&path.join(CONFIG)), &config)?;
        let model = |i| StoredModel::from_parts(path, &mut parts, &format!("{i}."));
        let models = (0..config.parts.len()).map(model).collect::<Result<_>>()?;
        Ok(Self { config, tokenizer, models })
    }
}
