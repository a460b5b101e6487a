//! The progress of a run. A budget is the time of the whole run, from its start to its last line.

use std::time::Instant;

use crate::events::StopCriterion;

/// The largest part of the time so far that evaluations before the last one take.
const MAX_EVALUATING: f64 = 0.1;
/// The least time between evaluations, as a part of the budget.
const BETWEEN_EVALUATIONS: f64 = 0.01;
/// The largest part of the budget that the last evaluation takes.
const MAX_LAST_EVALUATION: f64 = 0.2;
/// The part of the budget that is left for saving, and for a sample.
const MARGIN: f64 = 0.03;

/// The progress of a run, and the time that evaluations take.
pub(crate) struct Pace {
    length: StopCriterion,
    /// The start of this process's part of the run.
    started: Instant,
    /// The time of training before, of a resumed run.
    before: f64,
    /// The time of an evaluation, in seconds.
    evaluation: f64,
    /// The time of all evaluations.
    evaluating: f64,
    /// The time of the last evaluation.
    evaluated_at: f64,
    /// The progress after the last step; from 1 on, the run is at its end.
    pub(crate) progress: f64,
}

impl Pace {
    pub(crate) fn new(length: StopCriterion, started: Instant, step: usize, before: f64) -> Self {
        let progress = length.progress(step, before);
        let (evaluation, evaluating, evaluated_at) = (0.0, 0.0, 0.0);
        Self { length, started, before, evaluation, evaluating, evaluated_at, progress }
    }

    /// The time so far that the budget counts, in seconds.
    fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// The time at which training ends, in seconds; `None` without a budget.
    fn end(&self) -> Option<f64> {
        match self.length {
            StopCriterion::Budget(budget) => {
                Some(((1.0 - MARGIN) * budget.as_secs_f64() - self.evaluation).max(f64::MIN_POSITIVE))
            }
            StopCriterion::Steps(_) => None,
        }
    }

    /// The progress of a schedule before a step, from 0 to 1.
    pub(crate) fn of_schedule(&self) -> f64 {
        self.end().map_or(0.0, |end| (self.seconds() / end).min(1.0))
    }

    /// Notes that `step` steps are made, of which the last took `seconds`.
    pub(crate) fn advance(&mut self, step: usize, seconds: f64) {
        self.progress = match self.end() {
            // A further step would not end in time.
            Some(end) => (self.seconds() + seconds) / end,
            None => self.length.progress(step, 0.0),
        };
    }

    /// Estimate of the remaining time of training.
    pub(crate) fn left_seconds(&self, step: usize, train_seconds: f64) -> f64 {
        match self.end() {
            Some(end) => (end - self.seconds()).max(0.0),
            None => self.length.left_seconds(step, train_seconds),
        }
    }

    /// Whether there is time for an evaluation before the last one.
    pub(crate) fn has_time_to_evaluate(&self) -> bool {
        let StopCriterion::Budget(budget) = self.length else { return true };
        let now = self.seconds();
        self.evaluating + self.evaluation <= MAX_EVALUATING * now
            && now - self.evaluated_at >= BETWEEN_EVALUATIONS * budget.as_secs_f64()
    }

    /// Notes an evaluation that took `seconds`.
    pub(crate) fn evaluated(&mut self, seconds: f64) {
        self.evaluation = seconds;
        self.evaluating += seconds;
        self.evaluated_at = self.seconds();
    }

    /// Takes `seconds` as the time of an evaluation; the factor by which it is too long for the
    /// budget, if it is.
    pub(crate) fn estimate(&mut self, seconds: f64) -> Option<f64> {
        self.evaluation = seconds;
        let StopCriterion::Budget(budget) = self.length else { return None };
        let factor = seconds / (MAX_LAST_EVALUATION * budget.as_secs_f64());
        (factor > 1.0).then_some(factor)
    }

    /// Whether the run has a budget.
    pub(crate) fn is_timed(&self) -> bool {
        matches!(self.length, StopCriterion::Budget(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_budget_keeps_time_for_the_last_evaluation_and_rations_the_others() {
        let budget = StopCriterion::Budget(Duration::from_secs(100));
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let at = |seconds| Pace::new(budget, ago(seconds), 0, 0.0);
        let mut pace = at(60);
        assert_eq!(pace.estimate(10.0), None);
        pace.advance(1, 1.0);
        assert!((pace.progress - 61.0 / 87.0).abs() < 0.01, "{}", pace.progress);
        assert!((pace.of_schedule() - 60.0 / 87.0).abs() < 0.01);
        // 10 s are more than a tenth of 60 s.
        assert!(!pace.has_time_to_evaluate());
        assert!(pace.estimate(30.0).is_some_and(|factor| (factor - 1.5).abs() < 1e-9));
        pace.estimate(1.0);
        assert!(pace.has_time_to_evaluate());
        pace.evaluated(1.0);
        assert!(!pace.has_time_to_evaluate(), "just done");
        // The time before a resumption counts.
        let mut resumed = Pace::new(budget, ago(30), 5, 70.0);
        assert!((resumed.progress - 0.7).abs() < 1e-9);
        resumed.advance(6, 0.0);
        assert!(resumed.progress >= 1.0);
        let mut steps = Pace::new(StopCriterion::Steps(4), ago(1), 0, 0.0);
        steps.advance(3, 1.0);
        assert!(steps.progress == 0.75 && steps.has_time_to_evaluate());
    }
}
