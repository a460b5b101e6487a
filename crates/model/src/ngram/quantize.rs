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
        if !(2..=16).contains(&bits) {
            return Err(Error::Config(format!("quantisation needs 2 to 16 bits, not {bits}")));
        }
        let header = self.header();
        let (codes, interpolates) = (1 << bits, header.scheme == BackoffScheme::Interpolate);
        let mut tables = self.unpack();
        for table in tables.iter_mut().skip(1) {
            quantize_values(table, codes);
        }
        for len in 1..tables.len() {
            let (lower, upper) = tables.split_at_mut(len);
            if interpolates {
                renormalise(&mut lower[len - 1], &upper[0]);
            }
            quantize_weights(&mut lower[len - 1], codes);
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

fn quantize_values(table: &mut UnpackedLevel, codes: usize) {
    let points: Vec<[f64; 2]> = table.distinct_values.iter().map(|&value| [value, 0.0]).collect();
    let uses = |grams: f64, [value, _]: [f64; 2]| grams * value.max(1e-3);
    if let Some(means) = kmeans(&points, &mut table.value_ids, uses, codes) {
        table.distinct_values = means.into_iter().map(|[value, _]| value).collect();
    }
}

fn quantize_weights(table: &mut UnpackedLevel, codes: usize) {
    let points: Vec<[f64; 2]> =
        table.distinct_weights.iter().map(|weight| [weight.scale, weight.backoff]).collect();
    let uses = |contexts: f64, [scale, _]: [f64; 2]| contexts / scale.max(1e-12);
    if let Some(means) = kmeans(&points, &mut table.weight_ids, uses, codes) {
        table.distinct_weights =
            means.into_iter().map(|[scale, backoff]| ContextWeights { scale, backoff }).collect();
    }
}

/// Sets the scale of each context so that its words and its back-off sum to one. Both are rounded
/// to 1/256 of a nat, finer than any cluster, so that few are distinct.
fn renormalise(parents: &mut UnpackedLevel, children: &UnpackedLevel) {
    let round = |x: f64| if x > 0.0 { (x.ln() * 256.0).round() as i64 } else { i64::MIN };
    let spread = |x: i64| if x == i64::MIN { 0.0 } else { (x as f64 / 256.0).exp() };
    let pairs: Vec<(i64, i64)> = (0..parents.weight_ids.len())
        .into_par_iter()
        .map(|node| {
            let weight = parents.distinct_weights[parents.weight_ids[node] as usize];
            let values = &children.value_ids[parents.children(node)];
            let mass: f64 = values.iter().map(|&value| children.distinct_values[value as usize]).sum();
            let scale = if mass > 0.0 { (1.0 - weight.backoff).max(0.0) / mass } else { weight.scale };
            (round(scale), round(weight.backoff))
        })
        .collect();
    let (contexts, different) = distinct(&pairs);
    let weight = |(scale, backoff)| ContextWeights { scale: spread(scale), backoff: spread(backoff) };
    parents.weight_ids = contexts;
    parents.distinct_weights = different.into_iter().map(weight).collect();
}

/// Clusters non-negative `points`, if there are more than `codes`; replaces each point index in
/// `of_each` by its cluster and returns the means. `uses` weights a point, given its frequency.
fn kmeans(
    points: &[[f64; 2]],
    of_each: &mut [u32],
    uses: impl Fn(f64, [f64; 2]) -> f64,
    codes: usize,
) -> Option<Vec<[f64; 2]>> {
    if points.len() <= codes {
        return None;
    }
    let mut frequencies = vec![0.0; points.len()];
    for &point in &*of_each {
        frequencies[point as usize] += 1.0;
    }
    let uses: Vec<f64> = frequencies.into_iter().zip(points).map(|(n, &point)| uses(n, point)).collect();
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
    of_each.par_iter_mut().for_each(|point| *point = of_point[*point as usize]);
    let spread = |x: f64| if x < 1e-299_f64.ln() { 0.0 } else { x.exp() };
    Some(centres.into_iter().map(|centre| centre.map(spread)).collect())
}
