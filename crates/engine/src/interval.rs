//! Intervals of means over a text, by a block bootstrap: neighbouring tokens are correlated, so
//! whole stretches of the text are drawn again with replacement (Künsch 1989; blocks that do not
//! overlap: Carlstein 1986).

use rand::Rng;

use crate::rng::{RngStream, rng_for};

/// The number of blocks of a long text.
const MAX_BLOCKS: usize = 128;
/// The number of texts that are drawn.
const DRAWS: usize = 1000;
/// The pieces of a block of a long text, so that its ends hardly depend on where tasks end.
const PIECES_PER_BLOCK: u64 = 8;

/// Sums over consecutive pieces of a text: −ln q, and the number of tokens of probability above
/// zero.
#[derive(Debug, Default)]
pub(crate) struct BlockSums {
    pub(crate) pieces: Vec<(f64, u64)>,
    /// The tokens of the last piece.
    filled: u64,
}

impl BlockSums {
    /// The length of a piece of a text of `tokens` tokens; of a short text about 2 T^(1/3), the
    /// order of the best length of a block (Hall, Horowitz and Jing 1995).
    pub(crate) fn piece(tokens: u64) -> u64 {
        let shortest = (2.0 * (tokens as f64).cbrt()).ceil() as u64;
        tokens.div_ceil(MAX_BLOCKS as u64 * PIECES_PER_BLOCK).max(shortest).max(1)
    }

    /// Adds the next tokens, in pieces of `piece` tokens.
    pub(crate) fn add(&mut self, log_probs: &[f64], piece: u64) {
        for &log_prob in log_probs {
            if self.pieces.is_empty() || self.filled == piece {
                self.pieces.push((0.0, 0));
                self.filled = 0;
            }
            self.filled += 1;
            if let Some((nats, tokens)) = self.pieces.last_mut().filter(|_| log_prob > f64::NEG_INFINITY) {
                *nats -= log_prob;
                *tokens += 1;
            }
        }
    }
}

/// The 95 % interval of Σ value / Σ weight over `pieces`, which are joined to blocks of about equal
/// length; `None` for fewer than two blocks or no weight. Always the same for the same pieces.
pub(crate) fn of_mean(pieces: &[(f64, u64)]) -> Option<(f64, f64)> {
    let count = pieces.len().min(MAX_BLOCKS);
    let blocks: Vec<(f64, f64)> = (0..count)
        .map(|block| {
            let own = &pieces[block * pieces.len() / count..(block + 1) * pieces.len() / count];
            let weight: u64 = own.iter().map(|&(_, weight)| weight).sum();
            (own.iter().map(|(value, _)| value).sum(), weight as f64)
        })
        .filter(|&(_, weight)| weight > 0.0)
        .collect();
    if blocks.len() < 2 {
        return None;
    }
    let mut rng = rng_for(0, RngStream::Bootstrap);
    let mut means: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let (mut value, mut weight) = (0.0, 0.0);
            for _ in 0..blocks.len() {
                let block = blocks[rng.random_range(0..blocks.len())];
                (value, weight) = (value + block.0, weight + block.1);
            }
            value / weight
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let (value, weight) = blocks.iter().fold((0.0, 0.0), |sum, block| (sum.0 + block.0, sum.1 + block.1));
    let (mean, factor) = (value / weight, expansion(blocks.len() as f64));
    let expand = |end: f64| mean + factor * (end - mean);
    Some((expand(means[DRAWS / 40]), expand(means[DRAWS - 1 - DRAWS / 40])))
}

/// The factor by which the interval of few blocks is too narrow: √(n/(n − 1)) t/z, with Student's
/// 97.5 % point for n − 1 degrees of freedom (Hesterberg 2015; its expansion in 1/ν: Abramowitz and
/// Stegun 26.7.5).
fn expansion(blocks: f64) -> f64 {
    let (z, v) = (1.959_963_984_540_054_f64, blocks - 1.0);
    let t = z
        + (z.powi(3) + z) / (4.0 * v)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * v.powi(3));
    (blocks / v).sqrt() * t / z
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stationary process with correlation `rho` between neighbours and mean 2.
    fn correlated(rho: f64, tokens: usize, seed: u64) -> Vec<f64> {
        let mut rng = rng_for(seed, RngStream::Sampling(0));
        let mut state = 0.0;
        let mut next = || {
            // A sum of 12 uniform numbers is nearly normal.
            let normal = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
            state = rho * state + (1.0 - rho * rho).sqrt() * normal;
            state - 2.0
        };
        (0..tokens + 100).map(|_| next()).skip(100).collect()
    }

    #[test]
    fn the_interval_covers_the_mean_of_a_correlated_text_as_often_as_it_says() {
        let covered = |rho, tokens: usize| {
            let covers = |seed: &u64| {
                let mut sums = BlockSums::default();
                sums.add(&correlated(rho, tokens, *seed), BlockSums::piece(tokens as u64));
                of_mean(&sums.pieces).is_some_and(|(low, high)| low <= 2.0 && 2.0 <= high)
            };
            (0..400).filter(covers).count() as f64 / 400.0
        };
        for (rho, tokens) in [(0.0, 20_000), (0.7, 20_000), (0.0, 1000), (0.5, 1000), (0.0, 60)] {
            let share = covered(rho, tokens);
            assert!((0.92..=0.98).contains(&share), "{share} for {rho} and {tokens}");
        }
    }

    #[test]
    fn short_and_impossible_texts_have_no_interval() {
        let of = |log_probs: &[f64]| {
            let mut sums = BlockSums::default();
            sums.add(log_probs, BlockSums::piece(log_probs.len() as u64));
            of_mean(&sums.pieces)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[-1.0; 3]), None);
        assert_eq!(of(&[f64::NEG_INFINITY; 100]), None);
        assert_eq!(of(&[-1.0; 17]), Some((1.0, 1.0)));
        // Student's 97.5 % points for 4 and 29 degrees of freedom.
        for (blocks, point) in [(5.0, 2.776), (30.0, 2.045)] {
            let t = expansion(blocks) * 1.959_964 / f64::sqrt(blocks / (blocks - 1.0));
            assert!((t / point - 1.0).abs() < 0.01, "{t}");
        }
    }
}
