//! The weights by which counts of contexts are interpolated.

use serde::{Deserialize, Serialize};

/// Lengths of contexts from which a class of lengths begins.
const LENGTHS: [u32; 12] = [0, 1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32];
/// Classes of counts: by their logarithm to base 2.
const COUNTS: usize = 16;
const BINS: usize = LENGTHS.len() * COUNTS * 2;

/// A bin of contexts, which have one weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bin {
    length: usize,
    count: usize,
    is_deterministic: bool,
}

impl Bin {
    pub(super) fn new(len: u32, total: u32, is_deterministic: bool) -> Self {
        let length = LENGTHS.partition_point(|&least| least <= len) - 1;
        let count = (total.max(1).ilog2() as usize).min(COUNTS - 1);
        Self { length, count, is_deterministic }
    }

    fn index(self) -> usize {
        (self.length * COUNTS + self.count) * 2 + usize::from(self.is_deterministic)
    }

    /// The class of its length.
    pub(super) fn length(self) -> usize {
        self.length
    }

    /// The class of its count and of what follows.
    pub(super) fn class(self) -> usize {
        self.count * 2 + usize::from(self.is_deterministic)
    }
}

/// A context before a token: its bin, and c(hw) / c(h) of the token.
pub(super) type Level = (Bin, f64);

/// λ of every bin of contexts: by the class of their length, that of their count (⌊log₂⌋), and
/// whether one token has always followed them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weights(Vec<f64>);

impl Default for Weights {
    fn default() -> Self {
        Self(vec![0.5; BINS])
    }
}

impl Weights {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.0.len() != BINS {
            return Err("it has other bins of contexts");
        }
        // With a weight of one, an unseen token would be impossible.
        let are_weights = self.0.iter().all(|weight| (0.0..1.0).contains(weight));
        if are_weights { Ok(()) } else { Err("a weight of contexts is not between 0 and 1") }
    }

    pub(super) fn of(&self, bin: Bin) -> f64 {
        self.0[bin.index()]
    }

    /// Maximises the likelihood of tokens by expectation maximisation; `uniform` is q_0 of each.
    ///
    /// The prior of a bin is a Beta distribution around the weight of the bin with half the count,
    /// as if it had been met a few times more.
    pub(super) fn fit(tokens: &[Vec<Level>], uniform: f64) -> Self {
        const ROUNDS: usize = 16;
        const PRIOR: f64 = 4.0;
        let mut weights = Self::default();
        for _ in 0..ROUNDS {
            let mut chosen = vec![0.0; BINS];
            let mut met = vec![0.0; BINS];
            for levels in tokens {
                // q_k of the token, then the probability that context k or a shorter one gave it.
                let mut q = uniform;
                let mut below: Vec<f64> = Vec::with_capacity(levels.len());
                for &(bin, counted) in levels {
                    below.push(q);
                    let weight = weights.of(bin);
                    q = weight * counted + (1.0 - weight) * q;
                }
                let mut reached = 1.0;
                for (&(bin, counted), below) in levels.iter().zip(below).rev() {
                    let weight = weights.of(bin);
                    let [here, further] = [weight * counted, (1.0 - weight) * below];
                    let share = here / (here + further);
                    chosen[bin.index()] += reached * share;
                    met[bin.index()] += reached;
                    reached *= 1.0 - share;
                }
            }
            for length in 0..LENGTHS.len() {
                for is_deterministic in [false, true] {
                    let mut prior = 0.5;
                    for count in 0..COUNTS {
                        let at = Bin { length, count, is_deterministic }.index();
                        prior = (chosen[at] + PRIOR * prior) / (met[at] + PRIOR);
                        weights.0[at] = prior.min(1.0 - 1e-6);
                    }
                }
            }
        }
        weights
    }
}
