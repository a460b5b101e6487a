//! Bytes as printable characters, as GPT-2's tokenizer writes them (Radford et al. 2019).
//!
//! A printable byte is written as itself, the others as U+0100, U+0101, … in their order, so that
//! a vocabulary of byte strings fits into a JSON file.

use serde_json::json;

use super::json::{JsonFile, refuse};
use crate::error::Result;

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character for a byte.
pub(super) fn byte_to_unicode(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let number = (0..byte).filter(|&b| !is_printable(b)).count() as u32;
    char::from_u32(0x100 + number).unwrap_or('\u{FFFD}')
}

/// Bytes as printable characters, as vocabularies in GPT-2's format have them.
pub fn printable_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| byte_to_unicode(byte)).collect()
}

/// The inverse of [`byte_to_unicode`].
pub(super) fn unicode_to_byte(c: char) -> Option<u8> {
    let code = c as u32;
    if let Ok(byte) = u8::try_from(code) {
        return is_printable(byte).then_some(byte);
    }
    (0..=255u8).filter(|&byte| !is_printable(byte)).nth(code.checked_sub(0x100)? as usize)
}

/// Whether a byte-level file has no merges and does not cut words first.
///
/// BPE learns no merges from a text without a repeated pair, but such a file still cuts words.
pub(super) fn is_bytes_only(file: &JsonFile<'_>) -> bool {
    let no_merges = file.model().merges.as_array().is_some_and(Vec::is_empty);
    file.is("BPE", &["ByteLevel"]) && no_merges && file.pre_tokenizer()["use_regex"] != json!(true)
}

/// Refuses settings of a byte-level file that this program does not use.
pub(super) fn check_byte_level(file: &JsonFile<'_>) -> Result<()> {
    let model = file.model();
    for (key, value) in [
        ("dropout", &model.dropout),
        ("unk_token", &model.unk_token),
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
        ("byte_fallback", &model.byte_fallback),
        ("fuse_unk", &model.fuse_unk),
    ] {
        if !(value.is_null() || *value == json!(false) || *value == json!("")) {
            return refuse(format!("its BPE model sets {key}, which this program does not use"));
        }
    }
    if file.pre_tokenizer()["add_prefix_space"] == json!(true) {
        return refuse("its pre-tokenizer adds a space before the text");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn bytes_and_characters_map_both_ways() {
        for byte in 0..=255u8 {
            assert_eq!(unicode_to_byte(byte_to_unicode(byte)), Some(byte));
        }
        let ascii = [b' ', b'\n', b'A'].map(byte_to_unicode);
        assert_eq!(ascii, ['Ġ', 'Ċ', 'A']);
        let mut alphabet: Vec<char> = (0..=255).map(byte_to_unicode).collect();
        alphabet.sort_unstable();
        let mut theirs: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        theirs.sort_unstable();
        assert_eq!(alphabet, theirs);
    }
}
