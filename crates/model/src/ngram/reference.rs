//! The oracle: every smoother as its formula, by recursion over a map of counts, without a thought for speed.

use std::collections::BTreeMap;

use super::*;

type Map = BTreeMap<Vec<u32>, u64>;

/// A text and what is asked of it.
pub(super) struct Reference<'a> {
    config: &'a NgramConfig,
    vocab_size: u32,
    raw: Map,
    contexts: Map,
    discounts: Vec<Discounts>,
    k: f64,
    lambdas: Vec<Vec<f64>>,
}

/// The lines of a text, or the text.
fn sequences(tokens: &[u32], bos: Option<u32>) -> Vec<&[u32]> {
    match bos {
        None => vec![tokens],
        Some(bos) => {
            let mut starts: Vec<usize> = (0..tokens.len()).filter(|&i| tokens[i] == bos).collect();
            starts.push(tokens.len());
            starts.windows(2).map(|pair| &tokens[pair[0]..pair[1]]).collect()
        }
    }
}

impl<'a> Reference<'a> {
    pub(super) fn new(tokens: &[u32], vocab_size: usize, config: &'a NgramConfig, report: &Report) -> Self {
        let (mut raw, mut contexts) = (Map::new(), Map::new());
        for sequence in sequences(tokens, config.bos) {
            for len in 1..=config.order {
                for gram in sequence.windows(len) {
                    *raw.entry(gram.to_vec()).or_default() += 1;
                }
            }
        }
        for gram in raw.keys() {
            if gram.len() > 1 {
                *contexts.entry(gram[1..].to_vec()).or_default() += 1;
            }
        }
        for (gram, &count) in &raw {
            if gram.len() == config.order || config.bos == Some(gram[0]) {
                contexts.insert(gram.clone(), count);
            }
        }
        if config.bos.is_none() {
            for len in 1..config.order.min(tokens.len() + 1) {
                *contexts.entry(tokens[..len].to_vec()).or_default() += 1;
            }
        }
        if let Some(bos) = config.bos {
            raw.remove(&vec![bos]);
            contexts.remove(&vec![bos]);
        }
        Self {
            config,
            vocab_size: vocab_size as u32,
            raw,
            contexts,
            discounts: report.orders.iter().map(|order| order.discounts.unwrap_or_default()).collect(),
            k: report.k.unwrap_or(0.0),
            lambdas: report.orders.iter().map(|order| order.lambdas.clone()).collect(),
        }
    }

    fn used(&self) -> &Map {
        if self.config.smoothing.counts_contexts() { &self.contexts } else { &self.raw }
    }

    pub(super) fn count_of_counts(&self, order: usize) -> [u64; 4] {
        [1, 2, 3, 4].map(|j| {
            self.used().iter().filter(|(gram, count)| gram.len() == order && **count == j).count() as u64
        })
    }

    pub(super) fn grams(&self) -> impl Iterator<Item = (&Vec<u32>, &u64)> {
        self.raw.iter()
    }

    /// q(word | context) of a context that does not cross lines.
    pub(super) fn q(&self, context: &[u32], word: u32) -> f64 {
        if Some(word) == self.config.bos {
            return 0.0;
        }
        let used = self.used();
        let context = &context[context.len() - context.len().min(self.config.order - 1)..];
        let count = |word: u32| -> u64 { used.get(&[context, &[word]].concat()).copied().unwrap_or(0) };
        let counts: Vec<u64> = (0..self.vocab_size).map(count).collect();
        let total: u64 = counts.iter().sum();
        let size = f64::from(self.vocab_size - u32::from(self.config.bos.is_some()));
        let lower = |word: u32| if context.is_empty() { 1.0 / size } else { self.q(&context[1..], word) };
        let c = counts[word as usize] as f64;
        let types = counts.iter().filter(|&&count| count > 0).count() as f64;
        let len = context.len();
        let t = total as f64;
        match self.config.smoothing {
            Smoothing::AddK => (c + self.k) / (t + self.k * size),
            Smoothing::StupidBackoff if c > 0.0 => c / t,
            Smoothing::StupidBackoff if len > 0 => 0.4 * lower(word),
            Smoothing::StupidBackoff | Smoothing::Given => 0.0,
            _ if total == 0 => lower(word),
            Smoothing::Mle => c / t,
            Smoothing::JelinekMercer => {
                let lambda = self.lambdas[len][(t.log2().floor() as usize).min(23)];
                lambda * c / t + (1.0 - lambda) * lower(word)
            }
            Smoothing::WittenBell => (c + types * lower(word)) / (t + types),
            Smoothing::Absolute | Smoothing::KneserNey | Smoothing::ModifiedKneserNey => {
                let d = |count: u64| match count {
                    0 => 0.0,
                    count => self.discounts[len][count.min(3) as usize - 1],
                };
                // A pruned gram's count goes to the lower order whole.
                let threshold = u64::from(self.config.prune_threshold(len + 1));
                let kept = |word: u32| {
                    threshold == 0
                        || self.raw.get(&[context, &[word]].concat()).is_some_and(|&count| count > threshold)
                };
                let left: f64 = (0..self.vocab_size)
                    .map(|w| {
                        let count = counts[w as usize];
                        if kept(w) { d(count) } else { count as f64 }
                    })
                    .sum();
                let own = if kept(word) { c - d(counts[word as usize]) } else { 0.0 };
                (own + left * lower(word)) / t
            }
            Smoothing::Katz => self.katz(context, &counts, word),
        }
    }

    fn katz(&self, context: &[u32], counts: &[u64], word: u32) -> f64 {
        let size = f64::from(self.vocab_size - u32::from(self.config.bos.is_some()));
        let total: u64 = counts.iter().sum();
        let types = counts.iter().filter(|&&count| count > 0).count() as f64;
        if context.is_empty() {
            return (counts[word as usize] as f64 + types / size) / (total as f64 + types);
        }
        let mut n = [0.0; 9];
        for (gram, &count) in &self.raw {
            if gram.len() == context.len() + 1 && count <= 8 {
                n[count as usize] += 1.0;
            }
        }
        let a = 8.0 * n[8] / n[1];
        let worth = |count: u64| {
            let c = count as f64;
            if count == 0 || count > 7 || !(0.0..1.0).contains(&a) {
                return c;
            }
            let d = ((c + 1.0) * n[count as usize + 1] / n[count as usize] / c - a) / (1.0 - a);
            if d > 0.0 && d <= 1.0 { d * c } else { c }
        };
        let mass: f64 = counts.iter().map(|&count| worth(count)).sum();
        let below: f64 =
            (0..self.vocab_size).filter(|&w| counts[w as usize] > 0).map(|w| self.q(&context[1..], w)).sum();
        let mut whole = total as f64;
        if 1.0 - below < 1e-9 {
            whole = mass;
        } else if 1.0 - mass / whole < 1e-9 {
            whole = mass + 1.0;
        }
        if counts[word as usize] > 0 {
            worth(counts[word as usize]) / whole
        } else if 1.0 - below < 1e-9 {
            0.0
        } else {
            (1.0 - mass / whole) / (1.0 - below) * self.q(&context[1..], word)
        }
    }
}
