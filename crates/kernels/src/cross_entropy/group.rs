//! Cross-entropy of sixteen short rows together.
//!
//! A row of 65 classes is five vectors, so its time is the latency of the chain max → exponentials
//! → sum → logarithm. Sixteen rows go through each step together, which hides the latency.

use pulp::Simd;

use super::row::{RowCoefficients, RowLoss};
use super::{RowDefect, SmoothingTarget, Spec};
use crate::elementary::Elementary;
use crate::reduce;

/// Rows per call of [`classes`].
pub(super) const ROWS: usize = 16;

/// Whether [`classes`] supports `spec`: short rows, and targets that need no buffer.
pub(super) fn fits(spec: &Spec<'_>) -> bool {
    let uniform = spec.smoothing_target == SmoothingTarget::Uniform && spec.class_weights.is_none();
    spec.vocab <= 1024 && spec.softcap == 0.0 && (spec.label_smoothing == 0.0 || uniform)
}

/// Losses of up to [`ROWS`] rows with class targets, by the formulas of [`super::row`] for one
/// block. Ignored rows must be zeros. An error has the index within `rows`.
#[inline(always)]
pub(super) fn classes<S: Simd>(
    simd: S,
    rows: &mut [f32],
    classes: &[u32],
    spec: &Spec<'_>,
    coefficients: Option<&[RowCoefficients; ROWS]>,
    losses: &mut [RowLoss; ROWS],
) -> Result<(), (usize, RowDefect)> {
    let vocab = spec.vocab;
    let (scale, s, epsilon) = (spec.scale, spec.scale as f64, spec.label_smoothing);
    let smooth = epsilon != 0.0;
    let each = epsilon / vocab as f64;
    let (mut row_max, mut target_logit) = ([0.0_f32; ROWS], [0.0_f32; ROWS]);
    let (mut sum, mut deviation) = ([0.0_f32; ROWS], [0.0_f32; ROWS]);
    let mut has_nan = [false; ROWS];
    let class_of = |i: usize| if classes[i] == spec.ignore_index { 0 } else { classes[i] as usize };

    for (i, row) in rows.chunks_exact(vocab).enumerate().take(ROWS) {
        row_max[i] = reduce::max(simd, row);
        target_logit[i] = row[class_of(i)];
        if row_max[i] == f32::NEG_INFINITY {
            has_nan[i] = row.iter().any(|z| z.is_nan());
        }
    }
    for (i, row) in rows.chunks_exact_mut(vocab).enumerate().take(ROWS) {
        if smooth {
            deviation[i] = reduce::sum_shifted(simd, row, row_max[i]);
        }
        sum[i] = reduce::exp_sum_in_place(simd, row, row_max[i], scale);
    }
    // From here on, all rows have the same scalar operations, which vectorise.
    let (mut target_exp, mut non_target_sum, mut log_sum_shifted) =
        ([0.0_f64; ROWS], [0.0_f64; ROWS], [0.0_f64; ROWS]);
    let mut hard_weight = [1.0 - epsilon; ROWS];
    let by = Elementary::new(simd);
    for (i, row) in rows.chunks_exact_mut(vocab).enumerate().take(ROWS) {
        if classes[i] == spec.ignore_index {
            continue;
        }
        let class = class_of(i);
        let defect = match row_max[i] {
            f32::INFINITY => Some(RowDefect::PositiveInfinity),
            f32::NEG_INFINITY => Some(if has_nan[i] { RowDefect::Nan } else { RowDefect::AllMasked }),
            _ => sum[i].is_nan().then_some(RowDefect::Nan),
        };
        if let Some(what) = defect {
            return Err((i, what));
        }
        target_exp[i] = row[class] as f64;
        non_target_sum[i] = sum[i] as f64 - target_exp[i];
        let confident = target_exp[i] > 0.5 * sum[i] as f64;
        if confident {
            // Sum the other exponentials instead of cancelling.
            let old = std::mem::replace(&mut row[class], 0.0);
            non_target_sum[i] = reduce::sum(simd, row) as f64;
            row[class] = old;
        }
        let total = non_target_sum[i] + target_exp[i];
        log_sum_shifted[i] = if confident && target_logit[i] >= row_max[i] {
            by.ln_1p(non_target_sum[i])
        } else {
            by.ln(total)
        };
        if let Some(weights) = spec.class_weights {
            hard_weight[i] *= weights[class] as f64;
        }
    }
    let mut factor = [0.0_f32; ROWS];
    let mut at_class = [0.0_f32; ROWS];
    let given = coefficients.copied().unwrap_or_default();
    for i in 0..ROWS {
        let (row_max, target_logit) = (row_max[i] as f64, target_logit[i] as f64);
        let lse = s * row_max + log_sum_shifted[i];
        let nll = s * (row_max - target_logit) + log_sum_shifted[i];
        let hard = if hard_weight[i] == 0.0 { 0.0 } else { hard_weight[i] * nll };
        let soft = if smooth { epsilon * log_sum_shifted[i] - s * each * deviation[i] as f64 } else { 0.0 };
        losses[i] = RowLoss { ce: hard + soft, z_term: spec.z_loss * lse * lse, nll };
        let RowCoefficients { ce, z_term } = given[i];
        let spread = ce * epsilon + 2.0 * z_term * spec.z_loss * lse;
        let inverse = (non_target_sum[i] + target_exp[i]).recip();
        factor[i] = (s * (ce * hard_weight[i] + spread) * inverse) as f32;
        let gradient =
            (spread * target_exp[i] - ce * hard_weight[i] * non_target_sum[i]) * inverse - ce * each;
        at_class[i] = (s * gradient) as f32;
    }
    if let Some(coefficients) = coefficients {
        for (i, row) in rows.chunks_exact_mut(vocab).enumerate().take(ROWS) {
            if classes[i] == spec.ignore_index {
                row.fill(0.0);
                continue;
            }
            reduce::scale_add_in_place(simd, row, factor[i], (-s * coefficients[i].ce * each) as f32);
            row[class_of(i)] = at_class[i];
        }
    }
    Ok(())
}
