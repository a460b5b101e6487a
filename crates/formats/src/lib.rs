//! Bytes to objects and back: every parser of untrusted bytes, and every write that must survive a crash.
//!
//! - [`atomic`]: a file is either its old self or its new self, never half of each.
//! - [`weights`]: safetensors, with limits checked before anything is allocated.
//! - [`checkpoint`]: folders of parts with a manifest of hashes, saved whole, the newest whole one loaded.
//! - [`events`], [`csv`]: the metrics for TensorBoard and for spreadsheets.
//! - [`arpa`]: n-gram models as the text that other programs read and write.
//! - [`counts`]: counts of n-grams, for programs and for people, and shards put together.
//! - [`ngram`]: counted models in files that are mapped and queried where they lie.
//! - [`hf`]: Hugging Face folders of the GPT-2 family.
//! - [`model_dir`]: the folder of a finished model of any kind.
//! - [`run`]: the folder of a training run; [`lock`]: one writer at a time.
//! - [`pending`]: what is half written, for a process that ends in the middle of it.
//! - [`place`]: where the bytes for a path go.
//! - [`read`]: whole files, and nothing that is none.
//! - [`faults`]: failures on demand, so that tests can stop a save at every write, sync and rename.
//!
//! Nothing here prints, and no path found inside a file is ever followed outside that file's folder.

pub mod arpa;
pub mod atomic;
mod blocks;
pub mod checkpoint;
mod container;
pub mod counts;
pub mod csv;
mod direct;
mod error;
pub mod events;
pub mod faults;
mod folder;
mod grams;
pub mod hf;
pub mod lock;
mod manifest;
pub mod model_dir;
pub mod ngram;
mod ordered;
pub mod pending;
pub mod place;
pub mod read;
pub mod run;
mod spell;
pub mod weights;

pub use error::{DIVERGED, Error, Result};
