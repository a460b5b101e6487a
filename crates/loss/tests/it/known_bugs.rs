//! Bugs that users met in other frameworks, one test each. The names in brackets are their issue
//! trackers'.

use crate::common::{assert_close, doubles, noise, problem};
use candle_core::{Device, Tensor, Var};
use surprisal_loss::{
    CrossEntropy, IGNORE_INDEX, LossError, Reduction, RowDefect, SmoothingTarget, Targets, reference,
};

const INF: f32 = f32::INFINITY;

fn gradient(options: &CrossEntropy, logits: &[f32], vocab: usize, classes: &[u32]) -> (f64, Vec<f32>) {
    let mut buffer = logits.to_vec();
    let value = options.forward_backward_in_place(&mut buffer, vocab, Targets::Classes(classes)).unwrap();
    (value.loss, buffer)
}

/// [pytorch#70348, #75181, #116349, liger#177] Every target ignored: 0/0, or a division by zero.
#[test]
fn all_rows_ignored_is_zero_with_zero_gradient() {
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::Scaled(0.5)] {
        let options =
            CrossEntropy::new().label_smoothing(0.1).unwrap().z_loss(1e-3).unwrap().reduction(reduction);
        let (loss, gradient) = gradient(&options, &[1.0, 2.0, 3.0, 4.0], 2, &[IGNORE_INDEX, IGNORE_INDEX]);
        assert!(loss == 0.0 && gradient == [0.0; 4], "{reduction:?}: {loss} {gradient:?}");
    }
    let empty = CrossEntropy::new().evaluate(&[], 3, Targets::Classes(&[]), None).unwrap();
    assert!(empty.loss == 0.0 && empty.count == 0);
}

/// [pytorch#11551] NaN or infinity in a row that is ignored, times zero, is still NaN.
#[test]
fn nan_in_ignored_rows_is_never_read() {
    let mut logits = vec![f32::NAN, INF, -INF, 0.5, 1.0, -2.0, f32::NAN, f32::NAN, f32::NAN];
    let classes = [IGNORE_INDEX, 2, IGNORE_INDEX];
    let (loss, all) = gradient(&CrossEntropy::new().softcap(30.0).unwrap(), &logits, 3, &classes);
    let (alone, row) = gradient(&CrossEntropy::new().softcap(30.0).unwrap(), &logits[3..6], 3, &[2]);
    assert!((loss - alone).abs() < f64::EPSILON);
    assert_eq!(all[3..6], row);
    assert_eq!((&all[..3], &all[6..]), (&[0.0; 3][..], &[0.0; 3][..]));
    logits[3] = f32::NAN;
    let error = CrossEntropy::new().evaluate(&logits, 3, Targets::Classes(&classes), None).unwrap_err();
    assert!(matches!(error, LossError::Row(e) if e.row == 1 && e.what == RowDefect::Nan), "{error}");
}

/// [flash-attention#1930] A whole tile of -inf: exp(-inf - -inf) is NaN. Tiles here are 4096 wide.
#[test]
fn a_whole_block_of_masks_costs_nothing() {
    let (vocab, class) = (3 * 4096 + 5, 8200_u32);
    for masked in [0..4096, 4096..8192, 4100..8195, 0..8192, 8192..8193] {
        let mut logits: Vec<f32> = (0..vocab).map(|i| 3.0 * noise(5, i) as f32).collect();
        logits[masked.clone()].fill(-INF);
        let classes = [class];
        let targets = reference::Targets::Classes(&classes);
        for options in [
            CrossEntropy::new(),
            CrossEntropy::new()
                .label_smoothing(0.1)
                .unwrap()
                .smooth_toward(SmoothingTarget::Unmasked)
                .unwrap(),
        ] {
            let want = reference::cross_entropy(&options, &doubles(&logits), vocab, targets, &[1.0]).unwrap();
            let (loss, got) = gradient(&options, &logits, vocab, &[class]);
            assert!((loss - want.loss).abs() < 1e-6 * want.loss, "{masked:?}: {loss} not {}", want.loss);
            assert_close(&doubles(&got), &want.gradient, 1e-6, 0.0, &format!("{masked:?}"));
            assert!(got[masked.clone()].iter().all(|&g| g == 0.0), "{masked:?}");
        }
    }
}

/// [liger#1329] `p − 1` rounds to zero for a confident row, and its loss `lse − u` too.
#[test]
fn confident_rows_keep_their_loss_and_true_class_gradient() {
    for (vocab, gap) in [(3, 18.0), (65, 22.0), (5000, 30.0), (9000, 45.0)] {
        let mut logits: Vec<f32> = (0..vocab).map(|i| noise(6, i) as f32).collect();
        logits[1] = gap;
        let targets = reference::Targets::Classes(&[1]);
        for epsilon in [0.0, 0.1] {
            let options = CrossEntropy::new().label_smoothing(epsilon).unwrap();
            let want = reference::cross_entropy(&options, &doubles(&logits), vocab, targets, &[1.0]).unwrap();
            let (loss, got) = gradient(&options, &logits, vocab, &[1]);
            assert!((loss - want.loss).abs() < 1e-5 * want.loss, "{vocab}: {loss:e} not {:e}", want.loss);
            let (got, want) = (got[1] as f64, want.gradient[1]);
            assert!(
                want != 0.0 && (got - want).abs() < 1e-5 * want.abs(),
                "{vocab} {epsilon}: {got:e} not {want:e}"
            );
        }
    }
}

/// [pytorch#111484, #108345, #85005] Offsets beyond 2³¹ elements. Nearly all rows are ignored, so
/// the 8.6 GB are only addresses.
#[test]
#[cfg(target_pointer_width = "64")]
fn offsets_beyond_two_to_the_31() {
    let (rows, vocab) = (32_769_usize, 65_537_usize);
    let elements = rows * vocab;
    assert!(elements > 1 << 31);
    let mut probe: Vec<f32> = Vec::new();
    if probe.try_reserve_exact(elements).is_err() {
        println!("skipped: this machine does not hand out 8.6 GB of addresses");
        return;
    }
    drop(probe);
    let mut logits = vec![0.0_f32; elements];
    let mut classes = vec![IGNORE_INDEX; rows];
    logits[elements - 2] = 5.0;
    classes[rows - 1] = vocab as u32 - 2;
    let value = CrossEntropy::new().evaluate(&logits, vocab, Targets::Classes(&classes), None).unwrap();
    let want = (1.0 + (vocab as f64 - 1.0) * (-5.0_f64).exp()).ln();
    assert!((value.loss - want).abs() < 1e-6 * want, "{} not {want}", value.loss);
    assert_eq!(value.count, 1);
}

/// [pytorch#69339, #72056, tinygrad#3570] Smoothing, weights and ignore_index together: the ignored
/// row must not matter, in the sum or in what it is divided by.
#[test]
fn smoothing_with_weights_and_ignore_equals_leaving_the_row_out() {
    let weights: Vec<f64> = vec![0.3, 0.6, 1.5, 0.9];
    for toward in [SmoothingTarget::Uniform, SmoothingTarget::Others] {
        for ignored in [-100, -1, 2, 77] {
            let options =
                CrossEntropy::new().label_smoothing(0.15).unwrap().smooth_toward(toward.clone()).unwrap();
            let options = options.class_weights(weights.clone()).unwrap().ignore_index(ignored);
            let spelt = u32::try_from(ignored).unwrap_or(IGNORE_INDEX);
            let (logits, ..) = problem(8, 3, 4, 2.0);
            let (loss, all) = gradient(&options, &logits, 4, &[0, spelt, 3]);
            let kept = [&logits[..4], &logits[8..]].concat();
            let (want, rest) = gradient(&options, &kept, 4, &[0, 3]);
            assert!((loss - want).abs() < 1e-12, "{ignored}: {loss} not {want}");
            assert_eq!([&all[..4], &all[8..]].concat(), rest, "{ignored}");
            assert_eq!(all[4..8], [0.0; 4], "{ignored}");
        }
    }
}

/// [burn#5568, candle's nll] Padding is left out of the numerator but counted in the mean.
#[test]
fn padding_is_not_counted_in_the_mean() {
    let z = Tensor::from_vec(vec![1.0_f32, 2.0, 0.5, 0.5], (2, 2), &Device::Cpu).unwrap();
    let targets = Tensor::from_vec(vec![0_u32, IGNORE_INDEX], 2, &Device::Cpu).unwrap();
    let loss = CrossEntropy::new().apply(&z, &targets).unwrap();
    let want = (1.0 + 1.0_f64.exp()).ln();
    assert!((loss.value.to_scalar::<f32>().unwrap() as f64 - want).abs() < 1e-6);
    assert_eq!(loss.count, 1);
}

/// [liger#678, #968] Fused head and `reduction = none`: the gradient ignored what came in.
#[test]
fn fused_head_without_reduction_uses_the_incoming_gradient() {
    let device = Device::Cpu;
    let hidden =
        Var::from_tensor(&Tensor::from_vec(vec![1.0_f32, 2.0, -1.0, 0.5], (2, 2), &device).unwrap()).unwrap();
    let weight: Vec<f32> = (0..6).map(|i| noise(9, i) as f32).collect();
    let weight = Var::from_tensor(&Tensor::from_vec(weight, (3, 2), &device).unwrap()).unwrap();
    let targets = Tensor::from_vec(vec![2_u32, 0], 2, &device).unwrap();
    let upstream = Tensor::from_vec(vec![0.0_f32, -3.0], 2, &device).unwrap();
    let options = CrossEntropy::new().reduction(Reduction::None);
    let fused = options.apply_linear(&hidden, &weight, None, &targets).unwrap().value;
    let logits = hidden.matmul(&weight.t().unwrap()).unwrap();
    let plain = options.apply(&logits, &targets).unwrap().value;
    let over = |loss: &Tensor, of: &Var| -> Vec<f64> {
        let gradients = (loss * &upstream).unwrap().sum_all().unwrap().backward().unwrap();
        doubles(&gradients.get(of).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap())
    };
    for of in [&hidden, &weight] {
        let want = over(&plain, of);
        assert!(want.iter().any(|&g| g != 0.0));
        assert_close(&over(&fused, of), &want, 1e-6, 0.0, "fused");
    }
}

/// [optax#896, #1762, pytorch#31829] A masked class without mass: 0 · ∞ is NaN, in the value or in
/// its gradient.
#[test]
fn masked_class_without_mass_is_free() {
    let logits = [0.5, -INF, 1.0];
    let mut buffer = logits.to_vec();
    let q = [0.25, 0.0, 0.75];
    let value =
        CrossEntropy::new().forward_backward_in_place(&mut buffer, 3, Targets::Probabilities(&q)).unwrap();
    let want = (0.5_f64.exp() + 1.0_f64.exp()).ln() - 0.25 * 0.5 - 0.75;
    assert!((value.loss - want).abs() < 1e-6 && (value.nll_sum - want).abs() < 1e-6, "{}", value.loss);
    assert!(buffer.iter().all(|g| g.is_finite()) && buffer[1] == 0.0);
    // And with mass it costs everything, but the gradient stays a number.
    let (loss, gradient) = gradient(&CrossEntropy::new().label_smoothing(0.1).unwrap(), &logits, 3, &[0]);
    assert!(loss.is_infinite() && gradient.iter().all(|g| g.is_finite()));
}

/// [pytorch#11752] Large logits with small gaps: `x − (max + ln Σ)` loses the gap.
#[test]
fn small_gaps_between_large_logits_survive() {
    let (loss, gradient) = gradient(&CrossEntropy::new(), &[1.0e7, 1.0e7 + 1.0, 1.0e7 + 2.0], 3, &[1]);
    let sum = (-1.0_f64).exp() + 1.0 + 1.0_f64.exp();
    assert!((loss - sum.ln()).abs() < 1e-6, "{loss}");
    let want = [(-1.0_f64).exp() / sum, 1.0 / sum - 1.0, 1.0_f64.exp() / sum];
    assert_close(&doubles(&gradient), &want, 1e-6, 0.0, "gaps");
}

/// [pytorch#148884] "Smoothing is half of what I expected": the two conventions, told apart.
#[test]
fn the_two_smoothing_conventions_differ_by_their_factor() {
    let (logits, classes, _) = problem(10, 4, 2, 3.0);
    let others =
        CrossEntropy::new().label_smoothing(0.1).unwrap().smooth_toward(SmoothingTarget::Others).unwrap();
    let uniform = CrossEntropy::new().label_smoothing(0.2).unwrap();
    let (a, b) = (gradient(&others, &logits, 2, &classes), gradient(&uniform, &logits, 2, &classes));
    assert!((a.0 - b.0).abs() < 1e-12);
    assert_close(&doubles(&a.1), &doubles(&b.1), 1e-6, 0.0, "K = 2: twice");
}

/// Bad input: an error that names row and value, never a panic or a wild read.
#[test]
fn bad_input_is_refused_by_name() {
    let loss = CrossEntropy::new();
    let error =
        |result: Result<_, LossError>| result.map(|_: surprisal_loss::LossSums| ()).unwrap_err().to_string();
    let z = [0.0; 6];
    let text = error(loss.evaluate(&z, 3, Targets::Classes(&[0, 3]), None));
    assert!(text.contains("row 1") && text.contains("class 3"), "{text}");
    assert!(error(loss.evaluate(&z, 3, Targets::Classes(&[0]), None)).contains("logits"), "lengths");
    assert!(error(loss.evaluate(&z, 4, Targets::Classes(&[0]), None)).contains("logits"), "lengths");
    assert!(error(loss.evaluate(&[], 0, Targets::Classes(&[]), None)).contains("one class"));
    let text = error(loss.evaluate(&z, 3, Targets::Probabilities(&[0.5, 0.5, 0.0, 0.1, -0.1, 1.0]), None));
    assert!(text.contains("row 1") && text.contains("-0.1"), "{text}");
    let text = error(loss.evaluate(&[0.0, INF, 0.0], 3, Targets::Classes(&[0]), None));
    assert!(text.contains("row 0") && text.contains("+inf"), "{text}");
    let text = error(loss.evaluate(&[-INF; 3], 3, Targets::Classes(&[0]), None));
    assert!(text.contains("every class"), "{text}");
    for epsilon in [-0.1, 1.2, f64::NAN] {
        assert!(CrossEntropy::new().label_smoothing(epsilon).is_err());
    }
    assert!(CrossEntropy::new().class_weights(vec![1.0, -1.0]).is_err());
    assert!(CrossEntropy::new().scale(0.0).is_err() && CrossEntropy::new().softcap(-1.0).is_err());
    assert!(CrossEntropy::new().z_loss(f64::INFINITY).is_err());
    let one =
        CrossEntropy::new().label_smoothing(0.1).unwrap().smooth_toward(SmoothingTarget::Others).unwrap();
    assert!(one.evaluate(&[0.0], 1, Targets::Classes(&[0]), None).is_err());
    let wrong = CrossEntropy::new().class_weights(vec![1.0, 1.0]).unwrap();
    assert!(error(wrong.evaluate(&z, 3, Targets::Classes(&[0, 1]), None)).contains("class_weights"));
    // An i64 target of -100, PyTorch's default, is an ordinary wrong target unless it is asked for.
    let logits = Tensor::from_vec(vec![0.0_f32; 6], (2, 3), &Device::Cpu).unwrap();
    let targets = Tensor::from_vec(vec![-100_i64, 1], 2, &Device::Cpu).unwrap();
    assert!(matches!(loss.apply(&logits, &targets), Err(LossError::Target { row: 0, target: -100, .. })));
    assert_eq!(loss.ignore_index(-100).apply(&logits, &targets).unwrap().count, 1);
}
