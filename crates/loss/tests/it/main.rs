//! The loss against its definition, its paths against each other, and PyTorch's figures.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails where something is wrong"
)]

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod gradients;
mod known_bugs;
mod linear;
mod paths;
mod pytorch_cases;
