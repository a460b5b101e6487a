//! GPT-2: `config.json`, and the names and layouts of weights.
//!
//! Our parameters have GPT-2's names without the prefix `transformer.`. Hugging Face's `Conv1D`
//! stores linear weights as (in, out), ours are (out, in). Hugging Face always has biases, so a
//! model without them is written with zeros.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use surprisal_model::neural::TransformerConfig;

use super::common::{MAX_LAYERS, MAX_SIZE, float32, has_only_common_switches, shaped, sizes_within, unknown};
use crate::{Error, Result};

/// The fields of GPT-2's `config.json` that affect the result, and those that `transformers`
/// requires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are those of the file")]
pub struct Gpt2Config {
    /// Always "gpt2".
    pub model_type: String,
    /// The `transformers` class: `GPT2LMHeadModel`.
    #[serde(default)]
    pub architectures: Vec<String>,
    /// |V|
    pub vocab_size: usize,
    /// The context length in tokens.
    pub n_positions: usize,
    /// The model width.
    pub n_embd: usize,
    /// The number of blocks.
    pub n_layer: usize,
    /// The number of attention heads.
    pub n_head: usize,
    /// The MLP width; 4 `n_embd` if null.
    pub n_inner: Option<usize>,
    /// "gelu_new": the tanh approximation.
    #[serde(default = "gelu_new")]
    pub activation_function: String,
    /// ε of layer norm.
    #[serde(default = "default_epsilon")]
    pub layer_norm_epsilon: f64,
    /// Whether the head shares the token embedding.
    #[serde(default = "yes")]
    pub tie_word_embeddings: bool,
    /// Dropout on the outputs of attention and MLP.
    #[serde(default)]
    pub resid_pdrop: f64,
    /// Dropout on the embeddings.
    #[serde(default)]
    pub embd_pdrop: f64,
    /// Dropout on the attention weights.
    #[serde(default)]
    pub attn_pdrop: f64,
    /// Whether scores are divided by √(head width); only `true` is supported.
    #[serde(default = "yes")]
    pub scale_attn_weights: bool,
    /// Whether scores are also divided by the layer index; only `false` is supported.
    #[serde(default)]
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Whether there is attention to an encoder; only `false` is supported.
    #[serde(default)]
    pub add_cross_attention: bool,
    /// The id of the token that starts a text.
    pub bos_token_id: Option<u32>,
    /// The id of the token that ends a text.
    pub eos_token_id: Option<u32>,
    /// The type of the weights.
    #[serde(default = "float32", alias = "torch_dtype")]
    pub dtype: String,
}

fn gelu_new() -> String {
    "gelu_new".to_owned()
}

fn default_epsilon() -> f64 {
    1e-5
}

fn yes() -> bool {
    true
}

impl Gpt2Config {
    /// The same architecture as a [`TransformerConfig`].
    pub fn transformer(&self) -> TransformerConfig {
        TransformerConfig {
            vocab_size: self.vocab_size,
            block_size: self.n_positions,
            n_layer: self.n_layer,
            n_head: self.n_head,
            n_embd: self.n_embd,
            bias: true,
            tied: self.tie_word_embeddings,
            norm_eps: self.layer_norm_epsilon,
            ..TransformerConfig::default()
        }
    }

    /// The `config.json` of a transformer, if its architecture is GPT-2's; missing biases become
    /// zeros.
    pub fn from_transformer(config: &TransformerConfig) -> Option<Self> {
        let default = TransformerConfig::default();
        let ours = config.norm == default.norm
            && config.norm_eps == default.norm_eps
            && config.position == default.position
            && config.activation == default.activation
            && config.kv_heads() == config.n_head
            && config.mlp_width() == 4 * config.n_embd
            && has_only_common_switches(config);
        ours.then(|| Self {
            model_type: "gpt2".to_owned(),
            architectures: vec!["GPT2LMHeadModel".to_owned()],
            vocab_size: config.vocab_size,
            n_positions: config.block_size,
            n_embd: config.n_embd,
            n_layer: config.n_layer,
            n_head: config.n_head,
            n_inner: None,
            activation_function: gelu_new(),
            layer_norm_epsilon: config.norm_eps,
            tie_word_embeddings: config.tied,
            resid_pdrop: config.dropout,
            embd_pdrop: config.dropout,
            attn_pdrop: 0.0,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            add_cross_attention: false,
            bos_token_id: None,
            eos_token_id: None,
            dtype: float32(),
        })
    }

    /// Checks that the model is supported; the error names the field.
    pub(super) fn check(&self) -> Result<(), String> {
        sizes_within(&[
            ("vocab_size", self.vocab_size, MAX_SIZE),
            ("n_positions", self.n_positions, MAX_SIZE),
            ("n_embd", self.n_embd, MAX_SIZE),
            ("n_layer", self.n_layer, MAX_LAYERS),
            ("n_head", self.n_head, MAX_SIZE),
        ])?;
        let problem = if self.model_type != "gpt2" {
            format!("`model_type` is `{}`, not `gpt2`", self.model_type.escape_debug())
        } else if !self.n_embd.is_multiple_of(self.n_head) {
            format!("`n_embd` ({}) is not divisible by `n_head` ({})", self.n_embd, self.n_head)
        } else if self.n_inner.is_some_and(|inner| inner != 4 * self.n_embd) {
            "`n_inner` is not 4 `n_embd`".to_owned()
        } else if !matches!(self.activation_function.as_str(), "gelu_new" | "gelu_pytorch_tanh") {
            let found = self.activation_function.escape_debug();
            format!("`activation_function` is `{found}`, but only `gelu_new` is supported")
        } else if self.layer_norm_epsilon.to_bits() != default_epsilon().to_bits() {
            format!("`layer_norm_epsilon` is {}, but only 1e-5 is supported", self.layer_norm_epsilon)
        } else if !self.scale_attn_weights || self.scale_attn_by_inverse_layer_idx || self.add_cross_attention
        {
            "only self-attention that is scaled by the head width is supported".to_owned()
        } else if [self.resid_pdrop, self.embd_pdrop, self.attn_pdrop].iter().any(|p| !(0.0..1.0).contains(p))
        {
            "a dropout probability is not in [0, 1)".to_owned()
        } else {
            return Ok(());
        };
        Err(problem)
    }

    /// The name and shape of every parameter in our layout, (out, in) for linear weights.
    pub(super) fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let (c, v) = (self.n_embd, self.vocab_size);
        let mut shapes = BTreeMap::from([
            ("wte.weight".to_owned(), vec![v, c]),
            ("wpe.weight".to_owned(), vec![self.n_positions, c]),
            ("ln_f.weight".to_owned(), vec![c]),
            ("ln_f.bias".to_owned(), vec![c]),
        ]);
        if !self.tie_word_embeddings {
            shapes.insert("lm_head.weight".to_owned(), vec![v, c]);
        }
        for layer in 0..self.n_layer {
            for norm in ["ln_1", "ln_2"] {
                shapes.insert(format!("h.{layer}.{norm}.weight"), vec![c]);
                shapes.insert(format!("h.{layer}.{norm}.bias"), vec![c]);
            }
            for (linear, out, into) in [
                ("attn.c_attn", 3 * c, c),
                ("attn.c_proj", c, c),
                ("mlp.c_fc", 4 * c, c),
                ("mlp.c_proj", c, 4 * c),
            ] {
                shapes.insert(format!("h.{layer}.{linear}.weight"), vec![out, into]);
                shapes.insert(format!("h.{layer}.{linear}.bias"), vec![out]);
            }
        }
        shapes
    }
}

/// Whether Hugging Face stores this parameter transposed.
fn is_transposed(name: &str) -> bool {
    ["c_attn.weight", "c_proj.weight", "c_fc.weight"].iter().any(|end| name.ends_with(end))
}

/// Converts Hugging Face's tensors to our names and layout. All names and shapes are checked first.
pub(super) fn import(
    what: &str,
    config: &Gpt2Config,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut renamed = BTreeMap::new();
    for (name, tensor) in tensors {
        let ours = name.strip_prefix("transformer.").unwrap_or(name);
        // The causal mask, which old checkpoints store with the weights.
        if ours.ends_with(".attn.bias") || ours.ends_with(".attn.masked_bias") {
            continue;
        }
        if renamed.insert(ours.to_owned(), tensor).is_some() {
            return Err(Error::malformed(
                what,
                &format!("`{ours}` is present with and without the prefix `transformer.`"),
            ));
        }
    }
    if config.tie_word_embeddings
        && let Some(head) = renamed.remove("lm_head.weight")
        && !renamed.get("wte.weight").is_some_and(|table| same(head, table))
    {
        let problem = "`lm_head.weight` differs from `wte.weight` although `tie_word_embeddings` is set";
        return Err(Error::malformed(what, problem));
    }
    let shapes = config.shapes();
    if let Some(name) = renamed.keys().find(|name| !shapes.contains_key(*name)) {
        return Err(unknown(what, name));
    }
    for (name, shape) in &shapes {
        let mut expected = shape.clone();
        if is_transposed(name) {
            expected.reverse();
        }
        shaped(what, name, renamed.get(name).copied(), &expected)?;
    }
    let ours = renamed.into_iter().map(|(name, tensor)| {
        let tensor = if is_transposed(&name) { tensor.t()?.contiguous()? } else { tensor.clone() };
        Ok((name, tensor))
    });
    ours.collect()
}

/// Converts our tensors to Hugging Face's names and layout; missing biases become zeros.
pub(super) fn export(
    config: &Gpt2Config,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut exported = BTreeMap::new();
    for (name, shape) in config.shapes() {
        let tensor = match tensors.get(&name) {
            None if name.ends_with("bias") => Tensor::zeros(shape, DType::F32, &Device::Cpu)?,
            tensor => shaped("the model", &name, tensor, &shape)?.clone(),
        };
        let tensor = if is_transposed(&name) { tensor.t()?.contiguous()? } else { tensor };
        let theirs = if name == "lm_head.weight" { name } else { format!("transformer.{name}") };
        exported.insert(theirs, tensor);
    }
    Ok(exported)
}

fn same(a: &Tensor, b: &Tensor) -> bool {
    let values = |tensor: &Tensor| tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
    a.dims() == b.dims() && values(a).is_ok_and(|a| values(b).is_ok_and(|b| a == b))
}
