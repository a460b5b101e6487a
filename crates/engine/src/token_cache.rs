//! Cache of the tokens of large texts: files in the user's cache folder, mapped instead of read.
//!
//! A file has the ids (32 bits each, little-endian), a JSON footer, its length (64 bits) and a
//! magic number. Its name is a hash of the text and of the tokenizer, so that a changed text has
//! another file. It appears when it is complete; two writers write the same bytes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use surprisal_formats::file;
use surprisal_model::ngram::external::Smoothed;
use surprisal_platform::mmap::MappedFile;
use surprisal_store::{Error as StoreError, atomic};
use surprisal_text::{Corpus, TextWarnings, TokenCounts, TokenIds, TokenText, Tokenizer, TokenizerKind};

use crate::config::{Config, TokenCache};
use crate::error::{Error, Result};
use crate::events::{Context, Note};
use crate::memory::{self, Room};
use crate::word_choice::rare_words;
use crate::wording::bytes;

/// The text size in bytes from which tokens are cached unless the config says otherwise.
const AUTO_BYTES: u64 = 256 << 20;
const MAGIC: &[u8; 8] = b"SURPTOK2";
/// The footer's length and the magic number.
const END_BYTES: usize = 16;
/// The environment variable for another folder.
const FOLDER_VARIABLE: &str = "SURPRISAL_CACHE";
const EXTENSION: &str = "tokens";

/// The description of a cached file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Footer {
    /// Hash of the text, the tokenizer's kind and the options of encoding.
    key: String,
    /// Name of the text.
    pub name: String,
    /// Counts of its tokens.
    pub counts: TokenCounts,
    tokenizer: String,
    /// Minimum number of occurrences of a word.
    min_count: Option<u64>,
    /// Hash of the ids.
    hash: String,
    /// The counts that the text's notices are made from, and a note on rare words.
    warnings: TextWarnings,
    rare: Option<String>,
}

/// A file of the cache.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The text that it is of; `None` for the remains of a writer that was killed.
    pub footer: Option<Footer>,
}

/// The folder of the cache: `$SURPRISAL_CACHE`, or `surprisal` in the user's cache folder.
///
/// # Errors
/// A user without a home folder.
pub fn folder() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_user = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))
    };
    variable(FOLDER_VARIABLE).or_else(|| Some(of_user?.join("surprisal"))).ok_or_else(|| {
        Error::failed("there is no folder for cached tokens, as HOME is not set")
            .hint(format!("name one: {FOLDER_VARIABLE}=FOLDER"))
    })
}

/// The files of the cache, by name.
///
/// # Errors
/// A folder that cannot be read.
pub fn list() -> Result<Vec<Entry>> {
    let folder = folder()?;
    let mut entries = Vec::new();
    let found = match fs::read_dir(&folder) {
        Ok(found) => found,
        Err(reason) if reason.kind() == std::io::ErrorKind::NotFound => return Ok(entries),
        Err(reason) => return Err(StoreError::Io { action: "list".into(), path: folder, reason }.into()),
    };
    for path in found.filter_map(|entry| Some(entry.ok()?.path())) {
        let extension = |path: &Path| path.extension().map(|it| it.to_string_lossy().into_owned());
        // The remains of a writer are `.NAME.tokens.PROCESS-NUMBER.tmp`.
        let stem = path.file_stem().map(PathBuf::from).unwrap_or_default();
        let inner = stem.file_stem().map(PathBuf::from).unwrap_or_default();
        let is_rest =
            extension(&path).as_deref() == Some("tmp") && extension(&inner).as_deref() == Some(EXTENSION);
        if !is_rest && extension(&path).as_deref() != Some(EXTENSION) {
            continue;
        }
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let footer = map(&path).ok().flatten().map(|(_, footer)| footer);
        entries.push(Entry { bytes: metadata.len(), footer, path });
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Removes all files of the cache; gives their number and bytes.
///
/// # Errors
/// A file that cannot be removed.
pub fn clear() -> Result<(usize, u64)> {
    let entries = list()?;
    for Entry { path, .. } in &entries {
        match fs::remove_file(path) {
            Err(reason) if reason.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::Io { action: "remove".into(), path: path.clone(), reason }.into());
            }
            _ => {}
        }
    }
    Ok((entries.len(), entries.iter().map(|entry| entry.bytes).sum()))
}

/// The folder in which the tokens of a text are cached, if they are. For an n-gram model that is
/// counted in `room` they are a temporary file.
pub(crate) fn folder_of(config: &Config, corpus: &Corpus, room: Option<&Room>) -> Result<Option<PathBuf>> {
    if config.data.train.is_empty() || cfg!(target_endian = "big") {
        return Ok(None);
    }
    if let (Some(ngram), Some(room)) = (config.model.ngram(None, None), room) {
        let fits = memory::fits(corpus.bytes(), config.tokenizer.kind(), ngram.order, room);
        let can = Smoothed::refusal(&ngram, false, true)?.is_none();
        return Ok((can && !fits).then(|| room.temp.clone()));
    }
    let is_used = match config.data.token_cache {
        // Counts need all tokens in memory.
        _ if config.model.is_counted() => false,
        TokenCache::On => true,
        TokenCache::Off => false,
        TokenCache::Auto => corpus.bytes() >= AUTO_BYTES,
    };
    is_used.then(folder).transpose()
}

/// The tokenizer and the training tokens of `corpus` from the cache, which gets them first if it
/// has not got them. `known` is the tokenizer unless it is learned from the text.
///
/// # Errors
/// Errors in the text; a cache that cannot be written.
pub(crate) fn tokens(
    config: &Config,
    corpus: &Corpus,
    known: Option<Tokenizer>,
    folder: &Path,
    ctx: &Context<'_>,
) -> Result<(Tokenizer, TokenText, Option<u64>)> {
    let key = key(config, corpus, known.as_ref())?;
    let path = path(folder, &key);
    let is_kept = path.is_file();
    if !is_kept {
        fs::create_dir_all(folder).map_err(|reason| StoreError::Io {
            action: "create the folder".into(),
            path: folder.to_owned(),
            reason,
        })?;
        let written = write(&path, &key, config, known, corpus, ctx)?;
        if !config.model.is_counted() {
            ctx.note(Note::Text(format!(
                "the tokens are kept in {} ({}), for the next run on this text; `surprisal cache` lists what is kept",
                path.display(),
                bytes(written)
            )))?;
        }
    }
    let is_sound = |(ids, footer): &(MappedIds, Footer)| footer.key == key && footer.hash == ids.hash();
    let Some((ids, footer)) = map(&path)?.filter(is_sound) else {
        return Err(Error::failed(format!("{} is damaged: it is not what was cached", path.display()))
            .hint("remove it: surprisal cache --clear"));
    };
    let tokenizer = Tokenizer::from_json(footer.tokenizer.as_bytes())?;
    if is_kept {
        // Those of a new file come with the corpus.
        corpus.set_train_warnings(footer.warnings);
        ctx.notes(footer.rare.as_slice())?;
    }
    let ids = TokenIds::mapped(Arc::new(ids), &key);
    let text = TokenText::from_parts(ids, tokenizer.mode(), tokenizer.bos(), footer.counts);
    Ok((tokenizer, corpus.check_length(text)?, footer.min_count))
}

/// The file of a text with the hash `key`.
pub(crate) fn path(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{key}.{EXTENSION}"))
}

/// A hash of the training text and of all that its tokens depend on.
fn key(config: &Config, corpus: &Corpus, known: Option<&Tokenizer>) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(MAGIC);
    hasher.update(corpus.hash()?.as_bytes());
    let options = (corpus.mode(), config.data.literal_specials, config.data.last_line);
    hasher.update(&serde_json::to_vec(&options)?);
    match known {
        Some(tokenizer) => hasher.update(&tokenizer.to_json()?),
        None => hasher.update(&serde_json::to_vec(&config.tokenizer)?),
    };
    if let Some(list) = config.tokenizer.vocab.as_deref().filter(|_| known.is_none()) {
        hasher.update(file::read(list)?.as_slice());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn write(
    path: &Path,
    key: &str,
    config: &Config,
    known: Option<Tokenizer>,
    corpus: &Corpus,
    ctx: &Context<'_>,
) -> Result<u64> {
    let kind = config.tokenizer.kind();
    let (tokenizer, choice) = match known {
        Some(tokenizer) => (tokenizer, None),
        None if kind == TokenizerKind::Word => {
            let (tokenizer, choice, _) =
                corpus.learn_word_tokenizer(&config.tokenizer.words(config.data.normalize)?, None)?;
            (tokenizer, Some(choice))
        }
        None => (corpus.train_tokenizer(kind)?, None),
    };
    let mut writer = atomic::Writer::create(path)?;
    let (mut buffer, mut hasher) = (Vec::new(), blake3::Hasher::new());
    let counts = corpus.encode_train_to(&tokenizer, |ids| {
        buffer.clear();
        buffer.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        hasher.update(&buffer);
        std::io::Write::write_all(&mut writer, &buffer)
    })?;
    let tokenizer =
        String::from_utf8(tokenizer.to_json()?).map_err(|error| Error::failed(error.to_string()))?;
    let (key, name, warnings) = (key.to_owned(), corpus.name(), corpus.train_warnings());
    let (hash, mut rare) = (hasher.finalize().to_hex().to_string(), None);
    let scored = counts.tokens - counts.lines;
    if let Some(note) =
        choice.and_then(|choice| rare_words(config.tokenizer.min_count(), choice, counts.oov, scored))
    {
        rare = Some(note.to_string());
        ctx.note(note)?;
    }
    let min_count = choice.map(|choice| choice.min_count);
    let footer =
        serde_json::to_vec(&Footer { key, name, counts, tokenizer, min_count, hash, warnings, rare })?;
    writer.put(&footer)?;
    writer.put(&(footer.len() as u64).to_le_bytes())?;
    writer.put(MAGIC)?;
    Ok(writer.commit_no_fsync_if_new()?)
}

/// The ids in a mapped file.
struct MappedIds {
    file: MappedFile,
    tokens: usize,
}

impl MappedIds {
    fn hash(&self) -> String {
        blake3::hash(&self.file.as_ref()[..4 * self.tokens]).to_hex().to_string()
    }
}

impl AsRef<[u32]> for MappedIds {
    fn as_ref(&self) -> &[u32] {
        &self.file.as_u32s()[..self.tokens]
    }
}

/// Maps a file of the cache; `None` if it is not complete.
fn map(path: &Path) -> Result<Option<(MappedIds, Footer)>> {
    let failed = |reason| StoreError::Io { action: "read".into(), path: path.to_owned(), reason };
    let file = File::open(path).map_err(failed)?;
    let file = MappedFile::open(&file, path).map_err(failed)?;
    let content = file.as_ref();
    let Some((rest, end)) = content.split_last_chunk::<END_BYTES>() else { return Ok(None) };
    let length = u64::from_le_bytes(*end.first_chunk().unwrap_or(&[0; 8]));
    if !end.ends_with(MAGIC) || length > rest.len() as u64 {
        return Ok(None);
    }
    let (ids, footer) = rest.split_at(rest.len() - length as usize);
    let Ok(footer) = serde_json::from_slice::<Footer>(footer) else { return Ok(None) };
    let tokens = footer.counts.tokens as usize;
    Ok((ids.len() as u64 == 4 * footer.counts.tokens).then_some((MappedIds { file, tokens }, footer)))
}
