//! The 148 cases computed by PyTorch in float64, through every layer.

use crate::common::{Case, CaseTargets, assert_close, cases};
use candle_core::{DType, Device, Tensor, Var};
use surprisal_loss::{Reduction, Targets, reference};

fn classes(case: &Case) -> Option<Vec<u32>> {
    match &case.targets {
        CaseTargets::Classes(classes) => {
            // A negative ignore index is IGNORE_INDEX among u32 targets.
            Some(classes.iter().map(|&c| u32::try_from(c).unwrap_or(surprisal_loss::IGNORE_INDEX)).collect())
        }
        CaseTargets::Probabilities(_) => None,
    }
}

#[test]
fn reference_matches_in_f64() {
    for case in cases() {
        let classes = classes(&case);
        let targets = match (&classes, &case.targets) {
            (Some(classes), _) => reference::Targets::Classes(classes),
            (None, CaseTargets::Probabilities(q)) => reference::Targets::Probabilities(q),
            _ => unreachable!(),
        };
        let out = reference::cross_entropy(&case.options, &case.logits, case.vocab, targets, &case.upstream)
            .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let got = if case.reduction == Reduction::None { out.losses } else { vec![out.loss] };
        for (got, want) in got.iter().zip(&case.loss) {
            assert!((got - want).abs() <= 1e-12 * want.abs().max(1e-3), "{}: {got} not {want}", case.name);
        }
        assert_close(&out.gradient, &case.gradient, 1e-12, 1e-3, &case.name);
    }
}

#[test]
fn candle_op_matches_in_f32_and_f64() {
    for case in cases() {
        for (dtype, loss_tolerance, tolerance) in [(DType::F64, 1e-12, 1e-12), (DType::F32, 1e-5, 1e-6)] {
            let (value, gradient) = through_candle(&case, dtype);
            for (got, want) in value.iter().zip(&case.loss) {
                let near = (got - want).abs() <= loss_tolerance * want.abs().max(1e-1);
                assert!(near, "{} {dtype:?}: {got} not {want}", case.name);
            }
            assert_close(&gradient, &case.gradient, tolerance, 1e-1, &format!("{} {dtype:?}", case.name));
        }
    }
}

/// Value and gradient of `Σ upstream · loss`.
fn through_candle(case: &Case, dtype: DType) -> (Vec<f64>, Vec<f64>) {
    let device = Device::Cpu;
    let logits = Tensor::from_slice(&case.logits, (case.rows, case.vocab), &device).unwrap();
    let logits = Var::from_tensor(&logits.to_dtype(dtype).unwrap()).unwrap();
    let targets = match &case.targets {
        CaseTargets::Classes(classes) => Tensor::from_slice(classes, case.rows, &device).unwrap(),
        CaseTargets::Probabilities(q) => Tensor::from_slice(q, (case.rows, case.vocab), &device).unwrap(),
    };
    let loss =
        case.options.apply(logits.as_tensor(), &targets).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let upstream = Tensor::from_slice(&case.upstream, case.upstream.len(), &device).unwrap();
    let upstream = upstream.reshape(loss.value.shape()).unwrap().to_dtype(dtype).unwrap();
    let total = (&loss.value * upstream).unwrap().sum_all().unwrap();
    let gradient = total.backward().unwrap().get(logits.as_tensor()).unwrap().clone();
    let doubles =
        |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    (doubles(&loss.value), doubles(&gradient))
}

#[test]
fn slices_match_in_place() {
    for case in cases().iter().filter(|case| case.reduction != Reduction::None) {
        let classes = classes(case);
        let q: Vec<f32>;
        let targets = match (&classes, &case.targets) {
            (Some(classes), _) => Targets::Classes(classes),
            (None, CaseTargets::Probabilities(exact)) => {
                q = exact.iter().map(|&q| q as f32).collect();
                Targets::Probabilities(&q)
            }
            _ => unreachable!(),
        };
        let mut logits: Vec<f32> = case.logits.iter().map(|&z| z as f32).collect();
        let alone = case.options.evaluate(&logits, case.vocab, targets, None).unwrap();
        let value = case.options.forward_backward_in_place(&mut logits, case.vocab, targets).unwrap();
        assert_eq!(alone, value, "{}: the loss alone and with its gradient", case.name);
        let want = case.loss[0];
        assert!((value.loss - want).abs() <= 1e-5 * want.abs().max(1e-1), "{}: {}", case.name, value.loss);
        let gradient: Vec<f64> = logits.iter().map(|&g| g as f64 * case.upstream[0]).collect();
        assert_close(&gradient, &case.gradient, 1e-6, 1e-1, &case.name);
    }
}
