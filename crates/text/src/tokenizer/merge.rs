//! One vocabulary out of those that several threads found, numbered by first appearance in the whole text.

use rayon::prelude::*;

use super::arena::StringArena;
use super::key::{Key, LOOKUP_BATCH, fold};
use super::vocab::{Vocab, VocabLookup, special_tokens};
use crate::TextMode;
use crate::error::Result;

/// The words that one thread locals.
#[derive(Debug)]
pub(crate) struct LocalVocab {
    vocab: Vocab,
    /// Where each was locals first, in order: by chunk, then by token. The special tokens at 0.
    first_seen: Vec<u64>,
    chunk_bits: u64,
}

impl LocalVocab {
    /// With room for the words of a text of so many bytes, as long as it is short: what grows is copied, and memory that is
    /// touched for the first time costs more than what is done with it.
    pub(crate) fn with_capacity(mode: TextMode, bytes: u64) -> Result<Self> {
        let words = (bytes / 32).min(1 << 18) as usize;
        let mut first = Vec::with_capacity(words);
        first.resize(special_tokens(mode).len(), 0);
        Ok(Self { vocab: Vocab::new(mode, words)?, first_seen: first, chunk_bits: 0 })
    }

    pub(crate) fn contains(&self, word: &[u8]) -> bool {
        self.vocab.find(Key::new(word), word).is_some()
    }

    /// Begins the text's chunk number `chunk`.
    pub(crate) fn start_chunk(&mut self, chunk: usize) {
        self.chunk_bits = (chunk as u64) << 32;
    }
}

impl VocabLookup for &mut LocalVocab {
    fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    #[inline]
    fn id(&mut self, key: Key, word: &[u8], at: usize) -> Result<Option<u32>> {
        if let Some(id) = self.vocab.find(key, word) {
            return Ok(Some(id));
        }
        self.first_seen.push(self.chunk_bits | at as u64);
        // The whole chunk has been checked to be UTF-8.
        self.vocab.insert(key, &String::from_utf8_lossy(word)).map(Some)
    }
}

/// For each of `locals` the ids that `words` has for its words; 0, which stands for the unknown, for those it lacks.
///
/// Nearly all of `words` are words that nobody locals: a bit for each hash of one that was locals, in a map that stays in the
/// cache, says so of most.
pub(crate) fn map_to_vocab(locals: &[LocalVocab], words: &StringArena) -> Vec<Vec<u32>> {
    const BITS: u32 = 20;
    let place = |key: Key| {
        let hash = fold(key.bits) >> (64 - BITS);
        ((hash / 64) as usize, 1u64 << (hash % 64))
    };
    let mut hashes = vec![0; 1 << BITS >> 6];
    for (at, bit) in locals.iter().flat_map(|one| one.vocab.words().keyed()).map(|(key, _)| place(key)) {
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
            let local = move |one: &LocalVocab| one.vocab.find(key, word);
            locals.iter().enumerate().filter_map(move |(n, one)| Some((n, local(one)?, id as u32)))
        })
        .collect();
    let mut ids: Vec<Vec<Option<u32>>> = locals.iter().map(|one| vec![None; one.first_seen.len()]).collect();
    for (n, local, id) in found {
        // A word that is there again is the first one.
        ids[n][local as usize].get_or_insert(id);
    }
    ids.into_iter().map(|ids| ids.into_iter().map(Option::unwrap_or_default).collect()).collect()
}

/// The vocabulary, and for each of `locals` the final ids by its own; none where they are the same.
///
/// Each list is in the order of the text, so a word belongs to the thread that locals it earliest: each looks its words up in
/// the others' tables, all at once. The lists merged by place, without words that belong to others, are the vocabulary.
///
/// # Errors
/// A vocabulary that is too large.
pub(crate) fn merge_vocabs(mut locals: Vec<LocalVocab>) -> Result<(Vocab, Vec<Vec<u32>>)> {
    if locals.len() == 1
        && let Some(only) = locals.pop()
    {
        return Ok((only.vocab, Vec::new()));
    }
    let owners: Vec<_> = locals.par_iter().map(|own| owners(own, &locals)).collect();
    // Room for all of them, if they were different: memory that is not used is not touched.
    let mut words = StringArena::with_capacity(
        locals.iter().map(|one| one.first_seen.len()).sum(),
        locals.iter().map(|one| one.vocab.words().num_bytes()).sum(),
    );
    let mut maps: Vec<Vec<u32>> = locals.iter().map(|one| Vec::with_capacity(one.first_seen.len())).collect();
    // The thread whose next word comes first gives it: a word of its own gets the next id, and another's has one.
    loop {
        let next = |thread: usize| Some((*locals[thread].first_seen.get(maps[thread].len())?, thread));
        let Some((_, thread)) = (0..locals.len()).filter_map(next).min() else { break };
        let local = maps[thread].len();
        let (owner, there) = owners[thread][local];
        let known = maps[owner].get(there as usize).copied();
        let word = locals[thread].vocab.words().get(local).unwrap_or_default();
        maps[thread].push(known.map_or_else(|| words.push(word), Ok)?);
    }
    Ok((words.into(), maps))
}

/// For each word of `own` the thread of `locals` that locals it first, and its id there.
fn owners(own: &LocalVocab, locals: &[LocalVocab]) -> Vec<(usize, u32)> {
    let mut ahead = own.vocab.words().keyed().map(|(key, _)| key).skip(LOOKUP_BATCH);
    let owner = |(key, word): (Key, &str)| {
        let next = ahead.next();
        let of = |(thread, one): (usize, &LocalVocab)| {
            one.vocab.prefetch(next.into_iter());
            let id = one.vocab.find(key, word.as_bytes())?;
            Some((one.first_seen[id as usize], thread, id))
        };
        let first = locals.iter().enumerate().filter_map(of).min();
        first.map_or((0, 0), |(_, thread, id)| (thread, id))
    };
    own.vocab.words().keyed().map(owner).collect()
}
