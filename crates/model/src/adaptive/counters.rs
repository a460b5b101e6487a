//! Bit statistics of contexts: probabilities and histories in hashed slots, and adaptive maps from
//! a history to a probability.

use surprisal_platform::prefetch::prefetch;

/// Decisions of one slot: the inner nodes of four levels of the tree.
pub(crate) const LEVELS: usize = 4;

/// Words of a slot: a check of its context, then the nodes 1..16, the root first. One cache line.
const SLOT: usize = 1 << LEVELS;

/// Bits of a probability in a counter.
const BITS: u32 = 18;
/// Bits of its count, which sets the rate of change.
const COUNT: u32 = 6;
/// 1 / (n + 1.4), the rate after n observations, of 16 bits.
static RATES: [u32; 1 << COUNT] = {
    let mut rates = [0; 1 << COUNT];
    let mut n = 0;
    while n < rates.len() {
        rates[n] = 655360 / (10 * n as u32 + 14);
        n += 1;
    }
    rates
};

/// A counter of one node in one context: the probability of a one (18 bits), the number of
/// observations (6), and the last seven of them below a leading one (8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counter(u32);

impl Counter {
    /// Whether nothing was observed.
    pub(crate) fn is_new(self) -> bool {
        self.0 == 0
    }

    /// The probability of a one, of 12 bits.
    pub(crate) fn p12(self) -> usize {
        (self.0 >> 20) as usize
    }

    /// Number of observations, at most 63.
    pub(crate) fn count(self) -> usize {
        (self.0 >> 8) as usize & ((1 << COUNT) - 1)
    }

    /// The index of its history: the last observations, and what they were before, in four steps.
    pub(crate) fn history(self) -> usize {
        let recent = self.0 as usize & 255;
        if recent < 128 { recent } else { (recent - 128) + 128 * (1 + (self.0 >> (32 - STEPS)) as usize) }
    }

    /// The counter after one more observation; a new one begins at `prior`, of 12 bits.
    pub(crate) fn observe(self, bit: bool, prior: usize) -> Self {
        let (p, recent) = if self.is_new() {
            ((prior as u32) << (BITS - 12) | 1 << (BITS - 13), 1)
        } else {
            (self.0 >> (32 - BITS), self.0 & 255)
        };
        let n = self.count();
        let target = if bit { (1u32 << BITS) - 1 } else { 0 };
        let p = (p as i64 + (((target as i64 - p as i64) * RATES[n] as i64) >> 16)) as u32;
        let recent = if recent < 128 { recent << 1 } else { 128 | (recent << 1 & 127) } | bit as u32;
        let n = (n + 1).min((1 << COUNT) - 1) as u32;
        Self(p << (32 - BITS) | n << 8 | recent)
    }
}

/// Bits of the probability that are in the index of a full history.
const STEPS: u32 = 4;
/// Number of histories.
pub(crate) const HISTORIES: usize = 128 + (128 << STEPS);

/// A place of a context in [`Slots`], for four levels of the tree.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found {
    /// The first word of the slot.
    at: u32,
    check: u32,
    /// Whether the slot is this context's; else it is the one to replace.
    pub(crate) is_known: bool,
}

/// Hashed slots of counters. A context that is new replaces the least observed of three.
pub(crate) struct Slots {
    words: Vec<u32>,
    /// The first word at the beginning of a cache line, which no result depends on.
    first: usize,
    mask: usize,
}

impl Slots {
    /// 2^`bits` slots of 64 bytes.
    pub(crate) fn new(bits: u32) -> Self {
        let words = vec![0u32; SLOT << bits | SLOT];
        let first = words.as_ptr().align_offset(64).min(SLOT);
        Self { words, first, mask: (1 << bits) - 1 }
    }

    /// Asks for the memory of a slot, by the hash of its context.
    pub(crate) fn prefetch(&self, hash: u64) {
        prefetch(&self.words, self.first + ((hash >> 32) as usize & self.mask) * SLOT);
    }

    /// The slot of a context, by its hash.
    pub(crate) fn find(&self, hash: u64) -> Found {
        let check = (hash as u32) | 1;
        let home = (hash >> 32) as usize & self.mask;
        let (mut best, mut least) = (0, usize::MAX);
        for probe in 0..3 {
            let at = self.first + ((home ^ probe) & self.mask) * SLOT;
            if self.words[at] == check {
                return Found { at: at as u32, check, is_known: true };
            }
            let observed = Counter(self.words[at + 1]).count();
            if observed < least {
                (best, least) = (at, observed);
            }
        }
        Found { at: best as u32, check, is_known: false }
    }

    /// The counter of node `inside` (1..16) of a slot.
    pub(crate) fn counter(&self, found: &Found, inside: usize) -> Counter {
        if found.is_known { Counter(self.words[found.at as usize + inside]) } else { Counter::default() }
    }

    /// Makes a slot that was not known the context's.
    pub(crate) fn take(&mut self, found: &mut Found) {
        if !found.is_known {
            let at = found.at as usize;
            self.words[at..at + SLOT].fill(0);
            self.words[at] = found.check;
            found.is_known = true;
        }
    }

    /// Counts an observation in a slot that is known.
    pub(crate) fn observe(&mut self, found: &Found, inside: usize, bit: bool, prior: usize) {
        let word = &mut self.words[found.at as usize + inside];
        *word = Counter(*word).observe(bit, prior).0;
    }
}

/// A map from a state to the probability of a one after it, learnt from the observations of all
/// contexts in that state (the indirect models of Mahoney's PAQ6 and ZPAQ).
pub(crate) struct AdaptiveMap {
    /// The probability of a one, and the number of observations.
    entries: Vec<(f32, f32)>,
    limit: f32,
}

impl AdaptiveMap {
    /// A map of `size` states; a rate of change is at least 1 / `limit`.
    pub(crate) fn new(size: usize, limit: f32) -> Self {
        Self { entries: vec![(0.5, 0.0); size], limit }
    }

    /// A map of [`HISTORIES`], which begins with their relative frequencies.
    pub(crate) fn of_histories(limit: f32) -> Self {
        let mut map = Self::new(HISTORIES, limit);
        for (state, entry) in map.entries.iter_mut().enumerate().skip(1) {
            let recent = if state < 128 { state } else { 128 | state & 127 };
            let n = recent.ilog2() as f32;
            let ones = recent.count_ones() as f32 - 1.0;
            entry.0 = (ones + 0.3) / (n + 0.6);
        }
        map
    }

    pub(crate) fn p(&self, state: usize) -> f32 {
        self.entries[state].0
    }

    pub(crate) fn observe(&mut self, state: usize, bit: bool) {
        let (p, n) = &mut self.entries[state];
        *p += (f32::from(bit as u8) - *p) / (*n + 1.5);
        if *n < self.limit {
            *n += 1.0;
        }
    }
}
