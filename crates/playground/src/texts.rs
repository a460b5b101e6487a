//! The texts of the page: embedded ones, the one that it was started with, and those sent to it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::StatusCode;
use serde_json::{Value, json};
use surprisal_engine::compare::oracle::SourceOracle;
use surprisal_engine::data::Dataset;
use surprisal_engine::source::Source;
use surprisal_engine::store::atomic;
use surprisal_engine::{Context, Control, Event, RunId, config, kind};
use surprisal_platform::threads::Pool;

use crate::lru::Lru;
use crate::problem::{Problem, Result};

/// Bytes of the texts that are held as tokens, and of their sources' predictions.
const HELD: [usize; 2] = [512 << 20, 64 << 20];
/// Bytes of a small text.
const SMALL: u64 = 1 << 20;
/// The most bytes of all texts that were sent.
const MOST_STORED: u64 = 1 << 30;
/// The most texts that were sent.
const MOST_TEXTS: usize = 400;
/// Characters of a text's name.
const NAME_CHARS: usize = 60;
/// The folder of the texts that were sent, beside the runs; no run has such a name.
const FOLDER: &str = ".texts";
/// The id of the text that the page was started with.
pub(crate) const GIVEN: &str = "given";

/// A text with its tokens, and what there is to say about it.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) data: Dataset,
    pub(crate) notes: Vec<String>,
}

impl Text {
    /// About its size in memory, with the text itself.
    fn bytes(&self) -> usize {
        let Dataset { train, val, .. } = &self.data;
        size_of::<u32>() * (train.ids.len() + val.ids.len()) + (train.bytes + val.bytes) as usize
    }
}

#[derive(Debug, Clone)]
struct Entry {
    id: String,
    name: String,
    /// `None` for an embedded text.
    path: Option<PathBuf>,
    bytes: u64,
}

/// All texts. A text is found by its id in a list; no path is ever made of what a request says.
#[derive(Debug)]
pub(crate) struct Texts {
    folder: PathBuf,
    list: Mutex<Vec<Entry>>,
    held: Lru<Text>,
    oracles: Lru<Option<SourceOracle>>,
}

impl Texts {
    /// The embedded texts, `given`, and those of earlier pages in `runs`.
    pub(crate) fn new(runs: &Path, given: Option<&Path>) -> Self {
        let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        let mut list = Vec::new();
        if let Some(path) = given {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            list.push(Entry { id: GIVEN.into(), name, path: Some(path.to_owned()), bytes: size(path) });
        }
        list.extend(Source::names().iter().map(|&name| Entry {
            id: name.into(),
            name: format!("{name} (embedded)"),
            path: None,
            bytes: 0,
        }));
        let folder = std::path::absolute(runs).unwrap_or_else(|_| runs.to_owned()).join(FOLDER);
        let mut sent: Vec<Entry> = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let (path, id) = (entry.path(), entry.file_name().into_string().ok()?);
                let id = id.strip_suffix(".txt")?.to_owned();
                let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                is_file.then(|| Entry { name: spoken(&id), bytes: size(&path), id, path: Some(path) })
            })
            .collect();
        sent.sort_by(|a, b| a.id.cmp(&b.id));
        list.extend(sent.into_iter().take(MOST_TEXTS));
        Self {
            folder,
            list: Mutex::new(list),
            held: Lru::new(HELD[0], Text::bytes),
            oracles: Lru::new(HELD[1], |_| 1 << 20),
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, id: &str) -> Result<Entry> {
        let found = self.list().iter().find(|entry| entry.id == id).cloned();
        found.ok_or_else(|| Problem::not_found(format!("there is no text {id:?} here")))
    }

    /// Whether the text is too large for many such to be held.
    pub(crate) fn is_large(&self, id: &str) -> bool {
        self.entry(id).is_ok_and(|entry| entry.bytes > SMALL)
    }

    /// The text that a page shows first.
    pub(crate) fn first(&self) -> String {
        self.list().first().map(|entry| entry.id.clone()).unwrap_or_default()
    }

    pub(crate) fn name(&self, id: &str) -> Result<String> {
        Ok(self.entry(id)?.name)
    }

    pub(crate) fn json(&self) -> Value {
        let entry = |entry: &Entry| json!({ "id": entry.id, "name": entry.name, "bytes": entry.bytes });
        self.list().iter().map(entry).collect()
    }

    /// The settings of the text `id`, as keys of a config's `[data]`.
    pub(crate) fn settings(&self, id: &str) -> Result<Vec<String>> {
        let Entry { path, id, .. } = self.entry(id)?;
        Ok(match path {
            Some(path) => vec![format!("data.train={}", json!([path]))],
            None => vec![format!("data.embedded={}", json!(id))],
        })
    }

    /// The text `id` as characters.
    pub(crate) fn get(&self, id: &str, pool: &Pool) -> Result<Arc<Text>> {
        let loaded = self.config(id)?;
        self.held.get(id, || {
            kind::check_texts(&loaded.config.data.train)?;
            let notes = Mutex::new(Vec::new());
            let events = |_: RunId, event: &Event| {
                if let Event::Noted(note) = event {
                    notes.lock().unwrap_or_else(PoisonError::into_inner).push(note.to_string());
                }
                Ok(())
            };
            let control = Control::new();
            let data = Dataset::load(&loaded.config, false, None, &Context::new(pool, &events, &control))?;
            Ok(Text { data, notes: notes.into_inner().unwrap_or_default() })
        })
    }

    /// The predictions of the text's source, where that is known.
    pub(crate) fn oracle(&self, id: &str, data: &Dataset) -> Result<Arc<Option<SourceOracle>>> {
        let config = self.config(id)?;
        self.oracles.get(id, || Ok(SourceOracle::new(&config.config, &data.tokenizer, &data.val)?))
    }

    /// The settings by which the text `id` is read as characters.
    fn config(&self, id: &str) -> Result<config::Loaded> {
        let set: Vec<config::Override> =
            self.settings(id)?.iter().map(|set| config::Override::from(&**set)).collect();
        let mut loaded = config::parse("the page", "[tokenizer]\nkind = \"char\"\n", &set)?;
        config::check(&mut loaded)?;
        Ok(loaded)
    }

    /// Stores a text that was sent under `name`, unless it cannot be read; the same text has the
    /// same id.
    pub(crate) fn add(&self, name: &str, bytes: &[u8], pool: &Pool) -> Result<Value> {
        if bytes.is_empty() {
            return Err(Problem::bad("the text is empty"));
        }
        if let Err(error) = std::str::from_utf8(bytes) {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
            return Err(Problem::bad(format!("the text is not UTF-8: line {line} is something else")));
        }
        let id = format!("{}-{}", plain(name), &blake3::hash(bytes).to_hex()[..8]);
        let path = self.folder.join(format!("{id}.txt"));
        let entry =
            Entry { name: spoken(&id), path: Some(path.clone()), bytes: bytes.len() as u64, id: id.clone() };
        let mut list = self.list();
        let is_new = !list.iter().any(|other| other.id == id);
        if is_new {
            let of_folder = || list.iter().filter(|other| other.path.is_some());
            let stored: u64 = of_folder().map(|other| other.bytes).sum();
            if stored + entry.bytes > MOST_STORED || of_folder().count() >= MOST_TEXTS {
                let message =
                    "there is no more room for texts: remove some from the folder .texts of the runs";
                return Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, message));
            }
            let unwritten = |error| {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, format!("cannot keep the text: {error}"))
            };
            std::fs::create_dir_all(&self.folder).map_err(|error| unwritten(error.to_string()))?;
            atomic::write(&path, bytes).map_err(|error| unwritten(error.to_string()))?;
            list.push(entry.clone());
        }
        drop(list);
        if let Err(problem) = self.get(&id, pool) {
            if is_new {
                self.list().retain(|other| other.id != id);
                drop(std::fs::remove_file(&path));
            }
            // Who sent it knows no path and no settings.
            let message = problem.message.replace(&path.display().to_string(), "the text");
            return Err(Problem::new(problem.status, message));
        }
        Ok(json!({ "id": entry.id, "name": entry.name, "bytes": entry.bytes }))
    }
}

/// The letters, digits and dashes of a name, which make a file name on every system.
fn plain(name: &str) -> String {
    let is_ending = |end: &str| (1..=5).contains(&end.len()) && end.chars().all(char::is_alphanumeric);
    let stem = name.rsplit_once('.').filter(|(stem, end)| !stem.is_empty() && is_ending(end));
    let stem = stem.map_or(name, |(stem, _)| stem);
    let mut plain = String::new();
    for c in stem.chars().take(NAME_CHARS) {
        match c {
            c if c.is_alphanumeric() => plain.extend(c.to_lowercase()),
            _ if plain.ends_with('-') || plain.is_empty() => {}
            _ => plain.push('-'),
        }
    }
    let plain = plain.trim_end_matches('-');
    if plain.is_empty() { "text".to_owned() } else { plain.to_owned() }
}

/// The name in an id: without its hash, dashes as spaces.
fn spoken(id: &str) -> String {
    id.rsplit_once('-').map_or(id, |(name, _)| name).replace('-', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_file_names() {
        for (name, expected) in [
            ("My Book.txt", "my-book"),
            ("../../etc/passwd", "etc-passwd"),
            ("../../out", "out"),
            ("<script>alert(1)</script>", "script-alert-1-script"),
            ("", "text"),
            (".txt", "txt"),
            ("лес и море.txt", "лес-и-море"),
            ("a\0b\nc", "a-b-c"),
        ] {
            assert_eq!(plain(name), expected, "{name}");
        }
        assert_eq!(plain(&"x".repeat(300)).len(), NAME_CHARS);
    }

    #[test]
    fn texts_are_kept_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let texts = Texts::new(folder.path(), None);
        assert_eq!(texts.first(), "stories");
        let long = "the cat sat by the river and the dog ran to the hill. ".repeat(60);
        let pool = Pool::new(1).unwrap();
        let sent = texts.add("../cats.txt", long.as_bytes(), &pool).unwrap();
        assert_eq!(sent, texts.add("cats", long.as_bytes(), &pool).unwrap());
        let id = sent["id"].as_str().unwrap();
        assert_eq!(sent["name"], "cats");
        let kept = || std::fs::read_dir(folder.path().join(FOLDER)).unwrap().count();
        assert_eq!(kept(), 1);
        let text = texts.get(id, &pool).unwrap();
        assert!(text.data.train.scored() > 2000 && text.data.tokenizer.vocab_size() > 10);
        assert!(Texts::new(folder.path(), None).get(id, &pool).is_ok());
        let before = texts.json();
        for (bytes, word) in [
            (&b""[..], "the text is empty"),
            (b"a\nb\xff", "line 2"),
            (b"a", "the text is too short"),
            (b"a b\0c\n", "NUL on line 1"),
        ] {
            let message = texts.add("x", bytes, &pool).unwrap_err().message;
            assert!(message.contains(word) && !message.contains("x-"), "{message}");
        }
        assert_eq!((kept(), texts.json()), (1, before), "what cannot be read is not kept");
        for id in ["../cats", "nothing", "", "texts"] {
            assert_eq!(texts.get(id, &pool).unwrap_err().status, StatusCode::NOT_FOUND);
        }
    }
}
