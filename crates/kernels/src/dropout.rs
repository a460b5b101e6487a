//! Counter-based dropout: an element is kept if `splitmix64(row_key + position) >> 32 ≥ p·2³²`, so
//! the backward pass regenerates the mask instead of storing it.

use pulp::{Simd, WithSimd};

use crate::simd::Isa;

/// The output function of SplitMix64 (Steele, Lea & Flood 2014), a bijection of 64-bit words.
#[inline(always)]
pub fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whether the element at `position` of a row is kept; `threshold` is `p·2³²` for dropout rate p.
#[inline(always)]
pub fn is_kept(row_key: u64, position: usize, threshold: u64) -> bool {
    splitmix64(row_key.wrapping_add(position as u64)) >> 32 >= threshold
}

/// Multiplies kept elements by `scale` and sets the others to 0; `row_keys` has one key per row of
/// `xs`.
///
/// # Panics
/// If the length of `xs` is not a multiple of the number of rows.
pub fn apply(xs: &mut [f32], row_keys: &[u64], threshold: u64, scale: f32) {
    struct Apply<'a>(&'a mut [f32], &'a [u64], u64, f32);
    impl WithSimd for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Self(xs, row_keys, threshold, scale) = self;
            let width = xs.len() / row_keys.len();
            for (&key, xs) in row_keys.iter().zip(xs.chunks_exact_mut(width)) {
                for (i, x) in xs.iter_mut().enumerate() {
                    *x *= if is_kept(key, i, threshold) { scale } else { 0.0 };
                }
            }
        }
    }
    if xs.is_empty() {
        return;
    }
    assert!(xs.len().is_multiple_of(row_keys.len()));
    Isa::current().run(Apply(xs, row_keys, threshold, scale));
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
    fn the_same_elements_are_dropped_on_every_instruction_set() {
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
