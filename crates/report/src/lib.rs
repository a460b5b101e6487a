//! The page of a run or a comparison: one HTML file that fetches nothing, its figures SVG within it.
//!
//! Data in, HTML out: what stands on a page was measured by the engine, and a face writes it where it belongs.

mod cards;
mod comparison;
mod memorization;
mod page;
mod plot;
mod run;

pub use comparison::render_comparison;
pub use run::render_run;
