//! Soft cap of logits, `u = c · tanh(s z / c)`: keeps them within ± c (Gemma 2).

use pulp::Simd;

use crate::exp::{tanh_in_place, tanh_with_derivative};

/// `xs[i] = cap · tanh(xs[i] / cap)`.
pub fn softcap_in_place(xs: &mut [f32], cap: f32) {
    for x in &mut *xs {
        *x /= cap;
    }
    tanh_in_place(xs);
    for x in xs {
        *x *= cap;
    }
}

/// `dx = dy (1 − (y / cap)²)`, from the output `y` of [`softcap_in_place`].
pub fn softcap_backward(y: &[f32], dy: &[f32], cap: f32) -> Vec<f32> {
    let derivative = |tanh: f32| (1.0 - tanh) * (1.0 + tanh);
    y.iter().zip(dy).map(|(y, dy)| dy * derivative(y / cap)).collect()
}

/// `u = cap · tanh(scale · z / cap)` and `∂u/∂z = scale (1 − (u / cap)²)`. Infinities stay as they
/// are: −∞ is a mask (its derivative is 0), and +∞ is for the caller to report.
#[inline(always)]
pub(crate) fn softcap_with_derivative<S: Simd>(
    simd: S,
    z: S::f32s,
    scale: f32,
    cap: f32,
) -> (S::f32s, S::f32s) {
    let (low, high) = (simd.splat_f32s(f32::NEG_INFINITY), simd.splat_f32s(f32::INFINITY));
    let (tanh, derivative) = tanh_with_derivative(simd, simd.mul_f32s(z, simd.splat_f32s(scale / cap)));
    let u = simd.mul_f32s(simd.splat_f32s(cap), tanh);
    let u = simd.select_f32s(simd.equal_f32s(z, low), low, u);
    let u = simd.select_f32s(simd.equal_f32s(z, high), high, u);
    (u, simd.mul_f32s(simd.splat_f32s(scale), derivative))
}
