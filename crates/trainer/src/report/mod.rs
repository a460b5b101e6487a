//! Reports worth showing: one HTML file each, nothing fetched, light and dark, printable, readable without scripts.

pub(crate) mod comparison;
mod memory;
mod page;
mod parts;
mod plot;
pub(crate) mod run;
