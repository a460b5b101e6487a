//! Results of an evaluation: sums, and the rates derived from them.

use serde::{Serialize, Serializer};
use serde_json::json;
use surprisal_loss::information;

use crate::error::{Result, no_numbers};
use crate::spelling::Spelling;
use crate::wording::{number, percent, thousands};

/// Sums of an evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evaluation {
    /// Σ −ln q over all tokens; infinite where one has probability zero.
    pub total_nll: f64,
    /// The same without out-of-vocabulary tokens.
    pub nll_in_vocabulary: f64,
    /// The same over the tokens of non-zero probability.
    pub nll_nonzero: f64,
    /// Tokens scored.
    pub tokens: u64,
    /// Bytes of the text.
    pub bytes: u64,
    /// Tokens that are not in the vocabulary.
    pub oov: u64,
    /// Tokens with probability zero.
    pub zero_probability: u64,
    /// −ln p of the text under its source, where that is known.
    pub source_nats: Option<f64>,
    /// Whether the model's scores are not normalised: they are no nats and have no perplexity.
    pub unnormalized: bool,
    /// Whether the tokens do not determine the text: then its bits per byte are not known.
    pub lossy: bool,
    /// The decoded text and the cost of spelling its unknown words, if that has been computed. Bits
    /// per byte include that cost.
    pub spelling: Option<Spelling>,
    /// The 95 % interval of the loss in nats per token, by a bootstrap of blocks of the text
    /// (Künsch 1989); tokens of probability zero are left out. `None` for a text of one block.
    pub interval: Option<(f64, f64)>,
}

impl Evaluation {
    /// The evaluation of several texts, each of which was scored by itself.
    pub fn of_all(parts: &[Self]) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.add(part);
            all.bytes += part.bytes;
            all.unnormalized |= part.unnormalized;
            all.lossy |= part.lossy;
        }
        let spellings: Option<Vec<Spelling>> = parts.iter().map(|part| part.spelling).collect();
        all.spelling = spellings.map(|spellings| Spelling {
            bytes: spellings.iter().map(|one| one.bytes).sum(),
            nats: spellings.iter().map(|one| one.nats).sum(),
        });
        all
    }

    /// L = −(1/T) Σ ln q(w_t | w_<t).
    pub fn nats_per_token(&self) -> f64 {
        self.total_nll / self.tokens as f64
    }

    /// Half the width of the interval, in nats per token; infinite where there is none.
    pub fn half_width(&self) -> f64 {
        self.interval.map_or(f64::INFINITY, |(low, high)| (high - low) / 2.0)
    }

    /// Perplexity exp(L); NaN for scores that are not normalised.
    pub fn perplexity(&self) -> f64 {
        if self.unnormalized { f64::NAN } else { information::perplexity(self.nats_per_token()) }
    }

    /// Bits per byte of the decoded text, Σ nats / (ln 2 · bytes), with the cost of spelling
    /// unknown words where it is known; comparable across tokenizers. NaN if not known.
    pub fn bits_per_byte(&self) -> f64 {
        if self.unnormalized || self.lossy {
            return f64::NAN;
        }
        let bytes = self.spelling.map_or(self.bytes, |spelling| spelling.bytes);
        information::bits_per_byte(self.total_nll + self.spelling_nats().unwrap_or(0.0), bytes)
    }

    /// The part of the bits per byte that is the cost of spelling unknown words; `None` where they
    /// leave it out.
    pub fn spelling_bits_per_byte(&self) -> Option<f64> {
        let spelling = self.spelling.filter(|_| !self.unnormalized && !self.lossy)?;
        Some(information::bits_per_byte(spelling.nats?, spelling.bytes))
    }

    fn spelling_nats(&self) -> Option<f64> {
        self.spelling?.nats
    }

    /// [`Self::bits_per_byte`] in words.
    pub fn bits_per_byte_shown(&self) -> String {
        if self.lossy { "–".to_owned() } else { number(self.bits_per_byte(), 4) }
    }

    /// Perplexity over the tokens in the vocabulary.
    pub fn perplexity_excluding_oov(&self) -> f64 {
        if self.unnormalized {
            return f64::NAN;
        }
        information::perplexity(self.nll_in_vocabulary / (self.tokens - self.oov) as f64)
    }

    /// The evaluation, if its loss is a number.
    ///
    /// # Errors
    /// A loss that is NaN, from a model that has diverged.
    pub fn checked(self) -> Result<Self> {
        if self.total_nll.is_nan() { Err(no_numbers("this model")) } else { Ok(self) }
    }

    /// A message on unknown tokens: their number, their share of the loss, and the perplexity with
    /// and without them.
    pub fn unknown(&self) -> Option<String> {
        if self.oov == 0 {
            return None;
        }
        let (oov, tokens) = (thousands(self.oov), thousands(self.tokens));
        let mut unknown =
            format!("{oov} of {tokens} tokens are unknown ({})", percent(self.oov, self.tokens));
        if !self.unnormalized {
            let without = self.perplexity_excluding_oov();
            let others = if without.is_nan() { "none".to_owned() } else { number(without, 3) };
            let all = number(self.perplexity(), 3);
            unknown.push_str(&format!("; perplexity without them {others}, with them {all}"));
            let share = 1.0 - self.nll_in_vocabulary / self.total_nll;
            if share.is_finite() {
                let spelling = match self.spelling_bits_per_byte() {
                    Some(bits) => format!("spelling them takes {bits:.4} of the bits per byte"),
                    None => "without the cost of spelling them".to_owned(),
                };
                unknown.push_str(&format!(": they are {:.0} % of the loss, {spelling}", 100.0 * share));
            }
        }
        Some(unknown)
    }

    /// H(p): the source's loss on this text, in nats per token.
    pub fn source_entropy(&self) -> Option<f64> {
        self.source_nats.map(|nats| nats / self.tokens as f64)
    }

    /// KL(p‖q) = H(p, q) − H(p), as measured on this text.
    pub fn kl(&self) -> Option<f64> {
        let entropy = self.source_entropy().filter(|_| !self.unnormalized);
        entropy.map(|entropy| self.nats_per_token() - entropy)
    }
}

impl Serialize for Evaluation {
    /// Infinity and NaN become null in JSON.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nats = self.nats_per_token();
        let mut fields = json!({
            "nats_per_token": if self.unnormalized { f64::NAN } else { nats },
            "perplexity": self.perplexity(),
            "bits_per_byte": self.bits_per_byte(),
            "tokens": self.tokens,
            "bytes": self.bytes,
            "oov": self.oov,
            "perplexity_including_oov": self.perplexity(),
            "perplexity_excluding_oov": self.perplexity_excluding_oov(),
            "zero_probability": self.zero_probability,
        });
        if let Some(spelling) = self.spelling_bits_per_byte().filter(|_| self.oov > 0) {
            fields["spelling_bits_per_byte"] = spelling.into();
        }
        if let Some(interval) = self.interval.filter(|_| !self.unnormalized && nats.is_finite()) {
            fields["nats_per_token_interval"] = json!([interval.0, interval.1]);
        }
        if self.unnormalized && nats.is_finite() {
            fields["score_per_token"] = (-nats).into();
        }
        if let Some(entropy) = self.source_entropy() {
            fields["source_entropy"] = entropy.into();
        }
        if let Some(kl) = self.kl() {
            fields["kl"] = kl.into();
        }
        fields.serialize(serializer)
    }
}

impl Evaluation {
    pub(crate) fn add(&mut self, other: &Self) {
        self.total_nll += other.total_nll;
        self.nll_in_vocabulary += other.nll_in_vocabulary;
        self.nll_nonzero += other.nll_nonzero;
        self.tokens += other.tokens;
        self.oov += other.oov;
        self.zero_probability += other.zero_probability;
    }
}
