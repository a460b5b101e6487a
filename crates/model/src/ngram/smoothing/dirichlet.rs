//! Hierarchical Dirichlet smoothing (MacKay and Peto 1995).

use super::newton::{self, Derivatives, minimise};
use super::{Smoother, Tuning, backing_off};
use crate::ngram::{ContextStats, ContextWeights, Heldout, Report};
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
    newton::loss(heldout, |len, at, lower| {
        (f64::from(at.count) + alphas[len] * lower) / (at.context.total as f64 + alphas[len])
    })
}

/// The derivatives of the loss by ln α. With r = α/(c(h) + α), dq = r dq' + r (q' − q) d ln α.
fn derivatives(heldout: &Heldout, alphas: &[f64]) -> Derivatives {
    newton::derivatives(heldout, alphas.len(), |len, at, lower, slope| {
        let all = at.context.total as f64 + alphas[len];
        let share = alphas[len] / all;
        let q = f64::from(at.count) / all + share * lower;
        slope[..len].iter_mut().for_each(|slope| *slope *= share);
        slope[len] = share * (lower - q);
        q
    })
}
