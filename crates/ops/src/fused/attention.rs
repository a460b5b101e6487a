//! Causal attention; keeps the logarithms of the softmaxes' sums, and the queries and keys if they were scaled or turned.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use surprisal_kernels::attention;
use surprisal_kernels::rotary::{Prepare, Rows};

use super::{result, slice, with3};
use crate::Attention;
use crate::layers::Cache;
use crate::profile::{Part, time};

/// What the backward pass needs beside queries, keys, values and the result.
pub(super) struct Kept {
    log_sums: Vec<f32>,
    scales: Vec<f32>,
}

impl Attention {
    fn prepare(&self) -> Option<Prepare<'_>> {
        let prepare = Prepare { angles: self.angles.as_deref(), normalise: self.qk_norm };
        (self.qk_norm || self.angles.is_some()).then_some(prepare)
    }

    fn rows(&self, shape: attention::Shape) -> Rows {
        Rows {
            stride: shape.packed(),
            heads: shape.n_head + shape.n_kv_head,
            width: shape.head(),
            tokens: shape.tokens,
            first: 0,
        }
    }

    /// The shape of B sequences of T tokens, `packed` wide.
    pub(super) fn shape(&self, batch: usize, tokens: usize, packed: usize) -> Result<attention::Shape> {
        let (n_head, n_kv_head) = (self.n_head, self.n_kv_head);
        let heads = n_head + 2 * n_kv_head;
        if n_kv_head == 0 || !n_head.is_multiple_of(n_kv_head) || !packed.is_multiple_of(heads) {
            bail!(
                "attention: a width of {packed} does not divide into {n_head} heads of queries and {n_kv_head} of keys \
                 and values"
            );
        }
        let head = packed / heads;
        if self.angles.is_some() && !head.is_multiple_of(2) {
            bail!("attention: heads {head} wide cannot be turned in pairs");
        }
        Ok(attention::Shape { batch, tokens, width: head * n_head, n_head, n_kv_head })
    }

    /// Whether `qkv` is changed by [`Self::run`].
    pub(super) fn prepares(&self) -> bool {
        self.prepare().is_some()
    }

    /// Scales and turns `qkv` in place, and writes `y`.
    pub(super) fn run(&self, shape: attention::Shape, qkv: &mut [f32], y: &mut [f32]) -> Kept {
        time(Part::Attention, || {
            let prepare = self.prepare();
            let scales = prepare.map_or_else(Vec::new, |p| p.forward(self.rows(shape), qkv));
            let mut log_sums = vec![0.0; shape.softmaxes()];
            attention::causal_attention(shape, qkv, y, &mut log_sums);
            Kept { log_sums, scales }
        })
    }

    /// `dqkv`, from what [`Self::run`] left in `qkv` and `y`.
    pub(super) fn gradient(
        &self,
        shape: attention::Shape,
        qkv: &[f32],
        y: &[f32],
        kept: &Kept,
        dy: &[f32],
        dqkv: &mut [f32],
    ) {
        time(Part::Attention, || {
            attention::causal_attention_backward(shape, qkv, y, &kept.log_sums, dy, dqkv);
            if let Some(prepare) = self.prepare() {
                prepare.backward(self.rows(shape), qkv, &kept.scales, dqkv);
            }
        });
    }
}

struct Op {
    attention: Attention,
    shape: attention::Shape,
    /// And queries, keys and values as they met, where that is not the argument.
    kept: OnceLock<(Kept, Option<Vec<f32>>)>,
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "causal-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let attention::Shape { batch, tokens, width, .. } = self.shape;
        let mut y = vec![0.0; batch * tokens * width];
        let mut qkv = slice(qkv, layout)?.to_vec();
        let kept = self.attention.run(self.shape, &mut qkv, &mut y);
        let _ = self.kept.set((kept, self.attention.prepares().then_some(qkv)));
        result(y, (batch, tokens, width))
    }

    fn bwd(&self, qkv: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let Some((kept, prepared)) = self.kept.get() else { bail!("attention: backward before forward") };
        let dqkv = with3(qkv, y, dy, |qkv, y, dy| {
            let mut dqkv = vec![0.0; qkv.len()];
            let qkv = prepared.as_deref().unwrap_or(qkv);
            self.attention.gradient(self.shape, qkv, y, kept, dy, &mut dqkv);
            dqkv
        })?;
        Ok(Some(Tensor::from_vec(dqkv, qkv.shape(), qkv.device())?))
    }
}

/// See [`crate::causal_attention`].
pub(crate) fn causal_attention(qkv: &Tensor, attention: &Attention) -> Result<Tensor> {
    let (batch, tokens, packed) = qkv.dims3()?;
    let shape = attention.shape(batch, tokens, packed)?;
    qkv.contiguous()?.apply_op1(Op { attention: attention.clone(), shape, kept: OnceLock::new() })
}

/// [`crate::causal_attention`] for one more token of one row: `qkv` (C + 2·G·d) of the new token at `position`; its key and value
/// go into `cache`, which holds those of the tokens before it. Returns `y` (C). No gradient: for sampling.
pub(crate) fn attend_next(
    attention: &Attention,
    qkv: &[f32],
    position: usize,
    cache: &mut Cache,
) -> Result<Vec<f32>> {
    let shape = attention.shape(1, 1, qkv.len())?;
    let (c, kv) = (shape.width, shape.n_kv_head * shape.head());
    let mut y = vec![0.0; c];
    let mut qk = qkv[..c + kv].to_vec();
    if let Some(prepare) = attention.prepare() {
        let rows = Rows { stride: c + kv, first: position, ..attention.rows(shape) };
        prepare.forward(rows, &mut qk);
    }
    cache.keys.extend_from_slice(&qk[c..]);
    cache.values.extend_from_slice(&qkv[c + kv..]);
    let heads = (shape.n_head, shape.n_kv_head);
    attention::attend(heads, &qk[..c], &cache.keys, &cache.values, &mut y);
    Ok(y)
}
