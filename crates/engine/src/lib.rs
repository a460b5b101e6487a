//! Tiny language models, from counted bigrams to small transformers, trained, judged and compared by one number: the
//! surprisal of the next token, −ln q(w | context), averaged over text that the model has not seen.
//!
//! Everything that `surprisal` does without printing: a face (a command line, a page, another language) calls [`train()`],
//! [`compare()`](compare::compare) or [`models::load`], is told what happens as [`Events`], and answers through a [`Control`].
//! Several runs share a process and nothing else; a [`Context`] is all that they are given from outside.

mod architecture;
pub mod bench;
pub mod compare;
pub mod config;
mod control;
pub mod count;
pub mod data;
pub mod error;
pub mod evaluate;
mod evaluation;
mod events;
pub mod generation;
mod identity;
pub mod kind;
pub mod memory;
pub mod models;
pub mod outputs;
pub mod runs;
pub mod sampling;
mod saved;
mod schedule;
mod streams;
pub mod train;
pub mod wording;

pub use control::Control;
pub use error::{Advice, Error, Kind, Result};
pub use evaluation::Evaluation;
pub use events::*;
pub use saved::Unfinished;
pub use train::train;

pub use {
    surprisal_formats as formats, surprisal_loss as loss, surprisal_model as model,
    surprisal_platform as platform, surprisal_source as source, surprisal_store as store,
    surprisal_text as text,
};

/// Of this library: what runs record.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
