//! Memory of the losses beyond their inputs, counted by the allocator.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::alloc::System;
use std::sync::Arc;

use surprisal_kernels::cross_entropy::GradOutput;
use surprisal_kernels::linear_cross_entropy::{Head, HeadGradients, linear_cross_entropy};
use surprisal_loss::{CrossEntropy, SmoothingTarget, Targets};
use surprisal_platform::counting_allocator::{CountingAllocator, peak_of};
use surprisal_platform::threads::Pool;

#[global_allocator]
static ALLOCATOR: CountingAllocator<System> = CountingAllocator::new(System);

const MIB: usize = 1 << 20;
const VOCAB: usize = 50_257;

/// One test: two at once would count each other's memory.
#[test]
fn in_place_takes_a_mebibyte_and_a_head_one_chunk() {
    let pool = Arc::new(Pool::new(2).unwrap());
    let rows = 64;
    let targets: Vec<u32> = (0..rows).map(|i| i * 701).collect();
    let targets = Targets::Classes(&targets);
    let smooth = |toward| CrossEntropy::new().label_smoothing(0.1).unwrap().smooth_toward(toward).unwrap();
    let weights = vec![0.5_f32; VOCAB];
    let everything = smooth(SmoothingTarget::Unmasked).z_loss(1e-4).unwrap().softcap(30.0).unwrap();
    for (name, options) in [
        ("plain", CrossEntropy::new()),
        ("smoothed", smooth(SmoothingTarget::Uniform)),
        ("everything", everything.class_weights(weights).unwrap()),
    ] {
        let options = options.pool(Arc::clone(&pool));
        let mut logits: Vec<f32> = (0..64 * VOCAB).map(|i| (i % 101) as f32 / 20.0).collect();
        for z in logits.iter_mut().step_by(97) {
            *z = f32::NEG_INFINITY;
        }
        for i in 0..64 {
            logits[i * VOCAB + i * 701] = 1.0;
        }
        let (value, extra) = peak_of(|| options.forward_backward_in_place(&mut logits, VOCAB, targets));
        assert_eq!(value.unwrap().count, 64);
        let extra = extra.unwrap();
        assert!(extra <= MIB, "{name}: {extra} bytes");
    }

    // More rows than a chunk holds: the two gradients are the caller's, and beyond them there is
    // one chunk of logits.
    let (rows, width) = (200_usize, 8);
    let hidden: Vec<f32> = (0..rows * width).map(|i| (i % 7) as f32 / 7.0).collect();
    let weight: Vec<f32> = (0..VOCAB * width).map(|i| (i % 11) as f32 / 11.0).collect();
    let (mut over_hidden, mut over_weight) = (vec![0.0; hidden.len()], vec![0.0; weight.len()]);
    let targets: Vec<u32> = (0..rows as u32).collect();
    let spec = surprisal_kernels::cross_entropy::Spec::new(VOCAB);
    let (totals, extra) = peak_of(|| {
        let head = Head { hidden: &hidden, weight: &weight, bias: None, width };
        let gradients = HeadGradients { hidden: &mut over_hidden, weight: &mut over_weight, bias: None };
        let upstream = GradOutput::Scalar { ce: 1.0, z_term: 1.0 };
        let targets = Targets::Classes(&targets);
        linear_cross_entropy(&head, targets, &spec, Some((upstream, gradients)), None, Some(&pool))
    });
    assert_eq!(totals.unwrap().rows, rows);
    let extra = extra.unwrap();
    assert!(extra <= 32 * MIB, "{extra} bytes, but all logits are {}", 4 * rows * VOCAB);
}
