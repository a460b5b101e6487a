//! The sort of places behind [`Counts`](super::Counts).
//!
//! A record is one 128-bit number: as many words as fit, in a code that is short for frequent ones, then the place. What is
//! equal that far is compared in the text. Records are cut into buckets by their first word; buckets are sorted
//! independently. The number of threads changes nothing about the result.
//!
//! Memory that is touched for the first time is what costs most here, so there is one array of records, written once: a
//! sorted record is overwritten by its [`Shape`], and grams are counted before their arrays are made.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use super::MAX_ORDER;
use super::code::Code;
use super::counts::Level;
use super::packed::bits_for;

/// Into how many buckets the places are cut, if there are enough words.
const BUCKETS: usize = 512;
/// Into how many pieces the text is cut while records are made.
const PIECES: usize = 16;

/// A text to count.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    tokens: &'a [u32],
    /// What begins from here on is not counted, only looked at.
    limit: usize,
    vocab_size: usize,
    bos: Option<u32>,
    order: usize,
    code: Code,
    /// The lowest bits of a record, which hold the place.
    place_bits: u32,
    /// Told how many places more are done with: each once when it is sorted, and once when its grams are written down.
    done: &'a (dyn Fn(u64) + Sync),
}

/// What is left of a sorted record: its place, how many words it shares with the record before it, and how many it has.
#[derive(Clone, Copy)]
struct Shape(u64);

impl Shape {
    fn new(place: usize, shared: usize, room: usize) -> Self {
        Self((place as u64) << 32 | (shared as u64) << 16 | room as u64)
    }

    fn place(self) -> usize {
        (self.0 >> 32) as usize
    }

    fn shared(self) -> usize {
        (self.0 >> 16 & 0xffff) as usize
    }

    fn room(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

/// The records of the words from one on: first records, then as many shapes.
struct Bucket<'a> {
    memory: &'a mut [u64],
    records: usize,
}

impl Bucket<'_> {
    fn shapes(&self) -> impl Iterator<Item = Shape> {
        self.memory[..self.records].iter().map(|&shape| Shape(shape))
    }
}

/// Where the grams of one bucket and order go.
struct Place<'a> {
    words: &'a mut [u32],
    counts: &'a mut [u32],
    starts: &'a mut [u32],
    /// A place where each begins; becomes its suffix.
    places: &'a mut [u32],
}

/// The words of a record.
#[derive(Default)]
struct Words {
    ids: [u32; MAX_ORDER],
    /// After how many bits each ends.
    ends: [u32; MAX_ORDER],
    len: usize,
    /// Whether these are all the words of the gram: nothing is cut off.
    whole: bool,
}

impl Words {
    fn read(&mut self, text: &Text<'_>, record: u128) {
        let bits = 128 - text.place_bits;
        let mut at = 0;
        self.len = 0;
        while self.len < text.order {
            let (value, len) = text.code.decode((record >> text.place_bits << text.place_bits) << at);
            if at + len > bits {
                // Where even the code of the end was cut off, only zeros can be left of it.
                self.whole = false;
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
        self.whole = true;
    }
}

impl<'a> Text<'a> {
    /// `tokens` are below `vocab_size`, and fewer than 2³².
    pub(super) fn new(tokens: &'a [u32], vocab_size: usize, order: usize, bos: Option<u32>) -> Self {
        let mut frequencies = vec![0_u32; vocab_size + 1];
        for &token in tokens {
            frequencies[token as usize + 1] += 1;
        }
        // 0 stands for the end; a word's code is that of its id and one.
        frequencies[0] = tokens.len() as u32 / 16;
        let code = Code::of(&frequencies);
        let place_bits = bits_for(tokens.len() as u64);
        Self { tokens, limit: tokens.len(), vocab_size, bos, order, code, place_bits, done: &|_| () }
    }

    /// Tells `done` of places that are done with.
    pub(super) fn telling(self, done: &'a (dyn Fn(u64) + Sync)) -> Self {
        Self { done, ..self }
    }

    /// Counts only what begins before `limit`.
    pub(super) fn starting_in(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The place of a record.
    fn place(&self, record: u128) -> usize {
        (record & ((1 << self.place_bits) - 1)) as usize
    }

    /// How many words a gram that begins at `place` can have.
    fn room(&self, place: usize) -> usize {
        let longest = &self.tokens[place..self.tokens.len().min(place + self.order)];
        match self.bos {
            Some(bos) => longest[1..].iter().position(|&word| word == bos).map_or(longest.len(), |at| at + 1),
            None => longest.len(),
        }
    }

    /// Calls `emit` with the record of each place of `range`.
    fn records(&self, range: std::ops::Range<usize>, mut emit: impl FnMut(u32, u128)) {
        let places = (1 << self.place_bits) - 1;
        let mut key = 0_u128;
        let last = self.tokens.len().min(range.end + self.order);
        for place in (range.start..last).rev() {
            let word = self.tokens[place];
            let (code, len) = self.code.encode(word + 1);
            key = u128::from(code) << (128 - len) | key >> len;
            if place < range.end {
                emit(word, key & !places | place as u128);
            }
            if Some(word) == self.bos {
                // What stands before a sentence ends before it.
                key = 0;
            }
        }
    }

    /// All grams.
    pub(super) fn levels(&self) -> Vec<Level> {
        let mut frequencies = vec![0_u32; self.vocab_size];
        for &token in self.tokens {
            frequencies[token as usize] += 1;
        }
        // Words in order, into buckets of about equal size; a frequent word has one of its own.
        let n = self.tokens.len();
        let target = n.div_ceil(BUCKETS).max(1);
        let (mut bucket_of, mut bucket, mut filled) = (vec![0_u16; self.vocab_size], 0, 0);
        for (bucket_of, &frequency) in bucket_of.iter_mut().zip(&frequencies) {
            if filled > 0 && filled + frequency as usize > target {
                (bucket, filled) = (bucket + 1, 0);
            }
            *bucket_of = bucket;
            filled += frequency as usize;
        }
        let mut memory = vec![0_u128; n];
        let sizes = self.scatter(&bucket_of, bucket as usize + 1, &mut memory);
        let mut buckets: Vec<Bucket<'_>> = cut(&mut memory, &sizes)
            .into_iter()
            .zip(&sizes)
            .map(|(records, &size)| Bucket { memory: bytemuck::cast_slice_mut(records), records: size })
            .collect();
        let grams: Vec<[usize; MAX_ORDER]> = buckets
            .par_iter_mut()
            .with_max_len(1)
            .map(|bucket| {
                let records: &mut [u128] = bytemuck::cast_slice_mut(bucket.memory);
                records.sort_unstable();
                for run in records.chunk_by_mut(|a, b| a >> self.place_bits == b >> self.place_bits) {
                    self.refine(run);
                }
                let grams = self.shape(bucket);
                (self.done)(bucket.records as u64);
                grams
            })
            .collect();
        self.fill(&buckets, &grams, &frequencies)
    }

    /// Writes every place's record into the part of its bucket; returns how many each has.
    fn scatter(&self, bucket_of: &[u16], buckets: usize, memory: &mut [u128]) -> Vec<usize> {
        let n = self.tokens.len();
        let share = n.div_ceil(PIECES).max(1);
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
        let mut parts: Vec<Vec<std::slice::IterMut<'_, u128>>> =
            pieces.iter().map(|_| Vec::with_capacity(buckets)).collect();
        for (i, part) in cut(memory, &by_bucket).into_iter().enumerate() {
            parts[i % pieces.len()].push(part.iter_mut());
        }
        pieces.into_par_iter().zip(parts).for_each(|(range, mut parts)| {
            self.records(range, |word, record| {
                if let Some(place) = parts[bucket_of[word as usize] as usize].next() {
                    *place = record;
                }
            });
        });
        (0..buckets).map(|bucket| sizes.iter().map(|sizes| sizes[bucket]).sum()).collect()
    }

    /// Sorts records that are equal as far as they go by the words after that.
    fn refine(&self, run: &mut [u128]) {
        if run.len() == 1 {
            return;
        }
        let mut words = Words::default();
        words.read(self, run[0]);
        if words.whole {
            return;
        }
        let rest = |record: u128| {
            let place = self.place(record);
            &self.tokens[place + words.len..place + self.room(place)]
        };
        run.sort_unstable_by(|&a, &b| rest(a).cmp(rest(b)).then(a.cmp(&b)));
    }

    /// Overwrites sorted records by their shapes; returns how many grams of each length begin in this bucket.
    fn shape(&self, bucket: &mut Bucket<'_>) -> [usize; MAX_ORDER] {
        let mut grams = [0; MAX_ORDER];
        let (mut words, mut before, mut room) = (Words::default(), 0_u128, 0);
        for i in 0..bucket.records {
            let record: u128 = bytemuck::cast([bucket.memory[2 * i], bucket.memory[2 * i + 1]]);
            let place = self.place(record);
            let same = ((record ^ before) >> self.place_bits << self.place_bits).leading_zeros();
            // How many words are those of the record before.
            let mut shared = words.ends[..words.len].partition_point(|&end| end <= same);
            if !(shared == self.order && words.whole) {
                let known = (shared == words.len && !words.whole).then_some((self.place(before), room));
                words.read(self, record);
                room = if words.whole { words.len } else { self.room(place) };
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
            // A shape is half a record: it is written where records have been read.
            bucket.memory[i] = Shape::new(place, shared, room).0;
            before = record;
        }
        grams
    }

    /// Makes the arrays of all orders.
    fn fill(&self, buckets: &[Bucket<'_>], grams: &[[usize; MAX_ORDER]], frequencies: &[u32]) -> Vec<Level> {
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
        let array = |len: usize| vec![0_u32; if len == 0 { 0 } else { total[len] }];
        let mut levels: Vec<Level> = (0..order)
            .map(|len| Level {
                words: array(len),
                counts: array(len),
                starts: if len + 1 < order { array(len) } else { Vec::new() },
                suffixes: array(len),
            })
            .collect();
        let mut heads: Vec<Vec<(u32, u32)>> = vec![Vec::new(); buckets.len()];
        {
            let mut places: Vec<Vec<Place<'_>>> = buckets.iter().map(|_| Vec::new()).collect();
            for (level, sizes) in levels.iter_mut().zip(&sizes).skip(1) {
                let starts = if level.starts.is_empty() { vec![0; sizes.len()] } else { sizes.clone() };
                let arrays = cut(&mut level.words, sizes)
                    .into_iter()
                    .zip(cut(&mut level.counts, sizes))
                    .zip(cut(&mut level.starts, &starts))
                    .zip(cut(&mut level.suffixes, sizes));
                for (places, (((words, counts), starts), suffixes)) in places.iter_mut().zip(arrays) {
                    places.push(Place { words, counts, starts, places: suffixes });
                }
            }
            buckets.par_iter().zip(places).zip(&mut heads).enumerate().with_max_len(1).for_each(
                |(i, ((bucket, mut places), heads))| {
                    let mut next = [0_usize; MAX_ORDER];
                    for shape in bucket.shapes() {
                        let (place, shared, room) = (shape.place(), shape.shared(), shape.room());
                        if shared == 0 {
                            heads.push((self.tokens[place], next[1] as u32));
                        }
                        for len in shared.max(1)..room {
                            let above = before.get(len + 1).map_or(0, |before| before[i]);
                            let (into, at) = (&mut places[len - 1], next[len]);
                            into.words[at] = self.tokens[place + len];
                            into.places[at] = place as u32;
                            if let Some(start) = into.starts.get_mut(at) {
                                *start = above + next[len + 1] as u32;
                            }
                            next[len] = at + 1;
                        }
                        for len in 1..room {
                            places[len - 1].counts[next[len] - 1] += u32::from(place < self.limit);
                        }
                    }
                    (self.done)(bucket.records as u64);
                },
            );
        }
        levels[0].counts = frequencies.to_vec();
        for &token in self.tokens.get(self.limit..).unwrap_or_default() {
            levels[0].counts[token as usize] -= 1;
        }
        if order > 1 {
            levels[0].starts = vec![total[1] as u32; self.vocab_size + 1];
            let mut next = 0;
            for (heads, before) in heads.iter().zip(&before[1]) {
                for &(word, start) in heads {
                    levels[0].starts[next..=word as usize].fill(before + start);
                    next = word as usize + 1;
                }
            }
        }
        for len in 1..order.saturating_sub(1) {
            levels[len].starts.push(total[len + 1] as u32);
        }
        self.suffixes(buckets, &before, &mut levels);
        levels
    }

    /// A gram's suffix begins one place later: the grams of each order by place are those of the next order's suffixes.
    fn suffixes(&self, buckets: &[Bucket<'_>], before: &[Vec<u32>], levels: &mut [Level]) {
        if let Some(level) = levels.get_mut(1) {
            level.suffixes.clone_from(&level.words);
        }
        let longest = if self.order > 2 { self.tokens.len() } else { 0 };
        let ids: Vec<AtomicU32> = std::iter::repeat_with(AtomicU32::default).take(longest).collect();
        for len in 1..self.order.saturating_sub(1) {
            buckets.par_iter().zip(&before[len]).for_each(|(bucket, &before)| {
                let mut id = before.wrapping_sub(1);
                for shape in bucket.shapes().filter(|shape| shape.room() > len) {
                    id = id.wrapping_add(u32::from(shape.shared() <= len));
                    ids[shape.place()].store(id, Ordering::Relaxed);
                }
            });
            levels[len + 1]
                .suffixes
                .par_iter_mut()
                .for_each(|suffix| *suffix = ids[*suffix as usize + 1].load(Ordering::Relaxed));
        }
    }
}

/// Cuts an array into parts of these sizes.
fn cut<'a, T>(mut array: &'a mut [T], sizes: &[usize]) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(sizes.len());
    for &size in sizes {
        let (part, rest) = array.split_at_mut(size);
        parts.push(part);
        array = rest;
    }
    parts
}
