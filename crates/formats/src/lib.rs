//! Bytes to objects and back: every parser of untrusted bytes.
//!
//! - [`weights`]: safetensors, with limits checked before anything is allocated.
//! - [`tensorboard`], [`csv`]: the metrics for TensorBoard and for spreadsheets.
//! - [`arpa`]: n-gram models as the text that other programs read and write.
//! - [`counts`]: counts of n-grams, for programs and for people, and shards put together.
//! - [`ngram`]: counted models in files that are mapped and queried where they lie.
//! - [`hf`]: Hugging Face folders of the GPT-2 family.
//! - [`model_dir`]: the folder of a finished model of any kind.
//!
//! Files are read and written through `surprisal-store`.

pub mod arpa;
mod container;
pub mod counts;
pub mod csv;
mod error;
pub mod hf;
pub mod model_dir;
pub mod ngram;
mod ngram_list;
mod ordered_writer;
pub mod tensorboard;
mod token_strings;
pub mod weights;

pub use error::{DIVERGED_HINT, Error, Result};
