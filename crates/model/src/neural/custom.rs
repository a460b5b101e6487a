//! Architectures from outside this crate.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kind::{Kind, text_sizes};
use super::{Architecture, ParameterBuilder, Windows};
use crate::{Error, Result};

/// Description of a network from outside this crate: the settings of [`CustomConfig`] as an
/// object that can build it.
pub trait Blueprint: Debug + Send + Sync {
    /// The name of the architecture in a [`Registry`].
    fn name(&self) -> &str;

    /// Its settings, which are saved with the model.
    fn settings(&self) -> Value;

    /// Number of parameters for |V| = `vocab_size`, where that should be checked against the
    /// machine's memory beforehand.
    fn parameters(&self, vocab_size: usize) -> u64 {
        vocab_size as u64
    }

    /// Floats per token at the peak of a training step, for the same check.
    fn activations(&self, vocab_size: usize) -> u64 {
        4 * vocab_size as u64
    }

    /// Kind of windows, and the width of the state between them.
    fn windows(&self) -> Windows {
        Windows::Shuffled
    }

    /// Makes the network for |V| = `vocab_size` and windows of `block_size` tokens, taking every
    /// parameter from `parameters`.
    ///
    /// # Errors
    /// Settings that describe no network; a failure of candle.
    fn build(
        &self,
        vocab_size: usize,
        block_size: usize,
        parameters: &mut ParameterBuilder<'_>,
    ) -> Result<Box<dyn Architecture>>;
}

/// Builds a blueprint from saved settings.
pub type Reader = fn(&Value) -> Result<Arc<dyn Blueprint>>;

/// The networks from outside by name, for opening models of them.
#[derive(Debug, Clone, Default)]
pub struct Registry(BTreeMap<String, Reader>);

impl Registry {
    /// Adds the kind `name`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, reader: Reader) -> Self {
        self.0.insert(name.into(), reader);
        self
    }
}

/// The config of a network from outside: its sizes, its name and its settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomConfig {
    /// |V|.
    #[serde(default)]
    pub vocab_size: usize,
    /// Tokens per window of text.
    #[serde(default)]
    pub block_size: usize,
    /// [`Blueprint::name`].
    pub name: String,
    /// [`Blueprint::settings`].
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub settings: Value,
    #[serde(skip)]
    blueprint: Option<Arc<dyn Blueprint>>,
}

impl PartialEq for CustomConfig {
    fn eq(&self, other: &Self) -> bool {
        (self.vocab_size, self.block_size, &self.name, &self.settings)
            == (other.vocab_size, other.block_size, &other.name, &other.settings)
    }
}

impl CustomConfig {
    /// A config for the architecture of `blueprint`.
    pub fn new(vocab_size: usize, block_size: usize, blueprint: Arc<dyn Blueprint>) -> Self {
        let (name, settings) = (blueprint.name().to_owned(), blueprint.settings());
        Self { vocab_size, block_size, name, settings, blueprint: Some(blueprint) }
    }

    pub(super) fn resolve(&mut self, registry: &Registry) -> Result<()> {
        if let (None, Some(read)) = (&self.blueprint, registry.0.get(&self.name)) {
            self.blueprint = Some(read(&self.settings)?);
        }
        Ok(())
    }
}

impl Kind for CustomConfig {
    fn sizes(&self) -> Vec<(&'static str, usize, RangeInclusive<usize>)> {
        text_sizes(self.vocab_size, self.block_size).into()
    }

    fn parameters(&self) -> f64 {
        self.blueprint.as_ref().map_or(0.0, |blueprint| blueprint.parameters(self.vocab_size) as f64)
    }

    fn activations(&self) -> f64 {
        self.blueprint.as_ref().map_or(0.0, |blueprint| blueprint.activations(self.vocab_size) as f64)
    }

    fn windows(&self) -> Windows {
        self.blueprint.as_ref().map_or(Windows::Shuffled, |blueprint| blueprint.windows())
    }

    fn build(&self, parameters: &mut ParameterBuilder<'_>) -> Result<Box<dyn Architecture>> {
        let unknown = || {
            let name = &self.name;
            Error::Config(format!("`{name}` is an architecture from outside, and no registry has it here"))
        };
        let blueprint = self.blueprint.as_ref().ok_or_else(unknown)?;
        blueprint.build(self.vocab_size, self.block_size, parameters)
    }
}
