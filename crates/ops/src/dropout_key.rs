//! Where the random bits of dropout come from.

use surprisal_kernels::dropout::splitmix64;

/// Names one dropout mask of one training step.
///
/// The mask is a function of a counter, not of a generator's state: nothing is stored between the forward and the
/// backward pass, and shards of a batch draw the same bits as the whole batch would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropoutKey {
    /// Differs by run and by step.
    pub seed: u64,
    /// Which dropout of the model this is.
    pub site: u64,
    /// Index in the whole batch of the first row of this tensor; rows run along its first dimension.
    pub first_row: usize,
}

impl DropoutKey {
    /// The state from which every element of row `row` (counted within this tensor) is drawn.
    #[inline]
    pub fn row(&self, row: usize) -> u64 {
        let row = self.first_row.wrapping_add(row) as u64;
        splitmix64(splitmix64(splitmix64(self.seed) ^ self.site) ^ row)
    }

    /// `p` as a count of the 2³² values that an element's 32 random bits can take.
    #[inline]
    pub fn threshold(p: f64) -> u64 {
        (p * 4_294_967_296.0).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surprisal_kernels::dropout::is_kept;

    #[test]
    fn drops_the_fraction_it_was_asked_for() {
        let stream = DropoutKey { seed: 7, site: 3, first_row: 0 };
        let threshold = DropoutKey::threshold(0.2);
        let n = 400;
        let kept: usize =
            (0..n).map(|row| (0..n).filter(|&i| is_kept(stream.row(row), i, threshold)).count()).sum();
        // 160 000 draws: the standard deviation of the fraction is 0.001.
        let fraction = kept as f64 / (n * n) as f64;
        assert!((fraction - 0.8).abs() < 0.005, "kept {fraction}");
    }
}
