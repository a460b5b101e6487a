//! Keys of a config, one by one: how they are named, and how a value gets to its place.

use toml::Table;

use super::Config;
use super::words::{self, short};
use crate::failure::Result;

/// The config that has these keys.
pub(super) fn convert(table: &Table) -> Result<Config> {
    table.clone().try_into().map_err(|error| words::of_keys(table, &error))
}

/// How `--budget` stands among the overrides.
pub(crate) const BUDGET: &str = "--budget=";

/// The `section.key` of an override.
pub(super) fn key_of(set: &str) -> &str {
    if set.starts_with(BUDGET) { "train.budget" } else { set.split('=').next().unwrap_or_default().trim() }
}

/// An override as it was typed.
pub(super) fn spoken(set: &str) -> String {
    match set.strip_prefix(BUDGET) {
        Some(budget) => format!("--budget {}", short(budget)),
        None => format!("--set {}", short(set)),
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
