//! Loading of a [`Config`] from a file and overrides (defaults < file < overrides), with lines in
//! errors.

use std::path::{Path, PathBuf};

use surprisal_store::read::TO_UTF8;
use toml::Table;

use super::follow::follow;
use super::keys::{self, Override, insert};
use super::words::{self, explain, line_of_key};
use super::{Config, RESOLVED_HEADING};
use crate::error::{Advice, Error, Result};

/// Size of the largest config file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// A config with its origin.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// All settings.
    pub config: Config,
    /// The file, if there was one.
    pub path: Option<PathBuf>,
    /// The file's text, for pointing at lines.
    pub text: String,
    /// The overrides.
    pub overrides: Vec<Override>,
    /// Notices about settings that gave way to others.
    pub notices: Vec<String>,
}

impl Loaded {
    /// The override of a `section.key`, as the user wrote it.
    pub(crate) fn override_as_written(&self, name: &str) -> Option<String> {
        keys::as_written(&self.overrides, name)
    }

    /// An error of `section.key`, with its place: the override, or `file:line`.
    pub(crate) fn error_at(&self, section: &str, key: &str, message: impl AsRef<str>) -> Error {
        self.error_at_entry(section, key, None, message.as_ref())
    }

    /// As [`Self::error_at`], for one entry of a list.
    pub(crate) fn error_at_entry(
        &self,
        section: &str,
        key: &str,
        entry: Option<usize>,
        message: &str,
    ) -> Error {
        let line = || {
            let line = line_of_key(&self.text, section, key, entry)?;
            Some(format!("{}:{line}", self.path.as_ref()?.display()))
        };
        let complaint = Error::usage(format!("{section}.{key} {message}"));
        match self.override_as_written(&format!("{section}.{key}")).or_else(line) {
            Some(place) => complaint.within(place),
            None => complaint,
        }
    }
}

/// Reads `path` (or starts from the defaults) and applies `overrides`, each `section.key=value`.
///
/// # Errors
/// A file that cannot be read, TOML that does not parse, unknown keys, wrong types.
pub fn load(path: Option<&Path>, overrides: &[Override]) -> Result<Loaded> {
    let text = path.map_or_else(|| Ok(String::new()), read)?;
    let name = path.map_or_else(|| "the defaults".to_owned(), |path| path.display().to_string());
    let mut loaded = Loaded { path: path.map(Path::to_owned), ..parse(&name, &text, overrides)? };
    if let Some(by) =
        loaded.override_as_written("model.kind").or_else(|| loaded.override_as_written("model.init_from"))
    {
        let [file, now] = [toml::from_str::<Config>(&text).unwrap_or_default(), loaded.config.clone()]
            .map(|config| Table::try_from(config.model).unwrap_or_default());
        let gone = file.iter().filter(|(key, _)| !now.contains_key(*key));
        let gone: Vec<String> = gone.map(|(key, old)| format!("model.{key} = {old}")).collect();
        if !gone.is_empty() {
            loaded.notices.push(format!("what is of another model gives way to {by}: {}", gone.join(", ")));
        }
    }
    Ok(loaded)
}

/// As [`load`], from the text of a file.
///
/// # Errors
/// As [`load`].
pub fn parse(name: &str, text: &str, overrides: &[Override]) -> Result<Loaded> {
    let mut file: Table = toml::from_str(text).map_err(|error| explain(name, text, &error))?;
    if file.contains_key("compare") || file.contains_key("variant") {
        return Err(Error::usage(format!("{name} is a comparison, not the config of one run"))
            .hint(Advice::Compare(name.into())));
    }
    toml::from_str::<Config>(text).map_err(|error| explain(name, text, &error))?;
    // Runs of the first version read texts in their own way.
    if text.starts_with(RESOLVED_HEADING)
        && let Some(data) = file.get_mut("data").and_then(toml::Value::as_table_mut)
    {
        data.entry("reader").or_insert(toml::Value::Integer(1));
    }
    Ok(Loaded { text: text.to_owned(), ..of_table(&file, overrides)? })
}

/// As [`parse`], from a table.
pub(crate) fn of_table(file: &Table, overrides: &[Override]) -> Result<Loaded> {
    let mut table = file.clone();
    // `model.kind` first, as it replaces the file's settings of the model.
    let mut ordered: Vec<&Override> = overrides.iter().collect();
    ordered.sort_by_key(|set| match set.key() {
        "model.kind" => 0,
        "model.init_from" => 1,
        _ => 2,
    });
    for set in ordered {
        apply(&mut table, set)?;
    }
    let (config, notices) = follow(file, &mut table, overrides)?;
    Ok(Loaded { config, overrides: overrides.to_vec(), notices, ..Loaded::default() })
}

/// The text of a config.
pub(crate) fn read(path: &Path) -> Result<String> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| {
        Error::usage(format!("cannot read the config {shown}: {error}"))
            .hint("the repository's configs/ has one for each kind of model")
    })?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(Error::usage(format!("{shown} is not a config: it is no plain file of at most 1 MiB")));
    }
    let bytes = std::fs::read(path)
        .map_err(|error| Error::usage(format!("cannot read the config {shown}: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|&byte| byte == b'\n').count();
        Error::usage(format!("{shown}:{line}: this is not UTF-8")).hint(TO_UTF8)
    })
}

/// Applies an override to `table`, if its value fits.
fn apply(table: &mut Table, override_: &Override) -> Result<()> {
    let (set, said) = (override_.set.as_str(), override_.as_written.as_str());
    let wrong = || {
        let name = set.trim_start_matches("--").split('=').next().unwrap_or_default().trim();
        let hint = match words::named(name).filter(|_| !name.contains('.')) {
            Some((section, key)) => Advice::Set { key: format!("{section}.{key}") },
            None => Advice::SetForm,
        };
        Error::usage(format!("{said} is not of the form section.key=value")).hint(hint)
    };
    let (_, value) = set.split_once('=').ok_or_else(wrong)?;
    let (section, key) = override_.key().split_once('.').ok_or_else(wrong)?;
    if section.is_empty() || key.is_empty() || key.contains('.') {
        return Err(wrong());
    }
    if section == "compare" {
        let message = format!("{said}: [compare] is of a comparison, and this is of its runs");
        return Err(Error::usage(message).hint(Advice::OfComparison));
    }
    let value = value.trim();
    let text = toml::Value::String(value.to_owned());
    let parsed = toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        // Not if another key follows the value.
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| text.clone());
    let mut why = String::new();
    // Strings and lists of one need no quotes and brackets on a command line.
    for value in [parsed.clone(), text, toml::Value::Array(vec![parsed])] {
        let mut with = table.clone();
        insert(&mut with, section, key, value).ok_or_else(wrong)?;
        match with.clone().try_into::<Config>() {
            Ok(_) => {
                *table = with;
                return Ok(());
            }
            Err(error) => {
                let message = error.message();
                // "unknown variant" is a better message than "not a string".
                if why.is_empty() || ["unknown variant", "is \""].iter().any(|it| message.starts_with(it)) {
                    message.clone_into(&mut why);
                }
            }
        }
    }
    let place = format!("{said}: ");
    Err(words::reworded(&place, Some((section.to_owned(), key.to_owned())), &why, true))
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
    fn a_wrong_override_is_named() {
        for set in ["train", "train.batch_size", ".a=1", "train.batch_size=many", "train.epoch=3"] {
            let failure = load(None, &[set.into()]).unwrap_err();
            assert!(failure.message.contains(set), "{failure}");
            assert_eq!(failure.kind, crate::ExitKind::Usage);
        }
    }

    #[test]
    fn a_complaint_points_at_the_line_or_the_override() {
        let file = write("[model]\nn_head = 3\n\n[train]\nseed = 1\n");
        let loaded = load(Some(file.path()), &["train.seed=2".into()]).unwrap();
        assert!(
            loaded.error_at("model", "n_head", "is odd").message.contains(".toml:2: model.n_head is odd")
        );
        assert!(loaded.error_at("train", "seed", "is even").message.starts_with("train.seed=2: "));
        assert_eq!(loaded.error_at("train", "steps", "is missing").message, "train.steps is missing");
    }
}
