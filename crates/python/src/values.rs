//! Values of Python: arrays, JSON and texts.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyIterator, PyList, PyString};
use serde_json::Value;

/// A NumPy array of `values`, or, without NumPy, a memoryview of doubles.
pub(crate) fn floats<'py>(py: Python<'py>, values: &[f64]) -> PyResult<Bound<'py, PyAny>> {
    static FROM_BUFFER: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();
    let from_buffer = FROM_BUFFER.get_or_init(py, || {
        py.import("numpy").and_then(|numpy| numpy.getattr("frombuffer")).ok().map(Bound::unbind)
    });
    let bytes = PyByteArray::new_with(py, 8 * values.len(), |bytes| {
        let places = bytes.as_chunks_mut().0.iter_mut();
        places.zip(values).for_each(|(place, value)| *place = value.to_ne_bytes());
        Ok(())
    })?;
    match from_buffer {
        Some(from_buffer) => from_buffer.bind(py).call1((bytes, "f8")),
        None => py.import("builtins")?.getattr("memoryview")?.call1((bytes,))?.call_method1("cast", ("d",)),
    }
}

/// JSON as Python's values.
pub(crate) fn json<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into_pyobject(py)?.into_any(),
            (_, Some(number)) => number.into_pyobject(py)?.into_any(),
            _ => number.as_f64().into_pyobject(py)?,
        },
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(values) => {
            let values = values.iter().map(|value| json(py, value)).collect::<PyResult<Vec<_>>>()?;
            PyList::new(py, values)?.into_any()
        }
        Value::Object(entries) => {
            let dict = PyDict::new(py);
            entries.iter().try_for_each(|(key, value)| dict.set_item(key, json(py, value)?))?;
            dict.into_any()
        }
    })
}

/// The text of a string or of bytes in UTF-8.
pub(crate) fn text<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    if let Ok(text) = value.cast::<PyString>() {
        return text.to_str();
    }
    match value.cast::<PyBytes>() {
        Ok(bytes) => std::str::from_utf8(bytes.as_bytes())
            .map_err(|error| PyValueError::new_err(format!("the bytes are not UTF-8: {error}"))),
        Err(_) => {
            Err(PyTypeError::new_err(format!("a text is a str or bytes, not {}", value.get_type().name()?)))
        }
    }
}

/// Texts, one after another.
#[derive(Default)]
pub(crate) struct Lines {
    text: String,
    ends: Vec<usize>,
}

impl Lines {
    /// The most lines that are read at once.
    const MOST: usize = 1 << 16;

    /// An iterator over lines.
    pub(crate) fn iterate<'py>(lines: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
        if lines.is_instance_of::<PyString>() || lines.is_instance_of::<PyBytes>() {
            return Err(PyTypeError::new_err("lines are a list or another iterable: for one line, [line]"));
        }
        lines.try_iter()
    }

    /// Reads the next lines in place of those before; false if there are no more.
    pub(crate) fn read(&mut self, lines: &mut Bound<'_, PyIterator>) -> PyResult<bool> {
        self.text.clear();
        self.ends.clear();
        for line in lines.take(Self::MOST) {
            self.text.push_str(text(&line?)?);
            self.ends.push(self.text.len());
        }
        Ok(!self.ends.is_empty())
    }

    /// The number of lines.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Line `number`, from 0.
    pub(crate) fn get(&self, number: usize) -> &str {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[number]]
    }
}
