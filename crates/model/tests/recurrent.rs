//! LSTM and GRU: PyTorch's numbers, and a state that goes on however a text is cut.

#![allow(clippy::unwrap_used, reason = "a test fails where something is wrong")]

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
fn flat(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap() as f32],
    }
}

/// Columns `from..to` of rows of ids.
fn columns(rows: &Value, from: usize, to: usize) -> Tensor {
    let rows: Vec<Vec<u32>> = serde_json::from_value(rows.clone()).unwrap();
    Tensor::new(rows.iter().map(|row| row[from..to].to_vec()).collect::<Vec<_>>(), &Device::Cpu).unwrap()
}

#[test]
fn logits_and_gradients_are_those_of_pytorch() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/recurrent.json")).unwrap();
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
            Tensor::from_vec(flat(&case["weights"][name]), shape, &Device::Cpu).unwrap()
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
            let (first, state) = neural.forward_in(&context, &columns(ids, 0, t), None, &mode).unwrap();
            let next = columns(ids, t, 2 * t);
            let (second, _) = neural.forward_in(&context, &next, Some(&state), &mode).unwrap();
            let outputs = [first.logits_in(&context).unwrap(), second.logits_in(&context).unwrap()];
            for (window, logits) in outputs.iter().enumerate() {
                let got: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
                let expected = flat(&case["windows"][window]["logits"]);
                assert_eq!(got.len(), expected.len());
                for (got, expected) in got.iter().zip(expected) {
                    assert!((got - expected).abs() < 1e-4, "{got} for {expected}");
                }
            }
            let targets = columns(ids, t + 1, 2 * t + 1).flatten_all().unwrap();
            let log_probs = candle_nn::ops::log_softmax(&outputs[1], D::Minus1).unwrap();
            let store = candle_nn::loss::nll(&log_probs, &targets).unwrap().backward().unwrap();
            gradients.add_grad_store(&store).unwrap();
            for (i, parameter) in neural.parameters().iter().enumerate() {
                let got = gradients.get(i).unwrap().to_vec();
                let expected = flat(&case["gradients"][&parameter.name]);
                let norm = |values: &[f32]| values.iter().map(|v| v * v).sum::<f32>().sqrt();
                let difference: Vec<f32> = got.iter().zip(&expected).map(|(a, b)| a - b).collect();
                let ratio = norm(&difference) / norm(&expected);
                assert!(norm(&expected) > 0.0 && ratio < 1e-3, "{}: {ratio}", parameter.name);
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
        let (mut other, place) = (text.clone(), 60);
        other[3] = (other[3] + 1) % V as u32;
        assert!(lm.log_probs(&other, 0).unwrap()[place] != whole[place]);
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
