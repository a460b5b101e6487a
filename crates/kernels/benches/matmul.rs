//! matmul of this crate against the `gemm` crate, at shapes of training. The two alternate. Prints
//! medians in GFLOP/s and their ratio, one shape per line. Arguments select shapes by part of their
//! name: `cargo bench -p surprisal-kernels`.

#![allow(clippy::print_stdout, reason = "a bench is a program")]

use std::time::Instant;

use surprisal_kernels::matmul::{Matrix, MatrixMut, matmul};
use surprisal_kernels::simd::{Isa, with_isa};
use surprisal_platform::threads::Pool;

/// A matmul: (m, n, k), whether A and B are transposed, whether to accumulate, and the threads.
struct Shape {
    name: &'static str,
    size: (usize, usize, usize),
    transposed: (bool, bool),
    accumulate: bool,
    threads: usize,
}

const fn shape(
    name: &'static str,
    size: (usize, usize, usize),
    transposed: (bool, bool),
    accumulate: bool,
    threads: usize,
) -> Shape {
    Shape { name, size, transposed, accumulate, threads }
}

/// The head of a large vocabulary in chunks (logits and both gradients), and nanoGPT's small layers
/// (forward and both gradients) for one shard of a batch.
const SHAPES: [Shape; 19] = [
    shape("square", (1024, 1024, 1024), (false, false), false, 1),
    shape("square", (1024, 1024, 1024), (false, false), false, 2),
    shape("logits", (96, 50257, 384), (false, true), false, 2),
    shape("logits", (128, 50257, 384), (false, true), false, 2),
    shape("logits", (384, 50257, 384), (false, true), false, 2),
    shape("over_hidden", (96, 384, 50257), (false, false), false, 2),
    shape("over_hidden", (128, 384, 50257), (false, false), false, 2),
    shape("over_hidden", (384, 384, 50257), (false, false), false, 2),
    shape("over_weight", (50257, 384, 96), (true, false), true, 2),
    shape("over_weight", (50257, 384, 128), (true, false), true, 2),
    shape("over_weight", (50257, 384, 384), (true, false), true, 2),
    shape("forward", (768, 384, 128), (false, true), false, 1),
    shape("forward", (768, 128, 128), (false, true), false, 1),
    shape("forward", (768, 512, 128), (false, true), false, 1),
    shape("backward", (768, 128, 384), (false, false), false, 1),
    shape("backward", (768, 128, 512), (false, false), false, 1),
    shape("gradient", (384, 128, 768), (true, false), false, 1),
    shape("gradient", (512, 128, 768), (true, false), false, 1),
    shape("gradient", (128, 512, 768), (true, false), false, 1),
];

fn main() {
    let selected: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for shape in SHAPES {
        if selected.is_empty() || selected.iter().any(|w| shape.name.contains(w.as_str())) {
            compare(&shape);
        }
    }
}

fn compare(shape: &Shape) {
    let (m, n, k) = shape.size;
    let numbers = |count: usize| (0..count).map(|i| (i % 13) as f32 - 6.0).collect::<Vec<f32>>();
    let (a, b, mut c) = (numbers(m * k), numbers(k * n), numbers(m * n));
    let view = |data, rows, columns, transposed| {
        if transposed {
            Matrix::new(data, columns, rows).transposed()
        } else {
            Matrix::new(data, rows, columns)
        }
    };
    let (a, b) = (view(&a, m, k, shape.transposed.0), view(&b, k, n, shape.transposed.1));
    let Ok(pool) = Pool::new(shape.threads) else { return };
    let pool = (shape.threads > 1).then_some(&pool);
    // AVX2 and NEON use the gemm crate, with the machine's best instructions.
    let is_gemm = |isa: &Isa| matches!(isa.name(), "avx2" | "neon");
    let Some(gemm) = Isa::available().into_iter().find(is_gemm) else { return };
    let ours = Isa::available()[0];
    let mut times = [Vec::new(), Vec::new()];
    let start = Instant::now();
    while times[0].len() < 7 || (start.elapsed().as_secs_f64() < 1.0 && times[0].len() < 1001) {
        for (isa, times) in [ours, gemm].into_iter().zip(&mut times) {
            let from = Instant::now();
            with_isa(isa, || matmul(MatrixMut::new(&mut c, m, n), shape.accumulate, a, b, pool));
            times.push(from.elapsed().as_secs_f64());
        }
    }
    let [ours, gemm] = times.map(|mut times| {
        times.remove(0);
        times.sort_by(f64::total_cmp);
        2e-9 * (m * n * k) as f64 / times[times.len() / 2]
    });
    let (name, threads) = (shape.name, shape.threads);
    println!(
        "{name:12} {m:5} x {n:5} x {k:5}, {threads} threads: {ours:6.1} GFLOP/s, gemm {gemm:6.1}, ratio {:.2}",
        ours / gemm
    );
}
