//! Characters as tokens.

use super::key::Key;
use super::table::Table;
use crate::Unit;
use crate::error::Result;
use crate::pieces::Span;
use crate::workers::each_piece;

/// One bit for each code point.
const WORDS: usize = (char::MAX as usize + 1).div_ceil(64);

/// The characters of `spans`, by code point.
pub(crate) fn train(unit: Unit, spans: &[Span], threads: usize) -> Result<Table> {
    let (sets, _) = each_piece(
        spans,
        threads,
        || Ok(vec![0u64; WORDS]),
        |set, _, piece| {
            for c in piece.text()?.chars() {
                set[c as usize / 64] |= 1 << (c as u32 % 64);
            }
            Ok(())
        },
    )?;
    let mut table = Table::new(unit, 0)?;
    let mut buffer = [0; 4];
    for code in 0..=u32::from(char::MAX) {
        let Some(c) = char::from_u32(code).filter(|&c| unit == Unit::Stream || c != '\n') else { continue };
        if sets.iter().any(|set| set[code as usize / 64] >> (code % 64) & 1 == 1) {
            table.add(c.encode_utf8(&mut buffer))?;
        }
    }
    Ok(table)
}

/// Appends the ids of the characters of `text`.
pub(super) fn encode(table: &Table, unit: Unit, text: &str, ids: &mut Vec<u32>) {
    let find = |c: char| {
        let mut buffer = [0; 4];
        let bytes = c.encode_utf8(&mut buffer).as_bytes();
        table.find(Key::of(bytes), bytes).unwrap_or(0)
    };
    for c in text.chars().filter(|&c| unit == Unit::Stream || c != '\n') {
        ids.push(find(c));
    }
}
