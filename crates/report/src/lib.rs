//! The page of a run or a comparison: one HTML file that fetches nothing, its figures SVG within it.
//!
//! Data in, HTML out: what stands on a page was measured by the engine. The page of a run is written into it by
//! [`attach_to_run`], that of a comparison by [`Comparison::attach`](surprisal_engine::compare::Comparison::attach).

mod comparison;
mod memory;
mod page;
mod parts;
mod plot;
mod run;

pub use comparison::render_comparison;
pub use run::{attach_to_run, render_run};
