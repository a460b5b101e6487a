//! Vectorised exp and tanh.
//!
//! Range reduction: `x = n ln 2 + r` with `|r| ≤ ln 2 / 2`, where `n ln 2` is subtracted in two
//! parts (Cody & Waite). `e^r` is a polynomial of degree six through Chebyshev nodes (truncation
//! below 0.1 ulp), and `n` is added to the exponent bits. The error is below 1.5 ulp. Subnormal
//! results (`x < -87.33`) are flushed to zero.

use pulp::{Simd, WithSimd};

use crate::simd::Isa;

/// The least `x` for which `e^x` is a normal `f32`.
const UNDERFLOW: f32 = -87.336_54;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 = `LN2_HIGH` + `LN2_LOW`; the high part has few bits, so that `n · LN2_HIGH` is exact.
const LN2_HIGH: f32 = 355.0 / 512.0;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// 1.5 · 2²³: adding it rounds to an integer, which is then in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Coefficients of `(e^r - 1 - r) / r²`, lowest degree first.
const EXP_POLY: [f32; 5] = [0.5, 0.166_665_76, 0.041_666_556, 0.008_363_203, 0.001_392_621_3];

/// `e^r`, and `n` shifted to the exponent bits. Valid for `UNDERFLOW ≤ x ≤ 0`; NaN for NaN.
#[inline(always)]
fn exp_reduced<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::u32s) {
    let round = simd.splat_f32s(ROUND);
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(LOG2_E), round);
    let n = simd.sub_f32s(shifted, round);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_HIGH), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_LOW), r);
    let mut q = simd.splat_f32s(EXP_POLY[4]);
    for c in [EXP_POLY[3], EXP_POLY[2], EXP_POLY[1], EXP_POLY[0]] {
        q = simd.mul_add_e_f32s(q, r, simd.splat_f32s(c));
    }
    let p = simd.mul_add_e_f32s(simd.mul_f32s(q, r), r, r);
    let p = simd.add_f32s(p, simd.splat_f32s(1.0));
    let shift = simd.splat_u32s(23);
    (p, simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), shift))
}

/// `e^x` for `x ≤ 0`, as a softmax needs it; 0 below −87.33, NaN for NaN.
#[inline(always)]
pub fn exp_nonpositive<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (p, bits) = exp_reduced(simd, x);
    let one = simd.splat_u32s(1.0_f32.to_bits());
    // 2^n as a float, so that the product propagates a NaN in `p`.
    let scale = simd.transmute_f32s_u32s(simd.add_u32s(one, bits));
    let y = simd.mul_f32s(p, scale);
    simd.select_f32s(simd.less_than_f32s(x, simd.splat_f32s(UNDERFLOW)), simd.splat_f32s(0.0), y)
}

/// `tanh x` and its derivative `1 − tanh² x`.
///
/// With `e = e^{−2|x|}`: `tanh x = sign(x) (1 − e) / (1 + e)`, to about 2 ulp, and an odd
/// polynomial near zero, where `1 − e` would cancel; the derivative is `4 e / (1 + e)²`.
#[inline(always)]
pub fn tanh_with_derivative<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let one = simd.splat_f32s(1.0);
    // Not `abs_f32s`, which is not inlined.
    let magnitude = simd.and_f32s(x, simd.splat_f32s(f32::from_bits(0x7fff_ffff)));
    let e = exp_nonpositive(simd, simd.mul_f32s(magnitude, simd.splat_f32s(-2.0)));
    let above = simd.add_f32s(one, e);
    let far = simd.div_f32s(simd.sub_f32s(one, e), above);
    let far = simd.or_f32s(far, simd.and_f32s(x, simd.splat_f32s(-0.0)));
    // x - x³/3 + 2x⁵/15 - 17x⁷/315 + 62x⁹/2835 - 1382x¹¹/155925: under 1 ulp for |x| < 0.35.
    let square = simd.mul_f32s(x, x);
    let mut near = simd.splat_f32s(-1382.0 / 155_925.0);
    for c in [62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0] {
        near = simd.mul_add_e_f32s(near, square, simd.splat_f32s(c));
    }
    let near = simd.mul_add_e_f32s(simd.mul_f32s(near, square), x, x);
    let tanh = simd.select_f32s(simd.less_than_f32s(magnitude, simd.splat_f32s(0.35)), near, far);
    let derivative = simd.div_f32s(simd.mul_f32s(simd.splat_f32s(4.0), e), simd.mul_f32s(above, above));
    (tanh, derivative)
}

/// σ(x) and 1 − σ(x), without cancellation.
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let one = simd.splat_f32s(1.0);
    // e = e^{−|x|} cannot overflow: σ(|x|) = 1/(1 + e), σ(−|x|) = e/(1 + e).
    let e = exp_nonpositive(simd, simd.or_f32s(x, simd.splat_f32s(-0.0)));
    let below = simd.less_than_f32s(x, simd.splat_f32s(0.0));
    let large = simd.div_f32s(one, simd.add_f32s(one, e));
    let small = simd.mul_f32s(e, large);
    (simd.select_f32s(below, small, large), simd.select_f32s(below, large, small))
}

/// Applies `f` to the vectors of `xs`, the last one padded with zeros. The closure needs
/// `#[inline(always)]`: otherwise it is not compiled for the instruction set.
#[inline(always)]
pub fn map_in_place<S: Simd>(simd: S, xs: &mut [f32], f: impl Fn(S::f32s) -> S::f32s) {
    let (vectors, tail) = S::as_mut_simd_f32s(xs);
    for v in vectors {
        *v = f(*v);
    }
    if !tail.is_empty() {
        let y = f(simd.partial_load_f32s(tail));
        simd.partial_store_f32s(tail, y);
    }
}

/// `xs[i] = tanh xs[i]`.
pub fn tanh_in_place(xs: &mut [f32]) {
    struct Tanh<'a>(&'a mut [f32]);
    impl WithSimd for Tanh<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            map_in_place(
                simd,
                self.0,
                #[inline(always)]
                |x| tanh_with_derivative(simd, x).0,
            );
        }
    }
    Isa::current().run(Tanh(xs));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_isa;

    /// The largest error of `f` against `exact`, in units in the last place of the exact value.
    fn worst_ulp(xs: &[f32], ys: &[f32], exact: impl Fn(f64) -> f64) -> f64 {
        let mut worst = 0.0_f64;
        for (&x, &y) in xs.iter().zip(ys) {
            let want = exact(x as f64);
            let near = want as f32;
            let ulp = (near.abs().next_up() as f64) - (near.abs() as f64);
            worst = worst.max((y as f64 - want).abs() / ulp);
        }
        worst
    }

    fn grid(from: f32, to: f32) -> Vec<f32> {
        let n = 40_003;
        (0..n).map(|i| from + (to - from) * i as f32 / (n - 1) as f32).collect()
    }

    #[test]
    fn exp_is_within_two_ulp_on_every_isa() {
        struct Exp<'a>(&'a mut [f32]);
        impl WithSimd for Exp<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                map_in_place(
                    simd,
                    self.0,
                    #[inline(always)]
                    |x| exp_nonpositive(simd, x),
                );
            }
        }
        let xs = grid(UNDERFLOW + 0.01, 0.0);
        for isa in Isa::available() {
            let mut ys = xs.clone();
            isa.run(Exp(&mut ys));
            let worst = worst_ulp(&xs, &ys, f64::exp);
            assert!(worst < 2.0, "{}: {worst} ulp", isa.name());
            let mut edges = [0.0, -0.0, -100.0, -f32::MAX, f32::NEG_INFINITY, f32::NAN];
            isa.run(Exp(&mut edges));
            assert_eq!(edges[..5], [1.0, 1.0, 0.0, 0.0, 0.0], "{}", isa.name());
            assert!(edges[5].is_nan());
        }
    }

    #[test]
    fn tanh_is_within_four_ulp_and_odd() {
        let xs = grid(-12.0, 12.0);
        for isa in Isa::available() {
            let mut ys = xs.clone();
            with_isa(isa, || tanh_in_place(&mut ys));
            let worst = worst_ulp(&xs, &ys, f64::tanh);
            assert!(worst < 4.0, "{}: {worst} ulp", isa.name());
            let mut edges = [f32::INFINITY, f32::NEG_INFINITY, 0.0, f32::NAN, 1e-30];
            with_isa(isa, || tanh_in_place(&mut edges));
            assert_eq!(edges[..3], [1.0, -1.0, 0.0]);
            assert!(edges[3].is_nan());
            assert_eq!(edges[4].to_bits(), 1e-30_f32.to_bits());
        }
    }
}
