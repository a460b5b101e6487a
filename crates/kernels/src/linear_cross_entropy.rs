//! Fused linear head and cross-entropy, with all gradients.
//!
//! With `Z = H Wᵀ + b` (`N · V`) and `G = ∂ℓ/∂Z`, the gradients are `∂H = G W`, `∂W = Gᵀ H` and
//! `∂b = Σ rows of G`. Rows are processed in chunks, so that only one chunk of logits exists, whose
//! gradient replaces it ([`crate::cross_entropy`]).

use crate::cross_entropy::{GradOutput, LogitsBuffer, RowError, Spec, Targets, Totals, cross_entropy};
use crate::matmul::{Matrix, MatrixMut, matmul};
use surprisal_platform::threads::Pool;

/// Maximum elements of a chunk of logits (30 MiB); a chunk has at least one row.
const MAX_CHUNK_LEN: usize = 30 * 1024 * 1024 / 4;

/// Buffers for the gradients, which are overwritten.
#[derive(Debug)]
pub struct HeadGradients<'a> {
    /// `∂ℓ/∂H`, `N · D`.
    pub hidden: &'a mut [f32],
    /// `∂ℓ/∂W`, `V · D`.
    pub weight: &'a mut [f32],
    /// `∂ℓ/∂b`, `V`.
    pub bias: Option<&'a mut [f32]>,
}

/// A linear head, `Z = H Wᵀ + b`.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `H`, row-major `N · D`.
    pub hidden: &'a [f32],
    /// `W`, row-major `V · D`.
    pub weight: &'a [f32],
    /// `b`, `V`.
    pub bias: Option<&'a [f32]>,
    /// `D`, the width of the hidden states.
    pub width: usize,
}

/// Rows per chunk; depends only on `V`, so that sums do not depend on the number of threads.
fn chunk_rows(vocab: usize) -> usize {
    let rows = MAX_CHUNK_LEN / vocab.max(1);
    // A multiple of the matmul's 12-row register tiles, if there is room for some.
    if rows >= 64 { (rows / 12 * 12).min(4096) } else { rows.max(1) }
}

/// Computes the loss of the head's logits, the gradients if given with a [`GradOutput`], and
/// per-row losses if `losses` is given.
///
/// # Errors
/// [`RowError`] for the first row with a NaN, a +∞ or only −∞; the gradients are then unspecified.
pub fn linear_cross_entropy(
    head: &Head<'_>,
    targets: Targets<'_>,
    spec: &Spec<'_>,
    mut gradients: Option<(GradOutput<'_>, HeadGradients<'_>)>,
    mut losses: Option<&mut [f32]>,
    pool: Option<&Pool>,
) -> Result<Totals, RowError> {
    let (vocab, width) = (spec.vocab, head.width);
    let rows = head.hidden.len() / width.max(1);
    let step = chunk_rows(vocab).min(rows.max(1));
    let mut logits = vec![0.0; step * vocab];
    let mut totals = Totals::default();
    if let Some((_, gradients)) = &mut gradients {
        if rows == 0 {
            gradients.weight.fill(0.0);
        }
        if let Some(bias) = &mut gradients.bias {
            bias.fill(0.0);
        }
    }
    for first in (0..rows).step_by(step) {
        let n = step.min(rows - first);
        let span = first * width..(first + n) * width;
        let logits = &mut logits[..n * vocab];
        let hidden = Matrix::new(&head.hidden[span.clone()], n, width);
        let weight = Matrix::new(head.weight, vocab, width);
        if let Some(bias) = head.bias {
            logits.chunks_exact_mut(vocab).for_each(|row| row.copy_from_slice(bias));
        }
        matmul(MatrixMut::new(logits, n, vocab), head.bias.is_some(), hidden, weight.transposed(), pool);
        let part_losses = losses.as_deref_mut().map(|all| &mut all[first..first + n]);
        let part = spec.of_rows(first, n);
        let targets = targets.rows(first, first + n, vocab);
        let grad_output = gradients.as_ref().map(|(grad_output, _)| grad_output.rows(first, n));
        let sums =
            cross_entropy(LogitsBuffer::Overwrite(logits), targets, &part, grad_output, part_losses, pool);
        totals.add(sums.map_err(|error| RowError { row: first + error.row, ..error })?);
        let Some((_, gradients)) = &mut gradients else { continue };
        let g = Matrix::new(logits, n, vocab);
        matmul(MatrixMut::new(&mut gradients.hidden[span], n, width), false, g, weight, pool);
        matmul(MatrixMut::new(gradients.weight, vocab, width), first > 0, g.transposed(), hidden, pool);
        if let Some(bias) = &mut gradients.bias {
            for row in logits.chunks_exact(vocab) {
                for (b, g) in bias.iter_mut().zip(row) {
                    *b += g;
                }
            }
        }
    }
    Ok(totals)
}
