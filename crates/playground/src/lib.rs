//! The page of `surprisal serve`: a local web page over the engine, on which a class trains, looks
//! and touches.
//!
//! [`serve`] listens, answers and makes runs until it is stopped. The page is in the binary, loads
//! nothing from elsewhere, and shows numbers that the engine computes; it formats and draws them.

mod api;
mod app;
mod bigrams;
mod connection;
mod guard;
mod lru;
mod models;
mod problem;
mod query;
mod runs;
mod screens;
mod server;
mod stream;
mod texts;

pub use server::{Limits, Options, serve};
