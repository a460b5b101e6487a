//! Builds a model from the parsed n-grams: sorts them, adds missing contexts, and stores equal
//! numbers once.

use rayon::prelude::*;
use surprisal_model::ngram::packed::bits_for;
use surprisal_model::ngram::{
    BackoffScheme, ContextWeights, NgramConfig, NgramModel, OrderReport, Report, Trie, UnpackedLevel,
};
use surprisal_text::{Granularity, TextMode, Tokenizer, TokenizerKind};

use super::parse::{Order, Parsed};
use super::{LOG_UNKNOWN, WHAT, line};
use crate::token_strings::{spell, unescape};
use crate::{Error, Result, ngram_list::NgramList};

/// The mark of an added n-gram whose back-off probability is not computed yet.
const BACKED_OFF_LATER: f32 = f32::NAN;

/// The model and the tokenizer of a parsed file.
pub(super) fn model(parsed: Parsed<'_>) -> Result<(NgramModel, Tokenizer)> {
    let tokenizer = tokenizer(&parsed)?;
    let Parsed { words, has, mut orders, smoothing, .. } = parsed;
    let order = orders.len();
    let mut report = Report::default();
    orders[0].words = (0..words.len() as u32).collect();
    if let [unk, sentence @ ..] = has.as_slice() {
        if !unk {
            orders[0].log10_probs[0] = LOG_UNKNOWN;
            let notice = format!("the file has no <unk>: unknown words get log10 q = {LOG_UNKNOWN}");
            report.notices.push(notice);
        }
        if let [.., false] = sentence {
            let hint = "estimate it again from sentences with their ends; or, if its tokens are not words in sentences, \
                        export it again, so that the file declares them";
            let problem = "there is no </s>, so the probability of a sentence end is unknown";
            return Err(line(orders[0].section.line(0), problem, hint));
        }
        if let [false, _] = sentence {
            report.notices.push("the file has no <s>: sentences begin without a context".into());
        }
    }
    let bos = tokenizer.bos();
    if let Some(bos) = bos {
        // `<s>` is never predicted, so a log-probability of -inf or -99 carries no information.
        orders[0].log10_probs[bos as usize] = 0.0;
    }
    let bits = bits_for(words.len() as u64 - 1);
    for grams in &mut orders {
        grams.sort(bits).map_err(|index| {
            let gram: Vec<&str> = grams.grams().get(index).iter().map(|&id| words[id as usize]).collect();
            let problem = format!("`{}` is a duplicate", gram.join(" "));
            line(grams.section.line(index), problem, "every n-gram must have one line")
        })?;
    }
    let grams = orders.par_windows(2).map(|pair| pair[1].grams().child_offsets(pair[0].grams()));
    let mut starts: Vec<Vec<u32>> = match grams.collect() {
        Ok(starts) => starts,
        // From the highest order down, because an added context needs its own context.
        Err(_) => (1..order)
            .rev()
            .map(|len| {
                let (shorter, longer) = orders.split_at_mut(len);
                longer[0].child_offsets_under(&mut shorter[len - 1], bits)
            })
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect(),
    };
    starts.push(Vec::new());
    let added = orders.iter().map(|level| level.log10_probs.par_iter().filter(|log| log.is_nan()).count());
    let added: usize = added.sum();
    if added > 0 {
        report
            .notices
            .push(format!("added {added} missing context n-grams, with their back-off probabilities"));
        fill(&mut orders);
    }
    report.orders = orders
        .iter()
        .map(|level| OrderReport { grams: level.log10_probs.len() as u64, ..OrderReport::default() })
        .collect();
    let finite = |level: &Order<'_>| {
        level.log10_probs.par_iter().chain(&level.log10_backoffs).all(|log| log.is_finite())
    };
    if !orders.iter().all(finite) {
        report.notices.push(
            "the file has probabilities or weights of zero (-inf, or SRILM's -99): what depends on them gets probability zero"
                .into(),
        );
    }
    let tables = orders.into_par_iter().zip(starts);
    let tables = tables.map(|(level, starts)| level.table(starts, order, bos)).collect();
    let trie = Trie::pack(
        words.len() as u32,
        bos,
        BackoffScheme::BackOff,
        smoothing.unseen_context_factor(),
        false,
        tables,
    )?;
    let config = NgramConfig { bos, unk: tokenizer.unk(), ..NgramConfig::new(order, smoothing) };
    Ok((NgramModel::new(config, report, trie), tokenizer))
}

/// The tokenizer with these tokens.
fn tokenizer(parsed: &Parsed<'_>) -> Result<Tokenizer> {
    let Parsed { words, has, kind, unit, .. } = parsed;
    if let Some(tokenizer) = parsed.tokenizer {
        return Ok(tokenizer.clone());
    }
    let wrong = |what: &str| Error::malformed(WHAT, &format!("its tokens are not the declared {what}"));
    if (*kind, *unit) == (TokenizerKind::Word, TextMode::Line) {
        return Ok(Tokenizer::from_words(*kind, *unit, words.iter().copied())?);
    }
    match kind.granularity() {
        Granularity::Byte => {
            let tokenizer = Tokenizer::new_bytes(*unit);
            let all = (0..tokenizer.vocab_size() as u32).map(|id| spell(&tokenizer, id));
            if all.eq(words.iter().map(|word| word.as_bytes())) { Ok(tokenizer) } else { Err(wrong("bytes")) }
        }
        Granularity::Char | Granularity::Word | Granularity::Subword => {
            let (specials, others) = words.split_at(has.len());
            let others = others.iter().map(|word| String::from_utf8(unescape(word)?).ok());
            let others: Vec<String> = others.collect::<Option<_>>().ok_or_else(|| wrong("escaped tokens"))?;
            let all = specials.iter().copied().chain(others.iter().map(String::as_str));
            Ok(Tokenizer::from_words(*kind, *unit, all)?)
        }
    }
}

impl Order<'_> {
    fn grams(&self) -> NgramList<'_> {
        NgramList { len: self.len, words: &self.words }
    }

    /// Sorts the n-grams by word ids.
    ///
    /// # Errors
    /// The index of the first duplicate n-gram; then nothing was sorted.
    fn sort(&mut self, bits: u32) -> Result<(), usize> {
        if let Some(permutation) = self.grams().argsort(bits)? {
            self.words = self.grams().permuted(&permutation);
            self.log10_probs =
                permutation.par_iter().map(|&index| self.log10_probs[index as usize]).collect();
            if !self.log10_backoffs.is_empty() {
                self.log10_backoffs =
                    permutation.par_iter().map(|&index| self.log10_backoffs[index as usize]).collect();
            }
        }
        Ok(())
    }

    /// The child offsets of `above`: where the n-grams of this order under each context begin.
    /// Missing contexts are added to `above`.
    fn child_offsets_under(&self, above: &mut Self, bits: u32) -> Vec<u32> {
        let (missing, needed) = match self.grams().child_offsets(above.grams()) {
            Ok(starts) => return starts,
            Err(missing) => missing,
        };
        above.words.extend(missing);
        above.log10_probs.resize(above.log10_probs.len() + needed.len(), BACKED_OFF_LATER);
        above.log10_backoffs.resize(above.log10_backoffs.len() + needed.len(), 0.0);
        // The added contexts are distinct and new, so there is no duplicate.
        let _ = above.sort(bits);
        self.grams().child_offsets(above.grams()).unwrap_or_default()
    }

    /// The table of the trie: probabilities and weights, each distinct value once.
    fn table(self, starts: Vec<u32>, order: usize, bos: Option<u32>) -> UnpackedLevel {
        let power = |&log: &f32| 10_f64.powf(f64::from(log));
        let (mut values, logs) = distinct(&self.log10_probs);
        let mut numerators: Vec<f64> = logs.iter().map(power).collect();
        if let (1, Some(bos)) = (self.len, bos) {
            values[bos as usize] = numerators.len() as u32;
            numerators.push(0.0);
        }
        let (contexts, logs) = distinct(&self.log10_backoffs);
        let weights = logs.iter().map(|log| ContextWeights { scale: 1.0, backoff: power(log) }).collect();
        let words = if self.len == 1 {
            Vec::new()
        } else {
            self.words.par_chunks_exact(self.len).map(|gram| gram[self.len - 1]).collect()
        };
        debug_assert!(
            starts.is_empty() == (self.len == order),
            "the highest order alone has no continuations"
        );
        UnpackedLevel {
            words,
            child_offsets: starts,
            value_ids: values,
            distinct_values: numerators,
            weight_ids: contexts,
            distinct_weights: weights,
        }
    }
}

/// For each number, the index of its distinct value; and the distinct values.
fn distinct(numbers: &[f32]) -> (Vec<u32>, Vec<f32>) {
    let key = |(index, number): (usize, &f32)| u64::from(number.to_bits()) << 32 | index as u64;
    let mut keys: Vec<u64> = numbers.par_iter().enumerate().map(key).collect();
    keys.par_sort_unstable();
    let mut indices = vec![0; numbers.len()];
    let mut different: Vec<f32> = Vec::new();
    for key in keys {
        let bits = (key >> 32) as u32;
        if different.last().is_none_or(|last| last.to_bits() != bits) {
            different.push(f32::from_bits(bits));
        }
        indices[key as u32 as usize] = different.len() as u32 - 1;
    }
    (indices, different)
}

/// Sets the probabilities of added n-grams to their back-off probabilities.
fn fill(orders: &mut [Order<'_>]) {
    for len in 1..orders.len() {
        let (shorter, level) = orders.split_at_mut(len);
        let level = &mut level[0];
        for index in 0..level.log10_probs.len() {
            if level.log10_probs[index].is_nan() {
                let gram = level.grams().get(index);
                level.log10_probs[index] = backed_off(shorter, gram).min(0.0) as f32;
            }
        }
    }
}

/// log10 of the back-off probability of an n-gram that is not in `orders`.
fn backed_off(orders: &[Order<'_>], mut gram: &[u32]) -> f64 {
    let mut log = 0.0;
    while let [context @ .., _] = gram
        && !context.is_empty()
    {
        let level = &orders[context.len() - 1];
        log += level.grams().find(context).map_or(0.0, |node| f64::from(level.log10_backoffs[node]));
        gram = &gram[1..];
        let level = &orders[gram.len() - 1];
        if let Some(found) = level.grams().find(gram) {
            return log + f64::from(level.log10_probs[found]);
        }
    }
    log
}
