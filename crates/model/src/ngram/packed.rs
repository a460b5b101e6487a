//! Arrays of small integers, packed bit by bit into bytes in memory or in a mapped file.
//!
//! [`Packed`] gives every element the same number of bits. [`ChildOffsets`] stores offsets by frame
//! of reference: a base per block, and deltas of few bits.
//!
//! Bytes may come from a damaged file: no read panics. An element past the end is 0.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use surprisal_platform::prefetch::prefetch;

/// Shared bytes: a part of a buffer, or of a mapped file.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// The bytes `range` of `owner`, up to its end.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Self {
        let len = (*owner).as_ref().len();
        let end = range.end.min(len);
        Self { owner, range: range.start.min(end)..end }
    }

    /// A part of these bytes, up to their end.
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

/// The bits of every number up to `largest`.
pub fn bits_for(largest: u64) -> u32 {
    64 - largest.leading_zeros()
}

/// Bytes after the last element: a read takes eight at once.
const PADDING: usize = 8;

/// The most bits of an element.
pub const MAX_BITS: u32 = 56;

/// The length of `len` packed elements in bytes.
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

    /// The fields of `bits` bits (at most [`MAX_BITS`]) that start `offset` bits into records of
    /// `stride` bits.
    pub fn field(bytes: &'a [u8], stride: u32, offset: u32, bits: u32) -> Self {
        Self { bytes, stride: stride as usize, offset: offset as usize, mask: (1 << bits.min(MAX_BITS)) - 1 }
    }

    /// The bytes that it views, those of other fields of its records among them.
    pub(super) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Prefetches element `index`.
    #[inline]
    pub fn prefetch(self, index: usize) {
        prefetch(self.bytes, (index * self.stride + self.offset) >> 3);
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
    // In this form one comparison is left of those that keep it in bounds.
    match bytes.len().checked_sub(8) {
        Some(last) if at <= last => bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word)),
        _ => 0,
    }
}

/// Packs `values` into elements of `bits` bits.
pub fn pack(bits: u32, values: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut writer = BitWriter::with_capacity(bits, values.size_hint().0);
    values.for_each(|value| writer.push(value, bits));
    writer.finish()
}

/// Writes numbers bit by bit.
#[derive(Debug)]
pub struct BitWriter {
    bytes: Vec<u8>,
    word: u64,
    filled: u32,
}

impl BitWriter {
    /// With capacity for `len` elements of `bits` bits.
    pub fn with_capacity(bits: u32, len: usize) -> Self {
        Self { bytes: Vec::with_capacity(len * bits as usize / 8 + 2 * PADDING), word: 0, filled: 0 }
    }

    /// Appends `value`, which has at most `bits` bits (at most [`MAX_BITS`]).
    #[inline]
    pub fn push(&mut self, value: u64, bits: u32) {
        debug_assert!(bits <= MAX_BITS, "an element is read with eight bytes");
        debug_assert!(value >> bits == 0, "{value} needs more than {bits} bits");
        self.word |= value << self.filled;
        self.filled += bits;
        if self.filled >= 64 {
            self.bytes.extend(self.word.to_le_bytes());
            self.filled -= 64;
            // The remaining bits; a shift by 64 would be no shift.
            self.word = if self.filled == 0 { 0 } else { value >> (bits - self.filled) };
        }
    }

    /// The whole words of bytes so far, which may be taken away.
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The bytes, padded for reads of eight bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend(&self.word.to_le_bytes()[..self.filled.div_ceil(8) as usize]);
        self.bytes.extend([0; PADDING]);
        self.bytes
    }
}

/// The `len` packed elements.
pub fn unpack(bits: u32, bytes: &[u8], len: usize) -> Vec<u32> {
    let packed = Packed::new(bytes, bits);
    (0..len).into_par_iter().map(|i| packed.get(i) as u32).collect()
}

/// Offsets per base.
pub(super) const BASE_STEP: usize = 32;
/// Bits of a base.
pub(super) const BASE_BITS: u32 = 32;

/// The child offsets of nodes (frame-of-reference coding): every `BASE_STEP`th offset is a base,
/// and each offset is its delta from the last base, a field of the node's own record.
#[derive(Clone, Copy, Debug)]
pub struct ChildOffsets<'a> {
    bases: Packed<'a>,
    deltas: Packed<'a>,
    nodes: usize,
}

/// The bits of the largest delta of `offsets`.
pub fn delta_bits(offsets: &[u32]) -> u32 {
    let widest = offsets.chunks(BASE_STEP).map(|block| block[block.len() - 1] - block[0]).max();
    bits_for(u64::from(widest.unwrap_or(0)))
}

/// The delta of each offset from its base.
pub fn deltas(offsets: &[u32]) -> impl Iterator<Item = u32> {
    offsets.chunks(BASE_STEP).flat_map(|block| block.iter().map(|start| start - block[0]))
}

/// Packs the bases of `offsets`.
pub fn pack_bases(offsets: &[u32]) -> Vec<u8> {
    pack(BASE_BITS, offsets.iter().step_by(BASE_STEP).map(|&start| u64::from(start)))
}

/// The length of the bases of `nodes` nodes in bytes; there is one offset more.
pub fn bases_len(nodes: u64) -> Option<usize> {
    packed_len(BASE_BITS, nodes.checked_add(1)?.div_ceil(BASE_STEP as u64))
}

impl<'a> ChildOffsets<'a> {
    /// Reads what [`pack_bases`] wrote for `nodes` nodes, with their deltas.
    pub fn new(bases: &'a [u8], deltas: Packed<'a>, nodes: usize) -> Self {
        Self { bases: Packed::new(bases, BASE_BITS), deltas, nodes }
    }

    /// Prefetches the child offsets of `node`.
    #[inline]
    pub fn prefetch(self, node: usize) {
        self.bases.prefetch(node / BASE_STEP);
        self.deltas.prefetch(node);
    }

    /// The children of `node`.
    #[inline]
    pub fn children(self, node: usize) -> Range<usize> {
        if node < self.nodes { self.start(node)..self.start(node + 1) } else { 0..0 }
    }

    #[inline]
    fn start(self, node: usize) -> usize {
        (self.bases.get(node / BASE_STEP) + self.deltas.get(node)) as usize
    }
}

/// Packs offsets as the unary number of children of each node, one bit per child and a zero after
/// each node (Jacobson 1989): the fewest bits, for sequential reads.
pub fn pack_unary(child_offsets: &[u32]) -> Vec<u8> {
    let nodes = child_offsets.len().saturating_sub(1);
    let children = child_offsets.last().map_or(0, |&end| end as usize);
    let mut unary = vec![0_u8; (nodes + children).div_ceil(8) + PADDING];
    let mut bit = 0;
    for pair in child_offsets.windows(2) {
        let end = bit + (pair[1] - pair[0]) as usize;
        set_ones(&mut unary, bit..end);
        bit = end + 1;
    }
    unary
}

/// The offsets that [`pack_unary`] wrote; `None` if they are not those of `nodes` nodes with
/// `children` children.
pub fn unpack_unary(unary: &[u8], nodes: usize, children: usize) -> Option<Vec<u32>> {
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
        fn children_come_back(counts in prop::collection::vec(0_u32..70_000, 0..100)) {
            let mut starts = vec![0];
            for count in &counts {
                starts.push(starts[starts.len() - 1] + count);
            }
            let bases = pack_bases(&starts);
            prop_assert_eq!(bases_len(counts.len() as u64), Some(bases.len()));
            let bits = delta_bits(&starts);
            let bytes = pack(bits, deltas(&starts).map(u64::from));
            let packed = ChildOffsets::new(&bases, Packed::new(&bytes, bits), counts.len());
            for (node, pair) in starts.windows(2).enumerate() {
                prop_assert_eq!(packed.children(node), pair[0] as usize..pair[1] as usize);
            }
            prop_assert_eq!(packed.children(counts.len()), 0..0);
        }

        #[test]
        fn counts_in_unary_come_back(counts in prop::collection::vec(0_u32..200, 0..100)) {
            let mut starts = vec![0];
            for count in &counts {
                starts.push(starts[starts.len() - 1] + count);
            }
            let children = starts[starts.len() - 1] as usize;
            let unary = pack_unary(&starts);
            prop_assert_eq!(unpack_unary(&unary, counts.len(), children), Some(starts.clone()));
            prop_assert_eq!(unpack_unary(&unary, counts.len(), children + 1), None);
            prop_assert!(children == 0 || unpack_unary(&unary, counts.len() + 1, children - 1).is_none());
        }

        #[test]
        fn damaged_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            bits in any::<u32>(),
            node in 0_usize..100,
        ) {
            let _ = ChildOffsets::new(&bytes, Packed::new(&bytes, bits), 100).children(node);
            let _ = Packed::field(&bytes, 40, 17, 23).get(node);
            let _ = unpack_unary(&bytes, node, bytes.len());
        }
    }
}
