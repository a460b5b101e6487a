//! UTF-16 as UTF-8.

use std::io::{self, Cursor, Read};

/// A byte that is never in UTF-8, for a code unit that is no part of a character.
pub(crate) const LONE_SURROGATE: u8 = 0xFE;
/// The number of bytes at the start of a text from which UTF-16 without a byte-order mark is told.
const SNIFF_BYTES: usize = 512;

/// The order of bytes in a code unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    /// The byte order of a text in UTF-16 that starts with `head`: by its byte-order mark, or where
    /// nearly every second byte is NUL, as in a Western text.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        match head {
            // UTF-32 starts with this mark, too.
            [0xFF, 0xFE, 0, 0, ..] => None,
            [0xFF, 0xFE, ..] => Some(Self::Little),
            [0xFE, 0xFF, ..] => Some(Self::Big),
            _ => {
                let head = &head[..head.len().min(SNIFF_BYTES) / 2 * 2];
                let nuls = |at: usize| head.iter().skip(at).step_by(2).filter(|&&byte| byte == 0).count();
                let (even, odd, pairs) = (nuls(0), nuls(1), head.len() / 2);
                let most = |nuls: usize| pairs >= 2 && 10 * nuls >= 9 * pairs;
                match (even, odd) {
                    (0, odd) if most(odd) => Some(Self::Little),
                    (even, 0) if most(even) => Some(Self::Big),
                    _ => None,
                }
            }
        }
    }
}

/// A reader of UTF-16 as UTF-8, with [`LONE_SURROGATE`] for unpaired surrogates and half a unit.
pub(crate) struct Utf16Reader<R> {
    source: R,
    order: ByteOrder,
    /// Bytes read and not yet converted, fewer than four.
    rest: Vec<u8>,
    /// Converted bytes.
    ready: Cursor<Vec<u8>>,
    ended: bool,
}

impl<R: Read> Utf16Reader<R> {
    pub(crate) fn new(source: R, order: ByteOrder) -> Self {
        Self { source, order, rest: Vec::new(), ready: Cursor::default(), ended: false }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        let mut bytes = std::mem::take(&mut self.rest);
        let wanted = (1 << 16) - bytes.len();
        self.ended = (&mut self.source).take(wanted as u64).read_to_end(&mut bytes)? < wanted;
        let (units, half) = bytes.as_chunks::<2>();
        let mut units: Vec<u16> = units
            .iter()
            .map(|&unit| match self.order {
                ByteOrder::Little => u16::from_le_bytes(unit),
                ByteOrder::Big => u16::from_be_bytes(unit),
            })
            .collect();
        let mut kept = half.len();
        // The second half of a pair may follow.
        if !self.ended && units.last().is_some_and(|unit| (0xD800..0xDC00).contains(unit)) {
            units.pop();
            kept += 2;
        }
        let mut buffer = [0; 4];
        for unit in char::decode_utf16(units) {
            match unit {
                Ok(c) => ready.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes()),
                Err(_) => ready.push(LONE_SURROGATE),
            }
        }
        if self.ended {
            ready.extend(half.iter().map(|_| LONE_SURROGATE));
        } else {
            self.rest = bytes[bytes.len() - kept..].to_vec();
        }
        self.ready = Cursor::new(ready);
        Ok(())
    }
}

impl<R: Read> Read for Utf16Reader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.ready.read(out)?;
            if count > 0 || out.is_empty() || self.ended {
                return Ok(count);
            }
            self.fill()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn utf16_reads_as_the_same_text_in_utf8(text in "[a-zé日😀\r\n]{0,200}", repeats in 1usize..400, big: bool, mark: bool) {
            let text = text.repeat(repeats);
            let units = mark.then_some(0xFEFF).into_iter().chain(text.encode_utf16());
            let bytes: Vec<u8> =
                units.flat_map(|unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect();
            let order = if big { ByteOrder::Big } else { ByteOrder::Little };
            if mark && !bytes[2..].starts_with(&[0, 0]) {
                prop_assert_eq!(ByteOrder::of(&bytes), Some(order));
            }
            let mut read = String::new();
            Utf16Reader::new(&bytes[..], order).read_to_string(&mut read).unwrap();
            prop_assert_eq!(read.strip_prefix('\u{FEFF}').unwrap_or(&read), text);
        }
    }

    #[test]
    fn halves_of_characters_are_invalid_bytes() {
        // A lone high surrogate, a lone low one, and half a code unit.
        let bytes = [0x41, 0, 0x3D, 0xD8, 0x42, 0, 0x00, 0xDE, 0x43];
        let mut read = Vec::new();
        Utf16Reader::new(&bytes[..], ByteOrder::Little).read_to_end(&mut read).unwrap();
        assert_eq!(read, b"A\xFEB\xFE\xFE");
    }

    #[test]
    fn other_texts_are_not_taken_for_utf16() {
        assert_eq!(ByteOrder::of("a plain text".as_bytes()), None);
        assert_eq!(ByteOrder::of(&[0; 100]), None);
        assert_eq!(ByteOrder::of(b"a\0"), None);
        assert_eq!(ByteOrder::of(&[0xFF, 0xFE, 0, 0, 0x41, 0, 0, 0]), None);
        let without_mark: Vec<u8> = "a text".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(ByteOrder::of(&without_mark), Some(ByteOrder::Little));
    }
}
