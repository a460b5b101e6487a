//! Softmax cross-entropy on slices: loss and gradient in one sweep, the gradient written over the logits.
//!
//! With `u = cap(s·z)`, `lse = ln Σ e^u`, `p = e^{u − lse}`, and a target that is a point mass `a` on class `y` plus a
//! dense part `d` (label smoothing, a distribution, class weights already multiplied in), one row is
//!
//! ```text
//! ℓ        = a·(lse − u_y) + Σ d_j·(lse − u_j) + ζ·lse²
//! ∂ℓ/∂u_j  = (a + Σ d + 2ζ·lse)·p_j − d_j − a·[j = y]
//! ```
//!
//! A row is read once and written once: blocks that fit the first-level cache are replaced by exponentials relative to
//! the block's own maximum (one `exp` an element), and a second sweep over the row, by then in the second-level
//! cache, rescales them into the gradient. The true class takes the sum of the *other* exponentials, so
//! that a confident row keeps its small loss and gradient instead of cancelling `1 − p`.
//!
//! Inputs are taken as valid (lengths, targets in range): the loss crate checks them. What only the sweep can see,
//! a NaN or +∞ among the logits, comes back as [`RowError`].

mod group;
mod row;
mod target;

use pulp::{Simd, WithSimd};

use crate::simd::Isa;
use row::{RowCoefficients, RowLoss, Scratch};
use surprisal_platform::threads::Pool;

/// Where label smoothing moves its mass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SmoothingTarget<'a> {
    /// `ε / V` to every class, the true one included (PyTorch, optax, Liger).
    Uniform,
    /// `ε / (V − 1)` to every class but the true one (fairseq, Megatron).
    Others,
    /// `ε / V'` to each of the `V'` classes whose logit is not −∞.
    Unmasked,
    /// `ε · prior`: length `V` for one prior, `N · V` for one a row.
    Prior(&'a [f32]),
}

/// What is computed, shared by all rows.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// `V`: how many classes, and the length of a row.
    pub vocab: usize,
    /// `ε` in `[0, 1]`.
    pub label_smoothing: f64,
    /// Where `ε` goes.
    pub smoothing_target: SmoothingTarget<'a>,
    /// `w`, length `V`.
    pub class_weights: Option<&'a [f32]>,
    /// `ζ`, the coefficient of `lse²`.
    pub z_loss: f64,
    /// `s > 0`: logits are multiplied by it.
    pub scale: f32,
    /// `c > 0`: `u = c · tanh(s z / c)`; 0 switches it off. A mask (−∞) stays a mask.
    pub softcap: f32,
    /// Rows with this class are skipped: loss 0, gradient 0, logits never read.
    pub ignore_index: u32,
}

impl Spec<'_> {
    /// The same for rows `first..first + n` of the call, counted from 0.
    pub(crate) fn of_rows(&self, first: usize, n: usize) -> Self {
        match self.smoothing_target {
            SmoothingTarget::Prior(prior) if prior.len() != self.vocab => {
                let rows = &prior[first * self.vocab..(first + n) * self.vocab];
                // One row left would read as a prior for all rows, which is the same thing.
                Self { smoothing_target: SmoothingTarget::Prior(rows), ..*self }
            }
            _ => *self,
        }
    }

    /// Plain cross-entropy over `vocab` classes; `u32::MAX` is ignored.
    pub fn new(vocab: usize) -> Self {
        Self {
            vocab,
            label_smoothing: 0.0,
            smoothing_target: SmoothingTarget::Uniform,
            class_weights: None,
            z_loss: 0.0,
            scale: 1.0,
            softcap: 0.0,
            ignore_index: u32::MAX,
        }
    }
}

/// What each row should have predicted. The kernels take probabilities as `f32`.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a, T = f32> {
    /// One class a row.
    Classes(&'a [u32]),
    /// One distribution a row, row-major `N · V`; taken as it is, summing to one or not.
    Probabilities(&'a [T]),
}

impl Targets<'_> {
    #[inline(always)]
    fn ignores(&self, row: usize, spec: &Spec<'_>) -> bool {
        matches!(self, Self::Classes(classes) if classes[row] == spec.ignore_index)
    }

    /// The targets of rows `from..to`.
    pub(crate) fn rows(self, from: usize, to: usize, vocab: usize) -> Self {
        match self {
            Self::Classes(classes) => Self::Classes(&classes[from..to]),
            Self::Probabilities(rows) => Self::Probabilities(&rows[from * vocab..to * vocab]),
        }
    }
}

/// The incoming gradient: what a row's terms are multiplied by in the gradient (not in the sums).
#[derive(Clone, Copy, Debug)]
pub enum GradOutput<'a> {
    /// One factor for the cross-entropy terms of every row and one for the z-loss terms.
    Scalar {
        /// Multiplies the cross-entropy part.
        ce: f64,
        /// Multiplies the z-loss part (a weighted mean divides the two by different counts).
        z_term: f64,
    },
    /// A factor a row, for both.
    PerRow(&'a [f32]),
}

impl GradOutput<'_> {
    #[inline(always)]
    fn of_row(&self, row: usize) -> RowCoefficients {
        match *self {
            Self::Scalar { ce: main, z_term: z } => RowCoefficients { ce: main, z_term: z },
            Self::PerRow(factors) => RowCoefficients { ce: factors[row] as f64, z_term: factors[row] as f64 },
        }
    }

    /// The factors of rows `first..first + n`.
    pub(crate) fn rows(&self, first: usize, n: usize) -> Self {
        match self {
            Self::Scalar { .. } => *self,
            Self::PerRow(factors) => Self::PerRow(&factors[first..first + n]),
        }
    }
}

/// Sums over rows, in nats, in `f64`, in row order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// `Σ a(lse − u_y) + Σ d(lse − u)`: weighted and smoothed.
    pub ce: f64,
    /// `Σ ζ lse²`.
    pub z_term: f64,
    /// `Σ lse − u_y`, neither weighted nor smoothed (`Σ q(lse − u)` for probability targets).
    pub nll: f64,
    /// How many rows were not ignored.
    pub rows: usize,
}

impl Totals {
    pub(crate) fn add(&mut self, other: Self) {
        self.ce += other.ce;
        self.z_term += other.z_term;
        self.nll += other.nll;
        self.rows += other.rows;
    }
}

/// A row whose cross-entropy does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} of the logits {what}")]
pub struct RowError {
    /// Which row, from 0.
    pub row: usize,
    /// What is wrong with it.
    pub what: RowDefect,
}

/// What is wrong with a row of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowDefect {
    /// At least one NaN.
    #[error("holds a NaN")]
    Nan,
    /// At least one +∞.
    #[error("holds +inf")]
    PositiveInfinity,
    /// Every class is masked by −∞.
    #[error("is -inf in every class")]
    AllMasked,
}

/// How many rows one task takes: a fixed function of the shape, so that sums do not depend on the threads.
fn rows_per_task(vocab: usize) -> usize {
    (256 * 1024 / vocab.max(1)).clamp(1, 256)
}

/// Where logits (`N · V`) come from and where the gradient goes.
#[derive(Debug)]
pub enum LogitsBuffer<'a> {
    /// Logits that stay as they are, without a gradient.
    Read(&'a [f32]),
    /// Logits that stay as they are, and the gradient.
    Copy(&'a [f32], &'a mut [f32]),
    /// The gradient takes the place of the logits; without one, what is left is of no use.
    Overwrite(&'a mut [f32]),
}

impl LogitsBuffer<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Read(logits) | Self::Copy(logits, _) => logits.len(),
            Self::Overwrite(logits) => logits.len(),
        }
    }

    /// Splits off the first `n` elements.
    fn split_at(self, n: usize) -> (Self, Self) {
        match self {
            Self::Read(logits) => {
                let (a, b) = logits.split_at(n);
                (Self::Read(a), Self::Read(b))
            }
            Self::Copy(logits, gradient) => {
                let ((a, b), (c, d)) = (logits.split_at(n), gradient.split_at_mut(n));
                (Self::Copy(a, c), Self::Copy(b, d))
            }
            Self::Overwrite(logits) => {
                let (a, b) = logits.split_at_mut(n);
                (Self::Overwrite(a), Self::Overwrite(b))
            }
        }
    }
}

/// The loss of `rows`, and the gradient if there is a `grad_output`; per-row objectives go to `losses` when given.
///
/// # Errors
/// [`RowError`] for the first row that holds a NaN, +∞ or nothing but −∞; where a gradient was to go there is nothing of use.
pub fn cross_entropy(
    mut rows: LogitsBuffer<'_>,
    targets: Targets<'_>,
    spec: &Spec<'_>,
    grad_output: Option<GradOutput<'_>>,
    mut losses: Option<&mut [f32]>,
    pool: Option<&Pool>,
) -> Result<Totals, RowError> {
    let vocab = spec.vocab.max(1);
    let count = rows.len() / vocab;
    let step = rows_per_task(vocab);
    let isa = Isa::current();
    let mut tasks = Vec::with_capacity(count.div_ceil(step));
    for first in (0..count).step_by(step) {
        let n = step.min(count - first);
        let (head, tail) = rows.split_at(n * vocab);
        rows = tail;
        let task_losses = losses.take().map(|all| {
            let (head, tail) = all.split_at_mut(n);
            losses = Some(tail);
            head
        });
        let targets = targets.rows(first, first + n, vocab);
        tasks.push(Task { first, rows: head, targets, spec, grad_output, losses: task_losses });
    }
    let parts: Vec<_> = match pool {
        Some(pool) => pool.map_including_caller(tasks, |task| isa.run(task)),
        None => tasks.into_iter().map(|task| isa.run(task)).collect(),
    };
    let mut totals = Totals::default();
    for part in parts {
        totals.add(part?);
    }
    Ok(totals)
}

/// A run of rows, done by one thread.
struct Task<'a> {
    /// The index of the first row, for messages, priors and `grad_output`.
    first: usize,
    rows: LogitsBuffer<'a>,
    targets: Targets<'a>,
    spec: &'a Spec<'a>,
    grad_output: Option<GradOutput<'a>>,
    losses: Option<&'a mut [f32]>,
}

impl WithSimd for Task<'_> {
    type Output = Result<Totals, RowError>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let Self { first, rows, targets, spec, grad_output, mut losses } = self;
        let vocab = spec.vocab;
        let n = rows.len() / vocab.max(1);
        let mut scratch = Scratch::default();
        let (source, gradient) = match rows {
            LogitsBuffer::Read(logits) => (Some(logits), None),
            LogitsBuffer::Copy(logits, gradient) => (Some(logits), Some(gradient)),
            LogitsBuffer::Overwrite(logits) => (None, Some(logits)),
        };
        let group = match targets {
            Targets::Classes(_) if group::fits(spec) => group::ROWS,
            _ => 1,
        };
        // Loss alone: rows are worked on in a copy.
        let mut copy = if gradient.is_none() { vec![0.0; group.min(n) * vocab] } else { Vec::new() };
        let mut gradient = gradient;
        let mut totals = Totals::default();
        let mut coefficients = [RowCoefficients::default(); group::ROWS];
        let mut results = [RowLoss::default(); group::ROWS];
        for start in (0..n).step_by(group) {
            let count = group.min(n - start);
            let span = start * vocab..(start + count) * vocab;
            let rows = match &mut gradient {
                Some(gradient) => &mut gradient[span.clone()],
                None => &mut copy[..count * vocab],
            };
            for i in 0..count {
                let (at, row) = (start + i, i * vocab..(i + 1) * vocab);
                if targets.ignores(at, spec) {
                    rows[row].fill(0.0);
                } else if let Some(logits) = source {
                    rows[row].copy_from_slice(&logits[at * vocab..(at + 1) * vocab]);
                }
                if let Some(grad_output) = grad_output {
                    coefficients[i] = grad_output.of_row(first + at);
                }
            }
            let row = first + start;
            let error = |(i, what)| RowError { row: row + i, what };
            match targets {
                Targets::Classes(classes) if group > 1 => {
                    let classes = &classes[start..start + count];
                    let given = grad_output.map(|_| &coefficients);
                    group::classes(simd, rows, classes, spec, given, &mut results).map_err(error)?;
                }
                _ if targets.ignores(start, spec) => {}
                _ => {
                    let given = grad_output.map(|_| coefficients[0]);
                    let Scratch { blocks, soft, derivatives } = &mut scratch;
                    let (target, q) = match targets {
                        Targets::Classes(classes) => {
                            (target::of_class(classes[start] as usize, row, rows, spec, soft), None)
                        }
                        Targets::Probabilities(q) => {
                            let q = &q[span];
                            (target::of_distribution(q, row, rows, spec, soft), Some(q))
                        }
                    };
                    let loss = row::loss(simd, rows, target, spec, given, blocks, derivatives, q);
                    results[0] = loss.map_err(|what| error((0, what)))?;
                }
            }
            for (i, loss) in results[..count].iter().enumerate() {
                let ignored = targets.ignores(start + i, spec);
                if !ignored {
                    totals.add(Totals { ce: loss.ce, z_term: loss.z_term, nll: loss.nll, rows: 1 });
                }
                if let Some(losses) = &mut losses {
                    losses[start + i] = if ignored { 0.0 } else { (loss.ce + loss.z_term) as f32 };
                }
            }
        }
        Ok(totals)
    }
}
