//! The n-grams of one order as columns.

/// The grams of one order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderCounts {
    /// The last word of each gram; grams are sorted by all their words. Empty for order 1, where gram i is word i.
    pub words: Vec<u32>,
    /// How often each occurs.
    pub counts: Vec<u32>,
    /// The continuations of gram i are `starts[i]..starts[i + 1]` of the next order. Empty at the highest.
    pub child_offsets: Vec<u32>,
    /// Each gram without its first word: its index in the order below. Empty for order 1.
    pub suffix_links: Vec<u32>,
}

impl OrderCounts {
    /// The continuations of gram `i` in the next order.
    #[inline]
    pub fn children(&self, i: usize) -> std::ops::Range<usize> {
        self.child_offsets[i] as usize..self.child_offsets[i + 1] as usize
    }
}
