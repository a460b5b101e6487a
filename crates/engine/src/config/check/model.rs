//! Checks of `[model]` beyond those of the model's own settings.

use surprisal_model::Error as ModelError;
use surprisal_model::ModelConfig;
use surprisal_model::neural::PositionKind;
use surprisal_model::ngram::NgramConfig;

use super::super::RESOLVED_HEADING;
use super::super::model::table;
use super::{Loaded, within};
use crate::error::Result;

/// Keys that `[model]` may have with `init_from`.
const BESIDE_INIT_FROM: [&str; 6] = ["kind", "init_from", "dropout", "max_unknown", "extend_vocab", "shrink"];

/// Checks the section and names the defaults that a run's `config.toml` should show.
pub(super) fn model(loaded: &mut Loaded) -> Result<()> {
    let model = &loaded.config.model;
    // A run's own config has the architecture that it took over.
    let of_run = model.adopted || loaded.text.starts_with(RESOLVED_HEADING);
    if model.init_from.is_some() {
        if !of_run
            && let Some(key) = table(model)?.keys().find(|key| !BESIDE_INIT_FROM.contains(&key.as_str()))
        {
            return Err(loaded
                .error_at("model", key, "is what the model of model.init_from says")
                .hint("with init_from, leave out everything but kind and dropout"));
        }
        if model.is_counted() {
            let message = format!("means nothing to kind = \"{}\"", model.kind());
            return Err(loaded
                .error_at("model", "init_from", message)
                .hint("an n-gram model is counted from a text"));
        }
    } else if model.extend_vocab {
        return Err(loaded.error_at("model", "extend_vocab", "means nothing without model.init_from"));
    } else if model.shrink.is_some() {
        return Err(loaded.error_at("model", "shrink", "means nothing without model.init_from"));
    } else if model.max_unknown.is_some() && !of_run {
        // A run that goes on with another text starts from its own model.
        return Err(loaded.error_at("model", "max_unknown", "means nothing without model.init_from"));
    }
    model.max_unknown.map_or(Ok(()), |share| within(loaded, "model", "max_unknown", share, 0.0..=1.0))?;
    model.shrink.map_or(Ok(()), |factor| within(loaded, "model", "shrink", factor, 0.001..=1.0))?;
    if model.names("rope_theta") && model.transformer().is_none_or(|it| it.position != PositionKind::Rope) {
        return Err(loaded.error_at("model", "rope_theta", "means nothing without position = \"rope\""));
    }
    match &model.config {
        ModelConfig::Uniform | ModelConfig::Infinigram => {}
        ModelConfig::Ngram(ngram) => {
            within(loaded, "model", "order", ngram.order, 1..=16)?;
            within(loaded, "model", "k", ngram.k, 1e-12..=1e12)?;
            let blamed =
                ["prune", "prune_entropy", "alpha", "closed"].into_iter().find(|key| model.names(key));
            let key = blamed.unwrap_or("smoothing");
            // Runs of before the rule on closed vocabularies still open.
            let checked = NgramConfig { closed: ngram.closed && !of_run, ..ngram.clone() };
            checked.check().map_err(|error| loaded.error_at("model", key, format!("cannot be: {error}")))?;
        }
        ModelConfig::Neural(neural) => {
            // The sizes that other sections decide are checked there.
            // A model that is too large for any machine is refused with the machine's memory.
            if let Err(ModelError::Setting { key, problem, hint }) = neural.clone().sized(1, 1).check() {
                // If the user set only n_head, the error is about n_head, not about n_embd.
                let said = |key: &str| loaded.override_as_written(&format!("model.{key}")).is_some();
                let swap = key == "n_embd" && said("n_head") && !said(key);
                let complaint = loaded.error_at("model", if swap { "n_head" } else { key }, problem);
                return Err(match hint {
                    Some(hint) => complaint.hint(hint),
                    None => complaint,
                });
            }
        }
    }
    loaded.config.model.name_defaults();
    Ok(())
}
