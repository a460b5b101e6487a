//! Hugging Face model folders: `config.json`, `model.safetensors`, and the tokenizer beside them.
//!
//! Read and written for the GPT-2 family ([`gpt2`]). Only safetensors are read: a `pytorch_model.bin` is a pickle, and
//! reading one runs whatever program is in it.

use std::{collections::BTreeMap, fs, path::Path};

use candle_core::Tensor;
use serde_json::json;

use crate::{
    Error, Result, folder,
    read::read_bounded,
    weights::{ReadOptions, read_safetensors, to_safetensors},
};

mod gpt2;

pub use gpt2::Gpt2Config;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// A model read from a Hugging Face folder, under our names and in our layout.
#[derive(Debug)]
pub struct HuggingFaceModel {
    /// Its `config.json`.
    pub config: Gpt2Config,
    /// The parameters: `wte.weight`, `h.0.attn.c_attn.weight` of shape (out, in), ...
    pub tensors: BTreeMap<String, Tensor>,
    /// The bytes of `tokenizer.json`, where there is one; not looked into.
    pub tokenizer: Option<Vec<u8>>,
}

/// A tokenizer to be written beside a model.
#[derive(Clone, Debug, Default)]
pub struct HuggingFaceTokenizer {
    /// The bytes of `tokenizer.json`.
    pub json: Vec<u8>,
    /// The token for what the vocabulary lacks.
    pub unk: Option<String>,
    /// The token that starts a text.
    pub bos: Option<String>,
    /// The token that ends a text.
    pub eos: Option<String>,
}

/// Reads the folder of a GPT-2 model; weights in f64, bf16 or f16 are converted to f32.
///
/// # Errors
/// [`Error::Missing`] for a folder without `config.json` or `model.safetensors`, [`Error::Malformed`] for a model that is not
/// computed here or whose tensors are not those of its configuration, and those of [`read_safetensors`].
pub fn read(path: impl AsRef<Path>) -> Result<HuggingFaceModel> {
    let path = path.as_ref();
    let present = |name: &str| path.join(name).is_file();
    let missing =
        |missing, hint| Error::Missing { path: path.to_owned(), what: "Hugging Face folder", missing, hint };
    fs::metadata(path).map_err(|reason| Error::io("open", path, reason))?;
    if !present(CONFIG) {
        return Err(missing(CONFIG, "give the folder that `save_pretrained` or `surprisal export` wrote"));
    }
    if !present(WEIGHTS) {
        let hint = if present("model.safetensors.index.json") {
            "the weights are in several files: save them in one, with `max_shard_size`"
        } else if present("pytorch_model.bin") {
            "save the model again as safetensors; a pickle runs code when it is read"
        } else {
            "give the folder that `save_pretrained` or `surprisal export` wrote"
        };
        return Err(missing(WEIGHTS, hint));
    }
    let what = folder::quoted(&path.join(CONFIG));
    let config = Gpt2Config::parse(&what, &read_bounded(&path.join(CONFIG), MAX_CONFIG_BYTES)?)?;
    let options = ReadOptions { convert: true, ..ReadOptions::default() };
    let tensors = read_safetensors(path.join(WEIGHTS), &options)?;
    let tensors = gpt2::import(&folder::quoted(&path.join(WEIGHTS)), &config, &tensors)?;
    let tokenizer = present(TOKENIZER).then(|| read_bounded(&path.join(TOKENIZER), MAX_TOKENIZER_BYTES));
    Ok(HuggingFaceModel { config, tensors, tokenizer: tokenizer.transpose()? })
}

/// Writes a folder that `AutoModelForCausalLM.from_pretrained` loads, and with a tokenizer `AutoTokenizer` too.
///
/// The folder must not be there, or be empty; it appears whole.
///
/// # Errors
/// [`Error::Occupied`], [`Error::Io`], or tensors that are not those of the configuration.
pub fn write(
    path: impl AsRef<Path>,
    config: &Gpt2Config,
    tensors: &BTreeMap<String, Tensor>,
    tokenizer: Option<&HuggingFaceTokenizer>,
) -> Result<()> {
    let pretty = |value: &serde_json::Value| {
        serde_json::to_vec_pretty(value).map_err(|error| Error::malformed(CONFIG, &error))
    };
    let fields = serde_json::to_value(config).map_err(|error| Error::malformed(CONFIG, &error))?;
    let config_json = pretty(&fields)?;
    let weights = to_safetensors(&gpt2::export(config, tensors)?)?;
    let mut parts: Vec<(&str, &[u8])> = vec![(CONFIG, &config_json), (WEIGHTS, &weights)];
    let tokenizer_config;
    if let Some(HuggingFaceTokenizer { json, unk, bos, eos }) = tokenizer {
        tokenizer_config = pretty(&json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.n_positions,
            "clean_up_tokenization_spaces": false,
            "unk_token": unk,
            "bos_token": bos,
            "eos_token": eos,
        }))?;
        parts.extend([(TOKENIZER, json.as_slice()), ("tokenizer_config.json", &tokenizer_config)]);
    }
    folder::create(path.as_ref(), &parts)
}
