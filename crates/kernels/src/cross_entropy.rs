//! Softmax cross-entropy on slices; the gradient replaces the logits.
//!
//! With `u = softcap(s·z)`, `lse = ln Σ e^u`, `p = e^{u − lse}`, and a target that is a hard weight
//! `a` on class `y` plus a soft target `d` (label smoothing or a distribution, times class
//! weights), the loss and gradient of a row are
//!
//! ```text
//! ℓ        = a·(lse − u_y) + Σ d_j·(lse − u_j) + ζ·lse²
//! ∂ℓ/∂u_j  = (a + Σ d + 2ζ·lse)·p_j − d_j − a·[j = y]
//! ```
//!
//! The first pass replaces blocks that fit the L1 cache by exponentials relative to the block's
//! maximum (one `exp` per element); the second, in the L2 cache, rescales them into the gradient.
//! The target class uses the sum of the *other* exponentials, so that confident rows do not compute
//! `1 − p` by cancellation.
//!
//! The caller checks lengths and target ranges. A NaN or +∞ among the logits is a [`RowError`].

mod group;
mod row;
mod target;

use pulp::{Simd, WithSimd};

use crate::simd::Isa;
use row::{RowCoefficients, RowLoss, Scratch};
use surprisal_platform::threads::Pool;

/// The distribution that label smoothing mixes into the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SmoothingTarget<'a> {
    /// `ε / V` to every class, the target class included (PyTorch, optax, Liger).
    Uniform,
    /// `ε / (V − 1)` to every class except the target class (fairseq, Megatron).
    Others,
    /// `ε / V'` to each of the `V'` classes whose logit is not −∞.
    Unmasked,
    /// `ε · prior`, with length `V` for one prior or `N · V` for one per row.
    Prior(&'a [f32]),
}

/// Loss options that are the same for all rows.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// `V`, the number of classes.
    pub vocab: usize,
    /// `ε` of label smoothing, in `[0, 1]`.
    pub label_smoothing: f64,
    /// Distribution of the mass `ε`.
    pub smoothing_target: SmoothingTarget<'a>,
    /// Class weights `w`, length `V`.
    pub class_weights: Option<&'a [f32]>,
    /// `ζ`, the coefficient of the z-loss `lse²`.
    pub z_loss: f64,
    /// `s > 0`, a factor on the logits.
    pub scale: f32,
    /// `c > 0` for `u = c · tanh(s z / c)`, or 0 for none. A mask (−∞) stays −∞.
    pub softcap: f32,
    /// Rows with this target class have loss and gradient 0; their logits are not read.
    pub ignore_index: u32,
}

impl Spec<'_> {
    /// The options of rows `first..first + n`, which are then counted from 0.
    pub(crate) fn of_rows(&self, first: usize, n: usize) -> Self {
        match self.smoothing_target {
            SmoothingTarget::Prior(prior) if prior.len() != self.vocab => {
                let rows = &prior[first * self.vocab..(first + n) * self.vocab];
                // If n = 1, this is read as one prior for all rows, which gives the same result.
                Self { smoothing_target: SmoothingTarget::Prior(rows), ..*self }
            }
            _ => *self,
        }
    }

    /// Cross-entropy over `vocab` classes without options; `ignore_index` is `u32::MAX`.
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

/// Targets of the rows. The kernels take probabilities as `f32`.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a, T = f32> {
    /// One class per row.
    Classes(&'a [u32]),
    /// One distribution per row, row-major `N · V`; its sum need not be 1.
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

/// The gradient of the rows' losses: factors on the rows' gradients, not on the summed losses.
#[derive(Clone, Copy, Debug)]
pub enum GradOutput<'a> {
    /// The same factors for all rows.
    Scalar {
        /// Factor on the cross-entropy.
        ce: f64,
        /// Factor on the z-loss, which differs for a mean over class weights.
        z_term: f64,
    },
    /// One factor per row, for cross-entropy and z-loss.
    PerRow(&'a [f32]),
}

impl GradOutput<'_> {
    #[inline(always)]
    fn of_row(&self, row: usize) -> RowCoefficients {
        match *self {
            Self::Scalar { ce, z_term } => RowCoefficients { ce, z_term },
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

/// Sums over rows, in nats, in row order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// `Σ a(lse − u_y) + Σ d(lse − u)`, with class weights and label smoothing.
    pub ce: f64,
    /// `Σ ζ lse²`, the z-loss.
    pub z_term: f64,
    /// `Σ lse − u_y`, without weights and smoothing (`Σ q(lse − u)` for probability targets).
    pub nll: f64,
    /// Number of rows that are not ignored.
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

/// A row of logits whose cross-entropy is undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the logits of row {row} {what}")]
pub struct RowError {
    /// Index of the row, from 0.
    pub row: usize,
    /// The defect.
    pub what: RowDefect,
}

/// The defect of a row of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowDefect {
    /// At least one NaN.
    #[error("contain a NaN")]
    Nan,
    /// At least one +∞.
    #[error("contain +inf")]
    PositiveInfinity,
    /// Every class is masked by −∞.
    #[error("are -inf for every class")]
    AllMasked,
}

/// Rows per task; depends only on the shape, so that sums do not depend on the number of threads.
fn rows_per_task(vocab: usize) -> usize {
    (256 * 1024 / vocab.max(1)).clamp(1, 256)
}

/// Logits (`N · V`) and the buffer for their gradient.
#[derive(Debug)]
pub enum LogitsBuffer<'a> {
    /// Read-only logits, without a gradient.
    Read(&'a [f32]),
    /// Read-only logits, and a buffer for the gradient.
    Copy(&'a [f32], &'a mut [f32]),
    /// Logits that the gradient replaces; if none is computed, they become unspecified.
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

/// Computes the loss of `rows`, the gradient if `grad_output` is given, and per-row losses
/// (cross-entropy plus z-loss) if `losses` is given.
///
/// # Errors
/// [`RowError`] for the first row with a NaN, a +∞ or only −∞; the gradient is then unspecified.
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

/// Consecutive rows, computed by one thread.
struct Task<'a> {
    /// Index of the first row, for errors, priors and `grad_output`.
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
        let (source, mut gradient) = match rows {
            LogitsBuffer::Read(logits) => (Some(logits), None),
            LogitsBuffer::Copy(logits, gradient) => (Some(logits), Some(gradient)),
            LogitsBuffer::Overwrite(logits) => (None, Some(logits)),
        };
        let group = match targets {
            Targets::Classes(_) if group::fits(spec) => group::ROWS,
            _ => 1,
        };
        // Without a gradient, the kernels work on a copy.
        let mut copy = if gradient.is_none() { vec![0.0; group.min(n) * vocab] } else { Vec::new() };
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
