//! `tokenizer.json`: written so that Hugging Face `tokenizers` reads it, and checked when read.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::arena::StringArena;
use super::codec::CodecRegistry;
use super::{BOS, Codec, EOS, Tokenizer, TokenizerKind, UNK, Vocab};
use crate::TextMode;
use crate::error::{Error, Result};

/// The largest file that is read: enough for the words of a text of some gigabytes.
const MAX_BYTES: usize = 512 << 20;

pub(super) fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Tokenizer(message.into()))
}

fn check_size(bytes: &[u8]) -> Result<()> {
    if bytes.len() > MAX_BYTES {
        return refuse(format!("the file has {} bytes, more than {MAX_BYTES}", bytes.len()));
    }
    Ok(())
}

/// The reader of one built-in codec: `None` for a file of another codec.
pub(super) type Reader = fn(&mut JsonFile<'_>) -> Result<Option<Arc<dyn Codec>>>;

/// Writes a file, which is never larger than [`read`] accepts.
pub(super) fn write(codec: &dyn Codec) -> Result<Vec<u8>> {
    let mut bytes = codec.save()?;
    if let TokenizerKind::Custom(name) = codec.kind() {
        let state = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Tokenizer(format!("the codec \"{name}\" saved no JSON: {error}")))?;
        let codec = CustomCodec { name: name.into(), mode: codec.mode(), state };
        bytes = to_bytes(&json!({ "custom_codec": codec }))?;
    }
    check_size(&bytes)?;
    Ok(bytes)
}

pub(super) fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Tokenizer(error.to_string()))
}

/// The model of a [`Vocab`], serialized without a copy because it may have millions of words.
#[derive(Serialize)]
pub(super) struct WordLevel<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(serialize_with = "by_id")]
    vocab: &'a StringArena,
    unk_token: &'static str,
}

impl<'a> WordLevel<'a> {
    pub(super) fn new(vocab: &'a Vocab) -> Self {
        Self { kind: "WordLevel", vocab: vocab.words(), unk_token: UNK }
    }
}

fn by_id<S: Serializer>(words: &StringArena, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(words.iter().zip(0u32..))
}

/// Writes a file whose special tokens have the ids from `first` on.
pub(super) fn write_file(
    special_tokens: &[&str],
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
        added_tokens: (first..).zip(special_tokens).map(token).collect(),
        normalizer: (),
        pre_tokenizer,
        post_processor: (),
        decoder,
        model,
    })
}

/// The fields of a file that are read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    truncation: Value,
    padding: Value,
    normalizer: Value,
    added_tokens: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Model,
    custom_codec: Option<CustomCodec>,
}

/// The model of a file: fields that the codecs use, and fields that must not be set.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Model {
    #[serde(rename = "type")]
    kind: Value,
    vocab: Option<ParsedVocab>,
    pub(super) merges: Value,
    pub(super) dropout: Value,
    pub(super) unk_token: Value,
    pub(super) continuing_subword_prefix: Value,
    pub(super) end_of_word_suffix: Value,
    pub(super) byte_fallback: Value,
    pub(super) fuse_unk: Value,
}

/// The file of a codec from outside this crate; the `tokenizers` library does not read it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomCodec {
    name: String,
    mode: TextMode,
    state: Value,
}

/// A file of a built-in codec.
pub(super) struct JsonFile<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) mode: TextMode,
    pub(super) vocab: Vocab,
    fields: Fields,
}

impl JsonFile<'_> {
    /// Whether it has this type of model and one of these types of pre-tokenizer.
    pub(super) fn is(&self, model: &str, pre_tokenizers: &[&str]) -> bool {
        let pre_tokenizer = self.fields.pre_tokenizer["type"].as_str();
        self.model().kind == model && pre_tokenizer.is_some_and(|name| pre_tokenizers.contains(&name))
    }

    pub(super) fn model(&self) -> &Model {
        &self.fields.model
    }

    pub(super) fn pre_tokenizer(&self) -> &Value {
        &self.fields.pre_tokenizer
    }

    /// The type of its decoder.
    pub(super) fn decoder(&self) -> Option<&str> {
        self.fields.decoder["type"].as_str()
    }

    /// The type of its post-processor.
    pub(super) fn post_processor(&self) -> Option<&str> {
        self.fields.post_processor["type"].as_str()
    }
}

/// The tokens, with the distinct ids 0..n.
#[derive(Default)]
struct ParsedVocab(Vocab);

impl<'de> Deserialize<'de> for ParsedVocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(VocabVisitor)
    }
}

/// A key, borrowed from the file if it has no escapes.
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

/// The error for a word that occurs twice in a vocabulary.
pub(super) fn duplicate(word: &str) -> Error {
    Error::Tokenizer(format!("{word:?} is in the vocabulary twice"))
}

/// Reads a file with the `readers` of the built-in codecs, or the loader of a custom one.
pub(super) fn read(bytes: &[u8], readers: &[Reader], registry: &CodecRegistry) -> Result<Tokenizer> {
    check_size(bytes)?;
    // The parser refuses nesting deeper than 128.
    let mut fields: Fields = serde_json::from_slice(bytes).map_err(|error| {
        let not_json = error.is_syntax() || error.is_eof();
        Error::Tokenizer(if not_json { format!("not JSON: {error}") } else { error.to_string() })
    })?;
    if let Some(CustomCodec { name, mode, state }) = fields.custom_codec {
        let Some(load) = registry.get(&name) else {
            return refuse(format!("it is of the custom codec {name:?}, which is not in the registry"));
        };
        return Tokenizer::custom(load(&to_bytes(&state)?, mode)?);
    }
    let unused = [
        ("truncation", &fields.truncation),
        ("padding", &fields.padding),
        ("normalizer", &fields.normalizer),
    ];
    if let Some((part, _)) = unused.iter().find(|(_, value)| !value.is_null()) {
        return refuse(format!("it has a {part}, which this program does not use"));
    }
    let Some(ParsedVocab(vocab)) = fields.model.vocab.take() else {
        return refuse("its model has no vocabulary");
    };
    let mode = added_tokens(&fields.added_tokens)?;
    let mut file = JsonFile { bytes, mode, vocab, fields };
    for reader in readers {
        if let Some(codec) = reader(&mut file)? {
            return Ok(Tokenizer::built_in(codec));
        }
    }
    let name = |part: &Value| part.as_str().unwrap_or("none").to_owned();
    refuse(format!(
        "a model {} with a pre-tokenizer {} is not one of byte, char, word and byte-level BPE",
        name(&file.model().kind),
        name(&file.pre_tokenizer()["type"])
    ))
}

/// The special tokens: none or `<unk>`, and in line mode `<s>` and `</s>`, each once.
fn added_tokens(added: &Value) -> Result<TextMode> {
    let added = added.as_array().map_or(&[][..], Vec::as_slice);
    let mut names = Vec::new();
    for token in added {
        // The library would recognise the name in a text; here it is only text.
        if token["special"] != json!(true) {
            return refuse(format!("its added token {} is not special", token["content"]));
        }
        match token["content"].as_str() {
            Some(name) if names.contains(&name) => return refuse(format!("it adds {name} twice")),
            Some(name @ (UNK | BOS | EOS | "<|endoftext|>")) => names.push(name),
            _ => {
                return refuse(format!(
                    "it has an added token {}, which this program does not use",
                    token["content"]
                ));
            }
        }
    }
    match (names.contains(&BOS), names.contains(&EOS)) {
        (true, true) => Ok(TextMode::Line),
        (false, false) => Ok(TextMode::Stream),
        (false, true) => Ok(TextMode::Document),
        (true, false) => refuse("it has <s> without </s>"),
    }
}
