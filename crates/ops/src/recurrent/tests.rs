//! The fused operation against the composed one, and what cutting rows and time does to it.

use candle_core::{DType, Device, Var};
use surprisal_kernels::simd::{Isa, with_isa};

use super::*;
use crate::Backward;
use crate::grad_accumulator::GradAccumulator;
use crate::testing::numbers;

const CELLS: [Cell; 2] = [Cell::Lstm, Cell::Gru];

fn var(shape: &[usize], seed: u32) -> Var {
    let values = numbers(shape.iter().product(), seed);
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// x (B·T, In), then the weights in their order.
fn variables(cell: Cell, n: usize, inputs: usize, width: usize) -> [Var; 5] {
    let all = cell.gates() * width;
    let shapes: [&[usize]; 5] = [&[n, inputs], &[all, inputs], &[all, width], &[all], &[all]];
    let mut seed = 0;
    shapes.map(|shape| {
        seed += 1;
        var(shape, seed)
    })
}

fn weights(vars: &[Var; 5]) -> RecurrentWeights {
    let [_, weight_ih, weight_hh, bias_ih, bias_hh] = vars.each_ref().map(|var| var.as_tensor().clone());
    RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn close(a: &[f64], b: &[f64], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = b.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() < 5e-6 * scale, "{what}: {x} and {y}");
    }
}

#[test]
fn the_fused_layer_has_the_numbers_of_the_composed_one() {
    for cell in CELLS {
        for (rows, steps, inputs, width) in [(1, 1, 1, 1), (1, 6, 3, 5), (4, 3, 7, 16), (3, 5, 9, 21)] {
            let single = variables(cell, rows * steps, inputs, width);
            let double =
                single.each_ref().map(|v| Var::from_tensor(&v.to_dtype(DType::F64).unwrap()).unwrap());
            let start = numbers(rows * cell.states() * width, 9);
            let upstream = var(&[rows * steps, width], 10);
            let run = |context: &Context, vars: &[Var; 5]| {
                let x = (vars[0].as_tensor() * 1.0).unwrap();
                let (h, after) = recurrent(context, cell, &x, rows, &weights(vars), Some(&start)).unwrap();
                let sum = (&h * upstream.to_dtype(h.dtype()).unwrap()).unwrap().sum_all().unwrap();
                (values(&h), after.into_iter().map(f64::from).collect::<Vec<_>>(), sum.backward())
            };
            let expected = run(&Context::default(), &double);
            let store = expected.2.unwrap();
            for isa in Isa::available() {
                with_isa(isa, || {
                    let what = |name: &str| format!("{cell:?} {rows} x {steps} {}: {name}", isa.name());
                    let gradients = GradAccumulator::new(single[1..].iter().map(Var::as_tensor));
                    let backward = Backward::Accumulate(gradients.clone());
                    let (h, after, left) = run(&Context { backward, ..Context::default() }, &single);
                    close(&h, &expected.0, &what("h"));
                    close(&after, &expected.1, &what("state"));
                    let dx = values(left.unwrap().get(&single[0]).unwrap());
                    close(&dx, &values(store.get(&double[0]).unwrap()), &what("dx"));
                    for (i, var) in double[1..].iter().enumerate() {
                        let gradient: Vec<f64> =
                            gradients.get(i).unwrap().iter().map(|&g| f64::from(g)).collect();
                        close(&gradient, &values(store.get(var).unwrap()), &what(&format!("gradient {i}")));
                        assert!(steps == 1 || gradient.iter().all(|g| g.is_finite() && *g != 0.0));
                    }
                    let (inference, _, none) = run(&Context::default().inference_mode(), &single);
                    assert!(inference == h && none.is_err(), "{}", what("inference"));
                });
            }
        }
    }
}

#[test]
fn a_state_carries_over_a_cut_to_the_bit() {
    let (inputs, width, steps, cut) = (6, 10, 8, 3);
    for (cell, rows) in CELLS.into_iter().flat_map(|cell| [1, 5].map(|rows| (cell, rows))) {
        let vars = variables(cell, rows * steps, inputs, width);
        let x = vars[0].as_tensor().reshape((rows, steps, inputs)).unwrap();
        let context = Context::default().inference_mode();
        let run = |from: usize, to: usize, state: Option<&[f32]>| {
            let piece = x.narrow(1, from, to - from).unwrap().reshape(((), inputs)).unwrap();
            let (h, after) = recurrent(&context, cell, &piece, rows, &weights(&vars), state).unwrap();
            (h.reshape((rows, to - from, width)).unwrap(), after)
        };
        let (whole, end) = run(0, steps, None);
        let (first, state) = run(0, cut, None);
        let (second, after) = run(cut, steps, Some(&state));
        assert_eq!(values(&whole), values(&Tensor::cat(&[&first, &second], 1).unwrap()), "{cell:?}");
        assert_eq!(end, after, "{cell:?}");
        // A row alone takes another way.
        let alone = x.narrow(0, rows - 1, 1).unwrap().squeeze(0).unwrap();
        let (alone, _) = recurrent(&context, cell, &alone, 1, &weights(&vars), None).unwrap();
        close(&values(&alone), &values(&whole.narrow(0, rows - 1, 1).unwrap()), "alone");
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let vars = variables(Cell::Lstm, 6, 3, 4);
    let try_with = |cell, rows, state: Option<&[f32]>| {
        recurrent(&Context::default(), cell, vars[0].as_tensor(), rows, &weights(&vars), state).is_ok()
    };
    assert!(try_with(Cell::Lstm, 2, Some(&[0.0; 16])));
    assert!(!try_with(Cell::Lstm, 2, Some(&[0.0; 8])));
    assert!(!try_with(Cell::Lstm, 4, None) && !try_with(Cell::Lstm, 0, None));
    assert!(!try_with(Cell::Gru, 2, None));
}

/// `crates/model/tests/fixtures/recurrent.json`: two layers between an embedding and a head, and
/// their second window.
#[test]
fn two_layers_and_their_gradients_are_pytorchs() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/tests/fixtures/recurrent.json");
    let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let flat = |value: &serde_json::Value| -> Vec<f64> {
        let mut rest = vec![value];
        let mut numbers = Vec::new();
        while let Some(value) = rest.pop() {
            match value.as_array() {
                Some(values) => rest.extend(values.iter().rev()),
                None => numbers.push(value.as_f64().unwrap()),
            }
        }
        numbers
    };
    let size = |name: &str| file["sizes"][name].as_u64().unwrap() as usize;
    let (vocab_size, width, rows, steps) =
        (size("vocab_size"), size("n_hidden"), size("rows"), size("steps"));
    let cases = file["cases"].as_array().unwrap().iter();
    for (case, dtype) in cases.flat_map(|case| [DType::F32, DType::F64].map(|dtype| (case, dtype))) {
        let cell = if case["cell"] == "lstm" { Cell::Lstm } else { Cell::Gru };
        // States are f32.
        let tolerance = if dtype == DType::F64 { 1e-7 } else { 2e-6 };
        let near = |a: &[f64], b: &[f64], what: &str| {
            assert_eq!(a.len(), b.len(), "{what}");
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance), "{cell:?} {what}: {a:?} {b:?}");
        };
        let vars: Vec<(&String, Var)> = case["weights"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| {
                let numbers = flat(value);
                let shape = match value[0].as_array() {
                    Some(row) => vec![numbers.len() / row.len(), row.len()],
                    None => vec![numbers.len()],
                };
                let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap();
                (name, Var::from_tensor(&tensor.to_dtype(dtype).unwrap()).unwrap())
            })
            .collect();
        let get = |name: &str| vars.iter().find(|(n, _)| *n == name).unwrap().1.as_tensor().clone();
        let gradients = GradAccumulator::new(vars.iter().map(|(_, var)| var.as_tensor()));
        let backward =
            if dtype == DType::F32 { Backward::Accumulate(gradients.clone()) } else { Backward::Store };
        let context = Context { backward, ..Context::default() };
        let ids: Vec<u32> = flat(&case["ids"]).into_iter().map(|id| id as u32).collect();
        // Tokens of each row from `from` on.
        let window = |from: usize| -> Tensor {
            let ids: Vec<u32> =
                ids.chunks_exact(2 * steps + 1).flat_map(|row| row[from..from + steps].to_vec()).collect();
            Tensor::from_vec(ids, rows * steps, &Device::Cpu).unwrap()
        };
        let mut states: [Option<Vec<f32>>; 2] = [None, None];
        for (number, expected) in case["windows"].as_array().unwrap().iter().enumerate() {
            let mut x = crate::embedding(&context, &window(number * steps), &get("wte.weight")).unwrap();
            for (layer, state) in states.iter_mut().enumerate() {
                let [weight_ih, weight_hh, bias_ih, bias_hh] =
                    ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
                        .map(|name| get(&format!("rnn.{name}_l{layer}")));
                let weights = RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh };
                let (h, after) = recurrent(&context, cell, &x, rows, &weights, state.as_deref()).unwrap();
                // PyTorch's parts are h and c of all rows.
                for (part, expected) in expected["state"].as_array().unwrap().iter().enumerate() {
                    let got: Vec<f64> = after
                        .chunks_exact(cell.states() * width)
                        .flat_map(|row| &row[part * width..(part + 1) * width])
                        .map(|&value| f64::from(value))
                        .collect();
                    near(&got, &flat(&expected[layer]), "state");
                }
                (x, *state) = (h, Some(after));
            }
            let logits = crate::linear(&context, &x, &get("head.weight"), Some(&get("head.bias"))).unwrap();
            near(&values(&logits), &flat(&expected["logits"]), "logits");
            assert_eq!(logits.dims(), [rows * steps, vocab_size]);
            if number == 1 {
                let log_q = candle_nn::ops::log_softmax(&logits, 1).unwrap();
                let targets = window(steps + 1).unsqueeze(1).unwrap();
                let loss = log_q.gather(&targets, 1).unwrap().mean_all().unwrap().neg().unwrap();
                near(&values(&loss), &flat(&case["loss"]), "loss");
                let store = loss.backward().unwrap();
                for (i, (name, var)) in vars.iter().enumerate() {
                    let gradient = match gradients.get(i) {
                        Some(gradient) => gradient.iter().map(|&g| f64::from(g)).collect(),
                        None => values(store.get(var).unwrap()),
                    };
                    near(&gradient, &flat(&case["gradients"][name.as_str()]), name);
                }
            }
        }
    }
}
