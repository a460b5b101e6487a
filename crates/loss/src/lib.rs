//! Softmax cross-entropy for language models on CPUs: every option that the field uses, exact, in one pass.
//!
//! Three layers, each tested against the one before:
//! - [`mod@reference`]: the definition, in `f64`, to be read;
//! - slices: [`CrossEntropy::evaluate`] and [`CrossEntropy::gradient_in_place`], a blocked online sweep that writes the
//!   gradient over the logits;
//! - candle: [`CrossEntropy::apply`] on logits, [`CrossEntropy::apply_linear`] on hidden states and head weights.
//!
//! Everything is in nats. [`information`] has entropy, divergence, perplexity and bits; [`calibration`] asks whether the
//! probabilities mean what they say.

pub mod bench;
pub mod calibration;
mod composed;
pub mod confidence;
mod error;
pub mod information;
mod linear;
mod objective;
mod options;
pub mod reference;
mod slices;
mod tensor;

pub use error::{LossError, Result};
pub use objective::{ObjectiveConfig, ObjectiveError, SmoothToward};
pub use options::{CrossEntropy, IGNORE, Numbers, Reduction, Toward};
pub use slices::Value;
pub use surprisal_kernels::cross_entropy::{RowDefect, RowError, Targets};
pub use tensor::Loss;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
