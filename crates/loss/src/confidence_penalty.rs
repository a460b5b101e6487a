//! The confidence penalty (Pereyra et al. 2017): −β H(q) added to every row, which rewards
//! uncertain predictions.
//!
//! With `q = softmax(z)`, `∂(−H)/∂z_j = q_j (ln q_j + H)`. Label smoothing adds KL(u‖q) to the
//! uniform distribution u, this penalty KL(q‖u), which hardly changes the improbable classes of q.

use candle_core::{DType, Shape, Tensor};
use surprisal_kernels::elementary::Elementary;

use crate::error::{LossError, Result};
use crate::tensor::{with_f32, with_gradient};

/// The penalty of a batch, to add to its objective.
#[derive(Clone, Debug)]
pub struct Penalty {
    /// `scale · Σ −β H(q)`, a differentiable scalar.
    pub value: Tensor,
    /// `Σ −β H(q)` over the rows that are not ignored, in nats.
    pub sum: f64,
}

/// `−β H(softmax(logits))` summed over the rows of `logits`, shape `(N, V)`, but those whose target
/// is [`crate::IGNORE_INDEX`].
///
/// # Errors
/// Wrong shapes or types; `beta` negative or not finite.
pub fn confidence_penalty(logits: &Tensor, targets: &[u32], beta: f64, scale: f64) -> Result<Penalty> {
    let &[rows, vocab] = logits.dims() else {
        let got = format!("shape {:?}", logits.dims());
        return Err(LossError::Tensor { what: "logits", expected: "of shape (N, V)", got });
    };
    if !(beta.is_finite() && beta >= 0.0) {
        let range = "finite and at least 0";
        return Err(LossError::Option { option: "confidence_penalty", range, value: beta });
    }
    crate::slices::check_length("targets", targets.len(), rows)?;
    let single = logits.to_dtype(DType::F32)?;
    let mut gradient = vec![0f32; rows * vocab];
    let sum = with_f32(&single, |logits| {
        let mut sum = 0.0;
        let mut q = vec![0.0; vocab];
        let both = logits.chunks_exact(vocab).zip(gradient.chunks_exact_mut(vocab)).zip(targets);
        for ((row, gradient), _) in both.filter(|(_, target)| **target != crate::IGNORE_INDEX) {
            sum += of_row(row, gradient, &mut q, beta, beta * scale);
        }
        Ok(sum)
    })?;
    let value = Tensor::from_vec(vec![(sum * scale) as f32], Shape::from(()), logits.device())?;
    let gradient = Tensor::from_vec(gradient, (rows, vocab), logits.device())?;
    Ok(Penalty { value: with_gradient(&single, value, Some(gradient))?, sum })
}

/// `−β H` of one row; `gradient` becomes `factor · q (ln q + H)`.
fn of_row(logits: &[f32], gradient: &mut [f32], q: &mut [f64], beta: f64, factor: f64) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let by = Elementary::current();
    let mut total = 0.0;
    for (q, &z) in q.iter_mut().zip(logits) {
        *q = by.exp(f64::from(z) - max);
        total += *q;
    }
    let log_total = by.ln(total);
    let log_q = |z: f32| f64::from(z) - max - log_total;
    let mut entropy = 0.0;
    for (q, &z) in q.iter_mut().zip(logits) {
        *q /= total;
        // A masked class has probability zero, and 0 ln 0 = 0.
        if *q > 0.0 {
            entropy -= *q * log_q(z);
        }
    }
    for ((gradient, q), &z) in gradient.iter_mut().zip(q.iter()).zip(logits) {
        *gradient = if *q > 0.0 { (factor * q * (log_q(z) + entropy)) as f32 } else { 0.0 };
    }
    -beta * entropy
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn penalty(logits: &[f64], beta: f64) -> f64 {
        let total = crate::information::log_sum_exp(logits);
        beta * logits.iter().map(|z| (z - total).exp() * (z - total)).sum::<f64>()
    }

    #[test]
    fn value_and_gradient_are_those_of_the_formula() {
        let rows = [[0.3, -1.2, 2.0, 0.0], [5.0, 4.0, -3.0, 1.0], [9.0, 9.0, 9.0, 9.0]];
        let flat: Vec<f32> = rows.concat().iter().map(|&z| z as f32).collect();
        let logits = Var::from_vec(flat, (3, 4), &Device::Cpu).unwrap();
        let (beta, scale) = (0.7, 0.25);
        // The last row is ignored.
        let made = confidence_penalty(logits.as_tensor(), &[0, 3, crate::IGNORE_INDEX], beta, scale).unwrap();
        let expected = penalty(&rows[0], beta) + penalty(&rows[1], beta);
        assert!((made.sum - expected).abs() < 1e-6, "{} {expected}", made.sum);
        assert!((f64::from(made.value.to_scalar::<f32>().unwrap()) - scale * expected).abs() < 1e-6);
        let gradients = made.value.backward().unwrap();
        let gradient: Vec<Vec<f32>> = gradients.get(logits.as_tensor()).unwrap().to_vec2().unwrap();
        for (row, logits) in rows.iter().enumerate().take(2) {
            for class in 0..4 {
                let at = |step: f64| {
                    let mut moved = *logits;
                    moved[class] += step;
                    penalty(&moved, beta)
                };
                let slope = scale * (at(1e-5) - at(-1e-5)) / 2e-5;
                let found = f64::from(gradient[row][class]);
                assert!((slope - found).abs() < 1e-6, "row {row}, class {class}: {slope} {found}");
            }
        }
        assert!(gradient[2].iter().all(|g| *g == 0.0));
    }

    #[test]
    fn masks_and_bad_input() {
        let masked = Tensor::new(&[[0f32, f32::NEG_INFINITY, 0.0]], &Device::Cpu).unwrap();
        let made = confidence_penalty(&masked, &[0], 1.0, 1.0).unwrap();
        assert!((made.sum + 2f64.ln()).abs() < 1e-7);
        assert!(confidence_penalty(&masked, &[0, 1], 1.0, 1.0).is_err());
        assert!(confidence_penalty(&masked, &[0], -1.0, 1.0).is_err());
        assert!(confidence_penalty(&masked.flatten_all().unwrap(), &[0], 1.0, 1.0).is_err());
    }
}
