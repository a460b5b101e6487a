//! What a person can choose about a counted model, and what the estimator has to say about it.

use serde::{Deserialize, Serialize};

use super::counts::check_order;
use super::smoothing::add_k::AddK;
use super::smoothing::dirichlet::Dirichlet;
use super::smoothing::discounting::Discounting;
use super::smoothing::jelinek_mercer::JelinekMercer;
use super::smoothing::katz::Katz;
use super::smoothing::mle::Mle;
use super::smoothing::stupid_backoff::StupidBackoff;
use super::smoothing::witten_bell::WittenBell;
use super::smoothing::{Smoother, Tuning};
use crate::{Error, Result};

/// How counts become probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Smoothing {
    /// c(hw) / c(h): maximum likelihood. What was never seen is impossible.
    #[default]
    Mle,
    /// (c(hw) + k) / (c(h) + k |V|), of the longest context alone (Lidstone; Laplace for k = 1).
    AddK,
    /// λ c(hw)/c(h) + (1 − λ) q(w | h'), λ by EM on held-out text for contexts of about the same count (Jelinek and
    /// Mercer 1980).
    JelinekMercer,
    /// (c(hw) + T(h) q(w | h')) / (c(h) + T(h)), T(h) the different words seen after h (Witten and Bell 1991). Never fails.
    WittenBell,
    /// (c(hw) + α q(w | h')) / (c(h) + α), one α per order: a Dirichlet prior with mean q(· | h') (MacKay and Peto 1995).
    Dirichlet,
    /// (c(hw) − D) / c(h) + D T(h)/c(h) q(w | h'), D = n₁/(n₁ + 2n₂) an order (Ney, Essen and Kneser 1994).
    Absolute,
    /// Absolute discounting in which a lower order counts contexts instead of occurrences (Kneser and Ney 1995).
    KneserNey,
    /// Kneser-Ney with three discounts an order, for counts of 1, 2 and more (Chen and Goodman 1998).
    ModifiedKneserNey,
    /// Good-Turing discounts for counts up to 7; the rest backs off (Katz 1987).
    Katz,
    /// c(hw)/c(h) where seen, else 0.4 times the score of the shorter context (Brants et al. 2007). Scores do not sum to
    /// one: this is not a distribution, and has no perplexity.
    StupidBackoff,
    /// Whatever the file did that the probabilities were read from: nothing can be estimated this way.
    Given,
}

impl Smoothing {
    /// All that estimate.
    pub const ALL: [Self; Self::Given as usize] = [
        Self::Mle,
        Self::AddK,
        Self::JelinekMercer,
        Self::WittenBell,
        Self::Dirichlet,
        Self::Absolute,
        Self::KneserNey,
        Self::ModifiedKneserNey,
        Self::Katz,
        Self::StupidBackoff,
    ];

    /// The smoother of this kind with the parameters in `config`; none for [`Self::Given`].
    fn smoother(self, config: &NgramConfig) -> Option<Box<dyn Smoother>> {
        let (fallback, tune) = (config.fallback, config.tune);
        Some(match self {
            Self::Mle => Box::new(Mle),
            Self::AddK => Box::new(AddK { k: config.k }),
            Self::JelinekMercer => Box::new(JelinekMercer::default()),
            Self::WittenBell => Box::new(WittenBell),
            Self::Dirichlet => Box::new(Dirichlet { alpha: config.alpha.clone() }),
            Self::Absolute => Box::new(Discounting::absolute(fallback, tune)),
            Self::KneserNey => Box::new(Discounting::kneser_ney(fallback, tune)),
            Self::ModifiedKneserNey => Box::new(Discounting::modified_kneser_ney(fallback, tune)),
            Self::Katz => Box::new(Katz),
            Self::StupidBackoff => Box::new(StupidBackoff),
            Self::Given => return None,
        })
    }

    /// The smoother with default parameters.
    fn default_smoother(self) -> Option<Box<dyn Smoother>> {
        self.smoother(&NgramConfig::default())
    }

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        self.default_smoother().map_or("given", |smoother| smoother.name())
    }

    /// The factor of the lower order where a context was never seen: 1 in every distribution.
    pub fn unseen_context_factor(self) -> f64 {
        self.default_smoother().map_or(1.0, |smoother| smoother.unseen_context_factor())
    }

    /// Whether its probabilities sum to one.
    pub fn is_distribution(self) -> bool {
        self.unseen_context_factor() == 1.0
    }

    /// Whether [`NgramConfig::tune`] chooses its parameters.
    pub fn is_tunable(self) -> bool {
        self.default_smoother().is_some_and(|smoother| smoother.tuning() == Tuning::OnRequest)
    }

    /// Whether lower orders count contexts instead of occurrences.
    pub fn uses_continuation_counts(self) -> bool {
        self.default_smoother().is_some_and(|smoother| smoother.uses_continuation_counts())
    }
}

/// Another program whose numbers are to be reproduced, its quirks included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// KenLM's lmplz takes the raw counts of the last n-gram's suffixes into its statistics, so that its discounts depend
    /// on the order of a small corpus.
    Kenlm,
}

/// What to count and how to smooth it.
///
/// ```
/// # use surprisal_model::ngram::{NgramConfig, Smoothing};
/// let config = NgramConfig { order: 5, smoothing: Smoothing::ModifiedKneserNey, ..NgramConfig::default() };
/// assert!(config.check().is_ok());
/// assert!(NgramConfig { order: 0, ..config }.check().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NgramConfig {
    /// How many tokens an n-gram has, from 1.
    pub order: usize,
    /// How counts become probabilities.
    pub smoothing: Smoothing,
    /// What add-k adds, unless it is tuned.
    pub k: f64,
    /// Dirichlet's α per order, unless they are tuned; the last is that of all higher orders, and without any all are 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpha: Vec<f64>,
    /// Fits k, α or the discounts to held-out text.
    pub tune: bool,
    /// Which share of the training text is held out for tuning; the model is counted from all of it afterwards.
    pub heldout: f64,
    /// Discounts for orders whose own cannot be computed.
    pub fallback: [f64; 3],
    /// Another program's quirks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
    /// Grams of order i + 1 that occur no more often than `prune[i]` are left out; the last counts for all higher orders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prune: Vec<u32>,
    /// Grams are left out whose loss raises the model's perplexity by less than this share (Stolcke 1998).
    pub prune_entropy: f64,
    /// Gives every word of the vocabulary a share of what unigrams leave; otherwise `<unk>` has it all (SRILM's way).
    pub interpolate_unigrams: bool,
    /// Nothing outside the vocabulary can occur: `<unk>` has probability zero.
    pub closed: bool,
    /// `<s>`, where lines are sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
    /// `<unk>`, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unk: Option<u32>,
}

impl Default for NgramConfig {
    fn default() -> Self {
        Self {
            order: 2,
            smoothing: Smoothing::Mle,
            k: 1.0,
            alpha: Vec::new(),
            tune: false,
            heldout: 0.05,
            fallback: [0.5, 1.0, 1.5],
            compat: None,
            prune: Vec::new(),
            prune_entropy: 0.0,
            interpolate_unigrams: true,
            closed: false,
            bos: None,
            unk: None,
        }
    }
}

impl NgramConfig {
    /// Whether there can be such a model.
    ///
    /// # Errors
    /// [`Error::Config`] with what would be right.
    pub fn check(&self) -> Result<()> {
        self.check_with(self.smoother()?.as_ref())
    }

    /// The smoother that [`Self::smoothing`] names, with its parameters.
    ///
    /// # Errors
    /// [`Error::Config`] for [`Smoothing::Given`].
    pub fn smoother(&self) -> Result<Box<dyn Smoother>> {
        self.smoothing.smoother(self).ok_or_else(|| {
            let known = Smoothing::ALL.map(Smoothing::name).join(", ");
            Error::Config(format!(
                "smoothing is one of {known}; \"given\" is what a model from an ARPA file has"
            ))
        })
    }

    /// [`Self::check`] for a smoother that stands for [`Self::smoothing`].
    pub(super) fn check_with(&self, smoother: &dyn Smoother) -> Result<()> {
        let wrong = |message: String| Err(Error::Config(message));
        check_order(self.order)?;
        smoother.check(self.order)?;
        if !(self.heldout > 0.0 && self.heldout <= 0.5) {
            return wrong(format!("heldout is a share from above 0 to 0.5, not {}", self.heldout));
        }
        if let Some((j, d)) = (1..).zip(self.fallback).find(|&(j, d)| !(0.0..=f64::from(j)).contains(&d)) {
            return wrong(format!("a discount of counts of {j} is from 0 to {j}, not {d}"));
        }
        if self.prune.len() > self.order {
            let (given, order) = (self.prune.len(), self.order);
            return wrong(format!("prune has a threshold an order, {order} at most here, not {given}"));
        }
        if !self.prune.is_sorted() {
            return wrong(format!(
                "prune has thresholds none lower than the one before, not {:?}",
                self.prune
            ));
        }
        if self.prune.first().is_some_and(|&first| first > 0) {
            return wrong("prune starts with 0: every word of the vocabulary keeps its unigram".into());
        }
        if !(self.prune_entropy.is_finite() && self.prune_entropy >= 0.0) {
            return wrong(format!("prune_entropy is a share from 0, not {}", self.prune_entropy));
        }
        let pruned = self.prune.iter().any(|&threshold| threshold > 0);
        if pruned && !smoother.prunes_by_count() {
            let hint = "pruning by count needs discounts whose mass can move: absolute or Kneser-Ney";
            return wrong(format!("{hint}, not {}", smoother.name()));
        }
        if self.prune_entropy > 0.0 && !smoother.prunes_by_entropy() {
            let message = format!("pruning by entropy needs a model that backs off, not {}", smoother.name());
            return wrong(message);
        }
        Ok(())
    }

    /// Whether some of its numbers are chosen to suit held-out text.
    pub fn needs_heldout(&self) -> bool {
        self.smoothing.smoother(self).is_some_and(|smoother| self.tunes(smoother.as_ref()))
    }

    /// Whether this smoother reads held-out text here.
    pub(super) fn tunes(&self, smoother: &dyn Smoother) -> bool {
        match smoother.tuning() {
            Tuning::Never => false,
            Tuning::OnRequest => self.tune,
            Tuning::Always => true,
        }
    }

    /// Where in a text the held-out part starts: at the beginning of a line, where there are lines.
    pub fn heldout_from(&self, tokens: &[u32]) -> usize {
        let at = ((1.0 - self.heldout) * tokens.len() as f64) as usize;
        match self.bos {
            Some(bos) => {
                tokens[at..].iter().position(|&token| token == bos).map_or(tokens.len(), |next| at + next)
            }
            None => at,
        }
    }

    /// The raw count up to which grams of `order` words are left out.
    pub(super) fn prune_threshold(&self, order: usize) -> u32 {
        self.prune.get(order - 1).or(self.prune.last()).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_configurations() {
        for smoothing in Smoothing::ALL {
            assert_eq!(serde_json::to_value(smoothing).unwrap(), smoothing.name());
        }
        assert_eq!(Smoothing::Given.name(), "given");
    }
}
