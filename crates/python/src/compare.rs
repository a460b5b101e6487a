//! Comparisons.

use std::path::PathBuf;

use pyo3::prelude::*;
use surprisal_engine::compare::{Options, compare as run, tables};
use surprisal_engine::store::atomic;
use surprisal_engine::{Context, Control, Result, outputs};

use crate::errors::raised;
use crate::events::Callback;
use crate::values;
use crate::work;

/// A table: headings, and rows of cells as shown and as numbers.
type Table = (Vec<&'static str>, Vec<Vec<(String, Option<f64>)>>);

/// Tables by name.
type Tables = Vec<(&'static str, Table)>;

fn table(table: tables::Table) -> Table {
    let cell = |cell: &tables::Cell| match cell {
        tables::Cell::Words(shown) => (shown.clone(), None),
        tables::Cell::Number(shown, value) => (shown.clone(), *value),
    };
    (table.headings, table.rows.iter().map(|row| row.iter().map(cell).collect()).collect())
}

/// Runs a comparison; gives its numbers, its tables by name, and its page. The Python function
/// `surprisal_lm.compare` prepares the arguments.
#[pyfunction]
pub(crate) fn compare(
    py: Python<'_>,
    config: PathBuf,
    texts: Vec<PathBuf>,
    set: Vec<(String, String)>,
    seeds: Vec<u64>,
    jobs: Option<usize>,
    out: Option<PathBuf>,
    threads: Option<usize>,
    on_event: Option<Py<PyAny>>,
) -> PyResult<(Py<PyAny>, Tables, String)> {
    let pool = work::pool(py, threads)?;
    let control = Control::new();
    let (callback, stop) = (Callback::new(on_event, &control), control.clone());
    let set = crate::train::overrides(set);
    let options = Options { config, texts, set, seeds, jobs, out };
    let work = move || {
        let compared = || -> Result<_> {
            // Not on the pool, whose threads the runs share.
            let found = run(&options, &Context::new(&pool, &callback, &control))?;
            let page = pool.install(|| surprisal_report::render_comparison(&found))?;
            atomic::write(found.root.join(outputs::PAGE), page.as_bytes())?;
            let named = [
                ("variants", Some(tables::variants(&found.rows))),
                ("parts", tables::parts(&found.rows)),
                ("differences", tables::differences(&found.differences)),
                ("learning_curves", tables::learning_curves(&found.curves)),
            ];
            let named = named.into_iter().filter_map(|(name, found)| Some((name, table(found?))));
            Ok((found.to_json(), named.collect(), page))
        };
        (compared(), callback.raised())
    };
    let ((compared, exception), interrupted) = work::watch(py, &stop, work)?;
    let (numbers, tables, page) =
        compared.map_err(|error| exception.or(interrupted).unwrap_or_else(|| raised(error)))?;
    Ok((values::json(py, &numbers)?.unbind(), tables, page))
}
