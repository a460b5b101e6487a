//! Tiny language models, from n-gram counts to small transformers: training, evaluation and
//! comparison by the surprisal of the next token, −ln q(w | context), averaged over unseen text.
//!
//! The library behind `surprisal`, which prints nothing: a program calls [`train()`],
//! [`compare()`](compare::compare) or [`models::load`], receives [`Events`] and controls the work
//! through a [`Control`]. A [`Context`] is all that a run depends on beside its request, so several
//! can share a process.

mod adapt;
mod architecture;
pub mod bench;
pub mod choice;
pub mod compare;
pub mod compress;
pub mod config;
mod control;
pub mod count;
pub mod data;
mod dynamic;
pub mod error;
pub mod evaluate;
mod evaluation;
mod events;
pub mod explain;
mod fingerprint;
pub mod generation;
mod interval;
pub mod kind;
pub mod memory;
pub mod models;
pub mod outputs;
pub mod pairs;
pub mod ranks;
mod rng;
pub mod runs;
pub mod sampling;
mod saved;
mod schedule;
pub mod score;
mod serve;
pub mod spelling;
mod start;
pub mod token_cache;
pub mod train;
pub mod word_choice;
pub mod word_sums;
pub mod wording;

pub use control::{Control, Steps};
pub use error::{Advice, Error, ExitKind, Result};
pub use evaluation::Evaluation;
pub use events::*;
pub use saved::Unfinished;
pub use serve::serve;
pub use train::train;

pub use {
    surprisal_formats as formats, surprisal_loss as loss, surprisal_model as model,
    surprisal_platform as platform, surprisal_source as source, surprisal_store as store,
    surprisal_text as text,
};

/// Version of this library, which runs record.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
