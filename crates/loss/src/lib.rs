//! Softmax cross-entropy for language models on CPUs, exact and in one pass over the logits.
//!
//! Three layers, each tested against the one before:
//! - [`mod@reference`]: the definition, in `f64`, to be read;
//! - slices: [`CrossEntropy::evaluate`] and [`CrossEntropy::forward_backward_in_place`], which
//!   overwrites the logits with their gradient;
//! - candle: [`CrossEntropy::apply`] on logits, [`CrossEntropy::apply_linear`] on hidden states and
//!   the weights of a linear head.
//!
//! [`ObjectiveConfig`] holds the options that a training config has. Class weights, soft caps,
//! logit scales and the smoothing targets [`SmoothingTarget::Others`] and
//! [`SmoothingTarget::Unmasked`] are for programs that use this crate alone.
//!
//! Everything is in nats. [`information`] has entropy, KL divergence, perplexity and bits;
//! [`calibration`] compares predicted probabilities with how often predictions are right.

pub mod bench;
pub mod calibration;
pub mod confidence_penalty;
mod error;
pub mod information;
mod linear_cross_entropy;
mod objective;
mod options;
pub mod reference;
mod slices;
mod tensor;
mod unfused;

pub use error::{LossError, Result};
pub use objective::{ObjectiveConfig, ObjectiveError, SmoothToward};
pub use options::{CrossEntropy, DualPrecision, IGNORE_INDEX, Reduction, SmoothingTarget};
pub use slices::LossSums;
pub use surprisal_kernels::cross_entropy::{RowDefect, RowError, Targets};
pub use tensor::Loss;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
