//! Neural models as distributions over texts, whatever is inside them.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use surprisal_model::neural::{
    ActivationKind, BigramConfig, MlpConfig, Mode, Neural, NeuralConfig, NeuralLm, NormKind, PositionKind,
    RecurrentConfig, TransformerConfig,
};
use surprisal_model::{Error, LanguageModel};

const V: usize = 11;
const BLOCK: usize = 8;

fn configs() -> Vec<NeuralConfig> {
    let shape = TransformerConfig {
        vocab_size: V,
        block_size: BLOCK,
        n_layer: 2,
        n_head: 2,
        n_embd: 12,
        ..TransformerConfig::default()
    };
    let modern = TransformerConfig {
        tied: false,
        norm: NormKind::Rms,
        position: PositionKind::Rope,
        qk_norm: true,
        activation: ActivationKind::Swiglu,
        n_kv_head: 1,
        softcap: 15.0,
        bigram_rows: 50,
        ..shape.clone()
    };
    let recurrent = RecurrentConfig {
        vocab_size: V,
        block_size: BLOCK,
        n_layer: 2,
        n_embd: 5,
        n_hidden: 7,
        dropout: 0.0,
    };
    vec![
        NeuralConfig::Lstm(recurrent.clone()),
        NeuralConfig::Gru(recurrent),
        NeuralConfig::Bigram(BigramConfig { vocab_size: V, block_size: BLOCK }),
        NeuralConfig::Mlp(MlpConfig { vocab_size: V, block_size: BLOCK, context: 3, n_embd: 4, n_hidden: 9 }),
        NeuralConfig::Transformer(modern),
        NeuralConfig::Transformer(TransformerConfig { activation: ActivationKind::Relu2, ..shape.clone() }),
        NeuralConfig::Transformer(shape.clone()),
        NeuralConfig::Transformer(TransformerConfig { dropout: 0.2, bias: true, tied: false, ..shape }),
    ]
}

fn model(config: &NeuralConfig, stride: usize) -> NeuralLm {
    let neural = Neural::new(config, &mut ChaCha8Rng::seed_from_u64(5)).unwrap();
    // Larger weights than a fresh model's, so that contexts matter.
    for parameter in neural.parameters() {
        parameter.update(|values| values.iter_mut().for_each(|v| *v = *v * 8.0 + 0.01)).unwrap();
    }
    NeuralLm { neural, stride }
}

fn text(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * i + i / 3) % V as u32).collect()
}

#[test]
fn distributions_say_of_what_came_what_log_probs_say() {
    let text = text(5000);
    for config in configs() {
        for (stride, from) in [(BLOCK, 0), (3, 1), (1, 4990)] {
            let lm = model(&config, stride);
            let expected = lm.log_probs(&text, from).unwrap();
            let mut places = Vec::new();
            lm.for_each_distribution(&text, from, &mut |i, row| {
                assert_eq!(row[text[i] as usize], expected[i - from], "{config:?} {stride} at {i}");
                assert!((row.iter().map(|q| q.exp()).sum::<f64>() - 1.0).abs() < 1e-5);
                places.push(i);
            })
            .unwrap();
            assert_eq!(places, (from..text.len()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn every_parameter_gets_a_finite_gradient_that_is_not_zero() {
    for config in configs() {
        let neural = Neural::new(&config, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        let ids = Tensor::from_slice(&text(2 * BLOCK), (2, BLOCK), &Device::Cpu).unwrap();
        let mode = Mode::Train { dropout_seed: 3, first_row: 0 };
        let logits = neural.forward(&ids, &mode).unwrap().logits().unwrap();
        let log_probs = candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap();
        let gradients = log_probs.narrow(1, 0, 3).unwrap().mean_all().unwrap().backward().unwrap();
        for parameter in neural.parameters() {
            let gradient =
                gradients.get(&parameter.var).unwrap_or_else(|| panic!("no gradient: {}", parameter.name));
            let norm = gradient.sqr().unwrap().sum_all().unwrap().to_dtype(DType::F64).unwrap();
            let norm: f64 = norm.to_scalar().unwrap();
            assert!(norm.is_finite() && norm > 0.0, "{config:?} {}: {norm}", parameter.name);
            assert_eq!(parameter.decay, parameter.var.rank() == 2, "{}", parameter.name);
        }
    }
}

#[test]
fn a_plain_optimiser_trains_a_transformer() {
    use candle_nn::{AdamW, Optimizer, ParamsAdamW};
    let neural = Neural::new(&configs()[6], &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
    let variables = neural.parameters().iter().map(|parameter| parameter.var.clone()).collect();
    let mut optimiser = AdamW::new(variables, ParamsAdamW { lr: 1e-2, ..ParamsAdamW::default() }).unwrap();
    let text = text(2 * BLOCK + 1);
    let ids = Tensor::from_slice(&text[..2 * BLOCK], (2, BLOCK), &Device::Cpu).unwrap();
    let targets = Tensor::from_slice(&text[1..], 2 * BLOCK, &Device::Cpu).unwrap();
    let mut losses = Vec::new();
    for step in 0..60 {
        let mode = Mode::Train { dropout_seed: step, first_row: 0 };
        let logits = neural.forward(&ids, &mode).unwrap().logits().unwrap();
        let loss = candle_nn::loss::cross_entropy(&logits, &targets).unwrap();
        optimiser.backward_step(&loss).unwrap();
        losses.push(loss.to_scalar::<f32>().unwrap());
    }
    assert!((losses[0] - (V as f32).ln()).abs() < 0.3, "{losses:?}");
    assert!(losses[59] < 0.1 * losses[0], "{losses:?}");
}

#[test]
fn windows_score_each_token_once_from_the_context_they_promise() {
    let text = text(3 * BLOCK + 5);
    for config in configs() {
        // With a stride of one every token sees all the context it can: what `next` says of it.
        let lm = model(&config, 1);
        let scores = lm.log_probs(&text, 0).unwrap();
        assert_eq!(scores.len(), text.len());
        for i in 0..text.len() {
            let next = lm.next_log_probs(&text[..i]).unwrap();
            let sum: f64 = next.iter().map(|p| p.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{config:?}: {sum}");
            assert!((scores[i] - next[text[i] as usize]).abs() < 1e-4, "{config:?} token {i}");
        }
        // Starting later changes nothing then; a wider stride still scores each token once.
        for from in [1, 4, BLOCK, BLOCK + 3, text.len()] {
            let later = lm.log_probs(&text, from).unwrap();
            for (a, b) in later.iter().zip(&scores[from..]) {
                assert!((a - b).abs() < 1e-4);
            }
            assert_eq!(later.len(), text.len() - from);
            assert_eq!(model(&config, BLOCK).log_probs(&text, from).unwrap().len(), text.len() - from);
        }
        assert!(lm.log_probs(&text, text.len() + 1).is_err() && lm.log_probs(&[V as u32], 0).is_err());
    }
}

#[test]
fn many_lines_score_as_each_alone() {
    let lines: Vec<Vec<u32>> = [5, 2, 5, BLOCK + 1, 1, 3 * BLOCK, 5].map(text).to_vec();
    let lines: Vec<&[u32]> = lines.iter().map(Vec::as_slice).collect();
    for config in configs() {
        let lm = model(&config, 4);
        let mut next = 0;
        lm.each_log_probs(&lines, 1, &mut |i, many| {
            let alone = lm.log_probs(lines[i], 1).unwrap();
            assert_eq!((i, many.len()), (next, alone.len()));
            assert!(many.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5), "{config:?}");
            next += 1;
        })
        .unwrap();
        assert_eq!(next, lines.len());
    }
}

#[test]
fn a_session_says_what_next_says_and_goes_on_past_the_block() {
    let text = text(4 * BLOCK);
    for config in configs() {
        let lm = model(&config, 1);
        let mut session = lm.session().unwrap();
        let mut fed = session.feed(&text[..2]).unwrap();
        for i in 2..BLOCK {
            let next = lm.next_log_probs(&text[..i]).unwrap();
            assert!(fed.iter().zip(&next).all(|(a, b)| (a - b).abs() < 1e-4), "{config:?} after {i} tokens");
            fed = session.feed(&text[i..=i]).unwrap();
        }
        // One more than fits: the last half of the block is read again, and this token after it.
        let fed = session.feed(&text[BLOCK..=BLOCK]).unwrap();
        if matches!(config, NeuralConfig::Transformer(_)) {
            let next = lm.next_log_probs(&text[BLOCK / 2..=BLOCK]).unwrap();
            assert!(fed.iter().zip(&next).all(|(a, b)| (a - b).abs() < 1e-4), "{config:?}");
        }
        for token in &text[BLOCK + 1..] {
            let sum: f64 = session.feed(&[*token]).unwrap().iter().map(|p| p.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-5);
        }
        assert!(session.feed(&[V as u32]).is_err());
    }
}

#[test]
fn dropout_does_not_depend_on_the_sharding() {
    let config = configs().pop().unwrap();
    let lm = model(&config, 1);
    let logits = |ids: &[u32], rows: usize, first_row: usize| -> Vec<f32> {
        let ids = Tensor::from_slice(ids, (rows, BLOCK), &Device::Cpu).unwrap();
        let mode = Mode::Train { dropout_seed: 9, first_row };
        let logits = lm.neural.forward(&ids, &mode).unwrap().logits().unwrap();
        logits.flatten_all().unwrap().to_vec1().unwrap()
    };
    let ids = text(3 * BLOCK);
    let whole = logits(&ids, 3, 0);
    let mut parts = logits(&ids[..BLOCK], 1, 0);
    parts.extend(logits(&ids[BLOCK..], 2, 1));
    assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-4));
    assert!(logits(&ids[BLOCK..], 2, 0) != logits(&ids[BLOCK..], 2, 1));
}

#[test]
fn weights_come_back_exactly_or_not_at_all() {
    for config in configs() {
        let lm = model(&config, 1);
        let tensors = || -> BTreeMap<String, Tensor> {
            let named = |p: &surprisal_model::neural::Parameter| (p.name.clone(), p.var.as_tensor().clone());
            lm.neural.parameters().iter().map(named).collect()
        };
        let again = Neural::from_tensors(&config, tensors()).unwrap();
        let again = NeuralLm { neural: again, stride: 1 };
        assert_eq!(again.next_log_probs(&text(5)).unwrap(), lm.next_log_probs(&text(5)).unwrap());
        let name = lm.neural.parameters()[0].name.clone();
        let refuse = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
            let mut tensors = tensors();
            change(&mut tensors);
            let error = Neural::from_tensors(&config, tensors).unwrap_err();
            assert!(matches!(error, Error::Config { .. }) && error.to_string().contains('`'), "{error}");
        };
        refuse(&|tensors| drop(tensors.remove(&name)));
        refuse(&|tensors| {
            drop(tensors.insert("more".into(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap()));
        });
        refuse(&|tensors| {
            drop(tensors.insert(name.clone(), Tensor::zeros((1, 1), DType::F32, &Device::Cpu).unwrap()));
        });
    }
}

#[test]
fn attention_weights_are_shares_of_the_tokens_seen() {
    for config in configs() {
        let lm = model(&config, 4);
        let context: Vec<u32> = (0..BLOCK as u32 + 3).map(|i| i % V as u32).collect();
        let layers = lm.attention(&context).unwrap();
        let NeuralConfig::Transformer(transformer) = &config else {
            assert!(layers.is_empty(), "{}", config.kind());
            continue;
        };
        assert_eq!(layers.len(), transformer.n_layer);
        for heads in &layers {
            assert_eq!(heads.len(), transformer.n_head);
            for weights in heads {
                assert_eq!(weights.len(), BLOCK, "the last tokens, as many as the network sees");
                assert!(
                    (weights.iter().sum::<f32>() - 1.0).abs() < 1e-5 && weights.iter().all(|w| *w >= 0.0)
                );
            }
        }
        // A token by itself can only look at itself.
        assert_eq!(lm.attention(&[3]).unwrap()[0][0], [1.0]);
    }
}
