//! The sizes of a [`Trie`](super::Trie), and the formula that combines its weights.

use serde::{Deserialize, Serialize};

/// Combination of the value of a seen n-gram with the lower order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackoffScheme {
    /// q = value · scale + backoff · lower.
    Interpolate,
    /// q = value · scale for a seen n-gram, else backoff · lower.
    BackOff,
    /// Only the longest context is used; its back-off mass goes to the uniform distribution
    /// (add-k).
    #[serde(rename = "longest")]
    LongestOnly,
}

impl BackoffScheme {
    /// q(w | h) from the value of a seen n-gram, the context's weights, and q(w | h').
    #[inline]
    pub(super) fn combine(self, value: Option<f64>, weight: ContextWeights, lower: f64) -> f64 {
        match value {
            Some(value) if self == Self::BackOff => value * weight.scale,
            Some(value) => value * weight.scale + weight.backoff * lower,
            None => weight.backoff * lower,
        }
    }
}

/// The weights of a context h.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContextWeights {
    /// The factor of the values of n-grams hw.
    pub scale: f64,
    /// The factor of the lower order q(w | h').
    pub backoff: f64,
}

impl ContextWeights {
    /// A context that was never followed by a word: the lower order alone.
    pub const NONE: Self = Self { scale: 0.0, backoff: 1.0 };
}

/// All of a [`Trie`](super::Trie) but the bytes of its sections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// |V|.
    pub vocab_size: u32,
    /// `<s>`, which is context only.
    pub bos: Option<u32>,
    /// Combination of values with lower orders.
    #[serde(rename = "combine")]
    pub scheme: BackoffScheme,
    /// The factor of the lower order where the context was never seen.
    #[serde(rename = "missing")]
    pub unseen_context_factor: f64,
    /// Whether the suffix of every n-gram is in the model, so that a word unseen in a context is
    /// unseen in every longer one.
    #[serde(rename = "complete")]
    pub suffix_closed: bool,
    /// One entry per order.
    pub levels: Vec<LevelHeader>,
}

/// The sizes of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelHeader {
    /// The number of n-grams.
    pub grams: u32,
    /// The number of different values.
    pub values: u32,
    /// The number of different weights.
    pub weights: u32,
    /// The bits of a delta of [`ChildOffsets`](super::packed::ChildOffsets); 0 at the highest
    /// order.
    #[serde(rename = "distance_bits")]
    pub delta_bits: u32,
}

/// The sparse index has the word of every so many n-grams.
pub(super) const SPARSE_INDEX_STEP: usize = 32;
