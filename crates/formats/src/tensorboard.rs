//! A writer of TensorBoard event files with scalars.
//!
//! A file is a sequence of records `length: u64 | masked crc32c(length) | data | masked
//! crc32c(data)`, little-endian (TensorFlow's TFRecord). The data is a protocol-buffer message
//! `Event`, of which these fields are written:
//!
//! ```text
//! Event   { 1: double wall_time  2: int64 step  3: string file_version
//!           5: Summary summary  7: SessionLog session_log }
//! Summary { 1: repeated Value value }   Value { 1: string tag  2: float simple_value }
//! SessionLog { 1: enum status }
//! ```
//!
//! Field numbers: `tensorflow/core/util/event.proto` and `tensorflow/core/framework/summary.proto`.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use surprisal_store::{Error, Result, atomic::create_new, fault_injection::write_checked};

/// An event file, opened for appending. A scalar is in the file when [`SummaryWriter::scalars`]
/// returns.
#[derive(Debug)]
pub struct SummaryWriter {
    file: File,
    path: PathBuf,
}

impl SummaryWriter {
    /// Starts a new file `events.out.tfevents.SECONDS.PROCESS` in the existing directory `folder`.
    /// TensorBoard joins the files of a directory. With `resumed_at`, it drops the data of that and
    /// later steps from earlier files.
    ///
    /// All `seconds` in this module are Unix time.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: impl AsRef<Path>, seconds: f64, resumed_at: Option<u64>) -> Result<Self> {
        // TensorBoard reads the files in the order of their names.
        let name = format!("events.out.tfevents.{:010}.{}", seconds as u64, std::process::id());
        let path = folder.as_ref().join(name);
        let file = create_new(&path).map_err(|reason| Error::io("create", &path, reason))?;
        let mut writer = Self { file, path };
        writer.append(&Message::event(seconds, 0).bytes(3, b"brain.Event:2"))?;
        if let Some(step) = resumed_at {
            const START: u64 = 1;
            writer.append(&Message::event(seconds, step).message(7, &Message::default().varint(1, START)))?;
        }
        Ok(writer)
    }

    /// Appends the values of `step` with their tags, for example `loss/train`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalars(&mut self, step: u64, seconds: f64, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = Message::default();
        for (tag, value) in values {
            let value = Message::default().bytes(1, tag.as_bytes()).float(2, *value as f32);
            summary = summary.message(1, &value);
        }
        self.append(&Message::event(seconds, step).message(5, &summary))
    }

    fn append(&mut self, event: &Message) -> Result<()> {
        let written = write_checked(&mut self.file, &record(&event.0));
        written.map_err(|reason| Error::io("append to", &self.path, reason))
    }
}

/// A protocol-buffer message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn event(seconds: f64, step: u64) -> Self {
        Self::default().double(1, seconds).varint(2, step)
    }

    /// Appends a field's key: its number and wire type.
    fn key(mut self, field: u8, wire_type: u8) -> Self {
        self.0.push(field << 3 | wire_type);
        self
    }

    /// Appends an integer, seven bits per byte, lowest first; the high bit marks that more follow.
    fn raw_varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn varint(self, field: u8, value: u64) -> Self {
        self.key(field, 0).raw_varint(value)
    }

    fn double(self, field: u8, value: f64) -> Self {
        let mut message = self.key(field, 1);
        message.0.extend(value.to_le_bytes());
        message
    }

    fn float(self, field: u8, value: f32) -> Self {
        let mut message = self.key(field, 5);
        message.0.extend(value.to_le_bytes());
        message
    }

    fn bytes(self, field: u8, bytes: &[u8]) -> Self {
        let mut message = self.key(field, 2).raw_varint(bytes.len() as u64);
        message.0.extend(bytes);
        message
    }

    fn message(self, field: u8, inner: &Self) -> Self {
        self.bytes(field, &inner.0)
    }
}

/// The record of `data`.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut framed = Vec::with_capacity(data.len() + 16);
    framed.extend(length);
    framed.extend(masked_crc32c(&length).to_le_bytes());
    framed.extend(data);
    framed.extend(masked_crc32c(data).to_le_bytes());
    framed
}

/// TFRecord rotates checksums by 15 bits and adds a constant, because a CRC of data that contains
/// its own CRC is weak.
fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4), bit by bit, for records of a few hundred bytes.
fn crc32c(data: &[u8]) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ REVERSED_POLYNOMIAL } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4, and the usual check value of the nine digits.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn varints_have_seven_bits_a_byte() {
        let encoded = |value| Message::default().varint(2, value).0;
        assert_eq!(encoded(0), [0x10, 0x00]);
        assert_eq!(encoded(127), [0x10, 0x7f]);
        assert_eq!(encoded(300), [0x10, 0xac, 0x02]);
        assert_eq!(encoded(u64::MAX).len(), 11);
    }

    #[test]
    fn a_file_is_its_version_and_a_record_a_call() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = SummaryWriter::create(folder.path(), 1_700_000_000.5, Some(40)).unwrap();
        writer.scalars(41, 1_700_000_001.0, &[("loss/train", 2.5), ("loss/val", 3.0)]).unwrap();
        let bytes = std::fs::read(&writer.path).unwrap();
        let mut rest = &bytes[..];
        let mut records = Vec::new();
        while let Some((length, _)) = rest.split_first_chunk::<8>() {
            let length = u64::from_le_bytes(*length) as usize;
            records.push(&rest[12..12 + length]);
            assert_eq!(rest[..16 + length], record(&rest[12..12 + length]));
            rest = &rest[16 + length..];
        }
        assert_eq!(records.len(), 3);
        assert!(records[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        assert!(records[1].ends_with(b"\x10\x28\x3a\x02\x08\x01"), "step 40, session start");
        let value = b"\x0a\x0aloss/train\x15\x00\x00\x20\x40";
        assert!(records[2].windows(value.len()).any(|window| window == value), "2.5 is 0x40200000");
    }
}
