//! The vocabulary: hashes of the words by which KenLM finds their ids, and the words themselves.

use rayon::prelude::*;
use surprisal_model::ngram::packed::Bytes;

use super::header::Header;
use super::probing::{self, Table};
use super::{Sections, UNK, bytes_at};
use crate::kenlm_problem::{Problem, check_version};
use crate::ngram_list::SPECIALS;

/// The token `<s>`.
pub(super) const BOS: u32 = 1;
/// The id of a token that the file does not have.
pub(super) const ABSENT: u32 = u32::MAX;
/// The version of a vocabulary of hash tables.
pub(super) const VERSION: u32 = 0;
/// Bytes of a bucket: a hash and an id.
pub(super) const BUCKET: usize = 12;

/// The hashes of all words except `<unk>`.
pub(super) struct Hashes {
    /// The number of words, with `<unk>`.
    words: u64,
    content: Content,
}

enum Content {
    /// A hash table of ids.
    Table(Bytes),
    /// Hashes in ascending order: the first is of word 1.
    Sorted(Bytes),
}

impl Hashes {
    /// The vocabulary of hash tables: version and number of words, 4 bytes each, and a table.
    pub(super) fn table(sections: &mut Sections<'_>, header: &Header) -> Result<Self, Problem> {
        let start = sections.take(Some(8))?;
        let number = |at| u32::from_le_bytes(bytes_at(start.as_slice(), at));
        check_version("its vocabulary", number(0), VERSION)?;
        let table = sections.take(probing::table_len(header.counts[0], header.multiplier, BUCKET))?;
        // `<unk>` is not among the 1-grams if the ARPA file had none.
        Self { words: number(4).into(), content: Content::Table(table) }.within(header.counts[0] + 1)
    }

    /// The vocabulary of a trie: the number of hashes, 8 bytes, and the hashes.
    pub(super) fn sorted(sections: &mut Sections<'_>, header: &Header) -> Result<Self, Problem> {
        let start = sections.take(Some(8))?;
        let words = u64::from_le_bytes(bytes_at(start.as_slice(), 0)).saturating_add(1);
        let hashes = sections.take(header.counts[0].checked_mul(8))?;
        Self { words, content: Content::Sorted(hashes) }.within(header.counts[0])
    }

    /// Refuses more words than `unigrams`, or than ids.
    fn within(self, unigrams: u64) -> Result<Self, Problem> {
        if self.words > unigrams.min(ABSENT.into()) {
            return Err(Problem::Unigrams { words: self.words, unigrams });
        }
        Ok(self)
    }

    /// The words in `bytes`, which must be those of the hashes.
    pub(super) fn words<'a>(&self, bytes: &'a [u8]) -> Result<Vec<&'a str>, Problem> {
        let ends = memchr::memchr_iter(0, bytes);
        let mut start = 0;
        let words: Vec<&[u8]> = ends.map(|end| &bytes[std::mem::replace(&mut start, end + 1)..end]).collect();
        if words.len() as u64 != self.words || start != bytes.len() {
            return Err(Problem::WordCount { found: words.len(), expected: self.words });
        }
        let checked = words.into_par_iter().enumerate().map(|(id, word)| {
            let known = if id == UNK as usize {
                word == SPECIALS[0].as_bytes()
            } else {
                self.has(id, murmur_hash(word))
            };
            if known {
                std::str::from_utf8(word).map_err(|_| Problem::WordEncoding(id))
            } else {
                Err(Problem::WordHash(id))
            }
        });
        checked.collect()
    }

    /// Whether `hash` is that of word `id`.
    fn has(&self, id: usize, hash: u64) -> bool {
        match &self.content {
            Content::Table(bytes) => {
                let found = Table::new(bytes.as_slice(), BUCKET).find(hash);
                found.is_some_and(|value| u32::from_le_bytes(bytes_at(value, 0)) as usize == id)
            }
            Content::Sorted(bytes) => u64::from_le_bytes(bytes_at(bytes.as_slice(), 8 * (id - 1))) == hash,
        }
    }
}

/// Tokens with their ids in the file.
pub(super) struct Numbered<'a> {
    pub(super) tokens: Vec<&'a str>,
    pub(super) ids: Vec<u32>,
    /// Whether the file has `<s>`.
    pub(super) has_bos: bool,
}

/// The tokens of a vocabulary: `<unk>`, `<s>` and `</s>`, then the other words in their order.
pub(super) fn number<'a>(words: &[&'a str]) -> Result<Numbered<'a>, Problem> {
    let [_, bos, eos] = SPECIALS.map(|special| words.iter().position(|&word| word == special));
    let eos = eos.ok_or(Problem::NoEnd)?;
    let mut ids = vec![UNK, bos.map_or(ABSENT, |id| id as u32), eos as u32];
    ids.extend((1..words.len()).filter(|&id| id != eos && Some(id) != bos).map(|id| id as u32));
    let others = ids[SPECIALS.len()..].iter().map(|&id| words[id as usize]);
    let tokens = SPECIALS.into_iter().chain(others).collect();
    Ok(Numbered { tokens, ids, has_bos: bos.is_some() })
}

/// MurmurHash64A with seed 0 (Appleby, MurmurHash2).
pub(super) fn murmur_hash(bytes: &[u8]) -> u64 {
    const M: u64 = 0xC6A4_A793_5BD1_E995;
    const R: u32 = 47;
    let mut hash = (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, &byte| tail << 8 | u64::from(byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ hash >> R).wrapping_mul(M);
    hash ^ hash >> R
}
