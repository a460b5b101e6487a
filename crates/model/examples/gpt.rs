//! A GPT, and the loop that trains it: all that a transformer language model is, from single
//! operations.
//!
//! The text comes from a grammar, so its entropy H(p) is known, and what the model has still to
//! learn is seen: H(p, q) = H(p) + KL(p‖q). At the end the library's transformer is given the
//! weights: it says the same.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use surprisal_loss::CrossEntropy;
use surprisal_model::LanguageModel;
use surprisal_model::neural::{Mode, Neural, NeuralConfig, NeuralLm, TransformerConfig};
use surprisal_ops::layers::{Norm, NormType};
use surprisal_ops::{Activation, Attention, Context, activation, causal_attention, embedding, linear};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const VOCAB_SIZE: usize = 128; // |V|: a token is a byte
const BLOCK_SIZE: usize = 32; // T: how far the model looks back
const N_LAYER: usize = 2;
const N_HEAD: usize = 2;
const N_EMBD: usize = 32; // C: the width of the residual stream
const BATCH_SIZE: usize = 8; // B
const STEPS: usize = 400;
const SENTENCES: usize = 2000;

const SUBJECTS: [&str; 4] = ["cat", "dog", "owl", "fox"];
const VERBS: [&str; 2] = ["sees", "hears"];

/// One of 4 · 2 · 4, all as likely: ln 32 nats.
fn sentence(rng: &mut ChaCha8Rng) -> String {
    let [subject, object] = [(); 2].map(|()| SUBJECTS[rng.random_range(0..SUBJECTS.len())]);
    format!("the {subject} {} the {object}.\n", VERBS[rng.random_range(0..VERBS.len())])
}

/// The weights by GPT-2's names.
struct Gpt(BTreeMap<String, Var>);

impl Gpt {
    fn new(rng: &mut ChaCha8Rng) -> Result<Self> {
        let mut shapes = vec![
            ("wte.weight".to_owned(), vec![VOCAB_SIZE, N_EMBD]),
            ("wpe.weight".to_owned(), vec![BLOCK_SIZE, N_EMBD]),
            ("ln_f.weight".to_owned(), vec![N_EMBD]),
        ];
        for i in 0..N_LAYER {
            shapes.extend([
                (format!("h.{i}.ln_1.weight"), vec![N_EMBD]),
                (format!("h.{i}.attn.c_attn.weight"), vec![3 * N_EMBD, N_EMBD]),
                (format!("h.{i}.attn.c_proj.weight"), vec![N_EMBD, N_EMBD]),
                (format!("h.{i}.ln_2.weight"), vec![N_EMBD]),
                (format!("h.{i}.mlp.c_fc.weight"), vec![4 * N_EMBD, N_EMBD]),
                (format!("h.{i}.mlp.c_proj.weight"), vec![N_EMBD, 4 * N_EMBD]),
            ]);
        }
        let mut weights = BTreeMap::new();
        for (name, shape) in shapes {
            let count = shape.iter().product();
            // Norms start as they are, matrices small, and each a little different.
            let values: Vec<f32> = match shape.len() {
                1 => vec![1.0; count],
                _ => (0..count).map(|_| rng.random_range(-0.05..0.05)).collect(),
            };
            weights.insert(name, Var::from_vec(values, shape, &Device::Cpu)?);
        }
        Ok(Self(weights))
    }

    /// The logits (B·T, |V|) of what follows each of `ids` (B, T).
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let context = Context::default();
        let (b, t) = ids.dims2()?;
        let weight = |name: &str| self.0[&format!("{name}.weight")].as_tensor();
        let norm = |x: &Tensor, name: &str| {
            let (centre, weight) = (NormType::LayerNorm, weight(name).clone());
            Norm { kind: centre, weight, bias: None, eps: 1e-5 }.forward(&context, x)
        };
        let matrix = |x: &Tensor, name: &str| linear(&context, x, weight(name), None);

        let positions = Tensor::arange(0, t as u32, &Device::Cpu)?.repeat(b)?; // (B·T)
        let mut x = (embedding(&context, &ids.flatten_all()?, weight("wte"))?
            + embedding(&context, &positions, weight("wpe"))?)?; // (B·T, C)
        for i in 0..N_LAYER {
            // What the tokens tell each other …
            let qkv = matrix(&norm(&x, &format!("h.{i}.ln_1"))?, &format!("h.{i}.attn.c_attn"))?; // (B·T, 3·C)
            let y = causal_attention(&qkv.reshape((b, t, 3 * N_EMBD))?, &Attention::plain(N_HEAD))?;
            x = (x + matrix(&y.reshape((b * t, N_EMBD))?, &format!("h.{i}.attn.c_proj"))?)?;
            // … and what each makes of it.
            let u = matrix(&norm(&x, &format!("h.{i}.ln_2"))?, &format!("h.{i}.mlp.c_fc"))?; // (B·T, 4·C)
            x = (x + matrix(&activation(&u, Activation::Gelu)?, &format!("h.{i}.mlp.c_proj"))?)?;
        }
        // The table that reads a token in also tells how well each token would follow.
        Ok(matrix(&norm(&x, "ln_f")?, "wte")?)
    }
}

fn main() -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let text: String = (0..SENTENCES).map(|_| sentence(&mut rng)).collect();
    let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
    let gpt = Gpt::new(&mut rng)?;
    let variables = gpt.0.values().cloned().collect();
    let mut adam = AdamW::new(variables, ParamsAdamW { beta2: 0.99, ..ParamsAdamW::default() })?;

    for step in 0..STEPS {
        let (mut inputs, mut targets) = (Vec::<u32>::new(), Vec::<u32>::new());
        for _ in 0..BATCH_SIZE {
            let at = rng.random_range(0..tokens.len() - BLOCK_SIZE);
            inputs.extend(&tokens[at..at + BLOCK_SIZE]);
            targets.extend(&tokens[at + 1..=at + BLOCK_SIZE]);
        }
        let inputs = Tensor::from_vec(inputs, (BATCH_SIZE, BLOCK_SIZE), &Device::Cpu)?;
        let targets = Tensor::from_vec(targets, BATCH_SIZE * BLOCK_SIZE, &Device::Cpu)?;
        let loss = CrossEntropy::new().apply(&gpt.forward(&inputs)?, &targets)?;
        adam.set_learning_rate(5e-3 * (1.0 - step as f64 / STEPS as f64));
        adam.backward_step(&loss.value)?; // The gradient over the logits is q − p; candle carries it on.
        if step % 50 == 49 {
            println!("step {}: {:.4} nats a byte", step + 1, loss.nll_sum / loss.count as f64);
        }
    }

    let config = NeuralConfig::Transformer(TransformerConfig {
        vocab_size: VOCAB_SIZE,
        block_size: BLOCK_SIZE,
        n_layer: N_LAYER,
        n_head: N_HEAD,
        n_embd: N_EMBD,
        ..TransformerConfig::default()
    });
    let weights = gpt.0.iter().map(|(name, weight)| (name.clone(), weight.as_tensor().clone())).collect();
    let neural = Neural::from_tensors(&config, weights)?;
    // Each byte is read after at least a sentence: what is left is what no model can know.
    let model = NeuralLm { neural, stride: BLOCK_SIZE - 24 };
    let log_probs = model.log_probs(&tokens, 24)?;
    let nats = -log_probs.iter().sum::<f64>() / log_probs.len() as f64;
    let entropy = SENTENCES as f64 * 32f64.ln() / tokens.len() as f64;
    println!("H(p, q) {nats:.4} = H(p) {entropy:.4} + KL(p‖q) {:.4}", nats - entropy);

    let ids = Tensor::from_slice(&tokens[..BLOCK_SIZE], (1, BLOCK_SIZE), &Device::Cpu)?;
    let apart = (gpt.forward(&ids)? - model.neural.forward(&ids, &Mode::Evaluate)?.logits()?)?;
    println!("{:?} lies between these logits and the library's", apart.abs()?.max_all()?.to_scalar::<f32>()?);
    Ok(())
}
