//! Sampling of tokens: temperature, top-k, top-p; and the opening of a text.

use std::collections::BTreeSet;

use rand::Rng;
use serde::{Deserialize, Serialize};
use surprisal_text::{EncodeOptions, Granularity, Tokenizer, TokenizerKind, encode_text};

use crate::error::{Advice, Error, Result};

/// Settings of sampling.
///
/// ```
/// # use rand::SeedableRng;
/// # fn main() -> surprisal_engine::Result<()> {
/// let greedy = surprisal_engine::sampling::Sampling::new(0.0, None, None)?;
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// assert_eq!(greedy.draw(&[0.2f64.ln(), 0.8f64.ln()], &mut rng), Some(1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Temperature T, q'(w) ∝ q(w)^(1/T); 0 takes the most likely token.
    pub temperature: f64,
    /// Top-k: the number of most likely tokens to draw from.
    pub top_k: Option<usize>,
    /// Top-p: draw from the fewest of the most likely tokens that reach this probability (Holtzman
    /// et al. 2020).
    pub top_p: Option<f64>,
}

impl Sampling {
    /// Checked settings.
    ///
    /// # Errors
    /// A negative or non-finite temperature, `top_k` of zero, `top_p` outside (0, 1].
    pub fn new(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> Result<Self> {
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(Error::usage(format!("the temperature is {temperature}, but must be 0 or more"))
                .hint("0.8 is a good start; 1 samples the model as it is"));
        }
        if top_k == Some(0) {
            return Err(Error::usage("top-k is 0, which keeps no token"));
        }
        if let Some(p) = top_p
            && !(p > 0.0 && p <= 1.0)
        {
            return Err(Error::usage(format!("top-p is {p}, but must be above 0 and at most 1")));
        }
        Ok(Self { temperature, top_k, top_p })
    }

    /// A token drawn from `log_probs`, natural logarithms; `None` where all are −∞. Always uses one
    /// random number.
    pub fn draw(&self, log_probs: &[f64], rng: &mut impl Rng) -> Option<u32> {
        let uniform: f64 = rng.random();
        let possible = |&token: &u32| log_probs[token as usize] > f64::NEG_INFINITY;
        let mut order = ranking(log_probs, (0..log_probs.len() as u32).filter(possible));
        let best = *order.first()?;
        if self.temperature == 0.0 {
            return Some(best);
        }
        order.truncate(self.top_k.unwrap_or(usize::MAX));
        let peak = log_probs[best as usize];
        let mut mass: Vec<f64> = order
            .iter()
            .map(|&token| ((log_probs[token as usize] - peak) / self.temperature).exp())
            .collect();
        let mut total: f64 = mass.iter().sum();
        if let Some(p) = self.top_p {
            let mut reached = 0.0;
            let kept = mass.iter().take_while(|&&m| {
                let short = reached < p * total;
                reached += m;
                short
            });
            let kept = kept.count().max(1);
            mass.truncate(kept);
            total = mass.iter().sum();
        }
        let mut target = uniform * total;
        for (&token, m) in order.iter().zip(&mass) {
            target -= m;
            if target < 0.0 {
                return Some(token);
            }
        }
        Some(order[mass.len() - 1])
    }
}

/// `tokens` by decreasing probability in `row`; equally likely ones by their id.
pub fn ranking(row: &[f64], tokens: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut order: Vec<u32> = tokens.collect();
    order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
    order
}

/// Tokens before the first one that is drawn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Context that is not part of the text: the end of a line.
    pub before: Vec<u32>,
    /// Beginning of the text: a prompt, or the first character or word of a text without lines.
    pub first: Vec<u32>,
}

impl Opening {
    /// The opening without a prompt: `<s>` in line mode, `</s>` in document mode, otherwise the
    /// start of a line, or the start of the training text if it has no lines. An unknown training
    /// text (`None`) is assumed to have lines.
    ///
    /// # Errors
    /// Tokens that cannot be decoded.
    pub fn new(tokenizer: &Tokenizer, train: Option<&[u32]>) -> Result<Self> {
        /// Most tokens of a character.
        const MAX_TOKENS_PER_CHAR: usize = 4;
        let mut opening = Self::default();
        if tokenizer.eos().is_some() {
            opening.before = end_of_document(tokenizer);
            return Ok(opening);
        }
        // Within a text, where no tokenizer adds a space.
        opening.before = tokenizer.encode_after("a", "\n")?;
        opening.before.retain(|id| Some(*id) != tokenizer.unk());
        let Some(train) = train else { return Ok(opening) };
        let (_, followed) = train.split_last().unwrap_or((&0, &[]));
        if opening.before.is_empty() || !followed.contains(&opening.before[0]) {
            let known = train.iter().copied().filter(|id| Some(*id) != tokenizer.unk());
            opening.before.clear();
            for id in known.take(MAX_TOKENS_PER_CHAR) {
                opening.first.push(id);
                if !tokenizer.decode(&opening.first).ends_with('\u{FFFD}') {
                    break;
                }
            }
        }
        Ok(opening)
    }

    /// Whether all tokens are in the vocabulary of `tokenizer`.
    pub fn is_of(&self, tokenizer: &Tokenizer) -> bool {
        self.before.iter().chain(&self.first).all(|&id| (id as usize) < tokenizer.vocab_size())
    }

    /// The opening of a prompt.
    ///
    /// # Errors
    /// A prompt of several lines for a model of lines, or with unknown words or characters.
    pub fn prompt(tokenizer: &Tokenizer, prompt: &str, allow_unknown: bool) -> Result<Self> {
        if tokenizer.bos().is_some() && prompt.trim_end_matches(['\n', '\r']).contains('\n') {
            return Err(Error::usage("the prompt has several lines, and this model generates single lines")
                .hint("give the beginning of one line"));
        }
        // `<s>` is not a word of the sentence, and after `</s>` the sentence is over.
        let prompt = if tokenizer.bos().is_some() && tokenizer.kind() == TokenizerKind::Word {
            let words = prompt.trim();
            if words.ends_with("</s>") {
                return Err(Error::usage(
                    "the prompt ends with </s>, the end of a sentence: nothing can follow",
                ));
            }
            words
                .strip_prefix("<s>")
                .filter(|rest| !rest.starts_with(|c: char| !c.is_whitespace()))
                .unwrap_or(prompt)
        } else {
            prompt
        };
        // A prompt without tokens is not an error.
        let unknown =
            encode_text("the prompt", prompt, tokenizer, EncodeOptions::default()).map(|(_, all)| all);
        let unknown: BTreeSet<String> = unknown.unwrap_or_default().into_values().collect();
        if !(unknown.is_empty() || allow_unknown) {
            let listed: Vec<String> = unknown.iter().map(|part| format!("{part:?}")).collect();
            return Err(Error::usage(format!(
                "the prompt has words or characters that the model does not know: {}",
                listed.join(", ")
            ))
            .hint(Advice::AllowUnknown(
                if tokenizer.granularity() == Granularity::Char { "character" } else { "word" }.into(),
            )));
        }
        Ok(Self { before: end_of_document(tokenizer), first: tokenizer.encode(prompt)? })
    }

    /// Excludes `<unk>` and the end of a line as the first token of a text, unless nothing else is
    /// possible.
    pub fn choose(tokenizer: &Tokenizer, before: &[u32], log_probs: &mut Vec<f64>) {
        let mut chosen = log_probs.clone();
        for id in before.iter().copied().chain(tokenizer.unk()) {
            chosen[id as usize] = f64::NEG_INFINITY;
        }
        if chosen.iter().any(|log_prob| *log_prob > f64::NEG_INFINITY) {
            *log_probs = chosen;
        }
    }
}

/// The mark after which a document starts. Lines start with `<s>`, which generation adds.
fn end_of_document(tokenizer: &Tokenizer) -> Vec<u32> {
    tokenizer.eos().filter(|_| tokenizer.bos().is_none()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{RngStream, rng_for};

    fn shares(sampling: Sampling, probs: &[f64]) -> Vec<f64> {
        let log_probs: Vec<f64> = probs.iter().map(|p| p.ln()).collect();
        let mut rng = rng_for(7, RngStream::Sampling);
        let mut counts = vec![0u32; probs.len()];
        for _ in 0..20_000 {
            counts[sampling.draw(&log_probs, &mut rng).unwrap() as usize] += 1;
        }
        counts.iter().map(|&c| f64::from(c) / 20_000.0).collect()
    }

    #[test]
    fn draws_in_proportion() {
        let plain = Sampling::new(1.0, None, None).unwrap();
        let got = shares(plain, &[0.5, 0.0, 0.3, 0.2]);
        for (share, p) in got.iter().zip([0.5, 0.0, 0.3, 0.2]) {
            assert!((share - p).abs() < 0.015, "{got:?}");
        }
    }

    #[test]
    fn temperature_sharpens_and_top_k_and_top_p_cut() {
        let cold = shares(Sampling::new(0.5, None, None).unwrap(), &[0.6, 0.4]);
        assert!((cold[0] - 0.36 / 0.52).abs() < 0.015, "{cold:?}");
        let two = shares(Sampling::new(1.0, Some(2), None).unwrap(), &[0.2, 0.5, 0.3]);
        assert!(two[0] == 0.0 && (two[1] - 0.625).abs() < 0.015, "{two:?}");
        let nucleus = shares(Sampling::new(1.0, None, Some(0.6)).unwrap(), &[0.2, 0.5, 0.3]);
        assert!(nucleus[0] == 0.0 && (nucleus[1] - 0.625).abs() < 0.015, "{nucleus:?}");
    }

    #[test]
    fn zero_temperature_is_greedy_and_the_impossible_stays_so() {
        let greedy = Sampling::new(0.0, None, None).unwrap();
        let mut rng = rng_for(1, RngStream::Sampling);
        assert_eq!(greedy.draw(&[-1.0, -0.5, -0.5], &mut rng), Some(1));
        assert_eq!(greedy.draw(&[f64::NEG_INFINITY; 3], &mut rng), None);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(Sampling::new(-1.0, None, None).is_err());
        assert!(Sampling::new(f64::NAN, None, None).is_err());
        assert!(Sampling::new(1.0, Some(0), None).is_err());
        assert!(Sampling::new(1.0, None, Some(0.0)).is_err());
        assert!(Sampling::new(1.0, None, Some(1.5)).is_err());
    }
}
