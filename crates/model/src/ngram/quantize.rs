//! Quantised values and weights: a smaller file for a slightly different model.
//!
//! Each order gets at most 2^b values and as many (scale, backoff) pairs, by k-means on logarithms.
//! Points are weighted by their use in a text like the counted one: an n-gram's value is about its
//! count, and a context's scale about one over its count. A cluster's value is the geometric mean
//! of its members; the arithmetic mean would be biased upwards in ln q. Unigrams are not quantised.
//! After the values, each context's scale is set so that its words and its back-off sum to one; the
//! rounding of weights remains as the error.

use rayon::prelude::*;

use super::header::{BackoffScheme, ContextWeights};
use super::trie::{Trie, UnpackedLevel, distinct};
use crate::{Error, Result};

/// Iterations of k-means (Lloyd's).
const ROUNDS: usize = 12;

impl Trie {
    /// The same n-grams with values and weights of at most `bits` bits each (2 to 16) from order 2
    /// on.
    ///
    /// # Errors
    /// [`Error::Config`] for another number of bits.
    pub fn quantized(&self, bits: u32) -> Result<Self> {
        let codes = codes(bits)?;
        let header = self.header();
        let interpolates = header.scheme == BackoffScheme::Interpolate;
        let mut tables = self.unpack();
        for table in tables.iter_mut().skip(1) {
            let frequencies = frequencies(&table.value_ids, table.distinct_values.len());
            if let Some((clusters, values)) = quantize_values(&table.distinct_values, &frequencies, codes) {
                replace(&mut table.value_ids, &clusters);
                table.distinct_values = values;
            }
        }
        for len in 1..tables.len() {
            let (lower, upper) = tables.split_at_mut(len);
            let table = &mut lower[len - 1];
            if interpolates {
                renormalise(table, &upper[0]);
            }
            let frequencies = frequencies(&table.weight_ids, table.distinct_weights.len());
            if let Some((clusters, weights)) = quantize_weights(&table.distinct_weights, &frequencies, codes)
            {
                replace(&mut table.weight_ids, &clusters);
                table.distinct_weights = weights;
            }
        }
        Self::pack(
            header.vocab_size,
            header.bos,
            header.scheme,
            header.unseen_context_factor,
            header.suffix_closed,
            tables,
        )
    }
}

/// The number of values that `bits` bits tell apart.
pub(super) fn codes(bits: u32) -> Result<usize> {
    if (2..=16).contains(&bits) {
        return Ok(1 << bits);
    }
    Err(Error::Config(format!("quantisation needs 2 to 16 bits, not {bits}")))
}

/// The number of occurrences of each of `points` indices.
fn frequencies(of_each: &[u32], points: usize) -> Vec<f64> {
    let mut frequencies = vec![0.0; points];
    for &point in of_each {
        frequencies[point as usize] += 1.0;
    }
    frequencies
}

/// Replaces the index of each point by its cluster.
fn replace(of_each: &mut [u32], clusters: &[u32]) {
    of_each.par_iter_mut().for_each(|point| *point = clusters[*point as usize]);
}

/// Clusters values that so many n-grams have, if there are more than `codes`; gives the cluster of
/// each value, and the clusters' values.
pub(super) fn quantize_values(
    values: &[f64],
    frequencies: &[f64],
    codes: usize,
) -> Option<(Vec<u32>, Vec<f64>)> {
    let points: Vec<[f64; 2]> = values.iter().map(|&value| [value, 0.0]).collect();
    let uses = |grams: f64, [value, _]: [f64; 2]| grams * value.max(1e-3);
    let (clusters, means) = kmeans(&points, frequencies, uses, codes)?;
    Some((clusters, means.into_iter().map(|[value, _]| value).collect()))
}

/// The same of weights that so many contexts have.
pub(super) fn quantize_weights(
    weights: &[ContextWeights],
    frequencies: &[f64],
    codes: usize,
) -> Option<(Vec<u32>, Vec<ContextWeights>)> {
    let points: Vec<[f64; 2]> = weights.iter().map(|weight| [weight.scale, weight.backoff]).collect();
    let uses = |contexts: f64, [scale, _]: [f64; 2]| contexts / scale.max(1e-12);
    let (clusters, means) = kmeans(&points, frequencies, uses, codes)?;
    Some((clusters, means.into_iter().map(|[scale, backoff]| ContextWeights { scale, backoff }).collect()))
}

/// The weights of a context that make it sum to one, given Σ values of its words. Both are rounded
/// to 1/256 of a nat, finer than any cluster, so that few are distinct.
pub(super) fn rounded(weight: ContextWeights, mass: f64) -> (i64, i64) {
    let round = |x: f64| if x > 0.0 { (x.ln() * 256.0).round() as i64 } else { i64::MIN };
    let scale = if mass > 0.0 { (1.0 - weight.backoff).max(0.0) / mass } else { weight.scale };
    (round(scale), round(weight.backoff))
}

/// The weights that [`rounded`] gave.
pub(super) fn unrounded((scale, backoff): (i64, i64)) -> ContextWeights {
    let spread = |x: i64| if x == i64::MIN { 0.0 } else { (x as f64 / 256.0).exp() };
    ContextWeights { scale: spread(scale), backoff: spread(backoff) }
}

/// Sets the scale of each context so that its words and its back-off sum to one.
fn renormalise(parents: &mut UnpackedLevel, children: &UnpackedLevel) {
    let pairs: Vec<(i64, i64)> = (0..parents.weight_ids.len())
        .into_par_iter()
        .map(|node| {
            let weight = parents.distinct_weights[parents.weight_ids[node] as usize];
            let values = &children.value_ids[parents.children(node)];
            rounded(weight, values.iter().map(|&value| children.distinct_values[value as usize]).sum())
        })
        .collect();
    let (contexts, different) = distinct(&pairs);
    parents.weight_ids = contexts;
    parents.distinct_weights = different.into_iter().map(unrounded).collect();
}

/// Clusters non-negative `points`, if there are more than `codes`; gives the cluster of each point,
/// and the means. `uses` weights a point, given its frequency.
fn kmeans(
    points: &[[f64; 2]],
    frequencies: &[f64],
    uses: impl Fn(f64, [f64; 2]) -> f64,
    codes: usize,
) -> Option<(Vec<u32>, Vec<[f64; 2]>)> {
    if points.len() <= codes {
        return None;
    }
    let uses: Vec<f64> = frequencies.iter().zip(points).map(|(&n, &point)| uses(n, point)).collect();
    // Zero is far from all other points and stays a cluster of its own.
    let log = |x: f64| x.max(1e-300).ln();
    let places: Vec<[f64; 2]> = points.iter().map(|point| point.map(log)).collect();
    // The initial centres are the most used points.
    let mut by_use: Vec<usize> = (0..points.len()).collect();
    by_use.sort_by(|&a, &b| uses[b].total_cmp(&uses[a]));
    let mut centres: Vec<[f64; 2]> = by_use[..codes].iter().map(|&point| places[point]).collect();
    let mut of_point = vec![0_u32; points.len()];
    for _ in 0..ROUNDS {
        of_point.par_iter_mut().zip(&places).for_each(|(cluster, place)| {
            let distance = |centre: &[f64; 2]| {
                let (x, y) = (centre[0] - place[0], centre[1] - place[1]);
                x * x + y * y
            };
            let mut best = (f64::INFINITY, 0);
            for (i, centre) in centres.iter().enumerate() {
                let here = distance(centre);
                best = if here < best.0 { (here, i as u32) } else { best };
            }
            *cluster = best.1;
        });
        let mut sums = vec![[0.0; 3]; codes];
        for ((place, &cluster), &uses) in places.iter().zip(&of_point).zip(&uses) {
            let sum = &mut sums[cluster as usize];
            sum[0] += place[0] * uses;
            sum[1] += place[1] * uses;
            sum[2] += uses;
        }
        for (centre, [x, y, total]) in centres.iter_mut().zip(sums) {
            if total > 0.0 {
                *centre = [x / total, y / total];
            }
        }
    }
    let spread = |x: f64| if x < 1e-299_f64.ln() { 0.0 } else { x.exp() };
    Some((of_point, centres.into_iter().map(|centre| centre.map(spread)).collect()))
}
