//! A linear head and its cross-entropy in one call: hidden states and head weights in, loss and all gradients out.
//!
//! With `Z = H Wᵀ + b` (`N · V`), the gradients of the loss are `∂H = G W`, `∂W = Gᵀ H`, `∂b = Σ rows of G`, where
//! `G = ∂ℓ/∂Z`. Rows are taken in chunks: a chunk of `Z` is computed, turned into its own gradient in place
//! ([`crate::cross_entropy`]), multiplied on, and forgotten. Never more than one chunk of logits exists.

use crate::cross_entropy::{GradOutput, LogitsBuffer, RowError, Spec, Targets, Totals, cross_entropy};
use crate::matmul::{Matrix, MatrixMut, matmul};
use surprisal_platform::threads::Pool;

/// No chunk of logits is larger than this many elements (30 MiB), unless a single row is.
const CHUNK_ELEMENTS: usize = 30 * 1024 * 1024 / 4;

/// Where the gradients go; all of it is overwritten.
#[derive(Debug)]
pub struct HeadGradients<'a> {
    /// `∂ℓ/∂H`, `N · D`.
    pub hidden: &'a mut [f32],
    /// `∂ℓ/∂W`, `V · D`.
    pub weight: &'a mut [f32],
    /// `∂ℓ/∂b`, `V`.
    pub bias: Option<&'a mut [f32]>,
}

/// A head: `Z = H Wᵀ + b`.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `H`, row-major `N · D`.
    pub hidden: &'a [f32],
    /// `W`, row-major `V · D`.
    pub weight: &'a [f32],
    /// `b`, `V`.
    pub bias: Option<&'a [f32]>,
    /// `D`.
    pub width: usize,
}

/// How many rows one chunk of logits has: a fixed function of `V`, so that sums do not depend on the threads.
fn chunk_rows(vocab: usize) -> usize {
    let rows = CHUNK_ELEMENTS / vocab.max(1);
    // Whole register tiles of the matrix product where there is room for some.
    if rows >= 64 { (rows / 12 * 12).min(4096) } else { rows.max(1) }
}

/// The loss of the head's logits, and its gradients when `grad_output` and `gradients` are given.
///
/// # Errors
/// [`RowError`] for the first row whose logits hold a NaN, +∞ or nothing but −∞; gradients then hold nothing of use.
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
        gradients.weight.fill(0.0);
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
        matmul(MatrixMut::new(gradients.weight, vocab, width), true, g.transposed(), hidden, pool);
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
