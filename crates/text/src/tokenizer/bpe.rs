//! Byte-level BPE (Sennrich et al. 2016) by the Hugging Face `tokenizers` library.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Library, TokenizerBuilder};

use super::byte_level::{byte_to_unicode, check_byte_level, is_bytes_only, unicode_to_byte};
use super::codec::{Codec, SpecialIds, TrainingText};
use super::json::{JsonFile, refuse, to_bytes, write_file};
use super::{TokenizerKind, special_tokens};
use crate::TextMode;
use crate::error::{Error, Result};

/// The BPE tokenizer: `<s>` and `</s>` in line mode, then bytes, then merged strings.
#[derive(Debug, Clone)]
pub(crate) struct BpeCodec {
    library: Box<Library>,
    /// The vocabulary size that training aims at.
    target_size: usize,
    mode: TextMode,
}

pub(super) fn library_error(error: impl std::fmt::Display) -> Error {
    Error::Tokenizer(error.to_string())
}

impl BpeCodec {
    pub(super) fn new(target_size: usize, mode: TextMode) -> Self {
        Self { library: Box::new(Library::new(BPE::default())), target_size, mode }
    }

    /// A text that contains "<s>" contains three characters, not a special token.
    fn set_library(&mut self, mut library: Library) {
        library.set_encode_special_tokens(true);
        *self.library = library;
    }

    pub(super) fn from_json(file: &mut JsonFile<'_>) -> Result<Option<Arc<dyn Codec>>> {
        if !file.is("BPE", &["ByteLevel"]) || is_bytes_only(file) {
            return Ok(None);
        }
        check_byte_level(file)?;
        if !matches!(file.decoder(), Some("ByteLevel")) {
            return refuse("a byte-level BPE needs a ByteLevel decoder");
        }
        if !matches!(file.post_processor(), None | Some("ByteLevel")) {
            return refuse("it has a post-processor, which this program does not use");
        }
        // A byte without a token would be lost from every text, and its bits with it.
        let vocab = file.vocab.words();
        let known: BTreeSet<&str> = vocab.iter().collect();
        let lacks = |byte: &u8| !known.contains(byte_to_unicode(*byte).to_string().as_str());
        if let Some(byte) = (0..=255u8).find(lacks) {
            return refuse(format!("its vocabulary lacks the byte 0x{byte:02X}"));
        }
        let marks = &special_tokens(file.mode)[1..];
        if !vocab.iter().take(marks.len()).eq(marks.iter().copied()) {
            return refuse(format!("its first tokens are not {}", marks.join(", ")));
        }
        check_merges(&file.model().merges, "", |token| known.contains(token))?;
        let mut codec = Self::new(vocab.len(), file.mode);
        codec.set_library(Library::from_bytes(file.bytes).map_err(library_error)?);
        Ok(Some(Arc::new(codec)))
    }
}

impl Codec for BpeCodec {
    fn kind(&self) -> TokenizerKind {
        TokenizerKind::Bpe { vocab_size: self.vocab_size() }
    }

    fn mode(&self) -> TextMode {
        self.mode
    }

    fn vocab_size(&self) -> usize {
        self.library.get_vocab_size(true)
    }

    fn special_ids(&self) -> SpecialIds {
        SpecialIds::marks(self.mode, 0)
    }

    fn learn(&mut self, text: &TrainingText<'_>) -> Result<()> {
        // All special tokens but <unk>: every byte is in the vocabulary.
        let names = &special_tokens(self.mode)[1..];
        let smallest = 256 + names.len();
        if self.target_size < smallest {
            let given = self.target_size;
            let problem = format!("a byte-level BPE vocabulary has at least {smallest} tokens, not {given}");
            return Err(Error::Setting(problem));
        }
        let mut tokenizer = TokenizerBuilder::<
            BPE,
            tokenizers::NormalizerWrapper,
            ByteLevel,
            tokenizers::PostProcessorWrapper,
            ByteLevelDecoder,
        >::new()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(ByteLevel::new(false, false, true)))
        .with_post_processor(None)
        .with_decoder(Some(ByteLevelDecoder::default()))
        .build()
        .map_err(library_error)?;
        let mut trainer = BpeTrainerBuilder::new()
            .vocab_size(self.target_size)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(names.iter().map(|name| AddedToken::from(*name, true)).collect())
            // Every byte gets a token, even if the training text lacks it.
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        // The library's iterator cannot fail, so a failure of ours is returned afterwards.
        let (mut failure, mode) = (None, self.mode);
        let texts = text.chunks().map_while(|text| text.map_err(|error| failure = Some(error)).ok());
        let lines = texts.flat_map(move |text| match mode {
            TextMode::Stream | TextMode::Document => vec![text],
            TextMode::Line => text.lines().map(str::to_owned).collect(),
        });
        tokenizer.train(&mut trainer, lines).map_err(library_error)?;
        match failure {
            Some(error) => Err(error),
            None => {
                self.set_library(tokenizer.into());
                Ok(())
            }
        }
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut encode = |text: &str| -> Result<()> {
            let encoding = self.library.encode_fast(text, false).map_err(library_error)?;
            ids.extend_from_slice(encoding.get_ids());
            Ok(())
        };
        match self.mode {
            TextMode::Stream | TextMode::Document => encode(text),
            TextMode::Line => text.lines().try_for_each(encode),
        }
    }

    fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        let token = self.library.id_to_token(id).unwrap_or_default();
        token.chars().filter_map(unicode_to_byte).collect::<Vec<u8>>().into()
    }

    fn save(&self) -> Result<Vec<u8>> {
        // A `Value` has its keys in order.
        to_bytes(&serde_json::to_value(&self.library).map_err(library_error)?)
    }
}

/// Checks that every merge is of two tokens into a third; in a word, the second one starts with
/// `prefix`.
///
/// The library panics at a merge that is longer than any token.
pub(super) fn check_merges(merges: &Value, prefix: &str, known: impl Fn(&str) -> bool) -> Result<()> {
    let Some(merges) = merges.as_array() else { return refuse("its merges are not a list") };
    for merge in merges {
        // A pair, or two tokens with a space between them.
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(a), Value::String(b)] => Some((a.as_str(), b.as_str())),
                _ => None,
            },
            _ => None,
        };
        let Some((a, b)) = pair else { return refuse("one of its merges is not a pair of tokens") };
        let merged = b.get(prefix.len()..).map(|rest| format!("{a}{rest}"));
        if !(known(a) && known(b) && merged.is_some_and(|merged| known(&merged))) {
            return refuse(format!("its merge of {a:?} and {b:?} is not of tokens into a token"));
        }
    }
    Ok(())
}

/// The `tokenizer.json` of GPT-2's `vocab.json` and `merges.txt`.
pub(super) fn gpt2_json(vocab: &[u8], merges: &[u8]) -> Result<Vec<u8>> {
    const END_OF_TEXT: &str = "<|endoftext|>";
    let vocab: BTreeMap<String, u32> = serde_json::from_slice(vocab).map_err(|error| {
        Error::Tokenizer(format!("vocab.json is not an object of tokens and ids: {error}"))
    })?;
    let merges = std::str::from_utf8(merges)
        .map_err(|error| Error::Tokenizer(format!("merges.txt is not UTF-8: {error}")))?;
    let merges = merges.lines().filter(|line| !(line.is_empty() || line.starts_with("#version")));
    let merges: Vec<&str> = merges.collect();
    let end = vocab.get(END_OF_TEXT).copied();
    let byte_level = |prefix| json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": true });
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
        "vocab": vocab, "merges": merges,
    });
    let special: &[&str] = if end.is_some() { &[END_OF_TEXT] } else { &[] };
    write_file(special, end.unwrap_or(0), byte_level(false), byte_level(true), model)
}
