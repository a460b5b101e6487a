//! The page by its addresses.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails where something is wrong"
)]

#[path = "../common/mod.rs"]
mod common;

mod screens;
mod security;
