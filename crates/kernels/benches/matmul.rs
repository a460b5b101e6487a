//! matmul with every instruction set of vectors, at shapes of training; they alternate. Prints
//! medians in GFLOP/s and as a fraction of the peak of the threads, one shape per line. Arguments
//! select shapes by part of their name: `cargo bench -p surprisal-kernels`.

#![allow(clippy::print_stdout, reason = "a bench is a program")]

use std::time::Instant;

use surprisal_kernels::matmul::{Matrix, MatrixMut, matmul};
use surprisal_kernels::peak::multiply_adds;
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
    shape("logits", (156, 50257, 384), (false, true), false, 2),
    shape("logits", (384, 50257, 384), (false, true), false, 2),
    shape("over_hidden", (96, 384, 50257), (false, false), false, 2),
    shape("over_hidden", (156, 384, 50257), (false, false), false, 2),
    shape("over_hidden", (384, 384, 50257), (false, false), false, 2),
    shape("over_weight", (50257, 384, 96), (true, false), true, 2),
    shape("over_weight", (50257, 384, 156), (true, false), true, 2),
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
    let isas: Vec<Isa> = Isa::available().into_iter().filter(|isa| !isa.is_portable()).collect();
    let (mut times, mut peaks) = (vec![Vec::new(); isas.len()], vec![0.0_f64; isas.len()]);
    let start = Instant::now();
    while times[0].len() < 7 || (start.elapsed().as_secs_f64() < 1.0 && times[0].len() < 1001) {
        for ((&isa, times), peak) in isas.iter().zip(&mut times).zip(&mut peaks) {
            let from = Instant::now();
            with_isa(isa, || matmul(MatrixMut::new(&mut c, m, n), shape.accumulate, a, b, pool));
            times.push(from.elapsed().as_secs_f64());
            let from = Instant::now();
            let operations = multiply_adds(isa, 2000) as f64;
            *peak = peak.max(1e-9 * operations / from.elapsed().as_secs_f64());
        }
    }
    let (name, threads) = (shape.name, shape.threads);
    print!("{name:12} {m:5} x {n:5} x {k:5}, {threads} threads:");
    for ((isa, mut times), peak) in isas.iter().zip(times).zip(peaks) {
        times.remove(0);
        times.sort_by(f64::total_cmp);
        let rate = 2e-9 * (m * n * k) as f64 / times[times.len() / 2];
        print!(" {} {rate:6.1} GFLOP/s, {:.2} of peak;", isa.name(), rate / (peak * threads as f64));
    }
    println!();
}
