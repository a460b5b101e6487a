//! Fingerprint of a run: hashes of the settings and texts that its results depend on.
//!
//! Every checkpoint has it, so that a run resumes only with the settings and texts that it began
//! with.

use serde::{Deserialize, Serialize};
use surprisal_text::{TokenText, Tokenizer};

use crate::error::{Advice, Error, Result};

/// Hashes (BLAKE3, hexadecimal) of a run's settings and texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFingerprint {
    settings: String,
    texts: String,
}

impl RunFingerprint {
    /// Fingerprint of a run whose config.toml is `text`, without the settings that do not affect
    /// results: threads, checkpoints and the paths of texts; and without the choice of words and
    /// the rules of reading, whose results the tokenizer and the tokens have.
    pub(crate) fn new(text: &str, tokenizer: &Tokenizer, train: &TokenText, val: &TokenText) -> Result<Self> {
        let mut texts = blake3::Hasher::new();
        texts.update(&tokenizer.to_json()?);
        for text in [train, val] {
            hash(text, &mut texts);
        }
        Self { settings: String::new(), texts: texts.finalize().to_hex().to_string() }.with_settings(text)
    }

    /// The same with the settings of the config.toml `text`.
    pub(crate) fn with_settings(&self, text: &str) -> Result<Self> {
        let mut settings: toml::Table = toml::from_str(text)
            .map_err(|error| Error::failed(format!("cannot read the run's config: {error}")))?;
        settings.remove("checkpoint");
        for (section, key) in [
            ("train", "threads"),
            ("data", "train"),
            ("data", "val"),
            ("data", "reader"),
            ("data", "token_cache"),
            ("tokenizer", "vocab"),
            ("tokenizer", "min_count"),
        ] {
            if let Some(section) = settings.get_mut(section).and_then(toml::Value::as_table_mut) {
                section.remove(key);
            }
        }
        let settings = toml::to_string(&settings)
            .map_err(|error| Error::failed(format!("cannot write the run's config: {error}")))?;
        let settings = blake3::hash(settings.as_bytes()).to_hex().to_string();
        Ok(Self { settings, texts: self.texts.clone() })
    }

    /// Whether the settings are those of `other`.
    pub(crate) fn has_settings_of(&self, other: &Self) -> bool {
        self.settings == other.settings
    }

    /// Refuses a checkpoint of another run.
    pub(crate) fn check(&self, checkpoint: &Self) -> Result<()> {
        let (what, hint) = if self.texts != checkpoint.texts {
            ("the texts", Advice::NameTexts)
        } else if self.settings != checkpoint.settings {
            ("the settings in config.toml", "restore the config, or start a new run".into())
        } else {
            return Ok(());
        };
        Err(Error::failed(format!("{what} have changed since the checkpoint was made")).hint(hint))
    }
}

/// Hash of a text's tokens.
pub(crate) fn text_hash(text: &TokenText) -> String {
    let mut hasher = blake3::Hasher::new();
    hash(text, &mut hasher);
    hasher.finalize().to_hex().to_string()
}

/// Adds the tokens of `text` and their number to `hasher`, or the hash that stands for them.
fn hash(text: &TokenText, hasher: &mut blake3::Hasher) {
    if let Some(key) = text.ids.key() {
        hasher.update(key.as_bytes());
        return;
    }
    hasher.update(&(text.ids.len() as u64).to_le_bytes());
    let mut buffer = Vec::with_capacity(4 * 4096);
    for ids in text.ids.chunks(4096) {
        buffer.clear();
        buffer.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        hasher.update(&buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surprisal_text::TextMode;

    #[test]
    fn a_config_of_an_earlier_version_has_the_fingerprint_that_it_had() {
        let tokenizer = Tokenizer::new_bytes(TextMode::Stream);
        let of = |text: &str| {
            RunFingerprint::new(text, &tokenizer, &TokenText::default(), &TokenText::default()).unwrap()
        };
        let earlier = of("[tokenizer]\nkind = \"word\"\n");
        assert_eq!(earlier, of("[tokenizer]\nkind = \"word\"\nmin_count = 1\nvocab = \"words.txt\"\n"));
        assert_ne!(earlier, of("[tokenizer]\nkind = \"word\"\nvocab_size = 9\n"));
    }
}
