//! Newton's method within bounds, for parameters that are fitted to held-out text.

use crate::ngram::{Heldout, OrderStats};

/// The gradient of a loss, and its curvature: the lower half of a symmetric matrix, by rows.
pub(super) type Derivatives = (Vec<f64>, Vec<Vec<f64>>);

/// A local minimum of `loss` within `bounds` from `x`: ends when a step gains less than
/// `tolerance`. Each step follows `derivatives` and is halved until the loss falls.
pub(super) fn minimise(
    mut x: Vec<f64>,
    bounds: &[(f64, f64)],
    tolerance: f64,
    loss: impl Fn(&[f64]) -> f64,
    derivatives: impl Fn(&[f64]) -> Derivatives,
) -> Vec<f64> {
    const ROUNDS: usize = 30;
    let mut best = loss(&x);
    for _ in 0..ROUNDS {
        let (gradient, curvature) = derivatives(&x);
        // A coordinate at its bound that would leave it is fixed.
        let free: Vec<usize> = (0..x.len())
            .filter(|&i| {
                !(x[i] <= bounds[i].0 && gradient[i] > 0.0 || x[i] >= bounds[i].1 && gradient[i] < 0.0)
            })
            .collect();
        let Some(step) = cholesky_solve(&curvature, &gradient, &free) else { break };
        let mut share = 1.0;
        let better = loop {
            let mut trial = x.clone();
            for (&i, step) in free.iter().zip(&step) {
                trial[i] = (x[i] - share * step).clamp(bounds[i].0, bounds[i].1);
            }
            let trial_loss = loss(&trial);
            if trial_loss < best {
                break Some((trial, trial_loss));
            }
            share /= 2.0;
            if share < 1e-3 {
                break None;
            }
        };
        let Some((trial, trial_loss)) = better else { break };
        let gain = best - trial_loss;
        (x, best) = (trial, trial_loss);
        if gain < tolerance {
            break;
        }
    }
    x
}

/// −Σ ln q over `heldout`, in nats; `q` has an order's probability of a token, from its index, its
/// counts, and the probability of the order below.
pub(super) fn loss(heldout: &Heldout, q: impl Fn(usize, &OrderStats, f64) -> f64) -> f64 {
    let probability = |orders: &[OrderStats]| {
        orders.iter().enumerate().fold(heldout.uniform(), |lower, (len, at)| q(len, at, lower))
    };
    heldout.tokens().map(|orders| -probability(orders).ln()).sum()
}

/// The gradient of [`loss`] by `n` parameters, and Σ ∇q ∇qᵀ / q² as its curvature; `q` also turns
/// the gradient of the order below into its own.
pub(super) fn derivatives(
    heldout: &Heldout,
    n: usize,
    q: impl Fn(usize, &OrderStats, f64, &mut [f64]) -> f64,
) -> Derivatives {
    let (mut gradient, mut curvature) = (vec![0.0; n], vec![vec![0.0; n]; n]);
    let mut slope = vec![0.0; n];
    for orders in heldout.tokens() {
        slope.fill(0.0);
        let along = |lower, (len, at)| q(len, at, lower, &mut slope);
        let whole = orders.iter().enumerate().fold(heldout.uniform(), along);
        for slope in &mut slope {
            *slope /= whole;
        }
        for i in (0..n).filter(|&i| slope[i] != 0.0) {
            gradient[i] -= slope[i];
            for j in 0..=i {
                curvature[i][j] += slope[i] * slope[j];
            }
        }
    }
    (gradient, curvature)
}

/// Solves `A x = b` for the rows and columns `free` of a symmetric A given by its lower half.
fn cholesky_solve(a: &[Vec<f64>], b: &[f64], free: &[usize]) -> Option<Vec<f64>> {
    let n = free.len();
    let mut l = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let mut sum = a[free[i].max(free[j])][free[i].min(free[j])];
            if i == j {
                // A parameter that no token depends on has no curvature.
                sum += 1e-6 + 1e-9 * sum;
            }
            sum -= (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
            if i == j {
                l[i][i] = (sum > 0.0).then(|| sum.sqrt())?;
            } else {
                l[i][j] = sum / l[j][j];
            }
        }
    }
    let mut x: Vec<f64> = free.iter().map(|&i| b[i]).collect();
    for i in 0..n {
        x[i] = (x[i] - (0..i).map(|k| l[i][k] * x[k]).sum::<f64>()) / l[i][i];
    }
    for i in (0..n).rev() {
        x[i] = (x[i] - (i + 1..n).map(|k| l[k][i] * x[k]).sum::<f64>()) / l[i][i];
    }
    Some(x)
}
