//! The lesson `examples/from_scratch.rs` has the numbers of this library, which it does not use.
//!
//! N-gram models and the f64 loss agree to 1e-9, and so does the MLP when it is put together in
//! f64 from candle's operations, gradients included. `Neural` computes in f32 and agrees to 1e-5.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use surprisal_loss::{CrossEntropy, Targets, reference};
use surprisal_model::LanguageModel;
use surprisal_model::neural::{BigramConfig, MlpConfig, Mode, Neural, NeuralConfig};
use surprisal_model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_ops::{Context, embedding, linear, tanh};

#[expect(dead_code, reason = "the example's main")]
#[path = "../../examples/from_scratch.rs"]
mod lesson;
use lesson::{CONTEXT, Mlp, N_EMBD, N_HIDDEN, TEXT};

/// The tokens of the lesson's text, and |V|.
fn text() -> (Vec<usize>, usize) {
    let mut vocabulary: Vec<char> = TEXT.chars().collect();
    vocabulary.sort_unstable();
    vocabulary.dedup();
    (TEXT.chars().map(|c| vocabulary.binary_search(&c).unwrap()).collect(), vocabulary.len())
}

fn ids(tokens: &[usize]) -> Vec<u32> {
    tokens.iter().map(|&token| token as u32).collect()
}

fn near(a: f64, b: f64, tolerance: f64) {
    assert!(a == b || (a - b).abs() < tolerance, "{a} and {b}");
}

/// The mean loss by definition, in f64, and its gradient over `logits` (T, |V|).
fn by_definition(logits: &[f64], v: usize, targets: &[u32]) -> (f64, Vec<f64>) {
    let targets = Targets::Classes(targets);
    let out = reference::cross_entropy(&CrossEntropy::new(), logits, v, targets, &[1.0]).unwrap();
    (out.loss, out.gradient)
}

/// The mean loss of a neural model of these weights, whose logits are f32.
fn neural_loss(config: &NeuralConfig, weights: BTreeMap<String, Tensor>, tokens: &[u32]) -> f64 {
    let neural = Neural::from_tensors(config, weights).unwrap();
    let inputs =
        Tensor::from_slice(&tokens[..tokens.len() - 1], (1, tokens.len() - 1), &Device::Cpu).unwrap();
    let logits = neural.forward(&inputs, &Mode::Evaluate).unwrap().logits().unwrap();
    let logits = logits.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    by_definition(&logits, config.vocab_size(), &tokens[1..]).0
}

fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn counted_bigrams_are_those_of_the_ngram_model() {
    let (tokens, v) = text();
    let (train, held_out) = tokens.split_at(tokens.len() * 9 / 10);
    let counts = lesson::bigram_counts(train, v);
    for (smoothing, k) in [(Smoothing::Mle, 0.0), (Smoothing::AddK, 0.1)] {
        let config = NgramConfig { order: 2, smoothing, k, ..NgramConfig::default() };
        let model = NgramModel::estimate(&ids(train), v, &config).unwrap();
        for part in [train, held_out] {
            let lesson = lesson::cross_entropy(part, &|c| lesson::add_k(&counts, k, c));
            let log_probs = model.log_probs(&ids(part), 1).unwrap();
            near(lesson, -log_probs.iter().sum::<f64>() / log_probs.len() as f64, 1e-9);
        }
    }
}

#[test]
fn the_trained_bigram_and_its_gradient_follow_the_definition() {
    let (tokens, v) = text();
    let table = lesson::train_bigram(&tokens, v, 20);
    let lesson = lesson::cross_entropy(&tokens, &|c| lesson::log_softmax(&table[c[c.len() - 1]]));
    let (inputs, targets) = (&tokens[..tokens.len() - 1], ids(&tokens[1..]));
    let logits: Vec<f64> = inputs.iter().flat_map(|&token| table[token].clone()).collect();
    let (loss, gradient) = by_definition(&logits, v, &targets);
    near(lesson, loss, 1e-9);
    let mut sums = vec![vec![0.0; v]; v];
    for (&token, gradient) in inputs.iter().zip(gradient.chunks_exact(v)) {
        sums[token].iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
    }
    let by_hand = lesson::bigram_gradient(&table, &tokens);
    for (a, b) in by_hand.iter().flatten().zip(sums.iter().flatten()) {
        near(*a, *b, 1e-12);
    }
    let config = NeuralConfig::Bigram(BigramConfig { vocab_size: v, block_size: tokens.len() });
    let table = tensor(&table.concat(), &[v, v]).to_dtype(DType::F32).unwrap();
    let weights = BTreeMap::from([("table.weight".to_owned(), table)]);
    near(lesson, neural_loss(&config, weights, &ids(&tokens)), 1e-5);
}

#[test]
fn the_mlp_and_its_gradient_are_those_of_candle_in_f64() {
    let (tokens, v) = text();
    let mlp = lesson::train_mlp(&tokens, v, 2);
    let lesson = lesson::cross_entropy(&tokens, &|context| mlp.log_q(context));
    let places: Vec<usize> = (1..tokens.len()).collect();
    let (loss, by_hand) = mlp.gradient(&tokens, &places);
    near(lesson, loss, 1e-9);

    let shapes: [(&str, &[usize]); 5] = [
        ("wte.weight", &[v + 1, N_EMBD]),
        ("hidden.weight", &[N_HIDDEN, CONTEXT * N_EMBD]),
        ("hidden.bias", &[N_HIDDEN]),
        ("head.weight", &[v, N_HIDDEN]),
        ("head.bias", &[v]),
    ];
    let parts =
        |mlp: &Mlp| [&mlp.wte, &mlp.hidden, &mlp.hidden_bias, &mlp.head, &mlp.head_bias].map(Vec::clone);
    let vars: Vec<Var> = parts(&mlp)
        .iter()
        .zip(shapes)
        .map(|(values, (_, shape))| Var::from_tensor(&tensor(values, shape)).unwrap())
        .collect();
    // The last n tokens before each place; before the text stands the id |V|.
    let windows: Vec<u32> = places
        .iter()
        .flat_map(|&t| (0..CONTEXT).map(move |i| (t + i).checked_sub(CONTEXT)))
        .map(|place| place.map_or(v, |place| tokens[place]) as u32)
        .collect();
    let windows = Tensor::from_vec(windows, places.len() * CONTEXT, &Device::Cpu).unwrap();
    let context = Context::default();
    let x = embedding(&context, &windows, &vars[0]).unwrap().reshape((places.len(), ())).unwrap();
    let h = tanh(&linear(&context, &x, &vars[1], Some(&vars[2])).unwrap()).unwrap();
    let logits = linear(&context, &h, &vars[3], Some(&vars[4])).unwrap();
    let targets = Tensor::from_vec(ids(&tokens[1..]), places.len(), &Device::Cpu).unwrap();
    let loss = CrossEntropy::new().apply(&logits, &targets).unwrap().value;
    near(lesson, loss.to_scalar::<f64>().unwrap(), 1e-9);
    let store = loss.backward().unwrap();
    for (var, by_hand) in vars.iter().zip(parts(&by_hand)) {
        let gradient: Vec<f64> = store.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(gradient.len(), by_hand.len());
        gradient.iter().zip(by_hand).for_each(|(a, b)| near(*a, b, 1e-9));
    }

    let block_size = tokens.len();
    let config = NeuralConfig::Mlp(MlpConfig {
        vocab_size: v,
        block_size,
        context: CONTEXT,
        n_embd: N_EMBD,
        n_hidden: N_HIDDEN,
    });
    let weights = shapes
        .iter()
        .zip(&vars)
        .map(|((name, _), var)| ((*name).to_owned(), var.to_dtype(DType::F32).unwrap()))
        .collect();
    near(lesson, neural_loss(&config, weights, &ids(&tokens)), 1e-5);
}
