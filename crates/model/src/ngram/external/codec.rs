//! Streams of small numbers, in blocks: seven bits per byte, the highest bit marks that another
//! byte follows.

use crate::{Error, Result};

/// The length in bytes from which a block is passed on.
pub(super) const BLOCK_BYTES: usize = 1 << 16;

/// The blocks of one stream, in order.
pub trait Blocks: Send {
    /// Replaces `block` by the next block; false at the end.
    ///
    /// # Errors
    /// [`Error::Stream`].
    fn next(&mut self, block: &mut Vec<u8>) -> Result<bool>;
}

/// A stream in memory, of one block.
impl Blocks for Option<Vec<u8>> {
    fn next(&mut self, block: &mut Vec<u8>) -> Result<bool> {
        let next = self.take();
        let is_some = next.is_some();
        *block = next.unwrap_or_default();
        Ok(is_some)
    }
}

/// The error of a stream that does not follow its format, although its checksums match.
pub(super) fn malformed() -> Error {
    Error::Config("a temporary file of counts is malformed".into())
}

/// Appends `value`.
#[inline]
pub(super) fn put(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A writer of one stream.
#[derive(Debug, Default)]
pub(super) struct StreamWriter {
    pub(super) bytes: Vec<u8>,
}

impl StreamWriter {
    /// Passes on a full block; called between numbers.
    #[inline]
    pub(super) fn cut(&mut self, put: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        if self.bytes.len() < BLOCK_BYTES { Ok(()) } else { self.end(put) }
    }

    /// Passes on the last block.
    pub(super) fn end(&mut self, put: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        if !self.bytes.is_empty() {
            put(&self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

/// A reader of one stream.
pub(super) struct StreamReader {
    blocks: Box<dyn Blocks>,
    block: Vec<u8>,
    at: usize,
}

impl StreamReader {
    pub(super) fn new(blocks: Box<dyn Blocks>) -> Self {
        Self { blocks, block: Vec::new(), at: 0 }
    }

    /// Whether there is another number.
    #[inline]
    pub(super) fn more(&mut self) -> Result<bool> {
        while self.at == self.block.len() {
            self.at = 0;
            if !self.blocks.next(&mut self.block)? {
                self.block.clear();
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next number.
    #[inline]
    pub(super) fn get(&mut self) -> Result<u64> {
        if self.at == self.block.len() && !self.more()? {
            return Err(malformed());
        }
        let byte = self.block[self.at];
        self.at += 1;
        if byte < 0x80 { Ok(u64::from(byte)) } else { self.rest(byte) }
    }

    /// The rest of a number of several bytes; a block ends with a number.
    #[inline]
    fn rest(&mut self, first: u8) -> Result<u64> {
        let (mut value, mut shift) = (u64::from(first & 0x7F), 7);
        loop {
            let byte = *self.block.get(self.at).ok_or_else(malformed)?;
            self.at += 1;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
            if shift > 63 {
                return Err(malformed());
            }
        }
    }

    /// The next number of 32 bits.
    #[inline]
    pub(super) fn get_u32(&mut self) -> Result<u32> {
        u32::try_from(self.get()?).map_err(|_| malformed())
    }

    /// The next number of 64 bits that is not coded.
    #[inline]
    pub(super) fn get_fixed(&mut self) -> Result<u64> {
        if self.at == self.block.len() && !self.more()? {
            return Err(malformed());
        }
        let bytes = self.block.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or_else(malformed)?;
        self.at += 8;
        Ok(u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Several(Vec<Vec<u8>>);
    impl Blocks for Several {
        fn next(&mut self, block: &mut Vec<u8>) -> Result<bool> {
            let next = (!self.0.is_empty()).then(|| self.0.remove(0));
            Ok(next.map(|next| *block = next).is_some())
        }
    }

    #[test]
    fn numbers_come_back_across_blocks() {
        let numbers: Vec<u64> =
            (0..70).flat_map(|bits| [1_u64.checked_shl(bits).unwrap_or(7), 1 << (bits % 64) | 1]).collect();
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        for part in numbers.chunks(9) {
            let mut bytes = Vec::new();
            for &number in part {
                put(number, &mut bytes);
            }
            bytes.extend(part[0].to_le_bytes());
            blocks.push(bytes);
        }
        let mut reader = StreamReader::new(Box::new(Several(blocks.clone())));
        for part in numbers.chunks(9) {
            for &number in part {
                assert_eq!(reader.get().unwrap(), number);
            }
            assert_eq!(reader.get_fixed().unwrap(), part[0]);
        }
        assert!(!reader.more().unwrap());
        assert!(reader.get().is_err());
        let mut cut = StreamReader::new(Box::new(Some(vec![0x80])));
        assert!(cut.get().is_err());
        assert!(StreamReader::new(Box::new(Some(vec![0xFF; 12]))).get().is_err());
    }
}
