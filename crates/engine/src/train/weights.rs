//! Weights of a model: initialisation and copies.

use surprisal_model::neural::{Neural, NeuralConfig};

use crate::config::Config;
use crate::error::Result;
use crate::events::Context;
use crate::rng::{RngStream, rng_for};
use crate::start;

/// A new model from the run's seed, or the one of `model.init_from`, which a run with a checkpoint
/// does not need (`resumed`).
pub(crate) fn initialise(
    config: &Config,
    neural: &NeuralConfig,
    resumed: bool,
    ctx: &Context<'_>,
) -> Result<Neural> {
    let mut init = rng_for(config.train.seed, RngStream::Init);
    if let Some(path) = config.model.init_from.as_ref().filter(|_| !resumed)
        && let Some(start) = start::of(config, ctx)?
    {
        let neural = start::network(start, neural, &mut init)?;
        shrink(&neural, config.model.shrink.unwrap_or(1.0))?;
        return crate::models::check_finite(&neural, path).map(|()| neural);
    }
    Ok(Neural::new(neural, &mut init)?)
}

/// Multiplies the hidden matrices by `factor`.
fn shrink(neural: &Neural, factor: f64) -> Result<()> {
    for parameter in neural.parameters().iter().filter(|it| factor < 1.0 && !it.hidden_matrix_rows.is_empty())
    {
        parameter.update(|values| values.iter_mut().for_each(|value| *value *= factor as f32))?;
    }
    Ok(())
}

pub(crate) fn weights(neural: &Neural) -> Result<Vec<Vec<f32>>> {
    neural.parameters().iter().map(|parameter| Ok(parameter.read(<[f32]>::to_vec)?)).collect()
}

pub(crate) fn restore(neural: &Neural, weights: &[Vec<f32>]) -> Result<()> {
    for (parameter, values) in neural.parameters().iter().zip(weights) {
        parameter.update(|slice| slice.copy_from_slice(values))?;
    }
    Ok(())
}
