//! Limits and checks shared by the model families.

use candle_core::Tensor;

use crate::{Error, Result};

/// Limits, so that a hostile configuration cannot make us list names and shapes without end.
pub(super) const MAX_LAYERS: usize = 1024;
pub(super) const MAX_SIZE: usize = 1 << 24;

/// The `dtype` of written weights.
pub(super) fn float32() -> String {
    "float32".to_owned()
}

/// Checks that each (field, size, limit) is from 1 to its limit.
pub(super) fn sizes_within(sizes: &[(&str, usize, usize)]) -> Result<(), String> {
    match sizes.iter().find(|&&(_, size, limit)| size == 0 || size > limit) {
        Some((field, size, limit)) => Err(format!("`{field}` is {size}, but must be from 1 to {limit}")),
        None => Ok(()),
    }
}

/// The error for an unexpected tensor.
pub(super) fn unknown(what: &str, name: &str) -> Error {
    Error::malformed(what, &format!("tensor `{}` does not belong to such a model", name.escape_debug()))
}

/// The tensor `name`, if present with this shape.
pub(super) fn shaped<'a>(
    what: &str,
    name: &str,
    tensor: Option<&'a Tensor>,
    shape: &[usize],
) -> Result<&'a Tensor> {
    let problem = match tensor {
        Some(tensor) if tensor.dims() == shape => return Ok(tensor),
        Some(tensor) => {
            format!("tensor `{name}` has shape {:?}, but the configuration requires {shape:?}", tensor.dims())
        }
        None => format!("tensor `{name}` is missing"),
    };
    Err(Error::malformed(what, &problem))
}
