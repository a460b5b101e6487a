//! Reductions over one slice for softmax-like kernels, generic over the instruction set.
//!
//! They run inside a [`pulp::WithSimd`] kernel, on blocks that fit the L1 cache. Four accumulators
//! hide the latency of additions; the order of additions depends only on the vector width.
//! Closures that are arguments need `#[inline(always)]`, or vector instructions become calls.

use pulp::Simd;

use crate::exp::exp_nonpositive;

/// The tail of a slice as one vector, padded with `fill`.
#[inline(always)]
pub fn load_tail<S: Simd>(simd: S, tail: &[f32], fill: f32) -> S::f32s {
    let inside = simd.mask_between_m32s(0, tail.len() as u32).mask();
    simd.select_f32s(inside, simd.partial_load_f32s(tail), simd.splat_f32s(fill))
}

/// `Σ term(v)` over the vectors of `xs`, the last one padded with `fill`.
#[inline(always)]
fn sum_of<S: Simd>(simd: S, xs: &[f32], fill: f32, term: impl Fn(S::f32s) -> S::f32s) -> f32 {
    let (vectors, tail) = S::as_simd_f32s(xs);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (fours, rest) = pulp::as_arrays::<4, _>(vectors);
    for four in fours {
        for (sum, &v) in sums.iter_mut().zip(four) {
            *sum = simd.add_f32s(*sum, term(v));
        }
    }
    for (sum, &v) in sums.iter_mut().zip(rest) {
        *sum = simd.add_f32s(*sum, term(v));
    }
    if !tail.is_empty() {
        sums[3] = simd.add_f32s(sums[3], term(load_tail(simd, tail, fill)));
    }
    fold_sum(simd, sums)
}

#[inline(always)]
fn fold_sum<S: Simd>(simd: S, v: [S::f32s; 4]) -> f32 {
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(v[0], v[1]), simd.add_f32s(v[2], v[3])))
}

/// The largest element, or −∞ for an empty slice. It may ignore a NaN.
#[inline(always)]
pub fn max<S: Simd>(simd: S, xs: &[f32]) -> f32 {
    let (vectors, tail) = S::as_simd_f32s(xs);
    let mut maxima = [simd.splat_f32s(f32::NEG_INFINITY); 4];
    let (fours, rest) = pulp::as_arrays::<4, _>(vectors);
    for four in fours {
        for (m, &v) in maxima.iter_mut().zip(four) {
            *m = simd.max_f32s(v, *m);
        }
    }
    for (m, &v) in maxima.iter_mut().zip(rest) {
        *m = simd.max_f32s(v, *m);
    }
    if !tail.is_empty() {
        maxima[3] = simd.max_f32s(load_tail(simd, tail, f32::NEG_INFINITY), maxima[3]);
    }
    simd.reduce_max_f32s(
        simd.max_f32s(simd.max_f32s(maxima[0], maxima[1]), simd.max_f32s(maxima[2], maxima[3])),
    )
}

/// `Σ xs`.
#[inline(always)]
pub fn sum<S: Simd>(simd: S, xs: &[f32]) -> f32 {
    sum_of(
        simd,
        xs,
        0.0,
        #[inline(always)]
        |v| v,
    )
}

/// `Σ (xs - shift)`, more accurate than `Σ xs - n · shift`.
#[inline(always)]
pub fn sum_shifted<S: Simd>(simd: S, xs: &[f32], shift: f32) -> f32 {
    let by = simd.splat_f32s(shift);
    sum_of(
        simd,
        xs,
        shift,
        #[inline(always)]
        |v| simd.sub_f32s(v, by),
    )
}

/// `Σ w` and `Σ w (xs - shift)`; a term with `w = 0` is 0, also where `xs` is infinite or NaN.
#[inline(always)]
pub fn weighted_sum_shifted<S: Simd>(simd: S, xs: &[f32], weights: &[f32], shift: f32) -> (f32, f32) {
    let by = simd.splat_f32s(shift);
    let (mut total, mut dot) = ([simd.splat_f32s(0.0); 4], [simd.splat_f32s(0.0); 4]);
    let ((xs, x_tail), (ws, w_tail)) = (S::as_simd_f32s(xs), S::as_simd_f32s(weights));
    for (i, (&x, &w)) in xs.iter().zip(ws).enumerate() {
        total[i % 4] = simd.add_f32s(total[i % 4], w);
        dot[i % 4] = simd.add_f32s(dot[i % 4], guarded_product(simd, w, simd.sub_f32s(x, by)));
    }
    if !x_tail.is_empty() {
        let (x, w) = (load_tail(simd, x_tail, shift), load_tail(simd, w_tail, 0.0));
        total[3] = simd.add_f32s(total[3], w);
        dot[3] = simd.add_f32s(dot[3], guarded_product(simd, w, simd.sub_f32s(x, by)));
    }
    (fold_sum(simd, total), fold_sum(simd, dot))
}

/// `w x`, and 0 for `w = 0`.
#[inline(always)]
fn guarded_product<S: Simd>(simd: S, w: S::f32s, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.equal_f32s(w, zero), zero, simd.mul_f32s(w, x))
}

/// `x ← e^{scale · (x − max)}` for every element; returns the sum. `max` is the largest element.
/// The sum is NaN if `max` is infinite or an element is NaN.
#[inline(always)]
pub fn exp_sum_in_place<S: Simd>(simd: S, xs: &mut [f32], max: f32, scale: f32) -> f32 {
    let (max, factor) = (simd.splat_f32s(max), simd.splat_f32s(scale));
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (vectors, tail) = S::as_mut_simd_f32s(xs);
    let (fours, rest) = pulp::as_arrays_mut::<4, _>(vectors);
    for four in fours.iter_mut() {
        // Four at a time, because the polynomial is a chain of dependent operations.
        for v in four {
            *v = relative_exp(simd, *v, max, factor);
        }
    }
    // A loop of its own: constants and four sums in the loop above need more than AVX2's registers.
    for four in fours {
        for (sum, &v) in sums.iter_mut().zip(&*four) {
            *sum = simd.add_f32s(*sum, v);
        }
    }
    for (sum, v) in sums.iter_mut().zip(rest) {
        *v = relative_exp(simd, *v, max, factor);
        *sum = simd.add_f32s(*sum, *v);
    }
    if !tail.is_empty() {
        let v = relative_exp(simd, load_tail(simd, tail, f32::NEG_INFINITY), max, factor);
        sums[3] = simd.add_f32s(sums[3], v);
        simd.partial_store_f32s(tail, v);
    }
    fold_sum(simd, sums)
}

/// `e^{factor · (v − max)}`.
#[inline(always)]
fn relative_exp<S: Simd>(simd: S, v: S::f32s, max: S::f32s, factor: S::f32s) -> S::f32s {
    exp_nonpositive(simd, simd.mul_f32s(simd.sub_f32s(v, max), factor))
}

/// `x ← x · factor + offset`.
#[inline(always)]
pub fn scale_add_in_place<S: Simd>(simd: S, xs: &mut [f32], factor: f32, offset: f32) {
    let (factor, offset) = (simd.splat_f32s(factor), simd.splat_f32s(offset));
    crate::exp::map_in_place(
        simd,
        xs,
        #[inline(always)]
        |v| simd.mul_add_e_f32s(v, factor, offset),
    );
}

/// `x ← x · factor + y · y_factor`.
#[inline(always)]
pub fn scale_add_slice_in_place<S: Simd>(simd: S, xs: &mut [f32], factor: f32, ys: &[f32], y_factor: f32) {
    let (factor, y_factor) = (simd.splat_f32s(factor), simd.splat_f32s(y_factor));
    let ((xs, x_tail), (ys, y_tail)) = (S::as_mut_simd_f32s(xs), S::as_simd_f32s(ys));
    for (x, &y) in xs.iter_mut().zip(ys) {
        *x = simd.mul_add_e_f32s(*x, factor, simd.mul_f32s(y, y_factor));
    }
    if !x_tail.is_empty() {
        let (x, y) = (simd.partial_load_f32s(x_tail), simd.partial_load_f32s(y_tail));
        simd.partial_store_f32s(x_tail, simd.mul_add_e_f32s(x, factor, simd.mul_f32s(y, y_factor)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;
    use pulp::WithSimd;

    struct All(Vec<f32>, Vec<f32>);
    impl WithSimd for All {
        type Output = ([f32; 6], Vec<f32>);
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let Self(mut xs, ws) = self;
            let top = max(simd, &xs);
            let (total, dot) = weighted_sum_shifted(simd, &xs, &ws, top);
            let plain = [top, sum(simd, &xs), sum_shifted(simd, &xs, top), total, dot];
            let exponentials = exp_sum_in_place(simd, &mut xs, top, 0.5);
            scale_add_slice_in_place(simd, &mut xs, 3.0, &ws, -2.0);
            scale_add_in_place(simd, &mut xs, 0.5, 1.0);
            ([plain[0], plain[1], plain[2], plain[3], plain[4], exponentials], xs)
        }
    }

    #[test]
    fn every_length_and_isa_agrees_with_plain_loops() {
        for n in (1..70).chain([4096, 4101]) {
            let xs: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 10.0).collect();
            let ws: Vec<f32> = (0..n).map(|i| (i % 3) as f32).collect();
            let top = xs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exact = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
            let x = |i: usize| xs[i] as f64;
            let want = [
                top as f64,
                exact(&|i| x(i)),
                exact(&|i| x(i) - top as f64),
                exact(&|i| ws[i] as f64),
                exact(&|i| ws[i] as f64 * (x(i) - top as f64)),
                exact(&|i| (0.5 * (x(i) - top as f64)).exp()),
            ];
            for isa in Isa::available() {
                let (got, ys) = isa.run(All(xs.clone(), ws.clone()));
                for (got, want) in got.iter().zip(want) {
                    assert!(
                        (*got as f64 - want).abs() <= 2e-6 * want.abs().max(n as f64),
                        "{n} {}",
                        isa.name()
                    );
                }
                for i in 0..n {
                    let want = 0.5 * (3.0 * (0.5 * (x(i) - top as f64)).exp() - 2.0 * ws[i] as f64) + 1.0;
                    assert!((ys[i] as f64 - want).abs() < 2e-6, "{n} {i} {}", isa.name());
                }
            }
        }
    }
}
