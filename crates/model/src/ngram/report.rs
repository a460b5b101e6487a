//! The parameters and statistics of an estimated model.

use serde::{Deserialize, Serialize};

/// The parameters and statistics of an estimated model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// One entry per order.
    pub orders: Vec<OrderReport>,
    /// Notes for the user: formulas without a solution, and what was used instead.
    pub notices: Vec<String>,
    /// The k of add-k.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<f64>,
    /// The name of a smoother that [`Smoothing`](super::Smoothing) does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smoother: Option<String>,
}

/// The parameters and statistics of one order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrderReport {
    /// The number of n-grams in the model.
    pub grams: u64,
    /// The number of n-grams before pruning.
    pub counted: u64,
    /// The number of n-grams with counts of 1, 2, 3 and 4 (continuation counts, where those are
    /// used).
    pub count_of_counts: [u64; 4],
    /// The discounts of counts of 1, 2, and 3 or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discounts: Option<[f64; 3]>,
    /// The α of Dirichlet smoothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Jelinek-Mercer: λ by the binary logarithm of the context's count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lambdas: Vec<f64>,
    /// The source of the discounts: "closed form", "held-out text", "fallback".
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
}
