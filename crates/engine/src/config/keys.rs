//! Keys of a config, one by one: how they are named, and how a value gets to its place.

use toml::Table;

use super::Config;
use super::words::{self, short};
use crate::error::Result;

pub(super) fn convert(table: &Table) -> Result<Config> {
    table.clone().try_into().map_err(|error| words::of_keys(table, &error))
}

/// What is said of one key beside the file, and instead of it.
///
/// ```
/// # fn main() -> surprisal_engine::Result<()> {
/// let settings = surprisal_engine::config::parse("mine", "[train]\nsteps = 9\n", &["train.steps=5".into()])?;
/// assert_eq!(settings.config.train.steps, Some(5));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// `section.key=value`; a text value needs no quotes.
    pub set: String,
    /// How messages name it: as the person said it.
    pub said: String,
}

impl Override {
    /// `set`, which was said with `before` in front of it, as a command line has its options.
    pub fn said(before: &str, set: &str) -> Self {
        Self { set: set.to_owned(), said: format!("{before}{}", short(set)) }
    }

    /// The `section.key` of it.
    pub fn key(&self) -> &str {
        self.set.split('=').next().unwrap_or_default().trim()
    }
}

/// The last of `overrides` that is of `section.key`, as it was said.
pub(super) fn said(overrides: &[Override], name: &str) -> Option<String> {
    overrides.iter().rev().find(|set| set.key() == name).map(|set| set.said.clone())
}

impl<T: AsRef<str>> From<T> for Override {
    fn from(set: T) -> Self {
        Self::said("", set.as_ref())
    }
}

/// Puts a value in its place; `None` where its section is none.
pub(super) fn insert(table: &mut Table, section: &str, key: &str, value: toml::Value) -> Option<()> {
    let name = section;
    let section = table.entry(name).or_insert_with(|| toml::Value::Table(Table::new())).as_table_mut()?;
    match (name, key) {
        // Another kind of model has other sizes: it starts from its own defaults, not from the file's.
        ("model", "kind") => {
            let default = Config::default().model.kind.into();
            if *section.get(key).unwrap_or(&default) != value {
                section.clear();
            }
        }
        // The sizes and switches are the folder's, not the file's.
        ("model", "init_from") => section.retain(|key, _| matches!(key, "kind" | "dropout" | "max_unknown")),
        _ => {}
    }
    section.insert(key.to_owned(), value);
    Some(())
}
