//! The config of a model of any kind, the same for a TOML file and for a saved model.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::neural::NeuralConfig;
use crate::ngram::NgramConfig;

/// A model's kind and settings: one flat object with a `kind`.
///
/// The sizes that a text decides (`vocab_size`, and `block_size` of a neural model) are 0 until
/// [`NeuralConfig::sized`] sets them.
///
/// ```
/// # use surprisal_model::{ModelConfig, neural::NeuralConfig};
/// let config: ModelConfig = serde_json::from_str(r#"{ "kind": "mlp", "n_hidden": 64 }"#).unwrap();
/// let ModelConfig::Neural(NeuralConfig::Mlp(mlp)) = &config else { panic!("{config:?}") };
/// assert_eq!((mlp.n_hidden, mlp.context, config.kind()), (64, 8, "mlp"));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelConfig {
    /// Every token has the same probability.
    Uniform,
    /// Counted n-grams.
    Ngram(NgramConfig),
    /// Counted n-grams of every length.
    Infinigram,
    /// Trained by gradient descent; the kinds are those of [`NeuralConfig`].
    #[serde(untagged)]
    Neural(NeuralConfig),
}

impl ModelConfig {
    /// All kinds that a file can name.
    pub const KINDS: [&'static str; 9] =
        ["uniform", "ngram", "infinigram", "bigram", "mlp", "transformer", "lstm", "gru", "custom"];

    /// The value of `kind` in a config.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Ngram(_) => "ngram",
            Self::Infinigram => "infinigram",
            Self::Neural(neural) => neural.kind(),
        }
    }

    /// Whether the model is not trained in steps, so that it does not depend on a seed.
    pub fn is_counted(&self) -> bool {
        match self {
            Self::Uniform | Self::Ngram(_) | Self::Infinigram => true,
            Self::Neural(_) => false,
        }
    }
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut keys = Map::deserialize(deserializer)?;
        let kind = keys.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !Self::KINDS.contains(&kind.as_str()) {
            return Err(D::Error::unknown_variant(&kind, &Self::KINDS));
        }
        let unset = [Self::Uniform, Self::Infinigram].into_iter().find(|config| config.kind() == kind);
        let read = if let Some(config) = unset {
            keys.remove("kind");
            match keys.keys().next() {
                Some(key) => return Err(D::Error::unknown_field(key, &[])),
                None => Ok(config),
            }
        } else if kind == Self::Ngram(NgramConfig::default()).kind() {
            keys.remove("kind");
            NgramConfig::deserialize(Value::Object(keys)).map(Self::Ngram)
        } else {
            NeuralConfig::deserialize(Value::Object(keys)).map(Self::Neural)
        };
        read.map_err(D::Error::custom)
    }
}
