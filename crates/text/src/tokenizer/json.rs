//! `tokenizer.json`: written so that Hugging Face `tokenizers` reads it, read with suspicion.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::arena::StringArena;
use super::vocab::special_tokens;
use super::{BOS, EOS, Tokenizer, TokenizerKind, TokenizerModel, UNK, Vocab, byte_level};
use crate::TextMode;
use crate::error::{Error, Result};

/// The largest file that is read: the words of a text of some gigabytes.
const MAX_BYTES: usize = 512 << 20;
/// The pattern of KenLM's separators.
const SEPARATORS: &str = "[\\x00\\t\\n\\r ]+";
/// The same without the newline, which is a token in stream mode.
const SEPARATORS_IN_LINE: &str = "[\\x00\\t\\r ]+";

pub(super) fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Tokenizer(message.into()))
}

fn check_size(bytes: &[u8]) -> Result<()> {
    if bytes.len() > MAX_BYTES {
        return refuse(format!("the file has {} bytes, more than {MAX_BYTES}", bytes.len()));
    }
    Ok(())
}

/// The bytes of `tokenizer`'s file, none that [`read`] would refuse for its size.
pub(super) fn write(tokenizer: &Tokenizer) -> Result<Vec<u8>> {
    let mode = tokenizer.mode;
    let bytes = match &tokenizer.model {
        // By way of a value, whose keys are in order.
        TokenizerModel::Bpe(bpe) => to_bytes(&serde_json::to_value(bpe).map_err(byte_level::library_error)?),
        TokenizerModel::Byte => {
            let vocab: Map<_, _> = (0..=255u8)
                .map(|byte| (byte_level::byte_to_unicode(byte).to_string(), byte.into()))
                .collect();
            let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
            let model = json!({
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": [],
            });
            // All but the unknown, which no byte is.
            file(&special_tokens(mode)[1..], 256, byte_level.clone(), byte_level, model)
        }
        TokenizerModel::Char(vocab) => {
            let pre_tokenizer = json!({ "type": "FixedLength", "length": 1 });
            file(special_tokens(mode), 0, pre_tokenizer, json!({ "type": "Fuse" }), WordLevel::of(vocab))
        }
        TokenizerModel::Word(vocab) => {
            file(special_tokens(mode), 0, word_pre_tokenizer(mode), Value::Null, WordLevel::of(vocab))
        }
    }?;
    check_size(&bytes)?;
    Ok(bytes)
}

fn word_pre_tokenizer(mode: TextMode) -> Value {
    let split = |pattern: &str, behavior: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": behavior, "invert": false });
    match mode {
        TextMode::Line => split(SEPARATORS, "Removed"),
        TextMode::Stream => json!({
            "type": "Sequence",
            "pretokenizers": [split(SEPARATORS_IN_LINE, "Removed"), split("\\n", "Isolated")],
        }),
    }
}

fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(byte_level::library_error)
}

/// The model of a vocab: written straight from it, because it may have millions of words.
#[derive(Serialize)]
struct WordLevel<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(serialize_with = "by_id")]
    vocab: &'a StringArena,
    unk_token: &'static str,
}

impl<'a> WordLevel<'a> {
    fn of(new: &'a Vocab) -> Self {
        Self { kind: "WordLevel", vocab: new.words(), unk_token: UNK }
    }
}

fn by_id<S: Serializer>(words: &StringArena, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(words.iter().zip(0u32..))
}

/// The file whose special tokens have the ids from `first` on.
fn file(
    specials: &[&str],
    first: u32,
    pre_tokenizer: Value,
    decoder: Value,
    model: impl Serialize,
) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Written<M> {
        version: &'static str,
        truncation: (),
        padding: (),
        added_tokens: Vec<Value>,
        normalizer: (),
        pre_tokenizer: Value,
        post_processor: (),
        decoder: Value,
        model: M,
    }
    let token = |(id, content): (u32, &&str)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    to_bytes(&Written {
        version: "1.0",
        truncation: (),
        padding: (),
        added_tokens: (first..).zip(specials).map(token).collect(),
        normalizer: (),
        pre_tokenizer,
        post_processor: (),
        decoder,
        model,
    })
}

/// The parts of a file that are looked at.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Read {
    truncation: Value,
    padding: Value,
    normalizer: Value,
    added_tokens: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model,
}

/// Its model: what the four codecs use, and what they must not meet.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Model {
    #[serde(rename = "type")]
    kind: Value,
    vocab: Option<ParsedVocab>,
    merges: Value,
    dropout: Value,
    unk_token: Value,
    continuing_subword_prefix: Value,
    end_of_word_suffix: Value,
    byte_fallback: Value,
    fuse_unk: Value,
}

/// The tokens, with ids 0..n, each once.
#[derive(Default)]
struct ParsedVocab(Vocab);

impl<'de> Deserialize<'de> for ParsedVocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(VocabVisitor)
    }
}

/// A key that is read in place where no escape stands in it.
#[derive(Deserialize)]
struct Token<'a>(#[serde(borrow)] Cow<'a, str>);

struct VocabVisitor;

impl<'de> Visitor<'de> for VocabVisitor {
    type Value = ParsedVocab;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vocabulary: an object of tokens and their ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ParsedVocab, A::Error> {
        let mut tokens: Vec<(u64, Cow<'de, str>)> = Vec::new();
        while let Some((Token(token), id)) = map.next_entry::<Token<'de>, u64>()? {
            tokens.push((id, token));
        }
        tokens.sort_unstable();
        let size = tokens.len();
        let mut words = StringArena::default();
        for (id, token) in tokens {
            let next = words.len() as u64;
            if id < next {
                let other = words.get(id as usize).unwrap_or_default();
                return Err(A::Error::custom(format!("{token:?} and {other:?} have the same id")));
            }
            if id > next {
                let message = format!("{token:?} has the id {id}, but of {size} tokens none has {next}");
                return Err(A::Error::custom(message));
            }
            words.push(&token).map_err(A::Error::custom)?;
        }
        let vocab = Vocab::from(words);
        match vocab.first_duplicate() {
            Some(word) => Err(A::Error::custom(duplicate(word))),
            None => Ok(ParsedVocab(vocab)),
        }
    }
}

/// Of a word that stands in a vocabulary twice.
pub(super) fn duplicate(word: &str) -> Error {
    Error::Tokenizer(format!("{word:?} stands in it twice"))
}

/// A tokenizer from a file's bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Tokenizer> {
    check_size(bytes)?;
    // The parser's own depth limit (128) keeps nesting harmless.
    let mut file: Read = serde_json::from_slice(bytes).map_err(|error| {
        let not_json = error.is_syntax() || error.is_eof();
        Error::Tokenizer(if not_json { format!("not JSON: {error}") } else { error.to_string() })
    })?;
    let unused =
        [("truncation", &file.truncation), ("padding", &file.padding), ("normalizer", &file.normalizer)];
    if let Some((part, _)) = unused.iter().find(|(_, value)| !value.is_null()) {
        return refuse(format!("it has a {part}, which this program does not use"));
    }
    let Some(ParsedVocab(vocab)) = file.model.vocab.take() else {
        return refuse("its model has no vocabulary");
    };
    let mode = added_tokens(&file.added_tokens)?;
    let pre = &file.pre_tokenizer;
    match (file.model.kind.as_str(), pre["type"].as_str()) {
        (Some("WordLevel"), Some("FixedLength")) => {
            if pre["length"] != 1 {
                return refuse("a FixedLength pre-tokenizer must have length 1");
            }
            Tokenizer::from_vocab(TokenizerKind::Char, mode, vocab)
        }
        (Some("WordLevel"), Some("Split" | "Sequence")) => {
            if *pre != word_pre_tokenizer(mode) {
                return refuse("its pre-tokenizer does not cut at white space as this program does");
            }
            Tokenizer::from_vocab(TokenizerKind::Word, mode, vocab)
        }
        (Some("BPE"), Some("ByteLevel")) => byte_level(bytes, &file, vocab.words(), mode),
        (model, pre) => {
            let name = |part: Option<&str>| part.unwrap_or("none").to_owned();
            refuse(format!(
                "a model {} with a pre-tokenizer {} is not one of byte, char, word and byte-level BPE",
                name(model),
                name(pre)
            ))
        }
    }
}

/// The special tokens: none or `<unk>`, and in line mode `<s>` and `</s>`, each once.
fn added_tokens(added: &Value) -> Result<TextMode> {
    let added = added.as_array().map_or(&[][..], Vec::as_slice);
    let mut names = Vec::new();
    for token in added {
        // The library would find an ordinary one in a text; in a text these names are only text.
        if token["special"] != json!(true) {
            return refuse(format!("its added token {} is not special", token["content"]));
        }
        match token["content"].as_str() {
            Some(name) if names.contains(&name) => return refuse(format!("it adds {name} twice")),
            Some(name @ (UNK | BOS | EOS | "<|endoftext|>")) => names.push(name),
            _ => {
                return refuse(format!(
                    "it has an added token {}, which means nothing here",
                    token["content"]
                ));
            }
        }
    }
    match (names.contains(&BOS), names.contains(&EOS)) {
        (true, true) => Ok(TextMode::Line),
        (false, false) => Ok(TextMode::Stream),
        _ => refuse("it has only one of <s> and </s>"),
    }
}

/// Every merge is of two tokens into a third. The library panics at one that is longer than any token.
fn check_merges(merges: &Value, known: &BTreeSet<&str>) -> Result<()> {
    let Some(merges) = merges.as_array() else { return refuse("its merges are no list") };
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
        let Some((a, b)) = pair else { return refuse("one of its merges is no pair of tokens") };
        if !(known.contains(a) && known.contains(b) && known.contains(format!("{a}{b}").as_str())) {
            return refuse(format!("its merge of {a:?} and {b:?} is not of tokens into a token"));
        }
    }
    Ok(())
}

/// Bytes alone, or BPE over them.
fn byte_level(bytes_of_file: &[u8], file: &Read, vocab: &StringArena, mode: TextMode) -> Result<Tokenizer> {
    let model = &file.model;
    for (key, value) in [
        ("dropout", &model.dropout),
        ("unk_token", &model.unk_token),
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
        ("byte_fallback", &model.byte_fallback),
        ("fuse_unk", &model.fuse_unk),
    ] {
        if !(value.is_null() || *value == json!(false) || *value == json!("")) {
            return refuse(format!("its BPE model sets {key}, which this program does not use"));
        }
    }
    if file.pre_tokenizer["add_prefix_space"] == json!(true) {
        return refuse("its pre-tokenizer adds a space before the text");
    }
    let no_merges = model.merges.as_array().is_some_and(Vec::is_empty);
    // A text without a repeated pair teaches BPE no merges; unlike bytes, such a tokenizer still cuts words first.
    if no_merges && file.pre_tokenizer["use_regex"] != json!(true) {
        if !vocab.iter().eq((0..=255u8).map(|byte| byte_level::byte_to_unicode(byte).to_string())) {
            return refuse("a byte vocabulary must have the 256 bytes, in order");
        }
        return Ok(Tokenizer { model: TokenizerModel::Byte, mode });
    }
    if !matches!(file.decoder["type"].as_str(), Some("ByteLevel")) {
        return refuse("a byte-level BPE needs a ByteLevel decoder");
    }
    if !matches!(file.post_processor["type"].as_str(), None | Some("ByteLevel")) {
        return refuse("it has a post-processor, which this program does not use");
    }
    // A byte without a token would vanish from every text, and its bits with it.
    let known: BTreeSet<&str> = vocab.iter().collect();
    let lacks = |byte: &u8| !known.contains(byte_level::byte_to_unicode(*byte).to_string().as_str());
    if let Some(byte) = (0..=255u8).find(lacks) {
        return refuse(format!("its vocabulary lacks the byte 0x{byte:02X}"));
    }
    if mode == TextMode::Line && !vocab.iter().take(2).eq([BOS, EOS]) {
        return refuse("its first tokens are not <s>, </s>");
    }
    check_merges(&model.merges, &known)?;
    let mut library = tokenizers::Tokenizer::from_bytes(bytes_of_file).map_err(byte_level::library_error)?;
    library.set_encode_special_tokens(true);
    Ok(Tokenizer { model: TokenizerModel::Bpe(Box::new(library)), mode })
}
