//! The weights and probabilities of a model whose n-grams are in streams.

use super::codec::{Blocks, StreamWriter, put};
use super::level::{BeforeReader, Gram, GramReader, LowerReader, WeightReader};
use super::merge::OrderTotals;
use super::{Layout, malformed};
use crate::ngram::statistics::Statistics;
use crate::ngram::{
    BackoffScheme, ContextStats, ContextWeights, Counts, NO_HELDOUT, NgramConfig, OrderReport, Report,
    Smoother, UnpackedLevel, estimator,
};
use crate::{Error, Result};

/// The counts whose values and weights are kept, as nearly all counts are small.
const KEPT: usize = 256;

/// A model without its n-grams: parameters and single words.
pub struct Smoothed {
    /// The kind of model.
    pub config: NgramConfig,
    /// Its parameters and statistics.
    pub report: Report,
    /// The table of single words, whose values are probabilities; without weights.
    pub unigrams: UnpackedLevel,
    smoother: Box<dyn Smoother>,
    /// The number of predictable words.
    vocab: f64,
    weights: Vec<Vec<ContextWeights>>,
    values: Vec<Vec<f64>>,
}

impl std::fmt::Debug for Smoothed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smoothed")
            .field("config", &self.config)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

/// The streams from which the probabilities of one order in one partition are made.
pub struct LevelStreams {
    /// The n-grams.
    pub grams: GramReader,
    /// Their contexts, the n-grams of the order below.
    pub contexts: GramReader,
    /// The words before the n-grams, if their probabilities are needed by the next order.
    pub before: Option<Box<dyn Blocks>>,
    /// The probabilities of their suffixes.
    pub lower: LowerReader,
    /// The weights of the contexts, and of the n-grams as contexts, if they are in streams.
    pub weights: [Option<WeightReader>; 2],
}

/// The receiver of probabilities.
pub trait LevelOutput {
    /// Takes an n-gram with its probability, and the back-off weight of it as a context below the
    /// highest order.
    ///
    /// # Errors
    /// A failure to write.
    fn gram(&mut self, gram: &Gram, probability: f64, backoff: Option<f64>) -> Result<()>;

    /// Takes the probability of the suffix of n-grams that begin with `words`.
    ///
    /// # Errors
    /// A failure to write.
    fn lower(&mut self, words: &[u32], probability: f64) -> Result<()>;
}

impl Smoothed {
    /// The model of `config` from the totals of each order; single words occur `counts` times, and
    /// `used` times for smoothing.
    ///
    /// # Errors
    /// [`Error::Config`]: a smoother that needs more than these statistics.
    pub fn new(
        config: &NgramConfig,
        totals: &[OrderTotals],
        counts: Vec<u32>,
        mut used: Vec<u32>,
    ) -> Result<Self> {
        config.check()?;
        let mut smoother = config.smoother()?;
        if let Some(problem) = Self::refusal(config, false, false)? {
            return Err(Error::Config(problem));
        }
        let order = |totals: &OrderTotals| OrderReport {
            counted: totals.grams,
            count_of_counts: estimator::first_counts(&totals.count_of_counts),
            ..OrderReport::default()
        };
        let mut report = Report { orders: totals.iter().map(order).collect(), ..Report::default() };
        if config.tunes(smoother.as_ref()) {
            report.notices.push(NO_HELDOUT.into());
        }
        smoother.fit(None, &mut report);
        let count_of_counts: Vec<_> = totals.iter().map(|totals| totals.count_of_counts).collect();
        smoother.discount(&count_of_counts, &mut report);
        if let Some(bos) = config.bos {
            used[bos as usize] = 0;
        }
        let threshold = config.prune_threshold(1);
        let keep = (threshold > 0).then(|| counts.iter().map(|&count| count > threshold).collect());
        let counts = Counts::of_words(counts, config.bos);
        let vocab = estimator::predictable(&counts, config);
        let statistics = Statistics::of_unigrams(used);
        let unigrams = estimator::unigrams(&counts, keep, &statistics, config, smoother.as_ref());
        for (len, (order, totals)) in report.orders.iter_mut().zip(totals).enumerate() {
            order.grams = if len == 0 { totals.grams } else { totals.kept };
        }
        let (weights, values) = (Vec::new(), Vec::new());
        let mut smoothed =
            Self { config: config.clone(), report, unigrams, smoother, vocab, weights, values };
        for len in 0..config.order {
            smoothed.values.push((0..KEPT as u32).map(|count| smoothed.compute_value(len, count)).collect());
            let single = |total: u64| {
                let mut after = ContextStats::default();
                after.add(total as u32, true);
                smoothed.compute_weight(len, &after)
            };
            smoothed.weights.push((0..KEPT as u64).map(single).collect());
        }
        Ok(smoothed)
    }

    /// The reason why all n-grams must be in memory for a model of `config`, or to `quantize` it,
    /// if they must. A merge of counts has no text to hold out.
    ///
    /// # Errors
    /// [`Error::Config`] for no smoother.
    pub fn refusal(config: &NgramConfig, quantize: bool, has_text: bool) -> Result<Option<String>> {
        let smoother = config.smoother()?;
        let problem = if has_text && config.tunes(smoother.as_ref()) {
            "fitting parameters to held-out text"
        } else if config.order == 1 {
            return Ok(None);
        } else if config.prune_entropy > 0.0 {
            "pruning by entropy"
        } else if quantize && smoother.needs_lower_mass() {
            "quantising the back-off weights of Katz"
        } else {
            return Ok(None);
        };
        Ok(Some(format!("{problem} needs all n-grams in memory")))
    }

    /// The way values and lower orders are combined.
    pub fn scheme(&self) -> BackoffScheme {
        self.smoother.scheme()
    }

    /// The factor of the lower order where a context was never seen.
    pub fn unseen_context_factor(&self) -> f64 {
        self.smoother.unseen_context_factor()
    }

    /// Whether the probability of an n-gram is made of that of its suffix.
    pub fn needs_lower(&self) -> bool {
        self.scheme() == BackoffScheme::Interpolate
    }

    /// Whether the weights of contexts are made of such probabilities ([`Self::finish_level`]).
    pub fn needs_lower_mass(&self) -> bool {
        self.smoother.needs_lower_mass()
    }

    /// The weights of a context of `len` words, of which `after` has the counts of the words after
    /// it.
    #[inline]
    pub fn weight(&self, len: usize, after: &ContextStats) -> ContextWeights {
        if after.types() <= 1 && after.pruned == 0 && after.total < KEPT as u64 {
            return self.weights[len][after.total as usize];
        }
        self.compute_weight(len, after)
    }

    fn compute_weight(&self, len: usize, after: &ContextStats) -> ContextWeights {
        match after.total {
            0 => ContextWeights { scale: 0.0, backoff: self.unseen_context_factor() },
            _ => self.smoother.weight(len, after, self.vocab),
        }
    }

    /// The value of an n-gram of `len` + 1 words with the used count `count`.
    #[inline]
    pub fn value(&self, len: usize, count: u32) -> f64 {
        self.values[len].get(count as usize).copied().unwrap_or_else(|| self.compute_value(len, count))
    }

    fn compute_value(&self, len: usize, count: u32) -> f64 {
        self.smoother.value(len, count)
    }

    /// The probability of a single word.
    #[inline]
    pub fn unigram(&self, word: u32) -> f64 {
        self.unigrams.distinct_values[self.unigrams.value_ids[word as usize] as usize]
    }

    /// Passes the probabilities of the single words of a partition, which `grams` has as far as
    /// they occur, to `output`; with `before`, also those of suffixes.
    ///
    /// # Errors
    /// A malformed stream; those of `output`.
    pub fn first_level(
        &self,
        words: std::ops::Range<u32>,
        mut grams: GramReader,
        before: Option<Box<dyn Blocks>>,
        mut weights: Option<WeightReader>,
        output: &mut dyn LevelOutput,
    ) -> Result<()> {
        let mut before = before.map(BeforeReader::new);
        let mut next = grams.read()?.map(|gram| gram.words()[0]);
        for word in words {
            let probability = self.unigram(word);
            if next != Some(word) {
                let unseen = Gram::of_word(word);
                output.gram(&unseen, probability, Some(self.weight(1, &unseen.after).backoff))?;
                continue;
            }
            let weight = self.weight_in(&mut weights, 1, &grams.gram().after)?;
            output.gram(grams.gram(), probability, Some(weight.backoff))?;
            if let Some(before) = &mut before {
                output.lower(before.next()?, probability)?;
            }
            next = grams.read()?.map(|gram| gram.words()[0]);
        }
        Ok(())
    }

    /// Passes the probabilities of the n-grams of `len` + 1 words of a partition to `output`; with
    /// the words before them, also those of suffixes.
    ///
    /// # Errors
    /// Streams that do not fit together; those of `output`.
    pub fn level(&self, len: usize, streams: LevelStreams, output: &mut dyn LevelOutput) -> Result<()> {
        let LevelStreams { mut grams, mut contexts, before, mut lower, weights } = streams;
        let [mut of_contexts, mut own] = weights;
        let mut before = before.map(BeforeReader::new);
        let (threshold, scheme) = (self.config.prune_threshold(len + 1), self.scheme());
        let top = len + 1 == self.config.order;
        let mut weight = ContextWeights::NONE;
        while let Some(gram) = grams.read()? {
            if gram.lcp < len {
                // Contexts that nothing follows are passed over.
                loop {
                    let context = contexts.read()?.ok_or_else(malformed)?;
                    weight = self.weight_in(&mut of_contexts, len, &context.after)?;
                    if context.after.total > 0 {
                        break;
                    }
                }
                if contexts.gram().words() != &gram.words()[..len] {
                    return Err(malformed());
                }
            }
            let value = self.value(len, gram.used);
            let probability = scheme.combine(Some(value), weight, lower.next()?);
            if gram.count > threshold {
                let weight = if top { None } else { Some(self.weight_in(&mut own, len + 1, &gram.after)?) };
                output.gram(gram, probability, weight.map(|weight| weight.backoff))?;
            }
            if let Some(before) = &mut before {
                output.lower(before.next()?, probability)?;
            }
        }
        Ok(())
    }

    /// The weights of the next context in a stream, or those that follow from `after`.
    fn weight_in(
        &self,
        weights: &mut Option<WeightReader>,
        len: usize,
        after: &ContextStats,
    ) -> Result<ContextWeights> {
        weights.as_mut().map_or_else(|| Ok(self.weight(len, after)), WeightReader::next)
    }

    /// Makes the weights of contexts of `len` words from the values of the words after them and
    /// the probabilities of the order below; passes blocks of them to `put`, and probabilities of
    /// suffixes to `output`.
    ///
    /// # Errors
    /// As [`Self::level`]; those of `put`.
    pub fn finish_level(
        &self,
        len: usize,
        streams: LevelStreams,
        put: &mut dyn FnMut(&[u8]) -> Result<()>,
        output: &mut dyn LevelOutput,
    ) -> Result<()> {
        let LevelStreams { mut grams, mut contexts, before, mut lower, .. } = streams;
        let mut before = before.map(BeforeReader::new);
        let (mut weights, mut values) = (StreamWriter::default(), Vec::new());
        while let Some(context) = contexts.read()? {
            let mut weight = ContextWeights::NONE;
            if context.after.total > 0 {
                values.clear();
                let (mut mass, mut seen_lower_mass) = (0.0, 0.0);
                for _ in 0..context.after.types() {
                    let gram = grams.read()?.filter(|gram| gram.words().starts_with(context.words()));
                    values.push(self.value(len, gram.ok_or_else(malformed)?.used));
                    mass += values[values.len() - 1];
                    seen_lower_mass += lower.next()?;
                }
                let scale = self.weight(len, &context.after).scale;
                weight = self.smoother.finish(scale, mass, seen_lower_mass);
                for value in &values {
                    let probability = self.scheme().combine(Some(*value), weight, 0.0);
                    if let Some(before) = &mut before {
                        output.lower(before.next()?, probability)?;
                    }
                }
            }
            weights.bytes.extend([weight.scale, weight.backoff].map(f64::to_le_bytes).as_flattened());
            weights.cut(&mut *put)?;
        }
        weights.end(put)
    }
}

/// Appends the probability of the suffix of an n-gram that begins with `word` to a block of
/// `partition`.
#[inline]
pub fn put_lower(layout: &Layout, partition: usize, word: u32, probability: f64, block: &mut Vec<u8>) {
    let words = layout.words(partition);
    if words.len() > 1 {
        put((word - words.start).into(), block);
    }
    block.extend(probability.to_bits().to_le_bytes());
}
