//! The directory of a finished model: `model/` in a run, or an export.
//!
//! ```text
//! config.json         the model configuration, an object with a `kind`
//! model.safetensors   the parameters of a neural model, or
//! model.ngram         an n-gram model (see `ngram`), model.arpa, or model.kenlm in a mixture, or
//! model.infgram       an ∞-gram model (see `infinigram`)
//! tokenizer.json      the tokenizer
//! manifest.json       sizes and hashes of the other files
//! ```
//!
//! The directory is replaced as a whole, and every byte is verified on reading. `surprisal_model`
//! checks the tensors against the configuration before setting any parameter.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use candle_core::Tensor;
use serde_json::Value;

use crate::{
    Error, Result,
    weights::{Accept, from_safetensors, to_safetensors},
};
use surprisal_model::ngram::packed::Bytes;
use surprisal_store::atomic_dir::{self, ManifestId};

const LABEL: ManifestId = ManifestId { format: "surprisal model", step: None };
const CONFIG: &str = "config.json";
const TENSORS: &str = "model.safetensors";
const NGRAM: &str = "model.ngram";
const ARPA: &str = "model.arpa";
const KENLM: &str = "model.kenlm";
const INFINIGRAM: &str = "model.infgram";
const TOKENIZER: &str = "tokenizer.json";

/// A model in its stored form.
#[derive(Debug)]
pub struct StoredModel {
    /// The configuration, an object with a `kind`.
    pub config: Value,
    /// The parameters.
    pub weights: Weights,
    /// The bytes of `tokenizer.json`; not parsed here.
    pub tokenizer: Vec<u8>,
}

/// The parameters of a model.
#[derive(Debug)]
pub enum Weights {
    /// Parameters by name: `model.safetensors`.
    Tensors(BTreeMap<String, Tensor>),
    /// The bytes of a binary n-gram file: `model.ngram`.
    Ngram(Bytes),
    /// The bytes of an ARPA file: `model.arpa`.
    Arpa(Vec<u8>),
    /// The bytes of a KenLM binary: `model.kenlm`.
    Kenlm(Bytes),
    /// The bytes of an ∞-gram file: `model.infgram`.
    Infinigram(Vec<u8>),
}

impl StoredModel {
    /// The configuration's `kind`.
    ///
    /// # Errors
    /// [`Malformed`](surprisal_store::Error::Malformed) if it is missing.
    pub fn kind(&self) -> Result<&str> {
        let kind = self.config.get("kind").and_then(Value::as_str);
        kind.ok_or_else(|| Error::malformed("the model's config.json", "it has no `kind`"))
    }

    /// Writes the directory `path`, replacing an old model.
    ///
    /// # Errors
    /// [`Io`](surprisal_store::Error::Io), then the old model is unchanged; a configuration without
    /// a `kind`.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let parts = self.parts("")?;
        let parts: Vec<(&str, &[u8])> = parts.iter().map(|(name, bytes)| (name.as_str(), &**bytes)).collect();
        Ok(atomic_dir::replace(path.as_ref(), LABEL, &parts)?)
    }

    /// The files of the model, named after `prefix`.
    pub(crate) fn parts(&self, prefix: &str) -> Result<Vec<(String, Cow<'_, [u8]>)>> {
        self.kind()?;
        let mut config =
            serde_json::to_vec_pretty(&self.config).map_err(|error| Error::malformed(CONFIG, &error))?;
        config.push(b'\n');
        let (name, weights) = match &self.weights {
            Weights::Tensors(tensors) => (TENSORS, Cow::Owned(to_safetensors(tensors)?)),
            Weights::Ngram(bytes) => (NGRAM, bytes.as_slice().into()),
            Weights::Arpa(bytes) => (ARPA, bytes.into()),
            Weights::Kenlm(bytes) => (KENLM, bytes.as_slice().into()),
            Weights::Infinigram(bytes) => (INFINIGRAM, bytes.into()),
        };
        let parts = [(CONFIG, config.into()), (name, weights), (TOKENIZER, (&self.tokenizer).into())];
        Ok(parts.map(|(name, bytes)| (format!("{prefix}{name}"), bytes)).into())
    }

    /// Reads the model in the directory `path`.
    ///
    /// # Errors
    /// [`Io`](surprisal_store::Error::Io); [`Malformed`](surprisal_store::Error::Malformed) if a
    /// length or a hash differs; those of [`from_safetensors`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_parts(path.as_ref(), &mut atomic_dir::load(path.as_ref(), LABEL)?, "")
    }

    /// The model in the files named after `prefix` of the directory `path`.
    pub(crate) fn from_parts(
        path: &Path,
        parts: &mut BTreeMap<String, Vec<u8>>,
        prefix: &str,
    ) -> Result<Self> {
        let what = atomic_dir::quoted(path);
        let mut take = |name: &str| parts.remove(&format!("{prefix}{name}"));
        let lacks = |name: &str| Error::malformed(&what, &format!("its manifest has no {prefix}{name}"));
        let config = take(CONFIG).ok_or_else(|| lacks(CONFIG))?;
        let config_path = path.join(format!("{prefix}{CONFIG}"));
        let config = serde_json::from_slice(&config)
            .map_err(|error| Error::malformed(atomic_dir::quoted(&config_path), &error))?;
        let weights = match [TENSORS, NGRAM, ARPA, KENLM, INFINIGRAM].map(&mut take) {
            [Some(bytes), None, None, None, None] => {
                Weights::Tensors(from_safetensors(&what, &bytes, Accept::F32)?)
            }
            [None, Some(bytes), None, None, None] => Weights::Ngram(bytes.into()),
            [None, None, Some(bytes), None, None] => Weights::Arpa(bytes),
            [None, None, None, Some(bytes), None] => Weights::Kenlm(bytes.into()),
            [None, None, None, None, Some(bytes)] => Weights::Infinigram(bytes),
            _ => {
                let problem = format!("its manifest must have exactly one of {TENSORS}, {NGRAM} and {ARPA}");
                return Err(Error::malformed(&what, &problem));
            }
        };
        let tokenizer = take(TOKENIZER).ok_or_else(|| lacks(TOKENIZER))?;
        let stored = Self { config, weights, tokenizer };
        stored.kind()?;
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use candle_core::Device;
    use serde_json::json;

    use super::*;
    use surprisal_store::{Error as StoreError, atomic, manifest, run_dir::RunWriter};

    fn neural() -> StoredModel {
        let table = Tensor::from_slice(&[0.5_f32, 1.0, 1.5, 2.0], (2, 2), &Device::Cpu).unwrap();
        StoredModel {
            config: json!({"kind": "bigram", "vocab_size": 2}),
            weights: Weights::Tensors(BTreeMap::from([("table.weight".to_owned(), table)])),
            tokenizer: b"{\"version\":\"1.0\"}".to_vec(),
        }
    }

    #[test]
    fn every_kind_of_weights_comes_back() {
        let base = tempfile::tempdir().unwrap();
        let run = RunWriter::create(base.path().join("run")).unwrap();
        neural().save(run.model()).unwrap();
        let loaded = StoredModel::load(run.model()).unwrap();
        assert_eq!((loaded.kind().unwrap(), &loaded.config["vocab_size"]), ("bigram", &json!(2)));
        assert_eq!(loaded.tokenizer, neural().tokenizer);
        let Weights::Tensors(tensors) = loaded.weights else { panic!("not tensors") };
        assert_eq!(tensors["table.weight"].to_vec2::<f32>().unwrap(), [[0.5, 1.0], [1.5, 2.0]]);
        for weights in [Weights::Ngram(b"counts".to_vec().into()), Weights::Arpa(b"\\data\\".to_vec())] {
            let expected = format!("{weights:?}");
            StoredModel { weights, ..neural() }.save(run.model()).unwrap();
            assert_eq!(format!("{:?}", StoredModel::load(run.model()).unwrap().weights), expected);
        }
    }

    #[test]
    fn a_changed_byte_is_not_loaded() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("model");
        neural().save(&path).unwrap();
        for name in [CONFIG, TENSORS, TOKENIZER, manifest::NAME] {
            let original = fs::read(path.join(name)).unwrap();
            let mut changed = original.clone();
            *changed.last_mut().unwrap() ^= 1;
            atomic::write(path.join(name), &changed).unwrap();
            assert!(StoredModel::load(&path).is_err(), "{name}");
            atomic::write(path.join(name), &original).unwrap();
        }
        StoredModel::load(&path).unwrap();
    }

    #[test]
    fn a_folder_that_is_none_says_what_is_missing() {
        let base = tempfile::tempdir().unwrap();
        assert!(matches!(
            StoredModel::load(base.path().join("none")),
            Err(Error::Store(StoreError::Io { .. }))
        ));
        let error = StoredModel::load(base.path()).unwrap_err();
        assert!(error.to_string().contains("manifest.json"), "{error}");
        let file = base.path().join("model.bin");
        atomic::write(&file, b"x").unwrap();
        assert!(matches!(StoredModel::load(&file), Err(Error::Store(StoreError::Io { .. }))));
        let no_kind = StoredModel { config: json!({}), ..neural() };
        assert!(matches!(
            no_kind.save(base.path().join("x")),
            Err(Error::Store(StoreError::Malformed { .. }))
        ));
        assert!(!base.path().join("x").exists());
    }
}
