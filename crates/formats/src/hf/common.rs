//! Limits and checks shared by the model families.

use candle_core::Tensor;
use surprisal_model::neural::TransformerConfig;

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

/// Whether a transformer has none of the switches that no other program's format has. Every field
/// is named, so that a new switch has to be decided here.
pub(super) fn has_only_common_switches(config: &TransformerConfig) -> bool {
    let &TransformerConfig {
        vocab_size: _,
        block_size: _,
        n_layer: _,
        n_head: _,
        n_kv_head: _,
        n_embd: _,
        n_hidden: _,
        dropout: _,
        bias: _,
        tied: _,
        norm: _,
        norm_eps: _,
        position: _,
        rope_theta: _,
        qk_norm,
        activation: _,
        zero_init: _,
        softcap,
        bigram_rows,
    } = config;
    !qk_norm && softcap == 0.0 && bigram_rows == 0
}
