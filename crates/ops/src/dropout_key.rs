//! Keys of dropout masks.

use surprisal_kernels::dropout::splitmix64;

/// The key of one dropout mask of one training step.
///
/// The mask is a function of the key and a counter, so it need not be stored for backward, and the
/// shards of a batch have the same mask as the whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropoutKey {
    /// Different for each run and step.
    pub seed: u64,
    /// Index of the dropout within the model.
    pub site: u64,
    /// Index of this tensor's first row in the whole batch; rows are its first dimension.
    pub first_row: usize,
}

impl DropoutKey {
    /// Key of row `row` of this tensor, for `surprisal_kernels::dropout`.
    #[inline]
    pub fn row(&self, row: usize) -> u64 {
        let row = self.first_row.wrapping_add(row) as u64;
        splitmix64(splitmix64(splitmix64(self.seed) ^ self.site) ^ row)
    }

    /// `p · 2³²`, the threshold for `surprisal_kernels::dropout`.
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
    fn drops_a_fraction_p() {
        let key = DropoutKey { seed: 7, site: 3, first_row: 0 };
        let threshold = DropoutKey::threshold(0.2);
        let n = 400;
        let kept: usize =
            (0..n).map(|row| (0..n).filter(|&i| is_kept(key.row(row), i, threshold)).count()).sum();
        // 160 000 draws: the standard deviation of the fraction is 0.001.
        let fraction = kept as f64 / (n * n) as f64;
        assert!((fraction - 0.8).abs() < 0.005, "kept {fraction}");
    }
}
