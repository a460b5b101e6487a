//! Hierarchical Dirichlet smoothing (MacKay and Peto 1995).

use super::newton::{Derivatives, add_outer_product, minimise};
use super::{Smoother, Tuning, backing_off};
use crate::ngram::{ContextStats, ContextWeights, Heldout, OrderStats, Report};
use crate::{Error, Result};

/// q(w | h) = (c(hw) + α q(w | h')) / (c(h) + α), with one α per order: the posterior predictive
/// distribution under a Dirichlet prior with mean q(· | h') and strength α.
pub(in crate::ngram) struct Dirichlet {
    /// α per order; the last is that of all higher orders.
    pub(in crate::ngram) alpha: Vec<f64>,
}

/// The α of every order where none is given. Those fitted to words and characters are mostly from
/// 10 to 1000.
const DEFAULT: f64 = 50.0;

impl Smoother for Dirichlet {
    fn name(&self) -> &'static str {
        "dirichlet"
    }

    fn weight(&self, context_len: usize, context: &ContextStats, _: f64) -> ContextWeights {
        let alpha = self.alpha[context_len];
        backing_off(alpha, context.total as f64 + alpha)
    }

    fn check(&self, order: usize) -> Result<()> {
        if self.alpha.len() > order {
            let given = self.alpha.len();
            return Err(Error::Config(format!(
                "alpha has one number per order, at most {order} here, not {given}"
            )));
        }
        match self.alpha.iter().find(|alpha| !(alpha.is_finite() && **alpha > 0.0)) {
            None => Ok(()),
            Some(alpha) => Err(Error::Config(format!("alpha needs finite numbers above 0, not {alpha}"))),
        }
    }

    fn tuning(&self) -> Tuning {
        Tuning::OnRequest
    }

    fn fit(&mut self, heldout: Option<&Heldout>, report: &mut Report) {
        self.alpha.resize(report.orders.len(), self.alpha.last().copied().unwrap_or(DEFAULT));
        if let Some(heldout) = heldout {
            self.alpha = tuned(heldout, &self.alpha);
        }
        for (order, &alpha) in report.orders.iter_mut().zip(&self.alpha) {
            order.alpha = Some(alpha);
        }
    }
}

/// The α with the least −Σ ln q over held-out text, by ln α. The loss can have several minima (for
/// characters, with the α of single words near 0 or without bound), so that the best of three
/// starts is taken.
fn tuned(heldout: &Heldout, start: &[f64]) -> Vec<f64> {
    let bounds = vec![(1e-4_f64.ln(), 1e8_f64.ln()); start.len()];
    let alphas = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| x.exp()).collect() };
    let loss = |x: &[f64]| loss(heldout, &alphas(x));
    let derivatives = |x: &[f64]| derivatives(heldout, &alphas(x));
    let from = |start: &[f64]| {
        let x =
            start.iter().zip(&bounds).map(|(alpha, bounds)| alpha.ln().clamp(bounds.0, bounds.1)).collect();
        minimise(x, &bounds, 1e-7 * heldout.len() as f64, loss, derivatives)
    };
    let starts = [start, &vec![1.0; start.len()], &vec![1000.0; start.len()]];
    let found = starts.map(from).into_iter().min_by(|a, b| loss(a).total_cmp(&loss(b)));
    found.map_or_else(|| start.to_vec(), |x| alphas(&x))
}

/// −Σ ln q, in nats.
fn loss(heldout: &Heldout, alphas: &[f64]) -> f64 {
    let probability = |orders: &[OrderStats]| {
        orders.iter().zip(alphas).fold(heldout.uniform(), |q, (at, alpha)| {
            (f64::from(at.count) + alpha * q) / (at.context.total as f64 + alpha)
        })
    };
    heldout.tokens().map(|orders| -probability(orders).ln()).sum()
}

/// The gradient of the loss by ln α, and Σ ∇q ∇qᵀ / q². With r = α/(c(h) + α), dq = r dq' + r (q' −
/// q) d ln α.
fn derivatives(heldout: &Heldout, alphas: &[f64]) -> Derivatives {
    let n = alphas.len();
    let mut sums = (vec![0.0; n], vec![vec![0.0; n]; n]);
    let mut slope = vec![0.0; n];
    for orders in heldout.tokens() {
        slope.fill(0.0);
        let mut q = heldout.uniform();
        for (len, (at, alpha)) in orders.iter().zip(alphas).enumerate() {
            let all = at.context.total as f64 + alpha;
            let (lower, share) = (q, alpha / all);
            q = f64::from(at.count) / all + share * lower;
            slope[..len].iter_mut().for_each(|slope| *slope *= share);
            slope[len] = share * (lower - q);
        }
        for slope in &mut slope {
            *slope /= q;
        }
        add_outer_product(&mut sums, &slope);
    }
    sums
}
