//! What an estimator found, order by order.

use serde::{Deserialize, Serialize};

/// What the estimator found, order by order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// One entry an order.
    pub orders: Vec<OrderReport>,
    /// What a person should know: where a formula failed and what was done instead.
    pub notices: Vec<String>,
    /// The k of add-k.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<f64>,
    /// The name of the smoother, where it is not one of [`Smoothing`](super::Smoothing).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smoother: Option<String>,
}

/// One order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrderReport {
    /// How many grams the model has.
    pub grams: u64,
    /// How many grams were counted (before pruning).
    pub counted: u64,
    /// How many have a count of 1, 2, 3 and 4; contexts instead of occurrences where the smoothing counts those.
    pub count_of_counts: [u64; 4],
    /// What is subtracted from counts of 1, 2, and 3 or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discounts: Option<[f64; 3]>,
    /// The α of Dirichlet smoothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// λ by the logarithm of the context's count (Jelinek-Mercer).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lambdas: Vec<f64>,
    /// Where the discounts are from: "closed form", "held-out text", "fallback".
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
}
