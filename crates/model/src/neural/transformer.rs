//! A decoder-only transformer, GPT-2's (Radford et al. 2019), written as nanoGPT writes it.
//!
//! Shapes: B rows, T tokens a row, C = `n_embd`, V tokens. A linear layer's weight is (out, in). Where nanoGPT drops
//! attention probabilities, this does not: only the outputs of the embedding, the attention and the MLP are dropped.

use candle_core::Tensor;
use surprisal_ops::inplace::read;
use surprisal_ops::{
    DropoutStream, attend_next, causal_attention, dropout, embedding, gelu, layer_norm, linear,
};

use super::init::{Init, Source};
use super::{Mode, NeuralConfig, Output};
use crate::{Error, Result};

/// GPT-2's ε of layer normalisation.
const NORM_EPS: f64 = 1e-5;

/// Weight (out, in) and bias (out).
#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    fn new(name: &str, shape: [usize; 2], std: f64, bias: bool, source: &mut Source<'_>) -> Result<Self> {
        let weight = source.get(&format!("{name}.weight"), &shape, Init::Normal(std))?;
        let bias = if bias {
            Some(source.get(&format!("{name}.bias"), &shape[..1], Init::Constant(0.0))?)
        } else {
            None
        };
        Ok(Self { weight, bias })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(linear(x, &self.weight, self.bias.as_ref())?)
    }
}

#[derive(Debug)]
struct LayerNorm {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl LayerNorm {
    fn new(name: &str, width: usize, bias: bool, source: &mut Source<'_>) -> Result<Self> {
        let weight = source.get(&format!("{name}.weight"), &[width], Init::Constant(1.0))?;
        let bias = if bias {
            Some(source.get(&format!("{name}.bias"), &[width], Init::Constant(0.0))?)
        } else {
            None
        };
        Ok(Self { weight, bias })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(layer_norm(x, &self.weight, self.bias.as_ref(), NORM_EPS)?)
    }
}

/// The shape of a batch and its dropout.
#[derive(Clone, Copy)]
struct Batch {
    b: usize,
    t: usize,
    dropout: f64,
    mode: Mode,
}

impl Batch {
    /// Drops some of `x` (B·T, C); `site` tells the places of the model apart.
    fn drop(&self, x: Tensor, site: u64) -> Result<Tensor> {
        let Mode::Train { dropout_seed, first_row } = self.mode else { return Ok(x) };
        if self.dropout == 0.0 {
            return Ok(x);
        }
        let c = x.dim(1)?;
        let stream = DropoutStream { seed: dropout_seed, site, first_row };
        Ok(dropout(&x.reshape((self.b, self.t, c))?, self.dropout, stream)?.reshape((self.b * self.t, c))?)
    }
}

/// x + attention(norm(x)), then x + mlp(norm(x)).
#[derive(Debug)]
struct Block {
    n_head: usize,
    ln_1: LayerNorm,
    c_attn: Linear, // (3C, C): queries, keys, values
    attn_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear, // (4C, C)
    mlp_proj: Linear,
}

impl Block {
    fn attention(&self, x: &Tensor, batch: Batch) -> Result<Tensor> {
        let qkv = self.c_attn.forward(x)?; // (B·T, 3C)
        let qkv = qkv.reshape((batch.b, batch.t, ()))?; // (B, T, 3C)
        let y = causal_attention(&qkv, self.n_head)?; // (B, T, C)
        self.attn_proj.forward(&y.reshape((batch.b * batch.t, ()))?) // (B·T, C)
    }

    fn mlp(&self, x: &Tensor) -> Result<Tensor> {
        self.mlp_proj.forward(&gelu(&self.c_fc.forward(x)?)?) // (B·T, C) -> (B·T, 4C) -> (B·T, C)
    }

    /// The block for the next token of one row: `x` (1, C), with the keys and values of the tokens before it.
    fn next(&self, x: &Tensor, cache: &mut Cache) -> Result<Tensor> {
        let qkv = self.c_attn.forward(&self.ln_1.forward(x)?)?; // (1, 3C)
        let y = read(&qkv, |qkv| attend_next(qkv, self.n_head, &mut cache.keys, &mut cache.values))??;
        let y = Tensor::from_vec(y, x.shape(), x.device())?; // (1, C)
        let x = (x + self.attn_proj.forward(&y)?)?;
        Ok((&x + self.mlp(&self.ln_2.forward(&x)?)?)?.detach())
    }

    fn forward(&self, x: &Tensor, batch: Batch, site: u64) -> Result<Tensor> {
        let x = (x + batch.drop(self.attention(&self.ln_1.forward(x)?, batch)?, site)?)?;
        Ok((&x + batch.drop(self.mlp(&self.ln_2.forward(&x)?)?, site + 1)?)?)
    }
}

/// The keys and values (T, C) of one block for the tokens read so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Cache {
    keys: Vec<f32>,
    values: Vec<f32>,
}

#[derive(Debug)]
pub(super) struct Transformer {
    dropout: f64,
    wte: Tensor, // (V, C)
    wpe: Tensor, // (block_size, C)
    h: Vec<Block>,
    ln_f: LayerNorm,
    lm_head: Tensor, // (V, C); wte itself when tied
}

impl Transformer {
    pub(super) fn new(config: &NeuralConfig, source: &mut Source<'_>) -> Result<Self> {
        let &NeuralConfig::Transformer {
            vocab_size,
            block_size,
            n_layer,
            n_head,
            n_embd,
            dropout,
            bias,
            tied,
        } = config
        else {
            return Err(Error::Config { message: "not a transformer".into() });
        };
        let std = 0.02;
        // Two additions a block to the residual stream: their sum keeps its variance (GPT-2).
        let std_proj = std / (2.0 * n_layer as f64).sqrt();
        let c = n_embd;
        let wte = source.get("wte.weight", &[vocab_size, c], Init::Normal(std))?;
        let wpe = source.get("wpe.weight", &[block_size, c], Init::Normal(std))?;
        let mut h = Vec::with_capacity(n_layer);
        for i in 0..n_layer {
            h.push(Block {
                n_head,
                ln_1: LayerNorm::new(&format!("h.{i}.ln_1"), c, bias, source)?,
                c_attn: Linear::new(&format!("h.{i}.attn.c_attn"), [3 * c, c], std, bias, source)?,
                attn_proj: Linear::new(&format!("h.{i}.attn.c_proj"), [c, c], std_proj, bias, source)?,
                ln_2: LayerNorm::new(&format!("h.{i}.ln_2"), c, bias, source)?,
                c_fc: Linear::new(&format!("h.{i}.mlp.c_fc"), [4 * c, c], std, bias, source)?,
                mlp_proj: Linear::new(&format!("h.{i}.mlp.c_proj"), [c, 4 * c], std_proj, bias, source)?,
            });
        }
        let ln_f = LayerNorm::new("ln_f", c, bias, source)?;
        let lm_head = if tied {
            wte.clone()
        } else {
            source.get("lm_head.weight", &[vocab_size, c], Init::Normal(std))?
        };
        Ok(Self { dropout, wte, wpe, h, ln_f, lm_head })
    }

    /// An empty cache for each block.
    pub(super) fn caches(&self) -> Vec<Cache> {
        vec![Cache::default(); self.h.len()]
    }

    /// What follows `id`, the token at `position` of a row whose earlier tokens are in `caches`.
    pub(super) fn next(&self, id: u32, position: u32, caches: &mut [Cache]) -> Result<Output> {
        let row =
            |index: u32, table: &Tensor| embedding(&Tensor::from_slice(&[index], 1, table.device())?, table);
        let mut x = (row(id, &self.wte)? + row(position, &self.wpe)?)?; // (1, C)
        for (block, cache) in self.h.iter().zip(caches) {
            x = block.next(&x, cache)?;
        }
        let hidden = self.ln_f.forward(&x)?; // (1, C)
        Ok(Output::Head { hidden, weight: self.lm_head.clone(), bias: None })
    }

    pub(super) fn forward(&self, ids: &Tensor, mode: &Mode) -> Result<Output> {
        let (b, t) = ids.dims2()?;
        let batch = Batch { b, t, dropout: self.dropout, mode: *mode };
        let tok_emb = embedding(&ids.flatten_all()?, &self.wte)?; // (B·T, C)
        let positions = Tensor::arange(0, t as u32, ids.device())?.repeat(b)?; // (B·T)
        let pos_emb = embedding(&positions, &self.wpe)?; // (B·T, C)
        let mut x = batch.drop((tok_emb + pos_emb)?, 0)?;
        for (i, block) in self.h.iter().enumerate() {
            x = block.forward(&x, batch, 1 + 2 * i as u64)?;
        }
        let hidden = self.ln_f.forward(&x)?; // (B·T, C)
        Ok(Output::Head { hidden, weight: self.lm_head.clone(), bias: None })
    }
}
