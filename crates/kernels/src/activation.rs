//! GELU in its tanh form (Hendrycks & Gimpel 2016): ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))).

use pulp::{Simd, WithSimd};

use crate::exp::tanh_with_slope;
use crate::simd::Isa;

const SCALE: f32 = 0.797_884_6; // √(2/π)
const CUBIC: f32 = 0.044715;

/// The value and the derivative at `x`.
#[inline(always)]
fn gelu_with_slope<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let (half, one) = (simd.splat_f32s(0.5), simd.splat_f32s(1.0));
    let square = simd.mul_f32s(x, x);
    let inner =
        simd.mul_f32s(x, simd.mul_add_e_f32s(square, simd.splat_f32s(SCALE * CUBIC), simd.splat_f32s(SCALE)));
    let (tanh, slope) = tanh_with_slope(simd, inner);
    let share = simd.mul_f32s(half, simd.add_f32s(one, tanh));
    let inner_slope =
        simd.mul_add_e_f32s(square, simd.splat_f32s(3.0 * SCALE * CUBIC), simd.splat_f32s(SCALE));
    let bend = simd.mul_f32s(simd.mul_f32s(half, x), simd.mul_f32s(slope, inner_slope));
    (simd.mul_f32s(x, share), simd.add_f32s(share, bend))
}

/// `xs[i] = gelu(xs[i])`.
pub fn gelu_in_place(xs: &mut [f32]) {
    struct Gelu<'a>(&'a mut [f32]);
    impl WithSimd for Gelu<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            crate::exp::map_in_place(
                simd,
                self.0,
                #[inline(always)]
                |x| gelu_with_slope(simd, x).0,
            );
        }
    }
    Isa::current().run(Gelu(xs));
}

/// `gradient[i] *= gelu'(xs[i])`: what comes in becomes what goes on.
///
/// # Panics
/// If the lengths differ.
pub fn gelu_backward_in_place(xs: &[f32], gradient: &mut [f32]) {
    struct Backward<'a>(&'a [f32], &'a mut [f32]);
    impl WithSimd for Backward<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (x, x_tail) = S::as_simd_f32s(self.0);
            let (g, g_tail) = S::as_mut_simd_f32s(self.1);
            for (g, &x) in g.iter_mut().zip(x) {
                *g = simd.mul_f32s(*g, gelu_with_slope(simd, x).1);
            }
            if !x_tail.is_empty() {
                let slope = gelu_with_slope(simd, simd.partial_load_f32s(x_tail)).1;
                let g = simd.mul_f32s(simd.partial_load_f32s(g_tail), slope);
                simd.partial_store_f32s(g_tail, g);
            }
        }
    }
    assert_eq!(xs.len(), gradient.len());
    Isa::current().run(Backward(xs, gradient));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(x: f64) -> f64 {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
    }

    #[test]
    fn values_and_slopes_follow_the_formula_on_every_instruction_set() {
        let xs: Vec<f32> = (-1200..=1200).map(|i| i as f32 / 100.0).collect();
        for isa in Isa::available() {
            crate::simd::with_isa(isa, || {
                let mut values = xs.clone();
                gelu_in_place(&mut values);
                let mut slopes = vec![1.0; xs.len()];
                gelu_backward_in_place(&xs, &mut slopes);
                for ((&x, &value), &slope) in xs.iter().zip(&values).zip(&slopes) {
                    let x = f64::from(x);
                    assert!((f64::from(value) - reference(x)).abs() < 2e-6, "{x}: {value} ({})", isa.name());
                    let numeric = (reference(x + 1e-5) - reference(x - 1e-5)) / 2e-5;
                    assert!(
                        (f64::from(slope) - numeric).abs() < 3e-6,
                        "{x}: {slope} vs {numeric} ({})",
                        isa.name()
                    );
                }
            });
        }
    }
}
