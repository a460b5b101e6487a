//! From counts to the tables of a model, with any smoother.

use rayon::prelude::*;

use super::statistics::Statistics;
use super::{
    ContextStats, ContextWeights, Counts, Estimate, NgramConfig, OrderReport, Report, Smoother,
    UnpackedLevel, entropy_pruning,
};

/// The number of predictable words.
pub(super) fn predictable(counts: &Counts, config: &NgramConfig) -> f64 {
    let closed = config.closed && config.unk.is_some();
    f64::from(counts.vocab_size - u32::from(counts.bos.is_some()) - u32::from(closed)).max(1.0)
}

/// Turns counts into a model, reusing their memory.
pub(super) fn smooth(
    mut counts: Counts,
    mut statistics: Statistics,
    config: &NgramConfig,
    smoother: &dyn Smoother,
    report: &mut Report,
) -> Estimate {
    let order = counts.order();
    let mut keep: Vec<Option<Vec<bool>>> = (1..=order).map(|len| survivors(&counts, config, len)).collect();
    let vocab = predictable(&counts, config);
    // A word without an own probability stays in the vocabulary.
    let mut tables = vec![unigrams(&counts, keep[0].take(), &statistics, config, smoother)];
    for len in 1..order {
        let used = statistics.take(&mut counts, len);
        let weight = |context: &ContextStats| match context.total {
            0 => ContextWeights { scale: 0.0, backoff: smoother.unseen_context_factor() },
            _ => smoother.weight(len, context, vocab),
        };
        let parents = &counts.levels[len - 1];
        let (weight_ids, distinct_weights) =
            distinct_weights(&parents.child_offsets, &used, keep[len].as_deref(), weight);
        let (value_ids, distinct_values) = distinct_values(used, |count| smoother.value(len, count));
        tables[len - 1].weight_ids = weight_ids;
        tables[len - 1].distinct_weights = distinct_weights;
        tables.push(UnpackedLevel { value_ids, distinct_values, ..UnpackedLevel::default() });
    }
    let mut suffix_links = Vec::with_capacity(order);
    for (table, level) in tables.iter_mut().zip(counts.levels) {
        table.words = level.words;
        table.child_offsets = level.child_offsets;
        suffix_links.push(level.suffix_links);
    }
    let mut estimate = Estimate {
        vocab_size: counts.vocab_size,
        bos: counts.bos,
        scheme: smoother.scheme(),
        unseen_context_factor: smoother.unseen_context_factor(),
        tables,
        suffix_links,
    };
    if smoother.needs_lower_mass() {
        finish(&mut estimate, smoother);
    }
    if keep.iter().any(Option::is_some) {
        estimate.retain(&keep);
    }
    if config.prune_entropy > 0.0 {
        entropy_pruning::prune(&mut estimate, config.prune_entropy);
    }
    for (len, order) in report.orders.iter_mut().enumerate() {
        order.grams = match len {
            0 => order.counted,
            _ => estimate.tables[len].value_ids.len() as u64,
        };
    }
    estimate
}

/// Gives every context the weights that follow from probabilities of the order below.
fn finish(estimate: &mut Estimate, smoother: &dyn Smoother) {
    let mut lower = estimate.level(0, &[]).all();
    for len in 1..estimate.tables.len() {
        let (table, parents) = (&estimate.tables[len], &estimate.tables[len - 1]);
        let suffixes = &estimate.suffix_links[len];
        let weights: Vec<ContextWeights> = (0..parents.child_offsets.len() - 1)
            .into_par_iter()
            .map(|node| {
                let children = parents.children(node);
                if children.is_empty() {
                    return ContextWeights::NONE;
                }
                let scale = parents.distinct_weights[parents.weight_ids[node] as usize].scale;
                let values = &table.value_ids[children.clone()];
                let mass = values.iter().map(|&value| table.distinct_values[value as usize]).sum();
                let seen_lower_mass = children.map(|gram| lower[suffixes[gram] as usize]).sum();
                smoother.finish(scale, mass, seen_lower_mass)
            })
            .collect();
        let parents = &mut estimate.tables[len - 1];
        parents.weight_ids = (0..weights.len() as u32).collect();
        parents.distinct_weights = weights;
        lower = estimate.level(len, &lower).all();
    }
}

/// The n-grams of order `len` that are kept, if any are pruned.
fn survivors(counts: &Counts, config: &NgramConfig, len: usize) -> Option<Vec<bool>> {
    let threshold = config.prune_threshold(len);
    (threshold > 0).then(|| counts.levels[len - 1].counts.iter().map(|&count| count > threshold).collect())
}

/// The table of single words, whose values are probabilities.
pub(super) fn unigrams(
    counts: &Counts,
    keep: Option<Vec<bool>>,
    statistics: &Statistics,
    config: &NgramConfig,
    smoother: &dyn Smoother,
) -> UnpackedLevel {
    let mut used = statistics.adjusted_counts(counts, 0).to_vec();
    let context = ContextStats::new(&used, keep.as_deref());
    if let Some(keep) = keep {
        used.iter_mut().zip(keep).filter(|(_, kept)| !kept).for_each(|(count, _)| *count = 0);
    }
    let vocab = predictable(counts, config);
    let ContextWeights { scale, backoff: backoff_mass } = match context.total {
        0 => ContextWeights::NONE,
        _ => smoother.weight(0, &context, vocab),
    };
    let value = |count: u32| smoother.value(0, count) * scale;
    let shared = config.interpolate_unigrams || config.unk.is_none() || config.closed;
    let each = if shared { backoff_mass / vocab } else { 0.0 };
    let (mut value_ids, mut distinct_values) = distinct_values(used, |count| value(count) + each);
    // <s> and <unk>.
    let mut special = |word: Option<u32>, probability: f64| {
        if let Some(word) = word {
            value_ids[word as usize] = distinct_values.len() as u32;
            distinct_values.push(probability);
        }
    };
    special(counts.bos, 0.0);
    if config.closed {
        special(config.unk, 0.0);
    } else if !shared {
        let own = config.unk.map_or(0.0, |unk| value(statistics.adjusted_counts(counts, 0)[unk as usize]));
        special(config.unk, own + backoff_mass);
    }
    UnpackedLevel { value_ids, distinct_values, ..UnpackedLevel::default() }
}

/// For each count its index among the distinct values, and these values.
fn distinct_values(mut used: Vec<u32>, value: impl Fn(u32) -> f64) -> (Vec<u32>, Vec<f64>) {
    // Nearly all counts are small and use a table; the others are looked up.
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

/// The index of each context's weights among the distinct weights, and those.
fn distinct_weights(
    child_offsets: &[u32],
    used: &[u32],
    keep: Option<&[bool]>,
    weight: impl Fn(&ContextStats) -> ContextWeights + Sync,
) -> (Vec<u32>, Vec<ContextWeights>) {
    #[expect(
        clippy::disallowed_types,
        reason = "looked up; what is iterated is a list in order of appearance"
    )]
    type Known = std::collections::HashMap<ContextStats, u32, foldhash::fast::FixedState>;
    const SHARE: usize = 1 << 16;
    let contexts = child_offsets.len().saturating_sub(1);
    // Each share numbers its distinct contexts; then the numbers are mapped to one list.
    let parts: Vec<(Vec<u32>, Vec<ContextStats>)> = (0..contexts.div_ceil(SHARE))
        .into_par_iter()
        .map(|share| {
            let range = share * SHARE..contexts.min((share + 1) * SHARE);
            let (mut known, mut list) = (Known::default(), Vec::new());
            let mut look_up = |counts: &[u32], keep: Option<&[bool]>| {
                let context = ContextStats::new(counts, keep);
                *known.entry(context).or_insert_with(|| {
                    list.push(context);
                    list.len() as u32 - 1
                })
            };
            // Most contexts are followed by one word only, a few times.
            let mut one = [None; 64];
            let number = |node: usize| {
                let children = child_offsets[node] as usize..child_offsets[node + 1] as usize;
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
    let mut all: Vec<ContextStats> = parts.iter().flat_map(|(_, list)| list.iter().copied()).collect();
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

/// The number of n-grams with counts of 1, 2, 3, 4.
pub(super) fn first_counts(&[one, two, three, four, ..]: &[u64; 8]) -> [u64; 4] {
    [one, two, three, four]
}

/// The statistics of every order before smoothing.
pub(super) fn report(counts: &Counts, statistics: &Statistics) -> Vec<OrderReport> {
    (0..counts.order())
        .map(|len| OrderReport {
            counted: match len {
                0 => counts.levels[0].counts.iter().filter(|&&count| count > 0).count() as u64,
                _ => counts.levels[len].counts.len() as u64,
            },
            count_of_counts: first_counts(&statistics.count_of_counts[len]),
            ..OrderReport::default()
        })
        .collect()
}
