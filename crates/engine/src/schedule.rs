//! Learning rate schedules: linear warm-up, then constant, cosine, linear or warm-up-stable-decay.

use surprisal_kernels::elementary::Elementary;

use crate::config::{LrSchedule, Optim};

impl Optim {
    /// The learning rate at 0-based `step`, at `progress` (0 to 1) of the run after warm-up.
    ///
    /// Warm-up is (step + 1)/(warmup + 1) of the peak, as in nanoGPT, so that step 0 has a rate
    /// above 0.
    pub(crate) fn rate(&self, step: usize, progress: f64) -> f64 {
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        let progress = progress.clamp(0.0, 1.0);
        let remaining = match self.schedule {
            LrSchedule::Constant => return self.lr,
            LrSchedule::Cosine => 0.5 * (1.0 + Elementary::current().cos(std::f64::consts::PI * progress)),
            LrSchedule::Linear => 1.0 - progress,
            LrSchedule::Wsd => ((1.0 - progress) / self.cooldown).min(1.0),
        };
        self.min_lr + remaining * (self.lr - self.min_lr)
    }

    /// [`Self::rate`] in a run of a known number of steps.
    pub(crate) fn rate_of(&self, step: usize, steps: usize) -> f64 {
        let after = steps.saturating_sub(self.warmup).max(1);
        self.rate(step, step.saturating_sub(self.warmup) as f64 / after as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn optim(schedule: LrSchedule, warmup: usize) -> Optim {
        Optim { lr: 1e-3, min_lr: 1e-4, warmup, cooldown: 0.25, schedule, ..Optim::default() }
    }

    #[test]
    fn follows_the_recipe_of_nanogpt() {
        let cosine = optim(LrSchedule::Cosine, 100);
        assert!((cosine.rate_of(0, 2000) - 1e-3 / 101.0).abs() < 1e-15);
        assert!((cosine.rate_of(99, 2000) - 1e-3 * 100.0 / 101.0).abs() < 1e-15);
        assert!((cosine.rate_of(100, 2000) - 1e-3).abs() < 1e-15);
        // Half way down the cosine is half way between the ends.
        assert!((cosine.rate_of(1050, 2000) - 5.5e-4).abs() < 1e-12);
        assert!((cosine.rate_of(2000, 2000) - 1e-4).abs() < 1e-15);
    }

    #[test]
    fn linear_and_constant_do_what_they_say() {
        let linear = optim(LrSchedule::Linear, 0);
        assert!((linear.rate_of(500, 1000) - 5.5e-4).abs() < 1e-12);
        let constant = optim(LrSchedule::Constant, 100);
        assert!((constant.rate_of(1999, 2000) - 1e-3).abs() < f64::EPSILON);
    }

    #[test]
    fn wsd_stays_at_the_peak_until_its_cool_down() {
        let wsd = optim(LrSchedule::Wsd, 0);
        assert!((wsd.rate_of(750, 1000) - 1e-3).abs() < 1e-15);
        assert!((wsd.rate_of(875, 1000) - 5.5e-4).abs() < 1e-12);
        assert!((wsd.rate_of(1000, 1000) - 1e-4).abs() < 1e-15);
    }

    #[test]
    fn a_run_shorter_than_its_warm_up_never_divides_by_zero() {
        for step in 0..20 {
            assert!(optim(LrSchedule::Cosine, 100).rate_of(step, 10).is_finite());
        }
    }
}
