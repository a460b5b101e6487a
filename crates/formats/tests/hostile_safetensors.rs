//! Hostile safetensors files: each is refused with a typed error, within a second and within
//! bounded memory. They have a process of their own because peak memory is measured.

use std::time::{Duration, Instant};

use surprisal_formats::{
    Error,
    weights::{Accept, from_safetensors},
};
use surprisal_store::Error as StoreError;

fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

fn tensor(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

fn of(tensors: &[String], data: &[u8]) -> Vec<u8> {
    file(format!("{{{}}}", tensors.join(",")).as_bytes(), data)
}

/// Hostile files by name.
fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let good = tensor("w", "F32", "[2]", "[0,8]");
    let claims = |length: u64| [&length.to_le_bytes(), &b"{}"[..]].concat();
    let nested = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
    let many: Vec<String> = (0..20_000).map(|i| tensor(&i.to_string(), "F32", "[0]", "[0,0]")).collect();
    let nan = [1.0_f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat();
    let infinite = [1.0_f32.to_le_bytes(), f32::NEG_INFINITY.to_le_bytes()].concat();
    vec![
        ("an empty file", Vec::new()),
        ("seven bytes", vec![0; 7]),
        ("a header of 2^63 bytes", claims(1 << 63)),
        ("a header of 2^64 - 1 bytes", claims(u64::MAX)),
        ("a header longer than the file", claims(1000)),
        ("a header of 100 MB", file(&vec![b' '; 100_000_000], &[])),
        ("a header that is no UTF-8", file(b"{\"\xff\xfe\":1}", &[])),
        ("a header that is no JSON", file(b"{\"w\":", &[])),
        ("a header that is a list", file(b"[]", &[])),
        ("a header of 10,000 lists in each other", file(&nested, &[])),
        ("a tensor of 10,000 lists in each other", file(&[b"{\"w\":", &nested[..], b"}"].concat(), &[])),
        ("metadata that is no object of strings", file(br#"{"__metadata__":{"format":{"a":1}}}"#, &[])),
        ("two tensors that overlap", of(&[good.clone(), tensor("v", "F32", "[2]", "[4,12]")], &[0; 12])),
        ("a hole between two tensors", of(&[good.clone(), tensor("v", "F32", "[2]", "[12,20]")], &[0; 20])),
        ("a hole before the first tensor", of(&[tensor("w", "F32", "[2]", "[4,12]")], &[0; 12])),
        ("bytes after the last tensor", of(std::slice::from_ref(&good), &[0; 9])),
        ("a tensor past the end", of(&[tensor("w", "F32", "[4]", "[0,16]")], &[0; 8])),
        ("offsets the wrong way round", of(&[tensor("w", "F32", "[2]", "[8,0]")], &[0; 8])),
        ("a negative offset", of(&[tensor("w", "F32", "[2]", "[-8,0]")], &[0; 8])),
        ("a shape whose product overflows", {
            of(&[tensor("w", "F32", "[4294967296,4294967296,4]", "[0,8]")], &[0; 8])
        }),
        ("a shape of more elements than bytes", of(&[tensor("w", "F32", "[1000000000]", "[0,8]")], &[0; 8])),
        ("one name twice", of(&[good.clone(), good.clone()], &[0; 8])),
        ("20,000 tensors of no elements", of(&many, &[])),
        ("a tensor of nine dimensions", of(&[tensor("w", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]")], &[0; 8])),
        ("a type that does not exist", of(&[tensor("w", "F31", "[2]", "[0,8]")], &[0; 8])),
        ("a type that is not f32", of(&[tensor("w", "I32", "[2]", "[0,8]")], &[0; 8])),
        ("a NaN", of(std::slice::from_ref(&good), &nan)),
        ("an infinity", of(std::slice::from_ref(&good), &infinite)),
    ]
}

#[test]
fn every_hostile_file_is_refused_soon_and_within_memory() {
    let cases = cases();
    let before = peak_memory();
    for (name, bytes) in &cases {
        let started = Instant::now();
        let error = match from_safetensors("the test", bytes, Accept::F32) {
            Err(error) => error,
            Ok(tensors) => panic!("{name} was read as {} tensors", tensors.len()),
        };
        assert!(started.elapsed() < Duration::from_secs(1), "{name} took {:?}", started.elapsed());
        let expected = match *name {
            "a header of 2^63 bytes" | "a header of 2^64 - 1 bytes" | "a header of 100 MB" => {
                matches!(error, Error::Store(StoreError::TooLarge { unit: "bytes", .. }))
            }
            // Refused by the header length or the number of tensors.
            "20,000 tensors of no elements" => matches!(error, Error::Store(StoreError::TooLarge { .. })),
            "a type that is not f32" => matches!(error, Error::DType { .. }),
            "a NaN" | "an infinity" => matches!(error, Error::NonFinite { index: 1, .. }),
            _ => matches!(error, Error::Store(StoreError::Malformed { .. })),
        };
        assert!(expected, "{name}: {error:?}");
    }
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        assert!(after - before < 64 << 20, "reading took {} MiB", (after - before) >> 20);
    }
}

/// The worst case within the limits: a header of numbers, whose parsed form is many times larger
/// than the text.
#[test]
fn a_header_within_the_limit_costs_bounded_memory() {
    let shape = format!("[{}0]", "0,".repeat(500_000));
    let bytes = of(&[tensor("w", "F32", &shape, "[0,0]")], &[]);
    let before = peak_memory();
    let started = Instant::now();
    let error = from_safetensors("the test", &bytes, Accept::F32).unwrap_err();
    assert!(error.to_string().contains("500001 dimensions"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(1));
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        assert!(after - before < 128 << 20, "reading took {} MiB", (after - before) >> 20);
    }
}

/// The peak resident memory of this process in bytes, if the system reports it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[test]
fn every_truncation_and_every_flip_in_the_header_is_an_error_or_says_the_same_of_every_tensor() {
    let bytes = of(&[tensor("a", "F32", "[2]", "[0,8]"), tensor("b", "F32", "[1,3]", "[8,20]")], &[1; 20]);
    let original = from_safetensors("the test", &bytes, Accept::F32).unwrap();
    for length in 0..bytes.len() {
        assert!(from_safetensors("the test", &bytes[..length], Accept::F32).is_err(), "cut to {length}");
    }
    for bit in 0..(bytes.len() - 20) * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // A flipped bit in a name or shape can give another valid file; hashes and the model's list
        // of names detect that.
        if let Ok(tensors) = from_safetensors("the test", &flipped, Accept::F32) {
            let elements: usize = tensors.values().map(candle_core::Tensor::elem_count).sum();
            assert_eq!((tensors.len(), elements), (original.len(), 5), "bit {bit}");
        }
    }
}
