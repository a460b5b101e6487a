//! `[model]`: one flat section for every kind of model.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde::ser::{Serialize, SerializeMap, Serializer};
use surprisal_model::ModelConfig;
use surprisal_model::neural::{NeuralConfig, PositionKind, TransformerConfig};
use surprisal_model::ngram::{NgramConfig, Smoothing};
use toml::{Table, Value};

use crate::error::{Error, Result};

/// `[model]`: the kind, the settings of this kind, and the model that training starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Kind and settings; sizes that depend on the text are not set yet.
    pub config: ModelConfig,
    /// The neural model to start from: a run, a checkpoint, a model's folder or one in Hugging
    /// Face's layout. Its architecture replaces this section's.
    pub init_from: Option<PathBuf>,
    /// With `init_from`: maximum fraction of the text's tokens that it does not know (default: 0.1,
    /// and no character).
    pub max_unknown: Option<f64>,
    /// With `init_from`: whether characters that it lacks are added to its vocabulary.
    pub extend_vocab: bool,
    /// With `init_from`: the factor of its hidden matrices. A network that has learned another text
    /// learns a new one better with smaller weights: each step turns them further (Ash and Adams
    /// 2020, "On warm-starting neural network training").
    pub shrink: Option<f64>,
    /// Whether `config` is that of `init_from`, with its sizes.
    pub(crate) adopted: bool,
    /// Keys written to `config.toml`: those that the user set, and after the check some defaults
    /// ([`Self::name_defaults`]).
    pub(super) named: BTreeSet<String>,
}

/// Keys of `[model]` that are not settings of a kind.
const BESIDE: [&str; 5] = ["kind", "init_from", "max_unknown", "extend_vocab", "shrink"];

/// Sizes set by other sections.
const ELSEWHERE: [&str; 2] = ["vocab_size", "block_size"];

/// The order of keys in a written section; others follow.
const ORDER: &str = "order smoothing k alpha tune heldout fallback compat prune prune_entropy \
    interpolate_unigrams closed n_layer n_head n_embd n_hidden context dropout bias tied \
    n_kv_head norm position rope_theta qk_norm activation zero_init softcap";

impl Default for Model {
    fn default() -> Self {
        let config = ModelConfig::Neural(NeuralConfig::Transformer(TransformerConfig::default()));
        let named = BTreeSet::new();
        Self {
            config,
            init_from: None,
            max_unknown: None,
            extend_vocab: false,
            shrink: None,
            adopted: false,
            named,
        }
    }
}

impl From<ModelConfig> for Model {
    fn from(config: ModelConfig) -> Self {
        let mut model = Self { config, ..Self::default() };
        model.name_defaults();
        model
    }
}

impl Model {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        self.config.kind()
    }

    /// Whether the model is not trained in steps, so that it does not depend on a seed.
    pub fn is_counted(&self) -> bool {
        self.config.is_counted()
    }

    /// The n-gram model's settings, with the ids of `<s>` and `<unk>`; `None` for another kind.
    pub fn ngram(&self, bos: Option<u32>, unk: Option<u32>) -> Option<NgramConfig> {
        match &self.config {
            ModelConfig::Ngram(ngram) => Some(NgramConfig { bos, unk, ..ngram.clone() }),
            ModelConfig::Uniform | ModelConfig::Infinigram | ModelConfig::Neural(_) => None,
        }
    }

    /// The neural model's settings; `None` for another kind.
    pub fn neural(&self) -> Option<&NeuralConfig> {
        match &self.config {
            ModelConfig::Neural(neural) => Some(neural),
            ModelConfig::Uniform | ModelConfig::Ngram(_) | ModelConfig::Infinigram => None,
        }
    }

    /// The transformer's settings; `None` for another kind.
    pub fn transformer(&self) -> Option<&TransformerConfig> {
        match self.neural()? {
            NeuralConfig::Transformer(transformer) => Some(transformer),
            NeuralConfig::Bigram(_)
            | NeuralConfig::Mlp(_)
            | NeuralConfig::Lstm(_)
            | NeuralConfig::Gru(_)
            | NeuralConfig::Custom(_) => None,
        }
    }

    /// Whether the model has hidden matrices, which Muon can update.
    pub(crate) fn has_hidden_matrices(&self) -> bool {
        self.neural().is_some_and(NeuralConfig::has_hidden_matrices)
    }

    /// Takes over the architecture of the model to start from, with this section's dropout.
    pub(crate) fn adopt(&mut self, mut neural: NeuralConfig) {
        let dropout = self.neural().cloned().and_then(|mut own| own.dropout_mut().copied());
        if let Some(of_start) = neural.dropout_mut() {
            *of_start = dropout.unwrap_or(0.0);
        }
        // Only a transformer's windows have a largest length.
        if !matches!(neural, NeuralConfig::Transformer(_)) {
            let vocab_size = neural.vocab_size();
            neural = neural.sized(vocab_size, 0);
        }
        self.config = ModelConfig::Neural(neural);
        self.adopted = true;
        let has_rope = self.transformer().is_some_and(|it| it.position == PositionKind::Rope);
        let keys = Table::try_from(&self.config).unwrap_or_default();
        let is_named = |key: &String| {
            *key != "kind" && !ELSEWHERE.contains(&key.as_str()) && (has_rope || key != "rope_theta")
        };
        self.named = keys.keys().filter(|key| is_named(key)).cloned().collect();
    }

    /// Whether `config.toml` contains `key`.
    pub(super) fn names(&self, key: &str) -> bool {
        self.named.contains(key)
    }

    /// Names the defaults that every reader of a run's `config.toml` should see.
    pub(super) fn name_defaults(&mut self) {
        let keys: &[&str] = match &self.config {
            ModelConfig::Uniform | ModelConfig::Infinigram | ModelConfig::Neural(NeuralConfig::Bigram(_)) => {
                &[]
            }
            ModelConfig::Ngram(ngram) if ngram.smoothing == Smoothing::AddK => &["order", "smoothing", "k"],
            ModelConfig::Ngram(_) => &["order", "smoothing"],
            ModelConfig::Neural(NeuralConfig::Mlp(_)) => &["context", "n_embd", "n_hidden"],
            ModelConfig::Neural(NeuralConfig::Lstm(_) | NeuralConfig::Gru(_)) => {
                &["n_layer", "n_embd", "n_hidden", "dropout"]
            }
            ModelConfig::Neural(NeuralConfig::Transformer(_)) if self.init_from.is_some() => &[],
            ModelConfig::Neural(NeuralConfig::Transformer(_)) => {
                &["n_layer", "n_head", "n_embd", "dropout", "bias", "tied"]
            }
            ModelConfig::Neural(NeuralConfig::Custom(_)) => &["name", "settings"],
        };
        self.named.extend(keys.iter().map(|&key| key.to_owned()));
    }
}

/// The keys that a kind has in a config.
fn keys_of(kind: &str) -> Vec<String> {
    // Serde's error for an unknown key lists all known keys.
    let wrong = Table::from_iter([("kind".to_owned(), Value::from(kind)), (String::new(), Value::from(0))]);
    let error = wrong.try_into::<ModelConfig>().err().map_or_else(String::new, |error| error.to_string());
    let keys = error.split('`').skip(3).step_by(2).filter(|key| !ELSEWHERE.contains(key));
    keys.map(str::to_owned).collect()
}

/// The kinds of model that have the key `key`.
pub(super) fn owners(key: &str) -> Vec<&'static str> {
    ModelConfig::KINDS.into_iter().filter(|kind| keys_of(kind).iter().any(|of| of == key)).collect()
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut keys = Table::deserialize(deserializer)?;
        let kind: Option<String> = take(&mut keys, "kind")?;
        let kind = kind.unwrap_or_else(|| Self::default().kind().to_owned());
        if !ModelConfig::KINDS.contains(&kind.as_str()) {
            return Err(D::Error::unknown_variant(&kind, &ModelConfig::KINDS));
        }
        let init_from = take(&mut keys, "init_from")?;
        let max_unknown = take(&mut keys, "max_unknown")?;
        let extend_vocab = take(&mut keys, "extend_vocab")?.unwrap_or(false);
        let shrink = take(&mut keys, "shrink")?;
        let known = keys_of(&kind);
        if let Some(key) = keys.keys().find(|key| !known.contains(key)) {
            let mut all: Vec<String> = BESIDE.map(str::to_owned).into();
            all.extend(ModelConfig::KINDS.into_iter().flat_map(keys_of));
            let mut seen = BTreeSet::new();
            all.retain(|key| seen.insert(key.clone()));
            let all = all.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            let owner = owners(key);
            return Err(D::Error::custom(if owner.is_empty() {
                format!("unknown field `{key}`, expected one of {all}")
            } else {
                format!("`{key}` means nothing to kind = \"{kind}\", it belongs to `{}`", owner.join(", "))
            }));
        }
        let named = keys.keys().cloned().collect();
        let read = |keys: &Table| {
            let mut keys = keys.clone();
            keys.insert("kind".into(), Value::from(kind.as_str()));
            // Each norm has the ε of its first model: GPT-2 and Llama.
            if keys.get("norm").and_then(Value::as_str) == Some("rms") {
                keys.entry("norm_eps").or_insert(1e-6.into());
            }
            keys.try_into::<ModelConfig>()
        };
        let config = read(&keys).map_err(|error| {
            // Finds the key of the error by parsing each key alone.
            let alone = |(key, value): (&String, &Value)| {
                let error = read(&Table::from_iter([(key.clone(), value.clone())])).err()?;
                Some(at(key, error.message()))
            };
            keys.iter().find_map(alone).unwrap_or_else(|| D::Error::custom(error.message()))
        })?;
        Ok(Self { config, init_from, max_unknown, extend_vocab, shrink, adopted: false, named })
    }
}

/// Removes the value of `key`, if there is one.
fn take<T: DeserializeOwned, E: serde::de::Error>(
    keys: &mut Table,
    key: &str,
) -> std::result::Result<Option<T>, E> {
    let value = keys.remove(key).map(Value::try_into).transpose();
    value.map_err(|error| at(key, error.message()))
}

/// An error whose message contains its key, for [`of_key`].
fn at<E: serde::de::Error>(key: &str, message: &str) -> E {
    E::custom(format!("[model] {key}: {message}"))
}

/// Key and message of an error from [`at`].
pub(super) fn of_key(message: &str) -> Option<(&str, &str)> {
    message.strip_prefix("[model] ")?.split_once(": ")
}

/// The key of an error about a key of another kind, and the rest of the message.
pub(super) fn other_kind(message: &str) -> Option<(&str, &str)> {
    message.strip_prefix('`')?.split_once("` means nothing to ")
}

/// The key that an error of this section is about.
pub(super) fn key_in(message: &str) -> Option<&str> {
    if message.starts_with("unknown variant") {
        return Some("kind");
    }
    let unknown = || message.strip_prefix("unknown field `")?.split('`').next();
    of_key(message).or_else(|| other_kind(message)).map(|(key, _)| key).or_else(unknown)
}

impl Serialize for Model {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let keys = Table::try_from(&self.config).map_err(serde::ser::Error::custom)?;
        let mut section = serializer.serialize_map(None)?;
        section.serialize_entry("kind", self.kind())?;
        let ordered = ORDER.split(' ').filter_map(|key| keys.get_key_value(key));
        let rest = keys.iter().filter(|(key, _)| !ORDER.split(' ').any(|other| other == *key));
        for (key, value) in ordered.chain(rest).filter(|(key, _)| self.named.contains(*key)) {
            section.serialize_entry(key, value)?;
        }
        if let Some(path) = &self.init_from {
            section.serialize_entry("init_from", path)?;
        }
        if let Some(share) = self.max_unknown {
            section.serialize_entry("max_unknown", &share)?;
        }
        if self.extend_vocab {
            section.serialize_entry("extend_vocab", &true)?;
        }
        if let Some(factor) = self.shrink {
            section.serialize_entry("shrink", &factor)?;
        }
        section.end()
    }
}

/// The keys that are written.
pub(crate) fn table(model: &Model) -> Result<Table> {
    Table::try_from(model).map_err(|error| Error::usage(error.to_string()))
}
