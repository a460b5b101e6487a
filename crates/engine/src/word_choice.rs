//! The words of a word tokenizer's vocabulary.

use std::path::Path;

use surprisal_formats::file;
use surprisal_text::{MinCount, NormalForm, WordChoice, WordList, WordVocabulary};

use crate::config::Tokenizer as Settings;
use crate::error::Result;
use crate::events::Note;

/// The list of words in the file at `path`, in a normal form.
///
/// # Errors
/// A file that cannot be read; a wrong line.
pub fn word_list(path: &Path, normalize: NormalForm) -> Result<WordList> {
    Ok(WordList::parse(&path.display().to_string(), file::read(path)?.as_slice(), normalize)?)
}

/// A note if some words are not in the vocabulary.
pub(crate) fn rare_words(min_count: MinCount, choice: WordChoice, unknown: u64, tokens: u64) -> Option<Note> {
    let requested = min_count != MinCount::Auto;
    (choice.kept < choice.words).then_some(Note::RareWords { choice, unknown, tokens, requested })
}

impl Settings {
    /// The choice of words.
    ///
    /// # Errors
    /// A list that cannot be read.
    pub(crate) fn words(&self, normalize: NormalForm) -> Result<WordVocabulary> {
        let list = self.vocab.as_deref().map(|path| word_list(path, normalize)).transpose();
        let list = list.map_err(|error| error.within("tokenizer.vocab"))?;
        Ok(WordVocabulary { min_count: self.min_count(), vocab_size: self.vocab_size, list })
    }
}
