//! The surprisal of words, summed over their pieces.
//!
//! A piece belongs to the word whose characters it has, with the white space in it. White space by
//! itself ends a word and belongs to the word before it: a model of characters or bytes says by it
//! that the word is over. A piece that begins with white space says so of the word before only by
//! beginning the next (Oh and Schuler 2024, "Leading whitespaces of language models' subword
//! vocabulary pose a confound for calculating word probabilities"), so words of both kinds of
//! tokens do not compare one by one; their sums do.

use surprisal_text::{Granularity, Tokenizer};

/// A word of a text with its surprisal.
#[derive(Debug, Clone, PartialEq)]
pub struct WordSurprisal {
    /// The word without white space, or the name of the mark that ends a line.
    pub word: String,
    /// −ln q in nats, over all of its pieces.
    pub nats: f64,
    /// The number of its pieces.
    pub pieces: usize,
    /// The number of `<unk>` among them.
    pub unknown: usize,
}

/// The words of `tokens`, whose surprisals in nats are `nats`; the sums of both are equal.
/// `unknown` gives what the `<unk>` at an index stands for, where that is known.
///
/// White space before the first word belongs to the first word; a text of white space alone is a
/// word without characters.
pub fn by_word<'a>(
    tokenizer: &'a Tokenizer,
    tokens: &[u32],
    nats: &[f64],
    unknown: impl Fn(usize) -> Option<&'a str>,
) -> Vec<WordSurprisal> {
    let mut words: Vec<(Vec<u8>, WordSurprisal)> = Vec::new();
    // Whether the last word may go on, and whether the last entry takes white space.
    let (mut is_open, mut is_word) = (false, false);
    for (index, (&token, &nats)) in tokens.iter().zip(nats).enumerate() {
        let bytes = match unknown(index) {
            Some(text) => text.as_bytes().into(),
            None => tokenizer.token_bytes(token),
        };
        let is_mark = Some(token) == tokenizer.eos();
        let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(bytes.len());
        let is_space = start == bytes.len();
        let whole = is_mark || tokenizer.granularity() == Granularity::Word;
        let begins = match words.last() {
            None => true,
            // White space before the first word.
            Some((word, _)) if word.is_empty() => is_mark,
            Some(_) if is_space => !is_word,
            Some(_) => whole || !is_open || start > 0,
        };
        if begins {
            let word = WordSurprisal { word: String::new(), nats: 0.0, pieces: 0, unknown: 0 };
            words.push((Vec::new(), word));
        }
        if let Some((text, word)) = words.last_mut() {
            text.extend_from_slice(&bytes[start..]);
            word.nats += nats;
            word.pieces += 1;
            word.unknown += usize::from(Some(token) == tokenizer.unk());
        }
        is_word = !is_mark;
        is_open = is_word && bytes.last().is_some_and(|byte| !byte.is_ascii_whitespace());
    }
    let named = |(text, word): (Vec<u8>, WordSurprisal)| WordSurprisal {
        word: String::from_utf8_lossy(&text).trim_ascii_end().to_owned(),
        ..word
    };
    words.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use surprisal_text::{Corpus, DataOptions, TextMode, TokenizerKind};

    /// The words with the numbers of their pieces, which are read off surprisals that are powers of
    /// two.
    fn words(tokenizer: &Tokenizer, text: &str) -> Vec<(String, Vec<usize>)> {
        let mut tokens = tokenizer.encode(text).unwrap();
        tokens.extend(tokenizer.eos());
        let nats: Vec<f64> = (0..tokens.len() as i32).map(|index| 2f64.powi(index)).collect();
        let words = by_word(tokenizer, &tokens, &nats, |_| None);
        assert_eq!(words.iter().map(|word| word.nats).sum::<f64>(), nats.iter().sum::<f64>());
        words
            .into_iter()
            .map(|word| {
                let bits = word.nats as u64;
                let own: Vec<usize> = (0..tokens.len()).filter(|index| bits >> index & 1 == 1).collect();
                assert_eq!(own.len(), word.pieces);
                (word.word, own)
            })
            .collect()
    }

    fn shown(words: &[(String, Vec<usize>)]) -> Vec<(&str, &[usize])> {
        words.iter().map(|(word, pieces)| (word.as_str(), pieces.as_slice())).collect()
    }

    #[test]
    fn every_piece_belongs_to_one_word() {
        let bytes = Tokenizer::new_bytes(TextMode::Stream);
        let found = words(&bytes, " é  a\nbc");
        assert_eq!(shown(&found), [("é", &[0, 1, 2, 3, 4][..]), ("a", &[5, 6]), ("bc", &[7, 8])]);
        assert_eq!(shown(&words(&bytes, "  ")), [("", &[0, 1][..])]);
        assert_eq!(words(&bytes, ""), []);

        let trained = |kind, mode| {
            let options =
                DataOptions { val_fraction: 0.1, train_fraction: 0.1, mode, ..DataOptions::default() };
            Corpus::embedded("stories", &options).unwrap().train_tokenizer(kind).unwrap()
        };
        let lines = trained(TokenizerKind::Word, TextMode::Line);
        let found = words(&lines, "the zyx cat");
        assert_eq!(shown(&found)[0], ("the", &[0][..]));
        assert_eq!(shown(&found)[2..], [("cat", &[2][..]), ("</s>", &[3])]);
        let text = |index| (index == 1).then_some("zyx");
        let unknown = by_word(&lines, &lines.encode("the zyx").unwrap(), &[1.0, 2.0], text);
        let unknown = unknown.iter().map(|word| (word.word.as_str(), word.unknown));
        assert_eq!(unknown.collect::<Vec<_>>(), [("the", 0), ("zyx", 1)]);

        // Pieces with their space before them, in whichever way the words are cut.
        let parts = trained(TokenizerKind::Bpe { vocab_size: 300 }, TextMode::Stream);
        let text = "she walked to the river, and then home.\nThe end";
        let found = words(&parts, text);
        assert_eq!(
            found.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>(),
            text.split_ascii_whitespace().collect::<Vec<_>>()
        );
    }
}
