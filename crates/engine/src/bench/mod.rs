//! Benchmarks of a training step and of an n-gram model.

pub mod ngram;
pub mod step;
