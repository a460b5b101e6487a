//! MLP activations, from `u` (N, U) to `a` (N, F).
//!
//! - GELU, tanh form (Hendrycks & Gimpel 2016): a = ½ u (1 + tanh(√(2/π) (u + 0.044715 u³))).
//! - ReLU² (So et al. 2021): a = max(u, 0)².
//! - SwiGLU (Shazeer 2020): u is a gate g and an up-projection v (U = 2F); a = g σ(g) v.

use pulp::{Simd, WithSimd};

use crate::exp::sigmoid;
use crate::simd::Isa;

const SCALE: f32 = 0.797_884_6; // √(2/π)
const CUBIC: f32 = 0.044715;

/// The activation function of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU, as in GPT-2.
    Gelu,
    /// ReLU².
    Relu2,
    /// SwiGLU, as in Llama.
    SwiGlu,
}

impl Activation {
    /// Inputs per row (U) for `width` outputs (F).
    pub fn inputs(self, width: usize) -> usize {
        if self == Self::SwiGlu { 2 * width } else { width }
    }

    /// Writes `a` (N, `width`) from `u` (N, U).
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn forward(self, u: &[f32], width: usize, a: &mut [f32]) {
        assert!(a.len().is_multiple_of(width) && u.len() == self.inputs(a.len()));
        Isa::current().run(Forward { activation: self, u, width, a });
    }

    /// Writes `du` from `u` and `da`, and replaces `da` by the recomputed `a`.
    ///
    /// # Panics
    /// If the lengths do not match.
    pub fn backward(self, u: &[f32], width: usize, da: &mut [f32], du: &mut [f32]) {
        assert!(da.len().is_multiple_of(width) && u.len() == self.inputs(da.len()) && u.len() == du.len());
        Isa::current().run(Backward { activation: self, u, width, da, du });
    }
}

/// GELU and its derivative. With t = 2 √(2/π) (x + 0.044715 x³), ½ (1 + tanh(t/2)) = σ(t), so they
/// are x σ(t) and σ(t) + x σ(t) (1 − σ(t)) t'.
#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let (linear, square) = (simd.splat_f32s(2.0 * SCALE), simd.mul_f32s(x, x));
    let t = simd.mul_f32s(x, simd.mul_add_e_f32s(square, simd.splat_f32s(2.0 * SCALE * CUBIC), linear));
    let (sigma, rest) = sigmoid(simd, t);
    let value = simd.mul_f32s(x, sigma);
    let derivative = simd.mul_add_e_f32s(square, simd.splat_f32s(6.0 * SCALE * CUBIC), linear);
    (value, simd.mul_add_e_f32s(simd.mul_f32s(value, rest), derivative, sigma))
}

#[inline(always)]
fn relu2<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let positive = simd.max_f32s(x, simd.splat_f32s(0.0));
    (simd.mul_f32s(positive, positive), simd.add_f32s(positive, positive))
}

/// SiLU, x σ(x), and its derivative σ(x) (1 + x (1 − σ(x))).
#[inline(always)]
fn silu<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let (sigma, rest) = sigmoid(simd, x);
    let one = simd.splat_f32s(1.0);
    (simd.mul_f32s(x, sigma), simd.mul_f32s(sigma, simd.mul_add_e_f32s(x, rest, one)))
}

/// `into[i] = f(xs[i], into[i])`, vector by vector.
#[inline(always)]
fn zip_into<S: Simd>(simd: S, xs: &[f32], into: &mut [f32], f: impl Fn(S::f32s, S::f32s) -> S::f32s) {
    let ((x, x_tail), (y, y_tail)) = (S::as_simd_f32s(xs), S::as_mut_simd_f32s(into));
    for (y, &x) in y.iter_mut().zip(x) {
        *y = f(x, *y);
    }
    if !x_tail.is_empty() {
        let y = f(simd.partial_load_f32s(x_tail), simd.partial_load_f32s(y_tail));
        simd.partial_store_f32s(y_tail, y);
    }
}

struct Forward<'a> {
    activation: Activation,
    u: &'a [f32],
    width: usize,
    a: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { activation, u, width, a } = self;
        let (gelu, relu2, swiglu) = (
            #[inline(always)]
            |x, _| gelu(simd, x).0,
            #[inline(always)]
            |x, _| relu2(simd, x).0,
            #[inline(always)]
            |g, v| simd.mul_f32s(silu(simd, g).0, v),
        );
        match activation {
            Activation::Gelu => zip_into(simd, u, a, gelu),
            Activation::Relu2 => zip_into(simd, u, a, relu2),
            Activation::SwiGlu => {
                for (u, a) in u.chunks_exact(2 * width).zip(a.chunks_exact_mut(width)) {
                    let (gate, up) = u.split_at(width);
                    a.copy_from_slice(up);
                    zip_into(simd, gate, a, swiglu);
                }
            }
        }
    }
}

struct Backward<'a> {
    activation: Activation,
    u: &'a [f32],
    width: usize,
    da: &'a mut [f32],
    du: &'a mut [f32],
}

/// `du = da · f'(u)` and `da = f(u)`; `f` returns value and derivative.
#[inline(always)]
fn elementwise<S: Simd>(
    simd: S,
    u: &[f32],
    da: &mut [f32],
    du: &mut [f32],
    f: impl Fn(S::f32s) -> (S::f32s, S::f32s),
) {
    let (u, u_tail) = S::as_simd_f32s(u);
    let ((da, da_tail), (du, du_tail)) = (S::as_mut_simd_f32s(da), S::as_mut_simd_f32s(du));
    for ((&u, da), du) in u.iter().zip(da).zip(du) {
        let (value, derivative) = f(u);
        *du = simd.mul_f32s(*da, derivative);
        *da = value;
    }
    if !u_tail.is_empty() {
        let (value, derivative) = f(simd.partial_load_f32s(u_tail));
        let through = simd.mul_f32s(simd.partial_load_f32s(da_tail), derivative);
        simd.partial_store_f32s(du_tail, through);
        simd.partial_store_f32s(da_tail, value);
    }
}

impl WithSimd for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { activation, u, width, da, du } = self;
        let (gelu, relu2, silu) = (
            #[inline(always)]
            |x| gelu(simd, x),
            #[inline(always)]
            |x| relu2(simd, x),
            #[inline(always)]
            |x| silu(simd, x),
        );
        match activation {
            Activation::Gelu => elementwise(simd, u, da, du, gelu),
            Activation::Relu2 => elementwise(simd, u, da, du, relu2),
            Activation::SwiGlu => {
                let rows = u.chunks_exact(2 * width).zip(du.chunks_exact_mut(2 * width));
                for ((u, du), da) in rows.zip(da.chunks_exact_mut(width)) {
                    let ((gate, up), (dgate, dup)) = (u.split_at(width), du.split_at_mut(width));
                    // dg = da · v · silu'(g), dv = da · silu(g), a = silu(g) · v
                    dup.copy_from_slice(da);
                    for (da, v) in da.iter_mut().zip(up) {
                        *da *= v;
                    }
                    elementwise(simd, gate, da, dgate, silu);
                    for ((a, dup), up) in da.iter_mut().zip(dup).zip(up) {
                        *dup *= *a;
                        *a *= up;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Gelu => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::Relu2 => x.max(0.0).powi(2),
            Activation::SwiGlu => x / (1.0 + (-x).exp()),
        }
    }

    #[test]
    fn values_and_derivatives_follow_the_formulas_on_every_instruction_set() {
        let xs: Vec<f32> = (-1200..=1200).map(|i| i as f32 / 100.0 + 0.003).collect();
        let n = xs.len();
        for isa in Isa::available() {
            for activation in [Activation::Gelu, Activation::Relu2, Activation::SwiGlu] {
                crate::simd::with_isa(isa, || {
                    let gated = activation == Activation::SwiGlu;
                    let value = 0.75;
                    let u: Vec<f32> = if gated { [xs.clone(), vec![value; n]].concat() } else { xs.clone() };
                    let factor = if gated { f64::from(value) } else { 1.0 };
                    let mut a = vec![0.0; n];
                    activation.forward(&u, n, &mut a);
                    let (mut da, mut du) = (vec![2.0; n], vec![0.0; u.len()]);
                    activation.backward(&u, n, &mut da, &mut du);
                    assert_eq!(a, da, "the backward pass recomputes the value");
                    for i in 0..n {
                        let x = f64::from(xs[i]);
                        let expected = reference(activation, x);
                        let bound = 2e-6 * (1.0 + expected.abs());
                        assert!((f64::from(a[i]) - factor * expected).abs() < bound, "{x}: {}", a[i]);
                        let numeric =
                            (reference(activation, x + 1e-5) - reference(activation, x - 1e-5)) / 2e-5;
                        let derivative = f64::from(du[i]) / 2.0;
                        assert!(
                            (derivative - factor * numeric).abs() < 3e-6 * (1.0 + numeric.abs()),
                            "{x}: {derivative}"
                        );
                        if gated {
                            assert!((f64::from(du[n + i]) - 2.0 * expected).abs() < 2.0 * bound, "{x}");
                        }
                    }
                });
            }
        }
    }
}
