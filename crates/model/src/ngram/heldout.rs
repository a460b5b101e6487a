//! Held-out text, to which a smoother's parameters are fitted.
//!
//! Each token is reduced to its count and context statistics per order; parameters minimise −Σ ln q
//! over them.

use super::counts::{Counts, find_child};
use super::statistics::{ContextStats, Statistics};

/// The most tokens that parameters are fitted to.
const MAX_TOKENS: usize = 400_000;

/// The count of a held-out token in one order, with the statistics of its context, which was seen.
#[derive(Debug, Clone, Copy)]
pub struct OrderStats {
    /// Count of the token after the context; may be 0.
    pub count: u32,
    /// The counts after the context.
    pub context: ContextStats,
}

/// Held-out text as statistics of the counted text.
#[derive(Debug)]
pub struct Heldout {
    orders: Vec<OrderStats>,
    /// The end of each token's orders.
    ends: Vec<u32>,
    uniform: f64,
}

impl Heldout {
    /// Reduces `tokens`, which `counts` and `statistics` do not include.
    pub(super) fn new(tokens: &[u32], counts: &Counts, statistics: &Statistics, uniform: f64) -> Self {
        let order = counts.order();
        let root = ContextStats::new(statistics.adjusted_counts(counts, 0), None);
        let mut heldout = Self { orders: Vec::new(), ends: Vec::new(), uniform };
        // The n-grams at the end of the text so far, shortest first.
        let mut nodes: Vec<usize> = Vec::new();
        for &token in tokens.iter().take(MAX_TOKENS) {
            if Some(token) == counts.bos {
                nodes = vec![token as usize];
                continue;
            }
            heldout.orders.push(OrderStats {
                count: statistics.adjusted_counts(counts, 0)[token as usize],
                context: root,
            });
            let mut next = vec![token as usize];
            for (len, &node) in nodes.iter().enumerate().take(order - 1) {
                let (level, higher) = (&counts.levels[len], &counts.levels[len + 1]);
                let used = statistics.adjusted_counts(counts, len + 1);
                let context = ContextStats::new(&used[level.children(node)], None);
                if context.total == 0 {
                    break;
                }
                let found = find_child(level, higher, node, token);
                heldout.orders.push(OrderStats { count: found.map_or(0, |gram| used[gram]), context });
                // The prefix of a known n-gram is known, so lengths have no gaps.
                if let Some(gram) = found
                    && next.len() == len + 1
                {
                    next.push(gram);
                }
            }
            heldout.ends.push(heldout.orders.len() as u32);
            next.truncate(order.saturating_sub(1));
            nodes = next;
        }
        heldout
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The orders of each token whose contexts were seen, from single words on.
    pub fn tokens(&self) -> impl Iterator<Item = &[OrderStats]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.orders[start as usize..end as usize])
    }

    /// The lower order of single words: one over the number of predictable words.
    pub fn uniform(&self) -> f64 {
        self.uniform
    }
}
