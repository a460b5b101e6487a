//! Cleaning of the bytes of a text: invalid bytes and NULs, line ends, and composed letters.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc, is_nfc_quick};

use crate::utf16::UTF8_MARK;
use crate::warnings::TextWarnings;

/// The treatment of bytes that are no text: bytes that are not UTF-8, and NULs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InvalidBytes {
    /// An error, with the position.
    #[default]
    Error,
    /// U+FFFD in their place.
    Replace,
    /// Their lines are left out.
    SkipLine,
}

/// The Unicode normal form that a text is brought to (Unicode Standard Annex 15).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormalForm {
    /// The text as it is.
    #[default]
    None,
    /// Composed letters: é is one character, not e and an accent.
    Nfc,
}

/// The cleaning of a text's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each kind of byte is kept or not")]
pub(crate) struct Cleaning {
    pub(crate) invalid: InvalidBytes,
    /// Whether any bytes are accepted, as by byte tokenizers.
    pub(crate) any_bytes: bool,
    /// Whether NULs are accepted.
    pub(crate) keep_nuls: bool,
    pub(crate) normalize: NormalForm,
    /// Whether byte-order marks at the starts of lines are kept.
    pub(crate) keep_marks: bool,
    /// Whether CRLF becomes a newline.
    pub(crate) crlf_is_newline: bool,
}

/// The first byte of `bytes` that is no text.
pub(crate) fn first_invalid(bytes: &[u8], keep_nuls: bool) -> Option<usize> {
    let nul = if keep_nuls { None } else { memchr::memchr(0, bytes) };
    let not_utf8 = std::str::from_utf8(bytes).err().map(|error| error.valid_up_to());
    nul.into_iter().chain(not_utf8).min()
}

impl NormalForm {
    /// `text` in this form.
    pub fn of(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Nfc if !is_nfc(text) => Cow::Owned(text.nfc().collect()),
            Self::Nfc | Self::None => Cow::Borrowed(text),
        }
    }
}

impl Cleaning {
    /// Cleans whole lines of a text in place.
    ///
    /// # Errors
    /// The position of the first byte that is no text, for [`InvalidBytes::Error`].
    pub(crate) fn clean(
        self,
        bytes: &mut Vec<u8>,
        (starts_line, look_for_nfc): (bool, bool),
        found: &mut TextWarnings,
    ) -> Result<(), usize> {
        if !self.any_bytes
            && let Some(at) = first_invalid(bytes, self.keep_nuls)
        {
            match self.invalid {
                InvalidBytes::Error => return Err(at),
                InvalidBytes::Replace => *bytes = self.replaced(bytes, found),
                InvalidBytes::SkipLine => {
                    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
                    let kept: Vec<&[u8]> =
                        lines.clone().filter(|line| first_invalid(line, self.keep_nuls).is_none()).collect();
                    found.skipped_lines += (lines.count() - kept.len()) as u64;
                    *bytes = kept.concat();
                }
            }
        }
        if !self.keep_marks {
            found.marks += remove_marks(bytes, starts_line);
        }
        found.count_bytes(bytes);
        if self.crlf_is_newline && memchr::memchr(b'\r', bytes).is_some() {
            *bytes = without_carriage_returns(bytes);
            *found = found.with_line_ends_if(true);
        }
        if (self.normalize == NormalForm::Nfc || look_for_nfc)
            && !bytes.is_ascii()
            && let Ok(text) = std::str::from_utf8(bytes)
            && is_nfc_quick(text.chars()) != IsNormalized::Yes
            && !is_nfc(text)
        {
            match self.normalize {
                NormalForm::Nfc => *bytes = text.nfc().collect::<String>().into_bytes(),
                NormalForm::None => found.not_nfc = true,
            }
        }
        Ok(())
    }

    /// `bytes` with U+FFFD for each invalid sequence (as [`String::from_utf8_lossy`]) and each NUL.
    fn replaced(self, bytes: &[u8], found: &mut TextWarnings) -> Vec<u8> {
        let mut text = String::with_capacity(bytes.len() + 16);
        for chunk in bytes.utf8_chunks() {
            for (n, part) in chunk.valid().split(|c| c == '\0' && !self.keep_nuls).enumerate() {
                if n > 0 {
                    text.push('\u{FFFD}');
                    found.replaced += 1;
                }
                text.push_str(part);
            }
            if !chunk.invalid().is_empty() {
                text.push('\u{FFFD}');
                found.replaced += chunk.invalid().len() as u64;
            }
        }
        text.into_bytes()
    }
}

/// Removes the byte-order marks at the starts of lines, which joined texts have; their number.
fn remove_marks(bytes: &mut Vec<u8>, starts_line: bool) -> u64 {
    let is_mark = |at: &usize| if *at == 0 { starts_line } else { bytes[at - 1] == b'\n' };
    let marks: Vec<usize> = memchr::memmem::find_iter(bytes, UTF8_MARK).filter(is_mark).collect();
    for at in marks.iter().rev() {
        bytes.drain(*at..at + UTF8_MARK.len());
    }
    marks.len() as u64
}

/// The bytes without the carriage returns before newlines.
fn without_carriage_returns(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut from = 0;
    for at in memchr::memchr_iter(b'\r', bytes).filter(|&at| bytes.get(at + 1) == Some(&b'\n')) {
        kept.extend_from_slice(&bytes[from..at]);
        from = at + 1;
    }
    kept.extend_from_slice(&bytes[from..]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(cleaning: Cleaning, bytes: &[u8]) -> (Result<String, usize>, TextWarnings) {
        let (mut bytes, mut found) = (bytes.to_vec(), TextWarnings::default());
        let result = cleaning.clean(&mut bytes, (true, true), &mut found);
        (result.map(|()| String::from_utf8(bytes).unwrap()), found)
    }

    #[test]
    fn bytes_that_are_no_text_are_located_replaced_or_skipped_with_their_lines() {
        let text = b"fine\nbad \xE9\xE9 byte\na\0b\n\xF0\x9F\x98 cut\nlast";
        let with = |invalid| cleaned(Cleaning { invalid, ..Cleaning::default() }, text);
        assert_eq!(with(InvalidBytes::Error).0, Err(9));
        let (text, found) = with(InvalidBytes::Replace);
        assert_eq!(text.unwrap(), "fine\nbad \u{FFFD}\u{FFFD} byte\na\u{FFFD}b\n\u{FFFD} cut\nlast");
        assert_eq!(found.replaced, 6);
        let (text, found) = with(InvalidBytes::SkipLine);
        assert_eq!((text.unwrap().as_str(), found.skipped_lines), ("fine\nlast", 3));
        let nuls = Cleaning { keep_nuls: true, ..Cleaning::default() };
        assert_eq!(cleaned(nuls, b"a\0b").0.unwrap(), "a\0b");
        assert_eq!(cleaned(nuls, b"a\0b\xFF").0, Err(3));
    }

    #[test]
    fn marks_of_joined_texts_are_removed() {
        let text = "\u{FEFF}a\u{FEFF}\n\u{FEFF}b\n".as_bytes();
        let (joined, found) = cleaned(Cleaning::default(), text);
        assert_eq!((joined.unwrap().as_str(), found.marks), ("a\u{FEFF}\nb\n", 2));
    }

    #[test]
    fn line_ends_and_accents_are_made_one() {
        let lines = Cleaning { crlf_is_newline: true, ..Cleaning::default() };
        assert_eq!(cleaned(lines, b"a\r\nb\rc\r\r\n\r").0.unwrap(), "a\nb\rc\r\n\r");
        let text = "cafe\u{301} \u{1100}\u{1161}";
        let (as_is, found) = cleaned(Cleaning::default(), text.as_bytes());
        assert_eq!((as_is.unwrap().as_str(), found.not_nfc), (text, true));
        let composed = Cleaning { normalize: NormalForm::Nfc, ..Cleaning::default() };
        assert_eq!(cleaned(composed, text.as_bytes()).0.unwrap(), "café 가");
        assert!(!cleaned(Cleaning::default(), "café 가".as_bytes()).1.not_nfc);
    }
}
