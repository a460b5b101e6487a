//! Characters as tokens.

use super::key::Key;
use super::vocab::Vocab;
use crate::TextMode;
use crate::chunks::Span;
use crate::error::Result;
use crate::parallel::for_each_chunk;

/// One bit for each code point.
const WORDS: usize = (char::MAX as usize + 1).div_ceil(64);

/// The characters of `spans`, by code point.
pub(crate) fn train(mode: TextMode, spans: &[Span], threads: usize) -> Result<Vocab> {
    let (sets, _) = for_each_chunk(
        spans,
        threads,
        || Ok(vec![0u64; WORDS]),
        |set, _, chunk| {
            for c in chunk.text()?.chars() {
                set[c as usize / 64] |= 1 << (c as u32 % 64);
            }
            Ok(())
        },
    )?;
    let mut vocab = Vocab::new(mode, 0)?;
    let mut buffer = [0; 4];
    for code in 0..=u32::from(char::MAX) {
        let Some(c) = char::from_u32(code).filter(|&c| mode == TextMode::Stream || c != '\n') else {
            continue;
        };
        if sets.iter().any(|set| set[code as usize / 64] >> (code % 64) & 1 == 1) {
            vocab.add(c.encode_utf8(&mut buffer))?;
        }
    }
    Ok(vocab)
}

/// Appends the ids of the characters of `text`.
pub(super) fn encode(vocab: &Vocab, mode: TextMode, text: &str, ids: &mut Vec<u32>) {
    let find = |c: char| {
        let mut buffer = [0; 4];
        let bytes = c.encode_utf8(&mut buffer).as_bytes();
        vocab.find(Key::new(bytes), bytes).unwrap_or(0)
    };
    for c in text.chars().filter(|&c| mode == TextMode::Stream || c != '\n') {
        ids.push(find(c));
    }
}
