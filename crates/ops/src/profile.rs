//! Where the time of a step goes, for `bench step`: each part's nanoseconds on all threads together. Off by default, and then
//! one load an operation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// What time is spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
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

impl Part {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Forward,
        Self::InputGradient,
        Self::WeightGradient,
        Self::Attention,
        Self::Norm,
        Self::Activation,
        Self::Embedding,
        Self::Residual,
        Self::Head,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "matmul_forward",
            Self::InputGradient => "matmul_input_gradient",
            Self::WeightGradient => "matmul_weight_gradient",
            Self::Attention => "attention",
            Self::Norm => "norm",
            Self::Activation => "activation",
            Self::Embedding => "embedding",
            Self::Residual => "residual",
            Self::Head => "head_and_loss",
        }
    }
}

static ENABLED: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; Part::ALL.len()] = [const { AtomicU64::new(0) }; Part::ALL.len()];

/// Starts counting from zero.
pub fn start() {
    for part in &NANOSECONDS {
        part.store(0, Relaxed);
    }
    ENABLED.store(true, Relaxed);
}

/// Stops counting; the seconds of each part since [`start`].
pub fn stop() -> Vec<(Part, f64)> {
    ENABLED.store(false, Relaxed);
    Part::ALL.iter().map(|&part| (part, NANOSECONDS[part as usize].load(Relaxed) as f64 * 1e-9)).collect()
}

/// Runs `f`, and counts its time if counting is on.
#[inline]
pub fn time<R>(part: Part, f: impl FnOnce() -> R) -> R {
    if !ENABLED.load(Relaxed) {
        return f();
    }
    let started = Instant::now();
    let result = f();
    NANOSECONDS[part as usize].fetch_add(started.elapsed().as_nanos() as u64, Relaxed);
    result
}
