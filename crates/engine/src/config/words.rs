//! Error messages of configs, with the name that was probably meant.

use strsim::levenshtein;

use super::Config;
use super::model::{key_in, of_key, other_kind};
use crate::error::{Advice, Error};

/// Sections and keys, with their names in other programs.
const OTHER_NAMES: [(&str, &str, &str); 23] = [
    ("optim", "lr", "learning_rate max_lr"),
    ("optim", "warmup", "warmup_steps warmup_iters"),
    ("optim", "schedule", "scheduler lr_scheduler_type decay_lr"),
    ("optim", "betas", "beta1 beta2"),
    ("optim", "grad_clip", "clip max_grad_norm"),
    ("optim", "kind", "optim optimizer"),
    ("model", "kind", "model architecture"),
    ("model", "order", "ngram"),
    ("model", "n_layer", "layers num_layers num_hidden_layers depth"),
    ("model", "n_head", "heads num_heads num_attention_heads"),
    ("model", "n_embd", "hidden_size d_model dim embed_dim"),
    ("model", "n_hidden", "d_ff intermediate_size"),
    ("train", "block_size", "context_length context_size seq_len n_ctx"),
    ("train", "steps", "max_steps max_iters iters iterations"),
    ("train", "batch_size", "batch per_device_train_batch_size"),
    ("train", "precision", "dtype"),
    ("tokenizer", "kind", "tokenizer"),
    ("tokenizer", "vocab_size", "n_vocab num_words max_vocab_size"),
    ("tokenizer", "min_count", "min_freq min_frequency"),
    ("tokenizer", "vocab", "vocab_file limit_vocab_file"),
    ("data", "train", "dataset text input"),
    ("data", "val_fraction", "val_split validation_split"),
    ("eval", "every_steps", "eval_interval eval_steps"),
];

type Key = (String, String);

fn keys() -> Vec<Key> {
    let sections = toml::Table::try_from(Config::default()).unwrap_or_default();
    let known = |section: &String| {
        // The error of an unknown key lists all keys.
        let error = toml::from_str::<Config>(&format!("{section}.\"\" = 0")).err();
        let listed = error.map_or_else(String::new, |error| error.message().to_owned());
        let names: Vec<String> = listed.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        names.into_iter().map(|name| (section.clone(), name)).collect::<Vec<_>>()
    };
    // What another section has, too, is more likely that section's.
    sections.keys().chain([&"mixture".to_owned()]).flat_map(known).collect()
}

/// Every key by its name and by its names in other programs.
fn names() -> Vec<(String, Key)> {
    let others = OTHER_NAMES.iter().flat_map(|&(section, key, names)| {
        names.split(' ').map(move |name| (name.to_owned(), (section.to_owned(), key.to_owned())))
    });
    keys().into_iter().map(|key| (key.1.clone(), key)).chain(others).collect()
}

/// A name in the form of keys; at most 64 characters, more than any key has.
fn normal(name: &str) -> String {
    name.chars().take(64).collect::<String>().to_ascii_lowercase().replace('-', "_")
}

/// The section and key of a name, also of a name from another program.
pub fn named(wrong: &str) -> Option<Key> {
    let wrong = normal(wrong);
    names().into_iter().find(|(name, _)| *name == wrong).map(|(_, key)| key)
}

/// The key that was probably meant by `wrong`, which is not in `section`.
fn meant(section: Option<&str>, wrong: &str) -> Option<Key> {
    named(wrong).or_else(|| {
        let wrong = normal(wrong);
        let near = |name: &str| levenshtein(&wrong, name) <= name.len().max(wrong.len()) / 2;
        let of_section = |of: &String| section.is_none_or(|section| section == of);
        let near = names().into_iter().filter(|(name, (of, _))| of_section(of) && near(name));
        near.min_by_key(|(name, _)| levenshtein(&wrong, name)).map(|(_, key)| key)
    })
}

/// A hint with all known names, the one that was probably meant first.
pub(super) fn one_of(wrong: &str, known: &[&str]) -> String {
    let wrong = normal(wrong);
    let near = |name: &&&str| levenshtein(&wrong, name) <= name.len().max(wrong.len()) / 2;
    let meant = known.iter().filter(near).min_by_key(|name| levenshtein(&wrong, name));
    let meant = meant.map_or_else(String::new, |name| format!("did you mean \"{name}\"? "));
    format!("{meant}one of: {}", known.join(", "))
}

/// An error of TOML with file and line, in plainer words where possible.
pub(crate) fn explain(name: &str, text: &str, error: &toml::de::Error) -> Error {
    let Some(span) = error.span() else {
        return reworded(&format!("{name}: "), None, error.message(), false);
    };
    let (line, message) = (line_at(text, span.start), error.message().trim());
    let place = format!("{name}:{line}: ");
    if toml::de::DeTable::parse(text).is_ok() {
        let given = text.get(span.clone()).unwrap_or_default();
        let of_enum = format!("invalid type: {given}, expected a string");
        let message = if message == "wanted string or table" { &of_enum } else { message };
        let key = key_at(text, span.start);
        // [model] is read as a whole; its errors name the key.
        let named = key_in(message).filter(|_| key.0.is_empty() || key.0 == "model");
        if let Some((named, line)) =
            named.and_then(|named| Some((named, line_of_key(text, "model", named, None)?)))
        {
            let place = format!("{name}:{line}: ");
            return reworded(&place, Some(("model".into(), named.into())), message, false);
        }
        return reworded(&place, Some(key), message, false);
    }
    if text.trim_start().starts_with('{') {
        return Error::usage(format!("{place}this is JSON, and a config is TOML"))
            .hint("a section is a line like [train], and a key below it a line like steps = 300");
    }
    if message == "duplicate key" {
        let key = short(text.get(span).unwrap_or_default());
        return Error::usage(format!("{place}duplicate key `{key}`")).hint("keep one of them");
    }
    if message.contains("escape") {
        return Error::usage(format!("{place}{message}"))
            .hint("in single quotes a backslash is a backslash: 'C:\\texts\\a.txt'");
    }
    match text.lines().nth(line - 1).filter(|line| line.len() <= 200).and_then(mistyped) {
        Some((message, hint)) => Error::usage(format!("{place}{message}")).hint(hint),
        None => Error::usage(format!("{place}{message}")),
    }
}

/// An error of a table, which has no lines.
pub(super) fn of_keys(table: &toml::Table, error: &toml::de::Error) -> Error {
    let text = toml::to_string(table).unwrap_or_default();
    let again = toml::from_str::<Config>(&text).err().and_then(|error| error.span());
    reworded("", again.map(|span| key_at(&text, span.start)), error.message(), false)
}

/// A text cut to the length for a message.
pub(super) fn short(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A serde message about a value or a key, in plain words. `key` is its section and name; `set`:
/// the value is from the command line.
pub(super) fn reworded(location: &str, key: Option<Key>, message: &str, set: bool) -> Error {
    let (section, name) = key.unwrap_or_default();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (true, Some((wrong, known))) = (message.starts_with("unknown field"), quoted.split_first()) {
        let inside = !section.is_empty() && section != *wrong;
        let of = if inside { format!(" in [{section}]") } else { String::new() };
        let failure = Error::usage(format!("{location}unknown field `{}`{of}", short(wrong)));
        let section_meant = known.iter().find(|known| !inside && levenshtein(&normal(wrong), known) <= 2);
        // In an override, the name before the point is a section.
        if let Some(meant) = section_meant.filter(|_| set || named(wrong).is_none()) {
            return failure.hint(format!("did you mean [{meant}]?"));
        }
        return match meant(inside.then_some(section.as_str()), wrong) {
            Some((of, key)) if of == section => failure.hint(format!("did you mean `{key}`?")),
            Some((of, key)) if set => failure.hint(Advice::Set { key: format!("{of}.{key}") }),
            Some((of, key)) => failure.hint(format!("did you mean `{key}` in [{of}]?")),
            None => failure.hint(format!("there are: {}", known.join(", "))),
        };
    }
    // Keys of [model] belong to some of its kinds.
    if let Some((key, rest)) = other_kind(message) {
        let (kind, owners) = rest.split_once(", it belongs to ").unwrap_or((rest, ""));
        return Error::usage(format!("{location}model.{key} means nothing to {kind}"))
            .hint(format!("it belongs to: {}", owners.trim_matches('`')));
    }
    if let Some((key, message)) = of_key(message) {
        return reworded(location, Some(("model".into(), key.into())), message, set);
    }
    let full = if section.is_empty() { name } else { format!("{section}.{name}") };
    if let (true, Some((wrong, known))) = (message.starts_with("unknown variant"), quoted.split_first()) {
        return Error::usage(format!("{location}{full} is \"{}\"", short(wrong))).hint(one_of(wrong, known));
    }
    // Types of this crate have messages that continue the key.
    if message.starts_with("is \"") {
        return Error::usage(format!("{location}{full} {message}"));
    }
    if message.contains("untagged enum Shards") {
        return Error::usage(format!("{location}{full} takes a whole number from 1, or \"auto\""));
    }
    let parts =
        message.trim().strip_prefix("invalid type: ").or(message.trim().strip_prefix("invalid value: "));
    let known = parts.and_then(|parts| parts.split_once(", expected ")).filter(|_| !full.is_empty());
    let Some((given, expected)) = known else {
        return Error::usage(format!("{location}{}", short(message.trim())));
    };
    let takes = match expected {
        "f64" => "a number",
        "u64" => "a whole number from 0 to 9223372036854775807",
        // The check names the limits of each key.
        "usize" | "u32" => "a whole number that is not negative",
        "any valid TOML value" => "a whole number, 9223372036854775807 at most",
        "a boolean" => "true or false",
        "a string" | "string only" | "path string" => "a text, in quotes",
        _ if expected.contains("struct") => "a section of keys",
        _ if expected.contains("sequence") || expected.contains("array") => "a list, in brackets",
        other => other,
    };
    let given = match given {
        "sequence" => "a list".to_owned(),
        "map" => "a section".to_owned(),
        _ => {
            let kinds = ["integer ", "floating point ", "boolean "];
            let given = kinds.iter().find_map(|kind| given.strip_prefix(kind)).unwrap_or(given);
            given.replace("string ", "the text ").replace('`', "").replace(" as i128", "")
        }
    };
    Error::usage(format!("{location}{full} takes {takes}, and this is {}", short(&given)))
}

/// The mistake in a line that is not TOML and the corrected line, for common mistakes.
fn mistyped(line: &str) -> Option<(&'static str, String)> {
    let Some((key, value)) = line.split_once('=') else {
        let (key, value) = line.split_once(':')?;
        let (key, value) = (key.trim(), value.trim());
        let is_key = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return (is_key && !value.is_empty())
            .then(|| ("a key and its value need a = between them", format!("{key} = {value}")));
    };
    let (key, value) = (key.trim(), value.split('#').next().unwrap_or_default().trim());
    let is_toml = |value: &str| format!("{key} = {value}").parse::<toml::Table>().is_ok();
    if is_toml(value) || value.is_empty() {
        return None;
    }
    if value.contains('=') && !value.contains(['{', '"', '\'']) {
        return Some(("a line has one key", format!("put what follows {key} on a line of its own")));
    }
    let lower = value.to_ascii_lowercase();
    if matches!(lower.as_str(), "none" | "null") {
        return Some(("there is no None and no null", "leave the line out for the default".into()));
    }
    let element = |part: &str| match part.trim() {
        part if part.parse::<f64>().is_ok() => part.to_owned(),
        part => format!("{:?}", part.trim_matches(['"', '\''])),
    };
    let list = value.strip_prefix('[').and_then(|value| value.strip_suffix(']')).unwrap_or_default();
    let list = list.split(',').map(element).collect::<Vec<_>>().join(", ");
    let ways = [
        ("true and false have small letters", lower),
        ("a number is written with a point", value.replace(',', ".")),
        ("texts in a list need quotes", format!("[{list}]")),
        ("a text value needs quotes", format!("{value:?}")),
    ];
    // A value that begins with a quote or a bracket has another mistake.
    let is_whole = value.starts_with('[') && value.ends_with(']');
    let fits = |right: &str| right.starts_with('[') == is_whole && is_toml(right);
    let (what, right) = ways.into_iter().find(|(_, right)| fits(right))?;
    (is_whole || !value.starts_with(['"', '\'', '[', '{'])).then(|| (what, format!("{key} = {right}")))
}

pub(super) fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// Section and key at a byte offset.
fn key_at(text: &str, offset: usize) -> Key {
    let Ok(table) = toml::de::DeTable::parse(text) else { return Key::default() };
    for (section, value) in table.get_ref() {
        let of = section.get_ref().to_string();
        if let toml::de::DeValue::Table(keys) = value.get_ref() {
            let around = |(key, value): &(&toml::Spanned<_>, &toml::Spanned<_>)| {
                (key.span().start..value.span().end.max(key.span().end)).contains(&offset)
            };
            if let Some((key, _)) = keys.iter().find(around) {
                return (of, key.get_ref().to_string());
            }
        }
        if (section.span().start..value.span().end.max(section.span().end)).contains(&offset) {
            return (String::new(), of);
        }
    }
    Key::default()
}

/// The line of `section.key`, or of an entry of its list.
pub(crate) fn line_of_key(text: &str, section: &str, key: &str, entry: Option<usize>) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let (_, value) = table.get_ref().iter().find(|(name, _)| name.get_ref().as_ref() == section)?;
    let toml::de::DeValue::Table(section) = value.get_ref() else { return None };
    let (name, value) = section.iter().find(|(name, _)| name.get_ref().as_ref() == key)?;
    let entry = entry.and_then(|entry| value.get_ref().get(entry));
    Some(line_at(text, entry.map_or(name.span(), toml::Spanned::span).start))
}
