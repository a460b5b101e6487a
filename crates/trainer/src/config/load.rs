//! From a file and overrides to a [`Config`]: defaults < file < command line, every mistake with its line.

use std::path::{Path, PathBuf};

use super::Config;
use crate::failure::{Failure, Result};

/// The largest config file that is read: configs are a screen long.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration and where it came from.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// All settings.
    pub config: Config,
    /// The file, if there was one.
    pub path: Option<PathBuf>,
    /// The file's text, for pointing at lines.
    pub text: String,
    /// The `--set` overrides, as written.
    pub overrides: Vec<String>,
}

impl Loaded {
    /// Where `section.key` was set: `file:line`, the `--set`, or nowhere (a default).
    pub fn place(&self, section: &str, key: &str) -> Option<String> {
        let name = format!("{section}.{key}");
        if let Some(set) =
            self.overrides.iter().rev().find(|set| set.split('=').next().is_some_and(|k| k.trim() == name))
        {
            return Some(format!("--set {}", short(set)));
        }
        let path = self.path.as_ref()?;
        let line = line_of_key(&self.text, section, key)?;
        Some(format!("{}:{line}", path.display()))
    }

    /// A complaint about `section.key`, with its place.
    pub fn complain(&self, section: &str, key: &str, message: impl AsRef<str>) -> Failure {
        let message = message.as_ref();
        match self.place(section, key) {
            Some(place) => Failure::usage(format!("{place}: {section}.{key} {message}")),
            None => Failure::usage(format!("{section}.{key} {message}")),
        }
    }
}

/// Reads `path` (or starts from the defaults) and applies `overrides`, each `section.key=value`.
///
/// # Errors
/// A file that cannot be read, TOML that does not parse, unknown keys, wrong types.
pub fn load(path: Option<&Path>, overrides: &[String]) -> Result<Loaded> {
    let text = path.map_or_else(|| Ok(String::new()), read)?;
    let name = path.map_or_else(|| "the defaults".to_owned(), |path| path.display().to_string());
    Ok(Loaded { path: path.map(Path::to_owned), ..parse(&name, &text, overrides)? })
}

/// As [`load`], from a text that is in hand.
///
/// # Errors
/// As [`load`].
pub fn parse(name: &str, text: &str, overrides: &[String]) -> Result<Loaded> {
    let mut config: Config = toml::from_str(text).map_err(|error| explain(name, text, &error))?;
    if !overrides.is_empty() {
        let mut table: toml::Table = toml::from_str(text).map_err(|error| explain(name, text, &error))?;
        for set in overrides {
            apply(&mut table, set)?;
            // One at a time, so that the message names the override at fault.
            config = table.clone().try_into().map_err(|error: toml::de::Error| {
                with_suggestion(Failure::usage(format!("--set {}: {}", short(set), short(error.message()))))
            })?;
        }
    }
    Ok(Loaded { config, path: None, text: text.to_owned(), overrides: overrides.to_vec() })
}

/// As much of a text as a message can bear.
fn short(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The text of a config.
///
/// # Errors
/// A file that cannot be read, or is too large to be a config.
pub(crate) fn read(path: &Path) -> Result<String> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| {
        Failure::usage(format!("cannot read the config {shown}: {error}"))
            .hint("the repository's configs/ has one for each kind of model")
    })?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(Failure::usage(format!("{shown} is not a config: it is no plain file of at most 1 MiB")));
    }
    std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read the config {shown}: {error}")))
}

/// Sets one key of the table.
pub(crate) fn apply(table: &mut toml::Table, set: &str) -> Result<()> {
    let wrong = || {
        Failure::usage(format!("--set {} is not of the form section.key=value", short(set)))
            .hint("for example --set train.epochs=3 or --set tokenizer.kind=bpe")
    };
    let (name, value) = set.split_once('=').ok_or_else(wrong)?;
    let (section, key) = name.trim().split_once('.').ok_or_else(wrong)?;
    if section.is_empty() || key.is_empty() || key.contains('.') {
        return Err(wrong());
    }
    // A value that is no TOML (char, 3min) is a string, so that quotes are not needed on a command line.
    let value = value.trim();
    let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        // A value that goes on with another key is no value.
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let section = table
        .entry(section)
        .or_insert_with(|| toml::Value::Table(toml::Table::new()))
        .as_table_mut()
        .ok_or_else(wrong)?;
    if name.trim() == "model.kind" && section.get(key).is_none_or(|old| *old != parsed) {
        // Another kind of model has other sizes: it starts from its own defaults, not from the file's.
        section.clear();
    }
    if name.trim() == "model.init_from" {
        // The sizes and switches are the folder's, not the file's.
        section.retain(|key, _| matches!(key, "kind" | "dropout"));
    }
    section.insert(key.to_owned(), parsed);
    Ok(())
}

/// TOML's own message with file, line and a suggestion.
pub(crate) fn explain(name: &str, text: &str, error: &toml::de::Error) -> Failure {
    let place = error.span().map_or_else(String::new, |span| format!(":{}", line_at(text, span.start)));
    with_suggestion(Failure::usage(format!("{name}{place}: {}", error.message().trim())))
}

/// "unknown field `lerning_rate`, expected one of `lr`, …": which of them was probably meant.
fn with_suggestion(failure: Failure) -> Failure {
    let quoted: Vec<&str> = failure.message.split('`').skip(1).step_by(2).collect();
    if !failure.message.contains("unknown field") || quoted.len() < 2 {
        return failure;
    }
    let (wrong, known) = (quoted[0], &quoted[1..]);
    let best = known.iter().min_by_key(|candidate| distance(wrong, candidate));
    match best {
        Some(best) if distance(wrong, best) <= best.len().max(wrong.len()) / 2 => {
            let hint = format!("did you mean `{best}`?");
            failure.hint(hint)
        }
        _ => failure,
    }
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
fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// The line on which `section.key` stands.
fn line_of_key(text: &str, section: &str, key: &str) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let (_, value) = table.get_ref().iter().find(|(name, _)| name.get_ref().as_ref() == section)?;
    let toml::de::DeValue::Table(section) = value.get_ref() else { return None };
    let (name, _) = section.iter().find(|(name, _)| name.get_ref().as_ref() == key)?;
    Some(line_at(text, name.span().start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> tempfile::NamedTempFile {
        use std::io::Write;
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_likely_one() {
        let file = write("# a comment\n[optim]\nlr = 1e-3\nwieght_decay = 0.1\n");
        let failure = load(Some(file.path()), &[]).unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(failure.message.contains(".toml:4: unknown field `wieght_decay`"), "{failure}");
        assert_eq!(failure.hint.as_deref(), Some("did you mean `weight_decay`?"));
    }

    #[test]
    fn a_wrong_type_is_named_with_its_line() {
        let file = write("[train]\nbatch_size = \"twelve\"\n");
        let failure = load(Some(file.path()), &[]).unwrap_err();
        assert!(failure.message.contains(".toml:2: invalid type"), "{failure}");
    }

    #[test]
    fn overrides_come_after_the_file_and_need_no_quotes() {
        let file = write("[train]\nbatch_size = 3\nseed = 5\n");
        let set =
            ["train.batch_size=7", "tokenizer.kind=bpe", "tokenizer.vocab_size=300", "train.budget=3min"];
        let loaded = load(Some(file.path()), &set.map(String::from)).unwrap();
        assert_eq!(loaded.config.train.batch_size, 7);
        assert_eq!(loaded.config.train.seed, 5);
        assert_eq!(loaded.config.tokenizer.kind, "bpe");
        assert_eq!(loaded.config.train.budget.as_deref(), Some("3min"));
    }

    #[test]
    fn another_kind_of_model_starts_from_its_own_defaults() {
        let file = write("[model]\nkind = \"transformer\"\nn_layer = 3\n");
        let set = ["model.kind=ngram", "model.order=3"].map(String::from);
        let model = load(Some(file.path()), &set).unwrap().config.model;
        assert_eq!((model.kind.as_str(), model.order, model.n_layer), ("ngram", Some(3), None));
        let same = load(Some(file.path()), &["model.kind=transformer".to_owned()]).unwrap().config.model;
        assert_eq!(same.n_layer, Some(3));
    }

    #[test]
    fn a_wrong_override_is_named() {
        for set in ["train", "train.batch_size", ".a=1", "train.batch_size=many", "train.epoch=3"] {
            let failure = load(None, &[set.to_owned()]).unwrap_err();
            assert!(failure.message.contains(set), "{failure}");
            assert_eq!(failure.code(), 2);
        }
    }

    #[test]
    fn a_complaint_points_at_the_line_or_the_override() {
        let file = write("[model]\nn_head = 3\n\n[train]\nseed = 1\n");
        let loaded = load(Some(file.path()), &["train.seed=2".to_owned()]).unwrap();
        assert!(
            loaded.complain("model", "n_head", "is odd").message.contains(".toml:2: model.n_head is odd")
        );
        assert!(loaded.complain("train", "seed", "is even").message.starts_with("--set train.seed=2: "));
        assert_eq!(loaded.complain("train", "steps", "is missing").message, "train.steps is missing");
    }

    #[test]
    fn a_config_survives_being_saved() {
        let mut config = Config::default();
        config.train.steps = Some(12);
        config.model.n_layer = Some(2);
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
    }
}
