//! Losses on one text in bits per byte, by which models with different tokens are compared.

use serde::{Deserialize, Serialize};
use surprisal_loss::information;
use surprisal_model::LanguageModel;
use surprisal_platform::threads::Pool;
use surprisal_text::{CommonText, Granularity, TokenText, Tokenizer};

use super::diagnostics::BLOCKS;
use crate::error::Result;
use crate::evaluate::log_probs;
use crate::spelling::Speller;

/// The reason why the losses of two variants do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incomparable {
    /// Their validation texts differ.
    Texts,
    /// Tokens that do not determine a text.
    Lossy,
    /// Unknown tokens whose text is not known.
    Unspelled,
    /// Scores that are not a distribution.
    Scores,
}

/// The loss of a model on the common text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CommonLoss {
    /// Hash (BLAKE3) of the text.
    pub text: String,
    /// Bits per byte with the cost of spelling unknown words; `None`: infinite.
    pub bits_per_byte: Option<f64>,
    /// The part of them that is that cost.
    pub spelling: f64,
    /// Bits per byte of [`BLOCKS`] blocks of equally many bytes; `None` where they are infinite.
    pub blocks: Vec<Option<f64>>,
}

/// The common text as tokens of one tokenizer.
#[derive(Debug)]
pub struct CommonTokens {
    tokens: TokenText,
    /// The cost in nats of spelling each token that is scored; 0 for known ones.
    spelling: Vec<f64>,
    /// The bytes of each token that is scored.
    lengths: Vec<u64>,
    bytes: u64,
    hash: String,
}

impl CommonTokens {
    /// The tokens of `text`, or the reason why a model of such tokens is not a distribution over
    /// texts.
    ///
    /// # Errors
    /// A failure of the tokenizer or of counting spellings.
    pub fn new(
        text: &CommonText,
        tokenizer: &Tokenizer,
        pool: &Pool,
    ) -> Result<std::result::Result<Self, Incomparable>> {
        let (tokens, unknown) = pool.install(|| text.encode(tokenizer))?;
        if tokens.lossy.is_some() {
            return Ok(Err(Incomparable::Lossy));
        }
        let mut spelling = vec![0.0; tokens.ids.len()];
        if !unknown.is_empty() {
            let Some(speller) = Speller::new(tokenizer, pool)? else {
                return Ok(Err(Incomparable::Unspelled));
            };
            for (&at, word) in &unknown {
                spelling[at] = speller.nats(word)?;
            }
        }
        let bos = tokens.bos();
        let mut ids = tokens.ids.iter();
        spelling.retain(|_| ids.next().copied() != bos);
        let length = |at: usize| unknown.get(&at).map_or(0, |word| word.len() as u64);
        let mut lengths: Vec<u64> = tokens.lengths(tokenizer, length).collect();
        let bytes = text.bytes;
        if lengths.iter().sum::<u64>() != bytes {
            if tokenizer.granularity() != Granularity::Subword {
                return Ok(Err(Incomparable::Lossy));
            }
            // Tokens of a file may have no bytes of their own; the borders of blocks need them.
            let count = lengths.len() as u64;
            lengths = (0..count).map(|at| (at + 1) * bytes / count - at * bytes / count).collect();
        }
        Ok(Ok(Self { spelling, lengths, bytes, hash: text.hash.to_hex().to_string(), tokens }))
    }

    /// The hash of the text.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The loss of `model`.
    ///
    /// # Errors
    /// A failure of the model.
    pub fn loss(&self, model: &dyn LanguageModel, pool: &Pool) -> Result<CommonLoss> {
        let nats: Vec<f64> = log_probs(model, &self.tokens, pool)?
            .iter()
            .zip(&self.spelling)
            .map(|(q, cost)| cost - q)
            .collect();
        let bits =
            |nats: f64, bytes: u64| Some(information::bits_per_byte(nats, bytes)).filter(|b| b.is_finite());
        Ok(CommonLoss {
            text: self.hash.clone(),
            bits_per_byte: bits(nats.iter().sum(), self.bytes),
            spelling: information::bits_per_byte(self.spelling.iter().sum(), self.bytes),
            blocks: blocks(&nats, &self.lengths, self.bytes)
                .into_iter()
                .map(|(nats, bytes)| bits(nats, bytes))
                .collect(),
        })
    }
}

/// Nats and bytes of [`BLOCKS`] blocks of equally many bytes; a token's nats are spread evenly over
/// its bytes.
fn blocks(nats: &[f64], lengths: &[u64], bytes: u64) -> Vec<(f64, u64)> {
    let count = (BLOCKS as u64).min(bytes.max(1));
    let border = |block: u64| block * bytes / count;
    let mut blocks: Vec<(f64, u64)> =
        (0..count).map(|block| (0.0, border(block + 1) - border(block))).collect();
    let (mut at, mut block) = (0, 0);
    for (&nats, &length) in nats.iter().zip(lengths) {
        let end = at + length;
        while end > border(block + 1) && block + 1 < count {
            let part = border(block + 1).saturating_sub(at);
            if part > 0 {
                blocks[block as usize].0 += nats * part as f64 / length as f64;
                at += part;
            }
            block += 1;
        }
        let share = if length == 0 { 1.0 } else { (end - at) as f64 / length as f64 };
        blocks[block as usize].0 += nats * share;
        at = end;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_equally_many_bytes_and_all_nats() {
        let lengths: Vec<u64> = (0..500).map(|at| at % 7).collect();
        let nats: Vec<f64> = lengths.iter().map(|&length| 2.0 * length as f64).collect();
        let bytes = lengths.iter().sum();
        let found = blocks(&nats, &lengths, bytes);
        assert_eq!(found.len(), BLOCKS);
        for (nats, bytes) in found {
            assert!((nats - 2.0 * bytes as f64).abs() < 1e-9);
        }
        assert_eq!(blocks(&[1.0, 2.0, 4.0], &[1, 0, 2], 3), [(3.0, 1), (2.0, 1), (2.0, 1)]);
        assert_eq!(blocks(&[5.0], &[0], 0), [(5.0, 0)]);
    }
}
