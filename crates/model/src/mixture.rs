//! Linear interpolation of any models: q(w | h) = Σ λ_m q_m(w | h), with λ by expectation-maximisation.

use crate::{Error, LanguageModel, Result, Session};

/// A mixture of models over one vocabulary.
pub struct Mixture<'a> {
    models: Vec<Box<dyn LanguageModel + 'a>>,
    weights: Vec<f64>,
}

/// ln Σ λ e^x, with the largest term taken out.
fn log_sum(weights: &[f64], log_probs: impl Iterator<Item = f64> + Clone) -> f64 {
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
    /// Mixes `models` by `weights`, which are from 0 and are made to sum to one.
    ///
    /// # Errors
    /// [`Error::Config`] without models, for models of different vocabularies, and for impossible weights.
    pub fn new(models: Vec<Box<dyn LanguageModel + 'a>>, weights: &[f64]) -> Result<Self> {
        let wrong = |message: String| Err(Error::Config { message });
        let Some(first) = models.first() else { return wrong("a mixture of no models".into()) };
        let size = first.vocab_size();
        if let Some(other) = models.iter().map(|model| model.vocab_size()).find(|&other| other != size) {
            return wrong(format!("models of {size} and of {other} tokens cannot be mixed"));
        }
        let sum: f64 = weights.iter().sum();
        if weights.len() != models.len()
            || !weights.iter().all(|weight| *weight >= 0.0)
            || !(sum > 0.0 && sum.is_finite())
        {
            return wrong(format!("{weights:?} are no weights of {} models", models.len()));
        }
        let weights = weights.iter().map(|weight| weight / sum).collect();
        Ok(Self { models, weights })
    }

    /// Mixes `models` by the weights with which `heldout` is likeliest.
    ///
    /// # Errors
    /// As [`Self::new`] and the models'.
    pub fn fit(models: Vec<Box<dyn LanguageModel + 'a>>, heldout: &[&[u32]], from: usize) -> Result<Self> {
        let mut log_probs = Vec::with_capacity(models.len());
        for model in &models {
            log_probs.push(model.log_probs_many(heldout, from)?.concat());
        }
        let weights = em_weights(&log_probs);
        Self::new(models, &weights)
    }

    /// λ.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Mixes, element by element, what every model answers.
    fn mix(&self, answers: &[Vec<f64>]) -> Vec<f64> {
        let len = answers.first().map_or(0, Vec::len);
        (0..len).map(|i| log_sum(&self.weights, answers.iter().map(|answer| answer[i]))).collect()
    }
}

/// The weights of a mixture under which held-out tokens are likeliest, given ln q of each token under each model. Each
/// round gives every model its share of the responsibility for the tokens; the likelihood never falls. It ends when it
/// rises by less than 10⁻⁸ nats a token. Tokens that every model holds impossible say nothing.
pub fn em_weights(log_probs: &[Vec<f64>]) -> Vec<f64> {
    const ROUNDS: usize = 500;
    let n = log_probs.len();
    let mut weights = vec![1.0 / n as f64; n];
    let tokens: Vec<usize> = (0..log_probs.first().map_or(0, Vec::len))
        .filter(|&i| log_probs.iter().any(|of| of[i] > f64::NEG_INFINITY))
        .collect();
    let mut before = f64::NEG_INFINITY;
    for _ in 0..ROUNDS {
        let mut shares = vec![0.0; n];
        let mut total = 0.0;
        for &i in &tokens {
            let mixed = log_sum(&weights, log_probs.iter().map(|of| of[i]));
            total += mixed;
            for (share, (weight, of)) in shares.iter_mut().zip(weights.iter().zip(log_probs)) {
                *share += weight * (of[i] - mixed).exp();
            }
        }
        if tokens.is_empty() || total - before < 1e-8 * tokens.len() as f64 {
            break;
        }
        before = total;
        weights = shares.iter().map(|share| share / tokens.len() as f64).collect();
    }
    weights
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
        Ok(self.mix(&answers?))
    }

    fn next(&self, context: &[u32]) -> Result<Vec<f64>> {
        let answers: Result<Vec<_>> = self.models.iter().map(|model| model.next(context)).collect();
        Ok(self.mix(&answers?))
    }

    fn log_probs_many(&self, sequences: &[&[u32]], from: usize) -> Result<Vec<Vec<f64>>> {
        let each = self.models.iter().map(|model| model.log_probs_many(sequences, from));
        let mut answers = each.map(|answer| answer.map(Vec::into_iter)).collect::<Result<Vec<_>>>()?;
        // Every model has an answer for every sequence.
        let of_next = |_| self.mix(&answers.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>());
        Ok(sequences.iter().map(of_next).collect())
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let sessions: Result<Vec<_>> = self.models.iter().map(|model| model.session()).collect();
        Ok(Box::new(Mixed { mixture: self, sessions: sessions? }))
    }
}

/// A text that all models of a mixture read.
struct Mixed<'a> {
    mixture: &'a Mixture<'a>,
    sessions: Vec<Box<dyn Session + 'a>>,
}

impl Session for Mixed<'_> {
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        let answers: Result<Vec<_>> = self.sessions.iter_mut().map(|session| session.feed(tokens)).collect();
        Ok(self.mixture.mix(&answers?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ngram::{NgramConfig, NgramModel, Smoothing, Uniform};

    fn models(text: &[u32]) -> Vec<Box<dyn LanguageModel>> {
        let mut models: Vec<Box<dyn LanguageModel>> = vec![Box::new(Uniform::new(9, None))];
        for (order, smoothing) in [(1, Smoothing::Mle), (3, Smoothing::Mle), (2, Smoothing::WittenBell)] {
            let config = NgramConfig { order, smoothing, ..NgramConfig::default() };
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
        let mixture = Mixture::fit(models(train), &[heldout], 0).unwrap();
        let best = alone.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(nats(&mixture) <= best + 1e-9, "{} {alone:?}", nats(&mixture));
        assert!((mixture.weights().iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let mut session = mixture.session().unwrap();
        for end in [0, 1, 5, 300] {
            let next = mixture.next(&heldout[..end.min(200)]).unwrap();
            assert!((next.iter().map(|q| q.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        }
        let fed = session.feed(&heldout[..7]).unwrap();
        assert_eq!(fed, mixture.next(&heldout[..7]).unwrap());
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
        let weights = em_weights(&[vec![none, -1.0, -1.0], vec![none, -9.0, -9.0]]);
        assert!(weights[0] > 0.99);
    }
}
