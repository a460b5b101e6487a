//! Causal attention; saves the log-sum-exp, and `qkv` if QK-norm or rotary embedding changed it.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use surprisal_kernels::attention::{self, AttentionShape};
use surprisal_kernels::rotary::{HeadLayout, QkNormRope};

use super::{result, slice, with3};
use crate::Attention;
use crate::layers::KvCache;
use crate::profile::{OpKind, time};

/// Values saved for backward, besides `qkv` and `y`.
pub(super) struct SavedSoftmax {
    lse: Vec<f32>,
    rstd: Vec<f32>,
}

impl Attention {
    fn rope(&self) -> Option<QkNormRope<'_>> {
        let rope = QkNormRope { rotary: self.rotary.as_deref(), qk_norm: self.qk_norm };
        (self.qk_norm || self.rotary.is_some()).then_some(rope)
    }

    fn layout(&self, shape: AttentionShape) -> HeadLayout {
        HeadLayout {
            stride: shape.packed_width(),
            n_heads: shape.n_head + shape.n_kv_head,
            head_dim: shape.head_dim(),
            seq_len: shape.seq_len,
            start_pos: 0,
        }
    }

    /// The shape for `batch` sequences of `tokens` rows of `packed` elements.
    pub(super) fn shape(&self, batch: usize, tokens: usize, packed: usize) -> Result<AttentionShape> {
        let (n_head, n_kv_head) = (self.n_head, self.n_kv_head);
        let heads = n_head + 2 * n_kv_head;
        if n_kv_head == 0 || !n_head.is_multiple_of(n_kv_head) || !packed.is_multiple_of(heads) {
            bail!(
                "attention: a row of {packed} elements is not divisible into {n_head} query heads and \
                 {n_kv_head} key and value heads"
            );
        }
        let head = packed / heads;
        if self.rotary.is_some() && !head.is_multiple_of(2) {
            bail!("attention: rotary embedding needs an even head width, not {head}");
        }
        Ok(AttentionShape { batch, seq_len: tokens, n_embd: head * n_head, n_head, n_kv_head })
    }

    /// Whether [`Self::run`] changes `qkv`.
    pub(super) fn changes_qkv(&self) -> bool {
        self.rope().is_some()
    }

    /// Applies QK-norm and rotary embedding to `qkv` in place, and writes `y`.
    pub(super) fn run(&self, shape: AttentionShape, qkv: &mut [f32], y: &mut [f32]) -> SavedSoftmax {
        time(OpKind::Attention, || {
            let rope = self.rope();
            let rstd = rope.map_or_else(Vec::new, |p| p.forward(self.layout(shape), qkv));
            let mut lse = vec![0.0; shape.lse_len()];
            attention::causal_attention(shape, qkv, y, &mut lse);
            SavedSoftmax { lse, rstd }
        })
    }

    /// Writes `dqkv`, from `qkv` and `y` as [`Self::run`] left them.
    pub(super) fn gradient(
        &self,
        shape: AttentionShape,
        qkv: &[f32],
        y: &[f32],
        saved: &SavedSoftmax,
        dy: &[f32],
        dqkv: &mut [f32],
    ) {
        time(OpKind::Attention, || {
            attention::causal_attention_backward(shape, qkv, y, &saved.lse, dy, dqkv);
            if let Some(rope) = self.rope() {
                rope.backward(self.layout(shape), qkv, &saved.rstd, dqkv);
            }
        });
    }
}

struct CausalAttentionOp {
    attention: Attention,
    shape: AttentionShape,
    /// Includes `qkv` after QK-norm and rotary embedding, if there are any.
    saved: OnceLock<(SavedSoftmax, Option<Vec<f32>>)>,
}

impl CustomOp1 for CausalAttentionOp {
    fn name(&self) -> &'static str {
        "causal-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let AttentionShape { batch, seq_len: tokens, n_embd: width, .. } = self.shape;
        let mut y = vec![0.0; batch * tokens * width];
        let mut qkv = slice(qkv, layout)?.to_vec();
        let saved = self.attention.run(self.shape, &mut qkv, &mut y);
        let _ = self.saved.set((saved, self.attention.changes_qkv().then_some(qkv)));
        result(y, (batch, tokens, width))
    }

    fn bwd(&self, qkv: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let Some((saved, changed)) = self.saved.get() else { bail!("attention: backward before forward") };
        let dqkv = with3(qkv, y, dy, |qkv, y, dy| {
            let mut dqkv = vec![0.0; qkv.len()];
            let qkv = changed.as_deref().unwrap_or(qkv);
            self.attention.gradient(self.shape, qkv, y, saved, dy, &mut dqkv);
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

/// [`crate::causal_attention`] of one token at `position`, without a gradient: from its `qkv`
/// (C + 2·G·d) to `y` (C). Appends its key and value to `cache`, which has those of earlier tokens.
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
    if let Some(rope) = attention.rope() {
        let layout = HeadLayout { stride: c + kv, start_pos: position, ..attention.layout(shape) };
        rope.forward(layout, &mut qk);
    }
    cache.keys.extend_from_slice(&qk[c..]);
    cache.values.extend_from_slice(&qkv[c + kv..]);
    let heads = (shape.n_head, shape.n_kv_head);
    attention::causal_attention_step(heads, &qk[..c], &cache.keys, &cache.values, &mut y);
    Ok(y)
}
