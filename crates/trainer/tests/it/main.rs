//! The program as a user runs it, in an empty folder. One test program, since each one links
//! everything.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails where something is wrong"
)]

#[path = "../common/mod.rs"]
mod common;

mod arpa;
mod arrows;
mod bad_input;
mod both_halves;
mod bounded;
mod cache;
mod choice;
mod closed_form;
mod compare;
mod compress;
mod configs;
mod contract;
mod counted;
#[cfg(target_os = "linux")]
mod dashboard;
mod determinism;
mod doors;
#[cfg(unix)]
mod environment;
mod explain;
mod fixtures;
mod flags;
mod from;
mod habits;
mod hostile;
mod messages;
mod mix;
mod mutations;
mod one_number;
mod opening;
mod outputs;
mod overrides;
mod parity;
mod readme;
mod report;
mod resume;
mod sampling;
mod score;
#[cfg(all(unix, feature = "serve"))]
mod serve;
#[cfg(unix)]
mod terminal;
mod tokenizer_file;
mod vocabulary;
mod words;
