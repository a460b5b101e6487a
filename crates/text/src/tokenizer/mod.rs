//! Tokenizers: byte, char, word, and byte-level BPE, and others through the trait [`Codec`].
//!
//! The built-in four are saved as a `tokenizer.json` that Hugging Face `tokenizers` loads and that
//! gives the same ids there. The first three have code of their own here, which is faster and reads
//! bytes that are not UTF-8; tests compare it with the library.
//!
//! Ids: special tokens first (`<unk>` = 0 for char and word; then `<s>`, `</s>` in line mode,
//! `</s>` in document mode), then characters by code point, words by first appearance. A byte is
//! its own id, and the special tokens follow the bytes.
//!
//! Any other `tokenizer.json` is read by the library itself, and keeps the ids that it has there.
//!
//! A new built-in tokenizer is a file here that implements [`Codec`], a variant of
//! [`TokenizerKind`] with its match arms and an entry in `BUILT_IN`, and a reader in `READERS`.

mod arena;
mod bpe;
mod byte;
mod byte_level;
mod char;
mod codec;
mod json;
mod key;
mod library;
mod merge;
mod pre_tokenizer;
mod vocab;
mod word;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TextMode;
use crate::error::{Error, Result};

use arena::StringArena;
pub(crate) use byte::ByteCodec;
pub use byte_level::printable_bytes;
pub use codec::{Codec, CodecLoader, CodecRegistry, Granularity, SpecialIds, TrainingText};
pub(crate) use key::Key;
use key::LOOKUP_BATCH;
pub(crate) use merge::{LocalVocab, map_to_vocab, merge_vocabs};
pub(crate) use pre_tokenizer::{LOAD_PADDING, PreToken, is_separator, pre_tokenize};
pub(crate) use vocab::{Vocab, VocabLookup, special_tokens};
pub(crate) use word::WordCodec;

/// The names of the special tokens.
pub(crate) const UNK: &str = "<unk>";
pub(crate) const BOS: &str = "<s>";
pub(crate) const EOS: &str = "</s>";

/// The largest vocabulary.
pub(crate) const MAX_VOCABULARY: usize = 1 << 24;

/// The kind of a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// A token is a byte.
    Byte,
    /// A token is a character.
    Char,
    /// A token is a string between white space (NUL, tab, newline, carriage return, space); in
    /// stream mode a newline is a token, too.
    Word,
    /// A token is a part of a word, by byte-pair encoding over bytes (Sennrich et al. 2016).
    Bpe {
        /// The number of tokens.
        vocab_size: usize,
    },
    /// A token of a `tokenizer.json` that is of none of the above.
    #[serde(skip_deserializing)]
    File,
    /// The kind of a [`Codec`] from outside this crate, by name.
    #[serde(untagged, skip_deserializing)]
    Custom(#[serde(skip_deserializing)] &'static str),
}

impl TokenizerKind {
    /// The built-in kinds that learn from a text; BPE has a size of 0.
    pub const BUILT_IN: [Self; 4] = [Self::Byte, Self::Char, Self::Word, Self::Bpe { vocab_size: 0 }];

    fn describe(self) -> (&'static str, Granularity) {
        match self {
            Self::Byte => ("byte", Granularity::Byte),
            Self::Char => ("char", Granularity::Char),
            Self::Word => ("word", Granularity::Word),
            Self::Bpe { .. } => ("bpe", Granularity::Subword),
            Self::File => ("file", Granularity::Subword),
            Self::Custom(name) => (name, Granularity::Subword),
        }
    }

    /// The name, as in a config's `tokenizer.kind`.
    pub fn name(self) -> &'static str {
        self.describe().0
    }

    /// The amount of text in one token.
    pub fn granularity(self) -> Granularity {
        self.describe().1
    }

    /// A codec of this kind, before it has a vocabulary.
    fn new_codec(self, mode: TextMode) -> Result<Box<dyn Codec>> {
        Ok(match self {
            Self::Byte => Box::new(ByteCodec::new(mode)),
            Self::Char => Box::new(char::CharCodec::new(mode)),
            Self::Word => Box::new(WordCodec::new(mode)),
            Self::Bpe { vocab_size } => Box::new(bpe::BpeCodec::new(vocab_size, mode)),
            Self::File => return Err(Error::Setting("a tokenizer of kind \"file\" is in a file".into())),
            Self::Custom(name) => {
                return Err(Error::Setting(format!("\"{name}\" is not a built-in tokenizer")));
            }
        })
    }
}

impl fmt::Display for TokenizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The readers of the built-in codecs' files.
const READERS: &[json::Reader] =
    &[ByteCodec::from_json, char::CharCodec::from_json, WordCodec::from_json, bpe::BpeCodec::from_json];

/// A tokenizer: turns text into token ids and back.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    codec: Arc<dyn Codec>,
    /// Whether the codec is from outside this crate, so that its ids are checked.
    is_custom: bool,
}

impl Tokenizer {
    /// The tokenizer of a codec from outside this crate.
    ///
    /// [`Self::to_json`] saves it together with its name, and [`Self::from_json_with`] loads it
    /// from there with a registry of loaders; [`Self::from_json`] refuses it.
    ///
    /// # Errors
    /// A kind other than [`TokenizerKind::Custom`], an empty or too large vocabulary, special ids
    /// outside of it, other marks than its mode has.
    pub fn custom(codec: Arc<dyn Codec>) -> Result<Self> {
        let (kind, size, ids) = (codec.kind(), codec.vocab_size(), codec.special_ids());
        if !matches!(kind, TokenizerKind::Custom(_)) {
            return json::refuse(format!("the kind of a custom codec is TokenizerKind::Custom, not {kind}"));
        }
        if size == 0 {
            return json::refuse(format!("the codec \"{kind}\" has no tokens"));
        }
        if size > MAX_VOCABULARY {
            return Err(Error::VocabularyTooLarge { size, limit: MAX_VOCABULARY });
        }
        let SpecialIds { bos, eos, .. } = SpecialIds::marks(codec.mode(), 0);
        if (ids.bos.is_some(), ids.eos.is_some()) != (bos.is_some(), eos.is_some()) {
            return json::refuse(format!(
                "the codec \"{kind}\" needs <s> in line mode only, and </s> in line and document mode only"
            ));
        }
        if [ids.unk, ids.bos, ids.eos].into_iter().flatten().any(|id| id as usize >= size) {
            return json::refuse(format!("the codec \"{kind}\" has a special id that is not below {size}"));
        }
        Ok(Self { codec, is_custom: true })
    }

    pub(crate) fn built_in(codec: Arc<dyn Codec>) -> Self {
        Self { codec, is_custom: false }
    }

    /// The byte tokenizer.
    pub fn new_bytes(mode: TextMode) -> Self {
        Self::built_in(Arc::new(ByteCodec::new(mode)))
    }

    /// The tokenizer of a built-in kind that learns from `text`.
    pub(crate) fn learn(kind: TokenizerKind, mode: TextMode, text: &TrainingText<'_>) -> Result<Self> {
        let mut codec = kind.new_codec(mode)?;
        codec.learn(text)?;
        Ok(Self::built_in(codec.into()))
    }

    /// The char or word tokenizer whose [`Self::words`] these are.
    ///
    /// # Errors
    /// Another kind, words that do not start with the special tokens, a duplicate, a word that is
    /// not one character for char, too many words.
    pub fn from_words<'a>(
        kind: TokenizerKind,
        mode: TextMode,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self> {
        let words = words.into_iter().map(str::as_bytes);
        let tokenizer = Self::from_stored_words(kind, mode, words)?;
        match tokenizer.codec().vocab().and_then(Vocab::first_duplicate) {
            Some(word) => Err(json::duplicate(word)),
            None => Ok(tokenizer),
        }
    }

    /// [`Self::from_words`] for words from a file with a checksum, which are taken to be distinct.
    ///
    /// The hash index is built at its first use, and never for one short text. Of a duplicate, the
    /// first has its id.
    ///
    /// # Errors
    /// The others of [`Self::from_words`]; bytes that are not UTF-8.
    pub fn from_stored_words<'a>(
        kind: TokenizerKind,
        mode: TextMode,
        words: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self> {
        let mut codec = kind.new_codec(mode)?;
        codec.set_vocab(StringArena::from_bytes(words)?.into())?;
        Ok(Self::built_in(codec.into()))
    }

    /// Reads a `tokenizer.json`: of a built-in tokenizer, or any that the `tokenizers` library
    /// reads and that gives a text one sequence of tokens.
    ///
    /// The file may come from anywhere, so limits are checked first. One that is not of a built-in
    /// tokenizer is in stream mode unless this program saved it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        Self::from_json_with(bytes, &CodecRegistry::default())
    }

    /// [`Self::from_json`] for a file from outside that is to be used in `mode`.
    ///
    /// `<s>` and `</s>` are the file's own tokens for these marks, or are added to it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn from_file(bytes: &[u8], mode: TextMode) -> Result<Self> {
        let tokenizer = Self::from_json(bytes)?;
        if tokenizer.mode() == mode {
            Ok(tokenizer)
        } else {
            Self::library(bytes, &json::fields(bytes)?, mode, true)
        }
    }

    /// The `tokenizer.json` of GPT-2's older pair of files, `vocab.json` and `merges.txt`.
    ///
    /// # Errors
    /// Files of another kind.
    pub fn gpt2_json(vocab: &[u8], merges: &[u8]) -> Result<Vec<u8>> {
        bpe::gpt2_json(vocab, merges)
    }

    /// [`Self::from_json`] that also reads the custom codecs in `registry`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`]; an error of the loader.
    pub fn from_json_with(bytes: &[u8], registry: &CodecRegistry) -> Result<Self> {
        let mut fields = json::fields(bytes)?;
        if let Some(custom) = json::read_custom(&mut fields, registry)? {
            return Ok(custom);
        }
        if let Some(mode) = library::saved_mode(&fields) {
            return Self::library(bytes, &fields, mode, true);
        }
        match json::read_built_in(bytes, &fields, READERS) {
            Ok(codec) => Ok(Self::built_in(codec)),
            Err(_) => Self::library(bytes, &fields, TextMode::Stream, false),
        }
    }

    fn library(bytes: &[u8], fields: &json::Fields<'_>, mode: TextMode, record: bool) -> Result<Self> {
        Ok(Self::built_in(Arc::new(library::LibraryCodec::read(bytes, fields, mode, record)?)))
    }

    /// The bytes of a `tokenizer.json`, the same for the same tokenizer.
    ///
    /// # Errors
    /// A failure of the codec.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        json::write(self.codec())
    }

    /// Its codec.
    pub fn codec(&self) -> &dyn Codec {
        self.codec.as_ref()
    }

    /// Its codec if that is a `C`.
    pub(crate) fn codec_as<C: Codec>(&self) -> Option<&C> {
        (self.codec() as &dyn Any).downcast_ref()
    }

    /// The kind.
    pub fn kind(&self) -> TokenizerKind {
        self.codec().kind()
    }

    /// The way it reads texts.
    pub fn mode(&self) -> TextMode {
        self.codec().mode()
    }

    /// The amount of text in one token.
    pub fn granularity(&self) -> Granularity {
        self.codec().granularity()
    }

    /// |V|, the number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.codec().vocab_size()
    }

    /// The memory in bytes, about.
    pub fn memory(&self) -> u64 {
        let each = |id| self.token_bytes(id).len() as u64 + 100;
        self.codec().vocab().map_or_else(|| (0..self.vocab_size() as u32).map(each).sum(), Vocab::memory)
    }

    /// `<unk>`, the token of everything outside the vocabulary, if there is one.
    pub fn unk(&self) -> Option<u32> {
        self.codec().special_ids().unk
    }

    /// `<s>`, in line mode.
    pub fn bos(&self) -> Option<u32> {
        self.codec().special_ids().bos
    }

    /// `</s>`, in line and document mode.
    pub fn eos(&self) -> Option<u32> {
        self.codec().special_ids().eos
    }

    /// The strings of the vocabulary by id, special tokens included (char and word only).
    pub fn words(&self) -> Option<impl Iterator<Item = &str>> {
        Some(self.codec().vocab()?.words().iter())
    }

    /// The id of a string of the vocabulary, names of special tokens included (char and word only).
    #[inline]
    pub fn id(&self, word: &[u8]) -> Option<u32> {
        self.codec().vocab()?.find(Key::new(word), word)
    }

    /// The ids of `text`, without `<s>` and `</s>`. In line mode newlines are left out.
    ///
    /// # Errors
    /// A failure of the codec.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into("", text, &mut ids)?;
        Ok(ids)
    }

    /// The ids of `text` where it follows `before`.
    ///
    /// # Errors
    /// A failure of the codec.
    pub fn encode_after(&self, before: &str, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into(before, text, &mut ids)?;
        Ok(ids)
    }

    /// Appends to `ids` what [`Self::encode`] returns of each of `lines`, and to `ends` where each
    /// ends there.
    ///
    /// # Errors
    /// A failure of the codec.
    pub fn encode_lines<'l>(
        &self,
        mut lines: impl Iterator<Item = Cow<'l, str>>,
        ids: &mut Vec<u32>,
        ends: &mut Vec<usize>,
    ) -> Result<()> {
        let from = ids.len();
        self.codec().encode_lines(&mut lines, ids, ends)?;
        self.check_custom(&ids[from..])
    }

    /// Appends the id of each of `words`, as [`Self::id`] finds it, or `unknown`.
    pub fn ids<'w>(&self, words: impl Iterator<Item = &'w [u8]>, unknown: u32, ids: &mut Vec<u32>) {
        let Some(vocab) = self.codec().vocab() else { return };
        let mut words = words.map(|word| (Key::new(word), word)).fuse();
        let mut batch = [(Key::new(b""), &b""[..]); LOOKUP_BATCH];
        loop {
            let mut count = 0;
            for (place, word) in batch.iter_mut().zip(&mut words) {
                (*place, count) = (word, count + 1);
            }
            let batch = &batch[..count];
            vocab.prefetch(batch.iter().map(|(key, _)| *key));
            ids.extend(batch.iter().map(|&(key, word)| vocab.find(key, word).unwrap_or(unknown)));
            if count < LOOKUP_BATCH {
                return;
            }
        }
    }

    /// Appends what [`Self::encode_after`] returns, and checks the ids of a custom codec.
    pub(crate) fn encode_into(&self, before: &str, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let from = ids.len();
        self.codec().encode_after(before, text, ids)?;
        self.check_custom(&ids[from..])
    }

    /// Refuses ids of a custom codec that no text has.
    fn check_custom(&self, ids: &[u32]) -> Result<()> {
        if self.is_custom {
            let (size, SpecialIds { bos, eos, .. }) = (self.vocab_size(), self.codec().special_ids());
            let wrong = |&&id: &&u32| id as usize >= size || Some(id) == bos || Some(id) == eos;
            if let Some(id) = ids.iter().find(wrong) {
                let kind = self.kind();
                return json::refuse(format!(
                    "the codec \"{kind}\" encoded a text with the id {id} of {size}"
                ));
            }
        }
        Ok(())
    }

    /// The text of `ids`: `<s>` is left out, `</s>` is a newline, bytes that are not UTF-8 become
    /// U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let SpecialIds { bos, eos, .. } = self.codec().special_ids();
        let is_mark = |id: &u32| Some(*id) == bos || Some(*id) == eos;
        let mut text = String::new();
        for part in ids.split_inclusive(is_mark) {
            let (mark, plain) = match part.split_last() {
                Some((last, plain)) if is_mark(last) => (Some(*last), plain),
                _ => (None, part),
            };
            self.codec().decode(plain, &mut text);
            if mark.is_some() && mark == eos {
                text.push('\n');
            }
        }
        text
    }

    /// The number of ids that no text has: holes in the numbering of a file, or duplicate tokens.
    pub fn unused_ids(&self) -> usize {
        self.codec().unused_ids()
    }

    /// The bytes of a token; the name of `<s>` and `</s>`; empty for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        self.mark_name(id).map_or_else(|| self.codec().token_bytes(id), |name| name.as_bytes().into())
    }

    fn mark_name(&self, id: u32) -> Option<&'static str> {
        let SpecialIds { bos, eos, .. } = self.codec().special_ids();
        if Some(id) == bos {
            return Some(BOS);
        }
        (Some(id) == eos).then_some(EOS)
    }

    /// A token as it is shown to a person, with visible newlines, tabs and spaces.
    pub fn token(&self, id: u32) -> String {
        if let Some(name) = self.mark_name(id) {
            return name.into();
        }
        if self.granularity() == Granularity::Byte
            && let [byte @ 128..=255] = *self.codec().token_bytes(id)
        {
            return format!("0x{byte:02X}");
        }
        // Decoded alone, the first token of a text may lose a space.
        String::from_utf8_lossy(&self.codec().token_bytes(id))
            .replace('\n', "⏎")
            .replace('\t', "⇥")
            .replace(' ', "␣")
    }
}

#[cfg(test)]
mod tests;
