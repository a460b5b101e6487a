//! Overrides of single keys of a config.

use toml::Table;

use super::Config;
use super::words::{self, short};
use crate::error::Result;

pub(super) fn convert(table: &Table) -> Result<Config> {
    let mut given = table.clone();
    if let Some(tokenizer) = given.get_mut("tokenizer").and_then(toml::Value::as_table_mut)
        && tokenizer.contains_key("file")
    {
        tokenizer.entry("kind").or_insert_with(|| "file".into());
    }
    given.try_into().map_err(|error| words::of_keys(table, &error))
}

/// An override of one key of a config.
///
/// ```
/// # fn main() -> surprisal_engine::Result<()> {
/// let settings =
///     surprisal_engine::config::parse("mine", "[train]\nsteps = 9\n", &["train.steps=5".into()])?;
/// assert_eq!(settings.config.train.steps, Some(5));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// `section.key=value`; a text value needs no quotes.
    pub set: String,
    /// Its name in messages: as the user wrote it.
    pub as_written: String,
}

impl Override {
    /// An override that the user wrote as `before` and `set`, such as an option of a command line.
    pub fn new(before: &str, set: &str) -> Self {
        Self { set: set.to_owned(), as_written: format!("{before}{}", short(set)) }
    }

    /// Its `section.key`.
    pub fn key(&self) -> &str {
        self.set.split('=').next().unwrap_or_default().trim()
    }
}

/// The last of `overrides` of `name`, a `section.key`, as the user wrote it.
pub(super) fn as_written(overrides: &[Override], name: &str) -> Option<String> {
    overrides.iter().rev().find(|set| set.key() == name).map(|set| set.as_written.clone())
}

impl<T: AsRef<str>> From<T> for Override {
    fn from(set: T) -> Self {
        Self::new("", set.as_ref())
    }
}

/// Inserts a value; `None` where its section is not a table.
pub(super) fn insert(table: &mut Table, section: &str, key: &str, value: toml::Value) -> Option<()> {
    let name = section;
    let section = table.entry(name).or_insert_with(|| toml::Value::Table(Table::new())).as_table_mut()?;
    match (name, key) {
        // Another kind of model starts from its own defaults, not from the file's settings.
        ("model", "kind") => {
            let default = Config::default().model.kind().into();
            if *section.get(key).unwrap_or(&default) != value {
                section.clear();
            }
        }
        // Sizes and options are those of the imported model.
        ("model", "init_from") => {
            section.retain(|key, _| {
                matches!(key, "kind" | "dropout" | "max_unknown" | "extend_vocab" | "shrink")
            });
        }
        _ => {}
    }
    section.insert(key.to_owned(), value);
    Some(())
}
