//! The flat `[model]` section of an n-gram model.

use serde_json::json;
use surprisal_model::ngram::NgramConfig;

use super::Model;
use crate::error::{Error, Result};

/// What the flat `[model]` section says about an n-gram model.
///
/// # Errors
/// A smoothing or a quirk that there is not.
pub fn ngram_config(model: &Model, bos: Option<u32>, unk: Option<u32>) -> Result<NgramConfig> {
    let defaults = NgramConfig::default();
    let name = model.smoothing.as_deref().unwrap_or(defaults.smoothing.name());
    let smoothing = serde_json::from_value(json!(name))
        .map_err(|error| Error::usage(format!("model.smoothing is \"{name}\"")).hint(error.to_string()))?;
    let compat = serde_json::from_value(json!(model.compat)).map_err(|error| {
        Error::usage(format!("model.compat is {:?}", model.compat)).hint(error.to_string())
    })?;
    Ok(NgramConfig {
        order: model.order.unwrap_or(defaults.order),
        smoothing,
        k: model.k.unwrap_or(defaults.k),
        tune: model.tune.unwrap_or(defaults.tune),
        heldout: model.heldout.unwrap_or(defaults.heldout),
        fallback: model.fallback.unwrap_or(defaults.fallback),
        compat,
        prune: model.prune.clone().unwrap_or_default(),
        prune_entropy: model.prune_entropy.unwrap_or(defaults.prune_entropy),
        interpolate_unigrams: model.interpolate_unigrams.unwrap_or(defaults.interpolate_unigrams),
        closed: model.closed.unwrap_or(defaults.closed),
        bos,
        unk,
    })
}
