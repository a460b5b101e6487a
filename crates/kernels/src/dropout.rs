//! Dropout without a stored mask: every element's fate is a function of a counter.

use pulp::{Simd, WithSimd};

use crate::simd::Isa;

/// The output function of SplitMix64 (Steele, Lea & Flood 2014): a bijection of 64-bit words that mixes well.
#[inline(always)]
pub fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whether the element at `position` of the row named `row` survives; `threshold` is the probability of dropping, in 2⁻³².
#[inline(always)]
pub fn is_kept(row: u64, position: usize, threshold: u64) -> bool {
    splitmix64(row.wrapping_add(position as u64)) >> 32 >= threshold
}

/// Multiplies what survives by `scale` and zeroes the rest; each of `rows` names a row of `xs`.
///
/// # Panics
/// If `xs` does not divide among the rows.
pub fn apply(xs: &mut [f32], rows: &[u64], threshold: u64, scale: f32) {
    struct Apply<'a>(&'a mut [f32], &'a [u64], u64, f32);
    impl WithSimd for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Self(xs, rows, threshold, scale) = self;
            let width = xs.len() / rows.len();
            for (&row, xs) in rows.iter().zip(xs.chunks_exact_mut(width)) {
                for (i, x) in xs.iter_mut().enumerate() {
                    *x *= if is_kept(row, i, threshold) { scale } else { 0.0 };
                }
            }
        }
    }
    if xs.is_empty() {
        return;
    }
    assert!(xs.len().is_multiple_of(rows.len()));
    Isa::current().run(Apply(xs, rows, threshold, scale));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_as_published() {
        // The first outputs of SplitMix64 from state 0.
        assert_eq!(splitmix64(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(splitmix64(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn the_same_elements_fall_on_every_instruction_set() {
        for isa in Isa::available() {
            crate::simd::with_isa(isa, || {
                let mut xs = vec![1.0; 3 * 37];
                apply(&mut xs, &[5, 6, 7], 1 << 31, 2.0);
                for (i, x) in xs.iter().enumerate() {
                    let kept = is_kept(5 + i as u64 / 37, i % 37, 1 << 31);
                    assert_eq!(*x, if kept { 2.0 } else { 0.0 });
                }
            });
        }
    }
}
