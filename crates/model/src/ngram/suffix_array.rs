//! The suffix array behind [`Counts`](super::Counts), truncated at `order` tokens, with longest
//! common prefixes (LCPs).
//!
//! Suffixes are put into buckets by their first token, and buckets are sorted independently. A sort
//! key is one 128-bit number: as many tokens as fit, in a code that is short for frequent ones,
//! then the position. Ties are sorted by the tokens of the text. The result does not depend on the
//! number of threads.
//!
//! First page faults are the largest cost. So keys exist for one bucket at a time and stay in the
//! cache, and n-grams are counted before their arrays are allocated.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use surprisal_platform::prefetch::prefetch;

use super::MAX_ORDER;
use super::order_counts::OrderCounts;
use super::packed::bits_for;
use super::prefix_code::PrefixCode;
use super::suffix_links::{Bucket, LcpEntry, SortedSuffixes, cut, cut_buckets};

/// The number of buckets, if there are enough words.
const BUCKETS: usize = 1024;
/// The number of chunks of the text while positions are put into buckets.
const CHUNKS: usize = 16;
/// Prefetch distance of tokens, in positions.
const PREFETCH_DISTANCE: usize = 16;

/// A text to sort.
#[derive(Clone)]
pub(super) struct SuffixSorter<'a> {
    tokens: &'a [u32],
    vocab_size: usize,
    bos: Option<u32>,
    order: usize,
    /// Frequency of each word.
    frequencies: Vec<u32>,
    code: PrefixCode,
    /// The lowest bits of a sort key, which hold the position.
    position_bits: u32,
    /// Called with the number of finished positions: each once when it is sorted, and once when its
    /// n-grams are stored.
    done: &'a (dyn Fn(u64) + Sync),
}

/// The output arrays of one bucket and order.
struct LevelSlices<'a> {
    words: &'a mut [u32],
    counts: &'a mut [u32],
    child_offsets: &'a mut [u32],
    /// A position of each n-gram; later its suffix link.
    positions: &'a mut [u32],
}

/// The tokens of a sort key.
#[derive(Default)]
struct DecodedKey {
    ids: [u32; MAX_ORDER],
    /// The end of each token's code, in bits.
    ends: [u32; MAX_ORDER],
    len: usize,
    /// Whether the key holds all tokens of the suffix.
    complete: bool,
}

impl DecodedKey {
    fn decode(&mut self, sorter: &SuffixSorter<'_>, key: u128) {
        let bits = 128 - sorter.position_bits;
        let mut at = 0;
        self.len = 0;
        while self.len < sorter.order {
            let (value, len) =
                sorter.code.decode((key >> sorter.position_bits << sorter.position_bits) << at);
            if at + len > bits {
                // Even if the code of the end is cut off, only zeros can remain of it.
                self.complete = false;
                return;
            }
            if value == 0 {
                break;
            }
            at += len;
            self.ids[self.len] = value - 1;
            self.ends[self.len] = at;
            self.len += 1;
        }
        self.complete = true;
    }
}

impl<'a> SuffixSorter<'a> {
    /// `tokens` are below `vocab_size`, and fewer than 2³².
    pub(super) fn new(
        tokens: &'a [u32],
        vocab_size: usize,
        order: usize,
        bos: Option<u32>,
        done: &'a (dyn Fn(u64) + Sync),
    ) -> Self {
        let mut frequencies = vec![0_u32; vocab_size];
        for &token in tokens {
            frequencies[token as usize] += 1;
        }
        // 0 is the end of a suffix; a word's code is that of its id + 1.
        let ends = tokens.len() as u32 / 16;
        let code = PrefixCode::new(std::iter::once(ends).chain(frequencies.iter().copied()));
        let position_bits = bits_for(tokens.len() as u64);
        Self { tokens, vocab_size, bos, order, frequencies, code, position_bits, done }
    }

    /// The position in a sort key.
    fn position(&self, key: u128) -> usize {
        (key & ((1 << self.position_bits) - 1)) as usize
    }

    /// The number of tokens of the suffix at `position`, at most `order`.
    fn suffix_len(&self, position: usize) -> usize {
        let longest = &self.tokens[position..self.tokens.len().min(position + self.order)];
        match self.bos {
            Some(bos) => longest[1..].iter().position(|&word| word == bos).map_or(longest.len(), |at| at + 1),
            None => longest.len(),
        }
    }

    /// The sort key of a position.
    #[inline]
    fn sort_key(&self, position: usize) -> u128 {
        let (mut key, mut at) = (0_u128, 0);
        let words = &self.tokens[position..self.tokens.len().min(position + self.order)];
        for (i, &word) in words.iter().enumerate() {
            // A suffix ends before the next sentence.
            if at + self.position_bits >= 128 || i > 0 && Some(word) == self.bos {
                break;
            }
            let (code, len) = self.code.encode(word + 1);
            key |= u128::from(code) << (128 - len) >> at;
            at += len;
        }
        key >> self.position_bits << self.position_bits | position as u128
    }

    /// The n-grams of all orders without their suffix links, and the suffix array to find those.
    pub(super) fn levels(&self) -> (Vec<OrderCounts>, SortedSuffixes) {
        let (mut positions, mut lcps, sizes, grams) = self.sort();
        let buckets = cut_buckets(&mut positions, &mut lcps, &sizes);
        let (levels, before) = self.build_levels(&buckets, &grams);
        (levels, SortedSuffixes { positions, lcps, sizes, before })
    }

    /// The suffix array with its LCPs, and the frequency of each word.
    pub(super) fn sorted(self) -> (Vec<u32>, Vec<LcpEntry>, Vec<u32>) {
        let (positions, lcps, ..) = self.sort();
        (positions, lcps, self.frequencies)
    }

    /// The suffix array with its LCPs; the size of each bucket, and its number of n-grams of each
    /// length.
    fn sort(&self) -> (Vec<u32>, Vec<LcpEntry>, Vec<usize>, Vec<[usize; MAX_ORDER]>) {
        // Words in order, into buckets of about equal size; a frequent word has its own bucket.
        let n = self.tokens.len();
        let target = n.div_ceil(BUCKETS).max(1);
        let (mut bucket_of, mut sizes) = (vec![0_u16; self.vocab_size], vec![0]);
        for (bucket_of, &frequency) in bucket_of.iter_mut().zip(&self.frequencies) {
            let filled = sizes[sizes.len() - 1];
            if filled > 0 && filled + frequency as usize > target {
                sizes.push(0);
            }
            let bucket = sizes.len() - 1;
            *bucket_of = bucket as u16;
            sizes[bucket] += frequency as usize;
        }
        let (mut positions, mut lcps) = (zeros::<u32>(n), zeros::<LcpEntry>(n));
        self.scatter(&bucket_of, sizes.len(), &mut positions);
        let mut buckets = cut_buckets(&mut positions, &mut lcps, &sizes);
        let grams = self.sort_buckets(&mut buckets);
        (positions, lcps, sizes, grams)
    }

    /// Writes every position into the part of its bucket.
    fn scatter(&self, bucket_of: &[u16], buckets: usize, positions: &mut [u32]) {
        let n = self.tokens.len();
        let share = n.div_ceil(CHUNKS).max(1);
        let chunks: Vec<Range<usize>> =
            (0..n).step_by(share).map(|start| start..n.min(start + share)).collect();
        let sizes: Vec<Vec<usize>> = chunks
            .par_iter()
            .map(|range| {
                let mut sizes = vec![0; buckets];
                for &token in &self.tokens[range.clone()] {
                    sizes[bucket_of[token as usize] as usize] += 1;
                }
                sizes
            })
            .collect();
        // Bucket by bucket, and within a bucket chunk by chunk: every chunk writes to its own
        // parts.
        let by_bucket: Vec<usize> =
            (0..buckets).flat_map(|bucket| sizes.iter().map(move |sizes| sizes[bucket])).collect();
        let mut parts: Vec<Vec<std::slice::IterMut<'_, u32>>> =
            chunks.iter().map(|_| Vec::with_capacity(buckets)).collect();
        for (i, part) in cut(positions, &by_bucket).into_iter().enumerate() {
            parts[i % chunks.len()].push(part.iter_mut());
        }
        chunks.into_par_iter().zip(parts).for_each(|(range, mut parts)| {
            for position in range {
                let bucket = bucket_of[self.tokens[position] as usize];
                if let Some(into) = parts[bucket as usize].next() {
                    *into = position as u32;
                }
            }
        });
    }

    /// Sorts all buckets; returns the number of n-grams of each length that begin in each bucket.
    fn sort_buckets(&self, buckets: &mut [Bucket<'_>]) -> Vec<[usize; MAX_ORDER]> {
        let spare: Mutex<Vec<Vec<u128>>> = Mutex::default();
        let spare = || spare.lock().unwrap_or_else(PoisonError::into_inner);
        let sort = |bucket: &mut Bucket<'_>| {
            let mut keys = spare().pop().unwrap_or_default();
            let grams = self.sort_bucket(bucket, &mut keys);
            spare().push(keys);
            (self.done)(bucket.positions.len() as u64);
            grams
        };
        buckets.par_iter_mut().with_max_len(1).map(sort).collect()
    }

    /// Sorts a bucket and computes its LCPs; returns the number of n-grams of each length that
    /// begin in it. `keys` is scratch memory.
    fn sort_bucket(&self, bucket: &mut Bucket<'_>, keys: &mut Vec<u128>) -> [usize; MAX_ORDER] {
        keys.clear();
        keys.extend(bucket.positions.iter().enumerate().map(|(i, &position)| {
            if let Some(&position) = bucket.positions.get(i + PREFETCH_DISTANCE) {
                prefetch(self.tokens, position as usize);
            }
            self.sort_key(position as usize)
        }));
        keys.sort_unstable();
        for run in keys.chunk_by_mut(|a, b| a >> self.position_bits == b >> self.position_bits) {
            self.sort_ties(run);
        }
        self.write_lcps(keys, bucket)
    }

    /// Sorts keys with equal codes by the tokens after those.
    fn sort_ties(&self, run: &mut [u128]) {
        if run.len() == 1 {
            return;
        }
        let mut words = DecodedKey::default();
        words.decode(self, run[0]);
        if words.complete {
            return;
        }
        let rest = |key: u128| {
            let position = self.position(key);
            &self.tokens[position + words.len..position + self.suffix_len(position)]
        };
        run.sort_unstable_by(|&a, &b| rest(a).cmp(rest(b)).then(a.cmp(&b)));
    }

    /// Stores positions and LCPs of sorted keys; returns the number of n-grams of each length.
    fn write_lcps(&self, keys: &[u128], bucket: &mut Bucket<'_>) -> [usize; MAX_ORDER] {
        let mut grams = [0; MAX_ORDER];
        let (mut words, mut before, mut suffix_len) = (DecodedKey::default(), 0_u128, 0);
        let into = bucket.positions.iter_mut().zip(&mut *bucket.lcps);
        for (&key, (slot, entry)) in keys.iter().zip(into) {
            let position = self.position(key);
            let same = ((key ^ before) >> self.position_bits << self.position_bits).leading_zeros();
            // The longest common prefix with the key before, in tokens.
            let mut lcp = words.ends[..words.len].partition_point(|&end| end <= same);
            if !(lcp == self.order && words.complete) {
                let known =
                    (lcp == words.len && !words.complete).then_some((self.position(before), suffix_len));
                words.decode(self, key);
                suffix_len = if words.complete { words.len } else { self.suffix_len(position) };
                if let Some((other, other_len)) = known {
                    let (mine, others) = (
                        &self.tokens[position..position + suffix_len],
                        &self.tokens[other..other + other_len],
                    );
                    let equal = mine[lcp..].iter().zip(&others[lcp..]).take_while(|(a, b)| a == b);
                    lcp += equal.count();
                }
            }
            for grams in &mut grams[lcp..suffix_len] {
                *grams += 1;
            }
            *slot = position as u32;
            *entry = LcpEntry { lcp: lcp as u8, len: suffix_len as u8 };
            before = key;
        }
        grams
    }

    /// Builds the arrays of all orders, and per order the number of n-grams before each bucket.
    fn build_levels(
        &self,
        buckets: &[Bucket<'_>],
        grams: &[[usize; MAX_ORDER]],
    ) -> (Vec<OrderCounts>, Vec<Vec<u32>>) {
        let order = self.order;
        // Per order, the n-grams in each bucket and in the buckets before it.
        let sizes: Vec<Vec<usize>> =
            (0..order).map(|len| grams.iter().map(|grams| grams[len]).collect()).collect();
        let before: Vec<Vec<u32>> = sizes
            .iter()
            .map(|sizes| {
                let sum = |sum: &mut u32, size: &usize| {
                    let before = *sum;
                    *sum += *size as u32;
                    Some(before)
                };
                sizes.iter().scan(0, sum).collect()
            })
            .collect();
        let total: Vec<usize> = sizes.iter().map(|sizes| sizes.iter().sum()).collect();
        let mut levels = vec![OrderCounts::default(); order];
        for (len, level) in levels.iter_mut().enumerate().skip(1) {
            (level.words, level.counts, level.suffix_links) =
                (zeros(total[len]), zeros(total[len]), zeros(total[len]));
            if len + 1 < order {
                level.child_offsets = zeros(total[len] + 1);
            }
        }
        let mut heads: Vec<Vec<(u32, u32)>> = vec![Vec::new(); buckets.len()];
        {
            let mut slices: Vec<Vec<LevelSlices<'_>>> = buckets.iter().map(|_| Vec::new()).collect();
            for (level, sizes) in levels.iter_mut().zip(&sizes).skip(1) {
                let offset_sizes =
                    if level.child_offsets.is_empty() { vec![0; sizes.len()] } else { sizes.clone() };
                let arrays = cut(&mut level.words, sizes)
                    .into_iter()
                    .zip(cut(&mut level.counts, sizes))
                    .zip(cut(&mut level.child_offsets, &offset_sizes))
                    .zip(cut(&mut level.suffix_links, sizes));
                for (slices, (((words, counts), child_offsets), positions)) in slices.iter_mut().zip(arrays) {
                    slices.push(LevelSlices { words, counts, child_offsets, positions });
                }
            }
            buckets.par_iter().zip(slices).zip(&mut heads).enumerate().with_max_len(1).for_each(
                |(i, ((bucket, mut slices), heads))| {
                    let mut next = [0_usize; MAX_ORDER];
                    for (n, (position, entry)) in bucket.entries().enumerate() {
                        if let Some(&position) = bucket.positions.get(n + PREFETCH_DISTANCE) {
                            prefetch(self.tokens, position as usize);
                        }
                        let (lcp, suffix_len) = (usize::from(entry.lcp), usize::from(entry.len));
                        if lcp == 0 {
                            heads.push((self.tokens[position], next[1] as u32));
                        }
                        for len in lcp.max(1)..suffix_len {
                            let earlier = before.get(len + 1).map_or(0, |before| before[i]);
                            let (into, at) = (&mut slices[len - 1], next[len]);
                            into.words[at] = self.tokens[position + len];
                            into.positions[at] = position as u32;
                            if let Some(start) = into.child_offsets.get_mut(at) {
                                *start = earlier + next[len + 1] as u32;
                            }
                            next[len] = at + 1;
                        }
                        for len in 1..suffix_len {
                            slices[len - 1].counts[next[len] - 1] += 1;
                        }
                    }
                    (self.done)(bucket.positions.len() as u64);
                },
            );
        }
        levels[0].counts.clone_from(&self.frequencies);
        if order > 1 {
            levels[0].child_offsets = vec![total[1] as u32; self.vocab_size + 1];
            let mut next = 0;
            for (heads, before) in heads.iter().zip(&before[1]) {
                for &(word, start) in heads {
                    levels[0].child_offsets[next..=word as usize].fill(before + start);
                    next = word as usize + 1;
                }
            }
        }
        for len in 1..order.saturating_sub(1) {
            levels[len].child_offsets[total[len]] = total[len + 1] as u32;
        }
        (levels, before)
    }
}

/// An array of zeros, with its first page faults in all threads.
pub(super) fn zeros<T: Default + Send>(len: usize) -> Vec<T> {
    (0..len).into_par_iter().with_min_len(1 << 16).map(|_| T::default()).collect()
}
