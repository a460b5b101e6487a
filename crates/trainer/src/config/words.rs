//! What is wrong with a config, in the words of whoever wrote it, and what was probably meant.

use super::Config;
use crate::failure::Failure;

/// Our keys, and what other programs call them.
const OTHER_NAMES: [(&str, &str); 29] = [
    ("optim.lr", "learning_rate max_lr peak_lr base_lr initial_lr step_size"),
    ("optim.min_lr", "min_learning_rate final_lr end_lr"),
    ("optim.warmup", "warmup_steps warmup_iters num_warmup_steps warm_up"),
    ("optim.schedule", "scheduler lr_schedule lr_scheduler lr_scheduler_type decay_lr"),
    ("optim.weight_decay", "wd decay"),
    ("optim.betas", "beta1 beta2 adam_beta1 adam_beta2"),
    ("optim.grad_clip", "clip clip_grad max_grad_norm grad_norm gradient_clip"),
    ("optim.kind", "optimizer optimiser optim"),
    ("model.kind", "kind model model_type architecture arch"),
    ("model.n_layer", "n_layers num_layers layers depth num_hidden_layers"),
    ("model.n_head", "n_heads num_heads heads num_attention_heads"),
    ("model.n_embd", "n_embed hidden_size d_model dim emb_dim embed_dim embedding_size width"),
    ("model.n_hidden", "d_ff ffn_dim mlp_dim intermediate_size"),
    ("model.dropout", "dropout_rate drop dropout_p"),
    ("model.order", "ngram n_gram ngrams"),
    (
        "train.block_size",
        "context_length seq_len seq_length sequence_length max_len max_seq_len n_ctx context_size",
    ),
    ("train.steps", "max_steps num_steps n_steps max_iters iters iterations"),
    ("train.epochs", "epoch num_epochs n_epochs max_epochs"),
    ("train.batch_size", "batch bs minibatch micro_batch_size per_device_train_batch_size"),
    ("train.grad_accumulation", "gradient_accumulation_steps accumulation accum"),
    ("train.seed", "random_seed rng_seed"),
    ("train.precision", "dtype"),
    ("train.patience", "early_stopping early_stop"),
    ("tokenizer.kind", "tokenizer tokenizer_type"),
    ("tokenizer.vocab_size", "vocab n_vocab vocabulary vocabulary_size"),
    ("data.train", "dataset text texts input file files path"),
    ("data.val_fraction", "val_split val_ratio validation_split valid_fraction test_size"),
    ("eval.every_steps", "eval_interval eval_steps eval_every"),
    ("checkpoint.every_steps", "save_interval save_steps save_every"),
];

/// A key of a config: its section and its name.
type Key = (String, String);

/// Every key that there is.
fn keys() -> Vec<Key> {
    let sections = toml::Table::try_from(Config::default()).unwrap_or_default();
    let known = |section: &String| {
        // What a key that there is none of is answered with is the list of those that there are.
        let error = toml::from_str::<Config>(&format!("{section}.\"\" = 0")).err();
        let listed = error.map_or_else(String::new, |error| error.message().to_owned());
        let names: Vec<String> = listed.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        names.into_iter().map(|name| (section.clone(), name)).collect::<Vec<_>>()
    };
    sections.keys().flat_map(known).collect()
}

fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// The key of that name, in whatever section, or the one that another program calls so.
pub(crate) fn named(wrong: &str) -> Option<Key> {
    let wrong = normal(wrong);
    let other = OTHER_NAMES.iter().find(|(_, names)| names.split(' ').any(|name| name == wrong));
    let split =
        |(key, _): &(&str, &str)| key.split_once('.').map(|(of, key)| (of.to_owned(), key.to_owned()));
    other.and_then(split).or_else(|| keys().into_iter().find(|(_, key)| *key == wrong))
}

/// The key that was probably meant by `wrong`, which `section` has not.
pub(super) fn meant(section: Option<&str>, wrong: &str) -> Option<Key> {
    /// No key is so long, and nothing is near to it.
    const LONGEST: usize = 64;
    named(wrong).or_else(|| {
        let wrong = normal(wrong.get(..LONGEST).unwrap_or(wrong));
        let ours = keys().into_iter().map(|key| (key.1.clone(), key));
        let others = OTHER_NAMES.iter().flat_map(|(key, names)| {
            let key = key.split_once('.').unwrap_or((key, ""));
            names.split(' ').map(move |name| (name.to_owned(), (key.0.to_owned(), key.1.to_owned())))
        });
        let near = |spelt: &str| distance(&wrong, spelt) <= spelt.len().max(wrong.len()) / 2;
        ours.chain(others)
            .filter(|(spelt, (of, _))| section.is_none_or(|section| section == of) && near(spelt))
            .min_by_key(|(spelt, _)| distance(&wrong, spelt))
            .map(|(_, key)| key)
    })
}

/// TOML's own message with file and line, reworded where there are plainer words.
pub(crate) fn explain(name: &str, text: &str, error: &toml::de::Error) -> Failure {
    let Some(offset) = error.span().map(|span| span.start) else {
        return reworded(&format!("{name}: "), None, error.message(), false);
    };
    let line = line_at(text, offset);
    let place = format!("{name}:{line}: ");
    let key = toml::de::DeTable::parse(text).ok().map(|_| key_at(text, offset));
    let is_readable = |line: &&str| line.len() <= 200 && !error.message().contains("duplicate");
    let as_typed = text.lines().nth(line - 1).filter(is_readable);
    let plain = Failure::usage(format!("{place}{}", error.message().trim()));
    match (key, as_typed.and_then(mistyped)) {
        (Some(key), _) => reworded(&place, Some(key), error.message(), false),
        _ if error.message().contains("escape") => {
            plain.hint("in single quotes a backslash is a backslash: 'C:\\texts\\a.txt'")
        }
        (None, Some((message, hint))) => Failure::usage(format!("{place}{message}")).hint(hint),
        (None, None) => plain,
    }
}

/// What keys, which have no lines, cannot be a config for.
pub(super) fn of_keys(table: &toml::Table, error: &toml::de::Error) -> Failure {
    let text = toml::to_string(table).unwrap_or_default();
    let again = toml::from_str::<Config>(&text).err().and_then(|error| error.span());
    reworded("", again.map(|span| key_at(&text, span.start)), error.message(), false)
}

/// As much of a text as a message can bear.
pub(super) fn short(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What serde has against a value or a key, for people. `key` is where it stands; `set`: on the command line.
pub(super) fn reworded(place: &str, key: Option<Key>, message: &str, set: bool) -> Failure {
    let (section, name) = key.unwrap_or_default();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (true, Some(wrong)) = (message.starts_with("unknown field"), quoted.first()) {
        let inside = !section.is_empty() && section != *wrong;
        let of = if inside { format!(" in [{section}]") } else { String::new() };
        let failure = Failure::usage(format!("{place}unknown field `{}`{of}", short(wrong)));
        let known = &quoted[1..];
        let section_meant =
            known.iter().find(|known| !inside && distance(wrong.get(..64).unwrap_or(wrong), known) <= 2);
        // On the command line what comes before the point is a section.
        if let Some(meant) = section_meant.filter(|_| set || named(wrong).is_none()) {
            return failure.hint(format!("did you mean [{meant}]?"));
        }
        return match meant(inside.then_some(section.as_str()), wrong) {
            Some((of, key)) if of == section => failure.hint(format!("did you mean `{key}`?")),
            Some((of, key)) if set => failure.hint(format!("did you mean --set {of}.{key}=…?")),
            Some((of, key)) => failure.hint(format!("did you mean `{key}` in [{of}]?")),
            None => failure.hint(format!("there are: {}", known.join(", "))),
        };
    }
    let full = if section.is_empty() { name } else { format!("{section}.{name}") };
    if message.contains("untagged enum Shards") {
        return Failure::usage(format!("{place}{full} takes a whole number from 1, or \"auto\""));
    }
    let parts =
        message.trim().strip_prefix("invalid type: ").or(message.trim().strip_prefix("invalid value: "));
    let known = parts.and_then(|parts| parts.split_once(", expected ")).filter(|_| !full.is_empty());
    let Some((given, expected)) = known else {
        return Failure::usage(format!("{place}{}", short(message.trim())));
    };
    let takes = match expected {
        "f64" => "a number",
        "usize" | "u64" | "u32" => "a whole number from 0 to 9223372036854775807",
        "any valid TOML value" => "a whole number, 9223372036854775807 at most",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text, in quotes",
        _ if expected.contains("struct") => "a section of keys",
        _ if expected.contains("sequence") || expected.contains("array") => "a list, in brackets",
        other => other,
    };
    let given = given.replace("string ", "the text ").replace('`', "").replace(" as i128", "");
    let given = given.trim_start_matches("integer ").trim_start_matches("floating point ");
    let given = match given.trim_start_matches("boolean ") {
        "sequence" => "a list",
        "map" => "a section",
        given => given,
    };
    Failure::usage(format!("{place}{full} takes {takes}, and this is {}", short(given)))
}

/// What is wrong with a line that is no TOML, and how it is written, where that can be told.
fn mistyped(line: &str) -> Option<(String, String)> {
    let Some((key, value)) = line.split_once('=') else {
        let (key, value) = line.split_once(':')?;
        let (key, value) = (key.trim(), value.trim());
        if value.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return None;
        }
        return Some(("a key and its value stand around a =".into(), format!("{key} = {value}")));
    };
    let (key, value) = (key.trim(), value.split('#').next().unwrap_or_default().trim());
    if value.contains('=') && !value.contains(['{', '"', '\'']) {
        return Some(("a line has one key".into(), format!("put what follows {key} on a line of its own")));
    }
    let number = |text: &str| text.parse::<f64>().is_ok();
    let lower = value.to_ascii_lowercase();
    let first = value.chars().next()?;
    match lower.as_str() {
        "true" | "false" => {
            return Some(("true and false are written small".into(), format!("{key} = {lower}")));
        }
        "none" | "null" => {
            return Some((format!("there is no {value}"), "leave the line out for the default".into()));
        }
        _ => {}
    }
    let point = value.replace(',', ".");
    if point != value && number(&point) {
        return Some(("a number is written with a point".into(), format!("{key} = {point}")));
    }
    if first == '[' && value.ends_with(']') {
        let bare = |part: &str| part.trim().trim_matches(['"', '\'']).to_owned();
        let quoted = |part: &str| {
            if number(part.trim()) { part.trim().to_owned() } else { format!("{:?}", bare(part)) }
        };
        let parts: Vec<String> = value[1..value.len() - 1].split(',').map(quoted).collect();
        return Some(("texts in a list need quotes".into(), format!("{key} = [{}]", parts.join(", "))));
    }
    (!matches!(first, '"' | '\'' | '[' | '{') && !number(value))
        .then(|| ("a text value needs quotes".into(), format!("{key} = \"{value}\"")))
}

/// Edit distance (Levenshtein) of two short names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The 1-based line of a byte offset.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// The section and the key that stand, with their value, around a byte offset.
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

/// The line on which `section.key` stands; or that entry of its list.
pub(super) fn line_of_key(text: &str, section: &str, key: &str, entry: Option<usize>) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let (_, value) = table.get_ref().iter().find(|(name, _)| name.get_ref().as_ref() == section)?;
    let toml::de::DeValue::Table(section) = value.get_ref() else { return None };
    let (name, value) = section.iter().find(|(name, _)| name.get_ref().as_ref() == key)?;
    let entry = entry.and_then(|entry| value.get_ref().get(entry));
    Some(line_at(text, entry.map_or(name.span(), toml::Spanned::span).start))
}
