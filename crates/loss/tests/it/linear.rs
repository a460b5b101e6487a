//! The fused head against logits made in f64 and the reference.

use std::sync::Arc;

use crate::common::{ROWS, VOCAB, assert_close, doubles, noise, pairs};
use candle_core::{DType, Device, Tensor, Var};
use surprisal_loss::{CrossEntropy, Loss, Reduction, SmoothingTarget};
use surprisal_platform::threads::Pool;

struct Head {
    hidden: Var,
    weight: Var,
    bias: Option<Var>,
    targets: Tensor,
}

impl Head {
    fn new(seed: u64, rows: usize, vocab: usize, width: usize, bias: bool) -> Self {
        let var = |seed: u64, shape: (usize, usize)| {
            let values: Vec<f32> = (0..shape.0 * shape.1).map(|i| noise(seed, i) as f32).collect();
            Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
        };
        let bias = bias.then(|| Var::from_tensor(&var(seed + 2, (1, vocab)).get(0).unwrap()).unwrap());
        let targets: Vec<u32> = (0..rows).map(|i| ((3 + 5 * i) % vocab) as u32).collect();
        let targets = Tensor::from_vec(targets, rows, &Device::Cpu).unwrap();
        Self { hidden: var(seed, (rows, width)), weight: var(seed + 1, (vocab, width)), bias, targets }
    }

    fn exact(&self) -> Self {
        let double = |var: &Var| Var::from_tensor(&var.to_dtype(DType::F64).unwrap()).unwrap();
        Self {
            hidden: double(&self.hidden),
            weight: double(&self.weight),
            bias: self.bias.as_ref().map(double),
            targets: self.targets.clone(),
        }
    }

    fn apply(&self, options: &CrossEntropy) -> Loss {
        let bias = self.bias.as_ref().map(Var::as_tensor);
        options.apply_linear(&self.hidden, &self.weight, bias, &self.targets).unwrap()
    }

    /// `Σ upstream · loss`, and its gradients over hidden states, weights and bias.
    fn gradients(&self, loss: &Loss) -> (f64, Vec<Vec<f64>>) {
        let n = loss.value.elem_count();
        let upstream: Vec<f64> = (0..n).map(|i| 0.75 - 0.5 * i as f64).collect();
        let upstream =
            Tensor::from_vec(upstream, n, &Device::Cpu).unwrap().to_dtype(loss.value.dtype()).unwrap();
        let total = (loss.value.reshape(n).unwrap() * upstream).unwrap().sum_all().unwrap();
        let store = total.backward().unwrap();
        let vars = [Some(&self.hidden), Some(&self.weight), self.bias.as_ref()];
        let flat =
            |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let gradients = vars.into_iter().flatten().map(|var| flat(store.get(var).unwrap())).collect();
        (total.to_dtype(DType::F64).unwrap().to_scalar().unwrap(), gradients)
    }
}

fn agree(head: &Head, options: &CrossEntropy, what: &str) {
    let exact = head.exact();
    let (fused, plain) = (head.apply(options), exact.apply(options));
    assert_eq!(fused.count, plain.count, "{what}");
    assert!((fused.nll_sum - plain.nll_sum).abs() < 1e-5 * plain.nll_sum, "{what}");
    let ((value, got), (want_value, want)) = (head.gradients(&fused), exact.gradients(&plain));
    assert!(
        (value - want_value).abs() < 1e-5 * want_value.abs().max(1.0),
        "{what}: {value} not {want_value}"
    );
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(&want) {
        assert_close(got, want, 2e-6, 1e-2, what);
    }
}

#[test]
fn every_pair_of_options_agrees_with_f64() {
    for (i, (name, options)) in pairs().iter().enumerate() {
        agree(&Head::new(31, ROWS, VOCAB, 6, i % 2 == 0), options, name);
    }
}

#[test]
fn chunks_add_up() {
    // More rows than a chunk has, with few classes and with many.
    for (rows, vocab, width) in [(4100, 3, 2), (40, 300_000, 2), (200, 70_001, 3)] {
        for reduction in [Reduction::Mean, Reduction::None] {
            let options = CrossEntropy::new().label_smoothing(0.1).unwrap().reduction(reduction);
            let small = vocab < 1000;
            if small || reduction == Reduction::Mean {
                let head = Head::new(33, rows, vocab, width, small);
                let what = format!("{rows} {vocab} {reduction:?}");
                let logits = head.hidden.matmul(&head.weight.t().unwrap()).unwrap();
                let logits = match &head.bias {
                    Some(bias) => logits.broadcast_add(bias).unwrap(),
                    None => logits,
                };
                let plain = options.apply(&logits, &head.targets).unwrap();
                let (value, got) = head.gradients(&head.apply(&options));
                let (want_value, want) = head.gradients(&plain);
                assert!((value - want_value).abs() < 1e-5 * want_value.abs(), "{what}");
                for (got, want) in got.iter().zip(&want) {
                    assert_close(got, want, 1e-5, 0.0, &what);
                }
            }
        }
    }
}

#[test]
fn a_prior_a_row_follows_its_rows_through_the_chunks() {
    let (rows, vocab) = (4100, 3);
    let prior: Vec<f64> = (0..rows * vocab).map(|i| (i % 7) as f64 / 9.0).collect();
    let options = CrossEntropy::new().label_smoothing(0.4).unwrap();
    let options = options.smooth_toward(SmoothingTarget::Prior(prior.into())).unwrap();
    agree(&Head::new(35, rows, vocab, 2, false), &options, "prior rows");
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let head = Head::new(37, 300, 500, 40, true);
    let options = CrossEntropy::new().z_loss(1e-4).unwrap();
    let (value, want) = head.gradients(&head.apply(&options));
    for threads in 1..=3 {
        let pooled = options.clone().pool(Arc::new(Pool::new(threads).unwrap()));
        let (again, got) = head.gradients(&head.apply(&pooled));
        assert_eq!(again.to_bits(), value.to_bits());
        assert_eq!(got, want);
    }
}

#[test]
fn without_a_graph_no_gradient_is_made_and_the_value_is_the_same() {
    let head = Head::new(39, 20, 30, 8, true);
    let options = CrossEntropy::new();
    let constant = |var: &Var| var.as_tensor().detach();
    let bias = head.bias.as_ref().map(constant);
    let plain = options
        .apply_linear(&constant(&head.hidden), &constant(&head.weight), bias.as_ref(), &head.targets)
        .unwrap();
    assert!(!plain.value.track_op());
    let tracked = head.apply(&options);
    assert_eq!(plain.nll_sum.to_bits(), tracked.nll_sum.to_bits());
}

#[test]
fn views_and_frozen_parts_are_taken_as_they_are() {
    // A transposed weight, hidden states cut out of a larger tensor, and a weight that is not
    // trained.
    let head = Head::new(41, 12, 9, 5, false);
    let wide = Tensor::cat(&[head.hidden.as_tensor(), head.hidden.as_tensor()], 1).unwrap();
    let cut = wide.narrow(1, 5, 5).unwrap();
    let turned = head.weight.t().unwrap().contiguous().unwrap().t().unwrap();
    let options = CrossEntropy::new();
    let got = options.apply_linear(&cut, &turned.detach(), None, &head.targets).unwrap();
    let want = head.apply(&options);
    assert_eq!(got.nll_sum.to_bits(), want.nll_sum.to_bits());
    let (got, want) = (got.value.backward().unwrap(), want.value.backward().unwrap());
    let flat = |t: &Tensor| doubles(&t.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    let over = |store: &candle_core::backprop::GradStore| flat(store.get(&head.hidden).unwrap());
    assert_eq!(over(&got), over(&want));
}
