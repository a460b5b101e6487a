//! The fused operation against the composed one, and what cutting rows and time does to it.

use candle_core::Var;
use surprisal_kernels::simd::{Isa, with_isa};

use super::*;
use crate::Backward;
use crate::grad_accumulator::GradAccumulator;
use crate::testing::{close, double, numbers, values, var};

const CELLS: [Cell; 2] = [Cell::Lstm, Cell::Gru];

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

#[test]
fn the_fused_layer_has_the_numbers_of_the_composed_one() {
    for cell in CELLS {
        for (rows, steps, inputs, width) in
            [(1, 1, 1, 1), (1, 6, 3, 19), (2, 4, 5, 7), (4, 3, 7, 16), (3, 5, 9, 21)]
        {
            let single = variables(cell, rows * steps, inputs, width);
            let double = single.each_ref().map(double);
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
