//! Pruning by relative entropy (Stolcke 1998): removes n-grams that hardly change the model.
//!
//! Without hw, w backs off in h, and the back-off weight of h becomes b' = (N + q(w | h)) / (D +
//! q(w | h')) with N = 1 − Σ seen q(· | h), D = 1 − Σ seen q(· | h'). The relative entropy between
//! the two models is
//!
//! ```text
//! −q(h) · { q(w | h) · [ln q(w | h') + ln b' − ln q(w | h)] + N · [ln b' − ln b] }
//! ```
//!
//! and the n-gram is removed if e to that power raises perplexity by less than the threshold. The
//! context and the suffix of a kept n-gram are kept.

use rayon::prelude::*;

use super::estimate::Estimate;
use super::header::{BackoffScheme, ContextWeights};
use super::trie::UnpackedLevel;
use crate::{Error, Result};

/// Removes n-grams whose removal raises perplexity by less than the fraction `threshold`.
pub(super) fn prune(estimate: &mut Estimate, threshold: f64) {
    let order = estimate.tables.len();
    let probabilities = probabilities(estimate);
    let histories = histories(estimate, &probabilities);
    let mut keep: Vec<Option<Vec<bool>>> = vec![None; order];
    // The n-grams of this order that kept longer ones need.
    let mut needed: Vec<bool> = Vec::new();
    for len in (1..order).rev() {
        let parents = &estimate.tables[len - 1];
        let (lower, own) = (&probabilities[len - 1], &probabilities[len]);
        let suffixes = &estimate.suffix_links[len];
        let judge = |node: usize| -> Vec<bool> {
            let children = parents.children(node);
            let backoff_mass = 1.0 - own[children.clone()].iter().sum::<f64>();
            let unseen_lower_mass =
                1.0 - children.clone().map(|gram| lower[suffixes[gram] as usize]).sum::<f64>();
            let backoff = parents.distinct_weights[parents.weight_ids[node] as usize].backoff;
            let stays = |gram: usize| {
                let (q, q_lower) = (own[gram], lower[suffixes[gram] as usize]);
                let new = (backoff_mass.max(0.0) + q) / (unseen_lower_mass.max(0.0) + q_lower);
                let of_rest = if backoff_mass > 0.0 { backoff_mass * (new.ln() - backoff.ln()) } else { 0.0 };
                let change =
                    -histories[len - 1][node].exp() * (q * (q_lower.ln() + new.ln() - q.ln()) + of_rest);
                // Keeps an n-gram whose change is not a number.
                change.exp_m1() >= threshold || change.is_nan()
            };
            children.map(|gram| needed.get(gram).copied().unwrap_or(false) || stays(gram)).collect()
        };
        let kept: Vec<bool> =
            (0..parents.child_offsets.len() - 1).into_par_iter().flat_map_iter(judge).collect();
        needed = vec![false; parents.value_ids.len()];
        for node in 0..parents.child_offsets.len() - 1 {
            for gram in parents.children(node).filter(|&gram| kept[gram]) {
                needed[node] = true;
                needed[suffixes[gram] as usize] = true;
            }
        }
        keep[len] = Some(kept);
    }
    // From here on the value of every n-gram is its probability.
    estimate.scheme = BackoffScheme::BackOff;
    for (len, own) in probabilities.iter().enumerate() {
        let table = &mut estimate.tables[len];
        table.value_ids = (0..own.len() as u32).collect();
        table.distinct_values.clone_from(own);
    }
    for len in 1..order {
        let (lower, own) = (&probabilities[len - 1], &probabilities[len]);
        let (parents, suffixes) = (&estimate.tables[len - 1], &estimate.suffix_links[len]);
        let weight = |node: usize| {
            let is_kept = |gram: &usize| keep[len].as_ref().is_none_or(|keep| keep[*gram]);
            let mut kept = parents.children(node).filter(is_kept).peekable();
            if kept.peek().is_none() {
                return ContextWeights::NONE;
            }
            let (mut seen, mut seen_lower_mass) = (0.0, 0.0);
            for gram in kept {
                seen += own[gram];
                seen_lower_mass += lower[suffixes[gram] as usize];
            }
            let backoff = if 1.0 - seen_lower_mass > 1e-12 {
                ((1.0 - seen) / (1.0 - seen_lower_mass)).max(0.0)
            } else {
                0.0
            };
            ContextWeights { scale: 1.0, backoff }
        };
        let weights: Vec<ContextWeights> =
            (0..parents.child_offsets.len() - 1).into_par_iter().map(weight).collect();
        let parents = &mut estimate.tables[len - 1];
        parents.weight_ids = (0..weights.len() as u32).collect();
        parents.distinct_weights = weights;
    }
    estimate.retain(&keep);
    estimate.tables.iter_mut().for_each(UnpackedLevel::compact);
}

/// Checks that the words after every context sum to one, but for rounding.
///
/// # Errors
/// [`Error::Config`] with the largest difference.
pub(super) fn check_sums(estimate: &Estimate) -> Result<()> {
    /// More than seven decimals or 8 bits lose.
    const ROUNDING: f64 = 0.05;
    let probabilities = probabilities(estimate);
    let mut worst = (1, probabilities[0].iter().sum::<f64>());
    for len in 1..estimate.tables.len() {
        let (parents, suffixes) = (&estimate.tables[len - 1], &estimate.suffix_links[len]);
        for node in 0..parents.child_offsets.len() - 1 {
            let grams = parents.children(node);
            if grams.is_empty() {
                continue;
            }
            let lower: f64 = grams.clone().map(|gram| probabilities[len - 1][suffixes[gram] as usize]).sum();
            let backoff = parents.distinct_weights[parents.weight_ids[node] as usize].backoff;
            let sum = probabilities[len][grams].iter().sum::<f64>() + backoff * (1.0 - lower);
            if (sum - 1.0).abs() > (worst.1 - 1.0).abs() {
                worst = (len + 1, sum);
            }
        }
    }
    if (worst.1 - 1.0).abs() <= ROUNDING {
        return Ok(());
    }
    let (len, sum) = worst;
    Err(Error::Config(format!(
        "pruning by entropy needs probabilities that sum to one, but those of order {len} sum to {sum:.3} after some context"
    )))
}

/// The probabilities of the n-grams of every order.
fn probabilities(estimate: &Estimate) -> Vec<Vec<f64>> {
    let mut probabilities = vec![estimate.level(0, &[]).all()];
    for len in 1..estimate.tables.len() {
        let next = estimate.level(len, &probabilities[len - 1]).all();
        probabilities.push(next);
    }
    probabilities
}

/// ln q of the words of every n-gram in sequence: the log-probability of a context.
fn histories(estimate: &Estimate, probabilities: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut first: Vec<f64> = probabilities[0].iter().map(|q| q.ln()).collect();
    if let Some(bos) = estimate.bos {
        // A sentence begins as often as one ends.
        first[bos as usize] = first.get(bos as usize + 1).copied().unwrap_or(0.0);
    }
    let mut all = vec![first];
    for len in 1..estimate.tables.len() {
        let (parents, own) = (&estimate.tables[len - 1], &probabilities[len]);
        let histories = all[len - 1]
            .iter()
            .enumerate()
            .flat_map(|(node, history)| own[parents.children(node)].iter().map(move |q| history + q.ln()));
        all.push(histories.collect());
    }
    all
}
