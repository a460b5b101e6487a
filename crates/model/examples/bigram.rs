//! One distribution found twice: by counting bigrams and by gradient descent.
//!
//! Both minimise the cross-entropy of the text. Counting does it in closed form: q(b | a) = count(a
//! b) / count(a). Gradient descent moves a table of logits along −(q − p) until it converges. With
//! label smoothing ε it converges to (1 − ε) · counted + ε/|V|.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use surprisal_loss::CrossEntropy;
use surprisal_loss::information::perplexity;
use surprisal_model::LanguageModel;
use surprisal_model::neural::{BigramConfig, Mode, Neural, NeuralConfig, NeuralLm};
use surprisal_model::ngram::{NgramConfig, NgramModel, Smoothing};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TEXT: &str = "a rose is a rose, and a nose is a nose, and as a rose rises a noise arose";
const STEPS: usize = 2000;

fn main() -> Result<()> {
    let mut vocabulary: Vec<char> = TEXT.chars().collect();
    vocabulary.sort_unstable();
    vocabulary.dedup();
    let id = |c| vocabulary.binary_search(&c).unwrap_or_default() as u32;
    let tokens: Vec<u32> = TEXT.chars().map(id).collect();
    let vocab_size = vocabulary.len();

    let config = NgramConfig { order: 2, smoothing: Smoothing::Mle, ..NgramConfig::default() };
    let counted = NgramModel::estimate(&tokens, vocab_size, &config)?;
    println!("{}", summary("counted", &counted, &tokens)?);

    let plain = trained(&tokens, vocab_size, &CrossEntropy::new())?;
    println!("{}", summary("by gradient", &plain, &tokens)?);

    let epsilon = 0.1;
    let smoothed = trained(&tokens, vocab_size, &CrossEntropy::new().label_smoothing(epsilon)?)?;
    println!("{}", summary("by gradient, smoothed", &smoothed, &tokens)?);

    let mut apart: f64 = 0.0;
    for &token in &tokens[..tokens.len() - 1] {
        let (q, p) = (smoothed.next_log_probs(&[token])?, counted.next_log_probs(&[token])?);
        for (q, p) in q.iter().zip(p) {
            let expected = (1.0 - epsilon) * p.exp() + epsilon / vocab_size as f64;
            apart = apart.max((q.exp() - expected).abs());
        }
    }
    println!("{apart:.0e} is the largest difference of q from (1 − ε) · counted + ε/|V|");
    Ok(())
}

/// −(1/T) Σ ln q(w_t | w_<t) of all tokens but the first, which has no context.
fn summary(name: &str, model: &dyn LanguageModel, tokens: &[u32]) -> Result<String> {
    let log_probs = model.log_probs(tokens, 1)?;
    let nats = -log_probs.iter().sum::<f64>() / log_probs.len() as f64;
    Ok(format!("{nats:.4} nats per token, perplexity {:.2}: {name}", perplexity(nats)))
}

/// A table of logits that minimises `loss`, with all of the text in every step.
fn trained(tokens: &[u32], vocab_size: usize, loss: &CrossEntropy) -> Result<NeuralLm> {
    let positions = tokens.len() - 1;
    let config = NeuralConfig::Bigram(BigramConfig { vocab_size, block_size: positions });
    let neural = Neural::new(&config, &mut ChaCha8Rng::seed_from_u64(1))?;
    let inputs = Tensor::from_slice(&tokens[..positions], (1, positions), &Device::Cpu)?; // (1, T)
    let targets = Tensor::from_slice(&tokens[1..], positions, &Device::Cpu)?; // (T)
    let table = vec![neural.parameters()[0].var.clone()];
    let mut adam =
        AdamW::new(table, ParamsAdamW { beta2: 0.99, weight_decay: 0.0, ..ParamsAdamW::default() })?;
    for step in 0..STEPS {
        let logits = neural.forward(&inputs, &Mode::Train { dropout_seed: 0, first_row: 0 })?.logits()?; // (T, |V|)
        adam.set_learning_rate(0.1 * (1.0 - step as f64 / STEPS as f64));
        adam.backward_step(&loss.apply(&logits, &targets)?.value)?;
    }
    Ok(NeuralLm { neural, stride: positions })
}
