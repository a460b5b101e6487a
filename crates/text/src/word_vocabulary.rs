//! The choice of the words that a word tokenizer learns; the others become `<unk>`.

use std::cmp::Reverse;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::tokenizer::{BOS, EOS, Key, UNK, Vocab, is_separator, special_tokens};
use crate::{NormalForm, TextMode};

/// The conditions for words of the training text to be in the vocabulary; by default all are.
///
/// A word that does not meet every condition becomes `<unk>`. The newline of a stream is always
/// kept.
#[derive(Debug, Clone, Default)]
pub struct WordVocabulary {
    /// The minimum number of occurrences.
    pub min_count: MinCount,
    /// The maximum number of tokens, special tokens and the newline of a stream included: the most
    /// frequent words are kept, and of equally frequent ones the first of the text.
    pub vocab_size: Option<usize>,
    /// The list of possible words.
    pub list: Option<WordList>,
}

/// The minimum number of occurrences of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinCount {
    /// This number.
    Fixed(u64),
    /// 2 if one in 1,000 tokens or more, but not half of them, is a word that occurs once,
    /// otherwise 1.
    ///
    /// By Good and Turing's estimate, that is the share of unknown words in new text. Each costs
    /// about 10 nats more where `<unk>` is not learned, so from here on it is 0.01 nats per token,
    /// 1 % of the perplexity.
    Auto,
}

impl Default for MinCount {
    fn default() -> Self {
        Self::Fixed(1)
    }
}

/// The words that a [`WordVocabulary`] chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WordChoice {
    /// The minimum number of occurrences.
    pub min_count: u64,
    /// The number of different words in the text.
    pub words: usize,
    /// The number of those in the vocabulary.
    pub kept: usize,
}

impl WordVocabulary {
    /// Checks that the vocabulary has room for a word.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn check(&self, mode: TextMode) -> Result<()> {
        let special = special_tokens(mode);
        match self.vocab_size.filter(|&size| size <= special.len()) {
            None => Ok(()),
            Some(size) => Err(Error::Setting(format!(
                "a vocabulary of {size} has no room for words beside {}",
                special.join(", ")
            ))),
        }
    }

    /// Whether the choice depends on the numbers of occurrences.
    pub fn needs_counts(&self) -> bool {
        self.vocab_size.is_some() || !matches!(self.min_count, MinCount::Fixed(0..=1))
    }

    /// The choice among the words of `vocab`, which occur `counts` times, and whether each is kept.
    pub(crate) fn choose(&self, vocab: &Vocab, mode: TextMode, counts: &[u32]) -> (WordChoice, Vec<bool>) {
        let (words, special) = (vocab.words(), special_tokens(mode));
        let is_word = |id: usize| id >= special.len() && words.get(id) != Some("\n");
        let min_count = match self.min_count {
            MinCount::Fixed(count) => count.max(1),
            MinCount::Auto => {
                let once = (0..words.len()).into_par_iter().filter(|&id| counts[id] == 1 && is_word(id));
                let starts =
                    special.iter().position(|&name| name == BOS).map_or(0, |id| u64::from(counts[id]));
                let tokens = counts.iter().map(|&count| u64::from(count)).sum::<u64>() - starts;
                let once = once.count() as u64;
                if once > 0 && 1000 * once >= tokens && 2 * once < tokens { 2 } else { 1 }
            }
        };
        let is_kept = |id: usize| {
            !is_word(id)
                || (min_count == 1 || u64::from(counts[id]) >= min_count)
                    && self.list.as_ref().is_none_or(|list| list.contains(words.get(id).unwrap_or_default()))
        };
        let mut kept: Vec<bool> = (0..words.len()).into_par_iter().map(is_kept).collect();
        if let Some(size) = self.vocab_size {
            let (mut ranked, always): (Vec<usize>, Vec<usize>) =
                (0..words.len()).filter(|&id| kept[id]).partition(|&id| is_word(id));
            ranked.par_sort_unstable_by_key(|&id| (Reverse(counts[id]), id));
            ranked.iter().skip(size.saturating_sub(always.len())).for_each(|&id| kept[id] = false);
        }
        let lost = kept.iter().filter(|&&kept| !kept).count();
        let words = (0..words.len()).filter(|&id| is_word(id)).count();
        (WordChoice { min_count, words, kept: words - lost }, kept)
    }
}

/// A list of words.
#[derive(Debug, Clone)]
pub struct WordList(Vocab);

impl WordList {
    /// The words in `bytes`, the content of the file `name`: one per line, alone or before a tab.
    /// Empty lines, duplicates and the names of special tokens are ignored. The words get the
    /// normal form of the text.
    ///
    /// # Errors
    /// [`Error::WordList`] with the first wrong line; a list without a word.
    pub fn parse(name: &str, bytes: &[u8], normalize: NormalForm) -> Result<Self> {
        let mut words = Vocab::default();
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        for (line, text) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            let wrong = |problem| Err(Error::WordList { name: name.to_owned(), line, problem });
            let Ok(text) = std::str::from_utf8(text) else { return wrong("is not valid UTF-8") };
            let text = text.strip_suffix('\r').unwrap_or(text);
            let word = text.split('\t').next().unwrap_or_default();
            if word.is_empty() && !text.is_empty() {
                return wrong("has no word before the tab");
            }
            if word.bytes().any(is_separator) {
                return wrong("has more than one word before a tab or the end of the line");
            }
            if !(word.is_empty() || [UNK, BOS, EOS].contains(&word)) {
                words.add(&normalize.of(word))?;
            }
        }
        if words.words().len() == 0 { Err(Error::NoWords(name.to_owned())) } else { Ok(Self(words)) }
    }

    fn contains(&self, word: &str) -> bool {
        self.0.find(Key::new(word.as_bytes()), word.as_bytes()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_word_a_line() {
        let list =
            WordList::parse("w", "\u{feff}the\t12\r\n\n<s>\n<unk>\té\nthe\nΩ".as_bytes(), NormalForm::None);
        assert_eq!(list.unwrap().0.words().iter().collect::<Vec<_>>(), ["the", "Ω"]);
        let composed = WordList::parse("w", "e\u{301}".as_bytes(), NormalForm::Nfc).unwrap();
        assert!(composed.contains("é") && !composed.contains("e\u{301}"));
        for (bytes, line) in
            [(&b"a\nb c\n"[..], 2), (b"a\n\n\t3", 3), (b"\xFF", 1), (b"a\0b\t1", 1), (b" a", 1)]
        {
            let error = WordList::parse("w", bytes, NormalForm::None).unwrap_err();
            assert!(matches!(error, Error::WordList { line: at, .. } if at == line), "{error}");
            assert!(error.to_string().starts_with(&format!("w:{line} ")), "{error}");
        }
        for none in [&b""[..], b"</s>\n\n"] {
            assert!(matches!(WordList::parse("w", none, NormalForm::None), Err(Error::NoWords(_))));
        }
    }
}
