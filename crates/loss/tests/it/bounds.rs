//! The last value that is taken and the first that is not, of every check; and what decides between
//! two ways.

use candle_core::{DType, Device, Tensor, Var};
use surprisal_loss::calibration::{Calibration, temperature};
use surprisal_loss::confidence_penalty::confidence_penalty;
use surprisal_loss::{
    CrossEntropy, DualPrecision, LossError, Reduction, SmoothingTarget, Targets, information, reference,
};

const INF: f64 = f64::INFINITY;

fn new() -> CrossEntropy {
    CrossEntropy::new()
}

fn tensor<T: candle_core::WithDType>(values: &[T], shape: impl Into<candle_core::Shape>) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn evaluate(options: &CrossEntropy, logits: &[f32], vocab: usize, classes: &[u32]) -> Result<f64, LossError> {
    Ok(options.evaluate(logits, vocab, Targets::Classes(classes), None)?.loss)
}

#[test]
fn options_end_where_they_say() {
    for (epsilon, fits) in
        [(0.0, true), (1.0, true), (-1e-12, false), (1.0 + 1e-12, false), (f64::NAN, false)]
    {
        assert_eq!(new().label_smoothing(epsilon).is_ok(), fits, "{epsilon}");
    }
    for (z, fits) in [(0.0, true), (1e300, true), (-1e-300, false), (INF, false), (f64::NAN, false)] {
        assert_eq!(new().z_loss(z).is_ok(), fits, "{z}");
    }
    // Positive and finite in f32, too: it is what the kernels compute in.
    for (s, fits) in [
        (1e-30, true),
        (1e38, true),
        (0.0, false),
        (-1.0, false),
        (1e-50, false),
        (1e39, false),
        (INF, false),
    ] {
        assert_eq!(new().scale(s).is_ok(), fits, "{s}");
        assert_eq!(new().softcap(s).is_ok(), fits, "{s}");
    }
    for (w, fits) in
        [(0.0, true), (1e38, true), (-1e-300, false), (1e39, false), (INF, false), (f64::NAN, false)]
    {
        let numbers = || DualPrecision::from(vec![0.5, w]);
        assert_eq!(new().class_weights(numbers()).is_ok(), fits, "{w}");
        assert_eq!(new().smooth_toward(SmoothingTarget::Prior(numbers())).is_ok(), fits, "{w}");
    }
    let error = new().class_weights(vec![0.5, -1.0]).unwrap_err();
    assert!(matches!(error, LossError::Element { index: 1, .. }), "{error}");
}

#[test]
fn one_class_has_no_others_to_smooth_toward_unless_nothing_is_moved() {
    let others =
        |epsilon| new().label_smoothing(epsilon).unwrap().smooth_toward(SmoothingTarget::Others).unwrap();
    assert_eq!(evaluate(&others(0.0), &[3.0, 1.0], 1, &[0, 0]).unwrap(), 0.0);
    assert!(matches!(evaluate(&others(1e-9), &[3.0], 1, &[0]), Err(LossError::Conflict(_))));
    assert!(evaluate(&others(0.5), &[3.0, 1.0], 2, &[0]).is_ok());
    let reference = |options: &CrossEntropy| {
        reference::cross_entropy(options, &[3.0], 1, reference::Targets::Classes(&[0]), &[1.0])
    };
    assert_eq!(reference(&others(0.0)).unwrap().loss, 0.0);
    // The other conventions have.
    assert_eq!(evaluate(&new().label_smoothing(0.5).unwrap(), &[3.0], 1, &[0]).unwrap(), 0.0);
    assert!(matches!(evaluate(&new(), &[], 0, &[]), Err(LossError::Conflict(_))));
}

#[test]
fn targets_and_lengths_end_where_they_say() {
    let two = [0.0_f32, 0.0];
    let ln_2 = 2_f64.ln();
    assert!((evaluate(&new(), &two, 2, &[1]).unwrap() - ln_2).abs() < 1e-7);
    let error = evaluate(&new(), &[0.0; 4], 2, &[1, 2]).unwrap_err();
    assert!(matches!(error, LossError::Target { row: 1, target: 2, classes: 2 }), "{error}");
    // The class to be ignored may be one that there is, or none.
    assert_eq!(evaluate(&new().ignore_index(2), &two, 2, &[2]).unwrap(), 0.0);
    assert_eq!(evaluate(&new().ignore_index(1), &two, 2, &[1]).unwrap(), 0.0);
    assert!(evaluate(&new().ignore_index(1), &two, 2, &[0]).unwrap() > 0.6);
    for (logits, rows) in [(1, 1), (3, 1), (2, 2)] {
        let wrong = evaluate(&new(), &vec![0.0; logits], 2, &vec![0; rows]);
        assert!(matches!(wrong, Err(LossError::Length { .. })), "{logits} {rows}");
    }
    for length in [0, 2] {
        let mut losses = vec![0.0; length];
        let wrong = new().evaluate(&two, 2, Targets::Classes(&[0]), Some(&mut losses));
        assert!(matches!(wrong, Err(LossError::Length { what: "losses", .. })));
    }
    let soft = |q: &[f32]| new().evaluate(&[0.0; 4], 2, Targets::Probabilities(q), None);
    assert!((soft(&[0.0, 1.0, 1.0, 0.0]).unwrap().loss - ln_2).abs() < 1e-7);
    assert_eq!(soft(&[0.0, 1.0, 1.0, 0.0]).unwrap().count, 2);
    for (q, at) in [
        ([1.0, 0.0, 0.5, -1e-9], (1, 1)),
        ([f32::NAN, 0.0, 0.0, 0.0], (0, 0)),
        ([0.0, 0.0, f32::INFINITY, 0.0], (1, 0)),
    ] {
        assert!(matches!(soft(&q), Err(LossError::Mass { row, class, .. }) if (row, class) == at), "{q:?}");
    }
    assert!(matches!(soft(&[1.0, 0.0]), Err(LossError::Length { .. })));
    assert!(matches!(soft(&[1.0, 0.0, 1.0]), Err(LossError::Length { .. })));
    let ragged = new().evaluate(&[0.0; 2], 2, Targets::Probabilities(&[1.0, 0.0, 1.0]), None);
    assert!(matches!(ragged, Err(LossError::Length { what: "target distributions", .. })));
    // One prior for all rows, or one a row; nothing between.
    for (length, fits) in [(1, false), (2, true), (3, false), (4, true), (6, false)] {
        let prior = SmoothingTarget::Prior(vec![0.5; length].into());
        let options = new().label_smoothing(0.1).unwrap().smooth_toward(prior).unwrap();
        assert_eq!(evaluate(&options, &[0.0; 4], 2, &[0, 1]).is_ok(), fits, "{length}");
        let weighted = new().class_weights(vec![1.0; length]).unwrap();
        assert_eq!(evaluate(&weighted, &[0.0; 4], 2, &[0, 1]).is_ok(), length == 2, "{length}");
    }
    let upstream = |reduction, n: usize| {
        let targets = reference::Targets::Classes(&[0, 1]);
        reference::cross_entropy(&new().reduction(reduction), &[0.0; 4], 2, targets, &vec![1.0; n]).is_ok()
    };
    assert!(upstream(Reduction::None, 2) && !upstream(Reduction::None, 1));
    assert!(upstream(Reduction::Sum, 1) && !upstream(Reduction::Sum, 2));
}

#[test]
fn weights_that_sum_to_nothing_give_nothing_and_small_ones_do_count() {
    let weighted = |w: f64| new().class_weights(vec![w, 1.0]).unwrap();
    assert_eq!(evaluate(&weighted(0.0), &[0.0, 0.0], 2, &[0]).unwrap(), 0.0);
    assert!((evaluate(&weighted(1e-6), &[0.0, 0.0], 2, &[0]).unwrap() - 2_f64.ln()).abs() < 1e-6);
    let reference = |w: f64| {
        let targets = reference::Targets::Classes(&[0]);
        reference::cross_entropy(&weighted(w), &[0.0, 0.0], 2, targets, &[1.0]).unwrap().loss
    };
    assert_eq!(reference(0.0), 0.0);
    assert!((reference(1e-6) - 2_f64.ln()).abs() < 1e-12);
    // The z-loss is divided by the rows that count, whatever they weigh.
    let z = weighted(0.0).z_loss(0.5).unwrap();
    let rows = evaluate(&z, &[0.0; 6], 2, &[0, 0, surprisal_loss::IGNORE_INDEX]).unwrap();
    assert!((rows - 0.5 * 2_f64.ln().powi(2)).abs() < 1e-7, "{rows}");
}

#[test]
fn tensors_that_are_no_floats_or_of_other_shapes_are_refused() {
    let classes = tensor(&[0_u32, 1], 2);
    let floats = tensor(&[0.0_f32, 1.0, 2.0, 3.0], (2, 2));
    for logits in [
        tensor(&[0_u32, 1, 2, 3], (2, 2)),
        tensor(&[0_u8, 1, 2, 3], (2, 2)),
        tensor(&[0_i64, 1, 2, 3], (2, 2)),
    ] {
        let error = new().apply(&logits, &classes).unwrap_err();
        assert!(matches!(error, LossError::Tensor { what: "logits", expected: "floats", .. }), "{error}");
        let error = new().apply_linear(&logits, &floats, None, &classes).unwrap_err();
        assert!(matches!(error, LossError::Tensor { what: "hidden", .. }), "{error}");
        let error = new().apply_linear(&floats, &logits, None, &classes).unwrap_err();
        assert!(matches!(error, LossError::Tensor { what: "weight", .. }), "{error}");
    }
    for half in [DType::F16, DType::BF16, DType::F64] {
        let loss = new().apply(&floats.to_dtype(half).unwrap(), &classes).unwrap();
        let nats: f64 = loss.value.to_dtype(DType::F64).unwrap().to_scalar().unwrap();
        assert!((nats - (0.5 + (1.0 + (-1_f64).exp()).ln())).abs() < 1e-6, "{half:?} {nats}");
    }
    let targets = |targets: &Tensor| new().apply(&floats, targets);
    for wrong in [
        tensor(&[0_u32, 1, 0], 3),
        tensor(&[0_u32], 1),
        tensor(&[0_u32, 1], (2, 1)),
        tensor(&[0.0_f32, 1.0], 2),
        tensor(&[0.5_f32; 6], (2, 3)),
        tensor(&[0.5_f32; 4], (4, 1)),
    ] {
        let error = targets(&wrong).unwrap_err();
        assert!(matches!(error, LossError::Tensor { what: "targets", .. }), "{error}");
    }
    assert!(targets(&tensor(&[0.5_f32; 4], (2, 2))).is_ok());
    for (class, ignored, fits) in [
        (-1_i64, -1_i64, true),
        (-1, -100, false),
        (1, -1, true),
        (1 << 40, 1 << 40, true),
        (1 << 40, 7, false),
    ] {
        let options = new().ignore_index(ignored);
        assert_eq!(options.apply(&floats, &tensor(&[0, class], 2)).is_ok(), fits, "{class} {ignored}");
    }
    assert!(matches!(new().apply(&tensor(&[0.0_f32; 4], 4), &classes), Err(LossError::Tensor { .. })));
    assert!(matches!(
        new().apply_linear(&floats, &tensor(&[0.0_f32; 6], (2, 3)), None, &classes),
        Err(LossError::Length { .. })
    ));
    for (length, fits) in [(1, false), (2, true), (3, false)] {
        let bias = tensor(&vec![0.0_f32; length], length);
        assert_eq!(new().apply_linear(&floats, &floats, Some(&bias), &classes).is_ok(), fits, "{length}");
    }
}

#[test]
fn a_gradient_is_made_where_something_is_tracked() {
    let classes = tensor(&[0_u32, 1], 2);
    let plain = tensor(&[0.1_f32, 1.0, 2.0, 3.0], (2, 2));
    let bias = tensor(&[0.5_f32, 0.0], 2);
    let variable = |tensor: &Tensor| Var::from_tensor(tensor).unwrap();
    // Any one of the three is enough.
    for which in 0..3 {
        let (hidden, weight, bias) = (variable(&plain), variable(&plain), variable(&bias));
        let pick =
            |n: usize, var: &Var| if n == which { var.as_tensor().clone() } else { var.as_detached_tensor() };
        let (h, w, b) = (pick(0, &hidden), pick(1, &weight), pick(2, &bias));
        let loss = new().apply_linear(&h, &w, Some(&b), &classes).unwrap();
        let gradients = loss.value.backward().unwrap();
        for (n, var) in [&hidden, &weight, &bias].into_iter().enumerate() {
            let found = gradients.get(var.as_tensor()).is_some();
            assert_eq!(found, n == which, "{n} of {which}");
        }
    }
    assert!(!new().apply(&plain, &classes).unwrap().value.track_op());
}

#[test]
fn distributions_sum_to_one_within_a_millionth() {
    for (sum, fits) in
        [(1.0, true), (1.0 + 9e-7, true), (1.0 - 9e-7, true), (1.0 + 2e-6, false), (1.0 - 2e-6, false)]
    {
        assert_eq!(information::entropy(&[0.5, sum - 0.5]).is_ok(), fits, "{sum}");
    }
    assert!(information::entropy(&[1.0, 0.0]).is_ok() && information::entropy(&[1.0, -0.0]).is_ok());
    assert!(information::entropy(&[1.0, f64::NAN]).is_err() && information::entropy(&[INF]).is_err());
    let error = information::kl(&[0.5, 0.5], &[1.5, -0.5]).unwrap_err();
    assert!(matches!(error, LossError::Element { option: "q", index: 1, .. }), "{error}");
    for (epsilon, fits) in [(0.0, true), (1.0, true), (-1e-9, false), (1.0 + 1e-9, false)] {
        assert_eq!(information::smoothed_floor(epsilon, 2).is_ok(), fits, "{epsilon}");
    }
    assert_eq!(information::smoothed_floor(0.3, 1).unwrap(), 0.0);
    assert_eq!(information::log_sum_exp(&[INF, 0.0]), INF);
    assert_eq!(information::log_sum_exp(&[-INF, -INF]), -INF);
    assert_eq!(information::bits_per_byte(0.0, 1), 0.0);
}

#[test]
fn the_first_of_equals_is_predicted_and_edges_belong_to_the_bin_below() {
    let half = [0.5_f64.ln(); 2];
    let mut calibration = Calibration::new();
    calibration.push(&half, 0).unwrap();
    calibration.push(&half, 1).unwrap();
    let report = calibration.report(2).unwrap();
    assert_eq!(report.accuracy, 0.5);
    let mut first = Calibration::new();
    first.push(&half, 0).unwrap();
    assert_eq!(first.report(1).unwrap().accuracy, 1.0);
    // 0.5 is in (0, 0.5].
    assert_eq!(report.equal_width.iter().map(|bin| bin.count).collect::<Vec<_>>(), [2, 0]);
    assert_eq!(
        (report.equal_mass.len(), report.equal_mass[0].from, report.equal_mass[1].from),
        (2, 0.0, 0.5)
    );
    for (sum, fits) in [(1.0 + 9e-4, true), (1.0 - 9e-4, true), (1.0 + 2e-3, false), (1.0 - 2e-3, false)] {
        let mut calibration = Calibration::new();
        assert_eq!(calibration.push(&[0.5_f64.ln(), (sum - 0.5_f64).ln()], 0).is_ok(), fits, "{sum}");
        assert_eq!((calibration.len(), calibration.is_empty()), (usize::from(fits), !fits));
    }
    // Over one by rounding is one.
    let mut calibration = Calibration::new();
    calibration.push(&[1.0005_f64.ln()], 0).unwrap();
    assert_eq!(calibration.report(1).unwrap().confidence, 1.0);
    assert!(calibration.push(&[0.0], 1).is_err());
}

#[test]
fn temperatures_end_where_they_say() {
    use temperature::{LIMIT, fit, fit_held_out};
    // Wrong whatever it is: as flat as may be. Right whatever it is: as sharp as may be.
    assert!((fit(&[3.0, 0.0], 2, &[1]).unwrap() / LIMIT - 1.0).abs() < 1e-9);
    assert!((fit(&[3.0, 0.0], 2, &[0]).unwrap() * LIMIT - 1.0).abs() < 1e-9);
    // A mask of what is not true is passed over.
    let masked = fit(
        &[1.0, 0.0, f32::NEG_INFINITY, 1.0, 0.0, f32::NEG_INFINITY, 1.0, 0.0, f32::NEG_INFINITY],
        3,
        &[0, 0, 1],
    );
    let plain = fit(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 2, &[0, 0, 1]).unwrap();
    // Two of three: β = ln 2.
    assert!((plain - 1.0 / 2_f64.ln()).abs() < 1e-6 && (masked.unwrap() - plain).abs() < 1e-9, "{plain}");
    assert!(fit(&[1.0, f32::INFINITY], 2, &[0]).is_err());
    assert!(matches!(fit(&[], 0, &[0]), Err(LossError::Conflict(_))));
    assert!(matches!(fit(&[], 2, &[]), Err(LossError::Conflict(_))));
    assert!(fit(&[0.0, 0.0], 2, &[2]).is_err() && fit(&[0.0, 0.0], 2, &[1]).is_ok());
    assert_eq!(fit_held_out(&[1.0, 0.0, 1.0, 0.0, 0.0, 1.0], 2, &[0, 0, 1]).unwrap().after.count, 2);
}

#[test]
fn a_penalty_of_nothing_is_nothing() {
    let logits = tensor(&[0.0_f32, 1.0, 2.0, 0.0], (2, 2));
    let penalty = |beta| confidence_penalty(&logits, &[0, 1], beta, 1.0);
    assert_eq!(penalty(0.0).unwrap().sum, 0.0);
    for wrong in [-1e-300, INF, f64::NAN] {
        assert!(matches!(penalty(wrong), Err(LossError::Option { .. })), "{wrong}");
    }
    // A masked class has no part in it, in the gradient either.
    let masked = Var::from_tensor(&tensor(&[0.0_f32, f32::NEG_INFINITY, 0.5], (1, 3))).unwrap();
    let made = confidence_penalty(masked.as_tensor(), &[0], 1.0, 1.0).unwrap();
    let gradients = made.value.backward().unwrap();
    let gradient: Vec<f32> =
        gradients.get(masked.as_tensor()).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert!(gradient[1] == 0.0 && gradient[0] < 0.0 && gradient[2] > 0.0, "{gradient:?}");
}

#[test]
fn a_head_of_f64_is_computed_in_f64() {
    let (hidden, weight) =
        (tensor(&[1.0_f64 / 3.0, -0.7], (1, 2)), tensor(&[0.1_f64, 1.1, 1.0 / 7.0, -0.3], (2, 2)));
    let found = new().apply_linear(&hidden, &weight, None, &tensor(&[1_u32], 1)).unwrap();
    let z = [0.1 / 3.0 - 0.77, 1.0 / 21.0 + 0.21];
    let expected = information::log_sum_exp(&z) - z[1];
    assert!((found.value.to_scalar::<f64>().unwrap() - expected).abs() < 1e-14);
}
