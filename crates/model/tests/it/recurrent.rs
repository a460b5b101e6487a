//! LSTM and GRU: PyTorch's numbers, and a state that goes on however a text is cut.

use std::collections::BTreeMap;

use candle_core::{D, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use surprisal_model::LanguageModel;
use surprisal_model::neural::{Mode, Neural, NeuralConfig, NeuralLm, RecurrentConfig, Windows};
use surprisal_ops::grad_accumulator::GradAccumulator;
use surprisal_ops::{Backward, Context};

const V: usize = 11;

fn configs() -> [NeuralConfig; 2] {
    let config =
        RecurrentConfig { vocab_size: V, block_size: 8, n_layer: 2, n_embd: 6, n_hidden: 10, dropout: 0.0 };
    [NeuralConfig::Lstm(config.clone()), NeuralConfig::Gru(config)]
}

fn model(config: &NeuralConfig) -> NeuralLm {
    let neural = Neural::new(config, &mut ChaCha8Rng::seed_from_u64(5)).unwrap();
    // Larger weights than a fresh model's, so that contexts matter.
    for parameter in neural.parameters() {
        parameter.update(|values| values.iter_mut().for_each(|v| *v = *v * 3.0 + 0.01)).unwrap();
    }
    NeuralLm { neural, stride: 1 }
}

fn text(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i.wrapping_mul(i) + i / 3) % V as u32).collect()
}

/// The numbers in nested arrays, in order.
fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

/// Compares f32 results with numbers computed in f64.
fn near(got: &[f32], expected: &Value, tolerance: f64, what: &str) {
    let expected = flat(expected);
    assert_eq!(got.len(), expected.len(), "{what}");
    assert!(expected.iter().any(|value| *value != 0.0), "{what}");
    let close = got.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < tolerance);
    assert!(close, "{what}: {got:?} for {expected:?}");
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Columns `from..to` of rows of ids.
fn columns(rows: &Value, from: usize, to: usize) -> Tensor {
    let rows: Vec<Vec<u32>> = serde_json::from_value(rows.clone()).unwrap();
    Tensor::new(rows.iter().map(|row| row[from..to].to_vec()).collect::<Vec<_>>(), &Device::Cpu).unwrap()
}

#[test]
fn logits_and_gradients_are_those_of_pytorch() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/recurrent.json")).unwrap();
    let size = |name: &str| fixture["sizes"][name].as_u64().unwrap() as usize;
    let config = RecurrentConfig {
        vocab_size: size("vocab_size"),
        block_size: size("steps"),
        n_layer: size("n_layer"),
        n_embd: size("n_embd"),
        n_hidden: size("n_hidden"),
        dropout: 0.0,
    };
    for case in fixture["cases"].as_array().unwrap() {
        let config = match case["cell"].as_str().unwrap() {
            "lstm" => NeuralConfig::Lstm(config.clone()),
            "gru" => NeuralConfig::Gru(config.clone()),
            cell => panic!("{cell}"),
        };
        let fresh = Neural::new(&config, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        let given = |name: &str, shape: &[usize]| {
            let values: Vec<f32> = flat(&case["weights"][name]).into_iter().map(|v| v as f32).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let tensors: BTreeMap<String, Tensor> =
            fresh.parameters().iter().map(|p| (p.name.clone(), given(&p.name, p.var.dims()))).collect();
        let neural = Neural::from_tensors(&config, tensors).unwrap();
        let mode = Mode::Train { dropout_seed: 0, first_row: 0 };
        let parameters = neural.parameters().iter().map(|p| p.var.as_tensor());
        let gradients = GradAccumulator::new(parameters);
        let fused = Context { backward: Backward::Accumulate(gradients.clone()), ..Context::default() };
        for context in [Context::default(), fused] {
            gradients.zero_grad();
            let (t, ids) = (config.block_size(), &case["ids"]);
            let mut state: Option<Vec<f32>> = None;
            let mut logits = Vec::new();
            for (window, expected) in case["windows"].as_array().unwrap().iter().enumerate() {
                let ids = columns(ids, window * t, (window + 1) * t);
                let (output, after) = neural.forward_in(&context, &ids, state.as_deref(), &mode).unwrap();
                logits.push(output.logits_in(&context).unwrap());
                near(&values(&logits[window]), &expected["logits"], 1e-6, "logits");
                // (B, layers, parts, H), where PyTorch has (parts, layers, B, H); the parts are h,
                // and for an LSTM c.
                let parts = expected["state"].as_array().unwrap().len();
                let shape = (size("rows"), size("n_layer"), parts, size("n_hidden"));
                let states = Tensor::from_slice(&after, shape, &Device::Cpu).unwrap();
                let states = values(&states.permute((2, 1, 0, 3)).unwrap());
                near(&states, &expected["state"], 1e-6, "state");
                state = Some(after);
            }
            let targets = columns(ids, t + 1, 2 * t + 1).flatten_all().unwrap();
            let log_probs = candle_nn::ops::log_softmax(&logits[1], D::Minus1).unwrap();
            let loss = candle_nn::loss::nll(&log_probs, &targets).unwrap();
            near(&values(&loss), &case["loss"], 1e-6, "loss");
            gradients.add_grad_store(&loss.backward().unwrap()).unwrap();
            for (i, parameter) in neural.parameters().iter().enumerate() {
                let expected = &case["gradients"][&parameter.name];
                near(&gradients.get(i).unwrap(), expected, 1e-7, &parameter.name);
            }
        }
    }
}

#[test]
fn a_text_scores_the_same_however_it_is_cut() {
    let text = text(5000);
    for config in configs() {
        assert!(matches!(config.windows(), Windows::Following { .. }));
        let lm = model(&config);
        let whole = lm.log_probs(&text, 0).unwrap();
        // Token by token, in pieces of all sizes, and from the middle on.
        let mut session = lm.session().unwrap();
        let mut next = session.feed(&[]).unwrap();
        let mut at = 0;
        for size in (1..100).cycle() {
            let Some(piece) = text.get(at..at + size) else { break };
            assert!((next[text[at] as usize] - whole[at]).abs() < 1e-6, "{config:?} at {at}");
            next = session.feed(piece).unwrap();
            at += size;
        }
        for from in [1, 7, 2047, 2048, 2049, 4999, 5000] {
            let later = lm.log_probs(&text, from).unwrap();
            assert_eq!(later.len(), text.len() - from);
            assert!(later.iter().zip(&whole[from..]).all(|(a, b)| (a - b).abs() < 1e-6), "{from}");
        }
        // What came a window ago and more still matters.
        let (mut other, later) = (text.clone(), 4 + config.block_size());
        other[3] = (other[3] + 1) % V as u32;
        assert!(lm.log_probs(&other, 0).unwrap()[later..] != whole[later..]);
    }
}

#[test]
fn training_windows_that_follow_each_other_are_one_text() {
    for config in configs() {
        let lm = model(&config);
        let (b, t) = (3, 24);
        let rows = text(b * t);
        let part = |from: usize, to: usize| {
            let ids: Vec<u32> = rows.chunks(t).flat_map(|row| row[from..to].to_vec()).collect();
            Tensor::from_vec(ids, (b, to - from), &Device::Cpu).unwrap()
        };
        let (context, mode) = (Context::default(), Mode::Train { dropout_seed: 0, first_row: 0 });
        let run = |ids: Tensor, state: Option<&[f32]>| {
            let (output, state) = lm.neural.forward_in(&context, &ids, state, &mode).unwrap();
            (output.logits().unwrap().reshape((b, (), V)).unwrap(), state)
        };
        let (whole, end) = run(part(0, t), None);
        let (first, state) = run(part(0, 7), None);
        let (second, end_of_parts) = run(part(7, t), Some(&state));
        let parts = Tensor::cat(&[first, second], 1).unwrap();
        let difference = (whole - parts).unwrap().abs().unwrap().max_all().unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-6);
        assert!(end.iter().zip(&end_of_parts).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
