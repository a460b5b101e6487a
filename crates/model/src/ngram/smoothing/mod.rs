//! From counts to probabilities: each smoother says what a count is worth and what a context leaves to the lower order.

mod discount;
mod entropy;
mod estimate;
mod katz;
mod statistics;

pub(super) use discount::discounts;
pub use estimate::{Estimate, Probabilities};
pub(super) use statistics::{Context, Statistics};

use rayon::prelude::*;

use super::config::{NgramConfig, OrderReport, Report, Smoothing};
use super::counts::Counts;
use super::header::{Combine, Weight};
use super::trie::Table;

/// What is subtracted from counts of 1, 2, and 3 or more.
pub type Discounts = [f64; 3];

/// The numbers a smoother needs besides counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// What add-k adds.
    pub k: f64,
    /// Discounts an order.
    pub discounts: Vec<Discounts>,
    /// Jelinek-Mercer: λ an order and bucket of the context's count.
    pub lambdas: Vec<Vec<f64>>,
}

/// The discount of a count.
pub(super) fn discount(discounts: &Discounts, count: u32) -> f64 {
    match count {
        0 => 0.0,
        count => discounts[count.min(3) as usize - 1],
    }
}

/// Which λ a context with this total has: the logarithm of its count.
pub(super) fn bucket(total: u64) -> usize {
    (total.max(1).ilog2() as usize).min(BUCKETS - 1)
}

/// How many λ an order has.
pub(super) const BUCKETS: usize = 24;

/// How many words share what unigrams leave.
fn predictable(counts: &Counts, config: &NgramConfig) -> f64 {
    let closed = config.closed && config.unk.is_some();
    f64::from(counts.vocab_size - u32::from(counts.bos.is_some()) - u32::from(closed)).max(1.0)
}

/// Turns counts into a model, whose tables take the places of the counts.
pub(super) fn smooth(
    mut counts: Counts,
    mut statistics: Statistics,
    config: &NgramConfig,
    parameters: &Parameters,
    report: &mut Report,
) -> Estimate {
    let order = counts.order();
    let keep: Vec<Option<Vec<bool>>> = (1..=order).map(|len| survivors(&counts, config, len)).collect();
    let mut tables = vec![unigrams(&counts, &statistics, config, parameters)];
    let smoothing = config.smoothing;
    for len in 1..order {
        let used = statistics.take(&mut counts, len);
        let size = predictable(&counts, config);
        let numerator = |count: u32| own(smoothing, parameters, len, count);
        let weight = |context: &Context| weight(smoothing, parameters, size, len, context);
        let parents = &counts.levels[len - 1];
        let (contexts, weights) = weights(&parents.starts, &used, keep[len].as_deref(), weight);
        let (values, numerators) = values(used, numerator);
        tables[len - 1].contexts = contexts;
        tables[len - 1].weights = weights;
        tables.push(Table { values, numerators, ..Table::default() });
    }
    let mut suffixes = Vec::with_capacity(order);
    for (table, level) in tables.iter_mut().zip(counts.levels) {
        table.words = level.words;
        table.starts = level.starts;
        suffixes.push(level.suffixes);
    }
    let mut estimate = Estimate {
        vocab_size: counts.vocab_size,
        bos: counts.bos,
        combine: match smoothing {
            Smoothing::AddK => Combine::Longest,
            Smoothing::Katz | Smoothing::StupidBackoff => Combine::BackOff,
            _ => Combine::Interpolate,
        },
        missing: smoothing.missing(),
        tables,
        suffixes,
    };
    if smoothing == Smoothing::Katz {
        katz::discount(&mut estimate, report);
    }
    if keep.iter().any(Option::is_some) {
        estimate.retain(&keep);
    }
    if config.prune_entropy > 0.0 {
        entropy::prune(&mut estimate, config.prune_entropy);
    }
    for (len, order) in report.orders.iter_mut().enumerate() {
        order.grams = match len {
            0 => order.counted,
            _ => estimate.tables[len].values.len() as u64,
        };
    }
    estimate
}

/// What a count of order `len` + 1 is worth beside others.
fn own(smoothing: Smoothing, parameters: &Parameters, len: usize, count: u32) -> f64 {
    if smoothing.discounts() {
        (f64::from(count) - discount(&parameters.discounts[len], count)).max(0.0)
    } else {
        f64::from(count)
    }
}

/// What a context of `len` words multiplies counts by, and what it leaves to the lower order, which below single words is the
/// uniform distribution over `size` words.
fn weight(smoothing: Smoothing, parameters: &Parameters, size: f64, len: usize, context: &Context) -> Weight {
    let total = context.total as f64;
    let leaving = |left: f64, all: f64| Weight { scale: 1.0 / all, backoff: left / all };
    match smoothing {
        Smoothing::StupidBackoff if context.total == 0 && len > 0 => Weight { scale: 0.0, backoff: STUPID },
        _ if context.total == 0 => Weight::NONE,
        Smoothing::Mle => leaving(0.0, total),
        Smoothing::AddK => leaving(parameters.k * size, total + parameters.k * size),
        Smoothing::JelinekMercer => {
            let lambda = parameters.lambdas[len][bucket(context.total)];
            Weight { scale: lambda / total, backoff: 1.0 - lambda }
        }
        Smoothing::WittenBell => leaving(context.types() as f64, total + context.types() as f64),
        // Katz leaves unigrams as they are, which needs something for words that were never seen: Witten-Bell's share.
        Smoothing::Katz if len == 0 => leaving(context.types() as f64, total + context.types() as f64),
        Smoothing::Absolute | Smoothing::KneserNey | Smoothing::ModifiedKneserNey => {
            leaving(context.left(&parameters.discounts[len]), total)
        }
        Smoothing::StupidBackoff | Smoothing::Given if len == 0 => leaving(0.0, total),
        Smoothing::StupidBackoff | Smoothing::Katz | Smoothing::Given => {
            Weight { scale: 1.0 / total, backoff: STUPID }
        }
    }
}

/// Brants et al.'s factor.
const STUPID: f64 = 0.4;

impl Smoothing {
    /// What the shorter context is multiplied by where one was never seen.
    pub fn missing(self) -> f64 {
        if self == Self::StupidBackoff { STUPID } else { 1.0 }
    }
}

/// Which grams of order `len` are kept, if any go.
fn survivors(counts: &Counts, config: &NgramConfig, len: usize) -> Option<Vec<bool>> {
    let threshold = config.prune_threshold(len);
    (threshold > 0).then(|| counts.levels[len - 1].counts.iter().map(|&count| count > threshold).collect())
}

/// The table of single words, which holds probabilities.
fn unigrams(
    counts: &Counts,
    statistics: &Statistics,
    config: &NgramConfig,
    parameters: &Parameters,
) -> Table {
    let used = statistics.used(counts, 0);
    let context = Context::of(used, None);
    let size = predictable(counts, config);
    // What a count is worth, and what is shared out.
    let Weight { scale, backoff: left } = weight(config.smoothing, parameters, size, 0, &context);
    let value = |count: u32| own(config.smoothing, parameters, 0, count) * scale;
    let shared = config.interpolate_unigrams || config.unk.is_none() || config.closed;
    let each = if shared { left / size } else { 0.0 };
    let (mut values, mut numerators) = values(used.to_vec(), |count| value(count) + each);
    // Words that are no ordinary ones.
    let mut special = |word: Option<u32>, probability: f64| {
        if let Some(word) = word {
            values[word as usize] = numerators.len() as u32;
            numerators.push(probability);
        }
    };
    special(counts.bos, 0.0);
    if config.closed {
        special(config.unk, 0.0);
    } else if !shared {
        let own = config.unk.map_or(0.0, |unk| value(used[unk as usize]));
        special(config.unk, own + left);
    }
    Table { values, numerators, ..Table::default() }
}

/// Which of the different counts each gram has, in place of the count, and those.
fn values(mut used: Vec<u32>, value: impl Fn(u32) -> f64) -> (Vec<u32>, Vec<f64>) {
    // Nearly all counts are small: those have a table, the others are looked up.
    const SMALL: usize = 1 << 16;
    type Seen = (Vec<bool>, std::collections::BTreeSet<u32>);
    let none = || -> Seen { (vec![false; SMALL], [].into()) };
    let look = |mut seen: Seen, counts: &[u32]| {
        for &count in counts {
            match seen.0.get_mut(count as usize) {
                Some(seen) => *seen = true,
                None => drop(seen.1.insert(count)),
            }
        }
        seen
    };
    let either = |mut a: Seen, b: Seen| {
        a.0.iter_mut().zip(b.0).for_each(|(a, b)| *a |= b);
        a.1.extend(b.1);
        a
    };
    let (seen, large) = used.par_chunks(1 << 20).fold(none, look).reduce(none, either);
    let mut different: Vec<u32> = (0..SMALL as u32).filter(|&count| seen[count as usize]).collect();
    let mut index = vec![0_u32; SMALL];
    for (i, &count) in different.iter().enumerate() {
        index[count as usize] = i as u32;
    }
    different.extend(large);
    let place = |&count: &u32| match index.get(count as usize) {
        Some(&index) => index,
        None => different.binary_search(&count).unwrap_or(0) as u32,
    };
    used.par_iter_mut().for_each(|count| *count = place(count));
    (used, different.iter().map(|&count| value(count)).collect())
}

/// The different weights of contexts, and which one each has.
fn weights(
    starts: &[u32],
    used: &[u32],
    keep: Option<&[bool]>,
    weight: impl Fn(&Context) -> Weight + Sync,
) -> (Vec<u32>, Vec<Weight>) {
    #[expect(
        clippy::disallowed_types,
        reason = "looked up; what is iterated is a list in order of appearance"
    )]
    type Known = std::collections::HashMap<Context, u32, foldhash::fast::FixedState>;
    const SHARE: usize = 1 << 16;
    let contexts = starts.len().saturating_sub(1);
    // Each share numbers the contexts that differ; then the numbers become those of one list.
    let parts: Vec<(Vec<u32>, Vec<Context>)> = (0..contexts.div_ceil(SHARE))
        .into_par_iter()
        .map(|share| {
            let range = share * SHARE..contexts.min((share + 1) * SHARE);
            let (mut known, mut list) = (Known::default(), Vec::new());
            let mut look_up = |counts: &[u32], keep: Option<&[bool]>| {
                let context = Context::of(counts, keep);
                *known.entry(context).or_insert_with(|| {
                    list.push(context);
                    list.len() as u32 - 1
                })
            };
            // Most contexts are followed by one word, a few times.
            let mut one = [None; 64];
            let number = |node: usize| {
                let children = starts[node] as usize..starts[node + 1] as usize;
                let counts = &used[children.clone()];
                match (counts, keep) {
                    (&[count], None) if (count as usize) < one.len() => {
                        *one[count as usize].get_or_insert_with(|| look_up(counts, None))
                    }
                    _ => look_up(counts, keep.map(|keep| &keep[children])),
                }
            };
            (range.map(number).collect(), list)
        })
        .collect();
    let mut all: Vec<Context> = parts.iter().flat_map(|(_, list)| list.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    let mut numbers = vec![0; contexts];
    numbers.par_chunks_mut(SHARE).zip(parts).for_each(|(numbers, (its, list))| {
        let global: Vec<u32> =
            list.iter().map(|context| all.binary_search(context).unwrap_or(0) as u32).collect();
        for (number, its) in numbers.iter_mut().zip(its) {
            *number = global[its as usize];
        }
    });
    (numbers, all.iter().map(weight).collect())
}

/// What is known of every order before smoothing.
pub(super) fn report(counts: &Counts, statistics: &Statistics) -> Vec<OrderReport> {
    (0..counts.order())
        .map(|len| OrderReport {
            counted: match len {
                0 => counts.levels[0].counts.iter().filter(|&&count| count > 0).count() as u64,
                _ => counts.levels[len].counts.len() as u64,
            },
            count_of_counts: statistics.count_of_counts[len],
            ..OrderReport::default()
        })
        .collect()
}
