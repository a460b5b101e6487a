//! The cost of spelling what a vocabulary lacks.
//!
//! A model of words gives a text with an unknown word only the probability of `<unk>`. The text's
//! own probability is that times the probability of the word's spelling, given that the word is
//! unknown. With it, models of different tokens and vocabularies are distributions over the same
//! texts.

use surprisal_model::LanguageModel;
use surprisal_model::ngram::{NgramConfig, NgramModel, Smoothing};
use surprisal_platform::threads::Pool;
use surprisal_text::{Granularity, TokenText, Tokenizer};

use crate::error::Result;

/// The bytes that no word has.
const SEPARATORS: &[u8] = b"\0\t\n\r ";
/// The number of bytes that words have.
const SYMBOLS: u32 = 256 - SEPARATORS.len() as u32;
const BOS: u32 = SYMBOLS;
const EOS: u32 = SYMBOLS + 1;
/// n of the n-grams of bytes; longer ones give the words of a novel no more.
const ORDER: usize = 6;
/// The number of characters of Unicode: code points that are no surrogates.
const CHARACTERS: u32 = 0x11_0000 - 0x800;
/// Words per task.
const WORDS_PER_TASK: usize = 1 << 13;

/// A distribution over the spellings of words, or characters, that a vocabulary lacks.
pub struct Speller(Kind);

enum Kind {
    /// An n-gram model of the bytes of the vocabulary's words, each counted once, and
    /// ln P(a word that is not in the vocabulary) under it.
    Words { model: Box<NgramModel>, ln_unknown: f64 },
    /// All other characters are equally likely: their surprisal.
    Characters { nats: f64 },
}

/// The symbols of a word between marks; `None` if it has a separator.
fn symbols(word: &[u8]) -> Option<Vec<u32>> {
    let symbol = |&byte: &u8| {
        let is_symbol = !SEPARATORS.contains(&byte);
        is_symbol.then(|| u32::from(byte) - SEPARATORS.iter().filter(|&&other| other < byte).count() as u32)
    };
    let bytes: Option<Vec<u32>> = word.iter().map(symbol).collect();
    Some([&[BOS], bytes?.as_slice(), &[EOS]].concat())
}

impl Speller {
    /// The speller for the vocabulary of `tokenizer`; `None` if the text of its unknown tokens is
    /// not known.
    ///
    /// # Errors
    /// A failure of counting.
    pub fn new(tokenizer: &Tokenizer, pool: &Pool) -> Result<Option<Self>> {
        let special = [tokenizer.unk(), tokenizer.bos(), tokenizer.eos()];
        let known = (0..tokenizer.vocab_size() as u32).filter(|&id| !special.contains(&Some(id)));
        match tokenizer.granularity() {
            Granularity::Word => {
                let mut words: Vec<Vec<u32>> =
                    known.filter_map(|id| symbols(&tokenizer.token_bytes(id))).collect();
                if words.is_empty() {
                    words.push(vec![BOS, EOS]);
                }
                Self::of_words(&words, pool).map(Some)
            }
            Granularity::Char => {
                let others = CHARACTERS - known.count() as u32;
                Ok(Some(Self(Kind::Characters { nats: f64::from(others).ln() })))
            }
            Granularity::Byte | Granularity::Subword => Ok(None),
        }
    }

    fn of_words(words: &[Vec<u32>], pool: &Pool) -> Result<Self> {
        let config = NgramConfig { bos: Some(BOS), ..NgramConfig::new(ORDER, Smoothing::ModifiedKneserNey) };
        let vocab_size = SYMBOLS as usize + 2;
        let model = pool.install(|| NgramModel::estimate(&words.concat(), vocab_size, &config))?;
        // A word is not empty.
        let mut known = model.log_probs(&[BOS, EOS], 1)?[0].exp();
        let sums: Vec<Result<f64>> = pool.map(words.len().div_ceil(WORDS_PER_TASK), |task| {
            let own = &words[task * WORDS_PER_TASK..words.len().min((task + 1) * WORDS_PER_TASK)];
            let batch: Vec<&[u32]> = own.iter().map(Vec::as_slice).collect();
            let mut sum = 0.0;
            model
                .each_log_probs(&batch, 1, &mut |_, log_probs| sum += log_probs.iter().sum::<f64>().exp())?;
            Ok(sum)
        });
        for sum in sums {
            known += sum?;
        }
        Ok(Self(Kind::Words {
            model: Box::new(model),
            ln_unknown: (1.0 - known).max(f64::MIN_POSITIVE).ln(),
        }))
    }

    /// −ln P(spelling | the word is unknown), in nats; infinite for a word that has a separator.
    ///
    /// # Errors
    /// A failure of the model.
    pub fn nats(&self, word: &str) -> Result<f64> {
        match &self.0 {
            Kind::Characters { nats } => Ok(*nats),
            Kind::Words { model, ln_unknown } => match symbols(word.as_bytes()) {
                Some(symbols) => Ok(ln_unknown - model.log_probs(&symbols, 1)?.iter().sum::<f64>()),
                None => Ok(f64::INFINITY),
            },
        }
    }
}

/// The decoded text of tokens: its bytes, and what spelling its unknown words costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spelling {
    /// The bytes of the text that the tokens stand for: of words, with one separator between two.
    pub bytes: u64,
    /// The cost in nats; `None` where the unknown words are not known.
    pub nats: Option<f64>,
}

impl Spelling {
    /// That of `text`.
    ///
    /// # Errors
    /// A failure of counting.
    pub fn of(tokenizer: &Tokenizer, text: &TokenText, pool: &Pool) -> Result<Self> {
        let bytes = text.decoded_bytes(tokenizer);
        if text.oov == 0 {
            return Ok(Self { bytes, nats: Some(0.0) });
        }
        let Some(unknown) = &text.unknown else { return Ok(Self { bytes, nats: None }) };
        let Some(speller) = Speller::new(tokenizer, pool)? else { return Ok(Self { bytes, nats: None }) };
        let mut nats = 0.0;
        for (word, &count) in &**unknown {
            nats += count as f64 * speller.nats(word)?;
        }
        Ok(Self { bytes, nats: Some(nats) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surprisal_text::{TextMode, TokenizerKind};

    #[test]
    fn spellings_of_unknown_words_are_a_distribution() {
        let pool = Pool::new(2).unwrap();
        let vocabulary = ["<unk>", "\n", "a", "ab", "the", "é"];
        let tokenizer = Tokenizer::from_words(TokenizerKind::Word, TextMode::Stream, vocabulary).unwrap();
        let speller = Speller::new(&tokenizer, &pool).unwrap().unwrap();
        let Kind::Words { model, ln_unknown } = &speller.0 else { panic!("words") };
        // All strings of up to three bytes, and the prefixes of longer ones.
        let (mut total, mut rest) = (0.0, 0.0);
        let mut open = vec![(vec![BOS], 0.0)];
        for len in 0..=3 {
            let mut longer = Vec::new();
            for (prefix, log_prob) in open {
                let next = model.next_log_probs(&prefix).unwrap();
                let ends = log_prob + next[EOS as usize];
                if len > 0 {
                    total += (ends - ln_unknown).exp();
                }
                if len == 3 {
                    rest += (log_prob - ln_unknown).exp() * (1.0 - next[EOS as usize].exp());
                    continue;
                }
                longer.extend((0..SYMBOLS).map(|symbol| {
                    ([prefix.as_slice(), &[symbol]].concat(), log_prob + next[symbol as usize])
                }));
            }
            open = longer;
        }
        for word in ["a", "ab", "the", "é"] {
            total -= (-speller.nats(word).unwrap()).exp();
        }
        assert!((total + rest - 1.0).abs() < 1e-9, "{total} {rest}");
        // What looks like the known words is likelier.
        assert!(speller.nats("aa").unwrap() < speller.nats("qz").unwrap());
        assert_eq!(speller.nats("a b").unwrap(), f64::INFINITY);
    }

    #[test]
    fn unknown_characters_are_equally_likely_and_other_tokens_have_no_spelling() {
        let pool = Pool::new(1).unwrap();
        let tokenizer =
            Tokenizer::from_words(TokenizerKind::Char, TextMode::Line, ["<unk>", "<s>", "</s>", "a", "b"])
                .unwrap();
        let speller = Speller::new(&tokenizer, &pool).unwrap().unwrap();
        let others = (0..=u32::from(char::MAX)).filter_map(char::from_u32).count() - 2;
        assert!((speller.nats("é").unwrap() - (others as f64).ln()).abs() < 1e-12);
        assert!(Speller::new(&Tokenizer::new_bytes(TextMode::Line), &pool).unwrap().is_none());
    }
}
