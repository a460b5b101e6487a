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

/// A smoothing method: q(w | h) = alpha(w, h) + gamma(w, h) · q(w | h'), with h' the context h
/// without its first word.
pub trait Formula {
    /// The word's own share, from its count after the context.
    fn alpha(&self, word: usize, context: &Context<'_>) -> f64;

    /// The factor of the lower order.
    fn gamma(&self, word: usize, context: &Context<'_>) -> f64;

    /// q(· | h) where no word was seen after h: by default q(· | h').
    fn unseen(&self, context: &Context<'_>) -> Vec<f64> {
        context.lower.clone()
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
}

struct Mle;

impl Formula for Mle {
    fn alpha(&self, word: usize, context: &Context<'_>) -> f64 {
        context.count(word) / context.total()
    }

    fn gamma(&self, _: usize, _: &Context<'_>) -> f64 {
        0.0
    }
}

struct AddK {
    k: f64,
}

impl Formula for AddK {
    fn alpha(&self, word: usize, context: &Context<'_>) -> f64 {
        (context.count(word) + self.k) / (context.total() + self.k * context.vocab)
    }

    fn gamma(&self, _: usize, _: &Context<'_>) -> f64 {
        0.0
    }

    fn unseen(&self, context: &Context<'_>) -> Vec<f64> {
        vec![1.0 / context.vocab; context.counts.len()]
    }
}

struct JelinekMercer {
    lambdas: Vec<Vec<f64>>,
}

impl JelinekMercer {
    fn lambda(&self, context: &Context<'_>) -> f64 {
        self.lambdas[context.len][(context.total().log2().floor() as usize).min(23)]
    }
}

impl Formula for JelinekMercer {
    fn alpha(&self, word: usize, context: &Context<'_>) -> f64 {
        self.lambda(context) * context.count(word) / context.total()
    }

    fn gamma(&self, _: usize, context: &Context<'_>) -> f64 {
        1.0 - self.lambda(context)
    }
}

struct WittenBell;

impl Formula for WittenBell {
    fn alpha(&self, word: usize, context: &Context<'_>) -> f64 {
        context.count(word) / (context.total() + context.types())
    }

    fn gamma(&self, _: usize, context: &Context<'_>) -> f64 {
        context.types() / (context.total() + context.types())
    }
}

struct Dirichlet {
    alpha: Vec<f64>,
}

impl Formula for Dirichlet {
    fn alpha(&self, word: usize, context: &Context<'_>) -> f64 {
        context.count(word) / (context.total() + self.alpha[context.len])
    }

    fn gamma(&self, _: usize, context: &Context<'_>) -> f64 {
        self.alpha[context.len] / (context.total() + self.alpha[context.len])
    }
}

/// Absolute discounting, and with continuation counts Kneser-Ney.
struct Discounting {
    discounts: Vec<[f64; 3]>,
}

impl Discounting {
    /// The count that goes to the lower order: the discount, or all of it where the n-gram was
    /// pruned.
    fn taken(&self, word: usize, context: &Context<'_>) -> f64 {
        match context.counts[word] {
            0 => 0.0,
            count if !context.kept[word] => count as f64,
            count => self.discounts[context.len][count.min(3) as usize - 1],
        }
    }
}

impl Formula for Discounting {
    fn alpha(&self, word: usize, context: &Context<'_>) -> f64 {
        (context.count(word) - self.taken(word, context)) / context.total()
    }

    fn gamma(&self, _: usize, context: &Context<'_>) -> f64 {
        (0..context.counts.len()).map(|word| self.taken(word, context)).sum::<f64>() / context.total()
    }
}

struct Katz;

impl Katz {
    /// Good-Turing's discounted count.
    fn discounted(word: usize, context: &Context<'_>) -> f64 {
        let c = context.count(word);
        let n = context.count_of_counts.map(|n| n as f64);
        let a = 8.0 * n[8] / n[1];
        if c == 0.0 || c > 7.0 || !(0.0..1.0).contains(&a) {
            return c;
        }
        let d = ((c + 1.0) * n[c as usize + 1] / n[c as usize] / c - a) / (1.0 - a);
        if d > 0.0 && d <= 1.0 { d * c } else { c }
    }

    /// The denominator of seen words, and 1 − Σ of the lower order over seen words.
    fn whole(context: &Context<'_>) -> (f64, f64) {
        let mass: f64 = context.seen().map(|word| Self::discounted(word, context)).sum();
        let rest = 1.0 - context.seen().map(|word| context.lower[word]).sum::<f64>();
        let total = context.total();
        if rest < 1e-9 {
            (mass, 0.0)
        } else if 1.0 - mass / total < 1e-9 {
            // Nothing was discounted: unseen words share one more occurrence.
            (mass + 1.0, rest)
        } else {
            (total, rest)
        }
    }
}

impl Formula for Katz {
    fn alpha(&self, word: usize, context: &Context<'_>) -> f64 {
        match context.len {
            0 => WittenBell.alpha(word, context),
            _ => Self::discounted(word, context) / Self::whole(context).0,
        }
    }

    fn gamma(&self, word: usize, context: &Context<'_>) -> f64 {
        if context.len == 0 {
            return WittenBell.gamma(word, context);
        }
        let (whole, rest) = Self::whole(context);
        if context.counts[word] > 0 || rest == 0.0 {
            return 0.0;
        }
        let mass: f64 = context.seen().map(|word| Self::discounted(word, context)).sum();
        (1.0 - mass / whole) / rest
    }
}

struct StupidBackoff;

impl Formula for StupidBackoff {
    fn alpha(&self, word: usize, context: &Context<'_>) -> f64 {
        context.count(word) / context.total()
    }

    fn gamma(&self, word: usize, context: &Context<'_>) -> f64 {
        if context.len == 0 || context.counts[word] > 0 { 0.0 } else { 0.4 }
    }

    fn unseen(&self, context: &Context<'_>) -> Vec<f64> {
        let factor = if context.len == 0 { 1.0 } else { 0.4 };
        context.lower.iter().map(|lower| factor * lower).collect()
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
    formula: Box<dyn Formula>,
}

impl Reference {
    /// The model of `config` over a text, or lines that each begin with `config.bos`, with the
    /// parameters in `report`.
    ///
    /// # Errors
    /// [`Error::Config`] for a smoothing without a formula.
    pub fn new(tokens: &[u32], vocab_size: usize, config: &NgramConfig, report: &Report) -> Result<Self> {
        let orders = report.orders.iter();
        let discounting = || Discounting {
            discounts: orders.clone().map(|order| order.discounts.unwrap_or_default()).collect(),
        };
        let formula: Box<dyn Formula> = match config.smoothing {
            Smoothing::Mle => Box::new(Mle),
            Smoothing::AddK => Box::new(AddK { k: report.k.unwrap_or_default() }),
            Smoothing::JelinekMercer => {
                Box::new(JelinekMercer { lambdas: orders.map(|order| order.lambdas.clone()).collect() })
            }
            Smoothing::WittenBell => Box::new(WittenBell),
            Smoothing::Dirichlet => {
                Box::new(Dirichlet { alpha: orders.map(|order| order.alpha.unwrap_or_default()).collect() })
            }
            Smoothing::Absolute | Smoothing::KneserNey | Smoothing::ModifiedKneserNey => {
                Box::new(discounting())
            }
            Smoothing::Katz => Box::new(Katz),
            Smoothing::StupidBackoff => Box::new(StupidBackoff),
            Smoothing::Given => return Err(Error::Config("given weights have no formula".into())),
        };
        let continuation = match config.smoothing {
            Smoothing::KneserNey | Smoothing::ModifiedKneserNey => true,
            Smoothing::Mle
            | Smoothing::AddK
            | Smoothing::JelinekMercer
            | Smoothing::WittenBell
            | Smoothing::Dirichlet
            | Smoothing::Absolute
            | Smoothing::Katz
            | Smoothing::StupidBackoff
            | Smoothing::Given => false,
        };
        Ok(Self::with_formula(tokens, vocab_size, config, continuation, formula))
    }

    /// The model of any formula; with `continuation`, an order below the highest counts the
    /// different words before an n-gram.
    pub fn with_formula(
        tokens: &[u32],
        vocab_size: usize,
        config: &NgramConfig,
        continuation: bool,
        formula: Box<dyn Formula>,
    ) -> Self {
        let raw = occurrences(tokens, config);
        let counts = if continuation { continuations(&raw, tokens, config) } else { raw.clone() };
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
        if seen.total() == 0.0 {
            return predictable(self.formula.unseen(&seen));
        }
        let q = |word: usize| {
            self.formula.alpha(word, &seen) + self.formula.gamma(word, &seen) * seen.lower[word]
        };
        predictable((0..self.vocab_size as usize).map(q).collect())
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
