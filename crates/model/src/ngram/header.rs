//! What there is to know of a [`Trie`](super::Trie) besides its arrays, and how what they hold combines.

use serde::{Deserialize, Serialize};

/// How a seen gram's value and the lower order combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackoffScheme {
    /// The value is added to what backs off.
    Interpolate,
    /// A seen gram is its value alone.
    BackOff,
    /// Only the longest context speaks; what it leaves goes to the uniform distribution (add-k).
    #[serde(rename = "longest")]
    LongestOnly,
}

impl BackoffScheme {
    /// q(w | h) from the gram's value if it was seen, the context's weight, and q(w | h').
    #[inline]
    pub(super) fn combine(self, value: Option<f64>, weight: ContextWeights, lower: f64) -> f64 {
        match value {
            Some(value) if self == Self::BackOff => value * weight.scale,
            Some(value) => value * weight.scale + weight.backoff * lower,
            None => weight.backoff * lower,
        }
    }
}

/// What a context does with its words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContextWeights {
    /// Multiplies the values of the grams seen in it.
    pub scale: f64,
    /// Multiplies the lower order.
    pub backoff: f64,
}

impl ContextWeights {
    /// A context that was never followed by anything: the lower order answers.
    pub const NONE: Self = Self { scale: 0.0, backoff: 1.0 };
}

/// The shape of a [`Trie`](super::Trie): with the bytes of its sections, all there is to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// |V|.
    pub vocab_size: u32,
    /// `<s>`, which is context only.
    pub bos: Option<u32>,
    /// How values and lower orders combine.
    #[serde(rename = "combine")]
    pub scheme: BackoffScheme,
    /// What the lower order is multiplied by where the context was never seen.
    #[serde(rename = "missing")]
    pub unseen_context_factor: f64,
    /// Whether every gram's suffix is a gram too, so that a word unseen in a context is unseen in every longer one.
    #[serde(rename = "complete")]
    pub suffix_closed: bool,
    /// One entry an order.
    pub levels: Vec<LevelHeader>,
}

/// The shape of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelHeader {
    /// How many grams.
    pub grams: u32,
    /// How many different values.
    pub values: u32,
    /// How many different weights.
    pub weights: u32,
    /// How wide the distances of [`Starts`](super::packed::Starts) are; 0 at the highest order.
    #[serde(rename = "distance_bits")]
    pub delta_bits: u32,
}

/// Every how many grams the guide has a word.
pub(super) const SPARSE_INDEX_STEP: usize = 32;
