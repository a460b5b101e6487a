//! Robust runs: killed, interrupted, out of disk space, in unusual environments, on any number of
//! threads.
//!
//! The binary runs as for a user, in its own folder, and its files are compared byte by byte.

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
mod bounded;
#[cfg(target_os = "linux")]
mod cgroup;
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
#[cfg(unix)]
mod stops;
