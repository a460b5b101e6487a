//! The specification of a comparison: a config file with shared settings, variants and their grids.
//!
//! ```toml
//! [compare]
//! seeds = [1, 2, 3]
//!
//! [tokenizer]                      # any sections of a run's config: what all variants share
//! kind = "char"
//!
//! [[variant]]
//! name = "bigram, counted"
//! model = { kind = "ngram", order = 2 }
//!
//! [[variant]]
//! name = "MLP, ε = {loss.label_smoothing}"
//! use = "mlp.toml"                 # starts from another config, beside this file
//! against = "MLP, ε = 0"           # what it is compared with, pair by pair
//! [variant.grid]
//! "loss.label_smoothing" = [0, 0.1, 0.2]
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::Options;
use crate::config::{self, LENGTHS, Loaded, Override};
use crate::error::{Advice, Error, Result};

/// The key of a grid that makes a learning curve.
const SIZE: &str = "data.train_fraction";
/// Maximum number of trials.
const MAX_TRIALS: usize = 10_000;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    seeds: Option<Vec<u64>>,
    jobs: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct ComparisonSpec {
    /// File name without its extension.
    pub(crate) name: String,
    pub(crate) seeds: Vec<u64>,
    pub(crate) jobs: Option<usize>,
    pub(crate) variants: Vec<Variant>,
}

/// A variant: a config without a seed.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) against: Option<String>,
    /// Its name without the size of the text, if it is a point of a learning curve.
    pub(crate) curve: Option<String>,
    /// The file that it is from, and its text.
    file: PathBuf,
    text: Arc<str>,
    /// Its settings without the seed, and the overrides.
    table: toml::Table,
    set: Vec<Override>,
}

impl ComparisonSpec {
    /// Reads the file and applies the request's overrides.
    pub(crate) fn load(arguments: &Options) -> Result<Self> {
        let path = &arguments.config;
        let shown = path.display();
        let is_config = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
        let no_config = |failure: Error| {
            if is_config || !path.exists() {
                return failure;
            }
            Error::usage(format!("{shown} is not a comparison's config"))
                .hint(Advice::ConfigFirst(path.clone()))
        };
        let text = config::read_text(path).map_err(no_config)?;
        let mut shared: toml::Table = toml::from_str(&text)
            .map_err(|error| no_config(config::explain(&shown.to_string(), &text, &error)))?;
        let section = match shared.remove("compare") {
            None => Section::default(),
            Some(value) => value.try_into().map_err(|error: toml::de::Error| {
                let error = error.to_string().trim().replace('\n', " ");
                Error::usage(format!("{shown}: [compare]: {error}"))
            })?,
        };
        let Some(toml::Value::Array(listed)) = shared.remove("variant") else {
            return Err(Error::usage(format!("{shown} has no [[variant]]: there is nothing to compare"))
                .hint(Advice::OneRun(path.clone())));
        };
        let own = section.seeds.unwrap_or_else(|| vec![1]);
        let seeds = if arguments.seeds.is_empty() { own } else { arguments.seeds.clone() };
        if seeds.is_empty() {
            return Err(Error::usage(format!("{shown}: compare.seeds is empty")));
        }
        // The same run twice would make differences look more certain.
        if let Some(twice) =
            seeds.iter().enumerate().find_map(|(index, seed)| seeds[..index].contains(seed).then_some(seed))
        {
            let place = if arguments.seeds.is_empty() { format!("{shown}: ") } else { String::new() };
            return Err(Error::usage(format!(
                "{place}seed {twice} is given twice: the same seed is the same run"
            ))
            .hint(Advice::OtherSeeds));
        }
        let mut variants = Vec::new();
        let text = text.into();
        for (index, entry) in listed.into_iter().enumerate() {
            let named = |failure: Error| failure.within(format_args!("{shown}: variant {}", index + 1));
            let toml::Value::Table(entry) = entry else {
                return Err(named(Error::usage("is no table".to_owned())));
            };
            variants.extend(expand(entry, &shared, path, &text, arguments).map_err(named)?);
            if variants.len() * seeds.len() > MAX_TRIALS {
                return Err(Error::usage(format!("{shown} asks for more than {MAX_TRIALS} runs")));
            }
        }
        let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        // 0 means as many as the machine has cores.
        let own = section.jobs.filter(|jobs| *jobs > 0).map(|jobs| (format!("{shown}: compare.jobs"), jobs));
        let jobs = arguments.jobs.map(|jobs| ("jobs".to_owned(), jobs)).or(own);
        let jobs = jobs.map(|(said, jobs)| config::threads(&said, Some(jobs))).transpose()?;
        let grid = Self { name: stem, seeds, jobs, variants };
        grid.check_names(&shown.to_string())?;
        Ok(grid)
    }

    /// One variant, the config of `settings`, with several seeds.
    pub(crate) fn of_seeds(settings: &Loaded, seeds: Vec<u64>) -> Result<Self> {
        let name = crate::train::name(settings);
        let text = config::resolved(&settings.config)?;
        let table = toml::from_str(&text).map_err(|error| Error::failed(error.to_string()))?;
        let variant = Variant {
            name: name.clone(),
            against: None,
            curve: None,
            file: settings.path.clone().unwrap_or_default(),
            text: text.into(),
            table,
            set: Vec::new(),
        };
        Ok(Self { name: format!("{name}-seeds"), seeds, jobs: None, variants: vec![variant] })
    }

    fn check_names(&self, shown: &str) -> Result<()> {
        for (index, variant) in self.variants.iter().enumerate() {
            if self.variants[..index].iter().any(|other| other.name == variant.name) {
                return Err(Error::usage(format!("{shown}: two variants are called \"{}\"", variant.name))
                    .hint("put {section.key} of what differs into the name"));
            }
            if let Some(against) = &variant.against
                && !self.variants.iter().any(|other| other.name == *against)
            {
                let names: Vec<&str> = self.variants.iter().map(|variant| variant.name.as_str()).collect();
                return Err(Error::usage(format!(
                    "{shown}: \"{}\" is to be compared with \"{against}\", which is no variant",
                    variant.name
                ))
                .hint(format!("there are: {}", names.join("; "))));
            }
        }
        Ok(())
    }
}

impl Variant {
    /// The checked config of one trial.
    pub(crate) fn trial_config(&self, seed: u64) -> Result<Loaded> {
        let named = |failure: Error, line: Option<usize>| {
            let line = line.map_or_else(String::new, |line| format!(":{line}"));
            failure.within(format_args!("{}{line}: \"{}\"", self.file.display(), self.name))
        };
        let mut table = self.table.clone();
        section(&mut table, "train").insert("seed".into(), toml::Value::Integer(seed as i64));
        let mut loaded = config::of_table(&table, &self.set).map_err(|failure| named(failure, None))?;
        config::check(&mut loaded).map_err(|failure| named(failure, None))?;
        for key in ["train", "val"] {
            let data = |table: &toml::Table| table.get("data")?.get(key).cloned();
            // Settings that all variants share are on a line of the file.
            let is_shared = || self.text.parse().is_ok_and(|file| data(&file) == data(&self.table));
            let is_of_file = || loaded.override_as_written(&format!("data.{key}")).is_none() && is_shared();
            let paths = if key == "val" { &loaded.config.data.val } else { &loaded.config.data.train };
            let entry = || paths.iter().position(|path| !path.exists());
            let line = || config::line_of_key(&self.text, "data", key, entry()).filter(|_| is_of_file());
            config::texts(&loaded, key).map_err(|failure| named(failure, line()))?;
        }
        loaded.text = crate::config::resolved(&loaded.config)?;
        Ok(loaded)
    }
}

fn section<'a>(table: &'a mut toml::Table, name: &str) -> &'a mut toml::Table {
    let entry = table.entry(name).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if !entry.is_table() {
        *entry = toml::Value::Table(toml::Table::new());
    }
    match entry {
        toml::Value::Table(section) => section,
        _ => unreachable!("made a table above"),
    }
}

/// The variants of one `[[variant]]`: one for each point of its grid.
fn expand(
    mut entry: toml::Table,
    shared: &toml::Table,
    path: &Path,
    file_text: &Arc<str>,
    arguments: &Options,
) -> Result<Vec<Variant>> {
    let mut text = |key: &str| match entry.remove(key) {
        None => Ok(None),
        Some(toml::Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::usage(format!("`{key}` is not a text"))),
    };
    let name = text("name")?.ok_or_else(|| Error::usage("has no `name`"))?;
    let (against, base) = (text("against")?, text("use")?);
    let grid = match entry.remove("grid") {
        None => toml::Table::new(),
        Some(toml::Value::Table(grid)) => grid,
        Some(_) => return Err(Error::usage("`grid` is not a table of \"section.key\" = [values]")),
    };
    let mut table = match base {
        None => toml::Table::new(),
        Some(base) => {
            let base = path.parent().unwrap_or(Path::new("")).join(base);
            let text = config::read_text(&base)?;
            toml::from_str(&text)
                .map_err(|error| config::explain(&base.display().to_string(), &text, &error))?
        }
    };
    merge(&mut table, shared);
    merge(&mut table, &entry);
    let seeded = |table: &toml::Table| table.get("train").is_some_and(|train| train.get("seed").is_some());
    if seeded(shared)
        || seeded(&entry)
        || grid.contains_key("train.seed")
        || arguments.set.iter().any(|set| set.set.trim_start().starts_with("train.seed"))
    {
        return Err(Error::usage(
            "train.seed is set, but a comparison trains each variant from every seed of its own list",
        )
        .hint(Advice::SeedsOfComparison));
    }
    let mut points = vec![Vec::new()];
    for (key, values) in &grid {
        let toml::Value::Array(values) = values else {
            return Err(Error::usage(format!("grid.\"{key}\" is not a list")));
        };
        points = points
            .into_iter()
            .flat_map(|point: Vec<(&String, &toml::Value)>| {
                values.iter().map(move |value| point.iter().copied().chain([(key, value)]).collect())
            })
            .collect();
        if points.is_empty() || points.len() > MAX_TRIALS {
            return Err(Error::usage(format!("grid.\"{key}\" leaves {} variants", points.len())));
        }
    }
    points
        .into_iter()
        .map(|point| {
            let mut table = table.clone();
            for (key, value) in &point {
                let (of, key) = key
                    .split_once('.')
                    .ok_or_else(|| Error::usage(format!("grid.\"{key}\" is not \"section.key\"")))?;
                section(&mut table, of).insert(key.to_owned(), (*value).clone());
            }
            let full = full_name(&name, &point, &table)?;
            let mut any_size = table.clone();
            section(&mut any_size, "data").insert("train_fraction".into(), "…".into());
            let others: Vec<_> = point.iter().copied().filter(|(key, _)| *key != SIZE).collect();
            let curve = (others.len() < point.len()).then(|| full_name(&name, &others, &any_size));
            let against = against.as_deref().map(|name| fill(name, &table)).transpose()?;
            if !arguments.texts.is_empty() {
                let texts = arguments.texts.iter().map(|path| path.to_string_lossy().into_owned().into());
                section(&mut table, "data").insert("train".into(), toml::Value::Array(texts.collect()));
            }
            Ok(Variant {
                against: against.filter(|against| *against != full),
                curve: curve.transpose()?,
                name: full,
                file: path.to_owned(),
                text: file_text.clone(),
                table,
                set: arguments.set.clone(),
            })
        })
        .collect()
}

/// The name with the values of a grid's point: where it names them, or else at its end.
fn full_name(name: &str, point: &[(&String, &toml::Value)], table: &toml::Table) -> Result<String> {
    let mut full = fill(name, table)?;
    for (key, value) in point {
        if !name.contains(&format!("{{{key}}}")) {
            full.push_str(&format!(", {key} = {}", shown(value)));
        }
    }
    Ok(full)
}

/// Merges `over` into `table`, key by key; another kind of model or tokenizer starts from its own
/// defaults.
fn merge(table: &mut toml::Table, over: &toml::Table) {
    for (name, value) in over {
        let toml::Value::Table(keys) = value else {
            // Not a section: the config's check refuses it.
            table.insert(name.clone(), value.clone());
            continue;
        };
        let into = section(table, name);
        let differs = |own: Option<&toml::Value>| keys.get("kind").is_some_and(|kind| own != Some(kind));
        if name == "model" && differs(into.get("kind"))
            || name == "tokenizer" && into.get("kind").is_some_and(|kind| differs(Some(kind)))
        {
            into.clear();
        }
        if name == "train" && LENGTHS.iter().any(|key| keys.contains_key(*key)) {
            for key in LENGTHS {
                into.remove(key);
            }
        }
        into.extend(keys.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

/// Replaces every `{section.key}` in a name by its value.
fn fill(name: &str, table: &toml::Table) -> Result<String> {
    let mut filled = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('{') {
        let (key, after) =
            after.split_once('}').ok_or_else(|| Error::usage(format!("\"{name}\" has a {{ without a }}")))?;
        let value = key.split_once('.').and_then(|(of, key)| table.get(of)?.get(key));
        let value =
            value.ok_or_else(|| Error::usage(format!("\"{name}\" names {{{key}}}, which is not set")))?;
        filled.push_str(before);
        filled.push_str(&shown(value));
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Float(number) => number.to_string(),
        other => other.to_string(),
    }
}

/// A folder name from letters, digits and dashes that is not `taken`.
pub(crate) fn folder_name(name: &str, taken: &[PathBuf]) -> PathBuf {
    let mut slug = String::new();
    for character in name.chars() {
        match character {
            'ε' => slug.push_str("eps"),
            c if c.is_ascii_alphanumeric() || c == '.' => slug.push(c.to_ascii_lowercase()),
            _ if !slug.ends_with('-') && !slug.is_empty() => slug.push('-'),
            _ => {}
        }
    }
    let slug = slug.trim_matches(['-', '.']).chars().take(80).collect::<String>();
    let slug = if slug.is_empty() { "variant".to_owned() } else { slug };
    let free = (1..).map(|n| PathBuf::from(if n == 1 { slug.clone() } else { format!("{slug}-{n}") }));
    free.into_iter().find(|path| !taken.contains(path)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use surprisal_model::neural::NeuralConfig;

    fn load(text: &str, set: &[&str]) -> Result<ComparisonSpec> {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let mut base = std::fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(folder.path().join("base.toml"))
            .unwrap();
        base.write_all(b"[model]\nkind = \"mlp\"\nn_embd = 12\n[train]\nsteps = 7\nbatch_size = 3\n")
            .unwrap();
        let path = folder.path().join("grid.toml");
        let mut file = std::fs::OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let set = set.iter().map(Override::from).collect();
        ComparisonSpec::load(&Options { config: path, set, ..Options::default() })
    }

    const GRID: &str = r#"
[compare]
seeds = [3, 4]
[optim]
lr = 0.01
[[variant]]
name = "counted"
model = { kind = "ngram", order = 3 }
[[variant]]
name = "e{loss.label_smoothing} d{optim.weight_decay}"
against = "e0 d{optim.weight_decay}"
use = "base.toml"
train = { epochs = 2 }
[variant.grid]
"loss.label_smoothing" = [0, 0.1]
"optim.weight_decay" = [0, 0.1]
"#;

    #[test]
    fn a_grid_is_every_point_of_it() {
        let grid = load(GRID, &["train.batch_size=5"]).unwrap();
        let names: Vec<_> = grid.variants.iter().map(|variant| variant.name.as_str()).collect();
        assert_eq!(names, ["counted", "e0 d0", "e0 d0.1", "e0.1 d0", "e0.1 d0.1"]);
        let against: Vec<_> = grid.variants.iter().map(|variant| variant.against.as_deref()).collect();
        assert_eq!(against, [None, None, None, Some("e0 d0"), Some("e0 d0.1")]);
        assert_eq!(grid.seeds, [3, 4]);
        let config = grid.variants[4].trial_config(9).unwrap().config;
        let Some(NeuralConfig::Mlp(mlp)) = config.model.neural() else { panic!("{:?}", config.model) };
        assert_eq!(mlp.n_embd, 12);
        assert_eq!((config.train.epochs, config.train.steps, config.train.batch_size), (Some(2.0), None, 5));
        assert_eq!((config.train.seed, config.optim.lr, config.loss.label_smoothing), (9, 0.01, 0.1));
        let counted = grid.variants[0].trial_config(1).unwrap().config;
        assert_eq!(counted.model.ngram(None, None).map(|it| it.order), Some(3));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("", "no [[variant]]"),
            ("[[variant]]\nmodel = {}\n", "variant 1: has no `name`"),
            ("[[variant]]\nname = \"a\"\n[[variant]]\nname = \"a\"\n", "two variants are called \"a\""),
            ("[[variant]]\nname = \"a {x.y}\"\n", "{x.y}"),
            ("[[variant]]\nname = \"a\"\nagainst = \"b\"\n", "\"b\""),
            ("[compare]\nseed = 1\n[[variant]]\nname = \"a\"\n", "seed"),
            ("[[variant]]\nname = \"a\"\n[variant.grid]\nlr = [1]\n", "section.key"),
        ] {
            let failure = load(text, &[]).unwrap_err();
            assert!(
                failure.kind == crate::ExitKind::Usage && failure.message.contains(part),
                "{text}: {failure}"
            );
        }
        let wrong = load("[[variant]]\nname = \"a\"\noptim = { lrr = 1 }\n", &[]).unwrap();
        assert!(wrong.variants[0].trial_config(1).unwrap_err().message.contains("lrr"));
    }

    #[test]
    fn folders_are_plain_and_distinct() {
        let first = folder_name("MLP, ε = 0.1 / few", &[]);
        assert_eq!(first, Path::new("mlp-eps-0.1-few"));
        assert_eq!(folder_name("mlp ε 0.1 few", &[first]), Path::new("mlp-eps-0.1-few-2"));
        assert_eq!(folder_name("../..", &[]), Path::new("variant"));
    }
}
