//! Hugging Face model folders: `config.json`, `model.safetensors` and the tokenizer files.
//!
//! Supports GPT-2 ([`Gpt2Config`]) and Llama ([`LlamaConfig`]). Only safetensors are read: a
//! `pytorch_model.bin` is a pickle, and reading one executes code in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use candle_core::Tensor;
use serde::de::DeserializeOwned;
use serde_json::json;
use surprisal_model::neural::TransformerConfig;
use surprisal_text::Tokenizer;

use crate::{
    Error, Result,
    weights::{self, Accept, read_safetensors, to_safetensors},
};
use surprisal_store::{Error as StoreError, atomic_dir, read::read_bounded};

mod common;
mod gpt2;
mod llama;

pub use gpt2::Gpt2Config;
pub use llama::{LlamaConfig, RopeParameters};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TOKENIZER: &str = "tokenizer.json";
const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";
/// Advice for a folder without the files of a model.
pub const FOLDER_HINT: &str = "give the folder that `save_pretrained` or an export wrote";
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_INDEX_BYTES: u64 = 8 << 20;
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// A model's `config.json`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum HuggingFaceConfig {
    /// Layer norm, learned positions, GELU.
    Gpt2(Gpt2Config),
    /// RMS norm, rotary positions, SwiGLU.
    Llama(LlamaConfig),
}

impl HuggingFaceConfig {
    /// Parses `config.json` according to its `model_type`. `what` names the file in errors.
    ///
    /// # Errors
    /// [`Malformed`](surprisal_store::Error::Malformed) naming an unsupported field.
    pub fn parse(what: &str, json: &[u8]) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Family {
            model_type: Option<String>,
        }
        let family: Family = parsed(what, json)?;
        let config = match family.model_type.as_deref() {
            Some("llama") => Self::Llama(parsed(what, json)?),
            _ => Self::Gpt2(parsed(what, json)?),
        };
        let checked = match &config {
            Self::Gpt2(config) => config.check(),
            Self::Llama(config) => config.check(),
        };
        checked.map_err(|problem| Error::malformed(what, &problem))?;
        Ok(config)
    }

    /// The same architecture as a [`TransformerConfig`].
    pub fn transformer(&self) -> TransformerConfig {
        match self {
            Self::Gpt2(config) => config.transformer(),
            Self::Llama(config) => config.transformer(),
        }
    }

    /// The `config.json` of a transformer, if GPT-2 or Llama has the same architecture.
    pub fn from_transformer(config: &TransformerConfig) -> Option<Self> {
        Gpt2Config::from_transformer(config)
            .map(Self::Gpt2)
            .or_else(|| LlamaConfig::from_transformer(config).map(Self::Llama))
    }

    /// The configuration with these ids of the tokens that start and end a text.
    fn with_marks(mut self, bos: Option<u32>, eos: Option<u32>) -> Self {
        let ids = match &mut self {
            Self::Gpt2(config) => (&mut config.bos_token_id, &mut config.eos_token_id),
            Self::Llama(config) => (&mut config.bos_token_id, &mut config.eos_token_id),
        };
        (*ids.0, *ids.1) = (bos, eos);
        self
    }

    fn import(&self, what: &str, tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
        match self {
            Self::Gpt2(config) => gpt2::import(what, config, tensors),
            Self::Llama(config) => llama::import(what, config, tensors),
        }
    }

    pub(crate) fn export(&self, tensors: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
        match self {
            Self::Gpt2(config) => gpt2::export(config, tensors),
            Self::Llama(config) => llama::export(config, tensors),
        }
    }
}

fn parsed<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| Error::malformed(what, &error))
}

/// A model from a Hugging Face folder, with our names and layout of parameters.
#[derive(Debug)]
pub struct HuggingFaceModel {
    /// The content of `config.json`.
    pub config: HuggingFaceConfig,
    /// The parameters: `wte.weight`, `h.0.attn.c_attn.weight` of shape (out, in), ...
    pub tensors: BTreeMap<String, Tensor>,
    /// The bytes of its `tokenizer.json`, if present ([`read_tokenizer`]); not parsed.
    pub tokenizer: Option<Vec<u8>>,
}

/// A tokenizer to write with a model. Special tokens are ids with their names.
#[derive(Clone, Debug, Default)]
pub struct HuggingFaceTokenizer {
    /// The bytes of `tokenizer.json`.
    pub json: Vec<u8>,
    /// The token for unknown words.
    pub unk: Option<(u32, String)>,
    /// The token that starts a text.
    pub bos: Option<(u32, String)>,
    /// The token that ends a text.
    pub eos: Option<(u32, String)>,
}

/// Reads a model folder; f64, bf16 and f16 weights are converted to f32.
///
/// # Errors
/// [`Missing`](surprisal_store::Error::Missing) without `config.json` or `model.safetensors`;
/// [`Malformed`](surprisal_store::Error::Malformed) for an unsupported model or tensors that do not
/// match the configuration; those of [`read_safetensors`].
pub fn read(path: impl AsRef<Path>) -> Result<HuggingFaceModel> {
    let path = path.as_ref();
    fs::metadata(path).map_err(|reason| StoreError::io("open", path, reason))?;
    if !path.join(CONFIG).is_file() {
        return Err(missing(path, CONFIG, FOLDER_HINT));
    }
    let files = weight_files(path)?;
    let what = atomic_dir::quoted(&path.join(CONFIG));
    let config = HuggingFaceConfig::parse(&what, &read_bounded(&path.join(CONFIG), MAX_CONFIG_BYTES)?)?;
    let mut tensors = BTreeMap::new();
    for file in files {
        for (name, tensor) in read_safetensors(file, Accept::Floats)? {
            if tensors.insert(name.clone(), tensor).is_some() {
                let problem = format!("tensor `{}` is in two files", name.escape_debug());
                return Err(Error::malformed(atomic_dir::quoted(&path.join(INDEX)), &problem));
            }
        }
    }
    let tensors = config.import(&atomic_dir::quoted(&path.join(WEIGHTS)), &tensors)?;
    Ok(HuggingFaceModel { config, tensors, tokenizer: read_tokenizer(path)? })
}

/// The name, shape and type of every tensor in a folder, of any architecture, sorted by name.
///
/// # Errors
/// As [`weights::shapes`]; a folder without safetensors.
pub fn shapes(path: impl AsRef<Path>) -> Result<Vec<(String, Vec<usize>, String)>> {
    let mut tensors = Vec::new();
    for file in weight_files(path.as_ref())? {
        tensors.extend(weights::shapes(file)?);
    }
    tensors.sort();
    Ok(tensors)
}

/// The files with a folder's tensors: `model.safetensors`, or those that its index names.
fn weight_files(path: &Path) -> Result<Vec<PathBuf>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let present = |name: &str| path.join(name).is_file();
    if present(WEIGHTS) {
        return Ok(vec![path.join(WEIGHTS)]);
    }
    if !present(INDEX) {
        let hint = if present("pytorch_model.bin") {
            "save the model again as safetensors; a pickle runs code when it is read"
        } else {
            FOLDER_HINT
        };
        return Err(missing(path, WEIGHTS, hint));
    }
    let what = atomic_dir::quoted(&path.join(INDEX));
    let Index { weight_map } = parsed(&what, &read_bounded(&path.join(INDEX), MAX_INDEX_BYTES)?)?;
    let files: BTreeSet<&String> = weight_map.values().collect();
    for file in &files {
        if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) {
            let problem = format!("`{}` is not the name of a file", file.escape_debug());
            return Err(Error::malformed(what, &problem));
        }
    }
    Ok(files.into_iter().map(|file| path.join(file)).collect())
}

fn missing(path: &Path, missing: &'static str, hint: &'static str) -> Error {
    StoreError::Missing { path: path.to_owned(), what: "Hugging Face folder", missing, hint }.into()
}

/// The bytes of the `tokenizer.json` at `path`: of that file, of the folder, or of GPT-2's
/// `vocab.json` and `merges.txt`; `None` for a folder without them.
///
/// # Errors
/// Files that cannot be read; a `vocab.json` of another kind.
pub fn read_tokenizer(path: &Path) -> Result<Option<Vec<u8>>> {
    let read = |path: &Path| read_bounded(path, MAX_TOKENIZER_BYTES);
    let (vocab, json) = if path.is_dir() {
        (path.join(VOCAB), path.join(TOKENIZER))
    } else if path.file_name().is_some_and(|name| name == VOCAB) {
        (path.to_owned(), PathBuf::new())
    } else {
        return Ok(Some(read(path)?));
    };
    if json.is_file() {
        return Ok(Some(read(&json)?));
    }
    let merges = vocab.with_file_name(MERGES);
    if !(vocab.is_file() && merges.is_file()) {
        return Ok(None);
    }
    Ok(Some(Tokenizer::gpt2_json(&read(&vocab)?, &read(&merges)?)?))
}

/// Writes a folder that `AutoModelForCausalLM.from_pretrained` loads, and with a tokenizer
/// `AutoTokenizer` too; `generate` then starts and stops at the tokenizer's marks, and does not
/// draw its token for unknown words. The folder must be missing or empty.
///
/// # Errors
/// [`Occupied`](surprisal_store::Error::Occupied); [`Io`](surprisal_store::Error::Io); tensors that
/// do not match the configuration.
pub fn write(
    path: impl AsRef<Path>,
    config: &HuggingFaceConfig,
    tensors: &BTreeMap<String, Tensor>,
    tokenizer: Option<&HuggingFaceTokenizer>,
) -> Result<()> {
    let pretty = |value: &serde_json::Value| {
        serde_json::to_vec_pretty(value).map_err(|error| Error::malformed(CONFIG, &error))
    };
    let weights = to_safetensors(&config.export(tensors)?)?;
    let mut config = config.clone();
    let mut files = Vec::new();
    if let Some(HuggingFaceTokenizer { json, unk, bos, eos }) = tokenizer {
        let id = |token: &Option<(u32, String)>| token.as_ref().map(|(id, _)| *id);
        let name = |token: &Option<(u32, String)>| token.as_ref().map(|(_, name)| name.clone());
        config = config.with_marks(id(bos), id(eos));
        let tokenizer_config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.transformer().block_size,
            "clean_up_tokenization_spaces": false,
            "unk_token": name(unk),
            "bos_token": name(bos),
            "eos_token": name(eos),
        });
        let mut generation = serde_json::Map::new();
        for (field, id) in [("bos_token_id", id(bos)), ("eos_token_id", id(eos)), ("pad_token_id", id(eos))] {
            generation.extend(id.map(|id| (field.to_owned(), json!(id))));
        }
        generation.extend(id(unk).map(|id| ("suppress_tokens".to_owned(), json!([id]))));
        files.push((TOKENIZER, json.clone()));
        files.push(("tokenizer_config.json", pretty(&tokenizer_config)?));
        files.push(("generation_config.json", pretty(&generation.into())?));
    }
    let fields = serde_json::to_value(&config).map_err(|error| Error::malformed(CONFIG, &error))?;
    files.extend([(CONFIG, pretty(&fields)?), (WEIGHTS, weights)]);
    let parts: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    Ok(atomic_dir::create(path.as_ref(), &parts)?)
}
