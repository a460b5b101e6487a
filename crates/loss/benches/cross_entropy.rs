//! Criterion benches of the loss in place: `cargo bench -p surprisal-loss`. The numbers of the
//! README come from `surprisal bench loss` and `scripts/bench_loss.py`; these watch for changes
//! between two versions.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use surprisal_kernels::cross_entropy::Targets;
use surprisal_loss::CrossEntropy;
use surprisal_platform::threads::Pool;

fn in_place(criterion: &mut Criterion) {
    let Ok(pool) = Pool::new(2) else { return };
    let pool = Arc::new(pool);
    for (rows, vocab) in [(8192, 65), (512, 50257)] {
        for epsilon in [0.0, 0.1] {
            let Ok(loss) = CrossEntropy::new().label_smoothing(epsilon) else { return };
            let loss = loss.pool(Arc::clone(&pool));
            let logits: Vec<f32> = (0..rows * vocab).map(|i| (i * 7919 % 1013) as f32 / 200.0).collect();
            let targets: Vec<u32> = (0..rows).map(|row| (row * 31 % vocab) as u32).collect();
            criterion.bench_function(&format!("in_place/{rows}x{vocab}/{epsilon}"), |bencher| {
                bencher.iter_batched_ref(
                    || logits.clone(),
                    |logits| {
                        loss.forward_backward_in_place(logits, vocab, Targets::Classes(&targets))
                            .map(|value| value.loss)
                    },
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

criterion_group!(benches, in_place);
criterion_main!(benches);
