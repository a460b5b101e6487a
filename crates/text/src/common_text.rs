//! One text for several tokenizers, and the bytes of each of its tokens.

use std::collections::BTreeMap;

use crate::chunks::{Location, Span, TextChunks};
use crate::clean::Cleaning;
use crate::encode::{UnknownText, encode_and_keep};
use crate::error::Result;
use crate::tokenizer::is_separator;
use crate::{EncodeOptions, Granularity, LastLine, TextMode, TokenText, Tokenizer};

/// A text in memory on which the models of several tokenizers are scored.
///
/// Word tokenizers take several separators for one and so do not determine a text. Of the folded
/// text they do: there is one space between two words, and none beside a newline.
#[derive(Debug)]
pub struct CommonText {
    spans: Vec<Span>,
    options: EncodeOptions,
    /// Its length.
    pub bytes: u64,
    /// A hash (BLAKE3) of its documents.
    pub hash: blake3::Hash,
}

impl CommonText {
    pub(crate) fn new(spans: &[Span], mode: TextMode, options: EncodeOptions, folded: bool) -> Result<Self> {
        let mut documents = vec![Vec::new()];
        for chunk in TextChunks::new(spans) {
            let chunk = chunk?;
            let Some(document) = documents.last_mut() else { break };
            if folded {
                fold(&chunk.bytes, document);
            } else {
                document.extend_from_slice(&chunk.bytes);
            }
            let open = document.last().is_some_and(|&byte| byte != b'\n');
            if mode == TextMode::Line
                && chunk.ends_document
                && open
                && options.last_line == LastLine::Sentence
            {
                document.push(b'\n');
            }
            if mode == TextMode::Document && chunk.ends_document {
                documents.push(Vec::new());
            }
        }
        if mode == TextMode::Document {
            documents.pop_if(|last| last.is_empty());
        }
        let mut hasher = blake3::Hasher::new();
        for document in &documents {
            hasher.update(&(document.len() as u64).to_le_bytes()).update(document);
        }
        let bytes = documents.iter().map(|document| document.len() as u64).sum();
        // The text has been cleaned.
        let cleaning = Cleaning { any_bytes: true, ..Cleaning::default() };
        let span = |document: Vec<u8>| Span {
            end: document.len() as u64,
            location: Location::Memory { name: "the common text".into(), text: document.into() },
            cleaning,
            ends_document: true,
            ..Span::default()
        };
        Ok(Self { spans: documents.into_iter().map(span).collect(), options, bytes, hash: hasher.finalize() })
    }

    /// Its tokens, and the text of every `<unk>` among them by position.
    ///
    /// # Errors
    /// Text that is not UTF-8, for tokenizers of text.
    pub fn encode(&self, tokenizer: &Tokenizer) -> Result<(TokenText, BTreeMap<usize, String>)> {
        let (text, unknown, _) = encode_and_keep(&self.spans, tokenizer, self.options, UnknownText::Listed)?;
        Ok((text, unknown))
    }
}

/// Appends `text` with one space between words and none beside newlines.
fn fold(text: &[u8], folded: &mut Vec<u8>) {
    for (line, text) in text.split(|&byte| byte == b'\n').enumerate() {
        if line > 0 {
            folded.push(b'\n');
        }
        for word in text.split(|&byte| is_separator(byte)).filter(|word| !word.is_empty()) {
            if folded.last().is_some_and(|&byte| byte != b'\n') {
                folded.push(b' ');
            }
            folded.extend_from_slice(word);
        }
    }
}

impl TokenText {
    /// The bytes of each token that an evaluation scores, in the decoded text; a word has those of
    /// the space before it, and `</s>` of a line that of the newline. `unknown` gives those of the
    /// `<unk>` at a position.
    pub fn lengths<'a>(
        &'a self,
        tokenizer: &'a Tokenizer,
        unknown: impl Fn(usize) -> u64 + 'a,
    ) -> impl Iterator<Item = u64> + 'a {
        let words = tokenizer.granularity() == Granularity::Word;
        let mut after_word = false;
        self.ids.iter().enumerate().filter(|(_, id)| Some(**id) != self.bos()).map(move |(at, &id)| {
            if Some(id) == tokenizer.eos() {
                after_word = false;
                return u64::from(tokenizer.mode() == TextMode::Line);
            }
            let is_unknown = Some(id) == tokenizer.unk();
            let bytes = tokenizer.token_bytes(id);
            let is_newline = words && !is_unknown && *bytes == *b"\n";
            let space = u64::from(words && after_word && !is_newline);
            after_word = !is_newline;
            space + if is_unknown { unknown(at) } else { bytes.len() as u64 }
        })
    }

    /// The bytes of the text that word tokens stand for, in which one separator is between two
    /// words; of the text itself for other tokens, and where unknown words were not recorded.
    pub fn decoded_bytes(&self, tokenizer: &Tokenizer) -> u64 {
        let spelled = match &self.unknown {
            Some(unknown) => unknown.iter().map(|(word, count)| word.len() as u64 * count).sum(),
            None => 0,
        };
        if tokenizer.granularity() != Granularity::Word || self.oov > 0 && self.unknown.is_none() {
            return self.bytes;
        }
        self.lengths(tokenizer, |_| 0).sum::<u64>() + spelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenizerKind;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_tokens_of_all_tokenizers_add_up_to_the_folded_text(text in "([ab]{0,2}[ \t\n\r]{0,3}|é|<s>){1,40}x") {
            for mode in [TextMode::Stream, TextMode::Line, TextMode::Document] {
                let span = Span { location: Location::Memory { name: "t".into(), text: text.as_bytes().into() }, ..Span::from_text("t", &text) };
                let options = EncodeOptions { threads: 1, ..EncodeOptions::default() };
                let common = CommonText::new(&[span], mode, options, true).unwrap();
                let again = CommonText::new(&common.spans, mode, options, true).unwrap();
                prop_assert_eq!(common.hash, again.hash);
                // Half the words and characters are unknown.
                let known = Span::from_text("known", "a b ab\n");
                for kind in [TokenizerKind::Byte, TokenizerKind::Char, TokenizerKind::Word] {
                    let tokenizer = crate::encode::train(kind, mode, std::slice::from_ref(&known), options).unwrap();
                    let (tokens, unknown) = common.encode(&tokenizer).unwrap();
                    let lengths = tokens.lengths(&tokenizer, |at| unknown[&at].len() as u64);
                    let marks = text.contains("<s>") && kind == TokenizerKind::Word && mode == TextMode::Line;
                    if !marks {
                        prop_assert_eq!(lengths.sum::<u64>(), common.bytes, "{:?} {} {:?}", mode, kind, text);
                        prop_assert_eq!(tokens.decoded_bytes(&tokenizer), common.bytes);
                    }
                    let counted: u64 = tokens.unknown.iter().flat_map(|unknown| unknown.values()).sum();
                    prop_assert_eq!(counted, tokens.oov);
                }
            }
        }
    }
}
