//! The transformer compared with reference numbers: logits, the label-smoothed loss and every
//! parameter's gradient of GPT-2 and Llama in `transformers` in f64 (PyTorch 2.15, dropout 0).

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use surprisal_formats::hf;
use surprisal_loss::{CrossEntropy, Reduction};
use surprisal_model::neural::{Mode, Neural, NeuralConfig, Output};

fn doubles(file: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let view = file.tensor(name).unwrap();
    view.data().as_chunks::<8>().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect()
}

/// A (rows, columns) matrix as (columns, rows).
fn transposed(values: &[f64], columns: usize) -> Vec<f64> {
    let rows = values.len() / columns;
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

/// The Hugging Face tensors that our parameter `name` concatenates.
fn theirs(name: &str) -> Vec<String> {
    let Some((layer, part)) = name.strip_prefix("h.").and_then(|rest| rest.split_once('.')) else {
        return vec![
            match name {
                "wte.weight" => "model.embed_tokens.weight",
                "ln_f.weight" => "model.norm.weight",
                name => name,
            }
            .to_owned(),
        ];
    };
    let parts: &[&str] = match part {
        "ln_1.weight" => &["input_layernorm"],
        "ln_2.weight" => &["post_attention_layernorm"],
        "attn.c_attn.weight" => &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        "attn.c_proj.weight" => &["self_attn.o_proj"],
        "mlp.c_fc.weight" => &["mlp.gate_proj", "mlp.up_proj"],
        _ => &["mlp.down_proj"],
    };
    parts.iter().map(|part| format!("model.layers.{layer}.{part}.weight")).collect()
}

#[test]
fn gpt2_tiny_has_the_logits_the_loss_and_the_gradients_of_the_reference() {
    agrees("gpt2_tiny", 28, |reference, parameter, columns| {
        let expected = doubles(reference, &format!("grad.transformer.{parameter}"));
        let linear = parameter.contains(".attn.") || parameter.contains(".mlp.");
        // Hugging Face's Conv1D stores (in, out).
        if linear && parameter.ends_with(".weight") { transposed(&expected, columns) } else { expected }
    });
}

#[test]
fn llama_tiny_has_the_logits_the_loss_and_the_gradients_of_the_reference() {
    agrees("llama_tiny", 15, |reference, parameter, _| {
        theirs(parameter).iter().flat_map(|name| doubles(reference, &format!("grad.{name}"))).collect()
    });
}

/// Compares with a reference; `gradient` returns a parameter's reference gradient, given its name
/// and number of rows.
fn agrees(fixture: &str, parameters: usize, gradient: impl Fn(&SafeTensors<'_>, &str, usize) -> Vec<f64>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/tests/fixtures").join(fixture);
    let model = hf::read(&folder).unwrap();
    let config = NeuralConfig::Transformer(model.config.transformer());
    let neural = Neural::from_tensors(&config, model.tensors).unwrap();
    let bytes = std::fs::read(folder.join("reference.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    let ids: Vec<u32> = reference
        .tensor("input_ids")
        .unwrap()
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&bytes| u32::try_from(i32::from_le_bytes(bytes)).unwrap())
        .collect();
    let (b, t, v) = (2, 12, 40);

    let input = Tensor::from_slice(&ids, (b, t), &Device::Cpu).unwrap();
    let logits: Vec<f32> = neural
        .forward(&input, &Mode::Evaluate)
        .unwrap()
        .logits()
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let expected = doubles(&reference, "logits");
    assert_eq!(logits.len(), b * t * v);
    let worst = logits.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-4, "logits differ by {worst:e}");

    // Each token but the first of a row is predicted from those before it.
    let targets: Vec<u32> =
        (0..b * t).map(|i| if i % t == t - 1 { surprisal_loss::IGNORE_INDEX } else { ids[i + 1] }).collect();
    let targets = Tensor::from_slice(&targets, b * t, &Device::Cpu).unwrap();
    let loss = CrossEntropy::new().label_smoothing(0.1).unwrap().reduction(Reduction::Mean);
    let mode = Mode::Train { dropout_seed: 1, first_row: 0 };
    let Output::Head { hidden, weight, bias } = neural.forward(&input, &mode).unwrap() else {
        panic!("a transformer ends in a head")
    };
    let loss = loss.apply_linear(&hidden, &weight, bias.as_ref(), &targets).unwrap();
    let value = f64::from(loss.value.to_scalar::<f32>().unwrap());
    let expected = doubles(&reference, "loss_smoothed_0.1")[0];
    assert!((value - expected).abs() < 1e-5, "loss {value}, reference {expected}");

    let gradients = loss.value.backward().unwrap();
    let mut worst = BTreeMap::new();
    for parameter in neural.parameters() {
        let found: Vec<f32> =
            gradients.get(&parameter.var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let expected = gradient(&reference, &parameter.name, parameter.var.dims()[0]);
        assert_eq!(found.len(), expected.len());
        let norm = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
        let error = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum::<f64>().sqrt();
        worst.insert(parameter.name.clone(), error / norm);
    }
    assert_eq!(worst.len(), parameters);
    for (name, error) in worst {
        assert!(error < 1e-3, "the gradient of {name} differs by {error:e} of its norm");
    }
}
