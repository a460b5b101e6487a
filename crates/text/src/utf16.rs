//! UTF-16 as UTF-8.

use std::io::{self, Cursor, Read};

/// The byte-order mark of UTF-8.
pub(crate) const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";
/// A byte that is never in UTF-8, for a code unit that is no part of a character.
pub(crate) const LONE_SURROGATE: u8 = 0xFE;
/// The number of bytes at the start of a text from which UTF-16 without a byte-order mark is told.
const SNIFF_BYTES: usize = 4096;

/// The order of bytes in a code unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    /// The byte order of a text in UTF-16 that starts with `head`: by its byte-order mark, or where
    /// it reads as a text in that order and is no other text.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        match head {
            // UTF-32 starts with this mark, too.
            [0xFF, 0xFE, 0, 0, ..] => None,
            [0xFF, 0xFE, ..] => Some(Self::Little),
            [0xFE, 0xFF, ..] => Some(Self::Big),
            _ => {
                let head = &head[..head.len().min(SNIFF_BYTES)];
                let no_utf8 = std::str::from_utf8(head).is_err_and(|error| error.error_len().is_some());
                // Half of a Western text in UTF-16 is printable ASCII, and less of others.
                let ascii = head.iter().filter(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\r')).count();
                // High bytes of scripts below U+2000 are controls, rare in a text in UTF-8.
                let is_control = |byte: &&u8| **byte < b' ' && !matches!(**byte, b'\n' | b'\r');
                let controls = head.iter().filter(is_control).count();
                let no_text = no_utf8 || head.contains(&0) && 5 * controls >= 2 * head.len();
                if !no_text || 4 * ascii >= 3 * head.len() {
                    return None;
                }
                [Self::Little, Self::Big].into_iter().find(|order| reads_as_text(&order.units(head)))
            }
        }
    }

    fn units(self, bytes: &[u8]) -> Vec<u16> {
        let unit = match self {
            Self::Little => u16::from_le_bytes,
            Self::Big => u16::from_be_bytes,
        };
        bytes.as_chunks::<2>().0.iter().map(|&bytes| unit(bytes)).collect()
    }
}

/// Whether `units` are characters of texts: those of the common scripts, with spaces, ends of lines
/// or full stops among them unless nearly all are Western.
fn reads_as_text(units: &[u16]) -> bool {
    let (mut western, mut marks, mut rare) = (0, 0, 0);
    // The last character may be cut.
    let cut = usize::from(units.last().is_some_and(|unit| (0xD800..0xDC00).contains(unit)));
    for c in char::decode_utf16(units[..units.len() - cut].iter().copied()) {
        match c {
            Ok('\0'..='\x08' | '\x0B' | '\x0E'..='\x1F' | '\x7F'..='\u{9F}') | Err(_) => return false,
            Ok(' ' | '\n' | '\r' | '\t') => (western, marks) = (western + 1, marks + 1),
            Ok('\u{3000}'..='\u{3002}' | '\u{FF0C}') => marks += 1,
            Ok(..='\u{24F}' | '\u{2010}'..='\u{2026}') => western += 1,
            Ok(
                '\u{370}'..='\u{1FFF}'
                | '\u{3003}'..='\u{30FF}'
                | '\u{4E00}'..='\u{9FFF}'
                | '\u{AC00}'..='\u{D7A3}'
                | '\u{FF00}'..='\u{FFEF}'
                | '\u{1F300}'..='\u{1FAFF}',
            ) => {}
            Ok(_) => rare += 1,
        }
    }
    let count = units.len();
    20 * rare <= count
        && (count >= 2 && 10 * western >= 9 * count || count >= 4 && 100 * marks >= count.max(100))
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
        let half = bytes.as_chunks::<2>().1;
        let mut units = self.order.units(&bytes);
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
        // A text in UTF-8 with a NUL, whose pairs of bytes are ideographs and a newline.
        assert_eq!(ByteOrder::of("<unk>\u{e9}\u{b}\n\0".as_bytes()), None);
        assert_eq!(ByteOrder::of(&[0xFF, 0xFE, 0, 0, 0x41, 0, 0, 0]), None);
        let without_mark: Vec<u8> = "a text".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(ByteOrder::of(&without_mark), Some(ByteOrder::Little));
    }

    #[test]
    fn utf16_without_a_mark_is_told_in_any_script_and_nothing_else_is() {
        let texts = [
            "Ein Text mit 😀 darin.\n",
            "Добрый день, мир!\n",
            "你好，世界。今天天气很好。\n",
            "안녕하세요 세계\n",
            "Γειά σου Κόσμε\n",
        ];
        for text in texts {
            for repeats in [1, 300] {
                let text = text.repeat(repeats);
                let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
                let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
                assert_eq!(ByteOrder::of(&little), Some(ByteOrder::Little), "{text}");
                assert_eq!(ByteOrder::of(&big), Some(ByteOrder::Big), "{text}");
                assert_eq!(ByteOrder::of(text.as_bytes()), None, "{text}");
                // In an 8-bit encoding, with the low bytes alone.
                let narrow: Vec<u8> = text.encode_utf16().map(|unit| unit as u8).collect();
                assert!(narrow.contains(&0) || ByteOrder::of(&narrow).is_none(), "{text}");
            }
        }
        let mut state = 1u64;
        for length in (0..20_000usize).map(|n| n % 300) {
            let mut draw = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as u8
            };
            let bytes: Vec<u8> = (0..length).map(|_| draw()).collect();
            assert!(
                length < 16
                    || ByteOrder::of(&bytes).is_none()
                    || bytes.starts_with(&[0xFE, 0xFF])
                    || bytes.starts_with(&[0xFF, 0xFE]),
                "{bytes:?}"
            );
            // Small numbers of 16 and of 32 bits.
            let numbers: Vec<u8> = bytes.iter().flat_map(|&byte| [byte, byte % 3]).collect();
            assert!(length < 64 || ByteOrder::of(&numbers).is_none(), "{numbers:?}");
            let wide: Vec<u8> = bytes.iter().flat_map(|&byte| [byte, 0, 0, 0]).collect();
            assert!(length < 4 || ByteOrder::of(&wide).is_none());
        }
        assert_eq!(ByteOrder::of(b"a/one.txt\0a/two.txt\0b/three.txt\0"), None);
    }
}
