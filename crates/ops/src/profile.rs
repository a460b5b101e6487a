//! Where the time of a step goes, for `bench step`: each part's nanoseconds on all threads together. Off by default, and then
//! one load an operation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// What time is spent on.
#[derive(Debug, Clone, Copy)]
pub enum OpKind {
    /// Products of the forward pass.
    Forward,
    /// Products that make gradients of inputs.
    InputGradient,
    /// Products that make gradients of weights.
    WeightGradient,
    /// Attention, both ways.
    Attention,
    /// Norms, both ways.
    Norm,
    /// Activations, both ways.
    Activation,
    /// Embeddings, both ways.
    Embedding,
    /// Biases, dropout and residual sums, both ways.
    Residual,
    /// The head with its cross-entropy.
    Head,
}

/// The names in reports, in the order of [`Part`].
const NAMES: [&str; 9] = [
    "matmul_forward",
    "matmul_input_gradient",
    "matmul_weight_gradient",
    "attention",
    "norm",
    "activation",
    "embedding",
    "residual",
    "head_and_loss",
];

static ENABLED: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

/// Starts counting from zero.
pub fn start() {
    for part in &NANOSECONDS {
        part.store(0, Relaxed);
    }
    ENABLED.store(true, Relaxed);
}

/// Stops counting; the name of each part and its seconds since [`start`].
pub fn stop() -> impl Iterator<Item = (&'static str, f64)> {
    ENABLED.store(false, Relaxed);
    NAMES.into_iter().zip(&NANOSECONDS).map(|(name, part)| (name, part.load(Relaxed) as f64 * 1e-9))
}

/// Runs `f`, and counts its time if counting is on.
#[inline]
pub fn time<R>(part: OpKind, f: impl FnOnce() -> R) -> R {
    if !ENABLED.load(Relaxed) {
        return f();
    }
    let started = Instant::now();
    let result = f();
    NANOSECONDS[part as usize].fetch_add(started.elapsed().as_nanos() as u64, Relaxed);
    result
}
