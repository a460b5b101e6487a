//! Discounts in closed form from the counts of counts, and what is done where there is no such form.

use super::super::config::{NgramConfig, OrderReport, Smoothing};
use super::Discounts;

/// Chen and Goodman's discounts (1998, eq. 26): with Y = n₁/(n₁ + 2n₂), D_j = j − (j + 1) Y n_{j+1}/n_j.
///
/// `None` where n₁, n₂ or n₃ is zero or a discount is outside [0, j]: a text that is too small, or that was duplicated,
/// and nearly always when tokens are characters.
fn closed_form(n: [u64; 4]) -> Option<Discounts> {
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

/// Ney, Essen and Kneser's one discount: D = n₁/(n₁ + 2n₂). With n₂ = 0 it is 1, which leaves words seen once to the
/// lower order; without words seen once there is none.
fn single(n: [u64; 4]) -> Option<Discounts> {
    (n[0] > 0 && n[1] > 0).then(|| [n[0] as f64 / (n[0] + 2 * n[1]) as f64; 3])
}

/// The discounts of every order, with a notice for each that had to be chosen differently.
pub(crate) fn discounts(
    config: &NgramConfig,
    orders: &mut [OrderReport],
    notices: &mut Vec<String>,
) -> Vec<Discounts> {
    orders
        .iter_mut()
        .enumerate()
        .map(|(len, order)| {
            let n = order.count_of_counts;
            let (found, fallback) = if config.smoothing == Smoothing::ModifiedKneserNey {
                (closed_form(n), config.fallback)
            } else {
                (single(n), [config.fallback[0].min(1.0); 3])
            };
            order.from = if found.is_some() { "closed form" } else { "fallback" }.into();
            if found.is_none() {
                notices.push(format!(
                    "order {}: the discounts have no closed form here (counts of counts {n:?}); {fallback:?} are used \
                     (tune = true finds better ones)",
                    len + 1
                ));
            }
            let discounts = found.unwrap_or(fallback);
            order.discounts = Some(discounts);
            discounts
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms_by_hand() {
        // Y = 10/20 = 0.5: D1 = 1 - 2·0.5·5/10, D2 = 2 - 3·0.5·3/5, D3 = 3 - 4·0.5·2/3.
        let found = closed_form([10, 5, 3, 2]).unwrap();
        for (d, by_hand) in found.into_iter().zip([0.5, 1.1, 3.0 - 4.0 / 3.0]) {
            assert!((d - by_hand).abs() < 1e-12, "{d} {by_hand}");
        }
        assert_eq!(closed_form([10, 5, 3, 0]).map(|d| d[2]), Some(3.0));
        for none in [[0, 5, 3, 2], [10, 0, 3, 2], [10, 5, 0, 2], [1, 100, 1, 400], [1, 1, 10, 1]] {
            assert_eq!(closed_form(none), None, "{none:?}");
        }
        assert_eq!(single([10, 5, 0, 0]), Some([0.5; 3]));
        assert_eq!(single([0, 5, 0, 0]), None);
    }
}
