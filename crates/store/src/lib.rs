//! Files that survive crashes: every write that must be whole or not at all, and who may write where.
//!
//! - [`atomic`]: a file is either its old self or its new self, never half of each.
//! - [`atomic_dir`], [`manifest`]: folders of parts with a manifest of hashes, replaced whole.
//! - [`checkpoint`]: such folders by step, the newest whole one loaded.
//! - [`run_dir`]: the folder of a training run; [`lock`]: one writer at a time.
//! - [`pending`]: what is half written, for a process that ends in the middle of it.
//! - [`write_target`]: where the bytes for a path go.
//! - [`read`]: whole files, and nothing that is none.
//! - [`fault_injection`]: failures on demand, so that tests can stop a save at every write, sync and rename.
//!
//! Nothing here prints, and no path found inside a file is ever followed outside that file's folder. What the bytes mean is for
//! others to know.

pub mod atomic;
pub mod atomic_dir;
pub mod checkpoint;
mod error;
pub mod fault_injection;
pub mod lock;
pub mod manifest;
pub mod pending;
pub mod read;
pub mod run_dir;
pub mod write_target;

pub use error::{Error, Result};
