//! Batches whose loss is far above the others', passed over if the config says so (`optim.skip_spikes`).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// The running mean looks back over about so many updates.
const MEMORY: f64 = 50.0;
/// Updates before anything is judged: the first losses fall fast.
const WARM: u64 = 20;
/// So many in a row are no spike: the run has left the track.
const MOST: u32 = 20;

/// The running mean of the objective, nats a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spikes {
    mean: f64,
    seen: u64,
    in_a_row: u32,
}

impl Spikes {
    /// The mean that `objective` is more than `factor` times above, if it is a spike; else takes it into the mean.
    ///
    /// # Errors
    /// As divergence, when there is one spike after the other.
    pub(crate) fn judge(&mut self, objective: f64, factor: f64) -> Result<Option<f64>> {
        if factor > 0.0 && self.seen >= WARM && objective > factor * self.mean {
            self.in_a_row += 1;
            if self.in_a_row > MOST {
                let message =
                    format!("{MOST} updates in a row were passed over as spikes (optim.skip_spikes)");
                return Err(Error { kind: Kind::Diverged, ..Error::failed(message) });
            }
            return Ok(Some(self.mean));
        }
        self.seen += 1;
        // The plain mean at first, then one that forgets.
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
        let mut spikes = Spikes::default();
        for _ in 0..30 {
            assert_eq!(spikes.judge(2.0, 1.5).unwrap(), None);
        }
        assert_eq!(spikes.judge(3.1, 1.5).unwrap(), Some(2.0));
        assert_eq!(spikes.judge(2.9, 1.5).unwrap(), None);
        let mut off = spikes;
        assert_eq!(off.judge(1e9, 0.0).unwrap(), None, "0 is off");
    }

    #[test]
    fn the_first_updates_are_not_judged_and_a_row_of_spikes_is_divergence() {
        let mut spikes = Spikes::default();
        assert_eq!(spikes.judge(1.0, 1.5).unwrap(), None);
        assert_eq!(spikes.judge(100.0, 1.5).unwrap(), None);
        for _ in 0..WARM {
            spikes.judge(1.0, 1.5).unwrap();
        }
        for _ in 0..MOST {
            assert!(spikes.judge(1e6, 1.5).unwrap().is_some());
        }
        assert_eq!(spikes.judge(1e6, 1.5).unwrap_err().kind, Kind::Diverged);
    }
}
