//! The smoothers as their formulas: recursion over a map of counts in f64, slow and easy to check.
//!
//! This is the oracle of the tests: it shares no code with the fast models. `closed` and
//! `interpolate_unigrams` are not modelled.
//!
//! ```
//! # use surprisal_model::{LanguageModel, ngram::{NgramConfig, NgramModel, Smoothing, reference::Reference}};
//! # fn main() -> surprisal_model::Result<()> {
//! let (text, config) = ([0, 1, 0, 1, 1], NgramConfig { smoothing: Smoothing::WittenBell, ..NgramConfig::default() });
//! let fast = NgramModel::estimate(&text, 3, &config)?;
//! let slow = Reference::new(&text, 3, &config, fast.report())?;
//! for (ln_q, q) in fast.next_log_probs(&[0])?.iter().zip(slow.next(&[0])) {
//!     assert!((ln_q.exp() - q).abs() < 1e-12);
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;

use super::{NgramConfig, Report, Smoothing};
use crate::{Error, Result};

/// q(w | h) of a word w after a context h, as a function of w and the counts after h.
type Q = Box<dyn Fn(usize, &Context<'_>) -> f64>;

/// A smoothing method.
pub struct Formula {
    /// Where some word was seen after h.
    seen: Q,
    /// Where none was.
    unseen: Q,
    /// Whether an order below the highest counts the different words before an n-gram.
    continuation: bool,
}

impl Formula {
    /// `seen` over the words' occurrences; where no word was seen after h, q(· | h'), with h' the
    /// context h without its first word.
    pub fn new(seen: impl Fn(usize, &Context<'_>) -> f64 + 'static) -> Self {
        Self { seen: Box::new(seen), unseen: Box::new(|w, h| h.lower[w]), continuation: false }
    }

    /// The formula of a smoothing with its parameters in `report`.
    fn from_report(smoothing: Smoothing, report: &Report) -> Result<Self> {
        let (orders, k) = (report.orders.clone(), report.k.unwrap_or_default());
        Ok(match smoothing {
            Smoothing::Mle => Self::new(|w, h| h.count(w) / h.total()),
            Smoothing::AddK => Self {
                unseen: Box::new(|_, h| 1.0 / h.vocab),
                ..Self::new(move |w, h| (h.count(w) + k) / (h.total() + k * h.vocab))
            },
            Smoothing::JelinekMercer => Self::new(move |w, h| {
                let lambda = orders[h.len].lambdas[(h.total().log2().floor() as usize).min(23)];
                lambda * h.count(w) / h.total() + (1.0 - lambda) * h.lower[w]
            }),
            Smoothing::WittenBell => Self::new(witten_bell),
            Smoothing::Dirichlet => Self::new(move |w, h| {
                let alpha = orders[h.len].alpha.unwrap_or_default();
                (h.count(w) + alpha * h.lower[w]) / (h.total() + alpha)
            }),
            Smoothing::Absolute | Smoothing::KneserNey | Smoothing::ModifiedKneserNey => {
                let seen = Self::new(move |w, h| {
                    let discounts = orders[h.len].discounts.unwrap_or_default();
                    let backoff = (0..h.counts.len()).map(|w| h.discount(w, discounts)).sum::<f64>();
                    (h.count(w) - h.discount(w, discounts) + backoff * h.lower[w]) / h.total()
                });
                Self { continuation: smoothing != Smoothing::Absolute, ..seen }
            }
            Smoothing::Katz => Self::new(katz),
            Smoothing::StupidBackoff => Self {
                unseen: Box::new(|w, h| if h.len == 0 { h.lower[w] } else { 0.4 * h.lower[w] }),
                ..Self::new(|w, h| match h.counts[w] {
                    0 if h.len == 0 => 0.0,
                    0 => 0.4 * h.lower[w],
                    count => count as f64 / h.total(),
                })
            },
            Smoothing::Given => return Err(Error::Config("given weights have no formula".into())),
        })
    }
}

fn witten_bell(w: usize, h: &Context<'_>) -> f64 {
    (h.count(w) + h.types() * h.lower[w]) / (h.total() + h.types())
}

fn katz(w: usize, h: &Context<'_>) -> f64 {
    if h.len == 0 {
        return witten_bell(w, h);
    }
    let mass: f64 = h.seen().map(|w| h.good_turing(w)).sum();
    let rest = 1.0 - h.seen().map(|w| h.lower[w]).sum::<f64>();
    let whole = if rest < 1e-9 {
        mass
    } else if 1.0 - mass / h.total() < 1e-9 {
        // Nothing was discounted: unseen words share one more occurrence.
        mass + 1.0
    } else {
        h.total()
    };
    match h.counts[w] {
        0 if rest < 1e-9 => 0.0,
        0 => (1.0 - mass / whole) * h.lower[w] / rest,
        _ => h.good_turing(w) / whole,
    }
}

/// The counts after a context h.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The number of words of the context.
    pub len: usize,
    /// c(hw) of every word w.
    pub counts: Vec<u64>,
    /// Whether each n-gram hw is kept (not pruned).
    pub kept: Vec<bool>,
    /// q(w | h') of every word; of an empty context, the uniform distribution.
    pub lower: Vec<f64>,
    /// The number of predictable words.
    pub vocab: f64,
    /// The number of n-grams of this length that are counted 1, 2, …, 8 times, from index 1 on.
    pub count_of_counts: &'a [u64; 9],
}

impl Context<'_> {
    /// c(h), the sum of the counts.
    pub fn total(&self) -> f64 {
        self.counts.iter().sum::<u64>() as f64
    }

    /// T(h), the number of different words seen.
    pub fn types(&self) -> f64 {
        self.counts.iter().filter(|&&count| count > 0).count() as f64
    }

    fn count(&self, word: usize) -> f64 {
        self.counts[word] as f64
    }

    fn seen(&self) -> impl Iterator<Item = usize> {
        (0..self.counts.len()).filter(|&word| self.counts[word] > 0)
    }

    /// The count that goes to the lower order: the discount, or all of it where the n-gram was
    /// pruned.
    fn discount(&self, word: usize, discounts: [f64; 3]) -> f64 {
        match self.counts[word] {
            0 => 0.0,
            count if !self.kept[word] => count as f64,
            count => discounts[count.min(3) as usize - 1],
        }
    }

    /// Good-Turing's discounted count.
    fn good_turing(&self, word: usize) -> f64 {
        let c = self.count(word);
        let n = self.count_of_counts.map(|n| n as f64);
        let a = 8.0 * n[8] / n[1];
        if c == 0.0 || c > 7.0 || !(0.0..1.0).contains(&a) {
            return c;
        }
        let d = ((c + 1.0) * n[c as usize + 1] / n[c as usize] / c - a) / (1.0 - a);
        if d > 0.0 && d <= 1.0 { d * c } else { c }
    }
}

type Counts = BTreeMap<Vec<u32>, u64>;

/// A counted text with a formula.
pub struct Reference {
    order: usize,
    vocab_size: u32,
    bos: Option<u32>,
    prune: Vec<u32>,
    raw: Counts,
    /// The counts of the formula: `raw`, or continuation counts.
    counts: Counts,
    count_of_counts: Vec<[u64; 9]>,
    formula: Formula,
}

impl Reference {
    /// The model of `config` over a text, or lines that each begin with `config.bos`, with the
    /// parameters in `report`.
    ///
    /// # Errors
    /// [`Error::Config`] for a smoothing without a formula.
    pub fn new(tokens: &[u32], vocab_size: usize, config: &NgramConfig, report: &Report) -> Result<Self> {
        let formula = Formula::from_report(config.smoothing, report)?;
        Ok(Self::with_formula(tokens, vocab_size, config, formula))
    }

    /// The model of any formula.
    pub fn with_formula(tokens: &[u32], vocab_size: usize, config: &NgramConfig, formula: Formula) -> Self {
        let raw = occurrences(tokens, config);
        let counts = if formula.continuation { continuations(&raw, tokens, config) } else { raw.clone() };
        let mut count_of_counts = vec![[0; 9]; config.order];
        for (gram, &count) in &counts {
            if let Some(n) = count_of_counts[gram.len() - 1].get_mut(count as usize) {
                *n += 1;
            }
        }
        Self {
            order: config.order,
            vocab_size: vocab_size as u32,
            bos: config.bos,
            prune: config.prune.clone(),
            raw,
            counts,
            count_of_counts,
            formula,
        }
    }

    /// The count of each n-gram of 1 to `order` words, without `<s>` alone.
    pub fn occurrences(&self) -> impl Iterator<Item = (&[u32], u64)> {
        self.raw.iter().map(|(gram, &count)| (gram.as_slice(), count))
    }

    /// The number of n-grams of this order that are counted 1, 2, 3 and 4 times.
    pub fn count_of_counts(&self, order: usize) -> [u64; 4] {
        [1, 2, 3, 4].map(|count| self.count_of_counts[order - 1][count])
    }

    /// q(· | context), of a context that does not cross lines.
    pub fn next(&self, context: &[u32]) -> Vec<f64> {
        let context = &context[context.len() - context.len().min(self.order - 1)..];
        let words = 0..self.vocab_size;
        let vocab = f64::from(self.vocab_size - u32::from(self.bos.is_some()));
        let predictable = |q: Vec<f64>| -> Vec<f64> {
            words.clone().zip(q).map(|(word, q)| if Some(word) == self.bos { 0.0 } else { q }).collect()
        };
        let lower = match context {
            [] => predictable(vec![1.0 / vocab; self.vocab_size as usize]),
            [_, shorter @ ..] => self.next(shorter),
        };
        let gram = |word: u32| [context, &[word]].concat();
        let threshold = self.prune.get(context.len()).or(self.prune.last()).copied().unwrap_or(0);
        let kept = |word: u32| {
            threshold == 0 || self.raw.get(&gram(word)).is_some_and(|&count| count > u64::from(threshold))
        };
        let seen = Context {
            len: context.len(),
            counts: words.clone().map(|word| self.counts.get(&gram(word)).copied().unwrap_or(0)).collect(),
            kept: words.clone().map(kept).collect(),
            lower,
            vocab,
            count_of_counts: &self.count_of_counts[context.len()],
        };
        let q = if seen.total() == 0.0 { &self.formula.unseen } else { &self.formula.seen };
        predictable((0..self.vocab_size as usize).map(|word| q(word, &seen)).collect())
    }
}

/// Count of every n-gram within a line, or the text.
fn occurrences(tokens: &[u32], config: &NgramConfig) -> Counts {
    let mut raw = Counts::new();
    for line in tokens.chunk_by(|_, &next| Some(next) != config.bos) {
        for len in 1..=config.order {
            for gram in line.windows(len) {
                *raw.entry(gram.to_vec()).or_default() += 1;
            }
        }
    }
    if let Some(bos) = config.bos {
        raw.remove([bos].as_slice());
    }
    raw
}

/// N₁₊(· g): the number of different words before every n-gram. Those that begin with `<s>` and
/// those of the highest order keep their occurrences; the beginning of a text without lines is one
/// more word.
fn continuations(raw: &Counts, tokens: &[u32], config: &NgramConfig) -> Counts {
    let mut counts = Counts::new();
    for (gram, &count) in raw {
        if gram.len() > 1 {
            *counts.entry(gram[1..].to_vec()).or_default() += 1;
        }
        if gram.len() == config.order || config.bos == Some(gram[0]) {
            counts.insert(gram.clone(), count);
        }
    }
    if config.bos.is_none() {
        for len in 1..config.order.min(tokens.len() + 1) {
            *counts.entry(tokens[..len].to_vec()).or_default() += 1;
        }
    }
    counts
}
