//! Binary files of n-gram models that are queried through a memory map: `*.ngram`, and
//! `model.ngram` in a run.
//!
//! A file is a `container` with the arrays of the trie (`surprisal_model::ngram::Trie`),
//! [`SECTIONS`](ngram::SECTIONS) per order, and the vocabulary. It is memory-mapped, and its
//! checksums are verified when it is opened.
//!
//! The vocabulary of a char or word tokenizer is its tokens in order, each as its length in bytes
//! (seven bits per byte; the highest bit marks that another byte follows) and its bytes. That of
//! another tokenizer is its `tokenizer.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use surprisal_model::LanguageModel;
use surprisal_model::ngram::external::{Put, Smoothed, StreamedTrie};
use surprisal_model::ngram::{self, NgramConfig, NgramModel, Report, Trie, packed::Bytes};
use surprisal_text::Tokenizer;

use crate::container::{self, FileFormat};
use crate::file::{self, FileWriter};
use crate::{Error, Result};

mod vocabulary;
pub(crate) use vocabulary::Vocabulary;

const FORMAT: FileFormat = FileFormat { magic: b"SURPNGM4", what: "the n-gram model" };

/// The header of a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    trie: ngram::Header,
    config: NgramConfig,
    report: Report,
    vocabulary: Vocabulary,
}

/// Whether `head`, the start of a file, is that of an n-gram model of any version.
pub fn has_magic(head: &[u8]) -> bool {
    FORMAT.matches(head)
}

/// Writes the file `path`, replacing an old one, and returns its size in bytes.
///
/// # Errors
/// [`Io`](surprisal_store::Error::Io), then the old file is unchanged; a model and a tokenizer that
/// do not match.
pub fn write(path: impl AsRef<Path>, model: &NgramModel, tokenizer: &Tokenizer) -> Result<u64> {
    let (header, sections) = parts(model, tokenizer)?;
    let mut writer = FileWriter::create(path)?;
    container::write(&FORMAT, &header, &sections, |bytes| writer.put(bytes))?;
    writer.commit()
}

/// Writes the file `path` of a model whose n-grams are in streams, as [`write()`]; they are read
/// several times.
///
/// # Errors
/// As there; a stream that cannot be read.
pub fn write_streamed(
    path: impl AsRef<Path>,
    smoothed: &Smoothed,
    trie: &StreamedTrie<'_>,
    tokenizer: &Tokenizer,
) -> Result<u64> {
    let vocabulary = Vocabulary::of(tokenizer);
    let (config, report) = (smoothed.config.clone(), smoothed.report.clone());
    let header = Header { trie: trie.header.clone(), config, report, vocabulary };
    let mut writer = FileWriter::create(path)?;
    let emit = |section, put: &mut Put<'_>| {
        if section < trie.sections() { trie.section(section, put) } else { Vocabulary::emit(tokenizer, put) }
    };
    container::write_emitted(&FORMAT, &header, trie.sections() + 1, &emit, &mut |bytes| writer.put(bytes))?;
    writer.commit()
}

/// The bytes of an n-gram file.
///
/// # Errors
/// A model and a tokenizer that do not match.
pub fn to_bytes(model: &NgramModel, tokenizer: &Tokenizer) -> Result<Vec<u8>> {
    let (header, sections) = parts(model, tokenizer)?;
    container::to_bytes(&FORMAT, &header, &sections)
}

/// Memory-maps the file `path`.
///
/// # Errors
/// [`Io`](surprisal_store::Error::Io); [`Malformed`](surprisal_store::Error::Malformed) if a
/// checksum does not match.
pub fn open(path: impl AsRef<Path>) -> Result<(NgramModel, Tokenizer)> {
    let path = path.as_ref();
    let bytes = file::read(path)?;
    from_bytes(bytes).map_err(|error| error.in_file(path))
}

/// The model and the tokenizer in the bytes of a file, which are shared, not copied.
///
/// # Errors
/// [`Malformed`](surprisal_store::Error::Malformed) for any byte whose checksum does not match.
pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<(NgramModel, Tokenizer)> {
    let malformed = |problem: &dyn std::fmt::Display| Error::malformed(FORMAT.what, &problem.to_string());
    container::read(&FORMAT, &bytes.into(), |header: Header, mut sections| {
        let Some(words) = sections.pop() else { return Err(malformed(&"it has no vocabulary")) };
        let tokenizer = header.vocabulary.decode(words.as_slice()).map_err(|error| malformed(&error))?;
        let trie = Trie::from_sections(header.trie, &sections).map_err(|error| malformed(&error))?;
        let model = NgramModel::new(header.config, header.report, trie);
        check_compatible(&model, &tokenizer).map_err(|problem| malformed(&problem))?;
        Ok((model, tokenizer))
    })
}

fn parts(model: &NgramModel, tokenizer: &Tokenizer) -> Result<(Header, Vec<Bytes>)> {
    check_compatible(model, tokenizer).map_err(|problem| Error::malformed(FORMAT.what, &problem))?;
    let (vocabulary, words) = Vocabulary::encode(tokenizer)?;
    let header = Header {
        trie: model.trie().header().clone(),
        config: model.config().clone(),
        report: model.report().clone(),
        vocabulary,
    };
    let mut sections = model.trie().sections();
    sections.push(words.into());
    Ok((header, sections))
}

/// Checks that `model` and `tokenizer` have the same tokens.
fn check_compatible(model: &NgramModel, tokenizer: &Tokenizer) -> Result<(), String> {
    let (tokens, words) = (model.vocab_size(), tokenizer.vocab_size());
    if tokens != words {
        return Err(format!("the model has {tokens} tokens, but the tokenizer has {words}"));
    }
    let (trie, config) = (model.trie().header(), model.config());
    if trie.bos != tokenizer.bos() || config.order != trie.levels.len() {
        return Err("the parts of the file belong to different models".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
