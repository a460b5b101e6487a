//! Models through the public doors of the crate.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails where something is wrong"
)]

mod examples;
mod from_scratch;
mod mixture;
mod neural;
mod recurrent;
mod smoother;
