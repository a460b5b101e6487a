//! Weights of a model: initialisation and copies.

use surprisal_model::neural::{Neural, NeuralConfig};

use crate::config::Config;
use crate::error::Result;
use crate::rng::{RngStream, rng_for};

/// A new model from the run's seed, or the one of `model.init_from`.
pub(crate) fn initialise(config: &Config, neural: &NeuralConfig) -> Result<Neural> {
    if let Some(path) = &config.model.init_from {
        let mut tensors = crate::architecture::start(config)?.tensors;
        for name in ["wte.weight", "lm_head.weight"] {
            if let Some(tensor) =
                tensors.get_mut(name).filter(|tensor| tensor.dims()[0] > neural.vocab_size())
            {
                *tensor = tensor.narrow(0, 0, neural.vocab_size())?.force_contiguous()?;
            }
        }
        let neural = Neural::from_tensors(neural, tensors)?;
        return crate::models::check_finite(&neural, path).map(|()| neural);
    }
    let mut init = rng_for(config.train.seed, RngStream::Init);
    Ok(Neural::new(neural, &mut init)?)
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
