//! Paths that must agree: instruction sets, numbers of threads, random problems against the
//! reference.

use std::sync::Arc;

use crate::common::{assert_close, doubles, noise, pairs, problem};
use proptest::prelude::*;
use surprisal_kernels::simd::{Isa, with_isa};
use surprisal_loss::{CrossEntropy, IGNORE_INDEX, Reduction, SmoothingTarget, Targets, reference};
use surprisal_platform::threads::Pool;

/// Sizes around vector widths (1, 8, 16, 64) and the block of 4096.
const VOCABS: [usize; 12] = [1, 2, 7, 15, 16, 17, 65, 127, 4095, 4096, 4097, 9001];

fn run(options: &CrossEntropy, logits: &[f32], vocab: usize, targets: Targets<'_>) -> (f64, Vec<f32>) {
    let mut buffer = logits.to_vec();
    let value = options.forward_backward_in_place(&mut buffer, vocab, targets).unwrap();
    let alone = options.evaluate(logits, vocab, targets, None).unwrap();
    assert_eq!(alone, value, "loss alone and loss with gradient");
    (value.loss, buffer)
}

/// Makes rows sum to one, so that gradients are differences of numbers below one and tolerances
/// mean something.
fn normalise(q: &mut [f32], vocab: usize) {
    for row in q.chunks_mut(vocab) {
        let mass: f32 = row.iter().sum();
        for q in row {
            *q /= mass;
        }
    }
}

#[test]
fn every_isa_equals_the_portable_one() {
    for vocab in VOCABS {
        for options in [
            CrossEntropy::new(),
            CrossEntropy::new().label_smoothing(0.1).unwrap().z_loss(1e-3).unwrap(),
            CrossEntropy::new().softcap(8.0).unwrap(),
        ] {
            let options = options.reduction(Reduction::Sum);
            let (logits, classes, mut q) = problem(20, 3, vocab, 9.0);
            normalise(&mut q, vocab);
            for targets in [Targets::Classes(&classes), Targets::Probabilities(&q)] {
                let (want_loss, want) = with_isa(Isa::PORTABLE, || run(&options, &logits, vocab, targets));
                for isa in Isa::available() {
                    let (loss, got) = with_isa(isa, || run(&options, &logits, vocab, targets));
                    let what = format!("{} at {vocab}", isa.name());
                    assert!((loss - want_loss).abs() <= 1e-6 * want_loss.abs().max(1.0), "{what}: {loss}");
                    // Two units in the last place of one, the size of a row's largest probability.
                    assert_close(&doubles(&got), &doubles(&want), 2.0 * f32::EPSILON as f64, 1.0, &what);
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let (rows, vocab) = (3000, 300);
    let (logits, classes, _) = problem(21, rows, vocab, 5.0);
    let mut losses = vec![0.0; rows];
    let options = CrossEntropy::new().label_smoothing(0.1).unwrap().z_loss(1e-4).unwrap();
    let want = run(&options, &logits, vocab, Targets::Classes(&classes));
    let rows_want = options.evaluate(&logits, vocab, Targets::Classes(&classes), Some(&mut losses)).unwrap();
    for threads in 1..=3 {
        let pooled = options.clone().pool(Arc::new(Pool::new(threads).unwrap()));
        let got = run(&pooled, &logits, vocab, Targets::Classes(&classes));
        assert_eq!(got.0.to_bits(), want.0.to_bits());
        assert!(got.1.iter().zip(&want.1).all(|(a, b)| a.to_bits() == b.to_bits()));
        let mut again = vec![0.0; rows];
        let sums = pooled.evaluate(&logits, vocab, Targets::Classes(&classes), Some(&mut again)).unwrap();
        assert_eq!((sums, &again), (rows_want, &losses));
    }
}

#[test]
fn rows_are_independent_of_their_neighbours() {
    let (rows, vocab) = (9, 33);
    let (logits, classes, _) = problem(22, rows, vocab, 5.0);
    let sum = CrossEntropy::new().reduction(Reduction::Sum);
    let (_, all) = run(&sum, &logits, vocab, Targets::Classes(&classes));
    for i in 0..rows {
        let span = i * vocab..(i + 1) * vocab;
        let (_, one) = run(&sum, &logits[span.clone()], vocab, Targets::Classes(&classes[i..=i]));
        assert_eq!(one, all[span]);
    }
}

#[derive(Clone, Debug)]
struct Problem {
    rows: usize,
    vocab: usize,
    seed: u64,
    spread: f64,
    /// Every so many logits, one is a mask.
    masked: Option<usize>,
    epsilon: f64,
    toward: u8,
    weighted: bool,
    z: f64,
    softcap: Option<f64>,
    scale: f64,
    reduction: Reduction,
}

fn problems() -> impl Strategy<Value = Problem> {
    let shape = (1_usize..6, prop_oneof![1_usize..80, 4090_usize..4110], any::<u64>());
    let spread = prop_oneof![Just(0.01), Just(1.0), Just(10.0), Just(60.0)];
    let masked = proptest::option::of(2_usize..9);
    let epsilon = prop_oneof![Just(0.0), Just(1.0), 0.0..1.0];
    let softcap = proptest::option::of(1.0_f64..40.0);
    let reduction = prop_oneof![Just(Reduction::Sum), Just(Reduction::Mean), Just(Reduction::Scaled(0.01))];
    let z = prop_oneof![Just(0.0), Just(1e-2)];
    ((shape, spread, masked, epsilon), (0..4_u8, any::<bool>(), z, softcap, 0.1_f64..3.0, reduction))
        .prop_map(
            |(
                ((rows, vocab, seed), spread, masked, epsilon),
                (toward, weighted, z, softcap, scale, reduction),
            )| {
                Problem {
                    rows,
                    vocab,
                    seed,
                    spread,
                    masked,
                    epsilon,
                    toward,
                    weighted,
                    z,
                    softcap,
                    scale,
                    reduction,
                }
            },
        )
}

impl Problem {
    fn options(&self) -> CrossEntropy {
        let toward = match self.toward {
            0 => SmoothingTarget::Uniform,
            1 if self.vocab > 1 => SmoothingTarget::Others,
            2 => SmoothingTarget::Prior(
                (0..self.vocab).map(|j| 1.0 / (j + 2) as f64).collect::<Vec<_>>().into(),
            ),
            _ => SmoothingTarget::Unmasked,
        };
        let mut options =
            CrossEntropy::new().label_smoothing(self.epsilon).unwrap().smooth_toward(toward).unwrap();
        options = options
            .z_loss(self.z)
            .unwrap()
            .scale(self.scale as f32 as f64)
            .unwrap()
            .reduction(self.reduction);
        if self.weighted {
            let weights: Vec<f32> = (0..self.vocab).map(|j| (1.0 + noise(self.seed, j)) as f32).collect();
            options = options.class_weights(weights).unwrap();
        }
        match self.softcap {
            Some(cap) => options.softcap(cap as f32 as f64).unwrap(),
            None => options,
        }
    }

    /// The least scale of the gradient, for a tolerance of 1e-5. Against a distribution, or a
    /// smoothed class, it is a difference of two numbers that are each rounded to `f32`: two units
    /// in the last place of the largest they can be.
    fn rounding(&self, targets: &Targets<'_>) -> f64 {
        let cancels = self.epsilon > 0.0 || matches!(targets, Targets::Probabilities(_));
        let weight = if self.weighted { 2.0 } else { 1.0 };
        let factor = if let Reduction::Scaled(factor) = self.reduction { factor } else { 1.0 };
        if cancels { 2.0 * f64::from(f32::EPSILON) * self.scale * weight * factor / 1e-5 } else { 0.0 }
    }

    /// Error of the loss from terms that cancel: when so much mass goes to the others
    /// that the true class is left with less than an even share, its own term is subtracted from a
    /// sum of differences of `f32` logits.
    fn cancelled(&self) -> f64 {
        let classes = self.vocab as f64;
        if self.toward != 1 || self.epsilon * classes <= classes - 1.0 {
            return 0.0;
        }
        let weight = if self.weighted { 2.0 } else { 1.0 };
        2.0 * f64::from(f32::EPSILON) * self.spread * self.scale * weight * self.rows as f64
    }

    fn data(&self) -> (Vec<f32>, Vec<u32>, Vec<f32>) {
        let (mut logits, mut classes, mut q) = problem(self.seed % 1000, self.rows, self.vocab, self.spread);
        if let Some(every) = self.masked {
            // Never the whole row: class 0 of each row stays open.
            for i in (0..logits.len()).filter(|i| i % self.vocab != 0 && i % every == 0) {
                logits[i] = f32::NEG_INFINITY;
                q[i] = 0.0;
            }
        }
        normalise(&mut q, self.vocab);
        if self.seed.is_multiple_of(3) {
            classes[0] = IGNORE_INDEX;
        }
        (logits, classes, q)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Loss within 1e-5 and gradient within 1e-5 of its scale, or both infinite.
    #[test]
    fn random_problems_agree_with_the_reference(problem in problems()) {
        let options = problem.options();
        let (logits, classes, q) = problem.data();
        let exact_q = doubles(&q);
        for (targets, exact) in [
            (Targets::Classes(&classes), reference::Targets::Classes(&classes)),
            (Targets::Probabilities(&q), reference::Targets::Probabilities(&exact_q)),
        ] {
            let want = reference::cross_entropy(&options, &doubles(&logits), problem.vocab, exact, &[1.0]).unwrap();
            for isa in Isa::available() {
                let (loss, gradient) = with_isa(isa, || run(&options, &logits, problem.vocab, targets));
                let near = (loss - want.loss).abs() <= 1e-5 * want.loss.abs().max(1e-2) + problem.cancelled();
                prop_assert!(near || (loss.is_infinite() && want.loss.is_infinite()), "{}: {loss} not {}", isa.name(), want.loss);
                assert_close(&doubles(&gradient), &want.gradient, 1e-5, problem.rounding(&targets).max(1e-3), isa.name());
            }
        }
    }
}

#[test]
fn pairs_cover_every_setting_with_every_other() {
    assert!(pairs().len() > 70, "{}", pairs().len());
}
