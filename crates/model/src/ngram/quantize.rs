//! Fewer bits for values and weights: a smaller file for a slightly different model.
//!
//! An order keeps at most 2^b different values, and as many pairs of scale and backoff. They are chosen by Lloyd's
//! iteration (k-means) on logarithms, since a model is judged by those. Each counts as often as it is used in a text like the
//! one that was counted: a gram's value is about its count, and a context's scale about one over its count. A cluster's
//! value is the mean of its members, of their logarithms: an arithmetic one would make texts likelier than they are.
//! Unigrams stay as they are. Between the two steps each context's scale is
//! set anew, so that its own words and its backoff add up to one again; what the weights' own rounding leaves is the error.

use rayon::prelude::*;

use super::header::{Combine, Weight};
use super::trie::{Table, Trie};
use crate::{Error, Result};

/// Rounds of Lloyd's iteration: little moves after a dozen.
const ROUNDS: usize = 12;

impl Trie {
    /// The same grams with values and weights of at most `bits` bits each (2 to 16) from order 2 on.
    ///
    /// # Errors
    /// [`Error::Config`] for another number of bits.
    pub fn quantized(&self, bits: u32) -> Result<Self> {
        if !(2..=16).contains(&bits) {
            return Err(Error::Config { message: format!("{bits} bits to quantise to, not from 2 to 16") });
        }
        let header = self.header();
        let (codes, interpolates) = (1 << bits, header.combine == Combine::Interpolate);
        let mut tables = self.unpack();
        for table in tables.iter_mut().skip(1) {
            quantize_values(table, codes);
        }
        for len in 1..tables.len() {
            let (lower, upper) = tables.split_at_mut(len);
            if interpolates {
                rescale(&mut lower[len - 1], &upper[0]);
            }
            quantize_weights(&mut lower[len - 1], codes);
        }
        Self::pack(header.vocab_size, header.bos, header.combine, header.missing, header.complete, tables)
    }
}

fn quantize_values(table: &mut Table, codes: usize) {
    if table.numerators.len() <= codes {
        return;
    }
    let points: Vec<[f64; 2]> = table.numerators.iter().map(|&value| [value, 0.0]).collect();
    let mut uses = frequencies(&table.values, points.len());
    uses.iter_mut().zip(&table.numerators).for_each(|(uses, value)| *uses *= value.max(1e-3));
    let clusters = Clusters::of(&points, &uses, codes);
    table.values.par_iter_mut().for_each(|value| *value = clusters.of_point[*value as usize]);
    table.numerators = clusters.means.iter().map(|mean| mean[0]).collect();
}

fn quantize_weights(table: &mut Table, codes: usize) {
    if table.weights.len() <= codes {
        return;
    }
    let points: Vec<[f64; 2]> = table.weights.iter().map(|weight| [weight.scale, weight.backoff]).collect();
    let mut uses = frequencies(&table.contexts, points.len());
    uses.iter_mut().zip(&table.weights).for_each(|(uses, weight)| *uses /= weight.scale.max(1e-12));
    let clusters = Clusters::of(&points, &uses, codes);
    table.contexts.par_iter_mut().for_each(|context| *context = clusters.of_point[*context as usize]);
    table.weights = clusters.means.iter().map(|&[scale, backoff]| Weight { scale, backoff }).collect();
}

fn frequencies(codes: &[u32], len: usize) -> Vec<f64> {
    let mut frequencies = vec![0.0; len];
    for &code in codes {
        frequencies[code as usize] += 1.0;
    }
    frequencies
}

/// Sets the scale of each context so that its words and its backoff add up to one. Scales and backoffs are rounded to
/// 1/256 of a nat first, finer than any cluster, so that they stay few.
fn rescale(parents: &mut Table, children: &Table) {
    let round = |x: f64| if x > 0.0 { (x.ln() * 256.0).round() as i64 } else { i64::MIN };
    let spread = |x: i64| if x == i64::MIN { 0.0 } else { (x as f64 / 256.0).exp() };
    let pairs: Vec<(i64, i64)> = (0..parents.contexts.len())
        .into_par_iter()
        .map(|node| {
            let weight = parents.weights[parents.contexts[node] as usize];
            let range = parents.starts[node] as usize..parents.starts[node + 1] as usize;
            let mass: f64 =
                children.values[range].iter().map(|&value| children.numerators[value as usize]).sum();
            let scale = if mass > 0.0 { (1.0 - weight.backoff).max(0.0) / mass } else { weight.scale };
            (round(scale), round(weight.backoff))
        })
        .collect();
    let mut distinct = pairs.clone();
    distinct.par_sort_unstable();
    distinct.dedup();
    parents.contexts.par_iter_mut().zip(&pairs).for_each(|(context, pair)| {
        *context = distinct.partition_point(|other| other < pair) as u32;
    });
    let weight = |&(scale, backoff): &(i64, i64)| Weight { scale: spread(scale), backoff: spread(backoff) };
    parents.weights = distinct.iter().map(weight).collect();
}

/// Points put together.
struct Clusters {
    means: Vec<[f64; 2]>,
    of_point: Vec<u32>,
}

impl Clusters {
    /// At most `count` clusters of non-negative `points` that are used so often.
    fn of(points: &[[f64; 2]], uses: &[f64], count: usize) -> Self {
        // Zero is far from everything and stays a cluster of its own.
        let log = |x: f64| x.max(1e-300).ln();
        let places: Vec<[f64; 2]> = points.iter().map(|point| point.map(log)).collect();
        // The most used points to begin with; the earlier of two that are used equally.
        let mut by_use: Vec<usize> = (0..points.len()).collect();
        by_use.sort_by(|&a, &b| uses[b].total_cmp(&uses[a]));
        let mut centres: Vec<[f64; 2]> = by_use[..count].iter().map(|&point| places[point]).collect();
        let mut of_point = vec![0; points.len()];
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
            let mut sums = vec![[0.0; 3]; count];
            for ((place, &cluster), &uses) in places.iter().zip(&of_point).zip(uses) {
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
        Self { means: centres.into_iter().map(|centre| centre.map(spread)).collect(), of_point }
    }
}
