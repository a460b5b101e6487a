//! Binary files of ∞-gram models that are queried through a memory map: `*.infgram`, and
//! `model.infgram` in a run.
//!
//! A file is a `container` with the text, its suffix array and the vocabulary, which is that of an
//! [`ngram`](crate::ngram) file. Its checksums are verified when it is opened.

use std::path::Path;

use serde::{Deserialize, Serialize};
use surprisal_model::LanguageModel;
use surprisal_model::infinigram::{self, Infinigram};
use surprisal_model::ngram::packed::Bytes;
use surprisal_text::Tokenizer;

use crate::container::{self, FileFormat};
use crate::file::{self, FileWriter};
use crate::ngram::Vocabulary;
use crate::{Error, Result};

const FORMAT: FileFormat = FileFormat { magic: b"SURPINF1", what: "the ∞-gram model" };

/// The header of a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    model: infinigram::Header,
    vocabulary: Vocabulary,
}

/// Whether `head`, the start of a file, is that of an ∞-gram model of any version.
pub fn has_magic(head: &[u8]) -> bool {
    FORMAT.matches(head)
}

/// Writes the file `path`, replacing an old one, and returns its size in bytes.
///
/// # Errors
/// [`Io`](surprisal_store::Error::Io), then the old file is unchanged.
pub fn write(path: impl AsRef<Path>, model: &Infinigram, tokenizer: &Tokenizer) -> Result<u64> {
    let (header, sections) = parts(model, tokenizer)?;
    let mut writer = FileWriter::create(path)?;
    container::write(&FORMAT, &header, &sections, |bytes| writer.put(bytes))?;
    writer.commit()
}

/// The bytes of a file.
///
/// # Errors
/// A tokenizer that cannot be written.
pub fn to_bytes(model: &Infinigram, tokenizer: &Tokenizer) -> Result<Vec<u8>> {
    let (header, sections) = parts(model, tokenizer)?;
    container::to_bytes(&FORMAT, &header, &sections)
}

/// Memory-maps the file `path`.
///
/// # Errors
/// [`Io`](surprisal_store::Error::Io); [`Malformed`](surprisal_store::Error::Malformed) if a
/// checksum does not match.
pub fn open(path: impl AsRef<Path>) -> Result<(Infinigram, Tokenizer)> {
    let path = path.as_ref();
    from_bytes(file::read(path)?).map_err(|error| error.in_file(path))
}

/// The model and the tokenizer in the bytes of a file, which are shared, not copied.
///
/// # Errors
/// [`Malformed`](surprisal_store::Error::Malformed) for any byte whose checksum does not match.
pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<(Infinigram, Tokenizer)> {
    let malformed = |problem: &dyn std::fmt::Display| Error::malformed(FORMAT.what, &problem.to_string());
    container::read(&FORMAT, &bytes.into(), |header: Header, sections| {
        let [text, suffixes, words] =
            sections.try_into().map_err(|_| malformed(&"it has other parts than a model"))?;
        let tokenizer = header.vocabulary.decode(words.as_slice()).map_err(|error| malformed(&error))?;
        let model =
            Infinigram::from_parts(header.model, text, suffixes).map_err(|error| malformed(&error))?;
        let (tokens, words) = (model.vocab_size(), tokenizer.vocab_size());
        if tokens != words || model.header().bos != tokenizer.bos() {
            return Err(malformed(&format!("the model has {tokens} tokens, and the tokenizer {words}")));
        }
        Ok((model, tokenizer))
    })
}

fn parts(model: &Infinigram, tokenizer: &Tokenizer) -> Result<(Header, Vec<Bytes>)> {
    let (vocabulary, words) = Vocabulary::encode(tokenizer)?;
    let [text, suffixes] = model.parts().map(Bytes::clone);
    Ok((Header { model: model.header().clone(), vocabulary }, vec![text, suffixes, words.into()]))
}
