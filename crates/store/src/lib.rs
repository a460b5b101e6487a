//! Files that survive crashes, and locks that admit one writer at a time.
//!
//! - [`atomic`]: files that hold the old content or the new content after a crash, never a mixture.
//! - [`atomic_dir`], [`manifest`]: directories with a manifest of hashes, replaced as a whole.
//! - [`checkpoint`]: such directories by step; the newest valid one is loaded.
//! - [`run_dir`]: the directory of a training run; [`lock`]: one writer at a time.
//! - [`parents`]: the folders above what is written.
//! - [`pending`]: temporary files to remove when the process is ended.
//! - [`write_target`]: whether a path is a file to replace or a stream to write to.
//! - [`spill`]: temporary files of checksummed blocks that outlive a killed process.
//! - [`read`]: whole regular files, up to a size limit.
//! - [`fault_injection`]: failures on demand, so that tests can stop a save at every write, sync
//!   and rename.
//!
//! This crate prints nothing, does not interpret the bytes, and never follows a path found inside a
//! file out of that file's directory.

pub mod atomic;
pub mod atomic_dir;
pub mod checkpoint;
mod error;
pub mod fault_injection;
pub mod lock;
pub mod manifest;
pub mod parents;
pub mod pending;
pub mod read;
pub mod run_dir;
pub mod spill;
pub mod write_target;

pub use error::{Error, Result};
