//! Benchmark of the losses on this machine. A program that installs
//! [`surprisal_platform::counting_allocator::CountingAllocator`] as its allocator also gets the
//! memory used.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor, Var};
use surprisal_kernels::cross_entropy::{GradOutput, Targets};
use surprisal_kernels::linear_cross_entropy::{Head, HeadGradients, linear_cross_entropy};
use surprisal_platform::counting_allocator::peak_of;
use surprisal_platform::threads::Pool;

use crate::error::{LossError, Result};
use crate::options::CrossEntropy;

/// The operation that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Slices: loss and gradient, in place over the logits.
    InPlace,
    /// Slices: the loss alone.
    Evaluate,
    /// candle: `apply`, then `backward()`.
    Candle,
    /// candle-nn's `loss::cross_entropy`, then `backward()`: the baseline.
    CandleNn,
    /// Slices: loss of a linear head, with the gradients of hidden states and weights.
    Linear,
    /// No loss: `N · V` numbers copied by the same threads, for the memory bandwidth.
    Copy,
}

impl Variant {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::InPlace => "in_place",
            Self::Evaluate => "evaluate",
            Self::Candle => "candle",
            Self::CandleNn => "candle_nn",
            Self::Linear => "linear",
            Self::Copy => "copy",
        }
    }
}

/// An operation with its sizes.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `N`.
    pub rows: usize,
    /// `V`.
    pub vocab: usize,
    /// `D`, for [`Variant::Linear`].
    pub width: usize,
    /// The operation.
    pub variant: Variant,
    /// `ε`.
    pub label_smoothing: f64,
}

/// Result of a benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Number of timed runs.
    pub runs: usize,
    /// Median time of a run, in milliseconds.
    pub median_ms: f64,
    /// Shortest time of a run, in milliseconds.
    pub best_ms: f64,
    /// Least memory traffic (logits read, gradient written) over the median time, in 10⁹ bytes per
    /// second.
    pub gb_per_s: f64,
    /// Peak memory beyond the inputs (and, for [`Variant::Linear`], the two gradients) in bytes;
    /// `None` without the counting allocator.
    pub extra_bytes: Option<usize>,
}

/// The usual cases: a large vocabulary, characters, and linear heads.
pub fn default_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, vocab) in [(4096, 50257), (8192, 65)] {
        let case = |variant, label_smoothing| Case { rows, vocab, width: 0, variant, label_smoothing };
        cases.push(case(Variant::Copy, 0.0));
        for epsilon in [0.0, 0.1] {
            cases.extend([Variant::InPlace, Variant::Evaluate].map(|variant| case(variant, epsilon)));
        }
        cases.extend([case(Variant::Candle, 0.0), case(Variant::CandleNn, 0.0)]);
    }
    for (rows, vocab, width) in [(384, 65, 128), (4096, 50257, 384)] {
        cases.push(Case { rows, vocab, width, variant: Variant::Linear, label_smoothing: 0.0 });
    }
    cases
}

/// Times one case on `threads` threads for about `seconds`: at least three runs after a warm-up
/// run.
///
/// # Errors
/// When the pool cannot start or a shape cannot be computed.
pub fn measure(case: Case, threads: usize, seconds: f64) -> Result<Measured> {
    let pool = Pool::new(threads).map_err(|_| LossError::Conflict("the threads could not be started"))?;
    let pool = Arc::new(pool);
    let options = CrossEntropy::new().label_smoothing(case.label_smoothing)?.pool(Arc::clone(&pool));
    let Case { rows, vocab, .. } = case;
    let elements = rows * vocab;
    let classes: Vec<u32> = (0..rows).map(|i| (i.wrapping_mul(7919) % vocab.max(1)) as u32).collect();
    let mut run: Box<dyn FnMut() -> Result<Run>> = match case.variant {
        Variant::InPlace => {
            let mut logits = vec![0.0; elements];
            Box::new(move || {
                refill(&mut logits, &pool);
                timed(|| {
                    Ok(options
                        .forward_backward_in_place(&mut logits, vocab, Targets::Classes(&classes))?
                        .loss)
                })
            })
        }
        Variant::Evaluate => {
            let logits = filled(elements, &pool);
            Box::new(move || {
                timed(|| Ok(options.evaluate(&logits, vocab, Targets::Classes(&classes), None)?.loss))
            })
        }
        Variant::Candle | Variant::CandleNn => {
            let logits = Tensor::from_vec(filled(elements, &pool), (rows, vocab), &Device::Cpu)?;
            let logits = Var::from_tensor(&logits)?;
            let targets = Tensor::from_slice(&classes, rows, &Device::Cpu)?;
            Box::new(move || {
                timed(|| {
                    let loss = match case.variant {
                        Variant::Candle => options.apply(&logits, &targets)?.value,
                        _ => candle_nn::loss::cross_entropy(&logits, &targets)?,
                    };
                    black_box(loss.backward()?);
                    Ok(f64::from(loss.to_scalar::<f32>()?))
                })
            })
        }
        Variant::Linear => {
            let hidden = filled(rows * case.width, &pool);
            let weight: Vec<f32> = filled(vocab * case.width, &pool).into_iter().map(|w| w * 0.05).collect();
            let (mut over_hidden, mut over_weight) = (vec![0.0; hidden.len()], vec![0.0; weight.len()]);
            let factor = 1.0 / rows as f64;
            let upstream = GradOutput::Scalar { ce: factor, z_term: factor };
            Box::new(move || {
                let head = Head { hidden: &hidden, weight: &weight, bias: None, width: case.width };
                let (hidden, weight) = (&mut over_hidden[..], &mut over_weight[..]);
                let gradients = Some((upstream, HeadGradients { hidden, weight, bias: None }));
                let (targets, spec) = (Targets::Classes(&classes), options.spec(vocab));
                timed(|| Ok(linear_cross_entropy(&head, targets, &spec, gradients, None, Some(&pool))?.ce))
            })
        }
        Variant::Copy => {
            let (from, mut into) = (filled(elements, &pool), vec![0.0_f32; elements]);
            Box::new(move || {
                timed(|| {
                    let share = elements.div_ceil(pool.threads()).max(1);
                    let parts = from.chunks(share).zip(into.chunks_mut(share)).collect();
                    pool.map_including_caller(parts, |(from, into): (&[f32], &mut [f32])| {
                        into.copy_from_slice(from);
                    });
                    Ok(0.0)
                })
            })
        }
    };
    let (_, extra_bytes) = run()?;
    let (start, budget) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut times = Vec::new();
    while times.len() < 3 || (start.elapsed() < budget && times.len() < 1001) {
        times.push(run()?.0.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let median_ms = times[times.len() / 2];
    let sweeps = if case.variant == Variant::Evaluate { 1.0 } else { 2.0 };
    Ok(Measured {
        runs: times.len(),
        median_ms,
        best_ms: times[0],
        gb_per_s: sweeps * 4.0 * elements as f64 / (median_ms * 1e6),
        extra_bytes,
    })
}

/// The time of a run and its peak memory in bytes, if that is counted.
type Run = (Duration, Option<usize>);

fn timed(work: impl FnOnce() -> Result<f64>) -> Result<Run> {
    let from = Instant::now();
    let (result, extra) = peak_of(work);
    black_box(result?);
    Ok((from.elapsed(), extra))
}

fn filled(elements: usize, pool: &Pool) -> Vec<f32> {
    let mut logits = vec![0.0; elements];
    refill(&mut logits, pool);
    logits
}

/// Writes varied logits of about ±4, the same in every run. All threads write, so that the logits
/// are in their caches as after a matmul.
fn refill(logits: &mut [f32], pool: &Pool) {
    let pattern: Vec<f32> = (0..65_521_u32)
        .map(|i| {
            let mixed = i.wrapping_mul(2_654_435_769) >> 8;
            8.0 * (mixed as f32 / (1 << 24) as f32) - 4.0
        })
        .collect();
    pool.map_including_caller(logits.chunks_mut(pattern.len()).collect(), |chunk| {
        let n = chunk.len();
        chunk.copy_from_slice(&pattern[..n]);
    });
}
