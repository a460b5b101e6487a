//! The flat `[model]` section of an n-gram model.

use surprisal_model::ngram::NgramConfig;

use super::Model;
use crate::error::{Error, Result};

/// What the flat `[model]` section says about an n-gram model.
///
/// # Errors
/// Keys that such a model has not; a smoothing or a quirk that there is not.
pub fn ngram_config(model: &Model, bos: Option<u32>, unk: Option<u32>) -> Result<NgramConfig> {
    let mut keys = model.keys()?;
    keys.remove("kind");
    let config: NgramConfig =
        keys.try_into().map_err(|error| Error::usage(format!("[model]: {}", error.message())))?;
    Ok(NgramConfig { bos, unk, ..config })
}
