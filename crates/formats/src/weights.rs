//! Reading and writing of safetensors files.
//!
//! Writing: the same tensors give the same bytes. The metadata is exactly `{"format":"pt"}`, which
//! `transformers` requires; the order of several keys would be random.
//!
//! Reading: the file is not trusted. The lengths of the file and its header, the number of tensors,
//! duplicate names, shapes and offsets are checked before a tensor is allocated. A NaN or an
//! infinity is an error that names the tensor.

use std::{collections::BTreeMap, fmt, path::Path};

use candle_core::{DType, Device, Tensor, safetensors::Load};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::{Error, Result, file};
use surprisal_store::{Error as StoreError, atomic_dir::quoted, read::read_bounded};

/// The largest file, in bytes.
const MAX_BYTES: u64 = 16 << 30;
/// The largest header, in bytes; GPT-2 XL's has 60 KiB.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// The largest number of tensors; GPT-2 XL has 580.
const MAX_TENSORS: usize = 1 << 13;
const MAX_DIMENSIONS: usize = 8;

/// The tensor types that a reader accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// f32.
    F32,
    /// f32; f64, bf16 and f16 are converted to it.
    Floats,
}

/// The bytes of a safetensors file with `tensors`; equal tensors give equal bytes.
///
/// # Errors
/// Tensors that the safetensors crate cannot write.
#[expect(
    clippy::disallowed_types,
    reason = "safetensors takes a HashMap; with one key its order cannot matter"
)]
pub fn to_safetensors(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(tensors, Some(metadata))
        .map_err(|error| Error::malformed("the list of tensors", &error))
}

/// Reads the safetensors file at `path`; see [`from_safetensors`].
///
/// # Errors
/// Those of [`from_safetensors`]; [`Io`](surprisal_store::Error::Io).
pub fn read_safetensors(path: impl AsRef<Path>, accept: Accept) -> Result<BTreeMap<String, Tensor>> {
    let path = path.as_ref();
    let bytes = read_bounded(path, MAX_BYTES)?;
    from_safetensors(&quoted(path), &bytes, accept)
}

/// The name, shape and type of every tensor in a file, sorted by name; values are not read.
///
/// # Errors
/// [`Io`](surprisal_store::Error::Io), [`TooLarge`](surprisal_store::Error::TooLarge) or
/// [`Malformed`](surprisal_store::Error::Malformed).
pub fn shapes(path: impl AsRef<Path>) -> Result<Vec<(String, Vec<usize>, String)>> {
    let what = quoted(path.as_ref());
    let bytes = file::read(path.as_ref())?;
    check_header(&what, bytes.as_slice())?;
    let file = SafeTensors::deserialize(bytes.as_slice()).map_err(|error| Error::malformed(what, &error))?;
    let described =
        |(name, view): (String, TensorView<'_>)| (name, view.shape().to_vec(), format!("{:?}", view.dtype()));
    let mut tensors: Vec<_> = file.tensors().into_iter().map(described).collect();
    tensors.sort();
    Ok(tensors)
}

/// The tensors in the bytes of a safetensors file, converted to f32 on the CPU. `what` names the
/// file in errors.
///
/// # Errors
/// [`TooLarge`](surprisal_store::Error::TooLarge),
/// [`Malformed`](surprisal_store::Error::Malformed), [`Error::DType`] or [`Error::NonFinite`].
pub fn from_safetensors(what: &str, bytes: &[u8], accept: Accept) -> Result<BTreeMap<String, Tensor>> {
    check_header(what, bytes)?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| Error::malformed(what, &error))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let tensor = tensor_of(what, &name, &view, accept)?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

fn check_size(what: &str, part: &str, size: u64, limit: u64, unit: &'static str) -> Result<()> {
    if size > limit {
        return Err(StoreError::TooLarge { what: format!("{what}{part}"), size, limit, unit }.into());
    }
    Ok(())
}

/// Checks what the safetensors crate does not: the length of the header, the number of tensors, and
/// duplicate names, of which the crate would keep the last.
fn check_header(what: &str, bytes: &[u8]) -> Result<()> {
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| {
        Error::malformed(what, &format!("{} bytes are too short for a header", bytes.len()))
    })?;
    let length = u64::from_le_bytes(*length);
    check_size(what, "'s header", length, MAX_HEADER_BYTES, "bytes")?;
    let header = rest.get(..length as usize).ok_or_else(|| {
        let problem = format!("the header claims {length} bytes, but {} are present", rest.len());
        Error::malformed(what, &problem)
    })?;
    let mut json = serde_json::Deserializer::from_slice(header);
    let names =
        json.deserialize_map(Names).map_err(|error| Error::malformed(format!("{what}'s header"), &error))?;
    check_size(what, "", names, MAX_TENSORS as u64, "tensors")
}

/// Counts the keys of a JSON object except `__metadata__`, and refuses duplicates. Above the limit,
/// names are no longer stored.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let mut names = std::collections::BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            if names.len() <= MAX_TENSORS + 1 && !names.insert(name.clone()) {
                return Err(serde::de::Error::custom(format!("duplicate name `{name}`")));
            }
        }
        names.remove("__metadata__");
        Ok(names.len() as u64)
    }
}

fn tensor_of(what: &str, name: &str, view: &TensorView, accept: Accept) -> Result<Tensor> {
    if view.shape().len() > MAX_DIMENSIONS {
        let problem =
            format!("it has {} dimensions, but at most {MAX_DIMENSIONS} are supported", view.shape().len());
        return Err(Error::malformed(format!("tensor `{name}`"), &problem));
    }
    let expected = match (view.dtype(), accept) {
        (Dtype::F32, _) | (Dtype::F64 | Dtype::BF16 | Dtype::F16, Accept::Floats) => None,
        (_, Accept::F32) => Some("F32"),
        (_, Accept::Floats) => Some("F32, F64, BF16 or F16"),
    };
    if let Some(expected) = expected {
        let found = format!("{:?}", view.dtype());
        return Err(Error::DType { tensor: name.to_owned(), found, expected });
    }
    // safetensors has checked that the shape, type and length agree, without overflow.
    let tensor = view.load(&Device::Cpu)?.to_dtype(DType::F32)?;
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => {
            let (what, tensor) = (what.to_owned(), name.to_owned());
            Err(Error::NonFinite { what, tensor, index, value: f64::from(values[index]) })
        }
        None => Ok(tensor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn tensors_are_written_by_name_and_read_back_the_same() {
        let a = ("wte.weight".to_owned(), tensor(&[1.0, -2.5, 3.25, 0.0, -0.0, 1e-40], &[3, 2]));
        let b = ("h.0.attn.bias".to_owned(), tensor(&[0.1, 0.2], &[2]));
        let bytes = to_safetensors(&BTreeMap::from([a.clone(), b.clone()])).unwrap();
        let header = String::from_utf8_lossy(&bytes[8..]);
        assert!(header.starts_with(r#"{"__metadata__":{"format":"pt"},"h.0.attn.bias":"#), "{header}");

        let back = from_safetensors("x", &bytes, Accept::F32).unwrap();
        assert_eq!(back.keys().collect::<Vec<_>>(), ["h.0.attn.bias", "wte.weight"]);
        for (name, original) in [a, b] {
            let bits = |tensor: &Tensor| -> Vec<u32> {
                tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
            };
            assert_eq!(back[&name].dims(), original.dims());
            assert_eq!(bits(&back[&name]), bits(&original));
        }
    }

    #[test]
    fn a_transposed_tensor_is_written_in_row_major_order() {
        let transposed = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).t().unwrap();
        let bytes = to_safetensors(&BTreeMap::from([("w".to_owned(), transposed)])).unwrap();
        let back = from_safetensors("x", &bytes, Accept::F32).unwrap();
        assert_eq!(back["w"].to_vec2::<f32>().unwrap(), [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    }

    #[test]
    fn other_floats_are_converted_on_request_only() {
        for dtype in [DType::F64, DType::BF16, DType::F16] {
            let stored = tensor(&[1.5, -0.25], &[2]).to_dtype(dtype).unwrap();
            let bytes = to_safetensors(&BTreeMap::from([("w".to_owned(), stored)])).unwrap();
            let refused = from_safetensors("x", &bytes, Accept::F32).unwrap_err();
            assert!(matches!(refused, Error::DType { .. }), "{refused}");
            let back = from_safetensors("x", &bytes, Accept::Floats).unwrap();
            assert_eq!(back["w"].to_vec1::<f32>().unwrap(), [1.5, -0.25]);
        }
    }

    #[test]
    fn a_nan_is_refused_by_name() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let weight = ("ln_f.weight".to_owned(), tensor(&[0.0, value], &[2]));
            let bytes = to_safetensors(&BTreeMap::from([weight])).unwrap();
            let error = from_safetensors("x", &bytes, Accept::F32).unwrap_err();
            assert!(
                matches!(&error, Error::NonFinite { tensor, index: 1, .. } if tensor == "ln_f.weight"),
                "{error}"
            );
        }
    }
}
