//! Sampling of tokens: temperature, top-k, top-p, min-p, repetition penalty; and the opening of a
//! text.

use std::collections::BTreeSet;

use rand::Rng;
use serde::{Deserialize, Serialize};
use surprisal_text::{EncodeOptions, Granularity, InputOptions, Tokenizer, TokenizerKind, encode_text};

use crate::error::{Advice, Error, Result};

/// Settings of sampling. The temperature acts first; what top-k, top-p and min-p leave is
/// renormalised.
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
    /// Min-p: draw from the tokens with at least this share of the probability of the most likely
    /// one (Nguyen et al. 2024).
    pub min_p: Option<f64>,
    /// Repetition penalty R (Keskar et al. 2019): q(w)^R for the tokens w of the text so far.
    ///
    /// There, negative logits are multiplied by R and positive ones divided. Logits are defined up
    /// to a constant only; here they are log-probabilities, which are never positive.
    pub repetition_penalty: f64,
}

impl Sampling {
    /// Checked settings, without min-p and a repetition penalty.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn new(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> Result<Self> {
        Self { temperature, top_k, top_p, min_p: None, repetition_penalty: 1.0 }.check()
    }

    /// The settings, if they are in their ranges.
    ///
    /// # Errors
    /// A negative or non-finite temperature, `top_k` of zero, `top_p` outside (0, 1], `min_p`
    /// outside [0, 1], a repetition penalty that is not positive and finite.
    pub fn check(self) -> Result<Self> {
        let Self { temperature, top_k, top_p, min_p, repetition_penalty } = self;
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
        if let Some(p) = min_p
            && !(0.0..=1.0).contains(&p)
        {
            return Err(Error::usage(format!("min-p is {p}, but must be from 0 to 1")));
        }
        if !(repetition_penalty.is_finite() && repetition_penalty > 0.0) {
            let message =
                format!("the repetition penalty is {repetition_penalty}, but must be a number above 0");
            return Err(Error::usage(message).hint("1 is none; 1.2 is a good start"));
        }
        Ok(self)
    }

    /// A token drawn from `log_probs`, natural logarithms that need no normalisation; `None` where
    /// all are −∞. Always uses one random number.
    pub fn draw(&self, log_probs: &[f64], rng: &mut impl Rng) -> Option<u32> {
        let uniform: f64 = rng.random();
        let (kept, mass) = self.masses(log_probs)?;
        let mut target = uniform * mass.iter().sum::<f64>();
        for (&token, m) in kept.iter().zip(&mass) {
            target -= m;
            if target < 0.0 {
                return Some(token);
            }
        }
        let last = mass.iter().rposition(|m| *m > 0.0);
        last.map(|at| kept[at])
    }

    /// The probabilities by which [`Self::draw`] draws each token; all zero where there is none.
    pub fn probabilities(&self, log_probs: &[f64]) -> Vec<f64> {
        let mut probabilities = vec![0.0; log_probs.len()];
        if let Some((kept, mass)) = self.masses(log_probs) {
            let total: f64 = mass.iter().sum();
            kept.iter().zip(&mass).for_each(|(&token, m)| probabilities[token as usize] = m / total);
        }
        probabilities
    }

    /// The tokens to draw from and their masses relative to the most likely one's, of which there
    /// may be fewer than tokens.
    fn masses(&self, log_probs: &[f64]) -> Option<(Vec<u32>, Vec<f64>)> {
        let mut kept: Vec<u32> =
            (0u32..).zip(log_probs).filter(|(_, l)| **l > f64::NEG_INFINITY).map(|(id, _)| id).collect();
        let log_prob = |token: u32| log_probs[token as usize];
        let best = kept.iter().copied().reduce(|a, b| if log_prob(b) > log_prob(a) { b } else { a })?;
        if self.temperature == 0.0 {
            return Some((vec![best], vec![1.0]));
        }
        if self.top_k.is_some() || self.top_p.is_some() {
            kept = ranking(log_probs, kept.into_iter());
            kept.truncate(self.top_k.unwrap_or(usize::MAX));
        }
        let peak = log_prob(best);
        let mut mass: Vec<f64> =
            kept.iter().map(|&token| ((log_prob(token) - peak) / self.temperature).exp()).collect();
        if let Some(p) = self.top_p {
            let (mut reached, total) = (0.0, mass.iter().sum::<f64>());
            let within = mass.iter().take_while(|&&m| {
                let short = reached < p * total;
                reached += m;
                short
            });
            let within = within.count().max(1);
            mass.truncate(within);
        }
        if let Some(p) = self.min_p {
            // The most likely token has a mass of 1.
            mass.iter_mut().filter(|m| **m < p).for_each(|m| *m = 0.0);
        }
        Some((kept, mass))
    }

    /// Applies the repetition penalty to `log_probs` of the tokens `seen`, without normalising.
    pub(crate) fn penalise(&self, seen: &BTreeSet<u32>, log_probs: &mut [f64]) {
        for &token in seen {
            log_probs[token as usize] *= self.repetition_penalty;
        }
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
    /// Whether the training text had bytes that are not UTF-8, which its samples may then have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_bytes: bool,
}

impl Opening {
    /// The opening without a prompt: `<s>` in line mode, `</s>` in document mode, otherwise the
    /// start of a line, or the start of the training text if it has no lines. An unknown training
    /// text (`None`) is assumed to have lines, or else words after spaces.
    ///
    /// # Errors
    /// Tokens that cannot be decoded.
    pub fn new(tokenizer: &Tokenizer, train: Option<&[u32]>) -> Result<Self> {
        /// Most tokens of a character.
        const MAX_TOKENS_PER_CHAR: usize = 4;
        let mut opening =
            Self { any_bytes: train.is_some_and(|ids| !is_utf8(tokenizer, ids)), ..Self::default() };
        if tokenizer.eos().is_some() {
            opening.before = end_of_document(tokenizer);
            return Ok(opening);
        }
        // Within a text, where no tokenizer adds a space.
        let known = |text| -> Result<Vec<u32>> {
            let mut ids = tokenizer.encode_after("a", text)?;
            ids.retain(|id| Some(*id) != tokenizer.unk());
            Ok(ids)
        };
        opening.before = known("\n")?;
        let Some(train) = train else {
            if opening.before.is_empty() {
                opening.before = known(" ")?;
            }
            return Ok(opening);
        };
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
    pub(crate) fn prompt(tokenizer: &Tokenizer, prompt: &str, allow_unknown: bool) -> Result<Self> {
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
            encode_text("the prompt", prompt, tokenizer, &InputOptions::default(), EncodeOptions::default())
                .map(|(_, all)| all);
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
        let (before, first) = (end_of_document(tokenizer), tokenizer.encode(prompt)?);
        Ok(Self { before, first, any_bytes: false })
    }
}

/// Whether a text of bytes is UTF-8, by its beginning; other tokens are made of text.
fn is_utf8(tokenizer: &Tokenizer, ids: &[u32]) -> bool {
    const LOOKED_AT: usize = 1 << 24;
    let mut tail = Vec::new();
    tokenizer.granularity() != Granularity::Byte
        || ids.iter().take(LOOKED_AT).all(|&id| {
            // A mark ends what is before it.
            let Ok(byte) = u8::try_from(id) else { return tail.is_empty() };
            if tail.is_empty() && byte.is_ascii() {
                return true;
            }
            tail.push(byte);
            let starts = starts_utf8(&tail);
            if std::str::from_utf8(&tail).is_ok() {
                tail.clear();
            }
            starts
        })
}

/// Whether `bytes` are the beginning of a UTF-8 text.
pub(crate) fn starts_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
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
        let mut rng = rng_for(7, RngStream::Sampling(0));
        let mut counts = vec![0u32; probs.len()];
        for _ in 0..20_000 {
            counts[sampling.draw(&log_probs, &mut rng).unwrap() as usize] += 1;
        }
        counts.iter().map(|&c| f64::from(c) / 20_000.0).collect()
    }

    #[test]
    fn probabilities_are_those_of_the_draws() {
        let probs = [0.5, 0.0, 0.3, 0.2];
        let log_probs: Vec<f64> = probs.iter().map(|p: &f64| p.ln()).collect();
        for sampling in [
            Sampling::new(1.0, None, None).unwrap(),
            Sampling::new(0.5, Some(2), None).unwrap(),
            Sampling::new(1.5, None, Some(0.6)).unwrap(),
            Sampling::new(0.0, None, None).unwrap(),
            Sampling { min_p: Some(0.5), ..Sampling::new(1.0, None, None).unwrap() },
        ] {
            let exact = sampling.probabilities(&log_probs);
            assert!((exact.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{exact:?}");
            for (share, p) in shares(sampling, &probs).iter().zip(&exact) {
                assert!((share - p).abs() < 0.015, "{exact:?}");
            }
        }
        assert_eq!(Sampling::new(1.0, None, None).unwrap().probabilities(&[f64::NEG_INFINITY]), [0.0]);
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
    fn min_p_is_a_share_of_the_most_likely_and_a_penalty_is_a_power() {
        let min_p = Sampling { min_p: Some(0.5), ..Sampling::new(1.0, None, None).unwrap() };
        let got = shares(min_p, &[0.2, 0.5, 0.3]);
        assert!(got[0] == 0.0 && (got[1] - 0.625).abs() < 0.015, "{got:?}");
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::new(0.0, None, None).unwrap() };
        let mut log_probs = [0.6f64.ln(), 0.4f64.ln()];
        sampling.penalise(&BTreeSet::from([0]), &mut log_probs);
        assert!((log_probs[0] - 0.36f64.ln()).abs() < 1e-12);
        assert_eq!(sampling.draw(&log_probs, &mut rng_for(1, RngStream::Sampling(0))), Some(1));
    }

    #[test]
    fn zero_temperature_is_greedy_and_the_impossible_stays_so() {
        let greedy = Sampling::new(0.0, None, None).unwrap();
        let mut rng = rng_for(1, RngStream::Sampling(0));
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
        let plain = Sampling::new(1.0, None, None).unwrap();
        assert!(Sampling { min_p: Some(1.5), ..plain }.check().is_err());
        assert!(Sampling { repetition_penalty: 0.0, ..plain }.check().is_err());
    }
}
