//! Jelinek-Mercer interpolation (1980).

use super::{Smoother, Tuning};
use crate::ngram::{ContextStats, ContextWeights, Heldout, MAX_ORDER, Report};

/// q(w | h) = λ c(hw)/c(h) + (1 − λ) q(w | h'), with one λ per order and [`bucket`] of c(h).
#[derive(Default)]
pub(in crate::ngram) struct JelinekMercer {
    lambdas: Vec<Vec<f64>>,
}

/// The number of λ per order.
const BUCKETS: usize = 24;

/// The index of a context's λ: the binary logarithm of its count.
fn bucket(total: u64) -> usize {
    (total.max(1).ilog2() as usize).min(BUCKETS - 1)
}

impl Smoother for JelinekMercer {
    fn name(&self) -> &'static str {
        "jelinek_mercer"
    }

    fn weight(&self, context_len: usize, context: &ContextStats, _: f64) -> ContextWeights {
        let lambda = self.lambdas[context_len][bucket(context.total)];
        ContextWeights { scale: lambda / context.total as f64, backoff: 1.0 - lambda }
    }

    fn tuning(&self) -> Tuning {
        Tuning::Always
    }

    fn fit(&mut self, heldout: Option<&Heldout>, report: &mut Report) {
        let order = report.orders.len();
        self.lambdas = match heldout {
            Some(heldout) => best_lambdas(heldout, order),
            None => vec![vec![0.5; BUCKETS]; order],
        };
        for (order, lambdas) in report.orders.iter_mut().zip(&self.lambdas) {
            order.lambdas.clone_from(lambdas);
        }
    }
}

/// λ by expectation-maximisation: of the held-out probability that reaches an order, the share that
/// comes from its own counts. The likelihood never falls; it ends when it rises by less than 10⁻⁶
/// nats per token.
fn best_lambdas(heldout: &Heldout, order: usize) -> Vec<Vec<f64>> {
    const ROUNDS: usize = 100;
    let mut lambdas = vec![vec![0.5; BUCKETS]; order];
    let mut before = f64::INFINITY;
    for _ in 0..ROUNDS {
        let mut own = vec![[0.0; BUCKETS]; order];
        let mut reached = vec![[0.0; BUCKETS]; order];
        let mut loss = 0.0;
        for orders in heldout.tokens() {
            let mut q = heldout.uniform();
            let mut parts = [(0.0, 0.0); MAX_ORDER];
            for (len, at) in orders.iter().enumerate() {
                let lambda = lambdas[len][bucket(at.context.total)];
                let ratio = f64::from(at.count) / at.context.total as f64;
                q = lambda * ratio + (1.0 - lambda) * q;
                parts[len] = (lambda * ratio, q);
            }
            loss -= q.ln();
            // From the highest order down: the share of the probability that comes from this order
            // or a lower one.
            let mut reach = 1.0 / q;
            for (len, at) in orders.iter().enumerate().rev() {
                let bucket = bucket(at.context.total);
                own[len][bucket] += reach * parts[len].0;
                reached[len][bucket] += reach * parts[len].1;
                reach *= 1.0 - lambdas[len][bucket];
            }
        }
        for ((lambdas, own), reached) in lambdas.iter_mut().zip(&own).zip(&reached) {
            for at in 0..BUCKETS {
                if reached[at] > 0.0 {
                    // At 0 or 1 a λ could never change again.
                    lambdas[at] = (own[at] / reached[at]).clamp(1e-6, 1.0 - 1e-6);
                } else if at > 0 {
                    lambdas[at] = lambdas[at - 1];
                }
            }
        }
        if before - loss < 1e-6 * heldout.len() as f64 {
            break;
        }
        before = loss;
    }
    lambdas
}
