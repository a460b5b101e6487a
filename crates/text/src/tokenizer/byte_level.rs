//! Bytes as characters, and byte-pair encoding over them.
//!
//! GPT-2's tokenizer writes each byte as one printable character, so that a vocabulary of byte strings can be a file
//! of text: bytes that print stand for themselves, the others are numbered from U+0100 on (Radford et al. 2019).

use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Library, TokenizerBuilder};

use super::vocab::special_tokens;
use crate::TextMode;
use crate::chunks::TextChunk;
use crate::error::{Error, Result};

/// Bytes that print, and stand for themselves.
fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character that stands for a byte.
pub(super) fn byte_to_unicode(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let number = (0..byte).filter(|&b| !is_printable(b)).count() as u32;
    char::from_u32(0x100 + number).unwrap_or('\u{FFFD}')
}

/// The opposite of [`to_char`].
fn unicode_to_byte(c: char) -> Option<u8> {
    let code = c as u32;
    if let Ok(byte) = u8::try_from(code) {
        return is_printable(byte).then_some(byte);
    }
    (0..=255u8).filter(|&byte| !is_printable(byte)).nth(code.checked_sub(0x100)? as usize)
}

/// A failure of the library.
pub(super) fn library_error(error: impl std::fmt::Display) -> Error {
    Error::Tokenizer(error.to_string())
}

/// Trains byte-level BPE on `chunks`.
pub(crate) fn train_bpe(
    vocab_size: usize,
    mode: TextMode,
    chunks: impl Iterator<Item = Result<TextChunk>> + Send,
) -> Result<Library> {
    // All but the unknown, which no byte is.
    let specials: Vec<_> =
        special_tokens(mode)[1..].iter().map(|name| AddedToken::from(*name, true)).collect();
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
    .map_err(library_error)?;
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
    let texts = chunks.map_while(|chunk| {
        let text = chunk.and_then(|chunk| chunk.text().map(str::to_owned));
        text.map_err(|error| failure = Some(error)).ok()
    });
    let lines = texts.flat_map(move |text| match mode {
        TextMode::Stream => vec![text],
        TextMode::Line => text.lines().map(str::to_owned).collect(),
    });
    tokenizer.train(&mut trainer, lines).map_err(library_error)?;
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
pub(super) fn encode_bpe(bpe: &Library, mode: TextMode, text: &str, ids: &mut Vec<u32>) -> Result<()> {
    let mut encode = |text: &str| -> Result<()> {
        let encoding = bpe.encode_fast(text, false).map_err(library_error)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    };
    match mode {
        TextMode::Stream => encode(text),
        TextMode::Line => text.lines().try_for_each(encode),
    }
}

/// The bytes of a token.
pub(super) fn token_bytes(bpe: &Library, id: u32) -> Vec<u8> {
    bpe.id_to_token(id).unwrap_or_default().chars().filter_map(unicode_to_byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_characters_map_both_ways() {
        for byte in 0..=255u8 {
            assert_eq!(unicode_to_byte(byte_to_unicode(byte)), Some(byte));
        }
        assert_eq!((byte_to_unicode(b' '), byte_to_unicode(b'\n'), byte_to_unicode(b'A')), ('Ġ', 'Ċ', 'A'));
        let mut alphabet: Vec<char> = (0..=255).map(byte_to_unicode).collect();
        alphabet.sort_unstable();
        let mut theirs: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        theirs.sort_unstable();
        assert_eq!(alphabet, theirs);
    }
}
