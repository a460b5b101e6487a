//! Readers and writers of file formats, including every parser of untrusted bytes.
//!
//! - [`weights`]: safetensors; limits are checked before anything is allocated.
//! - [`tensorboard`], [`csv`]: metrics for TensorBoard and for spreadsheets.
//! - [`arpa`]: n-gram models as ARPA text files, which other programs read and write.
//! - [`counts`]: n-gram counts, binary and as text, and merging of shards.
//! - [`kenlm`]: KenLM's binary files of n-gram models, read through a memory map.
//! - [`ngram`]: n-gram models as binary files that are queried through a memory map.
//! - [`hf`]: Hugging Face folders of GPT-2 and Llama models.
//! - [`gguf`]: the same models as files for llama.cpp.
//! - [`compressed`]: files that a model has compressed.
//! - [`model_dir`]: the directory of a finished model.
//! - [`mixture_dir`]: the directory of a mixture of models.
//!
//! Files are read and written through `surprisal-store`.

pub mod arpa;
pub mod compressed;
mod container;
pub mod counts;
pub mod csv;
mod error;
pub mod file;
pub mod gguf;
pub mod hf;
pub mod infinigram;
pub mod kenlm;
mod kenlm_problem;
pub mod mixture_dir;
pub mod model_dir;
pub mod ngram;
mod ngram_list;
mod ordered_writer;
pub mod tensorboard;
mod token_strings;
pub mod weights;

pub use error::{DIVERGED_HINT, Error, Result};
