//! The report page of a run or a comparison: one self-contained HTML file with SVG figures.
//!
//! The engine computes the numbers; this crate returns the HTML, and the caller writes it to a
//! file.

mod cards;
mod comparison;
pub mod figures;
mod memorization;
mod page;
mod plot;
mod run;

pub use comparison::render_comparison;
pub use run::render_run;
