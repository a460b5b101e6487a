//! One vocabulary out of those that several threads found, numbered by first appearance in the whole text.

use rayon::prelude::*;

use super::arena::Words;
use super::key::{BATCH, Key, fold};
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

    pub(crate) fn knows(&self, word: &[u8]) -> bool {
        self.table.find(Key::of(word), word).is_some()
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
///
/// Nearly all of `words` are words that nobody met: a bit for each hash of one that was met, in a map that stays in the
/// cache, says so of most.
pub(crate) fn look_up(met: &[Met], words: &Words) -> Vec<Vec<u32>> {
    const BITS: u32 = 20;
    let place = |key: Key| {
        let hash = fold(key.bits) >> (64 - BITS);
        ((hash / 64) as usize, 1u64 << (hash % 64))
    };
    let mut hashes = vec![0; 1 << BITS >> 6];
    for (at, bit) in met.iter().flat_map(|one| one.table.words().keyed()).map(|(key, _)| place(key)) {
        hashes[at] |= bit;
    }
    let found: Vec<(usize, u32, u32)> = (0..words.len())
        .into_par_iter()
        .filter_map(|id| {
            let key = words.key(id)?;
            let (at, bit) = place(key);
            if hashes[at] & bit == 0 { None } else { Some((id, key, words.get(id)?.as_bytes())) }
        })
        .flat_map_iter(|(id, key, word)| {
            let local = move |one: &Met| one.table.find(key, word);
            met.iter().enumerate().filter_map(move |(n, one)| Some((n, local(one)?, id as u32)))
        })
        .collect();
    let mut ids: Vec<Vec<Option<u32>>> = met.iter().map(|one| vec![None; one.first.len()]).collect();
    for (n, local, id) in found {
        // A word that is there again is the first one.
        ids[n][local as usize].get_or_insert(id);
    }
    ids.into_iter().map(|ids| ids.into_iter().map(Option::unwrap_or_default).collect()).collect()
}

/// The vocabulary, and for each of `met` the final ids by its own; none where they are the same.
///
/// Each list is in the order of the text, so a word belongs to the thread that met it earliest: each looks its words up in
/// the others' tables, all at once. The lists merged by place, without words that belong to others, are the vocabulary.
///
/// # Errors
/// A vocabulary that is too large.
pub(crate) fn merge(mut met: Vec<Met>) -> Result<(Table, Vec<Vec<u32>>)> {
    if met.len() == 1
        && let Some(only) = met.pop()
    {
        return Ok((only.table, Vec::new()));
    }
    let owners: Vec<_> = met.par_iter().map(|own| owners(own, &met)).collect();
    // Room for all of them, if they were different: memory that is not used is not touched.
    let mut words = Words::with_capacity(
        met.iter().map(|one| one.first.len()).sum(),
        met.iter().map(|one| one.table.words().bytes()).sum(),
    );
    let mut maps: Vec<Vec<u32>> = met.iter().map(|one| Vec::with_capacity(one.first.len())).collect();
    // The thread whose next word comes first gives it: a word of its own gets the next id, and another's has one.
    loop {
        let next = |thread: usize| Some((*met[thread].first.get(maps[thread].len())?, thread));
        let Some((_, thread)) = (0..met.len()).filter_map(next).min() else { break };
        let local = maps[thread].len();
        let (owner, there) = owners[thread][local];
        let known = maps[owner].get(there as usize).copied();
        let word = met[thread].table.words().get(local).unwrap_or_default();
        maps[thread].push(known.map_or_else(|| words.push(word), Ok)?);
    }
    Ok((words.into(), maps))
}

/// For each word of `own` the thread of `met` that met it first, and its id there.
fn owners(own: &Met, met: &[Met]) -> Vec<(usize, u32)> {
    let mut ahead = own.table.words().keyed().map(|(key, _)| key).skip(BATCH);
    let owner = |(key, word): (Key, &str)| {
        let next = ahead.next();
        let of = |(thread, one): (usize, &Met)| {
            one.table.prefetch(next.into_iter());
            let id = one.table.find(key, word.as_bytes())?;
            Some((one.first[id as usize], thread, id))
        };
        let first = met.iter().enumerate().filter_map(of).min();
        first.map_or((0, 0), |(_, thread, id)| (thread, id))
    };
    own.table.words().keyed().map(owner).collect()
}
