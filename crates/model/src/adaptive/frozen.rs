//! The decisions of a model that does not learn, from its distributions.

use super::mixing::MAX_LOGIT;
use super::tree::{BitTree, Node};

/// The probability of a decision is at least this, so that a token of probability zero can be
/// coded, and what is coded has a length.
const LEAST: f64 = 1.0 / (1 << 18) as f64;

/// The distribution of a frozen model over the next token, as sums.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums {
    /// Σ q of the tokens before each, and of all; empty without a model.
    before: Vec<f64>,
}

impl Sums {
    /// Takes ln q of every token.
    pub(crate) fn set(&mut self, row: Option<&[f64]>) {
        self.before.clear();
        let mut sum = 0.0;
        if let Some(row) = row {
            self.before.push(sum);
            self.before.extend(row.iter().map(|&log_prob| {
                sum += libm::exp(log_prob);
                sum
            }));
        }
    }

    /// q of the tokens to the left and to the right of `split`, among those of `node`.
    fn masses(&self, node: &Node, split: u32) -> [f64; 2] {
        let [start, split, end] = [node.start, split, node.end].map(|token| self.before[token as usize]);
        [split - start, end - split]
    }

    /// The logit of going right; 0 where both ways are impossible, or there is no model.
    pub(crate) fn logit(&self, node: &Node, split: u32) -> f32 {
        if self.before.is_empty() {
            return 0.0;
        }
        let [left, right] = self.masses(node, split);
        if left + right > 0.0 { (libm::log(right / left) as f32).clamp(-MAX_LOGIT, MAX_LOGIT) } else { 0.0 }
    }
}

/// The decisions of a model that does not learn.
pub struct Frozen {
    tree: BitTree,
    sums: Sums,
}

impl Frozen {
    /// Decisions of a model of `vocab_size` tokens.
    pub fn new(vocab_size: usize) -> Self {
        Self { tree: BitTree::new(vocab_size, &[]), sums: Sums::default() }
    }

    /// Goes to a token as [`super::Online::walk`] does, by ln q of every token.
    pub fn walk(&mut self, row: &[f64], mut choose: impl FnMut(u32, f64) -> bool) -> u32 {
        self.sums.set(Some(row));
        let mut node = self.tree.root();
        loop {
            if let Some(token) = node.leaf() {
                return token;
            }
            let split = self.tree.split(&node);
            let [left, right] = self.sums.masses(&node, split);
            let all = left + right;
            let p = if all > 0.0 { right / all } else { 0.5 };
            node = self.tree.child(&node, choose(split, p.clamp(LEAST, 1.0 - LEAST)));
        }
    }
}
