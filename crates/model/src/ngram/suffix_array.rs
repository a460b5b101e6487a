//! The sort of places behind [`Counts`](super::Counts).
//!
//! Places are cut into buckets by the word that stands there, and buckets are sorted independently. To be sorted, a place
//! becomes a record, one 128-bit number: as many words as fit, in a code that is short for frequent ones, then the place.
//! What is equal that far is compared in the text. The number of threads changes nothing about the result.
//!
//! Memory that is touched for the first time is what costs most here. So records exist for one bucket at a time, and stay
//! in the cache; what is left of them is the sorted place and its [`Shape`]; and grams are counted before their arrays
//! are made.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use surprisal_platform::prefetch::prefetch;

use super::MAX_ORDER;
use super::order_counts::OrderCounts;
use super::packed::bits_for;
use super::prefix_code::PrefixCode;
use super::suffix_links::{Bucket, LcpEntry, SortedSuffixes, cut, cut_buckets};

/// Into how many buckets the places are cut, if there are enough words.
const BUCKETS: usize = 1024;
/// Into how many pieces the text is cut while places are put into buckets.
const CHUNKS: usize = 16;
/// How many places ahead their words are asked for.
const PREFETCH_DISTANCE: usize = 16;

/// A text to count.
#[derive(Clone)]
pub(super) struct SuffixSorter<'a> {
    tokens: &'a [u32],
    vocab_size: usize,
    bos: Option<u32>,
    order: usize,
    /// Of the words.
    frequencies: Vec<u32>,
    code: PrefixCode,
    /// The lowest bits of a record, which hold the place.
    position_bits: u32,
    /// Told how many places more are done with: each once when it is sorted, and once when its grams are written down.
    done: &'a (dyn Fn(u64) + Sync),
}

/// Where the grams of one bucket and order go.
struct LevelSlices<'a> {
    words: &'a mut [u32],
    counts: &'a mut [u32],
    starts: &'a mut [u32],
    /// A place where each begins; becomes its suffix.
    positions: &'a mut [u32],
}

/// The words of a record.
#[derive(Default)]
struct DecodedKey {
    ids: [u32; MAX_ORDER],
    /// After how many bits each ends.
    ends: [u32; MAX_ORDER],
    len: usize,
    /// Whether these are all the words of the gram: nothing is cut off.
    complete: bool,
}

impl DecodedKey {
    fn decode(&mut self, text: &SuffixSorter<'_>, record: u128) {
        let bits = 128 - text.position_bits;
        let mut at = 0;
        self.len = 0;
        while self.len < text.order {
            let (value, len) = text.code.decode((record >> text.position_bits << text.position_bits) << at);
            if at + len > bits {
                // Where even the code of the end was cut off, only zeros can be left of it.
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
        // 0 stands for the end; a word's code is that of its id and one.
        let ends = tokens.len() as u32 / 16;
        let code = PrefixCode::new(std::iter::once(ends).chain(frequencies.iter().copied()));
        let place_bits = bits_for(tokens.len() as u64);
        Self { tokens, vocab_size, bos, order, frequencies, code, position_bits: place_bits, done }
    }

    /// The place of a record.
    fn position(&self, record: u128) -> usize {
        (record & ((1 << self.position_bits) - 1)) as usize
    }

    /// How many words a gram that begins at `place` can have.
    fn suffix_len(&self, place: usize) -> usize {
        let longest = &self.tokens[place..self.tokens.len().min(place + self.order)];
        match self.bos {
            Some(bos) => longest[1..].iter().position(|&word| word == bos).map_or(longest.len(), |at| at + 1),
            None => longest.len(),
        }
    }

    /// The record of a place.
    #[inline]
    fn sort_key(&self, place: usize) -> u128 {
        let (mut key, mut at) = (0_u128, 0);
        let words = &self.tokens[place..self.tokens.len().min(place + self.order)];
        for (i, &word) in words.iter().enumerate() {
            // What stands before a sentence ends before it.
            if at + self.position_bits >= 128 || i > 0 && Some(word) == self.bos {
                break;
            }
            let (code, len) = self.code.encode(word + 1);
            key |= u128::from(code) << (128 - len) >> at;
            at += len;
        }
        key >> self.position_bits << self.position_bits | place as u128
    }

    /// All grams, but for their suffixes, and what it takes to find those.
    pub(super) fn levels(&self) -> (Vec<OrderCounts>, SortedSuffixes) {
        // Words in order, into buckets of about equal size; a frequent word has one of its own.
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
        let (mut places, mut shapes) = (zeros::<u32>(n), zeros::<LcpEntry>(n));
        self.scatter(&bucket_of, sizes.len(), &mut places);
        let mut buckets = cut_buckets(&mut places, &mut shapes, &sizes);
        let grams = self.sort_buckets(&mut buckets);
        let (levels, before) = self.build_levels(&buckets, &grams);
        (levels, SortedSuffixes { positions: places, lcps: shapes, sizes, before })
    }

    /// Writes every place into the part of its bucket.
    fn scatter(&self, bucket_of: &[u16], buckets: usize, places: &mut [u32]) {
        let n = self.tokens.len();
        let share = n.div_ceil(CHUNKS).max(1);
        let pieces: Vec<Range<usize>> =
            (0..n).step_by(share).map(|start| start..n.min(start + share)).collect();
        let sizes: Vec<Vec<usize>> = pieces
            .par_iter()
            .map(|range| {
                let mut sizes = vec![0; buckets];
                for &token in &self.tokens[range.clone()] {
                    sizes[bucket_of[token as usize] as usize] += 1;
                }
                sizes
            })
            .collect();
        // Bucket by bucket, and within it piece by piece: every piece writes into parts of its own.
        let by_bucket: Vec<usize> =
            (0..buckets).flat_map(|bucket| sizes.iter().map(move |sizes| sizes[bucket])).collect();
        let mut parts: Vec<Vec<std::slice::IterMut<'_, u32>>> =
            pieces.iter().map(|_| Vec::with_capacity(buckets)).collect();
        for (i, part) in cut(places, &by_bucket).into_iter().enumerate() {
            parts[i % pieces.len()].push(part.iter_mut());
        }
        pieces.into_par_iter().zip(parts).for_each(|(range, mut parts)| {
            for place in range {
                let bucket = bucket_of[self.tokens[place] as usize];
                if let Some(into) = parts[bucket as usize].next() {
                    *into = place as u32;
                }
            }
        });
    }

    /// Sorts all buckets; returns how many grams of each length begin in each.
    fn sort_buckets(&self, buckets: &mut [Bucket<'_>]) -> Vec<[usize; MAX_ORDER]> {
        let spare: Mutex<Vec<Vec<u128>>> = Mutex::default();
        let spare = || spare.lock().unwrap_or_else(PoisonError::into_inner);
        let sort = |bucket: &mut Bucket<'_>| {
            let mut records = spare().pop().unwrap_or_default();
            let grams = self.sort_bucket(bucket, &mut records);
            spare().push(records);
            (self.done)(bucket.positions.len() as u64);
            grams
        };
        buckets.par_iter_mut().with_max_len(1).map(sort).collect()
    }

    /// Sorts the places of a bucket and finds their shapes; returns how many grams of each length begin in it. `records`
    /// is memory to work in.
    fn sort_bucket(&self, bucket: &mut Bucket<'_>, records: &mut Vec<u128>) -> [usize; MAX_ORDER] {
        records.clear();
        records.extend(bucket.positions.iter().enumerate().map(|(i, &place)| {
            if let Some(&place) = bucket.positions.get(i + PREFETCH_DISTANCE) {
                prefetch(self.tokens, place as usize);
            }
            self.sort_key(place as usize)
        }));
        records.sort_unstable();
        for run in records.chunk_by_mut(|a, b| a >> self.position_bits == b >> self.position_bits) {
            self.sort_ties(run);
        }
        self.write_lcps(records, bucket)
    }

    /// Sorts records that are equal as far as they go by the words after that.
    fn sort_ties(&self, run: &mut [u128]) {
        if run.len() == 1 {
            return;
        }
        let mut words = DecodedKey::default();
        words.decode(self, run[0]);
        if words.complete {
            return;
        }
        let rest = |record: u128| {
            let place = self.position(record);
            &self.tokens[place + words.len..place + self.suffix_len(place)]
        };
        run.sort_unstable_by(|&a, &b| rest(a).cmp(rest(b)).then(a.cmp(&b)));
    }

    /// Writes down the places and shapes of sorted records; returns how many grams of each length begin with them.
    fn write_lcps(&self, records: &[u128], bucket: &mut Bucket<'_>) -> [usize; MAX_ORDER] {
        let mut grams = [0; MAX_ORDER];
        let (mut words, mut before, mut room) = (DecodedKey::default(), 0_u128, 0);
        let into = bucket.positions.iter_mut().zip(&mut *bucket.lcps);
        for (&record, (place_of, shape)) in records.iter().zip(into) {
            let place = self.position(record);
            let same = ((record ^ before) >> self.position_bits << self.position_bits).leading_zeros();
            // How many words are those of the record before.
            let mut shared = words.ends[..words.len].partition_point(|&end| end <= same);
            if !(shared == self.order && words.complete) {
                let known = (shared == words.len && !words.complete).then_some((self.position(before), room));
                words.decode(self, record);
                room = if words.complete { words.len } else { self.suffix_len(place) };
                if let Some((other, other_room)) = known {
                    let (mine, others) =
                        (&self.tokens[place..place + room], &self.tokens[other..other + other_room]);
                    let equal = mine[shared..].iter().zip(&others[shared..]).take_while(|(a, b)| a == b);
                    shared += equal.count();
                }
            }
            for grams in &mut grams[shared..room] {
                *grams += 1;
            }
            *place_of = place as u32;
            *shape = LcpEntry { lcp: shared as u8, len: room as u8 };
            before = record;
        }
        grams
    }

    /// Makes the arrays of all orders; returns how many grams stand in the buckets before each, too.
    fn build_levels(
        &self,
        buckets: &[Bucket<'_>],
        grams: &[[usize; MAX_ORDER]],
    ) -> (Vec<OrderCounts>, Vec<Vec<u32>>) {
        let order = self.order;
        // How many grams of each order each bucket has, and how many stand in the buckets before it.
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
            let mut places: Vec<Vec<LevelSlices<'_>>> = buckets.iter().map(|_| Vec::new()).collect();
            for (level, sizes) in levels.iter_mut().zip(&sizes).skip(1) {
                let starts =
                    if level.child_offsets.is_empty() { vec![0; sizes.len()] } else { sizes.clone() };
                let arrays = cut(&mut level.words, sizes)
                    .into_iter()
                    .zip(cut(&mut level.counts, sizes))
                    .zip(cut(&mut level.child_offsets, &starts))
                    .zip(cut(&mut level.suffix_links, sizes));
                for (places, (((words, counts), starts), suffixes)) in places.iter_mut().zip(arrays) {
                    places.push(LevelSlices { words, counts, starts, positions: suffixes });
                }
            }
            buckets.par_iter().zip(places).zip(&mut heads).enumerate().with_max_len(1).for_each(
                |(i, ((bucket, mut places), heads))| {
                    let mut next = [0_usize; MAX_ORDER];
                    for (n, (place, shape)) in bucket.entries().enumerate() {
                        if let Some(&place) = bucket.positions.get(n + PREFETCH_DISTANCE) {
                            prefetch(self.tokens, place as usize);
                        }
                        let (shared, room) = (usize::from(shape.lcp), usize::from(shape.len));
                        if shared == 0 {
                            heads.push((self.tokens[place], next[1] as u32));
                        }
                        for len in shared.max(1)..room {
                            let above = before.get(len + 1).map_or(0, |before| before[i]);
                            let (into, at) = (&mut places[len - 1], next[len]);
                            into.words[at] = self.tokens[place + len];
                            into.positions[at] = place as u32;
                            if let Some(start) = into.starts.get_mut(at) {
                                *start = above + next[len + 1] as u32;
                            }
                            next[len] = at + 1;
                        }
                        for len in 1..room {
                            places[len - 1].counts[next[len] - 1] += 1;
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

/// An array of zeros, touched by all threads.
pub(super) fn zeros<T: Default + Send>(len: usize) -> Vec<T> {
    (0..len).into_par_iter().with_min_len(1 << 16).map(|_| T::default()).collect()
}
