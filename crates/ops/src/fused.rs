//! The operations as fused kernels on the CPU in f32, each with its backward pass.
//!
//! What a backward pass needs beyond its arguments lies in the operation itself, which lives as long as the graph.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use surprisal_kernels::matmul::{Matrix, MatrixMut, multiply};
use surprisal_kernels::{activation, attention, norm};

use crate::inplace::read;

/// The numbers of a contiguous f32 argument.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("a fused operation takes contiguous f32"),
    }
}

fn result(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// Runs `f` on the numbers of three tensors.
fn with3<R>(a: &Tensor, b: &Tensor, c: &Tensor, f: impl FnOnce(&[f32], &[f32], &[f32]) -> R) -> Result<R> {
    read(a, |a| read(b, |b| read(c, |c| f(a, b, c))))??
}

/// `x Wᵀ (+ b)`.
struct Linear;

impl Linear {
    fn forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: usize) -> Vec<f32> {
        let width = weight.len() / out;
        let rows = x.len() / width;
        let mut y = vec![0.0; rows * out];
        if let Some(bias) = bias {
            y.chunks_exact_mut(out).for_each(|row| row.copy_from_slice(bias));
        }
        let weight = Matrix::new(weight, out, width).transposed();
        multiply(
            MatrixMut::new(&mut y, rows, out),
            bias.is_some(),
            Matrix::new(x, rows, width),
            weight,
            None,
        );
        y
    }

    fn backward(x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
        let ((rows, width), out) = (x.dims2()?, weight.dim(0)?);
        let (dx, dw) = with3(x, weight, dy, |x, weight, dy| {
            let (mut dx, mut dw) = (vec![0.0; rows * width], vec![0.0; out * width]);
            let dy = Matrix::new(dy, rows, out);
            multiply(MatrixMut::new(&mut dx, rows, width), false, dy, Matrix::new(weight, out, width), None);
            let x = Matrix::new(x, rows, width);
            multiply(MatrixMut::new(&mut dw, out, width), false, dy.transposed(), x, None);
            (dx, dw)
        })?;
        let device = x.device();
        Ok((Tensor::from_vec(dx, (rows, width), device)?, Tensor::from_vec(dw, (out, width), device)?))
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, out) = (xl.shape().dims2()?.0, wl.shape().dims2()?.0);
        result(Self::forward(slice(x, xl)?, slice(w, wl)?, None, out), (rows, out))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = Self::backward(x, w, dy)?;
        Ok((Some(dx), Some(dw)))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, out) = (xl.shape().dims2()?.0, wl.shape().dims2()?.0);
        result(Self::forward(slice(x, xl)?, slice(w, wl)?, Some(slice(b, bl)?), out), (rows, out))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = Self::backward(x, w, dy)?;
        let out = b.elem_count();
        let db = read(dy, |dy| {
            let mut db = vec![0.0; out];
            for row in dy.chunks_exact(out) {
                db.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            db
        })?;
        Ok((Some(dx), Some(dw), Some(Tensor::from_vec(db, out, b.device())?)))
    }
}

/// See [`crate::linear`].
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ((_, width), (out, inner)) = (x.dims2()?, weight.dims2()?);
    if width != inner || bias.is_some_and(|bias| bias.dims() != [out]) {
        bail!(
            "linear: an input of {:?} and a weight of {:?} (and its bias) do not fit",
            x.dims(),
            weight.dims()
        );
    }
    match bias {
        None => x.contiguous()?.apply_op2(&weight.contiguous()?, Linear),
        Some(bias) => x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear),
    }
}

/// Rows of a table.
struct Embedding {
    ids: Vec<u32>,
}

impl CustomOp1 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let table = slice(table, layout)?;
        let mut y = Vec::with_capacity(self.ids.len() * width);
        for &id in &self.ids {
            y.extend_from_slice(&table[id as usize * width..(id as usize + 1) * width]);
        }
        result(y, (self.ids.len(), width))
    }

    fn bwd(&self, table: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = table.dims2()?;
        let dtable = read(dy, |dy| {
            let mut dtable = vec![0.0; rows * width];
            for (&id, dy) in self.ids.iter().zip(dy.chunks_exact(width)) {
                let row = &mut dtable[id as usize * width..(id as usize + 1) * width];
                row.iter_mut().zip(dy).for_each(|(sum, value)| *sum += value);
            }
            dtable
        })?;
        Ok(Some(Tensor::from_vec(dtable, (rows, width), table.device())?))
    }
}

/// See [`crate::embedding`].
pub(crate) fn embedding(ids: &Tensor, table: &Tensor) -> Result<Tensor> {
    let ids = ids.to_vec1::<u32>()?;
    let rows = table.dim(0)?;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
        bail!("embedding: there is no row {id} in a table of {rows}");
    }
    table.contiguous()?.apply_op1(Embedding { ids })
}

/// Layer normalisation; keeps each row's mean and 1/σ.
struct LayerNorm {
    eps: f32,
    statistics: OnceLock<Vec<(f32, f32)>>,
}

impl LayerNorm {
    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        let statistics = norm::layer_norm(x, weight, bias, self.eps, &mut y);
        // An operation runs forward once.
        let _ = self.statistics.set(statistics);
        y
    }

    /// dx, dw, db.
    fn backward(&self, x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<[Tensor; 3]> {
        let Some(statistics) = self.statistics.get() else { bail!("layer norm: backward before forward") };
        let width = weight.elem_count();
        let (dx, dw, db) = with3(x, weight, dy, |x, weight, dy| {
            let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; width], vec![0.0; width]);
            let gradients = norm::LayerNormGradients { dx: &mut dx, dw: &mut dw, db: &mut db };
            norm::layer_norm_backward(x, weight, statistics, dy, gradients);
            (dx, dw, db)
        })?;
        let device = x.device();
        Ok([
            Tensor::from_vec(dx, x.shape(), device)?,
            Tensor::from_vec(dw, width, device)?,
            Tensor::from_vec(db, width, device)?,
        ])
    }
}

impl CustomOp2 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        result(self.forward(slice(x, xl)?, slice(w, wl)?, None), xl.shape().clone())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = self.backward(x, w, dy)?;
        Ok((Some(dx), Some(dw)))
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        result(self.forward(slice(x, xl)?, slice(w, wl)?, Some(slice(b, bl)?)), xl.shape().clone())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = self.backward(x, w, dy)?;
        Ok((Some(dx), Some(dw), Some(db)))
    }
}

/// See [`crate::layer_norm`].
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let width = x.dims2()?.1;
    if weight.dims() != [width] || bias.is_some_and(|bias| bias.dims() != [width]) {
        bail!(
            "layer norm: an input of {:?} and a weight of {:?} (and its bias) do not fit",
            x.dims(),
            weight.dims()
        );
    }
    let op = LayerNorm { eps: eps as f32, statistics: OnceLock::new() };
    match bias {
        None => x.contiguous()?.apply_op2(&weight.contiguous()?, op),
        Some(bias) => x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op),
    }
}

/// Causal attention; keeps the probabilities.
struct Attention {
    shape: attention::Shape,
    probabilities: OnceLock<Vec<f32>>,
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "causal-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let attention::Shape { batch, tokens, width, .. } = self.shape;
        let mut y = vec![0.0; batch * tokens * width];
        let mut probabilities = vec![0.0; self.shape.probabilities()];
        attention::causal_attention(self.shape, slice(qkv, layout)?, &mut y, &mut probabilities);
        let _ = self.probabilities.set(probabilities);
        result(y, (batch, tokens, width))
    }

    fn bwd(&self, qkv: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let Some(probabilities) = self.probabilities.get() else {
            bail!("attention: backward before forward")
        };
        let dqkv = read(qkv, |qkv| {
            read(dy, |dy| {
                let mut dqkv = vec![0.0; qkv.len()];
                attention::causal_attention_backward(self.shape, qkv, probabilities, dy, &mut dqkv);
                dqkv
            })
        })??;
        Ok(Some(Tensor::from_vec(dqkv, qkv.shape(), qkv.device())?))
    }
}

/// See [`crate::causal_attention`].
pub(crate) fn causal_attention(qkv: &Tensor, n_head: usize) -> Result<Tensor> {
    let (batch, tokens, width) = qkv.dims3()?;
    if n_head == 0 || width % (3 * n_head) != 0 {
        bail!(
            "attention: a width of {width} does not divide into queries, keys and values of {n_head} heads"
        );
    }
    let shape = attention::Shape { batch, tokens, width: width / 3, n_head };
    qkv.contiguous()?.apply_op1(Attention { shape, probabilities: OnceLock::new() })
}

/// GELU, tanh form.
struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = slice(x, layout)?.to_vec();
        activation::gelu_in_place(&mut y);
        result(y, layout.shape().clone())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = read(x, |x| {
            read(dy, |dy| {
                let mut dx = dy.to_vec();
                activation::gelu_backward_in_place(x, &mut dx);
                dx
            })
        })??;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

/// See [`crate::gelu`].
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Gelu)
}

#[cfg(test)]
mod tests;
