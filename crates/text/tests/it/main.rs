//! Texts through every door, and tokenizers of the library.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails where something is wrong"
)]

mod custom_codec;
mod doors;
mod library_tokenizer;
mod reading;
