//! GGUF files of GPT-2 and Llama models, as llama.cpp reads them.
//!
//! Names, layouts and metadata are those of llama.cpp's `convert_hf_to_gguf.py`: linear weights are
//! (out, in), and llama.cpp rotates neighbouring pairs of a head where Llama rotates its halves, so
//! the rows of queries and keys are reordered. All tensors are f32.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::Path;

use candle_core::Tensor;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use surprisal_store::atomic;
use surprisal_text::{Tokenizer, TokenizerKind, printable_bytes};

use crate::hf::HuggingFaceConfig;
use crate::{Error, Result};

/// The `general.name` of a file, which marks it as one of ours.
pub const NAME: &str = "surprisal";

/// Names of Hugging Face's modules, and GGUF's.
const MODULES: [(&str, &str); 6] = [
    ("transformer.wte", "token_embd"),
    ("transformer.wpe", "position_embd"),
    ("transformer.ln_f", "output_norm"),
    ("model.embed_tokens", "token_embd"),
    ("model.norm", "output_norm"),
    ("lm_head", "output"),
];

/// Names of Hugging Face's modules in a block, and GGUF's.
const BLOCK_MODULES: [(&str, &str); 15] = [
    ("ln_1", "attn_norm"),
    ("attn.c_attn", "attn_qkv"),
    ("attn.c_proj", "attn_output"),
    ("ln_2", "ffn_norm"),
    ("mlp.c_fc", "ffn_up"),
    ("mlp.c_proj", "ffn_down"),
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// GGUF's types of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;

/// Writes a model, with our names and layout of parameters, as a GGUF file; gives its size in
/// bytes.
///
/// Tokenizers of bytes, characters and byte-level BPE are written as GPT-2's; with another one,
/// llama.cpp takes and gives ids only.
///
/// # Errors
/// Tensors or a tokenizer that do not match the configuration;
/// [`Io`](surprisal_store::Error::Io).
pub fn write(
    path: impl AsRef<Path>,
    config: &HuggingFaceConfig,
    tensors: &BTreeMap<String, Tensor>,
    tokenizer: &Tokenizer,
) -> Result<u64> {
    let rows = config.transformer().vocab_size;
    if rows != tokenizer.vocab_size() {
        let problem = format!("the model has {rows} tokens, and the tokenizer {}", tokenizer.vocab_size());
        return Err(Error::malformed("the model", &problem));
    }
    let mut metadata = architecture(config);
    metadata.extend(vocabulary(tokenizer)?);
    let mut quantized = Vec::new();
    for (theirs, tensor) in config.export(tensors)? {
        let Some(name) = name(&theirs) else {
            return Err(Error::malformed("the model", &format!("tensor `{theirs}` has no name in GGUF")));
        };
        // candle takes the whole storage of a tensor, of which this may be a part.
        let tensor = layout(config, &name, &tensor)?.force_contiguous()?;
        quantized.push((name, QTensor::quantize(&tensor, GgmlDType::F32)?));
    }
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = quantized.iter().map(|(name, it)| (name.as_str(), it)).collect();
    let mut bytes = Cursor::new(Vec::new());
    gguf_file::write(&mut bytes, &metadata, &tensors)?;
    let bytes = bytes.into_inner();
    atomic::write(path, &bytes)?;
    Ok(bytes.len() as u64)
}

/// GGUF's name of one of Hugging Face's tensors.
fn name(theirs: &str) -> Option<String> {
    let (module, kind) = theirs.rsplit_once('.')?;
    let ours = |modules: &[(&str, &'static str)], module| {
        modules.iter().find(|(name, _)| *name == module).map(|(_, ours)| *ours)
    };
    let block = module.strip_prefix("transformer.h.").or_else(|| module.strip_prefix("model.layers."));
    match block.and_then(|block| block.split_once('.')) {
        Some((number, module)) => Some(format!("blk.{number}.{}.{kind}", ours(&BLOCK_MODULES, module)?)),
        None => Some(format!("{}.{kind}", ours(&MODULES, module)?)),
    }
}

/// One of Hugging Face's tensors in llama.cpp's layout.
fn layout(config: &HuggingFaceConfig, name: &str, tensor: &Tensor) -> Result<Tensor> {
    let transformer = config.transformer();
    let heads = match config {
        HuggingFaceConfig::Gpt2(_) => {
            let linear = ["attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight"];
            let is_transposed = linear.iter().any(|end| name.ends_with(end));
            return Ok(if is_transposed { tensor.t()?.contiguous()? } else { tensor.clone() });
        }
        HuggingFaceConfig::Llama(_) if name.contains(".attn_q.") => transformer.n_head,
        HuggingFaceConfig::Llama(_) if name.contains(".attn_k.") => transformer.kv_heads(),
        HuggingFaceConfig::Llama(_) => return Ok(tensor.clone()),
    };
    let half = tensor.dim(0)? / heads / 2;
    let halves = tensor.reshape((heads, 2, half, tensor.elem_count() / (heads * 2 * half)))?;
    Ok(halves.transpose(1, 2)?.contiguous()?.reshape(tensor.shape())?)
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

/// The metadata of the architecture.
fn architecture(config: &HuggingFaceConfig) -> Vec<(String, Value)> {
    let transformer = config.transformer();
    let (family, epsilon) = match config {
        HuggingFaceConfig::Gpt2(_) => ("gpt2", "layer_norm_epsilon"),
        HuggingFaceConfig::Llama(_) => ("llama", "layer_norm_rms_epsilon"),
    };
    let mut metadata = vec![
        ("general.architecture".to_owned(), text(family)),
        ("general.name".to_owned(), text(NAME)),
        ("general.file_type".to_owned(), Value::U32(0)),
        (format!("{family}.attention.{epsilon}"), Value::F32(transformer.norm_eps as f32)),
    ];
    let mut sizes = vec![
        ("vocab_size", transformer.vocab_size),
        ("context_length", transformer.block_size),
        ("embedding_length", transformer.n_embd),
        ("block_count", transformer.n_layer),
        ("feed_forward_length", transformer.mlp_width()),
        ("attention.head_count", transformer.n_head),
    ];
    if let HuggingFaceConfig::Llama(_) = config {
        sizes.push(("attention.head_count_kv", transformer.kv_heads()));
        sizes.push(("rope.dimension_count", transformer.n_embd / transformer.n_head));
        metadata.push(("llama.rope.freq_base".to_owned(), Value::F32(transformer.rope_theta as f32)));
    }
    let size = |(name, size): (&str, usize)| (format!("{family}.{name}"), Value::U32(size as u32));
    metadata.extend(sizes.into_iter().map(size));
    metadata
}

/// The metadata of the tokenizer.
fn vocabulary(tokenizer: &Tokenizer) -> Result<Vec<(String, Value)>> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let (unk, bos, eos) = (tokenizer.unk(), tokenizer.bos(), tokenizer.eos());
    let ids = 0..tokenizer.vocab_size() as u32;
    let Some((mut merges, controls)) = merges(tokenizer)? else {
        return Ok(vec![(key("model"), text("none"))]);
    };
    if merges.is_empty() {
        // An empty list would have no type: a merge that never applies, as symbols are characters.
        merges.push("<none> <none>".to_owned());
    }
    let is_file = tokenizer.kind() == TokenizerKind::File;
    let name = |id: u32| {
        if is_file {
            String::from_utf8_lossy(&tokenizer.codec().token_name(id)).into_owned()
        } else if [unk, bos, eos].contains(&Some(id)) {
            tokenizer.token(id)
        } else {
            printable_bytes(&tokenizer.token_bytes(id))
        }
    };
    let kind = |id: u32| match id {
        id if Some(id) == unk => UNKNOWN,
        id if [bos, eos].contains(&Some(id)) || controls.contains(&id) => CONTROL,
        _ => NORMAL,
    };
    let names: Vec<String> = ids.clone().map(name).collect();
    let mut metadata = vec![
        (key("model"), text("gpt2")),
        (key("pre"), text("gpt-2")),
        (key("token_type"), Value::Array(ids.map(|id| Value::I32(kind(id))).collect())),
        (key("merges"), Value::Array(merges.into_iter().map(Value::String).collect())),
        (key("add_bos_token"), Value::Bool(bos.or(eos).is_some())),
    ];
    // Without an end mark llama.cpp would take token 11 for it: a token that no text has.
    let never = || names.iter().position(|name| *name == printable_bytes(&[0xFF])).map(|id| id as u32);
    let end = eos.or(unk).or_else(never);
    for (name, id) in [("bos_token_id", bos.or(end)), ("eos_token_id", end), ("unknown_token_id", unk)] {
        metadata.extend(id.map(|id| (key(name), Value::U32(id))));
    }
    metadata.push((key("tokens"), Value::Array(names.into_iter().map(Value::String).collect())));
    Ok(metadata)
}

/// The merges of a byte-level BPE tokenizer, or of one that is the same, in GPT-2's notation, and
/// its special tokens; `None` for another tokenizer.
fn merges(tokenizer: &Tokenizer) -> Result<Option<(Vec<String>, BTreeSet<u32>)>> {
    match tokenizer.kind() {
        TokenizerKind::Byte => return Ok(Some(Default::default())),
        TokenizerKind::Char => {
            // The bytes of a character are merged one after the other.
            let (mut merges, mut known) = (Vec::new(), BTreeSet::new());
            for id in 0..tokenizer.vocab_size() as u32 {
                let special = [tokenizer.unk(), tokenizer.bos(), tokenizer.eos()].contains(&Some(id));
                let bytes = tokenizer.token_bytes(id);
                for end in 1..if special { 0 } else { bytes.len() } {
                    let (left, right) = (&bytes[..end], &bytes[end..=end]);
                    let merge = format!("{} {}", printable_bytes(left), printable_bytes(right));
                    if known.insert(merge.clone()) {
                        merges.push(merge);
                    }
                }
            }
            return Ok(Some((merges, BTreeSet::new())));
        }
        TokenizerKind::Bpe { .. } | TokenizerKind::File => {}
        TokenizerKind::Word | TokenizerKind::Custom(_) => return Ok(None),
    }
    let json: serde_json::Value = serde_json::from_slice(&tokenizer.to_json()?)
        .map_err(|error| Error::malformed("tokenizer.json", &error))?;
    let (model, cut) = (&json["model"], &json["pre_tokenizer"]);
    // Other rules of cutting words have other names in llama.cpp.
    let is_gpt2 = model["type"] == "BPE"
        && cut["type"] == "ByteLevel"
        && cut["use_regex"] != false
        && json["normalizer"].is_null();
    let Some(merges) = model["merges"].as_array().filter(|_| is_gpt2) else { return Ok(None) };
    let pair = |merge: &serde_json::Value| match merge.as_array().map(Vec::as_slice) {
        Some([left, right]) => Some(format!("{} {}", left.as_str()?, right.as_str()?)),
        _ => merge.as_str().map(str::to_owned),
    };
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let special = added.filter(|token| token["special"] == true).filter_map(|token| token["id"].as_u64());
    Ok(Some((merges.iter().filter_map(pair).collect(), special.map(|id| id as u32).collect())))
}
