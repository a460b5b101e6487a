//! `tokenizer.json`: written so that Hugging Face `tokenizers` reads it, read with suspicion.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{BOS, Codec, EOS, MAX_VOCABULARY, Table, Tokenizer, UNK, bytes};
use crate::Unit;
use crate::error::{Error, Result};

/// The largest file that is read.
const MAX_BYTES: usize = 64 << 20;
/// The pattern of KenLM's separators.
const SEPARATORS: &str = "[\\x00\\t\\n\\r ]+";
/// The same without the newline, which is a token in stream mode.
const SEPARATORS_IN_LINE: &str = "[\\x00\\t\\r ]+";

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Tokenizer { message: message.into() })
}

/// The bytes of `tokenizer`'s file, none that [`read`] would refuse for its size.
pub(super) fn write(tokenizer: &Tokenizer) -> Result<Vec<u8>> {
    let bytes = write_unchecked(tokenizer)?;
    check_size(&bytes)?;
    Ok(bytes)
}

fn check_size(bytes: &[u8]) -> Result<()> {
    if bytes.len() > MAX_BYTES {
        return refuse(format!("the file has {} bytes, more than {MAX_BYTES}", bytes.len()));
    }
    Ok(())
}

fn write_unchecked(tokenizer: &Tokenizer) -> Result<Vec<u8>> {
    let unit = tokenizer.unit;
    let value = match &tokenizer.codec {
        Codec::Bpe(bpe) => {
            let text =
                bpe.to_string(false).map_err(|error| Error::Tokenizer { message: error.to_string() })?;
            serde_json::from_str(&text).map_err(|error| Error::Tokenizer { message: error.to_string() })?
        }
        Codec::Byte => {
            let mut vocab = Map::new();
            for byte in 0..=255u8 {
                vocab.insert(bytes::to_char(byte).to_string(), byte.into());
            }
            let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
            let model = json!({
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": [],
            });
            file(&specials(unit, 256), byte_level.clone(), byte_level, model)
        }
        Codec::Char(table) => file(
            &table_specials(unit),
            json!({ "type": "FixedLength", "length": 1 }),
            json!({ "type": "Fuse" }),
            word_level(table),
        ),
        Codec::Word(table) => {
            let split = |pattern: &str, behavior: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": behavior, "invert": false });
            let pre = match unit {
                Unit::Line => split(SEPARATORS, "Removed"),
                Unit::Stream => json!({
                    "type": "Sequence",
                    "pretokenizers": [split(SEPARATORS_IN_LINE, "Removed"), split("\\n", "Isolated")],
                }),
            };
            file(&table_specials(unit), pre, Value::Null, word_level(table))
        }
    };
    serde_json::to_vec(&value).map_err(|error| Error::Tokenizer { message: error.to_string() })
}

fn specials(unit: Unit, first: u32) -> Vec<(&'static str, u32)> {
    match unit {
        Unit::Stream => Vec::new(),
        Unit::Line => vec![(BOS, first), (EOS, first + 1)],
    }
}

fn table_specials(unit: Unit) -> Vec<(&'static str, u32)> {
    let mut all = vec![(UNK, 0)];
    all.extend(specials(unit, 1));
    all
}

fn word_level(table: &Table) -> Value {
    // serde_json's map is sorted by token, so the bytes are the same every time.
    let vocab: Map<String, Value> =
        table.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    json!({ "type": "WordLevel", "vocab": vocab, "unk_token": UNK })
}

fn file(specials: &[(&str, u32)], pre_tokenizer: Value, decoder: Value, model: Value) -> Value {
    let added: Vec<Value> = specials
        .iter()
        .map(|(content, id)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder, "model": model,
    })
}

/// A tokenizer from a file's bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Tokenizer> {
    check_size(bytes)?;
    // The parser's own depth limit (128) keeps nesting harmless.
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Error::Tokenizer { message: format!("not JSON: {error}") })?;
    for part in ["truncation", "padding", "normalizer"] {
        if !value[part].is_null() {
            return refuse(format!("it has a {part}, which this program does not use"));
        }
    }
    let model = &value["model"];
    let vocab = vocabulary(model)?;
    let unit = added_tokens(&value)?;
    let pre = &value["pre_tokenizer"];
    let codec = match (model["type"].as_str(), pre["type"].as_str()) {
        (Some("WordLevel"), Some("FixedLength")) => {
            if pre["length"] != 1 {
                return refuse("a FixedLength pre-tokenizer must have length 1");
            }
            let table = table(vocab, unit)?;
            if let Some(token) =
                table.tokens.iter().skip(table_specials(unit).len()).find(|token| token.chars().count() != 1)
            {
                return refuse(format!("{token:?} is not one character"));
            }
            Codec::Char(table)
        }
        (Some("WordLevel"), Some("Split" | "Sequence")) => {
            let table = table(vocab, unit)?;
            let tokenizer = Tokenizer { codec: Codec::Word(table), unit };
            let ours: Value = serde_json::from_slice(&write(&tokenizer)?).unwrap_or_default();
            if &ours["pre_tokenizer"] != pre {
                return refuse("its pre-tokenizer does not cut at white space as this program does");
            }
            return Ok(tokenizer);
        }
        (Some("BPE"), Some("ByteLevel")) => return byte_level(&value, &vocab, unit),
        (model, pre) => {
            let name = |part: Option<&str>| part.unwrap_or("none").to_owned();
            return refuse(format!(
                "a model {} with a pre-tokenizer {} is not one of byte, char, word and byte-level BPE",
                name(model),
                name(pre)
            ));
        }
    };
    Ok(Tokenizer { codec, unit })
}

/// Token by id, checked: ids 0..n, each once.
fn vocabulary(model: &Value) -> Result<Vec<String>> {
    let Some(entries) = model["vocab"].as_object() else { return refuse("its model has no vocabulary") };
    if entries.len() > MAX_VOCABULARY {
        return Err(Error::VocabularyTooLarge { size: entries.len(), limit: MAX_VOCABULARY });
    }
    let mut tokens: Vec<Option<String>> = vec![None; entries.len()];
    for (token, id) in entries {
        let slot = id.as_u64().and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
        match slot {
            Some(slot @ None) => *slot = Some(token.clone()),
            Some(Some(other)) => return refuse(format!("{token:?} and {other:?} have the same id")),
            None => return refuse(format!("{token:?} has the id {id}, outside 0..{}", entries.len())),
        }
    }
    Ok(tokens.into_iter().flatten().collect())
}

/// The special tokens: none or `<unk>`, and in line mode `<s>` and `</s>`, each once.
fn added_tokens(value: &Value) -> Result<Unit> {
    let added = value["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
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
        (true, true) => Ok(Unit::Line),
        (false, false) => Ok(Unit::Stream),
        _ => refuse("it has only one of <s> and </s>"),
    }
}

fn table(tokens: Vec<String>, unit: Unit) -> Result<Table> {
    let mut table = Table::specials(unit)?;
    let specials = table.tokens.clone();
    if !tokens.starts_with(&specials) {
        return refuse(format!("its first tokens are not {}", specials.join(", ")));
    }
    for token in &tokens[specials.len()..] {
        table.add(token)?;
    }
    Ok(table)
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
fn byte_level(value: &Value, vocab: &[String], unit: Unit) -> Result<Tokenizer> {
    let (model, pre) = (&value["model"], &value["pre_tokenizer"]);
    let off = |key: &str| model[key].is_null() || model[key] == json!(false) || model[key] == json!("");
    for key in [
        "dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback",
        "fuse_unk",
    ] {
        if !off(key) {
            return refuse(format!("its BPE model sets {key}, which this program does not use"));
        }
    }
    if pre["add_prefix_space"] == json!(true) {
        return refuse("its pre-tokenizer adds a space before the text");
    }
    let no_merges = model["merges"].as_array().is_some_and(Vec::is_empty);
    // A text without a repeated pair teaches BPE no merges; unlike bytes, such a tokenizer still cuts words first.
    if no_merges && pre["use_regex"] != json!(true) {
        let ours = (0..=255u8)
            .all(|byte| vocab.get(byte as usize).is_some_and(|t| *t == bytes::to_char(byte).to_string()));
        if !ours || vocab.len() != 256 {
            return refuse("a byte vocabulary must have the 256 bytes, in order");
        }
        return Ok(Tokenizer { codec: Codec::Byte, unit });
    }
    if !matches!(value["decoder"]["type"].as_str(), Some("ByteLevel")) {
        return refuse("a byte-level BPE needs a ByteLevel decoder");
    }
    if !matches!(value["post_processor"]["type"].as_str(), None | Some("ByteLevel")) {
        return refuse("it has a post-processor, which this program does not use");
    }
    // A byte without a token would vanish from every text, and its bits with it.
    let known: BTreeSet<&str> = vocab.iter().map(String::as_str).collect();
    let lacks = |byte: &u8| !known.contains(bytes::to_char(*byte).to_string().as_str());
    if let Some(byte) = (0..=255u8).find(lacks) {
        return refuse(format!("its vocabulary lacks the byte 0x{byte:02X}"));
    }
    check_merges(&model["merges"], &known)?;
    if unit == Unit::Line && !vocab.starts_with(&[BOS.to_owned(), EOS.to_owned()]) {
        return refuse("its first tokens are not <s>, </s>");
    }
    // Not the file's bytes but what was checked of them: a key may come twice.
    let checked =
        serde_json::to_vec(value).map_err(|error| Error::Tokenizer { message: error.to_string() })?;
    let mut library = tokenizers::Tokenizer::from_bytes(checked)
        .map_err(|error| Error::Tokenizer { message: error.to_string() })?;
    library.set_encode_special_tokens(true);
    Ok(Tokenizer { codec: Codec::Bpe(Box::new(library)), unit })
}
