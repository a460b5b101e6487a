//! Files that survive crashes: every write that must be whole or not at all, and who may write where.
//!
//! - [`atomic`]: a file is either its old self or its new self, never half of each.
//! - [`folder`], [`manifest`]: folders of parts with a manifest of hashes, replaced whole.
//! - [`checkpoint`]: such folders by step, the newest whole one loaded.
//! - [`run`]: the folder of a training run; [`lock`]: one writer at a time.
//! - [`pending`]: what is half written, for a process that ends in the middle of it.
//! - [`place`]: where the bytes for a path go.
//! - [`read`]: whole files, and nothing that is none.
//! - [`faults`]: failures on demand, so that tests can stop a save at every write, sync and rename.
//!
//! Nothing here prints, and no path found inside a file is ever followed outside that file's folder. What the bytes mean is for
//! others to know.

pub mod atomic;
pub mod checkpoint;
mod error;
pub mod faults;
pub mod folder;
pub mod lock;
pub mod manifest;
pub mod pending;
pub mod place;
pub mod read;
pub mod run;

pub use error::{Error, Result};
