//! Training objectives: the one that a config describes, and the trait for others.
//!
//! Label smoothing is related to the smoothing of n-gram models (Malagutti et al. 2024): a bigram
//! table trained to convergence is the maximum likelihood estimate interpolated with π; toward the
//! unigram distribution that is Jelinek-Mercer smoothing with a fixed weight; and with ε_h = k|V| /
//! (c(h) + k|V|) after token h it is add-k smoothing.

use std::fmt::Debug;

use candle_core::{Device, Tensor};
use surprisal_kernels::elementary::Elementary;
use surprisal_loss::confidence_penalty::confidence_penalty;
use surprisal_loss::{
    CrossEntropy, IGNORE_INDEX, Loss, ObjectiveConfig, Reduction, SmoothToward, SmoothingTarget,
};
use surprisal_model::LanguageModel;
use surprisal_model::neural::Output;
use surprisal_model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_ops::Context;
use surprisal_ops::profile::{OpKind, time};
use surprisal_platform::threads::Pool;
use surprisal_text::TokenText;

use crate::error::Result;

/// A part of an update's batch, of N = rows · cols tokens, with the model's output for it.
#[derive(Debug)]
pub struct Shard<'a> {
    /// The output: logits (N, V), or hidden states and the weights of a linear head.
    pub output: &'a Output,
    /// The context for operations with gradients, as for [`Output::logits_in`].
    pub context: &'a Context,
    /// Input tokens, row-major.
    pub inputs: &'a [u32],
    /// The token after each of them, or [`IGNORE_INDEX`].
    pub targets: &'a [u32],
    /// Tokens per row.
    pub cols: usize,
    /// One over the number of targets of the whole update.
    pub scale: f64,
}

/// An objective, which training minimises.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use surprisal_engine::loss::{CrossEntropy, Loss, Reduction};
/// use surprisal_engine::train::{Objective, Shard};
///
/// /// Cross-entropy with the soft cap of Gemma 2.
/// #[derive(Debug)]
/// struct Capped;
///
/// impl Objective for Capped {
///     fn loss(&self, shard: &Shard<'_>) -> surprisal_engine::Result<Loss> {
///         let logits = shard.output.logits_in(shard.context)?;
///         let targets = Tensor::new(shard.targets, &Device::Cpu)?;
///         let loss = CrossEntropy::new().softcap(30.0)?.reduction(Reduction::Scaled(shard.scale));
///         Ok(loss.apply(&logits, &targets)?)
///     }
/// }
/// ```
pub trait Objective: Debug + Send + Sync {
    /// The loss of a shard: `value` is `scale` times the sum over its targets, the rest are sums.
    ///
    /// # Errors
    /// A failure to compute the loss; logits that are not finite are
    /// [`ExitKind::Diverged`](crate::ExitKind).
    fn loss(&self, shard: &Shard<'_>) -> Result<Loss>;
}

/// The objective that a config describes, with what it needs of the training text.
#[derive(Debug)]
pub(crate) struct ConfiguredObjective {
    cross_entropy: CrossEntropy,
    soft_targets: Option<SoftTargets>,
    confidence_penalty: f64,
}

/// Targets that depend on the context.
#[derive(Debug)]
enum SoftTargets {
    /// ε of the mass goes to this model's prediction.
    Prediction(Box<NgramModel>),
    /// Add-k after the token before: how often each token was followed by any, and k.
    AddK { followed: Vec<u64>, k: f64 },
}

impl ConfiguredObjective {
    pub(crate) fn new(
        config: &ObjectiveConfig,
        text: &TokenText,
        vocab_size: usize,
        pool: &Pool,
    ) -> Result<Self> {
        let mut cross_entropy = config.cross_entropy()?;
        let mut soft_targets = None;
        let counted = |order, smoothing| {
            let config = NgramConfig { bos: text.bos(), ..NgramConfig::new(order, smoothing) };
            pool.install(|| NgramModel::estimate(&text.ids, vocab_size, &config))
        };
        if config.add_k > 0.0 {
            let mut followed = vec![0; vocab_size];
            for sequence in text.sequences() {
                for &token in &sequence[..sequence.len() - 1] {
                    followed[token as usize] += 1;
                }
            }
            // The rows are whole targets: all of the mass is moved to them.
            cross_entropy = cross_entropy.label_smoothing(1.0)?;
            soft_targets = Some(SoftTargets::AddK { followed, k: config.add_k });
        } else if config.label_smoothing > 0.0 {
            match config.smooth_toward {
                SmoothToward::Uniform => {}
                SmoothToward::Unigram => {
                    let log_probs = counted(1, Smoothing::Mle)?.next_log_probs(&[])?;
                    let by = Elementary::current();
                    let unigram: Vec<f64> = log_probs.iter().map(|log_prob| by.exp(*log_prob)).collect();
                    cross_entropy = cross_entropy.smooth_toward(SmoothingTarget::Prior(unigram.into()))?;
                }
                SmoothToward::KneserNey => {
                    let model = counted(config.smooth_order, Smoothing::KneserNey)?;
                    soft_targets = Some(SoftTargets::Prediction(Box::new(model)));
                }
            }
        }
        Ok(Self { cross_entropy, soft_targets, confidence_penalty: config.confidence_penalty })
    }
}

/// Whether the objective of `config` depends on the training text.
pub(super) fn depends_on_text(config: &ObjectiveConfig) -> bool {
    config.add_k > 0.0 || config.label_smoothing > 0.0 && config.smooth_toward != SmoothToward::Uniform
}

impl Objective for ConfiguredObjective {
    fn loss(&self, shard: &Shard<'_>) -> Result<Loss> {
        let &Shard { output, context, targets: classes, scale, .. } = shard;
        let targets = Tensor::from_slice(classes, classes.len(), &Device::Cpu)?; // (N)
        let loss = self.cross_entropy.clone().reduction(Reduction::Scaled(scale));
        let loss = match &self.soft_targets {
            Some(soft) => loss.smooth_toward(SmoothingTarget::Prior(soft.rows(shard)?.into()))?,
            None => loss,
        };
        if self.confidence_penalty > 0.0 {
            let logits = output.logits_in(context)?;
            let Loss { value, objective_sum, nll_sum, count, .. } = loss.apply(&logits, &targets)?;
            let penalty = confidence_penalty(&logits, classes, self.confidence_penalty, scale)?;
            let (value, objective_sum) = ((value + penalty.value)?, objective_sum + penalty.sum);
            return Ok(Loss { value, objective_sum, nll_sum, count });
        }
        Ok(time(OpKind::Head, || match output {
            Output::Logits(logits) => loss.apply(logits, &targets),
            Output::Head { hidden, weight, bias } => {
                loss.apply_linear(hidden, weight, bias.as_ref(), &targets)
            }
        })?)
    }
}

impl SoftTargets {
    /// A distribution for each of the shard's tokens, (N, V).
    fn rows(&self, shard: &Shard<'_>) -> Result<Vec<f32>> {
        match self {
            Self::Prediction(model) => prior_rows(model, shard.inputs, shard.cols),
            Self::AddK { followed, k } => Ok(add_k_rows(followed, *k, shard.inputs, shard.targets)),
        }
    }
}

/// The model's prediction after each input, (N, V); contexts start with each row.
fn prior_rows(model: &NgramModel, inputs: &[u32], cols: usize) -> Result<Vec<f32>> {
    let mut rows = Vec::with_capacity(inputs.len() * model.vocab_size());
    let by = Elementary::current();
    for row in inputs.chunks(cols.max(1)) {
        let mut session = model.session()?;
        for token in row {
            let log_probs = session.feed(std::slice::from_ref(token))?;
            rows.extend(log_probs.iter().map(|log_prob| by.exp(*log_prob) as f32));
        }
    }
    Ok(rows)
}

/// The target (1 − ε_h) δ + ε_h / |V| for each input h and the token after it, (N, V).
fn add_k_rows(followed: &[u64], k: f64, inputs: &[u32], targets: &[u32]) -> Vec<f32> {
    let vocab_size = followed.len();
    let added = k * vocab_size as f64;
    let mut rows = Vec::with_capacity(inputs.len() * vocab_size);
    for (&before, &target) in inputs.iter().zip(targets) {
        let epsilon = added / (followed[before as usize] as f64 + added);
        let start = rows.len();
        rows.resize(start + vocab_size, (epsilon / vocab_size as f64) as f32);
        if target != IGNORE_INDEX {
            rows[start + target as usize] += (1.0 - epsilon) as f32;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::optimiser::Optimiser;
    use super::super::step::{Hidden, Step};
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use surprisal_kernels::optim::AdamW;
    use surprisal_model::neural::{BigramConfig, Neural, NeuralConfig, NeuralLm};
    use surprisal_ops::Precision;
    use surprisal_text::Batch;

    use crate::config;

    const V: usize = 7;

    /// A text of seven tokens with uneven bigram counts.
    fn text() -> TokenText {
        let mut state = 1u32;
        let draw = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let draw = state >> 24;
            (draw * draw * 7) >> 16
        };
        let mut text = TokenText::default();
        text.ids = (0..900).map(draw).chain(0..7).chain(0..7).chain([0]).collect::<Vec<_>>().into();
        text
    }

    /// A bigram table trained to convergence, by the same steps as in training.
    fn trained(settings: &ObjectiveConfig, text: &TokenText) -> NeuralLm {
        let pool = Pool::new(2).unwrap();
        let cols = text.ids.len() - 1;
        let config = NeuralConfig::Bigram(BigramConfig { vocab_size: V, block_size: cols });
        let neural = Neural::new(&config, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        let objective = ConfiguredObjective::new(settings, text, V, &pool).unwrap();
        let batch = Batch {
            inputs: text.ids[..cols].to_vec(),
            targets: text.ids[1..].to_vec(),
            rows: 1,
            cols,
            targets_count: cols,
            begins: true,
        };
        let mut optimiser = Optimiser::new(&neural, &config::Optim::default(), Precision::F32, 1).unwrap();
        let (mut m, mut v) = (vec![0f32; V * V], vec![0f32; V * V]);
        let steps = 1500;
        for step in 1..=steps {
            let precision = Precision::F32;
            let update = Step { neural: &neural, objective: &objective, precision, pool: &pool, team: None };
            update
                .gradients(std::slice::from_ref(&batch), 0, &mut optimiser.gradients, &mut Hidden::default())
                .unwrap();
            let table = &neural.parameters()[0];
            let gradient = optimiser.gradients[0].get(0).unwrap().to_vec();
            let lr = 0.3 * (1.0 - step as f64 / (steps + 1) as f64);
            let (beta1, beta2, eps) = (0.9, 0.99, 1e-12);
            let rule = AdamW { lr, beta1, beta2, eps, weight_decay: 0.0, l2: 0.0, grad_scale: 1.0, step };
            table.update(|weights| rule.update(weights, &gradient, &mut m, &mut v)).unwrap();
        }
        NeuralLm { neural, stride: 1 }
    }

    fn probabilities(model: &dyn LanguageModel, context: u32) -> Vec<f64> {
        model.next_log_probs(&[context]).unwrap().iter().map(|log_prob| log_prob.exp()).collect()
    }

    fn counted(text: &TokenText, order: usize, smoothing: Smoothing, k: f64) -> NgramModel {
        let config = NgramConfig { k, ..NgramConfig::new(order, smoothing) };
        NgramModel::estimate(&text.ids, V, &config).unwrap()
    }

    /// The largest |Δp| between the trained table and `closed(context, maximum likelihood)`, over
    /// all contexts.
    fn distance(settings: &ObjectiveConfig, closed: impl Fn(u32, &[f64]) -> Vec<f64>) -> f64 {
        let text = text();
        let neural = trained(settings, &text);
        let mle = counted(&text, 2, Smoothing::Mle, 1.0);
        let mut worst = 0.0f64;
        for context in 0..V as u32 {
            let expected = closed(context, &probabilities(&mle, context));
            assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            for (p, q) in expected.iter().zip(probabilities(&neural, context)) {
                worst = worst.max((p - q).abs());
            }
        }
        worst
    }

    fn mixed(epsilon: f64, p: &[f64], prior: &[f64]) -> Vec<f64> {
        p.iter().zip(prior).map(|(p, prior)| (1.0 - epsilon) * p + epsilon * prior).collect()
    }

    /// The converged bigram probabilities, by context and maximum likelihood estimate.
    type ClosedForm<'a> = &'a dyn Fn(u32, &[f64]) -> Vec<f64>;

    #[test]
    fn trained_tables_are_smoothed_bigrams() {
        let text = text();
        let toward = |label_smoothing, smooth_toward| ObjectiveConfig {
            label_smoothing,
            smooth_toward,
            ..ObjectiveConfig::default()
        };
        let unigram = probabilities(&counted(&text, 1, Smoothing::Mle, 1.0), 0);
        let kneser_ney = counted(&text, 2, Smoothing::KneserNey, 1.0);
        let add_k = counted(&text, 2, Smoothing::AddK, 2.5);
        let cases: [(&str, ObjectiveConfig, ClosedForm); 3] = [
            ("Jelinek-Mercer with a fixed weight", toward(0.3, SmoothToward::Unigram), &|_, p| {
                mixed(0.3, p, &unigram)
            }),
            ("interpolation with Kneser-Ney", toward(0.4, SmoothToward::KneserNey), &|context, p| {
                mixed(0.4, p, &probabilities(&kneser_ney, context))
            }),
            ("add-k", ObjectiveConfig { add_k: 2.5, ..ObjectiveConfig::default() }, &|context, _| {
                probabilities(&add_k, context)
            }),
        ];
        for (name, settings, closed) in cases {
            let worst = distance(&settings, closed);
            assert!(worst < 1e-3, "{name}: max |Δp| = {worst}");
        }
        // Smoothing toward the uniform distribution gives something else.
        let uniform = vec![1.0 / V as f64; V];
        let worst = distance(&toward(0.3, SmoothToward::Unigram), |_, p| mixed(0.3, p, &uniform));
        assert!(worst > 0.01);
    }

    #[test]
    fn the_confidence_penalty_settles_where_its_gradient_vanishes() {
        let beta = 0.2;
        let settings = ObjectiveConfig { confidence_penalty: beta, ..ObjectiveConfig::default() };
        let text = text();
        let neural = trained(&settings, &text);
        let mle = counted(&text, 2, Smoothing::Mle, 1.0);
        for context in 0..V as u32 {
            let (p, q) = (probabilities(&mle, context), probabilities(&neural, context));
            let entropy: f64 = q.iter().map(|q| -q * q.ln()).sum();
            for (p, q) in p.iter().zip(&q) {
                // q − p + β q (ln q + H) = 0.
                let slope = q - p + beta * q * (q.ln() + entropy);
                assert!(slope.abs() < 1e-3, "{slope} at p = {p}, q = {q}");
            }
            let of = |d: &[f64]| d.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum::<f64>();
            assert!(of(&q) > of(&p), "the penalised model is less certain");
        }
    }
}
