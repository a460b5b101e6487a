//! The learning rate over a run: linear warm-up, then a shape.

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Constant,
    /// Half a cosine from the peak to the minimum (Loshchilov & Hutter 2017, without restarts).
    Cosine,
    Linear,
    /// Warm-up, stable, decay: the peak, then a straight line to the minimum over this last share of the run (Hu et al. 2024).
    Wsd(f64),
}

impl Shape {
    /// The shape of that name in a config; `cooldown` is the share of the run in which "wsd" decays.
    pub(crate) fn named(name: &str, cooldown: f64) -> Option<Self> {
        match name {
            "constant" => Some(Self::Constant),
            "cosine" => Some(Self::Cosine),
            "linear" => Some(Self::Linear),
            "wsd" => Some(Self::Wsd(cooldown)),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) lr: f64,
    pub(crate) min_lr: f64,
    /// In steps.
    pub(crate) warmup: usize,
    pub(crate) shape: Shape,
}

impl Schedule {
    /// The rate at 0-based `step`, when `progress` (0 to 1) of the run after warm-up is done.
    ///
    /// Warm-up is (step + 1)/(warmup + 1) of the peak, as nanoGPT's, so that step 0 already moves.
    pub(crate) fn at(&self, step: usize, progress: f64) -> f64 {
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        let progress = progress.clamp(0.0, 1.0);
        let remaining = match self.shape {
            Shape::Constant => return self.lr,
            Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Shape::Linear => 1.0 - progress,
            Shape::Wsd(cooldown) => ((1.0 - progress) / cooldown).min(1.0),
        };
        self.min_lr + remaining * (self.lr - self.min_lr)
    }

    /// [`Self::at`] for a run of a known number of steps.
    pub(crate) fn at_step(&self, step: usize, steps: usize) -> f64 {
        let after = steps.saturating_sub(self.warmup).max(1);
        self.at(step, step.saturating_sub(self.warmup) as f64 / after as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSINE: Schedule = Schedule { lr: 1e-3, min_lr: 1e-4, warmup: 100, shape: Shape::Cosine };

    #[test]
    fn follows_the_recipe_of_nanogpt() {
        assert!((COSINE.at_step(0, 2000) - 1e-3 / 101.0).abs() < 1e-15);
        assert!((COSINE.at_step(99, 2000) - 1e-3 * 100.0 / 101.0).abs() < 1e-15);
        assert!((COSINE.at_step(100, 2000) - 1e-3).abs() < 1e-15);
        // Half way down the cosine is half way between the ends.
        assert!((COSINE.at_step(1050, 2000) - 5.5e-4).abs() < 1e-12);
        assert!((COSINE.at_step(2000, 2000) - 1e-4).abs() < 1e-15);
    }

    #[test]
    fn linear_and_constant_do_what_they_say() {
        let linear = Schedule { shape: Shape::Linear, warmup: 0, ..COSINE };
        assert!((linear.at_step(500, 1000) - 5.5e-4).abs() < 1e-12);
        let constant = Schedule { shape: Shape::Constant, ..COSINE };
        assert!((constant.at_step(1999, 2000) - 1e-3).abs() < f64::EPSILON);
    }

    #[test]
    fn wsd_stays_at_the_peak_until_its_cool_down() {
        let shape = Shape::named("wsd", 0.25).unwrap();
        let wsd = Schedule { shape, warmup: 0, ..COSINE };
        assert!((wsd.at_step(750, 1000) - 1e-3).abs() < 1e-15);
        assert!((wsd.at_step(875, 1000) - 5.5e-4).abs() < 1e-12);
        assert!((wsd.at_step(1000, 1000) - 1e-4).abs() < 1e-15);
    }

    #[test]
    fn a_run_shorter_than_its_warm_up_never_divides_by_zero() {
        for step in 0..20 {
            assert!(COSINE.at_step(step, 10).is_finite());
        }
    }
}
