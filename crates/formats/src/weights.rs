//! Tensors as safetensors, out and in.
//!
//! Out: the same tensors give the same bytes. The metadata is exactly `{"format":"pt"}`, which `transformers` asks
//! for; a second key would be written in the order of a random hash.
//!
//! In: the file is not trusted. The length of the file and of its header, the number of tensors, repeated names, shapes and
//! offsets are checked before a tensor is allocated, and a NaN or an infinity is refused by name.

use std::{collections::BTreeMap, fmt, path::Path};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::{Error, Result, ngram::map};
use surprisal_store::{Error as StoreError, read::read_bounded};

/// What a reader accepts.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// The largest file, in bytes.
    pub max_bytes: u64,
    /// The largest header, in bytes.
    pub max_header_bytes: u64,
    /// The most tensors.
    pub max_tensors: usize,
    /// Convert f64, bf16 and f16 to f32. Otherwise only f32 is accepted.
    pub convert: bool,
    /// Accept NaN and infinities.
    pub allow_non_finite: bool,
}

impl Default for ReadOptions {
    /// 16 GiB, a header of 1 MiB, 8,192 tensors (GPT-2 XL has 60 KiB and 580); f32 only; finite only.
    fn default() -> Self {
        Self {
            max_bytes: 16 << 30,
            max_header_bytes: 1 << 20,
            max_tensors: 1 << 13,
            convert: false,
            allow_non_finite: false,
        }
    }
}

/// The tensors as the bytes of a safetensors file; equal tensors give equal bytes.
///
/// The names are written in sorted order whatever the order of `tensors`.
///
/// # Errors
/// A repeated name, a type that safetensors or this crate does not write (f32, f64, bf16, f16, u32, i64, u8), or a
/// failure of the tensor library.
#[expect(
    clippy::disallowed_types,
    reason = "safetensors takes a HashMap; with one key its order cannot matter"
)]
pub fn to_safetensors(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let mut sorted = BTreeMap::new();
    for (name, tensor) in tensors {
        if sorted.insert(name.as_str(), (Shaped::of(name, tensor)?, bytes_of(tensor)?)).is_some() {
            return Err(Error::malformed("the list of tensors", &format!("`{name}` comes twice")));
        }
    }
    let views = sorted
        .iter()
        .map(|(name, (shaped, bytes))| {
            let view = TensorView::new(shaped.dtype, shaped.shape.clone(), bytes);
            Ok((*name, view.map_err(|error| Error::malformed(format!("tensor `{name}`"), &error))?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata))
        .map_err(|error| Error::malformed("the list of tensors", &error))
}

/// Reads the safetensors file at `path`; see [`from_safetensors`].
///
/// # Errors
/// As [`from_safetensors`], and [`Io`](surprisal_store::Error::Io).
pub fn read_safetensors(path: impl AsRef<Path>, options: &ReadOptions) -> Result<BTreeMap<String, Tensor>> {
    let path = path.as_ref();
    let bytes = read_bounded(path, options.max_bytes)?;
    from_safetensors(&format!("`{}`", path.display()), &bytes, options)
}

/// The name, the shape and the type of every tensor of a file, by name; values are not read.
///
/// # Errors
/// [`Io`](surprisal_store::Error::Io), [`TooLarge`](surprisal_store::Error::TooLarge) or [`Malformed`](surprisal_store::Error::Malformed).
pub fn shapes(path: impl AsRef<Path>) -> Result<Vec<(String, Vec<usize>, String)>> {
    let what = format!("`{}`", path.as_ref().display());
    let bytes = map(path.as_ref())?;
    check_header(&what, bytes.as_slice(), &ReadOptions::default())?;
    let file = SafeTensors::deserialize(bytes.as_slice()).map_err(|error| Error::malformed(what, &error))?;
    let described =
        |(name, view): (String, TensorView<'_>)| (name, view.shape().to_vec(), format!("{:?}", view.dtype()));
    let mut tensors: Vec<_> = file.tensors().into_iter().map(described).collect();
    tensors.sort();
    Ok(tensors)
}

/// The tensors in the bytes of a safetensors file, on the CPU. `what` names it in errors.
///
/// # Errors
/// [`TooLarge`](surprisal_store::Error::TooLarge), [`Malformed`](surprisal_store::Error::Malformed), [`Error::DType`] or [`Error::NonFinite`].
pub fn from_safetensors(what: &str, bytes: &[u8], options: &ReadOptions) -> Result<BTreeMap<String, Tensor>> {
    check_size(what, "", bytes.len() as u64, options.max_bytes, "bytes")?;
    check_header(what, bytes, options)?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| Error::malformed(what, &error))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let tensor = tensor_of(what, &name, &view, options)?;
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

/// The limits that the safetensors crate does not have: ours on the header's length and the number of tensors, and
/// no name twice (it would keep the last).
fn check_header(what: &str, bytes: &[u8], options: &ReadOptions) -> Result<()> {
    let (length, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| Error::malformed(what, &format!("{} bytes are too few for a header", bytes.len())))?;
    let length = u64::from_le_bytes(*length);
    check_size(what, "'s header", length, options.max_header_bytes, "bytes")?;
    let header = rest.get(..length as usize).ok_or_else(|| {
        let problem = format!("the header claims {length} bytes and {} are there", rest.len());
        Error::malformed(what, &problem)
    })?;
    let mut json = serde_json::Deserializer::from_slice(header);
    let names = json
        .deserialize_map(Names { max: options.max_tensors + 1 })
        .map_err(|error| Error::malformed(format!("{what}'s header"), &error))?;
    check_size(what, "", names, options.max_tensors as u64, "tensors")
}

/// Counts the keys of a JSON object, `__metadata__` aside, and refuses a repeated one. Stops counting past `max`.
struct Names {
    max: usize,
}

impl<'de> Visitor<'de> for Names {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let mut names = std::collections::BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            if names.len() <= self.max && !names.insert(name.clone()) {
                return Err(serde::de::Error::custom(format!("`{name}` comes twice")));
            }
        }
        names.remove("__metadata__");
        Ok(names.len() as u64)
    }
}

/// Type and shape as safetensors wants them.
struct Shaped {
    dtype: Dtype,
    shape: Vec<usize>,
}

const WRITTEN: &str = "f32, f64, bf16, f16, u32, i64 or u8";

impl Shaped {
    fn of(name: &str, tensor: &Tensor) -> Result<Self> {
        let dtype = match tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
            DType::BF16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
            DType::U32 => Dtype::U32,
            DType::I64 => Dtype::I64,
            DType::U8 => Dtype::U8,
            other => {
                return Err(Error::DType {
                    tensor: name.to_owned(),
                    found: other.as_str().to_owned(),
                    expected: WRITTEN,
                });
            }
        };
        Ok(Self { dtype, shape: tensor.dims().to_vec() })
    }
}

/// The elements of a tensor in row-major order, little-endian.
fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    macro_rules! little_endian {
        ($element:ty) => {
            tensor.flatten_all()?.to_vec1::<$element>()?.iter().flat_map(|x| x.to_le_bytes()).collect()
        };
    }
    Ok(match tensor.dtype() {
        DType::F32 => little_endian!(f32),
        DType::F64 => little_endian!(f64),
        DType::BF16 => little_endian!(half::bf16),
        DType::F16 => little_endian!(half::f16),
        DType::U32 => little_endian!(u32),
        DType::I64 => little_endian!(i64),
        // `Shaped::of` has let nothing else through.
        _ => tensor.flatten_all()?.to_vec1::<u8>()?,
    })
}

fn tensor_of(what: &str, name: &str, view: &TensorView, options: &ReadOptions) -> Result<Tensor> {
    const MAX_DIMENSIONS: usize = 8;
    if view.shape().len() > MAX_DIMENSIONS {
        let problem = format!("it has {} dimensions, at most {MAX_DIMENSIONS} are read", view.shape().len());
        return Err(Error::malformed(format!("tensor `{name}`"), &problem));
    }
    let bytes = view.data();
    // safetensors has checked that shape, type and length agree, without overflow.
    let tensor = match (view.dtype(), options.convert) {
        (Dtype::F32, _) => floats(what, name, bytes, f32::from_le_bytes, options)?,
        (Dtype::F64, true) => floats(what, name, bytes, |b| f64::from_le_bytes(b) as f32, options)?,
        (Dtype::BF16, true) => floats(what, name, bytes, |b| half::bf16::from_le_bytes(b).to_f32(), options)?,
        (Dtype::F16, true) => floats(what, name, bytes, |b| half::f16::from_le_bytes(b).to_f32(), options)?,
        (other, convert) => {
            let expected = if convert { "F32, F64, BF16 or F16" } else { "F32" };
            return Err(Error::DType { tensor: name.to_owned(), found: format!("{other:?}"), expected });
        }
    };
    Ok(Tensor::from_vec(tensor, view.shape(), &Device::Cpu)?)
}

fn floats<const N: usize>(
    what: &str,
    name: &str,
    bytes: &[u8],
    read: impl Fn([u8; N]) -> f32,
    options: &ReadOptions,
) -> Result<Vec<f32>> {
    let (elements, _) = bytes.as_chunks::<N>();
    let values: Vec<f32> = elements.iter().map(|&element| read(element)).collect();
    let bad =
        if options.allow_non_finite { None } else { values.iter().position(|value| !value.is_finite()) };
    match bad {
        Some(index) => {
            let (what, tensor) = (what.to_owned(), name.to_owned());
            Err(Error::NonFinite { what, tensor, index, value: f64::from(values[index]) })
        }
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_order_and_read_back_the_same() {
        let a = ("wte.weight".to_owned(), tensor(&[1.0, -2.5, 3.25, 0.0, -0.0, 1e-40], &[3, 2]));
        let b = ("h.0.attn.bias".to_owned(), tensor(&[0.1, 0.2], &[2]));
        let bytes = to_safetensors(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(bytes, to_safetensors(&[b.clone(), a.clone()]).unwrap());
        let header = String::from_utf8_lossy(&bytes[8..]);
        assert!(header.starts_with(r#"{"__metadata__":{"format":"pt"},"h.0.attn.bias":"#), "{header}");

        let back = from_safetensors("x", &bytes, &ReadOptions::default()).unwrap();
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
        let bytes = to_safetensors(&[("w".to_owned(), transposed)]).unwrap();
        let back = from_safetensors("x", &bytes, &ReadOptions::default()).unwrap();
        assert_eq!(back["w"].to_vec2::<f32>().unwrap(), [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
    }

    #[test]
    fn other_floats_are_converted_on_request_only() {
        for dtype in [DType::F64, DType::BF16, DType::F16] {
            let stored = tensor(&[1.5, -0.25], &[2]).to_dtype(dtype).unwrap();
            let bytes = to_safetensors(&[("w".to_owned(), stored)]).unwrap();
            let refused = from_safetensors("x", &bytes, &ReadOptions::default()).unwrap_err();
            assert!(matches!(refused, Error::DType { .. }), "{refused}");
            let options = ReadOptions { convert: true, ..ReadOptions::default() };
            let back = from_safetensors("x", &bytes, &options).unwrap();
            assert_eq!(back["w"].to_vec1::<f32>().unwrap(), [1.5, -0.25]);
        }
    }

    #[test]
    fn a_nan_is_refused_by_name_unless_allowed() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bytes = to_safetensors(&[("ln_f.weight".to_owned(), tensor(&[0.0, value], &[2]))]).unwrap();
            let error = from_safetensors("x", &bytes, &ReadOptions::default()).unwrap_err();
            assert!(
                matches!(&error, Error::NonFinite { tensor, index: 1, .. } if tensor == "ln_f.weight"),
                "{error}"
            );
            let options = ReadOptions { allow_non_finite: true, ..ReadOptions::default() };
            assert!(from_safetensors("x", &bytes, &options).is_ok());
        }
    }

    #[test]
    fn the_limits_hold() {
        let many: Vec<_> = (0..5).map(|i| (format!("t{i}"), tensor(&[0.0], &[1]))).collect();
        let bytes = to_safetensors(&many).unwrap();
        let options = ReadOptions { max_tensors: 4, ..ReadOptions::default() };
        let error = from_safetensors("x", &bytes, &options).unwrap_err();
        assert!(
            matches!(error, Error::Store(StoreError::TooLarge { size: 5, limit: 4, unit: "tensors", .. })),
            "{error}"
        );
        let options = ReadOptions { max_bytes: 10, ..ReadOptions::default() };
        assert!(matches!(
            from_safetensors("x", &bytes, &options),
            Err(Error::Store(StoreError::TooLarge { unit: "bytes", .. }))
        ));
        let options = ReadOptions { max_header_bytes: 10, ..ReadOptions::default() };
        assert!(matches!(
            from_safetensors("x", &bytes, &options),
            Err(Error::Store(StoreError::TooLarge { unit: "bytes", .. }))
        ));
    }
}
