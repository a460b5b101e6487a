//! What a step is trained toward where that is more than one token and a constant: the unigram distribution, the row of a
//! counted model, or add-k's own interpolation.
//!
//! Label smoothing is a counted smoother in disguise (Malagutti et al. 2024). Toward the uniform distribution it is
//! interpolation with it; toward the unigram distribution it is Jelinek and Mercer's with a fixed weight; and with
//! ε_h = k|V| / (c(h) + k|V|) for context h it is add-k: each is what a table trained to the end converges to.

use surprisal_kernels::elementary::Elementary;
use surprisal_loss::{CrossEntropy, IGNORE_INDEX, ObjectiveConfig, SmoothToward, SmoothingTarget};
use surprisal_model::LanguageModel;
use surprisal_model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_platform::threads::Pool;
use surprisal_text::TokenText;

use crate::error::Result;

/// Targets that depend on the context.
pub(crate) enum SoftTargets {
    /// ε of the mass goes to this model's row.
    Rows(Box<NgramModel>),
    /// Add-k over the token before: how often each was followed by anything, and k.
    AddK { followed: Vec<u64>, k: f64 },
}

impl SoftTargets {
    /// The loss that `settings` ask for, and the targets that it cannot know by itself.
    pub(crate) fn prepare(
        settings: &ObjectiveConfig,
        text: &TokenText,
        vocab_size: usize,
        pool: &Pool,
    ) -> Result<(CrossEntropy, Option<Self>)> {
        let loss = settings.cross_entropy()?;
        let counted = |order, smoothing| {
            let config = NgramConfig { order, smoothing, bos: text.bos(), ..NgramConfig::default() };
            pool.install(|| NgramModel::estimate(&text.ids, vocab_size, &config))
        };
        if settings.add_k > 0.0 {
            let mut followed = vec![0; vocab_size];
            for sequence in text.sequences() {
                for &token in &sequence[..sequence.len() - 1] {
                    followed[token as usize] += 1;
                }
            }
            // The rows hold the whole target: all of the mass is moved.
            return Ok((loss.label_smoothing(1.0)?, Some(Self::AddK { followed, k: settings.add_k })));
        }
        if settings.label_smoothing == 0.0 {
            return Ok((loss, None));
        }
        match settings.smooth_toward {
            SmoothToward::Unigram => {
                let (log_probs, by) = (counted(1, Smoothing::Mle)?.next(&[])?, Elementary::current());
                let unigram: Vec<f64> = log_probs.iter().map(|log_prob| by.exp(*log_prob)).collect();
                Ok((loss.smooth_toward(SmoothingTarget::Prior(unigram.into()))?, None))
            }
            SmoothToward::KneserNey => {
                let model = counted(settings.smooth_order, Smoothing::KneserNey)?;
                Ok((loss, Some(Self::Rows(Box::new(model)))))
            }
            SmoothToward::Uniform => Ok((loss, None)),
        }
    }

    /// `loss` for rows of `cols` tokens, with the targets that belong to them.
    pub(crate) fn of_rows(
        &self,
        loss: &CrossEntropy,
        inputs: &[u32],
        targets: &[u32],
        cols: usize,
    ) -> Result<CrossEntropy> {
        let rows = match self {
            Self::Rows(model) => prior_rows(model, inputs, cols)?,
            Self::AddK { followed, k } => add_k_rows(followed, *k, inputs, targets),
        };
        Ok(loss.clone().smooth_toward(SmoothingTarget::Prior(rows.into()))?)
    }
}

/// π(· | the row so far) for each input, one after the other.
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

/// (1 − ε_h) δ + ε_h / |V| for each input h and what came after it.
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

    /// Seven tokens whose bigrams are uneven; all are followed by something.
    fn text() -> TokenText {
        let mut state = 1u32;
        let draw = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let draw = state >> 24;
            (draw * draw * 7) >> 16
        };
        let mut text = TokenText::default();
        text.ids = (0..900).map(draw).chain(0..7).chain(0..7).chain([0]).collect();
        text
    }

    /// Trains a table to the end, by the very steps that `train` makes.
    fn trained(settings: &ObjectiveConfig, text: &TokenText) -> NeuralLm {
        let pool = Pool::new(2).unwrap();
        let cols = text.ids.len() - 1;
        let config = NeuralConfig::Bigram(BigramConfig { vocab_size: V, block_size: cols });
        let neural = Neural::new(&config, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        let (loss, targets) = SoftTargets::prepare(settings, text, V, &pool).unwrap();
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
            let penalty = settings.confidence_penalty;
            let update = Step {
                neural: &neural,
                loss: &loss,
                targets: targets.as_ref(),
                penalty,
                precision: Precision::F32,
                pool: &pool,
            };
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
        model.next(&[context]).unwrap().iter().map(|log_prob| log_prob.exp()).collect()
    }

    fn counted(text: &TokenText, order: usize, smoothing: Smoothing, k: f64) -> NgramModel {
        let config = NgramConfig { order, smoothing, k, ..NgramConfig::default() };
        NgramModel::estimate(&text.ids, V, &config).unwrap()
    }

    /// The largest |Δp| between the trained table and `closed(context, maximum likelihood)`, over all contexts.
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

    #[test]
    fn toward_the_unigram_is_jelinek_and_mercer_with_a_fixed_weight() {
        let settings = ObjectiveConfig {
            label_smoothing: 0.3,
            smooth_toward: SmoothToward::Unigram,
            ..ObjectiveConfig::default()
        };
        let text = text();
        let unigram: Vec<f64> =
            counted(&text, 1, Smoothing::Mle, 1.0).next(&[]).unwrap().iter().map(|q| q.exp()).collect();
        let worst = distance(&settings, |_, p| mixed(0.3, p, &unigram));
        assert!(worst < 1e-3, "max |Δp| = {worst}");
        // It is not smoothing toward the uniform distribution: the test can fail.
        let uniform = vec![1.0 / V as f64; V];
        assert!(distance(&settings, |_, p| mixed(0.3, p, &uniform)) > 0.01);
    }

    #[test]
    fn toward_kneser_and_ney_is_interpolation_with_their_row() {
        let settings = ObjectiveConfig {
            label_smoothing: 0.4,
            smooth_toward: SmoothToward::KneserNey,
            ..ObjectiveConfig::default()
        };
        let text = text();
        let prior = counted(&text, 2, Smoothing::KneserNey, 1.0);
        let worst = distance(&settings, |context, p| mixed(0.4, p, &probabilities(&prior, context)));
        assert!(worst < 1e-3, "max |Δp| = {worst}");
    }

    #[test]
    fn epsilon_by_context_is_add_k() {
        let settings = ObjectiveConfig { add_k: 2.5, ..ObjectiveConfig::default() };
        let text = text();
        let add_k = counted(&text, 2, Smoothing::AddK, 2.5);
        let worst = distance(&settings, |context, _| probabilities(&add_k, context));
        assert!(worst < 1e-3, "max |Δp| = {worst}");
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
            assert!(of(&q) > of(&p), "the penalised model hesitates more");
        }
    }
}
