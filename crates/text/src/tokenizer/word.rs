//! Words as tokens, by first appearance.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Value, json};

use super::TokenizerKind;
use super::codec::{Codec, SpecialIds, TrainingText};
use super::json::{JsonFile, WordLevel, refuse, write_file};
use super::pre_tokenizer::{LOAD_PADDING, pre_tokenize};
use super::vocab::{Vocab, special_tokens};
use crate::TextMode;
use crate::error::Result;

/// The pattern of KenLM's separators.
const SEPARATORS: &str = "[\\x00\\t\\n\\r ]+";
/// The same without the newline, which is a token in stream mode.
const SEPARATORS_IN_LINE: &str = "[\\x00\\t\\r ]+";

/// The word tokenizer: special tokens, then words by first appearance.
#[derive(Debug, Clone)]
pub(crate) struct WordCodec {
    pub(crate) vocab: Vocab,
    pub(crate) mode: TextMode,
}

impl WordCodec {
    pub(super) fn new(mode: TextMode) -> Self {
        Self { vocab: Vocab::default(), mode }
    }

    pub(super) fn from_json(file: &mut JsonFile<'_>) -> Result<Option<Arc<dyn Codec>>> {
        if !file.is("WordLevel", &["Split", "Sequence"]) {
            return Ok(None);
        }
        if *file.pre_tokenizer() != pre_tokenizer(file.mode) {
            return refuse("its pre-tokenizer does not cut at white space as this program does");
        }
        let mut codec = Self::new(file.mode);
        codec.set_vocab(std::mem::take(&mut file.vocab))?;
        Ok(Some(Arc::new(codec)))
    }
}

impl Codec for WordCodec {
    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Word
    }

    fn mode(&self) -> TextMode {
        self.mode
    }

    fn vocab_size(&self) -> usize {
        self.vocab.words().len()
    }

    fn special_ids(&self) -> SpecialIds {
        SpecialIds { unk: Some(0), ..SpecialIds::marks(self.mode, 1) }
    }

    /// One thread; [`crate::Corpus::tokenize_train`] uses several, and encodes at the same time.
    fn learn(&mut self, text: &TrainingText<'_>) -> Result<()> {
        let mut vocab = Vocab::new(self.mode, 0)?;
        for chunk in text.chunks() {
            let padded = [chunk?.as_bytes(), &LOAD_PADDING].concat();
            pre_tokenize(&padded, |tokens| {
                let kept = tokens.iter().filter(|token| self.mode.keeps_newlines() || !token.is_newline());
                kept.map(|token| String::from_utf8_lossy(token.bytes(&padded)))
                    .try_for_each(|word| vocab.add(&word).map(drop))
            })?;
        }
        self.vocab = vocab;
        Ok(())
    }

    /// Names of special tokens in the text are unknown words.
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let num_special_tokens = special_tokens(self.mode).len();
        let padded = [text.as_bytes(), &LOAD_PADDING].concat();
        pre_tokenize(&padded, |tokens| {
            let kept = tokens.iter().filter(|token| self.mode.keeps_newlines() || !token.is_newline());
            ids.extend(kept.map(|token| {
                let id = self.vocab.find(token.key, token.bytes(&padded));
                id.filter(|&id| id as usize >= num_special_tokens).unwrap_or(0)
            }));
            Ok(())
        })
    }

    /// In line mode one text, whose words are looked up together.
    fn encode_lines(
        &self,
        lines: &mut dyn Iterator<Item = Cow<'_, str>>,
        ids: &mut Vec<u32>,
        ends: &mut Vec<usize>,
    ) -> Result<()> {
        if self.mode.keeps_newlines() {
            for line in lines {
                self.encode(&line, ids)?;
                ends.push(ids.len());
            }
            return Ok(());
        }
        let mut padded = Vec::new();
        for line in lines {
            let start = padded.len();
            padded.extend_from_slice(line.as_bytes());
            // Within a line, a newline separates words as a space does.
            padded[start..].iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
            padded.push(b'\n');
        }
        padded.extend_from_slice(&LOAD_PADDING);
        let num_special_tokens = special_tokens(self.mode).len();
        pre_tokenize(&padded, |tokens| {
            self.vocab.prefetch(tokens.iter().map(|token| token.key));
            for token in tokens {
                if token.is_newline() {
                    ends.push(ids.len());
                    continue;
                }
                let id = self.vocab.find(token.key, token.bytes(&padded));
                ids.push(id.filter(|&id| id as usize >= num_special_tokens).unwrap_or(0));
            }
            Ok(())
        })
    }

    fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        self.vocab.words().get(id as usize).unwrap_or_default().as_bytes().into()
    }

    fn prefetch(&self, id: u32, is_second: bool) {
        let words = self.vocab.words();
        if is_second { words.prefetch_word(id as usize) } else { words.prefetch_end(id as usize) }
    }

    fn decode(&self, ids: &[u32], text: &mut String) {
        for &id in ids {
            let word = self.vocab.words().get(id as usize).unwrap_or("\u{FFFD}");
            if !(text.is_empty() || text.ends_with('\n') || word == "\n") {
                text.push(' ');
            }
            text.push_str(word);
        }
    }

    fn save(&self) -> Result<Vec<u8>> {
        let model = WordLevel::new(&self.vocab);
        write_file(special_tokens(self.mode), 0, pre_tokenizer(self.mode), Value::Null, model)
    }

    fn vocab(&self) -> Option<&Vocab> {
        Some(&self.vocab)
    }

    fn set_vocab(&mut self, vocab: Vocab) -> Result<()> {
        if let Some(word) = vocab.first_invalid(self.mode, |word| !word.is_empty())? {
            return refuse(format!("{word:?} is not one word"));
        }
        self.vocab = vocab;
        Ok(())
    }
}

/// The pre-tokenizer in tokenizer.json that cuts as [`pre_tokenize`] does.
fn pre_tokenizer(mode: TextMode) -> Value {
    let split = |pattern: &str, behavior: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": behavior, "invert": false });
    match mode {
        TextMode::Line => split(SEPARATORS, "Removed"),
        TextMode::Stream | TextMode::Document => json!({
            "type": "Sequence",
            "pretokenizers": [split(SEPARATORS_IN_LINE, "Removed"), split("\\n", "Isolated")],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokenizer;

    #[test]
    fn a_list_of_words_is_a_tokenizer() {
        let words = ["<unk>", "<s>", "</s>", "b", "a"];
        let tokenizer = Tokenizer::from_words(TokenizerKind::Word, TextMode::Line, words).unwrap();
        assert_eq!(tokenizer.words().unwrap().collect::<Vec<_>>(), words);
        assert_eq!(tokenizer.encode("a b c").unwrap(), [4, 3, 0]);
        assert_eq!([1, 3].map(|id| tokenizer.token_bytes(id)), [&b"<s>"[..], b"b"]);
        let again = Tokenizer::from_json(&tokenizer.to_json().unwrap()).unwrap();
        assert_eq!(again.words().unwrap().collect::<Vec<_>>(), words);
        for (kind, wrong) in [
            (TokenizerKind::Word, &["<unk>", "a"][..]),
            (TokenizerKind::Word, &["<unk>", "<s>", "</s>", "a", "a"]),
            (TokenizerKind::Word, &["<unk>", "<s>", "</s>", ""]),
            (TokenizerKind::Word, &["<unk>", "<s>", "</s>", "<s>"]),
            (TokenizerKind::Char, &["<unk>", "<s>", "</s>", "ab"]),
            (TokenizerKind::Byte, &["<unk>", "<s>", "</s>"]),
        ] {
            let error = Tokenizer::from_words(kind, TextMode::Line, wrong.iter().copied());
            assert!(error.is_err(), "{wrong:?}");
        }
        Tokenizer::from_words(TokenizerKind::Char, TextMode::Stream, ["<unk>", "é"]).unwrap();
    }

    #[test]
    fn lines_that_are_encoded_together_have_the_ids_of_each() {
        let words = ["<unk>", "<s>", "</s>", "a", "a-longer-word", "\n"];
        let lines =
            ["a b a-longer-word", "", "\n", "a\na\r\0a\t", " <s> a</s> </s>", "é", &"a ".repeat(200), "a"];
        for (mode, special) in [(TextMode::Line, 3), (TextMode::Stream, 1)] {
            let words: Vec<&str> = words[..special].iter().chain(&words[3..]).copied().collect();
            let tokenizer = Tokenizer::from_words(TokenizerKind::Word, mode, words).unwrap();
            let (mut ids, mut ends) = (vec![7], Vec::new());
            tokenizer.encode_lines(lines.iter().map(|line| (*line).into()), &mut ids, &mut ends).unwrap();
            let mut start = 1;
            for (line, &end) in lines.iter().zip(&ends) {
                assert_eq!(ids[start..end], tokenizer.encode(line).unwrap(), "{line:?}");
                start = end;
            }
            assert_eq!((ends.len(), start), (lines.len(), ids.len()));
            let mut ids = vec![7];
            tokenizer.ids(lines.iter().cycle().map(|line| line.as_bytes()).take(200), 9, &mut ids);
            let one_by_one = |line: &&str| tokenizer.id(line.as_bytes()).unwrap_or(9);
            assert!(ids[1..].iter().copied().eq(lines.iter().cycle().map(one_by_one).take(200)));
        }
    }

    #[test]
    fn bytes_are_spelt_as_themselves() {
        let tokenizer = Tokenizer::new_bytes(TextMode::Line);
        assert!(tokenizer.words().is_none());
        assert_eq!(*tokenizer.token_bytes(0xFF), [0xFF]);
        assert_eq!(*tokenizer.token_bytes(257), *b"</s>");
        assert!(tokenizer.token_bytes(258).is_empty());
    }
}
