//! Surprisal in Python: the native part of the package `surprisal_lm`.

mod compare;
mod counts;
mod errors;
mod events;
mod kenlm;
mod model;
mod show;
mod train;
mod values;
mod work;

use std::ffi::OsString;

use mimalloc::MiMalloc;
use pyo3::prelude::*;
use surprisal_platform::counting_allocator::{self, CountingAllocator};

// As in the program `surprisal`, whose commands this library runs, too.
#[global_allocator]
static ALLOCATOR: CountingAllocator<MiMalloc> = CountingAllocator::new(MiMalloc);

/// Runs the program `surprisal` with these arguments, its name first; gives its exit code.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    counting_allocator::on_allocation_failure(surprisal::out_of_memory);
    py.detach(|| surprisal::main_with(&arguments))
}

/// The native part of `surprisal_lm`; import its names from there.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    surprisal_platform::threads::disable_candle_pools();
    module.add("__version__", surprisal_engine::VERSION)?;
    module.add_class::<model::Model>()?;
    module.add_class::<model::Generation>()?;
    module.add_class::<model::Word>()?;
    module.add_class::<show::Token>()?;
    module.add_class::<show::Explanation>()?;
    module.add_class::<show::Report>()?;
    module.add_class::<kenlm::KenlmModel>()?;
    module.add_class::<kenlm::KenlmState>()?;
    module.add_class::<kenlm::FullScoreReturn>()?;
    module.add_function(wrap_pyfunction!(train::train, module)?)?;
    module.add_function(wrap_pyfunction!(compare::compare, module)?)?;
    module.add_function(wrap_pyfunction!(counts::count, module)?)?;
    module.add_function(wrap_pyfunction!(counts::merge, module)?)?;
    module.add_function(wrap_pyfunction!(counts::mix, module)?)?;
    module.add_function(wrap_pyfunction!(main, module)?)
}
