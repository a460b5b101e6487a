//! The options of a training objective, as a config has them.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::options::CrossEntropy;

/// The distribution π that label smoothing moves mass to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmoothToward {
    /// 1/|V| for every token.
    #[default]
    Uniform,
    /// The unigram distribution of the training text.
    Unigram,
    /// The prediction of a Kneser-Ney model for the context.
    KneserNey,
}

/// The options of a training objective; without any it is the mean negative log likelihood.
///
/// ```
/// use surprisal_loss::ObjectiveConfig;
/// let smoothed = ObjectiveConfig { label_smoothing: 0.1, ..ObjectiveConfig::default() };
/// assert!(smoothed.check().is_ok() && !smoothed.is_plain());
/// let wrong = ObjectiveConfig { label_smoothing: 1.5, ..ObjectiveConfig::default() };
/// let error = wrong.check().unwrap_err();
/// assert_eq!(error.key(), "label_smoothing");
/// assert_eq!(error.to_string(), "is 1.5, but must be from 0 to 1");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// ε: the target distribution p becomes (1 − ε) p + ε π.
    pub label_smoothing: f64,
    /// π.
    pub smooth_toward: SmoothToward,
    /// The order n of the Kneser-Ney model.
    pub smooth_order: usize,
    /// k: ε depends on the token h before, k|V| / (c(h) + k|V|), and π is uniform: the target of
    /// add-k smoothing.
    pub add_k: f64,
    /// β: adds −β H(q), which rewards uncertain predictions (Pereyra et al. 2017).
    pub confidence_penalty: f64,
    /// ζ: adds ζ (ln Σ e^z)², which keeps logits z from drifting.
    pub z_loss: f64,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            smooth_toward: SmoothToward::Uniform,
            smooth_order: 2,
            add_k: 0.0,
            confidence_penalty: 0.0,
            z_loss: 0.0,
        }
    }
}

impl ObjectiveConfig {
    /// The weights that change the objective where they are not 0, with their largest values.
    fn weights(&self) -> [(&'static str, f64, f64); 4] {
        [
            ("label_smoothing", self.label_smoothing, 1.0),
            ("z_loss", self.z_loss, 1.0),
            ("add_k", self.add_k, 1e12),
            ("confidence_penalty", self.confidence_penalty, 100.0),
        ]
    }

    /// The first option that changes the objective; `None` where it is the negative log likelihood.
    pub fn first_change(&self) -> Option<&'static str> {
        self.weights().into_iter().find(|(_, weight, _)| *weight != 0.0).map(|(key, ..)| key)
    }

    /// Whether the objective is the negative log likelihood and nothing else.
    pub fn is_plain(&self) -> bool {
        self.first_change().is_none()
    }

    /// Checks every option.
    ///
    /// # Errors
    /// The first option outside its range, or without effect beside the others.
    pub fn check(&self) -> std::result::Result<(), ObjectiveError> {
        let order = ("smooth_order", self.smooth_order as f64, 1.0, 16.0);
        let weights = self.weights().map(|(key, value, max)| (key, value, 0.0, max));
        for (key, value, min, max) in weights.into_iter().chain([order]) {
            // Written so that NaN fails, too.
            if !(min..=max).contains(&value) {
                return Err(ObjectiveError::Range { key, value, min, max });
            }
        }
        if self.add_k > 0.0 && self.label_smoothing > 0.0 {
            return Err(ObjectiveError::Exclusive { key: "add_k", other: "label_smoothing" });
        }
        if self.smooth_toward != SmoothToward::Uniform && self.label_smoothing == 0.0 {
            return Err(ObjectiveError::NoEffect { key: "smooth_toward", needs: "label_smoothing" });
        }
        Ok(())
    }

    /// The cross-entropy with those options that need neither text nor model.
    ///
    /// # Errors
    /// An option outside its range.
    pub fn cross_entropy(&self) -> Result<CrossEntropy> {
        CrossEntropy::new().label_smoothing(self.label_smoothing)?.z_loss(self.z_loss)
    }
}

/// An option of [`ObjectiveConfig`] that cannot be; its message continues the option's name.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ObjectiveError {
    /// A value outside its range.
    #[error("is {value}, but must be from {min} to {max}")]
    Range {
        /// The option.
        key: &'static str,
        /// Its value.
        value: f64,
        /// The smallest value.
        min: f64,
        /// The largest value.
        max: f64,
    },
    /// Two options that exclude each other.
    #[error("and loss.{other} cannot both say how much to smooth")]
    Exclusive {
        /// The option.
        key: &'static str,
        /// The other one.
        other: &'static str,
    },
    /// An option without effect while another is 0.
    #[error("has no effect: loss.{needs} is 0")]
    NoEffect {
        /// The option.
        key: &'static str,
        /// The other one.
        needs: &'static str,
    },
}

impl ObjectiveError {
    /// The option's name.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Range { key, .. } | Self::Exclusive { key, .. } | Self::NoEffect { key, .. } => key,
        }
    }
}
