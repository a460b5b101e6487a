//! Causal attention; keeps the logarithms of the softmaxes' sums, and the queries and keys if they were scaled or turned.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use surprisal_kernels::attention;
use surprisal_kernels::rotary::{HeadLayout, QkNormRope};

use super::{result, slice, with3};
use crate::Attention;
use crate::layers::KvCache;
use crate::profile::{OpKind, time};

/// What the backward pass needs beside queries, keys, values and the result.
pub(super) struct SavedSoftmax {
    lse: Vec<f32>,
    rstd: Vec<f32>,
}

impl Attention {
    fn prepare(&self) -> Option<QkNormRope<'_>> {
        let prepare = QkNormRope { rotary: self.rotary.as_deref(), qk_norm: self.qk_norm };
        (self.qk_norm || self.rotary.is_some()).then_some(prepare)
    }

    fn rows(&self, shape: attention::AttentionShape) -> HeadLayout {
        HeadLayout {
            stride: shape.packed_width(),
            n_heads: shape.n_head + shape.n_kv_head,
            head_dim: shape.head_dim(),
            seq_len: shape.seq_len,
            start_pos: 0,
        }
    }

    /// The shape of B sequences of T tokens, `packed` wide.
    pub(super) fn shape(
        &self,
        batch: usize,
        tokens: usize,
        packed: usize,
    ) -> Result<attention::AttentionShape> {
        let (n_head, n_kv_head) = (self.n_head, self.n_kv_head);
        let heads = n_head + 2 * n_kv_head;
        if n_kv_head == 0 || !n_head.is_multiple_of(n_kv_head) || !packed.is_multiple_of(heads) {
            bail!(
                "attention: a width of {packed} does not divide into {n_head} heads of queries and {n_kv_head} of keys \
                 and values"
            );
        }
        let head = packed / heads;
        if self.rotary.is_some() && !head.is_multiple_of(2) {
            bail!("attention: heads {head} wide cannot be turned in pairs");
        }
        Ok(attention::AttentionShape { batch, seq_len: tokens, n_embd: head * n_head, n_head, n_kv_head })
    }

    /// Whether `qkv` is changed by [`Self::run`].
    pub(super) fn prepares(&self) -> bool {
        self.prepare().is_some()
    }

    /// Scales and turns `qkv` in place, and writes `y`.
    pub(super) fn run(
        &self,
        shape: attention::AttentionShape,
        qkv: &mut [f32],
        y: &mut [f32],
    ) -> SavedSoftmax {
        time(OpKind::Attention, || {
            let prepare = self.prepare();
            let scales = prepare.map_or_else(Vec::new, |p| p.forward(self.rows(shape), qkv));
            let mut log_sums = vec![0.0; shape.lse_len()];
            attention::causal_attention(shape, qkv, y, &mut log_sums);
            SavedSoftmax { lse: log_sums, rstd: scales }
        })
    }

    /// `dqkv`, from what [`Self::run`] left in `qkv` and `y`.
    pub(super) fn gradient(
        &self,
        shape: attention::AttentionShape,
        qkv: &[f32],
        y: &[f32],
        kept: &SavedSoftmax,
        dy: &[f32],
        dqkv: &mut [f32],
    ) {
        time(OpKind::Attention, || {
            attention::causal_attention_backward(shape, qkv, y, &kept.lse, dy, dqkv);
            if let Some(prepare) = self.prepare() {
                prepare.backward(self.rows(shape), qkv, &kept.rstd, dqkv);
            }
        });
    }
}

struct CausalAttentionOp {
    attention: Attention,
    shape: attention::AttentionShape,
    /// And queries, keys and values as they met, where that is not the argument.
    saved: OnceLock<(SavedSoftmax, Option<Vec<f32>>)>,
}

impl CustomOp1 for CausalAttentionOp {
    fn name(&self) -> &'static str {
        "causal-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let attention::AttentionShape { batch, seq_len: tokens, n_embd: width, .. } = self.shape;
        let mut y = vec![0.0; batch * tokens * width];
        let mut qkv = slice(qkv, layout)?.to_vec();
        let kept = self.attention.run(self.shape, &mut qkv, &mut y);
        let _ = self.saved.set((kept, self.attention.prepares().then_some(qkv)));
        result(y, (batch, tokens, width))
    }

    fn bwd(&self, qkv: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let Some((kept, prepared)) = self.saved.get() else { bail!("attention: backward before forward") };
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
    qkv.contiguous()?.apply_op1(CausalAttentionOp {
        attention: attention.clone(),
        shape,
        saved: OnceLock::new(),
    })
}

/// [`crate::causal_attention`] for one more token of one row: `qkv` (C + 2·G·d) of the new token at `position`; its key and value
/// go into `cache`, which holds those of the tokens before it. Returns `y` (C). No gradient: for sampling.
pub(crate) fn causal_attention_step(
    attention: &Attention,
    qkv: &[f32],
    position: usize,
    cache: &mut KvCache,
) -> Result<Vec<f32>> {
    let shape = attention.shape(1, 1, qkv.len())?;
    let (c, kv) = (shape.n_embd, shape.n_kv_head * shape.head_dim());
    let mut y = vec![0.0; c];
    let mut qk = qkv[..c + kv].to_vec();
    if let Some(prepare) = attention.prepare() {
        let rows = HeadLayout { stride: c + kv, start_pos: position, ..attention.rows(shape) };
        prepare.forward(rows, &mut qk);
    }
    cache.keys.extend_from_slice(&qk[c..]);
    cache.values.extend_from_slice(&qkv[c + kv..]);
    let heads = (shape.n_head, shape.n_kv_head);
    attention::causal_attention_step(heads, &qk[..c], &cache.keys, &cache.values, &mut y);
    Ok(y)
}
