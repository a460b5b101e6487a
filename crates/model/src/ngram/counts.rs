//! Counting the n-grams of every order in one sort.
//!
//! An n-gram is a place in the text, so all of them are counted by sorting the places by the words that begin there and
//! walking over the result once: where two neighbours differ in their k-th word, a k-gram and all longer ones begin. No
//! hash table of n-grams, and the result is already the trie: the continuations of a context lie together, and a context
//! is the parent of its grams. What smoothing needs besides, the *suffix* of each gram (without its first word), is
//! found without searching: it is the gram that begins one place later.
//!
//! A record of the sort is one 128-bit number: as many words as fit into 96 bits, then the place. What is equal that far
//! is sorted on by its next words. Records are cut into buckets by their first word; buckets are sorted independently.
//! The number of threads changes nothing about the result.

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use super::MAX_ORDER;
use super::packed::bits_for;
use crate::{Error, Result, check_tokens};

/// The grams of one order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    /// The last word of each gram; grams are sorted by all their words. Empty for order 1, where gram i is word i.
    pub words: Vec<u32>,
    /// How often each occurs.
    pub counts: Vec<u32>,
    /// The continuations of gram i are `starts[i]..starts[i + 1]` of the next order. Empty at the highest.
    pub starts: Vec<u32>,
    /// Each gram without its first word: its index in the order below. Empty for order 1.
    pub suffixes: Vec<u32>,
}

impl Level {
    /// The continuations of gram `i` in the next order.
    pub fn children(&self, i: usize) -> std::ops::Range<usize> {
        self.starts[i] as usize..self.starts[i + 1] as usize
    }
}

/// How often every n-gram occurs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// |V|.
    pub vocab_size: u32,
    /// `<s>`, where lines are sentences: it begins every sequence and is context only.
    pub bos: Option<u32>,
    /// Index i holds the grams of i + 1 words.
    pub levels: Vec<Level>,
    /// Without `<s>`: the first words of the text, which nothing comes before.
    pub beginning: Vec<u32>,
}

/// Bits of a record that hold the place.
const PLACE_BITS: u32 = 32;
/// Into how many buckets the places are cut, if there are enough words.
const BUCKETS: usize = 512;
/// Into how many pieces the text is cut while records are made.
const PIECES: usize = 16;

impl Counts {
    /// Counts the grams of up to `order` words of `tokens`: one text, or lines that each begin with `bos`.
    ///
    /// # Errors
    /// [`Error::Config`] for an impossible order or too long a text; a token outside the vocabulary.
    pub fn of(tokens: &[u32], vocab_size: usize, order: usize, bos: Option<u32>) -> Result<Self> {
        check_order(order)?;
        check_tokens(tokens, vocab_size)?;
        if tokens.len() >= u32::MAX as usize || vocab_size >= u32::MAX as usize {
            let message = format!("{} tokens are too many to count at once; count shards", tokens.len());
            return Err(Error::Config { message });
        }
        let text = Text { tokens, bos, order, bits: bits_for(vocab_size as u64) };
        let pieces = text.sorted(vocab_size);
        let levels = text.join(pieces, vocab_size);
        let beginning = match bos {
            Some(_) => Vec::new(),
            None => tokens[..tokens.len().min(order)].to_vec(),
        };
        Ok(Self { vocab_size: vocab_size as u32, bos, levels, beginning })
    }

    /// How much memory counting `tokens` tokens up to `order` takes at its worst, in bytes.
    pub fn memory(tokens: usize, vocab_size: usize, order: usize) -> u64 {
        // Records (twice while a bucket is put together, one bucket a thread), sorted places, and every place a new gram
        // of every order from 2: word, count, start, suffix, representative.
        let grams = (order as u64 - 1) * tokens as u64;
        tokens as u64 * (16 + 6 + 4) + grams * 20 + vocab_size as u64 * 12
    }

    /// The longest gram.
    pub fn order(&self) -> usize {
        self.levels.len()
    }

    /// How many different grams of all orders there are.
    pub fn grams(&self) -> u64 {
        let seen = self.levels[0].counts.iter().filter(|&&count| count > 0).count();
        seen as u64 + self.levels[1..].iter().map(|level| level.words.len() as u64).sum::<u64>()
    }

    /// The index of `gram` among those of its length.
    pub fn find(&self, gram: &[u32]) -> Option<usize> {
        let (&first, rest) = gram.split_first()?;
        let mut node = (first < self.vocab_size).then_some(first as usize)?;
        for (len, &word) in rest.iter().enumerate() {
            node = find_child(&self.levels[len], self.levels.get(len + 1)?, node, word)?;
        }
        Some(node)
    }

    /// The words of gram `index` of `order` words.
    pub fn gram(&self, order: usize, index: usize) -> Vec<u32> {
        let mut words = vec![0; order];
        let mut node = index;
        for len in (1..order).rev() {
            words[len] = self.levels[len].words[node];
            let starts = &self.levels[len - 1].starts;
            node = starts.partition_point(|&start| start as usize <= node) - 1;
        }
        words[0] = node as u32;
        words
    }

    /// Finds every gram's suffix by searching: for counts that were not made from a text.
    pub(super) fn link(&mut self) -> Result<()> {
        for len in 1..self.order() {
            let (below, rest) = self.levels.split_at_mut(len);
            let (parents, level) = (&below[len - 1], &mut rest[0]);
            if len == 1 {
                level.suffixes = level.words.clone();
                continue;
            }
            let suffix_of = |node: usize| -> Result<Vec<u32>> {
                let shorter = parents.suffixes[node] as usize;
                let found = parents.children(node).map(|gram| {
                    let found = find_child(&below[len - 2], parents, shorter, level.words[gram]);
                    found.map(|found| found as u32).ok_or_else(|| Error::Config {
                        message: format!("a {}-gram is counted whose last {len} words are not", len + 1),
                    })
                });
                found.collect()
            };
            let nodes: Result<Vec<Vec<u32>>> =
                (0..parents.starts.len() - 1).into_par_iter().map(suffix_of).collect();
            level.suffixes = nodes?.concat();
        }
        Ok(())
    }

    /// Whether these are well-formed counts: for those read from a file.
    ///
    /// # Errors
    /// [`Error::Config`] with what is wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::Config { message });
        check_order(self.order())?;
        let vocab = self.vocab_size as usize;
        let first = &self.levels[0];
        if first.counts.len() != vocab || !first.words.is_empty() || self.bos.is_some_and(|bos| bos >= self.vocab_size)
        {
            return wrong("the counts of single words do not fit the vocabulary".into());
        }
        for (len, level) in self.levels.iter().enumerate() {
            let grams = level.counts.len();
            let next = self.levels.get(len + 1).map(|next| next.counts.len() as u32);
            let shapes = (len == 0 || level.words.len() == grams)
                && match next {
                    Some(next) => {
                        level.starts.len() == grams + 1
                            && level.starts[0] == 0
                            && level.starts[grams] == next
                            && level.starts.is_sorted()
                    }
                    None => level.starts.is_empty(),
                };
            if !shapes {
                return wrong(format!("the counts of order {} do not fit together", len + 1));
            }
            if level.words.iter().any(|&word| word >= self.vocab_size) {
                return wrong(format!("the counts of order {} have a word outside the vocabulary", len + 1));
            }
            if len > 0 && level.counts.contains(&0) {
                return wrong(format!("a {}-gram is counted 0 times", len + 1));
            }
            if let Some(next) = self.levels.get(len + 1) {
                for i in 0..grams {
                    let children = level.children(i);
                    let total: u64 = next.counts[children.clone()].iter().map(|&count| u64::from(count)).sum();
                    if !next.words[children].is_sorted_by(|a, b| a < b) {
                        return wrong(format!("the {}-grams are not in order", len + 2));
                    }
                    if total > u64::from(level.counts[i]) {
                        return wrong(format!("a {}-gram is counted less often than its continuations", len + 1));
                    }
                }
            }
        }
        Ok(())
    }
}

pub(super) fn check_order(order: usize) -> Result<()> {
    if (1..=MAX_ORDER).contains(&order) {
        return Ok(());
    }
    Err(Error::Config { message: format!("an n-gram has from 1 to {MAX_ORDER} tokens, not {order}") })
}

/// The child of `node` (in `level`) by `word`, in `next`.
pub(super) fn find_child(level: &Level, next: &Level, node: usize, word: u32) -> Option<usize> {
    let children = level.children(node);
    let at = next.words[children.clone()].binary_search(&word).ok()?;
    Some(children.start + at)
}

/// A text to count.
#[derive(Clone, Copy)]
struct Text<'a> {
    tokens: &'a [u32],
    bos: Option<u32>,
    order: usize,
    /// Bits of a word's code, which is its id and one: 0 stands for the end.
    bits: u32,
}

/// The sorted places of one bucket, and the grams that begin there.
#[derive(Default)]
struct Piece {
    places: Vec<u32>,
    /// For each place: how many words it shares with the one before it, and how many it has.
    shapes: Vec<(u8, u8)>,
    /// The different first words.
    heads: Vec<u32>,
    levels: Vec<PieceLevel>,
}

#[derive(Default)]
struct PieceLevel {
    words: Vec<u32>,
    counts: Vec<u32>,
    /// Where each gram's continuations start, within this piece.
    starts: Vec<u32>,
    /// A place where each gram begins.
    places: Vec<u32>,
}

impl Text<'_> {
    /// How many words a record holds.
    fn depth(&self) -> usize {
        ((128 - PLACE_BITS) / self.bits).min(self.order as u32) as usize
    }

    /// How many words a gram that begins at `place` can have.
    fn room(&self, place: usize) -> usize {
        let longest = &self.tokens[place..self.tokens.len().min(place + self.order)];
        match self.bos {
            Some(bos) => longest[1..].iter().position(|&word| word == bos).map_or(longest.len(), |at| at + 1),
            None => longest.len(),
        }
    }

    /// Calls `emit` with each place of `range` and the codes of its words, the first in the highest of the bits used.
    fn keys(&self, range: std::ops::Range<usize>, mut emit: impl FnMut(usize, u128)) {
        let (bits, depth) = (self.bits, self.depth());
        let top = bits * (depth as u32 - 1);
        let mut key = 0_u128;
        let last = self.tokens.len().min(range.end + depth);
        for place in (range.start..last).rev() {
            let word = self.tokens[place];
            key = (u128::from(word) + 1) << top | key >> bits;
            if place < range.end {
                emit(place, key);
            }
            if Some(word) == self.bos {
                // What stands before a sentence ends before it.
                key = 0;
            }
        }
    }

    /// Sorts all places; pieces are in order of their first words.
    fn sorted(&self, vocab_size: usize) -> Vec<Piece> {
        let n = self.tokens.len();
        let mut frequencies = vec![0_u32; vocab_size];
        for &token in self.tokens {
            frequencies[token as usize] += 1;
        }
        // Words in order, into buckets of about equal size; a frequent word has one of its own.
        let target = n.div_ceil(BUCKETS).max(1);
        let (mut bucket_of, mut bucket, mut filled) = (vec![0_u16; vocab_size], 0, 0);
        for (word, &frequency) in frequencies.iter().enumerate() {
            if filled > 0 && filled + frequency as usize > target {
                (bucket, filled) = (bucket + 1, 0);
            }
            bucket_of[word] = bucket;
            filled += frequency as usize;
        }
        let buckets = bucket as usize + 1;
        let share = n.div_ceil(PIECES).max(1);
        let records: Vec<Vec<Vec<u128>>> = (0..n.div_ceil(share))
            .into_par_iter()
            .map(|piece| {
                let range = piece * share..n.min((piece + 1) * share);
                let mut sizes = vec![0; buckets];
                for &token in &self.tokens[range.clone()] {
                    sizes[bucket_of[token as usize] as usize] += 1;
                }
                let mut parts: Vec<Vec<u128>> = sizes.into_iter().map(Vec::with_capacity).collect();
                self.keys(range, |place, key| {
                    let bucket = bucket_of[self.tokens[place] as usize] as usize;
                    parts[bucket].push(key << PLACE_BITS | place as u128);
                });
                parts
            })
            .collect();
        let mut by_bucket: Vec<Vec<Vec<u128>>> = (0..buckets).map(|_| Vec::new()).collect();
        for piece in records {
            for (bucket, part) in by_bucket.iter_mut().zip(piece) {
                bucket.push(part);
            }
        }
        by_bucket
            .into_par_iter()
            .with_max_len(1)
            .map(|parts| {
                let mut records = parts.concat();
                drop(parts);
                records.sort_unstable();
                if self.order > self.depth() {
                    self.refine(&mut records, self.depth());
                }
                self.piece(&records)
            })
            .collect()
    }

    /// Sorts runs of records that are equal in all their `from` words by the words after those.
    fn refine(&self, records: &mut [u128], from: usize) {
        let full = |record: u128| (record >> PLACE_BITS) & ((1 << self.bits) - 1) != 0;
        for run in records.chunk_by_mut(|a, b| a >> PLACE_BITS == b >> PLACE_BITS) {
            if run.len() == 1 || !full(run[0]) {
                continue;
            }
            let common = run[0] >> PLACE_BITS << PLACE_BITS;
            let mut next: Vec<u128> = run
                .iter()
                .map(|record| {
                    let place = (record & u128::from(u32::MAX)) as usize;
                    let mut key = 0_u128;
                    // The sentence that the record is in goes on at place + from, or ends there.
                    let rest = self.tokens.get(place + from..).unwrap_or(&[]);
                    let rest = &rest[..rest.len().min(self.order - from)];
                    let end = self.bos.and_then(|bos| rest.iter().position(|&word| word == bos));
                    let rest = &rest[..end.unwrap_or(rest.len())];
                    for i in 0..self.depth() {
                        let code = rest.get(i).map_or(0, |&word| u128::from(word) + 1);
                        key = key << self.bits | code;
                    }
                    key << PLACE_BITS | place as u128
                })
                .collect();
            next.sort_unstable();
            if from + self.depth() < self.order {
                self.refine(&mut next, from + self.depth());
            }
            for (record, next) in run.iter_mut().zip(next) {
                *record = common | next & u128::from(u32::MAX);
            }
        }
    }

    /// The grams of sorted records.
    fn piece(&self, records: &[u128]) -> Piece {
        let (order, depth, bits) = (self.order, self.depth(), self.bits);
        let unused = 128 - PLACE_BITS - depth as u32 * bits;
        let mut piece = Piece {
            places: Vec::with_capacity(records.len()),
            shapes: Vec::with_capacity(records.len()),
            heads: Vec::new(),
            levels: (0..order).map(|_| PieceLevel::default()).collect(),
        };
        let mut before = 0_u128;
        let mut before_room = 0;
        for &record in records {
            let (key, place) = (record >> PLACE_BITS, (record & u128::from(u32::MAX)) as usize);
            let mut room = depth - (key.trailing_zeros() / bits).min(depth as u32) as usize;
            if room == depth && order > depth {
                room = self.room(place);
            }
            let differ = key ^ (before >> PLACE_BITS);
            let mut shared = ((differ << PLACE_BITS).leading_zeros() - unused) as usize / bits as usize;
            if differ == 0 {
                shared = depth.min(room).min(before_room);
                let other = (before & u128::from(u32::MAX)) as usize;
                while shared < room.min(before_room) && self.tokens[place + shared] == self.tokens[other + shared] {
                    shared += 1;
                }
            }
            let shared = shared.min(room).min(before_room);
            if shared == 0 {
                piece.heads.push(self.tokens[place]);
            }
            for len in shared..room {
                let word = if len < depth {
                    ((key >> (bits * (depth - 1 - len) as u32)) as u64 & ((1 << bits) - 1)) as u32 - 1
                } else {
                    self.tokens[place + len]
                };
                let next = piece.levels.get(len + 1).map_or(0, |next| next.words.len() as u32);
                let level = &mut piece.levels[len];
                level.words.push(word);
                level.counts.push(0);
                level.starts.push(next);
                level.places.push(place as u32);
            }
            for level in &mut piece.levels[..room] {
                if let Some(count) = level.counts.last_mut() {
                    *count += 1;
                }
            }
            piece.places.push(place as u32);
            piece.shapes.push((shared as u8, room as u8));
            (before, before_room) = (record, room);
        }
        piece
    }

    /// Puts the pieces together and finds suffixes.
    fn join(&self, mut pieces: Vec<Piece>, vocab_size: usize) -> Vec<Level> {
        let order = self.order;
        let mut levels: Vec<Level> = (0..order).map(|_| Level::default()).collect();
        // Where each piece's grams start among all of an order.
        let offsets: Vec<Vec<u32>> = (0..order)
            .map(|len| {
                let sizes = pieces.iter().map(|piece| piece.levels[len].words.len() as u32);
                std::iter::once(0)
                    .chain(sizes.scan(0, |sum, size| {
                        *sum += size;
                        Some(*sum)
                    }))
                    .collect()
            })
            .collect();
        let end = |len: usize| offsets[len].last().copied().unwrap_or(0);

        let first = &mut levels[0];
        first.counts = vec![0; vocab_size];
        if order > 1 {
            first.starts = vec![0; vocab_size + 1];
        }
        let mut next_head = 0;
        for (p, piece) in pieces.iter_mut().enumerate() {
            let level = std::mem::take(&mut piece.levels[0]);
            for (i, &head) in piece.heads.iter().enumerate() {
                first.counts[head as usize] = level.counts[i];
                if order > 1 {
                    let start = level.starts[i] + offsets[1][p];
                    first.starts[next_head..=head as usize].fill(start);
                    next_head = head as usize + 1;
                }
            }
        }
        if order > 1 {
            first.starts[next_head..].fill(end(1));
        }

        let mut ids: Vec<AtomicU32> = Vec::new();
        for len in 1..order {
            let grams = end(len) as usize;
            let mut level = Level {
                words: Vec::with_capacity(grams),
                counts: Vec::with_capacity(grams),
                starts: Vec::with_capacity(if len + 1 < order { grams + 1 } else { 0 }),
                suffixes: Vec::new(),
            };
            let mut places: Vec<Vec<u32>> = Vec::with_capacity(pieces.len());
            for (p, piece) in pieces.iter_mut().enumerate() {
                let part = std::mem::take(&mut piece.levels[len]);
                level.words.extend_from_slice(&part.words);
                level.counts.extend_from_slice(&part.counts);
                if len + 1 < order {
                    level.starts.extend(part.starts.iter().map(|start| start + offsets[len + 1][p]));
                }
                places.push(part.places);
            }
            if len + 1 < order {
                level.starts.push(end(len + 1));
            }
            if len == 1 {
                level.suffixes = level.words.clone();
            } else {
                level.suffixes = vec![0; grams];
                let mut rest = level.suffixes.as_mut_slice();
                let mut parts = Vec::with_capacity(pieces.len());
                for places in places {
                    let (part, tail) = rest.split_at_mut(places.len());
                    parts.push((part, places));
                    rest = tail;
                }
                parts.into_par_iter().for_each(|(part, places)| {
                    for (suffix, place) in part.iter_mut().zip(places) {
                        *suffix = ids[place as usize + 1].load(Ordering::Relaxed);
                    }
                });
            }
            levels[len] = level;
            if len + 1 < order {
                // The grams of this order by the place where they begin.
                if ids.is_empty() {
                    ids = std::iter::repeat_with(AtomicU32::default).take(self.tokens.len()).collect();
                }
                pieces.par_iter().zip(&offsets[len]).for_each(|(piece, &offset)| {
                    let mut id = offset.wrapping_sub(1);
                    for (&place, &(shared, room)) in piece.places.iter().zip(&piece.shapes) {
                        if room as usize > len {
                            id = id.wrapping_add(u32::from(shared as usize <= len));
                            ids[place as usize].store(id, Ordering::Relaxed);
                        }
                    }
                });
            }
        }
        levels
    }
}
