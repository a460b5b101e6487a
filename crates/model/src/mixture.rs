//! Linear interpolation of any models: q(w | h) = Σ λ_m q_m(w | h), λ fitted to held-out text. λ is
//! the same everywhere, or depends on the bin of h.

use crate::ngram::MAX_ORDER;
use crate::{BinWeights, ContextBin, Error, LanguageModel, Result, Session, Visit, scored};

/// A mixture of models over one vocabulary.
///
/// ```
/// # use surprisal_model::{LanguageModel, Mixture, ngram::{NgramConfig, NgramModel, Uniform}};
/// # fn main() -> surprisal_model::Result<()> {
/// let counted = NgramModel::estimate(&[0, 1, 0, 1], 2, &NgramConfig::default())?;
/// let mixture = Mixture::new(vec![Box::new(counted), Box::new(Uniform::new(2, None))], &[0.5, 0.5])?;
/// assert_eq!(mixture.log_probs(&[0, 1], 1)?, [0.75f64.ln()]); // half of 1 and half of 1/2
/// # Ok(())
/// # }
/// ```
pub struct Mixture<'a> {
    models: Vec<Box<dyn LanguageModel + 'a>>,
    weights: Vec<f64>,
    /// The model whose bins of contexts have weights of their own, and those.
    bins: Option<(usize, BinWeights)>,
}

/// ln Σ λ e^x, computed relative to the largest term.
fn weighted_log_sum_exp(weights: &[f64], log_probs: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = log_probs.clone().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return top;
    }
    top + weights
        .iter()
        .zip(log_probs)
        .map(|(weight, log_prob)| weight * (log_prob - top).exp())
        .sum::<f64>()
        .ln()
}

impl<'a> Mixture<'a> {
    /// Mixes `models` by non-negative `weights`, which are divided by their sum.
    ///
    /// # Errors
    /// [`Error::Config`] without models, for models of different vocabularies, and for invalid
    /// weights.
    pub fn new(models: Vec<Box<dyn LanguageModel + 'a>>, weights: &[f64]) -> Result<Self> {
        let wrong = |message: String| Err(Error::Config(message));
        let Some(first) = models.first() else { return wrong("a mixture needs a model".into()) };
        let size = first.vocab_size();
        if let Some(other) = models.iter().map(|model| model.vocab_size()).find(|&other| other != size) {
            return wrong(format!("models of {size} and of {other} tokens cannot be mixed"));
        }
        let weights = checked(weights, models.len())?;
        Ok(Self { models, weights, bins: None })
    }

    /// The mixture with weights of their own for the bins of contexts of model `of`.
    ///
    /// # Errors
    /// [`Error::Config`] for invalid weights, and for a model without bins.
    pub fn by_context(mut self, of: usize, mut bins: BinWeights) -> Result<Self> {
        let has_bins = self.models.get(of).map(|model| model.context_bins(&[], 0)).transpose()?.flatten();
        if has_bins.is_none() {
            return Err(Error::Config(format!("model {of} of the mixture has no n-grams")));
        }
        for weights in bins.all_mut() {
            *weights = checked(weights, self.models.len())?;
        }
        self.bins = Some((of, bins));
        Ok(self)
    }

    /// λ of each model; they sum to one.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// λ of the contexts of `tokens[from..]` and after them, where they have weights of their own.
    fn bins(&self, tokens: &[u32], from: usize) -> Result<Vec<ContextBin>> {
        let bins = self.bins.as_ref().map(|(of, _)| self.models[*of].context_bins(tokens, from));
        Ok(bins.transpose()?.flatten().unwrap_or_default())
    }

    /// λ in a bin.
    fn weights_in(&self, bin: Option<&ContextBin>) -> &[f64] {
        let weights = self.bins.as_ref().zip(bin).and_then(|((_, weights), bin)| weights.of(*bin));
        weights.unwrap_or(&self.weights)
    }

    /// ln q of tokens from those of every model and the bins of their contexts.
    fn mix_tokens(&self, answers: &[Vec<f64>], bins: &[ContextBin]) -> Vec<f64> {
        let len = answers.first().map_or(0, Vec::len);
        let mix =
            |i| weighted_log_sum_exp(self.weights_in(bins.get(i)), answers.iter().map(|answer| answer[i]));
        (0..len).map(mix).collect()
    }

    /// The distribution after a context in `bin` from those of every model.
    fn mix_rows(&self, rows: &[&[f64]], bin: Option<&ContextBin>) -> Vec<f64> {
        let weights = self.weights_in(bin);
        (0..self.vocab_size())
            .map(|token| weighted_log_sum_exp(weights, rows.iter().map(|row| row[token])))
            .collect()
    }
}

/// `weights` of so many models, divided by their sum.
fn checked(weights: &[f64], models: usize) -> Result<Vec<f64>> {
    let sum: f64 = weights.iter().sum();
    let sound = weights.iter().all(|weight| *weight >= 0.0) && sum > 0.0 && sum.is_finite();
    if weights.len() != models || !sound {
        return Err(Error::Config(format!("{weights:?} are no weights of {models} models")));
    }
    Ok(normalised(weights.to_vec()))
}

/// The mean log-likelihood and its derivatives at some weights.
struct Fit {
    weights: Vec<f64>,
    /// Mean ln q of the tokens to which some model gives a probability above zero.
    log_likelihood: f64,
    /// By each weight: the mean of r = q_m / q.
    gradient: Vec<f64>,
    /// Minus the second derivatives: the mean of r rᵀ.
    curvature: Vec<Vec<f64>>,
}

impl Fit {
    fn evaluate(weights: Vec<f64>, log_probs: &[Vec<f64>]) -> Self {
        let n = weights.len();
        let (mut sum, mut tokens) = (0.0, 0.0);
        let (mut slope, mut curvature) = (vec![0.0; n], vec![vec![0.0; n]; n]);
        let mut ratios = vec![0.0; n];
        for i in 0..log_probs.first().map_or(0, Vec::len) {
            if log_probs.iter().all(|of| of[i] == f64::NEG_INFINITY) {
                continue;
            }
            let mixed = weighted_log_sum_exp(&weights, log_probs.iter().map(|of| of[i]));
            sum += mixed;
            tokens += 1.0;
            ratios.iter_mut().zip(log_probs).for_each(|(ratio, of)| *ratio = (of[i] - mixed).exp());
            for (m, ratio) in ratios.iter().enumerate() {
                slope[m] += ratio;
                curvature[m].iter_mut().zip(&ratios).for_each(|(sum, other)| *sum += ratio * other);
            }
        }
        slope.iter_mut().chain(curvature.iter_mut().flatten()).for_each(|sum| *sum /= tokens);
        Self { weights, log_likelihood: sum / tokens, gradient: slope, curvature }
    }

    /// An upper bound of what the best weights gain, in nats per token: ln is concave, and the
    /// derivative along λ itself is 1.
    fn gap(&self) -> f64 {
        self.gradient.iter().copied().fold(f64::NEG_INFINITY, f64::max) - 1.0
    }

    /// The maximum of the quadratic approximation, found by moving weight between two models at a
    /// time.
    fn target(&self) -> Vec<f64> {
        const SWEEPS: usize = 1000;
        let (mut target, mut gradient, curvature) =
            (self.weights.clone(), self.gradient.clone(), &self.curvature);
        for _ in 0..SWEEPS {
            let mut moved = 0.0_f64;
            for (m, k) in (0..target.len()).flat_map(|m| (0..m).map(move |k| (m, k))) {
                // Two equal models have no curvature between them.
                let across =
                    (curvature[m][m] - 2.0 * curvature[m][k] + curvature[k][k]).max(f64::MIN_POSITIVE);
                let step = ((gradient[m] - gradient[k]) / across).max(-target[m]).min(target[k]);
                target[m] += step;
                target[k] -= step;
                gradient
                    .iter_mut()
                    .zip(curvature)
                    .for_each(|(slope, row)| *slope -= step * (row[m] - row[k]));
                moved = moved.max(step.abs());
            }
            if moved < 1e-15 {
                break;
            }
        }
        target
    }
}

/// The mixture weights with the greatest likelihood of held-out tokens, from ln q of each token
/// under each model: sequential quadratic programming (Kim et al. 2020), until mean ln q is within
/// 10⁻⁹ nats of the maximum. Every weight is above zero, so that no token that one model can
/// predict has probability zero. Tokens of probability zero under every model are left out.
pub fn best_weights(log_probs: &[Vec<f64>]) -> Vec<f64> {
    const GAP: f64 = 1e-10;
    const ROUNDS: usize = 200;
    const MIN_WEIGHT: f64 = 1e-11;
    let n = log_probs.len();
    let mut fit = Fit::evaluate(vec![1.0 / n as f64; n], log_probs);
    if fit.log_likelihood.is_nan() {
        return fit.weights;
    }
    for _ in 0..ROUNDS {
        if fit.gap() <= GAP {
            break;
        }
        let target = fit.target();
        let mut shorter = (0..40).map(|halved| {
            let way = fit.weights.iter().zip(&target);
            let weights = way.map(|(from, to)| from + 0.5_f64.powi(halved) * (to - from)).collect();
            Fit::evaluate(normalised(weights), log_probs)
        });
        // Near the maximum the likelihood no longer changes in its last bit, while the gap still
        // closes.
        let better = |next: &Fit| {
            let gain = next.log_likelihood - fit.log_likelihood;
            gain > 0.0 || gain > -1e-12 && next.gap() < fit.gap()
        };
        let Some(next) = shorter.find(better) else { break };
        fit = next;
    }
    normalised(fit.weights.iter().map(|weight| weight.max(MIN_WEIGHT)).collect())
}

/// The weights divided by their sum.
fn normalised(weights: Vec<f64>) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

impl LanguageModel for Mixture<'_> {
    fn vocab_size(&self) -> usize {
        self.models[0].vocab_size()
    }

    fn is_distribution(&self) -> bool {
        self.models.iter().all(|model| model.is_distribution())
    }

    fn log_probs(&self, tokens: &[u32], from: usize) -> Result<Vec<f64>> {
        let answers: Result<Vec<_>> = self.models.iter().map(|model| model.log_probs(tokens, from)).collect();
        Ok(self.mix_tokens(&answers?, &self.bins(tokens, from)?))
    }

    fn next_log_probs(&self, context: &[u32]) -> Result<Vec<f64>> {
        let answers: Result<Vec<_>> = self.models.iter().map(|model| model.next_log_probs(context)).collect();
        let answers = answers?;
        let rows: Vec<&[f64]> = answers.iter().map(Vec::as_slice).collect();
        Ok(self.mix_rows(&rows, self.bins(context, context.len())?.first()))
    }

    /// Every model visits the whole text, as its contexts may depend on where the text ends: once
    /// where the distributions of all tokens fit in memory, else once for each part of the tokens.
    fn for_each_distribution(&self, tokens: &[u32], from: usize, visit: &mut Visit<'_>) -> Result<()> {
        /// The distributions in memory, in numbers.
        const NUMBERS: usize = 1 << 25;
        let (count, vocab_size) = (scored(tokens, from, self.vocab_size())?.len(), self.vocab_size());
        let bins = self.bins(tokens, from)?;
        let at_once = (NUMBERS / (vocab_size * self.models.len()).max(1)).max(1);
        for first in (0..count).step_by(at_once) {
            let part = from + first..from + count.min(first + at_once);
            let mut answers = vec![Vec::with_capacity(part.len() * vocab_size); self.models.len()];
            for (model, answer) in self.models.iter().zip(&mut answers) {
                model.for_each_distribution(tokens, from, &mut |i, row| {
                    if part.contains(&i) {
                        answer.extend_from_slice(row);
                    }
                })?;
            }
            for (row, i) in part.enumerate() {
                let row = row * vocab_size..(row + 1) * vocab_size;
                let rows: Vec<&[f64]> = answers.iter().map(|answer| &answer[row.clone()]).collect();
                visit(i, &self.mix_rows(&rows, bins.get(i - from)));
            }
        }
        Ok(())
    }

    fn each_log_probs(&self, sequences: &[&[u32]], from: usize, visit: &mut Visit<'_>) -> Result<()> {
        let mut answers = vec![Vec::new(); sequences.len()];
        for model in &self.models {
            let mut hear = |i: usize, log_probs: &[f64]| answers[i].push(log_probs.to_vec());
            model.each_log_probs(sequences, from, &mut hear)?;
        }
        for (i, (answers, tokens)) in answers.iter().zip(sequences).enumerate() {
            visit(i, &self.mix_tokens(answers, &self.bins(tokens, from)?));
        }
        Ok(())
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let sessions: Result<Vec<_>> = self.models.iter().map(|model| model.session()).collect();
        Ok(Box::new(MixtureSession { mixture: self, sessions: sessions?, tail: Vec::new() }))
    }
}

/// A text that all models of a mixture read.
struct MixtureSession<'a> {
    mixture: &'a Mixture<'a>,
    sessions: Vec<Box<dyn Session + 'a>>,
    /// The last tokens, on which bins depend.
    tail: Vec<u32>,
}

impl Session for MixtureSession<'_> {
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        let answers: Result<Vec<_>> = self.sessions.iter_mut().map(|session| session.feed(tokens)).collect();
        let answers = answers?;
        self.tail.extend_from_slice(&tokens[tokens.len().saturating_sub(MAX_ORDER)..]);
        self.tail.drain(..self.tail.len().saturating_sub(MAX_ORDER));
        let rows: Vec<&[f64]> = answers.iter().map(Vec::as_slice).collect();
        Ok(self.mixture.mix_rows(&rows, self.mixture.bins(&self.tail, self.tail.len())?.first()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ngram::{NgramConfig, NgramModel, Smoothing, Uniform};

    fn models(text: &[u32]) -> Vec<Box<dyn LanguageModel>> {
        let mut models: Vec<Box<dyn LanguageModel>> = vec![Box::new(Uniform::new(9, None))];
        for (order, smoothing) in [(1, Smoothing::Mle), (3, Smoothing::Mle), (2, Smoothing::WittenBell)] {
            let config = NgramConfig::new(order, smoothing);
            models.push(Box::new(NgramModel::estimate(text, 9, &config).unwrap()));
        }
        models
    }

    #[test]
    fn fitted_mixtures_are_distributions_no_worse_than_their_best_part() {
        let text: Vec<u32> = (0..900_u32).map(|i| (i * i / 3 + i / 50) % 8).collect();
        let (train, heldout) = text.split_at(700);
        let nats =
            |model: &dyn LanguageModel| -model.log_probs(heldout, 0).unwrap().iter().sum::<f64>() / 200.0;
        let alone: Vec<f64> = models(train).iter().map(|model| nats(model.as_ref())).collect();
        let scores: Vec<_> = models(train).iter().map(|model| model.log_probs(heldout, 0).unwrap()).collect();
        let mixture = Mixture::new(models(train), &best_weights(&scores)).unwrap();
        let best = alone.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(nats(&mixture) <= best + 1e-9, "{} {alone:?}", nats(&mixture));
        assert!((mixture.weights().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let mut session = mixture.session().unwrap();
        for end in [0, 1, 5, 300] {
            let next = mixture.next_log_probs(&heldout[..end.min(200)]).unwrap();
            assert!((next.iter().map(|q| q.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        }
        let fed = session.feed(&heldout[..7]).unwrap();
        assert_eq!(fed, mixture.next_log_probs(&heldout[..7]).unwrap());
    }

    #[test]
    fn what_cannot_be_mixed_is_refused() {
        let uniform = |n| -> Box<dyn LanguageModel> { Box::new(Uniform::new(n, None)) };
        assert!(Mixture::new(Vec::new(), &[]).is_err());
        assert!(Mixture::new(vec![uniform(3), uniform(4)], &[1.0, 1.0]).is_err());
        for weights in [&[1.0][..], &[1.0, -1.0], &[0.0, 0.0], &[f64::NAN, 1.0]] {
            assert!(Mixture::new(vec![uniform(3), uniform(3)], weights).is_err());
        }
    }

    #[test]
    fn tokens_that_are_impossible_everywhere_say_nothing() {
        let none = f64::NEG_INFINITY;
        let weights = best_weights(&[vec![none, -1.0, -1.0], vec![none, -9.0, -9.0]]);
        assert!(weights[0] > 0.999_999 && weights[1] > 0.0, "{weights:?}");
        assert_eq!(best_weights(&[vec![none; 3], vec![none; 3]]), [0.5, 0.5]);
    }
}
