//! The configuration of an n-gram model.

use serde::{Deserialize, Serialize};

use super::counts::check_order;
use super::header::BackoffScheme;
use super::smoothing::{
    Smoother, Tuning, add_k::AddK, dirichlet::Dirichlet, discounting::Discounting,
    jelinek_mercer::JelinekMercer, katz::Katz, mle::Mle, stupid_backoff::StupidBackoff,
    witten_bell::WittenBell,
};
use crate::{Error, Result};

/// The smoothing method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Smoothing {
    /// c(hw) / c(h): maximum likelihood. Unseen words have probability zero.
    #[default]
    Mle,
    /// (c(hw) + k) / (c(h) + k |V|), of the longest context alone (Lidstone; Laplace for k = 1).
    AddK,
    /// λ c(hw)/c(h) + (1 − λ) q(w | h'), with λ by EM on held-out text, per order and magnitude of
    /// c(h) (Jelinek and Mercer 1980).
    JelinekMercer,
    /// (c(hw) + T(h) q(w | h')) / (c(h) + T(h)), with T(h) different words after h (Witten and Bell
    /// 1991).
    WittenBell,
    /// (c(hw) + α q(w | h')) / (c(h) + α), α per order: a Dirichlet prior with mean q(· | h')
    /// (MacKay and Peto 1995).
    Dirichlet,
    /// (c(hw) − D) / c(h) + D T(h)/c(h) q(w | h'), D = n₁/(n₁ + 2n₂) per order (Ney, Essen and
    /// Kneser 1994).
    Absolute,
    /// Absolute discounting; lower orders count different contexts, not occurrences (Kneser and Ney
    /// 1995).
    KneserNey,
    /// Kneser-Ney with three discounts per order, for counts of 1, 2 and more (Chen and Goodman
    /// 1998).
    ModifiedKneserNey,
    /// Good-Turing discounts for counts up to 7, and back-off (Katz 1987).
    Katz,
    /// c(hw)/c(h) where hw was seen, else 0.4 times the score of the shorter context (Brants et al.
    /// 2007). Scores do not sum to one: this is not a distribution and has no perplexity.
    StupidBackoff,
    /// Weights from a file, a mixture or a [`Smoother`] from outside of this list.
    Given,
}

impl Smoothing {
    /// All but [`Self::Given`].
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
            Self::Katz => Box::new(Katz::default()),
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

    /// Whether probabilities sum to one.
    pub fn is_distribution(self) -> bool {
        self.unseen_context_factor() == 1.0
    }

    /// Whether [`NgramConfig::tune`] fits its parameters.
    pub fn is_tunable(self) -> bool {
        self.default_smoother().is_some_and(|smoother| smoother.tuning() == Tuning::OnRequest)
    }

    /// Whether lower orders count different contexts instead of occurrences.
    pub fn uses_continuation_counts(self) -> bool {
        self.default_smoother().is_some_and(|smoother| smoother.uses_continuation_counts())
    }
}

/// Another program whose numbers are reproduced exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// KenLM's lmplz uses raw counts for the suffixes of the last n-gram in its statistics, so that
    /// discounts of a small corpus depend on its order.
    Kenlm,
}

/// The order and smoothing of an n-gram model.
///
/// ```
/// # use surprisal_model::ngram::{NgramConfig, Smoothing};
/// let config = NgramConfig::new(5, Smoothing::ModifiedKneserNey);
/// assert!(config.check().is_ok());
/// assert!(NgramConfig { order: 0, ..config }.check().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NgramConfig {
    /// The number of tokens of the longest n-gram, from 1.
    pub order: usize,
    /// The smoothing method.
    pub smoothing: Smoothing,
    /// The k of add-k, unless it is tuned.
    pub k: f64,
    /// The α of Dirichlet smoothing per order, unless they are tuned; the last applies to all
    /// higher orders. Empty: 50 for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpha: Vec<f64>,
    /// Fits k, α or the discounts to held-out text.
    pub tune: bool,
    /// The held-out fraction of the training text for tuning; afterwards all of the text is
    /// counted.
    pub heldout: f64,
    /// Discounts of orders for which the formula has no solution.
    pub fallback: [f64; 3],
    /// Another program whose numbers are reproduced exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
    /// Removes n-grams of order i + 1 that occur `prune[i]` times or less; the last applies to all
    /// higher orders. Of order 1, only a word's own probability is removed: it keeps its id, and is
    /// as likely as a word that never occurred. KenLM's lmplz removes the word, so
    /// that it becomes `<unk>`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prune: Vec<u32>,
    /// Removes n-grams whose removal raises perplexity by less than this fraction (Stolcke 1998).
    pub prune_entropy: f64,
    /// Shares the back-off mass of unigrams over the whole vocabulary; otherwise `<unk>` gets all
    /// of it (as in SRILM).
    pub interpolate_unigrams: bool,
    /// `<unk>` has probability zero: no word is outside the vocabulary.
    pub closed: bool,
    /// The id of `<s>`, where lines are sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
    /// The id of `<unk>`.
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
    /// The defaults of all other settings.
    pub fn new(order: usize, smoothing: Smoothing) -> Self {
        Self { order, smoothing, ..Self::default() }
    }

    /// Checks that such a model exists.
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
                "smoothing must be one of {known}; \"given\" is for models from files and mixtures"
            ))
        })
    }

    /// [`Self::check`] for a smoother instead of [`Self::smoothing`].
    pub(super) fn check_with(&self, smoother: &dyn Smoother) -> Result<()> {
        let wrong = |message: String| Err(Error::Config(message));
        check_order(self.order)?;
        smoother.check(self.order)?;
        if !(self.heldout > 0.0 && self.heldout <= 0.5) {
            return wrong(format!("heldout must be a fraction above 0 and up to 0.5, not {}", self.heldout));
        }
        if let Some((j, d)) = (1..).zip(self.fallback).find(|&(j, d)| !(0.0..=f64::from(j)).contains(&d)) {
            return wrong(format!("a discount of counts of {j} must be from 0 to {j}, not {d}"));
        }
        if self.prune.len() > self.order {
            let (given, order) = (self.prune.len(), self.order);
            return wrong(format!("prune has one threshold per order, at most {order} here, not {given}"));
        }
        if !self.prune.is_sorted() {
            return wrong(format!(
                "prune needs thresholds of which none is lower than the one before, not {:?}",
                self.prune
            ));
        }
        if self.prune.first().is_some_and(|&first| first > 0) {
            let but = "prune from order 1 makes rare words as likely as words that never occurred";
            if self.compat == Some(Compat::Kenlm) {
                return wrong(format!(
                    "{but}; lmplz removes them from the vocabulary, which is not reproduced"
                ));
            }
            if !self.interpolate_unigrams {
                return wrong(format!("{but}, which have no probability without interpolate_unigrams"));
            }
        }
        if self.closed && self.order > 1 && smoother.scheme() == BackoffScheme::LongestOnly {
            return wrong(format!("closed needs a model that backs off, not {}", smoother.name()));
        }
        let pruned = self.prune.iter().any(|&threshold| threshold > 0);
        if pruned && !smoother.prunes_by_count() {
            let hint = "pruning by count needs a smoothing with discounts: absolute or Kneser-Ney";
            return wrong(format!("{hint}, not {}", smoother.name()));
        }
        self.check_entropy_pruning(smoother.prunes_by_entropy(), smoother.name())
    }

    /// Checks the threshold, and that the smoother `name` backs off where there is one.
    pub(super) fn check_entropy_pruning(&self, backs_off: bool, name: &str) -> Result<()> {
        let threshold = self.prune_entropy;
        if !(threshold.is_finite() && threshold >= 0.0) {
            return Err(Error::Config(format!("prune_entropy must be a fraction from 0, not {threshold}")));
        }
        if threshold > 0.0 && !backs_off {
            return Err(Error::Config(format!(
                "pruning by entropy needs a model that backs off, not {name}"
            )));
        }
        Ok(())
    }

    /// Whether the setting `key` can change the model beside the others.
    pub fn has_effect(&self, key: &str) -> bool {
        let smoother = self.smoothing.smoother(self);
        match key {
            "k" => self.smoothing == Smoothing::AddK && !self.tune,
            "alpha" => self.smoothing == Smoothing::Dirichlet && !self.tune,
            "fallback" => smoother.is_some_and(|smoother| smoother.prunes_by_count()),
            "tune" => self.smoothing.is_tunable(),
            "heldout" => self.needs_heldout(),
            "compat" => self.smoothing.uses_continuation_counts(),
            "interpolate_unigrams" => {
                !self.closed && ![Smoothing::Mle, Smoothing::StupidBackoff].contains(&self.smoothing)
            }
            _ => true,
        }
    }

    /// Whether parameters are fitted to held-out text.
    pub fn needs_heldout(&self) -> bool {
        self.smoothing.smoother(self).is_some_and(|smoother| self.tunes(smoother.as_ref()))
    }

    /// Whether this smoother reads held-out text in this configuration.
    pub(super) fn tunes(&self, smoother: &dyn Smoother) -> bool {
        match smoother.tuning() {
            Tuning::Never => false,
            Tuning::OnRequest => self.tune,
            Tuning::Always => true,
        }
    }

    /// Where the held-out part of a text starts: at the beginning of a line, where there are lines.
    pub fn heldout_from(&self, tokens: &[u32]) -> usize {
        let at = ((1.0 - self.heldout) * tokens.len() as f64) as usize;
        match self.bos {
            Some(bos) => {
                tokens[at..].iter().position(|&token| token == bos).map_or(tokens.len(), |next| at + next)
            }
            None => at,
        }
    }

    /// The raw count up to which n-grams of `order` words are removed.
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
