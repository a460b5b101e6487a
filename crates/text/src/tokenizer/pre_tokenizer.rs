//! Cuts bytes into words, eight at a time.
//!
//! The separators are KenLM's: NUL, tab, newline, carriage return and space. They are all below
//! 0x21, and the 28 other bytes below 0x21 are rare. Eight bytes are tested for this in four
//! operations (Mycroft's zero-byte trick, shifted).

use super::key::{Key, LOOKUP_BATCH};
use crate::error::Result;

/// Padding after the text, so that eight bytes can be loaded at any position of it.
pub(crate) const LOAD_PADDING: [u8; 8] = [0; 8];

/// A word of a text, or a newline, before the vocabulary lookup.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PreToken {
    pub(crate) key: Key,
    /// Its position in bytes.
    pub(crate) at: usize,
}

impl PreToken {
    pub(crate) fn is_newline(self) -> bool {
        self.key == NEWLINE
    }

    pub(crate) fn bytes(self, padded: &[u8]) -> &[u8] {
        &padded[self.at..self.at + self.key.len]
    }
}

const NEWLINE: Key = Key { bits: b'\n' as u64, len: 1 };

pub(crate) fn is_separator(byte: u8) -> bool {
    matches!(byte, b'\0' | b'\t' | b'\n' | b'\r' | b' ')
}

#[inline]
fn load(padded: &[u8], at: usize) -> u64 {
    padded[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The index in eight bytes of the first one below 0x21.
#[inline]
fn before_control(bits: u64) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    // A borrow can mark a wrong byte, but only above a correctly marked one.
    let marks = bits.wrapping_sub(0x21 * ONES) & !bits & (0x80 * ONES);
    (marks != 0).then(|| (marks.trailing_zeros() / 8) as usize)
}

/// Calls `take` with the words and newlines of `padded`, a text followed by [`LOAD_PADDING`], about
/// [`LOOKUP_BATCH`] at a time.
pub(crate) fn pre_tokenize(padded: &[u8], mut take: impl FnMut(&[PreToken]) -> Result<()>) -> Result<()> {
    let end = padded.len() - LOAD_PADDING.len();
    // A step finds a word and a newline at most.
    let mut tokens = [PreToken { key: NEWLINE, at: 0 }; LOOKUP_BATCH + 2];
    let (mut at, mut count) = (0, 0);
    while at < end {
        let bits = load(padded, at);
        let (key, stop) = match before_control(bits) {
            Some(len) if is_separator(padded[at + len]) => {
                (Key { bits: bits & ((1 << (8 * len)) - 1), len }, at + len)
            }
            _ => {
                let stop = word_end(padded, at);
                (Key::new(&padded[at..stop]), stop)
            }
        };
        tokens[count] = PreToken { key, at };
        count += usize::from(key.len > 0);
        tokens[count] = PreToken { key: NEWLINE, at: stop };
        count += usize::from(padded[stop] == b'\n');
        at = stop + 1;
        if count >= LOOKUP_BATCH {
            take(&tokens[..count])?;
            count = 0;
        }
    }
    take(&tokens[..count])
}

/// The end of the word that starts at `at`.
fn word_end(padded: &[u8], mut at: usize) -> usize {
    loop {
        match before_control(load(padded, at)) {
            None => at += 8,
            Some(len) if is_separator(padded[at + len]) => return at + len,
            Some(len) => at += len + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_are_what_stands_between_separators(
            text in "([a-z]{0,12}|[ \\n\\t\\r\\x00]{1,9}|[!\\x01\\x0B\\x0C\\x1F\\x7F\\u{A0}\\u{3000}é日]{1,9}){0,30}",
        ) {
            let mut expected = Vec::new();
            let mut word = String::new();
            for (at, c) in text.char_indices().chain([(text.len(), '\0')]) {
                if matches!(c, '\0' | '\t' | '\n' | '\r' | ' ') {
                    if !word.is_empty() {
                        expected.push(format!("{}:{word}", at - word.len()));
                        word.clear();
                    }
                    if c == '\n' {
                        expected.push("newline".into());
                    }
                } else {
                    word.push(c);
                }
            }
            let mut tokens = Vec::new();
            let padded = [text.as_bytes(), &LOAD_PADDING].concat();
            pre_tokenize(&padded, |some| {
                assert!(some.len() <= LOOKUP_BATCH + 1);
                tokens.extend(some.iter().map(|token| {
                    let bytes = token.bytes(&padded);
                    assert_eq!(token.key, Key::new(bytes));
                    if token.is_newline() {
                        return "newline".to_owned();
                    }
                    format!("{}:{}", token.at, String::from_utf8_lossy(bytes))
                }));
                Ok(())
            })
            .unwrap();
            prop_assert_eq!(tokens, expected);
        }
    }
}
