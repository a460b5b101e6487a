//! Benchmark of a training step (forward, backward, clipping, AdamW) on random tokens.

use std::time::Instant;

use rand::Rng;
use serde_json::{Map, Value, json};
use surprisal_kernels::peak;
use surprisal_kernels::simd::Isa;
use surprisal_loss::ObjectiveConfig;
use surprisal_model::neural::{Neural, NeuralConfig, RecurrentConfig, TransformerConfig};
use surprisal_ops::{Precision, profile};
use surprisal_platform::threads::Pool;
use surprisal_text::{Batch, TokenText};

use crate::config;
use crate::error::Result;
use crate::rng::{RngStream, rng_for};
use crate::train::objective::ConfiguredObjective;
use crate::train::optimiser::Optimiser;
use crate::train::step::{Hidden, Step};

/// A model's shape, a batch and a precision.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Rows.
    pub batch_size: usize,
    /// The shape.
    pub model: NeuralConfig,
    /// Input precision of linear layers.
    pub precision: Precision,
    /// Floating-point operations of a step.
    pub flop: f64,
}

/// nanoGPT's two shapes for characters of Shakespeare, the laptop's (0.80 M) and the GPU's (10.65
/// M), and an LSTM of two layers.
pub fn cases() -> Vec<Case> {
    let transformer = |block_size, n_layer, n_head, n_embd| TransformerConfig {
        vocab_size: 65,
        block_size,
        n_layer,
        n_head,
        n_embd,
        ..TransformerConfig::default()
    };
    let mut shapes = Vec::new();
    for (name, batch_size, config) in
        [("cpu", 12, transformer(64, 4, 4, 128)), ("10m", 64, transformer(256, 6, 6, 384))]
    {
        let flop = flop(&config, batch_size * config.block_size);
        shapes.push((name, batch_size, NeuralConfig::Transformer(config), flop));
    }
    let (vocab_size, n) = (65, 128);
    let config =
        RecurrentConfig { vocab_size, block_size: 12, n_layer: 2, n_embd: n, n_hidden: n, dropout: 0.0 };
    // Six per weight and token: two layers of eight matrices, and the head.
    let flop = (6 * 64 * config.block_size * (2 * 8 * n * n + vocab_size * n)) as f64;
    shapes.push(("lstm", 64, NeuralConfig::Lstm(config), flop));
    let mut cases = Vec::new();
    for (name, batch_size, model, flop) in shapes {
        for (suffix, precision) in [("f32", Precision::F32), ("bf16", Precision::Bf16)] {
            let (name, model) = (format!("{name}/{suffix}"), model.clone());
            cases.push(Case { name, batch_size, model, precision, flop });
        }
    }
    cases
}

/// Times `case` for about `seconds`: at least three steps after two warm-up steps. Gives a JSON
/// object with times, tokens and floating-point operations per second, these also as a fraction of
/// the f32 peak of all threads, the peak memory of the process in bytes, and shares of the threads'
/// time. An f32 fraction above 1 is null: the measurement of the peak failed.
///
/// # Errors
/// An error of candle.
pub fn measure(case: &Case, threads: usize, seconds: f64) -> Result<Value> {
    let pool = Pool::new(threads)?;
    let shards = threads.min(case.batch_size);
    let mut training = Training::new(case, &config::Optim::default(), shards, &pool)?;
    let mut update_seconds = 0.0;
    let mut run = || -> Result<f64> {
        let [total, update] = training.step(&pool)?;
        update_seconds += update;
        Ok(total)
    };
    for _ in 0..2 {
        run()?;
    }
    let mut times = Vec::new();
    let started = Instant::now();
    while times.len() < 3 || started.elapsed().as_secs_f64() < seconds {
        times.push(run()?);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    // The clocks of the parts cost time, so their steps are separate.
    let profiled = times.len().min(10);
    let before = Instant::now();
    profile::start();
    for _ in 0..profiled {
        run()?;
    }
    let parts = profile::stop();
    let total = before.elapsed().as_secs_f64() * threads as f64;
    let update_share = update_seconds / (times.len() + 2 + profiled) as f64 / median;
    let mut shares: Map<String, Value> =
        parts.map(|(part, seconds)| (part.to_owned(), json!(seconds / total))).collect();
    shares.insert("optimiser".into(), update_share.into());
    let rest = 1.0 - shares.values().filter_map(Value::as_f64).sum::<f64>();
    shares.insert("rest".into(), rest.into());
    let block_size = case.model.block_size();
    let tokens = case.batch_size * block_size;
    let gflop_per_s = case.flop / median * 1e-9;
    let fraction = gflop_per_s / peak_gflop_per_s(&pool);
    let fraction = (fraction <= 1.0 || case.precision == Precision::Bf16).then_some(fraction);
    Ok(json!({
        "event": "bench", "name": case.name, "batch_size": case.batch_size, "block_size": block_size,
        "model": case.model, "threads": threads, "runs": times.len(),
        "median_ms": 1e3 * median, "best_ms": 1e3 * times[0], "tokens_per_s": tokens as f64 / median,
        "gflop_per_s": gflop_per_s, "fraction_of_f32_peak": fraction,
        "peak_bytes": surprisal_platform::memory::peak(), "fast": case.precision.is_fast(), "shares": shares,
    }))
}

/// A case in training.
pub(crate) struct Training {
    neural: Neural,
    hidden: Hidden,
    optimiser: Optimiser,
    objective: ConfiguredObjective,
    precision: Precision,
    lr: f64,
    batch: [Batch; 1],
}

impl Training {
    pub(crate) fn new(case: &Case, settings: &config::Optim, shards: usize, pool: &Pool) -> Result<Self> {
        let neural = Neural::new(&case.model, &mut rng_for(1, RngStream::Init))?;
        Ok(Self {
            hidden: Hidden::new(neural.windows(), case.batch_size),
            optimiser: Optimiser::new(&neural, settings, case.precision, shards)?,
            objective: ConfiguredObjective::new(&ObjectiveConfig::default(), &TokenText::default(), 0, pool)?,
            neural,
            precision: case.precision,
            lr: settings.lr,
            batch: [batch(case)],
        })
    }

    /// Makes a step; gives its seconds, and those of them in the optimiser.
    pub(crate) fn step(&mut self, pool: &Pool) -> Result<[f64; 2]> {
        let started = Instant::now();
        let Self { neural, objective, precision, .. } = self;
        let step = Step { neural, objective, precision: *precision, pool, team: None };
        step.gradients(&self.batch, 1, &mut self.optimiser.gradients, &mut self.hidden)?;
        let gathered = Instant::now();
        let norm = self.optimiser.gradient_norm(&self.neural, pool)?;
        self.optimiser.update(&self.neural, self.lr, norm, pool)?;
        Ok([started.elapsed().as_secs_f64(), gathered.elapsed().as_secs_f64()])
    }
}

/// Random tokens, the same every time.
fn batch(case: &Case) -> Batch {
    let (rows, cols) = (case.batch_size, case.model.block_size());
    let mut random = rng_for(1, RngStream::Sampling(0));
    let mut tokens = || {
        (0..rows * cols).map(|_| random.random_range(0..case.model.vocab_size() as u32)).collect::<Vec<_>>()
    };
    let (inputs, targets) = (tokens(), tokens());
    Batch { inputs, targets, rows, cols, targets_count: rows * cols, begins: false }
}

/// Floating-point operations of a step: six per weight of a matrix and token, twelve per pair of
/// positions that see each other and channel.
fn flop(model: &TransformerConfig, tokens: usize) -> f64 {
    let (c, l, t) = (model.n_embd as f64, model.n_layer as f64, model.block_size as f64);
    let weights = l * 12.0 * c * c + model.vocab_size as f64 * c;
    tokens as f64 * (6.0 * weights + 12.0 * l * c * (t + 1.0) / 2.0)
}

/// Floating-point performance of all threads at once, in f32 and in registers; the best of several
/// tries.
fn peak_gflop_per_s(pool: &Pool) -> f64 {
    let isa = Isa::current();
    let rate = |_| {
        let started = Instant::now();
        let operations: usize = pool.map(pool.threads(), |_| peak::multiply_adds(isa, 200_000)).iter().sum();
        operations as f64 / started.elapsed().as_secs_f64() * 1e-9
    };
    (0..100).map(rate).fold(0.0, f64::max)
}
