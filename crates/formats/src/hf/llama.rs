//! Llama: `config.json` and the names of weights.
//!
//! Layouts are the same ((out, in), RoPE on halves). Names differ, and some of our tensors are
//! several of theirs concatenated along the rows: queries, keys and values; and the MLP's gate and
//! up projections.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use surprisal_model::neural::{ActivationKind, NormKind, PositionKind, TransformerConfig};

use super::common::{MAX_LAYERS, MAX_SIZE, float32, has_only_common_switches, shaped, sizes_within, unknown};
use crate::Result;

/// The RoPE section of newer files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeParameters {
    /// The base of the frequencies.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// The RoPE variant; only "default" (Su et al. 2021) is supported.
    #[serde(default = "default_rope")]
    pub rope_type: String,
}

/// The fields of Llama's `config.json` that affect the result, and those that `transformers`
/// requires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LlamaConfig {
    /// Always "llama".
    pub model_type: String,
    /// The `transformers` class: `LlamaForCausalLM`.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// |V|
    pub vocab_size: usize,
    /// The context length in tokens.
    pub max_position_embeddings: usize,
    /// The model width.
    pub hidden_size: usize,
    /// The MLP width.
    pub intermediate_size: usize,
    /// The number of blocks.
    pub num_hidden_layers: usize,
    /// The number of attention heads.
    pub num_attention_heads: usize,
    /// The number of key and value heads; `num_attention_heads` if missing.
    pub num_key_value_heads: Option<usize>,
    /// The width of a head, if given.
    pub head_dim: Option<usize>,
    /// "silu".
    #[serde(default = "silu")]
    pub hidden_act: String,
    /// ε of RMS norm.
    #[serde(default = "default_epsilon")]
    pub rms_norm_eps: f64,
    /// Whether the head shares the token embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether attention layers have biases.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether MLP layers have biases.
    #[serde(default)]
    pub mlp_bias: bool,
    /// The RoPE base, in older files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// The RoPE parameters, in newer files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<RopeParameters>,
    /// RoPE scaling, in older files; not supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<serde_json::Value>,
    /// The id of the token that starts a text.
    pub bos_token_id: Option<u32>,
    /// The id of the token that ends a text.
    pub eos_token_id: Option<u32>,
    /// The type of the weights.
    #[serde(default = "float32", alias = "torch_dtype")]
    pub dtype: String,
}

fn silu() -> String {
    "silu".to_owned()
}

fn default_rope() -> String {
    "default".to_owned()
}

fn default_theta() -> f64 {
    10_000.0
}

fn default_epsilon() -> f64 {
    1e-6
}

impl LlamaConfig {
    fn kv_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    fn theta(&self) -> f64 {
        let newer = self.rope_parameters.as_ref().map(|rope| rope.rope_theta);
        newer.or(self.rope_theta).unwrap_or(default_theta())
    }

    /// Checks that the model is supported; the error names the field.
    pub(super) fn check(&self) -> Result<(), String> {
        let heads = self.num_attention_heads;
        sizes_within(&[
            ("vocab_size", self.vocab_size, MAX_SIZE),
            ("max_position_embeddings", self.max_position_embeddings, MAX_SIZE),
            ("hidden_size", self.hidden_size, MAX_SIZE),
            ("intermediate_size", self.intermediate_size, MAX_SIZE),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", heads, MAX_SIZE),
            ("num_key_value_heads", self.kv_heads(), MAX_SIZE),
        ])?;
        let problem = if self.model_type != "llama" {
            format!("`model_type` is `{}`, not `llama`", self.model_type.escape_debug())
        } else if !self.hidden_size.is_multiple_of(heads) || !(self.hidden_size / heads).is_multiple_of(2) {
            format!("`hidden_size` ({}) cannot be divided into {heads} heads of even width", self.hidden_size)
        } else if !heads.is_multiple_of(self.kv_heads()) {
            "`num_attention_heads` is not a multiple of `num_key_value_heads`".to_owned()
        } else if self.head_dim.is_some_and(|width| width != self.hidden_size / heads) {
            "`head_dim` is not `hidden_size` / `num_attention_heads`".to_owned()
        } else if self.hidden_act != "silu" {
            format!("`hidden_act` is `{}`, but only `silu` is supported", self.hidden_act.escape_debug())
        } else if self.attention_bias != self.mlp_bias {
            "biases are supported only in both attention and MLP, or in neither".to_owned()
        } else if self.rope_scaling.is_some()
            || self.rope_parameters.as_ref().is_some_and(|rope| rope.rope_type != "default")
        {
            "RoPE scaling (`rope_scaling`) is not supported".to_owned()
        } else if !(self.theta() >= 1.0 && self.theta() <= 1e12) {
            format!("`rope_theta` is {}", self.theta())
        } else if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            format!("`rms_norm_eps` is {}", self.rms_norm_eps)
        } else {
            return Ok(());
        };
        Err(problem)
    }

    /// The same architecture as a [`TransformerConfig`].
    pub fn transformer(&self) -> TransformerConfig {
        TransformerConfig {
            vocab_size: self.vocab_size,
            block_size: self.max_position_embeddings,
            n_layer: self.num_hidden_layers,
            n_head: self.num_attention_heads,
            n_kv_head: self.kv_heads(),
            n_embd: self.hidden_size,
            n_hidden: self.intermediate_size,
            bias: self.attention_bias,
            tied: self.tie_word_embeddings,
            norm: NormKind::Rms,
            norm_eps: self.rms_norm_eps,
            position: PositionKind::Rope,
            rope_theta: self.theta(),
            activation: ActivationKind::Swiglu,
            ..TransformerConfig::default()
        }
    }

    /// The `config.json` of a transformer, if its architecture is Llama's.
    pub fn from_transformer(config: &TransformerConfig) -> Option<Self> {
        let ours = config.norm == NormKind::Rms
            && config.position == PositionKind::Rope
            && config.activation == ActivationKind::Swiglu
            && has_only_common_switches(config);
        ours.then(|| Self {
            model_type: "llama".to_owned(),
            architectures: vec!["LlamaForCausalLM".to_owned()],
            vocab_size: config.vocab_size,
            max_position_embeddings: config.block_size,
            hidden_size: config.n_embd,
            intermediate_size: config.mlp_width(),
            num_hidden_layers: config.n_layer,
            num_attention_heads: config.n_head,
            num_key_value_heads: Some(config.kv_heads()),
            head_dim: Some(config.n_embd / config.n_head),
            hidden_act: silu(),
            rms_norm_eps: config.norm_eps,
            tie_word_embeddings: config.tied,
            attention_bias: config.bias,
            mlp_bias: config.bias,
            rope_theta: Some(config.rope_theta),
            rope_parameters: Some(RopeParameters {
                rope_theta: config.rope_theta,
                rope_type: default_rope(),
            }),
            rope_scaling: None,
            bos_token_id: None,
            eos_token_id: None,
            dtype: float32(),
        })
    }

    /// For each of our parameters, the names and shapes of the tensors that it concatenates.
    fn parts(&self) -> BTreeMap<String, Vec<(String, Vec<usize>)>> {
        let (c, v, f) = (self.hidden_size, self.vocab_size, self.intermediate_size);
        let kv = c / self.num_attention_heads * self.kv_heads();
        let one = |name: &str, shape: &[usize]| vec![(name.to_owned(), shape.to_vec())];
        let mut parts = BTreeMap::from([
            ("wte.weight".to_owned(), one("model.embed_tokens.weight", &[v, c])),
            ("ln_f.weight".to_owned(), one("model.norm.weight", &[c])),
        ]);
        if !self.tie_word_embeddings {
            parts.insert("lm_head.weight".to_owned(), one("lm_head.weight", &[v, c]));
        }
        for i in 0..self.num_hidden_layers {
            let theirs = |name: &str| format!("model.layers.{i}.{name}");
            parts.insert(format!("h.{i}.ln_1.weight"), one(&theirs("input_layernorm.weight"), &[c]));
            parts.insert(format!("h.{i}.ln_2.weight"), one(&theirs("post_attention_layernorm.weight"), &[c]));
            let attention: &[(&str, usize)] = &[("q_proj", c), ("k_proj", kv), ("v_proj", kv)];
            for (ours, group, of, width) in [
                ("attn.c_attn", "self_attn", attention, c),
                ("attn.c_proj", "self_attn", &[("o_proj", c)][..], c),
                ("mlp.c_fc", "mlp", &[("gate_proj", f), ("up_proj", f)][..], c),
                ("mlp.c_proj", "mlp", &[("down_proj", c)][..], f),
            ] {
                let name = |part: &str, kind: &str| theirs(&format!("{group}.{part}.{kind}"));
                let weights = of.iter().map(|&(part, out)| (name(part, "weight"), vec![out, width]));
                parts.insert(format!("h.{i}.{ours}.weight"), weights.collect());
                if self.attention_bias {
                    let biases = of.iter().map(|&(part, out)| (name(part, "bias"), vec![out]));
                    parts.insert(format!("h.{i}.{ours}.bias"), biases.collect());
                }
            }
        }
        parts
    }
}

/// Converts Hugging Face's tensors to our names. All names and shapes are checked first.
pub(super) fn import(
    what: &str,
    config: &LlamaConfig,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let parts = config.parts();
    let names: BTreeSet<&str> = parts.values().flatten().map(|(theirs, _)| theirs.as_str()).collect();
    // A tied head may be stored anyway, and old files store the RoPE frequencies.
    let passed_over = |name: &str| {
        (config.tie_word_embeddings && name == "lm_head.weight") || name.ends_with(".rotary_emb.inv_freq")
    };
    let known = |name: &str| names.contains(name) || passed_over(name);
    if let Some(name) = tensors.keys().find(|name| !known(name)) {
        return Err(unknown(what, name));
    }
    for (name, shape) in parts.values().flatten() {
        shaped(what, name, tensors.get(name), shape)?;
    }
    let mut ours = BTreeMap::new();
    for (name, theirs) in parts {
        let stacked: Vec<&Tensor> = theirs.iter().filter_map(|(name, _)| tensors.get(name)).collect();
        ours.insert(name, Tensor::cat(&stacked, 0)?);
    }
    Ok(ours)
}

/// Converts our tensors to Hugging Face's names.
pub(super) fn export(
    config: &LlamaConfig,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut exported = BTreeMap::new();
    for (name, parts) in config.parts() {
        let mut shape = parts[0].1.clone();
        shape[0] = parts.iter().map(|(_, shape)| shape[0]).sum();
        let tensor = shaped("the model", &name, tensors.get(&name), &shape)?;
        let mut first = 0;
        for (theirs, shape) in parts {
            exported.insert(theirs, tensor.narrow(0, first, shape[0])?.contiguous()?);
            first += shape[0];
        }
    }
    Ok(exported)
}
