//! What the families share: limits, and the checks of configurations and tensors.

use candle_core::Tensor;

use crate::{Error, Result};

/// The limits keep a hostile configuration from making us list names and shapes without end.
pub(super) const MAX_LAYERS: usize = 1024;
pub(super) const MAX_SIZE: usize = 1 << 24;

/// The type of weights that is written.
pub(super) fn float32() -> String {
    "float32".to_owned()
}

/// Whether each (field, size, limit) is from 1 to its limit.
pub(super) fn sizes_within(sizes: &[(&str, usize, usize)]) -> Result<(), String> {
    match sizes.iter().find(|&&(_, size, limit)| size == 0 || size > limit) {
        Some((field, size, limit)) => Err(format!("`{field}` is {size}, 1 to {limit} is possible")),
        None => Ok(()),
    }
}

/// A tensor that no such model has.
pub(super) fn unknown(what: &str, name: &str) -> Error {
    Error::malformed(what, &format!("tensor `{}` belongs to no such model", name.escape_debug()))
}

/// The tensor `name`, if it is there and of that shape.
pub(super) fn shaped<'a>(
    what: &str,
    name: &str,
    tensor: Option<&'a Tensor>,
    shape: &[usize],
) -> Result<&'a Tensor> {
    let problem = match tensor {
        Some(tensor) if tensor.dims() == shape => return Ok(tensor),
        Some(tensor) => {
            format!("tensor `{name}` is {:?}, the configuration makes it {shape:?}", tensor.dims())
        }
        None => format!("tensor `{name}` is missing"),
    };
    Err(Error::malformed(what, &problem))
}
