//! `tokenizer.json`: written so that Hugging Face `tokenizers` reads it, and checked when read.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
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

pub(super) fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T> {
    // The parser refuses nesting deeper than 128.
    serde_json::from_slice(bytes).map_err(|error| {
        let not_json = error.is_syntax() || error.is_eof();
        Error::Tokenizer(if not_json { format!("not JSON: {error}") } else { error.to_string() })
    })
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
    to_bytes(&Written {
        version: "1.0",
        truncation: (),
        padding: (),
        added_tokens: (first..).zip(special_tokens).map(|(id, name)| special_token(id, name)).collect(),
        normalizer: (),
        pre_tokenizer,
        post_processor: (),
        decoder,
        model,
    })
}

/// The entry of a special token in `added_tokens`.
pub(super) fn special_token(id: u32, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    })
}

/// The fields of a file.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Fields<'a> {
    version: Value,
    truncation: Value,
    padding: Value,
    pub(super) added_tokens: Value,
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    post_processor: Value,
    pub(super) decoder: Value,
    #[serde(borrow)]
    pub(super) model: Option<&'a RawValue>,
    #[serde(skip_serializing)]
    custom_codec: Option<CustomCodec>,
}

impl Fields<'_> {
    /// The fields that decide how a text is cut. `truncation`, `padding` and the marks that a
    /// post-processor adds are for other uses of a tokenizer.
    pub(super) fn without_post_processing(&self) -> Self {
        let (version, unused) = (json!("1.0"), Value::Null);
        Self {
            version,
            truncation: unused.clone(),
            padding: unused.clone(),
            post_processor: unused,
            ..self.clone()
        }
    }
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
#[derive(Clone, Serialize, Deserialize)]
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
    model: Model,
    fields: &'a Fields<'a>,
}

impl JsonFile<'_> {
    /// Whether it has this type of model and one of these types of pre-tokenizer.
    pub(super) fn is(&self, model: &str, pre_tokenizers: &[&str]) -> bool {
        let pre_tokenizer = self.fields.pre_tokenizer["type"].as_str();
        self.model().kind == model && pre_tokenizer.is_some_and(|name| pre_tokenizers.contains(&name))
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
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

/// The fields of a file.
pub(super) fn fields(bytes: &[u8]) -> Result<Fields<'_>> {
    check_size(bytes)?;
    parse(bytes)
}

/// Reads the file of a custom codec; `None` for another file.
pub(super) fn read_custom(fields: &mut Fields<'_>, registry: &CodecRegistry) -> Result<Option<Tokenizer>> {
    let Some(CustomCodec { name, mode, state }) = fields.custom_codec.take() else { return Ok(None) };
    let Some(load) = registry.get(&name) else {
        return refuse(format!("it is of the custom codec {name:?}, which is not in the registry"));
    };
    Tokenizer::custom(load(&to_bytes(&state)?, mode)?).map(Some)
}

/// Reads a file with the `readers` of the built-in codecs.
pub(super) fn read_built_in(bytes: &[u8], fields: &Fields<'_>, readers: &[Reader]) -> Result<Arc<dyn Codec>> {
    let unused = [
        ("truncation", &fields.truncation),
        ("padding", &fields.padding),
        ("normalizer", &fields.normalizer),
    ];
    if let Some((part, _)) = unused.iter().find(|(_, value)| !value.is_null()) {
        return refuse(format!("it has a {part}, which this program does not use"));
    }
    let mut model: Model = parse(fields.model.map_or(&b"{}"[..], |model| model.get().as_bytes()))?;
    let Some(ParsedVocab(vocab)) = model.vocab.take() else {
        return refuse("its model has no vocabulary");
    };
    let mode = added_tokens(&fields.added_tokens)?;
    let mut file = JsonFile { bytes, mode, vocab, model, fields };
    for reader in readers {
        if let Some(codec) = reader(&mut file)? {
            return Ok(codec);
        }
    }
    refuse("it is of no built-in codec")
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
