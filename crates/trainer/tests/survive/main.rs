//! Runs that survive: killed, interrupted, out of disk, in strange places, on any number of threads.
//!
//! The binary is run as a person runs it, in a folder of its own, and what it leaves is compared to the byte.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails where something is wrong"
)]

#[path = "../common/mod.rs"]
mod common;
mod runs;

mod bit_flips;
#[cfg(unix)]
mod crashes;
#[cfg(unix)]
mod disk;
mod divergence;
#[cfg(unix)]
mod environment;
mod kills;
mod memory;
mod same_bits;
#[cfg(unix)]
mod signals;
