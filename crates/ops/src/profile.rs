//! Profile of a training step, for `bench step`: the time of each kind of operation, summed over
//! threads. Off by default; then the cost is one atomic load per operation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// The kind of an operation whose time is measured.
#[derive(Debug, Clone, Copy)]
pub enum OpKind {
    /// Matmuls of the forward pass.
    Forward,
    /// Matmuls for gradients of inputs.
    InputGradient,
    /// Matmuls for gradients of weights.
    WeightGradient,
    /// Attention, both passes.
    Attention,
    /// Recurrences with their matmuls, both passes.
    Recurrence,
    /// Norms, both passes.
    Norm,
    /// Activations, both passes.
    Activation,
    /// Embeddings, both passes.
    Embedding,
    /// Biases, dropout and residual sums, both passes.
    Residual,
    /// The head with its cross-entropy.
    Head,
}

/// Names in reports, in the order of [`OpKind`].
const NAMES: [&str; 10] = [
    "matmul_forward",
    "matmul_input_gradient",
    "matmul_weight_gradient",
    "attention",
    "recurrence",
    "norm",
    "activation",
    "embedding",
    "residual",
    "head_and_loss",
];

static ENABLED: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

/// Starts measuring, from zero.
pub fn start() {
    for part in &NANOSECONDS {
        part.store(0, Relaxed);
    }
    ENABLED.store(true, Relaxed);
}

/// Stops measuring; returns the name of each kind and its seconds since [`start`].
pub fn stop() -> impl Iterator<Item = (&'static str, f64)> {
    ENABLED.store(false, Relaxed);
    NAMES.into_iter().zip(&NANOSECONDS).map(|(name, part)| (name, part.load(Relaxed) as f64 * 1e-9))
}

/// Runs `f`, and adds its time to `kind` between [`start`] and [`stop`].
#[inline]
pub fn time<R>(kind: OpKind, f: impl FnOnce() -> R) -> R {
    if !ENABLED.load(Relaxed) {
        return f();
    }
    let started = Instant::now();
    let result = f();
    NANOSECONDS[kind as usize].fetch_add(started.elapsed().as_nanos() as u64, Relaxed);
    result
}
