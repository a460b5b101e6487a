//! Optimiser updates on flat parameters: AdamW, SGD, gradient sums, EMA, and the squared norm.
//!
//! Results have the same bits on every instruction set: without FMA and with a fixed order of sums.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

use pulp::{Simd, WithSimd};

use crate::elementary::Elementary;
use crate::simd::Isa;

/// A float type: `f32` for training, `f64` for tests.
pub trait Real:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + AddAssign
{
    /// The nearest value to `x`.
    fn from_f64(x: f64) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
}

impl Real for f64 {
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
}

/// AdamW (Loshchilov & Hutter 2019) for one parameter group, in PyTorch's order of operations:
///
/// ```text
/// g = grad_scale · gradient + l2 · θ          L2 penalty, uses θ before the decay
/// θ = (1 - lr · weight_decay) θ               decoupled decay
/// m = β₁ m + (1 - β₁) g
/// v = β₂ v + (1 - β₂) g²
/// θ = θ - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + eps)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// L2 penalty `l2 / 2 · |θ|²`, whose gradient is added to the scaled gradient.
    pub l2: f64,
    /// Factor on the gradient, for clipping and for averaging over tokens or shards.
    pub grad_scale: f64,
    /// The number of this step, from 1, for the bias corrections.
    pub step: u64,
}

impl AdamW {
    /// Updates `weights` and the moments `m` and `v` in one pass; all slices have the same length.
    pub fn update(&self, weights: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
        self.update_real(weights, gradient, m, v);
    }

    /// [`Self::update`] of either type, compiled where it is called.
    pub fn update_real<R: Real>(&self, weights: &mut [R], gradient: &[R], m: &mut [R], v: &mut [R]) {
        struct Pass<'a, R>(&'a AdamW, &'a mut [R], &'a [R], &'a mut [R], &'a mut [R]);
        impl<R: Real> WithSimd for Pass<'_, R> {
            type Output = ();
            // A plain loop, which the compiler vectorises for the chosen instruction set.
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(rule, weights, gradient, m, v) = self;
                let by = Elementary::new(simd);
                let (real, step) = (R::from_f64, rule.step.max(1) as f64);
                let (scale, l2, eps) = (real(rule.grad_scale), real(rule.l2), real(rule.eps));
                let (beta1, one_minus_beta1) = (real(rule.beta1), real(1.0 - rule.beta1));
                let (beta2, one_minus_beta2) = (real(rule.beta2), real(1.0 - rule.beta2));
                let decay_factor = real(1.0 - rule.lr * rule.weight_decay);
                let step_size = real(rule.lr / (1.0 - by.powf(rule.beta1, step)));
                let bias_correction2_sqrt = real((1.0 - by.powf(rule.beta2, step)).sqrt());
                let moments = m.iter_mut().zip(v);
                for ((w, &g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
                    let g = g * scale + l2 * *w;
                    *m = beta1 * *m + one_minus_beta1 * g;
                    *v = beta2 * *v + one_minus_beta2 * (g * g);
                    *w = decay_factor * *w - step_size * (*m / (v.sqrt() / bias_correction2_sqrt + eps));
                }
            }
        }
        debug_assert!(
            weights.len() == gradient.len() && weights.len() == m.len() && weights.len() == v.len()
        );
        Isa::current().run(Pass(self, weights, gradient, m, v));
    }
}

/// SGD with momentum (Polyak 1964), in PyTorch's order of operations:
///
/// ```text
/// g = grad_scale · gradient + l2 · θ
/// m = momentum · m + g                               m = 0 before the first step
/// θ = (1 - lr · weight_decay) θ - lr · m             Nesterov: - lr · (g + momentum · m)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the running sum of gradients; 0 for plain SGD.
    pub momentum: f64,
    /// Nesterov momentum.
    pub nesterov: bool,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// L2 penalty, added to the gradient.
    pub l2: f64,
    /// Factor on the gradient.
    pub grad_scale: f64,
}

impl Sgd {
    /// Updates `weights` and the momentum `m` in one pass; all slices have the same length.
    pub fn update(&self, weights: &mut [f32], gradient: &[f32], m: &mut [f32]) {
        self.update_real(weights, gradient, m);
    }

    /// [`Self::update`] of either type, compiled where it is called.
    pub fn update_real<R: Real>(&self, weights: &mut [R], gradient: &[R], m: &mut [R]) {
        struct Pass<'a, R>(&'a Sgd, &'a mut [R], &'a [R], &'a mut [R]);
        impl<R: Real> WithSimd for Pass<'_, R> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                let Self(rule, weights, gradient, m) = self;
                let real = R::from_f64;
                let (scale, l2, momentum) = (real(rule.grad_scale), real(rule.l2), real(rule.momentum));
                let (decay_factor, lr) = (real(1.0 - rule.lr * rule.weight_decay), real(rule.lr));
                let (now, past) = if rule.nesterov { (lr, lr * momentum) } else { (real(0.0), lr) };
                for ((w, &g), m) in weights.iter_mut().zip(gradient).zip(m) {
                    let g = g * scale + l2 * *w;
                    *m = momentum * *m + g;
                    *w = decay_factor * *w - (now * g + past * *m);
                }
            }
        }
        debug_assert!(weights.len() == gradient.len() && weights.len() == m.len());
        Isa::current().run(Pass(self, weights, gradient, m));
    }
}

/// Exponential moving average of the weights: `ema[i] += (1 - decay) (weights[i] - ema[i])`.
pub fn ema_update(ema: &mut [f32], weights: &[f32], decay: f64) {
    struct EmaUpdate<'a>(&'a mut [f32], &'a [f32], f32);
    impl WithSimd for EmaUpdate<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for (a, w) in self.0.iter_mut().zip(self.1) {
                *a += self.2 * (w - *a);
            }
        }
    }
    debug_assert_eq!(ema.len(), weights.len());
    Isa::current().run(EmaUpdate(ema, weights, (1.0 - decay) as f32));
}

/// Elementwise `dst[i] += src[i]`.
pub fn accumulate(dst: &mut [f32], src: &[f32]) {
    struct Accumulate<'a>(&'a mut [f32], &'a [f32]);
    impl WithSimd for Accumulate<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            for (d, s) in self.0.iter_mut().zip(self.1) {
                *d += s;
            }
        }
    }
    debug_assert_eq!(dst.len(), src.len());
    Isa::current().run(Accumulate(dst, src));
}

/// `Σ xs[i]²` in `f64`, in sixteen interleaved sums, in the same order on every machine.
pub fn sum_of_squares(xs: &[f32]) -> f64 {
    struct SumOfSquares<'a>(&'a [f32]);
    impl WithSimd for SumOfSquares<'_> {
        type Output = f64;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> f64 {
            let mut sums = [0.0_f64; 16];
            let chunks = self.0.chunks_exact(16);
            let tail = chunks.remainder();
            for chunk in chunks {
                for (sum, &x) in sums.iter_mut().zip(chunk) {
                    *sum += x as f64 * x as f64;
                }
            }
            for (sum, &x) in sums.iter_mut().zip(tail) {
                *sum += x as f64 * x as f64;
            }
            sums.iter().sum()
        }
    }
    Isa::current().run(SumOfSquares(xs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_isa;

    fn wave(n: usize, scale: f64) -> Vec<f64> {
        (0..n).map(|i| scale * (i as f64 * 0.37 + 0.2).sin()).collect()
    }

    fn narrow(xs: &[f64]) -> Vec<f32> {
        xs.iter().map(|&x| x as f32).collect()
    }

    const ADAMW: AdamW = AdamW {
        lr: 3e-3,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        l2: 0.02,
        grad_scale: 0.5,
        step: 1,
    };

    #[test]
    fn f32_follows_f64_with_the_same_bits_on_every_isa() {
        let n = 77;
        let mut exact = [wave(n, 1.0), vec![0.0; n], vec![0.0; n]];
        let mut runs: Vec<_> = Isa::available()
            .into_iter()
            .map(|isa| (isa, [narrow(&exact[0]), vec![0.0; n], vec![0.0; n]]))
            .collect();
        for step in 1..=30 {
            let optimiser = AdamW { step, ..ADAMW };
            let gradient = wave(n, 0.1 * step as f64);
            let [w, m, v] = &mut exact;
            optimiser.update_real(w, &gradient, m, v);
            for (isa, [w, m, v]) in &mut runs {
                with_isa(*isa, || optimiser.update_real(w, &narrow(&gradient), m, v));
            }
        }
        for (isa, state) in &runs {
            assert_eq!(state, &runs[0].1, "{}", isa.name());
            for (got, want) in state.iter().flatten().zip(exact.iter().flatten()) {
                assert!((*got as f64 - want).abs() < 3e-6, "{}: {got} for {want}", isa.name());
            }
        }
    }

    #[test]
    fn first_step_is_the_learning_rate_times_the_sign() {
        let optimiser = AdamW { weight_decay: 0.0, l2: 0.0, eps: 0.0, ..ADAMW };
        let (mut w, mut m, mut v) = ([1.0, -2.0], [0.0; 2], [0.0; 2]);
        optimiser.update_real(&mut w, &[0.3, -7.0], &mut m, &mut v);
        assert!((w[0] - (1.0 - 3e-3_f64)).abs() < 1e-15 && (w[1] - (-2.0 + 3e-3)).abs() < 1e-15, "{w:?}");
    }

    #[test]
    fn decoupled_and_coupled_decay_differ_as_they_should() {
        let still = AdamW { grad_scale: 0.0, l2: 0.0, ..ADAMW };
        let (mut w, mut m, mut v) = ([2.0], [0.0], [0.0]);
        still.update_real(&mut w, &[5.0_f64], &mut m, &mut v);
        assert_eq!((w, m, v), ([2.0 * (1.0 - 3e-3 * 0.1)], [0.0], [0.0]));

        let coupled = AdamW { grad_scale: 0.5, weight_decay: 0.0, ..ADAMW };
        let (mut w, mut m, mut v) = ([2.0], [0.0], [0.0]);
        coupled.update_real(&mut w, &[5.0_f64], &mut m, &mut v);
        let g: f64 = 0.5 * 5.0 + 0.02 * 2.0;
        assert!((m[0] - 0.1 * g).abs() < 1e-15 && (v[0] - 0.01 * g * g).abs() < 1e-15, "{m:?} {v:?}");
    }

    /// Three steps by hand: θ = 1, −2, constant gradients 0.5, −0.25, lr 0.1, momentum 0.9.
    #[test]
    fn sgd_follows_its_formula() {
        for (nesterov, expected) in [
            (false, [1.0 - 0.1 * 0.5 * (1.0 + 1.9 + 2.71), -2.0 + 0.1 * 0.25 * (1.0 + 1.9 + 2.71)]),
            (true, [1.0 - 0.1 * 0.5 * (1.9 + 2.71 + 3.439), -2.0 + 0.1 * 0.25 * (1.9 + 2.71 + 3.439)]),
        ] {
            let rule = Sgd { lr: 0.1, momentum: 0.9, nesterov, weight_decay: 0.0, l2: 0.0, grad_scale: 1.0 };
            let (mut w, mut m) = ([1.0, -2.0], [0.0; 2]);
            for _ in 0..3 {
                rule.update_real(&mut w, &[0.5_f64, -0.25], &mut m);
            }
            assert!(w.iter().zip(expected).all(|(w, e)| (w - e).abs() < 1e-12), "{w:?} for {expected:?}");
        }
        let still =
            Sgd { lr: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.5, l2: 0.2, grad_scale: 0.0 };
        let (mut w, mut m) = ([2.0], [0.0]);
        still.update_real(&mut w, &[7.0_f64], &mut m);
        assert!((w[0] - (2.0 * 0.95 - 0.1 * 0.4)).abs() < 1e-15, "{w:?}");
    }

    #[test]
    fn the_average_follows_the_weights() {
        let mut mean = [0.0, 2.0];
        ema_update(&mut mean, &[1.0, 1.0], 0.75);
        assert_eq!(mean, [0.25, 1.75]);
    }

    #[test]
    fn sums() {
        for n in [0, 1, 15, 16, 100] {
            let xs = narrow(&wave(n, 3.0));
            let want: f64 = xs.iter().map(|&x| x as f64 * x as f64).sum();
            for isa in Isa::available() {
                let got = with_isa(isa, || sum_of_squares(&xs));
                assert!((got - want).abs() <= 1e-13 * want, "{n} {}", isa.name());
                assert_eq!(got.to_bits(), with_isa(Isa::PORTABLE, || sum_of_squares(&xs)).to_bits());
                let mut dst = vec![1.0; n];
                with_isa(isa, || accumulate(&mut dst, &xs));
                assert!(dst.iter().zip(&xs).all(|(d, x)| *d == 1.0 + x));
            }
        }
        assert!(sum_of_squares(&[1.0, f32::NAN]).is_nan());
    }
}
