//! Bytes as characters, and byte-pair encoding over them.
//!
//! GPT-2's tokenizer writes each byte as one printable character, so that a vocabulary of byte strings can be a file
//! of text: bytes that print stand for themselves, the others are numbered from U+0100 on (Radford et al. 2019).

use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Library, TokenizerBuilder};

use super::table::specials;
use crate::Unit;
use crate::error::{Error, Result};
use crate::pieces::Piece;

/// Bytes that print, and stand for themselves.
fn prints(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character that stands for a byte.
pub(super) fn to_char(byte: u8) -> char {
    if prints(byte) {
        return char::from(byte);
    }
    let number = (0..byte).filter(|&b| !prints(b)).count() as u32;
    char::from_u32(0x100 + number).unwrap_or('\u{FFFD}')
}

/// The opposite of [`to_char`].
fn to_byte(c: char) -> Option<u8> {
    let code = c as u32;
    if let Ok(byte) = u8::try_from(code) {
        return prints(byte).then_some(byte);
    }
    (0..=255u8).filter(|&byte| !prints(byte)).nth(code.checked_sub(0x100)? as usize)
}

/// A failure of the library.
pub(super) fn library(error: impl std::fmt::Display) -> Error {
    Error::Tokenizer(error.to_string())
}

/// Trains byte-level BPE on `pieces`.
pub(crate) fn train_bpe(
    vocab_size: usize,
    unit: Unit,
    pieces: impl Iterator<Item = Result<Piece>> + Send,
) -> Result<Library> {
    // All but the unknown, which no byte is.
    let specials: Vec<_> = specials(unit)[1..].iter().map(|name| AddedToken::from(*name, true)).collect();
    let smallest = 256 + specials.len();
    if vocab_size < smallest {
        let problem = format!("a byte-level BPE vocabulary has at least {smallest} tokens, not {vocab_size}");
        return Err(Error::Setting(problem));
    }
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        tokenizers::NormalizerWrapper,
        ByteLevel,
        tokenizers::PostProcessorWrapper,
        ByteLevelDecoder,
    >::new()
    .with_model(BPE::default())
    .with_normalizer(None)
    .with_pre_tokenizer(Some(ByteLevel::new(false, false, true)))
    .with_post_processor(None)
    .with_decoder(Some(ByteLevelDecoder::default()))
    .build()
    .map_err(library)?;
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(specials)
        // Every byte can be written, whether the training text has it or not.
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    // The library's iterator cannot fail; ours can, and says so afterwards.
    let mut failure = None;
    let texts = pieces.map_while(|piece| {
        let text = piece.and_then(|piece| piece.text().map(str::to_owned));
        text.map_err(|error| failure = Some(error)).ok()
    });
    let lines = texts.flat_map(move |text| match unit {
        Unit::Stream => vec![text],
        Unit::Line => text.lines().map(str::to_owned).collect(),
    });
    tokenizer.train(&mut trainer, lines).map_err(library)?;
    match failure {
        Some(error) => Err(error),
        None => {
            let mut library = Library::from(tokenizer);
            // A text that holds "<s>" holds three characters, not a special token.
            library.set_encode_special_tokens(true);
            Ok(library)
        }
    }
}

/// Appends the ids of `text`.
pub(super) fn encode_bpe(bpe: &Library, unit: Unit, text: &str, ids: &mut Vec<u32>) -> Result<()> {
    let mut encode = |text: &str| -> Result<()> {
        let encoding = bpe.encode_fast(text, false).map_err(library)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    };
    match unit {
        Unit::Stream => encode(text),
        Unit::Line => text.lines().try_for_each(encode),
    }
}

/// The bytes of a token.
pub(super) fn spelling(bpe: &Library, id: u32) -> Vec<u8> {
    bpe.id_to_token(id).unwrap_or_default().chars().filter_map(to_byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_characters_map_both_ways() {
        for byte in 0..=255u8 {
            assert_eq!(to_byte(to_char(byte)), Some(byte));
        }
        assert_eq!((to_char(b' '), to_char(b'\n'), to_char(b'A')), ('Ġ', 'Ċ', 'A'));
        let mut alphabet: Vec<char> = (0..=255).map(to_char).collect();
        alphabet.sort_unstable();
        let mut theirs: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        theirs.sort_unstable();
        assert_eq!(alphabet, theirs);
    }
}
