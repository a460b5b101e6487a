//! Absolute discounting (Ney, Essen and Kneser 1994) and its Kneser-Ney forms (1995; Chen and
//! Goodman 1998).

use super::newton::{self, Derivatives, minimise};
use super::{Smoother, Tuning, backing_off};
use crate::ngram::{ContextStats, ContextWeights, Discounts, Heldout, OrderReport, Report};

/// q(w | h) = (c(hw) − D) / c(h) + Σ D / c(h) · q(w | h'), with discounts per order.
pub(in crate::ngram) struct Discounting {
    name: &'static str,
    /// Lower orders count the different words before an n-gram.
    continuation: bool,
    /// D₁, D₂ and D₃ for counts of 1, 2 and more, instead of one D.
    three: bool,
    fallback: Discounts,
    tune: bool,
    discounts: Vec<Discounts>,
}

impl Discounting {
    /// One discount per order.
    pub(in crate::ngram) fn absolute(fallback: Discounts, tune: bool) -> Self {
        let discounts = Vec::new();
        Self { name: "absolute", continuation: false, three: false, fallback, tune, discounts }
    }

    /// Absolute discounting over continuation counts.
    pub(in crate::ngram) fn kneser_ney(fallback: Discounts, tune: bool) -> Self {
        Self { name: "kneser_ney", continuation: true, ..Self::absolute(fallback, tune) }
    }

    /// Kneser-Ney with three discounts per order.
    pub(in crate::ngram) fn modified_kneser_ney(fallback: Discounts, tune: bool) -> Self {
        Self { name: "modified_kneser_ney", three: true, ..Self::kneser_ney(fallback, tune) }
    }

    /// The discounts by formula, or the fallback with a notice, written into `report`.
    fn by_formula(&self, report: &mut Report) -> Vec<Discounts> {
        let Report { orders, notices, .. } = report;
        let of_order = |(len, order): (usize, &mut OrderReport)| {
            let n = order.count_of_counts;
            let (found, fallback) = if self.three {
                (chen_goodman_discounts(n), self.fallback)
            } else {
                (ney_discount(n), [self.fallback[0].min(1.0); 3])
            };
            order.from = if found.is_some() { "closed form" } else { "fallback" }.into();
            if found.is_none() && !self.tune {
                notices.push(format!(
                    "order {}: the discounts have no closed form here (counts of counts {n:?}); {fallback:?} are used \
                     (tune = true finds better ones)",
                    len + 1
                ));
            }
            let discounts = found.unwrap_or(fallback);
            order.discounts = Some(discounts);
            discounts
        };
        orders.iter_mut().enumerate().map(of_order).collect()
    }

    /// The discounts with the least −Σ ln q over held-out text, 0 ≤ D_j ≤ j. As q is linear in each
    /// discount, the outer products of its gradient are the curvature.
    fn tuned(&self, heldout: &Heldout, start: &[Discounts]) -> Vec<Discounts> {
        const LEAST: f64 = 1e-4;
        let order = start.len();
        let per_order = if self.three { 3 } else { 1 };
        let n = order * per_order;
        let index = |len: usize, j: usize| if self.three { len * 3 + j } else { len };
        let bounds: Vec<(f64, f64)> =
            (0..n).map(|i| (LEAST, if self.three { (i % 3 + 1) as f64 } else { 1.0 } - LEAST)).collect();
        let by_order = |x: &[f64]| -> Vec<Discounts> {
            (0..order).map(|len| [0, 1, 2].map(|j| x[index(len, j)])).collect()
        };
        let x = (0..n).map(|i| start[i / per_order][i % per_order].clamp(bounds[i].0, bounds[i].1)).collect();
        let tolerance = 1e-7 * heldout.len() as f64;
        let loss = |x: &[f64]| loss(heldout, &by_order(x));
        let derivatives = |x: &[f64]| derivatives(heldout, &by_order(x), n, index);
        by_order(&minimise(x, &bounds, tolerance, loss, derivatives))
    }
}

impl Smoother for Discounting {
    fn name(&self) -> &'static str {
        self.name
    }

    fn value(&self, context_len: usize, count: u32) -> f64 {
        discounted(&self.discounts[context_len], count)
    }

    fn weight(&self, context_len: usize, context: &ContextStats, _: f64) -> ContextWeights {
        backing_off(context.backoff_mass(&self.discounts[context_len]), context.total as f64)
    }

    fn tuning(&self) -> Tuning {
        Tuning::OnRequest
    }

    fn fit(&mut self, heldout: Option<&Heldout>, report: &mut Report) {
        self.discounts = self.by_formula(report);
        let Some(heldout) = heldout else { return };
        self.discounts = self.tuned(heldout, &self.discounts);
        for (order, &discounts) in report.orders.iter_mut().zip(&self.discounts) {
            order.discounts = Some(discounts);
            order.from = "held-out text".into();
        }
    }

    fn uses_continuation_counts(&self) -> bool {
        self.continuation
    }

    fn prunes_by_count(&self) -> bool {
        true
    }
}

/// A count less its discount.
fn discounted(discounts: &Discounts, count: u32) -> f64 {
    let discount = match count {
        0 => 0.0,
        count => discounts[count.min(3) as usize - 1],
    };
    (f64::from(count) - discount).max(0.0)
}

/// −Σ ln q with these discounts, in nats.
fn loss(heldout: &Heldout, discounts: &[Discounts]) -> f64 {
    newton::loss(heldout, |len, at, lower| {
        let backoff_mass = at.context.backoff_mass(&discounts[len]);
        (discounted(&discounts[len], at.count) + backoff_mass * lower) / at.context.total as f64
    })
}

/// The derivatives of the loss by the n discounts.
fn derivatives(
    heldout: &Heldout,
    discounts: &[Discounts],
    n: usize,
    index: impl Fn(usize, usize) -> usize,
) -> Derivatives {
    newton::derivatives(heldout, n, |len, at, lower, slope| {
        let total = at.context.total as f64;
        let backoff_weight = at.context.backoff_mass(&discounts[len]) / total;
        for slope in &mut *slope {
            *slope *= backoff_weight;
        }
        for j in 0..3 {
            slope[index(len, j)] += f64::from(at.context.n[j]) * lower / total;
        }
        if at.count > 0 {
            slope[index(len, at.count.min(3) as usize - 1)] -= 1.0 / total;
        }
        discounted(&discounts[len], at.count) / total + backoff_weight * lower
    })
}

/// Chen and Goodman's discounts (1998, eq. 26): with Y = n₁/(n₁ + 2n₂), D_j = j − (j + 1) Y
/// n_{j+1}/n_j.
///
/// `None` where n₁, n₂ or n₃ is zero or a discount is outside [0, j], as in small or duplicated
/// texts, and nearly always when tokens are characters.
fn chen_goodman_discounts(n: [u64; 4]) -> Option<Discounts> {
    if n[..3].contains(&0) {
        return None;
    }
    let n = n.map(|n| n as f64);
    let y = n[0] / (n[0] + 2.0 * n[1]);
    let discounts =
        [1, 2, 3].map(|j| f64::from(j) - f64::from(j + 1) * y * n[j as usize] / n[j as usize - 1]);
    let possible = (1..).zip(discounts).all(|(j, d)| (0.0..=f64::from(j)).contains(&d));
    possible.then_some(discounts)
}

/// Ney, Essen and Kneser's discount D = n₁/(n₁ + 2n₂), for every count. `None` where n₁ or n₂ is
/// zero.
fn ney_discount(n: [u64; 4]) -> Option<Discounts> {
    (n[0] > 0 && n[1] > 0).then(|| [n[0] as f64 / (n[0] + 2 * n[1]) as f64; 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms_by_hand() {
        // Y = 10/20 = 0.5: D1 = 1 - 2·0.5·5/10, D2 = 2 - 3·0.5·3/5, D3 = 3 - 4·0.5·2/3.
        let found = chen_goodman_discounts([10, 5, 3, 2]).unwrap();
        for (d, by_hand) in found.into_iter().zip([0.5, 1.1, 3.0 - 4.0 / 3.0]) {
            assert!((d - by_hand).abs() < 1e-12, "{d} {by_hand}");
        }
        assert_eq!(chen_goodman_discounts([10, 5, 3, 0]).map(|d| d[2]), Some(3.0));
        for none in [[0, 5, 3, 2], [10, 0, 3, 2], [10, 5, 0, 2], [1, 100, 1, 400], [1, 1, 10, 1]] {
            assert_eq!(chen_goodman_discounts(none), None, "{none:?}");
        }
        assert_eq!(ney_discount([10, 5, 0, 0]), Some([0.5; 3]));
        assert_eq!(ney_discount([0, 5, 0, 0]), None);
    }
}
