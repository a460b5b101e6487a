//! The n-grams of one order as columns.

/// The n-grams of one order, sorted by all their words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderCounts {
    /// The last word of each n-gram. Empty for order 1, where n-gram i is word i.
    pub words: Vec<u32>,
    /// The number of occurrences of each.
    pub counts: Vec<u32>,
    /// The continuations of n-gram i are `child_offsets[i]..child_offsets[i + 1]` of the next
    /// order. Empty at the highest.
    pub child_offsets: Vec<u32>,
    /// The index of each n-gram without its first word, in the order below. Empty for order 1.
    pub suffix_links: Vec<u32>,
}

impl OrderCounts {
    /// The continuations of n-gram `i` in the next order.
    #[inline]
    pub fn children(&self, i: usize) -> std::ops::Range<usize> {
        self.child_offsets[i] as usize..self.child_offsets[i + 1] as usize
    }
}
