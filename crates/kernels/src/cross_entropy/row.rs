//! Cross-entropy of one row; the gradient or unspecified values replace the logits.

use pulp::Simd;

use super::target::{SoftTarget, Target};
use super::{RowDefect, Spec};
use crate::elementary::Elementary;
use crate::reduce;
use crate::softcap::softcap_with_derivative;

/// Elements per block: 256 vectors, at most 16 KiB or half an L1 cache. Each of the four
/// accumulators adds 64 numbers, so the error of a block's `f32` sum is a few ulp.
const fn block_len<S: Simd>() -> usize {
    256 * S::F32_LANES
}

/// Buffers that are reused from row to row.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) blocks: Vec<Block>,
    pub(super) soft: Vec<f32>,
    pub(super) derivatives: Vec<f32>,
}

/// A block's maximum, and the sum of its exponentials relative to it.
#[derive(Clone, Copy)]
pub(super) struct Block {
    max: f32,
    sum: f64,
}

/// Factors on the two parts of a row's gradient.
#[derive(Clone, Copy, Default)]
pub(super) struct RowCoefficients {
    pub(super) ce: f64,
    pub(super) z_term: f64,
}

/// A row's loss, in nats.
#[derive(Clone, Copy, Default)]
pub(super) struct RowLoss {
    pub(super) ce: f64,
    pub(super) z_term: f64,
    pub(super) nll: f64,
}

/// Loss of a row, soft cap included. `q` is the unsmoothed target distribution, if there is one.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one call, all of it needed")]
pub(super) fn loss<S: Simd>(
    simd: S,
    logits: &mut [f32],
    target: Target<'_>,
    spec: &Spec<'_>,
    coefficients: Option<RowCoefficients>,
    blocks: &mut Vec<Block>,
    derivatives: &mut Vec<f32>,
    q: Option<&[f32]>,
) -> Result<RowLoss, RowDefect> {
    if spec.softcap == 0.0 {
        return softmax_cross_entropy(simd, logits, target, spec.scale, spec.z_loss, coefficients, blocks, q);
    }
    derivatives.clear();
    derivatives.resize(logits.len(), 0.0);
    let ((zs, z_tail), (ds, d_tail)) = (S::as_mut_simd_f32s(logits), S::as_mut_simd_f32s(derivatives));
    for (z, d) in zs.iter_mut().zip(ds) {
        (*z, *d) = softcap_with_derivative(simd, *z, spec.scale, spec.softcap);
    }
    if !z_tail.is_empty() {
        let z = simd.partial_load_f32s(z_tail);
        let (u, d) = softcap_with_derivative(simd, z, spec.scale, spec.softcap);
        simd.partial_store_f32s(z_tail, u);
        simd.partial_store_f32s(d_tail, d);
    }
    let loss = softmax_cross_entropy(simd, logits, target, 1.0, spec.z_loss, coefficients, blocks, q)?;
    if coefficients.is_some() {
        for (x, d) in logits.iter_mut().zip(derivatives.iter()) {
            *x *= d;
        }
    }
    Ok(loss)
}

/// Loss of a row with `u = scale · z`.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one call, all of it needed")]
fn softmax_cross_entropy<S: Simd>(
    simd: S,
    logits: &mut [f32],
    target: Target<'_>,
    scale: f32,
    z_loss: f64,
    coefficients: Option<RowCoefficients>,
    blocks: &mut Vec<Block>,
    q: Option<&[f32]>,
) -> Result<RowLoss, RowDefect> {
    let s = scale as f64;
    let block_len = block_len::<S>();
    let target_logit = target.class.map_or(0.0, |y| logits[y]);

    // First pass: exponentials relative to each block's maximum, and Σ d (u − max).
    let mut row_max = f32::NEG_INFINITY;
    let mut soft = SoftSum::default();
    let mut unsmoothed = SoftSum::default();
    blocks.clear();
    for (b, block) in logits.chunks_mut(block_len).enumerate() {
        let max = reduce::max(simd, block);
        if max == f32::NEG_INFINITY && block.iter().any(|z| z.is_nan()) {
            return Err(RowDefect::Nan);
        }
        if max == f32::INFINITY {
            return Err(RowDefect::PositiveInfinity);
        }
        let from = b * block_len;
        match target.soft {
            SoftTarget::None => {}
            SoftTarget::Constant(each) => {
                let deviation =
                    if max == f32::NEG_INFINITY { max } else { reduce::sum_shifted(simd, block, max) };
                soft.push(each * block.len() as f64, each * deviation as f64, max);
            }
            SoftTarget::Slice { values, factor } => {
                soft.push_slice(simd, block, &values[from..from + block.len()], factor, max);
            }
        }
        if let Some(q) = q {
            unsmoothed.push_slice(simd, block, &q[from..from + block.len()], 1.0, max);
        }
        let sum = if max == f32::NEG_INFINITY {
            block.fill(0.0);
            0.0
        } else {
            reduce::exp_sum_in_place(simd, block, max, scale) as f64
        };
        blocks.push(Block { max, sum });
        row_max = row_max.max(max);
    }
    if row_max == f32::NEG_INFINITY {
        return Err(RowDefect::AllMasked);
    }

    // The sum relative to the row's maximum, in all and without the target class.
    let by = Elementary::new(simd);
    let relative = |max: f32| if max >= row_max { 1.0 } else { by.exp(s * (max as f64 - row_max as f64)) };
    let sum: f64 = blocks.iter().map(|block| block.sum * relative(block.max)).sum();
    if sum.is_nan() {
        return Err(RowDefect::Nan);
    }
    let row_max_u = s * row_max as f64;
    let mut non_target_sum = sum;
    let mut log_sum_shifted = by.ln(sum);
    let mut target_exp = 0.0;
    if let Some(y) = target.class {
        target_exp = by.exp(s * (target_logit as f64 - row_max as f64));
        non_target_sum = sum - target_exp;
        if target_exp > 0.5 * sum {
            // Confident row: sum the other exponentials instead of cancelling.
            let b = y / block_len;
            let block = &mut logits[b * block_len..];
            let end = block.len().min(block_len);
            let old = std::mem::replace(&mut block[y % block_len], 0.0);
            let rest = reduce::sum(simd, &block[..end]) as f64;
            block[y % block_len] = old;
            let sums = blocks.iter().enumerate();
            non_target_sum = sums.map(|(i, k)| if i == b { rest } else { k.sum } * relative(k.max)).sum();
            log_sum_shifted = if target_logit >= row_max {
                by.ln_1p(non_target_sum)
            } else {
                by.ln(non_target_sum + target_exp)
            };
        }
    }
    let sum = if target.class.is_some() { non_target_sum + target_exp } else { sum };
    let lse = row_max_u + log_sum_shifted;
    let nll = match target.class {
        // In this order, the maximum and the logit cancel exactly before the logarithm is added.
        Some(_) => (row_max_u - s * target_logit as f64) + log_sum_shifted,
        None => unsmoothed.cross_entropy(s, row_max_u, log_sum_shifted),
    };
    let hard = if target.hard_weight == 0.0 { 0.0 } else { target.hard_weight * nll };
    let ce = hard + soft.cross_entropy(s, row_max_u, log_sum_shifted);
    let loss = RowLoss { ce, z_term: z_loss * lse * lse, nll };

    // Second pass: gradients s · (A p − d), and the target class from the sum of the others.
    if let Some(RowCoefficients { ce, z_term }) = coefficients {
        let spread = ce * soft.mass + 2.0 * z_term * z_loss * lse;
        let all = s * (ce * target.hard_weight + spread) / sum;
        for (b, block) in logits.chunks_mut(block_len).enumerate() {
            let factor = (all * relative(blocks[b].max)) as f32;
            match target.soft {
                SoftTarget::None => reduce::scale_add_in_place(simd, block, factor, 0.0),
                SoftTarget::Constant(each) => {
                    reduce::scale_add_in_place(simd, block, factor, (-s * ce * each) as f32);
                }
                SoftTarget::Slice { values, factor: d } => {
                    let values = &values[b * block_len..b * block_len + block.len()];
                    reduce::scale_add_slice_in_place(simd, block, factor, values, (-s * ce * d) as f32);
                }
            }
        }
        if let Some(y) = target.class {
            let at_class = match target.soft {
                SoftTarget::None => 0.0,
                SoftTarget::Constant(each) => each,
                SoftTarget::Slice { values, factor } => factor * values[y] as f64,
            };
            let gradient =
                (spread * target_exp - ce * target.hard_weight * non_target_sum) / sum - ce * at_class;
            logits[y] = (s * gradient) as f32;
        }
    }
    Ok(loss)
}

/// `Σ d` and `Σ d (z − max)` over blocks, for the cross-entropy of a soft target.
#[derive(Default)]
struct SoftSum {
    mass: f64,
    /// `Σ d (z − block max)`.
    deviation: f64,
    /// `Σ d · block max`.
    max_term: f64,
}

impl SoftSum {
    #[inline(always)]
    fn push(&mut self, mass: f64, deviation: f64, max: f32) {
        self.mass += mass;
        self.deviation += deviation;
        if mass != 0.0 && max != f32::NEG_INFINITY {
            self.max_term += mass * max as f64;
        }
    }

    #[inline(always)]
    fn push_slice<S: Simd>(&mut self, simd: S, block: &[f32], values: &[f32], factor: f64, max: f32) {
        let shift = if max == f32::NEG_INFINITY { 0.0 } else { max };
        let (mass, deviation) = reduce::weighted_sum_shifted(simd, block, values, shift);
        self.push(factor * mass as f64, factor * deviation as f64, max);
    }

    /// `Σ d (lse − u)`; the two large numbers are subtracted first.
    #[inline(always)]
    fn cross_entropy(&self, s: f64, row_max_u: f64, log_sum_shifted: f64) -> f64 {
        if self.mass == 0.0 && self.deviation == 0.0 {
            return 0.0;
        }
        (self.mass * row_max_u - s * self.max_term) + self.mass * log_sum_shifted - s * self.deviation
    }
}
