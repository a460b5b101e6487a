//! The binary tree whose leaves are the tokens, by which a token is named in binary decisions.

/// A binary tree over the tokens `0..size` in their order. Its inner nodes are numbered in
/// preorder, so the left child of a node is the next number, and the right child is as many further
/// as there are tokens to the left.
#[derive(Debug, Clone)]
pub(crate) struct BitTree {
    /// For each inner node, the first token to the right.
    splits: Vec<u32>,
    size: u32,
}

/// A node of a [`BitTree`]: an inner node, or a leaf if it has one token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// Its number.
    pub(crate) number: usize,
    /// Its first token.
    pub(crate) start: u32,
    /// One past its last token.
    pub(crate) end: u32,
    /// Decisions from the root to here.
    pub(crate) depth: usize,
}

impl Node {
    /// The token of a leaf.
    pub(crate) fn leaf(&self) -> Option<u32> {
        (self.end - self.start == 1).then_some(self.start)
    }
}

impl BitTree {
    /// The tree that halves the weight at every node. `weights` are those of the tokens; without
    /// any, all are alike, and 256 tokens are the bits of bytes.
    pub(crate) fn new(size: usize, weights: &[u64]) -> Self {
        // Every token weighs something, so that a tree is not deeper than about log2 of the sum.
        let mut before = vec![0u64; size + 1];
        for token in 0..size {
            let weight = weights.get(token).map_or(1, |weight| weight.saturating_mul(4).saturating_add(1));
            before[token + 1] = before[token].saturating_add(weight.min(u64::MAX >> 32));
        }
        let mut splits = Vec::with_capacity(size.saturating_sub(1));
        let mut open = vec![(0, size)];
        while let Some((start, end)) = open.pop() {
            if end - start < 2 {
                continue;
            }
            let half = before[start] + (before[end] - before[start]) / 2;
            let above = start + 1 + before[start + 1..end].partition_point(|&sum| sum < half);
            // The nearest to the half of the two splits around it.
            let below = above.saturating_sub(1).max(start + 1);
            let split =
                if half - before[below].min(half) < before[above.min(end)] - half { below } else { above };
            let split = split.min(end - 1);
            splits.push(split as u32);
            open.extend([(split, end), (start, split)]);
        }
        Self { splits, size: size as u32 }
    }

    pub(crate) fn root(&self) -> Node {
        Node { number: 0, start: 0, end: self.size, depth: 0 }
    }

    /// The first token to the right of an inner node.
    pub(crate) fn split(&self, node: &Node) -> u32 {
        self.splits[node.number]
    }

    /// The child to the right, or to the left, of an inner node.
    pub(crate) fn child(&self, node: &Node, right: bool) -> Node {
        let split = self.split(node);
        let depth = node.depth + 1;
        if right {
            Node { number: node.number + (split - node.start) as usize, start: split, end: node.end, depth }
        } else {
            Node { number: node.number + 1, start: node.start, end: split, depth }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_one_leaf_and_every_inner_node_has_its_own_number() {
        for (size, weights) in
            [(1, vec![]), (2, vec![]), (65, vec![]), (256, vec![]), (5, vec![0, 9, 1, 1 << 60, 3])]
        {
            let tree = BitTree::new(size, &weights);
            let (mut leaves, mut numbers, mut deepest) = (vec![], vec![], 0);
            let mut open = vec![tree.root()];
            while let Some(node) = open.pop() {
                if let Some(token) = node.leaf() {
                    leaves.push(token);
                    deepest = deepest.max(node.depth);
                } else {
                    numbers.push(node.number);
                    open.extend([tree.child(&node, true), tree.child(&node, false)]);
                }
            }
            assert!(leaves.iter().copied().eq(0..size as u32), "{leaves:?}");
            assert!(numbers.iter().copied().eq(0..size - 1), "{numbers:?}");
            if weights.is_empty() {
                assert_eq!(deepest, (size as f64).log2().ceil() as usize);
            }
        }
    }
}
