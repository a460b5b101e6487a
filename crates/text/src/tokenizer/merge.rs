//! One vocabulary out of those that several threads found, numbered by first appearance in the whole text.

use rayon::prelude::*;

use super::arena::Words;
use super::key::{BATCH, Key};
use super::table::{Table, Vocabulary, specials};
use crate::Unit;
use crate::error::Result;

/// The words that one thread met.
#[derive(Debug)]
pub(crate) struct Met {
    table: Table,
    /// Where each was met first, in order: by piece, then by token. The special tokens at 0.
    first: Vec<u64>,
    piece: u64,
}

impl Met {
    /// With room for the words of a text of so many bytes, as long as it is short: what grows is copied, and memory that is
    /// touched for the first time costs more than what is done with it.
    pub(crate) fn of_text(unit: Unit, bytes: u64) -> Result<Self> {
        let words = (bytes / 32).min(1 << 18) as usize;
        let mut first = Vec::with_capacity(words);
        first.resize(specials(unit).len(), 0);
        Ok(Self { table: Table::new(unit, words)?, first, piece: 0 })
    }

    /// Begins the text's piece number `piece`.
    pub(crate) fn begin(&mut self, piece: usize) {
        self.piece = (piece as u64) << 32;
    }
}

impl Vocabulary for &mut Met {
    fn table(&self) -> &Table {
        &self.table
    }

    #[inline]
    fn id(&mut self, key: Key, word: &[u8], at: usize) -> Result<Option<u32>> {
        if let Some(id) = self.table.find(key, word) {
            return Ok(Some(id));
        }
        self.first.push(self.piece | at as u64);
        // The whole piece has been checked to be UTF-8.
        self.table.insert(key, &String::from_utf8_lossy(word)).map(Some)
    }
}

/// For each of `met` the ids that `words` has for its words; 0, which stands for the unknown, for those it lacks.
pub(crate) fn look_up(met: &[Met], words: &Words) -> Vec<Vec<u32>> {
    let ids = |one: &Met| {
        let mut ids = vec![None; one.first.len()];
        for ((key, word), id) in words.keyed().zip(0..) {
            if let Some(local) = one.table.find(key, word.as_bytes()) {
                // A word that is there again is the first one.
                ids[local as usize].get_or_insert(id);
            }
        }
        ids.into_iter().map(Option::unwrap_or_default).collect()
    };
    met.par_iter().map(ids).collect()
}

/// The vocabulary, and for each of `met` the final ids by its own; none where they are the same.
///
/// # Errors
/// A vocabulary that is too large.
pub(crate) fn merge(mut met: Vec<Met>, unit: Unit) -> Result<(Table, Vec<Vec<u32>>)> {
    if met.len() == 1
        && let Some(only) = met.pop()
    {
        return Ok((only.table, Vec::new()));
    }
    let words = || met.iter().map(|one| one.table.words().keyed());
    let mut table = Table::new(unit, met.iter().map(|one| one.first.len()).sum())?;
    let mut maps: Vec<Vec<u32>> = met.iter().map(|one| Vec::with_capacity(one.first.len())).collect();
    let mut lists: Vec<_> =
        words().zip(&met).map(|(words, one)| one.first.iter().zip(words).peekable()).collect();
    let mut ahead: Vec<_> = words().map(|words| words.skip(BATCH)).collect();
    // The thread whose next word comes first gives it.
    loop {
        let next = lists.iter_mut().enumerate().filter_map(|(thread, list)| Some((list.peek()?.0, thread)));
        let Some((_, thread)) = next.min() else { break };
        let Some((_, (key, word))) = lists[thread].next() else { break };
        table.prefetch(ahead[thread].next().into_iter().map(|(key, _)| key));
        let id = table.find(key, word.as_bytes());
        maps[thread].push(id.map_or_else(|| table.insert(key, word), Ok)?);
    }
    Ok((table, maps))
}
