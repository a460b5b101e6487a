//! Static mixtures: a mixture of n-gram models as one model that backs off (SRILM's).
//!
//! The exact mixture q(w | h) = Σ λ_m q_m(w | h) needs every model for every token. The static one
//! stores it for the n-grams of all models, and backs off elsewhere:
//!
//! ```text
//! q(w | h) = Σ λ_m q_m(w | h)         hw an n-gram of any model
//! q(w | h) = β(h) · q(w | h')         else, h' being h without its first word
//! β(h) = (1 − Σ_seen q(w | h)) / (1 − Σ_seen q(w | h'))
//! ```
//!
//! Every context sums to one. The two differ only where hw is in no model: in the exact mixture
//! each model backs off with its own weight, here all with one, which is closest to the models that
//! have h as a context. A model that does not back off (add-k) differs most.

use rayon::prelude::*;

use super::{
    BackoffScheme, ContextWeights, MAX_ORDER, NgramConfig, NgramModel, OrderReport, Report, Smoothing, State,
    Trie, UnpackedLevel, View,
};
use crate::{Error, LanguageModel, Result, VocabMap};

/// One model of a mixture.
///
/// ```
/// # use surprisal_model::{LanguageModel, VocabMap, ngram::{MixtureComponent, NgramConfig, NgramModel, static_mixture}};
/// # fn main() -> surprisal_model::Result<()> {
/// let map = VocabMap::new(vec![0, 1], 2, None)?; // the words have the same ids in both
/// let [a, b] = [[0, 1, 0, 1], [0, 0, 0, 1]].map(|text| NgramModel::estimate(&text, 2, &NgramConfig::default()));
/// let (a, b) = (a?, b?);
/// let part = |model| MixtureComponent { model, weight: 0.5, map: &map };
/// let mixed = static_mixture(&[part(&a), part(&b)], None)?;
/// assert!((mixed.log_probs(&[0, 1], 1)?[0] - (2.0 / 3.0f64).ln()).abs() < 1e-6); // mean of 1 and 1/3
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct MixtureComponent<'a> {
    /// The model.
    pub model: &'a NgramModel,
    /// λ, from 0; the weights of a mixture are divided by their sum.
    pub weight: f64,
    /// The ids of its words in the mixture.
    pub map: &'a VocabMap,
}

/// The static mixture of `parts`, whose maps lead to one vocabulary; `unk` is its `<unk>`.
///
/// A word that a model does not have has probability zero under it, and is `<unk>` as context. A
/// part of weight 0 adds no n-grams.
///
/// # Errors
/// [`Error::Config`]: no parts, invalid weights, maps to different vocabularies, scores that are
/// not a distribution, lines mixed with streams, 2³² or more n-grams of an order.
pub fn static_mixture(parts: &[MixtureComponent<'_>], unk: Option<u32>) -> Result<NgramModel> {
    let (vocab_size, bos) = check(parts)?;
    let sum: f64 = parts.iter().map(|part| part.weight).sum();
    let parts: Vec<MixtureComponent<'_>> = parts
        .iter()
        .filter(|part| part.weight > 0.0)
        .map(|part| MixtureComponent { weight: part.weight / sum, ..*part })
        .collect();
    let mut levels = union(&parts, vocab_size)?;
    compute_probabilities(&parts, bos, &mut levels);
    let mut report = Report::default();
    let unigrams: f64 = levels[0].probabilities.iter().sum();
    // Unigrams rounded in a file, as in ARPA's, sum to one only approximately.
    if unigrams > 0.0 && (unigrams - 1.0).abs() > 1e-10 {
        levels[0].probabilities.iter_mut().for_each(|probability| *probability /= unigrams);
        if (unigrams - 1.0).abs() > 1e-3 {
            let notice = format!("the models' unigrams sum to {unigrams:.4}; those of the mixture to 1");
            report.notices.push(notice);
        }
    }
    let mut complete = true;
    for len in 1..levels.len() {
        complete &= compute_backoffs(&mut levels, len);
    }
    report.orders = levels
        .iter()
        .map(|level| OrderReport { grams: level.probabilities.len() as u64, ..OrderReport::default() })
        .collect();
    let order = levels.len();
    let mut tables: Vec<UnpackedLevel> = levels.into_iter().map(MergedLevel::table).collect();
    tables.iter_mut().for_each(UnpackedLevel::compact);
    let trie = Trie::pack(vocab_size as u32, bos, BackoffScheme::BackOff, 1.0, complete, tables)?;
    let config = NgramConfig { bos, unk, ..NgramConfig::new(order, Smoothing::Given) };
    Ok(NgramModel::new(config, report, trie))
}

/// The peak memory of [`static_mixture`] besides the parts, in bytes: that of parts that share no
/// n-grams.
pub fn static_mixture_memory(parts: &[MixtureComponent<'_>]) -> u64 {
    let grams = |part: &MixtureComponent<'_>| -> u64 {
        part.model.trie().header().levels.iter().map(|level| u64::from(level.grams)).sum()
    };
    let words = parts.iter().map(|part| part.map.vocab_size() as u64).max().unwrap_or(0);
    // Per n-gram: word, offset, probability, back-off and link; its value and weights, both sorted
    // to remove duplicates; and its record in the file.
    80 * (words + parts.iter().map(grams).sum::<u64>())
}

/// The size of the vocabulary, and `<s>`.
fn check(parts: &[MixtureComponent<'_>]) -> Result<(usize, Option<u32>)> {
    let wrong = |message: String| Err(Error::Config(message));
    let Some(first) = parts.first() else { return wrong("a mixture needs a model".into()) };
    let bos = |part: &MixtureComponent<'_>| {
        let own = part.model.trie().header().bos;
        own.and_then(|bos| part.map.ids().get(bos as usize).copied())
    };
    for part in parts {
        let (size, named) = (part.model.vocab_size(), part.map.ids().len());
        if size != named || part.map.vocab_size() != first.map.vocab_size() {
            return wrong(format!("a map of {named} words for a model of {size}, or to another vocabulary"));
        }
        if !part.model.is_distribution() {
            return wrong("scores that do not sum to one, such as stupid backoff's, cannot be mixed".into());
        }
        if bos(part) != bos(first) {
            return wrong("models of lines and of a stream cannot be mixed".into());
        }
    }
    let sum: f64 = parts.iter().map(|part| part.weight).sum();
    if !(parts.iter().all(|part| part.weight >= 0.0) && sum > 0.0 && sum.is_finite()) {
        let weights: Vec<f64> = parts.iter().map(|part| part.weight).collect();
        return wrong(format!("mixture weights must be from 0 and not all 0, not {weights:?}"));
    }
    Ok((first.map.vocab_size(), bos(first)))
}

/// The n-grams of one order.
#[derive(Default)]
struct MergedLevel {
    /// The last word of each n-gram; for order 1, n-gram i is word i.
    words: Vec<u32>,
    /// Where the continuations of each begin in the next order; empty at the highest.
    child_offsets: Vec<u32>,
    probabilities: Vec<f64>,
    /// β of each as a context, once it is known.
    backoffs: Vec<f64>,
    /// The longest proper suffix of each that is an n-gram, once it is known.
    suffix_links: Vec<Suffix>,
}

/// An n-gram of `len` words by its index; none where `len` is 0.
#[derive(Clone, Copy, Default)]
struct Suffix {
    len: u8,
    index: u32,
}

impl MergedLevel {
    fn children(&self, node: usize) -> std::ops::Range<usize> {
        self.child_offsets[node] as usize..self.child_offsets[node + 1] as usize
    }

    fn table(self) -> UnpackedLevel {
        // Every n-gram has its own value here; duplicates are removed later.
        let own = |len: usize| (0..len as u32).collect();
        UnpackedLevel {
            value_ids: own(self.probabilities.len()),
            distinct_values: self.probabilities,
            weight_ids: own(self.backoffs.len()),
            distinct_weights: self
                .backoffs
                .into_iter()
                .map(|backoff| ContextWeights { scale: 1.0, backoff })
                .collect(),
            words: self.words,
            child_offsets: self.child_offsets,
        }
    }
}

/// The n-grams of all parts, in order.
fn union(parts: &[MixtureComponent<'_>], vocab_size: usize) -> Result<Vec<MergedLevel>> {
    let tables: Result<Vec<Vec<UnpackedLevel>>> =
        parts.iter().map(|part| part.model.trie().tables()).collect();
    let tables = tables?;
    let order = tables.iter().map(Vec::len).max().unwrap_or(1);
    let mut levels = vec![MergedLevel::default()];
    let mut contexts = vocab_size;
    // The index in the mixture of each part's n-grams of the order before.
    let mut numbers: Vec<Vec<u32>> = parts.iter().map(|part| part.map.ids().to_vec()).collect();
    for len in 1..order {
        // Key: the index of the context, and the word.
        let keys: Vec<Vec<u64>> = parts
            .iter()
            .zip(&tables)
            .zip(&numbers)
            .map(|((part, tables), numbers)| {
                let (Some(lower_table), Some(table)) = (tables.get(len - 1), tables.get(len)) else {
                    return Vec::new();
                };
                let grams = |(node, &context): (usize, &u32)| {
                    let words = &table.words[lower_table.children(node)];
                    let key = move |&word: &u32| {
                        u64::from(context) << 32 | u64::from(part.map.ids()[word as usize])
                    };
                    words.iter().map(key)
                };
                numbers.par_iter().enumerate().flat_map_iter(grams).collect()
            })
            .collect();
        let mut all = keys.concat();
        all.par_sort_unstable();
        all.dedup();
        if all.len() >= u32::MAX as usize {
            return Err(Error::Config(format!("{} n-grams of one order are too many", all.len())));
        }
        numbers = keys
            .into_par_iter()
            .map(|keys| keys.par_iter().map(|key| all.binary_search(key).unwrap_or(0) as u32).collect())
            .collect();
        let mut starts = vec![0_u32; contexts + 1];
        for key in &all {
            starts[(key >> 32) as usize + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        contexts = all.len();
        levels[len - 1].child_offsets = starts;
        levels.push(MergedLevel {
            words: all.into_iter().map(|key| key as u32).collect(),
            ..MergedLevel::default()
        });
    }
    Ok(levels)
}

/// Computes the mixture's probability of every n-gram.
fn compute_probabilities(parts: &[MixtureComponent<'_>], bos: Option<u32>, levels: &mut [MergedLevel]) {
    const SHARE: usize = 64;
    let vocab_size = parts.first().map_or(0, |part| part.map.vocab_size());
    let parts: Vec<(&MixtureComponent<'_>, View<'_>)> =
        parts.iter().map(|part| (part, part.model.trie().view())).collect();
    let grams = &*levels;
    let shares = (0..vocab_size.div_ceil(SHARE)).into_par_iter().with_max_len(1).map(|share| {
        let mut walk = TrieTraversal {
            parts: &parts,
            bos,
            levels: grams,
            states: vec![State::EMPTY; (grams.len() + 1) * parts.len()],
            probabilities: vec![Vec::new(); grams.len()],
        };
        for word in share * SHARE..vocab_size.min((share + 1) * SHARE) {
            walk.gram(0, word, word as u32);
        }
        walk.probabilities
    });
    let shares: Vec<Vec<Vec<f64>>> = shares.collect();
    for (len, level) in levels.iter_mut().enumerate() {
        level.probabilities = shares.iter().flat_map(|answers| &answers[len]).copied().collect();
    }
}

/// A depth-first traversal of the n-grams that begin with some words.
struct TrieTraversal<'a> {
    parts: &'a [(&'a MixtureComponent<'a>, View<'a>)],
    bos: Option<u32>,
    levels: &'a [MergedLevel],
    /// The state of each part after 0, 1, 2, … words of the n-gram.
    states: Vec<State>,
    probabilities: Vec<Vec<f64>>,
}

impl TrieTraversal<'_> {
    /// Visits n-gram `index` of `len` + 1 words and all that begin with it.
    fn gram(&mut self, len: usize, index: usize, word: u32) {
        let parts = self.parts.len();
        let mut mixed = 0.0;
        for (i, (part, view)) in self.parts.iter().enumerate() {
            let Some((own, lacking)) = part.map.own(word) else { continue };
            let mut state = self.states[len * parts + i];
            let probability = view.advance(&mut state, own);
            self.states[(len + 1) * parts + i] = state;
            if !lacking && Some(word) != self.bos {
                mixed += part.weight * probability;
            }
        }
        self.probabilities[len].push(mixed);
        if let Some(higher) = self.levels.get(len + 1) {
            for gram in self.levels[len].children(index) {
                self.gram(len + 1, gram, higher.words[gram]);
            }
        }
    }
}

/// q(`word` | the context that ends with `suffix`), for a suffix whose continuations are complete
/// in `levels`, and the longest n-gram that the context and the word end with.
fn lower(levels: &[MergedLevel], mut suffix: Suffix, word: u32) -> (Suffix, f64) {
    let mut factor = 1.0;
    while suffix.len > 0 {
        let (len, node) = (suffix.len as usize, suffix.index as usize);
        let (level, higher) = (&levels[len - 1], &levels[len]);
        let children = level.children(node);
        if let Ok(at) = higher.words[children.clone()].binary_search(&word) {
            let gram = children.start + at;
            return (Suffix { len: suffix.len + 1, index: gram as u32 }, factor * higher.probabilities[gram]);
        }
        factor *= level.backoffs[node];
        // A single word has no suffix.
        suffix = level.suffix_links.get(node).copied().unwrap_or_default();
    }
    (Suffix { len: 1, index: word }, factor * levels[0].probabilities[word as usize])
}

/// Below this, 1 − Σ q has too few digits for a ratio.
const MIN_REST: f64 = 1e-6;
/// Rounding errors of 1 − Σ q.
const ROUNDING_ERROR: f64 = 1e-14;

/// Computes the back-off weights of all contexts of `len` words and the suffix links of their
/// continuations; whether all links are to n-grams one word shorter.
fn compute_backoffs(levels: &mut [MergedLevel], len: usize) -> bool {
    const SHARE: usize = 1 << 10;
    let (lower_levels, rest) = levels.split_at_mut(len);
    let (contexts, grams) = (&lower_levels[len - 1], &mut rest[0]);
    let nodes = contexts.child_offsets.len() - 1;
    let shares = (0..nodes.div_ceil(SHARE)).into_par_iter().map(|share| {
        let (mut suffixes, mut normalizers) = (Vec::new(), Vec::new());
        for node in share * SHARE..nodes.min((share + 1) * SHARE) {
            let children = contexts.children(node);
            let suffix = contexts.suffix_links.get(node).copied().unwrap_or_default();
            let (mut seen, mut shorter) = (CompensatedSum::default(), CompensatedSum::default());
            for gram in children.clone() {
                let (found, probability) = lower(lower_levels, suffix, grams.words[gram]);
                suffixes.push(found);
                seen.add(grams.probabilities[gram]);
                shorter.add(probability);
            }
            let words = &grams.words[children];
            normalizers.push(normalizer(seen.total(), shorter.total(), || {
                let mut unseen = CompensatedSum::default();
                for word in 0..lower_levels[0].probabilities.len() as u32 {
                    if words.binary_search(&word).is_err() {
                        unseen.add(lower(lower_levels, suffix, word).1);
                    }
                }
                unseen.total()
            }));
        }
        (suffixes, normalizers)
    });
    let (suffixes, normalizers): (Vec<Vec<Suffix>>, Vec<Vec<ContextWeights>>) = shares.unzip();
    grams.suffix_links = suffixes.concat();
    let normalizers: Vec<ContextWeights> = normalizers.into_iter().flatten().collect();
    for (node, normalizer) in normalizers.iter().enumerate() {
        if normalizer.scale != 1.0 {
            grams.probabilities[contexts.children(node)].iter_mut().for_each(|q| *q *= normalizer.scale);
        }
    }
    lower_levels[len - 1].backoffs = normalizers.into_iter().map(|left| left.backoff).collect();
    grams.suffix_links.par_iter().all(|suffix| usize::from(suffix.len) == len)
}

/// The weights of a context: its words sum to `seen`, and to `shorter` in the shorter context;
/// `unseen` sums all other words there. The scale is a factor of its n-grams, and not 1 only where
/// no back-off makes the sum one.
fn normalizer(seen: f64, shorter: f64, unseen: impl FnOnce() -> f64) -> ContextWeights {
    let to_one = if seen > 0.0 && (seen - 1.0).abs() > ROUNDING_ERROR { 1.0 / seen } else { 1.0 };
    if seen == 0.0 && shorter == 0.0 {
        return ContextWeights { backoff: 1.0, scale: 1.0 };
    }
    let rest = 1.0 - seen;
    if rest < ROUNDING_ERROR {
        return ContextWeights { backoff: 0.0, scale: to_one };
    }
    let shorter_rest = if 1.0 - shorter < MIN_REST { unseen() } else { 1.0 - shorter };
    let backoff = rest / shorter_rest;
    if backoff.is_finite() {
        ContextWeights { backoff, scale: 1.0 }
    } else {
        ContextWeights { backoff: 0.0, scale: to_one }
    }
}

/// A compensated sum (Neumaier 1974).
#[derive(Default)]
struct CompensatedSum {
    sum: f64,
    lost: f64,
}

impl CompensatedSum {
    fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        self.lost += if self.sum.abs() >= x.abs() { (self.sum - sum) + x } else { (x - sum) + self.sum };
        self.sum = sum;
    }

    fn total(&self) -> f64 {
        self.sum + self.lost
    }
}

// The length of a suffix is one byte.
const _: () = assert!(MAX_ORDER <= u8::MAX as usize);

#[cfg(test)]
mod tests;
