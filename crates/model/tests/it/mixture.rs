//! The best weights of a mixture, against a search and against the bound that concavity gives.

use surprisal_model::best_weights;

/// Numbers from above 0 to 1, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (1 + (self.0 >> 11)) as f64 / (1_u64 << 53) as f64
    }
}

/// q(token) under the mixture.
fn mixed(weights: &[f64], log_probs: &[Vec<f64>], token: usize) -> f64 {
    weights.iter().zip(log_probs).map(|(weight, of)| weight * of[token].exp()).sum()
}

/// Mean ln q.
fn likelihood(weights: &[f64], log_probs: &[Vec<f64>]) -> f64 {
    let tokens = log_probs[0].len();
    (0..tokens).map(|token| mixed(weights, log_probs, token).ln()).sum::<f64>() / tokens as f64
}

#[test]
fn two_models_get_the_weights_that_a_search_finds() {
    let mut random = Random(1);
    for round in 0..200 {
        let tokens = 1 + (random.next() * 40.0) as usize;
        // From similar to different models; sometimes one is better everywhere.
        let apart = 10_f64.powf(4.0 * random.next() - 3.0);
        let lead = if round % 3 == 0 { apart } else { 0.0 };
        let a: Vec<f64> = (0..tokens).map(|_| random.next().ln()).collect();
        let mut b: Vec<f64> = a.iter().map(|a| (a + apart * (random.next() - 0.5) - lead).min(0.0)).collect();
        if round % 5 == 0 {
            b[0] = f64::NEG_INFINITY;
        }
        let both = [a, b];
        let (mut low, mut high) = (0.0_f64, 1.0_f64);
        for _ in 0..200 {
            let (left, right) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
            if likelihood(&[left, 1.0 - left], &both) < likelihood(&[right, 1.0 - right], &both) {
                low = left;
            } else {
                high = right;
            }
        }
        let ends = [low, 0.0, 1.0].map(|weight| likelihood(&[weight, 1.0 - weight], &both));
        let best = ends.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let found = likelihood(&best_weights(&both), &both);
        assert!((found - best).abs() < 1e-9, "{round}: {found} {best}");
    }
}

#[test]
fn no_weights_of_many_models_can_be_better_by_more_than_the_bound() {
    const TOKENS: usize = 300;
    let mut random = Random(7);
    for n in [3, 6, 12] {
        let mut models: Vec<Vec<f64>> = (0..n)
            .map(|m| (0..TOKENS).map(|_| random.next().ln() * (1.0 + 0.2 * f64::from(m))).collect())
            .collect();
        // Two equal models, two nearly equal ones, and one of probability zero everywhere.
        models.push(models[0].clone());
        models.push(models[1].iter().map(|q| q - 1e-7).collect());
        models.push(vec![f64::NEG_INFINITY; TOKENS]);
        let weights = best_weights(&models);
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12 && weights.iter().all(|w| *w > 0.0));
        // ln is concave: no weights gain more than the largest derivative less 1, that along λ
        // itself.
        let slope = |of: &Vec<f64>| {
            (0..TOKENS).map(|i| of[i].exp() / mixed(&weights, &models, i)).sum::<f64>() / TOKENS as f64
        };
        let gap = models.iter().map(slope).fold(f64::NEG_INFINITY, f64::max) - 1.0;
        assert!(gap < 1e-9, "{n}: {gap}");
        let found = likelihood(&weights, &models);
        for of in &models {
            assert!(found >= of.iter().sum::<f64>() / TOKENS as f64 - 1e-9);
        }
    }
}

#[test]
fn a_text_that_says_nothing_leaves_all_models_alike() {
    assert_eq!(best_weights(&[Vec::new(), Vec::new(), Vec::new(), Vec::new()]), [0.25; 4]);
}
