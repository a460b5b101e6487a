//! How fast the losses are here: cases, a clock and a median. The program that prints them installs
//! [`surprisal_platform::counting::Counting`] to have the memory counted too.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor, Var};
use surprisal_kernels::cross_entropy::{Targets, Upstream};
use surprisal_kernels::linear_cross_entropy::{Gradients, Head, linear_cross_entropy};
use surprisal_platform::counting::peak_of;
use surprisal_platform::threads::Pool;

use crate::error::{LossError, Result};
use crate::options::CrossEntropy;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Slices: loss and gradient, in place over the logits.
    InPlace,
    /// Slices: the loss alone.
    Evaluate,
    /// candle: `apply`, then `backward()`.
    Candle,
    /// candle-nn's own `loss::cross_entropy`, then `backward()`: what there was before.
    CandleNn,
    /// Slices: hidden states and head in, loss and both gradients out.
    Linear,
    /// No loss: `N · V` numbers copied by the same threads, the machine's bandwidth.
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

/// A shape and what to do with it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `N`.
    pub rows: usize,
    /// `V`.
    pub vocab: usize,
    /// `D`, for [`Variant::Linear`].
    pub width: usize,
    /// What is timed.
    pub variant: Variant,
    /// `ε`.
    pub label_smoothing: f64,
}

/// What came out.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// What was timed.
    pub case: Case,
    /// By how many threads.
    pub threads: usize,
    /// How often.
    pub runs: usize,
    /// The middle run, in milliseconds.
    pub median_ms: f64,
    /// The fastest run, in milliseconds.
    pub best_ms: f64,
    /// The traffic that the case cannot avoid (logits read, gradient written) over the median, in 10⁹ bytes a second.
    pub gb_per_s: f64,
    /// The most memory in use beyond the inputs, and for [`Variant::Linear`] the two gradients; `None` if uncounted.
    pub extra_bytes: Option<usize>,
}

/// The cases of the tables: a large vocabulary, characters, and a head of 384.
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

/// Times one case on `threads` threads for about `seconds`, at least three runs after one that warms up.
///
/// # Errors
/// When the pool cannot start or a shape cannot be computed.
pub fn measure(case: Case, threads: usize, seconds: f64) -> Result<Measured> {
    let pool = Pool::new(threads).map_err(|_| LossError::Conflict("the threads could not be started"))?;
    let pool = Arc::new(pool);
    let options = CrossEntropy::new().label_smoothing(case.label_smoothing)?.pool(Arc::clone(&pool));
    let (elements, targets) = (case.rows * case.vocab, classes(case));
    let mut clock = Clock { budget: Duration::from_secs_f64(seconds), times: Vec::new(), extra: None };
    let mut sweeps = 2.0;
    match case.variant {
        Variant::InPlace => {
            let mut logits = vec![0.0; elements];
            let before = |logits: &mut Vec<f32>| refill(logits, &pool);
            clock.run(&mut logits, before, |logits| {
                options.gradient_in_place(logits, case.vocab, Targets::Classes(&targets)).map(|v| v.loss)
            })?;
        }
        Variant::Evaluate => {
            sweeps = 1.0;
            let mut logits = vec![0.0; elements];
            refill(&mut logits, &pool);
            clock.run(
                &mut logits,
                |_| (),
                |logits| {
                    options.evaluate(logits, case.vocab, Targets::Classes(&targets), None).map(|v| v.loss)
                },
            )?;
        }
        Variant::Candle | Variant::CandleNn => {
            let mut logits = vec![0.0; elements];
            refill(&mut logits, &pool);
            let logits = Var::from_tensor(&Tensor::from_vec(logits, (case.rows, case.vocab), &Device::Cpu)?)?;
            let targets = Tensor::from_slice(&targets, case.rows, &Device::Cpu)?;
            clock.run(
                &mut (),
                |()| (),
                |()| {
                    let loss = match case.variant {
                        Variant::Candle => options.apply(&logits, &targets)?.value,
                        _ => candle_nn::loss::cross_entropy(&logits, &targets)?,
                    };
                    let gradients = loss.backward()?;
                    black_box(gradients.get(&logits).is_some());
                    Ok(loss.to_scalar::<f32>()? as f64)
                },
            )?;
        }
        Variant::Linear => linear(case, &targets, &pool, &mut clock)?,
        Variant::Copy => {
            let mut from = vec![0.0_f32; elements];
            refill(&mut from, &pool);
            let mut into = vec![0.0_f32; elements];
            clock.run(
                &mut into,
                |_| (),
                |into| {
                    copy(&pool, &from, into);
                    Ok(0.0)
                },
            )?;
        }
    }
    clock.times.sort_by(f64::total_cmp);
    let median_ms = clock.times[clock.times.len() / 2];
    Ok(Measured {
        case,
        threads,
        runs: clock.times.len(),
        median_ms,
        best_ms: clock.times[0],
        gb_per_s: sweeps * 4.0 * elements as f64 / (median_ms * 1e6),
        extra_bytes: clock.extra,
    })
}

fn linear(case: Case, targets: &[u32], pool: &Pool, clock: &mut Clock) -> Result<()> {
    let (mut hidden, mut weight) = (vec![0.0; case.rows * case.width], vec![0.0; case.vocab * case.width]);
    refill(&mut hidden, pool);
    refill(&mut weight, pool);
    for w in &mut weight {
        *w *= 0.05;
    }
    let options = CrossEntropy::new().label_smoothing(case.label_smoothing)?;
    let mut buffers = (vec![0.0; hidden.len()], vec![0.0; weight.len()]);
    clock.run(
        &mut buffers,
        |_| (),
        |(over_hidden, over_weight)| {
            let factor = 1.0 / case.rows as f64;
            let head = Head { hidden: &hidden, weight: &weight, bias: None, width: case.width };
            let gradients = Gradients { hidden: over_hidden, weight: over_weight, bias: None };
            let upstream = Upstream::Same { main: factor, z: factor };
            let spec = options.spec(case.vocab);
            let targets = Targets::Classes(targets);
            Ok(linear_cross_entropy(&head, targets, &spec, Some((upstream, gradients)), None, Some(pool))?
                .main)
        },
    )
}

/// Each thread copies its share.
fn copy(pool: &Pool, from: &[f32], into: &mut [f32]) {
    let share = from.len().div_ceil(pool.threads()).max(1);
    let parts: Vec<_> = from.chunks(share).zip(into.chunks_mut(share)).collect();
    let parts: Vec<_> = parts.into_iter().map(|(from, into)| std::sync::Mutex::new((from, into))).collect();
    pool.map(parts.len(), |i| {
        if let Ok(mut part) = parts[i].lock() {
            let (from, into) = &mut *part;
            into.copy_from_slice(from);
        }
    });
}

struct Clock {
    budget: Duration,
    times: Vec<f64>,
    extra: Option<usize>,
}

impl Clock {
    /// Times `work`, with `prepare` before each run untimed. The first run warms up and has its memory counted.
    fn run<T>(
        &mut self,
        state: &mut T,
        prepare: impl Fn(&mut T),
        work: impl Fn(&mut T) -> Result<f64>,
    ) -> Result<()> {
        prepare(state);
        let (result, extra) = peak_of(|| work(state));
        black_box(result?);
        self.extra = extra;
        let start = Instant::now();
        while self.times.len() < 3 || (start.elapsed() < self.budget && self.times.len() < 1001) {
            prepare(state);
            let from = Instant::now();
            black_box(work(state)?);
            self.times.push(from.elapsed().as_secs_f64() * 1e3);
        }
        Ok(())
    }
}

/// Uneven logits of about ±4, the same in every run; written by all threads, as a model's product leaves them in their
/// caches.
fn refill(logits: &mut [f32], pool: &Pool) {
    let pattern: Vec<f32> = (0..65_521_u32)
        .map(|i| {
            let mixed = i.wrapping_mul(2_654_435_769) >> 8;
            8.0 * (mixed as f32 / (1 << 24) as f32) - 4.0
        })
        .collect();
    pool.share(logits.chunks_mut(pattern.len()).collect(), |chunk| {
        let n = chunk.len();
        chunk.copy_from_slice(&pattern[..n]);
    });
}

fn classes(case: Case) -> Vec<u32> {
    (0..case.rows).map(|i| (i.wrapping_mul(7919) % case.vocab.max(1)) as u32).collect()
}
