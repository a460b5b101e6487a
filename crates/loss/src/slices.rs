//! The cross-entropy on slices: checks, reduction factors, kernels.

use surprisal_kernels::cross_entropy::{GradOutput, LogitsBuffer, Targets, Totals, cross_entropy};

use crate::error::{LossError, Result};
use crate::options::{CrossEntropy, Reduction, SmoothingTarget, is_nonnegative};

/// Sums of one application, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossSums {
    /// The reduced loss; under [`Reduction::None`] the sum.
    pub loss: f64,
    /// The sum of the rows' objectives: weighted and smoothed, with z-loss.
    pub objective_sum: f64,
    /// The sum of the rows' negative log likelihoods, neither weighted nor smoothed.
    pub nll_sum: f64,
    /// Rows that are not ignored.
    pub count: usize,
}

/// Factors of the sums over rows: of the cross-entropy and of the z-loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ReductionFactors {
    pub(crate) main: f64,
    pub(crate) z: f64,
}

impl ReductionFactors {
    pub(crate) fn upstream(self) -> GradOutput<'static> {
        GradOutput::Scalar { ce: self.main, z_term: self.z }
    }

    pub(crate) fn value(self, totals: Totals) -> LossSums {
        LossSums {
            loss: self.main * totals.ce + self.z * totals.z_term,
            objective_sum: totals.ce + totals.z_term,
            nll_sum: totals.nll,
            count: totals.rows,
        }
    }
}

impl CrossEntropy {
    /// Loss of `logits`, row-major `N · vocab`. `losses` receives each row's objective.
    ///
    /// # Errors
    /// Wrong lengths, a target out of range, a row that holds a NaN, +∞ or nothing but −∞.
    pub fn evaluate(
        &self,
        logits: &[f32],
        vocab: usize,
        targets: Targets<'_>,
        losses: Option<&mut [f32]>,
    ) -> Result<LossSums> {
        let rows = self.check(logits.len(), vocab, targets)?;
        check_length("losses", losses.as_deref().map_or(rows, <[f32]>::len), rows)?;
        let spec = self.spec(vocab);
        let pool = self.pool.as_deref();
        let totals = cross_entropy(LogitsBuffer::Read(logits), targets, &spec, None, losses, pool)?;
        Ok(self.factors(targets, vocab).value(totals))
    }

    /// Loss of `logits`, which are overwritten with its gradient. Needs no other memory but a few
    /// kilobytes per thread.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; after an error in a row's logits, `logits` has no meaning.
    pub fn forward_backward_in_place(
        &self,
        logits: &mut [f32],
        vocab: usize,
        targets: Targets<'_>,
    ) -> Result<LossSums> {
        self.check(logits.len(), vocab, targets)?;
        let factors = self.factors(targets, vocab);
        let (spec, pool) = (self.spec(vocab), self.pool.as_deref());
        let upstream = Some(factors.upstream());
        let totals = cross_entropy(LogitsBuffer::Overwrite(logits), targets, &spec, upstream, None, pool)?;
        Ok(factors.value(totals))
    }

    /// Checks shapes and targets; gives the number of rows.
    pub(crate) fn check<T: Copy + Into<f64>>(
        &self,
        elements: usize,
        vocab: usize,
        targets: Targets<'_, T>,
    ) -> Result<usize> {
        if vocab == 0 {
            return Err(LossError::Conflict("logits need at least one class"));
        }
        if self.label_smoothing > 0.0 && matches!(self.toward, SmoothingTarget::Others) && vocab == 1 {
            return Err(LossError::Conflict("smoothing toward the other classes needs at least two classes"));
        }
        let rows = match targets {
            Targets::Classes(classes) => classes.len(),
            Targets::Probabilities(q) => q.len() / vocab,
        };
        let expected = rows.checked_mul(vocab).ok_or(LossError::Conflict("rows times classes overflows"))?;
        check_length("logits", elements, expected)?;
        if let Some(weights) = &self.class_weights {
            check_length("class_weights", weights.f32s.len(), vocab)?;
        }
        if let SmoothingTarget::Prior(prior) = &self.toward
            && prior.f32s.len() != vocab
        {
            check_length("prior", prior.f32s.len(), expected)?;
        }
        match targets {
            Targets::Classes(classes) => {
                let bad = |&class: &u32| class as usize >= vocab && class != self.ignored_class();
                if let Some(row) = classes.iter().position(bad) {
                    return Err(LossError::Target { row, target: classes[row] as i64, classes: vocab });
                }
            }
            Targets::Probabilities(q) => {
                check_length("target distributions", q.len(), elements)?;
                if let Some(at) = q.iter().position(|&q| !is_nonnegative(q.into())) {
                    let (row, class) = (at / vocab, at % vocab);
                    return Err(LossError::Mass { row, class, value: q[at].into() });
                }
            }
        }
        Ok(rows)
    }

    /// The reduction as factors of sums over rows; [`Reduction::None`] is a sum here.
    pub(crate) fn factors<T>(&self, targets: Targets<'_, T>, vocab: usize) -> ReductionFactors {
        let same = |factor| ReductionFactors { main: factor, z: factor };
        match self.reduction {
            Reduction::None | Reduction::Sum => same(1.0),
            Reduction::Scaled(factor) => same(factor),
            Reduction::Mean => {
                let (weight, rows) = match targets {
                    Targets::Classes(classes) => {
                        let valid = classes.iter().filter(|&&class| class != self.ignored_class());
                        let rows = valid.clone().count() as f64;
                        let weight = self
                            .class_weights
                            .as_ref()
                            .map_or(rows, |weights| valid.map(|&class| weights.f64s[class as usize]).sum());
                        (weight, rows)
                    }
                    Targets::Probabilities(q) => ((q.len() / vocab) as f64, (q.len() / vocab) as f64),
                };
                let inverse = |n: f64| if n > 0.0 { 1.0 / n } else { 0.0 };
                ReductionFactors { main: inverse(weight), z: inverse(rows) }
            }
        }
    }
}

pub(crate) fn check_length(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(LossError::Length { what, expected, got }) }
}
