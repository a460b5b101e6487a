//! The cross-entropy of logits in candle tensors.

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Storage, Tensor, WithDType};
use surprisal_kernels::cross_entropy::{LogitsBuffer, Targets, cross_entropy};

use crate::error::{LossError, Result};
use crate::options::{CrossEntropy, Reduction};
use crate::reference;
use crate::slices::LossSums;

/// A differentiable loss with the sums that it is made of.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The reduced loss, a scalar to call `backward()` on; under [`Reduction::None`] of shape
    /// `(N)`.
    pub value: Tensor,
    /// The sum of the rows' objectives (weighted and smoothed, with z-loss), in nats.
    pub objective_sum: f64,
    /// The sum of the rows' negative log likelihoods, neither weighted nor smoothed, in nats.
    pub nll_sum: f64,
    /// Rows that are not ignored.
    pub count: usize,
}

impl Loss {
    pub(crate) fn new(value: Tensor, sums: LossSums) -> Self {
        Self { value, objective_sum: sums.objective_sum, nll_sum: sums.nll_sum, count: sums.count }
    }
}

/// Targets copied from a tensor.
pub(crate) enum OwnedTargets<T> {
    Classes(Vec<u32>),
    Probabilities(Vec<T>),
}

impl<T: WithDType> OwnedTargets<T> {
    /// Integers of shape `(N)` or floats of shape `(N, V)`.
    pub(crate) fn read(options: &CrossEntropy, targets: &Tensor, rows: usize, vocab: usize) -> Result<Self> {
        let wrong = || LossError::Tensor {
            what: "targets",
            expected: "integers of shape (N) or floats of shape (N, V)",
            got: format!("{:?} of shape {:?}", targets.dtype(), targets.dims()),
        };
        match targets.dtype() {
            DType::U32 | DType::U8 | DType::I64 => {
                if targets.dims() != [rows] {
                    return Err(wrong());
                }
                let class = |(row, target): (usize, i64)| match u32::try_from(target) {
                    Ok(class) => Ok(class),
                    // `u32` cannot hold a negative ignore index.
                    Err(_) if target == options.ignore_index => Ok(crate::IGNORE_INDEX),
                    Err(_) => Err(LossError::Target { row, target, classes: vocab }),
                };
                let wide = targets.to_dtype(DType::I64)?.to_vec1::<i64>()?;
                Ok(Self::Classes(wide.into_iter().enumerate().map(class).collect::<Result<_>>()?))
            }
            dtype if dtype.is_float() => {
                if targets.dims() != [rows, vocab] {
                    return Err(wrong());
                }
                Ok(Self::Probabilities(targets.to_dtype(T::DTYPE)?.flatten_all()?.to_vec1()?))
            }
            _ => Err(wrong()),
        }
    }

    pub(crate) fn view(&self) -> Targets<'_, T> {
        match self {
            Self::Classes(classes) => Targets::Classes(classes),
            Self::Probabilities(q) => Targets::Probabilities(q),
        }
    }
}

impl CrossEntropy {
    /// Loss of `logits`, shape `(N, V)`, against `targets`: classes (integers, shape `(N)`) or
    /// distributions (floats, shape `(N, V)`, constants to the gradient). Logits are f32, f64, f16
    /// or bf16; half types compute in f32.
    ///
    /// Where `logits` is part of a graph, the gradient, a tensor of its shape, is made with the
    /// loss.
    ///
    /// # Errors
    /// Wrong shapes or types, a target out of range, a row that holds a NaN, +∞ or nothing but −∞.
    pub fn apply(&self, logits: &Tensor, targets: &Tensor) -> Result<Loss> {
        let &[rows, vocab] = logits.dims() else {
            let got = format!("shape {:?}", logits.dims());
            return Err(LossError::Tensor { what: "logits", expected: "of shape (N, V)", got });
        };
        if !logits.device().is_cpu() {
            return self.apply_unfused(logits, targets);
        }
        match logits.dtype() {
            DType::F64 => self.apply_f64(logits, &OwnedTargets::read(self, targets, rows, vocab)?, vocab),
            dtype if dtype.is_float() => {
                let targets = OwnedTargets::read(self, targets, rows, vocab)?;
                self.apply_f32(&logits.to_dtype(DType::F32)?, &targets, rows, vocab)
            }
            dtype => {
                let got = format!("{dtype:?}");
                Err(LossError::Tensor { what: "logits", expected: "floats", got })
            }
        }
    }

    fn apply_f32(
        &self,
        logits: &Tensor,
        targets: &OwnedTargets<f32>,
        rows: usize,
        vocab: usize,
    ) -> Result<Loss> {
        let targets = targets.view();
        self.check(rows * vocab, vocab, targets)?;
        let factors = self.factors(targets, vocab);
        let (spec, pool) = (self.spec(vocab), self.pool.as_deref());
        let mut losses = (self.reduction == Reduction::None).then(|| vec![0.0; rows]);
        let each = losses.as_deref_mut();
        let (totals, gradient) = with_f32(logits, |z| {
            if !logits.track_op() {
                return Ok((cross_entropy(LogitsBuffer::Read(z), targets, &spec, None, each, pool)?, None));
            }
            let mut gradient = vec![0.0; z.len()];
            let (rows, upstream) = (LogitsBuffer::Copy(z, &mut gradient), Some(factors.upstream()));
            let totals = cross_entropy(rows, targets, &spec, upstream, each, pool)?;
            Ok((totals, Some(gradient)))
        })?;
        let sums = factors.value(totals);
        let value = reduced(losses, sums.loss as f32, logits.device())?;
        let gradient = gradient.map(|g| Tensor::from_vec(g, (rows, vocab), logits.device())).transpose()?;
        Ok(Loss::new(with_gradient(logits, value, gradient)?, sums))
    }

    /// By the reference: f64 is for checks, not for speed.
    fn apply_f64(&self, logits: &Tensor, targets: &OwnedTargets<f64>, vocab: usize) -> Result<Loss> {
        let z = logits.flatten_all()?.to_vec1::<f64>()?;
        let per_row = self.reduction == Reduction::None;
        let ones = vec![1.0; if per_row { logits.dims()[0] } else { 1 }];
        let out = reference::cross_entropy(self, &z, vocab, targets.view(), &ones)?;
        let sums = LossSums {
            loss: out.loss,
            objective_sum: out.losses.iter().sum(),
            nll_sum: out.nll.iter().sum(),
            count: out.count,
        };
        let value = reduced(per_row.then_some(out.losses), out.loss, logits.device())?;
        let gradient = Tensor::from_vec(out.gradient, logits.shape(), logits.device())?;
        Ok(Loss::new(with_gradient(logits, value, Some(gradient))?, sums))
    }
}

/// A tensor of the rows' losses where they are given, else of their reduction.
pub(crate) fn reduced<T: WithDType>(rows: Option<Vec<T>>, loss: T, device: &Device) -> Result<Tensor> {
    Ok(match rows {
        Some(losses) => {
            let rows = losses.len();
            Tensor::from_vec(losses, rows, device)?
        }
        None => Tensor::new(loss, device)?,
    })
}

/// Runs `f` on the elements of a f32 tensor: on its memory where it is contiguous on the CPU, else
/// on a copy.
pub(crate) fn with_f32<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let dense = tensor.to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = dense.storage_and_layout();
    let (Storage::Cpu(CpuStorage::F32(data)), Some((from, to))) = (&*storage, layout.contiguous_offsets())
    else {
        let got = format!("{:?}", tensor.dtype());
        return Err(LossError::Tensor { what: "tensor", expected: "f32", got });
    };
    f(&data[from..to])
}

/// `value` as a function of `argument` whose gradient is `gradient`.
pub(crate) fn with_gradient(argument: &Tensor, value: Tensor, gradient: Option<Tensor>) -> Result<Tensor> {
    match gradient {
        Some(gradient) if argument.track_op() => {
            Ok(argument.apply_op1(PrecomputedGradOp { value, gradient })?)
        }
        _ => Ok(value),
    }
}

/// A value and its gradient, computed before: forward returns the one, backward the other.
struct PrecomputedGradOp {
    value: Tensor,
    gradient: Tensor,
}

impl CustomOp1 for PrecomputedGradOp {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        stored(&self.value)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, upstream: &Tensor) -> candle_core::Result<Option<Tensor>> {
        scaled(&self.gradient, upstream).map(Some)
    }
}

/// A copy of a small tensor's memory, as a custom op returns it.
pub(crate) fn stored(value: &Tensor) -> candle_core::Result<(CpuStorage, Shape)> {
    let storage = match value.dtype() {
        DType::F64 => CpuStorage::F64(value.flatten_all()?.to_vec1()?),
        _ => CpuStorage::F32(value.flatten_all()?.to_vec1()?),
    };
    Ok((storage, value.shape().clone()))
}

/// `gradient · upstream`, where `upstream` is a scalar or has one number per row of `gradient`.
pub(crate) fn scaled(gradient: &Tensor, upstream: &Tensor) -> candle_core::Result<Tensor> {
    if upstream.rank() == 1 {
        return gradient.broadcast_mul(&upstream.unsqueeze(1)?);
    }
    let factor = upstream.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    // `backward()` starts from 1, where no product is needed.
    if factor.to_bits() == 1.0_f64.to_bits() { Ok(gradient.clone()) } else { gradient.affine(factor, 0.0) }
}
