//! The cross-entropy composed of candle's operations, for devices other than the CPU.
//!
//! It follows the definition: with the smoothed, weighted targets `D` of each row, `ℓ = Σ_j D_j
//! (lse − u_j) + ζ lse²`. It needs about ten times the time and memory of the kernels and gives the
//! same values, but for one gradient: where a masked class has target mass, so that the loss is
//! infinite, the gradient of its logit is 0.

use candle_core::{D, DType, Device, Tensor};
use surprisal_kernels::cross_entropy::{RowDefect, RowError, Targets};

use crate::error::{LossError, Result};
use crate::options::{CrossEntropy, Reduction, SmoothingTarget};
use crate::reference::smoothed;
use crate::slices::{LossSums, ReductionFactors};
use crate::tensor::{Loss, OwnedTargets};

/// Replaces −∞ in sums: its exponential is 0, and no product with it is NaN.
const MASK: f64 = -1e30;

impl CrossEntropy {
    /// [`CrossEntropy::apply`] composed of candle operations, on the device of `logits`.
    ///
    /// # Errors
    /// As [`CrossEntropy::apply`].
    pub fn apply_unfused(&self, logits: &Tensor, targets: &Tensor) -> Result<Loss> {
        let (rows, vocab) = logits.dims2()?;
        let targets = OwnedTargets::read(self, targets, rows, vocab)?;
        let plan = TargetRows::new(self, logits, &targets, rows, vocab)?;
        let device = logits.device();
        let column = |values: Vec<f64>| Tensor::from_vec(values, (rows, 1), &Device::Cpu);
        let place = |t: Tensor| t.to_dtype(DType::F32)?.to_device(device);

        // Ignored rows may hold anything: zeros replace them.
        let valid = place(column(plan.valid.iter().map(|&v| f64::from(u8::from(v))).collect())?)?;
        let z = logits.to_dtype(DType::F32)?;
        let open = valid.broadcast_as(z.shape())?.ne(0.0)?;
        let z = open.where_cond(&z, &z.zeros_like()?)?;
        let masked = z.eq(f64::NEG_INFINITY)?;
        let filler = Tensor::full(MASK as f32, z.shape(), device)?;
        let finite = masked.where_cond(&z.zeros_like()?, &z)?;
        let u = if self.softcap == 0.0 {
            (finite * self.scale)?
        } else {
            // A cap makes +∞ finite, but +∞ is an error.
            let inside = (finite.affine(self.scale / self.softcap, 0.0)?.tanh()? * self.softcap)?;
            finite.eq(f64::INFINITY)?.where_cond(&finite, &inside)?
        };
        let u = masked.where_cond(&filler, &u)?;

        let max = u.max_keepdim(D::Minus1)?.detach();
        let lse = (u.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?.log()? + &max)?;
        check_rows(&lse, &max)?;

        let surprisal = lse.broadcast_sub(&u)?;
        let mass = place(Tensor::from_vec(plan.smooth, (rows, vocab), &Device::Cpu)?)?;
        let plain = place(Tensor::from_vec(plan.plain, (rows, vocab), &Device::Cpu)?)?;
        let cost = |mass: &Tensor| -> candle_core::Result<Tensor> {
            let terms = (mass * &surprisal)?;
            let impossible = (mass.gt(0.0)?.to_dtype(DType::F32)? * masked.to_dtype(DType::F32)?)?.gt(0.0)?;
            let infinity = Tensor::full(f32::INFINITY, terms.shape(), device)?;
            impossible.where_cond(&infinity, &terms)?.sum_keepdim(D::Minus1)
        };
        let main = cost(&mass)?;
        let nll = cost(&plain)?;
        let z_loss = ((lse.sqr()? * &valid)? * self.z_loss)?;

        let ReductionFactors { main: main_factor, z: z_factor } = plan.factors;
        let per_row = self.reduction == Reduction::None;
        let value = if per_row {
            (&main + &z_loss)?.squeeze(1)?
        } else {
            ((main.sum_all()? * main_factor)? + (z_loss.sum_all()? * z_factor)?)?
        };
        let objective_sum = total(&main)? + total(&z_loss)?;
        let count = plan.valid.iter().filter(|&&v| v).count();
        Ok(Loss::new(value, LossSums { loss: 0.0, objective_sum, nll_sum: total(&nll)?, count }))
    }
}

/// The targets of all rows as distributions, with the reduction.
struct TargetRows {
    valid: Vec<bool>,
    /// `D`: smoothed and weighted; zero in ignored rows.
    smooth: Vec<f64>,
    /// Neither smoothed nor weighted; zero in ignored rows.
    plain: Vec<f64>,
    factors: ReductionFactors,
}

impl TargetRows {
    fn new(
        options: &CrossEntropy,
        logits: &Tensor,
        targets: &OwnedTargets<f64>,
        rows: usize,
        vocab: usize,
    ) -> Result<Self> {
        let view = targets.view();
        options.check(rows * vocab, vocab, view)?;
        // Only this target depends on the logits: on where they are −∞.
        let masks = match options.toward {
            SmoothingTarget::Unmasked => logits.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?,
            _ => vec![0.0; vocab],
        };
        let mut plan = Self {
            valid: Vec::with_capacity(rows),
            smooth: Vec::with_capacity(rows * vocab),
            plain: Vec::with_capacity(rows * vocab),
            factors: options.factors(view, vocab),
        };
        for i in 0..rows {
            let span = i * vocab..(i + 1) * vocab;
            let (row, valid): (Vec<f64>, bool) = match view {
                Targets::Classes(classes) => {
                    let one = |class: usize| f64::from(u8::from(class == classes[i] as usize));
                    ((0..vocab).map(one).collect(), classes[i] != options.ignored_class())
                }
                Targets::Probabilities(q) => (q[span.clone()].to_vec(), true),
            };
            plan.valid.push(valid);
            if valid {
                let z = if masks.len() == vocab { &masks[..] } else { &masks[span] };
                let smooth = smoothed(options, &row, i, z);
                let weight = |j: usize| options.class_weights.as_ref().map_or(1.0, |w| w.f64s[j]);
                plan.smooth.extend(smooth.iter().enumerate().map(|(j, d)| d * weight(j)));
                plan.plain.extend(row);
            } else {
                plan.smooth.resize((i + 1) * vocab, 0.0);
                plan.plain.resize((i + 1) * vocab, 0.0);
            }
        }
        Ok(plan)
    }
}

fn total(column: &Tensor) -> Result<f64> {
    Ok(column.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).sum())
}

/// Checks that every row has a cross-entropy.
fn check_rows(lse: &Tensor, max: &Tensor) -> Result<()> {
    let (lse, max) = (lse.flatten_all()?.to_vec1::<f32>()?, max.flatten_all()?.to_vec1::<f32>()?);
    for (row, (lse, max)) in lse.into_iter().zip(max).enumerate() {
        let what = if max == f32::INFINITY {
            RowDefect::PositiveInfinity
        } else if lse.is_nan() {
            RowDefect::Nan
        } else if max as f64 <= MASK {
            RowDefect::AllMasked
        } else {
            continue;
        };
        return Err(LossError::Row(RowError { row, what }));
    }
    Ok(())
}
