//! Embedding lookup.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::{result, slice};
use crate::Context;
use crate::profile::{OpKind, time};
use crate::tensor_slice::read;

struct EmbeddingOp {
    context: Context,
    ids: Vec<u32>,
}

impl CustomOp1 for EmbeddingOp {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let table = slice(table, layout)?;
        let y = time(OpKind::Embedding, || {
            let mut y = Vec::with_capacity(self.ids.len() * width);
            for &id in &self.ids {
                y.extend_from_slice(&table[id as usize * width..(id as usize + 1) * width]);
            }
            y
        });
        result(y, (self.ids.len(), width))
    }

    fn bwd(&self, table: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let width = table.dim(1)?;
        read(dy, |dy| {
            self.context.add_to_grad(table, |dtable| {
                time(OpKind::Embedding, || {
                    for (&id, dy) in self.ids.iter().zip(dy.chunks_exact(width)) {
                        let row = &mut dtable[id as usize * width..(id as usize + 1) * width];
                        row.iter_mut().zip(dy).for_each(|(sum, value)| *sum += value);
                    }
                });
            })
        })?
    }
}

/// See [`crate::embedding`].
pub(crate) fn embedding(context: &Context, ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    let ids = ids.to_vec1::<u32>()?;
    let rows = table.dim(0)?;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
        bail!("embedding: row {id} is not in a table of {rows} rows");
    }
    table.contiguous()?.apply_op1(EmbeddingOp { context: context.clone(), ids })
}
