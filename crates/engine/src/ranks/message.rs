//! Messages between ranks as bytes: a header in JSON, then numbers of 4 bytes, exact to the bit.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// A message that is being written.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// A message with `header`, whose numbers have to be finite.
    pub(crate) fn new(header: &impl Serialize) -> Result<Self> {
        let header = serde_json::to_vec(header)?;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        Ok(Self(bytes))
    }

    /// Room for `count` numbers.
    fn room(&mut self, count: usize) -> impl Iterator<Item = &mut [u8]> {
        let start = self.0.len();
        self.0.resize(start + 4 * count, 0);
        self.0[start..].chunks_exact_mut(4)
    }

    pub(crate) fn ids(&mut self, ids: &[u32]) {
        self.room(ids.len()).zip(ids).for_each(|(bytes, id)| bytes.copy_from_slice(&id.to_le_bytes()));
    }

    pub(crate) fn floats(&mut self, values: &[f32]) {
        let room = self.room(values.len());
        room.zip(values).for_each(|(bytes, value)| bytes.copy_from_slice(&value.to_le_bytes()));
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A message that is being read.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The header of a message, and what follows it.
    pub(crate) fn new<T: DeserializeOwned>(bytes: &'a [u8]) -> Result<(T, Self)> {
        let mut rest = Self(bytes);
        let length = rest.take(8)?.try_into().map(u64::from_le_bytes).map_err(|_| cut_short())?;
        let header = serde_json::from_slice(rest.take(length as usize)?)?;
        Ok((header, rest))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn numbers<T>(&mut self, count: usize, of: impl Fn([u8; 4]) -> T) -> Result<Vec<T>> {
        let bytes = self.take(4 * count)?.chunks_exact(4);
        Ok(bytes.map(|bytes| of([bytes[0], bytes[1], bytes[2], bytes[3]])).collect())
    }

    pub(crate) fn ids(&mut self, count: usize) -> Result<Vec<u32>> {
        self.numbers(count, u32::from_le_bytes)
    }

    pub(crate) fn floats(&mut self, count: usize) -> Result<Vec<f32>> {
        self.numbers(count, f32::from_le_bytes)
    }
}

fn cut_short() -> Error {
    Error::failed("a message of another rank is too short: do all ranks run the same program?")
}
