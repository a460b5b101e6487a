//! One vocabulary out of those that several threads found, numbered by first appearance in the whole text.
//!
//! Each thread knows where in the text it met each of its words first, and its list is in that order. So a word belongs
//! to the thread that met it earliest (each thread looks its words up in the others' tables, all at once), and the
//! lists without the words that belong to others, merged by place, are the vocabulary.

use rayon::prelude::*;

use super::arena::Words;
use super::index::Hashes;
use super::table::{Interner, Table, specials};
use crate::Unit;
use crate::error::Result;

/// The words that one thread met.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) interner: Interner,
    /// Where each was met first, in order; the special tokens at 0.
    pub(crate) first: Vec<u64>,
}

impl Met {
    /// With room for the words of a text of so many bytes, as long as it is short: what grows is copied, and memory that is
    /// touched for the first time costs more than what is done with it.
    pub(crate) fn of_text(unit: Unit, bytes: u64) -> Result<Self> {
        let words = (bytes / 32).min(1 << 18) as usize;
        let mut first = Vec::with_capacity(words);
        first.resize(specials(unit) as usize, 0);
        Ok(Self { interner: Interner::with_room(unit, words)?, first })
    }
}

/// For each of `met` the ids that `words` has for its words; 0, which stands for the unknown, for those it lacks.
///
/// Each thread walks a part of `words`. Nearly all of them are words that nobody met: a bit for each hash of one that
/// was met, in a map that stays in the cache, says so of most.
pub(crate) fn look_up(met: &[Met], words: &Words, threads: usize, unit: Unit) -> Vec<Vec<u32>> {
    let mut hashes = Hashes::default();
    for (key, _) in met.iter().flat_map(|one| one.interner.entries()) {
        hashes.insert(key);
    }
    let specials = specials(unit) as usize;
    let share = (words.len() - specials).div_ceil(threads).max(1);
    let find = |thread| {
        let mut found = Vec::with_capacity(met.iter().map(|one| one.interner.words().len()).sum());
        let first = specials + thread * share;
        for (n, (key, word)) in words.keyed_from(first).take(share).enumerate() {
            if hashes.may_have(key) {
                for (one, its) in met.iter().enumerate() {
                    let local = its.interner.find(key, word);
                    found.extend(local.map(|local| (one as u32, local, (first + n) as u32)));
                }
            }
        }
        found
    };
    let found: Vec<Vec<(u32, u32, u32)>> = (0..threads).into_par_iter().map(find).collect();
    let mut maps: Vec<Vec<u32>> = met.iter().map(|one| vec![0; one.interner.words().len()]).collect();
    for map in &mut maps {
        for (id, special) in map.iter_mut().take(specials).enumerate() {
            *special = id as u32;
        }
    }
    for (one, local, id) in found.into_iter().flatten() {
        let own = &mut maps[one as usize][local as usize];
        // A word that is there again is the first one, and never a special token.
        if local as usize >= specials && *own == 0 {
            *own = id;
        }
    }
    maps
}

/// The vocabulary, and for each of `met` the final ids by its own; none where they are the same. Numbering words is for one
/// thread; another one may run `meanwhile`.
///
/// # Errors
/// A vocabulary that is too large.
pub(crate) fn merge<T: Send>(
    mut met: Vec<Met>,
    unit: Unit,
    meanwhile: impl FnOnce() -> T + Send,
) -> Result<(Table, Vec<Vec<u32>>, T)> {
    if met.len() == 1
        && let Some(only) = met.pop()
    {
        return Ok((only.interner.into(), Vec::new(), meanwhile()));
    }
    let owners = |thread| owners(&met, thread, specials(unit) as usize);
    let owners: Vec<_> = (0..met.len()).into_par_iter().map(owners).collect();
    // The indices, which are large, go.
    let lists =
        met.into_iter().map(|one| List { words: one.interner.into_words(), first: one.first }).collect();
    let (merged, other) = rayon::join(|| number(lists, &owners, specials(unit) as usize), meanwhile);
    let (words, maps) = merged?;
    Ok((words.into(), maps, other))
}

/// What [`Met`] is without an index.
struct List {
    words: Words,
    first: Vec<u64>,
}

fn number(met: Vec<List>, owners: &[Vec<(u32, u32)>], specials: usize) -> Result<(Words, Vec<Vec<u32>>)> {
    // Room for all of them, if they were different: memory that is not used is not touched.
    let most = met.iter().map(|one| one.words.len()).sum();
    let bytes = met.iter().map(|one| one.words.bytes()).sum();
    let mut words = Words::with_capacity(most, bytes);
    for id in 0..specials {
        words.push(met[0].words.get(id).unwrap_or_default())?;
    }
    let identity = |one: &List| {
        let mut map = Vec::with_capacity(one.first.len());
        map.extend(0..specials as u32);
        map
    };
    let mut maps: Vec<Vec<u32>> = met.iter().map(identity).collect();
    // The thread whose next word comes first gives it: a word of its own gets the next id, another's waits.
    loop {
        let next = |thread: &usize| met[*thread].first.get(maps[*thread].len());
        let threads = (0..met.len()).filter(|thread| next(thread).is_some());
        let Some(thread) = threads.min_by_key(|thread| next(thread)) else { break };
        let local = maps[thread].len();
        let owner = owners[thread][local - specials];
        let id = if owner == (thread as u32, local as u32) {
            words.push(met[thread].words.get(local).unwrap_or_default())?
        } else {
            // The owner met it earlier, so that its id is known.
            maps[owner.0 as usize][owner.1 as usize]
        };
        maps[thread].push(id);
    }
    Ok((words, maps))
}

/// For each word of `thread` but the special tokens: the thread that met it first, and its id there.
fn owners(met: &[Met], thread: usize, specials: usize) -> Vec<(u32, u32)> {
    let own = &met[thread];
    let mut owners: Vec<_> = (specials..own.first.len()).map(|id| (thread as u32, id as u32)).collect();
    for (other, its) in met.iter().enumerate().filter(|&(other, _)| other != thread) {
        own.interner.common(&its.interner, |id, found| {
            if let Some(owner) = (id as usize).checked_sub(specials).and_then(|n| owners.get_mut(n))
                && its.first[found as usize] < met[owner.0 as usize].first[owner.1 as usize]
            {
                *owner = (other as u32, found);
            }
        });
    }
    owners
}
