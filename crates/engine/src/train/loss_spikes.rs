//! Detection of loss spikes: updates whose objective is far above its running mean are skipped if
//! `optim.skip_spikes` is set.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ExitKind, Result};

/// Updates that the running mean extends over.
const MEMORY: f64 = 50.0;
/// Updates without detection: the first losses fall fast.
const WARM: u64 = 20;
/// Maximum number of spikes in a row; more are a divergence.
const MAX_IN_A_ROW: u32 = 20;

/// The running mean of the objective, in nats per token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpikeDetector {
    mean: f64,
    seen: u64,
    in_a_row: u32,
}

impl SpikeDetector {
    /// The running mean, if `objective` is a spike: more than `factor` times the mean. Otherwise
    /// updates the mean.
    ///
    /// # Errors
    /// [`ExitKind::Diverged`] after too many spikes in a row.
    pub(crate) fn observe(&mut self, objective: f64, factor: f64) -> Result<Option<f64>> {
        if factor > 0.0 && self.seen >= WARM && objective > factor * self.mean {
            self.in_a_row += 1;
            if self.in_a_row > MAX_IN_A_ROW {
                let message =
                    format!("{MAX_IN_A_ROW} updates in a row were skipped as spikes (optim.skip_spikes)");
                return Err(Error { kind: ExitKind::Diverged, ..Error::failed(message) });
            }
            return Ok(Some(self.mean));
        }
        self.seen += 1;
        // The mean of all updates at first, then an exponential moving average.
        self.mean += (objective - self.mean) / (self.seen as f64).min(MEMORY);
        self.in_a_row = 0;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_is_found_and_does_not_move_the_mean() {
        let mut spikes = SpikeDetector::default();
        for _ in 0..30 {
            assert_eq!(spikes.observe(2.0, 1.5).unwrap(), None);
        }
        assert_eq!(spikes.observe(3.1, 1.5).unwrap(), Some(2.0));
        assert_eq!(spikes.observe(2.9, 1.5).unwrap(), None);
        let mut off = spikes;
        assert_eq!(off.observe(1e9, 0.0).unwrap(), None, "0 is off");
    }

    #[test]
    fn the_first_updates_are_not_judged_and_a_row_of_spikes_is_divergence() {
        let mut spikes = SpikeDetector::default();
        assert_eq!(spikes.observe(1.0, 1.5).unwrap(), None);
        assert_eq!(spikes.observe(100.0, 1.5).unwrap(), None);
        for _ in 0..WARM {
            spikes.observe(1.0, 1.5).unwrap();
        }
        for _ in 0..MAX_IN_A_ROW {
            assert!(spikes.observe(1e6, 1.5).unwrap().is_some());
        }
        assert_eq!(spikes.observe(1e6, 1.5).unwrap_err().kind, ExitKind::Diverged);
    }
}
