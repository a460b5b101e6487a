//! Files of other programs, and files that are damaged.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails where something is wrong"
)]

#[path = "../mutation/mod.rs"]
mod mutation;
#[path = "../../../fuzz/targets.rs"]
mod targets;

mod arpa_reference;
mod bit_flips;
mod hf;
mod kenlm;
mod kenlm_perplexities;
mod mutations;
