//! Mixture weights by context: λ of each bin of contexts that an n-gram model knows equally well.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A bin of contexts, by what an n-gram model has of them.
///
/// Jelinek and Mercer (1980) and Chen and Goodman (1998) bin contexts by their count. A model file
/// does not have counts, but it has the number of different words after a context, which grows with
/// its count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextBin {
    /// The length of the longest suffix that is a context in the model; 0: none is.
    pub length: usize,
    /// ⌊log₂⌋ of the number of different words after it; 0 where it is not known.
    pub class: usize,
}

/// The weights of contexts by length and class, where a bin that held-out text did not have is
/// that of its length, and a length that it did not have is that of all contexts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BinWeights {
    /// The tokens that the weights of all the contexts count as in a bin.
    pub strength: f64,
    /// λ of contexts of length 0, 1, …
    pub lengths: Vec<LengthWeights>,
}

/// The weights of contexts of one length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthWeights {
    /// λ of each model in bins that are not listed.
    pub weights: Vec<f64>,
    /// λ of each model in class 0, 1, …
    pub classes: Vec<Vec<f64>>,
}

/// The tokens of a held-out text in their bins: q_m of each by every model, relative to the
/// largest.
type Binned<'a> = BTreeMap<ContextBin, Vec<&'a [f64]>>;

impl BinWeights {
    /// Weights with the greatest posterior probability of held-out tokens, from ln q of each token
    /// under each model and the bin of its context. `fixed` are the weights of all contexts.
    ///
    /// The prior of a bin is a Dirichlet distribution around the weights of its length, as if it
    /// had `strength` tokens more; and that of a length around `fixed`. Expectation maximisation
    /// from there makes the tokens no less likely than `fixed` does. The strength is the one whose
    /// weights, fitted to one half of the text, make the other half likeliest.
    pub fn fit(log_probs: &[Vec<f64>], bins: &[ContextBin], fixed: &[f64]) -> Self {
        const STRENGTHS: [f64; 7] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];
        /// Blocks of the text, which are in one half and the other in turn.
        const BLOCKS: usize = 16;
        let ratios: Vec<(usize, ContextBin, Vec<f64>)> = bins
            .iter()
            .enumerate()
            .filter_map(|(i, &bin)| {
                let top = log_probs.iter().map(|of| of[i]).fold(f64::NEG_INFINITY, f64::max);
                let possible = top > f64::NEG_INFINITY;
                possible.then(|| (i, bin, log_probs.iter().map(|of| (of[i] - top).exp()).collect()))
            })
            .collect();
        let binned = |half: Option<usize>| {
            let mut binned = Binned::new();
            for (i, bin, ratios) in &ratios {
                if half.is_none_or(|half| i * BLOCKS / bins.len() % 2 == half) {
                    binned.entry(*bin).or_default().push(ratios);
                }
            }
            binned
        };
        let halves = [binned(Some(0)), binned(Some(1))];
        let score = |strength: f64| {
            let of = |fit: &Binned<'_>, on: &Binned<'_>| {
                let weights = Self::with_strength(fit, fixed, strength);
                let bin = |(bin, tokens): (&ContextBin, &Vec<&[f64]>)| {
                    let weights = weights.of(*bin).unwrap_or(fixed);
                    tokens.iter().map(|ratios| dot(weights, ratios).ln()).sum::<f64>()
                };
                on.iter().map(bin).sum::<f64>()
            };
            of(&halves[0], &halves[1]) + of(&halves[1], &halves[0])
        };
        let scores = STRENGTHS.map(|strength| (score(strength), strength));
        let best = scores.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        Self::with_strength(&binned(None), fixed, best.map_or(STRENGTHS[0], |(_, strength)| strength))
    }

    fn with_strength(binned: &Binned<'_>, fixed: &[f64], strength: f64) -> Self {
        let most = binned.keys().map(|bin| bin.length + 1).max().unwrap_or(0);
        let length = |length: usize| {
            let class = |class| ContextBin { length, class };
            let own: Vec<_> = binned.range(class(0)..=class(usize::MAX)).collect();
            let tokens: Vec<&[f64]> = own.iter().flat_map(|(_, tokens)| tokens.iter().copied()).collect();
            let weights = maximise(&tokens, fixed, strength);
            let most = own.last().map_or(0, |(bin, _)| bin.class + 1);
            let mut classes = vec![weights.clone(); most];
            for (bin, tokens) in own {
                classes[bin.class] = maximise(tokens, &weights, strength);
            }
            LengthWeights { weights, classes }
        };
        Self { strength, lengths: (0..most).map(length).collect() }
    }

    /// λ of each model in `bin`; `None`: those of all contexts.
    pub fn of(&self, bin: ContextBin) -> Option<&[f64]> {
        let length = self.lengths.get(bin.length)?;
        Some(length.classes.get(bin.class).unwrap_or(&length.weights))
    }

    /// λ of every length and bin.
    pub fn all(&self) -> impl Iterator<Item = &Vec<f64>> {
        self.lengths.iter().flat_map(|length| [&length.weights].into_iter().chain(&length.classes))
    }
}

impl BinWeights {
    /// [`Self::all`], to be changed.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Vec<f64>> {
        self.lengths
            .iter_mut()
            .flat_map(|length| [&mut length.weights].into_iter().chain(&mut length.classes))
    }
}

/// The weights that maximise Σ ln Σ λ_m r_m + `strength` Σ p_m ln λ_m, where p is the `prior` and r
/// are the ratios of the tokens: by expectation maximisation, which starts from p.
fn maximise(tokens: &[&[f64]], prior: &[f64], strength: f64) -> Vec<f64> {
    const ROUNDS: usize = 100;
    let mut weights = prior.to_vec();
    for _ in 0..ROUNDS {
        let mut sums: Vec<f64> = prior.iter().map(|weight| strength * weight).collect();
        for ratios in tokens {
            let mixed = dot(&weights, ratios);
            for ((sum, weight), ratio) in sums.iter_mut().zip(&weights).zip(*ratios) {
                *sum += weight * ratio / mixed;
            }
        }
        let total: f64 = sums.iter().sum();
        let next: Vec<f64> = sums.iter().map(|sum| sum / total).collect();
        let moved = weights.iter().zip(&next).map(|(old, new)| (old - new).abs()).fold(0.0, f64::max);
        weights = next;
        if moved < 1e-6 {
            break;
        }
    }
    weights
}

fn dot(weights: &[f64], ratios: &[f64]) -> f64 {
    weights.iter().zip(ratios).map(|(weight, ratio)| weight * ratio).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ngram::{NgramConfig, NgramModel, Smoothing, Uniform};
    use crate::{LanguageModel, Mixture, best_weights};

    /// Small tokens are followed by the next one, mostly; the others by any.
    fn text() -> Vec<u32> {
        let (mut state, mut token) = (1_u64, 0);
        let step = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = (state >> 33) as u32;
            token = if token < 6 && !chance.is_multiple_of(10) { token + 1 } else { chance / 16 % 11 };
            token
        };
        (0..4000).map(step).collect()
    }

    fn models(train: &[u32]) -> Vec<Box<dyn LanguageModel>> {
        let mut models: Vec<Box<dyn LanguageModel>> = vec![Box::new(Uniform::new(12, None))];
        for (order, smoothing) in [(4, Smoothing::ModifiedKneserNey), (1, Smoothing::WittenBell)] {
            let config = NgramConfig::new(order, smoothing);
            models.push(Box::new(NgramModel::estimate(train, 12, &config).unwrap()));
        }
        models
    }

    /// The mixture, the same with weights by context, and the held-out text of both.
    fn fitted() -> (Mixture<'static>, Mixture<'static>, Vec<u32>) {
        let text = text();
        let (train, heldout) = text.split_at(2500);
        let parts = models(train);
        let scores: Vec<_> = parts.iter().map(|model| model.log_probs(heldout, 0).unwrap()).collect();
        let mut bins = parts[1].context_bins(heldout, 0).unwrap().unwrap();
        assert_eq!(bins.len(), heldout.len() + 1);
        bins.pop();
        let fixed = best_weights(&scores);
        let weights = BinWeights::fit(&scores, &bins, &fixed);
        let same = Mixture::new(models(train), &fixed).unwrap();
        let by_context = Mixture::new(models(train), &fixed).unwrap().by_context(1, weights).unwrap();
        (same, by_context, heldout.to_vec())
    }

    fn nats(model: &Mixture<'_>, text: &[u32]) -> f64 {
        -model.log_probs(text, 0).unwrap().iter().sum::<f64>() / text.len() as f64
    }

    #[test]
    fn held_out_text_is_no_less_likely_than_with_the_same_weights_everywhere() {
        let (same, by_context, heldout) = fitted();
        let (same, by_context) = (nats(&same, &heldout), nats(&by_context, &heldout));
        assert!(by_context < same - 1e-4, "{by_context} {same}");
    }

    #[test]
    fn the_mixture_by_context_is_a_distribution_in_every_way_of_reading() {
        let (_, mixture, heldout) = fitted();
        let text = &heldout[..60];
        let log_probs = mixture.log_probs(text, 0).unwrap();
        let (mut session, mut visited) = (mixture.session().unwrap(), 0);
        let mut fed = session.feed(&[]).unwrap();
        for (i, &token) in text.iter().enumerate() {
            let next = mixture.next_log_probs(&text[..i]).unwrap();
            assert!((next.iter().map(|q| q.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
            assert!((next[token as usize] - log_probs[i]).abs() < 1e-12, "{i}");
            assert_eq!(fed, next, "{i}");
            fed = session.feed(&[token]).unwrap();
        }
        mixture
            .for_each_distribution(text, 5, &mut |i, row| {
                assert!((row[text[i] as usize] - log_probs[i]).abs() < 1e-12, "{i}");
                visited += 1;
            })
            .unwrap();
        assert_eq!(visited, 55);
        mixture
            .each_log_probs(&[text, &text[..9]], 2, &mut |i, some| {
                assert_eq!(some, &log_probs[2..if i == 0 { 60 } else { 9 }]);
            })
            .unwrap();
    }

    #[test]
    fn bins_depend_on_no_later_token() {
        let text = text();
        let model = &models(&text[..2500])[1];
        let mut changed = text[2500..2600].to_vec();
        let bins = model.context_bins(&changed, 0).unwrap().unwrap();
        assert!(bins.iter().collect::<std::collections::BTreeSet<_>>().len() > 3);
        for i in 0..changed.len() {
            assert_eq!(model.context_bins(&changed[..i], i).unwrap().unwrap(), [bins[i]]);
        }
        changed[50..].fill(11);
        let other = model.context_bins(&changed, 0).unwrap().unwrap();
        assert_eq!((&bins[..=50], bins[51] == other[51]), (&other[..=50], false));
    }

    #[test]
    fn bins_are_the_longest_context_and_the_words_after_it() {
        // After 0: 1 and 2; after 1, 2, 0 1 and 0 2: one word each. Nothing follows 3.
        let config = NgramConfig::new(3, Smoothing::WittenBell);
        let model = NgramModel::estimate(&[0, 1, 0, 2, 0, 1, 0, 3], 5, &config).unwrap();
        let bins = model.context_bins(&[0, 1, 4, 0, 2, 3], 0).unwrap().unwrap();
        let bins: Vec<(usize, usize)> = bins.iter().map(|bin| (bin.length, bin.class)).collect();
        assert_eq!(bins, [(0, 0), (1, 1), (2, 0), (0, 0), (1, 1), (2, 0), (0, 0)]);
        assert_eq!(Uniform::new(5, None).context_bins(&[0], 0).unwrap(), None);
    }

    #[test]
    fn weights_are_those_of_a_calculation_by_hand() {
        // One token to which the second model gives nothing: with p = 1/2 and strength 4, λ is
        // (1 + 2) / (1 + 4) of the first model, and no round changes it.
        let token: &[f64] = &[1.0, 0.0];
        let weights = maximise(&[token], &[0.5, 0.5], 4.0);
        assert!((weights[0] - 0.6).abs() < 1e-9 && (weights[1] - 0.4).abs() < 1e-9, "{weights:?}");
        // A bin without tokens has the weights of its length, and a length without any, those of
        // all: of two bins of three and one tokens, λ of length 1 is (4 + 2) / (4 + 4).
        let bin = |class| ContextBin { length: 1, class };
        let none = f64::NEG_INFINITY;
        let scores = [vec![-1.0; 64], vec![none; 64]];
        let fixed = [0.5, 0.5];
        let ratios = [[1.0, 0.0]; 4];
        let ratios: Vec<&[f64]> = ratios.iter().map(|ratios| &ratios[..]).collect();
        let binned = Binned::from([(bin(0), ratios[..3].to_vec()), (bin(2), ratios[3..].to_vec())]);
        let weights = BinWeights::with_strength(&binned, &fixed, 4.0);
        let of = |length, class| weights.of(ContextBin { length, class }).unwrap_or(&fixed)[0];
        for (found, by_hand) in [
            (of(0, 0), 0.5),
            (of(5, 0), 0.5),
            (of(1, 0), (3.0 + 4.0 * 0.75) / 7.0),
            (of(1, 1), 0.75),
            (of(1, 2), (1.0 + 4.0 * 0.75) / 5.0),
            (of(1, 9), 0.75),
        ] {
            assert!((found - by_hand).abs() < 1e-6, "{found} {by_hand}");
        }
        // The first model is always right, so the weakest prior makes the other half likeliest.
        assert_eq!(BinWeights::fit(&scores, &[bin(0); 64], &fixed).strength, 1.0);
    }

    #[test]
    fn weights_that_are_none_are_refused() {
        let good = BinWeights { strength: 1.0, lengths: Vec::new() };
        let with = |weights: Vec<f64>| {
            let lengths = vec![LengthWeights { weights: vec![1.0; 3], classes: vec![weights] }];
            BinWeights { lengths, ..good.clone() }
        };
        let mixture = || Mixture::new(models(&text()), &[1.0; 3]).unwrap();
        assert!(mixture().by_context(1, good.clone()).is_ok());
        assert!(mixture().by_context(0, good.clone()).is_err());
        assert!(mixture().by_context(3, good.clone()).is_err());
        for weights in [vec![1.0; 2], vec![1.0, -1.0, 1.0], vec![0.0; 3], vec![f64::NAN; 3]] {
            assert!(mixture().by_context(1, with(weights)).is_err());
        }
    }
}
