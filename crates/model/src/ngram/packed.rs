//! Arrays of small integers, packed bit by bit into bytes that may be memory or a mapped file.
//!
//! [`Packed`] gives every element the same number of bits. [`Offsets`] stores where each node's children start as the
//! children's counts in unary (one bit a child, one bit a node) with a sample of the positions, so that an offset costs a
//! few bits instead of a word: a sequence of zeros and ones whose i-th zero ends node i (Jacobson 1989).
//!
//! Bytes may come from a file that lies: no read panics. An element past the end is 0, and what is out of range is made
//! an empty range by the caller.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

/// Shared bytes: a part of a buffer, or of a mapped file.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// The bytes `range` of `owner`; what lies past its end is left off.
    pub fn of(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Self {
        let len = (*owner).as_ref().len();
        let end = range.end.min(len);
        Self { owner, range: range.start.min(end)..end }
    }

    /// A part of these bytes; what lies past their end is left off.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let at = |i: usize| self.range.start.saturating_add(i).min(self.range.end);
        Self { owner: Arc::clone(&self.owner), range: at(range.start)..at(range.end).max(at(range.start)) }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { owner: Arc::new(bytes), range }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.range.len())
    }
}

/// How many bits hold every number up to `largest`.
pub fn bits_for(largest: u64) -> u32 {
    64 - largest.leading_zeros()
}

/// Bytes that reads may touch past the last element: a read takes eight at once.
const PADDING: usize = 8;

/// The widest element.
pub const MAX_BITS: u32 = 56;

/// How long the bytes of `len` elements are.
pub fn packed_len(bits: u32, len: u64) -> Option<usize> {
    let bytes = len.checked_mul(u64::from(bits))?.div_ceil(8);
    usize::try_from(bytes).ok()?.checked_add(PADDING)
}

/// A view of packed elements.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    bytes: &'a [u8],
    /// Bits from one element to the next.
    stride: usize,
    offset: usize,
    mask: u64,
}

impl<'a> Packed<'a> {
    /// Elements of `bits` bits (at most [`MAX_BITS`]) in `bytes`.
    pub fn new(bytes: &'a [u8], bits: u32) -> Self {
        Self::field(bytes, bits, 0, bits)
    }

    /// The fields of `bits` bits (at most [`MAX_BITS`]) that start `offset` bits into records of `stride` bits.
    pub fn field(bytes: &'a [u8], stride: u32, offset: u32, bits: u32) -> Self {
        Self { bytes, stride: stride as usize, offset: offset as usize, mask: (1 << bits.min(MAX_BITS)) - 1 }
    }

    /// Element `index`.
    #[inline]
    pub fn get(self, index: usize) -> u64 {
        let bit = index * self.stride + self.offset;
        (word_at(self.bytes, bit >> 3) >> (bit & 7)) & self.mask
    }
}

/// The eight bytes from `at`, as a little-endian number; 0 past the end.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

/// Packs `values` into elements of `bits` bits.
pub fn pack(bits: u32, values: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut packer = Packer::with_room(bits, values.size_hint().0);
    values.for_each(|value| packer.push(value, bits));
    packer.finish()
}

/// Writes numbers bit by bit.
#[derive(Debug)]
pub struct Packer {
    bytes: Vec<u8>,
    word: u64,
    filled: u32,
}

impl Packer {
    /// With room for `len` elements of `bits` bits.
    pub fn with_room(bits: u32, len: usize) -> Self {
        Self { bytes: Vec::with_capacity(len * bits as usize / 8 + 2 * PADDING), word: 0, filled: 0 }
    }

    /// Appends the lowest `bits` (at most [`MAX_BITS`]) of `value`, which has no more.
    #[inline]
    pub fn push(&mut self, value: u64, bits: u32) {
        debug_assert!(bits <= MAX_BITS, "an element is read with eight bytes");
        debug_assert!(value >> bits == 0, "{value} needs more than {bits} bits");
        self.word |= value << self.filled;
        self.filled += bits;
        if self.filled >= 64 {
            self.bytes.extend(self.word.to_le_bytes());
            self.filled -= 64;
            // What did not fit; a shift by all 64 bits would be no shift.
            self.word = if self.filled == 0 { 0 } else { value >> (bits - self.filled) };
        }
    }

    /// All that was written, with room behind it for reads of eight bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend(&self.word.to_le_bytes()[..self.filled.div_ceil(8) as usize]);
        self.bytes.extend([0; PADDING]);
        self.bytes
    }
}

/// All of `len` packed elements.
pub fn unpack(bits: u32, bytes: &[u8], len: usize) -> Vec<u32> {
    let packed = Packed::new(bytes, bits);
    (0..len).into_par_iter().map(|i| packed.get(i) as u32).collect()
}

/// Every how many nodes a position is kept.
fn sampling(nodes: usize) -> usize {
    // The nodes of small levels have the most children, and scanning over a neighbour's children is what costs.
    if nodes <= 1 << 20 { 1 } else { 4 }
}

/// Where the children of each node start and end.
#[derive(Clone, Copy, Debug)]
pub struct Offsets<'a> {
    unary: &'a [u8],
    samples: Packed<'a>,
    every: usize,
    nodes: usize,
}

/// The two byte arrays of [`Offsets`].
#[derive(Debug)]
pub struct PackedOffsets {
    /// One bit a child, a zero after each node's.
    pub unary: Vec<u8>,
    /// Positions of the bits at which every so many nodes start.
    pub samples: Vec<u8>,
}

/// How many bits a sampled position has.
fn sample_bits(nodes: usize, children: usize) -> u32 {
    bits_for((nodes + children) as u64)
}

/// The lengths of the two byte arrays of [`Offsets`].
pub fn offsets_len(nodes: u64, children: u64) -> Option<(usize, usize)> {
    let unary = packed_len(1, nodes.checked_add(children)?)?;
    let (nodes, children) = (usize::try_from(nodes).ok()?, usize::try_from(children).ok()?);
    let samples = packed_len(sample_bits(nodes, children), nodes.div_ceil(sampling(nodes)) as u64)?;
    Some((unary, samples))
}

impl<'a> Offsets<'a> {
    /// Reads what [`pack_offsets`] wrote.
    pub fn new(unary: &'a [u8], samples: &'a [u8], nodes: usize, children: usize) -> Self {
        let samples = Packed::new(samples, sample_bits(nodes, children));
        Self { unary, samples, every: sampling(nodes), nodes }
    }

    /// The children of `node`.
    #[inline]
    pub fn children(self, node: usize) -> Range<usize> {
        self.children_after(node, self.sample(node))
    }

    /// The position at which the search for the children of `node` begins.
    #[inline]
    pub fn sample(self, node: usize) -> usize {
        self.samples.get(node / self.every) as usize
    }

    /// The children of `node`, found from its [`Self::sample`].
    #[inline]
    pub fn children_after(self, node: usize, sample: usize) -> Range<usize> {
        if node >= self.nodes {
            return 0..0;
        }
        let mut bit = sample;
        for _ in 0..node % self.every {
            bit = self.next_zero(bit) + 1;
        }
        let end = self.next_zero(bit);
        // Before bit position `bit` stand `node` zeros; all else were children.
        bit.saturating_sub(node)..end.saturating_sub(node)
    }

    /// The first zero from position `bit`.
    #[inline]
    fn next_zero(self, mut bit: usize) -> usize {
        loop {
            let ones = (word_at(self.unary, bit >> 3) >> (bit & 7)).trailing_ones() as usize;
            let seen = 64 - (bit & 7);
            // Past the end of the bytes everything is zero, so this ends.
            if ones < seen {
                return bit + ones;
            }
            bit += seen;
        }
    }
}

/// Packs where children start: `starts[i]..starts[i + 1]` are those of node i.
pub fn pack_offsets(starts: &[u32]) -> PackedOffsets {
    let nodes = starts.len().saturating_sub(1);
    let children = starts.last().map_or(0, |&end| end as usize);
    let mut unary = vec![0_u8; (nodes + children).div_ceil(8) + PADDING];
    let mut bit = 0;
    for pair in starts.windows(2) {
        let end = bit + (pair[1] - pair[0]) as usize;
        set_ones(&mut unary, bit..end);
        bit = end + 1;
    }
    let sampled = (0..nodes).step_by(sampling(nodes)).map(|node| u64::from(starts[node]) + node as u64);
    PackedOffsets { unary, samples: pack(sample_bits(nodes, children), sampled) }
}

/// Where children start, from the counts in unary that [`pack_offsets`] wrote; `None` if they are not those of `nodes`
/// nodes with `children` children.
pub fn unpack_starts(unary: &[u8], nodes: usize, children: usize) -> Option<Vec<u32>> {
    if unary.len() != packed_len(1, nodes as u64 + children as u64)? {
        return None;
    }
    let mut starts = Vec::with_capacity(nodes + 1);
    starts.push(0);
    for (at, chunk) in unary[..unary.len() - PADDING].chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let mut zeros = !u64::from_le_bytes(word);
        while zeros != 0 && starts.len() <= nodes {
            let bit = at * 64 + zeros.trailing_zeros() as usize;
            starts.push((bit + 1 - starts.len()) as u32);
            zeros &= zeros - 1;
        }
    }
    (starts.len() == nodes + 1 && starts[nodes] as usize == children).then_some(starts)
}

fn set_ones(bytes: &mut [u8], range: Range<usize>) {
    let mut bit = range.start;
    while bit < range.end {
        let here = (8 - (bit & 7)).min(range.end - bit);
        bytes[bit >> 3] |= (((1_u32 << here) - 1) as u8) << (bit & 7);
        bit += here;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn elements_come_back(bits in 0..=MAX_BITS, seeds in prop::collection::vec(any::<u64>(), 0..100)) {
            let values: Vec<u64> = seeds.iter().map(|seed| seed & ((1 << bits) - 1)).collect();
            let bytes = pack(bits, values.iter().copied());
            prop_assert_eq!(Some(bytes.len()), packed_len(bits, values.len() as u64));
            let packed = Packed::new(&bytes, bits);
            let back: Vec<u64> = (0..values.len()).map(|i| packed.get(i)).collect();
            prop_assert_eq!(back, values);
        }

        #[test]
        fn children_come_back(counts in prop::collection::vec(0_u32..200, 0..100)) {
            let mut starts = vec![0];
            for count in &counts {
                starts.push(starts[starts.len() - 1] + count);
            }
            let packed = pack_offsets(&starts);
            let children = starts[starts.len() - 1] as usize;
            let lens = offsets_len(counts.len() as u64, children as u64);
            prop_assert_eq!(lens, Some((packed.unary.len(), packed.samples.len())));
            prop_assert_eq!(unpack_starts(&packed.unary, counts.len(), children), Some(starts.clone()));
            prop_assert_eq!(unpack_starts(&packed.unary, counts.len(), children + 1), None);
            prop_assert!(children == 0 || unpack_starts(&packed.unary, counts.len() + 1, children - 1).is_none());
            let offsets = Offsets::new(&packed.unary, &packed.samples, counts.len(), children);
            for (node, pair) in starts.windows(2).enumerate() {
                prop_assert_eq!(offsets.children(node), pair[0] as usize..pair[1] as usize);
            }
            prop_assert_eq!(offsets.children(counts.len()), 0..0);
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), node in 0_usize..100) {
            let (unary, samples) = bytes.split_at(bytes.len() / 2);
            let _ = Offsets::new(unary, samples, 100, 300).children(node);
            let _ = Packed::new(&bytes, 17).get(node);
            let _ = unpack_starts(unary, node, unary.len());
        }
    }

    #[test]
    fn sampled_offsets_of_a_large_level() {
        let starts: Vec<u32> = (0..=(1 << 20) + 5).map(|i: u32| i / 3 * 2 + (i % 3).min(1)).collect();
        let packed = pack_offsets(&starts);
        let nodes = starts.len() - 1;
        assert_eq!(sampling(nodes), 4);
        let offsets = Offsets::new(&packed.unary, &packed.samples, nodes, starts[nodes] as usize);
        for (node, pair) in starts.windows(2).enumerate() {
            assert_eq!(offsets.children(node), pair[0] as usize..pair[1] as usize);
        }
    }
}
