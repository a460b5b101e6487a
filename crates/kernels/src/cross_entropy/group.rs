//! Several short rows at once.
//!
//! A row of 65 classes is five vectors: what one row costs is then not arithmetic but the chain max → exponentials →
//! sum → logarithm, each waiting for the one before. Sixteen rows go through it step by step, so that the processor
//! works on one row while it waits for another.

use pulp::Simd;

use super::row::{RowCoefficients, RowLoss};
use super::{RowDefect, Spec, Toward};
use crate::elementary::Elementary;
use crate::reduce;

/// How many rows [`classes`] takes.
pub(super) const ROWS: usize = 16;

/// Whether [`classes`] can do the rows of `spec`: short ones, with targets that need nothing made for them.
pub(super) fn fits(spec: &Spec<'_>) -> bool {
    let uniform = spec.toward == Toward::Uniform && spec.class_weights.is_none();
    spec.vocab <= 1024 && spec.softcap == 0.0 && (spec.label_smoothing == 0.0 || uniform)
}

/// The losses of up to [`ROWS`] rows with a true class each; rows of the ignored class must be zeros and stay so. The same
/// formulas as [`super::row`] has for a row of one block. An error names the row, counted from the first one here.
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
    let (mut top, mut class_logit) = ([0.0_f32; ROWS], [0.0_f32; ROWS]);
    let (mut sum, mut deviation) = ([0.0_f32; ROWS], [0.0_f32; ROWS]);
    let mut has_nan = [false; ROWS];
    let class_of = |i: usize| if classes[i] == spec.ignore_index { 0 } else { classes[i] as usize };

    for (i, row) in rows.chunks_exact(vocab).enumerate().take(ROWS) {
        top[i] = reduce::max(simd, row);
        class_logit[i] = row[class_of(i)];
        if top[i] == f32::NEG_INFINITY {
            has_nan[i] = row.iter().any(|z| z.is_nan());
        }
    }
    for (i, row) in rows.chunks_exact_mut(vocab).enumerate().take(ROWS) {
        if smooth {
            deviation[i] = reduce::sum_shifted(simd, row, top[i]);
        }
        sum[i] = reduce::exp_sum_in_place(simd, row, top[i], scale);
    }
    // Here ends what is different for each row: the rest is the same arithmetic sixteen times, which vectorises.
    let (mut share, mut others, mut log_sum) = ([0.0_f64; ROWS], [0.0_f64; ROWS], [0.0_f64; ROWS]);
    let mut point = [1.0 - epsilon; ROWS];
    let by = Elementary::of(simd);
    for (i, row) in rows.chunks_exact_mut(vocab).enumerate().take(ROWS) {
        if classes[i] == spec.ignore_index {
            continue;
        }
        let class = class_of(i);
        let defect = match top[i] {
            f32::INFINITY => Some(RowDefect::PositiveInfinity),
            f32::NEG_INFINITY => Some(if has_nan[i] { RowDefect::Nan } else { RowDefect::AllMasked }),
            _ => sum[i].is_nan().then_some(RowDefect::Nan),
        };
        if let Some(what) = defect {
            return Err((i, what));
        }
        share[i] = row[class] as f64;
        others[i] = sum[i] as f64 - share[i];
        let confident = share[i] > 0.5 * sum[i] as f64;
        if confident {
            // Add up the other exponentials themselves rather than cancel.
            let old = std::mem::replace(&mut row[class], 0.0);
            others[i] = reduce::sum(simd, row) as f64;
            row[class] = old;
        }
        let total = others[i] + share[i];
        log_sum[i] = if confident && class_logit[i] >= top[i] { by.ln_1p(others[i]) } else { by.ln(total) };
        if let Some(weights) = spec.class_weights {
            point[i] *= weights[class] as f64;
        }
    }
    let mut factor = [0.0_f32; ROWS];
    let mut at_class = [0.0_f32; ROWS];
    let given = coefficients.copied().unwrap_or_default();
    for i in 0..ROWS {
        let (top, class_logit) = (top[i] as f64, class_logit[i] as f64);
        let lse = s * top + log_sum[i];
        let nll = s * (top - class_logit) + log_sum[i];
        let hard = if point[i] == 0.0 { 0.0 } else { point[i] * nll };
        let soft = if smooth { epsilon * log_sum[i] - s * each * deviation[i] as f64 } else { 0.0 };
        losses[i] = RowLoss { main: hard + soft, z: spec.z_loss * lse * lse, nll };
        let RowCoefficients { main, z } = given[i];
        let spread = main * epsilon + 2.0 * z * spec.z_loss * lse;
        let inverse = (others[i] + share[i]).recip();
        factor[i] = (s * (main * point[i] + spread) * inverse) as f32;
        let gradient = (spread * share[i] - main * point[i] * others[i]) * inverse - main * each;
        at_class[i] = (s * gradient) as f32;
    }
    if let Some(coefficients) = coefficients {
        for (i, row) in rows.chunks_exact_mut(vocab).enumerate().take(ROWS) {
            if classes[i] == spec.ignore_index {
                row.fill(0.0);
                continue;
            }
            reduce::scale_add_in_place(simd, row, factor[i], (-s * coefficients[i].main * each) as f32);
            row[class_of(i)] = at_class[i];
        }
    }
    Ok(())
}
