//! Gradients: the reference against finite differences for every pair of options, and the fast
//! paths against the reference.

use crate::common::{ROWS, VOCAB, assert_close, doubles, pairs, problem};
use candle_core::{DType, Device, Tensor, Var};
use surprisal_loss::{CrossEntropy, Reduction, SmoothingTarget, reference};

/// Upstream gradient: one number per row, of which the first serves when there is only one.
const UPSTREAM: [f64; ROWS] = [0.75, -1.5, 0.25, 2.0, -0.5];

enum Kind {
    Classes,
    Probabilities,
}

/// The reference's `Σ upstream · loss`, and its result.
fn evaluate(
    options: &CrossEntropy,
    logits: &[f64],
    classes: &[u32],
    q: &[f64],
    kind: &Kind,
    per_row: bool,
) -> (f64, reference::Reference) {
    let targets = match kind {
        Kind::Classes => reference::Targets::Classes(classes),
        Kind::Probabilities => reference::Targets::Probabilities(q),
    };
    if per_row {
        let out = reference::cross_entropy(options, logits, VOCAB, targets, &UPSTREAM).unwrap();
        (out.losses.iter().zip(UPSTREAM).map(|(l, u)| l * u).sum(), out)
    } else {
        let out = reference::cross_entropy(options, logits, VOCAB, targets, &UPSTREAM[..1]).unwrap();
        (out.loss * UPSTREAM[0], out)
    }
}

#[test]
fn reference_agrees_with_finite_differences_for_every_pair_of_options() {
    let step = 1e-5;
    for (name, options) in pairs() {
        let per_row = name.contains("reduce none");
        let (logits, classes, q) = problem(11, ROWS, VOCAB, 3.0);
        let (mut z, q) = (doubles(&logits), doubles(&q));
        for kind in [Kind::Classes, Kind::Probabilities] {
            let (_, out) = evaluate(&options, &z, &classes, &q, &kind, per_row);
            for i in 0..z.len() {
                let old = z[i];
                z[i] = old + step;
                let (above, _) = evaluate(&options, &z, &classes, &q, &kind, per_row);
                z[i] = old - step;
                let (below, _) = evaluate(&options, &z, &classes, &q, &kind, per_row);
                z[i] = old;
                let numeric = (above - below) / (2.0 * step);
                assert!(
                    (numeric - out.gradient[i]).abs() < 1e-8,
                    "{name}: ∂/∂z[{i}] is {} but differences say {numeric}",
                    out.gradient[i]
                );
            }
        }
    }
}

/// Every pair, fused and composed: value within 1e-5, gradient within 1e-6 of its scale.
#[test]
fn candle_op_agrees_with_the_reference_for_every_pair_of_options() {
    for (name, options) in pairs() {
        let per_row = name.contains("reduce none");
        let (logits, classes, q) = problem(12, ROWS, VOCAB, 6.0);
        for kind in [Kind::Classes, Kind::Probabilities] {
            let (want, out) = evaluate(&options, &doubles(&logits), &classes, &doubles(&q), &kind, per_row);
            let z = Tensor::from_slice(&logits, (ROWS, VOCAB), &Device::Cpu).unwrap();
            let z = Var::from_tensor(&z).unwrap();
            let targets = match kind {
                Kind::Classes => Tensor::from_slice(&classes, ROWS, &Device::Cpu).unwrap(),
                Kind::Probabilities => Tensor::from_slice(&q, (ROWS, VOCAB), &Device::Cpu).unwrap(),
            };
            let fused = options.apply(&z, &targets).unwrap();
            let composed = options.apply_unfused(&z, &targets).unwrap();
            for (loss, tolerance) in [(fused, 1e-6), (composed, 4e-6)] {
                let (value, gradient) = weighted(&loss.value, &z);
                assert!((value - want).abs() < 1e-5 * want.abs().max(1.0), "{name}: {value} not {want}");
                assert_close(&gradient, &out.gradient, tolerance, 0.1, &name);
                assert_eq!(loss.count, out.count, "{name}");
                let nll: f64 = out.nll.iter().sum();
                assert!((loss.nll_sum - nll).abs() < 1e-5 * nll, "{name}: {} not {nll}", loss.nll_sum);
                let objective: f64 = out.losses.iter().sum();
                assert!((loss.objective_sum - objective).abs() < 1e-5 * objective.max(1.0), "{name}");
            }
        }
    }
}

/// `Σ upstream · loss` and its gradient over `z`.
fn weighted(loss: &Tensor, z: &Var) -> (f64, Vec<f64>) {
    let upstream = Tensor::from_slice(&UPSTREAM, ROWS, &Device::Cpu).unwrap();
    let upstream = if loss.rank() == 0 { upstream.get(0).unwrap() } else { upstream };
    let total = (loss * upstream.to_dtype(loss.dtype()).unwrap()).unwrap().sum_all().unwrap();
    let gradient = total.backward().unwrap().get(z).unwrap().clone();
    let value = total.to_dtype(DType::F64).unwrap().to_scalar().unwrap();
    (value, gradient.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap())
}

#[test]
fn half_types_compute_in_f32_and_get_gradients_of_their_own_type() {
    let (logits, classes, _) = problem(13, ROWS, VOCAB, 2.0);
    for dtype in [DType::BF16, DType::F16] {
        let z = Tensor::from_slice(&logits, (ROWS, VOCAB), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let z = Var::from_tensor(&z).unwrap();
        let targets = Tensor::from_slice(&classes, ROWS, &Device::Cpu).unwrap();
        let loss = CrossEntropy::new().apply(&z, &targets).unwrap();
        assert_eq!(loss.value.dtype(), DType::F32);
        let gradient = loss.value.backward().unwrap().get(&z).unwrap().clone();
        assert_eq!(gradient.dtype(), dtype);
        let rounded: Vec<f64> = z.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let targets = reference::Targets::Classes(&classes);
        let want = reference::cross_entropy(&CrossEntropy::new(), &rounded, VOCAB, targets, &[1.0]).unwrap();
        let got: Vec<f64> = gradient.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_close(&got, &want.gradient, 1e-2, 0.0, &format!("{dtype:?}"));
    }
}

#[test]
fn backward_twice_gives_the_same_gradient() {
    let (logits, classes, _) = problem(14, ROWS, VOCAB, 2.0);
    let z = Tensor::from_slice(&logits, (ROWS, VOCAB), &Device::Cpu).unwrap();
    let z = Var::from_tensor(&z).unwrap();
    let targets = Tensor::from_slice(&classes, ROWS, &Device::Cpu).unwrap();
    let loss = CrossEntropy::new().apply(&z, &targets).unwrap();
    assert_eq!(weighted(&loss.value, &z).1, weighted(&loss.value, &z).1);
}

#[test]
fn composed_treats_masks_and_defects_as_the_kernels_do() {
    let inf = f32::INFINITY;
    let targets = Tensor::from_slice(&[1_u32, 0, surprisal_loss::IGNORE_INDEX], 3, &Device::Cpu).unwrap();
    let rows = [[0.5, 1.0, -inf, 2.0], [-inf, 0.1, 0.2, -1.0], [f32::NAN; 4]];
    let z = Var::from_tensor(&Tensor::new(&rows, &Device::Cpu).unwrap()).unwrap();
    let unmasked =
        CrossEntropy::new().label_smoothing(0.1).unwrap().smooth_toward(SmoothingTarget::Unmasked).unwrap();
    for options in [CrossEntropy::new(), CrossEntropy::new().softcap(5.0).unwrap(), unmasked] {
        let options = options.reduction(Reduction::None);
        let both = [options.apply(&z, &targets).unwrap(), options.apply_unfused(&z, &targets).unwrap()];
        let [fused, composed] = both.map(|loss| {
            let first = loss.value.get(0).unwrap();
            let gradient = first.backward().unwrap().get(&z).unwrap().flatten_all().unwrap();
            (loss.value.to_vec1::<f32>().unwrap(), doubles(&gradient.to_vec1::<f32>().unwrap()))
        });
        assert!((fused.0[0] - composed.0[0]).abs() < 1e-6);
        assert!(fused.0[1].is_infinite() && composed.0[1].is_infinite(), "the true class is masked");
        assert!(fused.0[2] == 0.0 && composed.0[2] == 0.0);
        assert_close(&composed.1[..4], &fused.1[..4], 1e-6, 0.1, "masks");
        assert!(composed.1[8..].iter().all(|&g| g == 0.0));
    }
    for bad in [[f32::NAN, 0.0], [inf, 0.0], [-inf, -inf]] {
        let z = Tensor::new(&[bad], &Device::Cpu).unwrap();
        let target = Tensor::new(&[0_u32], &Device::Cpu).unwrap();
        for options in [CrossEntropy::new(), CrossEntropy::new().softcap(5.0).unwrap()] {
            let fused = options.apply(&z, &target).unwrap_err().to_string();
            assert_eq!(fused, options.apply_unfused(&z, &target).unwrap_err().to_string());
        }
    }
}
