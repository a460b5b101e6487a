//! A decoder-only transformer with nanoGPT's names: GPT-2 (Radford et al. 2019) by default, Llama's
//! and a speedrun's variants by switches.
//!
//! Shapes: B rows, T tokens per row, C = `n_embd`, V tokens. A linear layer's weight is (out, in).
//! Dropout is on the outputs of the embedding, the attention and the MLP, not on attention
//! probabilities as in nanoGPT.

mod session;

use std::ops::RangeInclusive;
use std::sync::Arc;

use candle_core::Tensor;
use surprisal_kernels::elementary::Elementary;
use surprisal_ops::decode::add_row;
use surprisal_ops::layers::{Branch, BranchKind, DropoutConfig, KvCache, Linear, Norm, NormType};
use surprisal_ops::{Activation, Attention, Context, DropoutKey, RotaryTables, embedding};

use super::kind::{Kind, MAX_LAYERS, MAX_WIDTH, check_dropout, text_sizes, within};
use super::transformer_config::{ActivationKind, NormKind, PositionKind, TransformerConfig};
use super::{Architecture, Init, Mode, Output, ParameterBuilder, Pass};
use crate::{Error, Result, Session};
use session::CachedSession;

/// Embedding of bigrams (previous token, token), hashed if it has fewer rows than there are pairs.
#[derive(Debug)]
struct HashedBigramEmbedding {
    table: Tensor, // (rows, C)
    vocab_size: u64,
}

impl HashedBigramEmbedding {
    /// Table row of the bigram (`before`, `id`); `before` is `None` for the first token of a row.
    fn row(&self, before: Option<u32>, id: u32) -> u32 {
        bigram_row(self.table.dims()[0] as u64, self.vocab_size, before, id)
    }
}

/// The row of a table of `rows` rows.
pub(super) fn bigram_row(rows: u64, vocab_size: u64, before: Option<u32>, id: u32) -> u32 {
    let pair = before.map_or(vocab_size, u64::from) * vocab_size + u64::from(id);
    let all = (vocab_size + 1) * vocab_size;
    // Fibonacci hashing, if there are more pairs than rows.
    let mixed = if all <= rows { pair } else { pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20 };
    (mixed % rows) as u32
}

impl Kind for TransformerConfig {
    fn sizes(&self) -> Vec<(&'static str, usize, RangeInclusive<usize>)> {
        let mut sizes = Vec::from(text_sizes(self.vocab_size, self.block_size));
        sizes.extend([
            ("n_layer", self.n_layer, 1..=MAX_LAYERS),
            ("n_head", self.n_head, 1..=1024),
            ("n_embd", self.n_embd, 1..=MAX_WIDTH),
            ("n_hidden", self.n_hidden, 0..=1 << 24),
            ("n_kv_head", self.n_kv_head, 0..=1024),
            ("bigram_rows", self.bigram_rows, 0..=1 << 24),
        ]);
        sizes
    }

    fn check(&self) -> Result<()> {
        let (n_head, n_embd, n_kv_head) = (self.n_head, self.n_embd, self.kv_heads());
        if !n_embd.is_multiple_of(n_head) {
            let below = (n_embd / n_head * n_head).max(n_head);
            let divisors = (1..=n_embd).filter(|divisor| n_embd.is_multiple_of(*divisor));
            let divisor = divisors.min_by_key(|divisor| divisor.abs_diff(n_head)).unwrap_or(1);
            let problem =
                format!("does not fit: n_embd = {n_embd} is no multiple of n_head = {n_head} heads");
            return Err(Error::setting("n_embd", problem).hint(format!(
                "take n_head = {divisor}, or n_embd = {below} or another multiple of n_head"
            )));
        }
        if !n_head.is_multiple_of(n_kv_head) {
            let problem = format!("is {n_kv_head}, which does not divide n_head = {n_head}");
            return Err(Error::setting("n_kv_head", problem).hint("take a divisor of n_head"));
        }
        let head_width = n_embd / n_head;
        if self.position == PositionKind::Rope && !head_width.is_multiple_of(2) {
            let problem = format!("= \"rope\" needs an even head width (n_embd / n_head), not {head_width}");
            return Err(Error::setting("position", problem).hint("take an even n_embd / n_head"));
        }
        check_dropout(self.dropout)?;
        within("norm_eps", self.norm_eps, 0.0..=1.0)?;
        within("rope_theta", self.rope_theta, 1.0..=1e12)?;
        within("softcap", self.softcap, 0.0..=1e6)
    }

    fn parameters(&self) -> f64 {
        let [v, t, l, c, f] = [self.vocab_size, self.block_size, self.n_layer, self.n_embd, self.mlp_width()]
            .map(|size| size as f64);
        let positions = if self.position == PositionKind::Learned { t } else { 0.0 };
        let embedded = if self.tied { v } else { 2.0 * v } + self.bigram_rows as f64 + positions;
        // Attention counts 4 C² per layer, an upper bound: the exact number needs a division by
        // n_head, which may be 0 here.
        let mlp = if self.activation == ActivationKind::Swiglu { 3.0 } else { 2.0 };
        embedded * c + 4.0 * l * c * c + mlp * l * c * f
    }

    fn activations(&self) -> f64 {
        let [v, heads, l, c, f] = [self.vocab_size, self.n_head, self.n_layer, self.n_embd, self.mlp_width()]
            .map(|size| size as f64);
        let gates = if self.activation == ActivationKind::Swiglu { 2.0 } else { 1.0 };
        10.0 * l * c + gates * (l + 4.0) * f + 2.0 * l * heads + 4.0 * v
    }

    fn build(&self, parameters: &mut ParameterBuilder<'_>) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(Transformer::new(self, parameters)?))
    }
}

#[derive(Debug)]
pub(super) struct Transformer {
    block_size: usize,
    dropout: f64,
    wte: Tensor,         // (V, C)
    wpe: Option<Tensor>, // (block_size, C)
    pairs: Option<HashedBigramEmbedding>,
    /// Attention and MLP of block 0, then of block 1, ….
    h: Vec<Branch>,
    ln_f: Norm,
    lm_head: Linear, // (V, C); wte itself when tied
    softcap: f64,
}

/// Takes the parameters of a transformer from a [`ParameterBuilder`].
struct TransformerBuilder<'a, 'b> {
    config: &'a TransformerConfig,
    source: &'a mut ParameterBuilder<'b>,
}

impl TransformerBuilder<'_, '_> {
    /// A linear layer of hidden matrices with `rows` rows each, stacked.
    fn linear(&mut self, name: &str, rows: &[usize], width: usize, init: Init) -> Result<Linear> {
        let out = rows.iter().sum();
        let weight = self.source.hidden(&format!("{name}.weight"), [out, width], init, rows)?;
        let bias = self.config.bias.then(|| {
            let name = format!("{name}.bias");
            self.source.get(&name, &[out], Init::Constant(0.0))
        });
        Ok(Linear { weight, bias: bias.transpose()? })
    }

    fn norm(&mut self, name: &str) -> Result<Norm> {
        let &TransformerConfig { n_embd, bias, norm, norm_eps, .. } = self.config;
        let weight = self.source.get(&format!("{name}.weight"), &[n_embd], Init::Constant(1.0))?;
        // An RMS norm has no bias, whatever the linear layers have.
        let bias = (bias && norm == NormKind::Layer)
            .then(|| self.source.get(&format!("{name}.bias"), &[n_embd], Init::Constant(0.0)));
        let centre = if norm == NormKind::Layer { NormType::LayerNorm } else { NormType::RmsNorm };
        Ok(Norm { kind: centre, weight, bias: bias.transpose()?, eps: norm_eps })
    }

    fn block(&mut self, i: usize, angles: Option<&Arc<RotaryTables>>) -> Result<[Branch; 2]> {
        let config = self.config;
        let (c, f) = (config.n_embd, config.mlp_width());
        let kv = c / config.n_head * config.kv_heads();
        let std = Init::Normal(STD);
        // Two additions a block to the residual stream: their sum keeps its variance (GPT-2), or
        // starts at nothing.
        let std_proj = if config.zero_init {
            Init::Constant(0.0)
        } else {
            Init::Normal(STD / (2.0 * config.n_layer as f64).sqrt())
        };
        let (activation, inputs) = match config.activation {
            ActivationKind::Gelu => (Activation::Gelu, vec![f]),
            ActivationKind::Relu2 => (Activation::Relu2, vec![f]),
            ActivationKind::Swiglu => (Activation::SwiGlu, vec![f, f]),
        };
        let attention = Attention {
            n_head: config.n_head,
            n_kv_head: config.kv_heads(),
            rotary: angles.cloned(),
            qk_norm: config.qk_norm,
        };
        Ok([
            Branch {
                norm: self.norm(&format!("h.{i}.ln_1"))?,
                inner: self.linear(&format!("h.{i}.attn.c_attn"), &[c, kv, kv], c, std)?,
                kind: BranchKind::Attention(attention),
                proj: self.linear(&format!("h.{i}.attn.c_proj"), &[c], c, std_proj)?,
            },
            Branch {
                norm: self.norm(&format!("h.{i}.ln_2"))?,
                inner: self.linear(&format!("h.{i}.mlp.c_fc"), &inputs, c, std)?,
                kind: BranchKind::Activation(activation),
                proj: self.linear(&format!("h.{i}.mlp.c_proj"), &[c], f, std_proj)?,
            },
        ])
    }
}

/// The standard deviation of GPT-2's initial weights.
const STD: f64 = 0.02;

impl Transformer {
    pub(super) fn new(config: &TransformerConfig, source: &mut ParameterBuilder<'_>) -> Result<Self> {
        let &TransformerConfig { vocab_size, block_size, n_layer, n_head, n_embd: c, .. } = config;
        let std = Init::Normal(STD);
        let wte = source.get("wte.weight", &[vocab_size, c], std)?;
        let (wpe, angles) = match config.position {
            PositionKind::Learned => (Some(source.get("wpe.weight", &[block_size, c], std)?), None),
            PositionKind::Rope => {
                (None, Some(Arc::new(RotaryTables::new(block_size, c / n_head, config.rope_theta))))
            }
        };
        let pairs = match config.bigram_rows {
            0 => None,
            // Zeros: at first the sum is the token's embedding alone.
            rows => Some(source.get("bigram.weight", &[rows, c], Init::Constant(0.0))?),
        };
        let pairs = pairs.map(|table| HashedBigramEmbedding { table, vocab_size: vocab_size as u64 });
        let mut maker = TransformerBuilder { config, source };
        let blocks = (0..n_layer).map(|i| maker.block(i, angles.as_ref())).collect::<Result<Vec<_>>>()?;
        let ln_f = maker.norm("ln_f")?;
        let weight =
            if config.tied { wte.clone() } else { source.get("lm_head.weight", &[vocab_size, c], std)? };
        let (h, lm_head) = (blocks.into_iter().flatten().collect(), Linear { weight, bias: None });
        Ok(Self {
            block_size,
            dropout: config.dropout,
            wte,
            wpe,
            pairs,
            h,
            ln_f,
            lm_head,
            softcap: config.softcap,
        })
    }

    /// An empty key-value cache for each half-block.
    pub(super) fn caches(&self) -> Vec<KvCache> {
        vec![KvCache::default(); self.h.len()]
    }

    /// Logits (V) after `id` at `position` of a row, which follows `before`; the earlier tokens are
    /// in `caches`.
    pub(super) fn decode_step(
        &self,
        before: Option<u32>,
        id: u32,
        position: usize,
        caches: &mut [KvCache],
    ) -> Result<Vec<f32>> {
        let mut x = vec![0.0; self.wte.dim(1)?]; // (C)
        self.embed_one(before, id, position, &mut x)?;
        for (branch, cache) in self.h.iter().zip(caches) {
            branch.decode_step(&mut x, position, cache)?;
        }
        self.head(&x)
    }

    /// Logits (V) after `ids`, the first tokens of a row, which fill the empty `caches`.
    pub(super) fn prefill(&self, ids: &[u32], caches: &mut [KvCache]) -> Result<Vec<f32>> {
        let c = self.wte.dim(1)?;
        let mut x = vec![0.0; ids.len() * c]; // (T, C)
        let mut before = None;
        for (position, (&id, row)) in ids.iter().zip(x.chunks_exact_mut(c)).enumerate() {
            self.embed_one(before, id, position, row)?;
            before = Some(id);
        }
        for (branch, cache) in self.h.iter().zip(caches) {
            branch.prefill(&mut x, cache)?;
        }
        self.head(&x[x.len().saturating_sub(c)..])
    }

    fn embed_one(&self, before: Option<u32>, id: u32, position: usize, x: &mut [f32]) -> Result<()> {
        add_row(&self.wte, id as usize, x)?;
        if let Some(wpe) = &self.wpe {
            add_row(wpe, position, x)?;
        }
        if let Some(pairs) = &self.pairs {
            add_row(&pairs.table, pairs.row(before, id) as usize, x)?;
        }
        Ok(())
    }

    /// Logits (V) of one position.
    fn head(&self, x: &[f32]) -> Result<Vec<f32>> {
        let mut logits = self.lm_head.forward_row(&self.ln_f.forward_row(x)?)?;
        if self.softcap > 0.0 {
            let (cap, by) = (self.softcap as f32, Elementary::current());
            for z in &mut logits {
                *z = cap * by.tanh_f32(*z / cap);
            }
        }
        Ok(logits)
    }

    /// tok_emb + pos_emb + bigram_emb: (B·T, C).
    fn embed(&self, context: &Context, ids: &Tensor) -> Result<Tensor> {
        let (b, t) = ids.dims2()?;
        let flat = ids.flatten_all()?;
        let mut x = embedding(context, &flat, &self.wte)?;
        if let Some(wpe) = &self.wpe {
            let positions = Tensor::arange(0, t as u32, ids.device())?.repeat(b)?; // (B·T)
            x = (x + embedding(context, &positions, wpe)?)?;
        }
        if let Some(pairs) = &self.pairs {
            let ids = flat.to_vec1::<u32>()?;
            let before = |i: usize| if i.is_multiple_of(t) { None } else { Some(ids[i - 1]) };
            let rows: Vec<u32> = (0..ids.len()).map(|i| pairs.row(before(i), ids[i])).collect();
            let rows = Tensor::from_vec(rows, b * t, flat.device())?;
            x = (x + embedding(context, &rows, &pairs.table)?)?;
        }
        Ok(x)
    }

    /// Dropout number `site` of the model; each has its own masks.
    fn drop(&self, mode: Mode, site: u64) -> Option<DropoutConfig> {
        match mode {
            Mode::Train { dropout_seed, first_row } if self.dropout > 0.0 => {
                let stream = DropoutKey { seed: dropout_seed, site, first_row };
                Some(DropoutConfig { p: self.dropout, key: stream })
            }
            Mode::Train { .. } | Mode::Evaluate => None,
        }
    }
}

impl Architecture for Transformer {
    fn forward(&self, context: &Context, ids: &Tensor, _state: Option<&[f32]>, mode: &Mode) -> Result<Pass> {
        let (b, _) = ids.dims2()?;
        let drop = |site| self.drop(*mode, site);
        let x = surprisal_ops::block::apply_dropout(self.embed(context, ids)?, b, drop(0))?; // (B·T, C)
        let x = Branch::forward_all(&self.h, context, &x, b, |i| drop(i as u64 + 1))?;
        let hidden = self.ln_f.forward(context, &x)?; // (B·T, C)
        if self.softcap > 0.0 {
            let logits = self.lm_head.forward(context, &hidden)?; // (B·T, V)
            return Ok((Output::Logits(surprisal_ops::softcap(&logits, self.softcap)?), Vec::new()));
        }
        let output = Output::Head { hidden, weight: self.lm_head.weight.clone(), bias: None };
        Ok((output, Vec::new()))
    }

    fn attention_weights(&self, context: &Context, ids: &Tensor) -> Result<Vec<Tensor>> {
        let (b, _) = ids.dims2()?;
        let (mut x, mut layers) = (self.embed(context, ids)?, Vec::new()); // (B·T, C)
        for branch in &self.h {
            layers.extend(branch.attention_weights(context, &x, b)?);
            x = Branch::forward_all(std::slice::from_ref(branch), context, &x, b, |_| None)?;
        }
        Ok(layers)
    }

    /// A session with a key-value cache.
    fn session(&self, uniform: Vec<f64>) -> Option<Box<dyn Session + '_>> {
        Some(Box::new(CachedSession::new(self, self.block_size, uniform)))
    }
}
