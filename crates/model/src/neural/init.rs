//! Initial weights, from a seeded random stream or from saved tensors.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use surprisal_kernels::elementary::Elementary;

use super::Parameter;
use crate::{Error, Result};

/// Initial values of a tensor.
#[derive(Debug, Clone, Copy)]
pub enum Init {
    /// One value.
    Constant(f32),
    /// N(0, std²).
    Normal(f64),
    /// `value` in one of `parts` equal parts of the tensor, 0 in the others.
    Part {
        /// Number of parts.
        parts: usize,
        /// Index of the part.
        part: usize,
        /// Value in that part.
        value: f32,
    },
}

enum Weights<'a> {
    Random(&'a mut ChaCha8Rng),
    Loaded(BTreeMap<String, Tensor>),
}

/// Source of a network's parameters, with initial or saved weights.
#[expect(missing_debug_implementations, reason = "it lives for one call")]
pub struct ParameterBuilder<'a> {
    weights: Weights<'a>,
    made: Vec<Parameter>,
}

impl<'a> ParameterBuilder<'a> {
    pub(super) fn random(rng: &'a mut ChaCha8Rng) -> Self {
        Self { weights: Weights::Random(rng), made: Vec::new() }
    }

    pub(super) fn loaded(tensors: BTreeMap<String, Tensor>) -> Self {
        Self { weights: Weights::Loaded(tensors), made: Vec::new() }
    }

    /// The parameter `name` of that shape. Tensors of two dimensions decay.
    ///
    /// # Errors
    /// A saved tensor that is missing or has another shape, by name.
    pub fn get(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let tensor = match &mut self.weights {
            Weights::Random(rng) => {
                let count: usize = shape.iter().product();
                let values = match init {
                    Init::Constant(value) => vec![value; count],
                    Init::Part { parts, part, value } => {
                        let of = |i: usize| if i * parts / count == part { value } else { 0.0 };
                        (0..count).map(of).collect()
                    }
                    Init::Normal(std) => (0..count).map(|_| (normal(rng) * std) as f32).collect(),
                };
                Tensor::from_vec(values, shape, &Device::Cpu)?
            }
            Weights::Loaded(tensors) => {
                let tensor = tensors
                    .remove(name)
                    .ok_or_else(|| Error::Config(format!("the weights have no `{name}`")))?;
                if tensor.dims() != shape || tensor.dtype() != DType::F32 {
                    return Err(Error::Config(format!(
                        "`{name}` is {:?} of {:?}, and the model's is f32 of {shape:?}",
                        tensor.dtype(),
                        tensor.dims()
                    )));
                }
                tensor
            }
        };
        let var = Var::from_tensor(&tensor)?;
        let tensor = var.as_tensor().clone();
        self.made.push(Parameter {
            name: name.to_owned(),
            var,
            decay: shape.len() == 2,
            hidden_matrix_rows: Vec::new(),
        });
        Ok(tensor)
    }

    /// [`Self::get`] for a hidden layer's weight: matrices with `rows` rows each, stacked.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn hidden(&mut self, name: &str, shape: [usize; 2], init: Init, rows: &[usize]) -> Result<Tensor> {
        let tensor = self.get(name, &shape, init)?;
        if let Some(made) = self.made.last_mut() {
            made.hidden_matrix_rows = rows.to_vec();
        }
        Ok(tensor)
    }

    /// All parameters; saved weights that were not taken are an error.
    pub(super) fn finish(self) -> Result<Vec<Parameter>> {
        if let Weights::Loaded(tensors) = &self.weights
            && let Some(name) = tensors.keys().next()
        {
            return Err(Error::Config(format!("the weights have a `{name}`, which this model has not")));
        }
        Ok(self.made)
    }
}

/// A standard normal number (Box & Muller 1958) from exactly two uniforms.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // In (0, 1], so that the logarithm is finite.
    let radius = 1.0 - rng.random::<f64>();
    let angle = rng.random::<f64>();
    let by = Elementary::current();
    (-2.0 * by.ln(radius)).sqrt() * by.cos(std::f64::consts::TAU * angle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn normals_have_their_moments() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let draws: Vec<f64> = (0..100_000).map(|_| normal(&mut rng)).collect();
        let moment = |power: i32| draws.iter().map(|x| x.powi(power)).sum::<f64>() / draws.len() as f64;
        // Four standard errors of each: 1/√n, √2/√n, √96/√n.
        assert!(moment(1).abs() < 0.0127, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.018, "{}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.125, "{}", moment(4));
    }
}
