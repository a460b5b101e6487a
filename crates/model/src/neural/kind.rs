//! Properties of each kind of network that depend on its config alone.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::{Architecture, ParameterBuilder, Windows};
use crate::{Error, Result};

/// Properties of one kind of network that depend on its config alone.
pub(super) trait Kind {
    /// Every size with its key and the range it must be in, `vocab_size` and `block_size` first.
    fn sizes(&self) -> Vec<(&'static str, usize, RangeInclusive<usize>)>;
    /// [`Error::Setting`] with the first setting that is impossible for another reason.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// Weights of all matrices and tables, without biases and norms; `f64`, so that no size is too
    /// large to multiply.
    fn parameters(&self) -> f64;
    /// Floats per token at the peak of a training step.
    fn activations(&self) -> f64;
    /// Kind of windows that training cuts the text into.
    fn windows(&self) -> Windows {
        Windows::Shuffled
    }
    /// The network, with every parameter taken from `parameters`.
    fn build(&self, parameters: &mut ParameterBuilder<'_>) -> Result<Box<dyn Architecture>>;
}

/// Refuses a value that is outside its range; NaN is in none.
pub(super) fn within<T: PartialOrd + Display>(
    key: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (start, end) = range.into_inner();
    Err(Error::setting(key, format!("is {value}, but must be from {start} to {end}")))
}

/// The sizes of every kind.
pub(super) fn text_sizes(
    vocab_size: usize,
    block_size: usize,
) -> [(&'static str, usize, RangeInclusive<usize>); 2] {
    [("vocab_size", vocab_size, 1..=u32::MAX as usize), ("block_size", block_size, 1..=1 << 20)]
}

/// The most layers of a network.
pub(super) const MAX_LAYERS: usize = 256;
/// The widest embedding.
pub(super) const MAX_WIDTH: usize = 1 << 20;

/// Refuses a dropout outside [0, 0.99].
pub(super) fn check_dropout(dropout: f64) -> Result<()> {
    within("dropout", dropout, 0.0..=0.99)
}
