//! The neural bigram, trained to convergence, equals the counted one; with label smoothing ε it
//! equals (1 − ε) · MLE + ε/|V|.

use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use surprisal_kernels::optim::AdamW;
use surprisal_loss::{CrossEntropy, Reduction};
use surprisal_model::LanguageModel;
use surprisal_model::neural::{BigramConfig, Mode, Neural, NeuralConfig, NeuralLm, Output};
use surprisal_model::ngram::{NgramConfig, NgramModel};

const V: usize = 7;

/// A text with uneven bigram frequencies; token 6 is never followed by another.
fn text() -> Vec<u32> {
    let mut state = 1u32;
    let mut text: Vec<u32> = (0..600)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let draw = state >> 24;
            // Squared, so that small tokens are common.
            (draw * draw * 6) >> 16
        })
        .collect();
    text.push(6);
    text
}

/// Trains the table on all pairs at once.
fn trained(text: &[u32], epsilon: f64, steps: u64) -> NeuralLm {
    let config = NeuralConfig::Bigram(BigramConfig { vocab_size: V, block_size: text.len() });
    let neural = Neural::new(&config, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
    let n = text.len() - 1;
    let inputs = Tensor::from_slice(&text[..n], (1, n), &Device::Cpu).unwrap();
    let targets = Tensor::from_slice(&text[1..], n, &Device::Cpu).unwrap();
    let loss = CrossEntropy::new().label_smoothing(epsilon).unwrap().reduction(Reduction::Mean);
    let table = &neural.parameters()[0];
    let (mut m, mut v) = (vec![0f32; V * V], vec![0f32; V * V]);
    for step in 1..=steps {
        let mode = Mode::Train { dropout_seed: 0, first_row: 0 };
        let Output::Logits(logits) = neural.forward(&inputs, &mode).unwrap() else {
            panic!("a table has no head")
        };
        let gradients = loss.apply(&logits, &targets).unwrap().value.backward().unwrap();
        let gradient: Vec<f32> = gradients.get(&table.var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        // Large steps first, then small ones.
        let lr = 0.3 * (1.0 - step as f64 / (steps + 1) as f64);
        let (beta1, beta2, eps) = (0.9, 0.99, 1e-12);
        let rule = AdamW { lr, beta1, beta2, eps, weight_decay: 0.0, l2: 0.0, grad_scale: 1.0, step };
        table.update(|weights| rule.update(weights, &gradient, &mut m, &mut v)).unwrap();
    }
    NeuralLm { neural, stride: 1 }
}

/// The largest |Δp| over the observed contexts, and the largest p of the closed form.
fn distance(epsilon: f64) -> f64 {
    let text = text();
    let counted = NgramModel::estimate(&text, V, &NgramConfig::default()).unwrap();
    let neural = trained(&text, epsilon, 1500);
    let mut worst = 0.0f64;
    for context in 0..6 {
        let mle = counted.next_log_probs(&[context]).unwrap();
        let found = neural.next_log_probs(&[context]).unwrap();
        for (p, q) in mle.iter().zip(&found) {
            let expected = (1.0 - epsilon) * p.exp() + epsilon / V as f64;
            worst = worst.max((expected - q.exp()).abs());
        }
    }
    worst
}

#[test]
fn maximum_likelihood_by_descent_is_counting() {
    let worst = distance(0.0);
    assert!(worst < 1e-3, "max |Δp| = {worst}");
}

#[test]
fn label_smoothing_by_descent_is_interpolation_with_the_uniform_distribution() {
    let worst = distance(0.2);
    assert!(worst < 1e-3, "max |Δp| = {worst}");
    // Smoothing changes the result, so the test can fail.
    let (plain, smoothed) = (trained(&text(), 0.0, 300), trained(&text(), 0.2, 300));
    let (p, q) = (plain.next_log_probs(&[0]).unwrap(), smoothed.next_log_probs(&[0]).unwrap());
    assert!(p.iter().zip(&q).any(|(p, q)| (p.exp() - q.exp()).abs() > 0.01));
}
