//! Merges the vocabularies of several threads; ids are by first appearance in the whole text.

use rayon::prelude::*;

use super::arena::StringArena;
use super::key::{Key, LOOKUP_BATCH, fold};
use super::vocab::{Vocab, VocabLookup, special_tokens};
use crate::TextMode;
use crate::error::Result;

/// The words that one thread observed.
#[derive(Debug)]
pub(crate) struct LocalVocab {
    vocab: Vocab,
    /// The first position of each word, in order: chunk << 32 | token. 0 for special tokens.
    first_seen: Vec<u64>,
    piece_bits: u64,
}

impl LocalVocab {
    /// Empty, with a capacity for a text of so many bytes, up to a limit: growing copies, and first
    /// page faults cost more than the lookups.
    pub(crate) fn with_capacity(mode: TextMode, bytes: u64) -> Result<Self> {
        let words = (bytes / 32).min(1 << 18) as usize;
        let mut first = Vec::with_capacity(words);
        first.resize(special_tokens(mode).len(), 0);
        Ok(Self { vocab: Vocab::new(mode, words)?, first_seen: first, piece_bits: 0 })
    }

    pub(crate) fn len(&self) -> usize {
        self.first_seen.len()
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        self.vocab.words().iter()
    }

    pub(crate) fn contains(&self, word: &[u8]) -> bool {
        self.vocab.find(Key::new(word), word).is_some()
    }

    /// Starts a piece of the chunk with this index, after `tokens` tokens of the chunk.
    pub(crate) fn start_piece(&mut self, chunk: usize, tokens: usize) {
        self.piece_bits = (chunk as u64) << 32 | tokens as u64;
    }
}

impl VocabLookup for &mut LocalVocab {
    #[inline]
    fn prefetch(&mut self, keys: impl Iterator<Item = Key> + Clone) {
        self.vocab.prefetch(keys);
    }

    #[inline]
    fn id(&mut self, key: Key, word: &[u8], at: usize) -> Result<Option<u32>> {
        if let Some(id) = self.vocab.find(key, word) {
            return Ok(Some(id));
        }
        self.first_seen.push(self.piece_bits + at as u64);
        // The chunk is known to be UTF-8.
        self.vocab.insert(key, &String::from_utf8_lossy(word)).map(Some)
    }
}

/// For each of `locals` the ids of its words in `words`; 0, `<unk>`, for words not in it.
///
/// Nearly all of `words` were not observed. A bit set of the hashes of observed words, which stays
/// in the cache, excludes most of them (a Bloom filter with one hash).
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
        // A duplicate has the id of its first occurrence.
        ids[n][local as usize].get_or_insert(id);
    }
    ids.into_iter().map(|ids| ids.into_iter().map(Option::unwrap_or_default).collect()).collect()
}

/// The merged vocabulary, and for each of `locals` the map from its ids to the final ones; no maps
/// where the ids are the same.
///
/// A word is owned by the thread that observed it first, which all threads find in parallel by
/// lookups in each other's vocabularies. A merge of the lists by position gives the final ids.
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
    // Enough for no duplicates: pages that are not used are never faulted in.
    let mut words = StringArena::with_capacity(
        locals.iter().map(|one| one.first_seen.len()).sum(),
        locals.iter().map(|one| one.vocab.words().num_bytes()).sum(),
    );
    let mut maps: Vec<Vec<u32>> = locals.iter().map(|one| Vec::with_capacity(one.first_seen.len())).collect();
    // In text order: the owner adds the word with a new id; other threads look it up. A chunk is of
    // one thread, which goes on to its end.
    loop {
        let next = |thread: usize| Some((*locals[thread].first_seen.get(maps[thread].len())?, thread));
        let Some((first, thread)) = (0..locals.len()).filter_map(next).min() else { break };
        let seen = &locals[thread].first_seen;
        while let Some(at) = seen.get(maps[thread].len())
            && at >> 32 == first >> 32
        {
            let local = maps[thread].len();
            let (owner, there) = owners[thread][local];
            let known = maps[owner].get(there as usize).copied();
            let word = locals[thread].vocab.words().get(local).unwrap_or_default();
            maps[thread].push(known.map_or_else(|| words.push(word), Ok)?);
        }
    }
    Ok((words.into(), maps))
}

/// For each word of `own` the index of the vocabulary that observed it first, and its id there.
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
