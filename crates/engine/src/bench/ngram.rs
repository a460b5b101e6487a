//! Benchmark of an n-gram model: estimation and queries.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use surprisal_model::LanguageModel;
use surprisal_model::ngram::{NgramConfig, NgramModel, Smoothing, State};
use surprisal_platform::threads::Pool;

use crate::error::Result;

const VOCAB: usize = 10_000;
const TOKENS: usize = 1_000_000;
const ORDER: usize = 5;
/// Contexts whose whole distribution is computed.
const CONTEXTS: usize = 20;

/// Names of the cases.
pub const CASES: [&str; 5] = ["estimate", "batch", "point", "distribution", "distribution_by_points"];

/// Times each of `cases`, names of [`CASES`], for about `seconds`: at least three runs after a
/// warm-up run. Calls `tell` with each result, a JSON object with `units` per run: words, tokens or
/// contexts.
///
/// # Errors
/// A failure of the model; an error of `tell`.
pub fn measure(
    cases: &[&'static str],
    threads: usize,
    seconds: f64,
    mut tell: impl FnMut(Value) -> Result<()>,
) -> Result<()> {
    let pool = Pool::new(threads)?;
    let text = text();
    let (train, test) = text.split_at(TOKENS);
    let config = NgramConfig::new(ORDER, Smoothing::ModifiedKneserNey);
    let estimate = || pool.install(|| NgramModel::estimate(train, VOCAB, &config));
    let model = estimate()?;
    let view = model.trie().view();
    let contexts: Vec<&[u32]> =
        test.chunks_exact(test.len() / CONTEXTS).map(|chunk| &chunk[chunk.len() - ORDER..]).collect();
    for &name in cases {
        let (median, units) = match name {
            "estimate" => (clock(seconds, || Ok(estimate().map(drop)?))?, TOKENS),
            "batch" => {
                let score =
                    || Ok(pool.install(|| model.log_probs(test, 0)).map(|scores| drop(black_box(scores)))?);
                (clock(seconds, score)?, test.len())
            }
            "point" => {
                let score = || {
                    let mut state = State::EMPTY;
                    for &word in test {
                        black_box(view.advance(&mut state, word));
                    }
                    Ok(())
                };
                (clock(seconds, score)?, test.len())
            }
            "distribution" => {
                let all = || {
                    for context in &contexts {
                        black_box(model.next_log_probs(context)?);
                    }
                    Ok(())
                };
                (clock(seconds, all)?, contexts.len())
            }
            _ => {
                let all = || {
                    for context in &contexts {
                        let state = view.state_after(context);
                        for word in 0..VOCAB as u32 {
                            black_box(view.advance(&mut state.clone(), word).ln());
                        }
                    }
                    Ok(())
                };
                (clock(seconds, all)?, contexts.len())
            }
        };
        let seconds = median.as_secs_f64();
        tell(json!({
            "event": "bench", "name": name, "vocab": VOCAB, "order": ORDER, "ngrams": model.parameters(),
            "threads": threads, "median_ms": seconds * 1e3, "units": units,
            "ns_per_unit": seconds * 1e9 / units as f64,
        }))?;
    }
    Ok(())
}

/// Words with a skewed distribution that depends on the word before, so that n-grams repeat.
fn text() -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut word = 0_u32;
    let next = |_| {
        let rank = (VOCAB as f64).powf(random.random::<f64>()) - 1.0;
        word = if random.random::<f64>() < 0.6 {
            (word * 7 + rank as u32 % 8) % VOCAB as u32
        } else {
            rank as u32
        };
        word
    };
    (0..TOKENS + TOKENS / 10).map(next).collect()
}

/// Median time of `run`, after a warm-up run.
fn clock(seconds: f64, mut run: impl FnMut() -> Result<()>) -> Result<Duration> {
    run()?;
    let (mut times, started) = (Vec::new(), Instant::now());
    while times.len() < 3 || started.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}
